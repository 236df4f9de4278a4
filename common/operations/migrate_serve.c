/* SPDX-License-Identifier: BSD-2-Clause */
/* The target's side of a session: requests, the stages that need no more than a few lines, and its end. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "migrate_inplace.h"
#include "migrate_serving.h"
#include "kvm/base/json.h"
#include "kvm/base/log.h"
#include "kvm/base/memory.h"

enum {
    END_MS = 10000,
    SETUP_MS = 60000,
    ALIVE_MS = 5000,
    LOOK_MS = 500,
    CLEANING = 5, /* so many times the usual silence while the source cleans up, with its scripts */
};

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

/* *words are QEMU's last. */
static int abort_here(struct serving *serving, const char *token, deadline_t deadline, char **words,
                      struct error *error)
{
    if (!serving->accepted && !serving->left)
        return 0; /* nothing of it is here */
    *words = target_last_words(&serving->session);
    int result = target_abort(&serving->session, token, deadline, &serving->warnings, error);
    serving->accepted = serving->accepted && result < 0;
    return result;
}

static json_t *answer_stage(struct serving *serving, const char *stage, const json_t *request,
                            struct error *error)
{
    const char *token = json_text(request, "token");
    deadline_t deadline = clock_deadline(MIGRATE_ANSWER_MS - 5000);
    AUTO_FREE char *words = NULL;
    int result = -1;

    if (strcmp(stage, "abort") == 0)
        result = abort_here(serving, token, deadline, &words, error);
    else if (!serving->accepted)
        error_set(error, STATUS_STATE, "%s: nothing was accepted", stage);
    else if (strcmp(stage, "vote") == 0)
        result = target_vote(&serving->session, serving->qmp, STDIN_FILENO, deadline, error);
    else if (strcmp(stage, "complete") == 0)
        result = target_complete(&serving->session, serving->qmp, deadline, error);
    else if (strcmp(stage, "commit") == 0)
        result = target_commit(&serving->session, serving->qmp, token, deadline, &serving->warnings,
                               error);
    else
        error_set(error, STATUS_USAGE, "%s: no such stage", stage);
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
    return memory_json(json_pack("{s:b, s:o}", "ok", 1, "warnings", serving_warnings(serving)));
}

/* attach: a later session (recover) takes up what an earlier one left. */
static json_t *answer_attach(struct serving *serving, struct error *error)
{
    if (serving_open_rundir(serving, false, error) < 0)
        return NULL;
    if (serving->rundir.fd < 0) /* no instance has ever run here */
        return memory_json(json_pack("{s:b, s:s, s:b}", "ok", 1, "phase", "gone", "live", 0));
    if (migrate_open(&serving->session, &serving->rundir, serving->node, serving->name,
                     serving->options, error) < 0)
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

/* resume: only a later session can go on with what an earlier one has lost. */
static json_t *answer_resume(struct serving *serving, const json_t *request, struct error *error)
{
    if (!serving->attached) {
        error_set(error, STATUS_STATE, "resume: this session has lost nothing");
        return NULL;
    }
    qmp_release(&serving->qmp); /* it takes no command out of band */
    return target_resume(&serving->session, request, error);
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
        return serving_prepare(serving, request, error);
    if (strcmp(stage, "accept") == 0)
        return serving_accept(serving, request, error);
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
    if (serving->accepted && strcmp(stage, "resume") == 0)
        return answer_resume(serving, request, error);
    if (serving->accepted && strcmp(stage, "watch") == 0) {
        target_watch(&serving->session, json_number(request, "port", 0));
        return json_pack("{s:b}", "ok", 1);
    }
    if (serving->qmp != NULL && strcmp(stage, "tree") == 0)
        return answer_tree(serving, error);
    if (serving->qmp != NULL && serving->listener >= 0 && strcmp(stage, "receive") == 0)
        return serving_receive(serving, error);
    return answer_stage(serving, stage, request, error);
}

/* A node without power ends no session, and ssh notices it hours later: a source that is there says so now and then. */
static deadline_t patience(const struct serving *serving)
{
    bool runs = serving->accepted && migration_phase_of(&serving->session.runtime) == PHASE_NONE;

    if (serving->silence_ms == 0)
        return DEADLINE_NEVER;
    return clock_deadline(serving->silence_ms * (runs ? CLEANING : 1));
}

/* False: there is no use in going on with a source that does not take the answer. */
static bool answer_line(struct serving *serving, const char *line)
{
    struct error error = {.status = STATUS_FAILED};
    AUTO_JSON json_t *request = json_parse(line, strlen(line), "request", &error);
    int64_t silence = json_number(request, "silence", 0);
    AUTO_JSON json_t *reply = request == NULL ? NULL : serving_answer(serving, request, &error);

    if (silence > 0 && silence <= MIGRATE_SILENCE_MOST_S)
        serving->silence_ms = silence * 1000;
    if (reply == NULL)
        reply = memory_json(json_pack("{s:b, s:i, s:s}", "ok", 0, "status", (int)error.status,
                                      "error", error.text));
    if (json_is_integer(json_member(request, "number")))
        json_object_set(reply, "number", json_member(request, "number"));
    deadline_t end =
        serving->silence_ms == 0 ? clock_deadline(MIGRATE_ANSWER_MS) : patience(serving);
    if (remote_write(STDOUT_FILENO, reply, serving->options->interrupted, end) == 0 ||
        (errno != ETIMEDOUT && errno != EINTR))
        return true;
    if (errno == ETIMEDOUT)
        log_error("%s: the source does not read what it is answered: this side ends",
                  serving->name);
    return false;
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

struct serving serving_begin(const char *run_dir, const struct node *node, const char *name,
                             const struct migrate_options *options)
{
    return (struct serving){.run_dir = run_dir,
                            .rundir = {.fd = -1},
                            .home = {.fd = -1},
                            .old = {.pidfd = -1},
                            .node = node,
                            .name = name,
                            .options = options,
                            .listener = -1,
                            .session = {.lock = -1, .process = {.pidfd = -1}}};
}

void serving_end(struct serving *serving)
{
    serving_stop_listening(serving);
    qmp_release(&serving->qmp);
    launch_release(&serving->launch);
    landing_release(&serving->landings);
    runtime_release(&serving->received);
    monitor_forget(&serving->old);
    rundir_close(&serving->home);
    free(serving->uri);
    session_close(&serving->session);
    rundir_close(&serving->rundir);
    messages_release(&serving->warnings);
}

static char *next_request(const struct serving *serving, char **bytes, size_t *length, bool *ended)
{
    deadline_t end = patience(serving);

    for (;;) {
        deadline_t turn = clock_earlier(end, clock_deadline(MIGRATE_TURN_MS));
        char *line = remote_line(STDIN_FILENO, bytes, length, turn, ended);
        if (line != NULL || *ended || clock_passed(end) ||
            migrate_is_interrupted(serving->options->interrupted))
            return line;
    }
}

/* Until the source ends the session or is not heard of any more, or a signal ends this side. */
static void serve_requests(struct serving *serving)
{
    char *bytes = NULL, *line;
    size_t length = 0;
    bool ended = false, heard = true;

    while (heard && (line = next_request(serving, &bytes, &length, &ended)) != NULL) {
        heard = answer_line(serving, line);
        free(line);
    }
    free(bytes);
    if (migrate_is_interrupted(serving->options->interrupted))
        log_error("%s: interrupted: this side of the session ends", serving->name);
    else if (heard && !ended)
        log_error("%s: nothing was heard of the source for %lld seconds: this side ends",
                  serving->name, (long long)serving->silence_ms / 1000);
}

enum status migrate_serve(const char *run_dir, const struct node *node, const char *name,
                          const struct migrate_options *options)
{
    struct serving serving = serving_begin(run_dir, node, name, options);
    AUTO_FREE char *next = inplace_path(run_dir);
    struct error error = {0};

    if (options->in_place) {
        serving.run_dir = next;
        serving.in_place = true;
        if (rundir_open(&serving.home, run_dir, false, &error) < 0)
            return log_error("%s", error.text), error.status;
    }
    serve_requests(&serving);
    enum status status = end_of_session(&serving);
    if (serving.session.rundir != NULL)
        channel_forget_secret(&serving.session, true);
    serving_end(&serving);
    return status;
}
