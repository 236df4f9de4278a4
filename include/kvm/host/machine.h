/* SPDX-License-Identifier: BSD-2-Clause */
/* What this node's hardware has to give, as /proc tells it. */
#ifndef KVM_HOST_MACHINE_H
#define KVM_HOST_MACHINE_H

#include <stdbool.h>
#include <stdint.h>
#include "kvm/base/error.h"

/* Memory that the node can give without swapping, in MiB; -1 when it can't be told. */
int64_t machine_available_mib(void);

/* Huge pages that a file in this directory can get now, in MiB; -1: it is on no hugetlbfs. *page_kib: their size. */
int64_t machine_huge_mib(const char *directory, int64_t *page_kib);

/* Does the kernel let this process use io_uring? The reason in `error`. */
bool machine_has_io_uring(struct error *error);

/* The CPU's vendor and feature flags, separated by blanks; "" when they can't be told. The caller frees. */
char *machine_cpu_flags(void);

#endif
