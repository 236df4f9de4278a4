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
#include "kvm/operations/teardown.h"
#include "kvm/qemu/events.h"
#include "kvm/qemu/monitor.h"

enum { LOG_KEPT_BYTES = 1024 * 1024, LOG_TAIL_BYTES = 2048, END_WAIT_MS = 200, FIRST_DISK_SET = 2 };

static const char *instance_name(const struct launch *launch)
{
    return launch->instance->name;
}

/* At a clean end QEMU unlinks what it listened on, by the name that it was bound to. In place this one's sockets get other
 * names, and the next QEMU's get those: so it is bound to a name that means something in this process only. */
static void name_for_nobody(const struct launch *launch, enum launch_socket which,
                            struct sockaddr_un *address)
{
    char name[RUNDIR_PATH_MAX];

    rundir_name(launch_socket_file(which), instance_name(launch), name);
    snprintf(address->sun_path, sizeof(address->sun_path), "/proc/self/fd/%d/%.90s",
             launch->rundir->fd, name);
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
    if (launch->options->heir != NULL)
        name_for_nobody(launch, which, &address);
    if (unlink(path) < 0 && errno != ENOENT)
        return error_errno(error, STATUS_FAILED, "%s", path);
    *descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (*descriptor < 0)
        return error_errno(error, STATUS_FAILED, "socket");
    if (bind(*descriptor, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return error_errno(error, STATUS_FAILED, "%s", path);
    return 0;
}

int launch_remove_sockets(void *plan, struct error *error)
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

int launch_make_sockets(void *plan, struct error *error)
{
    struct launch *launch = plan;
    char mark[RUNDIR_PATH_MAX];

    /* Of an earlier run: a watcher would take it for this one's. */
    rundir_name(RUNDIR_SHUTDOWN, instance_name(launch), mark);
    if (file_remove(launch->rundir->fd, mark, NULL, error) < 0)
        return -1;
    for (int i = 0; i < SOCKET_COUNT; i++) {
        if (!launch_uses_socket(launch, (enum launch_socket)i))
            continue;
        if (bind_socket(launch, (enum launch_socket)i, &launch->sockets[i], error) < 0) {
            launch_remove_sockets(launch, NULL);
            return -1;
        }
    }
    return 0;
}

/* A file of the instance that is kept open for QEMU; made when it is not there. What was planted in its place would be
 * written to, or hold us up. */
static int open_own(const struct launch *launch, enum rundir_file which, int flags, off_t *size,
                    struct error *error)
{
    char name[RUNDIR_PATH_MAX];
    struct stat status;

    rundir_name(which, instance_name(launch), name);
    int file = openat(launch->rundir->fd, name,
                      flags | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600);
    if (file < 0)
        return error_errno(error, STATUS_FAILED, "%s/%s", launch->rundir->path, name);
    /* O_NONBLOCK was for opening; QEMU inherits the flags. */
    if (fstat(file, &status) == 0 && S_ISREG(status.st_mode) && status.st_nlink == 1 &&
        (status.st_uid == 0 || status.st_uid == geteuid()) &&
        fcntl(file, F_SETFL, flags & O_APPEND) == 0) {
        *size = status.st_size;
        return file;
    }
    close(file);
    return error_set(error, STATUS_FAILED, "%s/%s: refused, it is not a regular file of ours",
                     launch->rundir->path, name);
}

/* QEMU's messages: what an earlier run said is kept, unless it is much. */
int launch_open_log(struct launch *launch, struct error *error)
{
    int log = open_own(launch, RUNDIR_LOG, O_WRONLY | O_APPEND, &launch->log_start, error);

    if (log >= 0 && launch->log_start > LOG_KEPT_BYTES && ftruncate(log, 0) == 0)
        launch->log_start = 0;
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

int launch_say_what_qemu_said(const struct launch *launch, struct error *error)
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
        if (launch->instance->disks[i].path == NULL)
            continue;
        if (strstr(tail, set) != NULL || strstr(tail, bare) != NULL)
            error_append(error, "; it is about disks[%zu], %s", i, launch->instance->disks[i].path);
    }
    if (launch->nvram != NULL && strstr(tail, "/dev/fdset/1001") != NULL)
        error_append(error, "; it is about the NVRAM, %s", launch->nvram);
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

static int remove_chroot(const struct launch *launch, struct error *error)
{
    char name[RUNDIR_PATH_MAX];

    if (launch->chroot == NULL)
        return 0;
    rundir_name(RUNDIR_CHROOT, instance_name(launch), name);
    if (unlinkat(launch->rundir->fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return error_errno(error, STATUS_INCOMPLETE, "%s/%s", launch->rundir->path, name);
    return 0;
}

static int open_pid_file(struct launch *launch, struct error *error)
{
    off_t size;

    launch->pid_file = open_own(launch, RUNDIR_PID, O_RDWR, &size, error);
    return launch->pid_file < 0 ? -1 : 0;
}

int launch_end_qemu(void *plan, struct error *error)
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
    if (file_remove(launch->rundir->fd, name, NULL, error) < 0 ||
        teardown_remove_vnc_socket(launch->instance, error) < 0)
        return -1;
    return remove_chroot(launch, error);
}

int launch_start_qemu(void *plan, struct error *error)
{
    static const char *const environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C",
                                              NULL};
    struct launch *launch = plan;

    launch->plan.incoming = launch->options->incoming;
    launch->plan.vnc_later = launch->options->heir != NULL;
    launch_number_descriptors(launch);
    AUTO_JSON json_t *words = cmdline_build(launch->instance, &launch->plan, error);
    if (words == NULL)
        return -1;
    AUTO_FREE const char **argv = memory_zeroed(json_array_size(words) + 1, sizeof(char *));
    for (size_t i = 0; i < json_array_size(words); i++)
        argv[i] = json_string_value(json_array_get(words, i));
    AUTO_CLOSE int log = launch_open_log(launch, error);
    if (log < 0 || prepare_chroot(launch, error) < 0)
        return -1;
    if (open_pid_file(launch, error) < 0) {
        remove_chroot(launch, NULL);
        return -1;
    }
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
        launch_end_qemu(launch, NULL);
        return -1;
    }
    /* Our copies would keep the queue of a QEMU open that has ended, and a client waiting in it. */
    for (int i = 0; i < SOCKET_COUNT; i++) {
        memory_close(&launch->sockets[i]);
        launch->sockets[i] = -1;
    }
    launch_close_tpm(launch);
    return 0;
}

/* While QEMU opens its images it does not answer. */
static int say_what_it_waits_for(const struct launch *launch, struct error *error)
{
    bool late = error->status == STATUS_TIMEOUT;

    launch_say_what_qemu_said(launch, error);
    for (size_t i = 0; late && i < launch->instance->disk_count; i++) {
        if (!disk_is_userspace(&launch->instance->disks[i]))
            continue;
        error_append(error, "; QEMU may be waiting for the server of disks[%zu], %s", i,
                     launch->instance->disks[i].uri);
        break;
    }
    return -1;
}

/* QEMU is ready when it answers; that the answer is QEMU's own is proven by the peer's credentials. */
int launch_meet_qemu(void *plan, struct error *error)
{
    struct launch *launch = plan;
    AUTO_FREE char *path = rundir_path(launch->rundir, RUNDIR_QMP, instance_name(launch));
    char status[32];

    launch->qmp = qmp_connect_peer(path, launch->pid, false, launch->options->deadline, error);
    if (launch->qmp == NULL && process_wait_gone(launch->pidfd, clock_deadline(100)))
        error_set(error, STATUS_FAILED, "QEMU (pid %d) has ended", (int)launch->pid);
    if (launch->qmp == NULL)
        return say_what_it_waits_for(launch, error);
    if (monitor_status(launch->qmp, launch->options->deadline, status, error) < 0)
        return launch_say_what_qemu_said(launch, error);
    const char *expected = launch->options->incoming ? "inmigrate" : "prelaunch";
    if (strcmp(status, expected) != 0)
        return error_set(error, STATUS_FAILED, "QEMU is \"%s\" instead of \"%s\"", status,
                         expected);
    return 0;
}
