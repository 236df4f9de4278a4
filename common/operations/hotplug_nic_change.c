/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>

#include "hotplug_private.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/transaction.h"
#include "kvm/host/network.h"
#include "kvm/host/tap.h"
#include "kvm/operations/reconcile.h"
#include "kvm/state/placement.h"

const char *const hotplug_mod_nic_keys[] = {"mode", "link",    "vlan", "mac",
                                            "ip",   "network", "name", NULL};

/* The NIC's object with the changes in it, as a definition would have it; without its place. */
static json_t *changed_object(const json_t *old, const json_t *changes)
{
    json_t *object = memory_json(json_deep_copy(old));
    AUTO_JSON json_t *moved = memory_json(json_deep_copy(changes));
    const char *key;
    json_t *value;

    hotplug_move_nicparams(moved);
    json_object_foreach (moved, key, value) {
        if (strcmp(key, "nicparams") == 0)
            json_object_update(json_object_get(object, "nicparams"), value);
        else
            json_object_set(object, key, value);
    }
    json_object_del(object, "hvinfo");
    return object;
}

/* The guest keeps its device; only the host's side changes. Everything here may be repeated. */
struct rewiring {
    struct hotplug *hotplug;
    size_t index;
    size_t number;  /* of its tap file: what ifup and ifdown are told */
    json_t *object; /* the NIC as it is to be, with its place */
    char tap[TAP_NAME_SIZE];
};

static const struct nic *nic_of(const struct rewiring *rewiring)
{
    return &rewiring->hotplug->instance->nics[rewiring->index];
}

static int wire(struct rewiring *rewiring, struct error *error)
{
    struct hotplug *hotplug = rewiring->hotplug;
    return network_ifup(hotplug->instance, nic_of(rewiring), rewiring->number, rewiring->tap,
                        hotplug->node->path, hotplug->deadline, error);
}

static int unwire(struct rewiring *rewiring, struct error *error)
{
    struct hotplug *hotplug = rewiring->hotplug;
    return network_ifdown(hotplug->instance, nic_of(rewiring), rewiring->number, rewiring->tap,
                          false, hotplug->node->path, hotplug->deadline, error);
}

/* An undo that fails leaves the mark, by which the next command sets the NIC up. */
static int undo(struct rewiring *rewiring, int (*act)(struct rewiring *, struct error *),
                struct error *error)
{
    hotplug_take_last_time(rewiring->hotplug);
    return hotplug_end_undo(rewiring->hotplug, act(rewiring, error));
}

static int mark(void *plan, struct error *error)
{
    struct rewiring *rewiring = plan;
    struct hotplug *hotplug = rewiring->hotplug;

    runtime_set_device_state(hotplug->runtime, nic_of(rewiring)->uuid, DEVICE_CHANGING);
    return hotplug_commit(hotplug, error);
}

static int unmark(void *plan, struct error *error)
{
    const struct rewiring *rewiring = plan;
    return hotplug_restore(rewiring->hotplug, error);
}

static int take_old_down(void *plan, struct error *error)
{
    return unwire(plan, error);
}

static int bring_old_up(void *plan, struct error *error)
{
    return undo(plan, wire, error);
}

static int swap(struct rewiring *rewiring, struct error *error)
{
    struct nic *nic = &rewiring->hotplug->instance->nics[rewiring->index];
    json_t *object = nic->object;

    nic->object = rewiring->object;
    rewiring->object = object;
    nic_refresh(nic);
    return hotplug_commit(rewiring->hotplug, error);
}

static int record_new(void *plan, struct error *error)
{
    struct error second = {0};

    if (swap(plan, error) == 0)
        return 0;
    undo(plan, swap, &second); /* in memory at least */
    return -1;
}

static int record_old(void *plan, struct error *error)
{
    return undo(plan, swap, error);
}

static int bring_new_up(void *plan, struct error *error)
{
    struct rewiring *rewiring = plan;

    if (wire(rewiring, error) == 0)
        return 0;
    hotplug_take_last_time(rewiring->hotplug);
    unwire(rewiring, NULL);
    return -1;
}

static int take_new_down(void *plan, struct error *error)
{
    return undo(plan, unwire, error);
}

static int record_done(void *plan, struct error *error)
{
    struct rewiring *rewiring = plan;
    struct hotplug *hotplug = rewiring->hotplug;

    runtime_set_device_state(hotplug->runtime, nic_of(rewiring)->uuid, DEVICE_PRESENT);
    return hotplug_commit(hotplug, error);
}

static const struct step rewiring_steps[] = {
    {"record that it is being changed", mark, unmark, false},
    {"take the old set-up down", take_old_down, bring_old_up, false},
    {"record the change in the runtime", record_new, record_old, false},
    {"bring the new set-up up", bring_new_up, take_new_down, false},
    {"record it as present", record_done, NULL, false},
};

static void plan_rewiring(struct hotplug *hotplug, const struct nic *old, const struct nic *new)
{
    hotplug_plan_steps(hotplug, rewiring_steps, COUNT(rewiring_steps));
    hotplug_plan_runtime(hotplug);
    hotplug_plan_hook(hotplug, network_describe_down(old, hotplug->node->path));
    hotplug_plan_hook(hotplug, network_describe(new, hotplug->node->path));
}

static int rewire(struct hotplug *hotplug, size_t index, json_t *object, struct error *error)
{
    struct nic *nic = &hotplug->instance->nics[index];
    struct rewiring rewiring = {.hotplug = hotplug, .index = index};

    if (runtime_device_state(hotplug->runtime, nic->uuid) == DEVICE_REMOVING)
        return error_set(error, STATUS_STATE,
                         "it is being removed; 'kvm-hotplug %s del-nic %s' goes on with that",
                         hotplug->name, nic->uuid);
    if (!network_find_tap(hotplug->rundir, hotplug->instance, index, hotplug->session.process.pid,
                          rewiring.tap))
        return error_set(error, STATUS_FAILED, "no tap file tells its interface");
    rewiring.number = network_index(hotplug->rundir, hotplug->name, rewiring.tap);
    rewiring.object = memory_json(json_deep_copy(object));
    json_object_set(rewiring.object, "hvinfo", json_object_get(nic->object, "hvinfo"));
    int result = transaction_run(rewiring_steps, COUNT(rewiring_steps), &rewiring,
                                 hotplug->options->observe, error);
    json_decref(rewiring.object);
    return result;
}

/* From the removal on there is no way back, and the next command only finishes that. */
static int tell_how_to_plug(struct hotplug *hotplug, const json_t *object, struct error *error)
{
    AUTO_FREE char *text = json_compact(object);

    hotplug->advised = true;
    return error_append(error,
                        "; when it is gone, plug it with 'kvm-hotplug %s add-nic -' and this "
                        "object: %s",
                        hotplug->name, text);
}

static int replug(struct hotplug *hotplug, size_t index, const json_t *object, struct error *error)
{
    int slot = placement_slot(hotplug->instance->nics[index].hvinfo);
    bool link_down = hotplug->instance->nics[index].link_down;
    AUTO_JSON json_t *wanted = memory_json(json_deep_copy(object));

    json_object_set_new(wanted, "slot", memory_json(json_integer(slot)));
    if (hotplug_remove_nic(hotplug, index, wanted, error) < 0)
        return hotplug->keep ? tell_how_to_plug(hotplug, wanted, error) : -1;
    free(hotplug->before);
    hotplug->before = runtime_text(hotplug->runtime);
    hotplug->before_length = strlen(hotplug->before);
    if (hotplug_plug_nic(hotplug, wanted, index, link_down, error) == 0)
        return 0;
    error->status = STATUS_INCOMPLETE;
    return tell_how_to_plug(hotplug, wanted, error);
}

/* The removal, and then the addition as it will be when the NIC is away. */
static int plan_replug(struct hotplug *hotplug, size_t index, const json_t *object,
                       struct error *error)
{
    AUTO_JSON json_t *wanted = memory_json(json_deep_copy(object));

    bool link_down = hotplug->instance->nics[index].link_down;

    hotplug->vacated = placement_slot(hotplug->instance->nics[index].hvinfo);
    json_object_set_new(wanted, "slot", memory_json(json_integer(hotplug->vacated)));
    if (hotplug_remove_nic(hotplug, index, wanted, error) < 0)
        return -1;
    reconcile_drop_nic(hotplug->runtime, index); /* of the copy in memory */
    return hotplug_plug_nic(hotplug, wanted, index, link_down, error);
}

static int plan_change(struct hotplug *hotplug, size_t index, const json_t *object,
                       struct error *error)
{
    const struct nic *old = &hotplug->instance->nics[index];
    AUTO_MESSAGES struct messages problems = {0};
    struct nic new = {0};

    if (nic_parse(object, "mod-nic", NULL, &new, &problems) < 0)
        return messages_error(&problems, STATUS_USAGE, error);
    AUTO_FREE char *uuid = memory_copy(new.uuid);
    bool again = strcmp(new.mac, old->mac) != 0;
    if (!again)
        plan_rewiring(hotplug, old, &new);
    nic_release(&new);
    if (again && plan_replug(hotplug, index, object, error) < 0)
        return -1;
    hotplug_detail(hotplug, "uuid", json_string(uuid));
    hotplug_detail(hotplug, "index", json_integer((json_int_t)index));
    hotplug_text(hotplug, memory_format("would change NIC %s: %s", uuid,
                                        again ? "unplug it and plug it again in its slot"
                                              : "the guest keeps its device"));
    return 0;
}

/* As it is to be, beside the instance's other devices: told before the NIC is taken away from the guest. */
static void check_among_others(struct hotplug *hotplug, size_t index, const struct nic *changed,
                               struct messages *problems)
{
    struct nic *place = &hotplug->instance->nics[index], now = *place;

    *place = *changed;
    instance_check_unique(hotplug->instance, hotplug->name, problems);
    *place = now;
}

/* An earlier mod-nic has taken it from the guest and was killed before it plugged it again. */
static bool is_away(const struct hotplug *hotplug)
{
    const struct instance *instance = hotplug->instance;

    for (size_t i = 0; i < instance->nic_count; i++)
        if (hotplug->again != NULL && strcmp(instance->nics[i].uuid, hotplug->subject_uuid) == 0)
            return false;
    return hotplug->again != NULL;
}

static int plug_away(struct hotplug *hotplug, const json_t *changes, struct error *error)
{
    AUTO_JSON json_t *object = changed_object(hotplug->again, changes);

    json_object_set_new(object, "uuid", memory_json(json_string(hotplug->subject_uuid)));
    if (hotplug_plug_nic(hotplug, object, hotplug->again_index, hotplug->again_down, error) < 0) {
        const json_t *good = error->status == STATUS_USAGE ? hotplug->again : object;
        error->status = STATUS_INCOMPLETE;
        return tell_how_to_plug(hotplug, good, error);
    }
    hotplug_text(hotplug,
                 memory_format("NIC %s changed: plugged again in its slot", hotplug->subject_uuid));
    return 0;
}

/* An object as it stands on standard input may have anything in these places. */
static int check_changes(const json_t *changes, struct error *error)
{
    const json_t *params = json_member(changes, "nicparams");

    if (params != NULL && !json_is_object(params))
        return error_set(error, STATUS_USAGE, "nicparams: must be an object");
    return 0;
}

int hotplug_mod_nic(struct hotplug *hotplug, struct error *error)
{
    AUTO_MESSAGES struct messages problems = {0};
    AUTO_JSON json_t *changes = hotplug_object(hotplug, 1, hotplug_mod_nic_keys, NULL, error);

    if (changes == NULL || check_changes(changes, error) < 0)
        return -1;
    if (is_away(hotplug))
        return plug_away(hotplug, changes, error);
    int index = hotplug_find_nic(hotplug, hotplug->arguments[0], error);
    if (index < 0)
        return -1;
    const struct nic *nic = &hotplug->instance->nics[index];
    AUTO_FREE char *uuid = memory_copy(nic->uuid);
    AUTO_JSON json_t *object = changed_object(nic->object, changes);
    struct nic checked = {0};
    if (nic_parse(object, "mod-nic", NULL, &checked, &problems) < 0)
        return messages_error(&problems, STATUS_USAGE, error);
    network_check(&checked, hotplug->node->path, "mod-nic", &problems);
    check_among_others(hotplug, (size_t)index, &checked, &problems);
    bool guest_sees = strcmp(checked.mac, nic->mac) != 0;
    json_decref(object);
    object = memory_json(json_deep_copy(checked.object));
    nic_release(&checked);
    if (problems.count > 0)
        return messages_error(&problems, STATUS_USAGE, error);
    if (strcmp(json_text(object, "uuid"), uuid) != 0)
        return error_set(error, STATUS_USAGE, "uuid: can't be changed");
    if (hotplug->options->dry_run)
        return plan_change(hotplug, (size_t)index, object, error);
    if (guest_sees ? replug(hotplug, (size_t)index, object, error) < 0
                   : rewire(hotplug, (size_t)index, object, error) < 0)
        return error_prefix(error, "change NIC %s", uuid);
    hotplug_detail(hotplug, "uuid", json_string(uuid));
    hotplug_detail(hotplug, "index", json_integer((json_int_t)index));
    hotplug_text(hotplug, memory_format("NIC %s changed: %s", uuid,
                                        guest_sees ? "unplugged and plugged again in its slot"
                                                   : "the guest kept its device"));
    return 0;
}
