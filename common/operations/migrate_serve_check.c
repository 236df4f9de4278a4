/* SPDX-License-Identifier: BSD-2-Clause */
/* What the target says to "check", and its end of a measured stream. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "migrate_inplace.h"
#include "migrate_serving.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/host/machine.h"
#include "kvm/operations/forecast.h"
#include "kvm/operations/image.h"
#include "kvm/operations/launch.h"
#include "kvm/operations/nvram.h"
#include "kvm/operations/reconcile.h"
#include "kvm/qemu/probe.h"
#include "kvm/state/check.h"
#include "kvm/state/hvparams.h"

enum { SINK_MS = 20000 };

static json_t *read_request_runtime(const json_t *request, struct error *error)
{
    json_t *runtime = json_member(request, "runtime");

    if (!json_is_array(runtime)) {
        error_set(error, STATUS_USAGE, "the request has no runtime");
        return NULL;
    }
    return runtime;
}

int serving_take_instance(struct serving *serving, const json_t *request, struct runtime *received,
                          struct error *error)
{
    json_t *list = read_request_runtime(request, error);
    AUTO_FREE char *text = list == NULL ? NULL : json_compact(list);
    AUTO_JSON json_t *own = hvparams_fill(json_member(serving->node->defaults, "hvparams"), NULL);

    if (text == NULL)
        return -1;
    if (runtime_parse(text, strlen(text), "received runtime", serving->name, received, error) < 0) {
        if (error->status == STATUS_FAILED)
            error->status = STATUS_USAGE; /* it is input here */
        return -1;
    }
    json_t *hvparams = received->instance.hvparams;
    if (serving->in_place) {
        inplace_take_program(serving->node, hvparams);
        return 0;
    }
    const char *extra = hvparams_text(hvparams, "kvm_extra");
    if (extra[0] != '\0' && strcmp(extra, hvparams_text(own, "kvm_extra")) != 0)
        return error_set(error, STATUS_STATE,
                         "the instance has kvm_extra \"%s\", which this node's kvm-defaults.json "
                         "does not allow (put the same value there)",
                         extra);
    /* A device of the node is no part of the guest that comes. */
    const char *usb = hvparams_text(hvparams, "usb_devices");
    if (strstr(usb, "host:") != NULL && strcmp(usb, hvparams_text(own, "usb_devices")) != 0)
        return error_set(error, STATUS_STATE,
                         "the instance has usb_devices \"%s\", devices of the node that this "
                         "node's kvm-defaults.json does not allow (put the same value there)",
                         usb);
    json_object_set(hvparams, "kvm_path", json_object_get(own, "kvm_path"));
    json_object_set(hvparams, "swtpm_path", json_object_get(own, "swtpm_path"));
    return serving->in_place ? 0 : nvram_check_received(serving->node, &received->instance, error);
}

static int open_rundir(struct serving *serving, bool create, struct error *error)
{
    if (rundir_open(&serving->rundir, serving->run_dir, create, error) == 0)
        return rundir_check_name(&serving->rundir, serving->name, error);
    if (create || error->status != STATUS_STATE)
        return -1;
    serving->rundir = (struct rundir){.fd = -1, .path = memory_copy(serving->run_dir)};
    return 0;
}

int serving_open_rundir(struct serving *serving, bool create, struct error *error)
{
    /* What an earlier check opened need not be whole: an accept makes what is missing. */
    if (serving->rundir.fd >= 0 && !create)
        return 0;
    rundir_close(&serving->rundir);
    if (open_rundir(serving, create, error) < 0)
        return -1;
    serving->rundir.home = serving->in_place ? &serving->home : NULL;
    return 0;
}

static int check_free(struct serving *serving, struct error *error)
{
    struct session session;

    if (serving->rundir.fd < 0)
        return 0;
    if (session_open(&session, &serving->rundir, serving->node, serving->name, false, 0, error) < 0)
        return -1;
    bool live = session_is_live(&session);
    session_close(&session);
    return live ? error_set(error, STATUS_STATE, "an instance of this name runs here already") : 0;
}

/* ---- check ---- */

struct findings {
    struct messages problems, warnings;
    json_t *same; /* uuids of disks to be copied that are the source's own storage */
    char version[32];
    char *program; /* QEMU's path here */
};

static void findings_release(struct findings *findings)
{
    messages_release(&findings->problems);
    messages_release(&findings->warnings);
    json_decref(findings->same);
    free(findings->program);
}

static void add_problem(struct findings *findings, const struct error *error)
{
    AUTO_FREE char *lines = memory_copy(error->text);
    char *rest = NULL;

    for (char *line = strtok_r(lines, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest))
        messages_add(&findings->problems, "%s", line);
}

/* A guest with huge pages takes them from a pool of their own. */
static void check_memory(const struct instance *instance, struct findings *findings)
{
    int64_t available = machine_available_mib();

    if (available < 0 || hvparams_text(instance->hvparams, "mem_path")[0] != '\0')
        return;
    if (available < instance->minmem_mib)
        messages_add(&findings->problems,
                     "memory: the guest needs %lld MiB, %lld MiB are available",
                     (long long)instance->minmem_mib, (long long)available);
    else if (available < instance->maxmem_mib)
        messages_add(&findings->warnings,
                     "memory: the guest may take up to %lld MiB, %lld MiB are available",
                     (long long)instance->maxmem_mib, (long long)available);
}

/* "cpu_flags" comes with the question when the guest uses the source's CPU itself (KVM). */
static void check_cpu(const struct instance *instance, const json_t *request,
                      struct findings *findings)
{
    const char *theirs = json_text(request, "cpu_flags");
    const char *type = hvparams_text(instance->hvparams, "cpu_type");
    AUTO_FREE char *ours = machine_cpu_flags();

    if (theirs == NULL || theirs[0] == '\0' || ours[0] == '\0')
        return;
    AUTO_FREE char *missing = forecast_missing_flags(theirs, ours);
    if (missing[0] == '\0' || type[0] == '\0')
        return;
    bool whole = strncmp(type, "host", 4) == 0 || strncmp(type, "max", 3) == 0;
    messages_add(whole ? &findings->problems : &findings->warnings,
                 "hvparams.cpu_type: \"%s\" %s what the CPU here has not: %.400s", type,
                 whole ? "gives the guest" : "may need", missing);
}

/* Is the address one of this node, and the port free? Tried, and let go again. */
static void check_port(struct serving *serving, const json_t *request, struct findings *findings)
{
    struct error error = {0};
    const char *address = json_text(request, "address");
    int64_t port = json_number(request, "port", 0);
    int listener = -1;

    if (address == NULL || json_truth(request, "tunnel", false) || serving->listener >= 0)
        return;
    if (channel_listen(address, &port, &listener, &error) < 0)
        add_problem(findings, &error);
    memory_close(&listener);
    int64_t disk_port = json_number(request, "disk_port", 0);
    listener = -1;
    if (json_array_size(json_member(request, "disks")) > 0 &&
        channel_listen(address, &disk_port, &listener, &error) < 0)
        add_problem(findings, &error);
    memory_close(&listener);
}

/* Disks that are to be copied are not there yet: they are looked at here, and what kvm-start would check of them is not. */
static int check_landings(const struct serving *serving, const json_t *request,
                          struct runtime *received, struct findings *findings, struct error *error)
{
    AUTO_LANDINGS struct landings landings = {0};
    struct instance *instance = &received->instance;

    findings->same = memory_json(json_array());
    if (landing_read(request, serving->node, instance, &landings, error) < 0)
        return -1;
    landing_check(instance, &landings, &findings->problems, &findings->warnings);
    for (size_t k = instance->disk_count; k-- > 0;) {
        for (size_t i = 0; i < landings.count; i++) {
            if (landings.items[i].index != k)
                continue;
            if (landings.items[i].same)
                json_array_append_new(findings->same,
                                      memory_json(json_string(instance->disks[k].uuid)));
            else
                reconcile_drop_disk(received, k);
            break;
        }
    }
    return 0;
}

/* What needs the plan of the start. */
static void check_planned(const struct serving *serving, const struct launch *launch,
                          const struct instance *instance, const json_t *request,
                          struct findings *findings)
{
    image_check_uris(instance, serving->name, &findings->problems);
    launch_compare_firmware(launch, json_member(request, "firmware"), &findings->problems);
}

static void check_instance(struct serving *serving, const json_t *request,
                           struct findings *findings)
{
    AUTO_RUNTIME struct runtime received = {0};
    AUTO_LAUNCH struct launch *launch = NULL;
    struct probe probe = {0};
    struct error error = {0};

    if (serving_take_instance(serving, request, &received, &error) < 0 ||
        check_landings(serving, request, &received, findings, &error) < 0) {
        add_problem(findings, &error);
        return;
    }
    const struct instance *instance = &received.instance;
    if (probe_binary(&serving->rundir, hvparams_text(instance->hvparams, "kvm_path"), false, &probe,
                     NULL) == 0)
        snprintf(findings->version, sizeof(findings->version), "%d.%d.%d", probe.major, probe.minor,
                 probe.micro);
    probe_release(&probe);
    findings->program = memory_copy(hvparams_text(instance->hvparams, "kvm_path"));
    check_memory(instance, findings);
    if (serving->in_place)
        inplace_check(instance, &findings->problems);
    if (json_truth(request, "postcopy", false))
        postcopy_check_target(instance, &findings->problems);
    check_cpu(instance, request, findings);
    if (launch_plan(&serving->rundir, serving->node, &received.instance, serving->name, false,
                    &launch, &findings->warnings, &error) < 0)
        add_problem(findings, &error);
    else
        check_planned(serving, launch, instance, request, findings);
}

static json_t *list_of(const struct messages *messages)
{
    json_t *list = memory_json(json_array());

    for (size_t i = 0; i < messages->count; i++)
        json_array_append_new(list, memory_json(json_string(messages->items[i])));
    return list;
}

json_t *serving_check(struct serving *serving, const json_t *request, struct error *error)
{
    __attribute__((cleanup(findings_release))) struct findings findings = {0};

    if (serving_open_rundir(serving, false, error) < 0)
        return NULL;
    if (check_free(serving, error) < 0)
        add_problem(&findings, error);
    check_port(serving, request, &findings);
    const char *x509 = json_text(request, "x509");
    if (x509 != NULL && !check_is_path(x509))
        messages_add(&findings.problems, "x509: must be absolute (current value: \"%.200s\")",
                     x509);
    else if (x509 != NULL)
        channel_check_certificates(json_text(request, "x509"), true, &findings.problems);
    check_instance(serving, request, &findings);
    return memory_json(json_pack(
        "{s:b, s:o, s:o, s:O*, s:s, s:s*, s:I}", "ok", 1, "problems", list_of(&findings.problems),
        "warnings", list_of(&findings.warnings), "same", findings.same, "qemu", findings.version,
        "program", findings.program, "available_mib", (json_int_t)machine_available_mib()));
}

/* ---- a stream that is thrown away ---- */

json_t *serving_listen_only(struct serving *serving, const json_t *request, struct error *error)
{
    int64_t port = json_number(request, "port", 0);

    if (serving_open_rundir(serving, false, error) < 0)
        return NULL;
    if (json_truth(request, "tunnel", false) && serving->rundir.fd < 0) {
        error_set(error, STATUS_STATE,
                  "no instance has run here yet, so there is no place for a tunnel");
        return NULL;
    }
    if (serving_listen(serving, request, &port, error) < 0)
        return NULL;
    migration_token(serving->token);
    return memory_json(
        json_pack("{s:b, s:I, s:s}", "ok", 1, "port", (json_int_t)port, "token", serving->token));
}

json_t *serving_sink(struct serving *serving, struct error *error)
{
    deadline_t deadline = clock_deadline(SINK_MS);
    AUTO_CLOSE int connection = channel_accept(serving->listener, STDIN_FILENO, serving->token,
                                               serving->options->interrupted, deadline, error);
    AUTO_FREE char *bytes = memory_zeroed(1, 262144);
    int64_t total = 0, began = clock_now_ms();

    serving_stop_listening(serving);
    if (connection < 0)
        return NULL;
    for (;;) {
        struct pollfd wait = {.fd = connection, .events = POLLIN};
        ssize_t got =
            poll(&wait, 1, clock_poll_ms(deadline)) > 0 ? read(connection, bytes, 262144) : 0;
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        total += got;
    }
    return memory_json(json_pack("{s:b, s:I, s:I}", "ok", 1, "bytes", (json_int_t)total, "ms",
                                 (json_int_t)(clock_now_ms() - began)));
}
