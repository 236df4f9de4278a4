/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include "kvm/base/clock.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "kvm/base/text.h"
#include "kvm/qemu/events.h"
#include "events_private.h"

enum { LOG_TAIL = 64 * 1024, TIME_SIZE = 48, SHOWN = 80 };

/* What the run's events tell, one after the other. Events are borrowed from the array read. */
struct story {
    double started;         /* of KVM_SUITE_START; 0: not in the log */
    bool any, ran;          /* an event of the run; RESUME */
    const json_t *shutdown; /* the first SHUTDOWN since the guest last ran */
    bool requested;         /* POWERDOWN, or a request of ours */
    const json_t *request;  /* of ours */
    const json_t *kill;     /* of ours */
    const json_t *watchdog; /* it powered the machine off */
    double panicked;        /* and nothing has followed yet; 0: no */
    double overcome;        /* a panic that was followed by a reboot; 0: no */
};

static const char *const kind_names[] = {
    [ENDING_NONE] = "none",
    [ENDING_GUEST] = "guest-poweroff",
    [ENDING_REQUESTED] = "requested-poweroff",
    [ENDING_RESET] = "guest-reset",
    [ENDING_PANIC] = "guest-panic",
    [ENDING_QUIT] = "quit",
    [ENDING_SIGNAL] = "signal",
    [ENDING_KILLED] = "killed",
    [ENDING_NODE] = "node-reboot",
    [ENDING_NEVER_RAN] = "never-ran",
    [ENDING_WATCHDOG] = "watchdog",
};

const char *ending_kind_name(enum ending_kind kind)
{
    return kind_names[kind];
}

static void hear_action(struct story *story, const json_t *event)
{
    const char *action = json_text(json_object_get(event, "data"), "action");
    if (action == NULL)
        return;
    if (strcmp(action, "powerdown") == 0 || strcmp(action, "agent-shutdown") == 0) {
        story->requested = true;
        story->request = event;
    } else if (strcmp(action, "kill") == 0) {
        story->kill = event;
    }
}

/* A guest that is reset runs anew: what was asked of it before is forgotten, a panic is over. */
static void hear_reset(struct story *story)
{
    story->shutdown = NULL;
    story->requested = false;
    story->request = NULL;
    if (story->panicked > 0)
        story->overcome = story->panicked;
    story->panicked = 0;
}

static void hear_watchdog(struct story *story, const json_t *event)
{
    const char *action = json_text(json_object_get(event, "data"), "action");

    story->watchdog = action != NULL && strcmp(action, "poweroff") == 0 ? event : NULL;
}

static const char *const heard[] = {"KVM_SUITE_START", "KVM_SUITE_ACTION", "POWERDOWN",
                                    "RESET",           "GUEST_PANICKED",   "WATCHDOG",
                                    "SHUTDOWN",        "RESUME",           NULL};

static void hear(struct story *story, const json_t *event)
{
    const char *name = json_text(event, "event");
    story->any = true;
    if (strcmp(name, "KVM_SUITE_START") == 0)
        *story = (struct story){.started = events_time(event), .any = true};
    else if (strcmp(name, "KVM_SUITE_ACTION") == 0)
        hear_action(story, event);
    else if (strcmp(name, "POWERDOWN") == 0)
        story->requested = true;
    else if (strcmp(name, "RESET") == 0)
        hear_reset(story);
    else if (strcmp(name, "GUEST_PANICKED") == 0)
        story->panicked = events_time(event);
    else if (strcmp(name, "WATCHDOG") == 0)
        hear_watchdog(story, event);
    else if (strcmp(name, "SHUTDOWN") == 0 && story->shutdown == NULL)
        story->shutdown = event; /* a second one ends a QEMU that had waited after the first */
    else if (strcmp(name, "RESUME") == 0) {
        story->ran = true;
        story->shutdown = NULL;
    }
}

/* " at 02:13:07", with the date when it was not today; "" when not known. */
static const char *when(double at, char *buffer)
{
    enum { DATE_LENGTH = 10 };
    char then[TIME_SIZE], today[TIME_SIZE];
    buffer[0] = '\0';
    if (at <= 0)
        return buffer;
    clock_format_wall(at, then, sizeof(then));
    clock_format_wall(clock_wall(), today, sizeof(today));
    bool is_today = strncmp(then, today, DATE_LENGTH + 1) == 0;
    snprintf(buffer, TIME_SIZE, " at %.40s", is_today ? then + DATE_LENGTH + 1 : then);
    return buffer;
}

static char *shown(const char *text)
{
    size_t length = text == NULL ? 0 : strlen(text), most = SHOWN;
    while (length > most && most > SHOWN - 4 && ((unsigned char)text[most] & 0xc0) == 0x80)
        most--; /* a character lies across the cut */
    return text_escape(text == NULL ? "" : text, length > most ? most : length);
}

__attribute__((format(printf, 4, 5))) static void tell(struct ending *ending, enum ending_kind kind,
                                                       double at, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(ending->text, sizeof(ending->text), format, arguments);
    va_end(arguments);
    for (size_t end = strlen(ending->text); end > 0 && !text_is_utf8(ending->text);)
        ending->text[--end] = '\0'; /* cut within a character */
    ending->kind = kind;
    ending->at = at;
}

/* The time in front of a line of QEMU's log (-msg timestamp=on, UTC); 0: there is none. */
static double line_time(const char *line)
{
    struct tm parts = {0};
    if (strptime(line, "%Y-%m-%dT%H:%M:%S", &parts) == NULL)
        return 0;
    return (double)timegm(&parts);
}

/* Who sent the signal stands in QEMU's log alone: "… terminating on signal 15 from pid 1 (init)". */
static void tell_signal(const struct rundir *rundir, const char *name, const struct story *story,
                        double at, struct ending *ending)
{
    static const char mark[] = "terminating on signal ";
    AUTO_FREE char *log = events_tail(rundir, RUNDIR_LOG, name, LOG_TAIL);
    AUTO_FREE char *sender = NULL;
    char *rest = NULL;
    for (char *line = strtok_r(log, "\r\n", &rest); line != NULL;
         line = strtok_r(NULL, "\r\n", &rest)) {
        const char *found = strstr(line, mark);
        if (found == NULL || line_time(line) + 1 < story->started)
            continue;
        free(sender);
        sender = shown(found + strlen(mark));
    }
    char time[TIME_SIZE];
    if (sender != NULL)
        tell(ending, ENDING_SIGNAL, at, "QEMU was terminated by signal %s%s", sender,
             when(at, time));
    else
        tell(ending, ENDING_SIGNAL, at, "QEMU was terminated by a signal%s", when(at, time));
}

static void tell_poweroff(const struct story *story, double at, struct ending *ending)
{
    char time[TIME_SIZE];
    const json_t *data = json_object_get(story->request, "data");
    AUTO_FREE char *program = shown(json_text(data, "program"));
    AUTO_FREE char *user = shown(json_text(data, "user"));
    if (!story->requested)
        tell(ending, ENDING_GUEST, at, "the guest powered off by itself%s", when(at, time));
    else if (story->request == NULL)
        tell(ending, ENDING_REQUESTED, at, "the guest powered off on request%s", when(at, time));
    else
        tell(ending, ENDING_REQUESTED, at, "the guest powered off on request of %s by %s%s",
             program, user, when(at, time));
}

static void tell_killed(const struct story *story, double at, struct ending *ending)
{
    char time[TIME_SIZE];
    const json_t *data = json_object_get(story->kill, "data");
    AUTO_FREE char *program = shown(json_text(data, "program"));
    AUTO_FREE char *user = shown(json_text(data, "user"));
    tell(ending, ENDING_KILLED, at, "QEMU was killed by %s (pid %lld, %s)%s", program,
         (long long)json_number(data, "pid", 0), user, when(at, time));
}

/* QEMU's own words for why it shut down: enum ShutdownCause in its qapi/run-state.json. */
static void tell_shutdown(const struct rundir *rundir, const char *name, const struct story *story,
                          struct ending *ending)
{
    const json_t *data = json_object_get(story->shutdown, "data");
    const char *given = json_text(data, "reason"), *reason = given != NULL ? given : "";
    double at = events_time(story->shutdown);
    char time[TIME_SIZE];
    when(at, time);
    if (strcmp(reason, "guest-shutdown") == 0)
        tell_poweroff(story, at, ending);
    else if (strcmp(reason, "guest-reset") == 0)
        tell(ending, ENDING_RESET, at, "the guest rebooted%s, which ends this instance", time);
    else if (strcmp(reason, "host-qmp-system-reset") == 0)
        tell(ending, ENDING_RESET, at, "the guest was reset%s, which ends this instance", time);
    else if (strcmp(reason, "guest-panic") == 0)
        tell(ending, ENDING_PANIC, at, "the guest panicked%s", time);
    else if (strcmp(reason, "host-signal") == 0 && story->kill != NULL)
        tell_killed(story, at, ending);
    else if (strcmp(reason, "host-signal") == 0)
        tell_signal(rundir, name, story, at, ending);
    else if (strcmp(reason, "host-qmp-quit") == 0)
        tell(ending, ENDING_QUIT, at, "QEMU was told to quit by its monitor%s", time);
    else {
        AUTO_FREE char *word = shown(reason);
        tell(ending, ENDING_QUIT, at, "QEMU shut down%s, reason \"%s\"", time, word);
    }
}

/* The last line of QEMU's log when it was written in this run; the caller frees. NULL: none. */
static char *last_words(const struct rundir *rundir, const char *name, double started)
{
    char file[RUNDIR_PATH_MAX];
    struct stat status;
    rundir_name(RUNDIR_LOG, name, file);
    if (fstatat(rundir->fd, file, &status, AT_SYMLINK_NOFOLLOW) != 0 ||
        (double)status.st_mtime + 1 < started)
        return NULL;
    AUTO_FREE char *log = events_tail(rundir, RUNDIR_LOG, name, LOG_TAIL);
    char *rest = NULL, *last = NULL;
    for (char *line = strtok_r(log, "\r\n", &rest); line != NULL;
         line = strtok_r(NULL, "\r\n", &rest))
        last = line;
    if (last == NULL)
        return NULL;
    const char *space = line_time(last) > 0 ? strchr(last, ' ') : NULL;
    return shown(space != NULL ? space + 1 : last);
}

/* Gone, and no SHUTDOWN says how. */
static void tell_silent(const struct rundir *rundir, const char *name, const struct story *story,
                        const struct runtime *runtime, struct ending *ending)
{
    if (story->kill != NULL) {
        tell_killed(story, events_time(story->kill), ending);
        return;
    }
    /* Without a log it is a copy that Ganeti made of another node's file. */
    if (story->any && runtime != NULL && runtime->boot_id[0] != '\0' &&
        strcmp(runtime->boot_id, process_boot_id()) != 0) {
        tell(ending, ENDING_NODE, 0, "the node rebooted under it");
        return;
    }
    /* QEMU exits at once then, without a SHUTDOWN. */
    if (story->watchdog != NULL) {
        double at = events_time(story->watchdog);
        char time[TIME_SIZE];
        tell(ending, ENDING_WATCHDOG, at, "the watchdog powered the guest off%s", when(at, time));
        return;
    }
    if (!story->any) {
        if (runtime == NULL)
            tell(ending, ENDING_NONE, 0, "nothing is known of its end");
        else
            tell(ending, ENDING_KILLED, 0, "QEMU is gone, and there is no record of its end");
        return;
    }
    AUTO_FREE char *words = last_words(rundir, name, story->started);
    tell(ending, ENDING_KILLED, 0,
         "QEMU ended without a word: SIGKILL, out of memory or a crash%s%s",
         words != NULL ? "; its last message: " : "", words != NULL ? words : "");
}

/* A panic that nothing but the end has followed is the cause, whatever ended QEMU then. */
static void add_panic(const struct story *story, struct ending *ending)
{
    static const char subject[] = "the guest ";
    char time[TIME_SIZE];
    AUTO_FREE char *then = memory_copy(ending->text);
    if (story->panicked > 0 && ending->kind != ENDING_PANIC && ending->kind != ENDING_NONE) {
        bool guest = strncmp(then, subject, strlen(subject)) == 0;
        tell(ending, ENDING_PANIC, ending->at, "the guest panicked%s, then %s",
             when(story->panicked, time), guest ? then + strlen(subject) : then);
    } else if (story->panicked > 0 && ending->kind == ENDING_NONE) {
        tell(ending, ENDING_NONE, ending->at, "%s; the guest panicked%s", then,
             when(story->panicked, time));
    } else if (story->overcome > 0) {
        tell(ending, ending->kind, ending->at, "%s; it had panicked%s and rebooted", then,
             when(story->overcome, time));
    }
}

/* When a file was last written; 0: it is not there. */
static double written_at(const struct rundir *rundir, const char *name, enum rundir_file file)
{
    char path[RUNDIR_PATH_MAX];
    struct stat status;
    rundir_name(file, name, path);
    if (fstatat(rundir->fd, path, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return 0;
    return (double)status.st_mtim.tv_sec + (double)status.st_mtim.tv_nsec / 1e9;
}

/* Ganeti's watcher saw the SHUTDOWN of a guest that nobody had asked. */
static bool is_marked_by_ganeti(const struct rundir *rundir, const char *name,
                                const struct story *story, struct ending *ending)
{
    double at = written_at(rundir, name, RUNDIR_SHUTDOWN);
    char time[TIME_SIZE];
    if (at <= 0 || story->requested || story->kill != NULL)
        return false;
    tell(ending, ENDING_GUEST, at, "the guest powered off by itself%s (Ganeti noted it)",
         when(at, time));
    return true;
}

void events_ending(const struct rundir *rundir, const char *name, const struct runtime *runtime,
                   bool alive, struct ending *ending)
{
    AUTO_JSON json_t *events = events_of_run(rundir, name, heard);
    struct story story = {0};
    /* Ganeti writes its file before it starts a QEMU, which keeps no log: what is older is of an earlier one. */
    bool foreign = runtime != NULL && runtime->state == RUNTIME_FOREIGN;
    double since = foreign ? written_at(rundir, name, RUNDIR_RUNTIME) : 0;
    for (size_t i = 0; i < json_array_size(events); i++)
        if (events_time(json_array_get(events, i)) >= since)
            hear(&story, json_array_get(events, i));
    if (alive)
        tell(ending, ENDING_NONE, 0, "it is running");
    else if (runtime != NULL && runtime->state == RUNTIME_STARTING && !story.ran)
        tell(ending, ENDING_NEVER_RAN, 0, "its start was interrupted before the guest ran");
    else if (story.shutdown != NULL)
        tell_shutdown(rundir, name, &story, ending);
    else if (!foreign || !is_marked_by_ganeti(rundir, name, &story, ending))
        tell_silent(rundir, name, &story, runtime, ending);
    add_panic(&story, ending);
}
