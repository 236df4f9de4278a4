/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>

#include "hotplug_private.h"
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/transaction.h"
#include "kvm/operations/inspect.h"
#include "kvm/qemu/peripheral.h"

/* ---- check ---- */

static void check_commands(struct hotplug *hotplug, struct messages *reasons)
{
    static const char *const needed[] = {"add-fd",     "blockdev-add", "blockdev-del",
                                         "device_add", "device_del",   "getfd",
                                         "netdev_add", "netdev_del"};
    AUTO_JSON json_t *commands = NULL;
    struct error error = {0};

    if (qmp_call(hotplug->qmp, "query-commands", NULL, hotplug->deadline, &commands, &error) !=
        QMP_DONE) {
        messages_add(reasons, "%s", error.text);
        return;
    }
    for (size_t i = 0; i < COUNT(needed); i++)
        if (json_find(commands, "name", needed[i]) == NULL)
            messages_add(reasons, "this QEMU does not have the command %s", needed[i]);
}

static void check_slots(struct hotplug *hotplug, struct messages *reasons)
{
    struct error error = {0};
    struct slots slots;

    if (hotplug_slots(hotplug, &slots, &error) < 0) {
        messages_add(reasons, "%s", error.text);
        return;
    }
    int left = slots_free_count(&slots, slots.first);
    hotplug_detail(hotplug, "free_slots", json_integer(left));
    if (left == 0)
        messages_add(reasons, "all PCI slots from %d to %d are taken", slots.first, slots.end - 1);
}

static void check_devices(const struct hotplug *hotplug, struct messages *reasons)
{
    static const char *const words[] = {"", "being added", "being removed", "being changed"};
    const struct instance *instance = hotplug->instance;

    for (size_t i = 0; i < instance->disk_count + instance->nic_count; i++) {
        bool disk = i < instance->disk_count;
        const char *uuid =
            disk ? instance->disks[i].uuid : instance->nics[i - instance->disk_count].uuid;
        enum device_state state = runtime_device_state(hotplug->runtime, uuid);
        if (state != DEVICE_PRESENT)
            messages_add(reasons, "%s %s is %s", disk ? "disk" : "NIC", uuid, words[state]);
    }
}

/* Looking takes the other monitor. No connection is made here: it would be in the way of who works. */
static void check_monitor(const struct hotplug *hotplug, struct messages *reasons)
{
    char name[RUNDIR_PATH_MAX];

    rundir_name(RUNDIR_QMP, hotplug->name, name);
    if (!file_exists(hotplug->rundir->fd, name))
        messages_add(reasons,
                     "its monitor %s/%s was removed, so no command can change it: power the guest "
                     "off from inside and start it again, or 'kvm-stop --force --reboot %s'",
                     hotplug->rundir->path, name, hotplug->name);
}

int hotplug_check(struct hotplug *hotplug, struct error *error)
{
    AUTO_MESSAGES struct messages reasons = {0};
    char holder[256];

    if (hotplug_open(hotplug, true, error) < 0)
        return -1;
    const char *phase;
    bool ever;
    if (peripheral_migration(hotplug->qmp, hotplug->deadline, &phase, &ever, error) < 0)
        return -1;
    if (phase != NULL)
        messages_add(&reasons, "a migration is in progress (%s)", phase);
    else if (strcmp(hotplug->status, "running") != 0)
        messages_add(&reasons, "the guest is \"%s\": it can't let a device go", hotplug->status);
    if (rundir_lock_holder(hotplug->rundir, hotplug->name, holder, sizeof(holder)))
        messages_add(&reasons, "busy: %s", holder);
    check_monitor(hotplug, &reasons);
    check_commands(hotplug, &reasons);
    check_slots(hotplug, &reasons);
    check_devices(hotplug, &reasons);
    hotplug_detail(hotplug, "possible", json_boolean(reasons.count == 0));
    if (reasons.count > 0)
        return messages_error(&reasons, STATUS_STATE, error);
    hotplug_text(hotplug,
                 memory_format("hotplug is possible, %lld slots are free",
                               (long long)json_number(hotplug->result->detail, "free_slots", 0)));
    return 0;
}

/* ---- list ---- */

/* What QEMU says of each device of the file: {"in_qemu", "backend"} beside what the file says. */
static int ask_qemu(struct hotplug *hotplug, json_t *devices, bool disks, struct error *error)
{
    size_t i;
    json_t *device;

    json_array_foreach (devices, i, device) {
        const char *id = json_text(device, "id");
        bool exists = false;
        char node[PERIPHERAL_NODE_SIZE] = "";
        if (id != NULL &&
            (peripheral_exists(hotplug->qmp, id, hotplug->deadline, &exists, error) < 0 ||
             (disks &&
              peripheral_backend(hotplug->qmp, id, hotplug->deadline, node, NULL, error) < 0)))
            return -1;
        json_object_set_new(device, "in_qemu", json_boolean(exists));
        if (disks)
            json_object_set_new(device, "backend", json_boolean(node[0] != '\0'));
        if (disks && node[0] != '\0')
            json_object_set_new(device, "node", json_string(node));
    }
    return 0;
}

int hotplug_list(struct hotplug *hotplug, struct error *error)
{
    AUTO_JSON json_t *devices = inspect_devices(&hotplug->session);
    json_t *disks = json_member(devices, "disks"), *nics = json_member(devices, "nics");

    if (ask_qemu(hotplug, disks, true, error) < 0 || ask_qemu(hotplug, nics, false, error) < 0)
        return -1;
    size_t disk_count = json_array_size(disks), nic_count = json_array_size(nics);
    hotplug_text(hotplug,
                 memory_format("%zu disk%s, %zu NIC%s", disk_count, disk_count == 1 ? "" : "s",
                               nic_count, nic_count == 1 ? "" : "s"));
    hotplug_detail(hotplug, "disks", json_incref(disks));
    hotplug_detail(hotplug, "nics", json_incref(nics));
    hotplug_detail(hotplug, "media", json_incref(json_member(devices, "media")));
    return 0;
}
