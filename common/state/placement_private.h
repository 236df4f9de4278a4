/* SPDX-License-Identifier: BSD-2-Clause */
/* Placing: placement.c does the PCI slots, placement_units.c what sits on an IDE or SCSI bus. */
#ifndef KVM_STATE_PLACEMENT_PRIVATE_H
#define KVM_STATE_PLACEMENT_PRIVATE_H

#include "kvm/state/media.h"
#include "kvm/state/placement.h"

enum { IDE_MAX = 4, AHCI_MAX = 6, SCSI_IDS_MAX = 256 };

/* What names units on a bus that is no PCI: which are taken. */
struct units {
    bool q35;
    bool ide[IDE_MAX];   /* pc: bus × 2 + unit */
    bool ahci[AHCI_MAX]; /* q35: one disk a port */
    bool scsi[SCSI_CONTROLLERS][SCSI_IDS_MAX];
    int ids, controllers; /* of one; how many there are */
    const char *controller;
};

/* What the CD-ROMs and the disks with an hvinfo take. */
void units_begin(const struct instance *instance, const struct placement *placement,
                 struct units *units);

/* The next free unit; new object, NULL with error. */
json_t *units_take_scsi(struct units *units, const char *driver, const char *id,
                        struct error *error);
json_t *units_take_ide(struct units *units, const char *driver, const char *id,
                       struct error *error);

/* How many SCSI controllers the disks and CD-ROMs need; 0: none. */
int units_controllers(const struct instance *instance);

/* The driver that the disk has, or will have. */
const char *placement_any_driver(const struct disk *disk, const struct instance *instance);

#endif
