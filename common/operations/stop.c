/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>

#include "kvm/operations/stop.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/operations/launch.h"
#include "kvm/operations/migrate.h"
#include "kvm/operations/migration.h"
#include "kvm/operations/operation_hooks.h"
#include "kvm/operations/powerdown.h"
#include "kvm/operations/reconcile.h"
#include "kvm/operations/session.h"
#include "kvm/operations/teardown.h"

enum { CLEAR_MS = 60000 }; /* ifdown scripts and files, after the guest's own time */
enum { RESET_MS = 5000 };

struct stop {
    const struct rundir *rundir;
    const struct node *node;
    const char *name;
    const struct stop_options *options;
    struct session session;
    enum runtime_state state_before; /* of an attempt to reboot */
    deadline_t deadline;
    double began;
    struct result *result;
};

static void set_text(struct stop *stop, char *text)
{
    free(stop->result->text);
    stop->result->text = text;
}

static void tell_ending(struct stop *stop, const char *what, const struct ending *ending)
{
    char span[32];
    double seconds = clock_wall() - stop->began;

    clock_format_span(seconds, span, sizeof(span));
    set_text(stop, memory_format("%s: %s (took %s)", what, ending->text, span));
    json_decref(stop->result->detail);
    stop->result->detail =
        memory_json(json_pack("{s:s, s:s, s:f}", "ending", ending_kind_name(ending->kind), "reason",
                              ending->text, "seconds", seconds));
}

static int start_again(struct stop *stop, struct error *error)
{
    AUTO_LAUNCH struct launch *launch = NULL;
    struct runtime *runtime = &stop->session.runtime;
    struct launch_options options = {.deadline = clock_deadline(CLEAR_MS),
                                     .observe = stop->options->observe};
    AUTO_FREE char *source = memory_format("conf/%s.runtime", stop->name);

    reconcile_dead(runtime);
    if (launch_plan(stop->rundir, stop->node, &runtime->instance, source, true, &launch,
                    &stop->result->warnings, error) < 0 ||
        launch_run(launch, runtime, &options, &stop->result->warnings, error) < 0) {
        error_prefix(error, "stopped, but it does not start again");
        error->status = STATUS_INCOMPLETE; /* it ran before, whatever the cause */
        return error_append(error,
                            "; mend the cause and repeat 'kvm-stop --reboot %s', or "
                            "'kvm-cleanup %s' gives it up",
                            stop->name, stop->name);
    }
    json_object_set_new(stop->result->detail, "pid", json_integer(runtime->pid));
    return 0;
}

/* QEMU is gone, or has not executed anything: remove what is left; for a reboot start it again. */
static int finish(struct stop *stop, bool reboot, const char *what, struct error *error)
{
    struct ending ending = {0};

    if (session_clear(&stop->session, reboot, clock_deadline(CLEAR_MS), &ending,
                      &stop->result->warnings, error) < 0) {
        if (ending.text[0] == '\0')
            return -1;
        error_prefix(error, "it is stopped (%s), but not all is cleaned up", ending.text);
        return reboot ? error_append(error, ", 'kvm-stop --reboot %s' does so and starts it",
                                     stop->name)
                      : -1;
    }
    tell_ending(stop, reboot ? "rebooted" : what, &ending);
    return reboot ? start_again(stop, error) : 0;
}

/* What is not there can't be reset or rebooted, but for a reboot that was interrupted. */
static int check_dead(const struct stop *stop, struct error *error)
{
    const struct session *session = &stop->session;
    bool again = stop->options->reboot || stop->options->reset;

    if (again && !session->has_files)
        return error_set(error, STATUS_STATE, "it does not run; 'kvm-start FILE' starts it");
    if (stop->options->reset || (stop->options->reboot && !session->has_runtime))
        return error_set(error, STATUS_STATE,
                         "it does not run; 'kvm-cleanup %s' removes what it left", stop->name);
    if (stop->options->reboot && session->runtime.state != RUNTIME_REBOOTING)
        return error_set(error, STATUS_STATE,
                         "it does not run any more; 'kvm-cleanup %s' and 'kvm-start FILE' start it "
                         "afresh",
                         stop->name);
    return session_check_kept(session, error);
}

static int stop_dead(struct stop *stop, struct error *error)
{
    if (check_dead(stop, error) < 0)
        return -1;
    if (!stop->session.has_files) {
        set_text(stop, memory_copy("already stopped: nothing of it is here"));
        return 0;
    }
    return finish(stop, stop->options->reboot, "was not running, cleaned up", error);
}

static int reset(struct stop *stop, struct error *error)
{
    AUTO_QMP struct qmp *qmp = monitor_open(stop->rundir, stop->name, RUNDIR_QMP,
                                            &stop->session.process, stop->deadline, error);
    if (qmp == NULL)
        return -1;
    events_note(stop->rundir, stop->name, "KVM_SUITE_ACTION", "reset", NULL);
    if (qmp_call(qmp, "system_reset", NULL, stop->deadline, NULL, error) != QMP_DONE)
        return -1;
    /* The answer comes before the deed. A QEMU that ends instead of it (reboot_behavior) tells by its end. */
    bool lost;
    AUTO_JSON json_t *event = qmp_wait_event(
        qmp, "RESET", NULL, NULL, clock_earlier(stop->deadline, clock_deadline(RESET_MS)), &lost);
    if (event == NULL && !lost)
        messages_add(&stop->result->warnings,
                     "QEMU has taken the reset, but has not told yet that it was done; "
                     "'kvm-info --events %s' shows it",
                     stop->name);
    set_text(stop, memory_copy("reset"));
    return 0;
}

static int check_reboot(const struct stop *stop, struct error *error)
{
    const char *fault = stop->session.runtime_fault.text;

    if (!stop->options->reboot || stop->session.has_runtime)
        return 0;
    return error_set(error, STATUS_STATE, "a reboot starts from the runtime file, which %s%s",
                     fault[0] != '\0' ? "can't be read: " : "is missing", fault);
}

/* A reboot that was killed in its middle is told from a stopped instance by this mark. */
static int mark_rebooting(struct stop *stop, bool rebooting, struct error *error)
{
    struct runtime *runtime = &stop->session.runtime;

    if (!stop->options->reboot)
        return 0;
    if (check_reboot(stop, error) < 0)
        return -1;
    if (rebooting) /* the mark that an earlier, interrupted one left is no state to go back to */
        stop->state_before = runtime->state == RUNTIME_REBOOTING ? RUNTIME_RUNNING : runtime->state;
    runtime->state = rebooting ? RUNTIME_REBOOTING : stop->state_before;
    return runtime_commit(stop->rundir, runtime, error);
}

static struct operation operation_of(const struct stop *stop)
{
    const struct session *session = &stop->session;

    return (struct operation){.kind = stop->options->reboot ? OPERATION_REBOOT : OPERATION_STOP,
                              .rundir = stop->rundir,
                              .node = stop->node,
                              .name = stop->name,
                              .action = stop->options->reset ? "reset" : NULL,
                              .instance = session->has_runtime ? &session->runtime.instance : NULL,
                              .deadline = stop->deadline};
}

/* Half a guest can be given up, by those who say so: with the other node gone for ever nothing else is left. */
static int check_settled(struct stop *stop, struct error *error)
{
    struct session *session = &stop->session;
    bool give_up = stop->options->force && !stop->options->reboot && !stop->options->reset &&
                   migrate_is_half(session);

    if (!give_up)
        return session_check_settled(session, error);
    migration_clear(&session->runtime); /* for this command alone */
    messages_add(&stop->result->warnings,
                 "given up in the middle of a post-copy: the other side's QEMU can't run the guest "
                 "any more, end it there in the same way");
    return 0;
}

static int stop_live(struct stop *stop, struct error *error)
{
    struct session *session = &stop->session;
    const struct operation operation = operation_of(stop);
    const struct runtime *runtime = session->has_runtime ? &session->runtime : NULL;
    struct powerdown_options options = {.deadline = stop->deadline,
                                        .force = stop->options->force,
                                        .kill_after_ms = stop->options->kill_after_ms,
                                        .progress = stop->options->observe};

    if (session_check_recorded(session, error) < 0 || check_settled(stop, error) < 0 ||
        operation_hooks_pre(&operation, error) < 0)
        return -1;
    if (!stop->options->reset && session_is_unstarted(session, stop->deadline))
        return mark_rebooting(stop, true, error) < 0
                   ? -1
                   : finish(stop, stop->options->reboot, "an interrupted start was undone", error);
    if (stop->options->reset)
        return reset(stop, error);
    if (mark_rebooting(stop, true, error) < 0)
        return -1;
    if (powerdown_run(stop->rundir, stop->name, runtime, &session->process, &options, error) < 0) {
        mark_rebooting(stop, false, &(struct error){0});
        return -1;
    }
    monitor_forget(&session->process);
    return finish(stop, stop->options->reboot, "stopped", error);
}

static int dry_dead(struct stop *stop, struct error *error)
{
    const struct session *session = &stop->session;

    if (check_dead(stop, error) < 0)
        return -1;
    stop->result->detail =
        memory_json(json_pack("{s:o}", "findings",
                              teardown_explain(stop->rundir, stop->node, stop->name,
                                               session->has_runtime ? &session->runtime : NULL)));
    set_text(stop, memory_copy(!session->has_files     ? "already stopped: nothing of it is here"
                               : stop->options->reboot ? "does not run; would be started again"
                                                       : "does not run; would be cleaned up"));
    return 0;
}

static int stop_dry(struct stop *stop, struct error *error)
{
    const struct session *session = &stop->session;

    if (!session_is_live(session))
        return dry_dead(stop, error);
    if (session_check_recorded(session, error) < 0 || check_settled(stop, error) < 0 ||
        check_reboot(stop, error) < 0)
        return -1;
    set_text(stop, memory_format("would be %s (pid %d)",
                                 stop->options->reset    ? "reset"
                                 : stop->options->reboot ? "stopped and started again"
                                 : stop->options->force  ? "killed"
                                                         : "asked to power off",
                                 (int)session->process.pid));
    json_t *hooks = memory_json(json_array());
    operation_hooks_describe(stop->node, OPERATION_STOP, hooks);
    stop->result->detail = memory_json(json_pack("{s:o}", "hooks", hooks));
    return 0;
}

static void tell_hooks(struct stop *stop)
{
    struct operation operation = operation_of(stop);

    operation.deadline = clock_deadline(CLEAR_MS);
    session_unlock(&stop->session);
    operation_hooks_post(&operation, &stop->result->warnings);
}

void stop_instance(const struct rundir *rundir, const struct node *node, const char *name,
                   const struct stop_options *options, struct result *result)
{
    struct stop stop = {.rundir = rundir,
                        .node = node,
                        .name = name,
                        .options = options,
                        .deadline = clock_deadline(options->timeout_ms),
                        .began = clock_wall(),
                        .result = result};
    struct error error = {0};

    result->subject = memory_copy(name);
    int failed = options->dry_run
                     ? session_open(&stop.session, rundir, node, name, false, 0, &error)
                     : session_open_known(&stop.session, rundir, node, name,
                                          clock_deadline(options->wait_lock_ms), &error);
    stop.session.observe = options->observe;
    stop.deadline =
        clock_deadline(options->timeout_ms); /* the wait for the lock is not part of it */
    bool acted = failed == 0 && !options->dry_run && session_is_live(&stop.session);
    if (failed == 0) {
        if (options->dry_run)
            failed = stop_dry(&stop, &error);
        else if (session_is_live(&stop.session))
            failed = stop_live(&stop, &error);
        else
            failed = stop_dead(&stop, &error);
        if (failed == 0 && acted)
            tell_hooks(&stop);
        session_close(&stop.session);
    }
    if (failed < 0) {
        result->status = error.status;
        set_text(&stop, memory_copy(error.text));
    }
}
