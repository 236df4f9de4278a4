/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A disk or NIC in QEMU's words: the JSON that both kvm-start's argv (-blockdev, -device, -netdev) and
 * kvm-hotplug's QMP (blockdev-add, device_add, netdev_add) use. One builder, so a hot-plugged device is
 * the same as one there from the start. Pure; all results are new references.
 *
 * Values carry their right JSON types: from QEMU 9.2 a mistyped device property is an error.
 * Device id, node-name and netdev id are one and the same: hvinfo.id.
 */
#ifndef KVM_QEMU_DEVICE_H
#define KVM_QEMU_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <jansson.h>
#include "kvm/state/instance.h"

/* The block node of a disk: format node (node-name = id) over a protocol node on /dev/fdset/`set`, or, for userspace
 * access, over what its URI says (which must be one that uri_node takes).
 * `block_device`: host_device instead of file. The access mode of the passed descriptor must be the node's:
 * QEMU takes no other from a set. The backing file that a qcow2 image names is opened by QEMU itself, so an
 * unprivileged or chrooted one can't. */
json_t *device_blockdev(const struct disk *disk, const struct instance *instance, int set,
                        bool block_device);

/* `disk` is one of instance->disks: with iothreads its place there tells which one serves it.
 * The frontend: driver, id, drive, bus, addr or channel/scsi-id/lun, serial, write-cache, bootindex when
 * `bootindex` > 0. */
json_t *device_disk(const struct disk *disk, const struct instance *instance, int bootindex);

/* The controller that an SD card (sd-card) sits on, in the slot of its hvinfo; NULL for any other disk. */
json_t *device_card_reader(const struct disk *disk);

/* A CD-ROM drive at the place that `hvinfo` says, with the medium `node`. */
json_t *device_cdrom(const json_t *hvinfo, const char *node, int bootindex);

/* The image flags to open(2) with: O_RDWR or O_RDONLY, O_DIRECT when the cache is bypassed (QEMU 9
 * wants the flag on a passed descriptor). */
int device_open_flags(const struct disk *disk, const struct instance *instance);

/* A removable medium: read-only block node `node` on /dev/fdset/`set`, or on the URL that `place` is. */
json_t *device_medium_blockdev(const char *node, const char *place, int set, bool block_device);
/* A flash chip: raw block node `node` on /dev/fdset/`set`. */
json_t *device_flash(const char *node, int set, bool read_only);

/*
 * The netdev of a NIC. `names` are what stands for its tap descriptors: numbers on the command line
 * ("12"), names given to getfd over QMP; vhost_names (as many, or NULL) likewise. vhost only when the
 * vhost descriptors are there, always with vhostforce: without, QEMU 7.2 aborts, and the guest with it.
 */
json_t *device_netdev(const struct nic *nic, const char *const *names,
                      const char *const *vhost_names, size_t queues);

/* The frontend; mq and vectors = 2 × queues + 2 when queues > 1; romfile "" when `no_rom` (chroot). */
json_t *device_nic(const struct nic *nic, const struct instance *instance, size_t queues,
                   int bootindex, bool no_rom);

/* Arguments of block_set_io_throttle for the limits in a disk's params (iops, iops_rd, iops_wr, bps, bps_rd, bps_wr;
 * 0 or absent: none); NULL when it has none of these keys. */
json_t *device_throttle(const struct disk *disk);

/* set_link's arguments; new reference. */
json_t *device_link(const struct nic *nic, bool up);

#endif
