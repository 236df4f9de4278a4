/* SPDX-License-Identifier: BSD-2-Clause */
/* The log itself: what is read, noted and opened, and how it is kept from growing. */
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>
#include "kvm/base/clock.h"
#include "kvm/base/json.h"
#include "kvm/base/log.h"
#include "kvm/base/memory.h"
#include "kvm/qemu/events.h"
#include "event_lines.h"
#include "unit.h"

TEST(reading, "events are read in order; damaged lines are counted")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    struct rundir rundir = rundir_of(&scratch);
    size_t damaged = 99;
    AUTO_JSON json_t *none = events_read(&rundir, "x", &damaged);
    CHECK_NUMBER(json_array_size(none), 0);
    CHECK_NUMBER(damaged, 0);
    CHECK(scratch_write(&scratch, "events/x.jsonl",
                        START "{\"no\":1}\n\r\n[]\n" RESUME "{\"a\":1,\"a\":2}\n" RESET "{\"ev"));
    AUTO_JSON json_t *all = events_read(&rundir, "x", &damaged);
    CHECK_NUMBER(json_array_size(all), 3);
    CHECK_NUMBER(damaged, 4);
    CHECK_TEXT(json_text(json_array_get(all, 1), "event"), "RESUME");
    CHECK_TEXT(json_text(json_array_get(all, 2), "event"), "RESET");
    return true;
}

TEST(last_of_names, "the newest event with one of the names is found, by its name alone")
{
    static const char *const names[] = {"RESUME", "STOP", NULL};
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    struct rundir rundir = rundir_of(&scratch);
    CHECK(events_last(&rundir, "x", names) == NULL);
    CHECK(
        scratch_write(&scratch, "events/x.jsonl",
                      START RESUME EVENT(1002, "OTHER", "{\"is\": \"STOP\"}") "{\"event\":\"STOP"));
    AUTO_JSON json_t *last = events_last(&rundir, "x", names);
    CHECK_TEXT(json_text(last, "event"), "RESUME");
    CHECK(scratch_write(&scratch, "events/x.jsonl", START));
    CHECK(events_last(&rundir, "x", names) == NULL);
    CHECK(scratch_write(&scratch, "events/x.jsonl", RESUME EVENT(1002, "STOP", "{}") RESET));
    AUTO_JSON json_t *stop = events_last(&rundir, "x", names);
    CHECK_TEXT(json_text(stop, "event"), "STOP");
    return true;
}

TEST(seen, "an event is seen from a time on")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    struct rundir rundir = rundir_of(&scratch);
    CHECK(!events_seen(&rundir, "x", "RESUME", 0));
    CHECK(scratch_write(&scratch, "events/x.jsonl", START RESUME));
    CHECK(events_seen(&rundir, "x", "RESUME", 1001));
    CHECK(!events_seen(&rundir, "x", "RESUME", 1001.5));
    CHECK(!events_seen(&rundir, "x", "RES", 0));
    return true;
}

TEST(notes, "a note has program, pid, user and detail, and a line of its own")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    struct rundir rundir = rundir_of(&scratch);
    log_begin("kvm-test");
    CHECK(scratch_write(&scratch, "events/x.jsonl", "{\"event\": \"RESU"));
    double before = clock_wall() - 0.001;
    events_note(&rundir, "x", "KVM_SUITE_ACTION", "kill", json_pack("{s:i}", "after", 3));
    events_note(&rundir, "x", "KVM_SUITE_START", NULL, NULL);
    size_t damaged = 0;
    AUTO_JSON json_t *events = events_read(&rundir, "x", &damaged);
    CHECK_NUMBER(damaged, 1);
    CHECK_NUMBER(json_array_size(events), 2);
    const json_t *data = json_object_get(json_array_get(events, 0), "data");
    CHECK_TEXT(json_text(data, "program"), "kvm-test");
    CHECK_TEXT(json_text(data, "action"), "kill");
    CHECK_NUMBER(json_number(data, "pid", 0), getpid());
    CHECK_NUMBER(json_number(data, "after", 0), 3);
    CHECK(json_text(data, "user") != NULL);
    CHECK(events_seen(&rundir, "x", "KVM_SUITE_ACTION", before));
    CHECK(json_object_get(json_object_get(json_array_get(events, 1), "data"), "action") == NULL);
    return true;
}

TEST(planted, "a symbolic link in the place of the log is not followed")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    struct rundir rundir = rundir_of(&scratch);
    struct error error;
    CHECK(scratch_write(&scratch, "victim", "as it was\n"));
    CHECK(symlinkat("../victim", scratch.fd, "events/x.jsonl") == 0);
    events_note(&rundir, "x", "KVM_SUITE_ACTION", "kill", NULL);
    CHECK_NUMBER(events_open(&rundir, "x", &error), -1);
    CHECK(scratch_holds(&scratch, "victim", "as it was\n"));
    CHECK(mkdirat(scratch.fd, "events/y.jsonl", 0700) == 0);
    CHECK_NUMBER(events_open(&rundir, "y", &error), -1);
    return true;
}

TEST(opening, "the log is opened to append, and cut to its last half when it is big")
{
    enum { LINES = 20 * 1000 };
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    struct rundir rundir = rundir_of(&scratch);
    struct error error;
    AUTO_CLOSE int log = events_open(&rundir, "x", &error);
    CHECK(log >= 0);
    CHECK_NUMBER(fcntl(log, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK), O_WRONLY | O_APPEND);
    struct stat status;
    CHECK(fstat(log, &status) == 0);
    CHECK_NUMBER(status.st_mode & 0777, 0600);
    FILE *file = fdopen(dup(log), "a");
    for (int i = 0; i < LINES; i++)
        fprintf(file, "{\"event\":\"E\",\"n\":%d,\"padding\":\"0123456789012345678901234567\"}\r\n",
                i);
    CHECK(fclose(file) == 0);
    CHECK(fstat(log, &status) == 0 && status.st_size > 1024 * 1024);
    AUTO_CLOSE int again = events_open(&rundir, "x", &error);
    CHECK(again >= 0);
    CHECK(fstat(again, &status) == 0 && status.st_size <= 512 * 1024 && status.st_size > 400000);
    size_t damaged = 0;
    AUTO_JSON json_t *events = events_read(&rundir, "x", &damaged);
    size_t count = json_array_size(events);
    CHECK_NUMBER(json_number(json_array_get(events, count - 1), "n", 0), LINES - 1);
    CHECK_NUMBER(damaged, 0);
    return true;
}

/* Lines numbered from `from` to `to`, as QEMU writes them, by its own descriptor. */
static bool append_lines(int log, int from, int to)
{
    FILE *file = fdopen(dup(log), "a");
    for (int i = from; file != NULL && i < to; i++)
        fprintf(file, "{\"event\":\"E\",\"n\":%d,\"padding\":\"0123456789012345678901234567\"}\r\n",
                i);
    return file != NULL && fclose(file) == 0;
}

/* The last lines are there, one behind the other, up to `end`. */
static bool holds_last(const struct rundir *rundir, int end, size_t least, size_t most_damaged)
{
    size_t damaged = 0;
    AUTO_JSON json_t *events = events_read(rundir, "x", &damaged);
    size_t count = json_array_size(events);
    printf("# %zu lines, %zu damaged\n", count, damaged);
    CHECK(count >= least && damaged <= most_damaged);
    for (size_t i = 0; i < count; i++)
        CHECK_NUMBER(json_number(json_array_get(events, i), "n", 0), end - (int)(count - i));
    return true;
}

/* With `no_writes` nothing can be written again that was removed: as if the program were killed before it does. */
static bool bound_holds(const struct rundir *rundir, bool no_writes)
{
    enum { LINES = 40 * 1000, KEPT = 6000 };
    struct error error;
    struct stat status;
    struct rlimit before, none = {0, 0};
    AUTO_CLOSE int log = events_open(rundir, "x", &error);
    CHECK(log >= 0 && append_lines(log, 0, LINES));
    CHECK(getrlimit(RLIMIT_FSIZE, &before) == 0);
    none.rlim_max = before.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    CHECK(!no_writes || setrlimit(RLIMIT_FSIZE, &none) == 0);
    events_bound(rundir, "x");
    CHECK(setrlimit(RLIMIT_FSIZE, &before) == 0);
    CHECK(holds_last(rundir, LINES, KEPT, no_writes));
    CHECK(fstat(log, &status) == 0 && status.st_blocks * 512 <= 540 * 1024);
    CHECK(append_lines(log, LINES, LINES + 10)); /* QEMU's is the same file */
    CHECK(holds_last(rundir, LINES + 10, KEPT, no_writes));
    events_bound(rundir, "x"); /* not too big now: nothing changes */
    CHECK(holds_last(rundir, LINES + 10, KEPT, no_writes));
    CHECK(append_lines(log, LINES + 10, 2 * LINES));
    events_bound(rundir, "x");
    CHECK(holds_last(rundir, 2 * LINES, KEPT, 0));
    CHECK(fstat(log, &status) == 0 && status.st_blocks * 512 <= 540 * 1024);
    return unlinkat(rundir->fd, "events/x.jsonl", 0) == 0;
}

TEST(bounding, "what is kept of a log that QEMU goes on with is never lost, not even for a moment")
{
    bool mounts = scratch_own_mounts();
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    struct rundir rundir = rundir_of(&scratch);
    AUTO_FREE char *events = memory_format("%s/events", scratch.path);
    CHECK(bound_holds(&rundir, false) && bound_holds(&rundir, true));
    if (!mounts || mount("none", events, "tmpfs", 0, "mode=0700") != 0)
        return unit_not_run("mounts are not allowed: a tmpfs is not looked at");
    bool held = bound_holds(&rundir, false) && bound_holds(&rundir, true);
    CHECK(umount2(events, MNT_DETACH) == 0);
    return held;
}

TEST(shrinks, "a log that is cut while it is read ends there, whatever happened before")
{
    bool mounts = scratch_own_mounts(); /* before a descriptor stands in the other mounts */
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    struct rundir rundir = rundir_of(&scratch);
    AUTO_FREE char *log = memory_format("%s/events/x.jsonl", scratch.path);
    size_t damaged = 0;
    CHECK(scratch_write(&scratch, "events/x.jsonl", ""));
    /* A file of sysfs has less in it than its size says. */
    if (!mounts || mount("/sys/kernel/mm/ksm/run", log, NULL, MS_BIND, NULL) != 0)
        return unit_not_run("mounts are not allowed");
    alarm(10);
    errno = EINTR;
    json_t *events = events_read(&rundir, "x", &damaged);
    alarm(0);
    CHECK(umount2(log, MNT_DETACH) == 0);
    CHECK_NUMBER(json_array_size(events), 0);
    CHECK_NUMBER(damaged, 1);
    json_decref(events);
    return true;
}

UNIT_MAIN(UNIT(reading), UNIT(last_of_names), UNIT(seen), UNIT(notes), UNIT(planted), UNIT(opening),
          UNIT(bounding), UNIT(shrinks))
