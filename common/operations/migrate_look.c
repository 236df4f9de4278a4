/* SPDX-License-Identifier: BSD-2-Clause */
/* status and cancel: without the lock, on the query monitor. */
#include <string.h>

#include "migrate_disks.h"
#include "migrate_local.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/qemu/events.h"

enum { LOOK_MS = 3000 };

/* Phase and tokens are in the runtime file alone. */
int local_check_known(const struct local *local, struct error *error)
{
    const struct session *session = &local->session;
    const char *fault = session->runtime_fault.text;
    bool live = session_is_live(session);
    char holder[256];

    if (session->has_runtime || (fault[0] == '\0' && !live))
        return 0;
    /* Who only looks may see the moment in which another command moves the file. */
    if (fault[0] == '\0' && session->lock < 0 &&
        rundir_lock_holder(local->rundir, local->name, holder, sizeof(holder)))
        return 0;
    return error_set(error, STATUS_STATE,
                     "its runtime file %s%s: whether a migration of it is under way is not "
                     "known%s%s%s",
                     fault[0] != '\0' ? "can't be read: " : "is missing", fault,
                     live ? "; 'kvm-start --adopt " : "", live ? local->name : "",
                     live ? "' makes a new one, once it is certain that none is" : "");
}

static json_t *look(struct local *local, struct qmp **qmp, struct error *error)
{
    *qmp = NULL;
    if (!session_is_live(&local->session))
        return NULL;
    *qmp = monitor_look(local->rundir, local->name, &local->session.process, NULL, 0,
                        clock_deadline(LOOK_MS), error);
    return *qmp == NULL ? NULL : migrate_query(*qmp, clock_deadline(LOOK_MS), error);
}

/* "; disks 45 %, 1 of 2 ready"; "" when none travel. The caller frees. */
static char *tell_disks(const json_t *disks)
{
    int64_t copied = 0, total = 0;
    size_t i, ready = 0;
    json_t *disk;

    json_array_foreach (disks, i, disk) {
        copied += json_number(disk, "copied", 0);
        total += json_number(disk, "total", 0);
        ready += json_truth(disk, "ready", false);
    }
    if (json_array_size(disks) == 0)
        return memory_copy("");
    return memory_format("; disks %lld %%, %zu of %zu ready",
                         (long long)(total > 0 ? copied * 100 / total : 0), ready,
                         json_array_size(disks));
}

/* The target's QEMU does not tell; the caller frees. */
static char *what_is_left(const json_t *reply)
{
    const json_t *ram = json_member(reply, "ram");

    if (json_number(ram, "total", 0) == 0)
        return memory_copy("");
    return memory_format("; %lld of %lld MiB left",
                         (long long)json_number(ram, "remaining", 0) / 1048576,
                         (long long)json_number(ram, "total", 0) / 1048576);
}

/* What goes on by itself in QEMU needs nobody before its end. */
static const char *advice(const struct runtime *runtime)
{
    return migration_phase_of(runtime) == PHASE_FILLING
               ? "; nobody drives it here, 'recover' on the source goes on with it"
               : "; nobody drives it, 'recover' finishes or undoes it";
}

int local_status(struct local *local, struct error *error)
{
    AUTO_QMP struct qmp *qmp = NULL;

    if (local_check_known(local, error) < 0)
        return -1;
    AUTO_JSON json_t *reply = look(local, &qmp, error);
    const struct runtime *runtime = &local->session.runtime;
    const char *status = json_text(reply, "status");
    bool known = local->session.has_runtime && migration_phase_of(runtime) != PHASE_NONE;
    char holder[256];

    local->result->detail = memory_json(json_object());
    if (known)
        json_object_update_new(
            local->result->detail,
            json_pack("{s:s, s:s}", "side",
                      migration_side_of(runtime) == MIGRATION_TARGET ? "target" : "source", "phase",
                      migration_phase_name(migration_phase_of(runtime))));
    if (reply != NULL)
        json_object_set(local->result->detail, "qemu", reply);
    if (qmp != NULL && known && migration_disks(runtime) != NULL)
        json_object_set_new(local->result->detail, "disks",
                            copies_state(qmp, clock_deadline(LOOK_MS)));
    bool busy = rundir_lock_holder(local->rundir, local->name, holder, sizeof(holder));
    if (!known) {
        local_say(local, memory_format("%s%s%s",
                                       local_is_absent(&local->session)
                                           ? "nothing of it is here; 'kvm-info' lists what is"
                                           : "no migration is under way",
                                       busy ? "; busy: " : "", busy ? holder : ""));
        return 0;
    }
    AUTO_FREE char *disks = tell_disks(json_member(local->result->detail, "disks"));
    AUTO_FREE char *left = what_is_left(reply);
    local_say(
        local,
        memory_format(
            "%s, %s%s%s%s%s%s%s%s",
            migration_side_of(runtime) == MIGRATION_TARGET ? "target" : "source",
            migration_phase_name(migration_phase_of(runtime)), status != NULL ? ", QEMU says " : "",
            status != NULL ? status : "", disks, left,
            migration_is_split(runtime) ? "; its memory is on both nodes, end neither QEMU" : "",
            busy ? "; driven by " : advice(runtime), busy ? holder : ""));
    return 0;
}

/* Is there something to cancel, and is it cancelled here? */
static int check_cancel(const struct local *local, struct error *error)
{
    const struct runtime *runtime = &local->session.runtime;
    enum migration_phase phase =
        local->session.has_runtime ? migration_phase_of(runtime) : PHASE_NONE;

    if (phase == PHASE_NONE)
        return error_set(error, STATUS_STATE, "cancel: no migration of it is under way here");
    if (migration_side_of(runtime) == MIGRATION_TARGET)
        return error_set(error, STATUS_STATE,
                         "cancel: this is the target's side; on the source: kvm-migrate %s cancel",
                         local->name);
    if (phase != PHASE_SENDING)
        return error_set(error, STATUS_STATE,
                         "cancel: too late, the migration is \"%s\"; 'kvm-migrate %s recover' "
                         "finishes it",
                         migration_phase_name(phase), local->name);
    if (!session_is_live(&local->session))
        return error_set(error, STATUS_STATE,
                         "cancel: QEMU here has ended; 'kvm-migrate %s recover' finishes or undoes "
                         "the migration",
                         local->name);
    return 0;
}

/* QEMU's copy has ended; the way back is that of the command that drives it. */
static void tell_cancelled(struct local *local)
{
    char holder[256];

    local_say(local,
              rundir_lock_holder(local->rundir, local->name, holder, sizeof(holder))
                  ? memory_copy("cancelled: the command that drives it goes back and says so")
                  : memory_format("cancelled, but nobody drives it: 'kvm-migrate %s recover' here "
                                  "undoes the rest",
                                  local->name));
}

int local_cancel(struct local *local, struct error *error)
{
    AUTO_QMP struct qmp *qmp = NULL;

    if (local_check_known(local, error) < 0 || check_cancel(local, error) < 0)
        return -1;
    AUTO_JSON json_t *reply = look(local, &qmp, error);
    if (reply == NULL)
        return error_prefix(error, "cancel");
    if (postcopy_is(json_text(reply, "status")))
        return error_set(error, STATUS_STATE,
                         "cancel: too late, post-copy has begun and memory is on both sides");
    events_note(local->rundir, local->name, "KVM_SUITE_ACTION", MIGRATE_CANCEL, NULL);
    if (qmp_call(qmp, "migrate_cancel", NULL, clock_deadline(LOOK_MS), NULL, error) != QMP_DONE ||
        (migration_disks(&local->session.runtime) != NULL &&
         copies_cancel(qmp, clock_deadline(LOOK_MS), error) < 0))
        return -1;
    json_decref(reply);
    reply = migrate_query(qmp, clock_deadline(LOOK_MS), error);
    if (reply == NULL)
        return -1;
    const char *phase = json_text(reply, "status");
    if (phase != NULL && strcmp(phase, "completed") == 0)
        return error_set(error, STATUS_STATE,
                         "cancel: too late, everything has been copied and the target takes over");
    tell_cancelled(local);
    return 0;
}
