/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Post-copy on the source: memory on both sides, until the last of it is sent; and a new stream when the link was cut.
 *
 * Measured on QEMU 7.2: a target started with -S comes up paused in "postcopy-active" and gets memory all the while, so
 * vote and commit come before its processors run. The source stands in "finish-migrate". migrate_cancel brings it to
 * "cancelled", from where it runs on; in "postcopy-paused" the same command leaves it in "cancelling" for ever, with no
 * way back nor forth: it must never be sent then.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "migrate_private.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"

enum { LOOK_MS = 100, PAUSE_MS = 8000, QUERY_MS = 2000, ZERO_TIMES_MS = 50 };

static bool is(const char *phase, const char *word)
{
    return phase != NULL && strcmp(phase, word) == 0;
}

bool postcopy_is(const char *phase)
{
    return phase != NULL && strncmp(phase, "postcopy-", 9) == 0;
}

int postcopy_check_back(struct qmp *qmp, const char *name, deadline_t deadline, struct error *error)
{
    AUTO_JSON json_t *reply =
        migrate_query(qmp, clock_earlier(deadline, clock_deadline(QUERY_MS)), NULL);
    const char *phase = json_text(reply, "status");

    if (!postcopy_is(phase) || is(phase, "postcopy-active"))
        return 0;
    return error_set(error, STATUS_INCOMPLETE,
                     "post-copy has begun and its link is cut (\"%s\"): QEMU can't go back from "
                     "there, only on; 'kvm-migrate %s recover' resumes it once the target can be "
                     "reached, and both QEMUs must live until then",
                     phase, name);
}

bool migrate_is_half(const struct session *session)
{
    deadline_t soon = clock_deadline(QUERY_MS);

    if (!session->has_runtime || migration_is_split(&session->runtime))
        return session->has_runtime;
    if (migration_phase_of(&session->runtime) != PHASE_SENDING || !session_is_live(session))
        return false;
    AUTO_QMP struct qmp *qmp =
        monitor_open(session->rundir, session->name, RUNDIR_QUERY, &session->process, soon, NULL);
    AUTO_JSON json_t *reply = qmp == NULL ? NULL : migrate_query(qmp, soon, NULL);
    return postcopy_is(json_text(reply, "status"));
}

static int cut(const struct session *session, struct error *error)
{
    return error_set(error, STATUS_INCOMPLETE,
                     "the link was cut in post-copy: the guest needs both sides, end neither; "
                     "'kvm-migrate %s recover' here resumes it",
                     session->name);
}

static int look_once(struct session *session, const json_t *reply, bool *done, struct error *error)
{
    const char *phase = json_text(reply, "status");

    *done = is(phase, "completed");
    if (*done || is(phase, "postcopy-active") || is(phase, "postcopy-recover"))
        return 0;
    if (is(phase, "postcopy-paused"))
        return cut(session, error);
    return error_set(error, STATUS_INCOMPLETE,
                     "QEMU here is \"%s\" in the middle of a post-copy; look at 'kvm-migrate %s "
                     "status' on both sides before anything is ended",
                     phase != NULL ? phase : "not migrating", session->name);
}

static int wait_a_moment(struct session *session, struct qmp *qmp, struct remote *remote,
                         const struct migrate_options *options, struct error *error)
{
    bool lost = false;
    struct error ignored = {0};

    remote_keep(remote, &ignored); /* the memory follows all the same */
    if (migrate_is_interrupted(options->interrupted))
        return error_set(error, STATUS_INCOMPLETE,
                         "interrupted, but the guest runs on the target and its memory still "
                         "follows; end neither side; 'kvm-migrate %s recover' here waits for the "
                         "rest and finishes",
                         session->name);
    json_decref(qmp_wait_event(qmp, "MIGRATION", NULL, NULL, clock_deadline(LOOK_MS), &lost));
    if (process_wait_gone(session->process.pidfd, clock_deadline(lost ? QUERY_MS : 0)))
        return error_set(error, STATUS_INCOMPLETE,
                         "QEMU here has ended in the middle of a post-copy: the guest on the "
                         "target has lost memory; 'kvm-stop %s --force' there and 'kvm-cleanup %s "
                         "--force' here, then it can be started again",
                         session->name, session->name);
    return 0;
}

int postcopy_wait(struct session *session, struct qmp *qmp, struct remote *remote,
                  const struct migrate_options *options, double began, json_t **last,
                  struct error *error)
{
    bool done = false;

    for (;;) {
        AUTO_JSON json_t *reply = migrate_query(qmp, clock_deadline(MIGRATE_ANSWER_MS), error);
        if (reply == NULL && !process_wait_gone(session->process.pidfd, clock_deadline(LOOK_MS)))
            return -1;
        if (reply != NULL) {
            struct migrate_progress progress = migrate_progress_of(reply, clock_wall() - began);
            if (options->progress != NULL)
                options->progress(&progress);
            if (look_once(session, reply, &done, error) < 0)
                return -1;
        }
        if (done && json_number(reply, "total-time", 0) == 0)
            clock_sleep_ms(ZERO_TIMES_MS);
        if (done && last != NULL) {
            json_decref(*last);
            *last = migrate_query(qmp, clock_deadline(MIGRATE_ANSWER_MS), NULL);
        }
        if (done)
            return 0;
        if (wait_a_moment(session, qmp, remote, options, error) < 0)
            return -1;
    }
}

int source_complete(struct session *session, struct qmp *qmp, deadline_t deadline,
                    struct error *error)
{
    struct runtime *runtime = &session->runtime;

    if (migration_side_of(runtime) != MIGRATION_SOURCE ||
        migration_rule(MIGRATION_SOURCE, migration_phase_of(runtime), STAGE_COMPLETE) == NULL)
        return migration_out_of_order(runtime, STAGE_COMPLETE, error);
    AUTO_JSON json_t *reply = migrate_query(qmp, deadline, error);
    if (reply == NULL)
        return -1;
    if (!is(json_text(reply, "status"), "completed"))
        return error_set(error, STATUS_STATE, "memory of the guest is still only here");
    migration_set_phase(runtime, MIGRATION_SOURCE, PHASE_COMMITTED);
    return runtime_commit(session->rundir, runtime, error);
}

/* ---- a new stream ---- */

/* The other side may know already that the link is cut, and QEMU here not yet. */
static int pause_here(struct qmp *qmp, struct error *error)
{
    deadline_t deadline = clock_deadline(PAUSE_MS);

    for (;;) {
        AUTO_JSON json_t *reply = migrate_query(qmp, deadline, error);
        const char *phase = json_text(reply, "status");
        if (reply == NULL)
            return -1;
        if (is(phase, "postcopy-paused") || is(phase, "completed"))
            return 0;
        if (clock_passed(deadline))
            return error_set(error, STATUS_INCOMPLETE, "QEMU does not let go of the old stream");
        qmp_call_oob(qmp, "migrate-pause", NULL, deadline, NULL, NULL);
        clock_sleep_ms(LOOK_MS);
    }
}

static json_t *resume_request(const struct session *session, const struct migrate_options *options)
{
    const struct runtime *runtime = &session->runtime;
    const char *address =
        options->address != NULL ? options->address : migration_text(runtime, "address");
    const char *recorded = migration_text(runtime, "port");
    int64_t port = 0;

    if (options->port >= 0)
        port = options->port;
    else if (recorded != NULL)
        sscanf(recorded, "%" SCNd64, &port);
    return memory_json(json_pack("{s:s, s:s*, s:I, s:s*}", "stage", "resume", "address", address,
                                 "port", (json_int_t)port, "tls", migration_text(runtime, "tls")));
}

static int renew_key(struct session *session, struct qmp *qmp, const json_t *answer,
                     deadline_t deadline, struct error *error)
{
    const char *key = json_text(answer, "key");

    if (key == NULL || key[0] == '\0')
        return 0;
    channel_drop_credentials(qmp, deadline);
    return channel_credentials(session, qmp, key, false, deadline, error);
}

static int wait_for_stream(struct session *session, struct qmp *qmp, int64_t port,
                           struct error *error)
{
    deadline_t deadline = clock_deadline(MIGRATE_CONNECT_MS);

    for (;;) {
        AUTO_JSON json_t *reply = migrate_query(qmp, deadline, error);
        const char *phase = json_text(reply, "status");
        if (reply == NULL)
            return -1;
        if (is(phase, "postcopy-active") || is(phase, "completed")) {
            channel_watch_process(session->process.pid, session->process.pidfd, port);
            return 0;
        }
        if (clock_passed(deadline))
            return error_set(error, STATUS_INCOMPLETE,
                             "QEMU could not connect to the target again; is the way to the "
                             "migration address and port open?");
        clock_sleep_ms(LOOK_MS);
    }
}

int postcopy_resume(struct session *session, struct qmp *qmp, struct remote *remote,
                    const struct migrate_options *options, struct error *error)
{
    deadline_t deadline = clock_deadline(MIGRATE_ANSWER_MS);
    AUTO_JSON json_t *answer = NULL;
    AUTO_JSON json_t *request = resume_request(session, options);
    const char *address = json_text(request, "address");

    if (pause_here(qmp, error) < 0 ||
        remote_ask(remote, json_incref(request), deadline, &answer, error) < 0)
        return -1;
    if (json_truth(answer, "completed", false))
        return 0;
    int64_t port = json_number(answer, "port", 0);
    AUTO_FREE char *uri = channel_uri(address != NULL ? address : "127.0.0.1", port, error);
    if (uri == NULL || renew_key(session, qmp, answer, deadline, error) < 0)
        return -1;
    json_t *arguments = memory_json(json_pack("{s:s, s:b}", "uri", uri, "resume", 1));
    if (qmp_call(qmp, "migrate", arguments, deadline, NULL, error) != QMP_DONE ||
        wait_for_stream(session, qmp, port, error) < 0)
        return -1;
    return remote_ask(
        remote, memory_json(json_pack("{s:s, s:I}", "stage", "watch", "port", (json_int_t)port)),
        deadline, NULL, error);
}
