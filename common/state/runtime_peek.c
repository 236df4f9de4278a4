/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The few fields that a list shows, out of a file that this suite wrote itself: a thousand files are looked at for
 * one list, and reading each as carefully as for an operation takes ten times as long.
 */
#include "runtime_private.h"

#include <stdio.h>
#include <string.h>
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"

enum { FIFTH = 4 };

/* Where the fifth element of the outer list begins; its end is the list's. NULL: there is none. */
static const char *find_fifth(const char *text, const char *end)
{
    int depth = 0, commas = 0;

    for (; text < end; text++) {
        if (*text == '"') {
            for (text++; text < end && *text != '"'; text++)
                text += *text == '\\';
        } else if (*text == '[' || *text == '{') {
            depth++;
        } else if (*text == ']' || *text == '}') {
            depth--;
        } else if (*text == ',' && depth == 1 && ++commas == FIFTH) {
            return text + 1;
        }
    }
    return NULL;
}

/* False: not such a file, or anything odd; the careful reader then says what. */
static bool read_head(const json_t *ours, const char *name, struct runtime *runtime)
{
    const json_t *instance = json_member(ours, "instance");
    const json_t *beparams = json_member(instance, "beparams");
    const char *own = json_text(instance, "name"), *uuid = json_text(instance, "uuid");
    const char *state = json_text(ours, "state"), *boot_id = json_text(ours, "boot_id");
    int64_t pid = json_number(ours, "pid", -1);

    if (json_number(ours, "version", 0) != RUNTIME_VERSION || own == NULL ||
        strcmp(own, name) != 0 || uuid == NULL || !text_is_uuid(uuid) || state == NULL ||
        boot_id == NULL || strlen(boot_id) >= BOOT_ID_SIZE || pid < 0 || pid > INT32_MAX)
        return false;
    runtime->state = RUNTIME_FOREIGN;
    for (int i = 0; runtime_state_names[i] != NULL; i++)
        if (strcmp(runtime_state_names[i], state) == 0)
            runtime->state = (enum runtime_state)i;
    runtime->pid = (pid_t)pid;
    runtime->start_time = (uint64_t)json_number(ours, "start_time", 0);
    snprintf(runtime->boot_id, sizeof(runtime->boot_id), "%s", boot_id);
    json_t *migration = json_member(ours, "migration");
    if (json_object_size(migration) > 0)
        runtime->ours = memory_json(json_pack("{s:O}", "migration", migration));
    runtime->instance.name = memory_copy(name);
    runtime->instance.uuid = memory_copy(uuid);
    runtime->instance.maxmem_mib = json_number(beparams, "maxmem", 0);
    runtime->instance.vcpus = json_number(beparams, "vcpus", 0);
    return true;
}

int runtime_peek(const struct rundir *rundir, const char *name, struct runtime *runtime,
                 struct error *error)
{
    char file[RUNDIR_PATH_MAX];
    AUTO_FREE char *bytes = NULL;
    size_t length, used;

    *runtime = (struct runtime){0};
    rundir_name(RUNDIR_RUNTIME, name, file);
    if (file_read(rundir->fd, file, RUNTIME_SIZE_MAX, true, &bytes, &length, error) != 0) {
        if (file_is_missing() && error != NULL)
            error->status = STATUS_STATE;
        return -1;
    }
    const char *fifth = find_fifth(bytes, bytes + length);
    json_error_t fault;
    AUTO_JSON json_t *ours = fifth == NULL ? NULL
                                           : json_loadb(fifth, length - (size_t)(fifth - bytes),
                                                        JSON_DISABLE_EOF_CHECK, &fault);
    used = ours == NULL ? 0 : (size_t)(fifth - bytes) + (size_t)fault.position;
    if (ours != NULL && strcmp(bytes + used, "]\n") == 0 && read_head(ours, name, runtime))
        return 0;
    return runtime_parse(bytes, length, file, name, runtime, error);
}
