/* SPDX-License-Identifier: BSD-2-Clause */
#include "runtime_private.h"

#include <string.h>
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/state/check.h"
#include "kvm/state/hvparams.h"

enum { ELEMENTS_LEAST = 3, ELEMENTS_MOST = 5, DEVICES_MAX = 256, WORDS_MAX = 4096 };

static void check_word(struct reading *reading, size_t index, const json_t *word,
                       const json_t *before)
{
    const char *option = json_string_value(before);
    bool number = json_is_integer(word) && option != NULL && strcmp(option, "-m") == 0;

    if (number || (json_is_string(word) && !text_has_control(json_string_value(word))))
        return;
    AUTO_FREE char *key = memory_format("kvm_cmd[%zu]", index);
    AUTO_FREE char *prefix = memory_format("%s: ", reading->source);

    check_fail(&(struct check){prefix, reading->problems}, key, word,
               "must be a string without control characters");
}

/* The name up to the first comma, also as guest=NAME. */
static void check_name(struct reading *reading, const json_t *command)
{
    size_t place;
    const char *value = json_string_value(command_value(command, "-name", &place));

    if (value == NULL) {
        messages_add(&reading->runtime->notes, "kvm_cmd: has no -name to compare");
        return;
    }
    if (strncmp(value, "guest=", 6) == 0)
        value += 6;
    size_t length = strcspn(value, ",");

    if (length == strlen(reading->name) && strncmp(value, reading->name, length) == 0)
        return;
    AUTO_FREE char *shown = text_escape(value, length);

    messages_add(reading->problems, "%s: kvm_cmd[%zu]: belongs to another instance, \"%s\"",
                 reading->source, place, shown);
}

static void read_command(struct reading *reading)
{
    const json_t *command = json_array_get(reading->list, 0), *before = NULL;
    size_t index, count = reading->problems->count;
    json_t *word;

    if (!json_is_array(command) || json_array_size(command) == 0 ||
        json_array_size(command) > WORDS_MAX) {
        messages_add(reading->problems, "%s: kvm_cmd: must be a list of 1 to %d words",
                     reading->source, WORDS_MAX);
        return;
    }
    json_array_foreach (command, index, word) {
        check_word(reading, index, word, before);
        before = word;
    }
    if (reading->problems->count > count)
        return;
    check_name(reading, command);
    reading->runtime->kvm_cmd = upgrade_command(command, &reading->runtime->notes);
}

/* What the guest was started with, where the file leaves it to QEMU's default. */
static void pin_machine(struct reading *reading)
{
    json_t *hvparams = reading->runtime->instance.hvparams;
    size_t place;
    const json_t *word = command_value(reading->runtime->kvm_cmd, "-machine", &place);

    if (word == NULL)
        word = command_value(reading->runtime->kvm_cmd, "-M", &place);
    if (!json_is_string(word) || hvparams_text(hvparams, "machine_version")[0] != '\0')
        return;
    const char *value = json_string_value(word);

    if (strncmp(value, "type=", 5) == 0)
        value += 5;
    AUTO_FREE char *machine = memory_format("%.*s", (int)strcspn(value, ","), value);

    if (!check_is_word(machine, "._-+", 64))
        return;
    check_set(hvparams, "machine_version", json_string(machine));
    messages_add(&reading->runtime->notes, "hvparams.machine_version: taken from kvm_cmd: %s",
                 machine);
}

static void read_hvparams(struct reading *reading)
{
    AUTO_FREE char *where = memory_format("%s: hvparams", reading->source);
    AUTO_FREE char *prefix = memory_format("%s: ", reading->source);
    struct check check = {prefix, reading->problems};
    const json_t *given = json_array_get(reading->list, 2);

    if (!json_is_object(given)) {
        messages_add(reading->problems, "%s: must be an object", where);
        return;
    }
    if (!check_strings(&check, "hvparams", given))
        return;
    hvparams_check_loaded(given, where, reading->problems);
    const char *discard = json_text(given, "disk_discard");

    if (discard != NULL && strcmp(discard, "default") == 0)
        messages_add(&reading->runtime->notes, "hvparams.disk_discard: default became ignore");
    reading->runtime->instance.hvparams = hvparams_fill(NULL, given);
    pin_machine(reading);
}

static const json_t *list_of(struct reading *reading, size_t element, const char *name)
{
    const json_t *list = json_array_get(reading->list, element);

    if (!json_is_array(list) || json_array_size(list) > DEVICES_MAX) {
        messages_add(reading->problems, "%s: %s: must be a list of at most %d", reading->source,
                     name, DEVICES_MAX);
        return NULL;
    }
    return list;
}

static void read_nics(struct reading *reading)
{
    struct instance *instance = &reading->runtime->instance;
    const char *model = json_text(json_array_get(reading->list, 2), "nic_type");
    const json_t *list = list_of(reading, 1, "nics");
    size_t index;
    json_t *item;

    instance->nics = memory_zeroed(json_array_size(list) + 1, sizeof(*instance->nics));
    json_array_foreach (list, index, item) {
        AUTO_FREE char *where = memory_format("%s: nics[%zu]", reading->source, index);

        if (json_is_object(item))
            upgrade_pci(item, true, model, where, &reading->runtime->notes, reading->problems);
        struct nic *nic = &instance->nics[instance->nic_count];

        if (nic_load(item, where, nic, &reading->runtime->notes, reading->problems) != 0)
            continue;
        if (nic->hvinfo == NULL)
            check_set(nic->object, "hvinfo", json_object());
        nic_refresh(nic);
        instance->nic_count++;
    }
}

static void check_opened(struct reading *reading, const json_t *entry, size_t member,
                         const char *where)
{
    const json_t *value = json_array_get(entry, member);
    const char *text = json_string_value(value);

    if (value == NULL || json_is_null(value))
        return;
    if (text == NULL || text_has_control(text) || strlen(text) >= CHECK_TEXT_MAX)
        messages_add(reading->problems,
                     "%s[%zu]: must be a string without control characters, or null", where,
                     member);
    else if (member == 1 && !check_is_path(text))
        messages_add(reading->problems, "%s[1]: must be an absolute, normalised path", where);
}

/* [dict, path, uri]; files made by hand may lack the uri. */
static void read_disk(struct reading *reading, const json_t *entry, const char *where,
                      const char *model)
{
    struct instance *instance = &reading->runtime->instance;
    struct disk *disk = &instance->disks[instance->disk_count];
    AUTO_FREE char *inner = memory_format("%s[0]", where);
    size_t count = reading->problems->count;

    if (!json_is_array(entry) || json_array_size(entry) < 2 || json_array_size(entry) > 3) {
        messages_add(reading->problems, "%s: must be a list of dictionary, path and uri", where);
        return;
    }
    json_t *object = json_array_get(entry, 0);
    const char *path = json_string_value(json_array_get(entry, 1));
    const char *uri = json_string_value(json_array_get(entry, 2));

    check_opened(reading, entry, 1, where);
    check_opened(reading, entry, 2, where);
    if (reading->problems->count == count && path == NULL && uri == NULL)
        messages_add(reading->problems, "%s: has neither path nor uri", where);
    if (json_is_object(object))
        upgrade_pci(object, false, model, inner, &reading->runtime->notes, reading->problems);
    if (disk_load(object, path, uri, inner, disk, &reading->runtime->notes, reading->problems) != 0)
        return;
    if (disk->hvinfo == NULL)
        check_set(disk->object, "hvinfo", json_object());
    disk_refresh(disk);
    instance->disk_count++;
}

static void read_disks(struct reading *reading)
{
    struct instance *instance = &reading->runtime->instance;
    const char *model = json_text(json_array_get(reading->list, 2), "disk_type");
    const json_t *list = NULL;
    size_t index;
    json_t *item;

    if (json_array_size(reading->list) > 3)
        list = list_of(reading, 3, "disks");
    else
        messages_add(&reading->runtime->notes,
                     "disks: the file has none, they are inside kvm_cmd (Ganeti before 2.10)");
    instance->disks = memory_zeroed(json_array_size(list) + 1, sizeof(*instance->disks));
    json_array_foreach (list, index, item) {
        AUTO_FREE char *where = memory_format("%s: disks[%zu]", reading->source, index);

        read_disk(reading, item, where, model);
    }
}

static void read_elements(struct reading *reading)
{
    size_t count = json_array_size(reading->list);

    if (!json_is_array(reading->list) || count < ELEMENTS_LEAST || count > ELEMENTS_MOST) {
        messages_add(reading->problems, "%s: must be a list of %d to %d elements", reading->source,
                     ELEMENTS_LEAST, ELEMENTS_MOST);
        return;
    }
    read_command(reading);
    read_hvparams(reading);
    read_nics(reading);
    read_disks(reading);
    read_ours(reading);
    if (reading->problems->count == 0)
        instance_check_unique(&reading->runtime->instance, reading->source, reading->problems);
}

int runtime_parse(const char *bytes, size_t length, const char *source, const char *name,
                  struct runtime *runtime, struct error *error)
{
    AUTO_MESSAGES struct messages problems = {0};

    *runtime = (struct runtime){0};
    if (length > RUNTIME_SIZE_MAX)
        return error_set(error, STATUS_FAILED, "%s: is larger than %d bytes", source,
                         RUNTIME_SIZE_MAX);
    AUTO_JSON json_t *list = json_parse(bytes, length, source, error);

    if (list == NULL)
        return -1;
    runtime->instance.name = memory_copy(name);
    read_elements(&(struct reading){source, name, list, runtime, &problems});
    if (problems.count == 0)
        return 0;
    runtime_release(runtime);
    return messages_error(&problems, STATUS_FAILED, error);
}
