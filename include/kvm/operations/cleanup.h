/* SPDX-License-Identifier: BSD-2-Clause */
/* Remove what a dead instance left: what kvm-cleanup does for each name. */
#ifndef KVM_OPERATIONS_CLEANUP_H
#define KVM_OPERATIONS_CLEANUP_H

#include <stdbool.h>
#include <stdint.h>
#include "kvm/base/parallel.h"
#include "kvm/state/node.h"
#include "kvm/state/rundir.h"

struct cleanup_options {
    bool explain;      /* list, do nothing, take no lock */
    bool force;        /* also the source of a post-copy that has ended in the middle */
    bool skip_live;    /* --all: a live instance is no failure */
    bool remove_state; /* also what outlives an instance: its NVRAM and TPM state */
    int64_t timeout_ms;
    int64_t wait_lock_ms;
    void (*observe)(const char *what); /* may be NULL */
};

void cleanup_instance(const struct rundir *rundir, const struct node *node, const char *name,
                      const struct cleanup_options *options, struct result *result);

#endif
