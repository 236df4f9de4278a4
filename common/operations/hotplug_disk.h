/* SPDX-License-Identifier: BSD-2-Clause */
/* add-disk: decided in hotplug_disk_decide.c, done in hotplug_disk.c. */
#ifndef KVM_OPERATIONS_HOTPLUG_DISK_H
#define KVM_OPERATIONS_HOTPLUG_DISK_H

#include "hotplug_plug.h"

struct disk_adding {
    struct plug plug; /* first: it is the plan of the common steps */
    int image, set;
    bool is_block;
};

/* What kvm-hotplug was given as an object of its own, beside KEY=VALUE; NULL: an error. New reference. */
json_t *disk_adding_read(const struct hotplug *hotplug, struct error *error);
/* Check it, put the disk into the instance, and choose its place. */
int disk_adding_decide(struct disk_adding *adding, const json_t *given, struct error *error);
struct disk *disk_adding_disk(const struct disk_adding *adding);

#endif
