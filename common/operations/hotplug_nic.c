/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>

#include "hotplug_nic.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/host/network.h"
#include "kvm/operations/reconcile.h"
#include "kvm/qemu/device.h"
#include "kvm/qemu/events.h"
#include "kvm/state/hvparams.h"

static json_t *frontend(const struct plug *plug)
{
    const struct nic_adding *adding = (const void *)plug;
    const struct instance *instance = plug->hotplug->instance;

    return device_nic(&instance->nics[plug->index], instance, adding->queues, 0,
                      hvparams_truth(instance->hvparams, "use_chroot"));
}

static void refresh(struct plug *plug)
{
    nic_refresh(&plug->hotplug->instance->nics[plug->index]);
}

/* A NIC that is plugged again keeps the link that the guest saw. */
static int hold_link(void *plan, struct error *error)
{
    const struct nic_adding *adding = plan;
    const struct nic *nic = nic_adding_nic(adding);

    if (!nic->link_down)
        return 0;
    if (hotplug_set(adding->plug.hotplug, "set_link", device_link(nic, false), error) < 0)
        return -1;
    events_note_link(adding->plug.hotplug->rundir, adding->plug.hotplug->name,
                     json_text(nic->hvinfo, "id"), false);
    return 0;
}

static const struct step steps[] = {
    {"record the intent in the runtime", plug_record, plug_drop, false},
    {"make the tap and set up its network", nic_adding_bring_tap_up, nic_adding_take_tap_down,
     false},
    {"pass its descriptors (getfd)", nic_adding_pass_descriptors, nic_adding_take_descriptors_back,
     false},
    {"add the netdev (netdev_add)", nic_adding_add_netdev, nic_adding_remove_netdev, false},
    {"plug the device (device_add)", plug_device, plug_unplug, false},
    {"keep its link as it was (set_link)", hold_link, NULL, false},
    {"see it in QEMU", plug_see, NULL, false},
    {"record it as present", plug_record_present, NULL, false},
};

static void tell(const struct nic_adding *adding)
{
    struct hotplug *hotplug = adding->plug.hotplug;

    plug_tell(&adding->plug);
    hotplug_detail(hotplug, "mac", json_string(nic_adding_nic(adding)->mac));
    if (adding->tap_name[0] != '\0')
        hotplug_detail(hotplug, "tap", json_string(adding->tap_name));
}

static void tell_plan(const struct nic_adding *adding)
{
    struct hotplug *hotplug = adding->plug.hotplug;

    tell(adding);
    hotplug_plan_steps(hotplug, steps, COUNT(steps));
    nic_adding_plan(adding);
    hotplug_plan_command(hotplug, "device_add", frontend(&adding->plug));
    if (nic_adding_nic(adding)->link_down)
        hotplug_plan_command(hotplug, "set_link", device_link(nic_adding_nic(adding), false));
    hotplug_plan_runtime(hotplug);
}

static void begin(struct nic_adding *adding, struct hotplug *hotplug)
{
    *adding =
        (struct nic_adding){.plug = {.hotplug = hotplug, .frontend = frontend, .refresh = refresh}};
    for (size_t i = 0; i < TAP_QUEUES_MAX; i++)
        adding->vhost[i] = adding->tap.fds[i] = -1;
}

static int add(struct nic_adding *adding, struct error *error)
{
    const struct hotplug *hotplug = adding->plug.hotplug;
    int result = transaction_run(steps, COUNT(steps), adding, hotplug->options->observe, error);

    nic_adding_close(adding);
    if (result < 0)
        return error_prefix(error, "add NIC %s", plug_uuid(&adding->plug));
    tell(adding);
    return 0;
}

int hotplug_plug_nic(struct hotplug *hotplug, const json_t *object, size_t index, bool link_down,
                     struct error *error)
{
    struct nic_adding adding;

    begin(&adding, hotplug);
    if (nic_adding_decide(&adding, object, index, error) < 0)
        return -1;
    nic_adding_nic(&adding)->link_down = link_down;
    adding.plug.again = object;
    if (!hotplug->options->dry_run)
        return add(&adding, error);
    tell_plan(&adding);
    return 0;
}

static bool is_there(const struct hotplug *hotplug, const char *uuid)
{
    const struct instance *instance = hotplug->instance;

    for (size_t i = 0; uuid != NULL && i < instance->nic_count; i++)
        if (strcmp(instance->nics[i].uuid, uuid) == 0)
            return runtime_device_state(hotplug->runtime, uuid) == DEVICE_PRESENT;
    return false;
}

int hotplug_add_nic(struct hotplug *hotplug, struct error *error)
{
    AUTO_JSON json_t *given = nic_adding_read(hotplug, error);
    struct nic_adding adding;

    begin(&adding, hotplug);
    if (given == NULL)
        return -1;
    if (is_there(hotplug, json_text(given, "uuid"))) {
        hotplug_text(hotplug, memory_format("NIC %s is there already", json_text(given, "uuid")));
        return 0;
    }
    if (nic_adding_decide(&adding, given, SIZE_MAX, error) < 0)
        return -1;
    if (hotplug->options->dry_run) {
        tell_plan(&adding);
        hotplug_text(hotplug, memory_format("would add NIC %s", plug_uuid(&adding.plug)));
        return 0;
    }
    if (add(&adding, error) < 0)
        return -1;
    hotplug_text(hotplug, memory_format("NIC %s added: %s, slot %d, MAC %s, tap %s",
                                        plug_uuid(&adding.plug), adding.plug.id, adding.plug.slot,
                                        nic_adding_nic(&adding)->mac, adding.tap_name));
    return 0;
}

/* ---- removal ---- */

static int remove_nic_remains(struct hotplug *hotplug, const struct removal *removal,
                              struct error *error)
{
    return reconcile_remove_nic_backend(hotplug->rundir, hotplug->node, hotplug->runtime,
                                        removal->index, hotplug->qmp, hotplug->deadline, error);
}

static void plan_remains(struct hotplug *hotplug, const struct removal *removal)
{
    const struct nic *nic = &hotplug->instance->nics[removal->index];
    char tap[TAP_NAME_SIZE];

    hotplug_plan_command(hotplug, "netdev_del", memory_json(json_pack("{s:s}", "id", removal->id)));
    if (network_read_tap(hotplug->rundir, hotplug->name, nic->uuid, tap))
        hotplug_plan_tap(hotplug, network_index(hotplug->rundir, hotplug->name, tap), nic->uuid);
    hotplug_plan_hook(hotplug, network_describe_down(nic, hotplug->node->path));
}

int hotplug_remove_nic(struct hotplug *hotplug, size_t index, const json_t *again,
                       struct error *error)
{
    const struct nic *nic = &hotplug->instance->nics[index];
    AUTO_FREE char *uuid = memory_copy(nic->uuid);
    AUTO_FREE char *id = memory_copy(json_text(nic->hvinfo, "id"));
    AUTO_FREE char *what = memory_format("NIC %s", uuid);
    struct removal removal = {.what = what,
                              .uuid = uuid,
                              .id = id,
                              .index = index,
                              .again = again,
                              .remains = remove_nic_remains,
                              .plan = plan_remains,
                              .drop = reconcile_drop_nic};

    if (id == NULL)
        return error_set(error, STATUS_STATE, "%s: its device id is not known", what);
    if (hotplug_remove(hotplug, &removal, error) < 0)
        return -1;
    hotplug_detail(hotplug, "uuid", json_string(uuid));
    hotplug_detail(hotplug, "device", json_string(id));
    return 0;
}

int hotplug_del_nic(struct hotplug *hotplug, struct error *error)
{
    if (hotplug_is_gone(hotplug, "NIC", hotplug->arguments[0])) /* and is not plugged again */
        return hotplug->again != NULL ? hotplug_commit(hotplug, error) : 0;
    int index = hotplug_find_nic(hotplug, hotplug->arguments[0], error);
    if (index < 0)
        return -1;
    AUTO_FREE char *uuid = memory_copy(hotplug->instance->nics[index].uuid);
    if (hotplug_remove_nic(hotplug, (size_t)index, NULL, error) < 0)
        return -1;
    if (!hotplug->options->dry_run)
        hotplug_text(hotplug, memory_format("NIC %s removed", uuid));
    return 0;
}
