/* SPDX-License-Identifier: BSD-2-Clause */
/* What has to be known and held before an action has an effect. */
#include <stdlib.h>
#include <string.h>

#include "hotplug_private.h"
#include "kvm/base/file.h"
#include "kvm/base/memory.h"
#include "kvm/operations/reconcile.h"
#include "kvm/operations/resume.h"
#include "kvm/qemu/monitor.h"
#include "kvm/qemu/peripheral.h"

/* Kept for looking and undoing: a part of the time, but not more than that. */
enum { RESERVE_PART = 4, RESERVE_MS = 5000 };

static int keep_what_was(struct hotplug *hotplug, struct error *error)
{
    char name[RUNDIR_PATH_MAX];

    free(hotplug->before);
    hotplug->before = NULL;
    rundir_name(RUNDIR_RUNTIME, hotplug->name, name);
    return file_read(hotplug->rundir->fd, name, RUNTIME_SIZE_MAX, true, &hotplug->before,
                     &hotplug->before_length, error);
}

static int check_state(struct hotplug *hotplug, struct error *error)
{
    const struct session *session = &hotplug->session;

    if (!session_is_live(session))
        return error_set(error, STATUS_STATE, "it does not run; 'kvm-start FILE' starts it");
    if (!session->has_runtime)
        return error_set(
            error, STATUS_STATE,
            "its runtime file %s%s, so its devices are not known; 'kvm-start --adopt %s' "
            "makes a new one",
            session->runtime_fault.text[0] != '\0' ? "can't be read: " : "is missing",
            session->runtime_fault.text, hotplug->name);
    if (session->runtime.state == RUNTIME_STARTING)
        return error_set(error, STATUS_STATE,
                         "its start was interrupted; repeat 'kvm-start' or 'kvm-stop %s'",
                         hotplug->name);
    return session_check_recorded(session, error) < 0 ? -1 : session_check_settled(session, error);
}

/* The guest's state tells of a migration that another tool expects, or that has left the guest behind. */
static int check_migration(struct hotplug *hotplug, struct error *error)
{
    const char *phase;
    bool ever;

    if (peripheral_migration(hotplug->qmp, hotplug->deadline, &phase, &ever, error) < 0)
        return error_prefix(error, "whether a migration is in progress");
    bool looks = ever || (hotplug->needs & NEEDS_GUEST) != 0 || hotplug->session.taken_over;
    if (phase == NULL && looks &&
        monitor_status(hotplug->qmp, hotplug->deadline, hotplug->status, error) < 0)
        return -1;
    if (phase == NULL && strcmp(hotplug->status, "inmigrate") != 0 &&
        strcmp(hotplug->status, "postmigrate") != 0 &&
        strcmp(hotplug->status, "finish-migrate") != 0)
        return 0;
    return error_set(error, STATUS_STATE,
                     "a migration is in progress (%s): devices stay as they are until it has ended",
                     phase != NULL ? phase : hotplug->status);
}

/* With what has to be known before anything is done: QEMU reads the short ones while it works on the long one. */
static void connect_monitor(struct hotplug *hotplug, bool looking, struct error *error)
{
    static const struct qmp_request status = {"query-status", NULL};
    struct qmp_request questions[3];
    size_t count = 0;
    AUTO_FREE char *path = rundir_path(hotplug->rundir, RUNDIR_QMP, hotplug->name);

    if (looking) {
        hotplug->qmp = monitor_look(hotplug->rundir, hotplug->name, &hotplug->session.process,
                                    &status, 1, hotplug->deadline, error);
        return;
    }
    if ((hotplug->needs & NEEDS_SLOT) != 0)
        questions[count++] = (struct qmp_request){"query-pci", NULL};
    if ((hotplug->needs & NEEDS_GUEST) != 0)
        questions[count++] = status;
    questions[count++] = (struct qmp_request){"query-migrate", NULL};
    hotplug->qmp = qmp_connect_asking(path, hotplug->session.process.pid, questions, count,
                                      hotplug->deadline, error);
}

/* With the lock in hand: the wait for it is not part of it. */
static void begin_time(struct hotplug *hotplug)
{
    int64_t all = hotplug->options->timeout_ms, part = all / RESERVE_PART;

    hotplug->end = clock_deadline(all);
    hotplug->deadline = clock_deadline(all - (part < RESERVE_MS ? part : RESERVE_MS));
}

int hotplug_open(struct hotplug *hotplug, bool looking, struct error *error)
{
    struct error unreachable = {0};

    if (!looking && !rundir_knows(hotplug->rundir, hotplug->name)) /* a slip leaves no lock */
        return error_set(error, STATUS_STATE, "it does not run; 'kvm-start FILE' starts it");
    if (session_find(&hotplug->session, hotplug->rundir, hotplug->node, hotplug->name, !looking,
                     clock_deadline(hotplug->options->wait_lock_ms), error) < 0)
        return -1;
    begin_time(hotplug);
    if (session_is_live(&hotplug->session)) /* before the files: it answers while they are read */
        connect_monitor(hotplug, looking, &unreachable);
    if (session_read(&hotplug->session, error) < 0)
        return -1;
    hotplug->runtime = &hotplug->session.runtime;
    hotplug->instance = &hotplug->runtime->instance;
    if (check_state(hotplug, error) < 0)
        return -1;
    if (hotplug->qmp == NULL && unreachable.status == STATUS_TIMEOUT) /* conclude goes on */
        return error_set(error, STATUS_TIMEOUT, "%s", unreachable.text);
    if (hotplug->qmp == NULL)
        return error_set(error, unreachable.status,
                         "%s; 'kvm-info %s' shows more, 'kvm-stop --force %s' ends it",
                         unreachable.text, hotplug->name, hotplug->name);
    hotplug_name_subject(hotplug);
    hotplug->answered = looking;
    return looking ? monitor_status(hotplug->qmp, hotplug->deadline, hotplug->status, error) : 0;
}

int hotplug_check_answers(struct hotplug *hotplug, struct error *error)
{
    if (hotplug->answered)
        return 0;
    if (check_migration(hotplug, error) < 0)
        return -1;
    hotplug->answered = true;
    return 0;
}

int hotplug_check_again(struct hotplug *hotplug, struct error *error)
{
    qmp_forget_ahead(hotplug->qmp);
    hotplug->answered = false;
    return hotplug_check_answers(hotplug, error);
}

static int reconcile(struct hotplug *hotplug, struct error *error)
{
    bool touched;

    if (reconcile_live(hotplug->rundir, hotplug->node, hotplug->runtime, hotplug->qmp,
                       hotplug->deadline, &hotplug->result->warnings, &touched, error) == 0)
        return 0;
    hotplug->touched = touched;
    return error_prefix(error, "%s what an earlier command left",
                        touched ? "finishing" : "looking for");
}

/* Reconciling drops a NIC that the guest has let go: what is known of it is noted before. */
static void note_again(struct hotplug *hotplug)
{
    const struct instance *instance = hotplug->instance;

    for (size_t i = 0; hotplug->subject_uuid != NULL && i < instance->nic_count; i++) {
        if (strcmp(instance->nics[i].uuid, hotplug->subject_uuid) != 0)
            continue;
        const json_t *again = runtime_device_again(hotplug->runtime, hotplug->subject_uuid);
        hotplug->again = again != NULL ? memory_json(json_deep_copy(again)) : NULL;
        hotplug->again_index = i;
        hotplug->again_down = instance->nics[i].link_down;
    }
}

int hotplug_begin(struct hotplug *hotplug, bool may_answer_later, struct error *error)
{
    bool later = may_answer_later && !reconcile_has_work(hotplug->runtime);

    note_again(hotplug);
    if (!later && (hotplug_check_answers(hotplug, error) < 0 || reconcile(hotplug, error) < 0))
        return -1;
    return keep_what_was(hotplug, error);
}

int hotplug_check_guest_listens(const struct hotplug *hotplug, const char *what,
                                struct error *error)
{
    if (strcmp(hotplug->status, "running") == 0)
        return 0;
    if (strcmp(hotplug->status, "prelaunch") == 0)
        return error_set(error, STATUS_STATE,
                         "%s: the guest has not run yet (paused start), and QEMU would lose the "
                         "request; let it run first: 'kvm-start --resume %s'",
                         what, hotplug->name);
    error_set(error, STATUS_STATE,
              "%s: the guest is \"%s\" and can't let a device go before it runs again", what,
              hotplug->status);
    return resume_reason(hotplug->status) == NULL
               ? -1
               : error_append(error, "; 'kvm-start --resume %s' lets it go on", hotplug->name);
}

void hotplug_close(struct hotplug *hotplug)
{
    qmp_release(&hotplug->qmp);
    hotplug_forget_commit(hotplug);
    session_close(&hotplug->session);
    json_decref(hotplug->again);
    free(hotplug->before);
    free(hotplug->subject_uuid);
    json_decref(hotplug->given);
    hotplug->before = hotplug->subject_uuid = NULL;
}
