/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>

#include "kvm/operations/cleanup.h"
#include "migrate_disks.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/operations/migration.h"
#include "kvm/host/swtpm.h"
#include "kvm/operations/nvram.h"
#include "kvm/operations/operation_hooks.h"
#include "kvm/operations/session.h"
#include "kvm/operations/teardown.h"

static int refuse_live(const struct session *session, const struct cleanup_options *options,
                       struct result *result, struct error *error)
{
    if (options->skip_live) {
        result->text = memory_format("runs (pid %d): left alone", (int)session->process.pid);
        return 0;
    }
    return error_set(error, STATUS_STATE, "it runs (pid %d); 'kvm-stop %s' stops it",
                     (int)session->process.pid, session->name);
}

static void explain(const struct session *session, struct result *result)
{
    const struct runtime *runtime = session->has_runtime ? &session->runtime : NULL;
    json_t *findings = teardown_explain(session->rundir, session->node, session->name, runtime);
    struct ending ending = {0};

    if (runtime != NULL)
        landing_explain(runtime, findings);
    events_ending(session->rundir, session->name, runtime, false, &ending);
    if (session->runtime_fault.text[0] != '\0') {
        AUTO_FREE char *fault =
            memory_format("the runtime file can't be read: %s", session->runtime_fault.text);
        json_array_insert_new(findings, 0,
                              memory_json(json_pack("{s:s, s:s}", "finding", fault, "action",
                                                    "remove it; NICs can't be unconfigured")));
    }
    if (json_array_size(findings) == 0)
        result->text = memory_copy("nothing is left of it");
    else if (ending.text[0] != '\0')
        result->text = memory_format("does not run: %s", ending.text);
    else
        result->text = memory_copy("does not run");
    result->detail =
        memory_json(json_pack("{s:s, s:s, s:o}", "ending", ending_kind_name(ending.kind), "reason",
                              ending.text, "findings", findings));
}

/* What clean() would begin with when an interrupted start has left a QEMU that has executed nothing. */
static void explain_unstarted(const struct session *session, struct result *result)
{
    AUTO_FREE char *finding =
        memory_format("QEMU (pid %d) of an interrupted start, which has executed nothing",
                      (int)session->process.pid);

    explain(session, result);
    json_array_insert_new(
        json_member(result->detail, "findings"), 0,
        memory_json(json_pack("{s:s, s:s}", "finding", finding, "action", "end it")));
    free(result->text);
    result->text = memory_copy("its start was interrupted");
}

/* Only when asked for: a stopped instance finds it again at its next start. */
static int remove_state(const struct session *session, const json_t *record, struct result *result,
                        struct error *error)
{
    bool nvram = false, tpm = false;

    if (nvram_remove(session->node, session->name, record, &nvram, error) < 0 ||
        swtpm_state_remove(session->node, session->name, &tpm, error) < 0)
        return -1;
    AUTO_FREE char *text = result->text;
    result->text = memory_format("%s; %s", text,
                                 nvram && tpm ? "its NVRAM and the state of its TPM were removed"
                                 : nvram      ? "its NVRAM was removed"
                                 : tpm        ? "the state of its TPM was removed"
                                              : "it has no NVRAM and no TPM");
    return 0;
}

static int clean(struct session *session, const struct cleanup_options *options,
                 deadline_t deadline, struct result *result, struct error *error)
{
    struct ending ending = {0};
    struct operation operation = {.kind = OPERATION_CLEANUP,
                                  .rundir = session->rundir,
                                  .node = session->node,
                                  .name = session->name,
                                  .instance =
                                      session->has_runtime ? &session->runtime.instance : NULL,
                                  .deadline = deadline};

    if (!session->has_files) {
        result->text = memory_copy("nothing is left of it");
        return options->remove_state ? remove_state(session, NULL, result, error) : 0;
    }
    if (operation_hooks_pre(&operation, error) < 0 ||
        session_clear(session, false, deadline, &ending, &result->warnings, error) < 0)
        return -1;
    result->text = memory_format("cleaned up: %s", ending.text);
    result->detail = memory_json(
        json_pack("{s:s, s:s}", "ending", ending_kind_name(ending.kind), "reason", ending.text));
    const json_t *record =
        session->has_runtime ? json_member(session->runtime.ours, "firmware") : NULL;
    if (options->remove_state && remove_state(session, record, result, error) < 0)
        return -1;
    session_unlock(session);
    operation_hooks_post(&operation, &result->warnings);
    return 0;
}

/* For this command alone: should it be killed, the file still says so. */
static void forget_split(struct session *session)
{
    if (session->has_runtime && !session_is_live(session) &&
        migration_phase_of(&session->runtime) == PHASE_SPLIT)
        migration_clear(&session->runtime);
}

void cleanup_instance(const struct rundir *rundir, const struct node *node, const char *name,
                      const struct cleanup_options *options, struct result *result)
{
    AUTO_SESSION struct session session = {.lock = -1, .process = {.pidfd = -1}};
    struct error error = {0};
    deadline_t deadline = clock_deadline(options->timeout_ms);

    result->subject = memory_copy(name);
    int failed = session_open(&session, rundir, node, name, !options->explain,
                              clock_deadline(options->wait_lock_ms), &error);
    if (failed == 0 && options->force)
        forget_split(&session);
    if (failed == 0 && !session_is_live(&session))
        failed = session_check_kept(&session, &error);
    if (failed == 0 && options->explain && !session_is_live(&session))
        explain(&session, result);
    else if (failed == 0 && session_is_live(&session) && !session_is_unstarted(&session, deadline))
        failed = refuse_live(&session, options, result, &error);
    else if (failed == 0 && options->explain)
        explain_unstarted(&session, result);
    else if (failed == 0)
        failed = clean(&session, options, deadline, result, &error);
    if (failed < 0) {
        result->status = error.status;
        result->text = memory_copy(error.text);
    }
}
