/* SPDX-License-Identifier: BSD-2-Clause */
/* What the user wrote: KEY=VALUE words or an object, and which disk or NIC is meant. */
#include <stdio.h>
#include <string.h>

#include "hotplug_private.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/host/network.h"
#include "kvm/host/tap.h"

static bool is_one_of(const char *word, const char *const *list)
{
    for (; list != NULL && *list != NULL; list++)
        if (strcmp(*list, word) == 0)
            return true;
    return false;
}

static int add_pair(json_t *object, const char *argument, const char *const *keys,
                    const char *const *numbers, struct error *error)
{
    const char *equals = strchr(argument, '=');
    int64_t number;

    if (equals == NULL || equals == argument)
        return error_set(error, STATUS_USAGE, "%s: expected KEY=VALUE", argument);
    AUTO_FREE char *key = memory_format("%.*s", (int)(equals - argument), argument);
    if (!is_one_of(key, keys)) {
        const char *near = text_nearest(key, keys);
        return error_set(error, STATUS_USAGE, "%s: unknown key%s%s%s", key,
                         near != NULL ? ", did you mean \"" : "", near != NULL ? near : "",
                         near != NULL ? "\"?" : "");
    }
    if (json_object_get(object, key) != NULL)
        return error_set(error, STATUS_USAGE, "%s: given twice", key);
    if (!text_is_utf8(equals + 1))
        return error_set(error, STATUS_USAGE, "%s: the value is not UTF-8", key);
    if (!is_one_of(key, numbers)) {
        json_object_set_new(object, key, memory_json(json_string(equals + 1)));
        return 0;
    }
    if (!text_number(equals + 1, 0, INT64_MAX, &number))
        return error_set(error, STATUS_USAGE,
                         "%s: must be a number, 0 or more (current value: \"%s\")", key,
                         equals + 1);
    json_object_set_new(object, key, memory_json(json_integer(number)));
    return 0;
}

int hotplug_read_given(struct hotplug *hotplug, struct error *error)
{
    size_t first = hotplug->subject == SUBJECT_NONE ? 0 : 1;

    if (hotplug->count != first + 1 || strcmp(hotplug->arguments[first], "-") != 0)
        return 0;
    hotplug->given = json_read("-", clock_deadline(hotplug->options->timeout_ms), error);
    if (hotplug->given != NULL && !json_is_object(hotplug->given))
        return error_set(error, STATUS_USAGE, "standard input: must be one JSON object");
    if (json_object_get(hotplug->given, "hvinfo") != NULL)
        return error_set(error, STATUS_USAGE,
                         "hvinfo: can't be given, where a device sits is chosen; \"slot\" of an "
                         "addition is its PCI slot");
    hotplug->advised = hotplug->given == NULL; /* QEMU has no part in that */
    return hotplug->given != NULL ? 0 : -1;
}

json_t *hotplug_object(const struct hotplug *hotplug, size_t first, const char *const *keys,
                       const char *const *numbers, struct error *error)
{
    if (hotplug->given != NULL)
        return json_incref(hotplug->given);
    AUTO_JSON json_t *object = memory_json(json_object());
    for (size_t i = first; i < hotplug->count; i++)
        if (add_pair(object, hotplug->arguments[i], keys, numbers, error) < 0)
            return NULL;
    return json_incref(object);
}

void hotplug_move_keys(json_t *object, const char *const *keys, const char *into)
{
    json_t *inner = json_member(object, into);

    for (; *keys != NULL; keys++) {
        json_t *value = json_object_get(object, *keys);
        if (value == NULL)
            continue;
        if (!json_is_object(inner)) {
            inner = memory_json(json_object());
            json_object_set_new(object, into, inner);
        }
        json_object_set(inner, *keys, value);
        json_object_del(object, *keys);
    }
}

/* Collects which device is meant; a second match of the same kind makes it ambiguous. */
struct search {
    const char *ident;
    int found;
    bool ambiguous;
};

static void match(struct search *search, size_t index, const char *value)
{
    if (value == NULL || strcmp(value, search->ident) != 0)
        return;
    search->ambiguous = search->ambiguous || (search->found >= 0 && search->found != (int)index);
    search->found = (int)index;
}

static int conclude(const struct search *search, const char *kind, size_t count,
                    struct error *error)
{
    if (search->ambiguous)
        return error_set(error, STATUS_USAGE,
                         "%s: names more than one %s; give its uuid, which 'list' shows",
                         search->ident, kind);
    if (search->found < 0)
        return error_set(error, STATUS_USAGE, "%s: no such %s (it has %zu); 'list' shows them",
                         search->ident, kind, count);
    return search->found;
}

static void match_index(struct search *search, size_t count)
{
    int64_t number;

    if (text_number(search->ident, 0, (int64_t)count - 1, &number)) {
        search->ambiguous = search->found >= 0 && search->found != (int)number;
        search->found = (int)number;
    }
}

/* By uuid once it is noted: see hotplug_name_subject. */
static const char *meant(const struct hotplug *hotplug, const char *ident)
{
    return hotplug->subject_uuid != NULL ? hotplug->subject_uuid : ident;
}

int hotplug_find_disk(const struct hotplug *hotplug, const char *ident, struct error *error)
{
    const struct instance *instance = hotplug->instance;
    struct search search = {meant(hotplug, ident), -1, false};

    for (size_t i = 0; i < instance->disk_count; i++) {
        match(&search, i, instance->disks[i].uuid);
        match(&search, i, instance->disks[i].name);
        match(&search, i, instance->disks[i].path);
        match(&search, i, instance->disks[i].uri);
        match(&search, i, json_text(instance->disks[i].hvinfo, "id"));
    }
    match_index(&search, instance->disk_count);
    return conclude(&search, "disk", instance->disk_count, error);
}

bool hotplug_is_gone(struct hotplug *hotplug, const char *kind, const char *ident)
{
    const struct instance *instance = hotplug->instance;

    ident = meant(hotplug, ident);
    if (!text_is_uuid(ident))
        return false;
    for (size_t i = 0; i < instance->disk_count; i++)
        if (strcmp(instance->disks[i].uuid, ident) == 0)
            return false;
    for (size_t i = 0; i < instance->nic_count; i++)
        if (strcmp(instance->nics[i].uuid, ident) == 0)
            return false;
    hotplug_text(hotplug, memory_format("%s %s is not there (any more)", kind, ident));
    return true;
}

int hotplug_find_nic(const struct hotplug *hotplug, const char *ident, struct error *error)
{
    const struct instance *instance = hotplug->instance;
    struct search search = {meant(hotplug, ident), -1, false};

    for (size_t i = 0; i < instance->nic_count; i++) {
        char tap[TAP_NAME_SIZE];
        match(&search, i, instance->nics[i].uuid);
        match(&search, i, instance->nics[i].name);
        match(&search, i, instance->nics[i].mac);
        match(&search, i, json_text(instance->nics[i].hvinfo, "id"));
        if (network_find_tap(hotplug->rundir, instance, i, hotplug->session.process.pid, tap))
            match(&search, i, tap);
    }
    match_index(&search, instance->nic_count);
    return conclude(&search, "NIC", instance->nic_count, error);
}

void hotplug_name_subject(struct hotplug *hotplug)
{
    const struct instance *instance = hotplug->instance;
    int index = hotplug->subject == SUBJECT_NONE ? -1
                : hotplug->subject == SUBJECT_DISK
                    ? hotplug_find_disk(hotplug, hotplug->arguments[0], NULL)
                    : hotplug_find_nic(hotplug, hotplug->arguments[0], NULL);

    if (index >= 0)
        hotplug->subject_uuid =
            memory_copy(hotplug->subject == SUBJECT_DISK ? instance->disks[index].uuid
                                                         : instance->nics[index].uuid);
}
