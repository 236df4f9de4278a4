/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "launch_private.h"
#include "kvm/base/memory.h"
#include "kvm/base/transaction.h"
#include "kvm/host/kvm.h"
#include "kvm/host/network.h"
#include "kvm/state/hvparams.h"

enum { FIRST_CHILD_DESCRIPTOR = 3 };

static void decide_accelerator(struct launch *launch, struct messages *warnings)
{
    const char *flag = hvparams_text(launch->instance->hvparams, "kvm_flag");
    char why[128] = "";

    if (strcmp(flag, "enabled") == 0 || strcmp(flag, "disabled") == 0) {
        launch->kvm = flag[0] == 'e';
        return;
    }
    launch->kvm = kvm_is_usable(why, sizeof(why));
    if (!launch->kvm)
        messages_add(warnings,
                     "KVM can't be used here (%s): the guest runs under TCG, which is slow; "
                     "kvm_flag \"disabled\" says so without this warning",
                     why);
    /* Pinned: what the guest runs with stays the same over a reboot. */
    json_object_set_new(launch->instance->hvparams, "kvm_flag",
                        json_string(launch->kvm ? "enabled" : "disabled"));
}

static void decide_machine(struct launch *launch, const char *source, struct messages *problems)
{
    json_t *hvparams = launch->instance->hvparams;
    const char *asked = hvparams_text(hvparams, "machine_version");
    const char *name = probe_machine(&launch->probe, asked);

    if (name == NULL) {
        messages_add(problems,
                     "%s: hvparams.machine_version: %s does not have it (current value: \"%s\"); "
                     "'%s -machine help' lists what there is",
                     source, hvparams_text(hvparams, "kvm_path"), asked,
                     hvparams_text(hvparams, "kvm_path"));
        return;
    }
    if (strncmp(name, "pc-", 3) != 0) {
        messages_add(problems,
                     "%s: hvparams.machine_version: only types of the pc and q35 families are "
                     "supported (current value: \"%s\")",
                     source, name);
        return;
    }
    json_object_set_new(hvparams, "machine_version", memory_json(json_string(name)));
}

static void decide_network(struct launch *launch, const char *source, struct messages *problems,
                           struct messages *warnings)
{
    const struct instance *instance = launch->instance;
    const json_t *hvparams = instance->hvparams;
    const char *driver = placement_nic_driver(instance);
    bool paravirtual = driver != NULL && strcmp(driver, "virtio-net-pci") == 0;

    launch->queues = paravirtual ? (size_t)hvparams_number(hvparams, "virtio_net_queues") : 1;
    launch->want_vhost = paravirtual && hvparams_truth(hvparams, "vhost_net");
    for (size_t i = 0; i < instance->nic_count; i++) {
        AUTO_FREE char *where = memory_format("%s: nics[%zu]", source, i);
        network_check(&instance->nics[i], launch->node->path, where, problems);
    }
    if (launch->want_vhost && instance->nic_count > 0) {
        int descriptor = tap_open_vhost();
        if (descriptor < 0) {
            launch->want_vhost = false;
            messages_add(warnings, "vhost_net is set but /dev/vhost-net can't be opened: NICs run "
                                   "without it ('modprobe vhost_net' loads the module)");
        } else {
            close(descriptor);
        }
    }
}

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

static struct launch *allocate(const struct rundir *rundir, const struct node *node,
                               struct instance *instance)
{
    struct launch *launch = memory_zeroed(1, sizeof(*launch));
    size_t disks = instance->disk_count + 1, nics = instance->nic_count + 1;

    launch->rundir = rundir;
    launch->node = node;
    launch->instance = instance;
    launch->disk_count = instance->disk_count;
    launch->nic_count = instance->nic_count;
    launch->pid_file = launch->events = launch->pidfd = -1;
    for (int i = 0; i < MEDIA; i++)
        launch->media[i] = -1;
    for (int i = 0; i < SOCKET_COUNT; i++)
        launch->sockets[i] = -1;
    launch->firmware_code = launch->nvram_file = launch->tpm_socket = -1;
    launch->disks = memory_zeroed(disks, sizeof(int));
    launch->disk_is_block = memory_zeroed(disks, sizeof(bool));
    launch->disk_number = memory_zeroed(disks, sizeof(int));
    launch->taps = memory_zeroed(nics, sizeof(struct tap));
    launch->vhost = memory_zeroed(nics, sizeof(*launch->vhost));
    launch->tap_number = memory_zeroed(nics, sizeof(*launch->tap_number));
    launch->vhost_number = memory_zeroed(nics, sizeof(*launch->vhost_number));
    launch->vhost_used = memory_zeroed(nics, sizeof(bool));
    for (size_t i = 0; i < instance->disk_count; i++)
        launch->disks[i] = -1;
    for (size_t i = 0; i < instance->nic_count; i++)
        for (int queue = 0; queue < CMDLINE_QUEUES_MAX; queue++)
            launch->vhost[i][queue] = launch->taps[i].fds[queue] = -1;
    launch->table = memory_zeroed(
        6 + MEDIA + SOCKET_COUNT + disks + 2 * nics * (size_t)CMDLINE_QUEUES_MAX, sizeof(int));
    return launch;
}

void launch_keep_probe(const struct launch *launch)
{
    probe_keep(launch->rundir, hvparams_text(launch->instance->hvparams, "kvm_path"),
               &launch->probe);
}

int launch_plan(const struct rundir *rundir, const struct node *node, struct instance *instance,
                const char *source, bool use_cache, struct launch **result,
                struct messages *warnings, struct error *error)
{
    AUTO_LAUNCH struct launch *launch = allocate(rundir, node, instance);
    AUTO_MESSAGES struct messages problems = {0};
    struct error reason = {0};
    bool probed = probe_binary(rundir, hvparams_text(instance->hvparams, "kvm_path"), use_cache,
                               &launch->probe, &reason) == 0;

    if (!probed)
        messages_add(&problems, "%s: hvparams.kvm_path: %s", source, reason.text);
    if (probed)
        decide_machine(launch, source, &problems);
    launch->events_by_socket = probed && !launch->probe.null_event_log;
    if (probed)
        launch_check_firmware(launch, source, &problems);
    launch_check_tpm(launch, source, &problems);
    decide_accelerator(launch, warnings);
    decide_network(launch, source, &problems, warnings);
    launch_check_user(launch, source, &problems);
    launch_check_files(launch, source, &problems);
    launch_check_display(launch, use_cache, source, &problems);
    launch_check_cpus(launch, source, &problems);
    if (cmdline_check_extra(hvparams_text(instance->hvparams, "kvm_extra"), &reason) < 0)
        messages_add(&problems, "%s: hvparams.kvm_extra: %s", source, reason.text);
    if (probed && placement_assign(instance, &launch->placement, &reason) < 0)
        messages_add(&problems, "%s: %s", source, reason.text);
    if (problems.count > 0)
        return messages_error(&problems, STATUS_USAGE, error);

    launch_number_descriptors(launch);
    *result = launch;
    launch = NULL;
    return 0;
}

static void close_all(struct launch *launch)
{
    memory_close(&launch->pid_file);
    memory_close(&launch->events);
    for (int i = 0; i < MEDIA; i++)
        memory_close(&launch->media[i]);
    memory_close(&launch->firmware_code);
    memory_close(&launch->nvram_file);
    memory_close(&launch->tpm_socket);
    memory_close(&launch->pidfd);
    for (int i = 0; i < SOCKET_COUNT; i++)
        memory_close(&launch->sockets[i]);
    for (size_t i = 0; i < launch->disk_count; i++)
        memory_close(&launch->disks[i]);
    for (size_t i = 0; i < launch->nic_count; i++) {
        tap_close(&launch->taps[i]);
        for (int queue = 0; queue < CMDLINE_QUEUES_MAX; queue++)
            memory_close(&launch->vhost[i][queue]);
    }
}

static void wipe(char **secret)
{
    if (*secret != NULL)
        explicit_bzero(*secret, strlen(*secret));
    free(*secret);
    *secret = NULL;
}

void launch_release(struct launch **pointer)
{
    struct launch *launch = *pointer;

    if (launch == NULL)
        return;
    close_all(launch);
    qmp_release(&launch->qmp);
    probe_release(&launch->probe);
    wipe(&launch->vnc_password);
    wipe(&launch->spice_password);
    free(launch->vnc_address);
    free(launch->spice_address);
    firmware_release(&launch->firmware);
    free(launch->nvram);
    free(launch->chroot);
    free(launch->run_as);
    free(launch->pool);
    free(launch->disks);
    free(launch->disk_is_block);
    free(launch->disk_number);
    free(launch->taps);
    free(launch->vhost);
    free(launch->tap_number);
    free(launch->vhost_number);
    free(launch->vhost_used);
    free(launch->table);
    free(launch);
    *pointer = NULL;
}

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
