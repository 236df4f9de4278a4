/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>

#include "kvm/operations/reconcile.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/transaction.h"
#include "kvm/host/network.h"
#include "kvm/host/tap.h"
#include "kvm/qemu/device.h"
#include "kvm/qemu/events.h"
#include "kvm/qemu/peripheral.h"
#include "kvm/state/hvparams.h"

void reconcile_drop_disk(struct runtime *runtime, size_t index)
{
    struct instance *instance = &runtime->instance;

    runtime_set_device_state(runtime, instance->disks[index].uuid, DEVICE_PRESENT);
    disk_release(&instance->disks[index]);
    instance->disk_count--;
    memmove(&instance->disks[index], &instance->disks[index + 1],
            (instance->disk_count - index) * sizeof(*instance->disks));
}

void reconcile_drop_nic(struct runtime *runtime, size_t index)
{
    struct instance *instance = &runtime->instance;

    runtime_set_device_state(runtime, instance->nics[index].uuid, DEVICE_PRESENT);
    nic_release(&instance->nics[index]);
    instance->nic_count--;
    memmove(&instance->nics[index], &instance->nics[index + 1],
            (instance->nic_count - index) * sizeof(*instance->nics));
}

/* A NIC that was being changed is set up at the next start by what is recorded. */
static bool is_half(struct runtime *runtime, const char *uuid)
{
    enum device_state state = runtime_device_state(runtime, uuid);

    if (state == DEVICE_CHANGING)
        runtime_set_device_state(runtime, uuid, DEVICE_PRESENT);
    return state == DEVICE_ADDING || state == DEVICE_REMOVING;
}

/* One that mod-nic had taken away, or was plugging again, is what it was to become, in its slot. */
static bool take_again(struct runtime *runtime, struct nic *nic)
{
    AUTO_MESSAGES struct messages problems = {0};
    AUTO_JSON json_t *object = json_deep_copy(runtime_device_again(runtime, nic->uuid));
    struct nic changed = {0};

    json_object_del(object, "slot");
    if (object == NULL || nic_parse(object, "again", NULL, &changed, &problems) < 0)
        return false;
    if (strcmp(changed.uuid, nic->uuid) != 0) {
        nic_release(&changed);
        return false;
    }
    json_object_set(changed.object, "hvinfo", json_object_get(nic->object, "hvinfo"));
    changed.link_down = nic->link_down;
    runtime_set_device_state(runtime, nic->uuid, DEVICE_PRESENT);
    nic_release(nic);
    *nic = changed;
    nic_refresh(nic);
    return true;
}

void reconcile_dead(struct runtime *runtime)
{
    struct instance *instance = &runtime->instance;

    for (size_t i = instance->disk_count; i-- > 0;)
        if (is_half(runtime, instance->disks[i].uuid))
            reconcile_drop_disk(runtime, i);
    for (size_t i = instance->nic_count; i-- > 0;)
        if (is_half(runtime, instance->nics[i].uuid) && !take_again(runtime, &instance->nics[i]))
            reconcile_drop_nic(runtime, i);
}

int reconcile_remove_disk_backend(struct qmp *qmp, const char *id, deadline_t deadline,
                                  struct error *error)
{
    bool exists;

    if (peripheral_node(qmp, id, deadline, &exists, NULL, error) < 0 ||
        (exists && peripheral_remove_node(qmp, id, deadline, error) < 0))
        return -1;
    return peripheral_remove_fds(qmp, id, deadline, error);
}

int reconcile_remove_nic_backend(const struct rundir *rundir, const struct node *node,
                                 const struct runtime *runtime, size_t index, struct qmp *qmp,
                                 deadline_t deadline, struct error *error)
{
    const struct instance *instance = &runtime->instance;
    const struct nic *nic = &instance->nics[index];
    const char *id = json_text(nic->hvinfo, "id");
    char tap[TAP_NAME_SIZE];

    /* ifdown while the tap is still there, and once: its file goes with it. Then QEMU closes it, which ends it. */
    bool known = network_find_tap(rundir, instance, index, qmp_peer(qmp), tap);
    if (known && network_ifdown(instance, nic, network_index(rundir, instance->name, tap), tap,
                                false, node->path, deadline, error) < 0)
        return -1;
    if (network_forget_tap(rundir, instance->name, nic->uuid, known ? tap : NULL, error) < 0)
        return -1;
    return id != NULL ? peripheral_remove_netdev(qmp, id, deadline, error) : 0;
}

struct reconciling {
    const struct rundir *rundir;
    const struct node *node;
    struct runtime *runtime;
    struct qmp *qmp;
    deadline_t deadline;
    struct messages *notes;
    bool changed; /* what is to be committed */
    bool touched; /* the node, by more than a question */
};

/* What is to be done with a device of this state: keep it as it is, call it present, or remove its remains. */
enum verdict { KEEP, CALL_PRESENT, REMOVE_REMAINS, CANT_TELL };

static enum verdict judge(struct reconciling *work, const char *uuid, const json_t *hvinfo,
                          struct error *error)
{
    enum device_state state = runtime_device_state(work->runtime, uuid);
    const char *id = json_text(hvinfo, "id");
    bool exists = false;

    if (state == DEVICE_PRESENT || state == DEVICE_CHANGING)
        return KEEP;
    if (id != NULL && peripheral_exists(work->qmp, id, work->deadline, &exists, error) < 0)
        return CANT_TELL;
    if (!exists)
        return REMOVE_REMAINS;
    return state == DEVICE_ADDING ? CALL_PRESENT : KEEP;
}

/* A set-up that hangs leaves half of the time to the command, which may be the one that mends it. */
static deadline_t half_way(deadline_t deadline)
{
    return deadline == DEADLINE_NEVER ? deadline : clock_deadline((deadline - clock_now_ms()) / 2);
}

/* The guest has had its device all the time; what is uncertain is the node's side. Taken down and set up by what is
 * recorded, which is the old or the new, it is as the record says. What fails is no reason not to go on with other devices,
 * or to give this NIC a set-up that works. */
static void finish_change(struct reconciling *work, size_t index)
{
    const struct instance *instance = &work->runtime->instance;
    const struct nic *nic = &instance->nics[index];
    const char *conf = work->node->path;
    char tap[TAP_NAME_SIZE];
    struct error error = {0};

    if (!network_find_tap(work->rundir, instance, index, qmp_peer(work->qmp), tap)) {
        messages_add(work->notes, "NIC %s: an interrupted change: no tap file tells its interface",
                     nic->uuid);
        return;
    }
    size_t number = network_index(work->rundir, instance->name, tap);
    work->touched = true;
    deadline_t until = half_way(work->deadline);
    if (network_ifdown(instance, nic, number, tap, false, conf, until, &error) < 0 ||
        network_ifup(instance, nic, number, tap, conf, until, &error) < 0) {
        messages_add(work->notes,
                     "NIC %s: an interrupted change could not be finished: %s; the next command "
                     "tries again, or 'kvm-hotplug %s mod-nic %s' gives it another set-up",
                     nic->uuid, error.text, instance->name, nic->uuid);
        return;
    }
    messages_add(work->notes, "NIC %s: an interrupted change was finished or undone", nic->uuid);
    runtime_set_device_state(work->runtime, nic->uuid, DEVICE_PRESENT);
    work->changed = true;
}

static void note(struct reconciling *work, const char *kind, const char *uuid, bool present)
{
    bool adding = runtime_device_state(work->runtime, uuid) == DEVICE_ADDING;

    messages_add(work->notes, "%s %s: an interrupted %s was %s", kind, uuid,
                 adding ? "addition" : "removal", adding && !present ? "undone" : "finished");
    /* One that is to be plugged again stays in the file until another record takes its place. */
    work->changed = work->changed || present || runtime_device_again(work->runtime, uuid) == NULL;
}

/* The last that is done to a disk, after QEMU has it. */
static int limit_io(const struct reconciling *work, const struct disk *disk, struct error *error)
{
    json_t *limits = device_throttle(disk);

    return limits == NULL || qmp_call(work->qmp, "block_set_io_throttle", limits, work->deadline,
                                      NULL, error) == QMP_DONE
               ? 0
               : -1;
}

static int reconcile_disks(struct reconciling *work, struct error *error)
{
    struct instance *instance = &work->runtime->instance;

    for (size_t i = instance->disk_count; i-- > 0;) {
        const struct disk *disk = &instance->disks[i];
        const char *id = json_text(disk->hvinfo, "id");
        enum verdict verdict = judge(work, disk->uuid, disk->hvinfo, error);
        if (verdict == CANT_TELL)
            return -1;
        if (verdict == KEEP)
            continue;
        if (verdict == REMOVE_REMAINS && id != NULL &&
            reconcile_remove_disk_backend(work->qmp, id, work->deadline, error) < 0)
            return error_prefix(error, "disk %s", disk->uuid);
        if (verdict == CALL_PRESENT && limit_io(work, disk, error) < 0)
            return error_prefix(error, "disk %s", disk->uuid);
        note(work, "disk", disk->uuid, verdict == CALL_PRESENT);
        if (verdict == CALL_PRESENT)
            runtime_set_device_state(work->runtime, disk->uuid, DEVICE_PRESENT);
        else
            reconcile_drop_disk(work->runtime, i);
    }
    return 0;
}

/* mod-nic has taken it from the guest to give it another MAC address, and did not come to plug it again. */
static void tell_again(const struct reconciling *work, const char *uuid)
{
    const json_t *again = runtime_device_again(work->runtime, uuid);
    AUTO_FREE char *text = again != NULL ? json_compact(again) : NULL;

    if (text != NULL)
        messages_add(work->notes,
                     "NIC %s: it was to be plugged again: unless this command does it, "
                     "'kvm-hotplug %s add-nic -' does with this object: %s",
                     uuid, work->runtime->instance.name, text);
}

static int reconcile_nics(struct reconciling *work, struct error *error)
{
    struct instance *instance = &work->runtime->instance;

    for (size_t i = instance->nic_count; i-- > 0;) {
        const struct nic *nic = &instance->nics[i];
        enum verdict verdict = judge(work, nic->uuid, nic->hvinfo, error);
        if (runtime_device_state(work->runtime, nic->uuid) == DEVICE_CHANGING)
            finish_change(work, i);
        if (verdict == CANT_TELL)
            return -1;
        if (verdict == KEEP)
            continue;
        bool adding = runtime_device_state(work->runtime, nic->uuid) == DEVICE_ADDING;
        if (verdict == REMOVE_REMAINS && adding &&
            peripheral_close_names(work->qmp, TAP_QUEUES_MAX, work->deadline, error) < 0)
            return error_prefix(error, "NIC %s", nic->uuid);
        work->touched = work->touched || verdict == REMOVE_REMAINS;
        if (verdict == REMOVE_REMAINS &&
            reconcile_remove_nic_backend(work->rundir, work->node, work->runtime, i, work->qmp,
                                         work->deadline, error) < 0)
            return error_prefix(error, "NIC %s", nic->uuid);
        note(work, "NIC", nic->uuid, verdict == CALL_PRESENT);
        if (verdict == REMOVE_REMAINS)
            tell_again(work, nic->uuid);
        if (verdict == CALL_PRESENT && nic->link_down &&
            qmp_call(work->qmp, "set_link", device_link(nic, false), work->deadline, NULL, error) !=
                QMP_DONE)
            return error_prefix(error, "NIC %s", nic->uuid);
        if (verdict == CALL_PRESENT && nic->link_down)
            events_note_link(work->rundir, work->runtime->instance.name,
                             json_text(nic->hvinfo, "id"), false);
        if (verdict == CALL_PRESENT)
            runtime_set_device_state(work->runtime, nic->uuid, DEVICE_PRESENT);
        else
            reconcile_drop_nic(work->runtime, i);
    }
    return 0;
}

/* "disk-7c079136-2573-4112", "hotdisk-7c079136-pci-4": the names that Ganeti and we give to nodes of disks. */
static bool is_disk_name(const char *name)
{
    unsigned groups[3], slot;
    char end;

    return (strlen(name) == strlen("disk-7c079136-2573-4112") &&
            sscanf(name, "disk-%8x-%4x-%4x%c", &groups[0], &groups[1], &groups[2], &end) == 3) ||
           sscanf(name, "hotdisk-%8x-pci-%2u%c", &groups[0], &slot, &end) == 2;
}

static bool has_disk(const struct instance *instance, const char *id)
{
    for (size_t i = 0; i < instance->disk_count; i++) {
        const char *own = json_text(instance->disks[i].hvinfo, "id");
        if (own != NULL && strcmp(own, id) == 0)
            return true;
    }
    return false;
}

/* Ganeti 3.0 takes a disk away without its node, when that came as -blockdev. The node keeps the image open, and under
 * the same uuid the next disk would become the old image. One that is still in use is not to be had, and stays. */
static int reconcile_nodes(struct reconciling *work, struct error *error)
{
    AUTO_JSON json_t *nodes = NULL;
    json_t *arguments = memory_json(json_pack("{s:b}", "flat", 1)), *one;
    size_t i;

    if (qmp_call(work->qmp, "query-named-block-nodes", arguments, work->deadline, &nodes, error) !=
        QMP_DONE)
        return -1;
    json_array_foreach (nodes, i, one) {
        const char *name = json_text(one, "node-name");
        if (name == NULL || !is_disk_name(name) || has_disk(&work->runtime->instance, name))
            continue;
        arguments = memory_json(json_pack("{s:s}", "node-name", name));
        enum qmp_outcome outcome =
            qmp_call(work->qmp, "blockdev-del", arguments, work->deadline, NULL, error);
        if (outcome == QMP_UNKNOWN ||
            (outcome == QMP_DONE &&
             peripheral_remove_fds(work->qmp, name, work->deadline, error) < 0))
            return error_prefix(error, "block node %s", name);
        if (outcome == QMP_DONE)
            messages_add(work->notes, "block node %s: left by another tool, removed", name);
    }
    return 0;
}

int reconcile_drive(struct qmp *qmp, enum medium medium, deadline_t deadline,
                    struct messages *notes, struct error *error)
{
    const struct medium_names *names = &media_names[medium];
    const char *const nodes[] = {names->node, names->other};
    struct drive drive;

    if (peripheral_drive(qmp, names->device, deadline, &drive, error) < 0)
        return -1;
    for (size_t i = 0; drive.exists && i < COUNT(nodes); i++) {
        bool left = false;
        if (strcmp(drive.node, nodes[i]) == 0)
            continue;
        if (peripheral_node(qmp, nodes[i], deadline, &left, NULL, error) < 0 ||
            (left && peripheral_remove_node(qmp, nodes[i], deadline, error) < 0) ||
            peripheral_remove_fds(qmp, nodes[i], deadline, error) < 0)
            return error_prefix(error, "%s", names->what);
        if (left)
            messages_add(notes, "%s: an interrupted change was finished or undone", names->what);
    }
    return 0;
}

/* An eject that was killed is recorded and may not have been done, or the other way round at a change. */
static int reconcile_cdrom(struct reconciling *work, enum medium medium, struct error *error)
{
    bool *recorded = &work->runtime->instance.ejected[medium];
    struct drive drive;

    if (reconcile_drive(work->qmp, medium, work->deadline, work->notes, error) < 0)
        return -1;
    if (peripheral_drive(work->qmp, media_names[medium].device, work->deadline, &drive, error) < 0)
        return -1;
    bool ejected = drive.exists && drive.node[0] == '\0';
    work->changed = work->changed || ejected != *recorded;
    *recorded = ejected;
    return 0;
}

bool reconcile_has_work(const struct runtime *runtime)
{
    const struct instance *instance = &runtime->instance;
    bool work = runtime->state == RUNTIME_FOREIGN;

    for (size_t i = 0; i < instance->disk_count; i++)
        work = work || runtime_device_state(runtime, instance->disks[i].uuid) != DEVICE_PRESENT;
    for (size_t i = 0; i < instance->nic_count; i++)
        work = work || runtime_device_state(runtime, instance->nics[i].uuid) != DEVICE_PRESENT;
    for (int i = 0; i < CDROMS; i++)
        work = work || media_place(instance, (enum medium)i) != NULL;
    return work;
}

int reconcile_live(const struct rundir *rundir, const struct node *node, struct runtime *runtime,
                   struct qmp *qmp, deadline_t deadline, struct messages *notes, bool *touched,
                   struct error *error)
{
    struct reconciling work = {rundir, node, runtime, qmp, deadline, notes, false, false};

    int result = reconcile_disks(&work, error);
    if (result == 0)
        result = reconcile_nics(&work, error);
    if (result == 0 && runtime->state == RUNTIME_FOREIGN)
        result = reconcile_nodes(&work, error);
    work.touched = work.touched || (result == 0 && runtime->state == RUNTIME_FOREIGN);
    if (result == 0 && runtime->state == RUNTIME_FOREIGN)
        result = network_drop_strangers(rundir, &runtime->instance, error);
    for (int i = 0; result == 0 && i < CDROMS; i++)
        if (media_place(&runtime->instance, (enum medium)i) != NULL)
            result = reconcile_cdrom(&work, (enum medium)i, error);
    *touched = work.touched || work.changed || qmp_changed(qmp);
    if (work.changed && runtime_commit(rundir, runtime, error) < 0)
        return -1;
    return result;
}
