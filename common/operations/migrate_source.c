/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "migrate_sending.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "kvm/operations/powerdown.h"
#include "kvm/operations/reconcile.h"
#include "kvm/operations/teardown.h"
#include "kvm/qemu/events.h"
#include "kvm/qemu/peripheral.h"
#include "kvm/state/hvparams.h"

void sending_say(const struct sending *sending, const char *what)
{
    if (sending->options->observe != NULL)
        sending->options->observe(what);
}

int sending_record(struct sending *sending, struct error *error)
{
    struct runtime *runtime = &sending->session.runtime;

    if (sending->recorded)
        return 0;
    AUTO_FREE char *taps = memory_copy(migration_text(runtime, "taps_before"));
    migration_clear(runtime);
    migration_set_phase(runtime, MIGRATION_SOURCE, PHASE_SENDING);
    if (sending->options->in_place) {
        migration_set_text(runtime, "in_place", "yes");
        migration_set_text(runtime, "taps_before", taps);
    }
    migration_set_text(runtime, "peer", sending->options->target);
    migration_set_text(runtime, "commit_token", sending->commit_token);
    migration_set_text(runtime, "abort_token", sending->abort_token);
    if (sending->vote_token[0] != '\0')
        migration_set_text(runtime, "vote_token", sending->vote_token);
    copies_record(&sending->copies, runtime);
    AUTO_FREE char *port = memory_format("%lld", (long long)sending->port);
    migration_set_text(runtime, "address", sending->address);
    migration_set_text(runtime, "port", port);
    migration_set_text(runtime, "tls",
                       sending->options->plain_tcp          ? "plain"
                       : sending->options->tls_x509 != NULL ? "x509"
                                                            : "psk");
    if (runtime_commit(sending->rundir, runtime, error) < 0)
        return -1;
    sending->recorded = true;
    return 0;
}

/* Post-copy: the guest runs there and its memory follows. Neither QEMU may end before the last of it has arrived. */
static int fill(struct sending *sending, struct error *error)
{
    struct session *session = &sending->session;

    if (migration_phase_of(&session->runtime) != PHASE_SPLIT)
        return 0;
    sending_say(sending, "the guest runs on the target, its memory follows");
    if (postcopy_wait(session, sending->qmp, &sending->remote, sending->options, sending->began,
                      &sending->last, error) < 0 ||
        source_complete(session, sending->qmp, clock_deadline(SETUP_MS), error) < 0)
        return -1;
    return remote_ask(&sending->remote, json_pack("{s:s}", "stage", "complete"),
                      clock_deadline(MIGRATE_ANSWER_MS), NULL, error);
}

/* ---- and back, when something failed before the commit ---- */

/* A monitor that does not answer tells nothing, but the process may still be on its way out. */
static bool source_has_ended(struct sending *sending)
{
    char status[32];

    if (process_wait_gone(sending->session.process.pidfd, clock_deadline(0)))
        return true;
    if (monitor_status(sending->qmp, clock_deadline(LOOK_MS), status, NULL) == 0)
        return false;
    return process_wait_gone(sending->session.process.pidfd, clock_deadline(DYING_MS));
}

static int abort_target(struct sending *sending, json_t **answer, struct error *error)
{
    json_t *question =
        memory_json(json_pack("{s:s, s:s}", "stage", "abort", "token", sending->abort_token));

    sending->remote.interrupted = NULL;
    return remote_ask(&sending->remote, question, remote_patience(&sending->remote, SWITCH_MS),
                      answer, error);
}

/* What is to be typed when this side can't finish it; what it has the right to say by then. */
static void say_next(const struct sending *sending, const char *stage, const char *token,
                     struct error *error)
{
    if (sending->options->in_place)
        error_append(error, "'kvm-migrate %s recover' finishes or undoes it", sending->name);
    else
        error_append(error,
                     "'kvm-migrate %s recover --remote ...' here, or there: kvm-migrate %s %s "
                     "--token %s",
                     sending->name, sending->name, stage, token);
}

static void say_untold(const struct sending *sending, bool dead, bool stands, struct error *error)
{
    error->status = STATUS_INCOMPLETE;
    if (dead) {
        error_append(error,
                     "; QEMU here has ended; 'kvm-migrate %s recover --remote ...' asks %s "
                     "whether the whole guest is there",
                     sending->name, sending->options->target);
        return;
    }
    error_append(error,
                 stands ? "; the guest is paused here, since its images are still open on %s: "
                        : "; the guest runs here; if anything of it is left on %s: ",
                 sending->options->target);
    say_next(sending, "abort", sending->abort_token, error);
    if (stands)
        error_append(error, " and then recover here");
}

/* In post-copy the target has the images open, so the guest runs on here only when QEMU has ended there. */
static bool postcopy_went_back(const struct sending *sending)
{
    return sending->postcopy && migration_phase_of(&sending->session.runtime) == PHASE_NONE;
}

static void tell_undone(const struct sending *sending, const json_t *answer, bool dead,
                        struct error *error)
{
    /* An incoming QEMU tells what went wrong in its messages only. */
    const char *words = json_text(answer, "words");
    if (words != NULL && words[0] != '\0' && !sending->given_up)
        error_append(error, "; QEMU on the target said: %s", words);
    if (dead)
        error_append(
            error,
            "; with QEMU the guest is gone: 'kvm-cleanup %s' removes what it left, then it "
            "can be started again",
            sending->name);
    else
        error_append(error, "; the guest runs here as before");
}

static void undo(struct sending *sending, struct error *error)
{
    struct error second = {0};

    if (migration_is_split(&sending->session.runtime)) {
        if (error->status != STATUS_INCOMPLETE)
            error_append(error,
                         "; the guest is on both sides, end neither; 'kvm-migrate %s "
                         "recover --remote ...' here goes on with it",
                         sending->name);
        error->status = STATUS_INCOMPLETE;
        return;
    }
    if (sending->committed) {
        error->status = STATUS_INCOMPLETE;
        error_append(error, "; the guest belongs to %s now; ",
                     sending->options->in_place ? "the new QEMU" : sending->options->target);
        say_next(sending, "commit", sending->commit_token, error);
        return;
    }
    bool dead = source_has_ended(sending);
    /* While this connection is still there: a QEMU that hangs in a write to the target takes no new one. */
    if (sending->recorded && !dead)
        copies_yank(sending->qmp, &sending->session.runtime, clock_deadline(SETTLE_MS));
    qmp_release(&sending->qmp);
    bool stands = sending->recorded && !dead &&
                  source_abort(&sending->session, clock_deadline(SWITCH_MS), &second) < 0;
    if (stands && !postcopy_went_back(sending)) {
        error->status = STATUS_INCOMPLETE;
        error_append(error, "; going back: %s", second.text);
        return;
    }
    AUTO_JSON json_t *answer = NULL;
    bool untold = sending->accepted && abort_target(sending, &answer, &second) < 0;
    if (sending->recorded && !dead)
        source_drop_stream(&sending->session, clock_deadline(SETTLE_MS));
    if (untold) {
        say_untold(sending, dead, stands, error);
        copies_tell_remains(&sending->copies, sending->options->target, error);
        return;
    }
    if (stands && source_continue(&sending->session, clock_deadline(SWITCH_MS), &second) < 0) {
        error->status = STATUS_INCOMPLETE;
        error_append(error, "; going back: %s", second.text);
        return;
    }
    if (error->status == STATUS_INCOMPLETE)
        error->status = STATUS_FAILED;
    if (sending->recorded && source_forget(&sending->session, &second) < 0)
        error_append(error, "; %s", second.text);
    tell_undone(sending, answer, dead, error);
}

/* "completed" may come with times of zero: asked once more (QEMU 7.2). */
static void ask_times(struct sending *sending)
{
    deadline_t deadline = clock_deadline(LOOK_MS);

    do {
        json_decref(sending->last);
        sending->last = migrate_query(sending->qmp, clock_deadline(SETUP_MS), NULL);
        if (json_number(sending->last, "total-time", 0) != 0)
            return;
        clock_sleep_ms(ZERO_TIMES_MS);
    } while (sending->last != NULL && !clock_passed(deadline));
}

static void tell_result(struct sending *sending)
{
    ask_times(sending);
    const json_t *ram = json_member(sending->last, "ram");
    int64_t total = json_number(sending->last, "total-time", 0);
    int64_t downtime = json_number(sending->last, "downtime", 0);
    int64_t bytes = json_number(ram, "transferred", 0);
    char span[32];

    clock_format_span(clock_wall() - sending->began, span, sizeof(span));
    json_decref(sending->result->detail);
    sending->result->detail = memory_json(json_pack(
        "{s:s, s:I, s:I, s:I, s:f}", "target", sending->options->target, "total_time_ms", total,
        "downtime_ms", downtime, "bytes", bytes, "seconds", clock_wall() - sending->began));
    free(sending->result->text);
    AUTO_FREE char *where =
        sending->options->in_place
            ? memory_format("in QEMU %s (%s)", sending->version, sending->program)
            : memory_format("on %s", sending->options->target);
    sending->result->text =
        memory_format("runs %s now: took %s, downtime %lld ms, %lld MiB sent, %lld MiB/s", where,
                      span, (long long)downtime, (long long)(bytes / 1048576),
                      (long long)(total > 0 ? bytes / total * 1000 / 1048576 : 0));
    copies_tell(sending);
}

static int go(struct sending *sending, struct error *error)
{
    AUTO_JSON json_t *answer = NULL;

    if (sending_accept(sending, &answer, error) < 0 || sending_compare(sending, error) < 0 ||
        sending_connect(sending, answer, error) < 0 || copies_begin(sending, answer, error) < 0 ||
        copies_watch(sending, error) < 0 || sending_begin(sending, error) < 0 ||
        sending_watch(sending, error) < 0)
        return -1;
    if (sending->options->rehearse)
        return 0;
    bool done = copies_finish(sending, error) == 0 && sending_switch_over(sending, error) == 0 &&
                sending_commit(sending, error) == 0;
    migrate_hurry(false);
    if (!done || fill(sending, error) < 0)
        return -1;
    tell_result(sending);
    return 0;
}

static void tell_rehearsal(struct sending *sending)
{
    AUTO_JSON json_t *reply = migrate_query(sending->qmp, clock_deadline(SETUP_MS), NULL);
    const json_t *ram = json_member(reply, "ram");
    double seconds = clock_wall() - sending->began;
    int64_t bytes = json_number(ram, "transferred", 0);
    int64_t rate = json_number(ram, "dirty-pages-rate", 0) * json_number(ram, "page-size", 4096);

    AUTO_FREE char *expected = migrate_expected_text(json_number(reply, "expected-downtime", -1));
    free(sending->result->text);
    sending->result->text =
        memory_format("rehearsed: %lld MiB in %.1f s, dirty rate %lld MiB/s%s",
                      (long long)(bytes / 1048576), seconds, (long long)(rate / 1048576), expected);
    json_decref(sending->result->detail);
    sending->result->detail = memory_json(json_pack(
        "{s:I, s:f, s:I, s:I}", "bytes", bytes, "seconds", seconds, "dirty_bytes_per_second", rate,
        "expected_downtime_ms", json_number(reply, "expected-downtime", 0)));
}

static int rehearsed(struct sending *sending, struct error *error)
{
    struct error end = {0};

    tell_rehearsal(sending);
    undo(sending, &end);
    if (end.status == STATUS_INCOMPLETE)
        return error_set(error, STATUS_INCOMPLETE, "%s", end.text);
    return 0;
}

/* All is done; hooks that fail, or a target that is out of reach by now, change nothing of it. */
static void tell_hooks(struct sending *sending)
{
    AUTO_JSON json_t *answer = NULL;
    struct error error = {0};
    json_t *question = memory_json(json_pack("{s:s}", "stage", "hooks"));

    if (sending->options->in_place) /* nobody else has any */
        json_decref(question);
    else if (remote_ask(&sending->remote, question, clock_deadline(MIGRATE_ANSWER_MS), &answer,
                        &error) == 0)
        sending_take_warnings(sending, answer);
    else
        messages_add(&sending->result->warnings, "post hooks on %s: %s", sending->options->target,
                     error.text);
    migrate_hooks_post(&sending->session, MIGRATION_SOURCE, sending->options->target,
                       clock_deadline(sending->options->timeout_ms), &sending->result->warnings);
}

/* The way there is tried without us, when it has ended before a word was said. */
static int tell_way(const struct sending *sending, struct error *error)
{
    AUTO_FREE char *command = sending_remote_command(sending->options);

    if (error->status != STATUS_INCOMPLETE || sending->options->in_place ||
        migrate_is_interrupted(sending->options->interrupted))
        return -1;
    return error_append(error, "; nothing was changed; try the way there: %s kvm-migrate --version",
                        command);
}

static int run(struct sending *sending, struct error *error)
{
    if (sending_open(sending, error) < 0 || sending_open_remote(sending, error) < 0)
        return -1;
    if (sending_check_target(sending, error) < 0)
        return tell_way(sending, error);
    sending->plan = migrate_plan(&sending->session.runtime.instance, sending->options);
    if (sending->only_check && sending->problems.count == 0 && sending_measure(sending, error) < 0)
        return -1;
    if (sending->problems.count > 0)
        return messages_error(&sending->problems, STATUS_STATE, error);
    if (sending->only_check)
        return 0;
    if (!sending->options->rehearse &&
        migrate_hooks_pre(&sending->session, &sending->session.runtime.instance, MIGRATION_SOURCE,
                          sending->options->target, clock_deadline(sending->options->timeout_ms),
                          error) < 0)
        return -1;
    if (go(sending, error) < 0) {
        undo(sending, error);
        return -1;
    }
    if (sending->options->rehearse)
        return rehearsed(sending, error);
    sending_say(sending, "end QEMU here and clean up");
    qmp_release(&sending->qmp);
    if (sending->options->in_place)
        remote_close(&sending->remote); /* the new QEMU's monitor is needed now */
    if (source_finish(&sending->session, clock_deadline(SETUP_MS), &sending->result->warnings,
                      error) < 0)
        return -1;
    tell_hooks(sending);
    return 0;
}

void migrate_to(const struct rundir *rundir, const struct node *node, const char *name,
                const struct migrate_options *options, bool only_check, struct result *result)
{
    struct sending sending = {.rundir = rundir,
                              .node = node,
                              .name = name,
                              .options = options,
                              .result = result,
                              .only_check = only_check,
                              .began = clock_wall(),
                              .session = {.lock = -1, .process = {.pidfd = -1}},
                              .remote = {.pidfd = -1, .to = -1, .from = -1},
                              .pipe = {.pidfd = -1, .to = -1, .from = -1}};
    struct error error = {0};

    result->subject = memory_copy(name);
    if (run(&sending, &error) < 0) {
        /* A session that is lost before anything was accepted leaves nothing behind. */
        if (error.status == STATUS_INCOMPLETE && !sending.accepted && !sending.recorded)
            error.status = STATUS_FAILED;
        result->status = error.status;
        free(result->text);
        result->text = memory_copy(error.text);
    }
    qmp_release(&sending.qmp);
    remote_close(&sending.remote);
    remote_close(&sending.pipe);
    session_close(&sending.session);
    copies_release(&sending.copies);
    messages_release(&sending.problems);
    free(sending.uri);
    free(sending.program);
    json_decref(sending.plan);
    json_decref(sending.last);
}
