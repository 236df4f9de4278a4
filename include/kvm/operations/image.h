/* SPDX-License-Identifier: BSD-2-Clause */
/* Disk images and block devices that this suite opens and passes to QEMU by descriptor. */
#ifndef KVM_OPERATIONS_IMAGE_H
#define KVM_OPERATIONS_IMAGE_H

#include <stdbool.h>
#include "kvm/base/error.h"

/* Can it be opened with these flags, and is it a file (not empty) or a block device? Adds problems with `where`. */
void image_check(const char *path, int flags, const char *where, bool *is_block,
                 struct messages *problems);

/* Open for QEMU; -1 with STATUS_FAILED. */
int image_open(const char *path, int flags, struct error *error);

#endif
