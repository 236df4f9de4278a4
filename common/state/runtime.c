/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/state/runtime.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/state/check.h"
#include "kvm/state/hvparams.h"
#include "kvm/state/media.h"
#include "runtime_private.h"

const char *const runtime_state_names[] = {"starting", "running", "paused", "rebooting",
                                           "incoming", "foreign", NULL};

const char *runtime_state_name(enum runtime_state state)
{
    return runtime_state_names[state];
}

/* Enough for a reader that looks for the name: the real command takes its place before QEMU starts. */
static json_t *first_command(const struct instance *instance)
{
    char vcpus[24];

    snprintf(vcpus, sizeof(vcpus), "%" PRId64, instance->vcpus);
    return memory_json(
        json_pack("[s, s, s, s, I, s, s]", hvparams_text(instance->hvparams, "kvm_path"), "-name",
                  instance->name, "-m", (json_int_t)instance->maxmem_mib, "-smp", vcpus));
}

void runtime_begin(struct runtime *runtime, struct instance *instance)
{
    *runtime = (struct runtime){.instance = *instance, .state = RUNTIME_STARTING};
    *instance = (struct instance){0};
    runtime->kvm_cmd = first_command(&runtime->instance);
    runtime->ours = memory_json(json_object());
}

void runtime_release(struct runtime *runtime)
{
    if (runtime == NULL)
        return;
    instance_release(&runtime->instance);
    json_decref(runtime->kvm_cmd);
    json_decref(runtime->ours);
    messages_release(&runtime->notes);
    *runtime = (struct runtime){0};
}

json_t *runtime_ganeti_json(const struct runtime *runtime)
{
    const struct instance *instance = &runtime->instance;
    json_t *nics = memory_json(json_array()), *disks = memory_json(json_array());

    for (size_t i = 0; i < instance->nic_count; i++)
        json_array_append_new(nics, json_incref(instance->nics[i].object));
    for (size_t i = 0; i < instance->disk_count; i++) {
        const struct disk *disk = &instance->disks[i];
        json_t *entry = json_pack("[o, s?, s?]", json_incref(disk->object), disk->path, disk->uri);

        json_array_append_new(disks, memory_json(entry));
    }
    return memory_json(json_pack("[o, o, o, o]", json_incref(runtime->kvm_cmd), nics,
                                 json_incref(instance->hvparams), disks));
}

static json_t *kept_json(const struct instance *instance)
{
    json_t *kept = memory_json(json_object());
    AUTO_JSON json_t *down = memory_json(json_array()), *ejected = memory_json(json_array());

    for (size_t i = 0; i < instance->nic_count; i++)
        if (instance->nics[i].link_down)
            json_array_append_new(down, memory_json(json_string(instance->nics[i].uuid)));
    for (int i = 0; i < CDROMS; i++)
        if (instance->ejected[i])
            json_array_append_new(ejected, memory_json(json_string(media_names[i].device)));
    if (instance->memory_mib > 0)
        check_set(kept, "memory", json_integer(instance->memory_mib));
    if (json_array_size(ejected) > 0)
        check_set(kept, "ejected", json_incref(ejected));
    if (json_array_size(down) > 0)
        check_set(kept, "links_down", json_incref(down));
    return kept;
}

/* The fields that this version knows in their order, then what else the file held. */
static json_t *fifth_element(const struct runtime *runtime)
{
    json_t *ours = memory_json(
        json_pack("{s:i, s:I, s:s, s:s, s:I, s:I}", "version", RUNTIME_VERSION, "generation",
                  (json_int_t)runtime->generation, "state", runtime_state_name(runtime->state),
                  "boot_id", runtime->boot_id, "pid", (json_int_t)runtime->pid, "start_time",
                  (json_int_t)runtime->start_time));
    const char *key;
    json_t *value;

    check_set(ours, "qemu", json_object());
    check_set(ours, "instance", instance_json(&runtime->instance));
    check_set(ours, "slots", runtime_slots_json(&runtime->instance));
    check_set(ours, "kept", kept_json(&runtime->instance));
    if (runtime->instance.default_devices)
        check_set(ours, "default_devices", json_true());
    check_set(ours, "devices", json_object());
    check_set(ours, "migration", json_object());
    json_object_foreach (runtime->ours, key, value) {
        bool is_field = json_object_get(ours, key) != NULL && strcmp(key, "qemu") != 0 &&
                        strcmp(key, "devices") != 0 && strcmp(key, "migration") != 0;

        if (!is_field && !json_is_null(value))
            check_set(ours, key, json_incref(value));
    }
    return ours;
}

char *runtime_text(const struct runtime *runtime)
{
    AUTO_JSON json_t *list = runtime_ganeti_json(runtime);

    json_array_append_new(list, fifth_element(runtime));
    /* jansson's separators without JSON_COMPACT are those of simplejson, Ganeti's writer. */
    AUTO_FREE char *text = json_dumps(list, JSON_ENSURE_ASCII);

    if (text == NULL)
        memory_json(NULL);
    return memory_format("%s\n", text);
}

int runtime_load(const struct rundir *rundir, const char *name, struct runtime *runtime,
                 struct error *error)
{
    char file[RUNDIR_PATH_MAX];
    AUTO_FREE char *bytes = NULL;
    size_t length;

    *runtime = (struct runtime){0};
    rundir_name(RUNDIR_RUNTIME, name, file);
    if (file_read(rundir->fd, file, RUNTIME_SIZE_MAX, true, &bytes, &length, error) != 0) {
        if (file_is_missing() && error != NULL)
            error->status = STATUS_STATE;
        return -1;
    }
    return runtime_parse(bytes, length, file, name, runtime, error);
}

int runtime_prepare(const struct rundir *rundir, const struct runtime *runtime, struct error *error)
{
    char file[RUNDIR_PATH_MAX];
    struct runtime next = *runtime; /* shallow: only the number differs */

    rundir_name(RUNDIR_RUNTIME, runtime->instance.name, file);
    next.generation++;
    AUTO_FREE char *text = runtime_text(&next);
    size_t length = strlen(text);
    if (length > RUNTIME_SIZE_MAX)
        return error_set(error, STATUS_FAILED, "%s: would be larger than %d bytes", file,
                         RUNTIME_SIZE_MAX);
    return file_prepare(rundir->fd, file, text, length, error);
}

int runtime_publish(const struct rundir *rundir, struct runtime *runtime, struct error *error)
{
    char file[RUNDIR_PATH_MAX];

    rundir_name(RUNDIR_RUNTIME, runtime->instance.name, file);
    if (file_publish(rundir->fd, file, error) < 0)
        return -1;
    runtime->generation++;
    return 0;
}

int runtime_commit(const struct rundir *rundir, struct runtime *runtime, struct error *error)
{
    return runtime_prepare(rundir, runtime, error) < 0 ? -1
                                                       : runtime_publish(rundir, runtime, error);
}

int runtime_remove(const struct rundir *rundir, const char *name, struct error *error)
{
    char file[RUNDIR_PATH_MAX];

    rundir_name(RUNDIR_RUNTIME, name, file);
    return file_remove(rundir->fd, file, NULL, error);
}

const char *const runtime_device_states[] = {"present", "adding", "removing", "changing", NULL};

enum device_state runtime_device_state(const struct runtime *runtime, const char *uuid)
{
    const json_t *devices = json_member(runtime->ours, "devices");
    const char *state = json_text(json_member(devices, uuid), "state");

    for (int i = 0; state != NULL && runtime_device_states[i] != NULL; i++) {
        if (strcmp(runtime_device_states[i], state) == 0)
            return (enum device_state)i;
    }
    return DEVICE_PRESENT;
}

const char *runtime_device_state_name(const struct runtime *runtime, const char *uuid)
{
    return runtime_device_states[runtime_device_state(runtime, uuid)];
}

void runtime_set_device_state(struct runtime *runtime, const char *uuid, enum device_state state)
{
    json_t *devices = json_member(runtime->ours, "devices"), *device;

    if (devices == NULL)
        check_set(runtime->ours, "devices", devices = json_object());
    device = json_member(devices, uuid);
    if (device == NULL)
        check_set(devices, uuid, device = json_object());
    if (state != DEVICE_PRESENT)
        check_set(device, "state", json_string(runtime_device_states[state]));
    else
        json_object_clear(device);
    if (json_object_size(device) == 0)
        json_object_del(devices, uuid);
}

const json_t *runtime_device_again(const struct runtime *runtime, const char *uuid)
{
    const json_t *again =
        json_member(json_member(json_member(runtime->ours, "devices"), uuid), "again");

    return json_is_object(again) ? again : NULL;
}

void runtime_set_device_again(struct runtime *runtime, const char *uuid, const json_t *again)
{
    json_t *device = json_member(json_member(runtime->ours, "devices"), uuid);

    if (again != NULL)
        check_set(device, "again", memory_json(json_deep_copy(again)));
    else
        json_object_del(device, "again");
}
