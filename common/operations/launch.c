/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "launch_private.h"
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "kvm/base/text.h"
#include "kvm/base/transaction.h"
#include "kvm/host/network.h"
#include "kvm/operations/image.h"
#include "kvm/operations/migration.h"
#include "kvm/qemu/device.h"
#include "kvm/qemu/events.h"
#include "kvm/qemu/monitor.h"
#include "kvm/state/hvparams.h"

enum {
    LOG_KEPT_BYTES = 1024 * 1024,
    LOG_TAIL_BYTES = 2048,
    RESUME_WAIT_MS = 1000,
    END_WAIT_MS = 200,
    FIRST_DISK_SET = 2,
    UNDO_MS = 1000
};

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
    runtime->kvm_cmd = cmdline_record(launch->instance, &launch->plan, launch->rundir);
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

static int open_images(void *plan, struct error *error)
{
    struct launch *launch = plan;
    const struct instance *instance = launch->instance;
    const char *cdrom = hvparams_text(instance->hvparams, "cdrom_image_path");
    const char *floppy = hvparams_text(instance->hvparams, "floppy_image_path");

    for (size_t i = 0; i < instance->disk_count; i++) {
        const struct disk *disk = &instance->disks[i];
        launch->disks[i] = image_open(disk->path, device_open_flags(disk, instance), error);
        if (launch->disks[i] < 0)
            return -1;
    }
    if (cdrom[0] != '\0' && (launch->cdrom = image_open(cdrom, O_RDONLY, error)) < 0)
        return -1;
    if (floppy[0] != '\0' && (launch->floppy = image_open(floppy, O_RDONLY, error)) < 0)
        return -1;
    launch->events = events_open(launch->rundir, instance_name(launch), error);
    return launch->events < 0 ? -1 : 0;
}

static int take_down_nic(struct launch *launch, size_t index, struct error *error)
{
    const struct nic *nic = &launch->instance->nics[index];
    const char *name = instance_name(launch);
    char tap[TAP_NAME_SIZE];
    int result = 0;

    if (!network_read_tap(launch->rundir, name, nic->uuid, tap))
        return 0;
    /* Also when the time of the start is up: what ifup did must not stay. */
    deadline_t least = clock_deadline(UNDO_MS), given = launch->options->deadline;
    deadline_t deadline = given > least ? given : least;
    if (network_ifdown(name, nic, index, tap, false, launch->node->path, deadline, error) < 0) {
        launch->network_left = true;
        result = error_append(error, "; 'kvm-cleanup %s' tries it again", name);
    }
    tap_close(&launch->taps[index]);
    if (result == 0)
        result = network_remove_tap(launch->rundir, name, index, nic->uuid, error);
    return result;
}

static int take_down_network(void *plan, struct error *error)
{
    struct launch *launch = plan;
    int result = 0;

    for (size_t i = launch->nics_up; i-- > 0 && !launch->unknown;)
        if (take_down_nic(launch, i, error) < 0)
            result = -1;
    return result;
}

static int bring_up_nic(struct launch *launch, size_t index, struct error *error)
{
    const struct instance *instance = launch->instance;
    const struct nic *nic = &instance->nics[index];
    struct tap *tap = &launch->taps[index];
    bool vnet_hdr = hvparams_truth(instance->hvparams, "vnet_hdr") &&
                    strcmp(placement_nic_driver(instance), "virtio-net-pci") == 0;

    if (tap_make(nic->uuid, vnet_hdr, launch->queues, tap, error) < 0)
        return -1;
    launch->nics_up = index + 1;
    /* A route to a guest that still runs elsewhere would cut it off: a routed NIC is set up when the guest has come. */
    bool later = launch->options->incoming && nic->mode == NIC_ROUTED;
    if (later)
        migration_note_tap(launch->runtime, nic->uuid, tap->name);
    if (!later &&
        network_write_tap(launch->rundir, instance->name, index, nic->uuid, tap->name, error) < 0)
        return -1;
    for (size_t queue = 0; launch->want_vhost && queue < launch->queues; queue++) {
        launch->vhost[index][queue] = tap_open_vhost();
        if (launch->vhost[index][queue] < 0)
            return error_errno(error, STATUS_FAILED, "/dev/vhost-net");
    }
    return later ? 0
                 : network_ifup(instance, index, tap->name, launch->node->path,
                                launch->options->deadline, error);
}

static int bring_up_network(void *plan, struct error *error)
{
    struct launch *launch = plan;

    for (size_t i = 0; i < launch->instance->nic_count; i++) {
        if (bring_up_nic(launch, i, error) == 0)
            continue;
        error_prefix(error, "nics[%zu]", i);
        struct error second = {0};
        if (take_down_network(launch, &second) < 0) {
            error->status = STATUS_INCOMPLETE;
            error_append(error, "; %s", second.text);
        }
        return -1;
    }
    return 0;
}

static int bind_socket(const struct launch *launch, enum launch_socket which, int *descriptor,
                       struct error *error)
{
    AUTO_FREE char *path =
        rundir_path(launch->rundir, launch_socket_file(which), instance_name(launch));
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(address.sun_path))
        return error_set(error, STATUS_USAGE, "%s: longer than a socket's path can be", path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (unlink(path) < 0 && errno != ENOENT)
        return error_errno(error, STATUS_FAILED, "%s", path);
    *descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (*descriptor < 0)
        return error_errno(error, STATUS_FAILED, "socket");
    if (bind(*descriptor, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return error_errno(error, STATUS_FAILED, "%s", path);
    return 0;
}

static int remove_sockets(void *plan, struct error *error)
{
    struct launch *launch = plan;
    char name[RUNDIR_PATH_MAX];
    int result = 0;

    for (int i = 0; i < SOCKET_COUNT && !launch->unknown; i++) {
        rundir_name(launch_socket_file((enum launch_socket)i), instance_name(launch), name);
        if (launch_uses_socket(launch, (enum launch_socket)i) &&
            file_remove(launch->rundir->fd, name, NULL, error) < 0)
            result = -1;
    }
    return result;
}

static int make_sockets(void *plan, struct error *error)
{
    struct launch *launch = plan;

    for (int i = 0; i < SOCKET_COUNT; i++) {
        if (!launch_uses_socket(launch, (enum launch_socket)i))
            continue;
        if (bind_socket(launch, (enum launch_socket)i, &launch->sockets[i], error) < 0) {
            remove_sockets(launch, NULL);
            return -1;
        }
    }
    return 0;
}

/* QEMU's messages: what an earlier run said is kept, unless it is much. */
static int open_log(struct launch *launch, struct error *error)
{
    char name[RUNDIR_PATH_MAX];
    struct stat status;

    rundir_name(RUNDIR_LOG, instance_name(launch), name);
    int log = openat(launch->rundir->fd, name,
                     O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (log < 0)
        return error_errno(error, STATUS_FAILED, "%s/%s", launch->rundir->path, name);
    if (fstat(log, &status) == 0 && status.st_size > LOG_KEPT_BYTES && ftruncate(log, 0) == 0)
        status.st_size = 0;
    launch->log_start = status.st_size;
    return log;
}

/* What QEMU said since this start, for the message that it has ended. The caller frees. */
static char *log_tail(const struct launch *launch)
{
    char name[RUNDIR_PATH_MAX], text[LOG_TAIL_BYTES + 1];
    struct stat status;

    rundir_name(RUNDIR_LOG, instance_name(launch), name);
    AUTO_CLOSE int log = openat(launch->rundir->fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (log < 0 || fstat(log, &status) < 0)
        return memory_copy("");
    off_t from = launch->log_start;
    if (status.st_size - from > LOG_TAIL_BYTES)
        from = status.st_size - LOG_TAIL_BYTES;
    ssize_t length = pread(log, text, LOG_TAIL_BYTES, from);
    while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == '\r'))
        length--;
    return length > 0 ? text_escape(text, (size_t)length) : memory_copy("");
}

static int say_what_qemu_said(const struct launch *launch, struct error *error)
{
    AUTO_FREE char *tail = log_tail(launch);

    if (tail[0] == '\0')
        return -1;
    if (process_wait_gone(launch->pidfd, clock_deadline(END_WAIT_MS)))
        error_set(error, STATUS_FAILED, "QEMU has ended: %s", tail);
    else
        error_append(error, "; QEMU says: %s", tail);
    /* It knows its images by the number of their fd set only. */
    for (size_t i = 0; i < launch->instance->disk_count; i++) {
        AUTO_FREE char *set = memory_format("/dev/fdset/%zu\"", FIRST_DISK_SET + i);
        AUTO_FREE char *bare = memory_format("/dev/fdset/%zu]", FIRST_DISK_SET + i);
        if (strstr(tail, set) != NULL || strstr(tail, bare) != NULL)
            error_append(error, "; it is about disks[%zu], %s", i, launch->instance->disks[i].path);
    }
    return -1;
}

static int prepare_chroot(const struct launch *launch, struct error *error)
{
    char name[RUNDIR_PATH_MAX];

    if (launch->chroot == NULL)
        return 0;
    rundir_name(RUNDIR_CHROOT, instance_name(launch), name);
    return file_make_directory(launch->rundir->fd, name, 0700, error);
}

static int open_pid_file(struct launch *launch, struct error *error)
{
    char name[RUNDIR_PATH_MAX];

    rundir_name(RUNDIR_PID, instance_name(launch), name);
    launch->pid_file =
        openat(launch->rundir->fd, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (launch->pid_file < 0)
        return error_errno(error, STATUS_FAILED, "%s/%s", launch->rundir->path, name);
    return 0;
}

static int end_qemu(void *plan, struct error *error)
{
    struct launch *launch = plan;
    char name[RUNDIR_PATH_MAX];

    if (launch->unknown)
        return 0;
    qmp_release(&launch->qmp);
    if (launch->pid > 0)
        process_end_child(launch->pid, launch->pidfd);
    launch->pid = 0;
    rundir_name(RUNDIR_PID, instance_name(launch), name);
    /* Somebody else may have taken the pid file meanwhile (another tool's start): then it is theirs. */
    if (launch->pid_file >= 0 && process_lock_holder(launch->pid_file) != 0)
        return error_set(error, STATUS_INCOMPLETE, "%s is locked by pid %d", name,
                         (int)process_lock_holder(launch->pid_file));
    if (file_remove(launch->rundir->fd, name, NULL, error) < 0)
        return -1;
    if (launch->chroot == NULL)
        return 0;
    rundir_name(RUNDIR_CHROOT, instance_name(launch), name);
    if (unlinkat(launch->rundir->fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return error_errno(error, STATUS_INCOMPLETE, "%s/%s", launch->rundir->path, name);
    return 0;
}

static int start_qemu(void *plan, struct error *error)
{
    static const char *const environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C",
                                              NULL};
    struct launch *launch = plan;

    launch->plan.incoming = launch->options->incoming;
    launch_number_descriptors(launch);
    AUTO_JSON json_t *words = cmdline_build(launch->instance, &launch->plan, error);
    if (words == NULL)
        return -1;
    AUTO_FREE const char **argv = memory_zeroed(json_array_size(words) + 1, sizeof(char *));
    for (size_t i = 0; i < json_array_size(words); i++)
        argv[i] = json_string_value(json_array_get(words, i));
    AUTO_CLOSE int log = open_log(launch, error);
    if (log < 0 || open_pid_file(launch, error) < 0 || prepare_chroot(launch, error) < 0)
        return -1;
    launch_number_descriptors(launch);
    events_note(launch->rundir, instance_name(launch), "KVM_SUITE_START", "start", NULL);

    struct process_spec spec = {
        .argv = argv,
        .environment = environment,
        .descriptors = launch->table,
        .descriptor_count = launch->table_count,
        .input = -1,
        .output = log,
        .errors = log,
        .new_session = true,
        .die_with_parent_until_exec = true,
        .no_core = true,
        .no_new_privs = true,
        .drop_user = launch->user != LAUNCH_ROOT && launch->chroot == NULL,
        .uid = launch->uid,
        .gid = launch->gid,
        .pid_lock = 0,
        .listen = launch->listen,
        .listen_count = launch->listen_count,
    };
    launch->pid = process_spawn(&spec, &launch->pidfd, error);
    if (launch->pid < 0) {
        launch->pid = 0;
        end_qemu(launch, NULL);
        return -1;
    }
    return 0;
}

/* QEMU is ready when it answers; that the answer is QEMU's own is proven by the peer's credentials. */
static int meet_qemu(void *plan, struct error *error)
{
    struct launch *launch = plan;
    AUTO_FREE char *path = rundir_path(launch->rundir, RUNDIR_QMP, instance_name(launch));
    char status[32];

    launch->qmp = qmp_connect_peer(path, launch->pid, false, launch->options->deadline, error);
    if (launch->qmp == NULL && process_wait_gone(launch->pidfd, clock_deadline(100)))
        error_set(error, STATUS_FAILED, "QEMU (pid %d) has ended", (int)launch->pid);
    if (launch->qmp == NULL)
        return say_what_qemu_said(launch, error);
    if (monitor_status(launch->qmp, launch->options->deadline, status, error) < 0)
        return say_what_qemu_said(launch, error);
    const char *expected = launch->options->incoming ? "inmigrate" : "prelaunch";
    if (strcmp(status, expected) != 0)
        return error_set(error, STATUS_FAILED, "QEMU is \"%s\" instead of \"%s\"", status,
                         expected);
    return 0;
}

static int set_up_guest(void *plan, struct error *error)
{
    struct launch *launch = plan;

    if (launch_set_passwords(launch, error) < 0 || launch_set_affinity(launch, error) < 0)
        return -1;
    if (launch_set_limits(launch, error) < 0)
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
        return say_what_qemu_said(launch, error);
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
    {"open the images", open_images, NULL, false},
    {"set up the network", bring_up_network, take_down_network, false},
    {"make the monitor sockets", make_sockets, remove_sockets, false},
    {"start QEMU", start_qemu, end_qemu, false},
    {"meet QEMU on its monitor", meet_qemu, NULL, false},
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
    if (transaction_run(steps, COUNT(steps), launch, options->observe, error) == 0)
        return 0;
    /* Nothing goes on any more: that the time was up is the cause, not the state. */
    if (error->status == STATUS_TIMEOUT) {
        error->status = STATUS_FAILED;
        error_append(error, "; the time was up, everything was undone");
    }
    return -1;
}
