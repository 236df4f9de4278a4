/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tap interfaces, made here and passed to QEMU by descriptor, so that QEMU needs no privilege. They are
 * not persistent: a tap goes with the last descriptor, so QEMU's death cleans up.
 */
#ifndef KVM_HOST_TAP_H
#define KVM_HOST_TAP_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "kvm/base/error.h"

enum { TAP_NAME_SIZE = 16, TAP_QUEUES_MAX = 32 };

struct tap {
    char name[TAP_NAME_SIZE];
    int fds[TAP_QUEUES_MAX];
    size_t queues;
    bool vnet_hdr;
};

/* Make a tap named after the NIC's uuid ("kvm" and 8 hex digits; "-1" … when taken), IFF_NO_PI,
 * IFF_VNET_HDR when wanted and the kernel has it, IFF_MULTI_QUEUE for queues > 1, IFF_TUN_EXCL.
 * On failure nothing is left. */
int tap_make(const char *uuid, bool vnet_hdr, size_t queues, struct tap *tap, struct error *error);
void tap_close(struct tap *tap); /* closes the descriptors; zeroed and closed ones are fine */

/* All queues of the tap `name` that the process has open, as copies of its descriptors (the same open files: only one of
 * both may use them at a time). */
int tap_take(pid_t pid, int pidfd, const char *name, struct tap *tap, struct error *error);

/* What a QEMU that opens a tap resets although another one uses it. False: a tap without vnet_hdr, which has none. */
struct tap_manner {
    int header; /* bytes before each packet, as the guest's driver wants them */
    unsigned offloads;
};
bool tap_read_manner(const struct tap *tap, struct tap_manner *manner);
int tap_set_manner(const struct tap *tap, const struct tap_manner *manner, struct error *error);

bool tap_exists(const char *name); /* an interface of that name */

/* /dev/vhost-net; -1 with errno when it can't be opened. */
int tap_open_vhost(void);

#endif
