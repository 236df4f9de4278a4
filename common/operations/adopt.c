/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>

#include "kvm/operations/adopt.h"
#include "adopt_private.h"
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "kvm/base/text.h"
#include "kvm/host/network.h"
#include "kvm/host/tap.h"
#include "kvm/operations/launch.h"
#include "kvm/operations/session.h"
#include "kvm/state/hvparams.h"
#include "kvm/state/placement.h"

struct adopt {
    const struct rundir *rundir;
    const struct node *node;
    const struct adopt_options *options;
    const char *who;
    char *name;
    struct session session;
    struct qmp *qmp;
    json_t *words;
    struct adopt_look look;
    struct instance instance;
    struct launch *launch;
    struct messages problems;
    char status[32];
    deadline_t deadline;
    struct result *result;
};

static const char *source_of(const struct adopt *adopt)
{
    const char *file = adopt->options->definition;
    return file == NULL ? "the running QEMU" : strcmp(file, "-") == 0 ? "stdin" : file;
}

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
    if (session_open(session, adopt->rundir, adopt->node, adopt->name, !adopt->options->dry_run,
                     clock_deadline(adopt->options->wait_lock_ms), error) < 0)
        return -1;
    if (!session_is_live(session))
        return error_set(error, STATUS_STATE,
                         "no QEMU holds the lock on %s/pid/%s: only one that does can be told from "
                         "another process with certainty; --run-dir names another directory",
                         adopt->rundir->path, adopt->name);
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
    return adopt_look(&adopt->look, error);
}

/* ---- one definition out of what runs and what was given ---- */

static const json_t *entry_for(const json_t *list, const json_t *live, const char *key)
{
    const char *uuid = json_text(live, "uuid"), *value = json_text(live, key);
    size_t i;
    json_t *entry;

    json_array_foreach (list, i, entry) {
        const char *its_uuid = json_text(entry, "uuid"), *its_value = json_text(entry, key);
        if ((its_uuid != NULL && uuid != NULL && strncmp(its_uuid, uuid, 18) == 0) ||
            (its_value != NULL && value != NULL && strcmp(its_value, value) == 0))
            return entry;
    }
    return NULL;
}

/* What runs, each with what the definition adds to it; what the definition has and QEMU has not is a problem. */
static json_t *merge(struct adopt *adopt, const json_t *given, json_t *live, const char *kind,
                     const char *key)
{
    json_t *list = memory_json(json_array());
    size_t i;
    json_t *one;

    json_array_foreach (live, i, one) {
        const json_t *entry = entry_for(given, one, key);
        json_t *whole = memory_json(entry != NULL ? json_deep_copy(entry) : json_object());
        json_t *params = json_member(whole, "params");
        if (params != NULL)
            json_object_update_missing(params, json_member(one, "params"));
        json_object_update_missing(whole, one);
        json_object_set(whole, "hvinfo", json_object_get(one, "hvinfo"));
        if (given != NULL && entry == NULL)
            messages_add(&adopt->result->warnings,
                         "%s %s is not in the definition: taken from QEMU as it is", kind,
                         json_text(one, key));
        json_array_append_new(list, whole);
    }
    json_array_foreach ((json_t *)(uintptr_t)given, i, one)
        if (entry_for(live, one, key) == NULL)
            messages_add(&adopt->problems,
                         "%s: %ss[%zu]: QEMU does not have it (%s %s); take it out of the "
                         "definition",
                         source_of(adopt), kind, i, key,
                         json_text(one, key) != NULL ? json_text(one, key) : "not told");
    return list;
}

static void check_same(struct adopt *adopt, const json_t *given, const json_t *running,
                       const char *part, const char *key)
{
    const json_t *one = part != NULL ? json_member(given, part) : given;
    const json_t *other = part != NULL ? json_member(running, part) : running;
    AUTO_JSON json_t *mine = json_incref(json_member(one, key));
    AUTO_JSON json_t *theirs = json_incref(json_member(other, key));

    if (mine != NULL && theirs != NULL && !json_equal(mine, theirs)) {
        AUTO_FREE char *is = json_compact(theirs);
        AUTO_FREE char *told = json_compact(mine);
        messages_add(&adopt->problems, "%s: %s%s%s: it runs with %s (current value: %s)",
                     source_of(adopt), part != NULL ? part : "", part != NULL ? "." : "", key, is,
                     told);
    }
}

/* The user is in the process, not on the command line. */
static void add_user(struct adopt *adopt, json_t *hvparams)
{
    char process[32] = "", user[64] = "", path[RUNDIR_PATH_MAX];

    rundir_name(RUNDIR_UID, adopt->name, path);
    process_describe(adopt->session.process.pid, process, sizeof(process), user, sizeof(user));
    bool root = strcmp(user, "root") == 0;
    bool pool = file_exists(adopt->rundir->fd, path);
    json_object_set_new(hvparams, "security_model",
                        json_string(pool   ? "pool"
                                    : root ? "none"
                                           : "user"));
    if (!pool && !root)
        json_object_set_new(hvparams, "security_domain", memory_json(json_string(user)));
}

/* A definition as it was started: its own uuids are needed to find its devices. */
static json_t *read_definition(struct adopt *adopt, struct error *error)
{
    AUTO_MESSAGES struct messages problems = {0};
    AUTO_INSTANCE struct instance instance = {0};
    AUTO_JSON json_t *given = json_read(adopt->options->definition, error);

    if (given == NULL)
        return NULL;
    if (instance_parse(given, source_of(adopt), adopt->node->defaults, adopt->node->source,
                       &instance, &problems) < 0) {
        messages_error(&problems, STATUS_USAGE, error);
        return NULL;
    }
    json_t *whole = instance_json(&instance);
    /* A uuid that nobody gave is QEMU's, when it has one. */
    if (json_text(given, "uuid") == NULL && adopt_word(adopt->words, "-uuid") != NULL)
        json_object_set_new(whole, "uuid",
                            memory_json(json_string(adopt_word(adopt->words, "-uuid"))));
    return whole;
}

/* A tap that is no port of a bridge: it may be routed, or a VLAN's, and ifdown and the next start need to know. */
static void check_connected(struct adopt *adopt, const json_t *nics)
{
    size_t i;
    json_t *nic;

    json_array_foreach (nics, i, nic) {
        const char *tap = json_text(adopt->look.taps, json_text(nic, "uuid"));
        if (json_member(nic, "nicparams") == NULL)
            messages_add(&adopt->problems,
                         "NIC %s: tap %s is no port of a plain bridge; its mode and link are not "
                         "known",
                         json_text(nic, "mac"), tap != NULL && tap[0] != '\0' ? tap : "?");
    }
}

static int make_instance(struct adopt *adopt, struct error *error)
{
    AUTO_MESSAGES struct messages ignored = {0};
    bool with_file = adopt->options->definition != NULL;
    AUTO_JSON json_t *running =
        adopt_definition(adopt->words, with_file ? &ignored : &adopt->problems);
    AUTO_JSON json_t *whole = with_file ? read_definition(adopt, error) : json_incref(running);
    if (whole == NULL)
        return -1;
    json_t *hvparams = json_object_get(whole, "hvparams");
    if (with_file) {
        check_same(adopt, whole, running, NULL, "name");
        check_same(adopt, whole, running, NULL, "uuid");
        check_same(adopt, whole, running, "beparams", "maxmem");
        check_same(adopt, whole, running, "beparams", "vcpus");
        /* An alias or "auto" in it means what it meant when it was started. */
        json_object_set(hvparams, "machine_version",
                        json_object_get(json_member(running, "hvparams"), "machine_version"));
        json_object_set(hvparams, "kvm_flag",
                        json_object_get(json_member(running, "hvparams"), "kvm_flag"));
    } else {
        add_user(adopt, hvparams);
        json_object_set_new(hvparams, "cdrom_image_path",
                            memory_json(json_string(adopt->look.cdrom)));
    }
    json_t *disks = merge(adopt, with_file ? json_member(whole, "disks") : NULL, adopt->look.disks,
                          "disk", "path");
    json_t *nics =
        merge(adopt, with_file ? json_member(whole, "nics") : NULL, adopt->look.nics, "nic", "mac");
    check_connected(adopt, nics);
    json_object_set_new(whole, "disks", disks);
    json_object_set_new(whole, "nics", nics);
    AUTO_MESSAGES struct messages problems = {0};
    if (instance_parse(whole, source_of(adopt), NULL, NULL, &adopt->instance, &problems) < 0) {
        for (size_t i = 0; i < problems.count; i++)
            messages_add(&adopt->problems, "%s", problems.items[i]);
        return 0;
    }
    adopt->instance.scsi_slot = adopt->look.scsi_slot;
    adopt->instance.balloon_slot = adopt->look.balloon_slot;
    adopt->instance.serial_slot = adopt->look.serial_slot;
    return 0;
}

/* Would the next start make the same machine? */
static int compare(struct adopt *adopt, struct error *error)
{
    if (adopt->instance.name == NULL)
        return 0;
    if (launch_plan(adopt->rundir, adopt->node, &adopt->instance, source_of(adopt), true,
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

static int commit(struct adopt *adopt, struct error *error)
{
    struct session *session = &adopt->session;
    struct runtime *runtime = &session->runtime;
    const char *binary = json_string_value(json_array_get(adopt->words, 0));

    if (session->has_runtime)
        runtime_release(runtime);
    json_t *kvm_cmd = launch_record(adopt->launch);
    runtime_begin(runtime, &adopt->instance);
    json_decref(runtime->kvm_cmd);
    runtime->kvm_cmd = kvm_cmd;
    session->has_runtime = true;
    snprintf(runtime->boot_id, sizeof(runtime->boot_id), "%s", process_boot_id());
    runtime->state = strcmp(adopt->status, "running") == 0 ? RUNTIME_RUNNING : RUNTIME_PAUSED;
    runtime->pid = session->process.pid;
    runtime->start_time = session->process.start_time;
    json_object_set_new(runtime->ours, "qemu",
                        memory_json(json_pack("{s:s, s:O?}", "binary", binary, "version",
                                              qmp_version(adopt->qmp))));
    return write_taps(adopt, error) < 0 ? -1 : runtime_commit(adopt->rundir, runtime, error);
}

static void tell(struct adopt *adopt)
{
    const struct instance *instance =
        adopt->options->dry_run ? &adopt->instance : &adopt->session.runtime.instance;

    adopt->result->text = memory_format("%s (pid %d, %s): %zu disk%s, %zu NIC%s",
                                        adopt->options->dry_run ? "can be adopted" : "adopted",
                                        (int)adopt->session.process.pid, adopt->status,
                                        instance->disk_count, instance->disk_count == 1 ? "" : "s",
                                        instance->nic_count, instance->nic_count == 1 ? "" : "s");
    adopt->result->detail =
        memory_json(json_pack("{s:i, s:s, s:o}", "pid", (int)adopt->session.process.pid, "uuid",
                              instance->uuid, "definition", instance_json(instance)));
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
    if (connect_monitor(adopt, error) < 0 || look(adopt, error) < 0 ||
        make_instance(adopt, error) < 0 || compare(adopt, error) < 0)
        return -1;
    if (adopt->problems.count > 0) {
        messages_error(&adopt->problems, STATUS_STATE, error);
        error_prefix(error, "can't be adopted as it is, nothing was changed");
        return adopt->options->definition != NULL
                   ? -1
                   : error_append(error,
                                  "\nwhat only a person knows comes from a definition: "
                                  "'kvm-start --adopt %s FILE'",
                                  adopt->name);
    }
    if (!adopt->options->dry_run && commit(adopt, error) < 0)
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
                          .deadline = clock_deadline(options->timeout_ms),
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
