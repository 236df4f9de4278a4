/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "migrate_disks.h"
#include "migrate_inplace.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/transaction.h"
#include "kvm/base/process.h"
#include "kvm/operations/powerdown.h"
#include "kvm/operations/reconcile.h"
#include "kvm/operations/teardown.h"
#include "kvm/qemu/events.h"
#include "kvm/qemu/peripheral.h"
#include "kvm/state/hvparams.h"

enum { SETTLE_MS = 5000, END_MS = 10000, SETUP_MS = 60000 };

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

static bool is_over(const char *phase)
{
    static const char *const ends[] = {"none", "completed", "failed", "cancelled"};

    for (size_t i = 0; phase != NULL && i < COUNT(ends); i++)
        if (strcmp(ends[i], phase) == 0)
            return true;
    return phase == NULL;
}

static int wait_until_settled(struct qmp *qmp, deadline_t deadline, struct error *error)
{
    for (;;) {
        AUTO_JSON json_t *reply = migrate_query(qmp, deadline, error);
        if (reply == NULL)
            return -1;
        if (is_over(json_text(reply, "status")))
            return 0;
        if (clock_passed(deadline))
            return error_set(error, STATUS_INCOMPLETE,
                             "the migration was cancelled but QEMU is still busy with it");
        clock_sleep_ms(10);
    }
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
    if (postcopy_check_back(qmp, session->name, deadline, error) < 0)
        return -1;
    copies_yank(qmp, runtime, clock_earlier(deadline, clock_deadline(SETTLE_MS)));
    cancel_copy(qmp, deadline);
    if (wait_until_settled(qmp, clock_earlier(deadline, clock_deadline(SETTLE_MS)), error) < 0)
        return -1;
    if (copies_drop(qmp, runtime, deadline, error) < 0) {
        struct error ignored;
        error->status = STATUS_INCOMPLETE;
        continue_here(session, qmp, deadline, &ignored);
        return error_append(error, "; 'kvm-migrate %s recover' tries again", session->name);
    }
    /* The phase goes back before the guest runs on: from here on nothing can be committed any more. */
    migration_set_phase(runtime, MIGRATION_SOURCE, PHASE_NONE);
    if (runtime_commit(session->rundir, runtime, error) < 0 ||
        (inplace_is(runtime) && inplace_restore_taps(session, error) < 0) ||
        continue_here(session, qmp, deadline, error) < 0)
        return -1;
    migrate_reset(qmp, deadline);
    channel_drop_credentials(qmp, deadline);
    return 0;
}

void source_drop_stream(const struct session *session, deadline_t deadline)
{
    AUTO_QMP struct qmp *qmp =
        session_is_live(session) ? target_monitor(session, deadline, NULL) : NULL;

    if (qmp != NULL)
        qmp_call(qmp, "closefd", memory_json(json_pack("{s:s}", "fdname", "kvm-suite-out")),
                 deadline, NULL, NULL);
}

int source_continue(struct session *session, deadline_t deadline, struct error *error)
{
    AUTO_FREE char *path = rundir_path(session->rundir, RUNDIR_QMP, session->name);
    AUTO_QMP struct qmp *qmp = qmp_connect_peer(path, session->process.pid, true, deadline, error);

    char status[32];

    if (qmp == NULL || monitor_status(qmp, deadline, status, error) < 0)
        return -1;
    if (strcmp(status, "postmigrate") == 0 && continue_here(session, qmp, deadline, error) < 0)
        return -1;
    migrate_reset(qmp, deadline);
    channel_drop_credentials(qmp, deadline);
    return 0;
}

int source_forget(struct session *session, struct error *error)
{
    migration_clear(&session->runtime);
    return runtime_commit(session->rundir, &session->runtime, error);
}

int source_finish(struct session *session, deadline_t deadline, struct messages *warnings,
                  struct error *error)
{
    struct teardown_options options = {.deadline = clock_deadline(SETUP_MS), .only_local = true};

    if (migration_rule(MIGRATION_SOURCE, migration_phase_of(&session->runtime), STAGE_FINISH) ==
        NULL)
        return migration_out_of_order(&session->runtime, STAGE_FINISH, error);
    if (inplace_is(&session->runtime))
        return inplace_adopt(session, deadline, warnings, error);
    if (session_is_live(session) &&
        powerdown_kill(session->rundir, session->name, &session->process, "migrated away",
                       clock_earlier(deadline, clock_deadline(END_MS)), error) < 0)
        return -1;
    monitor_forget(&session->process);
    return teardown_run(session->rundir, session->node, session->name, &session->runtime, &options,
                        warnings, error);
}
