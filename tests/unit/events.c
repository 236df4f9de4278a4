/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>
#include "kvm/base/clock.h"
#include "kvm/base/json.h"
#include "kvm/base/log.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "kvm/base/text.h"
#include "kvm/qemu/events.h"
#include "scratch.h"
#include "unit.h"

/* A run directory with the logs of instance "x". */
static struct rundir rundir_of(struct scratch *scratch)
{
    mkdirat(scratch->fd, "events", 0700);
    mkdirat(scratch->fd, "log", 0700);
    return scratch_rundir(scratch);
}

/* Event lines as QEMU and the suite write them; the run began at 1000 s. */
#define START                                                                                      \
    "{\"timestamp\":{\"seconds\":1000,\"microseconds\":0},\"event\":\"KVM_SUITE_START\"}\n"
#define EVENT(seconds, name, data)                                                                 \
    "{\"timestamp\": {\"seconds\": " #seconds ", \"microseconds\": 5}, \"event\": \"" name         \
    "\", \"data\": " data "}\r\n"
#define RESUME EVENT(1001, "RESUME", "{}")
#define SHUTDOWN(seconds, reason)                                                                  \
    EVENT(seconds, "SHUTDOWN", "{\"guest\": true, \"reason\": \"" reason "\"}")
#define ACTION(seconds, action)                                                                    \
    EVENT(seconds, "KVM_SUITE_ACTION",                                                             \
          "{\"program\":\"kvm-stop\",\"action\":\"" action "\",\"pid\":77,\"user\":\"root\"}")
#define PANICKED EVENT(1500, "GUEST_PANICKED", "{\"action\": \"run\"}")
#define WATCHDOG(action) EVENT(1500, "WATCHDOG", "{\"action\": \"" action "\"}")
#define RESET EVENT(1501, "RESET", "{\"guest\": true, \"reason\": \"guest-reset\"}")

struct expected {
    const char *lines;
    enum ending_kind kind;
    double at;
    const char *text; /* a part of it */
};

static const struct runtime running = {.state = RUNTIME_RUNNING};

static struct ending ending_of(const char *lines, const char *log, const struct runtime *runtime,
                               bool alive)
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    struct rundir rundir = rundir_of(&scratch);
    struct ending ending = {.text = "not set"};
    if (!scratch_write(&scratch, "events/x.jsonl", lines) ||
        (log != NULL && !scratch_write(&scratch, "log/x.log", log)))
        exit(99);
    events_ending(&rundir, "x", runtime, alive, &ending);
    return ending;
}

static bool check_all(const struct expected *expected, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct ending ending = ending_of(expected[i].lines, NULL, &running, false);
        printf("# %s: %s\n", ending_kind_name(ending.kind), ending.text);
        CHECK_TEXT(ending_kind_name(ending.kind), ending_kind_name(expected[i].kind));
        CHECK_HAS(ending.text, expected[i].text);
        CHECK(fabs(ending.at - expected[i].at) < 0.001);
    }
    return true;
}
#define CHECK_ALL(table) CHECK(check_all(table, sizeof(table) / sizeof(table[0])))

TEST(reasons, "the reason of SHUTDOWN says who ended it")
{
    static const struct expected table[] = {
        {START RESUME SHUTDOWN(2000, "guest-shutdown"), ENDING_GUEST, 2000.000005,
         "the guest powered off by itself at "},
        {START RESUME SHUTDOWN(2000, "guest-reset"), ENDING_RESET, 2000.000005,
         "the guest rebooted at "},
        {START RESUME SHUTDOWN(2000, "host-qmp-system-reset"), ENDING_RESET, 2000.000005,
         "the guest was reset at "},
        {START RESUME SHUTDOWN(2000, "guest-panic"), ENDING_PANIC, 2000.000005,
         "the guest panicked at "},
        {START RESUME SHUTDOWN(2000, "host-qmp-quit"), ENDING_QUIT, 2000.000005,
         "told to quit by its monitor at "},
        {START RESUME SHUTDOWN(2000, "host-signal"), ENDING_SIGNAL, 2000.000005,
         "QEMU was terminated by a signal at "},
        {START RESUME SHUTDOWN(2000, "host-error"), ENDING_QUIT, 2000.000005,
         "reason \"host-error\""},
        {START RESUME SHUTDOWN(2000, "a\\u0007b"), ENDING_QUIT, 2000.000005, "\"a\\x07b\""},
    };
    CHECK_ALL(table);
    return true;
}

TEST(requests, "who asked the guest, or killed QEMU, is named")
{
    static const struct expected table[] = {
        {START RESUME EVENT(1900, "POWERDOWN", "{}") SHUTDOWN(2000, "guest-shutdown"),
         ENDING_REQUESTED, 2000.000005, "the guest powered off on request at "},
        {START RESUME ACTION(1900, "powerdown") EVENT(1900, "POWERDOWN", "{}")
             SHUTDOWN(2000, "guest-shutdown"),
         ENDING_REQUESTED, 2000.000005, "powered off on request of kvm-stop by root at "},
        {START RESUME ACTION(1900, "agent-shutdown") SHUTDOWN(2000, "guest-shutdown"),
         ENDING_REQUESTED, 2000.000005, "on request of kvm-stop by root"},
        {START RESUME ACTION(1900, "powerdown") RESET SHUTDOWN(2000, "guest-shutdown"),
         ENDING_GUEST, 2000.000005, "by itself"},
        {START RESUME ACTION(1900, "kill"), ENDING_KILLED, 1900.000005,
         "QEMU was killed by kvm-stop (pid 77, root) at "},
        {START RESUME ACTION(1900, "kill") SHUTDOWN(2000, "host-signal"), ENDING_KILLED,
         2000.000005, "QEMU was killed by kvm-stop (pid 77, root)"},
        {START RESUME ACTION(1900, "cont"), ENDING_KILLED, 0, "ended without a word"},
        {START RESUME WATCHDOG("poweroff"), ENDING_WATCHDOG, 1500.000005,
         "the watchdog powered the guest off at "},
        {START RESUME WATCHDOG("reset") RESET, ENDING_KILLED, 0, "ended without a word"},
        {START RESUME WATCHDOG("poweroff") START RESUME, ENDING_KILLED, 0, "ended without a word"},
    };
    CHECK_ALL(table);
    return true;
}

TEST(panics, "a panic that nothing but the end has followed is the cause")
{
    static const struct expected table[] = {
        {START RESUME PANICKED SHUTDOWN(2000, "guest-reset"), ENDING_PANIC, 2000.000005,
         ", then rebooted at "},
        {START RESUME PANICKED SHUTDOWN(2000, "host-signal"), ENDING_PANIC, 2000.000005,
         ", then QEMU was terminated by a signal"},
        {START RESUME PANICKED ACTION(1900, "kill"), ENDING_PANIC, 1900.000005,
         ", then QEMU was killed by kvm-stop"},
        {START RESUME PANICKED RESET SHUTDOWN(2000, "guest-shutdown"), ENDING_GUEST, 2000.000005,
         "; it had panicked at "},
        {START RESUME PANICKED, ENDING_PANIC, 0, "the guest panicked at "},
    };
    CHECK_ALL(table);
    struct ending ending = ending_of(START RESUME PANICKED, NULL, &running, true);
    CHECK_NUMBER(ending.kind, ENDING_NONE);
    CHECK_HAS(ending.text, "it is running; the guest panicked at ");
    return true;
}

TEST(runs, "only the last run counts, and its first SHUTDOWN since the guest ran")
{
    static const struct expected table[] = {
        {START RESUME SHUTDOWN(900, "guest-shutdown") START RESUME, ENDING_KILLED, 0,
         "ended without a word"},
        {START RESUME SHUTDOWN(2000, "guest-shutdown") EVENT(2000, "STOP", "{}")
             SHUTDOWN(2001, "host-signal"),
         ENDING_GUEST, 2000.000005, "by itself"},
        {START RESUME SHUTDOWN(2000, "guest-shutdown") RESET RESUME SHUTDOWN(3000, "host-qmp-quit"),
         ENDING_QUIT, 3000.000005, "quit"},
        {"garbage\n" START "{\"event\":" RESUME SHUTDOWN(2000, "guest-shutdown"), ENDING_GUEST,
         2000.000005, "by itself"},
        {"", ENDING_KILLED, 0, "no record"},
    };
    CHECK_ALL(table);
    return true;
}

TEST(other_ends, "a node that rebooted, a start that was interrupted, nothing known")
{
    struct runtime starting = {.state = RUNTIME_STARTING};
    struct runtime other_boot = {.state = RUNTIME_RUNNING, .boot_id = "not-this-one"};
    struct runtime this_boot = {.state = RUNTIME_RUNNING};
    strcpy(this_boot.boot_id, process_boot_id());
    CHECK_NUMBER(ending_of(START, NULL, &starting, false).kind, ENDING_NEVER_RAN);
    CHECK_NUMBER(ending_of(RESUME START SHUTDOWN(1001, "host-signal"), NULL, &starting, false).kind,
                 ENDING_NEVER_RAN);
    CHECK_NUMBER(ending_of(START RESUME, NULL, &starting, false).kind, ENDING_KILLED);
    CHECK_NUMBER(ending_of(START RESUME, NULL, &other_boot, false).kind, ENDING_NODE);
    CHECK_NUMBER(ending_of(START RESUME, NULL, &this_boot, false).kind, ENDING_KILLED);
    CHECK_NUMBER(
        ending_of(START RESUME SHUTDOWN(2000, "guest-shutdown"), NULL, &other_boot, false).kind,
        ENDING_GUEST);
    CHECK_NUMBER(ending_of("", NULL, NULL, false).kind, ENDING_NONE);
    CHECK_NUMBER(ending_of(START RESUME, NULL, &running, true).kind, ENDING_NONE);
    return true;
}

TEST(senders, "the sender of a signal stands in QEMU's log, if it is of this run")
{
    static const char lines[] = START RESUME SHUTDOWN(2000, "host-signal");
    struct ending ending =
        ending_of(lines,
                  "1970-01-01T00:10:00.000001Z qemu: terminating on signal 2 from pid 1 (old)\n"
                  "1970-01-01T00:33:20.000001Z qemu: terminating on signal 15 from pid 9 (kill)\n",
                  &running, false);
    CHECK_NUMBER(ending.kind, ENDING_SIGNAL);
    CHECK_HAS(ending.text, "terminated by signal 15 from pid 9 (kill) at ");
    ending = ending_of(
        lines, "1970-01-01T00:10:00.000001Z qemu: terminating on signal 2 from pid 1 (old)\n",
        &running, false);
    CHECK_HAS(ending.text, "terminated by a signal at ");
    return true;
}

TEST(last_words, "a crash is told with QEMU's last message")
{
    struct ending ending = ending_of(
        START RESUME,
        "1970-01-01T00:33:20.000001Z qemu: warning\nqemu: net.c:1131: Assertion `nc' failed.\n",
        &running, false);
    CHECK_NUMBER(ending.kind, ENDING_KILLED);
    CHECK_HAS(ending.text, "its last message: qemu: net.c:1131: Assertion `nc' failed.");
    return true;
}

TEST(long_texts, "what is too long is cut between characters")
{
    /* Control characters become four each: then the whole is too long, not only the message. */
    static const char controls[] =
        "\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1";
    for (size_t shift = 0; shift < 4; shift++) {
        AUTO_FREE char *log = memory_zeroed(1, 4096);
        bool whole = shift >= 2;
        strcat(strcpy(log, whole ? controls : ""), shift % 2 == 1 ? "x" : "");
        for (int i = 0; i < 900; i++)
            strcat(log, "ä");
        struct ending ending = ending_of(START RESUME, log, &running, false);
        CHECK(text_is_utf8(ending.text));
        CHECK_TEXT(ending.text + strlen(ending.text) - 2, "ä");
        CHECK((strlen(ending.text) >= sizeof(ending.text) - 2) == whole);
    }
    return true;
}

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

UNIT_MAIN(UNIT(reasons), UNIT(requests), UNIT(panics), UNIT(runs), UNIT(other_ends), UNIT(senders),
          UNIT(last_words), UNIT(long_texts), UNIT(reading), UNIT(last_of_names), UNIT(seen),
          UNIT(notes), UNIT(planted), UNIT(opening), UNIT(bounding), UNIT(shrinks))
