/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Executables of the operator: kvm-ifup-custom, kvm-ifdown-custom. execve without a shell; the file must be
 * regular, owned by root (or us), not writable by others; environment from nothing; own session; deadline, then
 * TERM, KILL; output bounded and escaped into the error.
 */
#ifndef KVM_HOST_HOOK_H
#define KVM_HOST_HOOK_H

#include <stdbool.h>
#include "kvm/base/clock.h"
#include "kvm/base/error.h"

struct hook_environment {
    char **items; /* "NAME=value", NULL-terminated; owned */
    size_t count;
};

/* Adds NAME=value; control characters in a value are refused by the checks of the definition before. NULL
 * value: nothing is added. */
void hook_set(struct hook_environment *environment, const char *name, const char *value);
void hook_environment_release(struct hook_environment *environment);
#define AUTO_HOOK_ENVIRONMENT __attribute__((cleanup(hook_environment_release)))

/* True when the file exists; 0/-1 by hook_check whether it may be run. */
bool hook_exists(const char *path);
int hook_check(const char *path, struct error *error);

/* PATH (fixed, with /sbin:/usr/sbin) and LC_ALL=C are put in front. `arguments` after the path,
 * NULL-terminated. Fails with the exit status or signal and the last lines of output. */
int hook_run(const char *path, const char *const *arguments,
             const struct hook_environment *environment, deadline_t deadline, struct error *error);

#endif
