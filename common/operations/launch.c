/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <stdio.h>

#include "launch_private.h"
#include "kvm/base/file.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "kvm/base/transaction.h"
#include "kvm/host/network.h"
#include "kvm/operations/image.h"
#include "kvm/qemu/device.h"
#include "kvm/qemu/events.h"
#include "kvm/state/hvparams.h"

enum { RESUME_WAIT_MS = 1000 };

static const char *instance_name(const struct launch *launch)
{
    return launch->instance->name;
}

static int take_uid(void *plan, struct error *error)
{
    struct launch *launch = plan;
    return launch->user == LAUNCH_POOL ? launch_take_uid(launch, error) : 0;
}

static int return_uid(void *plan, struct error *error)
{
    struct launch *launch = plan;
    if (launch->unknown)
        return 0;
    return launch->user == LAUNCH_POOL ? launch_return_uid(launch, error) : 0;
}

json_t *launch_record(const struct launch *launch)
{
    const struct launch_heir *heir = launch->options != NULL ? launch->options->heir : NULL;

    return cmdline_record(launch->instance, &launch->plan,
                          heir != NULL ? heir->home : launch->rundir);
}

static int record_intent(void *plan, struct error *error)
{
    struct launch *launch = plan;
    struct runtime *runtime = launch->runtime;

    launch->fresh = runtime->generation == 0;
    launch->state_before = runtime->state;
    /* A reboot keeps its mark until the guest runs again: only so can 'kvm-stop --reboot', repeated, finish it. */
    if (runtime->state != RUNTIME_REBOOTING)
        runtime->state = RUNTIME_STARTING;
    runtime->pid = 0;
    runtime->start_time = 0;
    snprintf(runtime->boot_id, sizeof(runtime->boot_id), "%s", process_boot_id());
    json_decref(runtime->kvm_cmd);
    json_object_set_new(runtime->ours, "firmware", launch_firmware_record(launch));
    json_object_set_new(runtime->ours, "tpm", launch_tpm_record(launch));
    runtime->kvm_cmd = launch_record(launch);
    return runtime_commit(launch->rundir, runtime, error);
}

/* A start leaves no file behind; a reboot that fails leaves the instance stopped and to be started. */
static int drop_intent(void *plan, struct error *error)
{
    struct launch *launch = plan;

    if (launch->unknown)
        return 0;
    launch->runtime->pid = 0;
    /* The clean-up that runs ifdown again needs the NICs' configuration. */
    if (launch->network_left)
        return runtime_commit(launch->rundir, launch->runtime, error);
    if (!launch->fresh) {
        launch->runtime->state = launch->state_before;
        return runtime_commit(launch->rundir, launch->runtime, error);
    }
    char events[RUNDIR_PATH_MAX], log[RUNDIR_PATH_MAX];
    rundir_name(RUNDIR_EVENTS, instance_name(launch), events);
    rundir_name(RUNDIR_LOG, instance_name(launch), log);
    if (file_remove(launch->rundir->fd, events, NULL, error) < 0 ||
        file_remove(launch->rundir->fd, log, NULL, error) < 0)
        return -1;
    return runtime_remove(launch->rundir, instance_name(launch), error);
}

static int open_disk(struct launch *launch, size_t i, struct error *error)
{
    const struct launch_options *options = launch->options;
    const struct disk *disk = &launch->instance->disks[i];

    launch->disks[i] = image_open(disk->path, device_open_flags(disk, launch->instance), error);
    if (launch->disks[i] < 0)
        return -1;
    return options->check_image == NULL
               ? 0
               : options->check_image(options->check_context, i, launch->disks[i], error);
}

static int open_images(void *plan, struct error *error)
{
    struct launch *launch = plan;
    const struct instance *instance = launch->instance;

    for (size_t i = 0; i < instance->disk_count; i++) {
        if (!disk_is_userspace(&instance->disks[i]) && open_disk(launch, i, error) < 0)
            return -1;
    }
    for (int i = 0; i < MEDIA; i++) {
        const char *place = media_file(instance, (enum medium)i);
        if (place == NULL || media_is_web(instance, (enum medium)i))
            continue;
        launch->media[i] = image_open(place, O_RDONLY, error);
        if (launch->media[i] < 0)
            return -1;
    }
    if (launch_open_firmware(launch, error) < 0)
        return -1;
    launch->events = events_open(launch->rundir, instance_name(launch), error);
    return launch->events < 0 ? -1 : 0;
}

static int set_up_guest(void *plan, struct error *error)
{
    struct launch *launch = plan;

    if (launch_set_passwords(launch, error) < 0 || launch_set_affinity(launch, error) < 0)
        return -1;
    if (launch_set_limits(launch, error) < 0 || launch_set_links(launch, error) < 0)
        return -1;
    if (launch->options->incoming) /* the memory's size comes with the guest */
        return 0;
    return launch_set_balloon(launch, error);
}

static int record_running(void *plan, struct error *error)
{
    struct launch *launch = plan;
    struct runtime *runtime = launch->runtime;
    const json_t *version = qmp_version(launch->qmp);

    runtime->state = launch->options->incoming ? RUNTIME_INCOMING
                     : launch->options->paused ? RUNTIME_PAUSED
                                               : RUNTIME_RUNNING;
    runtime->pid = launch->pid;
    if (!process_start_time(launch->pid, &runtime->start_time))
        return error_set(error, STATUS_FAILED, "QEMU (pid %d) has ended", (int)launch->pid);
    json_object_set_new(runtime->ours, "qemu",
                        memory_json(json_pack("{s:s, s:O?}", "binary",
                                              hvparams_text(launch->instance->hvparams, "kvm_path"),
                                              "version", version)));
    return runtime_commit(launch->rundir, runtime, error);
}

/* The reply to cont got lost: the guest may have run, so nothing may be undone unless QEMU is dead. */
static int cont_unknown(struct launch *launch, struct error *error)
{
    if (process_wait_gone(launch->pidfd, clock_deadline(100)))
        return launch_say_what_qemu_said(launch, error);
    launch->unknown = true;
    error->status = STATUS_INCOMPLETE;
    return error_append(error, "; 'kvm-info %s' shows whether the guest runs",
                        instance_name(launch));
}

static int let_guest_run(void *plan, struct error *error)
{
    struct launch *launch = plan;
    double before = clock_wall();

    if (launch->options->paused || launch->options->incoming)
        return 0;
    switch (qmp_call(launch->qmp, "cont", NULL, launch->options->deadline, NULL, error)) {
    case QMP_REFUSED:
        return -1;
    case QMP_UNKNOWN:
        return cont_unknown(launch, error);
    case QMP_DONE:
        break;
    }
    deadline_t deadline = clock_deadline(RESUME_WAIT_MS);
    bool seen = false;
    while (!(seen = events_seen(launch->rundir, instance_name(launch), "RESUME", before)) &&
           !clock_passed(deadline))
        clock_sleep_ms(1);
    if (!seen) {
        probe_note_event_log(launch->rundir, hvparams_text(launch->instance->hvparams, "kvm_path"),
                             false);
        messages_add(launch->warnings,
                     "this QEMU does not write its event log: how the instance ends can't be told; "
                     "the next start uses the socket form of the log");
    }
    return 0;
}

static const struct step steps[] = {
    {"choose the user", take_uid, return_uid, false},
    {"record the intent in the runtime", record_intent, drop_intent, false},
    {"make the NVRAM", launch_make_nvram, launch_remove_nvram, false},
    {"open the images", open_images, NULL, false},
    {"set up the network", launch_bring_up_network, launch_take_down_network, false},
    {"make the monitor sockets", launch_make_sockets, launch_remove_sockets, false},
    {"start the TPM's emulator", launch_start_tpm, launch_end_tpm, false},
    {"start QEMU", launch_start_qemu, launch_end_qemu, false},
    {"meet QEMU on its monitor", launch_meet_qemu, NULL, false},
    {"set passwords, affinity, limits and balloon", set_up_guest, NULL, false},
    {"record it as running", record_running, NULL, false},
    {"let the guest run", let_guest_run, NULL, false},
};

int launch_run(struct launch *launch, struct runtime *runtime, const struct launch_options *options,
               struct messages *warnings, struct error *error)
{
    launch->runtime = runtime;
    launch->instance = &runtime->instance;
    launch->options = options;
    launch->warnings = warnings;
    int result = transaction_run(steps, COUNT(steps), launch, options->observe, error);
    qmp_release(&launch->qmp); /* one client at a time: the next may be a hook's command */
    if (result == 0)
        return 0;
    /* Nothing goes on any more: that the time was up is the cause, not the state. */
    if (error->status == STATUS_TIMEOUT) {
        error->status = STATUS_FAILED;
        error_append(error, "; the time was up, everything was undone");
    }
    /* Where it is not a start of its own, the caller knows what finishes it. */
    bool own = launch->fresh && !options->incoming && !launch->unknown && !launch->network_left;
    if (error->status == STATUS_INCOMPLETE && own)
        error_append(error, "; 'kvm-cleanup %s' removes what is left", instance_name(launch));
    return -1;
}
