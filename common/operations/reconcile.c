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

void reconcile_dead(struct runtime *runtime)
{
    struct instance *instance = &runtime->instance;

    for (size_t i = instance->disk_count; i-- > 0;)
        if (runtime_device_state(runtime, instance->disks[i].uuid) != DEVICE_PRESENT)
            reconcile_drop_disk(runtime, i);
    for (size_t i = instance->nic_count; i-- > 0;)
        if (runtime_device_state(runtime, instance->nics[i].uuid) != DEVICE_PRESENT)
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
    if (network_read_tap(rundir, instance->name, nic->uuid, tap) &&
        network_ifdown(instance->name, nic, network_index(rundir, instance->name, nic->uuid), tap,
                       false, node->path, deadline, error) < 0)
        return -1;
    if (network_forget_tap(rundir, instance->name, nic->uuid, error) < 0)
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
    bool changed;
};

/* What is to be done with a device of this state: keep it as it is, call it present, or remove its remains. */
enum verdict { KEEP, CALL_PRESENT, REMOVE_REMAINS, CANT_TELL };

static enum verdict judge(struct reconciling *work, const char *uuid, const json_t *hvinfo,
                          struct error *error)
{
    enum device_state state = runtime_device_state(work->runtime, uuid);
    const char *id = json_text(hvinfo, "id");
    bool exists = false;

    if (state == DEVICE_PRESENT)
        return KEEP;
    if (id != NULL && peripheral_exists(work->qmp, id, work->deadline, &exists, error) < 0)
        return CANT_TELL;
    if (!exists)
        return REMOVE_REMAINS;
    return state == DEVICE_ADDING ? CALL_PRESENT : KEEP;
}

static void note(struct reconciling *work, const char *kind, const char *uuid, bool present)
{
    bool adding = runtime_device_state(work->runtime, uuid) == DEVICE_ADDING;

    messages_add(work->notes, "%s %s: an interrupted %s was %s", kind, uuid,
                 adding ? "addition" : "removal", adding && !present ? "undone" : "finished");
    work->changed = true;
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

static int reconcile_nics(struct reconciling *work, struct error *error)
{
    struct instance *instance = &work->runtime->instance;

    for (size_t i = instance->nic_count; i-- > 0;) {
        const struct nic *nic = &instance->nics[i];
        enum verdict verdict = judge(work, nic->uuid, nic->hvinfo, error);
        if (verdict == CANT_TELL)
            return -1;
        if (verdict == KEEP)
            continue;
        bool adding = runtime_device_state(work->runtime, nic->uuid) == DEVICE_ADDING;
        if (verdict == REMOVE_REMAINS && adding &&
            peripheral_close_names(work->qmp, TAP_QUEUES_MAX, work->deadline, error) < 0)
            return error_prefix(error, "NIC %s", nic->uuid);
        if (verdict == REMOVE_REMAINS &&
            reconcile_remove_nic_backend(work->rundir, work->node, work->runtime, i, work->qmp,
                                         work->deadline, error) < 0)
            return error_prefix(error, "NIC %s", nic->uuid);
        note(work, "NIC", nic->uuid, verdict == CALL_PRESENT);
        if (verdict == CALL_PRESENT)
            runtime_set_device_state(work->runtime, nic->uuid, DEVICE_PRESENT);
        else
            reconcile_drop_nic(work->runtime, i);
    }
    return 0;
}

int reconcile_drive(struct qmp *qmp, deadline_t deadline, struct messages *notes,
                    struct error *error)
{
    static const char *const nodes[] = {"cdrom1", "cdrom1b"};
    struct drive drive;

    if (peripheral_drive(qmp, "cdrom", deadline, &drive, error) < 0)
        return -1;
    for (size_t i = 0; drive.exists && i < COUNT(nodes); i++) {
        bool left = false;
        if (strcmp(drive.node, nodes[i]) == 0)
            continue;
        if (peripheral_node(qmp, nodes[i], deadline, &left, NULL, error) < 0 ||
            (left && peripheral_remove_node(qmp, nodes[i], deadline, error) < 0) ||
            peripheral_remove_fds(qmp, nodes[i], deadline, error) < 0)
            return error_prefix(error, "CD-ROM");
        if (left)
            messages_add(notes, "CD-ROM: an interrupted change was finished or undone");
    }
    return 0;
}

int reconcile_live(const struct rundir *rundir, const struct node *node, struct runtime *runtime,
                   struct qmp *qmp, deadline_t deadline, struct messages *notes,
                   struct error *error)
{
    struct reconciling work = {rundir, node, runtime, qmp, deadline, notes, false};

    int result = reconcile_disks(&work, error);
    if (result == 0)
        result = reconcile_nics(&work, error);
    if (result == 0 && hvparams_text(runtime->instance.hvparams, "cdrom_image_path")[0] != '\0')
        result = reconcile_drive(qmp, deadline, notes, error);
    if (work.changed && runtime_commit(rundir, runtime, error) < 0)
        return -1;
    return result;
}
