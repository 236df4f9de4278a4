/* SPDX-License-Identifier: BSD-2-Clause */
/* Plugging and removing, the same for disks and NICs. */
#include <stdio.h>
#include <string.h>

#include "hotplug_private.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/transaction.h"
#include "kvm/qemu/peripheral.h"
#include "kvm/state/placement.h"

enum { UNDO_UNPLUG_MS = 5000, BACKEND_MS = 10000 };

int hotplug_slots(struct hotplug *hotplug, struct slots *slots, struct error *error)
{
    struct placement placement;

    if (placement_assign(hotplug->instance, &placement, error) < 0)
        return -1;
    *slots = placement.slots;
    return peripheral_slots(hotplug->qmp, instance_is_q35(hotplug->instance), hotplug->deadline,
                            slots, error);
}

/* Another tool may have plugged something between our look and our request: QEMU is asked, not its text read. */
static bool take_next_slot(struct hotplug *hotplug, struct plug *plug)
{
    struct slots now = plug->slots;

    if (plug->slot == SLOT_NONE || plug->slot_fixed ||
        peripheral_slots(hotplug->qmp, instance_is_q35(hotplug->instance), hotplug->deadline, &now,
                         NULL) < 0 ||
        (now.taken & (UINT32_C(1) << plug->slot)) == 0)
        return false;
    plug->slots = now;
    return slots_take(&plug->slots, plug->slots.first, &plug->slot, NULL) == 0;
}

int hotplug_plug(struct hotplug *hotplug, struct plug *plug, struct error *error)
{
    for (;;) {
        bool exists = false;
        enum qmp_outcome outcome =
            hotplug_call(hotplug, "device_add", plug->build(hotplug, plug), error);
        if (outcome == QMP_DONE)
            return 0;
        if (hotplug->unknown)
            return -1;
        if (outcome == QMP_UNKNOWN &&
            peripheral_exists(hotplug->qmp, plug->id, hotplug->deadline, &exists, NULL) == 0 &&
            exists)
            return 0;
        if (outcome == QMP_UNKNOWN || !take_next_slot(hotplug, plug))
            return -1;
        plug->place(hotplug, plug);
        if (hotplug_commit(hotplug, error) < 0)
            return -1;
    }
}

int hotplug_see(struct hotplug *hotplug, const char *id, struct error *error)
{
    bool exists;

    if (peripheral_exists(hotplug->qmp, id, hotplug->deadline, &exists, error) < 0)
        return -1;
    if (!exists)
        return error_set(error, STATUS_FAILED, "QEMU accepted device %s but does not show it", id);
    return 0;
}

int hotplug_unplug_again(struct hotplug *hotplug, const char *id, struct error *error)
{
    if (hotplug->unknown)
        return 0;
    switch (peripheral_unplug(hotplug->qmp, id, clock_deadline(UNDO_UNPLUG_MS), NULL, error)) {
    case UNPLUG_GONE:
        return 0;
    case UNPLUG_REFUSED:
    case UNPLUG_PENDING:
        error_set(error, STATUS_INCOMPLETE, "the guest does not let device %s go", id);
        break;
    case UNPLUG_FAILED:
        break;
    }
    /* The device is there: so are its backend and its entry, until the next command finds it gone. */
    hotplug->keep = true;
    return -1;
}

/* ---- removal ---- */

struct removing {
    struct hotplug *hotplug;
    const struct removal *removal;
};

static int mark_removing(void *plan, struct error *error)
{
    const struct removing *removing = plan;
    struct hotplug *hotplug = removing->hotplug;

    runtime_set_device_state(hotplug->runtime, removing->removal->uuid, DEVICE_REMOVING);
    return hotplug_commit(hotplug, error);
}

static int unmark(void *plan, struct error *error)
{
    const struct removing *removing = plan;
    return hotplug_restore(removing->hotplug, error);
}

static int ask_guest(void *plan, struct error *error)
{
    const struct removing *removing = plan;
    struct hotplug *hotplug = removing->hotplug;
    const struct removal *removal = removing->removal;

    switch (peripheral_unplug(hotplug->qmp, removal->id, hotplug->deadline,
                              hotplug->options->observe, error)) {
    case UNPLUG_GONE:
        return 0;
    case UNPLUG_REFUSED:
        return error_set(error, STATUS_FAILED,
                         "the guest refused to let it go: it is in use there, or its system does "
                         "not support removal; nothing was changed");
    case UNPLUG_PENDING:
        hotplug->keep = true;
        return error_set(error, STATUS_TIMEOUT,
                         "the guest has not let it go yet; it stays \"removing\", slot and backend "
                         "are kept; repeat the command to wait on, or a guest reset completes it "
                         "('kvm-stop --reset %s')",
                         hotplug->name);
    case UNPLUG_FAILED:
        break;
    }
    hotplug->keep = true;
    error->status = STATUS_INCOMPLETE;
    return error_append(error, "; 'kvm-hotplug %s list' shows it, the next command finishes it",
                        hotplug->name);
}

static int remove_remains(void *plan, struct error *error)
{
    const struct removing *removing = plan;
    struct hotplug *hotplug = removing->hotplug;

    /* The guest's time may be used up; what is ours to do has its own. */
    if (clock_passed(hotplug->deadline) || hotplug->deadline < clock_deadline(BACKEND_MS))
        hotplug->deadline = clock_deadline(BACKEND_MS);
    if (removing->removal->remains(hotplug, removing->removal, error) < 0)
        return error_append(error, "; repeat the command, it is finished then");
    return 0;
}

static int drop_entry(void *plan, struct error *error)
{
    const struct removing *removing = plan;
    const struct removal *removal = removing->removal;

    if (removal->keep_entry)
        return 0;
    removal->drop(removing->hotplug->runtime, removal->index);
    return hotplug_commit(removing->hotplug, error);
}

static const struct step removal_steps[] = {
    {"record it as removing", mark_removing, unmark, false},
    {"ask the guest to let it go", ask_guest, NULL, true},
    {"remove the backend", remove_remains, NULL, false},
    {"drop its entry", drop_entry, NULL, false},
};

int hotplug_remove(struct hotplug *hotplug, const struct removal *removal, struct error *error)
{
    struct removing removing = {hotplug, removal};

    if (hotplug->options->dry_run) {
        json_t *plan = memory_json(json_array());
        for (size_t i = 0; i < COUNT(removal_steps); i++)
            json_array_append_new(plan, memory_json(json_string(removal_steps[i].what)));
        hotplug_detail(hotplug, "steps", plan);
        hotplug_detail(
            hotplug, "commands",
            json_pack("[{s:s, s:{s:s}}]", "execute", "device_del", "arguments", "id", removal->id));
        hotplug_text(hotplug, memory_format("would remove %s", removal->what));
        return hotplug_check_guest_listens(hotplug, removal->what, error);
    }
    if (hotplug_check_guest_listens(hotplug, removal->what, error) < 0)
        return -1;
    if (transaction_run(removal_steps, COUNT(removal_steps), &removing, hotplug->options->observe,
                        error) < 0)
        return error_prefix(error, "%s", removal->what);
    return 0;
}
