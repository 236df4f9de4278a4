/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Changing the devices of a running instance: what kvm-hotplug does. Every action is a transaction with its intent in
 * the runtime file: "adding" before QEMU is touched, "present" after QEMU shows the device; "removing" before the guest
 * is asked, and the entry goes only when device and backend are proven gone; "changing" while a NIC has neither its old
 * set-up nor its new one. What an interrupted command left is
 * finished or undone by the next one (reconcile.h).
 */
#ifndef KVM_OPERATIONS_HOTPLUG_H
#define KVM_OPERATIONS_HOTPLUG_H

#include <stdbool.h>
#include <stdint.h>
#include "kvm/base/parallel.h"
#include "kvm/state/node.h"
#include "kvm/state/rundir.h"

struct hotplug_options {
    bool dry_run;
    bool force; /* resize-disk: shrink; set-memory: below minmem */
    int64_t timeout_ms;
    int64_t wait_lock_ms;
    void (*observe)(const char *what);
};

/* The action words, NULL-terminated, for usage, completion and the nearest-word hint. */
extern const char *const hotplug_actions[];

/* The keys that an action takes as KEY=VALUE, NULL-terminated; NULL: none. For completion and messages. */
const char *const *hotplug_keys(const char *action);

/* Do it. `arguments` (count of them) follow the action. Fills the result; never prints. */
void hotplug_run(const struct rundir *rundir, const struct node *node, const char *name,
                 const char *action, char *const *arguments, size_t count,
                 const struct hotplug_options *options, struct result *result);

#endif
