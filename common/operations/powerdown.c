/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "kvm/operations/powerdown.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "kvm/qemu/agent.h"
#include "kvm/qemu/events.h"
#include "kvm/state/hvparams.h"

enum {
    AGENT_WAIT_MS = 2000,   /* for the agent's sync; a guest without an agent never answers */
    AGENT_GRACE_MS = 10000, /* from an accepted guest-shutdown to the first power button */
    BUTTON_WAIT_MS =
        1000,          /* the button is pressed again each second, since a guest that is still */
    BUTTON_EAGER = 15, /* booting misses it for good; after 15 times less often */
    BUTTON_LAST_MS = 5000,
    TERM_WAIT_MS = 3000, /* from TERM (QEMU flushes its images) to KILL */
    MONITOR_WAIT_MS = 5000,
    ENDING_WAIT_MS = 2000,
    READS_MAX = 256, /* QEMU has ended, so the connection has an end as well */
};

struct ladder {
    const struct rundir *rundir;
    const char *name;
    const struct runtime *runtime;
    const struct qemu_process *process;
    const struct powerdown_options *options;
    double began; /* clock_wall */
    deadline_t kill_at;
    deadline_t next_button;
    int pressed; /* how often the button was pressed */
    struct qmp *qmp;
};

static void say(const struct ladder *ladder, const char *text)
{
    if (ladder->options->progress != NULL)
        ladder->options->progress(text);
}

/* No single question may hold up the kill. */
static deadline_t at_most(const struct ladder *ladder, int64_t wait_ms)
{
    deadline_t until = clock_earlier(ladder->options->deadline, ladder->kill_at);
    return clock_earlier(clock_deadline(wait_ms), until);
}

/* A watcher of user_shutdown takes what the agent does for the user's own doing: nothing but the button tells it
 * otherwise. */
static bool guest_has_agent(const struct runtime *runtime)
{
    const json_t *hvparams = runtime == NULL ? NULL : runtime->instance.hvparams;

    return hvparams != NULL && hvparams_truth(hvparams, "use_guest_agent") &&
           (!hvparams_truth(hvparams, "user_shutdown") || !hvparams_truth(hvparams, "acpi"));
}

static bool guest_has_acpi(const struct runtime *runtime)
{
    return runtime == NULL || hvparams_truth(runtime->instance.hvparams, "acpi");
}

static void ask_agent(struct ladder *ladder)
{
    struct error reason = {0};
    AUTO_FREE char *path = rundir_path(ladder->rundir, RUNDIR_AGENT, ladder->name);
    say(ladder, "asking the guest agent");
    if (agent_shutdown(path, ladder->process->pid, at_most(ladder, AGENT_WAIT_MS), &reason) < 0) {
        say(ladder, reason.text);
        return;
    }
    events_note(ladder->rundir, ladder->name, "KVM_SUITE_ACTION", "agent-shutdown", NULL);
    ladder->next_button = clock_deadline(AGENT_GRACE_MS);
}

/* A refusal or a lost connection is no failure here: the process is watched, and the button comes again. */
static void press_button(struct ladder *ladder)
{
    bool first = ladder->pressed == 0;
    struct error reason = {0};

    say(ladder, first ? "pressing the power button" : "pressing the power button again");
    /* Each time: a guest that was reset meanwhile has forgotten the earlier ones, and so has the log's reader. */
    events_note(ladder->rundir, ladder->name, "KVM_SUITE_ACTION", "powerdown", NULL);
    if (qmp_call(ladder->qmp, "system_powerdown", NULL, at_most(ladder, MONITOR_WAIT_MS), NULL,
                 &reason) != QMP_DONE)
        say(ladder, reason.text);
    ladder->next_button =
        clock_deadline(++ladder->pressed > BUTTON_EAGER ? BUTTON_LAST_MS : BUTTON_WAIT_MS);
}

/* A QEMU that another tool started keeps no event log: what it says at its end on our connection goes there. */
static void note_shutdown(const struct ladder *ladder)
{
    if (ladder->qmp == NULL || events_seen(ladder->rundir, ladder->name, "SHUTDOWN", ladder->began))
        return;
    for (int i = 0; i < READS_MAX && qmp_read(ladder->qmp); i++) {
    }
    AUTO_JSON json_t *event = qmp_take_event(ladder->qmp, "SHUTDOWN");
    if (event != NULL)
        events_note(ladder->rundir, ladder->name, "SHUTDOWN", NULL,
                    json_incref(json_object_get(event, "data")));
}

static int kill_now(struct ladder *ladder, const char *reason, struct error *error)
{
    /* The wait for the end of a killed process has a time of its own: the guest's is used up. */
    qmp_release(&ladder->qmp);
    return powerdown_kill(ladder->rundir, ladder->name, ladder->process, reason,
                          clock_deadline(2 * TERM_WAIT_MS), error);
}

static int time_is_up(const struct ladder *ladder, struct error *error)
{
    return error_set(error, STATUS_TIMEOUT,
                     "the guest has not powered off in time and still runs (pid %d); repeat "
                     "'kvm-stop %s' to wait on, 'kvm-stop --force %s' kills it",
                     (int)ladder->process->pid, ladder->name, ladder->name);
}

static int wait_for_end(struct ladder *ladder, struct error *error)
{
    for (;;) {
        bool with_button = ladder->qmp != NULL;
        deadline_t until = clock_earlier(ladder->options->deadline, ladder->kill_at);
        if (process_wait_gone(ladder->process->pidfd,
                              with_button ? clock_earlier(until, ladder->next_button) : until))
            return 0;
        if (clock_passed(ladder->kill_at))
            return kill_now(ladder, "kill-after", error);
        if (clock_passed(ladder->options->deadline))
            return time_is_up(ladder, error);
        if (with_button && clock_passed(ladder->next_button))
            press_button(ladder);
    }
}

/* A guest whose CPUs have not run yet or are stopped can't answer any request; it may be killed all the same. */
static int refuse_stopped_guest(struct ladder *ladder, struct error *error)
{
    char status[32];

    if (ladder->kill_at != DEADLINE_NEVER)
        return 0;
    if (monitor_status(ladder->qmp, ladder->options->deadline, status, error) < 0)
        return -1;
    if (strcmp(status, "running") == 0 || strcmp(status, "suspended") == 0)
        return 0;
    if (strcmp(status, "prelaunch") == 0)
        return error_set(error, STATUS_STATE,
                         "the guest is not running yet (paused start) and can't hear a shutdown; "
                         "'kvm-start FILE' lets it run, 'kvm-stop --force %s' ends it",
                         ladder->name);
    return error_set(error, STATUS_STATE,
                     "the guest is %s and can't hear a shutdown; 'kvm-info --events %s' may say "
                     "why, 'kvm-stop --force %s' ends it",
                     status, ladder->name, ladder->name);
}

int powerdown_run(const struct rundir *rundir, const char *name, const struct runtime *runtime,
                  const struct qemu_process *process, const struct powerdown_options *options,
                  struct error *error)
{
    struct ladder ladder = {.rundir = rundir,
                            .name = name,
                            .runtime = runtime,
                            .process = process,
                            .options = options,
                            .began = clock_wall(),
                            .kill_at = DEADLINE_NEVER};

    if (options->force)
        return kill_now(&ladder, "force", error);
    if (options->kill_after_ms >= 0)
        ladder.kill_at = clock_deadline(options->kill_after_ms);
    ladder.qmp =
        monitor_open(rundir, name, RUNDIR_QMP, process, at_most(&ladder, MONITOR_WAIT_MS), error);
    /* A QEMU that is just ending has closed its monitors but holds its lock while it frees memory. */
    if (ladder.qmp == NULL && process_wait_gone(process->pidfd, at_most(&ladder, ENDING_WAIT_MS)))
        return 0;
    if (ladder.qmp == NULL && ladder.kill_at == DEADLINE_NEVER)
        return error_append(error, "; 'kvm-stop --force %s' kills it", name);
    int result = ladder.qmp == NULL ? 0 : refuse_stopped_guest(&ladder, error);
    if (result == 0 && ladder.qmp != NULL && guest_has_agent(runtime))
        ask_agent(&ladder);
    if (result == 0 && !guest_has_acpi(runtime) && ladder.next_button == 0 &&
        ladder.kill_at == DEADLINE_NEVER)
        result = error_set(error, STATUS_STATE,
                           "the guest has neither ACPI nor a guest agent that answers, so it can't "
                           "be asked to power off; 'kvm-stop --force %s' kills it",
                           name);
    if (result == 0)
        result = wait_for_end(&ladder, error);
    if (result == 0)
        note_shutdown(&ladder);
    qmp_release(&ladder.qmp);
    return result;
}

int powerdown_kill(const struct rundir *rundir, const char *name,
                   const struct qemu_process *process, const char *reason, deadline_t deadline,
                   struct error *error)
{
    events_note(rundir, name, "KVM_SUITE_ACTION", "kill", json_pack("{s:s}", "reason", reason));
    /* TERM first: QEMU then closes its images in order. A stopped or hung QEMU gets KILL. */
    if (process_signal(process->pidfd, SIGTERM) < 0 && errno != ESRCH)
        return error_errno(error, STATUS_FAILED, "QEMU (pid %d) can't be killed",
                           (int)process->pid);
    if (process_wait_gone(process->pidfd, clock_earlier(clock_deadline(TERM_WAIT_MS), deadline)))
        return 0;
    process_signal(process->pidfd, SIGKILL);
    if (process_wait_gone(process->pidfd, deadline))
        return 0;
    return error_set(error, STATUS_TIMEOUT,
                     "QEMU (pid %d) was sent KILL but has not ended: it waits in the kernel, look "
                     "at its storage ('cat /proc/%d/stack'); repeat the command then",
                     (int)process->pid, (int)process->pid);
}
