/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The results of a command on one or several instances, told the same way by every program: for people a line an
 * instance as it comes (`NAME: text` on stdout, failures as messages on stderr), with --json one array of objects on
 * stdout when all are done, in the order asked for.
 */
#ifndef KVM_BASE_REPORT_H
#define KVM_BASE_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include "kvm/base/error.h"
#include "kvm/base/parallel.h"

struct report {
    bool json;
    /* More lines for people after the result's own; may be NULL. */
    void (*details)(const struct result *result);
};

/* Run (parallel_run) and tell. Returns the highest status. */
enum status report_run(const struct report *report, size_t count, size_t limit, parallel_work work,
                       void *context);

#endif
