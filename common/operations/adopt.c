/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>

#include "adopt_private.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "kvm/base/text.h"
#include "kvm/host/network.h"
#include "kvm/host/tap.h"
#include "kvm/operations/quarantine.h"

/* ---- which one ---- */

/* A pid is looked up by the name on its command line; that it is the one is settled by the lock on the pid file. */
static int find_name(struct adopt *adopt, int64_t *pid, struct error *error)
{
    *pid = 0;
    if (!text_number(adopt->who, 1, INT32_MAX, pid)) {
        adopt->name = memory_copy(adopt->who);
        return 0;
    }
    AUTO_JSON json_t *words = adopt_read_words((int)*pid, error);
    const char *value = words != NULL ? adopt_word(words, "-name") : NULL;
    if (words == NULL)
        return error_prefix(error, "pid %s", adopt->who);
    if (value == NULL)
        return error_set(error, STATUS_STATE, "pid %s is no QEMU with a -name on its command line",
                         adopt->who);
    if (strncmp(value, "guest=", 6) == 0)
        value += 6;
    adopt->name = memory_format("%.*s", (int)strcspn(value, ","), value);
    return 0;
}

static int find(struct adopt *adopt, struct error *error)
{
    struct session *session = &adopt->session;
    int64_t pid;

    if (find_name(adopt, &pid, error) < 0 || instance_check_name(adopt->name, error) < 0)
        return -1;
    free(adopt->result->subject);
    adopt->result->subject = memory_copy(adopt->name);
    int failed =
        adopt->options->dry_run
            ? session_open(session, adopt->rundir, adopt->node, adopt->name, false, 0, error)
            : session_open_known(session, adopt->rundir, adopt->node, adopt->name,
                                 clock_deadline(adopt->options->wait_lock_ms), error);
    if (failed < 0)
        return -1;
    /* the wait for the lock is not part of it */
    adopt->deadline = clock_deadline(adopt->options->timeout_ms);
    if (!session_is_live(session))
        return error_set(error, STATUS_STATE,
                         "no QEMU holds the lock on %s/pid/%s: only one that does can be told from "
                         "another process with certainty; --run-dir names another directory",
                         adopt->rundir->path, adopt->name);
    if (session_check_settled(session, error) < 0)
        return -1;
    if (pid != 0 && pid != session->process.pid)
        return error_set(error, STATUS_STATE, "pid %s is not the QEMU of this name, that is pid %d",
                         adopt->who, (int)session->process.pid);
    return 0;
}

/* ---- what it is ---- */

static int connect_monitor(struct adopt *adopt, struct error *error)
{
    AUTO_JSON json_t *reply = NULL;

    adopt->qmp = monitor_open(adopt->rundir, adopt->name, RUNDIR_QMP, &adopt->session.process,
                              adopt->deadline, error);
    if (adopt->qmp == NULL || monitor_status(adopt->qmp, adopt->deadline, adopt->status, error) < 0)
        return error_prefix(error, "it runs (pid %d)", (int)adopt->session.process.pid);
    if (qmp_call(adopt->qmp, "query-name", NULL, adopt->deadline, &reply, error) != QMP_DONE)
        return -1;
    const char *name = json_text(reply, "name");
    if (name == NULL || strcmp(name, adopt->name) != 0)
        return error_set(error, STATUS_STATE, "pid %d calls itself \"%s\", not \"%s\"",
                         (int)adopt->session.process.pid, name != NULL ? name : "", adopt->name);
    if (strcmp(adopt->status, "running") == 0 || strcmp(adopt->status, "paused") == 0 ||
        strcmp(adopt->status, "prelaunch") == 0)
        return 0;
    return error_set(error, STATUS_STATE,
                     "the guest is \"%s\": whether another node has it is not known",
                     adopt->status);
}

static int look(struct adopt *adopt, struct error *error)
{
    adopt->words = adopt_read_words((int)adopt->session.process.pid, error);
    if (adopt->words == NULL)
        return -1;
    adopt->look = (struct adopt_look){.qmp = adopt->qmp,
                                      .rundir = adopt->rundir,
                                      .name = adopt->name,
                                      .pid = (int)adopt->session.process.pid,
                                      .words = adopt->words,
                                      .deadline = adopt->deadline,
                                      .problems = &adopt->problems,
                                      .notes = &adopt->result->warnings};
    return adopt->foreign ? adopt_foreign(adopt, error) : adopt_look(&adopt->look, error);
}

/* Would the next start make the same machine? */
static int compare(struct adopt *adopt, struct error *error)
{
    if (adopt->instance.name == NULL)
        return 0;
    if (launch_plan(adopt->rundir, adopt->node, &adopt->instance, adopt_source(adopt), true,
                    &adopt->launch, &adopt->result->warnings, error) < 0) {
        messages_add(&adopt->problems, "%s", error->text);
        return 0;
    }
    AUTO_JSON json_t *plan = launch_describe(adopt->launch);
    adopt_compare_words(adopt->words, json_member(plan, "command"), &adopt->problems);
    return 0;
}

/* ---- the new runtime ---- */

static int write_taps(struct adopt *adopt, struct error *error)
{
    const struct instance *instance = &adopt->session.runtime.instance;
    char tap[TAP_NAME_SIZE];

    for (size_t i = 0; i < instance->nic_count; i++) {
        const char *uuid = instance->nics[i].uuid;
        const char *known = json_text(adopt->look.taps, uuid);
        if (known != NULL && !network_read_tap(adopt->rundir, adopt->name, uuid, tap) &&
            network_write_tap(adopt->rundir, adopt->name,
                              network_free_index(adopt->rundir, adopt->name), uuid, known,
                              error) < 0)
            return -1;
    }
    return 0;
}

/* What is damaged in its place may still tell a person something. */
static int keep_damaged(struct adopt *adopt, struct error *error)
{
    char path[RUNDIR_PATH_MAX];

    if (adopt->session.has_runtime || adopt->session.runtime_fault.text[0] == '\0')
        return 0;
    rundir_name(RUNDIR_RUNTIME, adopt->name, path);
    AUTO_FREE char *moved = quarantine_move(adopt->rundir, adopt->name, path, "runtime", error);
    if (moved == NULL)
        return -1;
    messages_add(&adopt->result->warnings, "the old runtime file can't be read: %s; moved to %s",
                 adopt->session.runtime_fault.text, moved);
    return 0;
}

static int record(struct adopt *adopt, struct error *error)
{
    struct runtime *runtime = &adopt->session.runtime;
    const char *binary = json_string_value(json_array_get(adopt->words, 0));

    runtime->state = strcmp(adopt->status, "running") == 0 ? RUNTIME_RUNNING : RUNTIME_PAUSED;
    json_object_set_new(runtime->ours, "qemu",
                        memory_json(json_pack("{s:s, s:O?}", "binary", binary, "version",
                                              qmp_version(adopt->qmp))));
    return runtime_commit(adopt->rundir, runtime, error);
}

static int commit(struct adopt *adopt, struct error *error)
{
    struct session *session = &adopt->session;
    struct runtime *runtime = &session->runtime;

    if (keep_damaged(adopt, error) < 0)
        return -1;
    if (session->has_runtime)
        runtime_release(runtime);
    json_t *kvm_cmd = launch_record(adopt->launch);
    json_t *tpm = launch_tpm_record(adopt->launch);
    runtime_begin(runtime, &adopt->instance);
    json_decref(runtime->kvm_cmd);
    runtime->kvm_cmd = kvm_cmd;
    session->has_runtime = true;
    snprintf(runtime->boot_id, sizeof(runtime->boot_id), "%s", process_boot_id());
    runtime->pid = session->process.pid;
    runtime->start_time = session->process.start_time;
    json_object_set_new(runtime->ours, "firmware", launch_firmware_record(adopt->launch));
    json_object_set_new(runtime->ours, "tpm", tpm);
    return write_taps(adopt, error) < 0 ? -1 : record(adopt, error);
}

static void tell(struct adopt *adopt)
{
    const struct instance *instance = adopt->options->dry_run && !adopt->foreign
                                          ? &adopt->instance
                                          : &adopt->session.runtime.instance;

    adopt->result->text =
        memory_format("%s%s (pid %d, %s): %zu disk%s, %zu NIC%s",
                      adopt->options->dry_run ? "can be adopted" : "adopted",
                      adopt->foreign ? " with the runtime file of another tool" : "",
                      (int)adopt->session.process.pid, adopt->status, instance->disk_count,
                      instance->disk_count == 1 ? "" : "s", instance->nic_count,
                      instance->nic_count == 1 ? "" : "s");
    adopt->result->detail =
        memory_json(json_pack("{s:i, s:s, s:o}", "pid", (int)adopt->session.process.pid, "uuid",
                              instance->uuid, "definition", instance_json(instance)));
}

/* This suite starts none without. */
static bool is_of_ours(const json_t *words)
{
    for (size_t i = 1; i < json_array_size(words); i++)
        if (strcmp(adopt_word_at(words, i), "-nodefaults") == 0)
            return true;
    return false;
}

static int refuse(const struct adopt *adopt, struct error *error)
{
    messages_error(&adopt->problems, STATUS_STATE, error);
    error_prefix(error, "can't be adopted as it is, nothing was changed");
    if (!adopt->foreign && !is_of_ours(adopt->words))
        return error_append(error,
                            "\nanother tool has started this QEMU: it can be adopted only with the "
                            "runtime file that this tool has written, in %s/conf/%s.runtime, and "
                            "without a definition",
                            adopt->rundir->path, adopt->name);
    if (adopt->options->definition != NULL)
        return -1;
    return error_append(error,
                        "\nwhat only a person knows comes from a definition: "
                        "'kvm-start --adopt %s FILE'",
                        adopt->name);
}

static int run(struct adopt *adopt, struct error *error)
{
    if (find(adopt, error) < 0)
        return -1;
    if (adopt->session.has_runtime && adopt->session.runtime.state != RUNTIME_FOREIGN &&
        monitor_is_recorded(&adopt->session.process, &adopt->session.runtime)) {
        adopt->result->text =
            memory_format("its runtime file is in order (pid %d)", (int)adopt->session.process.pid);
        return 0;
    }
    adopt->foreign = adopt->session.has_runtime &&
                     adopt->session.runtime.state == RUNTIME_FOREIGN &&
                     adopt->options->definition == NULL;
    if (connect_monitor(adopt, error) < 0 || look(adopt, error) < 0)
        return -1;
    if (!adopt->foreign && (adopt_make_instance(adopt, error) < 0 || compare(adopt, error) < 0))
        return -1;
    if (adopt->problems.count > 0)
        return refuse(adopt, error);
    if (!adopt->options->dry_run &&
        (adopt->foreign ? record(adopt, error) : commit(adopt, error)) < 0)
        return -1;
    tell(adopt);
    return 0;
}

void adopt_run(const struct rundir *rundir, const struct node *node, const char *who,
               const struct adopt_options *options, struct result *result)
{
    struct adopt adopt = {.rundir = rundir,
                          .node = node,
                          .who = who,
                          .options = options,
                          .session = {.lock = -1, .process = {.pidfd = -1}},
                          .result = result};
    struct error error = {0};

    result->subject = memory_copy(who);
    if (run(&adopt, &error) < 0) {
        result->status = error.status;
        result->text = memory_copy(error.text);
    }
    launch_release(&adopt.launch);
    qmp_release(&adopt.qmp);
    session_close(&adopt.session);
    instance_release(&adopt.instance);
    adopt_look_release(&adopt.look);
    json_decref(adopt.words);
    messages_release(&adopt.problems);
    free(adopt.name);
}
