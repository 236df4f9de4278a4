/* SPDX-License-Identifier: BSD-2-Clause */
/* What inspect.h tells, written to stdout for people (tables) or programs (JSON). Used by kvm-info and kvm-hotplug. */
#ifndef KVM_OPERATIONS_PRESENT_H
#define KVM_OPERATIONS_PRESENT_H

#include <jansson.h>

void present_json(const json_t *value);
void present_list(const json_t *briefs);
void present_detail(const json_t *detail);
/* The "disks" and "nics" of a detail; nothing when it has none. */
void present_devices(const json_t *detail);
/* The "hooks" of a detail, those that would run; nothing when it has none. */
void present_hooks(const json_t *detail);
void present_slots(const json_t *map);
void present_events(const json_t *events);

#endif
