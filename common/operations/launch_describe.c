/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>

#include "launch_private.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/transaction.h"
#include "kvm/host/network.h"

static json_t *describe_slots(const struct launch *launch)
{
    json_t *slots = memory_json(json_object());
    const struct placement *placement = &launch->placement;
    const struct {
        int slot;
        const char *what;
    } own[] = {
        {0, "host bridge"},
        {1, "ISA bridge"},
        {2, "VGA"},
        {placement->sound_slot, "sound card"},
        {placement->scsi_slots[0], "SCSI controller"},
        {placement->scsi_slots[1], "second SCSI controller"},
        {placement->scsi_slots[2], "third SCSI controller"},
        {placement->scsi_slots[3], "fourth SCSI controller"},
        {placement->cdrom_slots[0], "CD-ROM"},
        {placement->cdrom_slots[1], "second CD-ROM"},
        {placement->balloon_slot, "balloon"},
        {placement->serial_slot, "serial controller"},
        {placement->rng_slot, "random number generator"},
        {placement->watchdog_slot, "watchdog"},
    };
    char key[16];

    for (size_t i = 0; i < COUNT(own); i++) {
        snprintf(key, sizeof(key), "%d", own[i].slot);
        if (own[i].slot != SLOT_NONE)
            json_object_set_new(slots, key, memory_json(json_string(own[i].what)));
    }
    for (size_t i = 0; i < launch->instance->disk_count + launch->instance->nic_count; i++) {
        size_t nic = i - launch->instance->disk_count;
        const json_t *hvinfo = i < launch->instance->disk_count
                                   ? launch->instance->disks[i].hvinfo
                                   : launch->instance->nics[nic].hvinfo;
        int slot = placement_slot(hvinfo);
        snprintf(key, sizeof(key), "%d", slot);
        if (slot != SLOT_NONE)
            json_object_set(slots, key, json_object_get(hvinfo, "id"));
    }
    return slots;
}

static json_t *describe_files(const struct launch *launch)
{
    static const enum rundir_file files[] = {RUNDIR_RUNTIME, RUNDIR_PID, RUNDIR_EVENTS, RUNDIR_LOG};
    json_t *list = memory_json(json_array());
    const char *name = launch->instance->name;

    for (size_t i = 0; i < COUNT(files); i++) {
        AUTO_FREE char *path = rundir_path(launch->rundir, files[i], name);
        json_array_append_new(list, memory_json(json_string(path)));
    }
    for (int i = 0; i < SOCKET_COUNT; i++) {
        if (!launch_uses_socket(launch, (enum launch_socket)i))
            continue;
        AUTO_FREE char *path =
            rundir_path(launch->rundir, launch_socket_file((enum launch_socket)i), name);
        json_array_append_new(list, memory_json(json_string(path)));
    }
    if (launch->nvram != NULL)
        json_array_append_new(list, memory_json(json_string(launch->nvram)));
    for (size_t i = 0; i < launch->instance->nic_count; i++) {
        AUTO_FREE char *directory = rundir_path(launch->rundir, RUNDIR_NIC, name);
        AUTO_FREE char *index = memory_format("%s/%zu", directory, i);
        AUTO_FREE char *uuid = memory_format("%s/%s", directory, launch->instance->nics[i].uuid);
        json_array_append_new(list, memory_json(json_string(index)));
        json_array_append_new(list, memory_json(json_string(uuid)));
    }
    return list;
}

json_t *launch_describe(const struct launch *launch)
{
    struct error ignored;
    json_t *command = cmdline_build(launch->instance, &launch->plan, &ignored);
    json_t *hooks = memory_json(json_array());

    for (size_t i = 0; i < launch->instance->nic_count; i++) {
        AUTO_FREE char *words = network_describe(&launch->instance->nics[i], launch->node->path);
        json_array_append_new(hooks, memory_json(json_string(words)));
    }
    return memory_json(json_pack("{s:o*, s:o, s:o, s:o}", "command", command, "slots",
                                 describe_slots(launch), "hooks", hooks, "files",
                                 describe_files(launch)));
}
