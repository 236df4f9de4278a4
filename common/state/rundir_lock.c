/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The per-instance lock of rundir.h. The file is never unlinked: two holders of two files of one name
 * would both believe to be alone. Its content may be that of an earlier holder and means something
 * only while the lock is held.
 */
#include "kvm/state/rundir.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/log.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"

enum { LOCK_POLL_MS = 20, LOCK_LINE_MAX = 1024, HOLDER_TRIES = 10, HOLDER_PAUSE_MS = 2 };
enum { DYING_MS = 500 };

static void user_name(json_int_t uid, char *buffer, size_t size)
{
    struct passwd entry, *found = NULL;
    char space[4096];
    if (uid >= 0 && uid < UINT32_MAX &&
        getpwuid_r((uid_t)uid, &entry, space, sizeof(space), &found) == 0 && found != NULL)
        snprintf(buffer, size, "%s", entry.pw_name);
    else
        snprintf(buffer, size, "uid %lld", (long long)uid);
}

/* Only for the message of the others: that it fails is no reason to do without the lock. */
static void write_holder(int lock)
{
    AUTO_JSON json_t *holder =
        json_pack("{s:s, s:I, s:I, s:f}", "program", log_program(), "pid", (json_int_t)getpid(),
                  "uid", (json_int_t)getuid(), "since", clock_wall());
    if (holder == NULL || ftruncate(lock, 0) < 0)
        return;
    AUTO_FREE char *text = json_compact(holder);
    AUTO_FREE char *line = memory_format("%s\n", text);
    if (file_write_all(lock, line, strlen(line)) < 0 && ftruncate(lock, 0) < 0)
        return; /* the others read half a line and say "another program" */
}

/* "02:13:07", with the date before it when that is another day. */
static void format_since(double since, char *buffer, int size)
{
    char now[32];
    clock_format_wall(clock_wall(), now, sizeof(now));
    clock_format_wall(since, buffer, size);
    size_t date = strlen("2026-11-23 ");
    if (strlen(buffer) > date && strncmp(now, buffer, date) == 0)
        memmove(buffer, buffer + date, strlen(buffer) - date + 1);
}

/* NULL while the line is not whole; a new reference. */
static json_t *holder_line(int lock)
{
    char line[LOCK_LINE_MAX];
    ssize_t length = pread(lock, line, sizeof(line), 0);
    if (length <= 0 || line[length - 1] != '\n')
        return NULL;
    return json_parse(line, (size_t)length, "lock", NULL);
}

/* A killed command's child has inherited the lock until it dies with it, a moment later. */
static bool holder_is_dead(int lock)
{
    AUTO_JSON json_t *holder = holder_line(lock);
    pid_t pid = (pid_t)json_number(holder, "pid", 0);
    return pid > 0 && kill(pid, 0) < 0 && errno == ESRCH;
}

static bool read_holder(int lock, char *text, size_t size)
{
    AUTO_JSON json_t *holder = holder_line(lock);
    const char *program = json_text(holder, "program");
    const json_t *uid = json_member(holder, "uid");
    if (program == NULL || !json_is_integer(uid))
        return false;
    AUTO_FREE char *safe_program = text_escape(program, strlen(program));
    char user[64], since[32];
    user_name(json_integer_value(uid), user, sizeof(user));
    format_since(json_number_value(json_member(holder, "since")), since, sizeof(since));
    snprintf(text, size, "%s pid %lld by %s since %s", safe_program,
             (long long)json_number(holder, "pid", 0), user, since);
    return true;
}

static bool is_locked(int lock)
{
    struct flock other = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(lock, F_OFD_GETLK, &other) == 0 && other.l_type != F_UNLCK;
}

/* A holder has the lock a moment before its line is there. */
static bool describe_holder(int lock, char *text, size_t size)
{
    for (int i = 0; i < HOLDER_TRIES && is_locked(lock); i++) {
        if (read_holder(lock, text, size))
            return true;
        clock_sleep_ms(HOLDER_PAUSE_MS);
    }
    snprintf(text, size, "another program");
    return is_locked(lock);
}

static int open_lock(const struct rundir *rundir, const char *name, int flags)
{
    char path[RUNDIR_PATH_MAX];
    rundir_name(RUNDIR_LOCK, name, path);
    int lock =
        openat(rundir->fd, path, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600);
    struct stat status;
    if (lock < 0 || (fstat(lock, &status) == 0 && S_ISREG(status.st_mode) && status.st_nlink == 1))
        return lock;
    memory_close(&lock);
    errno = EINVAL; /* planted: not a regular file, or a second link to one */
    return -1;
}

static int cant_open(const struct rundir *rundir, const char *name, struct error *error)
{
    char path[RUNDIR_PATH_MAX];
    struct stat status;

    error_errno(error, STATUS_FAILED, "%s/lock/%s: open", rundir->path, name);
    rundir_name(RUNDIR_LOCK, name, path);
    if (fstatat(rundir->fd, path, &status, AT_SYMLINK_NOFOLLOW) < 0 ||
        (S_ISREG(status.st_mode) && status.st_nlink == 1))
        return -1;
    return error_append(error,
                        "; no lock of this suite; when no command works on the instance: mv %s/%s "
                        "%s/chroot-quarantine/%s.lock",
                        rundir->path, path, rundir->path, name);
}

int rundir_lock(const struct rundir *rundir, const char *name, deadline_t deadline, int *lock,
                struct error *error)
{
    AUTO_CLOSE int opened = open_lock(rundir, name, O_RDWR | O_CREAT);
    if (opened < 0)
        return cant_open(rundir, name, error);
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    deadline_t dying = clock_deadline(DYING_MS);
    while (fcntl(opened, F_OFD_SETLK, &whole) < 0) {
        if (errno != EAGAIN && errno != EACCES && errno != EINTR)
            return error_errno(error, STATUS_FAILED, "%s/lock/%s: lock", rundir->path, name);
        if (clock_passed(deadline) && (clock_passed(dying) || !holder_is_dead(opened))) {
            char holder[256];
            describe_holder(opened, holder, sizeof(holder));
            return error_set(error, STATUS_BUSY, "busy: %s", holder);
        }
        int left = clock_passed(deadline) ? LOCK_POLL_MS : clock_poll_ms(deadline);
        clock_sleep_ms(left >= 0 && left < LOCK_POLL_MS ? left : LOCK_POLL_MS);
    }
    write_holder(opened);
    *lock = opened;
    opened = -1;
    return 0;
}

bool rundir_lock_holder(const struct rundir *rundir, const char *name, char *text, size_t size)
{
    AUTO_CLOSE int lock = open_lock(rundir, name, O_RDONLY);
    if (size > 0)
        *text = '\0';
    return lock >= 0 && is_locked(lock) && describe_holder(lock, text, size);
}
