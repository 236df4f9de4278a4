/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>

#include "hotplug_private.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/transaction.h"
#include "kvm/host/network.h"
#include "kvm/host/tap.h"
#include "kvm/operations/reconcile.h"
#include "kvm/qemu/device.h"
#include "kvm/qemu/peripheral.h"
#include "kvm/state/hvparams.h"
#include "kvm/state/placement.h"

const char *const hotplug_nic_keys[] = {"mode", "link", "vlan", "mac",    "ip", "network",
                                        "name", "uuid", "slot", "queues", NULL};
static const char *const number_keys[] = {"slot", "queues", NULL};
static const char *const nicparam_keys[] = {"mode", "link", "vlan", NULL};

struct adding {
    struct hotplug *hotplug;
    size_t index;     /* of the new NIC in the instance */
    size_t tap_index; /* of its tap file */
    char tap_name[TAP_NAME_SIZE];
    struct tap tap;
    int vhost[TAP_QUEUES_MAX];
    size_t queues;
    bool want_vhost;
    size_t passed; /* queues of which the descriptors were passed */
    struct plug plug;
};

static struct nic *new_nic(const struct adding *adding)
{
    return &adding->hotplug->instance->nics[adding->index];
}

/* ---- deciding ---- */

/* mode, link and vlan may stand at the top, as a person writes them. */
void hotplug_move_nicparams(json_t *object)
{
    json_t *params = json_member(object, "nicparams");

    for (int i = 0; nicparam_keys[i] != NULL; i++) {
        json_t *value = json_object_get(object, nicparam_keys[i]);
        if (value == NULL)
            continue;
        if (!json_is_object(params)) {
            params = memory_json(json_object());
            json_object_set_new(object, "nicparams", params);
        }
        json_object_set(params, nicparam_keys[i], value);
        json_object_del(object, nicparam_keys[i]);
    }
}

static int append_nic(struct hotplug *hotplug, const json_t *object, struct error *error)
{
    struct instance *instance = hotplug->instance;
    AUTO_MESSAGES struct messages problems = {0};
    struct nic nic = {0};

    if (nic_parse(object, "add-nic", json_member(hotplug->node->defaults, "nicparams"), &nic,
                  &problems) < 0)
        return messages_error(&problems, STATUS_USAGE, error);
    instance->nics =
        memory_resize(instance->nics, instance->nic_count + 2, sizeof(*instance->nics));
    instance->nics[instance->nic_count++] = nic;
    instance_check_unique(instance, hotplug->name, &problems);
    network_check(&nic, hotplug->node->path, "add-nic", &problems);
    return problems.count > 0 ? messages_error(&problems, STATUS_USAGE, error) : 0;
}

static int place(struct adding *adding, int64_t wanted, struct error *error)
{
    const struct instance *instance = adding->hotplug->instance;
    struct plug *plug = &adding->plug;
    const char *driver = placement_nic_driver(instance);
    char id[32];

    plug->slot_fixed = wanted >= 0;
    plug->slot = (int)wanted;
    if (driver == NULL)
        return error_set(error, STATUS_STATE, "nic_type \"%s\" can't be plugged",
                         hvparams_text(instance->hvparams, "nic_type"));
    if (plug->slot_fixed ? slots_reserve(&plug->slots, plug->slot, error) < 0
                         : slots_take(&plug->slots, plug->slots.first, &plug->slot, error) < 0)
        return -1;
    placement_id("nic", new_nic(adding)->uuid, id);
    json_object_set_new(new_nic(adding)->object, "hvinfo",
                        placement_hvinfo(instance, driver, id, plug->slot));
    nic_refresh(new_nic(adding));
    plug->id = json_text(new_nic(adding)->hvinfo, "id");
    return 0;
}

static int decide_queues(struct adding *adding, int64_t asked, struct error *error)
{
    const json_t *hvparams = adding->hotplug->instance->hvparams;
    bool virtio = strcmp(placement_nic_driver(adding->hotplug->instance), "virtio-net-pci") == 0;

    if (asked > TAP_QUEUES_MAX || asked == 0 || (asked > 1 && !virtio))
        return error_set(error, STATUS_USAGE,
                         "queues: must be 1 to %d, and 1 for a NIC that is not paravirtual "
                         "(current value: %lld)",
                         TAP_QUEUES_MAX, (long long)asked);
    adding->queues = asked > 0 ? (size_t)asked
                     : virtio  ? (size_t)hvparams_number(hvparams, "virtio_net_queues")
                               : 1;
    adding->want_vhost = virtio && hvparams_truth(hvparams, "vhost_net");
    return 0;
}

static int decide(struct adding *adding, const json_t *given, struct error *error)
{
    struct hotplug *hotplug = adding->hotplug;
    AUTO_JSON json_t *object = memory_json(json_deep_copy(given));
    int64_t wanted = json_number(object, "slot", -1), queues = json_number(object, "queues", -1);

    for (int i = 0; number_keys[i] != NULL; i++) {
        const json_t *value = json_member(object, number_keys[i]);
        if (value != NULL && !json_is_integer(value))
            return error_set(error, STATUS_USAGE, "%s: must be a number", number_keys[i]);
        json_object_del(object, number_keys[i]);
    }
    hotplug_move_nicparams(object);
    if (hotplug_slots(hotplug, &adding->plug.slots, error) < 0 ||
        append_nic(hotplug, object, error) < 0)
        return -1;
    adding->index = hotplug->instance->nic_count - 1;
    if (place(adding, wanted, error) < 0)
        return -1;
    return decide_queues(adding, queues, error);
}

/* ---- the steps ---- */

static int record_adding(void *plan, struct error *error)
{
    struct adding *adding = plan;

    runtime_set_device_state(adding->hotplug->runtime, new_nic(adding)->uuid, DEVICE_ADDING);
    return hotplug_commit(adding->hotplug, error);
}

static int drop_adding(void *plan, struct error *error)
{
    struct adding *adding = plan;
    return hotplug_restore(adding->hotplug, error);
}

static int take_tap_down(void *plan, struct error *error)
{
    struct adding *adding = plan;
    struct hotplug *hotplug = adding->hotplug;
    const struct nic *nic = new_nic(adding);

    if (hotplug->unknown || hotplug->keep)
        return 0;
    hotplug_recover(hotplug, NULL); /* for the time */
    int result = network_ifdown(hotplug->name, nic, adding->tap_index, adding->tap_name, false,
                                hotplug->node->path, hotplug->deadline, error);
    tap_close(&adding->tap);
    if (result == 0)
        result =
            network_remove_tap(hotplug->rundir, hotplug->name, adding->tap_index, nic->uuid, error);
    return result;
}

static int open_vhost(struct adding *adding, struct error *error)
{
    for (size_t i = 0; adding->want_vhost && i < adding->queues; i++) {
        adding->vhost[i] = tap_open_vhost();
        if (adding->vhost[i] < 0 && i > 0)
            return error_errno(error, STATUS_FAILED, "/dev/vhost-net");
        adding->want_vhost = adding->vhost[i] >= 0;
        if (!adding->want_vhost)
            messages_add(&adding->hotplug->result->warnings,
                         "vhost_net is set but /dev/vhost-net can't be opened: the NIC runs "
                         "without it");
    }
    return 0;
}

static int bring_tap_up(void *plan, struct error *error)
{
    struct adding *adding = plan;
    struct hotplug *hotplug = adding->hotplug;
    const struct nic *nic = new_nic(adding);
    bool virtio = strcmp(json_text(nic->hvinfo, "driver"), "virtio-net-pci") == 0;

    adding->tap_index = network_free_index(hotplug->rundir, hotplug->name);
    if (tap_make(nic->uuid, virtio && hvparams_truth(hotplug->instance->hvparams, "vnet_hdr"),
                 adding->queues, &adding->tap, error) < 0)
        return -1;
    memcpy(adding->tap_name, adding->tap.name, TAP_NAME_SIZE);
    if (network_write_tap(hotplug->rundir, hotplug->name, adding->tap_index, nic->uuid,
                          adding->tap.name, error) == 0 &&
        open_vhost(adding, error) == 0 &&
        network_ifup(hotplug->instance, adding->index, adding->tap.name, hotplug->node->path,
                     hotplug->deadline, error) == 0)
        return 0;
    struct error second = {0};
    if (take_tap_down(adding, &second) < 0)
        error_append(error, "; %s", second.text);
    return -1;
}

static int pass_one(struct adding *adding, const char *kind, size_t queue, int descriptor,
                    struct error *error)
{
    char name[PERIPHERAL_NAME_SIZE];
    struct hotplug *hotplug = adding->hotplug;

    peripheral_fd_name(name, kind, queue);
    json_t *arguments = memory_json(json_pack("{s:s}", "fdname", name));
    return qmp_call_fds(hotplug->qmp, "getfd", arguments, &descriptor, 1, hotplug->deadline, NULL,
                        error) == QMP_DONE
               ? 0
               : -1;
}

/* netdev_add took them when it succeeded: then there is nothing to close, which is fine. */
static int take_descriptors_back(void *plan, struct error *error)
{
    struct adding *adding = plan;
    struct hotplug *hotplug = adding->hotplug;
    int ready = hotplug_begin_undo(hotplug, error);

    if (ready <= 0)
        return ready;
    return hotplug_end_undo(
        hotplug, peripheral_close_names(hotplug->qmp, adding->passed, hotplug->deadline, error));
}

static int pass_descriptors(void *plan, struct error *error)
{
    struct adding *adding = plan;

    for (size_t i = 0; i < adding->queues; i++) {
        adding->passed = i + 1;
        if (pass_one(adding, "tap", i, adding->tap.fds[i], error) == 0 &&
            (!adding->want_vhost || pass_one(adding, "vhost", i, adding->vhost[i], error) == 0))
            continue;
        return hotplug_failed(take_descriptors_back, plan, error);
    }
    return 0;
}

static json_t *netdev_of(const struct adding *adding)
{
    char names[TAP_QUEUES_MAX][PERIPHERAL_NAME_SIZE];
    char vhost_names[TAP_QUEUES_MAX][PERIPHERAL_NAME_SIZE];
    const char *list[TAP_QUEUES_MAX], *vhost_list[TAP_QUEUES_MAX];

    for (size_t i = 0; i < adding->queues; i++) {
        peripheral_fd_name(names[i], "tap", i);
        peripheral_fd_name(vhost_names[i], "vhost", i);
        list[i] = names[i];
        vhost_list[i] = vhost_names[i];
    }
    return device_netdev(new_nic(adding), list, adding->want_vhost ? vhost_list : NULL,
                         adding->queues);
}

static int remove_netdev(void *plan, struct error *error)
{
    struct adding *adding = plan;

    struct hotplug *hotplug = adding->hotplug;
    int ready = hotplug_begin_undo(hotplug, error);

    if (ready <= 0)
        return ready;
    return hotplug_end_undo(
        hotplug, peripheral_remove_netdev(hotplug->qmp, adding->plug.id, hotplug->deadline, error));
}

static int add_netdev(void *plan, struct error *error)
{
    struct adding *adding = plan;
    enum qmp_outcome outcome =
        hotplug_call(adding->hotplug, "netdev_add", netdev_of(adding), error);

    /* There is no way to ask for a netdev: after a lost reply it is removed, which is right in both cases. */
    if (outcome == QMP_UNKNOWN)
        return hotplug_failed(remove_netdev, plan, error);
    return outcome == QMP_DONE ? 0 : -1;
}

static json_t *build_frontend(const struct hotplug *hotplug, const struct plug *plug)
{
    const struct adding *adding = plug->device;
    return device_nic(new_nic(adding), hotplug->instance, adding->queues, 0,
                      hvparams_truth(hotplug->instance->hvparams, "use_chroot"));
}

static void place_frontend(struct hotplug *hotplug, struct plug *plug)
{
    struct adding *adding = plug->device;
    struct nic *nic = new_nic(adding);
    AUTO_FREE char *driver = memory_copy(json_text(nic->hvinfo, "driver"));
    AUTO_FREE char *id = memory_copy(plug->id);

    json_object_set_new(nic->object, "hvinfo",
                        placement_hvinfo(hotplug->instance, driver, id, plug->slot));
    nic_refresh(nic);
    plug->id = json_text(nic->hvinfo, "id");
}

static int plug_device(void *plan, struct error *error)
{
    struct adding *adding = plan;
    return hotplug_plug(adding->hotplug, &adding->plug, error);
}

static int unplug_device(void *plan, struct error *error)
{
    struct adding *adding = plan;
    return hotplug_unplug_again(adding->hotplug, adding->plug.id, error);
}

static int see_device(void *plan, struct error *error)
{
    struct adding *adding = plan;
    return hotplug_see(adding->hotplug, adding->plug.id, error);
}

static int record_present(void *plan, struct error *error)
{
    struct adding *adding = plan;

    runtime_set_device_state(adding->hotplug->runtime, new_nic(adding)->uuid, DEVICE_PRESENT);
    return hotplug_commit(adding->hotplug, error);
}

static const struct step steps[] = {
    {"record the intent in the runtime", record_adding, drop_adding, false},
    {"make the tap and set up its network", bring_tap_up, take_tap_down, false},
    {"pass its descriptors (getfd)", pass_descriptors, take_descriptors_back, false},
    {"add the netdev (netdev_add)", add_netdev, remove_netdev, false},
    {"plug the device (device_add)", plug_device, unplug_device, false},
    {"see it in QEMU", see_device, NULL, false},
    {"record it as present", record_present, NULL, false},
};

static void tell(struct hotplug *hotplug, const struct adding *adding)
{
    const struct nic *nic = new_nic(adding);

    hotplug_detail(hotplug, "uuid", json_string(nic->uuid));
    hotplug_detail(hotplug, "index", json_integer((json_int_t)adding->index));
    hotplug_detail(hotplug, "mac", json_string(nic->mac));
    hotplug_detail(hotplug, "device", json_string(adding->plug.id));
    hotplug_detail(hotplug, "slot", json_integer(adding->plug.slot));
    if (adding->tap_name[0] != '\0')
        hotplug_detail(hotplug, "tap", json_string(adding->tap_name));
}

static void tell_descriptors(const struct adding *adding, json_t *commands)
{
    const char *const kinds[] = {"tap", "vhost"};
    char name[PERIPHERAL_NAME_SIZE];

    for (size_t i = 0; i < adding->queues; i++) {
        for (size_t kind = 0; kind < (adding->want_vhost ? COUNT(kinds) : 1); kind++) {
            peripheral_fd_name(name, kinds[kind], i);
            json_array_append_new(commands,
                                  memory_json(json_pack("{s:s, s:{s:s}}", "execute", "getfd",
                                                        "arguments", "fdname", name)));
        }
    }
}

static void tell_plan(struct hotplug *hotplug, const struct adding *adding)
{
    json_t *plan = memory_json(json_array()), *commands = memory_json(json_array());
    AUTO_FREE char *hook = network_describe(new_nic(adding), hotplug->node->path);

    for (size_t i = 0; i < COUNT(steps); i++)
        json_array_append_new(plan, memory_json(json_string(steps[i].what)));
    tell(hotplug, adding);
    hotplug_detail(hotplug, "steps", plan);
    hotplug_detail(hotplug, "hooks", json_pack("[s]", hook));
    tell_descriptors(adding, commands);
    json_array_append_new(commands, memory_json(json_pack("{s:s, s:o}", "execute", "netdev_add",
                                                          "arguments", netdev_of(adding))));
    json_array_append_new(commands,
                          memory_json(json_pack("{s:s, s:o}", "execute", "device_add", "arguments",
                                                build_frontend(hotplug, &adding->plug))));
    hotplug_detail(hotplug, "commands", commands);
}

static void close_own(struct adding *adding)
{
    tap_close(&adding->tap);
    for (size_t i = 0; i < TAP_QUEUES_MAX; i++)
        memory_close(&adding->vhost[i]);
}

static void begin(struct adding *adding, struct hotplug *hotplug)
{
    *adding = (struct adding){.hotplug = hotplug,
                              .plug = {.build = build_frontend, .place = place_frontend}};
    adding->plug.device = adding;
    for (size_t i = 0; i < TAP_QUEUES_MAX; i++)
        adding->vhost[i] = adding->tap.fds[i] = -1;
}

static int add(struct adding *adding, struct error *error)
{
    struct hotplug *hotplug = adding->hotplug;
    int result = transaction_run(steps, COUNT(steps), adding, hotplug->options->observe, error);

    close_own(adding);
    if (result < 0)
        return error_prefix(error, "add NIC %s", new_nic(adding)->uuid);
    tell(hotplug, adding);
    return 0;
}

int hotplug_plug_nic(struct hotplug *hotplug, const json_t *object, struct error *error)
{
    struct adding adding;

    begin(&adding, hotplug);
    return decide(&adding, object, error) == 0 && add(&adding, error) == 0 ? 0 : -1;
}

int hotplug_add_nic(struct hotplug *hotplug, struct error *error)
{
    AUTO_JSON json_t *given = hotplug_object(hotplug, 0, hotplug_nic_keys, number_keys, error);
    struct adding adding;

    begin(&adding, hotplug);
    if (given == NULL)
        return -1;
    const char *uuid = json_text(given, "uuid");
    for (size_t i = 0; uuid != NULL && i < hotplug->instance->nic_count; i++) {
        if (strcmp(hotplug->instance->nics[i].uuid, uuid) == 0 &&
            runtime_device_state(hotplug->runtime, uuid) == DEVICE_PRESENT) {
            hotplug_text(hotplug, memory_format("NIC %s is there already", uuid));
            return 0;
        }
    }
    if (decide(&adding, given, error) < 0)
        return -1;
    if (hotplug->options->dry_run) {
        tell_plan(hotplug, &adding);
        hotplug_text(hotplug, memory_format("would add NIC %s", new_nic(&adding)->uuid));
        return 0;
    }
    if (add(&adding, error) < 0)
        return -1;
    hotplug_text(hotplug, memory_format("NIC %s added: %s, slot %d, MAC %s, tap %s",
                                        new_nic(&adding)->uuid, adding.plug.id, adding.plug.slot,
                                        new_nic(&adding)->mac, adding.tap_name));
    return 0;
}

/* ---- removal and change ---- */

static int remove_nic_remains(struct hotplug *hotplug, const struct removal *removal,
                              struct error *error)
{
    return reconcile_remove_nic_backend(hotplug->rundir, hotplug->node, hotplug->runtime,
                                        removal->index, hotplug->qmp, hotplug->deadline, error);
}

int hotplug_remove_nic(struct hotplug *hotplug, size_t index, struct error *error)
{
    const struct nic *nic = &hotplug->instance->nics[index];
    AUTO_FREE char *uuid = memory_copy(nic->uuid);
    AUTO_FREE char *id = memory_copy(json_text(nic->hvinfo, "id"));
    AUTO_FREE char *what = memory_format("NIC %s", uuid);
    struct removal removal = {.what = what,
                              .uuid = uuid,
                              .id = id,
                              .index = index,
                              .remains = remove_nic_remains,
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
    if (hotplug_is_gone(hotplug, "NIC", hotplug->arguments[0]))
        return 0;
    int index = hotplug_find_nic(hotplug, hotplug->arguments[0], error);
    if (index < 0)
        return -1;
    AUTO_FREE char *uuid = memory_copy(hotplug->instance->nics[index].uuid);
    if (hotplug_remove_nic(hotplug, (size_t)index, error) < 0)
        return -1;
    if (!hotplug->options->dry_run)
        hotplug_text(hotplug, memory_format("NIC %s removed", uuid));
    return 0;
}
