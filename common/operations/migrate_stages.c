/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "migrate_disks.h"
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/log.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "kvm/base/text.h"
#include "kvm/base/transaction.h"
#include "kvm/host/network.h"
#include "kvm/operations/launch.h"
#include "kvm/operations/nvram.h"
#include "kvm/operations/powerdown.h"
#include "kvm/operations/teardown.h"
#include "kvm/qemu/events.h"
#include "kvm/state/hvparams.h"

enum {
    TAIL_BYTES = 600,
    LOOK_MS = 500,
    SLOW_MS = 2000,
    POLL_MS = 2,
    END_MS = 10000,
    SETUP_MS = 60000
};

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

struct qmp *target_monitor(const struct session *session, deadline_t deadline, struct error *error)
{
    AUTO_FREE char *path = rundir_path(session->rundir, RUNDIR_QMP, session->name);
    return qmp_connect_peer(path, session->process.pid, true, deadline, error);
}

/* Routed NICs get their route when the guest is here, once; the others have been set up on accept. */
static void set_up_routed(struct session *session, deadline_t deadline, struct messages *warnings)
{
    const struct instance *instance = &session->runtime.instance;
    bool changed = false;
    struct error unrecorded = {0};

    for (size_t i = 0; i < instance->nic_count; i++) {
        const struct nic *nic = &instance->nics[i];
        const char *tap = migration_tap(&session->runtime, nic->uuid);
        struct error error = {0};
        if (tap == NULL)
            continue;
        if (network_write_tap(session->rundir, session->name, i, nic->uuid, tap, &error) < 0 ||
            network_ifup(instance, nic, i, tap, session->node->path, deadline, &error) < 0) {
            messages_add(warnings, "nics[%zu]: %s", i, error.text);
            continue;
        }
        migration_forget_tap(&session->runtime, nic->uuid);
        changed = true;
    }
    if (changed && runtime_commit(session->rundir, &session->runtime, &unrecorded) < 0)
        messages_add(warnings, "%s; a repeated commit would run ifup again", unrecorded.text);
}

/* A guest that runs already takes `cont` as well. */
static int run_guest(struct session *session, struct qmp *qmp, deadline_t deadline,
                     struct messages *warnings, struct error *error)
{
    if (session->runtime.state == RUNTIME_RUNNING) {
        if (qmp_call(qmp, "cont", NULL, deadline, NULL, error) != QMP_DONE)
            return error_prefix(error, "the guest is here and may run, but does not yet");
        events_note(session->rundir, session->name, "KVM_SUITE_ACTION", "cont", NULL);
    }
    migrate_hurry(false);
    channel_forget_secret(session, true);
    if (migration_phase_of(&session->runtime) == PHASE_NONE) {
        migrate_reset(qmp, deadline);
        channel_drop_credentials(qmp, deadline);
    }
    set_up_routed(session, deadline, warnings);
    qmp_call(qmp, "announce-self",
             json_pack("{s:i, s:i, s:i, s:i}", "initial", 50, "max", 550, "rounds", 5, "step", 100),
             deadline, NULL, NULL);
    struct error unsynced = {0};
    if (nvram_sync(json_member(session->runtime.ours, "firmware"), &unsynced) < 0)
        messages_add(warnings, "the NVRAM may not survive a power cut yet: %s", unsynced.text);
    return 0;
}

int target_commit(struct session *session, struct qmp *qmp, const char *token, deadline_t deadline,
                  struct messages *warnings, struct error *error)
{
    AUTO_QMP struct qmp *own = NULL;
    struct runtime *runtime = &session->runtime;
    bool again = migration_phase_of(runtime) == PHASE_NONE &&
                 migration_side_of(runtime) == MIGRATION_TARGET &&
                 migration_text(runtime, "commit_token") != NULL;

    if (!again &&
        (migration_side_of(runtime) != MIGRATION_TARGET ||
         migration_rule(MIGRATION_TARGET, migration_phase_of(runtime), STAGE_COMMIT) == NULL))
        return migration_out_of_order(runtime, STAGE_COMMIT, error);
    if (check_token(runtime, "commit_token", token, error) < 0)
        return again ? migration_out_of_order(runtime, STAGE_COMMIT, error) : -1;
    if (!session_is_live(session) || process_wait_gone(session->process.pidfd, clock_deadline(0))) {
        AUTO_FREE char *words = target_last_words(session);
        return error_set(error, STATUS_STATE,
                         "its QEMU has ended%s%s%s: the guest is lost; 'kvm-migrate %s finish' on "
                         "the source and 'kvm-cleanup %s' here, then it can be started again",
                         words[0] != '\0' ? " (" : "", words, words[0] != '\0' ? ")" : "",
                         session->name, session->name);
    }
    if (!again) {
        const char *paused = migration_text(runtime, "paused");
        runtime->state = paused != NULL ? RUNTIME_PAUSED : RUNTIME_RUNNING;
        if (session->rundir->home == NULL) /* in place the hooks of this node run as the source's */
            migration_set_text(runtime, "post_hooks", "due");
        migration_set_phase(
            runtime, MIGRATION_TARGET,
            migration_rule(MIGRATION_TARGET, migration_phase_of(runtime), STAGE_COMMIT)->to);
        if (runtime_commit(session->rundir, runtime, error) < 0)
            return -1;
    }
    if (qmp == NULL)
        qmp = own = target_monitor(session, deadline, error);
    return qmp == NULL ? -1 : run_guest(session, qmp, deadline, warnings, error);
}

/* In post-copy the source can't go back by itself, so this side waits for its word already before the vote. A QEMU that
 * does not tell may be in it. */
static int check_precopy(const struct session *session, const char *token, deadline_t deadline,
                         struct error *error)
{
    deadline_t soon = clock_earlier(deadline, clock_deadline(SLOW_MS));

    if (!session_is_live(session) || migration_text(&session->runtime, "postcopy") == NULL)
        return 0;
    AUTO_QMP struct qmp *qmp =
        monitor_open(session->rundir, session->name, RUNDIR_QUERY, &session->process, soon, NULL);
    AUTO_JSON json_t *reply = qmp == NULL ? NULL : migrate_query(qmp, soon, NULL);
    if (reply != NULL && !postcopy_is(json_text(reply, "status")))
        return 0;
    return check_token(&session->runtime, "abort_token", token, error) < 0
               ? error_prefix(error, "post-copy has begun")
               : 0;
}

int target_abort(struct session *session, const char *token, deadline_t deadline,
                 struct messages *warnings, struct error *error)
{
    const struct runtime *runtime = &session->runtime;
    const struct migration_rule *rule =
        session->has_runtime && migration_side_of(runtime) == MIGRATION_TARGET
            ? migration_rule(MIGRATION_TARGET, migration_phase_of(runtime), STAGE_ABORT)
            : NULL;
    struct lasting made = {0};
    struct teardown_options options = {
        .deadline = clock_deadline(SETUP_MS), .only_local = true, .lasting = &made};

    if (!session->has_runtime)
        return error_set(error, STATUS_STATE, "nothing of it is here");
    if (rule == NULL)
        return migration_out_of_order(runtime, STAGE_ABORT, error);
    if (rule->need == NEED_PRECOPY && check_precopy(session, token, deadline, error) < 0)
        return -1;
    if (rule->need == NEED_ABORT_TOKEN && check_token(runtime, "abort_token", token, error) < 0)
        return -1;
    if (session_is_live(session) &&
        powerdown_kill(session->rundir, session->name, &session->process, "migration aborted",
                       clock_earlier(deadline, clock_deadline(END_MS)), error) < 0)
        return -1;
    monitor_forget(&session->process);
    channel_forget_secret(session, true);
    if (landing_remove(runtime, warnings, error) < 0)
        return error_append(error, "; 'kvm-migrate %s abort' again removes it", session->name);
    return teardown_run(session->rundir, session->node, session->name, runtime, &options, warnings,
                        error);
}

/* The last words of QEMU here: when an incoming one dies, they alone tell why. The caller frees. */
char *target_last_words(const struct session *session)
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
    AUTO_FREE char *words = target_last_words(session);
    return error_set(error, STATUS_FAILED, "the QEMU that was to take the guest has ended%s%s",
                     words[0] != '\0' ? ": " : "", words);
}

/* A post-copy has begun: all but memory is there once QEMU stands paused, some milliseconds later. */
static int wait_for_half(struct session *session, struct qmp *qmp, deadline_t deadline,
                         struct error *error)
{
    char status[32];

    for (;;) {
        if (monitor_status(qmp, deadline, status, error) < 0)
            return process_wait_gone(session->process.pidfd, clock_deadline(LOOK_MS))
                       ? qemu_has_ended(session, error)
                       : -1;
        if (strcmp(status, "paused") == 0)
            return 0;
        if (clock_passed(deadline) || strcmp(status, "inmigrate") != 0)
            return error_set(error, STATUS_FAILED, "the received guest is \"%s\" instead of paused",
                             status);
        clock_sleep_ms(POLL_MS);
    }
}

/* Everything has arrived when QEMU says "completed"; in post-copy, all but memory (*half). */
static int wait_for_copy(struct session *session, struct qmp *qmp, int stream, bool fresh,
                         deadline_t deadline, bool *half, struct error *error)
{
    char phase[MIGRATE_PHASE_SIZE];

    if (migrate_await_end(qmp, stream, fresh, deadline, phase, error) < 0)
        return process_wait_gone(session->process.pidfd, clock_deadline(LOOK_MS))
                   ? qemu_has_ended(session, error)
                   : error_prefix(error, "receiving");
    *half = postcopy_is(phase);
    if (*half)
        return wait_for_half(session, qmp, deadline, error);
    if (strcmp(phase, "completed") != 0) {
        AUTO_JSON json_t *reply = migrate_query(qmp, deadline, NULL);
        const char *why = json_text(reply, "error-desc");
        return error_set(error, STATUS_FAILED, "receiving %s: %s", phase,
                         why != NULL ? why : "no reason given");
    }
    return 0;
}

/* One that somebody has let run is whole: to go back from it would be the worse way. */
static int check_received(struct qmp *qmp, deadline_t deadline, struct error *error)
{
    static const char *const fit[] = {"paused", "prelaunch", "inmigrate", "running"};
    char status[32];

    if (monitor_status(qmp, deadline, status, error) < 0)
        return -1;
    for (size_t i = 0; i < COUNT(fit); i++)
        if (strcmp(status, fit[i]) == 0)
            return 0;
    return error_set(error, STATUS_FAILED, "the received guest is \"%s\" instead of paused",
                     status);
}

int target_vote(struct session *session, struct qmp *qmp, int stream, deadline_t deadline,
                struct error *error)
{
    AUTO_QMP struct qmp *own = NULL;
    struct runtime *runtime = &session->runtime;
    const struct migration_rule *rule =
        migration_side_of(runtime) != MIGRATION_TARGET
            ? NULL
            : migration_rule(MIGRATION_TARGET, migration_phase_of(runtime), STAGE_VOTE);

    if (migration_phase_of(runtime) == PHASE_HALF)
        rule = migration_rule(MIGRATION_TARGET, PHASE_HALF, STAGE_VOTE_HALF);
    if (rule == NULL)
        return migration_out_of_order(runtime, STAGE_VOTE, error);
    if (rule->need ==
        NEED_NOTHING) /* what it has voted for may be gone: then the source must not commit any more */
        return session_is_live(session) &&
                       !process_wait_gone(session->process.pidfd, clock_deadline(0))
                   ? 0
                   : qemu_has_ended(session, error);
    if (qmp == NULL)
        qmp = own = target_monitor(session, deadline, error);
    if (qmp == NULL)
        return process_wait_gone(session->process.pidfd, clock_deadline(LOOK_MS))
                   ? qemu_has_ended(session, error)
                   : -1;
    migrate_hurry(stream >= 0); /* until the commit, which comes at once */
    bool half = false;
    if (wait_for_copy(session, qmp, stream, own != NULL, deadline, &half, error) < 0 ||
        exports_close(session, qmp, deadline, error) < 0)
        return -1;
    rule = migration_rule(MIGRATION_TARGET, migration_phase_of(runtime),
                          half ? STAGE_VOTE_HALF : STAGE_VOTE);
    migration_set_phase(runtime, MIGRATION_TARGET, rule->to);
    /* Asked now, answered while this side records its vote. A vote that is recorded and not given is as good as none. */
    if (!half)
        qmp_ahead(qmp, &(struct qmp_request){"query-status", NULL}, 1, -1);
    if (runtime_commit(session->rundir, runtime, error) < 0)
        return -1;
    if (!half && check_received(qmp, deadline, error) < 0)
        return -1;
    if (own == NULL && migration_text(runtime, "paused") == NULL)
        qmp_prepare(qmp, "cont", NULL); /* it takes the commit to make it a command */
    return 0;
}
