/* SPDX-License-Identifier: BSD-2-Clause */
#include "unit.h"
#include "kvm/state/slots.h"

TEST(first_three_are_the_machine, "slots 0 to 2 belong to the machine")
{
    struct slots slots;
    struct error error = {0};

    slots_begin(&slots);
    for (int slot = 0; slot < 3; slot++) {
        CHECK(slots_is_taken(&slots, slot));
        CHECK_NUMBER(slots_reserve(&slots, slot, &error), -1);
        CHECK_NUMBER(error.status, STATUS_STATE);
        slots_release(&slots, slot);
        CHECK(slots_is_taken(&slots, slot));
    }
    CHECK(!slots_is_taken(&slots, 3));
    CHECK_NUMBER(slots_free_count(&slots, 0), 29);
    return true;
}

TEST(outside_is_taken, "what is outside the range counts as taken")
{
    struct slots slots;
    struct error error = {0};

    slots_begin(&slots);
    CHECK(slots_is_taken(&slots, -1));
    CHECK(slots_is_taken(&slots, 32));
    CHECK_NUMBER(slots_reserve(&slots, 32, &error), -1);
    CHECK_HAS(error.text, "PCI slot 32 is outside 0 to 31");
    slots.end = 8;
    CHECK(slots_is_taken(&slots, 8));
    CHECK(!slots_is_taken(&slots, 7));
    return true;
}

TEST(takes_the_lowest, "the lowest free slot from the given one up is taken")
{
    struct slots slots;
    int slot = SLOT_NONE;

    slots_begin(&slots);
    CHECK_NUMBER(slots_reserve(&slots, 13, NULL), 0);
    CHECK_NUMBER(slots_take(&slots, 12, &slot, NULL), 0);
    CHECK_NUMBER(slot, 12);
    CHECK_NUMBER(slots_take(&slots, 12, &slot, NULL), 0);
    CHECK_NUMBER(slot, 14);
    slots_release(&slots, 13);
    CHECK_NUMBER(slots_take(&slots, 12, &slot, NULL), 0);
    CHECK_NUMBER(slot, 13);
    CHECK_NUMBER(slots_take(&slots, -5, &slot, NULL), 0);
    CHECK_NUMBER(slot, 3);
    return true;
}

TEST(full_is_told, "a full bus is told with its range, and nothing is taken twice")
{
    struct slots slots;
    struct error error = {0};
    int slot = SLOT_NONE;

    slots_begin(&slots);
    for (int i = 12; i < 32; i++)
        CHECK_NUMBER(slots_take(&slots, 12, &slot, NULL), 0);
    slot = 77;
    CHECK_NUMBER(slots_take(&slots, 12, &slot, &error), -1);
    CHECK_TEXT(error.text, "all PCI slots from 12 to 31 are taken");
    CHECK_NUMBER(slot, 77);
    CHECK_NUMBER(slots_free_count(&slots, 12), 0);
    CHECK_NUMBER(slots_reserve(&slots, 20, &error), -1);
    CHECK_TEXT(error.text, "PCI slot 20 is taken");
    return true;
}

UNIT_MAIN(UNIT(first_three_are_the_machine), UNIT(outside_is_taken), UNIT(takes_the_lowest),
          UNIT(full_is_told))
