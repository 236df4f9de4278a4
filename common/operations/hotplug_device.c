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

enum { UNDO_UNPLUG_MS = 5000, BACKEND_MS = 1000 };

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

    now.taken =
        0; /* what is taken by QEMU's word: in ours it is by the very device that was refused */
    if (plug->slot == SLOT_NONE || plug->slot_fixed ||
        peripheral_slots(hotplug->qmp, instance_is_q35(hotplug->instance), hotplug->deadline, &now,
                         NULL) < 0 ||
        (now.taken & (UINT32_C(1) << plug->slot)) == 0)
        return false;
    plug->slots.taken |= now.taken;
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
    int ready = hotplug_begin_undo(hotplug, error);
    if (ready <= 0)
        return ready;
    deadline_t until = clock_earlier(clock_deadline(UNDO_UNPLUG_MS), hotplug->deadline);
    switch (peripheral_unplug(hotplug->qmp, id, until, NULL, error)) {
    case UNPLUG_GONE:
        return 0;
    case UNPLUG_REFUSED:
    case UNPLUG_DENIED:
    case UNPLUG_PENDING:
        error_set(error, STATUS_INCOMPLETE, "the guest does not let device %s go", id);
        break;
    case UNPLUG_FAILED:
        break;
    }
    /* The device is there: so are its backend and its entry, until the next command finds it gone. */
    return hotplug_end_undo(hotplug, -1);
}

/* ---- removal ---- */

struct removing {
    struct hotplug *hotplug;
    const struct removal *removal;
    bool asked_before; /* by an earlier command */
    bool refused;      /* by the guest: nothing is pending any more */
};

static int mark_removing(void *plan, struct error *error)
{
    struct removing *removing = plan;
    struct hotplug *hotplug = removing->hotplug;
    const char *uuid = removing->removal->uuid;

    removing->asked_before = runtime_device_state(hotplug->runtime, uuid) == DEVICE_REMOVING;
    runtime_set_device_state(hotplug->runtime, uuid, DEVICE_REMOVING);
    return hotplug_commit(hotplug, error);
}

static int unmark(void *plan, struct error *error)
{
    const struct removing *removing = plan;
    struct hotplug *hotplug = removing->hotplug;

    if (!removing->refused || !removing->asked_before)
        return hotplug_restore(hotplug, error);
    runtime_set_device_state(hotplug->runtime, removing->removal->uuid, DEVICE_PRESENT);
    return hotplug_commit(hotplug, error);
}

/* A connection that is lost meanwhile is opened again once. */
static enum unplug_end unplug(const struct removing *removing, struct error *error)
{
    struct hotplug *hotplug = removing->hotplug;
    const char *id = removing->removal->id;
    enum unplug_end end;
    bool denied;

    do {
        end = peripheral_unplug(hotplug->qmp, id, hotplug->end, hotplug->options->observe, error);
        if (end == UNPLUG_FAILED && hotplug_recover(hotplug, error))
            end =
                peripheral_unplug(hotplug->qmp, id, hotplug->end, hotplug->options->observe, error);
        /* Asked for by an earlier command, it may be on its way, and QEMU refuses to ask twice. */
        denied = end == UNPLUG_DENIED && removing->asked_before;
    } while (denied && !clock_passed(hotplug->end));
    return denied ? UNPLUG_PENDING : end;
}

static int ask_guest(void *plan, struct error *error)
{
    struct removing *removing = plan;
    struct hotplug *hotplug = removing->hotplug;

    switch (unplug(removing, error)) {
    case UNPLUG_GONE:
        return 0;
    case UNPLUG_DENIED:
        return -1;
    case UNPLUG_REFUSED:
        removing->refused = true;
        return error_set(error, STATUS_FAILED,
                         "the guest refused to let it go: it is in use there, or its system does "
                         "not support removal; nothing was changed");
    case UNPLUG_PENDING:
        hotplug->keep = hotplug->goes_on = true;
        return error_set(error, STATUS_TIMEOUT,
                         "the guest has not let it go yet; it stays \"removing\", slot and backend "
                         "are kept; repeat the command to wait on, or a guest reset completes it "
                         "('kvm-stop --reset %s')",
                         hotplug->name);
    case UNPLUG_FAILED:
        break;
    }
    hotplug->keep = true;
    return -1;
}

static int remove_remains(void *plan, struct error *error)
{
    const struct removing *removing = plan;
    struct hotplug *hotplug = removing->hotplug;

    /* The guest's time may be used up; what is ours to do has its own. */
    deadline_t least = clock_deadline(BACKEND_MS);
    hotplug->deadline = hotplug->end > least ? hotplug->end : least;
    if (removing->removal->remains(hotplug, removing->removal, error) == 0)
        return 0;
    /* All of it may be repeated. */
    if (hotplug_recover(hotplug, error) &&
        removing->removal->remains(hotplug, removing->removal, error) == 0)
        return 0;
    hotplug->keep = true;
    return -1;
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
    struct removing removing = {.hotplug = hotplug, .removal = removal};

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
