/* SPDX-License-Identifier: BSD-2-Clause */
/* End, reboot or reset one instance: what kvm-stop does for each name. */
#ifndef KVM_OPERATIONS_STOP_H
#define KVM_OPERATIONS_STOP_H

#include <stdbool.h>
#include <stdint.h>
#include "kvm/base/parallel.h"
#include "kvm/state/node.h"
#include "kvm/state/rundir.h"

struct stop_options {
    bool force;
    bool reboot;
    bool reset;
    bool dry_run;
    int64_t timeout_ms;
    int64_t kill_after_ms; /* -1: never */
    int64_t wait_lock_ms;
    void (*observe)(const char *what); /* may be NULL */
};

void stop_instance(const struct rundir *rundir, const struct node *node, const char *name,
                   const struct stop_options *options, struct result *result);

#endif
