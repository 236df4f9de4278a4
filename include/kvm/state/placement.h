/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where each device of an instance sits: device id, driver, bus and address, written into the
 * `hvinfo` of disks and NICs, and the slots that the suite's own devices take. Pure.
 *
 * Order on a fresh instance (design: a guest's slots never move by themselves): sound card that needs
 * a slot, SCSI controller, balloon, agent or SPICE serial controller, random number generator, watchdog, then kvm_pci_reservations if
 * given, then disks, then NICs. What has an hvinfo keeps it.
 */
#ifndef KVM_STATE_PLACEMENT_H
#define KVM_STATE_PLACEMENT_H

#include <jansson.h>
#include "kvm/base/error.h"
#include "kvm/state/instance.h"
#include "kvm/state/media.h"
#include "kvm/state/slots.h"

struct placement {
    struct slots slots;
    int sound_slot;                   /* SLOT_NONE: no card that needs one */
    int scsi_slots[SCSI_CONTROLLERS]; /* SLOT_NONE: no such controller */
    int balloon_slot;
    int serial_slot; /* virtio-serial controller for guest agent or SPICE */
    int rng_slot;
    int watchdog_slot;
    int cdrom_slots[CDROMS]; /* of a paravirtual CD-ROM */
    int last_port;           /* q35: root ports rp3 … rp`last_port`; pc: 31 */
};

/* Assign what is missing, reserve what is there. Fails with STATUS_USAGE when the slots do not
 * suffice, two devices want one slot, or a driver is unknown. */
int placement_assign(struct instance *instance, struct placement *placement, struct error *error);

/* The slot of a device by its hvinfo ("addr" "0xc" on pci.0, or bus "rp5"), SLOT_NONE when it has
 * none (SCSI, IDE). */
int placement_slot(const json_t *hvinfo);

/* The id of a SCSI controller: "scsi", "scsi1", …; its bus is "scsi.0", "scsi1.0". */
void placement_scsi_name(int number, char *buffer, size_t size);
const char *placement_scsi_controller(const struct instance *instance); /* its driver */

/* hvinfo for a PCI device: {"driver", "id", "bus", "addr"}; new object. */
json_t *placement_hvinfo(const struct instance *instance, const char *driver, const char *id,
                         int slot);

/* "disk-7c079136-2573-4112" from the uuid; buffer of 32. */
void placement_id(const char *kind, const char *uuid, char *buffer);

/* The frontend: virtio-blk-pci, scsi-hd, ide-hd …; virtio-net-pci, e1000 … NULL when the hvparams
 * name none. A disk's params.bus goes before disk_type. */
const char *placement_disk_driver(const struct disk *disk, const struct instance *instance);
/* A NIC of ISA has no slot, ports and interrupt by its place among the NICs, and can't be plugged. */
enum { PLACEMENT_ISA_NICS = 4 };
bool placement_is_isa(const char *driver);
const char *placement_nic_driver(const struct instance *instance);

/* The same for a CD-ROM: ide-cd, scsi-cd, virtio-blk-pci …; NULL: cdrom_disk_type is none that a CD-ROM can have. */
const char *placement_cdrom_driver(const struct instance *instance, enum medium medium);
/* hvinfo of a CD-ROM drive, as of a disk; new object, NULL when the instance has none. */
json_t *placement_cdrom(const struct instance *instance, const struct placement *placement,
                        enum medium medium);

#endif
