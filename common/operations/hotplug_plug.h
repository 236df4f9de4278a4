/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device that is being added: what disks and NICs have in common. The plan of add-disk and of add-nic begins with a
 * struct plug, so that the steps here take either as their plan.
 *
 *     plug_choose_slot → plug_confirm_slot → plug_record → (the backend) → plug_device → plug_see → plug_record_present
 *
 * plug_confirm_slot where the slot was chosen by the runtime alone; plug_prepare_present anywhere behind plug_record.
 */
#ifndef KVM_OPERATIONS_HOTPLUG_PLUG_H
#define KVM_OPERATIONS_HOTPLUG_PLUG_H

#include <jansson.h>
#include "hotplug_private.h"
#include "kvm/state/slots.h"

struct plug {
    struct hotplug *hotplug;
    size_t index;    /* of the new device among the instance's disks or NICs */
    json_t *object;  /* of the new device in the instance; borrowed */
    const char *id;  /* borrowed from its hvinfo */
    int slot;        /* SLOT_NONE: not a PCI device */
    bool slot_fixed; /* asked for by the user, or kept: no other will do */
    struct slots slots;
    const json_t *again; /* it is plugged again, by this object; NULL: for the first time */
    void (*refresh)(struct plug *plug);           /* the views into `object` */
    json_t *(*frontend)(const struct plug *plug); /* for device_add; new reference */
};

const char *plug_uuid(const struct plug *plug);

/* What the caller wants as "slot", which is taken out of the object; -1: the first free one. */
int plug_read_slot(json_t *object, int64_t *wanted, struct error *error);

/* Take the slot `wanted`, or with -1 the first free one of plug->slots, and write the device's place into its hvinfo.
 * `kind` is "disk" or "nic". */
int plug_choose_slot(struct plug *plug, const char *kind, const char *driver, int64_t wanted,
                     struct error *error);

/* The slot was chosen by the runtime alone: go to the next one when QEMU shows it taken, by what another tool has plugged;
 * fails when the user wants that one, or there is no other. */
int plug_confirm_slot(struct plug *plug, struct error *error);

/* Steps, and what undoes them. device_add goes to the next free slot when QEMU shows that the chosen one is taken by
 * then; what is undone is unplugged again within a few seconds. */
int plug_record(void *plan, struct error *error);
int plug_drop(void *plan, struct error *error);
int plug_device(void *plan, struct error *error);
int plug_unplug(void *plan, struct error *error);
int plug_see(void *plan, struct error *error);
int plug_record_present(void *plan, struct error *error);

/* Behind plug_record, while QEMU is at work: what can be done already of plug_record_present. */
void plug_prepare_present(struct plug *plug);

/* uuid, index, device and slot, for the result. */
void plug_tell(const struct plug *plug);

#endif
