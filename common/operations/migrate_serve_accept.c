/* SPDX-License-Identifier: BSD-2-Clause */
/* accept: a QEMU that waits for the guest, with all that it needs, and the way for the memory. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "migrate_inplace.h"
#include "migrate_serving.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/operations/launch.h"
#include "kvm/operations/nvram.h"
#include "kvm/operations/teardown.h"

enum { SETUP_MS = 60000 };

/* ---- where the memory will come ---- */

int serving_listen(struct serving *serving, const json_t *request, int64_t *port,
                   struct error *error)
{
    const char *address = json_text(request, "address");

    if (!json_truth(request, "tunnel", false))
        return channel_listen(address != NULL ? address : "127.0.0.1", port, &serving->listener,
                              error);
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    serving->tunnel_path = rundir_path(&serving->rundir, RUNDIR_TUNNEL, serving->name);
    snprintf(local.sun_path, sizeof(local.sun_path), "%s", serving->tunnel_path);
    unlink(serving->tunnel_path);
    serving->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (serving->listener < 0 ||
        bind(serving->listener, (const struct sockaddr *)&local, sizeof(local)) < 0 ||
        listen(serving->listener, 1) < 0)
        return error_errno(error, STATUS_FAILED, "%s", serving->tunnel_path);
    return 0;
}

/* With multifd QEMU listens itself; until then our socket keeps the port. */
static int reserve_port(struct serving *serving, const json_t *request, int64_t port,
                        struct error *error)
{
    const char *address = json_text(request, "address");

    if (!json_truth(request, "multifd", false))
        return 0;
    serving->uri = channel_uri(address != NULL ? address : "127.0.0.1", port, error);
    return serving->uri == NULL ? -1 : 0;
}

void serving_stop_listening(struct serving *serving)
{
    memory_close(&serving->listener);
    serving->listener = -1;
    if (serving->tunnel_path != NULL)
        unlink(serving->tunnel_path);
    free(serving->tunnel_path);
    serving->tunnel_path = NULL;
}

/* ---- QEMU ---- */

/* What a start that failed has left because the files of disks and NVRAM came before it. */
static void drop_landings(struct serving *serving, struct error *error)
{
    struct session *session = &serving->session;
    struct lasting made = {0};
    struct teardown_options options = {
        .deadline = clock_deadline(SETUP_MS), .only_local = true, .lasting = &made};
    struct error second = {0};

    if (landing_remove(&session->runtime, &serving->warnings, &second) == 0 &&
        teardown_run(&serving->rundir, serving->node, serving->name, &session->runtime, &options,
                     &serving->warnings, &second) == 0)
        return;
    serving->left = true;
    error->status = STATUS_INCOMPLETE;
    error_append(error, "; %s; there: 'kvm-migrate %s recover'", second.text, serving->name);
}

/* Recorded first: whoever finds it for a guest that did not come knows that it goes. */
static int receive_nvram(struct serving *serving, const char *hex, bool *received,
                         struct error *error)
{
    struct runtime *runtime = &serving->session.runtime;
    AUTO_FREE char *path = nvram_path(serving->node, &runtime->instance);

    *received = nvram_is_awaited(serving->node, &runtime->instance, hex);
    if (!*received)
        return 0;
    json_object_set_new(runtime->ours, "firmware",
                        memory_json(json_pack("{s:s, s:b}", "nvram", path, "made", 1)));
    if (runtime_commit(&serving->rundir, runtime, error) < 0)
        return -1;
    return nvram_receive(serving->node, &runtime->instance, hex, error);
}

/* Images that are copied are there only after landing_make, so what needs them is planned after it. */
static int plan_launch(struct serving *serving, struct instance *instance, struct error *error)
{
    return launch_plan(&serving->rundir, serving->node, instance, serving->name, true,
                       &serving->launch, &serving->warnings, error);
}

static int start_incoming(struct serving *serving, const json_t *request, struct error *error)
{
    struct runtime *runtime = &serving->session.runtime;
    struct launch_options options = {.heir = serving->in_place ? &serving->heir : NULL,
                                     .incoming = true,
                                     .check_image = landing_check_opened,
                                     .check_context = &serving->landings,
                                     .deadline = clock_deadline(SETUP_MS),
                                     .observe = serving->options->observe};
    static const char *const keys[] = {"id",     "commit_token", "abort_token", "peer",
                                       "paused", "postcopy",     "vote_token"};

    runtime_begin(runtime, &serving->received.instance);
    serving->session.has_runtime = true;
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (json_text(request, keys[i]) != NULL)
            migration_set_text(runtime, keys[i], json_text(request, keys[i]));
    migration_set_phase(runtime, MIGRATION_TARGET, PHASE_ACCEPTED);
    if (landing_make(&serving->rundir, runtime, &serving->landings, error) < 0 ||
        receive_nvram(serving, json_text(request, "nvram"), &options.nvram_received, error) < 0 ||
        (serving->launch == NULL && plan_launch(serving, &runtime->instance, error) < 0)) {
        if (runtime->generation > 0)
            drop_landings(serving, error);
        return -1;
    }
    bool recorded = runtime->generation > 0;
    if (serving->in_place)
        inplace_note_display(runtime, serving->launch);
    if (launch_run(serving->launch, runtime, &options, &serving->warnings, error) < 0) {
        if (recorded)
            drop_landings(serving, error);
        return -1;
    }
    return monitor_find(&serving->rundir, serving->name, &serving->session.process, error);
}

static int prepare_incoming(struct serving *serving, const json_t *request, const char *key,
                            struct error *error)
{
    deadline_t deadline = clock_deadline(SETUP_MS);
    struct qmp *qmp = target_monitor(&serving->session, deadline, error);
    const char *x509 = json_text(request, "x509");
    int result = 0;

    if (qmp == NULL)
        return -1;
    serving->qmp = qmp;
    if (serving->in_place &&
        inplace_check_display(qmp, &serving->session.runtime.instance, deadline, error) < 0)
        return -1;
    if (x509 != NULL)
        result = channel_certificates(&serving->session, qmp, x509, true, deadline, error);
    else if (key[0] != '\0')
        result = channel_credentials(&serving->session, qmp, key, true, deadline, error);
    if (result < 0)
        return error_prefix(error, "TLS");
    if (migrate_apply(qmp, json_member(request, "plan"), true, deadline, error) < 0)
        return -1;
    return exports_open(serving, request, qmp, &serving->disk_port, error);
}

json_t *serving_warnings(const struct serving *serving)
{
    json_t *warnings = memory_json(json_array());

    for (size_t i = 0; i < serving->warnings.count; i++)
        json_array_append_new(warnings, memory_json(json_string(serving->warnings.items[i])));
    return warnings;
}

/* All of accept that can be done before there is a QEMU. */
static int plan_incoming(struct serving *serving, const json_t *request, struct error *error)
{
    struct ending ending = {0};

    serving->port = json_number(request, "port", 0);
    if (serving->accepted)
        return error_set(error, STATUS_STATE, "accepted already");
    if (migrate_check_request(request, "the request", error) < 0 ||
        serving_open_rundir(serving, true, error) < 0 ||
        serving_take_instance(serving, request, &serving->received, error) < 0 ||
        landing_read(request, serving->node, &serving->received.instance, &serving->landings,
                     error) < 0 ||
        migrate_open(&serving->session, &serving->rundir, serving->node, serving->name,
                     serving->options, error) < 0)
        return -1;
    if (session_is_live(&serving->session))
        return error_set(error, STATUS_STATE, "an instance of this name runs here already");
    /* In place the other side's are this node's as well; a rehearsal moves nothing. */
    if (!serving->in_place && !json_truth(request, "rehearse", false) &&
        migrate_hooks_pre(&serving->session, &serving->received.instance, MIGRATION_TARGET,
                          json_text(request, "peer"), clock_deadline(MIGRATE_ANSWER_MS - 5000),
                          error) < 0)
        return -1;
    if (serving->session.has_files &&
        session_clear(&serving->session, false, clock_deadline(SETUP_MS), &ending,
                      &serving->warnings, error) < 0)
        return -1;
    if (serving->session.has_runtime)
        runtime_release(&serving->session.runtime);
    serving->session.has_runtime = false;
    if (serving->in_place &&
        (inplace_find_old(serving, error) < 0 || inplace_take_uid(serving, error) < 0))
        return -1;
    return serving_listen(serving, request, &serving->port, error) < 0 ||
                   reserve_port(serving, request, serving->port, error) < 0
               ? -1
               : 0;
}

json_t *serving_prepare(struct serving *serving, const json_t *request, struct error *error)
{
    serving->prepared = plan_incoming(serving, request, error) == 0 &&
                        plan_launch(serving, &serving->received.instance, error) == 0;
    return serving->prepared ? json_pack("{s:b}", "ok", 1) : NULL;
}

/* accept: QEMU waits here, with taps and devices as the guest knows them. */
json_t *serving_accept(struct serving *serving, const json_t *request, struct error *error)
{
    char key[65] = "";

    if (!serving->prepared && plan_incoming(serving, request, error) < 0)
        return NULL;
    if (migrate_is_interrupted(serving->options->interrupted)) {
        error_set(error, STATUS_FAILED, "interrupted");
        return NULL;
    }
    int result = start_incoming(serving, request, error);
    launch_release(&serving->launch);
    if (result < 0)
        return NULL;
    serving->accepted = true;
    if (json_truth(request, "tls", true) && json_text(request, "x509") == NULL) {
        migration_token(key);
        migration_token(key + 32);
    }
    if (prepare_incoming(serving, request, key, error) < 0)
        return NULL;
    migration_token(serving->token);
    json_t *answer = json_pack("{s:b, s:I, s:I, s:s, s:s, s:o}", "ok", 1, "port", serving->port,
                               "disk_port", serving->disk_port, "token", serving->token, "key", key,
                               "warnings", serving_warnings(serving));
    explicit_bzero(key, sizeof(key));
    return answer;
}

/* ---- the memory comes ---- */

static int receive_stream(struct serving *serving, deadline_t deadline, struct error *error)
{
    AUTO_CLOSE int connection =
        channel_accept(serving->listener, serving->alone ? -1 : STDIN_FILENO, serving->token,
                       serving->options->interrupted, deadline, error);

    serving_stop_listening(serving);
    if (connection < 0)
        return -1;
    channel_watch_link(connection);
    return channel_pass(serving->qmp, connection, "kvm-suite-in", deadline, error);
}

/* receive: the source connects now; its connection becomes QEMU's, or QEMU takes its connections itself. */
json_t *serving_receive(struct serving *serving, struct error *error)
{
    deadline_t deadline = clock_deadline(serving->alone ? MIGRATE_ANSWER_MS : MIGRATE_CONNECT_MS);
    const char *uri = serving->uri != NULL ? serving->uri : "fd:kvm-suite-in";

    if (serving->uri != NULL)
        serving_stop_listening(serving);
    else if (receive_stream(serving, deadline, error) < 0)
        return NULL;
    json_t *arguments = memory_json(json_pack("{s:s}", "uri", uri));
    if (qmp_call(serving->qmp, "migrate-incoming", arguments, deadline, NULL, error) != QMP_DONE)
        return NULL;
    return json_pack("{s:b}", "ok", 1);
}
