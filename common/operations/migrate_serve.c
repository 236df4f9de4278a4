/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "migrate_inplace.h"
#include "migrate_serving.h"
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/log.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "kvm/base/text.h"
#include "kvm/host/network.h"
#include "kvm/operations/launch.h"
#include "kvm/operations/nvram.h"
#include "kvm/operations/powerdown.h"
#include "kvm/operations/teardown.h"
#include "kvm/qemu/events.h"
#include "kvm/state/hvparams.h"

enum {
    END_MS = 10000,
    SETUP_MS = 60000,
    ALIVE_MS = 5000,
    LOOK_MS = 500,
    SILENCE_MOST_S = 3600,
    CLEANING = 5, /* so many times the usual silence while the source cleans up, with its scripts */
};

/* ---- the session ---- */

int serving_listen(struct serving *serving, const json_t *request, int64_t *port,
                   struct error *error)
{
    const char *address = json_text(request, "address");

    if (!json_truth(request, "tunnel", false))
        return channel_listen(address != NULL ? address : "127.0.0.1", port, &serving->listener,
                              error);
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    serving->tunnel_path = rundir_path(&serving->rundir, RUNDIR_TUNNEL, serving->name);
    snprintf(local.sun_path, sizeof(local.sun_path), "%s", serving->tunnel_path);
    unlink(serving->tunnel_path);
    serving->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (serving->listener < 0 ||
        bind(serving->listener, (const struct sockaddr *)&local, sizeof(local)) < 0 ||
        listen(serving->listener, 1) < 0)
        return error_errno(error, STATUS_FAILED, "%s", serving->tunnel_path);
    return 0;
}

/* With multifd QEMU listens itself; until then our socket keeps the port. */
static int reserve_port(struct serving *serving, const json_t *request, int64_t port,
                        struct error *error)
{
    const char *address = json_text(request, "address");

    if (!json_truth(request, "multifd", false))
        return 0;
    serving->uri = channel_uri(address != NULL ? address : "127.0.0.1", port, error);
    return serving->uri == NULL ? -1 : 0;
}

void serving_stop_listening(struct serving *serving)
{
    memory_close(&serving->listener);
    serving->listener = -1;
    if (serving->tunnel_path != NULL)
        unlink(serving->tunnel_path);
    free(serving->tunnel_path);
    serving->tunnel_path = NULL;
}

/* What a start that failed has left because the files of disks and NVRAM came before it. */
static void drop_landings(struct serving *serving, struct error *error)
{
    struct session *session = &serving->session;
    struct lasting made = {0};
    struct teardown_options options = {
        .deadline = clock_deadline(SETUP_MS), .only_local = true, .lasting = &made};
    struct error second = {0};

    if (landing_remove(&session->runtime, &serving->warnings, &second) == 0 &&
        teardown_run(&serving->rundir, serving->node, serving->name, &session->runtime, &options,
                     &serving->warnings, &second) == 0)
        return;
    error->status = STATUS_INCOMPLETE;
    error_append(error, "; %s; there: 'kvm-migrate %s recover'", second.text, serving->name);
}

/* Recorded first: whoever finds it for a guest that did not come knows that it goes. */
static int receive_nvram(struct serving *serving, const char *hex, bool *received,
                         struct error *error)
{
    struct runtime *runtime = &serving->session.runtime;
    AUTO_FREE char *path = nvram_path(serving->node, &runtime->instance);

    *received = nvram_is_awaited(serving->node, &runtime->instance, hex);
    if (!*received)
        return 0;
    json_object_set_new(runtime->ours, "firmware",
                        memory_json(json_pack("{s:s, s:b}", "nvram", path, "made", 1)));
    if (runtime_commit(&serving->rundir, runtime, error) < 0)
        return -1;
    return nvram_receive(serving->node, &runtime->instance, hex, error);
}

/* Images that are copied are there only after landing_make, so what needs them is planned after it. */
static int plan_launch(struct serving *serving, struct instance *instance, struct error *error)
{
    return launch_plan(&serving->rundir, serving->node, instance, serving->name, true,
                       &serving->launch, &serving->warnings, error);
}

static int start_incoming(struct serving *serving, const json_t *request, struct error *error)
{
    struct runtime *runtime = &serving->session.runtime;
    struct launch_options options = {.heir = serving->in_place ? &serving->heir : NULL,
                                     .incoming = true,
                                     .deadline = clock_deadline(SETUP_MS),
                                     .observe = serving->options->observe};
    static const char *const keys[] = {"id",     "commit_token", "abort_token", "peer",
                                       "paused", "postcopy",     "vote_token"};

    runtime_begin(runtime, &serving->received.instance);
    serving->session.has_runtime = true;
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (json_text(request, keys[i]) != NULL)
            migration_set_text(runtime, keys[i], json_text(request, keys[i]));
    migration_set_phase(runtime, MIGRATION_TARGET, PHASE_ACCEPTED);
    if (landing_make(&serving->rundir, runtime, &serving->landings, error) < 0 ||
        receive_nvram(serving, json_text(request, "nvram"), &options.nvram_received, error) < 0 ||
        (serving->launch == NULL && plan_launch(serving, &runtime->instance, error) < 0)) {
        if (runtime->generation > 0)
            drop_landings(serving, error);
        return -1;
    }
    bool recorded = runtime->generation > 0;
    if (serving->in_place)
        inplace_note_display(runtime, serving->launch);
    if (launch_run(serving->launch, runtime, &options, &serving->warnings, error) < 0) {
        if (recorded)
            drop_landings(serving, error);
        return -1;
    }
    return monitor_find(&serving->rundir, serving->name, &serving->session.process, error);
}

static int prepare_incoming(struct serving *serving, const json_t *request, const char *key,
                            struct error *error)
{
    deadline_t deadline = clock_deadline(SETUP_MS);
    struct qmp *qmp = target_monitor(&serving->session, deadline, error);
    const char *x509 = json_text(request, "x509");
    int result = 0;

    if (qmp == NULL)
        return -1;
    serving->qmp = qmp;
    if (serving->in_place &&
        inplace_check_display(qmp, &serving->session.runtime.instance, deadline, error) < 0)
        return -1;
    if (x509 != NULL)
        result = channel_certificates(&serving->session, qmp, x509, true, deadline, error);
    else if (key[0] != '\0')
        result = channel_credentials(&serving->session, qmp, key, true, deadline, error);
    if (result < 0)
        return error_prefix(error, "TLS");
    if (migrate_apply(qmp, json_member(request, "plan"), true, deadline, error) < 0)
        return -1;
    return exports_open(serving, request, qmp, &serving->disk_port, error);
}

static json_t *warnings_json(const struct serving *serving)
{
    json_t *warnings = memory_json(json_array());

    for (size_t i = 0; i < serving->warnings.count; i++)
        json_array_append_new(warnings, memory_json(json_string(serving->warnings.items[i])));
    return warnings;
}

/* All of accept that can be done before there is a QEMU. */
static int plan_incoming(struct serving *serving, const json_t *request, struct error *error)
{
    struct ending ending = {0};

    serving->port = json_number(request, "port", 0);
    if (serving->accepted)
        return error_set(error, STATUS_STATE, "accepted already");
    if (migrate_check_request(request, "the request", error) < 0 ||
        serving_open_rundir(serving, true, error) < 0 ||
        serving_take_instance(serving, request, &serving->received, error) < 0 ||
        landing_read(request, serving->node, &serving->received.instance, &serving->landings,
                     error) < 0 ||
        session_open(&serving->session, &serving->rundir, serving->node, serving->name, true,
                     clock_deadline(serving->options->wait_lock_ms), error) < 0)
        return -1;
    if (session_is_live(&serving->session))
        return error_set(error, STATUS_STATE, "an instance of this name runs here already");
    /* In place the other side's are this node's as well; a rehearsal moves nothing. */
    if (!serving->in_place && !json_truth(request, "rehearse", false) &&
        migrate_hooks_pre(&serving->session, &serving->received.instance, MIGRATION_TARGET,
                          json_text(request, "peer"), clock_deadline(MIGRATE_ANSWER_MS - 5000),
                          error) < 0)
        return -1;
    if (serving->session.has_files &&
        session_clear(&serving->session, false, clock_deadline(SETUP_MS), &ending,
                      &serving->warnings, error) < 0)
        return -1;
    if (serving->session.has_runtime)
        runtime_release(&serving->session.runtime);
    serving->session.has_runtime = false;
    if (serving->in_place &&
        (inplace_find_old(serving, error) < 0 || inplace_take_uid(serving, error) < 0))
        return -1;
    return serving_listen(serving, request, &serving->port, error) < 0 ||
                   reserve_port(serving, request, serving->port, error) < 0
               ? -1
               : 0;
}

static json_t *answer_prepare(struct serving *serving, const json_t *request, struct error *error)
{
    serving->prepared = plan_incoming(serving, request, error) == 0 &&
                        plan_launch(serving, &serving->received.instance, error) == 0;
    return serving->prepared ? json_pack("{s:b}", "ok", 1) : NULL;
}

/* accept: QEMU waits here, with taps and devices as the guest knows them. */
static json_t *answer_accept(struct serving *serving, const json_t *request, struct error *error)
{
    char key[65] = "";

    if (!serving->prepared && plan_incoming(serving, request, error) < 0)
        return NULL;
    int result = start_incoming(serving, request, error);
    launch_release(&serving->launch);
    if (result < 0)
        return NULL;
    serving->accepted = true;
    if (json_truth(request, "tls", true) && json_text(request, "x509") == NULL) {
        migration_token(key);
        migration_token(key + 32);
    }
    if (prepare_incoming(serving, request, key, error) < 0)
        return NULL;
    migration_token(serving->token);
    json_t *answer = json_pack("{s:b, s:I, s:I, s:s, s:s, s:o}", "ok", 1, "port", serving->port,
                               "disk_port", serving->disk_port, "token", serving->token, "key", key,
                               "warnings", warnings_json(serving));
    explicit_bzero(key, sizeof(key));
    return answer;
}

static json_t *answer_tree(struct serving *serving, struct error *error)
{
    json_t *tree = migrate_tree(serving->qmp, clock_deadline(SETUP_MS), error);

    return tree == NULL ? NULL : json_pack("{s:b, s:o}", "ok", 1, "tree", tree);
}

/* alive: QEMU here still does what it is asked to. */
static json_t *answer_alive(struct serving *serving, struct error *error)
{
    char status[32];

    if (monitor_status(serving->qmp, clock_deadline(ALIVE_MS), status, error) < 0)
        return NULL;
    return json_pack("{s:b}", "ok", 1);
}

static int receive_stream(struct serving *serving, deadline_t deadline, struct error *error)
{
    AUTO_CLOSE int connection = channel_accept(
        serving->listener, serving->alone ? -1 : STDIN_FILENO, serving->token, deadline, error);

    serving_stop_listening(serving);
    if (connection < 0)
        return -1;
    channel_watch_link(connection);
    return channel_pass(serving->qmp, connection, "kvm-suite-in", deadline, error);
}

/* receive: the source connects now; its connection becomes QEMU's, or QEMU takes its connections itself. */
static json_t *answer_receive(struct serving *serving, struct error *error)
{
    deadline_t deadline = clock_deadline(serving->alone ? MIGRATE_ANSWER_MS : MIGRATE_CONNECT_MS);
    const char *uri = serving->uri != NULL ? serving->uri : "fd:kvm-suite-in";

    if (serving->uri != NULL)
        serving_stop_listening(serving);
    else if (receive_stream(serving, deadline, error) < 0)
        return NULL;
    json_t *arguments = memory_json(json_pack("{s:s}", "uri", uri));
    if (qmp_call(serving->qmp, "migrate-incoming", arguments, deadline, NULL, error) != QMP_DONE)
        return NULL;
    return json_pack("{s:b}", "ok", 1);
}

static json_t *answer_stage(struct serving *serving, const char *stage, const json_t *request,
                            struct error *error)
{
    const char *token = json_text(request, "token");
    deadline_t deadline = clock_deadline(MIGRATE_ANSWER_MS - 5000);
    AUTO_FREE char *words = NULL;
    int result = -1;

    if (!serving->accepted && strcmp(stage, "abort") == 0)
        result = 0; /* nothing of it is here */
    else if (!serving->accepted)
        error_set(error, STATUS_STATE, "%s: nothing was accepted", stage);
    else if (strcmp(stage, "vote") == 0)
        result = target_vote(&serving->session, serving->qmp, STDIN_FILENO, deadline, error);
    else if (strcmp(stage, "complete") == 0)
        result = target_complete(&serving->session, serving->qmp, deadline, error);
    else if (strcmp(stage, "commit") == 0)
        result = target_commit(&serving->session, serving->qmp, token, deadline, &serving->warnings,
                               error);
    else if (strcmp(stage, "abort") == 0) {
        words = target_last_words(&serving->session);
        result = target_abort(&serving->session, token, deadline, &serving->warnings, error);
        serving->accepted = serving->accepted && result < 0;
    } else {
        error_set(error, STATUS_USAGE, "%s: no such stage", stage);
    }
    if (result < 0)
        migrate_hurry(false);
    bool half = serving->accepted && migration_phase_of(&serving->session.runtime) == PHASE_HALF;
    return result < 0 ? NULL
                      : json_pack("{s:b, s:b, s:s*}", "ok", 1, "half", (int)half, "words", words);
}

/* QEMU's word for the copy; NULL when it does not tell. The caller frees. */
static char *copy_state(const struct session *session)
{
    deadline_t deadline = clock_deadline(LOOK_MS);

    if (!session_is_live(session))
        return NULL;
    AUTO_QMP struct qmp *qmp = monitor_open(session->rundir, session->name, RUNDIR_QUERY,
                                            &session->process, deadline, NULL);
    AUTO_JSON json_t *reply = qmp == NULL ? NULL : migrate_query(qmp, deadline, NULL);
    const char *phase = json_text(reply, "status");
    return phase != NULL ? memory_copy(phase) : NULL;
}

/* hooks: the guest runs here and the source is cleaned up; the last that is asked of a session. */
static json_t *answer_hooks(struct serving *serving, struct error *error)
{
    if (!serving->accepted || migration_phase_of(&serving->session.runtime) != PHASE_NONE) {
        error_set(error, STATUS_STATE, "hooks: the guest does not run here");
        return NULL;
    }
    messages_release(&serving->warnings);
    target_hooks_post(&serving->session, clock_deadline(MIGRATE_ANSWER_MS - 5000),
                      &serving->warnings);
    return memory_json(json_pack("{s:b, s:o}", "ok", 1, "warnings", warnings_json(serving)));
}

/* attach: a later session (recover) takes up what an earlier one left. */
static json_t *answer_attach(struct serving *serving, struct error *error)
{
    if (serving_open_rundir(serving, false, error) < 0)
        return NULL;
    if (serving->rundir.fd < 0) /* no instance has ever run here */
        return memory_json(json_pack("{s:b, s:s, s:b}", "ok", 1, "phase", "gone", "live", 0));
    if (session_open(&serving->session, &serving->rundir, serving->node, serving->name, true,
                     clock_deadline(serving->options->wait_lock_ms), error) < 0)
        return NULL;
    serving->accepted = serving->session.has_runtime;
    serving->attached = true;
    /* Of an accept that was killed before it had recorded anything. Elsewhere kvm-cleanup would find it. */
    if (serving->in_place && !serving->accepted && !session_is_live(&serving->session) &&
        session_clear(&serving->session, false, clock_deadline(SETUP_MS), NULL, &serving->warnings,
                      error) < 0)
        return NULL;
    const char *phase = serving->accepted
                            ? migration_phase_name(migration_phase_of(&serving->session.runtime))
                            : "gone";
    AUTO_FREE char *copy = copy_state(&serving->session);
    return json_pack("{s:b, s:s, s:b, s:s*}", "ok", 1, "phase", phase, "live",
                     (int)session_is_live(&serving->session), "copy", copy);
}

json_t *serving_answer(struct serving *serving, const json_t *request, struct error *error)
{
    const char *stage = json_text(request, "stage");

    if (stage == NULL) {
        error_set(error, STATUS_USAGE, "the request names no stage");
        return NULL;
    }
    if (strcmp(stage, "here") == 0) /* a sign of life; this is ours */
        return memory_json(json_pack("{s:b}", "ok", 1));
    if (strcmp(stage, "check") == 0)
        return serving_check(serving, request, error);
    if (serving->in_place && strcmp(stage, "prepare") == 0)
        return answer_prepare(serving, request, error);
    if (strcmp(stage, "accept") == 0)
        return answer_accept(serving, request, error);
    if (strcmp(stage, "attach") == 0)
        return answer_attach(serving, error);
    if (strcmp(stage, "hooks") == 0)
        return answer_hooks(serving, error);
    if (!serving->accepted && serving->listener < 0 && strcmp(stage, "listen") == 0)
        return serving_listen_only(serving, request, error);
    if (!serving->accepted && serving->listener >= 0 && strcmp(stage, "sink") == 0)
        return serving_sink(serving, error);
    if (serving->qmp != NULL && strcmp(stage, "alive") == 0)
        return answer_alive(serving, error);
    if (serving->accepted && strcmp(stage, "resume") == 0) {
        qmp_release(&serving->qmp); /* it takes no command out of band */
        return target_resume(&serving->session, request, error);
    }
    if (serving->accepted && strcmp(stage, "watch") == 0) {
        target_watch(&serving->session, json_number(request, "port", 0));
        return json_pack("{s:b}", "ok", 1);
    }
    if (serving->qmp != NULL && strcmp(stage, "tree") == 0)
        return answer_tree(serving, error);
    if (serving->qmp != NULL && serving->listener >= 0 && strcmp(stage, "receive") == 0)
        return answer_receive(serving, error);
    return answer_stage(serving, stage, request, error);
}

static void answer_line(struct serving *serving, const char *line)
{
    struct error error = {.status = STATUS_FAILED};
    AUTO_JSON json_t *request = json_parse(line, strlen(line), "request", &error);
    int64_t silence = json_number(request, "silence", 0);
    AUTO_JSON json_t *reply = request == NULL ? NULL : serving_answer(serving, request, &error);

    if (silence > 0 && silence <= SILENCE_MOST_S)
        serving->silence_ms = silence * 1000;
    if (reply == NULL)
        reply = memory_json(json_pack("{s:b, s:i, s:s}", "ok", 0, "status", (int)error.status,
                                      "error", error.text));
    remote_write(STDOUT_FILENO, reply);
}

/* A node without power ends no session, and ssh notices it hours later: a source that is there says so now and then. */
static deadline_t patience(const struct serving *serving)
{
    bool runs = serving->accepted && migration_phase_of(&serving->session.runtime) == PHASE_NONE;

    if (serving->silence_ms == 0)
        return DEADLINE_NEVER;
    return clock_deadline(serving->silence_ms * (runs ? CLEANING : 1));
}

/* The source is gone. What has not voted can't have been committed: it goes. What has voted stays, since the source may
 * have committed; what runs, runs. */
static enum status end_of_session(struct serving *serving)
{
    struct error error = {0};

    if (serving->in_place && serving->launch != NULL && !serving->session.has_runtime)
        session_clear(&serving->session, false, clock_deadline(END_MS), NULL, &serving->warnings,
                      &error); /* prepared, and no more */
    if (!serving->accepted || serving->attached ||
        migration_phase_of(&serving->session.runtime) == PHASE_NONE)
        return STATUS_DONE;
    if (migration_phase_of(&serving->session.runtime) == PHASE_FILLING) {
        log_error("%s: the session with the source ended in post-copy: the guest runs here, but "
                  "memory of it is still on the source; end neither side; 'kvm-migrate %s recover' "
                  "there",
                  serving->name, serving->name);
        return STATUS_INCOMPLETE;
    }
    if (migration_phase_of(&serving->session.runtime) == PHASE_READY ||
        migration_phase_of(&serving->session.runtime) == PHASE_HALF) {
        log_error(
            "%s: the session with the source ended after the vote: the guest is here, paused, "
            "and the source knows whether it may run; 'kvm-migrate %s recover' there",
            serving->name, serving->name);
        return STATUS_INCOMPLETE;
    }
    if (target_abort(&serving->session, NULL, clock_deadline(END_MS), &serving->warnings, &error) <
        0) {
        log_error("%s: %s", serving->name, error.text);
        return error.status;
    }
    return STATUS_FAILED;
}

enum status migrate_serve(const char *run_dir, const struct node *node, const char *name,
                          const struct migrate_options *options)
{
    struct serving serving = {.run_dir = run_dir,
                              .rundir = {.fd = -1},
                              .home = {.fd = -1},
                              .old = {.pidfd = -1},
                              .node = node,
                              .name = name,
                              .options = options,
                              .listener = -1,
                              .session = {.lock = -1, .process = {.pidfd = -1}}};
    char *bytes = NULL, *line;
    size_t length = 0;
    bool ended = false;
    AUTO_FREE char *next = inplace_path(run_dir);
    struct error error = {0};

    if (options->in_place) {
        serving.run_dir = next;
        serving.in_place = true;
        if (rundir_open(&serving.home, run_dir, false, &error) < 0)
            return log_error("%s", error.text), error.status;
    }
    while ((line = remote_line(STDIN_FILENO, &bytes, &length, patience(&serving), &ended)) !=
           NULL) {
        answer_line(&serving, line);
        free(line);
    }
    if (!ended)
        log_error("%s: nothing was heard of the source for %lld seconds: this side ends", name,
                  (long long)serving.silence_ms / 1000);
    enum status status = end_of_session(&serving);
    serving_stop_listening(&serving);
    qmp_release(&serving.qmp);
    launch_release(&serving.launch);
    landing_release(&serving.landings);
    runtime_release(&serving.received);
    monitor_forget(&serving.old);
    rundir_close(&serving.home);
    if (serving.session.rundir != NULL)
        channel_forget_secret(&serving.session, true);
    free(serving.uri);
    free(bytes);
    session_close(&serving.session);
    rundir_close(&serving.rundir);
    messages_release(&serving.warnings);
    return status;
}
