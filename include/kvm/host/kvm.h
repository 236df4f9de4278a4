/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Is KVM usable? /dev/kvm may exist and crawl (a software KVM ran ring-0 code at 1.7 million instructions
 * a second), so a tiny long-mode loop is run in a throw-away VM under a 20 ms watchdog.
 */
#ifndef KVM_HOST_KVM_H
#define KVM_HOST_KVM_H

#include <stdbool.h>

/* `why` (≥ 128 bytes) says why not. The result costs a few ms at most, 25 ms when it crawls. */
bool kvm_is_usable(char *why, int size);

#endif
