/* SPDX-License-Identifier: BSD-2-Clause */
/* From the moment in which the guest is paused here to the one in which it runs there: nothing in it sleeps or polls, and
 * nothing is done in it that could be done before or after. */
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "migrate_sending.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"

enum { ASK_AGAIN_MS = 100 }; /* an event may be lost; 7.2 loses none, but nobody promises that */

static bool is_end(const char *phase)
{
    return phase != NULL && (strcmp(phase, "completed") == 0 || strcmp(phase, "failed") == 0 ||
                             strcmp(phase, "cancelled") == 0 || postcopy_is(phase));
}

/* The last phase that the events here told, "" when there was none. */
static void take_phases(struct qmp *qmp, char phase[MIGRATE_PHASE_SIZE])
{
    json_t *event;

    while (!is_end(phase) && (event = qmp_take_event(qmp, "MIGRATION")) != NULL) {
        const char *word = json_text(json_member(event, "data"), "status");
        snprintf(phase, MIGRATE_PHASE_SIZE, "%s", word != NULL ? word : "");
        json_decref(event);
    }
}

static int ask_phase(struct qmp *qmp, deadline_t deadline, char phase[MIGRATE_PHASE_SIZE],
                     struct error *error)
{
    AUTO_JSON json_t *reply = migrate_query(qmp, deadline, error);
    const char *word = json_text(reply, "status");

    if (reply == NULL)
        return -1;
    snprintf(phase, MIGRATE_PHASE_SIZE, "%s", word != NULL ? word : "none");
    return 0;
}

int migrate_await_end(struct qmp *qmp, int session, bool fresh, deadline_t deadline,
                      char phase[MIGRATE_PHASE_SIZE], struct error *error)
{
    phase[0] = '\0';
    if (fresh && ask_phase(qmp, deadline, phase, error) < 0)
        return -1;
    while (!is_end(phase)) {
        struct pollfd wait[2] = {{.fd = qmp_descriptor(qmp), .events = POLLIN},
                                 {.fd = session, .events = POLLIN}};
        take_phases(qmp, phase);
        if (is_end(phase))
            break;
        if (clock_passed(deadline))
            return error_set(error, STATUS_FAILED, "it did not end in time (%s)",
                             phase[0] != '\0' ? phase : "no migration");
        int ready =
            poll(wait, 2, clock_poll_ms(clock_earlier(deadline, clock_deadline(ASK_AGAIN_MS))));
        if (wait[1].revents != 0 && ready > 0)
            return error_set(error, STATUS_FAILED, "the source has given up");
        if (!qmp_read(qmp) || ready == 0)
            if (ask_phase(qmp, deadline, phase, error) < 0)
                return -1;
    }
    return 0;
}

/* On a busy node each of the turns between the sides waits for a processor, while the guest stands still: so this program
 * goes before the others for some milliseconds. Without the right to it, it does without. */
void migrate_hurry(bool on)
{
    const struct sched_param first = {.sched_priority = 1}, usual = {0};

    if (on)
        sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &first);
    else
        sched_setscheduler(0, SCHED_OTHER, &usual);
}

/* The question for the vote goes first: the target answers it when it has everything, and so not a turn later than that
 * is known here. */
int sending_switch_over(struct sending *sending, struct error *error)
{
    deadline_t deadline = clock_deadline(SWITCH_MS);
    AUTO_JSON json_t *question = memory_json(json_pack("{s:s}", "stage", "vote"));
    json_t *arguments = memory_json(json_pack("{s:s}", "state", "pre-switchover"));
    char phase[MIGRATE_PHASE_SIZE];

    migrate_hurry(true);
    sending->remote.interrupted = NULL; /* too late: what is asked from here on must be heard */
    if (remote_question(&sending->remote, question, error) < 0 ||
        qmp_call(sending->qmp, "migrate-continue", arguments, deadline, NULL, error) != QMP_DONE ||
        migrate_await_end(sending->qmp, -1, false, deadline, phase, error) < 0)
        return -1;
    if (strcmp(phase, "completed") == 0 || strcmp(phase, "postcopy-active") == 0)
        return 0;
    AUTO_JSON json_t *reply = migrate_query(sending->qmp, deadline, NULL);
    return sending_copy_failed(sending, reply, phase, error);
}

int sending_commit(struct sending *sending, struct error *error)
{
    struct runtime *runtime = &sending->session.runtime;
    deadline_t deadline = clock_deadline(MIGRATE_ANSWER_MS);
    AUTO_JSON json_t *vote = NULL;

    if (remote_answer(&sending->remote, deadline, &vote, error) < 0)
        return -1;
    migration_set_phase(runtime, MIGRATION_SOURCE,
                        json_truth(vote, "half", false) ? PHASE_SPLIT : PHASE_COMMITTED);
    if (runtime_commit(sending->rundir, runtime, error) < 0) {
        /* On the disk or not: nobody can know, so nobody may run it before recover has read it again. */
        sending->committed = true;
        error->status = STATUS_INCOMPLETE;
        return -1;
    }
    sending->committed = true;
    return remote_ask(&sending->remote,
                      json_pack("{s:s, s:s}", "stage", "commit", "token", sending->commit_token),
                      deadline, NULL, error);
}
