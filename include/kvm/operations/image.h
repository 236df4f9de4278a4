/* SPDX-License-Identifier: BSD-2-Clause */
/* Disk images and block devices that this suite opens and passes to QEMU by descriptor. */
#ifndef KVM_OPERATIONS_IMAGE_H
#define KVM_OPERATIONS_IMAGE_H

#include <stdbool.h>
#include <stdint.h>
#include "kvm/base/error.h"
#include "kvm/state/instance.h"

/* Can it be opened with these flags, and is it a file (not empty) or a block device? Adds problems with `where`. */
void image_check(const char *path, int flags, const char *where, bool *is_block,
                 struct messages *problems);

/* The same for a disk with a path, and what its model asks of the image: a SCSI device, a size. */
void image_check_disk(const struct disk *disk, const struct instance *instance, const char *where,
                      bool *is_block, struct messages *problems);

/*
 * A URI or URL that QEMU opens itself: does this binary have the driver? With `open` it is opened read-only, too, in a
 * QEMU of its own, which takes at most 10 s: a running QEMU stands still, and its guest, while a server that does not
 * answer is waited for.
 */
void image_check_uri(const char *binary, const char *uri, bool open, const char *where,
                     struct messages *problems);

/* The same, opening them, for all of an instance. */
void image_check_uris(const struct instance *instance, const char *source,
                      struct messages *problems);

/* No image of the instance is there under two names, links included, unless nobody writes it. */
void image_check_same(const struct instance *instance, const char *source,
                      struct messages *problems);

/* Open for QEMU what was checked, unless it has become something else meanwhile; -1 with STATUS_FAILED. */
int image_open(const char *path, int flags, struct error *error);

/* Make the open file an empty qcow2 image (version 3, clusters of 64 KiB) of a disk of `size` bytes; what it held is
 * gone. -1 with errno. */
int image_make_qcow2(int descriptor, int64_t size);

#endif
