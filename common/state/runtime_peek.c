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

enum { OURS = 4 };

/* What is parsed of the fifth element; all of it would take as long as the rest of the look. */
static const char *const of_ours[] = {"version",    "state",     "boot_id",  "pid",
                                      "start_time", "migration", "instance", NULL};
static const char *const of_instance[] = {"name", "uuid", "beparams", NULL};

/* Each of these takes where something begins and tells where it ends; NULL: it is cut off or odd. */
static const char *skip_blanks(const char *text, const char *end)
{
    while (text != NULL && text < end && (*text == ' ' || *text == '\n'))
        text++;
    return text == NULL || text == end ? NULL : text;
}

static const char *skip_string(const char *text, const char *end)
{
    for (text++; text < end && *text != '"'; text++)
        text += *text == '\\';
    return text < end ? text + 1 : NULL;
}

static const char *skip_value(const char *text, const char *end)
{
    int depth = 0;

    while ((text = skip_blanks(text, end)) != NULL) {
        if (*text == '"') {
            text = skip_string(text, end);
            if (text == NULL || depth == 0)
                return text;
            continue;
        }
        bool closing = *text == ']' || *text == '}';
        if (depth == 0 && (closing || *text == ',')) /* behind a number or a word */
            return text;
        depth += *text == '[' || *text == '{' ? 1 : closing ? -1 : 0;
        text++;
        if (closing && depth == 0)
            return text;
    }
    return NULL;
}

static const char *skip_mark(const char *text, const char *end, char mark)
{
    text = skip_blanks(text, end);
    return text != NULL && *text == mark ? text + 1 : NULL;
}

static bool is_one_of(const char *key, const char *end, const char *const *keys)
{
    size_t length = (size_t)(end - key);

    for (; *keys != NULL; keys++)
        if (strlen(*keys) == length && memcmp(*keys, key, length) == 0)
            return true;
    return false;
}

static const char *take_members(const char *text, const char *end, const char *const *keys,
                                json_t *members);

static const char *take_member(const char *text, const char *end, const char *const *keys,
                               json_t *members)
{
    const char *key = skip_mark(text, end, '"');
    const char *key_end = key == NULL ? NULL : skip_string(key - 1, end);
    const char *value = skip_blanks(skip_mark(key_end, end, ':'), end);

    if (value == NULL || !is_one_of(key, key_end - 1, keys))
        return skip_value(value, end);
    AUTO_FREE char *name = memory_format("%.*s", (int)(key_end - 1 - key), key);
    json_t *member = NULL;
    if (keys == of_ours && strcmp(name, "instance") == 0) {
        member = memory_json(json_object());
        text = take_members(value, end, of_instance, member);
    } else {
        text = skip_value(value, end);
        if (text != NULL)
            member = json_loadb(value, (size_t)(text - value), JSON_DECODE_ANY, NULL);
    }
    json_object_set_new(members, name, member);
    return member == NULL ? NULL : text;
}

/* Of the object that begins there, what the keys name. */
static const char *take_members(const char *text, const char *end, const char *const *keys,
                                json_t *members)
{
    text = skip_mark(text, end, '{');
    while (text != NULL) {
        text = skip_blanks(take_member(text, end, keys, members), end);
        if (text != NULL && *text == '}')
            return text + 1;
        text = skip_mark(text, end, ',');
    }
    return NULL;
}

/* NULL: not such a file. */
static json_t *take_ours(const char *text, const char *end)
{
    AUTO_JSON json_t *members = memory_json(json_object());

    text = skip_mark(text, end, '[');
    for (int i = 0; i < OURS; i++)
        text = skip_mark(skip_value(text, end), end, ',');
    text = skip_mark(take_members(text, end, of_ours, members), end, ']');
    return text != NULL && skip_blanks(text, end) == NULL ? json_incref(members) : NULL;
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
    size_t length;

    *runtime = (struct runtime){0};
    rundir_name(RUNDIR_RUNTIME, name, file);
    if (file_read(rundir->fd, file, RUNTIME_SIZE_MAX, true, &bytes, &length, error) != 0) {
        if (file_is_missing() && error != NULL)
            error->status = STATUS_STATE;
        return -1;
    }
    AUTO_JSON json_t *ours = take_ours(bytes, bytes + length);
    if (ours != NULL && read_head(ours, name, runtime))
        return 0;
    return runtime_parse(bytes, length, file, name, runtime, error);
}
