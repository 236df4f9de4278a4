/* SPDX-License-Identifier: BSD-2-Clause */
/* Removal, the same for disks and NICs. */
#include <stdio.h>
#include <string.h>

#include "hotplug_private.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/transaction.h"
#include "kvm/qemu/peripheral.h"
#include "kvm/state/placement.h"

enum { BACKEND_MS = 1000 };

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
    runtime_set_device_again(hotplug->runtime, uuid, removing->removal->again);
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

    removal->drop(removing->hotplug->runtime, removal->index);
    if (removal->again != NULL) /* the record goes with the one of what is plugged in its place */
        return 0;
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

    if (hotplug_check_guest_listens(hotplug, removal->what, error) < 0)
        return -1;
    if (hotplug->options->dry_run) {
        hotplug_plan_steps(hotplug, removal_steps, COUNT(removal_steps));
        hotplug_plan_command(hotplug, "device_del",
                             memory_json(json_pack("{s:s}", "id", removal->id)));
        removal->plan(hotplug, removal);
        hotplug_plan_runtime(hotplug);
        hotplug_text(hotplug, memory_format("would remove %s", removal->what));
        return 0;
    }
    if (transaction_run(removal_steps, COUNT(removal_steps), &removing, hotplug->options->observe,
                        error) < 0)
        return error_prefix(error, "%s", removal->what);
    return 0;
}
