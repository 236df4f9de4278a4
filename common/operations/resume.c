/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/operations/resume.h"

#include <string.h>

#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/base/transaction.h"
#include "kvm/operations/session.h"
#include "kvm/qemu/events.h"
#include "kvm/qemu/monitor.h"
#include "kvm/qemu/peripheral.h"

/* RELAPSE_MS: in which a request that fails again has failed; it is repeated as soon as the CPUs run. */
enum { RELAPSE_MS = 500, STATUS_MS = 1000 };

struct resume {
    const struct rundir *rundir;
    const struct node *node;
    const char *name;
    const struct resume_options *options;
    struct result *result;
    struct session session;
    struct qmp *qmp;
    char status[32];
    deadline_t deadline;
};

/* RunState of QEMU's qapi/run-state.json: those that "cont" leaves for good. */
static const struct {
    const char *status, *words;
} resumable[] = {
    {"prelaunch", "it stood before its first instruction"},
    {"paused", "it was paused"},
    {"io-error", "an I/O error had paused it"},
    {"watchdog", "its watchdog had paused it"},
};

const char *resume_reason(const char *status)
{
    for (size_t i = 0; i < COUNT(resumable); i++)
        if (strcmp(resumable[i].status, status) == 0)
            return resumable[i].words;
    return NULL;
}

static int check_session(const struct resume *resume, struct error *error)
{
    const struct session *session = &resume->session;

    if (!session_is_live(session))
        return error_set(error, STATUS_STATE, "it does not run; 'kvm-start FILE' starts it");
    if (!session->has_runtime)
        return error_set(error, STATUS_STATE,
                         "its runtime file %s%s, so whether another node has its guest is not "
                         "known; 'kvm-start --adopt %s' makes a new one",
                         session->runtime_fault.text[0] != '\0' ? "can't be read: " : "is missing",
                         session->runtime_fault.text, resume->name);
    if (session->runtime.state == RUNTIME_STARTING || session->runtime.state == RUNTIME_REBOOTING)
        return error_set(
            error, STATUS_STATE, "its %s was interrupted; repeat it, or 'kvm-stop %s' ends it",
            session->runtime.state == RUNTIME_STARTING ? "start" : "reboot", resume->name);
    return session_check_recorded(session, error) < 0 ? -1 : session_check_settled(session, error);
}

/* What neither "cont" nor a reset is right for. NULL: any other status. */
static const char *why_not(const char *status)
{
    static const char *const reasons[][2] = {
        {"inmigrate", "waits for a migration that brings it: who began it lets it go on"},
        {"postmigrate", "was migrated away: it may run elsewhere"},
        {"finish-migrate", "is being migrated away: who began it lets it go on"},
        {"suspended", "has put itself to sleep: its own means wake it"},
    };

    for (size_t i = 0; i < COUNT(reasons); i++)
        if (strcmp(reasons[i][0], status) == 0)
            return reasons[i][1];
    return NULL;
}

/* A migration of which no runtime file tells is another tool's. */
static int check_guest(const struct resume *resume, struct error *error)
{
    const char *phase;
    bool ever;

    if (peripheral_migration(resume->qmp, resume->deadline, &phase, &ever, error) < 0)
        return error_prefix(error, "whether a migration is in progress");
    if (phase != NULL)
        return error_set(error, STATUS_STATE,
                         "a migration is in progress (%s): who began it lets the guest go on",
                         phase);
    if (resume_reason(resume->status) != NULL)
        return 0;
    if (why_not(resume->status) != NULL)
        return error_set(
            error, STATUS_STATE,
            "the guest is \"%s\", it %s; 'kvm-info --events %s' shows how it came to that",
            resume->status, why_not(resume->status), resume->name);
    return error_set(
        error, STATUS_STATE,
        "the guest is \"%s\" and can't go on; 'kvm-info --events %s' shows how it came "
        "to that, 'kvm-stop --reset %s' resets it, 'kvm-stop --force %s' ends it",
        resume->status, resume->name, resume->name, resume->name);
}

static bool stops(const json_t *event, const void *context)
{
    const char *action = json_text(json_member(event, "data"), "action");

    (void)context;
    return action != NULL && strcmp(action, "stop") == 0;
}

static char *event_word(const json_t *event, const char *key)
{
    const char *word = json_text(json_member(event, "data"), key);
    return word != NULL ? text_escape(word, strlen(word)) : memory_copy("?");
}

/* NULL: QEMU has not told more of it yet. */
static int fail_relapse(const json_t *event, struct error *error)
{
    if (event == NULL)
        return error_set(error, STATUS_FAILED,
                         "an I/O error has paused it again; mend that, then repeat the command");

    AUTO_FREE char *node = event_word(event, "node-name");
    AUTO_FREE char *operation = event_word(event, "operation");
    AUTO_FREE char *reason = event_word(event, "reason");

    return error_set(error, STATUS_FAILED,
                     "an I/O error has paused it again (%s, %s: %s); mend that, then repeat the "
                     "command",
                     node, operation, reason);
}

/* QEMU 10 holds an event back that comes soon after another one, so the status decides; but behind an event that it has
 * sent it stops the CPUs only in a moment. */
static int check_relapse(struct resume *resume, struct error *error)
{
    deadline_t until = clock_earlier(clock_deadline(RELAPSE_MS), resume->deadline);
    AUTO_JSON json_t *event =
        qmp_wait_event(resume->qmp, "BLOCK_IO_ERROR", stops, NULL, until, NULL);
    char status[32];

    if (event != NULL)
        return fail_relapse(event, error);
    if (monitor_status(resume->qmp, clock_deadline(STATUS_MS), status, error) < 0)
        return error_append(error,
                            "; it was let go on, and whether it still runs is not known: "
                            "'kvm-info %s' shows it",
                            resume->name);
    return strcmp(status, "io-error") == 0 ? fail_relapse(NULL, error) : 0;
}

static int record_running(struct resume *resume, struct error *error)
{
    struct runtime *runtime = &resume->session.runtime;

    if (runtime->state != RUNTIME_PAUSED)
        return 0;
    runtime->state = RUNTIME_RUNNING;
    return runtime_commit(resume->rundir, runtime, error);
}

static void forget_older(struct qmp *qmp)
{
    json_t *event;

    while ((event = qmp_take_event(qmp, "BLOCK_IO_ERROR")) != NULL)
        json_decref(event);
}

static int let_go_on(struct resume *resume, struct error *error)
{
    forget_older(resume->qmp);
    events_note(resume->rundir, resume->name, "KVM_SUITE_ACTION", "resume", NULL);
    switch (qmp_call(resume->qmp, "cont", NULL, resume->deadline, NULL, error)) {
    case QMP_DONE:
        break;
    case QMP_REFUSED:
        return -1;
    case QMP_UNKNOWN:
        return error_append(error, "; 'kvm-info %s' shows it, or repeat the command", resume->name);
    }
    if (record_running(resume, error) < 0)
        return -1;
    return strcmp(resume->status, "io-error") == 0 ? check_relapse(resume, error) : 0;
}

/* A dry run looks: no lock, and the monitor for it. */
static int open_all(struct resume *resume, struct error *error)
{
    struct session *session = &resume->session;
    bool looking = resume->options->dry_run;
    deadline_t lock_deadline = clock_deadline(resume->options->wait_lock_ms);

    if ((looking
             ? session_open(session, resume->rundir, resume->node, resume->name, false, 0, error)
             : session_open_known(session, resume->rundir, resume->node, resume->name,
                                  lock_deadline, error)) < 0 ||
        check_session(resume, error) < 0)
        return -1;
    resume->deadline = clock_deadline(resume->options->timeout_ms); /* not of the lock */
    resume->qmp = looking ? monitor_look(resume->rundir, resume->name, &session->process, NULL, 0,
                                         resume->deadline, error)
                          : monitor_open(resume->rundir, resume->name, RUNDIR_QMP,
                                         &session->process, resume->deadline, error);
    if (resume->qmp != NULL &&
        monitor_status(resume->qmp, resume->deadline, resume->status, error) == 0)
        return 0;
    return error_append(error, "; 'kvm-info %s' shows more, 'kvm-stop --force %s' ends it",
                        resume->name, resume->name);
}

static int run(struct resume *resume, struct error *error)
{
    if (open_all(resume, error) < 0)
        return -1;
    int pid = (int)resume->session.process.pid;
    if (strcmp(resume->status, "running") == 0) {
        if (!resume->options->dry_run && record_running(resume, error) < 0) /* somebody's "cont" */
            return -1;
        resume->result->text = memory_format("it runs already (pid %d)", pid);
        return 0;
    }
    if (check_guest(resume, error) < 0)
        return -1;
    if (!resume->options->dry_run && let_go_on(resume, error) < 0)
        return -1;
    resume->result->text =
        memory_format("%sresumed (pid %d): %s", resume->options->dry_run ? "would be " : "", pid,
                      resume_reason(resume->status));
    return 0;
}

void resume_instance(const struct rundir *rundir, const struct node *node, const char *name,
                     const struct resume_options *options, struct result *result)
{
    struct resume resume = {.rundir = rundir,
                            .node = node,
                            .name = name,
                            .options = options,
                            .result = result,
                            .session = {.lock = -1, .process = {.pidfd = -1}}};
    struct error error = {0};

    result->subject = memory_copy(name);
    if (run(&resume, &error) < 0) {
        result->status = error.status;
        result->text = memory_copy(error.text);
    }
    qmp_release(&resume.qmp);
    session_close(&resume.session);
}
