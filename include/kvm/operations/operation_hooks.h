/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The operator's executables around an operation: hooks/PROGRAM-pre.d/ and hooks/PROGRAM-post.d/ below the configuration
 * directory, in the order of their names. A file counts when its name has only letters, digits, '_' and '-' (so that
 * what editors and packages leave does not) and it is executable. They are run as hook.h says, with the variables that
 * kvm-hooks(7) lists: Ganeti's names where Ganeti has one, KVM_SUITE_* else.
 *
 *     operation_hooks_pre    before anything is changed, the instance lock is held: the first failure ends the operation
 *     operation_hooks_post   after it has succeeded, the lock is free again: a failure is a warning
 */
#ifndef KVM_OPERATIONS_OPERATION_HOOKS_H
#define KVM_OPERATIONS_OPERATION_HOOKS_H

#include <jansson.h>
#include "kvm/base/clock.h"
#include "kvm/base/error.h"
#include "kvm/host/hook.h"
#include "kvm/state/instance.h"
#include "kvm/state/node.h"
#include "kvm/state/rundir.h"

enum operation_kind {
    OPERATION_START,
    OPERATION_STOP,
    OPERATION_REBOOT,
    OPERATION_HOTPLUG,
    OPERATION_MIGRATE,
    OPERATION_CLEANUP
};

struct operation {
    enum operation_kind kind;
    const struct rundir *rundir;
    const struct node *node;
    const char *name;
    const struct instance *instance; /* NULL: nothing is known of it */
    const char *action;              /* KVM_SUITE_ACTION: "add-disk"; NULL: none */
    char *const *arguments;          /* KVM_SUITE_ARGUMENT0…: what followed the action */
    size_t argument_count;
    const char *const *more; /* further names and values in turn, NULL-terminated; may be NULL */
    deadline_t deadline;     /* of all of them together */
};

/* Returns how many ran. Fails with STATUS_FAILED, naming the hook, how it ended and the last lines that it wrote. */
int operation_hooks_pre(const struct operation *operation, struct error *error);
void operation_hooks_post(const struct operation *operation, struct messages *warnings);

/* Whether there are any to run before it; also when that can't be known. */
bool operation_hooks_exist(const struct node *node, enum operation_kind kind);

/* "run PATH" for each that would be run, for --dry-run; added to the array. */
void operation_hooks_describe(const struct node *node, enum operation_kind kind, json_t *list);

/* The variables alone, for tests. `phase` is "pre" or "post". */
void operation_environment(const struct operation *operation, const char *phase,
                           struct hook_environment *environment);

#endif
