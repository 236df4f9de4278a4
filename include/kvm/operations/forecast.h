/* SPDX-License-Identifier: BSD-2-Clause */
/* Will a copy of this memory over this link end, and when? From measured rates; pure. */
#ifndef KVM_OPERATIONS_FORECAST_H
#define KVM_OPERATIONS_FORECAST_H

#include <stdbool.h>
#include <stdint.h>
#include "kvm/base/error.h"

struct forecast_rates {
    int64_t memory;      /* bytes to copy */
    int64_t link;        /* measured, bytes a second; 0: not known */
    int64_t bandwidth;   /* what the copy may use of it; 0: all */
    int64_t dirty;       /* what the guest changes, bytes a second; -1: not known */
    int64_t downtime_ms; /* the limit */
    bool slows_down;     /* auto-converge: the guest is slowed down until the copy converges */
    bool paused;         /* the guest does not run while it is copied */
    bool postcopy;       /* after one pass it runs on the target, whatever is left */
};

struct forecast {
    int64_t rate; /* of the copy; 0: not known, and so is all the rest */
    bool converges;
    double seconds;
    int64_t downtime_ms;
};

void forecast_copy(const struct forecast_rates *rates, struct forecast *forecast);

/* "will converge in about 40 s, downtime about 60 ms"; the caller frees. */
char *forecast_verdict(const struct forecast_rates *rates, const struct forecast *forecast);

/* "1.9 GiB/s", "12 MiB/s"; buffer >= 32 bytes. */
void forecast_format_rate(int64_t bytes_per_second, char *buffer);

/* Words of `here` (a CPU's flags) that `there` lacks, separated by blanks; "" when none. The caller frees. */
char *forecast_missing_flags(const char *here, const char *there);

#endif
