/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>

#include "kvm/host/swtpm.h"
#include "kvm/operations/inspect.h"
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "kvm/base/transaction.h"
#include "kvm/host/network.h"
#include "kvm/host/tap.h"
#include "kvm/operations/session.h"
#include "kvm/qemu/events.h"
#include "kvm/operations/migration.h"
#include "kvm/state/hvparams.h"
#include "kvm/state/media.h"
#include "kvm/state/placement.h"

static void put(json_t *object, const char *key, json_t *value)
{
    json_object_set_new(object, key, memory_json(value));
}

/* The last word on whether the guest's CPUs run, from the event log: "running", "paused", or NULL. */
static const char *state_by_events(const struct rundir *rundir, const char *name, double since)
{
    static const char *const telling[] = {"RESUME", "STOP", "KVM_SUITE_START", NULL};
    AUTO_JSON json_t *event = events_last(rundir, name, telling);

    if (event == NULL || events_time(event) < since)
        return NULL;
    return strcmp(json_text(event, "event"), "RESUME") == 0 ? "running" : "paused";
}

static const char *live_state(const struct session *session)
{
    const struct runtime *runtime = &session->runtime;
    if (session->has_runtime && (runtime->state == RUNTIME_STARTING ||
                                 (runtime->state == RUNTIME_REBOOTING && runtime->pid == 0)))
        return "starting";
    /* A QEMU that another tool started writes no log, and that of an earlier one may be there. */
    bool foreign = session->has_runtime && runtime->state == RUNTIME_FOREIGN;
    double since = foreign ? process_started_at(session->process.start_time) : 0;
    const char *state = state_by_events(session->rundir, session->name, since);
    return state != NULL ? state : "running";
}

static void tell_ending(const struct session *session, json_t *brief)
{
    struct ending ending = {0};

    events_ending(session->rundir, session->name, session->has_runtime ? &session->runtime : NULL,
                  session_is_live(session), &ending);
    if (ending.text[0] == '\0')
        return;
    put(brief, "ending", json_string(ending_kind_name(ending.kind)));
    put(brief, "reason", json_string(ending.text));
    if (ending.at > 0)
        put(brief, "ended_at", json_real(ending.at));
}

/* A QEMU that has ended since it was found takes its runtime file with it by a stop: that is no fault. */
static void tell_no_runtime(const struct session *session, json_t *brief)
{
    const char *fault = session->runtime_fault.text;

    if (!session_is_live(session) || process_wait_gone(session->process.pidfd, clock_deadline(0))) {
        if (fault[0] != '\0')
            put(brief, "fault", json_string(fault));
        return;
    }
    AUTO_FREE char *text =
        memory_format("%s; 'kvm-start --adopt %s' makes a new one",
                      fault[0] != '\0' ? fault : "its runtime file is missing", session->name);
    put(brief, "fault", json_string(text));
}

static void tell_runtime(const struct session *session, json_t *brief)
{
    const struct instance *instance = &session->runtime.instance;

    if (!session->has_runtime) {
        tell_no_runtime(session, brief);
        return;
    }
    put(brief, "uuid", json_string(instance->uuid));
    put(brief, "memory_mib", json_integer(instance->maxmem_mib));
    put(brief, "vcpus", json_integer(instance->vcpus));
    put(brief, "recorded", json_string(runtime_state_name(session->runtime.state)));
}

/* Where the guest is then is not told by this QEMU alone. */
static void tell_migration(const struct session *session, json_t *brief)
{
    const struct runtime *runtime = &session->runtime;
    enum migration_phase phase = session->has_runtime ? migration_phase_of(runtime) : PHASE_NONE;

    if (phase == PHASE_NONE)
        return;
    put(brief, "migration",
        json_pack("{s:s, s:s, s:b}", "side",
                  migration_side_of(runtime) == MIGRATION_TARGET ? "target" : "source", "phase",
                  migration_phase_name(phase), "in_place",
                  (int)(migration_text(runtime, "in_place") != NULL)));
}

static json_t *brief_of(const struct session *session)
{
    json_t *brief = memory_json(json_pack("{s:s}", "instance", session->name));
    char holder[256];

    if (session_is_live(session)) {
        put(brief, "state", json_string(live_state(session)));
        put(brief, "pid", json_integer(session->process.pid));
        put(brief, "since", json_real(process_started_at(session->process.start_time)));
        struct error odd = {0};
        if (session_check_recorded(session, &odd) < 0)
            put(brief, "fault", json_string(odd.text));
    } else {
        put(brief, "state", json_string(session->has_files ? "stopped" : "absent"));
    }
    tell_runtime(session, brief);
    if (!session_is_live(session) && session->has_files)
        tell_ending(session, brief);
    tell_migration(session, brief);
    if (rundir_lock_holder(session->rundir, session->name, holder, sizeof(holder)))
        put(brief, "busy", json_string(holder));
    return brief;
}

static json_t *unknown(const char *name, const struct error *error)
{
    return memory_json(
        json_pack("{s:s, s:s, s:s}", "instance", name, "state", "unknown", "fault", error->text));
}

json_t *inspect_brief(const struct rundir *rundir, const char *name)
{
    AUTO_SESSION struct session session = {.lock = -1, .process = {.pidfd = -1}};
    struct error error = {0};

    if (session_peek(&session, rundir, name, &error) < 0)
        return unknown(name, &error);
    return brief_of(&session);
}

bool inspect_is_live(const json_t *brief)
{
    static const char *const live[] = {"running", "paused", "starting"};
    const char *state = json_text(brief, "state");

    for (size_t i = 0; state != NULL && i < COUNT(live); i++)
        if (strcmp(state, live[i]) == 0)
            return true;
    return false;
}

/* ---- detail ---- */

static json_t *tell_disks(const struct session *session)
{
    const struct instance *instance = &session->runtime.instance;
    json_t *list = memory_json(json_array());

    for (size_t i = 0; i < instance->disk_count; i++) {
        const struct disk *disk = &instance->disks[i];
        int slot = placement_slot(disk->hvinfo);
        json_t *one = memory_json(
            json_pack("{s:i, s:s, s:s*, s:s*, s:s*, s:s*, s:b, s:s}", "index", (int)i, "uuid",
                      disk->uuid, "name", disk->name, "path", disk->path, "uri", disk->uri, "id",
                      json_text(disk->hvinfo, "id"), "read_only", disk->read_only, "state",
                      runtime_device_state_name(&session->runtime, disk->uuid)));
        if (slot != SLOT_NONE)
            put(one, "slot", json_integer(slot));
        else if (json_member(disk->hvinfo, "scsi-id") != NULL)
            put(one, "scsi_id", json_integer(json_number(disk->hvinfo, "scsi-id", 0)));
        json_array_append_new(list, one);
    }
    return list;
}

static json_t *tell_nics(const struct session *session)
{
    const struct instance *instance = &session->runtime.instance;
    json_t *list = memory_json(json_array());
    char tap[TAP_NAME_SIZE];

    for (size_t i = 0; i < instance->nic_count; i++) {
        const struct nic *nic = &instance->nics[i];
        int slot = placement_slot(nic->hvinfo);
        json_t *one = memory_json(
            json_pack("{s:i, s:s, s:s*, s:s*, s:s*, s:s*, s:s*, s:s*, s:s}", "index", (int)i,
                      "uuid", nic->uuid, "name", nic->name, "mac", nic->mac, "mode", nic->mode_name,
                      "link", nic->link, "ip", nic->ip, "id", json_text(nic->hvinfo, "id"), "state",
                      runtime_device_state_name(&session->runtime, nic->uuid)));
        if (network_find_tap(session->rundir, instance, i, session->process.pid, tap))
            put(one, "tap", json_string(tap));
        if (slot != SLOT_NONE)
            put(one, "slot", json_integer(slot));
        if (nic->link_down)
            put(one, "link_down", json_true());
        json_array_append_new(list, one);
    }
    return list;
}

/* What is in the drives: null when the medium was ejected. */
static json_t *tell_media(const struct instance *instance)
{
    json_t *list = memory_json(json_array());

    for (enum medium medium = 0; medium < MEDIA; medium++) {
        if (media_place(instance, medium) == NULL)
            continue;
        json_array_append_new(
            list, memory_json(json_pack("{s:s, s:s, s:s?}", "drive", media_names[medium].device,
                                        "what", media_names[medium].what, "medium",
                                        media_file(instance, medium))));
    }
    return list;
}

/* "running" and "paused" by QEMU's own word, which goes before what the event log says. */
static void tell_live(const struct session *session, deadline_t deadline, json_t *detail)
{
    static const struct qmp_request asked[] = {{"query-status", NULL}, {"query-balloon", NULL}};
    struct error error = {0};
    char status[32];
    AUTO_JSON json_t *balloon = NULL;
    AUTO_QMP struct qmp *qmp = monitor_look(session->rundir, session->name, &session->process,
                                            asked, COUNT(asked), deadline, &error);

    if (qmp == NULL || monitor_status(qmp, deadline, status, &error) < 0) {
        if (json_text(detail, "fault") == NULL)
            put(detail, "fault", json_string(error.text));
        return;
    }
    put(detail, "status", json_string(status));
    if (strcmp(json_text(detail, "state"), "starting") != 0)
        put(detail, "state", json_string(strcmp(status, "running") == 0 ? "running" : "paused"));
    json_object_set_new(detail, "qemu", json_deep_copy(qmp_version(qmp)));
    if (qmp_call(qmp, "query-balloon", NULL, deadline, &balloon, NULL) == QMP_DONE)
        put(detail, "memory_actual_mib", json_integer(json_number(balloon, "actual", 0) / 1048576));
}

static void tell_port(json_t *detail, const char *key, const char *address,
                      const struct instance *instance)
{
    bool six = strchr(address, ':') != NULL;

    if (address[0] != '\0')
        put(detail, key,
            json_sprintf("%s%s%s:%lld", six ? "[" : "", address, six ? "]" : "",
                         (long long)instance->network_port));
}

static void tell_access(const struct session *session, json_t *detail)
{
    const struct instance *instance = &session->runtime.instance;
    const char *vnc = hvparams_text(instance->hvparams, "vnc_bind_address");
    AUTO_FREE char *console = inspect_console(session->rundir, session->name, NULL);

    if (console != NULL)
        put(detail, "console", json_string(console));
    if (vnc[0] == '/')
        put(detail, "vnc", json_sprintf("%s/%s.vnc", vnc, session->name));
    else
        tell_port(detail, "vnc", vnc, instance);
    tell_port(detail, "spice", hvparams_text(instance->hvparams, "spice_bind"), instance);
}

/* What is not pinned was decided by another tool, and is not known. */
static const char *accelerator(const char *kvm_flag)
{
    if (strcmp(kvm_flag, "enabled") == 0)
        return "kvm";
    return strcmp(kvm_flag, "disabled") == 0 ? "tcg" : "unknown";
}

json_t *inspect_devices(const struct session *session)
{
    return memory_json(json_pack("{s:o, s:o, s:o}", "disks", tell_disks(session), "nics",
                                 tell_nics(session), "media",
                                 tell_media(&session->runtime.instance)));
}

/* QEMU goes on without it, but a reset of the guest then ends QEMU (7.2). */
static void tell_tpm(const struct session *session, json_t *detail)
{
    const char *model = hvparams_text(session->runtime.instance.hvparams, "tpm");

    if (model[0] == '\0')
        return;
    pid_t pid = swtpm_pid(session->rundir, session->name);
    if (!session_is_live(session))
        put(detail, "tpm", json_string(model));
    else if (pid > 0)
        put(detail, "tpm", json_sprintf("%s, swtpm pid %d", model, (int)pid));
    else
        put(detail, "tpm",
            json_sprintf("%s, but its swtpm has died: a reset of the guest will end QEMU; "
                         "'kvm-stop --reboot %s' starts it anew",
                         model, session->name));
}

json_t *inspect_detail(const struct rundir *rundir, const char *name, deadline_t deadline)
{
    AUTO_SESSION struct session session = {.lock = -1, .process = {.pidfd = -1}};
    struct error error = {0};

    if (session_open(&session, rundir, NULL, name, false, 0, &error) < 0)
        return unknown(name, &error);
    json_t *detail = brief_of(&session);
    if (session.has_runtime) {
        const json_t *hvparams = session.runtime.instance.hvparams;
        put(detail, "machine", json_string(hvparams_text(hvparams, "machine_version")));
        put(detail, "accelerator", json_string(accelerator(hvparams_text(hvparams, "kvm_flag"))));
        tell_tpm(&session, detail);
        if (json_member(session.runtime.ours, "firmware") != NULL)
            put(detail, "firmware", json_deep_copy(json_member(session.runtime.ours, "firmware")));
        put(detail, "disks", tell_disks(&session));
        put(detail, "nics", tell_nics(&session));
        put(detail, "media", tell_media(&session.runtime.instance));
        for (size_t i = 0; i < session.runtime.notes.count; i++) {
            if (i == 0)
                put(detail, "notes", json_array());
            json_array_append_new(json_object_get(detail, "notes"),
                                  json_string(session.runtime.notes.items[i]));
        }
        put(detail, "runtime", runtime_ganeti_json(&session.runtime));
    }
    if (session_is_live(&session)) {
        tell_live(&session, deadline, detail);
        if (session.has_runtime)
            tell_access(&session, detail);
    }
    return detail;
}

char *inspect_console(const struct rundir *rundir, const char *name, struct error *error)
{
    char relative[RUNDIR_PATH_MAX];

    rundir_name(RUNDIR_SERIAL, name, relative);
    if (!file_exists(rundir->fd, relative)) {
        error_set(error, STATUS_STATE,
                  "%s: it has no serial console here (serial_console false, or "
                  "it does not run)",
                  name);
        return NULL;
    }
    AUTO_FREE char *path = rundir_path(rundir, RUNDIR_SERIAL, name);
    return memory_format("socat STDIO,raw,echo=0,escape=0x1d UNIX-CONNECT:%s", path);
}
