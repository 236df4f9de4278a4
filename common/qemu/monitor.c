/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "kvm/qemu/monitor.h"

enum { FIND_ATTEMPTS = 20, STATUS_SIZE = 32, LOOK_WAIT_MS = 2000 };

static int say_what_to_do(const struct rundir *rundir, const char *name, const char *file,
                          struct error *error)
{
    return error_append(error,
                        ": whether the instance runs is not known; when 'pgrep -af \"name %s\"' "
                        "shows no QEMU of it: mv %s/%s %s/chroot-quarantine/%s.pid",
                        name, rundir->path, file, rundir->path, name);
}

/* Returns the descriptor, -1 with *missing set, or -1 with an error. A pid file that somebody else
 * could have put there proves nothing, and must not be read as "dead" either. */
static int open_pid_file(const struct rundir *rundir, const char *name, bool *missing,
                         struct error *error)
{
    char file[RUNDIR_PATH_MAX];
    rundir_name(RUNDIR_PID, name, file);
    *missing = false;
    int descriptor = openat(rundir->fd, file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) {
        *missing = errno == ENOENT;
        if (*missing)
            return -1;
        error_errno(error, STATUS_FAILED, "%s/%s", rundir->path, file);
        return say_what_to_do(rundir, name, file, error);
    }
    struct stat status;
    const char *fault = NULL;
    if (fstat(descriptor, &status) != 0)
        fault = "can't be examined";
    else if (!S_ISREG(status.st_mode))
        fault = "not a regular file";
    else if (status.st_uid != 0 && status.st_uid != geteuid())
        fault = "belongs to another user";
    if (fault == NULL)
        return descriptor;
    close(descriptor);
    error_set(error, STATUS_FAILED, "%s/%s: %s", rundir->path, file, fault);
    return say_what_to_do(rundir, name, file, error);
}

enum attempt { ATTEMPT_FOUND, ATTEMPT_NONE, ATTEMPT_AGAIN, ATTEMPT_FAILED };

/* The lock's holder may end, and its pid be used again, between any two questions: the pidfd pins a
 * process, and it is the holder when it still is after that. */
static enum attempt attempt_find(int pid_file, struct qemu_process *process, struct error *error)
{
    pid_t holder = process_lock_holder(pid_file);
    if (holder < 0) {
        error_errno(error, STATUS_FAILED, "lock holder");
        return ATTEMPT_FAILED;
    }
    if (holder == 0)
        return ATTEMPT_NONE;
    int pidfd = process_pidfd(holder);
    if (pidfd < 0 && errno == ESRCH)
        return ATTEMPT_AGAIN;
    if (pidfd < 0) {
        error_errno(error, STATUS_FAILED, "lock holder, pid %d", (int)holder);
        return ATTEMPT_FAILED;
    }
    uint64_t start_time = 0;
    if (process_start_time(holder, &start_time) && process_lock_holder(pid_file) == holder) {
        *process = (struct qemu_process){holder, start_time, pidfd};
        return ATTEMPT_FOUND;
    }
    close(pidfd);
    return ATTEMPT_AGAIN;
}

int monitor_find(const struct rundir *rundir, const char *name, struct qemu_process *process,
                 struct error *error)
{
    *process = (struct qemu_process){0, 0, -1};
    bool missing = false;
    AUTO_CLOSE int pid_file = open_pid_file(rundir, name, &missing, error);
    if (pid_file < 0)
        return missing ? 0 : -1;
    for (int i = 0; i < FIND_ATTEMPTS; i++) {
        enum attempt attempt = attempt_find(pid_file, process, error);
        if (attempt == ATTEMPT_FOUND || attempt == ATTEMPT_NONE)
            return 0;
        if (attempt == ATTEMPT_FAILED)
            return error_prefix(error, "%s/pid/%s", rundir->path, name);
        clock_sleep_ms(1);
    }
    uint64_t own;
    if (!process_start_time(getpid(), &own))
        return error_set(error, STATUS_FAILED,
                         "%s/pid/%s is locked, but /proc can't be read: whether the instance runs "
                         "is not known; mount -t proc proc /proc",
                         rundir->path, name);
    return error_set(error, STATUS_FAILED, "%s/pid/%s: its lock changes hands without end",
                     rundir->path, name);
}

void monitor_forget(struct qemu_process *process)
{
    if (process->pid != 0 && process->pidfd >= 0)
        close(process->pidfd);
    *process = (struct qemu_process){0, 0, -1};
}

bool monitor_is_recorded(const struct qemu_process *process, const struct runtime *runtime)
{
    if (runtime == NULL || runtime->pid == 0 || runtime->state == RUNTIME_FOREIGN)
        return true;
    if (strcmp(runtime->boot_id, process_boot_id()) != 0)
        return true;
    return runtime->pid == process->pid &&
           (runtime->start_time == 0 || runtime->start_time == process->start_time);
}

/* The value of -name: the first item without a key, or the item guest=, is the name. */
static bool names_another(const char *value, const char *name)
{
    bool another = false;

    for (const char *item = value; item != NULL; item = strchr(item, ',')) {
        item += *item == ',';
        size_t length = strcspn(item, ",");
        bool keyed = strncmp(item, "guest=", strlen("guest=")) == 0;
        if (!keyed && (item != value || memchr(item, '=', length) != NULL))
            continue;
        size_t key = keyed ? strlen("guest=") : 0;
        if (length - key == strlen(name) && memcmp(item + key, name, length - key) == 0)
            return false;
        another = true;
    }
    return another;
}

bool monitor_is_of_another(pid_t pid, const char *name)
{
    size_t length = 0;
    AUTO_FREE char *words = process_command_line(pid, &length);
    bool another = false;

    for (size_t i = 0; words != NULL && i < length; i += strlen(words + i) + 1) {
        size_t value = i + strlen(words + i) + 1;
        if (strcmp(words + i, "-name") != 0 && strcmp(words + i, "--name") != 0)
            continue;
        if (value >= length || !names_another(words + value, name))
            return false;
        another = true;
    }
    return another;
}

struct qmp *monitor_open(const struct rundir *rundir, const char *name, enum rundir_file file,
                         const struct qemu_process *process, deadline_t deadline,
                         struct error *error)
{
    AUTO_FREE char *path = rundir_path(rundir, file, name);
    return qmp_connect_peer(path, process->pid, false, deadline, error);
}

struct qmp *monitor_look(const struct rundir *rundir, const char *name,
                         const struct qemu_process *process, const struct qmp_request *asked,
                         size_t count, deadline_t deadline, struct error *error)
{
    struct error missing = {0};
    AUTO_FREE char *query = rundir_path(rundir, RUNDIR_QUERY, name);
    struct qmp *qmp = qmp_connect_asking(query, process->pid, asked, count, deadline, &missing);
    if (qmp != NULL)
        return qmp;
    if (missing.status != STATUS_FAILED) {
        error_set(error, missing.status, "%s", missing.text);
        return NULL;
    }
    /* Not there, or left by an earlier QEMU. */
    AUTO_FREE char *only = rundir_path(rundir, RUNDIR_QMP, name);
    return qmp_connect_asking(only, process->pid, asked, count,
                              clock_earlier(deadline, clock_deadline(LOOK_WAIT_MS)), error);
}

int monitor_status(struct qmp *qmp, deadline_t deadline, char *status, struct error *error)
{
    AUTO_JSON json_t *result = NULL;
    if (qmp_call(qmp, "query-status", NULL, deadline, &result, error) != QMP_DONE)
        return -1;
    const char *word = json_text(result, "status");
    /* It is shown to people as it stands. */
    if (word == NULL || strlen(word) >= STATUS_SIZE ||
        strspn(word, "abcdefghijklmnopqrstuvwxyz-") != strlen(word))
        return error_set(error, STATUS_FAILED, "query-status: the answer has no status");
    memcpy(status, word, strlen(word) + 1);
    return 0;
}
