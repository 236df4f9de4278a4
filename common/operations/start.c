/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>

#include "kvm/operations/start.h"
#include "kvm/operations/resume.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/operations/launch.h"
#include "kvm/operations/operation_hooks.h"
#include "kvm/operations/session.h"
#include "kvm/operations/teardown.h"
#include "kvm/state/hvparams.h"

struct start {
    const struct node *node;
    const struct start_options *options;
    const char *source;
    struct rundir rundir;
    struct instance instance;
    bool uuid_given;
    bool has_rests; /* of an earlier run; for a dry run */
    deadline_t deadline;
    struct result *result;
};

static int parse_definition(struct start *start, const struct definition *definition,
                            struct error *error)
{
    AUTO_MESSAGES struct messages problems = {0};

    if (definition->document == NULL) {
        *error = *definition->fault;
        return -1;
    }
    if (instance_parse(definition->document, start->source, start->node->defaults,
                       start->node->source, &start->instance, &problems) < 0) {
        definition_check_node(definition->document, start->node, start->source, &problems);
        return messages_error(&problems, STATUS_USAGE, error);
    }
    start->uuid_given = json_text(definition->document, "uuid") != NULL;
    free(start->result->subject);
    start->result->subject = memory_copy(start->instance.name);
    return 0;
}

static void set_text(struct start *start, char *text)
{
    free(start->result->text);
    start->result->text = text;
}

static void set_detail(struct start *start, const char *key, json_t *value)
{
    if (start->result->detail == NULL)
        start->result->detail = memory_json(json_object());
    json_object_set_new(start->result->detail, key, value);
}

static void tell_process(struct start *start, const struct runtime *runtime)
{
    set_detail(start, "uuid", json_string(runtime->instance.uuid));
    set_detail(start, "pid", json_integer(runtime->pid));
}

/* It lives. Finish a start that was interrupted between its last two steps; continue what was started with
 * --paused when asked to run. */
static int start_live(struct start *start, struct session *session, struct error *error)
{
    const struct runtime *runtime = &session->runtime;
    char status[32];

    if (!session->has_runtime)
        return error_set(
            error, STATUS_STATE,
            "it runs (pid %d) but its runtime file %s%s; 'kvm-start --adopt %s' makes a new one, "
            "'kvm-stop --force %s' ends it",
            (int)session->process.pid,
            session->runtime_fault.text[0] != '\0' ? "can't be read: " : "is missing",
            session->runtime_fault.text, session->name, session->name);
    if (start->uuid_given && strcmp(runtime->instance.uuid, start->instance.uuid) != 0)
        return error_set(error, STATUS_STATE,
                         "an instance of this name runs with another uuid (%s, the definition says "
                         "%s); 'kvm-info %s' shows it",
                         runtime->instance.uuid, start->instance.uuid, session->name);
    if (session_check_recorded(session, error) < 0 || session_check_settled(session, error) < 0)
        return -1;
    AUTO_QMP struct qmp *qmp = monitor_open(&start->rundir, session->name, RUNDIR_QMP,
                                            &session->process, start->deadline, error);
    if (qmp == NULL || monitor_status(qmp, start->deadline, status, error) < 0) {
        error_prefix(error, "it runs (pid %d)", (int)session->process.pid);
        return error_append(error, "; 'kvm-info %s' shows more, 'kvm-stop --force %s' ends it",
                            session->name, session->name);
    }
    tell_process(start, runtime);
    bool waits = strcmp(status, "prelaunch") == 0;
    if (!waits && session->runtime.state == RUNTIME_REBOOTING && !start->options->dry_run) {
        session->runtime.state =
            RUNTIME_RUNNING; /* a reboot that was killed before it ended the guest */
        if (runtime_commit(&start->rundir, &session->runtime, error) < 0)
            return -1;
    }
    if (!waits || start->options->paused || start->options->dry_run) {
        AUTO_FREE char *hint =
            waits || resume_reason(status) == NULL
                ? memory_copy("")
                : memory_format("; 'kvm-start --resume %s' lets it go on", session->name);
        set_text(start,
                 memory_format("already running (pid %d, %s)%s", (int)session->process.pid,
                               waits ? "paused before its first instruction" : status, hint));
        return 0;
    }
    if (qmp_call(qmp, "cont", NULL, start->deadline, NULL, error) != QMP_DONE)
        return -1;
    session->runtime.state = RUNTIME_RUNNING;
    if (runtime_commit(&start->rundir, &session->runtime, error) < 0)
        return -1;
    set_text(start, memory_format("started (pid %d): it was ready and waiting",
                                  (int)session->process.pid));
    return 0;
}

static struct operation operation_of(const struct start *start)
{
    return (struct operation){.kind = OPERATION_START,
                              .rundir = &start->rundir,
                              .node = start->node,
                              .name = start->instance.name,
                              .instance = &start->instance,
                              .deadline = start->deadline};
}

static int start_dry(struct start *start, struct error *error)
{
    AUTO_LAUNCH struct launch *launch = NULL;

    if (launch_plan(&start->rundir, start->node, &start->instance, start->source, false, &launch,
                    &start->result->warnings, error) < 0)
        return -1;
    json_decref(start->result->detail);
    start->result->detail = launch_describe(launch);
    operation_hooks_describe(start->node, OPERATION_START,
                             json_member(start->result->detail, "hooks"));
    set_detail(start, "definition", instance_json(&start->instance));
    set_text(start, memory_format("would be started%s",
                                  start->has_rests
                                      ? "; what an earlier run left would be cleaned up before"
                                      : ""));
    return 0;
}

/* The other side may run the guest, or be about to. */
static int check_dead(const struct session *session, struct error *error)
{
    if (session_check_settled(session, error) < 0)
        return error_append(error, "; 'kvm-cleanup %s' gives up what of it is here", session->name);
    return session_check_kept(session, error);
}

static int start_dead(struct start *start, struct session *session, struct launch *launch,
                      struct error *error)
{
    AUTO_RUNTIME struct runtime runtime = {0};
    struct launch_options options = {.paused = start->options->paused,
                                     .deadline = start->deadline,
                                     .observe = start->options->observe};
    struct ending ending = {0};
    const struct operation operation = operation_of(start);
    double began = clock_wall();

    if (check_dead(session, error) < 0 || operation_hooks_pre(&operation, error) < 0)
        return -1;
    if (session->has_files && session_clear(session, false, start->deadline, &ending,
                                            &start->result->warnings, error) < 0)
        return -1;
    if (session->has_files && ending.text[0] != '\0')
        set_detail(start, "cleaned_up", json_string(ending.text));
    runtime_begin(&runtime, &start->instance);
    if (launch_run(launch, &runtime, &options, &start->result->warnings, error) < 0)
        return -1;
    tell_process(start, &runtime);
    set_detail(start, "seconds", json_real(clock_wall() - began));
    set_text(start,
             memory_format("started%s (pid %d)%s%s", options.paused ? ", paused" : "",
                           (int)runtime.pid, ending.text[0] != '\0' ? "; cleaned up before: " : "",
                           ending.text));
    session_unlock(session);
    operation_hooks_post(&operation, &start->result->warnings);
    return 0;
}

static int make_plan(struct start *start, struct launch **launch, struct error *error)
{
    return launch_plan(&start->rundir, start->node, &start->instance, start->source,
                       start->rundir.fd >= 0, launch, &start->result->warnings, error);
}

/* A look without the lock, so that what runs already needs no plan and bad input leaves no trace. */
static int look(struct start *start, bool *live, struct error *error)
{
    AUTO_SESSION struct session session = {.lock = -1, .process = {.pidfd = -1}};

    *live = false;
    if (rundir_open(&start->rundir, start->options->run_dir, false, error) < 0) {
        if (error->status != STATUS_STATE)
            return -1;
        start->rundir = (struct rundir){.fd = -1, .path = memory_copy(start->options->run_dir)};
    }
    if (rundir_check_name(&start->rundir, start->instance.name, error) < 0)
        return error_prefix(error, "%s: name", start->source);
    if (start->rundir.fd < 0)
        return 0;
    if (session_open(&session, &start->rundir, start->node, start->instance.name, false, 0, error) <
        0)
        return -1;
    *live = session_is_live(&session);
    if (!start->options->dry_run)
        return 0;
    *live = *live && !session_is_unstarted(&session, start->deadline);
    start->has_rests = !*live && session.has_files;
    return *live ? start_live(start, &session, error) : check_dead(&session, error);
}

static int start_instance(struct start *start, struct error *error)
{
    AUTO_LAUNCH struct launch *launch = NULL;
    AUTO_SESSION struct session session = {.lock = -1, .process = {.pidfd = -1}};
    AUTO_FREE char *name = memory_copy(start->instance.name);
    bool live;

    if (look(start, &live, error) < 0)
        return -1;
    if (start->options->dry_run)
        return live ? 0 : start_dry(start, error);
    if (!live && make_plan(start, &launch, error) < 0)
        return -1;
    bool fresh = start->rundir.fd < 0;
    /* Also when it is there: a start that was killed may have made only some of its directories. */
    rundir_close(&start->rundir);
    if (rundir_open(&start->rundir, start->options->run_dir, true, error) < 0)
        return -1;
    if (launch != NULL && fresh)
        launch_keep_probe(launch);
    if (session_open(&session, &start->rundir, start->node, name, true,
                     clock_deadline(start->options->wait_lock_ms), error) < 0)
        return -1;
    /* the wait for the lock is not part of it */
    start->deadline = clock_deadline(start->options->timeout_ms);
    if (session_is_live(&session) && !session_is_unstarted(&session, start->deadline))
        return start_live(start, &session, error);
    if (launch == NULL && make_plan(start, &launch, error) < 0)
        return -1;
    return start_dead(start, &session, launch, error);
}

void start_definition(const struct definition *definition, const struct node *node,
                      const struct start_options *options, struct result *result)
{
    struct start start = {.node = node,
                          .options = options,
                          .result = result,
                          .source = definition->source,
                          .rundir = {.fd = -1},
                          .deadline = clock_deadline(options->timeout_ms)};
    struct error error = {0};

    result->subject = memory_copy(start.source);
    int failed = parse_definition(&start, definition, &error);
    if (failed == 0)
        failed = start_instance(&start, &error);
    if (failed < 0) {
        result->status = error.status;
        set_text(&start, memory_copy(error.text));
    }
    rundir_close(&start.rundir);
    instance_release(&start.instance);
}
