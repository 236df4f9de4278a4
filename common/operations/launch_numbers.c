/* SPDX-License-Identifier: BSD-2-Clause */
#include "launch_private.h"
#include "kvm/state/hvparams.h"

enum { FIRST_CHILD_DESCRIPTOR = 3 };

bool launch_uses_socket(const struct launch *launch, enum launch_socket which)
{
    const json_t *hvparams = launch->instance->hvparams;

    if (which == SOCKET_SERIAL)
        return hvparams_truth(hvparams, "serial_console");
    if (which == SOCKET_AGENT)
        return hvparams_truth(hvparams, "use_guest_agent");
    if (which == SOCKET_KVMD)
        return hvparams_truth(hvparams, "user_shutdown");
    if (which == SOCKET_EVENTS)
        return launch->events_by_socket;
    return true;
}

enum rundir_file launch_socket_file(enum launch_socket which)
{
    static const enum rundir_file files[SOCKET_COUNT] = {
        RUNDIR_QMP,   RUNDIR_QUERY,         RUNDIR_MONITOR, RUNDIR_SERIAL,
        RUNDIR_AGENT, RUNDIR_EVENTS_SOCKET, RUNDIR_KVMD,
    };
    return files[which];
}

static int number(struct launch *launch, int descriptor)
{
    launch->table[launch->table_count] = descriptor;
    return FIRST_CHILD_DESCRIPTOR + (int)launch->table_count++;
}

static void number_sockets(struct launch *launch)
{
    int *numbers[SOCKET_COUNT] = {
        &launch->plan.qmp_fd,    &launch->plan.query_fd, &launch->plan.monitor_fd,
        &launch->plan.serial_fd, &launch->plan.agent_fd, &launch->plan.events_socket_fd,
        &launch->plan.kvmd_fd,
    };

    launch->listen_count = 0;
    for (int i = 0; i < SOCKET_COUNT; i++) {
        *numbers[i] = -1;
        if (!launch_uses_socket(launch, (enum launch_socket)i))
            continue;
        launch->listen[launch->listen_count++] = (int)launch->table_count;
        *numbers[i] = number(launch, launch->sockets[i]);
    }
}

static void number_network(struct launch *launch)
{
    for (size_t nic = 0; nic < launch->instance->nic_count; nic++) {
        for (size_t queue = 0; queue < launch->queues; queue++)
            launch->tap_number[nic][queue] = number(launch, launch->taps[nic].fds[queue]);
        launch->vhost_used[nic] = launch->want_vhost;
        for (size_t queue = 0; launch->want_vhost && queue < launch->queues; queue++)
            launch->vhost_number[nic][queue] = number(launch, launch->vhost[nic][queue]);
    }
}

/* The pid file comes first, so that its number is the same whatever the instance has. */
void launch_number_descriptors(struct launch *launch)
{
    const struct instance *instance = launch->instance;
    struct cmdline_plan *plan = &launch->plan;

    launch->table_count = 0;
    number(launch, launch->pid_file);
    number_sockets(launch);
    plan->events_fd = number(launch, launch->events);
    for (size_t i = 0; i < instance->disk_count; i++)
        launch->disk_number[i] =
            disk_is_userspace(&instance->disks[i]) ? -1 : number(launch, launch->disks[i]);
    for (int i = 0; i < MEDIA; i++) {
        bool opened =
            media_file(instance, (enum medium)i) != NULL && !media_is_web(instance, (enum medium)i);
        plan->medium_fd[i] = opened ? number(launch, launch->media[i]) : -1;
        plan->medium_is_block[i] = launch->medium_is_block[i];
    }
    if (launch->firmware.code != NULL) {
        plan->firmware_fd = number(launch, launch->firmware_code);
        plan->nvram_fd = number(launch, launch->nvram_file);
    }
    if (launch->tpm)
        plan->tpm_fd = number(launch, launch->tpm_socket);
    number_network(launch);

    plan->firmware_path = launch->firmware.code;
    plan->nvram_path = launch->nvram;
    plan->firmware_smm = launch->firmware.smm;
    plan->firmware_secure = launch->firmware.secure;
    plan->placement = &launch->placement;
    plan->probe = &launch->probe;
    plan->kvm = launch->kvm;
    plan->disk_fd = launch->disk_number;
    plan->disk_is_block = launch->disk_is_block;
    plan->tap_fd = (const int(*)[CMDLINE_QUEUES_MAX])launch->tap_number;
    plan->vhost_fd = (const int(*)[CMDLINE_QUEUES_MAX])launch->vhost_number;
    plan->queues = launch->queues;
    plan->vhost = launch->vhost_used;
    plan->chroot = launch->chroot;
    plan->run_as = launch->run_as;
    plan->vnc_address = launch->vnc_address;
    plan->spice_address = launch->spice_address;
    plan->spice_directory = launch->node->path;
}
