/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/state/rundir.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "kvm/base/file.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/state/instance.h"

enum { RUNDIR_MODE = 0700 };

static const struct {
    const char *directory, *suffix;
    bool is_socket;
} layout[RUNDIR_FILE_COUNT] = {
    [RUNDIR_PID] = {"pid", "", false},
    [RUNDIR_UID] = {"uid", "", false},
    [RUNDIR_MONITOR] = {"ctrl", ".monitor", true},
    [RUNDIR_QMP] = {"ctrl", ".qmp", true},
    [RUNDIR_QUERY] = {"ctrl", ".query", true},
    [RUNDIR_KVMD] = {"ctrl", ".kvmd", true},
    [RUNDIR_SHUTDOWN] = {"ctrl", ".shutdown", false},
    [RUNDIR_SERIAL] = {"ctrl", ".serial", true},
    [RUNDIR_AGENT] = {"ctrl", ".qga", true},
    [RUNDIR_VNC] = {"ctrl", ".vnc", true},
    [RUNDIR_SPICE] = {"ctrl", ".spice", true},
    [RUNDIR_TUNNEL] = {"ctrl", ".tunnel", true},
    [RUNDIR_RUNTIME] = {"conf", ".runtime", false},
    [RUNDIR_NIC] = {"nic", "", false},
    [RUNDIR_KEYMAP] = {"keymap", "", false},
    [RUNDIR_CHROOT] = {"chroot", "", false},
    [RUNDIR_LOCK] = {"lock", "", false},
    [RUNDIR_EVENTS] = {"events", ".jsonl", false},
    [RUNDIR_LOG] = {"log", ".log", false},
    [RUNDIR_EVENTS_SOCKET] = {"ctrl", ".events", true},
    [RUNDIR_TPM] = {"tpm", "", false},
};

static const char *const directories[] = {
    "pid",  "uid",    "ctrl", "conf",  "nic", "keymap", "chroot", "chroot-quarantine",
    "lock", "events", "log",  "cache", "tpm",
};

/* Who may write here decides what root will open, run or unlink. */
static int check_directory(const struct stat *status, const char *path, struct error *error)
{
    if (!S_ISDIR(status->st_mode))
        return error_set(error, STATUS_FAILED, "%s: refused, it is not a directory", path);
    if (status->st_uid != 0 && status->st_uid != geteuid())
        return error_set(error, STATUS_FAILED,
                         "%s: refused, its owner is neither root nor the caller (uid %u); look at "
                         "what is in it, then: chown root %s",
                         path, (unsigned)status->st_uid, path);
    if ((status->st_mode & S_IWOTH) != 0)
        return error_set(error, STATUS_FAILED,
                         "%s: refused, everybody may write it (mode %04o); chmod o-w %s", path,
                         (unsigned)(status->st_mode & 07777), path);
    return 0;
}

static int check_sub_directories(const struct rundir *rundir, bool create, struct error *error)
{
    for (size_t i = 0; i < sizeof(directories) / sizeof(directories[0]); i++) {
        struct stat status;
        bool there = fstatat(rundir->fd, directories[i], &status, AT_SYMLINK_NOFOLLOW) == 0;
        AUTO_FREE char *path = memory_format("%s/%s", rundir->path, directories[i]);
        if (!there && errno != ENOENT)
            return error_errno(error, STATUS_FAILED, "%s: stat", path);
        if (there && !S_ISDIR(status.st_mode)) {
            check_directory(&status, path, error);
            return error_append(error, "; look at it with 'ls -l %s', then: mv %s %s.away", path,
                                path, path);
        }
        if (there && check_directory(&status, path, error) < 0)
            return -1;
        if (!there && create &&
            file_make_directory(rundir->fd, directories[i], RUNDIR_MODE, error) < 0)
            return error_prefix(error, "%s", rundir->path);
    }
    return 0;
}

int rundir_open(struct rundir *rundir, const char *path, bool create, struct error *error)
{
    *rundir = (struct rundir){.fd = -1};
    if (*path == '\0')
        return error_set(error, STATUS_USAGE, "the run directory's name is empty");
    if (!text_is_utf8(path) || text_has_control(path)) /* it stands in JSON and on command lines */
        return error_set(error, STATUS_USAGE, "run directory %s: its name is not plain text", path);
    struct rundir opened __attribute__((cleanup(rundir_close))) = {.fd = -1};
    opened.path = file_absolute(path);
    if (opened.path == NULL)
        return error_errno(error, STATUS_FAILED, "%s: current directory", path);
    if (create && file_make_directory(AT_FDCWD, opened.path, RUNDIR_MODE, error) < 0)
        return error_prefix(error, "run directory");
    opened.fd = open(opened.path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (opened.fd < 0 && errno == ENOENT)
        return error_set(error, STATUS_STATE,
                         "run directory %s: not there; no instance was ever started here",
                         opened.path);
    if (opened.fd < 0 && errno == ENOTDIR)
        return error_set(error, STATUS_FAILED, "run directory %s: refused, it is %s", opened.path,
                         file_is_link(AT_FDCWD, opened.path)
                             ? "a symbolic link; name the directory itself"
                             : "not a directory");
    struct stat status;
    if (opened.fd < 0 || fstat(opened.fd, &status) < 0)
        return error_errno(error, STATUS_FAILED, "run directory %s: open", opened.path);
    if (check_directory(&status, opened.path, error) < 0 ||
        check_sub_directories(&opened, create, error) < 0)
        return error_prefix(error, "run directory");
    *rundir = opened;
    opened = (struct rundir){.fd = -1};
    return 0;
}

int rundir_complete(const struct rundir *rundir, struct error *error)
{
    return check_sub_directories(rundir, true, error) < 0 ? error_prefix(error, "run directory")
                                                          : 0;
}

void rundir_close(struct rundir *rundir)
{
    if (rundir == NULL || rundir->path == NULL) /* fd is 0 in one that is only zeroed */
        return;
    memory_close(&rundir->fd);
    free(rundir->path);
    *rundir = (struct rundir){.fd = -1};
}

void rundir_name(enum rundir_file file, const char *instance, char *buffer)
{
    assert(file < RUNDIR_FILE_COUNT);
    snprintf(buffer, RUNDIR_PATH_MAX, "%s/%s%s", layout[file].directory, instance,
             layout[file].suffix);
}

char *rundir_path(const struct rundir *rundir, enum rundir_file file, const char *instance)
{
    char name[RUNDIR_PATH_MAX];
    rundir_name(file, instance, name);
    return memory_format("%s/%s", rundir->path, name);
}

int rundir_check_name(const struct rundir *rundir, const char *name, struct error *error)
{
    const size_t room = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;
    if (instance_check_name(name, error) < 0)
        return -1;
    size_t longest = 0;
    for (size_t file = 0; file < RUNDIR_FILE_COUNT; file++) {
        size_t length = strlen(rundir->path) + strlen(layout[file].directory) + strlen(name) +
                        strlen(layout[file].suffix) + strlen("//");
        if (layout[file].is_socket && length > longest)
            longest = length;
    }
    if (longest > room)
        return error_set(error, STATUS_USAGE,
                         "instance name %s: too long by %zu bytes for the sockets in %s/ctrl "
                         "(socket paths take %zu bytes)",
                         name, longest - room, rundir->path, room);
    return 0;
}

bool rundir_has_files(const struct rundir *rundir, const char *name)
{
    for (enum rundir_file file = 0; file < RUNDIR_FILE_COUNT; file++) {
        char path[RUNDIR_PATH_MAX];
        rundir_name(file, name, path);
        AUTO_FREE char *temporary = file_temporary(path);
        if (file != RUNDIR_LOCK &&
            (file_exists(rundir->fd, path) || file_exists(rundir->fd, temporary)))
            return true;
    }
    return false;
}

bool rundir_knows(const struct rundir *rundir, const char *name)
{
    char path[RUNDIR_PATH_MAX];

    rundir_name(RUNDIR_LOCK, name, path);
    return file_exists(rundir->fd, path) || rundir_has_files(rundir, name);
}
