/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Let a guest go on whose CPUs are stopped: by kvm-start --paused, by an I/O error, its watchdog, or another program on
 * its monitor. What kvm-start --resume does for each instance.
 */
#ifndef KVM_OPERATIONS_RESUME_H
#define KVM_OPERATIONS_RESUME_H

#include <stdbool.h>
#include <stdint.h>
#include "kvm/base/parallel.h"
#include "kvm/state/node.h"
#include "kvm/state/rundir.h"

struct resume_options {
    bool dry_run;
    int64_t timeout_ms;
    int64_t wait_lock_ms;
};

/*
 * Fills the result: "resumed (pid 4711): it was paused", "it runs already (pid 4711)". STATUS_STATE when it does not run,
 * when a migration has it, or when its state is one that is not to be left in this way (a panic, a sleep); STATUS_FAILED
 * when an I/O error stops it again at once: the requests that had failed are repeated.
 */
void resume_instance(const struct rundir *rundir, const struct node *node, const char *name,
                     const struct resume_options *options, struct result *result);

/* What stopped the CPUs, by the status of query-status that it can be left with: "an I/O error had paused it". NULL for any
 * other status. */
const char *resume_reason(const char *status);

#endif
