/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "migrate_sending.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "kvm/base/text.h"
#include "kvm/operations/powerdown.h"
#include "kvm/operations/reconcile.h"
#include "kvm/operations/teardown.h"
#include "kvm/qemu/events.h"
#include "kvm/qemu/peripheral.h"
#include "kvm/state/hvparams.h"

int sending_begin(struct sending *sending, struct error *error)
{
    deadline_t deadline = clock_deadline(SETUP_MS);

    sending_say(sending, "copy the memory");
    sending->copying = clock_wall();
    if (migrate_is_non_live(&sending->session.runtime.instance, sending->options) &&
        qmp_call(sending->qmp, "stop", NULL, deadline, NULL, error) != QMP_DONE)
        return -1;
    json_t *arguments = memory_json(json_pack("{s:s}", "uri", sending->uri));
    return qmp_call(sending->qmp, "migrate", arguments, deadline, NULL, error) == QMP_DONE ? 0 : -1;
}

/* ---- watching ---- */

struct migrate_progress migrate_progress_of(const json_t *reply, double seconds)
{
    const json_t *ram = json_member(reply, "ram");
    const json_t *mbps = json_member(ram, "mbps");

    return (struct migrate_progress){
        .phase = json_text(reply, "status") != NULL ? json_text(reply, "status") : "setup",
        .transferred = json_number(ram, "transferred", 0),
        .remaining = json_number(ram, "remaining", 0),
        .total = json_number(ram, "total", 0),
        .mbps = json_is_number(mbps) ? json_number_value(mbps) : 0,
        .dirty_bytes_per_s =
            json_number(ram, "dirty-pages-rate", 0) * json_number(ram, "page-size", 4096),
        /* In post-copy QEMU still tells the last estimate of the copy that was before. */
        .expected_downtime_ms = postcopy_is(json_text(reply, "status"))
                                    ? -1
                                    : json_number(reply, "expected-downtime", -1),
        .seconds = seconds,
    };
}

static void tell_progress(const struct sending *sending, const json_t *reply)
{
    struct migrate_progress progress = migrate_progress_of(reply, clock_wall() - sending->began);
    AUTO_FREE struct migrate_disk_progress *disks = copies_progress(&sending->copies);

    progress.disks = disks;
    progress.disk_count = sending->copies.count;
    if (sending->options->progress != NULL)
        sending->options->progress(&progress);
}

bool sending_was_cancelled(struct sending *sending, struct error *error)
{
    static const char *const ours[] = {"KVM_SUITE_ACTION", NULL};
    AUTO_JSON json_t *event = events_last(sending->rundir, sending->name, ours);
    const json_t *data = json_member(event, "data");
    const char *action = json_text(data, "action"), *user = json_text(data, "user");

    if (action == NULL || user == NULL || strcmp(action, MIGRATE_CANCEL) != 0 ||
        events_time(event) < sending->began)
        return false;
    AUTO_FREE char *shown = text_escape(user, strlen(user));
    error_set(error, STATUS_FAILED, "cancelled by %s (kvm-migrate pid %lld)", shown,
              (long long)json_number(data, "pid", 0));
    sending->given_up = true;
    return true;
}

int sending_copy_failed(struct sending *sending, const json_t *reply, const char *phase,
                        struct error *error)
{
    if (sending_was_cancelled(sending, error))
        return -1;
    const char *why = json_text(reply, "error-desc");
    return error_set(error, STATUS_FAILED, "copying %s%s%s",
                     strcmp(phase, "failed") == 0 ? "failed" : "was cancelled",
                     why != NULL ? ": " : "", why != NULL ? why : "");
}

/* From here on QEMU stands before the switch-over as soon as it can, whether the copy converges or not. */
static int start_postcopy(struct sending *sending, const char *why, struct error *error)
{
    if (sending->postcopy)
        return 0;
    sending_say(sending, why);
    sending->postcopy = true;
    return qmp_call(sending->qmp, "migrate-start-postcopy", NULL, clock_deadline(SETUP_MS), NULL,
                    error) == QMP_DONE
               ? 0
               : -1;
}

/* A guest that has come to the end of the first pass and not to the end of the copy changes faster than it is sent. */
static int check_first_pass(struct sending *sending, const json_t *reply, struct error *error)
{
    const char *phase = json_text(reply, "status");

    if (!migrate_is_postcopy(&sending->session.runtime.instance, sending->options) ||
        phase == NULL || strcmp(phase, "active") != 0 ||
        json_number(json_member(reply, "ram"), "dirty-sync-count", 0) < 2)
        return 0;
    return start_postcopy(sending, "the first pass is over: switch to post-copy", error);
}

int sending_check_interrupted(struct sending *sending, struct error *error)
{
    if (!migrate_is_interrupted(sending->options->interrupted))
        return 0;
    sending->given_up = true;
    return error_set(error, STATUS_FAILED, "interrupted");
}

static int deadline_reached(struct sending *sending, bool *paused, struct error *error)
{
    if (sending->options->on_deadline == ON_DEADLINE_PAUSE && !*paused) {
        sending_say(sending, "the time is up: pause the guest so that the copy ends");
        *paused = true;
        return qmp_call(sending->qmp, "stop", NULL, clock_deadline(SETUP_MS), NULL, error) ==
                       QMP_DONE
                   ? 0
                   : -1;
    }
    if (sending->options->on_deadline == ON_DEADLINE_POSTCOPY)
        return start_postcopy(sending, "the time is up: switch to post-copy", error);
    if (*paused)
        return 0;
    sending->given_up = true;
    return error_set(
        error, STATUS_FAILED,
        "the copy did not converge by the deadline: the guest changes its memory faster "
        "than it is sent; more --bandwidth or --downtime, --auto-converge, --postcopy, or "
        "--on-deadline pause or postcopy make it end");
}

/* What QEMU has connected by itself notices a cut link only by what we set: done once all connections are there. */
static void watch_own(struct sending *sending, const char *phase, bool *watched)
{
    const struct qemu_process *process = &sending->session.process;

    if (*watched || phase == NULL || strcmp(phase, "active") != 0)
        return;
    *watched = channel_watch_process(process->pid, process->pidfd, sending->port) >
               (size_t)sending->options->multifd;
}

static int check_setup(const struct sending *sending, const char *phase, struct error *error)
{
    if (phase == NULL || strcmp(phase, "setup") != 0 ||
        clock_wall() - sending->copying < (double)MIGRATE_CONNECT_MS / 1000)
        return 0;
    return error_set(error, STATUS_FAILED,
                     "QEMU could not connect to the target; is the way to the migration address "
                     "and port open?");
}

/* The guest stands still from the event on: it is not asked then what it has told. */
static bool wait_for_pause(struct qmp *qmp, bool *lost)
{
    AUTO_JSON json_t *event =
        qmp_wait_event(qmp, "MIGRATION", NULL, NULL, clock_deadline(LOOK_MS), lost);
    const char *phase = json_text(json_member(event, "data"), "status");

    return phase != NULL && strcmp(phase, "pre-switchover") == 0;
}

/* Until QEMU stands before the switch-over, guest paused, all memory sent but the last rest. */
int sending_watch(struct sending *sending, struct error *error)
{
    deadline_t deadline = sending->copy_end;
    bool paused = false, watched = sending->options->multifd == 0;

    for (;;) {
        AUTO_JSON json_t *reply = migrate_query(sending->qmp, clock_deadline(SETUP_MS), error);
        const char *phase = json_text(reply, "status");
        if (reply == NULL)
            return -1;
        tell_progress(sending, reply);
        if (phase != NULL && (strcmp(phase, "failed") == 0 || strcmp(phase, "cancelled") == 0))
            return sending_copy_failed(sending, reply, phase, error);
        if (phase != NULL &&
            (strcmp(phase, "pre-switchover") == 0 || strcmp(phase, "completed") == 0))
            return 0;
        watch_own(sending, phase, &watched);
        if (check_setup(sending, phase, error) < 0 || copies_check(sending, error) < 0 ||
            remote_keep(&sending->remote, error) < 0)
            return -1;
        if (sending_check_interrupted(sending, error) < 0 ||
            check_first_pass(sending, reply, error) < 0 ||
            (clock_passed(deadline) && deadline_reached(sending, &paused, error) < 0))
            return -1;
        bool lost = false;
        if (wait_for_pause(sending->qmp, &lost))
            return 0;
        if (process_wait_gone(sending->session.process.pidfd, clock_deadline(lost ? LOOK_MS : 0)))
            return error_set(error, STATUS_FAILED, "QEMU here has ended while copying");
    }
}
