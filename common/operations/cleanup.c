/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>

#include "kvm/operations/cleanup.h"
#include "migrate_disks.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/operations/migration.h"
#include "kvm/operations/lasting.h"
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
    if (session_check_settled(session, error) < 0)
        return error_prefix(error, "it runs (pid %d)", (int)session->process.pid);
    return error_set(error, STATUS_STATE, "it runs (pid %d); 'kvm-stop %s' stops it",
                     (int)session->process.pid, session->name);
}

static void explain(const struct session *session, const struct cleanup_options *options,
                    struct result *result)
{
    const struct runtime *runtime = session->has_runtime ? &session->runtime : NULL;
    json_t *findings = teardown_explain(session->rundir, session->node, session->name, runtime);
    struct ending ending = {0};

    if (runtime != NULL)
        landing_explain(runtime, findings);
    if (options->remove_state || (runtime != NULL && lasting_never_ran(runtime)))
        lasting_explain(session->node, session->name, runtime, options->remove_state, findings);
    events_ending(session->rundir, session->name, runtime, false, &ending);
    if (session->runtime_fault.text[0] != '\0') {
        AUTO_FREE char *fault =
            memory_format("the runtime file can't be read: %s", session->runtime_fault.text);
        json_array_insert_new(
            findings, 0,
            memory_json(json_pack("{s:s, s:s}", "finding", fault, "action",
                                  "move it to chroot-quarantine; NICs can't be unconfigured")));
    }
    if (json_array_size(findings) == 0)
        result->text = memory_copy("nothing is left of it");
    else if (ending.text[0] != '\0')
        result->text = memory_format("does not run: %s", ending.text);
    else
        result->text = memory_copy("does not run");
    json_t *hooks = memory_json(json_array());
    if (session->has_files)
        operation_hooks_describe(session->node, OPERATION_CLEANUP, hooks);
    result->detail =
        memory_json(json_pack("{s:s, s:s, s:o, s:o}", "ending", ending_kind_name(ending.kind),
                              "reason", ending.text, "findings", findings, "hooks", hooks));
}

/* What clean() would begin with when an interrupted start has left a QEMU that has executed nothing. */
static void explain_unstarted(const struct session *session, const struct cleanup_options *options,
                              struct result *result)
{
    AUTO_FREE char *finding =
        memory_format("QEMU (pid %d) of an interrupted start, which has executed nothing",
                      (int)session->process.pid);

    explain(session, options, result);
    json_array_insert_new(
        json_member(result->detail, "findings"), 0,
        memory_json(json_pack("{s:s, s:s}", "finding", finding, "action", "end it")));
    free(result->text);
    result->text = memory_copy("its start was interrupted");
}

/* Without the runtime file a path of the instance's own is not known. */
static void tell_lasting(const struct session *session, const struct lasting *lasting,
                         struct result *result)
{
    AUTO_FREE char *text = result->text;
    const char *gone = lasting->nvram && lasting->tpm
                           ? "its NVRAM and the state of its TPM were removed"
                       : lasting->nvram ? "its NVRAM was removed"
                       : lasting->tpm   ? "the state of its TPM was removed"
                                        : NULL;

    if (gone != NULL || session->has_runtime)
        result->text =
            memory_format("%s; %s", text, gone != NULL ? gone : "it has no NVRAM and no TPM");
    else
        result->text = memory_format("%s; no NVRAM and no state of a TPM of it is in %s", text,
                                     session->node->state_path);
    if (session->runtime_fault.text[0] != '\0')
        messages_add(&result->warnings,
                     "the runtime file can't be read: an NVRAM outside of %s, where nvram_path of "
                     "the definition says, stays",
                     session->node->state_path);
}

static int clear(struct session *session, const struct cleanup_options *options,
                 deadline_t deadline, struct result *result, struct error *error)
{
    struct lasting lasting = {.all = options->remove_state};
    struct ending ending = {0};

    if (session_clear_lasting(session, lasting.all ? &lasting : NULL, deadline, &ending,
                              &result->warnings, error) < 0)
        return -1;
    result->text = memory_format("cleaned up: %s", ending.text);
    result->detail = memory_json(
        json_pack("{s:s, s:s}", "ending", ending_kind_name(ending.kind), "reason", ending.text));
    if (lasting.all)
        tell_lasting(session, &lasting, result);
    return 0;
}

static int clear_lasting_alone(const struct session *session, struct result *result,
                               struct error *error)
{
    struct lasting lasting = {.all = true};

    lasting_remove_temporary(session->node, session->name, NULL);
    if (lasting_remove(session->node, session->name, NULL, &lasting, error) < 0)
        return error_append(error, "; 'kvm-cleanup --remove-state %s' tries again", session->name);
    result->text = memory_copy("nothing is left of it");
    tell_lasting(session, &lasting, result);
    return 0;
}

static int clean(struct session *session, const struct cleanup_options *options,
                 deadline_t deadline, struct result *result, struct error *error)
{
    struct operation operation = {.kind = OPERATION_CLEANUP,
                                  .rundir = session->rundir,
                                  .node = session->node,
                                  .name = session->name,
                                  .instance =
                                      session->has_runtime ? &session->runtime.instance : NULL,
                                  .deadline = deadline};

    if (!session->has_files && options->remove_state)
        return clear_lasting_alone(session, result, error);
    if (!session->has_files) {
        result->text = memory_copy("nothing is left of it");
        return 0;
    }
    if (operation_hooks_pre(&operation, error) < 0 ||
        clear(session, options, deadline, result, error) < 0)
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

    result->subject = memory_copy(name);
    deadline_t lock_deadline = clock_deadline(options->wait_lock_ms);
    bool slip =
        !options->explain && !options->remove_state; /* the state is not in the run directory */
    int failed =
        slip ? session_open_known(&session, rundir, node, name, lock_deadline, &error)
             : session_open(&session, rundir, node, name, !options->explain, lock_deadline, &error);
    session.observe = options->observe;
    /* the wait for the lock is not part of it */
    deadline_t deadline = clock_deadline(options->timeout_ms);
    if (failed == 0 && options->force)
        forget_split(&session);
    if (failed == 0 && !session_is_live(&session))
        failed = session_check_kept(&session, &error);
    if (failed == 0 && options->explain && !session_is_live(&session))
        explain(&session, options, result);
    else if (failed == 0 && session_is_live(&session) && !session_is_unstarted(&session, deadline))
        failed = refuse_live(&session, options, result, &error);
    else if (failed == 0 && options->explain)
        explain_unstarted(&session, options, result);
    else if (failed == 0)
        failed = clean(&session, options, deadline, result, &error);
    if (failed < 0) {
        result->status = error.status;
        result->text = memory_copy(error.text);
    }
}
