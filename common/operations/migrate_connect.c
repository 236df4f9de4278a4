/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "migrate_inplace.h"
#include "migrate_sending.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "kvm/operations/powerdown.h"
#include "kvm/operations/reconcile.h"
#include "kvm/operations/resume.h"
#include "kvm/operations/teardown.h"
#include "kvm/operations/nvram.h"
#include "kvm/qemu/events.h"
#include "kvm/qemu/peripheral.h"
#include "kvm/state/hvparams.h"

/* ---- opening ---- */

/* Without these nothing more can be asked. */
static int check_there(struct sending *sending, struct error *error)
{
    struct session *session = &sending->session;

    const char *fault = session->runtime_fault.text;

    if (!session_is_live(session))
        return error_set(error, STATUS_STATE, "it does not run here; 'kvm-info' lists what does");
    if (!session->has_runtime)
        return error_set(error, STATUS_STATE,
                         "its runtime file %s%s; 'kvm-start --adopt %s' makes a new one",
                         fault[0] != '\0' ? "can't be read: " : "is missing", fault, session->name);
    return session_check_recorded(session, error);
}

/* A slip there would be told by the target's QEMU, when it is to be set. */
static void check_words(struct sending *sending)
{
    AUTO_JSON json_t *list = NULL;
    AUTO_FREE char *words =
        memory_copy(hvparams_text(sending->session.runtime.instance.hvparams, "migration_caps"));
    char *rest = NULL;

    if (words[0] == '\0' || qmp_call(sending->qmp, "query-migrate-capabilities", NULL,
                                     clock_deadline(SETUP_MS), &list, NULL) != QMP_DONE)
        return;
    for (char *word = strtok_r(words, ":", &rest); word != NULL; word = strtok_r(NULL, ":", &rest))
        if (json_find(list, "capability", word) == NULL)
            messages_add(&sending->problems,
                         "hvparams.migration_caps: QEMU here has no capability \"%s\"; correct it "
                         "in the definition or in kvm-defaults.json and start the instance anew",
                         word);
}

/* migration_caps is the node's to set, but some words go against what is promised, or don't go together. */
static void check_capabilities(struct sending *sending)
{
    const struct instance *instance = &sending->session.runtime.instance;
    const struct migrate_options *options = sending->options;
    struct messages *problems = &sending->problems;

    if (migrate_has_capability(instance, "release-ram"))
        messages_add(problems, "hvparams.migration_caps: release-ram would throw away the memory "
                               "that the way back needs");
    if (!migrate_may_postcopy(instance, options))
        return;
    if (options->multifd > 0 || migrate_has_capability(instance, "multifd"))
        messages_add(problems, "post-copy and multifd exclude each other");
    if (options->tunnel)
        messages_add(problems,
                     "post-copy and --tunnel exclude each other: a cut tunnel can't be resumed");
    if (options->copy_disks != NULL)
        messages_add(problems, "post-copy and --copy-disks exclude each other");
    if (migrate_is_non_live(instance, options))
        messages_add(problems, "post-copy and a non-live migration exclude each other");
}

/* All that speaks against it on this side. */
static int check_instance(struct sending *sending, struct error *error)
{
    const struct runtime *runtime = &sending->session.runtime;
    const struct instance *instance = &runtime->instance;
    struct messages *problems = &sending->problems;
    char status[32];

    if (migration_phase_of(runtime) != PHASE_NONE)
        messages_add(problems,
                     "an earlier migration of it is \"%s\"; 'kvm-migrate %s recover' finishes or "
                     "undoes it",
                     migration_phase_name(migration_phase_of(runtime)), sending->name);
    for (size_t i = 0; i < instance->disk_count + instance->nic_count; i++) {
        const char *uuid = i < instance->disk_count ? instance->disks[i].uuid
                                                    : instance->nics[i - instance->disk_count].uuid;
        if (runtime_device_state(runtime, uuid) != DEVICE_PRESENT)
            messages_add(problems,
                         "device %s is \"%s\", not present; 'kvm-hotplug %s list' shows it", uuid,
                         runtime_device_state_name(runtime, uuid), sending->name);
    }
    check_words(sending);
    check_capabilities(sending);
    if (monitor_status(sending->qmp, clock_deadline(SETUP_MS), status, error) < 0)
        return -1;
    bool stands = strcmp(status, "paused") == 0 || strcmp(status, "prelaunch") == 0;
    if (!stands && strcmp(status, "running") != 0)
        messages_add(problems, "the guest is \"%s\", which can't be migrated%s%s%s", status,
                     resume_reason(status) != NULL ? "; 'kvm-start --resume " : "",
                     resume_reason(status) != NULL ? sending->name : "",
                     resume_reason(status) != NULL ? "' lets it go on" : "");
    /* Somebody may have paused it without us, or let it go on: so it stays, there and on the way back. Once it is being
     * sent, it was us. */
    if (migration_phase_of(runtime) == PHASE_NONE && (stands || runtime->state == RUNTIME_PAUSED))
        sending->session.runtime.state = stands ? RUNTIME_PAUSED : RUNTIME_RUNNING;
    return 0;
}

int sending_open(struct sending *sending, struct error *error)
{
    deadline_t deadline = clock_deadline(sending->options->timeout_ms);
    struct session *session = &sending->session;
    bool touched;

    if (migrate_open_known(session, sending->rundir, sending->node, sending->name, sending->options,
                           error) < 0)
        return -1;
    if (check_there(sending, error) < 0)
        return -1;
    AUTO_FREE char *path = rundir_path(sending->rundir, RUNDIR_QMP, sending->name);
    sending->qmp = qmp_connect_peer(path, session->process.pid, true, deadline, error);
    if (sending->qmp == NULL)
        return -1;
    if (!sending->only_check && migration_phase_of(&session->runtime) == PHASE_NONE &&
        reconcile_live(sending->rundir, sending->node, &session->runtime, sending->qmp, deadline,
                       &sending->result->warnings, &touched, error) < 0)
        return -1;
    if (check_instance(sending, error) < 0 || copies_choose(sending, error) < 0)
        return -1;
    const json_t *hvparams = session->runtime.instance.hvparams;
    sending->address =
        sending->options->address != NULL ? sending->options->address : sending->options->target;
    sending->port = sending->options->port >= 0 ? sending->options->port
                                                : hvparams_number(hvparams, "migration_port");
    return 0;
}

char *sending_remote_command(const struct migrate_options *options)
{
    return options->remote != NULL ? memory_copy(options->remote)
                                   : memory_format("ssh root@%s", options->target);
}

int sending_open_remote(struct sending *sending, struct error *error)
{
    const char *const words[] = {"kvm-migrate", sending->name, "serve", NULL};
    AUTO_FREE char *command = sending_remote_command(sending->options);

    int result = sending->options->in_place
                     ? inplace_open_remote(&sending->remote, sending->rundir, sending->node,
                                           sending->name, error)
                     : remote_open(&sending->remote, command, words, error);
    sending->remote.interrupted = sending->options->interrupted;
    return result;
}

/* ---- the steps of the way there ---- */

json_t *sending_accept_question(struct sending *sending)
{
    json_t *question = sending_request(sending, "accept");
    char id[33];

    migration_token(id);
    migration_token(sending->commit_token);
    migration_token(sending->abort_token);
    json_object_update_new(
        question, json_pack("{s:s, s:i, s:s, s:s, s:s, s:I, s:b, s:b, s:O}", "id", id, "silence",
                            MIGRATE_SILENCE_S, "commit_token", sending->commit_token, "abort_token",
                            sending->abort_token, "address", sending->address, "port",
                            sending->port, "tls", (int)!sending->options->plain_tcp, "tunnel",
                            (int)sending->options->tunnel, "plan", sending->plan));
    AUTO_FREE char *nvram = nvram_hex(json_member(sending->session.runtime.ours, "firmware"));
    if (nvram != NULL)
        json_object_set_new(question, "nvram", memory_json(json_string(nvram)));
    json_object_set_new(question, "multifd",
                        memory_json(json_boolean(sending->options->multifd > 0)));
    if (sending->options->rehearse)
        json_object_set_new(question, "rehearse", memory_json(json_true()));
    copies_ask(sending, question);
    if (sending->options->tls_x509 != NULL)
        json_object_set_new(question, "x509", memory_json(json_string(sending->options->tls_x509)));
    if (migrate_may_postcopy(&sending->session.runtime.instance, sending->options))
        json_object_set_new(question, "postcopy", memory_json(json_string("yes")));
    if (sending->session.runtime.state == RUNTIME_PAUSED)
        json_object_set_new(question, "paused", memory_json(json_string("yes")));
    return question;
}

int sending_accept(struct sending *sending, json_t **answer, struct error *error)
{
    json_t *question = sending_accept_question(sending);

    sending_say(sending, "let the target accept");
    if (sending->options->in_place) {
        if (inplace_accept(sending, question, answer, error) < 0)
            return -1;
        sending_take_warnings(sending, *answer);
        return 0;
    }
    sending->accepted = true;
    if (remote_ask(&sending->remote, question, clock_deadline(MIGRATE_ANSWER_MS), answer, error) <
        0)
        return -1;
    sending_take_warnings(sending, *answer);
    return 0;
}

int sending_compare(struct sending *sending, struct error *error)
{
    AUTO_JSON json_t *answer = NULL;
    AUTO_MESSAGES struct messages problems = {0};
    deadline_t deadline = clock_deadline(MIGRATE_ANSWER_MS);
    AUTO_JSON json_t *here = migrate_tree(sending->qmp, deadline, error);

    sending_say(sending, "compare the devices of both sides");
    if (here == NULL || remote_ask(&sending->remote, json_pack("{s:s}", "stage", "tree"), deadline,
                                   &answer, error) < 0)
        return -1;
    migrate_compare(here, json_member(answer, "tree"), &problems);
    if (problems.count == 0)
        return 0;
    messages_error(&problems, STATUS_STATE, error);
    return error_prefix(error, "the two sides differ, nothing was copied");
}

/* Through the remote command's own pipe: a second session there joins our end with the waiting target's. */
static int connect_tunnel(struct sending *sending, struct error *error)
{
    const char *const words[] = {"kvm-migrate", sending->name, "pipe", NULL};
    AUTO_FREE char *command = sending_remote_command(sending->options);

    return remote_open_stream(&sending->pipe, command, words, error);
}

int sending_stream(struct sending *sending, int64_t port, const char *token, deadline_t deadline,
                   struct error *error)
{
    if (token == NULL || strlen(token) != 32)
        return error_set(error, STATUS_FAILED, "the target gave no token");
    if (sending->options->in_place)
        return inplace_connect(sending, token, error);
    if (!sending->options->tunnel)
        return channel_connect(sending->address, port, token, deadline, error);
    int stream = connect_tunnel(sending, error);
    if (stream < 0 || write(stream, token, 32) == 32)
        return stream;
    close(stream);
    return error_errno(error, STATUS_FAILED, "tunnel");
}

int sending_set_up_tls(struct sending *sending, const char *key, deadline_t deadline,
                       struct error *error)
{
    const char *x509 = sending->options->tls_x509;
    const struct session *session = &sending->session;
    int result = 0;

    if (x509 != NULL)
        result = channel_certificates(session, sending->qmp, x509, false, deadline, error);
    else if (key != NULL && key[0] != '\0')
        result = channel_credentials(session, sending->qmp, key, false, deadline, error);
    return result < 0 ? error_prefix(error, "TLS") : 0;
}

/* QEMU's own connections: the target's must listen before ours is told to connect. */
static int connect_own(struct sending *sending, int64_t port, deadline_t deadline,
                       struct error *error)
{
    json_t *question = memory_json(json_pack("{s:s}", "stage", "receive"));

    sending->port = port;
    sending->uri = channel_uri(sending->address, port, error);
    if (sending->uri != NULL)
        return remote_ask(&sending->remote, question, deadline, NULL, error);
    json_decref(question);
    return -1;
}

/* One connection, made by us: the token opens it, and QEMU gets it. */
static int connect_stream(struct sending *sending, const json_t *answer, deadline_t deadline,
                          int *stream, struct error *error)
{
    AUTO_JSON json_t *question = memory_json(json_pack("{s:s}", "stage", "receive"));

    if (remote_question(&sending->remote, question, error) < 0)
        return -1;
    *stream = sending_stream(sending, json_number(answer, "port", 0), json_text(answer, "token"),
                             deadline, error);
    if (*stream < 0 || remote_answer(&sending->remote, deadline, NULL, error) < 0)
        return -1;
    channel_watch_link(*stream);
    sending->uri = memory_copy("fd:kvm-suite-out");
    return 0;
}

/* QEMU shakes hands on it in its main loop: there a target that falls silent would stop the guest here. What it is given it
 * makes blocking, which is ours as well to undo, and once more for the copy (QEMU 7.2). */
static int pass_stream(struct sending *sending, int stream, deadline_t deadline,
                       struct error *error)
{
    if (channel_pass(sending->qmp, stream, "kvm-suite-out", deadline, error) < 0)
        return -1;
    return fcntl(stream, F_SETFL, O_NONBLOCK) < 0
               ? error_errno(error, STATUS_FAILED, "the connection for the memory")
               : 0;
}

int sending_connect(struct sending *sending, const json_t *answer, struct error *error)
{
    deadline_t deadline = clock_deadline(MIGRATE_CONNECT_MS);
    bool own = sending->options->multifd > 0;
    AUTO_CLOSE int stream = -1;

    sending_say(sending, "connect for the memory");
    if ((own ? connect_own(sending, json_number(answer, "port", 0), deadline, error)
             : connect_stream(sending, answer, deadline, &stream, error)) < 0 ||
        /* Before QEMU here is changed: so whatever happens, the way back undoes that. */
        sending_record(sending, error) < 0 ||
        sending_set_up_tls(sending, json_text(answer, "key"), deadline, error) < 0 ||
        migrate_apply(sending->qmp, sending->plan, false, deadline, error) < 0)
        return -1;
    return own ? 0 : pass_stream(sending, stream, deadline, error);
}
