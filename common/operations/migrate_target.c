/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "migrate_private.h"
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/log.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "kvm/base/text.h"
#include "kvm/host/network.h"
#include "kvm/operations/launch.h"
#include "kvm/operations/powerdown.h"
#include "kvm/operations/teardown.h"
#include "kvm/qemu/events.h"
#include "kvm/state/hvparams.h"

enum { TAIL_BYTES = 600, LOOK_MS = 500, POLL_MS = 5, END_MS = 10000, SETUP_MS = 60000 };

/* ---- commit, abort, vote: also for the stages as commands of their own ---- */

static int check_token(const struct runtime *runtime, const char *key, const char *token,
                       struct error *error)
{
    const char *expected = migration_text(runtime, key);

    if (token != NULL && expected != NULL && expected[0] != '\0' && strcmp(token, expected) == 0)
        return 0;
    return error_set(
        error, STATUS_STATE,
        "this needs the %s of the source; 'kvm-migrate %s recover' there gives it when "
        "it is safe",
        strcmp(key, "commit_token") == 0 ? "commit token" : "abort token", runtime->instance.name);
}

static struct qmp *open_monitor(const struct session *session, deadline_t deadline,
                                struct error *error)
{
    return monitor_open(session->rundir, session->name, RUNDIR_QMP, &session->process, deadline,
                        error);
}

/* Routed NICs get their route when the guest is here; the others have been set up on accept. */
static void set_up_routed(const struct session *session, deadline_t deadline,
                          struct messages *warnings)
{
    const struct instance *instance = &session->runtime.instance;

    for (size_t i = 0; i < instance->nic_count; i++) {
        const struct nic *nic = &instance->nics[i];
        const char *tap = migration_tap(&session->runtime, nic->uuid);
        struct error error = {0};
        if (tap == NULL)
            continue;
        if (network_write_tap(session->rundir, session->name, i, nic->uuid, tap, &error) < 0 ||
            network_ifup(instance, i, tap, session->node->path, deadline, &error) < 0)
            messages_add(warnings, "nics[%zu]: %s", i, error.text);
    }
}

static int run_guest(struct session *session, deadline_t deadline, struct messages *warnings,
                     struct error *error)
{
    char status[32];
    AUTO_QMP struct qmp *qmp = open_monitor(session, deadline, error);

    if (qmp == NULL || monitor_status(qmp, deadline, status, error) < 0)
        return -1;
    if (session->runtime.state == RUNTIME_RUNNING && strcmp(status, "running") != 0) {
        events_note(session->rundir, session->name, "KVM_SUITE_ACTION", "cont", NULL);
        if (qmp_call(qmp, "cont", NULL, deadline, NULL, error) != QMP_DONE)
            return error_prefix(error, "the guest is here and may run, but does not yet");
    }
    channel_drop_credentials(qmp, deadline);
    set_up_routed(session, deadline, warnings);
    qmp_call(qmp, "announce-self",
             json_pack("{s:i, s:i, s:i, s:i}", "initial", 50, "max", 550, "rounds", 5, "step", 100),
             deadline, NULL, NULL);
    return 0;
}

int target_commit(struct session *session, const char *token, deadline_t deadline,
                  struct messages *warnings, struct error *error)
{
    struct runtime *runtime = &session->runtime;
    bool again = migration_phase_of(runtime) == PHASE_NONE &&
                 migration_side_of(runtime) == MIGRATION_TARGET &&
                 migration_text(runtime, "commit_token") != NULL;

    if (!again &&
        (migration_side_of(runtime) != MIGRATION_TARGET ||
         migration_rule(MIGRATION_TARGET, migration_phase_of(runtime), STAGE_COMMIT) == NULL))
        return migration_out_of_order(runtime, STAGE_COMMIT, error);
    if (check_token(runtime, "commit_token", token, error) < 0)
        return -1;
    if (!again) {
        const char *paused = migration_text(runtime, "paused");
        runtime->state = paused != NULL ? RUNTIME_PAUSED : RUNTIME_RUNNING;
        migration_set_phase(runtime, MIGRATION_TARGET, PHASE_NONE);
        if (runtime_commit(session->rundir, runtime, error) < 0)
            return -1;
    }
    return run_guest(session, deadline, warnings, error);
}

int target_abort(struct session *session, const char *token, deadline_t deadline,
                 struct messages *warnings, struct error *error)
{
    const struct runtime *runtime = &session->runtime;
    const struct migration_rule *rule =
        session->has_runtime && migration_side_of(runtime) == MIGRATION_TARGET
            ? migration_rule(MIGRATION_TARGET, migration_phase_of(runtime), STAGE_ABORT)
            : NULL;
    struct teardown_options options = {.deadline = clock_deadline(SETUP_MS), .only_local = true};

    if (!session->has_runtime)
        return error_set(error, STATUS_STATE, "nothing of it is here");
    if (rule == NULL)
        return migration_out_of_order(runtime, STAGE_ABORT, error);
    if (rule->need == NEED_ABORT_TOKEN && check_token(runtime, "abort_token", token, error) < 0)
        return -1;
    if (session_is_live(session) &&
        powerdown_kill(session->rundir, session->name, &session->process, "migration aborted",
                       clock_earlier(deadline, clock_deadline(END_MS)), error) < 0)
        return -1;
    monitor_forget(&session->process);
    channel_forget_secret(session->name, true);
    return teardown_run(session->rundir, session->node, session->name, runtime, &options, warnings,
                        error);
}

/* The last words of QEMU here: when an incoming one dies, they alone tell why. The caller frees. */
static char *last_words(const struct session *session)
{
    char name[RUNDIR_PATH_MAX], text[TAIL_BYTES];
    struct stat status;

    rundir_name(RUNDIR_LOG, session->name, name);
    AUTO_CLOSE int log = openat(session->rundir->fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (log < 0 || fstat(log, &status) < 0)
        return memory_copy("");
    off_t from = status.st_size > TAIL_BYTES ? status.st_size - TAIL_BYTES : 0;
    ssize_t length = pread(log, text, sizeof(text), from);
    while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == '\r'))
        length--;
    return length > 0 ? text_escape(text, (size_t)length) : memory_copy("");
}

static int qemu_has_ended(const struct session *session, struct error *error)
{
    AUTO_FREE char *words = last_words(session);
    return error_set(error, STATUS_FAILED, "the QEMU that was to take the guest has ended%s%s",
                     words[0] != '\0' ? ": " : "", words);
}

/* Everything has arrived when query-migrate says "completed" and the guest stands paused. */
static int wait_for_copy(struct session *session, struct qmp *qmp, deadline_t deadline,
                         struct error *error)
{
    char status[32];

    for (;;) {
        AUTO_JSON json_t *reply = migrate_query(qmp, deadline, error);
        const char *phase = json_text(reply, "status");
        if (reply == NULL)
            return process_wait_gone(session->process.pidfd, clock_deadline(LOOK_MS))
                       ? qemu_has_ended(session, error)
                       : -1;
        if (phase != NULL && strcmp(phase, "failed") == 0)
            return error_set(error, STATUS_FAILED, "receiving failed: %s",
                             json_text(reply, "error-desc") != NULL ? json_text(reply, "error-desc")
                                                                    : "no reason given");
        if (phase != NULL && strcmp(phase, "completed") == 0)
            break;
        if (clock_passed(deadline))
            return error_set(error, STATUS_FAILED, "not everything has arrived in time (%s)",
                             phase != NULL ? phase : "no migration");
        clock_sleep_ms(POLL_MS);
    }
    if (monitor_status(qmp, deadline, status, error) < 0)
        return -1;
    if (strcmp(status, "paused") != 0 && strcmp(status, "prelaunch") != 0 &&
        strcmp(status, "inmigrate") != 0)
        return error_set(error, STATUS_FAILED, "the received guest is \"%s\" instead of paused",
                         status);
    return 0;
}

int target_vote(struct session *session, deadline_t deadline, struct error *error)
{
    struct runtime *runtime = &session->runtime;
    const struct migration_rule *rule =
        migration_side_of(runtime) != MIGRATION_TARGET
            ? NULL
            : migration_rule(MIGRATION_TARGET, migration_phase_of(runtime), STAGE_VOTE);

    if (rule == NULL)
        return migration_out_of_order(runtime, STAGE_VOTE, error);
    if (rule->need == NEED_NOTHING)
        return 0;
    AUTO_QMP struct qmp *qmp = open_monitor(session, deadline, error);
    if (qmp == NULL)
        return process_wait_gone(session->process.pidfd, clock_deadline(LOOK_MS))
                   ? qemu_has_ended(session, error)
                   : -1;
    if (wait_for_copy(session, qmp, deadline, error) < 0)
        return -1;
    channel_forget_secret(session->name, true);
    migration_set_phase(runtime, MIGRATION_TARGET, PHASE_READY);
    return runtime_commit(session->rundir, runtime, error);
}

/* ---- the session ---- */

struct serving {
    const char *run_dir;
    struct rundir rundir;
    const struct node *node;
    const char *name;
    const struct migrate_options *options;
    struct session session; /* with the lock, once accepted */
    bool accepted, attached;
    int listener;
    char token[33];
    char *tunnel_path;
    struct messages warnings;
};

static json_t *read_request_runtime(const json_t *request, struct error *error)
{
    json_t *runtime = json_member(request, "runtime");

    if (!json_is_array(runtime)) {
        error_set(error, STATUS_USAGE, "the request has no runtime");
        return NULL;
    }
    return runtime;
}

/* The received file is untrusted: it is parsed strictly, its kvm_cmd is not used at all, and what it may not choose (the
 * binary, further options of QEMU) comes from this node. */
static int take_instance(struct serving *serving, const json_t *request, struct runtime *received,
                         struct error *error)
{
    json_t *list = read_request_runtime(request, error);
    AUTO_FREE char *text = list == NULL ? NULL : json_compact(list);
    AUTO_JSON json_t *own = hvparams_fill(json_member(serving->node->defaults, "hvparams"), NULL);

    if (text == NULL ||
        runtime_parse(text, strlen(text), "received runtime", serving->name, received, error) < 0)
        return -1;
    json_t *hvparams = received->instance.hvparams;
    const char *extra = hvparams_text(hvparams, "kvm_extra");
    if (extra[0] != '\0' && strcmp(extra, hvparams_text(own, "kvm_extra")) != 0)
        return error_set(error, STATUS_STATE,
                         "the instance has kvm_extra \"%s\", which this node's kvm-defaults.json "
                         "does not allow (put the same value there)",
                         extra);
    json_object_set(hvparams, "kvm_path", json_object_get(own, "kvm_path"));
    return 0;
}

static int open_rundir(struct serving *serving, bool create, struct error *error)
{
    if (serving->rundir.fd >= 0)
        return 0;
    free(serving->rundir.path);
    if (rundir_open(&serving->rundir, serving->run_dir, create, error) == 0)
        return rundir_check_name(&serving->rundir, serving->name, error);
    if (create || error->status != STATUS_STATE)
        return -1;
    serving->rundir = (struct rundir){.fd = -1, .path = memory_copy(serving->run_dir)};
    return 0;
}

static int check_free(struct serving *serving, struct error *error)
{
    struct session session;

    if (serving->rundir.fd < 0)
        return 0;
    if (session_open(&session, &serving->rundir, serving->node, serving->name, false, 0, error) < 0)
        return -1;
    bool live = session_is_live(&session);
    session_close(&session);
    return live ? error_set(error, STATUS_STATE, "an instance of this name runs here already") : 0;
}

/* check: everything that could fail here, nothing changed. */
static json_t *answer_check(struct serving *serving, const json_t *request, struct error *error)
{
    AUTO_RUNTIME struct runtime received = {0};
    AUTO_LAUNCH struct launch *launch = NULL;
    AUTO_MESSAGES struct messages warnings = {0};

    if (open_rundir(serving, false, error) < 0 ||
        take_instance(serving, request, &received, error) < 0 || check_free(serving, error) < 0 ||
        launch_plan(&serving->rundir, serving->node, &received.instance, serving->name, false,
                    &launch, &warnings, error) < 0)
        return NULL;
    json_t *list = memory_json(json_array());
    for (size_t i = 0; i < warnings.count; i++)
        json_array_append_new(list, json_string(warnings.items[i]));
    return json_pack("{s:b, s:o}", "ok", 1, "warnings", list);
}

static int listen_for_memory(struct serving *serving, const json_t *request, int64_t *port,
                             struct error *error)
{
    const char *address = json_text(request, "address");

    if (!json_truth(request, "tunnel", false))
        return channel_listen(address != NULL ? address : "127.0.0.1", port, &serving->listener,
                              error);
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    serving->tunnel_path = memory_format("%s/ctrl/%s.tunnel", serving->rundir.path, serving->name);
    snprintf(local.sun_path, sizeof(local.sun_path), "%s", serving->tunnel_path);
    unlink(serving->tunnel_path);
    serving->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (serving->listener < 0 ||
        bind(serving->listener, (const struct sockaddr *)&local, sizeof(local)) < 0 ||
        listen(serving->listener, 1) < 0)
        return error_errno(error, STATUS_FAILED, "%s", serving->tunnel_path);
    return 0;
}

static int start_incoming(struct serving *serving, struct runtime *received, const json_t *request,
                          struct error *error)
{
    AUTO_LAUNCH struct launch *launch = NULL;
    struct runtime *runtime = &serving->session.runtime;
    struct launch_options options = {.incoming = true,
                                     .deadline = clock_deadline(SETUP_MS),
                                     .observe = serving->options->observe};
    static const char *const keys[] = {"id", "commit_token", "abort_token", "peer", "paused"};

    if (launch_plan(&serving->rundir, serving->node, &received->instance, serving->name, true,
                    &launch, &serving->warnings, error) < 0)
        return -1;
    runtime_begin(runtime, &received->instance);
    serving->session.has_runtime = true;
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (json_text(request, keys[i]) != NULL)
            migration_set_text(runtime, keys[i], json_text(request, keys[i]));
    migration_set_phase(runtime, MIGRATION_TARGET, PHASE_ACCEPTED);
    if (launch_run(launch, runtime, &options, &serving->warnings, error) < 0)
        return -1;
    return monitor_find(&serving->rundir, serving->name, &serving->session.process, error);
}

static int prepare_incoming(struct serving *serving, const json_t *request, const char *key,
                            struct error *error)
{
    deadline_t deadline = clock_deadline(SETUP_MS);
    AUTO_QMP struct qmp *qmp = open_monitor(&serving->session, deadline, error);

    if (qmp == NULL)
        return -1;
    if (key != NULL && channel_credentials(serving->name, qmp, serving->session.process.pid, key,
                                           true, deadline, error) < 0)
        return error_prefix(error, "TLS");
    return migrate_apply(qmp, json_member(request, "plan"), true, deadline, error);
}

/* accept: QEMU waits here, with taps and devices as the guest knows them. */
static json_t *answer_accept(struct serving *serving, const json_t *request, struct error *error)
{
    AUTO_RUNTIME struct runtime received = {0};
    struct ending ending = {0};
    char key[65] = "";
    int64_t port = json_number(request, "port", 0);

    if (serving->accepted) {
        error_set(error, STATUS_STATE, "accepted already");
        return NULL;
    }
    if (open_rundir(serving, true, error) < 0 ||
        take_instance(serving, request, &received, error) < 0 ||
        session_open(&serving->session, &serving->rundir, serving->node, serving->name, true,
                     clock_deadline(serving->options->wait_lock_ms), error) < 0)
        return NULL;
    if (session_is_live(&serving->session)) {
        error_set(error, STATUS_STATE, "an instance of this name runs here already");
        return NULL;
    }
    if (serving->session.has_files &&
        session_clear(&serving->session, false, clock_deadline(SETUP_MS), &ending,
                      &serving->warnings, error) < 0)
        return NULL;
    if (serving->session.has_runtime)
        runtime_release(&serving->session.runtime);
    serving->session.has_runtime = false;
    if (listen_for_memory(serving, request, &port, error) < 0 ||
        start_incoming(serving, &received, request, error) < 0)
        return NULL;
    serving->accepted = true;
    if (json_truth(request, "tls", true)) {
        migration_token(key);
        migration_token(key + 32);
    }
    if (prepare_incoming(serving, request, key[0] != '\0' ? key : NULL, error) < 0)
        return NULL;
    migration_token(serving->token);
    json_t *warnings = memory_json(json_array());
    for (size_t i = 0; i < serving->warnings.count; i++)
        json_array_append_new(warnings, json_string(serving->warnings.items[i]));
    json_t *answer = json_pack("{s:b, s:I, s:s, s:s, s:o}", "ok", 1, "port", port, "token",
                               serving->token, "key", key, "warnings", warnings);
    explicit_bzero(key, sizeof(key));
    return answer;
}

static json_t *answer_tree(struct serving *serving, struct error *error)
{
    deadline_t deadline = clock_deadline(SETUP_MS);
    AUTO_QMP struct qmp *qmp = open_monitor(&serving->session, deadline, error);
    json_t *tree = qmp == NULL ? NULL : migrate_tree(qmp, deadline, error);

    return tree == NULL ? NULL : json_pack("{s:b, s:o}", "ok", 1, "tree", tree);
}

/* receive: the source connects now; its connection becomes QEMU's. */
static json_t *answer_receive(struct serving *serving, struct error *error)
{
    deadline_t deadline = clock_deadline(MIGRATE_CONNECT_MS);
    AUTO_CLOSE int connection = channel_accept(serving->listener, serving->token, deadline, error);

    close(serving->listener);
    serving->listener = -1;
    if (serving->tunnel_path != NULL)
        unlink(serving->tunnel_path);
    if (connection < 0)
        return NULL;
    channel_watch_link(connection);
    AUTO_QMP struct qmp *qmp = open_monitor(&serving->session, deadline, error);
    if (qmp == NULL || channel_pass(qmp, connection, "kvm-suite-in", deadline, error) < 0)
        return NULL;
    json_t *arguments = memory_json(json_pack("{s:s}", "uri", "fd:kvm-suite-in"));
    if (qmp_call(qmp, "migrate-incoming", arguments, deadline, NULL, error) != QMP_DONE)
        return NULL;
    return json_pack("{s:b}", "ok", 1);
}

static json_t *answer_stage(struct serving *serving, const char *stage, const json_t *request,
                            struct error *error)
{
    const char *token = json_text(request, "token");
    deadline_t deadline = clock_deadline(MIGRATE_ANSWER_MS - 5000);
    AUTO_FREE char *words = serving->accepted ? last_words(&serving->session) : NULL;
    int result = -1;

    if (!serving->accepted)
        error_set(error, STATUS_STATE, "%s: nothing was accepted", stage);
    else if (strcmp(stage, "vote") == 0)
        result = target_vote(&serving->session, deadline, error);
    else if (strcmp(stage, "commit") == 0)
        result = target_commit(&serving->session, token, deadline, &serving->warnings, error);
    else if (strcmp(stage, "abort") == 0) {
        result = target_abort(&serving->session, token, deadline, &serving->warnings, error);
        serving->accepted = serving->accepted && result < 0;
    } else {
        error_set(error, STATUS_USAGE, "%s: no such stage", stage);
    }
    return result < 0 ? NULL : json_pack("{s:b, s:s*}", "ok", 1, "words", words);
}

/* attach: a later session (recover) takes up what an earlier one left. */
static json_t *answer_attach(struct serving *serving, struct error *error)
{
    if (open_rundir(serving, false, error) < 0 || serving->rundir.fd < 0 ||
        session_open(&serving->session, &serving->rundir, serving->node, serving->name, true,
                     clock_deadline(serving->options->wait_lock_ms), error) < 0) {
        if (serving->rundir.fd < 0)
            error_set(error, STATUS_STATE, "nothing of it is here");
        return NULL;
    }
    serving->accepted = serving->session.has_runtime;
    serving->attached = true;
    const char *phase = serving->accepted
                            ? migration_phase_name(migration_phase_of(&serving->session.runtime))
                            : "gone";
    return json_pack("{s:b, s:s, s:b}", "ok", 1, "phase", phase, "live",
                     (int)session_is_live(&serving->session));
}

static json_t *answer(struct serving *serving, const json_t *request, struct error *error)
{
    const char *stage = json_text(request, "stage");

    if (stage == NULL) {
        error_set(error, STATUS_USAGE, "the request names no stage");
        return NULL;
    }
    if (strcmp(stage, "check") == 0)
        return answer_check(serving, request, error);
    if (strcmp(stage, "accept") == 0)
        return answer_accept(serving, request, error);
    if (strcmp(stage, "attach") == 0)
        return answer_attach(serving, error);
    if (serving->accepted && strcmp(stage, "tree") == 0)
        return answer_tree(serving, error);
    if (serving->listener >= 0 && strcmp(stage, "receive") == 0)
        return answer_receive(serving, error);
    return answer_stage(serving, stage, request, error);
}

static void answer_line(struct serving *serving, const char *line)
{
    struct error error = {.status = STATUS_FAILED};
    AUTO_JSON json_t *request = json_parse(line, strlen(line), "request", &error);
    AUTO_JSON json_t *reply = request == NULL ? NULL : answer(serving, request, &error);

    if (reply == NULL)
        reply = memory_json(json_pack("{s:b, s:i, s:s}", "ok", 0, "status", (int)error.status,
                                      "error", error.text));
    remote_write(STDOUT_FILENO, reply);
}

/* The source is gone. What has not voted can't have been committed: it goes. What has voted stays, since the source may
 * have committed; what runs, runs. */
static enum status end_of_session(struct serving *serving)
{
    struct error error = {0};

    if (!serving->accepted || serving->attached ||
        migration_phase_of(&serving->session.runtime) == PHASE_NONE)
        return STATUS_DONE;
    if (migration_phase_of(&serving->session.runtime) == PHASE_READY) {
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
                              .node = node,
                              .name = name,
                              .options = options,
                              .listener = -1,
                              .session = {.lock = -1, .process = {.pidfd = -1}}};
    char *bytes = NULL, *line;
    size_t length = 0;
    bool ended = false;

    while ((line = remote_line(STDIN_FILENO, &bytes, &length, DEADLINE_NEVER, &ended)) != NULL) {
        answer_line(&serving, line);
        free(line);
    }
    enum status status = end_of_session(&serving);
    memory_close(&serving.listener);
    channel_forget_secret(name, true);
    if (serving.tunnel_path != NULL)
        unlink(serving.tunnel_path);
    free(serving.tunnel_path);
    free(bytes);
    session_close(&serving.session);
    rundir_close(&serving.rundir);
    messages_release(&serving.warnings);
    return status;
}
