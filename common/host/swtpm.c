/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/host/swtpm.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvm/base/file.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"

enum { OWN_END_MS = 2000, TERM_MS = 1000, KILL_MS = 1000, LAST_MS = 200, POLL_MS = 2 };

char *swtpm_state(const struct node *node, const char *name)
{
    return memory_format("%s/tpm/%s", node->state_path, name);
}

bool swtpm_state_is_used(const char *state)
{
    AUTO_FREE char *path = memory_format("%s/.lock", state);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    AUTO_CLOSE int file = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);

    return file >= 0 && fcntl(file, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/* The directory is the instance's user's: nothing in it is followed, and only what is a file of its own is given away. */
static int give_to(int directory, uid_t uid, gid_t gid)
{
    int copy = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *entries = file_entries(copy);
    struct stat status;
    int result = entries == NULL ? -1 : fchown(directory, uid, gid);

    for (struct dirent *entry; entries != NULL && (entry = readdir(entries)) != NULL;) {
        if (fstatat(directory, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(status.st_mode) && status.st_nlink == 1 &&
            fchownat(directory, entry->d_name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
            result = -1;
    }
    if (entries != NULL)
        closedir(entries);
    return result;
}

int swtpm_state_prepare(const struct node *node, const char *name, uid_t uid, gid_t gid, bool *made,
                        struct error *error)
{
    AUTO_FREE char *parent = memory_format("%s/tpm", node->state_path);
    AUTO_FREE char *state = swtpm_state(node, name);

    /* Passed through by the users of the instances, listed by root alone. */
    if (file_make_directory(AT_FDCWD, node->state_path, 0711, error) < 0 ||
        file_make_directory(AT_FDCWD, parent, 0711, error) < 0)
        return -1;
    *made = !file_exists(AT_FDCWD, state);
    if (file_make_directory(AT_FDCWD, state, 0700, error) < 0)
        return -1;
    AUTO_CLOSE int directory = open(state, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (directory < 0 || give_to(directory, uid, gid) < 0)
        return error_errno(error, STATUS_FAILED, "%s", state);
    return 0;
}

int swtpm_state_remove(const struct node *node, const char *name, bool *was_there,
                       struct error *error)
{
    AUTO_FREE char *state = swtpm_state(node, name);
    int directory = open(state, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    *was_there = directory >= 0;
    if (directory < 0)
        return errno == ENOENT
                   ? 0
                   : error_errno(error, STATUS_INCOMPLETE, "the state of its TPM: %s", state);
    int result = 0;
    DIR *entries = file_entries(directory);
    for (struct dirent *entry; entries != NULL && (entry = readdir(entries)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            unlinkat(directory, entry->d_name, 0) < 0)
            result = error_errno(error, STATUS_INCOMPLETE, "the state of its TPM: %s/%s", state,
                                 entry->d_name);
    if (entries != NULL)
        closedir(entries);
    if (result < 0)
        return -1;
    if (rmdir(state) < 0)
        return error_errno(error, STATUS_INCOMPLETE, "the state of its TPM: %s", state);
    if (file_sync_directory(AT_FDCWD, state, error) == 0)
        return 0;
    error->status = STATUS_INCOMPLETE;
    return -1;
}

static int open_pid_file(const struct rundir *rundir, const char *name, int flags)
{
    char path[RUNDIR_PATH_MAX];

    rundir_name(RUNDIR_TPM, name, path);
    return openat(rundir->fd, path, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
}

pid_t swtpm_pid(const struct rundir *rundir, const char *name)
{
    AUTO_CLOSE int file = open_pid_file(rundir, name, O_RDONLY);

    if (file < 0)
        return errno == ENOENT ? 0 : -1;
    return process_lock_holder(file);
}

static pid_t spawn(const struct swtpm_spec *spec, const int descriptors[3], struct error *error)
{
    AUTO_FREE char *state = memory_format("dir=%s,mode=0600", spec->state);
    /* By the numbers that they have in the child, in the order of the list. */
    const char *const argv[] = {spec->binary,
                                "socket",
                                "--tpm2",
                                "--tpmstate",
                                state,
                                "--ctrl",
                                "type=unixio,clientfd=4",
                                "--log",
                                "fd=5",
                                "--terminate",
                                NULL};
    struct process_spec process = {.argv = argv,
                                   .descriptors = descriptors,
                                   .descriptor_count = 3,
                                   .input = -1,
                                   .output = spec->log,
                                   .errors = spec->log,
                                   .new_session = true,
                                   .die_with_parent_until_exec = true,
                                   .no_core = true,
                                   .no_new_privs = true,
                                   .drop_user = spec->drop_user,
                                   .uid = spec->uid,
                                   .gid = spec->gid,
                                   .pid_lock = 0};

    return process_spawn(&process, NULL, error);
}

int swtpm_start(const struct rundir *rundir, const char *name, const struct swtpm_spec *spec,
                int *end, struct error *error)
{
    int ends[2];
    AUTO_CLOSE int file = open_pid_file(rundir, name, O_RDWR | O_CREAT);

    if (file < 0)
        return error_errno(error, STATUS_FAILED, "tpm/%s", name);
    if (process_lock_holder(file) != 0)
        return error_set(error, STATUS_STATE, "tpm/%s: a swtpm of it runs still (pid %d)", name,
                         (int)process_lock_holder(file));
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return error_errno(error, STATUS_FAILED, "socketpair");
    const int descriptors[3] = {file, ends[1], spec->log};
    pid_t pid = spawn(spec, descriptors, error);
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return -1;
    }
    *end = ends[0];
    return 0;
}

static bool is_gone(const struct rundir *rundir, const char *name, deadline_t deadline)
{
    while (swtpm_pid(rundir, name) != 0) {
        if (clock_passed(deadline))
            return false;
        clock_sleep_ms(POLL_MS);
    }
    return true;
}

/* The holder of the lock, asked again once it can't become another process. */
static void send_signal(const struct rundir *rundir, const char *name, int signal)
{
    pid_t pid = swtpm_pid(rundir, name);
    AUTO_CLOSE int pidfd = pid > 0 ? process_pidfd(pid) : -1;

    if (pidfd >= 0 && swtpm_pid(rundir, name) == pid)
        process_signal(pidfd, signal);
}

/* At most so long, and no more than half of what is left: the next way to end it needs some as well. */
static deadline_t share(deadline_t deadline, int64_t most_ms)
{
    int64_t left = deadline == DEADLINE_NEVER ? INT64_MAX : deadline - clock_now_ms();

    return clock_deadline(left / 2 < most_ms ? left / 2 : most_ms);
}

int swtpm_end(const struct rundir *rundir, const char *name, deadline_t deadline,
              struct error *error)
{
    char path[RUNDIR_PATH_MAX];
    bool gone = is_gone(rundir, name, share(deadline, OWN_END_MS));

    if (!gone) {
        send_signal(rundir, name, SIGTERM);
        gone = is_gone(rundir, name, share(deadline, TERM_MS));
    }
    if (!gone) {
        deadline_t last = clock_earlier(deadline, clock_deadline(KILL_MS));
        deadline_t soonest = clock_deadline(LAST_MS);
        send_signal(rundir, name, SIGKILL);
        gone = is_gone(rundir, name, last > soonest ? last : soonest);
    }
    rundir_name(RUNDIR_TPM, name, path);
    if (!gone)
        return error_set(error, STATUS_INCOMPLETE, "%s: the swtpm of it (pid %d) does not end",
                         path, (int)swtpm_pid(rundir, name));
    return file_remove(rundir->fd, path, NULL, error);
}
