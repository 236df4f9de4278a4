/* SPDX-License-Identifier: BSD-2-Clause */
/* Post-copy on the target: the guest runs, or may run, before all its memory is there. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "migrate_private.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/state/hvparams.h"

enum { QUERY_MS = 2000, RESUME_MS = 15000, POLL_MS = 100 };

int target_complete(struct session *session, struct qmp *qmp, deadline_t deadline,
                    struct error *error)
{
    AUTO_QMP struct qmp *own = NULL;
    struct runtime *runtime = &session->runtime;
    enum migration_phase phase = migration_phase_of(runtime);

    if (migration_side_of(runtime) == MIGRATION_TARGET && phase == PHASE_NONE &&
        migration_text(runtime, "commit_token") != NULL)
        return 0;
    if (migration_side_of(runtime) != MIGRATION_TARGET ||
        migration_rule(MIGRATION_TARGET, phase, STAGE_COMPLETE) == NULL)
        return migration_out_of_order(runtime, STAGE_COMPLETE, error);
    if (qmp == NULL)
        qmp = own = target_monitor(session, deadline, error);
    for (;;) {
        AUTO_JSON json_t *reply = qmp == NULL ? NULL : migrate_query(qmp, deadline, error);
        const char *status = json_text(reply, "status");
        if (reply == NULL)
            return -1;
        if (status != NULL && strcmp(status, "completed") == 0)
            break;
        if (clock_passed(deadline) || status == NULL || strcmp(status, "postcopy-active") != 0)
            return error_set(error, STATUS_INCOMPLETE,
                             "memory of the guest is still to come (QEMU says \"%s\"); end "
                             "neither side; 'kvm-migrate %s recover' on the source goes on with it",
                             status != NULL ? status : "nothing", session->name);
        clock_sleep_ms(POLL_MS);
    }
    migration_set_phase(runtime, MIGRATION_TARGET, PHASE_NONE);
    if (runtime_commit(session->rundir, runtime, error) < 0)
        return -1;
    migrate_reset(qmp, deadline);
    channel_drop_credentials(qmp, deadline);
    channel_forget_secret(session, true);
    return 0;
}

/* ---- a new stream ---- */

/* Only what goes out of band: the guest's missing memory may be what QEMU's main loop waits for. */
static int wait_for_recover(struct qmp *qmp, const char *uri, struct error *error)
{
    deadline_t deadline = clock_deadline(RESUME_MS);

    for (;;) {
        json_t *arguments = memory_json(json_pack("{s:s}", "uri", uri));
        qmp_call_oob(qmp, "migrate-pause", NULL, deadline, NULL, NULL);
        if (qmp_call_oob(qmp, "migrate-recover", arguments, deadline, NULL, error) == QMP_DONE)
            return 0;
        if (clock_passed(deadline))
            return -1;
        clock_sleep_ms(POLL_MS);
    }
}

/* What does not migrate needs no stream. A QEMU that does not tell may be in post-copy: what the guest lacks is what its
 * main loop waits for then. */
static int look_at_copy(const struct session *session, struct qmp *qmp, bool *has_all,
                        struct error *error)
{
    AUTO_JSON json_t *reply = migrate_query(qmp, clock_deadline(QUERY_MS), NULL);
    const char *phase = json_text(reply, "status");

    *has_all = phase != NULL && strcmp(phase, "completed") == 0;
    if (*has_all || reply == NULL || postcopy_is(phase))
        return 0;
    return error_set(error, STATUS_STATE,
                     "resume: the migration is not in post-copy here (QEMU says \"%s\"); "
                     "'kvm-migrate %s recover' on the source finishes or undoes it",
                     phase != NULL ? phase : "none", session->name);
}

json_t *target_resume(struct session *session, const json_t *request, struct error *error)
{
    const char *address = json_text(request, "address"), *tls = json_text(request, "tls");
    int64_t port = json_number(request, "port", 0);
    AUTO_FREE char *path = rundir_path(session->rundir, RUNDIR_QMP, session->name);
    char key[65] = "";
    int listener = -1;
    bool has_all = false;

    if (migration_side_of(&session->runtime) != MIGRATION_TARGET) {
        error_set(error, STATUS_STATE, "resume: no migration to this node is under way here");
        return NULL;
    }
    if (!session_is_live(session)) {
        error_set(error, STATUS_STATE, "its QEMU has ended, and with it a part of the guest");
        return NULL;
    }
    AUTO_QMP struct qmp *qmp =
        qmp_connect_peer(path, session->process.pid, true, clock_deadline(RESUME_MS), error);
    if (qmp == NULL || look_at_copy(session, qmp, &has_all, error) < 0)
        return NULL;
    if (has_all)
        return json_pack("{s:b, s:b}", "ok", 1, "completed", 1);
    address = address != NULL ? address : "127.0.0.1";
    if (channel_listen(address, &port, &listener, error) < 0) {
        memory_close(&listener);
        return NULL;
    }
    memory_close(&listener); /* it has told that the port is free; QEMU listens itself */
    AUTO_FREE char *uri = channel_uri(address, port, error);
    if (uri == NULL)
        return NULL;
    if (tls != NULL && strcmp(tls, "psk") == 0) {
        migration_token(key);
        migration_token(key + 32);
        if (channel_renew_secret(session, key, error) < 0)
            return NULL;
    }
    if (wait_for_recover(qmp, uri, error) < 0)
        return NULL;
    json_t *answer = json_pack("{s:b, s:I, s:s}", "ok", 1, "port", (json_int_t)port, "key", key);
    explicit_bzero(key, sizeof(key));
    return answer;
}

void target_watch(const struct session *session, int64_t port)
{
    channel_watch_process(session->process.pid, session->process.pidfd, port);
    channel_forget_secret(session, true);
}

/* ---- may QEMU do it at all? ---- */

static bool unprivileged_may(void)
{
    char text[2] = "";
    AUTO_CLOSE int file = open("/proc/sys/vm/unprivileged_userfaultfd", O_RDONLY | O_CLOEXEC);

    return file >= 0 && read(file, text, 1) == 1 && text[0] == '1';
}

/* userfaultfd(2) must be there, and be allowed: to root, or by the sysctl. A chroot takes nothing away, it is a system
 * call. */
void postcopy_check_target(const struct instance *instance, struct messages *problems)
{
    const char *model = hvparams_text(instance->hvparams, "security_model");
    long descriptor = syscall(SYS_userfaultfd, O_CLOEXEC);

    if (descriptor < 0)
        messages_add(problems, "post-copy: userfaultfd: %s", strerror(errno));
    else
        close((int)descriptor);
    if (descriptor >= 0 && strcmp(model, "none") != 0 && !unprivileged_may())
        messages_add(problems,
                     "post-copy: hvparams.security_model is \"%s\", and QEMU may use userfaultfd "
                     "as root only (sysctl vm.unprivileged_userfaultfd is 0)",
                     model);
}
