/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>

#include "hotplug_plug.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/qemu/peripheral.h"
#include "kvm/state/placement.h"

enum { UNDO_UNPLUG_MS = 5000 };

int hotplug_recorded_slots(struct hotplug *hotplug, struct slots *slots, struct error *error)
{
    struct placement placement;

    if (placement_assign(hotplug->instance, &placement, error) < 0)
        return -1;
    *slots = placement.slots;
    return 0;
}

int hotplug_slots(struct hotplug *hotplug, struct slots *slots, struct error *error)
{
    if (hotplug_recorded_slots(hotplug, slots, error) < 0)
        return -1;
    if (peripheral_slots(hotplug->qmp, instance_is_q35(hotplug->instance), hotplug->deadline, slots,
                         error) < 0)
        return -1;
    if (hotplug->vacated > 0)
        slots_release(slots, hotplug->vacated);
    return 0;
}

const char *plug_uuid(const struct plug *plug)
{
    return json_text(plug->object, "uuid");
}

static void place(struct plug *plug, const char *driver, const char *id)
{
    json_object_set_new(plug->object, "hvinfo",
                        placement_hvinfo(plug->hotplug->instance, driver, id, plug->slot));
    plug->refresh(plug);
    plug->id = json_text(json_member(plug->object, "hvinfo"), "id");
}

int plug_read_slot(json_t *object, int64_t *wanted, struct error *error)
{
    const json_t *value = json_member(object, "slot");

    *wanted = value != NULL ? json_number(object, "slot", 0) : -1;
    if (value != NULL && (*wanted < SLOTS_RESERVED || *wanted >= SLOTS_COUNT)) {
        AUTO_FREE char *text = json_compact(value);
        return error_set(error, STATUS_USAGE, "slot: %s is not a number from %d to %d", text,
                         SLOTS_RESERVED, SLOTS_COUNT - 1);
    }
    json_object_del(object, "slot");
    return 0;
}

int plug_choose_slot(struct plug *plug, const char *kind, const char *driver, int64_t wanted,
                     struct error *error)
{
    struct slots *slots = &plug->slots;
    char id[32];

    plug->slot_fixed = wanted >= 0;
    plug->slot = (int)wanted;
    if (plug->slot_fixed ? slots_reserve(slots, plug->slot, error) < 0
                         : slots_take(slots, slots->first, &plug->slot, error) < 0)
        return -1;
    placement_id(kind, plug_uuid(plug), id);
    place(plug, driver, id);
    return 0;
}

/* To the next free slot when the chosen one is taken by QEMU's word alone: in ours it is by this very device. 1: done,
 * and the record is out of date; 0: it is not taken; -1: there is no other, or only this one will do. */
static int leave_taken_slot(struct plug *plug, struct error *error)
{
    const struct hotplug *hotplug = plug->hotplug;
    struct slots now = plug->slots;

    now.taken = 0;
    if (plug->slot == SLOT_NONE)
        return 0;
    if (peripheral_slots(hotplug->qmp, instance_is_q35(hotplug->instance), hotplug->deadline, &now,
                         error) < 0)
        return -1;
    if (!slots_is_taken(&now, plug->slot))
        return 0;
    if (plug->slot_fixed)
        return slots_reserve(&now, plug->slot, error); /* for its words */
    plug->slots.taken |= now.taken;
    if (slots_take(&plug->slots, plug->slots.first, &plug->slot, error) < 0)
        return -1;
    hotplug_forget_commit(plug->hotplug);
    AUTO_FREE char *driver = memory_copy(json_text(json_member(plug->object, "hvinfo"), "driver"));
    AUTO_FREE char *id = memory_copy(plug->id);
    place(plug, driver, id);
    return 1;
}

int plug_confirm_slot(struct plug *plug, struct error *error)
{
    return leave_taken_slot(plug, error) < 0 ? -1 : 0;
}

/* ---- the steps ---- */

int plug_record(void *plan, struct error *error)
{
    struct plug *plug = plan;

    runtime_set_device_state(plug->hotplug->runtime, plug_uuid(plug), DEVICE_ADDING);
    runtime_set_device_again(plug->hotplug->runtime, plug_uuid(plug), plug->again);
    return hotplug_commit(plug->hotplug, error);
}

int plug_drop(void *plan, struct error *error)
{
    struct plug *plug = plan;
    return hotplug_restore(plug->hotplug, error);
}

void plug_prepare_present(struct plug *plug)
{
    struct hotplug *hotplug = plug->hotplug;

    if (hotplug->prepared)
        return;
    runtime_set_device_state(hotplug->runtime, plug_uuid(plug), DEVICE_PRESENT);
    hotplug_prepare_commit(hotplug);
    runtime_set_device_state(hotplug->runtime, plug_uuid(plug), DEVICE_ADDING);
}

int plug_device(void *plan, struct error *error)
{
    struct plug *plug = plan;
    struct hotplug *hotplug = plug->hotplug;

    for (;;) {
        bool exists = false;
        AUTO_JSON json_t *frontend = plug->frontend(plug);
        const struct qmp_request both[] = {{"device_add", json_incref(frontend)},
                                           {"qom-list", peripheral_exists_arguments()}};
        /* The look behind it before the guest gets at its new device, which takes QEMU's time. */
        qmp_ahead(hotplug->qmp, both, COUNT(both), -1);
        plug_prepare_present(plug);
        enum qmp_outcome outcome =
            hotplug_call(hotplug, "device_add", json_incref(frontend), error);
        if (outcome == QMP_DONE)
            return 0;
        if (hotplug->unknown)
            return -1;
        if (outcome == QMP_UNKNOWN &&
            peripheral_exists(hotplug->qmp, plug->id, hotplug->deadline, &exists, NULL) == 0 &&
            exists)
            return 0;
        /* Another tool may have plugged something meanwhile: QEMU is asked, not its text read. */
        if (outcome == QMP_UNKNOWN || leave_taken_slot(plug, NULL) != 1 ||
            hotplug_commit(hotplug, error) < 0)
            return -1;
    }
}

int plug_unplug(void *plan, struct error *error)
{
    struct plug *plug = plan;
    struct hotplug *hotplug = plug->hotplug;
    int ready = hotplug_begin_undo(hotplug, error);

    if (ready <= 0)
        return ready;
    deadline_t until = clock_earlier(clock_deadline(UNDO_UNPLUG_MS), hotplug->deadline);
    switch (peripheral_unplug(hotplug->qmp, plug->id, until, NULL, error)) {
    case UNPLUG_GONE:
        return 0;
    case UNPLUG_REFUSED:
    case UNPLUG_DENIED:
    case UNPLUG_PENDING:
        error_set(error, STATUS_INCOMPLETE, "the guest does not let device %s go", plug->id);
        break;
    case UNPLUG_FAILED:
        break;
    }
    /* The device is there: so are its backend and its entry, until the next command finds it gone. */
    return hotplug_end_undo(hotplug, -1);
}

int plug_see(void *plan, struct error *error)
{
    const struct plug *plug = plan;
    struct hotplug *hotplug = plug->hotplug;
    bool exists;

    if (peripheral_exists(hotplug->qmp, plug->id, hotplug->deadline, &exists, error) < 0)
        return -1;
    if (!exists)
        return error_set(error, STATUS_FAILED, "QEMU accepted device %s but does not show it",
                         plug->id);
    return 0;
}

int plug_record_present(void *plan, struct error *error)
{
    struct plug *plug = plan;

    runtime_set_device_state(plug->hotplug->runtime, plug_uuid(plug), DEVICE_PRESENT);
    return hotplug_commit(plug->hotplug, error);
}

void plug_tell(const struct plug *plug)
{
    struct hotplug *hotplug = plug->hotplug;

    hotplug_detail(hotplug, "uuid", json_string(plug_uuid(plug)));
    hotplug_detail(hotplug, "index", json_integer((json_int_t)plug->index));
    hotplug_detail(hotplug, "device", json_string(plug->id));
    hotplug_detail(hotplug, "hvinfo", json_deep_copy(json_member(plug->object, "hvinfo")));
    if (plug->slot != SLOT_NONE)
        hotplug_detail(hotplug, "slot", json_integer(plug->slot));
}
