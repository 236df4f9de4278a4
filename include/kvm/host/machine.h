/* SPDX-License-Identifier: BSD-2-Clause */
/* What this node's hardware has to give, as /proc tells it. */
#ifndef KVM_HOST_MACHINE_H
#define KVM_HOST_MACHINE_H

#include <stdint.h>

/* Memory that the node can give without swapping, in MiB; -1 when it can't be told. */
int64_t machine_available_mib(void);

/* The CPU's vendor and feature flags, separated by blanks; "" when they can't be told. The caller frees. */
char *machine_cpu_flags(void);

#endif
