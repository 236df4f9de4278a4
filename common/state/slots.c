/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/state/slots.h"

static bool in_range(const struct slots *slots, int slot)
{
    return slot >= 0 && slot < slots->end && slot < SLOTS_COUNT;
}

static uint32_t bit(int slot)
{
    return (uint32_t)1 << slot;
}

void slots_begin(struct slots *slots)
{
    slots->taken = bit(SLOTS_RESERVED) - 1;
    slots->first = SLOTS_RESERVED;
    slots->end = SLOTS_COUNT;
}

bool slots_is_taken(const struct slots *slots, int slot)
{
    return !in_range(slots, slot) || (slots->taken & bit(slot)) != 0;
}

int slots_reserve(struct slots *slots, int slot, struct error *error)
{
    if (!in_range(slots, slot))
        return error_set(error, STATUS_STATE, "PCI slot %d is outside 0 to %d", slot,
                         slots->end - 1);
    if (slot < SLOTS_RESERVED)
        return error_set(error, STATUS_STATE, "PCI slot %d belongs to the machine itself", slot);
    if (slots_is_taken(slots, slot))
        return error_set(error, STATUS_STATE, "PCI slot %d is taken", slot);
    slots->taken |= bit(slot);
    return 0;
}

int slots_take(struct slots *slots, int from, int *slot, struct error *error)
{
    int begin = from < SLOTS_RESERVED ? SLOTS_RESERVED : from;

    for (int candidate = begin; in_range(slots, candidate); candidate++) {
        if (slots_is_taken(slots, candidate))
            continue;
        slots->taken |= bit(candidate);
        *slot = candidate;
        return 0;
    }
    if (!in_range(slots, begin))
        return error_set(error, STATUS_STATE, "there is no PCI slot from %d up, the last is %d",
                         begin, slots->end - 1);
    return error_set(error, STATUS_STATE, "all PCI slots from %d to %d are taken", begin,
                     slots->end - 1);
}

void slots_release(struct slots *slots, int slot)
{
    if (in_range(slots, slot) && slot >= SLOTS_RESERVED)
        slots->taken &= ~bit(slot);
}

int slots_free_count(const struct slots *slots, int from)
{
    int count = 0;

    for (int slot = from < 0 ? 0 : from; in_range(slots, slot); slot++)
        count += !slots_is_taken(slots, slot);
    return count;
}
