/* SPDX-License-Identifier: BSD-2-Clause */
/* The source's stages as commands of their own, without a session: offer, send, commit. */
#include <stdio.h>
#include <string.h>

#include "migrate_sending.h"
#include "kvm/base/json.h"
#include "kvm/base/log.h"
#include "kvm/base/memory.h"

enum { TOKEN_LENGTH = 32 };

static struct sending fresh(const struct rundir *rundir, const struct node *node, const char *name,
                            const struct migrate_options *options, struct result *result)
{
    return (struct sending){.rundir = rundir,
                            .node = node,
                            .name = name,
                            .options = options,
                            .result = result,
                            .began = clock_wall(),
                            .copy_end = options->deadline_ms >= 0
                                            ? clock_deadline(options->deadline_ms)
                                            : DEADLINE_NEVER,
                            .session = {.lock = -1, .process = {.pidfd = -1}},
                            .remote = {.pidfd = -1, .to = -1, .from = -1},
                            .pipe = {.pidfd = -1, .to = -1, .from = -1}};
}

static void release(struct sending *sending)
{
    qmp_release(&sending->qmp);
    session_close(&sending->session);
    messages_release(&sending->problems);
    free(sending->uri);
    json_decref(sending->plan);
    json_decref(sending->last);
}

/* ---- offer ---- */

/* Given back by the target, so they are read with the same care as a command line. */
static json_t *options_json(const struct migrate_options *options)
{
    return memory_json(json_pack("{s:s, s:I, s:I, s:b, s:b, s:b}", "target", options->target,
                                 "bandwidth", (json_int_t)options->bandwidth_mib, "downtime",
                                 (json_int_t)options->downtime_ms, "auto_converge",
                                 (int)options->auto_converge, "non_live", (int)options->non_live,
                                 "plain_tcp", (int)options->plain_tcp));
}

static json_t *make_offer(struct sending *sending, struct error *error)
{
    if (sending_open(sending, error) < 0)
        return NULL;
    if (migrate_may_postcopy(&sending->session.runtime.instance, sending->options))
        messages_add(&sending->problems, "post-copy needs the session of 'to'");
    if (sending->problems.count > 0) {
        messages_error(&sending->problems, STATUS_STATE, error);
        return NULL;
    }
    sending->plan = migrate_plan(&sending->session.runtime.instance, sending->options);
    json_t *offer = sending_accept_question(sending);
    migration_token(sending->vote_token);
    json_object_del(offer, "stage");
    json_object_update_new(offer,
                           json_pack("{s:s, s:s, s:s, s:o}", "document", "offer", "vote_token",
                                     sending->vote_token, "peer", sending->options->target,
                                     "options", options_json(sending->options)));
    return offer;
}

enum status migrate_offer(const struct rundir *rundir, const struct node *node, const char *name,
                          const struct migrate_options *options, json_t **document)
{
    struct result result = {0};
    struct sending sending = fresh(rundir, node, name, options, &result);
    struct error error = {0};

    *document = make_offer(&sending, &error);
    for (size_t i = 0; i < result.warnings.count; i++)
        log_warning("%s: %s", name, result.warnings.items[i]);
    messages_release(&result.warnings);
    release(&sending);
    if (*document != NULL)
        return STATUS_DONE;
    log_error("%s: %s", name, error.text);
    return error.status;
}

/* ---- send ---- */

/* In the form that migrate_check_accepted has found. */
static void take_options(const json_t *accepted, struct migrate_options *options)
{
    const json_t *from = json_member(accepted, "options");

    options->target = json_text(from, "target");
    options->tls_x509 = json_text(accepted, "x509");
    options->auto_converge = json_truth(from, "auto_converge", false);
    options->non_live = json_truth(from, "non_live", false);
    options->address = json_text(accepted, "address");
    options->plain_tcp = json_truth(from, "plain_tcp", false);
    options->bandwidth_mib = json_number(from, "bandwidth", -1);
    options->downtime_ms = json_number(from, "downtime", -1);
    options->port = json_number(accepted, "port", 0);
}

static void take_token(const json_t *accepted, const char *key, char token[33])
{
    snprintf(token, TOKEN_LENGTH + 1, "%s", json_text(accepted, key));
}

/* A send that was killed is taken up where QEMU is by now. */
static int take_up(struct sending *sending, struct error *error)
{
    struct runtime *runtime = &sending->session.runtime;
    const char *mine = migration_text(runtime, "commit_token");

    sending->recorded = migration_phase_of(runtime) == PHASE_SENDING && mine != NULL &&
                        strcmp(mine, sending->commit_token) == 0;
    sending->copying = clock_wall(); /* since when is not known; for what QEMU has to do at first */
    return sending->recorded ? 0 : migration_out_of_order(runtime, STAGE_SEND, error);
}

static int start(struct sending *sending, const json_t *accepted, struct error *error)
{
    AUTO_MESSAGES struct messages problems = {0};
    deadline_t deadline = clock_deadline(SETUP_MS);
    AUTO_JSON json_t *here = migrate_tree(sending->qmp, deadline, error);

    if (here == NULL)
        return -1;
    migrate_compare(here, json_member(accepted, "tree"), &problems);
    if (problems.count > 0) {
        messages_error(&problems, STATUS_STATE, error);
        return error_prefix(error, "the two sides differ, nothing was copied");
    }
    if (migrate_hooks_pre(&sending->session, &sending->session.runtime.instance, MIGRATION_SOURCE,
                          sending->options->target, clock_deadline(sending->options->timeout_ms),
                          error) < 0)
        return -1;
    sending->plan = migrate_plan(&sending->session.runtime.instance, sending->options);
    sending->uri = memory_copy("fd:kvm-suite-out");
    AUTO_CLOSE int stream = sending_stream(sending, sending->port, json_text(accepted, "token"),
                                           clock_deadline(MIGRATE_CONNECT_MS), error);
    if (stream < 0)
        return -1;
    channel_watch_link(stream);
    return sending_record(sending, error) < 0 ||
                   sending_set_up_tls(sending, json_text(accepted, "key"), deadline, error) < 0 ||
                   migrate_apply(sending->qmp, sending->plan, false, deadline, error) < 0 ||
                   channel_pass(sending->qmp, stream, "kvm-suite-out", deadline, error) < 0 ||
                   sending_begin(sending, error) < 0
               ? -1
               : 0;
}

static int switch_over(struct sending *sending, struct error *error)
{
    deadline_t deadline = clock_deadline(SWITCH_MS);
    json_t *arguments = memory_json(json_pack("{s:s}", "state", "pre-switchover"));
    char phase[MIGRATE_PHASE_SIZE];
    AUTO_JSON json_t *reply = migrate_query(sending->qmp, deadline, error);
    const char *status = json_text(reply, "status");
    bool stands = status != NULL && strcmp(status, "pre-switchover") == 0;

    if (reply == NULL) {
        json_decref(arguments);
        return -1;
    }
    if (!stands)
        json_decref(arguments);
    else if (qmp_call(sending->qmp, "migrate-continue", arguments, deadline, NULL, error) !=
             QMP_DONE)
        return -1;
    if (migrate_await_end(sending->qmp, -1, true, deadline, phase, error) < 0)
        return -1;
    if (strcmp(phase, "completed") == 0)
        return 0;
    AUTO_JSON json_t *last = migrate_query(sending->qmp, deadline, NULL);
    return sending_copy_failed(sending, last, phase, error);
}

static int copy(struct sending *sending, const json_t *accepted, struct error *error)
{
    if (sending_open(sending, error) < 0)
        return -1;
    if (migration_phase_of(&sending->session.runtime) != PHASE_NONE) {
        if (take_up(sending, error) < 0)
            return -1;
    } else if (sending->problems.count > 0) {
        return messages_error(&sending->problems, STATUS_STATE, error);
    } else if (start(sending, accepted, error) < 0) {
        return -1;
    }
    return sending_watch(sending, error) < 0 ? -1 : switch_over(sending, error);
}

/* What has failed is undone here; the target, which has not voted, needs no token for it. */
static void go_back(struct sending *sending, struct error *error)
{
    struct error second = {0};
    enum migration_phase phase = migration_phase_of(&sending->session.runtime);

    if (!sending->recorded || phase != PHASE_SENDING)
        return;
    qmp_release(&sending->qmp);
    if (source_abort(&sending->session, clock_deadline(SWITCH_MS), &second) < 0) {
        error->status = STATUS_INCOMPLETE;
        error_append(error, "; going back: %s", second.text);
        return;
    }
    source_drop_stream(&sending->session, clock_deadline(SETTLE_MS));
    error_append(error, "; the guest runs here as before; on %s: kvm-migrate %s abort --token %s",
                 sending->options->target, sending->name, sending->abort_token);
}

void migrate_send(const struct rundir *rundir, const struct node *node, const char *name,
                  const struct migrate_options *options, const json_t *accepted,
                  struct result *result)
{
    struct migrate_options mine = *options;
    struct error error = {0};

    result->subject = memory_copy(name);
    int failed = migrate_check_accepted(accepted, "standard input", &error);
    if (failed == 0)
        take_options(accepted, &mine);
    struct sending sending = fresh(rundir, node, name, &mine, result);
    if (failed == 0) {
        take_token(accepted, "commit_token", sending.commit_token);
        take_token(accepted, "abort_token", sending.abort_token);
        take_token(accepted, "vote_token", sending.vote_token);
    }
    if (failed == 0 && copy(&sending, accepted, &error) < 0) {
        failed = -1;
        go_back(&sending, &error);
    }
    if (failed < 0) {
        result->status = error.status;
        result->text = memory_copy(error.text);
    } else {
        result->text = memory_format("sent: everything is on %s, the guest is paused; there: "
                                     "kvm-migrate %s vote",
                                     mine.target, name);
    }
    release(&sending);
}

/* ---- commit ---- */

int source_commit(struct session *session, const char *token, deadline_t deadline,
                  struct error *error)
{
    struct runtime *runtime = &session->runtime;
    const struct migration_rule *rule =
        migration_rule(MIGRATION_SOURCE, migration_phase_of(runtime), STAGE_COMMIT);
    const char *expected = migration_text(runtime, "vote_token");

    if (rule == NULL)
        return migration_out_of_order(runtime, STAGE_COMMIT, error);
    if (rule->need == NEED_NOTHING)
        return 0;
    if (token == NULL || expected == NULL || strcmp(token, expected) != 0)
        return error_set(error, STATUS_STATE,
                         "this needs the vote of the target: 'kvm-migrate %s vote' there tells it",
                         session->name);
    if (session_is_live(session)) {
        AUTO_QMP struct qmp *qmp = target_monitor(session, deadline, error);
        AUTO_JSON json_t *reply = qmp == NULL ? NULL : migrate_query(qmp, deadline, error);
        const char *phase = json_text(reply, "status");
        if (reply == NULL)
            return -1;
        if (phase == NULL || strcmp(phase, "completed") != 0)
            return error_set(error, STATUS_STATE, "not everything has been sent (%s)",
                             phase != NULL ? phase : "no migration");
    }
    migration_set_phase(runtime, MIGRATION_SOURCE, rule->to);
    return runtime_commit(session->rundir, runtime, error);
}
