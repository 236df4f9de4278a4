/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>

#include "kvm/operations/session.h"
#include "migrate_disks.h"
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "kvm/operations/migration.h"
#include "kvm/base/transaction.h"
#include "kvm/operations/powerdown.h"
#include "kvm/operations/teardown.h"

enum { STATUS_WAIT_MS = 3000 };

/* What a command left that was killed while it wrote: nobody else writes now. */
static void remove_temporaries(const struct rundir *rundir, const char *name)
{
    static const enum rundir_file written[] = {RUNDIR_RUNTIME, RUNDIR_UID};

    for (size_t i = 0; i < COUNT(written); i++) {
        char path[RUNDIR_PATH_MAX];
        rundir_name(written[i], name, path);
        file_forget(rundir->fd, path);
    }
}

/* The record that another tool's file lacks, for whichever command writes it next. One of another boot came with a
 * guest that Ganeti brought here: it copies the file as it is. */
static void take_over(struct session *session)
{
    const struct runtime *runtime = &session->runtime;
    bool elsewhere =
        runtime->boot_id[0] != '\0' && strcmp(runtime->boot_id, process_boot_id()) != 0;

    if (session->process.pid == 0 || (runtime->state != RUNTIME_FOREIGN && !elsewhere))
        return;
    session->taken_over = true;
    session->runtime.pid = session->process.pid;
    session->runtime.start_time = session->process.start_time;
    snprintf(session->runtime.boot_id, sizeof(session->runtime.boot_id), "%s", process_boot_id());
}

/* The lock dies with its file. What is moved in place has another holder, or its next place, for a moment. */
static int check_found(struct session *session, struct error *error)
{
    const struct runtime *runtime = &session->runtime;
    uint64_t start_time = 0;

    if (session->process.pid > 0 || !session->has_runtime || runtime->pid <= 0 ||
        runtime->start_time == 0 || strcmp(runtime->boot_id, process_boot_id()) != 0 ||
        migration_text(runtime, "in_place") != NULL ||
        !process_start_time(runtime->pid, &start_time) || start_time != runtime->start_time ||
        process_is_ending(runtime->pid) || monitor_is_of_another(runtime->pid, session->name))
        return 0; /* the last: a copy of another instance's file records that one's QEMU */
    error_set(error, STATUS_FAILED,
              "its QEMU (pid %d) runs, but its pid file %s/pid/%s was removed or replaced, so no "
              "command can work on it; power the guest off from inside, or 'kill %d', then repeat "
              "this command",
              (int)runtime->pid, session->rundir->path, session->name, (int)runtime->pid);
    session_close(session);
    return -1;
}

/* Behind the process, so that what is read is at least as new. */
static int read_files(struct session *session,
                      int (*load)(const struct rundir *rundir, const char *name,
                                  struct runtime *runtime, struct error *error),
                      struct error *error)
{
    const struct rundir *rundir = session->rundir;

    if (session->lock >= 0) {
        remove_temporaries(rundir, session->name);
        events_bound(rundir, session->name);
    }
    session->has_files = rundir_has_files(rundir, session->name);
    if (load(rundir, session->name, &session->runtime, &session->runtime_fault) == 0) {
        session->has_runtime = true;
        take_over(session);
    } else if (file_is_missing()) {
        session->runtime_fault.text[0] = '\0';
    }
    return check_found(session, error);
}

int session_find(struct session *session, const struct rundir *rundir, const struct node *node,
                 const char *name, bool locked, deadline_t lock_deadline, struct error *error)
{
    *session = (struct session){
        .rundir = rundir, .node = node, .name = name, .lock = -1, .process = {.pidfd = -1}};
    if (rundir_check_name(rundir, name, error) < 0)
        return -1;
    if (locked && (rundir_complete(rundir, error) < 0 ||
                   rundir_lock(rundir, name, lock_deadline, &session->lock, error) < 0))
        return -1;
    if (monitor_find(rundir, name, &session->process, error) == 0)
        return 0;
    session_close(session);
    return -1;
}

int session_read(struct session *session, struct error *error)
{
    return read_files(session, runtime_load, error);
}

int session_open(struct session *session, const struct rundir *rundir, const struct node *node,
                 const char *name, bool locked, deadline_t lock_deadline, struct error *error)
{
    if (session_find(session, rundir, node, name, locked, lock_deadline, error) < 0)
        return -1;
    return session_read(session, error);
}

int session_open_known(struct session *session, const struct rundir *rundir,
                       const struct node *node, const char *name, deadline_t lock_deadline,
                       struct error *error)
{
    if (rundir_check_name(rundir, name, error) < 0 || rundir_knows(rundir, name))
        return session_open(session, rundir, node, name, true, lock_deadline, error);
    *session = (struct session){
        .rundir = rundir, .node = node, .name = name, .lock = -1, .process = {.pidfd = -1}};
    return 0;
}

int session_peek(struct session *session, const struct rundir *rundir, const char *name,
                 struct error *error)
{
    if (session_find(session, rundir, NULL, name, false, 0, error) < 0)
        return -1;
    return read_files(session, runtime_peek, error);
}

void session_unlock(struct session *session)
{
    memory_close(&session->lock);
    session->lock = -1;
}

void session_close(struct session *session)
{
    monitor_forget(&session->process);
    if (session->has_runtime)
        runtime_release(&session->runtime);
    session->has_runtime = false;
    session_unlock(session);
}

bool session_is_live(const struct session *session)
{
    return session->process.pid > 0;
}

int session_check_recorded(const struct session *session, struct error *error)
{
    if (!session->has_runtime || session->runtime.state == RUNTIME_STARTING ||
        monitor_is_recorded(&session->process, &session->runtime))
        return 0;
    return error_set(error, STATUS_FAILED,
                     "pid %d holds the pid file but the runtime file recorded pid %d: something "
                     "else runs under this name; look at 'ps -fp %d' before anything is ended",
                     (int)session->process.pid, (int)session->runtime.pid,
                     (int)session->process.pid);
}

int session_check_settled(const struct session *session, struct error *error)
{
    enum migration_phase phase =
        session->has_runtime ? migration_phase_of(&session->runtime) : PHASE_NONE;

    if (phase == PHASE_NONE)
        return 0;
    if (migration_is_split(&session->runtime))
        return error_set(error, STATUS_STATE,
                         "a post-copy of it is under way (this side is the %s, \"%s\"): its "
                         "memory is on both nodes, and the end of either QEMU loses the guest as "
                         "a crash does; 'kvm-migrate %s status' shows it, 'recover' on the source "
                         "goes on with it, 'kvm-stop %s --force' gives the guest up",
                         migration_side_of(&session->runtime) == MIGRATION_TARGET ? "target"
                                                                                  : "source",
                         migration_phase_name(phase), session->name, session->name);
    return error_set(
        error, STATUS_STATE,
        "a migration of it is under way (this side is the %s, \"%s\"); 'kvm-migrate %s "
        "status' shows it, 'recover' finishes or undoes it",
        migration_side_of(&session->runtime) == MIGRATION_TARGET ? "target" : "source",
        migration_phase_name(phase), session->name);
}

/* Without the record the guest would be started here a second time, or could be run nowhere: the commit token is in it. */
int session_check_kept(const struct session *session, struct error *error)
{
    if (session->has_runtime && migration_text(&session->runtime, "in_place") != NULL)
        return error_set(error, STATUS_STATE,
                         "its change of QEMU in place was interrupted; 'kvm-migrate %s recover' "
                         "finishes or undoes it",
                         session->name);

    enum migration_phase phase =
        session->has_runtime ? migration_phase_of(&session->runtime) : PHASE_NONE;

    if (phase == PHASE_SPLIT)
        return error_set(error, STATUS_STATE,
                         "its QEMU has ended in post-copy, and the guest on the target of its "
                         "migration lacks memory that was here, unless all had gone: "
                         "'kvm-migrate %s recover' asks there; 'kvm-cleanup %s --force' forgets it",
                         session->name, session->name);
    if (phase != PHASE_COMMITTED)
        return 0;
    return error_set(error, STATUS_STATE,
                     "the guest was given to the target of its migration and only this side's "
                     "runtime file tells so; 'kvm-migrate %s recover' finishes it",
                     session->name);
}

bool session_is_unstarted(const struct session *session, deadline_t deadline)
{
    char status[32];

    if (!session->has_runtime ||
        (session->runtime.state != RUNTIME_STARTING && session->runtime.state != RUNTIME_REBOOTING))
        return false;
    if (!session_is_live(session))
        return true;
    AUTO_QMP struct qmp *qmp =
        monitor_open(session->rundir, session->name, RUNDIR_QMP, &session->process,
                     clock_earlier(deadline, clock_deadline(STATUS_WAIT_MS)), NULL);
    return qmp != NULL && monitor_status(qmp, deadline, status, NULL) == 0 &&
           strcmp(status, "prelaunch") == 0;
}

/* The key and the files that were made for a guest that never came. What has voted may be the guest's newest disk: it stays. */
static int clear_landings(const struct session *session, struct messages *warnings,
                          struct error *error)
{
    const struct runtime *runtime = &session->runtime;
    const char *uuid;
    json_t *disk;

    if (!session->has_runtime || migration_side_of(runtime) != MIGRATION_TARGET)
        return 0;
    channel_forget_secret(session, true);
    if (migration_phase_of(runtime) == PHASE_ACCEPTED)
        return landing_remove(runtime, warnings, error);
    if (migration_phase_of(runtime) != PHASE_READY)
        return 0;
    json_object_foreach (migration_disks(runtime), uuid, disk)
        messages_add(warnings, "disk %s: %s was copied here and stays", uuid,
                     json_text(disk, "path"));
    lasting_warn(runtime, warnings);
    return 0;
}

static int clear(struct session *session, const struct teardown_options *options,
                 struct ending *ending, struct messages *warnings, struct error *error)
{
    struct teardown_options wanted = *options;
    wanted.observe = session->observe;
    struct lasting made = {0};

    if (session_check_kept(session, error) < 0)
        return -1;
    if (session_is_live(session) &&
        powerdown_kill(session->rundir, session->name, &session->process, "interrupted start",
                       options->deadline, error) < 0)
        return -1;
    monitor_forget(&session->process);
    if (!session->has_runtime && session->runtime_fault.text[0] != '\0')
        wanted.fault = session->runtime_fault.text;
    if (ending != NULL)
        events_ending(session->rundir, session->name,
                      session->has_runtime ? &session->runtime : NULL, false, ending);
    if (clear_landings(session, warnings, error) < 0)
        return -1;
    if (options->lasting == NULL && !options->keep_runtime && session->has_runtime &&
        lasting_never_ran(&session->runtime))
        wanted.lasting = &made;
    return teardown_run(session->rundir, session->node, session->name,
                        session->has_runtime ? &session->runtime : NULL, &wanted, warnings, error);
}

int session_clear(struct session *session, bool keep_runtime, deadline_t deadline,
                  struct ending *ending, struct messages *warnings, struct error *error)
{
    struct teardown_options options = {.deadline = deadline, .keep_runtime = keep_runtime};

    return clear(session, &options, ending, warnings, error);
}

int session_clear_lasting(struct session *session, struct lasting *lasting, deadline_t deadline,
                          struct ending *ending, struct messages *warnings, struct error *error)
{
    struct teardown_options options = {.deadline = deadline, .lasting = lasting};

    return clear(session, &options, ending, warnings, error);
}
