/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/state/instance.h"

#include <inttypes.h>
#include <string.h>
#include <uuid/uuid.h>
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/state/check.h"
#include "kvm/state/hvparams.h"
#include "kvm/state/instance_check.h"

enum { DEVICES_MAX = 256, MEMORY_DEFAULT_MIB = 128 };

static const char *const known_keys[] = {"name",  "uuid", "hvparams",     "beparams",      "nics",
                                         "disks", "tags", "network_port", "disk_template", NULL};

/* What an instance of a Ganeti configuration has and a node does not need. */
static const char *const ignored_keys[] = {"primary_node",
                                           "secondary_nodes",
                                           "os",
                                           "hypervisor",
                                           "admin_state",
                                           "disks_active",
                                           "serial_no",
                                           "ctime",
                                           "mtime",
                                           "admin_state_source",
                                           "osparams",
                                           "forthcoming",
                                           "disks_info",
                                           "osparams_private",
                                           "osparams_secret",
                                           "nicparams",
                                           "cluster",
                                           "auto_balance",
                                           "snodes",
                                           "pnode",
                                           NULL};

int instance_check_name(const char *name, struct error *error)
{
    AUTO_FREE char *shown = text_escape(name, strlen(name));

    if (name[0] == '\0')
        return error_set(error, STATUS_USAGE, "the instance name is empty");
    if (strlen(name) > INSTANCE_NAME_MAX)
        return error_set(error, STATUS_USAGE, "instance name \"%s\": at most %d bytes", shown,
                         INSTANCE_NAME_MAX);
    if (name[0] == '.' || !check_is_word(name, "._-", INSTANCE_NAME_MAX))
        return error_set(error, STATUS_USAGE,
                         "instance name \"%s\": must be letters, digits and . _ -, not beginning "
                         "with . or -",
                         shown);
    return 0;
}

/* One level of beparams over what is there: memory is both, and maxmem alone is both as well. */
static void read_beparams(const json_t *owner, const char *source, int64_t least,
                          struct instance *instance, struct messages *problems)
{
    static const char *const known[] = {"maxmem", "minmem", "memory", "vcpus", NULL};
    static const char *const ignored[] = {"auto_balance", "always_failover", "spindle_use", NULL};
    AUTO_FREE char *outer = memory_format("%s: ", source);
    AUTO_FREE char *prefix = memory_format("%s: beparams.", source);
    struct check check = {prefix, problems};
    const json_t *given = check_object(&(struct check){outer, problems}, owner, "beparams");
    int64_t memory, most = INT64_C(1) << 30;

    check_keys(&check, given, known, ignored);
    if (check_number(&check, given, "memory", least, most, &memory))
        instance->maxmem_mib = instance->minmem_mib = memory;
    if (check_number(&check, given, "maxmem", least, most, &memory))
        instance->maxmem_mib = instance->minmem_mib = memory;
    check_number(&check, given, "minmem", least, most, &instance->minmem_mib);
    check_number(&check, given, "vcpus", least, 4096, &instance->vcpus);
    if (instance->minmem_mib > instance->maxmem_mib)
        check_fail(&check, "minmem", json_member(given, "minmem"),
                   "must be at most maxmem, %" PRId64, instance->maxmem_mib);
}

static void read_tags(const struct check *check, const json_t *definition,
                      struct instance *instance)
{
    const json_t *given = check_array(check, definition, "tags");
    json_t *tag;
    size_t index;

    json_decref(instance->tags);
    instance->tags = memory_json(json_array());
    json_array_foreach (given, index, tag) {
        const char *text = json_string_value(tag);

        if (text == NULL || text[0] == '\0' || strlen(text) > 128 || strchr(text, ' ') != NULL ||
            text_has_control(text)) {
            AUTO_FREE char *key = memory_format("tags[%zu]", index);
            check_fail(check, key, tag, "must be a string of 1 to 128 bytes without blanks");
            continue;
        }
        json_array_append_new(instance->tags, memory_json(json_string(text)));
    }
}

void instance_read_head(const json_t *definition, const char *source, int64_t least,
                        struct instance *instance, struct messages *problems)
{
    AUTO_FREE char *prefix = memory_format("%s: ", source);
    struct check check = {prefix, problems};
    char uuid[37];

    if (check_uuid(&check, definition, "uuid", uuid) == 1) {
        free(instance->uuid);
        instance->uuid = memory_copy(uuid);
    }
    read_beparams(definition, source, least, instance, problems);
    read_tags(&check, definition, instance);
    check_number(&check, definition, "network_port", 0, 65535, &instance->network_port);
    const char *template = check_text(&check, definition, "disk_template");

    if (template != NULL && template[0] != '\0' && !check_is_word(template, "_-", 32))
        check_fail(&check, "disk_template", json_member(definition, "disk_template"),
                   "must be a word");
    free(instance->disk_template);
    instance->disk_template = memory_copy(template == NULL ? "" : template);
}

static void read_name(const struct check *check, const json_t *definition,
                      struct instance *instance)
{
    const char *name = check_text(check, definition, "name");
    struct error error = {0};

    if (name == NULL && json_member(definition, "name") == NULL)
        check_fail(check, "name", NULL, "is missing");
    if (name == NULL)
        return;
    if (instance_check_name(name, &error) != 0)
        messages_add(check->problems, "%sname: %s", check->prefix, error.text);
    instance->name = memory_copy(name);
}

static void read_hvparams(const json_t *definition, const char *source, const json_t *defaults,
                          const char *defaults_source, struct instance *instance,
                          struct messages *problems)
{
    AUTO_FREE char *prefix = memory_format("%s: ", source);
    AUTO_FREE char *where = memory_format("%s: hvparams", source);
    AUTO_FREE char *defaults_where = memory_format("%s: hvparams", defaults_source);
    const json_t *given = check_object(&(struct check){prefix, problems}, definition, "hvparams");
    const json_t *node = json_member(defaults, "hvparams");
    size_t before = problems->count;

    hvparams_check(node, defaults_where, problems);
    hvparams_check(given, where, problems);
    instance->hvparams = hvparams_fill(node, given);
    if (problems->count == before)
        hvparams_check_whole(instance->hvparams, where, problems);
}

/* A missing uuid is derived (RFC 4122, version 5) from what the operator wrote, so that the same definition gives
 * the same instance, devices and MACs at every start. */
static void derive_uuid(const char *base, const char *what, char *text)
{
    static const char suite[] = "5e6cf0c2-3a1d-4e0b-9a55-6b766d2d7375";
    uuid_t binary, derived;

    uuid_parse(base != NULL ? base : suite, binary);
    uuid_generate_sha1(derived, binary, what, strlen(what));
    uuid_unparse_lower(derived, text);
}

static void settle_uuid(struct instance *instance)
{
    char uuid[37];

    if (instance->uuid != NULL || instance->name == NULL)
        return;
    derive_uuid(NULL, instance->name, uuid);
    instance->uuid = memory_copy(uuid);
}

/* The device's object with a uuid; a new reference. */
static json_t *with_uuid(json_t *given, const char *what, const struct instance *instance)
{
    char uuid[37];

    if (!json_is_object(given) || json_member(given, "uuid") != NULL || instance->uuid == NULL)
        return json_incref(given);
    json_t *copy = memory_json(json_copy(given));
    derive_uuid(instance->uuid, what, uuid);
    check_set(copy, "uuid", json_string(uuid));
    return copy;
}

static void read_disks(const json_t *definition, const char *source, struct instance *instance,
                       struct messages *problems)
{
    AUTO_FREE char *prefix = memory_format("%s: ", source);
    struct check check = {prefix, problems};
    const json_t *list = check_array(&check, definition, "disks");
    size_t count = json_array_size(list);

    if (count > DEVICES_MAX) {
        messages_add(problems, "%s: disks: at most %d", source, DEVICES_MAX);
        return;
    }
    instance->disks = memory_zeroed(count + 1, sizeof(*instance->disks));
    for (size_t i = 0; i < count; i++) {
        AUTO_FREE char *where = memory_format("%s: disks[%zu]", source, i);
        AUTO_FREE char *number = memory_format("disk/%zu", i);
        struct disk *disk = &instance->disks[instance->disk_count];

        AUTO_JSON json_t *given = with_uuid(json_array_get(list, i), number, instance);

        if (disk_parse(given, where, disk, problems) != 0)
            continue;
        if (json_member(disk->object, "iv_name") == NULL)
            check_set(disk->object, "iv_name", json_string(number));
        instance->disk_count++;
    }
}

static void read_nics(const json_t *definition, const char *source, const json_t *defaults,
                      struct instance *instance, struct messages *problems)
{
    AUTO_FREE char *prefix = memory_format("%s: ", source);
    struct check check = {prefix, problems};
    const json_t *list = check_array(&check, definition, "nics");
    size_t count = json_array_size(list);

    if (count > DEVICES_MAX) {
        messages_add(problems, "%s: nics: at most %d", source, DEVICES_MAX);
        return;
    }
    instance->nics = memory_zeroed(count + 1, sizeof(*instance->nics));
    for (size_t i = 0; i < count; i++) {
        AUTO_FREE char *where = memory_format("%s: nics[%zu]", source, i);
        AUTO_FREE char *number = memory_format("nic/%zu", i);
        AUTO_JSON json_t *given = with_uuid(json_array_get(list, i), number, instance);

        if (nic_parse(given, where, json_member(defaults, "nicparams"),
                      &instance->nics[instance->nic_count], problems) == 0)
            instance->nic_count++;
    }
}

int instance_parse(const json_t *definition, const char *source, const json_t *defaults,
                   const char *defaults_source, struct instance *instance,
                   struct messages *problems)
{
    AUTO_FREE char *prefix = memory_format("%s: ", source);
    struct check check = {prefix, problems};
    const char *node = defaults_source == NULL ? "defaults" : defaults_source;
    size_t before = problems->count;

    *instance = (struct instance){
        .maxmem_mib = MEMORY_DEFAULT_MIB, .minmem_mib = MEMORY_DEFAULT_MIB, .vcpus = 1};
    if (!json_is_object(definition)) {
        messages_add(problems, "%s: must be an object, it is: %s", source,
                     json_type_name(definition));
        return -1;
    }
    check_keys(&check, definition, known_keys, ignored_keys);
    read_name(&check, definition, instance);
    read_beparams(defaults, node, 1, instance, problems);
    instance_read_head(definition, source, 1, instance, problems);
    read_hvparams(definition, source, defaults, node, instance, problems);
    settle_uuid(instance);
    read_disks(definition, source, instance, problems);
    read_nics(definition, source, defaults, instance, problems);
    if (problems->count == before)
        instance_check_whole(instance, source, problems);
    /* Only then are the numbers of disks and NICs those of the definition. */
    if (instance->disk_count == json_array_size(json_member(definition, "disks")) &&
        instance->nic_count == json_array_size(json_member(definition, "nics")))
        instance_check_unique(instance, source, problems);
    if (problems->count > before) {
        instance_release(instance);
        return -1;
    }
    return 0;
}

static json_t *disk_json(const struct disk *disk)
{
    json_t *object = memory_json(json_copy(disk->object));

    if (disk->path != NULL)
        check_set(object, "path", json_string(disk->path));
    if (disk->uri != NULL)
        check_set(object, "uri", json_string(disk->uri));
    return object;
}

json_t *instance_json(const struct instance *instance)
{
    json_t *disks = memory_json(json_array()), *nics = memory_json(json_array());

    for (size_t i = 0; i < instance->disk_count; i++)
        json_array_append_new(disks, disk_json(&instance->disks[i]));
    for (size_t i = 0; i < instance->nic_count; i++)
        json_array_append_new(nics, json_incref(instance->nics[i].object));
    return memory_json(
        json_pack("{s:s, s:s, s:{s:I, s:I, s:I}, s:o, s:o, s:o, s:o, s:I, s:s}", "name",
                  instance->name, "uuid", instance->uuid, "beparams", "maxmem",
                  (json_int_t)instance->maxmem_mib, "minmem", (json_int_t)instance->minmem_mib,
                  "vcpus", (json_int_t)instance->vcpus, "hvparams", json_incref(instance->hvparams),
                  "disks", disks, "nics", nics, "tags", json_incref(instance->tags), "network_port",
                  (json_int_t)instance->network_port, "disk_template", instance->disk_template));
}

void instance_release(struct instance *instance)
{
    if (instance == NULL)
        return;
    for (size_t i = 0; i < instance->disk_count; i++)
        disk_release(&instance->disks[i]);
    for (size_t i = 0; i < instance->nic_count; i++)
        nic_release(&instance->nics[i]);
    free(instance->disks);
    free(instance->nics);
    free(instance->name);
    free(instance->uuid);
    free(instance->disk_template);
    json_decref(instance->hvparams);
    json_decref(instance->tags);
    *instance = (struct instance){0};
}
