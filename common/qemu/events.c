/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "kvm/base/clock.h"
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/log.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "kvm/qemu/events.h"
#include "events_private.h"

enum { LOG_SIZE_MAX = 1024 * 1024, WORD_SIZE = 32, BLOCK = 4096, STAT_BLOCK = 512 };

/* -1 with errno; what is not a regular file of ours is no log. */
static int open_log(const struct rundir *rundir, enum rundir_file which, const char *name,
                    int flags, off_t *size)
{
    char file[RUNDIR_PATH_MAX];
    rundir_name(which, name, file);
    int log =
        openat(rundir->fd, file, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600);
    if (log < 0)
        return -1;
    struct stat status;
    if (fstat(log, &status) == 0 && S_ISREG(status.st_mode) && status.st_nlink == 1 &&
        (status.st_uid == 0 || status.st_uid == geteuid())) {
        *size = status.st_size;
        return log;
    }
    close(log);
    errno = EINVAL;
    return -1;
}

char *events_tail(const struct rundir *rundir, enum rundir_file which, const char *name,
                  size_t most)
{
    off_t size = 0;
    AUTO_CLOSE int log = open_log(rundir, which, name, O_RDONLY, &size);
    off_t from = size > (off_t)most ? size - (off_t)most : 0;
    size_t length = log < 0 ? 0 : (size_t)(size - from), got = 0;
    char *text = memory_zeroed(length + 1, 1);
    while (got < length) {
        ssize_t count = pread(log, text + got, length - got, from + (off_t)got);
        if (count == 0 || (count < 0 && errno != EINTR)) /* 0: cut meanwhile */
            break;
        got += count > 0 ? (size_t)count : 0;
    }
    for (char *hole = text; (hole = memchr(hole, '\0', got - (size_t)(hole - text))) != NULL;)
        *hole = '?'; /* left by a crash, it would end the text here */
    text[got] = '\0';
    const char *newline = from > 0 ? strchr(text, '\n') : NULL;
    if (newline != NULL) /* the first line is cut */
        memmove(text, newline + 1, strlen(newline + 1) + 1);
    return text;
}

/* NULL when the line is no event. */
static json_t *parse_line(const char *line, size_t length)
{
    json_t *event = json_loadb(line, length, JSON_REJECT_DUPLICATES, NULL);
    if (event != NULL && json_text(event, "event") != NULL)
        return event;
    json_decref(event);
    return NULL;
}

/* The next line that is not empty; false at the end. *line is moved behind it. */
static bool next_line(const char **line, const char **begin, size_t *length)
{
    *begin = *line + strspn(*line, "\r\n");
    *length = strcspn(*begin, "\r\n");
    *line = *begin + *length;
    return *length > 0;
}

/* Before a line is parsed, which is the slow part: the name as it stands there, before the data, by QEMU and by us. */
static bool is_named(const char *line, size_t length, const char *const *names)
{
    static const char key[] = "\"event\"";
    const char *found = memmem(line, length, key, strlen(key)), *end = line + length;
    const char *name = found == NULL
                           ? NULL
                           : memchr(found + strlen(key), '"', (size_t)(end - found) - strlen(key));
    bool is = false;
    for (; name != NULL && !is && *names != NULL; names++) {
        size_t size = strlen(*names);
        is = (size_t)(end - name) > size + 1 && name[size + 1] == '"' &&
             memcmp(name + 1, *names, size) == 0;
    }
    return is;
}

/* `names`: as in events_of_run; NULL: all lines. */
static json_t *parse_lines(const char *text, const char *const *names, size_t *damaged)
{
    json_t *events = memory_json(json_array());
    size_t faults = 0, length = 0;
    for (const char *line = text, *begin = NULL; next_line(&line, &begin, &length);) {
        if (names != NULL && json_array_size(events) > 0 && !is_named(begin, length, names))
            continue;
        json_t *event = parse_line(begin, length);
        if (event != NULL)
            json_array_append_new(events, event);
        else
            faults++;
    }
    if (damaged != NULL)
        *damaged = faults;
    return events;
}

json_t *events_read(const struct rundir *rundir, const char *name, size_t *damaged)
{
    AUTO_FREE char *text = events_tail(rundir, RUNDIR_EVENTS, name, LOG_SIZE_MAX);
    return parse_lines(text, NULL, damaged);
}

/* Of a line; NULL when it has none of the names. */
static json_t *parse_named(const char *line, size_t length, const char *const *names)
{
    return is_named(line, length, names) ? parse_line(line, length) : NULL;
}

/* The newest line with one of the names, parsed; *line is where it begins. NULL: there is none. */
static json_t *find_last(const char *text, const char *const *names, const char **line)
{
    for (const char *end = text + strlen(text); end > text;) {
        const char *newline = memrchr(text, '\n', (size_t)(end - text));
        *line = newline != NULL ? newline + 1 : text;
        json_t *event = parse_named(*line, (size_t)(end - *line), names);
        if (event != NULL)
            return event;
        end = newline != NULL ? newline : text;
    }
    return NULL;
}

json_t *events_last(const struct rundir *rundir, const char *name, const char *const *names)
{
    AUTO_FREE char *text = events_tail(rundir, RUNDIR_EVENTS, name, LOG_SIZE_MAX);
    const char *line;
    return find_last(text, names, &line);
}

json_t *events_of_run(const struct rundir *rundir, const char *name, const char *const *names)
{
    static const char *const starts[] = {"KVM_SUITE_START", NULL};
    AUTO_FREE char *text = events_tail(rundir, RUNDIR_EVENTS, name, LOG_SIZE_MAX);
    const char *line;
    AUTO_JSON json_t *start = find_last(text, starts, &line);
    return parse_lines(start != NULL ? line : text, names, NULL);
}

double events_time(const json_t *event)
{
    const json_t *stamp = json_object_get(event, "timestamp");
    return (double)json_number(stamp, "seconds", 0) +
           (double)json_number(stamp, "microseconds", 0) / 1e6;
}

bool events_seen(const struct rundir *rundir, const char *name, const char *event, double since)
{
    const char *const names[] = {event, NULL};
    AUTO_FREE char *text = events_tail(rundir, RUNDIR_EVENTS, name, LOG_SIZE_MAX);
    bool seen = false;
    size_t length = 0;
    for (const char *line = text, *begin = NULL; !seen && next_line(&line, &begin, &length);) {
        AUTO_JSON json_t *one = parse_named(begin, length, names);
        seen = one != NULL && events_time(one) >= since;
    }
    return seen;
}

static json_t *event_of_ours(const char *event, const char *action, json_t *detail)
{
    char program[WORD_SIZE], user[WORD_SIZE];
    process_describe(getpid(), program, sizeof(program), user, sizeof(user));
    json_t *data =
        memory_json(json_pack("{s:s*, s:s*, s:I, s:s}", "program", log_program(), "action", action,
                              "pid", (json_int_t)getpid(), "user", user));
    if (detail != NULL)
        json_object_update_missing(data, detail);
    json_decref(detail);
    double now = clock_wall();
    json_int_t seconds = (json_int_t)now;
    json_int_t microseconds = (json_int_t)((now - (double)seconds) * 1e6);
    return memory_json(json_pack("{s:{s:I, s:I}, s:s, s:o}", "timestamp", "seconds", seconds,
                                 "microseconds", microseconds, "event", event, "data", data));
}

void events_note(const struct rundir *rundir, const char *name, const char *event,
                 const char *action, json_t *detail)
{
    AUTO_JSON json_t *line = event_of_ours(event, action, detail);
    AUTO_FREE char *compact = json_compact(line);
    off_t size = 0;
    AUTO_CLOSE int log = open_log(rundir, RUNDIR_EVENTS, name, O_RDWR | O_APPEND | O_CREAT, &size);
    if (log < 0)
        return;
    char last = '\n'; /* a line that QEMU could not finish must not swallow ours */
    bool cut = size > 0 && pread(log, &last, 1, size - 1) == 1 && last != '\n';
    AUTO_FREE char *text = memory_format("%s%s\n", cut ? "\n" : "", compact);
    file_write_all(log, text, strlen(text));
}

void events_note_link(const struct rundir *rundir, const char *name, const char *id, bool up)
{
    events_note(rundir, name, "KVM_SUITE_ACTION", up ? "link-up" : "link-down",
                memory_json(json_pack("{s:s*}", "nic", id)));
}

/* A new file with the last half in the place of the old one: at a start nobody writes to it. */
static int halve(const struct rundir *rundir, const char *name, struct error *error)
{
    char file[RUNDIR_PATH_MAX];
    rundir_name(RUNDIR_EVENTS, name, file);
    AUTO_FREE char *text = events_tail(rundir, RUNDIR_EVENTS, name, LOG_SIZE_MAX / 2);
    return file_replace(rundir->fd, file, text, strlen(text), error);
}

int events_open(const struct rundir *rundir, const char *name, struct error *error)
{
    char file[RUNDIR_PATH_MAX];
    rundir_name(RUNDIR_EVENTS, name, file);
    off_t size = 0;
    int log = open_log(rundir, RUNDIR_EVENTS, name, O_WRONLY | O_APPEND | O_CREAT, &size);
    if (log >= 0 && size > LOG_SIZE_MAX) {
        close(log);
        if (halve(rundir, name, error) != 0)
            return -1;
        log = open_log(rundir, RUNDIR_EVENTS, name, O_WRONLY | O_APPEND, &size);
    }
    if (log < 0 && errno == EINVAL)
        return error_set(error, STATUS_FAILED, "%s/%s: not a regular file of ours", rundir->path,
                         file);
    if (log < 0)
        return error_errno(error, STATUS_FAILED, "%s/%s", rundir->path, file);
    /* O_NONBLOCK was for opening; QEMU inherits the flags */
    if (fcntl(log, F_SETFL, O_APPEND) != 0) {
        error_errno(error, STATUS_FAILED, "%s/%s: fcntl", rundir->path, file);
        close(log);
        return -1;
    }
    return log;
}

/* What is left of the line that the cut goes through. Not by the descriptor that appends: pwrite would append as well. */
static void blank_line(const struct rundir *rundir, enum rundir_file file, const char *name,
                       off_t from)
{
    char rest[BLOCK], blank[BLOCK];
    off_t size = 0;
    AUTO_CLOSE int log = open_log(rundir, file, name, O_RDWR, &size);
    ssize_t length = log < 0 ? 0 : pread(log, rest, sizeof(rest), from);
    const char *newline = length > 0 ? memchr(rest, '\n', (size_t)length) : NULL;

    memset(blank, '\n', sizeof(blank));
    if (newline != NULL && pwrite(log, blank, (size_t)(newline - rest), from) < 0)
        return; /* one line can't be read then */
}

/* Where the file system can do neither. Killed between the two, nothing of the log is left but what comes then. */
static void cut_and_write(int log, off_t size)
{
    AUTO_FREE char *tail = memory_zeroed(LOG_SIZE_MAX / 2 + 1, 1);
    ssize_t length = pread(log, tail, LOG_SIZE_MAX / 2, size - LOG_SIZE_MAX / 2);
    if (length <= 0 || ftruncate(log, 0) < 0)
        return;
    const char *line = memchr(tail, '\n', (size_t)length);
    const char *from = line != NULL ? line + 1 : tail;
    file_write_all(log, from, (size_t)(tail + length - from));
}

/* QEMU goes on appending to this very file, so it can't be replaced; and what is kept is never removed, not even for a
 * moment in which we could be killed: the front goes (ext4, xfs), or its space (tmpfs): then the file begins with a hole. */
static void bound_one(const struct rundir *rundir, enum rundir_file file, const char *name)
{
    off_t size = 0;
    AUTO_CLOSE int log = open_log(rundir, file, name, O_RDWR | O_APPEND, &size);
    struct stat status;

    if (log < 0 || size <= LOG_SIZE_MAX || fstat(log, &status) < 0 ||
        status.st_blocks <= LOG_SIZE_MAX / STAT_BLOCK)
        return;
    off_t front = (size - LOG_SIZE_MAX / 2) / BLOCK * BLOCK;
    blank_line(rundir, file, name, front);
    if (fallocate(log, FALLOC_FL_COLLAPSE_RANGE, 0, front) < 0 &&
        fallocate(log, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, front) < 0)
        cut_and_write(log, size);
}

void events_bound(const struct rundir *rundir, const char *name)
{
    bound_one(rundir, RUNDIR_EVENTS, name);
    bound_one(rundir, RUNDIR_LOG, name);
}
