/* SPDX-License-Identifier: BSD-2-Clause */
/* Start one instance from its definition: what kvm-start does for each. */
#ifndef KVM_OPERATIONS_START_H
#define KVM_OPERATIONS_START_H

#include <stdbool.h>
#include <stdint.h>
#include "kvm/base/parallel.h"
#include "kvm/operations/definitions.h"
#include "kvm/state/node.h"

struct start_options {
    const char *run_dir;
    bool paused;
    bool dry_run;
    int64_t timeout_ms;
    int64_t wait_lock_ms;
    void (*observe)(const char *what);
};

/* Fills the result: "started (pid 4711)", "already running", …; with dry_run
 * the detail holds what launch_describe tells. Never prints. */
void start_definition(const struct definition *definition, const struct node *node,
                      const struct start_options *options, struct result *result);

#endif
