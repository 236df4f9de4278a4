/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "migrate_private.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "kvm/operations/powerdown.h"
#include "kvm/operations/reconcile.h"
#include "kvm/operations/teardown.h"
#include "kvm/qemu/events.h"
#include "kvm/qemu/peripheral.h"
#include "kvm/state/hvparams.h"

enum {
    LOOK_MS = 100,     /* between two looks at the progress */
    SETTLE_MS = 5000,  /* for QEMU to leave a cancelled migration */
    SWITCH_MS = 30000, /* device state and the target's confirmation, guest paused */
    END_MS = 10000,
    SETUP_MS = 60000,
    ZERO_TIMES_MS = 50, /* "completed" may come with times of zero: asked once more */
};

struct sending {
    const struct rundir *rundir;
    const struct node *node;
    const char *name;
    const struct migrate_options *options;
    struct result *result;
    struct session session;
    struct qmp *qmp;   /* actions; with oob where QEMU has it */
    struct qmp *query; /* progress */
    struct remote remote, pipe;
    json_t *plan;
    const char *address;
    int64_t port;
    bool accepted; /* the target holds an incoming QEMU */
    bool recorded; /* "sending" is on our disk */
    bool committed;
    char commit_token[33], abort_token[33];
    json_t *last; /* query-migrate at the end */
    double began;
};

static void say(const struct sending *sending, const char *what)
{
    if (sending->options->observe != NULL)
        sending->options->observe(what);
}

/* ---- back to running here ---- */

/* A migration that hangs in its socket holds QEMU's lock: yank goes round it. */
static void cancel_copy(struct qmp *qmp, deadline_t deadline)
{
    struct error reason = {0};

    if (qmp_call(qmp, "migrate_cancel", NULL, clock_earlier(deadline, clock_deadline(2000)), NULL,
                 &reason) == QMP_DONE)
        return;
    qmp_call_oob(qmp, "yank",
                 memory_json(json_pack("{s:[{s:s}]}", "instances", "type", "migration")), deadline,
                 NULL, NULL);
}

static int wait_until_settled(struct qmp *qmp, deadline_t deadline, struct error *error)
{
    while (peripheral_migration(qmp, deadline) != NULL) {
        if (clock_passed(deadline))
            return error_set(error, STATUS_INCOMPLETE,
                             "the migration was cancelled but QEMU is still busy with it");
        clock_sleep_ms(10);
    }
    return 0;
}

static int continue_here(struct session *session, struct qmp *qmp, deadline_t deadline,
                         struct error *error)
{
    char status[32];

    if (monitor_status(qmp, deadline, status, error) < 0)
        return -1;
    bool wanted = session->runtime.state != RUNTIME_PAUSED;
    if (wanted && strcmp(status, "running") != 0 &&
        qmp_call(qmp, "cont", NULL, deadline, NULL, error) != QMP_DONE)
        return error_append(error, "; 'kvm-migrate %s recover' tries again", session->name);
    if (monitor_status(qmp, deadline, status, error) < 0)
        return -1;
    if (wanted && strcmp(status, "running") != 0)
        return error_set(error, STATUS_INCOMPLETE, "the guest is \"%s\" and does not run on",
                         status);
    return 0;
}

int source_abort(struct session *session, deadline_t deadline, struct error *error)
{
    struct runtime *runtime = &session->runtime;

    if (migration_side_of(runtime) != MIGRATION_SOURCE ||
        migration_rule(MIGRATION_SOURCE, migration_phase_of(runtime), STAGE_ABORT) == NULL)
        return migration_out_of_order(runtime, STAGE_ABORT, error);
    if (!session_is_live(session))
        return error_set(
            error, STATUS_STATE,
            "its QEMU has ended, the guest is lost; 'kvm-cleanup %s' here, and abort on "
            "the target",
            session->name);
    AUTO_FREE char *path = rundir_path(session->rundir, RUNDIR_QMP, session->name);
    AUTO_QMP struct qmp *qmp = qmp_connect_peer(path, session->process.pid, true, deadline, error);
    if (qmp == NULL)
        return -1;
    cancel_copy(qmp, deadline);
    if (wait_until_settled(qmp, clock_earlier(deadline, clock_deadline(SETTLE_MS)), error) < 0)
        return -1;
    /* The phase goes back before the guest runs on: from here on nothing can be committed any more. */
    migration_set_phase(runtime, MIGRATION_SOURCE, PHASE_NONE);
    if (runtime_commit(session->rundir, runtime, error) < 0 ||
        continue_here(session, qmp, deadline, error) < 0)
        return -1;
    channel_drop_credentials(qmp, deadline);
    return 0;
}

int source_finish(struct session *session, deadline_t deadline, struct messages *warnings,
                  struct error *error)
{
    struct teardown_options options = {.deadline = clock_deadline(SETUP_MS), .only_local = true};

    if (migration_rule(MIGRATION_SOURCE, migration_phase_of(&session->runtime), STAGE_FINISH) ==
        NULL)
        return migration_out_of_order(&session->runtime, STAGE_FINISH, error);
    if (session_is_live(session) &&
        powerdown_kill(session->rundir, session->name, &session->process, "migrated away",
                       clock_earlier(deadline, clock_deadline(END_MS)), error) < 0)
        return -1;
    monitor_forget(&session->process);
    return teardown_run(session->rundir, session->node, session->name, &session->runtime, &options,
                        warnings, error);
}

/* ---- opening ---- */

static int check_instance(struct sending *sending, struct error *error)
{
    struct session *session = &sending->session;
    const struct instance *instance = &session->runtime.instance;
    char status[32];

    if (!session_is_live(session))
        return error_set(error, STATUS_STATE, "it does not run here");
    if (!session->has_runtime)
        return error_set(error, STATUS_STATE, "its runtime file can't be read: %s",
                         session->runtime_fault.text);
    if (session_check_recorded(session, error) < 0)
        return -1;
    if (migration_phase_of(&session->runtime) != PHASE_NONE)
        return error_set(
            error, STATUS_STATE,
            "an earlier migration of it is \"%s\"; 'kvm-migrate %s recover' finishes or "
            "undoes it",
            migration_phase_name(migration_phase_of(&session->runtime)), sending->name);
    for (size_t i = 0; i < instance->disk_count + instance->nic_count; i++) {
        const char *uuid = i < instance->disk_count ? instance->disks[i].uuid
                                                    : instance->nics[i - instance->disk_count].uuid;
        if (runtime_device_state(&session->runtime, uuid) != DEVICE_PRESENT)
            return error_set(error, STATUS_STATE,
                             "device %s is being added or removed; 'kvm-hotplug %s list' shows it",
                             uuid, sending->name);
    }
    if (monitor_status(sending->qmp, clock_deadline(SETUP_MS), status, error) < 0)
        return -1;
    if (strcmp(status, "running") != 0 && strcmp(status, "paused") != 0)
        return error_set(error, STATUS_STATE, "the guest is \"%s\", which can't be migrated",
                         status);
    return 0;
}

static int open_source(struct sending *sending, struct error *error)
{
    deadline_t deadline = clock_deadline(sending->options->timeout_ms);
    struct session *session = &sending->session;

    if (session_open(session, sending->rundir, sending->node, sending->name, true,
                     clock_deadline(sending->options->wait_lock_ms), error) < 0)
        return -1;
    if (!session_is_live(session))
        return check_instance(sending, error);
    AUTO_FREE char *path = rundir_path(sending->rundir, RUNDIR_QMP, sending->name);
    sending->qmp = qmp_connect_peer(path, session->process.pid, true, deadline, error);
    if (sending->qmp == NULL)
        return -1;
    sending->query = monitor_open(sending->rundir, sending->name, RUNDIR_QUERY, &session->process,
                                  deadline, error);
    if (sending->query == NULL)
        return -1;
    if (session->has_runtime &&
        reconcile_live(sending->rundir, sending->node, &session->runtime, sending->qmp, deadline,
                       &sending->result->warnings, error) < 0)
        return -1;
    if (check_instance(sending, error) < 0)
        return -1;
    const json_t *hvparams = session->runtime.instance.hvparams;
    sending->address =
        sending->options->address != NULL ? sending->options->address : sending->options->target;
    sending->port = sending->options->port >= 0 ? sending->options->port
                                                : hvparams_number(hvparams, "migration_port");
    return 0;
}

static char *remote_command(const struct migrate_options *options)
{
    return options->remote != NULL ? memory_copy(options->remote)
                                   : memory_format("ssh root@%s", options->target);
}

static int open_remote(struct sending *sending, struct error *error)
{
    const char *const words[] = {"kvm-migrate", sending->name, "serve", NULL};
    AUTO_FREE char *command = remote_command(sending->options);

    return remote_open(&sending->remote, command, words, error);
}

static json_t *request(const struct sending *sending, const char *stage)
{
    AUTO_FREE char *text = runtime_text(&sending->session.runtime);
    json_t *whole = json_loads(text, 0, NULL);

    return memory_json(json_pack("{s:s, s:o}", "stage", stage, "runtime", memory_json(whole)));
}

static void take_warnings(struct sending *sending, const json_t *answer)
{
    size_t i;
    json_t *warning;

    json_array_foreach (json_member(answer, "warnings"), i, warning)
        messages_add(&sending->result->warnings, "on the target: %s", json_string_value(warning));
}

static int check_target(struct sending *sending, struct error *error)
{
    AUTO_JSON json_t *answer = NULL;

    say(sending, "check the target");
    if (remote_ask(&sending->remote, request(sending, "check"), clock_deadline(MIGRATE_ANSWER_MS),
                   &answer, error) < 0)
        return -1;
    take_warnings(sending, answer);
    return 0;
}

/* ---- the steps of the way there ---- */

static int accept_there(struct sending *sending, json_t **answer, struct error *error)
{
    json_t *question = request(sending, "accept");
    char id[33];

    say(sending, "let the target accept");
    migration_token(id);
    migration_token(sending->commit_token);
    migration_token(sending->abort_token);
    json_object_update_new(
        question,
        json_pack("{s:s, s:s, s:s, s:s, s:I, s:b, s:b, s:O}", "id", id, "commit_token",
                  sending->commit_token, "abort_token", sending->abort_token, "address",
                  sending->address, "port", sending->port, "tls", (int)!sending->options->plain_tcp,
                  "tunnel", (int)sending->options->tunnel, "plan", sending->plan));
    if (sending->session.runtime.state == RUNTIME_PAUSED)
        json_object_set_new(question, "paused", memory_json(json_string("yes")));
    if (remote_ask(&sending->remote, question, clock_deadline(MIGRATE_ANSWER_MS), answer, error) <
        0)
        return -1;
    sending->accepted = true;
    take_warnings(sending, *answer);
    return 0;
}

static int compare_trees(struct sending *sending, struct error *error)
{
    AUTO_JSON json_t *answer = NULL;
    AUTO_MESSAGES struct messages problems = {0};
    deadline_t deadline = clock_deadline(MIGRATE_ANSWER_MS);
    AUTO_JSON json_t *here = migrate_tree(sending->query, deadline, error);

    say(sending, "compare the devices of both sides");
    if (here == NULL || remote_ask(&sending->remote, json_pack("{s:s}", "stage", "tree"), deadline,
                                   &answer, error) < 0)
        return -1;
    migrate_compare(here, json_member(answer, "tree"), &problems);
    if (problems.count == 0)
        return 0;
    messages_error(&problems, STATUS_STATE, error);
    return error_prefix(error, "the two sides differ, nothing was copied");
}

/* Through the remote command's own pipe: a second session there joins our end with the waiting target's. */
static int connect_tunnel(struct sending *sending, const char *token, struct error *error)
{
    const char *const words[] = {"kvm-migrate", sending->name, "pipe", NULL};
    AUTO_FREE char *command = remote_command(sending->options);

    (void)token;
    return remote_open_stream(&sending->pipe, command, words, error);
}

static int connect_memory(struct sending *sending, const json_t *answer, struct error *error)
{
    const char *token = json_text(answer, "token"), *key = json_text(answer, "key");
    int64_t port = json_number(answer, "port", 0);
    deadline_t deadline = clock_deadline(MIGRATE_CONNECT_MS);
    AUTO_JSON json_t *question = memory_json(json_pack("{s:s}", "stage", "receive"));

    say(sending, "connect for the memory");
    if (token == NULL || strlen(token) != 32)
        return error_set(error, STATUS_FAILED, "the target gave no token");
    if (remote_write(sending->remote.to, question) < 0)
        return error_errno(error, STATUS_FAILED, "the session with the target is lost");
    AUTO_CLOSE int stream = sending->options->tunnel
                                ? connect_tunnel(sending, token, error)
                                : channel_connect(sending->address, port, token, deadline, error);
    if (stream < 0)
        return -1;
    if (sending->options->tunnel && write(stream, token, 32) != 32)
        return error_errno(error, STATUS_FAILED, "tunnel");
    if (remote_answer(&sending->remote, deadline, NULL, error) < 0)
        return -1;
    channel_watch_link(stream);
    if (key != NULL && key[0] != '\0' &&
        channel_credentials(sending->name, sending->qmp, sending->session.process.pid, key, false,
                            deadline, error) < 0)
        return error_prefix(error, "TLS");
    if (migrate_apply(sending->qmp, sending->plan, false, deadline, error) < 0)
        return -1;
    return channel_pass(sending->qmp, stream, "kvm-suite-out", deadline, error);
}

static int record_sending(struct sending *sending, struct error *error)
{
    struct runtime *runtime = &sending->session.runtime;

    migration_clear(runtime);
    migration_set_phase(runtime, MIGRATION_SOURCE, PHASE_SENDING);
    migration_set_text(runtime, "peer", sending->options->target);
    migration_set_text(runtime, "commit_token", sending->commit_token);
    migration_set_text(runtime, "abort_token", sending->abort_token);
    if (runtime_commit(sending->rundir, runtime, error) < 0)
        return -1;
    sending->recorded = true;
    return 0;
}

static int begin_copy(struct sending *sending, struct error *error)
{
    deadline_t deadline = clock_deadline(SETUP_MS);

    say(sending, "copy the memory");
    if (sending->options->non_live &&
        qmp_call(sending->qmp, "stop", NULL, deadline, NULL, error) != QMP_DONE)
        return -1;
    json_t *arguments = memory_json(json_pack("{s:s}", "uri", "fd:kvm-suite-out"));
    return qmp_call(sending->qmp, "migrate", arguments, deadline, NULL, error) == QMP_DONE ? 0 : -1;
}

/* ---- watching ---- */

static void tell_progress(const struct sending *sending, const json_t *reply)
{
    const json_t *ram = json_member(reply, "ram");
    const json_t *mbps = json_member(ram, "mbps");
    struct migrate_progress progress = {
        .phase = json_text(reply, "status") != NULL ? json_text(reply, "status") : "setup",
        .transferred = json_number(ram, "transferred", 0),
        .remaining = json_number(ram, "remaining", 0),
        .total = json_number(ram, "total", 0),
        .mbps = json_is_number(mbps) ? json_number_value(mbps) : 0,
        .dirty_bytes_per_s =
            json_number(ram, "dirty-pages-rate", 0) * json_number(ram, "page-size", 4096),
        .expected_downtime_ms = json_number(reply, "expected-downtime", -1),
        .seconds = clock_wall() - sending->began,
    };

    if (sending->options->progress != NULL)
        sending->options->progress(&progress);
}

static int copy_failed(const json_t *reply, const char *phase, struct error *error)
{
    const char *why = json_text(reply, "error-desc");
    return error_set(error, STATUS_FAILED, "copying %s%s%s",
                     strcmp(phase, "failed") == 0 ? "failed" : "was cancelled",
                     why != NULL ? ": " : "", why != NULL ? why : "");
}

static int deadline_reached(struct sending *sending, bool *paused, struct error *error)
{
    if (sending->options->on_deadline == ON_DEADLINE_PAUSE && !*paused) {
        say(sending, "the time is up: pause the guest so that the copy ends");
        *paused = true;
        return qmp_call(sending->qmp, "stop", NULL, clock_deadline(SETUP_MS), NULL, error) ==
                       QMP_DONE
                   ? 0
                   : -1;
    }
    if (*paused)
        return 0;
    return error_set(
        error, STATUS_FAILED,
        "the copy did not converge by the deadline: the guest changes its memory faster "
        "than it is sent; more --bandwidth or --downtime, --auto-converge, or "
        "--on-deadline pause make it end");
}

/* Until QEMU stands before the switch-over, guest paused, all memory sent but the last rest. */
static int watch_copy(struct sending *sending, struct error *error)
{
    deadline_t deadline = sending->options->deadline_ms >= 0
                              ? clock_deadline(sending->options->deadline_ms)
                              : DEADLINE_NEVER;
    bool paused = false;

    for (;;) {
        AUTO_JSON json_t *reply = migrate_query(sending->query, clock_deadline(SETUP_MS), error);
        const char *phase = json_text(reply, "status");
        if (reply == NULL)
            return -1;
        tell_progress(sending, reply);
        if (phase != NULL && (strcmp(phase, "failed") == 0 || strcmp(phase, "cancelled") == 0))
            return copy_failed(reply, phase, error);
        if (phase != NULL &&
            (strcmp(phase, "pre-switchover") == 0 || strcmp(phase, "completed") == 0))
            return 0;
        if (sending->options->interrupted != NULL && *sending->options->interrupted)
            return error_set(error, STATUS_FAILED, "interrupted");
        if (clock_passed(deadline) && deadline_reached(sending, &paused, error) < 0)
            return -1;
        if (process_wait_gone(sending->session.process.pidfd, clock_deadline(LOOK_MS)))
            return error_set(error, STATUS_FAILED, "QEMU here has ended while copying");
    }
}

static int switch_over(struct sending *sending, struct error *error)
{
    deadline_t deadline = clock_deadline(SWITCH_MS);
    json_t *arguments = memory_json(json_pack("{s:s}", "state", "pre-switchover"));

    say(sending, "switch over");
    if (qmp_call(sending->qmp, "migrate-continue", arguments, deadline, NULL, error) != QMP_DONE)
        return -1;
    for (;;) {
        AUTO_JSON json_t *reply = migrate_query(sending->query, deadline, error);
        const char *phase = json_text(reply, "status");
        if (reply == NULL)
            return -1;
        if (phase != NULL && (strcmp(phase, "failed") == 0 || strcmp(phase, "cancelled") == 0))
            return copy_failed(reply, phase, error);
        if (phase != NULL && strcmp(phase, "completed") == 0) {
            if (json_number(reply, "total-time", 0) == 0) {
                clock_sleep_ms(ZERO_TIMES_MS);
                sending->last = migrate_query(sending->query, deadline, NULL);
            } else {
                sending->last = json_incref(reply);
            }
            return 0;
        }
        if (clock_passed(deadline))
            return error_set(error, STATUS_FAILED, "the target did not confirm the switch in time");
        clock_sleep_ms(2);
    }
}

static int vote_and_commit(struct sending *sending, struct error *error)
{
    struct runtime *runtime = &sending->session.runtime;
    deadline_t deadline = clock_deadline(MIGRATE_ANSWER_MS);

    say(sending, "ask for the target's vote");
    if (remote_ask(&sending->remote, json_pack("{s:s}", "stage", "vote"), deadline, NULL, error) <
        0)
        return -1;
    say(sending, "commit");
    migration_set_phase(runtime, MIGRATION_SOURCE, PHASE_COMMITTED);
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

/* ---- and back, when something failed before the commit ---- */

static void undo(struct sending *sending, struct error *error)
{
    struct error second = {0};

    if (sending->committed) {
        error->status = STATUS_INCOMPLETE;
        error_append(error,
                     "; the guest belongs to %s now; 'kvm-migrate %s recover --remote ...' "
                     "here finishes it, or there: kvm-migrate %s commit --token %s",
                     sending->options->target, sending->name, sending->name, sending->commit_token);
        return;
    }
    qmp_release(&sending->qmp);
    bool dead = process_wait_gone(sending->session.process.pidfd, clock_deadline(0));
    if (sending->recorded && !dead &&
        source_abort(&sending->session, clock_deadline(SWITCH_MS), &second) < 0) {
        error->status = STATUS_INCOMPLETE;
        error_append(error, "; going back: %s", second.text);
        return;
    }
    AUTO_JSON json_t *answer = NULL;
    if (sending->accepted &&
        remote_ask(&sending->remote,
                   json_pack("{s:s, s:s}", "stage", "abort", "token", sending->abort_token),
                   clock_deadline(SWITCH_MS), &answer, &second) < 0) {
        error_append(error, "; the guest runs here; on %s: kvm-migrate %s abort --token %s",
                     sending->options->target, sending->name, sending->abort_token);
        return;
    }
    /* An incoming QEMU tells what went wrong in its messages only. */
    const char *words = json_text(answer, "words");
    if (words != NULL && words[0] != '\0')
        error_append(error, "; QEMU on the target said: %s", words);
    if (dead)
        error_append(
            error,
            "; with QEMU the guest is gone: 'kvm-cleanup %s' removes what it left, then it "
            "can be started again",
            sending->name);
    else
        error_append(error, "; the guest runs here as before");
}

/* The capabilities are QEMU's until they are set anew: leave none that a later migration does not want. */
static void tell_result(struct sending *sending)
{
    const json_t *ram = json_member(sending->last, "ram");
    int64_t total = json_number(sending->last, "total-time", 0);
    int64_t downtime = json_number(sending->last, "downtime", 0);
    int64_t bytes = json_number(ram, "transferred", 0);
    char span[32];

    clock_format_span(clock_wall() - sending->began, span, sizeof(span));
    json_decref(sending->result->detail);
    sending->result->detail = memory_json(json_pack(
        "{s:s, s:I, s:I, s:I, s:f}", "target", sending->options->target, "total_time_ms", total,
        "downtime_ms", downtime, "bytes", bytes, "seconds", clock_wall() - sending->began));
    free(sending->result->text);
    sending->result->text = memory_format(
        "runs on %s now: took %s, downtime %lld ms, %lld MiB sent, %lld MiB/s",
        sending->options->target, span, (long long)downtime, (long long)(bytes / 1048576),
        (long long)(total > 0 ? bytes / total * 1000 / 1048576 : 0));
}

static int go(struct sending *sending, struct error *error)
{
    AUTO_JSON json_t *answer = NULL;

    if (accept_there(sending, &answer, error) < 0 || compare_trees(sending, error) < 0 ||
        connect_memory(sending, answer, error) < 0 || record_sending(sending, error) < 0 ||
        begin_copy(sending, error) < 0 || watch_copy(sending, error) < 0)
        return -1;
    if (sending->options->rehearse)
        return 0;
    if (switch_over(sending, error) < 0 || vote_and_commit(sending, error) < 0)
        return -1;
    tell_result(sending);
    return 0;
}

static void tell_rehearsal(struct sending *sending)
{
    AUTO_JSON json_t *reply = migrate_query(sending->query, clock_deadline(SETUP_MS), NULL);
    const json_t *ram = json_member(reply, "ram");
    double seconds = clock_wall() - sending->began;
    int64_t bytes = json_number(ram, "transferred", 0);
    int64_t rate = json_number(ram, "dirty-pages-rate", 0) * json_number(ram, "page-size", 4096);

    free(sending->result->text);
    sending->result->text = memory_format(
        "rehearsed: %lld MiB in %.1f s, dirty rate %lld MiB/s, expected downtime %lld ms",
        (long long)(bytes / 1048576), seconds, (long long)(rate / 1048576),
        (long long)json_number(reply, "expected-downtime", 0));
    json_decref(sending->result->detail);
    sending->result->detail = memory_json(json_pack(
        "{s:I, s:f, s:I, s:I}", "bytes", bytes, "seconds", seconds, "dirty_bytes_per_second", rate,
        "expected_downtime_ms", json_number(reply, "expected-downtime", 0)));
}

static int rehearsed(struct sending *sending, struct error *error)
{
    struct error end = {0};

    tell_rehearsal(sending);
    undo(sending, &end);
    if (end.status == STATUS_INCOMPLETE)
        return error_set(error, STATUS_INCOMPLETE, "%s", end.text);
    return 0;
}

static int run(struct sending *sending, bool only_check, struct error *error)
{
    if (open_source(sending, error) < 0 || open_remote(sending, error) < 0 ||
        check_target(sending, error) < 0)
        return -1;
    if (only_check) {
        sending->result->text =
            memory_format("can be migrated to %s as far as can be told", sending->options->target);
        return 0;
    }
    sending->plan = migrate_plan(&sending->session.runtime.instance, sending->options);
    if (go(sending, error) < 0) {
        undo(sending, error);
        return -1;
    }
    if (sending->options->rehearse)
        return rehearsed(sending, error);
    say(sending, "end QEMU here and clean up");
    qmp_release(&sending->qmp);
    qmp_release(&sending->query);
    return source_finish(&sending->session, clock_deadline(SETUP_MS), &sending->result->warnings,
                         error);
}

void migrate_to(const struct rundir *rundir, const struct node *node, const char *name,
                const struct migrate_options *options, bool only_check, struct result *result)
{
    struct sending sending = {.rundir = rundir,
                              .node = node,
                              .name = name,
                              .options = options,
                              .result = result,
                              .began = clock_wall(),
                              .session = {.lock = -1, .process = {.pidfd = -1}},
                              .remote = {.pidfd = -1, .to = -1, .from = -1},
                              .pipe = {.pidfd = -1, .to = -1, .from = -1}};
    struct error error = {0};

    result->subject = memory_copy(name);
    if (run(&sending, only_check, &error) < 0) {
        result->status = error.status;
        free(result->text);
        result->text = memory_copy(error.text);
    }
    qmp_release(&sending.qmp);
    qmp_release(&sending.query);
    remote_close(&sending.remote);
    remote_close(&sending.pipe);
    session_close(&sending.session);
    json_decref(sending.plan);
    json_decref(sending.last);
}
