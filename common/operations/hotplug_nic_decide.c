/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>

#include "hotplug_nic.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/host/network.h"
#include "kvm/state/hvparams.h"
#include "kvm/state/placement.h"

const char *const hotplug_nic_keys[] = {"mode", "link", "vlan", "mac",    "ip", "network",
                                        "name", "uuid", "slot", "queues", NULL};
static const char *const number_keys[] = {"slot", "queues", NULL};
static const char *const nicparam_keys[] = {"mode", "link", "vlan", NULL};

struct nic *nic_adding_nic(const struct nic_adding *adding)
{
    return &adding->plug.hotplug->instance->nics[adding->plug.index];
}

json_t *nic_adding_read(const struct hotplug *hotplug, struct error *error)
{
    return hotplug_object(hotplug, 0, hotplug_nic_keys, number_keys, error);
}

/* mode, link and vlan may stand at the top, as a person writes them. */
void hotplug_move_nicparams(json_t *object)
{
    hotplug_move_keys(object, nicparam_keys, "nicparams");
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

static int place(struct plug *plug, int64_t wanted, struct error *error)
{
    const struct instance *instance = plug->hotplug->instance;
    const char *driver = placement_nic_driver(instance);

    if (driver == NULL || placement_is_isa(driver))
        return error_set(error, STATUS_STATE, "nic_type \"%s\" can't be plugged",
                         hvparams_text(instance->hvparams, "nic_type"));
    return plug_choose_slot(plug, "nic", driver, wanted, error);
}

static int decide_queues(struct nic_adding *adding, int64_t asked, struct error *error)
{
    const json_t *hvparams = adding->plug.hotplug->instance->hvparams;
    bool virtio =
        strcmp(placement_nic_driver(adding->plug.hotplug->instance), "virtio-net-pci") == 0;

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

/* From the end to where one was that is plugged again. */
static void move_to(struct instance *instance, size_t index)
{
    struct nic nic = instance->nics[instance->nic_count - 1];

    memmove(&instance->nics[index + 1], &instance->nics[index],
            (instance->nic_count - 1 - index) * sizeof(nic));
    instance->nics[index] = nic;
}

int nic_adding_decide(struct nic_adding *adding, const json_t *given, size_t index,
                      struct error *error)
{
    struct plug *plug = &adding->plug;
    struct hotplug *hotplug = plug->hotplug;
    AUTO_JSON json_t *object = memory_json(json_deep_copy(given));
    int64_t wanted, queues = json_number(object, "queues", -1);

    if (plug_read_slot(object, &wanted, error) < 0)
        return -1;
    const json_t *value = json_member(object, "queues");
    if (value != NULL && !json_is_integer(value))
        return error_set(error, STATUS_USAGE, "queues: must be a number");
    json_object_del(object, "queues");
    hotplug_move_nicparams(object);
    if (hotplug_slots(hotplug, &plug->slots, error) < 0 || append_nic(hotplug, object, error) < 0)
        return -1;
    plug->index = index < hotplug->instance->nic_count ? index : hotplug->instance->nic_count - 1;
    move_to(hotplug->instance, plug->index);
    plug->object = nic_adding_nic(adding)->object;
    if (place(plug, wanted, error) < 0)
        return -1;
    return decide_queues(adding, queues, error);
}
