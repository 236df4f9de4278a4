/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an instance left on the node goes: ifdown for NICs still configured, tap files, taps, sockets, chroot
 * leftovers (into quarantine), uid, keymap, Ganeti's leftovers, event log and log, the runtime file last. Only for an
 * instance whose QEMU is dead; every step is repeatable, so a killed teardown is finished by the next one.
 */
#ifndef KVM_OPERATIONS_TEARDOWN_H
#define KVM_OPERATIONS_TEARDOWN_H

#include <stdbool.h>
#include <jansson.h>
#include "kvm/base/clock.h"
#include "kvm/base/error.h"
#include "kvm/operations/lasting.h"
#include "kvm/state/node.h"
#include "kvm/state/rundir.h"
#include "kvm/state/runtime.h"

struct teardown_options {
    deadline_t deadline;
    bool keep_runtime;                 /* for a reboot: runtime, event log and log stay */
    bool only_local;                   /* second argument of ifdown */
    struct lasting *lasting;           /* NULL: what outlives an instance stays */
    const char *fault;                 /* why the runtime file could not be read; NULL: not told */
    void (*observe)(const char *what); /* each step before it is done; NULL: nobody looks */
};

/* `runtime` NULL: there is none, or it can't be read; then ifdown knows only what the tap files tell (which NICs
 * can't be told is a warning). Goes on after a failing step and reports all: STATUS_INCOMPLETE. Warnings: what went
 * to quarantine. */
int teardown_run(const struct rundir *rundir, const struct node *node, const char *name,
                 const struct runtime *runtime, const struct teardown_options *options,
                 struct messages *warnings, struct error *error);

/* teardown_vnc.c: the socket that VNC in a directory left, outside of the run directory: its path (the caller frees),
 * NULL when there is none; remove it. Only for an instance whose QEMU is dead. */
char *teardown_vnc_socket(const struct instance *instance);
int teardown_remove_vnc_socket(const struct instance *instance, struct error *error);

/* The chroot alone: an empty one goes, anything in it moves to quarantine, with a warning. */
int teardown_chroot(const struct rundir *rundir, const char *name, struct messages *warnings,
                    struct error *error);

/* The findings and what would be done, without doing it: array of {"finding", "action"}; new reference. */
json_t *teardown_explain(const struct rundir *rundir, const struct node *node, const char *name,
                         const struct runtime *runtime);

#endif
