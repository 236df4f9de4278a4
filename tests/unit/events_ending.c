/* SPDX-License-Identifier: BSD-2-Clause */
/* What the log tells of an instance's end: who or what ended it, and when. */
#include <math.h>
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "kvm/base/text.h"
#include "kvm/qemu/events.h"
#include "event_lines.h"
#include "unit.h"

#define SHUTDOWN(seconds, reason)                                                                  \
    EVENT(seconds, "SHUTDOWN", "{\"guest\": true, \"reason\": \"" reason "\"}")
#define ACTION(seconds, action)                                                                    \
    EVENT(seconds, "KVM_SUITE_ACTION",                                                             \
          "{\"program\":\"kvm-stop\",\"action\":\"" action "\",\"pid\":77,\"user\":\"root\"}")
#define PANICKED EVENT(1500, "GUEST_PANICKED", "{\"action\": \"run\"}")
#define WATCHDOG(action) EVENT(1500, "WATCHDOG", "{\"action\": \"" action "\"}")

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

UNIT_MAIN(UNIT(reasons), UNIT(requests), UNIT(panics), UNIT(runs), UNIT(other_ends), UNIT(senders),
          UNIT(last_words), UNIT(long_texts))
