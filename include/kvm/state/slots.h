/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The PCI slots of an instance: a bitmap of 32. Pure.
 *
 * On machine type pc, slot N is device N of bus pci.0 (0 host bridge, 1 ISA, 2 VGA are reserved). On
 * q35, slot N is the root port rpN, which takes one device at address 0; the same three numbers stay
 * reserved so that a slot means the same on both.
 */
#ifndef KVM_STATE_SLOTS_H
#define KVM_STATE_SLOTS_H

#include <stdbool.h>
#include <stdint.h>
#include "kvm/base/error.h"

enum { SLOTS_COUNT = 32, SLOTS_RESERVED = 3, SLOT_NONE = -1 };

struct slots {
    uint32_t taken; /* bit N: slot N */
    int first;      /* devices that name no slot get the first free one from here up; default 3 */
    int end;        /* one past the last usable slot; default 32 */
};

/* 0 to 2 taken, the rest free. */
void slots_begin(struct slots *slots);

bool slots_is_taken(const struct slots *slots, int slot); /* true outside 0 … end-1 */

/* Take exactly this slot. Fails (STATUS_STATE) when it is taken or outside the range. */
int slots_reserve(struct slots *slots, int slot, struct error *error);

/* Take the first free slot ≥ `from`. Fails (STATUS_STATE): "all PCI slots from 12 to 31 are taken". */
int slots_take(struct slots *slots, int from, int *slot, struct error *error);

void slots_release(struct slots *slots, int slot);
int slots_free_count(const struct slots *slots, int from);

#endif
