/* SPDX-License-Identifier: BSD-2-Clause */
/* The NIC's side on the node, and how QEMU gets it: tap, network set-up, descriptors, netdev. */
#include <string.h>

#include "hotplug_nic.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/host/network.h"
#include "kvm/qemu/device.h"
#include "kvm/qemu/peripheral.h"
#include "kvm/state/hvparams.h"

int nic_adding_take_tap_down(void *plan, struct error *error)
{
    struct nic_adding *adding = plan;
    struct hotplug *hotplug = adding->plug.hotplug;
    const struct nic *nic = nic_adding_nic(adding);

    if (hotplug->unknown || hotplug->keep)
        return 0;
    hotplug_recover(hotplug, NULL); /* for the time */
    int result = network_ifdown(hotplug->instance, nic, adding->tap_index, adding->tap_name, false,
                                hotplug->node->path, hotplug->deadline, error);
    tap_close(&adding->tap);
    if (result == 0)
        result =
            network_remove_tap(hotplug->rundir, hotplug->name, adding->tap_index, nic->uuid, error);
    return result;
}

static int open_vhost(struct nic_adding *adding, struct error *error)
{
    for (size_t i = 0; adding->want_vhost && i < adding->queues; i++) {
        adding->vhost[i] = tap_open_vhost();
        if (adding->vhost[i] < 0 && i > 0)
            return error_errno(error, STATUS_FAILED, "/dev/vhost-net");
        adding->want_vhost = adding->vhost[i] >= 0;
        if (!adding->want_vhost)
            messages_add(&adding->plug.hotplug->result->warnings,
                         "vhost_net is set but /dev/vhost-net can't be opened: the NIC runs "
                         "without it");
    }
    return 0;
}

int nic_adding_bring_tap_up(void *plan, struct error *error)
{
    struct nic_adding *adding = plan;
    struct hotplug *hotplug = adding->plug.hotplug;
    const struct nic *nic = nic_adding_nic(adding);
    bool virtio = strcmp(json_text(nic->hvinfo, "driver"), "virtio-net-pci") == 0;

    adding->tap_index = network_free_index(hotplug->rundir, hotplug->name);
    if (tap_make(nic->uuid, virtio && hvparams_truth(hotplug->instance->hvparams, "vnet_hdr"),
                 adding->queues, &adding->tap, error) < 0)
        return -1;
    memcpy(adding->tap_name, adding->tap.name, TAP_NAME_SIZE);
    if (network_write_tap(hotplug->rundir, hotplug->name, adding->tap_index, nic->uuid,
                          adding->tap.name, error) == 0 &&
        open_vhost(adding, error) == 0 &&
        network_ifup(hotplug->instance, nic, adding->tap_index, adding->tap.name,
                     hotplug->node->path, hotplug->deadline, error) == 0)
        return 0;
    struct error second = {0};
    if (nic_adding_take_tap_down(adding, &second) < 0)
        error_append(error, "; %s", second.text);
    return -1;
}

static int pass_one(struct nic_adding *adding, const char *kind, size_t queue, int descriptor,
                    struct error *error)
{
    char name[PERIPHERAL_NAME_SIZE];
    struct hotplug *hotplug = adding->plug.hotplug;

    peripheral_fd_name(name, kind, queue);
    json_t *arguments = memory_json(json_pack("{s:s}", "fdname", name));
    return qmp_call_fds(hotplug->qmp, "getfd", arguments, &descriptor, 1, hotplug->deadline, NULL,
                        error) == QMP_DONE
               ? 0
               : -1;
}

static int close_passed(void *plan, struct error *error)
{
    const struct nic_adding *adding = plan;
    const struct hotplug *hotplug = adding->plug.hotplug;

    return peripheral_close_names(hotplug->qmp, adding->passed, hotplug->deadline, error);
}

/* netdev_add took them when it succeeded: then there is nothing to close, which is fine. */
int nic_adding_take_descriptors_back(void *plan, struct error *error)
{
    const struct nic_adding *adding = plan;
    return hotplug_undo(adding->plug.hotplug, close_passed, plan, error);
}

int nic_adding_pass_descriptors(void *plan, struct error *error)
{
    struct nic_adding *adding = plan;

    for (size_t i = 0; i < adding->queues; i++) {
        adding->passed = i + 1;
        if (pass_one(adding, "tap", i, adding->tap.fds[i], error) == 0 &&
            (!adding->want_vhost || pass_one(adding, "vhost", i, adding->vhost[i], error) == 0))
            continue;
        return hotplug_failed(nic_adding_take_descriptors_back, plan, error);
    }
    return 0;
}

static json_t *netdev_of(const struct nic_adding *adding)
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
    return device_netdev(nic_adding_nic(adding), list, adding->want_vhost ? vhost_list : NULL,
                         adding->queues);
}

int nic_adding_remove_netdev(void *plan, struct error *error)
{
    const struct plug *plug = plan;
    return hotplug_take_back(plug->hotplug, peripheral_remove_netdev, plug->id, error);
}

int nic_adding_add_netdev(void *plan, struct error *error)
{
    struct nic_adding *adding = plan;
    enum qmp_outcome outcome =
        hotplug_call(adding->plug.hotplug, "netdev_add", netdev_of(adding), error);

    /* There is no way to ask for a netdev: after a lost reply it is removed, which is right in both cases. */
    if (outcome == QMP_UNKNOWN)
        return hotplug_failed(nic_adding_remove_netdev, plan, error);
    return outcome == QMP_DONE ? 0 : -1;
}

static void plan_descriptors(const struct nic_adding *adding)
{
    const char *const kinds[] = {"tap", "vhost"};
    char name[PERIPHERAL_NAME_SIZE];

    for (size_t i = 0; i < adding->queues; i++) {
        for (size_t kind = 0; kind < (adding->want_vhost ? COUNT(kinds) : 1); kind++) {
            peripheral_fd_name(name, kinds[kind], i);
            hotplug_plan_command(adding->plug.hotplug, "getfd",
                                 memory_json(json_pack("{s:s}", "fdname", name)));
        }
    }
}

void nic_adding_plan(const struct nic_adding *adding)
{
    struct hotplug *hotplug = adding->plug.hotplug;
    size_t index = network_free_index(hotplug->rundir, hotplug->name);

    plan_descriptors(adding);
    hotplug_plan_command(hotplug, "netdev_add", netdev_of(adding));
    hotplug_plan_tap(hotplug, index, plug_uuid(&adding->plug));
    hotplug_plan_hook(hotplug, network_describe(nic_adding_nic(adding), hotplug->node->path));
}

void nic_adding_close(struct nic_adding *adding)
{
    tap_close(&adding->tap);
    for (size_t i = 0; i < TAP_QUEUES_MAX; i++)
        memory_close(&adding->vhost[i]);
}
