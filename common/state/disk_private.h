/* SPDX-License-Identifier: BSD-2-Clause */
/* Reading a disk: disk.c does its keys, disk_place.c what is opened for it. */
#ifndef KVM_STATE_DISK_PRIVATE_H
#define KVM_STATE_DISK_PRIVATE_H

#include "kvm/state/check.h"
#include "kvm/state/instance.h"

/* disk->path and disk->uri, as they are given or follow from the storage. */
void disk_settle_path(const struct check *check, const json_t *given, struct disk *disk);

/* mode, size, params, dev_type and logical_id, where they are not given; the views are refreshed by the caller. */
void disk_settle_defaults(struct disk *disk);

#endif
