/* SPDX-License-Identifier: BSD-2-Clause */
/* recover: what was interrupted is finished or undone, by what the files and QEMUs of both sides say. */
#include <stdio.h>
#include <string.h>

#include "migrate_inplace.h"
#include "migrate_local.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/transaction.h"

enum { RECOVER_LOOK_MS = 3000 };

static int attach(struct local *local, struct remote *remote, json_t **answer, struct error *error)
{
    const char *const words[] = {"kvm-migrate", local->name, "serve", NULL};
    const char *peer = migration_text(&local->session.runtime, "peer");
    AUTO_FREE char *command = local->options->remote != NULL
                                  ? memory_copy(local->options->remote)
                                  : memory_format("ssh root@%s", peer != NULL ? peer : "?");

    bool here = inplace_is(&local->session.runtime);

    if ((here ? inplace_open_remote(remote, local->rundir, local->node, local->name, error)
              : remote_open(remote, command, words, error)) < 0)
        return -1;
    return remote_ask(remote,
                      json_pack("{s:s, s:i}", "stage", "attach", "silence", MIGRATE_SILENCE_S),
                      clock_deadline(MIGRATE_ANSWER_MS), answer, error);
}

/* The --remote of the migration is recorded nowhere, and each recover needs it. */
static const char *with_remote(const struct local *local)
{
    return inplace_is(&local->session.runtime) ? "" : " --remote ...";
}

static json_t *stage_request(const char *stage, const char *token)
{
    return memory_json(json_pack("{s:s, s:s*}", "stage", stage, "token", token));
}

/* The guest runs there: end QEMU here, then the hooks of both sides, which a command that was killed has not run. The
 * session is closed. */
static int end_here(struct local *local, struct remote *remote, struct error *error)
{
    struct messages *warnings = &local->result->warnings;
    AUTO_JSON json_t *answer = NULL;
    struct error untold = {0};

    if (inplace_is(&local->session.runtime)) /* the new QEMU's monitor is needed now */
        remote_close(remote);
    int result = source_finish(&local->session, clock_deadline(LOCAL_MS), warnings, error);
    if (result == 0 && remote->to >= 0 &&
        remote_ask(remote, stage_request("hooks", NULL), clock_deadline(MIGRATE_ANSWER_MS), &answer,
                   &untold) < 0)
        messages_add(warnings, "post hooks on the target: %s", untold.text);
    remote_texts(answer, "warnings", warnings);
    remote_close(remote);
    if (result == 0)
        local_source_hooks(local);
    return result;
}

/* Committed: the target owns the guest. It is told so again, and only when it says that the guest runs does QEMU end
 * here. */
int local_recover_committed(struct local *local, struct error *error)
{
    struct remote remote = {.pidfd = -1, .to = -1, .from = -1};
    AUTO_JSON json_t *answer = NULL;
    AUTO_FREE char *token = memory_copy(migration_text(&local->session.runtime, "commit_token"));
    bool in_place = inplace_is(&local->session.runtime);
    bool adopting = inplace_is_adopting(&local->session.runtime);
    int result = adopting ? 0 : attach(local, &remote, &answer, error);

    if (result == 0 && !adopting)
        result = remote_ask(&remote, stage_request("commit", token),
                            clock_deadline(MIGRATE_ANSWER_MS), NULL, error);
    if (result == 0 && !adopting) /* nothing to a target that was never in post-copy */
        result = remote_ask(&remote, stage_request("complete", NULL),
                            clock_deadline(MIGRATE_ANSWER_MS), NULL, error);
    if (result < 0) {
        remote_close(&remote);
        error->status = STATUS_INCOMPLETE;
        return error_append(
            error,
            "; the guest belongs to the target: on %s 'kvm-migrate %s commit --token "
            "%s' runs it, then 'kvm-migrate %s finish --token %s' here",
            migration_text(&local->session.runtime, "peer"), local->name, token, local->name,
            token);
    }
    if (end_here(local, &remote, error) < 0)
        return -1;
    local_say(local,
              memory_copy(in_place ? "finished: the guest runs in the new QEMU"
                                   : "finished: the guest runs on the target, cleaned up here"));
    return 0;
}

static bool waits(const char *phase)
{
    static const char *const waiting[] = {"accepted", "ready", "half"};

    for (size_t i = 0; phase != NULL && i < COUNT(waiting); i++)
        if (strcmp(waiting[i], phase) == 0)
            return true;
    return false;
}

/* This side has gone back: the target is told, now or by a later recover. `done` is what has been reached. */
static int tell_target(struct local *local, const char *done, struct error *error)
{
    struct remote remote = {.pidfd = -1, .to = -1, .from = -1};
    const struct runtime *runtime = &local->session.runtime;
    const char *token = migration_text(runtime, "abort_token");
    AUTO_JSON json_t *answer = NULL;
    int result = attach(local, &remote, &answer, error);

    if (result == 0 && waits(json_text(answer, "phase")))
        result = remote_ask(&remote, stage_request("abort", token),
                            clock_deadline(MIGRATE_ANSWER_MS), NULL, error);
    remote_close(&remote);
    if (result < 0) {
        error->status = STATUS_INCOMPLETE;
        error_prefix(error, "%s, but the target does not know", done);
        return error_append(error,
                            "; 'kvm-migrate %s recover%s' again, or on %s: kvm-migrate %s abort "
                            "--token %s",
                            local->name, with_remote(local), migration_text(runtime, "peer"),
                            local->name, token);
    }
    source_drop_stream(&local->session, clock_deadline(RECOVER_LOOK_MS));
    /* The images are free from here on. */
    if (session_is_live(&local->session) &&
        source_continue(&local->session, clock_deadline(LOCAL_MS), error) < 0)
        return -1;
    local_say(local, memory_copy(done));
    return source_forget(&local->session, error);
}

/* QEMU here has ended without a commit. When the target has voted, the whole guest is there, and it is not too late. */
static int recover_without_qemu(struct local *local, struct error *error)
{
    struct remote remote = {.pidfd = -1, .to = -1, .from = -1};
    struct runtime *runtime = &local->session.runtime;
    AUTO_JSON json_t *answer = NULL;
    int result = attach(local, &remote, &answer, error);
    const char *phase = json_text(answer, "phase");
    const char *copy = json_text(answer, "copy");
    bool half = phase != NULL && strcmp(phase, "half") == 0 && copy != NULL &&
                strcmp(copy, "completed") == 0;
    bool whole = (half || (phase != NULL && strcmp(phase, "ready") == 0)) &&
                 json_truth(answer, "live", false);

    remote_close(&remote);
    if (result < 0) {
        error->status = STATUS_INCOMPLETE;
        return error_append(error, "; QEMU here has ended, and only the target can tell whether "
                                   "the whole guest is there");
    }
    migration_set_phase(runtime, MIGRATION_SOURCE, whole ? PHASE_COMMITTED : PHASE_NONE);
    if (runtime_commit(local->rundir, runtime, error) < 0)
        return -1;
    if (whole)
        return local_recover_committed(local, error);
    AUTO_FREE char *text =
        memory_format("undone, but QEMU here has ended before the whole guest was on the target: "
                      "'kvm-cleanup %s', then it can be started again",
                      local->name);
    return tell_target(local, text, error);
}

/* ---- post-copy: only forward ---- */

static struct qmp *source_monitor(struct local *local, struct error *error)
{
    AUTO_FREE char *path = rundir_path(local->rundir, RUNDIR_QMP, local->name);
    return qmp_connect_peer(path, local->session.process.pid, true, clock_deadline(LOCAL_MS),
                            error);
}

/* A stage of this side alone needs the vote before; the target says it again. */
static int vote_again(struct local *local, struct remote *remote, struct error *error)
{
    struct runtime *runtime = &local->session.runtime;
    AUTO_JSON json_t *vote = NULL;

    if (migration_phase_of(runtime) != PHASE_SENDING)
        return 0;
    if (remote_ask(remote, stage_request("vote", NULL), clock_deadline(MIGRATE_ANSWER_MS), &vote,
                   error) < 0)
        return -1;
    migration_set_phase(runtime, MIGRATION_SOURCE,
                        json_truth(vote, "half", false) ? PHASE_SPLIT : PHASE_COMMITTED);
    return runtime_commit(local->rundir, runtime, error);
}

static int fill(struct local *local, struct qmp *qmp, struct remote *remote, struct error *error)
{
    if (migration_phase_of(&local->session.runtime) != PHASE_SPLIT)
        return 0;
    if (postcopy_wait(&local->session, qmp, remote, local->options, clock_wall(), NULL, error) < 0)
        return -1;
    return source_complete(&local->session, qmp, clock_deadline(LOCAL_MS), error);
}

static int go_on(struct local *local, struct qmp *qmp, struct remote *remote, const char *there,
                 struct error *error)
{
    AUTO_FREE char *token = memory_copy(migration_text(&local->session.runtime, "commit_token"));
    deadline_t deadline = clock_deadline(MIGRATE_ANSWER_MS);
    AUTO_JSON json_t *reply = migrate_query(qmp, deadline, error);
    const char *here = json_text(reply, "status");
    bool cut = (here != NULL && strcmp(here, "postcopy-paused") == 0) ||
               (postcopy_is(here) && there != NULL && strcmp(there, "postcopy-paused") == 0);

    if (local->options->bandwidth_mib >= 0)
        qmp_call(qmp, "migrate-set-parameters",
                 json_pack("{s:I}", "max-postcopy-bandwidth",
                           (json_int_t)(local->options->bandwidth_mib * 1048576)),
                 deadline, NULL, NULL);
    if (reply == NULL ||
        (cut && postcopy_resume(&local->session, qmp, remote, local->options, error) < 0) ||
        vote_again(local, remote, error) < 0 ||
        remote_ask(remote, stage_request("commit", token), deadline, NULL, error) < 0 ||
        fill(local, qmp, remote, error) < 0)
        return -1;
    return remote_ask(remote, stage_request("complete", NULL), clock_deadline(MIGRATE_ANSWER_MS),
                      NULL, error);
}

static int end_postcopy(struct local *local, struct remote *remote, struct error *error)
{
    if (end_here(local, remote, error) < 0)
        return -1;
    local_say(local, memory_copy("finished: the guest runs on the target with all its memory, "
                                 "cleaned up here"));
    return 0;
}

static int recover_postcopy(struct local *local, struct error *error)
{
    struct remote remote = {.pidfd = -1, .to = -1, .from = -1};
    AUTO_JSON json_t *answer = NULL;
    struct qmp *qmp = source_monitor(local, error);
    int result = qmp == NULL ? -1 : attach(local, &remote, &answer, error);

    bool gone = result == 0 && !json_truth(answer, "live", false);
    if (result == 0 && !gone)
        result = go_on(local, qmp, &remote, json_text(answer, "copy"), error);
    qmp_release(&qmp);
    if (result == 0 && !gone)
        return end_postcopy(local, &remote, error);
    remote_close(&remote);
    if (gone)
        return error_set(error, STATUS_INCOMPLETE,
                         "QEMU on the target has ended in post-copy, and with it a part of the "
                         "guest: it is lost; 'kvm-stop %s --force' here and 'kvm-cleanup %s' "
                         "there, then it can be started again",
                         local->name, local->name);
    error->status = STATUS_INCOMPLETE;
    if (strstr(error->text, "recover") != NULL)
        return -1;
    return error_append(error,
                        "; the guest is on both sides, end neither: 'kvm-migrate %s recover%s' "
                        "again",
                        local->name, with_remote(local));
}

/* QEMU here has ended in post-copy. When the last of the memory had gone, the target says so. */
static int recover_split_without_qemu(struct local *local, struct error *error)
{
    struct remote remote = {.pidfd = -1, .to = -1, .from = -1};
    struct runtime *runtime = &local->session.runtime;
    AUTO_JSON json_t *answer = NULL;
    int result = attach(local, &remote, &answer, error);

    if (result == 0)
        result = remote_ask(&remote, stage_request("complete", NULL),
                            clock_deadline(MIGRATE_ANSWER_MS), NULL, error);
    if (result < 0) {
        remote_close(&remote);
        error->status = STATUS_INCOMPLETE;
        return error_append(error,
                            "; QEMU here has ended in post-copy, and memory of the guest with it: "
                            "it is lost unless the target says otherwise; 'kvm-stop %s --force' "
                            "there, 'kvm-cleanup %s --force' here, then it can be started again",
                            local->name, local->name);
    }
    migration_set_phase(runtime, MIGRATION_SOURCE, PHASE_COMMITTED);
    if (runtime_commit(local->rundir, runtime, error) == 0)
        return end_postcopy(local, &remote, error);
    remote_close(&remote);
    return -1;
}

/* Post-copy has no way back once its link is cut, and needs none while it stands. */
static bool is_in_postcopy(struct local *local)
{
    AUTO_QMP struct qmp *qmp = source_monitor(local, NULL);
    AUTO_JSON json_t *reply =
        qmp == NULL ? NULL : migrate_query(qmp, clock_deadline(RECOVER_LOOK_MS), NULL);
    return postcopy_is(json_text(reply, "status"));
}

static int recover_sending(struct local *local, struct error *error)
{
    if (!session_is_live(&local->session))
        return recover_without_qemu(local, error);
    if (is_in_postcopy(local))
        return recover_postcopy(local, error);
    if (source_abort(&local->session, clock_deadline(LOCAL_MS), error) < 0 &&
        migration_phase_of(&local->session.runtime) != PHASE_NONE)
        return -1;
    return tell_target(local, "undone: the guest runs here", error);
}

bool local_has_gone_back(const struct session *session)
{
    const struct runtime *runtime = &session->runtime;

    return session->has_runtime && migration_phase_of(runtime) == PHASE_NONE &&
           migration_side_of(runtime) == MIGRATION_SOURCE &&
           migration_text(runtime, "abort_token") != NULL;
}

int local_recover(struct local *local, struct error *error)
{
    const struct runtime *runtime = &local->session.runtime;

    if (local_has_gone_back(&local->session))
        return tell_target(local, "undone before: the guest runs here", error);
    if (local_check_known(local, error) < 0)
        return -1;
    if (!local->session.has_runtime || migration_phase_of(runtime) == PHASE_NONE) {
        local_say(local, memory_copy("nothing to recover: no migration is under way here"));
        return 0;
    }
    switch (migration_phase_of(runtime)) {
    case PHASE_SENDING:
        return recover_sending(local, error);
    case PHASE_COMMITTED:
        return local_recover_committed(local, error);
    case PHASE_ACCEPTED:
        if (target_abort(&local->session, NULL, clock_deadline(LOCAL_MS), &local->result->warnings,
                         error) < 0)
            return -1;
        local_say(local, memory_copy("undone: it had not been promised to run here, the source has "
                                     "the guest"));
        return 0;
    case PHASE_SPLIT:
        return session_is_live(&local->session) ? recover_postcopy(local, error)
                                                : recover_split_without_qemu(local, error);
    case PHASE_FILLING:
        if (target_complete(&local->session, NULL, clock_deadline(RECOVER_LOOK_MS), error) < 0)
            return -1;
        local_say(local, memory_copy("finished: the guest runs here with all its memory"));
        return 0;
    case PHASE_HALF:
    case PHASE_READY:
        return error_set(error, STATUS_INCOMPLETE,
                         "the guest is here, paused, but only the source knows who owns it: "
                         "run 'kvm-migrate %s recover' there; it gives the command for this side "
                         "when it can't reach it. If the source is gone for ever and was never "
                         "committed, its runtime file tells the token",
                         local->name);
    case PHASE_NONE:
    case PHASE_GONE:
        break;
    }
    return 0;
}
