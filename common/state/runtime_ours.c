/* SPDX-License-Identifier: BSD-2-Clause */
#include "runtime_private.h"

#include <stdio.h>
#include <string.h>
#include <uuid/uuid.h>
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/state/check.h"
#include "kvm/state/media.h"
#include "kvm/state/placement.h"
#include "kvm/state/slots.h"

static void read_device_states(const struct check *check, const json_t *ours)
{
    const json_t *devices = check_object(check, ours, "devices");
    const char *key;
    json_t *device;

    json_object_foreach ((json_t *)(uintptr_t)devices, key, device) {
        AUTO_FREE char *shown = text_escape(key, strlen(key));
        AUTO_FREE char *place = memory_format("devices.%s", shown);
        AUTO_FREE char *prefix = memory_format("%s%s.", check->prefix, place);

        if (!text_is_uuid(key) || !json_is_object(device))
            check_fail(check, place, device, "must be an object by the uuid of a device");
        else
            check_choice(&(struct check){prefix, check->problems}, device, "state",
                         runtime_device_states);
    }
}

static void read_process(const struct check *check, const json_t *ours, struct runtime *runtime)
{
    int64_t pid = 0, start_time = 0;
    const char *boot_id = check_text(check, ours, "boot_id");

    check_number(check, ours, "pid", 0, INT32_MAX, &pid);
    check_number(check, ours, "start_time", 0, INT64_MAX, &start_time);
    check_number(check, ours, "generation", 0, INT64_MAX - 1, &runtime->generation);
    runtime->pid = (pid_t)pid;
    runtime->start_time = (uint64_t)start_time;
    if (boot_id == NULL || boot_id[0] == '\0')
        return;
    if (text_is_uuid(boot_id))
        memcpy(runtime->boot_id, boot_id, BOOT_ID_SIZE);
    else
        check_fail(check, "boot_id", json_member(ours, "boot_id"), "must be a uuid");
}

static void read_state(const struct check *check, const json_t *ours, struct runtime *runtime)
{
    const char *state = check_choice(check, ours, "state", runtime_state_names);

    if (json_member(ours, "state") == NULL)
        check_fail(check, "state", NULL, "is missing");
    for (int i = 0; state != NULL && runtime_state_names[i] != NULL; i++) {
        if (strcmp(runtime_state_names[i], state) == 0)
            runtime->state = (enum runtime_state)i;
    }
}

enum { OWN_SLOTS = SCSI_CONTROLLERS + 5 + CDROMS };

struct own_slot {
    const char *key;
    int *slot;
};

static void own_slots(struct instance *instance, struct own_slot slots[OWN_SLOTS])
{
    const struct own_slot list[OWN_SLOTS] = {
        {"sound", &instance->sound_slot},       {"scsi", &instance->scsi_slots[0]},
        {"scsi1", &instance->scsi_slots[1]},    {"scsi2", &instance->scsi_slots[2]},
        {"scsi3", &instance->scsi_slots[3]},    {"balloon", &instance->balloon_slot},
        {"serial", &instance->serial_slot},     {"rng", &instance->rng_slot},
        {"watchdog", &instance->watchdog_slot}, {"cdrom", &instance->cdrom_slots[0]},
        {"cdrom2", &instance->cdrom_slots[1]}};

    memcpy(slots, list, sizeof(list));
}

/* Of the device; the serial controller is called as Ganeti calls it. */
static const char *own_slot_id(const struct own_slot *slot)
{
    return strcmp(slot->key, "serial") == 0 ? "spice" : slot->key;
}

json_t *runtime_slots_json(const struct instance *instance)
{
    struct instance copy = *instance; /* shallow: only the numbers are looked at */
    struct own_slot slots[OWN_SLOTS];
    json_t *object = memory_json(json_object());

    own_slots(&copy, slots);
    for (size_t i = 0; i < OWN_SLOTS; i++)
        check_set(object, slots[i].key, json_integer(*slots[i].slot));
    return object;
}

static void read_slots(const char *prefix, const json_t *ours, struct reading *reading)
{
    struct own_slot controllers[OWN_SLOTS];
    AUTO_FREE char *inner = memory_format("%sslots.", prefix);
    struct check check = {inner, reading->problems};
    const json_t *slots = check_object(&(struct check){prefix, reading->problems}, ours, "slots");

    own_slots(&reading->runtime->instance, controllers);
    for (size_t i = 0; i < OWN_SLOTS; i++) {
        int64_t slot = 0;

        if (check_number(&check, slots, controllers[i].key, 0, SLOTS_COUNT - 1, &slot))
            *controllers[i].slot = (int)slot;
        if (slot > 0 && slot < SLOTS_RESERVED)
            check_fail(&check, controllers[i].key, json_member(slots, controllers[i].key),
                       "is a reserved slot");
    }
}

/* Members of the list, as they are; what is no list is told. */
static const json_t *read_words(const struct check *check, const json_t *kept, const char *key)
{
    const json_t *list = json_member(kept, key);

    if (list == NULL || json_is_array(list))
        return list;
    check_fail(check, key, list, "must be a list");
    return NULL;
}

static bool names(const json_t *list, const char *word)
{
    size_t i;
    json_t *one;

    json_array_foreach (list, i, one)
        if (json_is_string(one) && strcmp(json_string_value(one), word) == 0)
            return true;
    return false;
}

static void read_kept(const char *prefix, const json_t *ours, struct reading *reading)
{
    struct instance *instance = &reading->runtime->instance;
    AUTO_FREE char *inner = memory_format("%skept.", prefix);
    struct check check = {inner, reading->problems};
    const json_t *kept = check_object(&(struct check){prefix, reading->problems}, ours, "kept");

    if (kept == NULL)
        return;
    check_number(&check, kept, "memory", 0, INT32_MAX, &instance->memory_mib);
    const json_t *ejected = read_words(&check, kept, "ejected");
    const json_t *down = read_words(&check, kept, "links_down");
    for (int i = 0; i < CDROMS; i++)
        instance->ejected[i] = names(ejected, media_names[i].device);
    for (size_t i = 0; i < instance->nic_count; i++)
        instance->nics[i].link_down = names(down, instance->nics[i].uuid);
}

static void read_version(struct reading *reading, const json_t *ours)
{
    AUTO_FREE char *prefix = memory_format("%s: [4].", reading->source);
    AUTO_FREE char *inner = memory_format("%s: [4].instance", reading->source);
    struct check check = {prefix, reading->problems};
    struct instance *instance = &reading->runtime->instance;
    int64_t version;

    if (!check_number(&check, ours, "version", 1, INT64_MAX, &version))
        return;
    if (version > RUNTIME_VERSION) {
        check_fail(&check, "version", json_member(ours, "version"),
                   "was written by a newer version of this suite");
        return;
    }
    read_state(&check, ours, reading->runtime);
    read_process(&check, ours, reading->runtime);
    read_device_states(&check, ours);
    read_slots(prefix, ours, reading);
    read_kept(prefix, ours, reading);
    const json_t *own = json_member(ours, "default_devices");
    if (own != NULL && !json_is_boolean(own))
        check_fail(&check, "default_devices", own, "must be true or false");
    instance->default_devices = json_is_true(own);
    check_object(&check, ours, "qemu");
    check_object(&check, ours, "migration");
    const json_t *definition = check_object(&check, ours, "instance");
    const char *name = json_text(definition, "name");

    if (definition == NULL)
        return;
    if (name == NULL || strcmp(name, reading->name) != 0)
        check_fail(&check, "instance.name", json_member(definition, "name"),
                   "must be the instance's own, %s", reading->name);
    instance_read_head(definition, inner, 0, instance, reading->problems);
}

static int64_t leading_number(const json_t *word, const char *prefix, int64_t most)
{
    const char *text = json_string_value(word);
    int64_t number = 0;

    if (json_is_integer(word) && json_integer_value(word) >= 0 && json_integer_value(word) <= most)
        return json_integer_value(word);
    if (text == NULL)
        return 0;
    if (strncmp(text, prefix, strlen(prefix)) == 0)
        text += strlen(prefix);
    AUTO_FREE char *digits = memory_format("%.*s", (int)strcspn(text, ","), text);

    text_number(digits, 0, most, &number);
    return number;
}

/* VNC's display number is the port less 5900. */
static int64_t port_of_vnc(const json_t *word)
{
    const char *text = json_string_value(word);
    const char *colon = text == NULL ? NULL : strrchr(text, ':');
    int64_t display;

    if (colon == NULL)
        return 0;
    AUTO_FREE char *digits = memory_format("%.*s", (int)strcspn(colon + 1, ","), colon + 1);

    return text_number(digits, 0, 65535 - 5900, &display) ? display + 5900 : 0;
}

/* "port=" or "tls-port=" among the options of -spice. */
static int64_t port_of_spice(const json_t *word)
{
    const char *text = json_string_value(word);
    int64_t port = 0;

    for (const char *item = text; item != NULL; item = strchr(item, ',')) {
        item += *item == ',';
        size_t key = strncmp(item, "tls-port=", 9) == 0 ? 9
                     : strncmp(item, "port=", 5) == 0   ? 5
                                                        : 0;
        AUTO_FREE char *digits =
            memory_format("%.*s", (int)strcspn(item, ",") - (int)key, item + key);
        if (key > 0 && text_number(digits, 1, 65535, &port))
            return port;
    }
    return 0;
}

/* The value of KEY in "DRIVER,key=value,…"; false: it is not there. */
static bool option_value(const char *option, const char *key, char *value, size_t size)
{
    size_t length = strlen(key);

    for (const char *part = strchr(option, ','); part != NULL; part = strchr(part + 1, ',')) {
        if (strncmp(part + 1, key, length) != 0 || part[1 + length] != '=')
            continue;
        const char *begin = part + 2 + length;
        snprintf(value, size, "%.*s", (int)strcspn(begin, ","), begin);
        return true;
    }
    return false;
}

/* Where the controllers sit that our own record names: "-device virtio-balloon-pci,id=balloon,bus=pci.0,addr=0x3". */
static void derive_slots(struct reading *reading)
{
    struct own_slot controllers[OWN_SLOTS];
    const json_t *command = reading->runtime->kvm_cmd, *before = NULL;
    size_t index;
    json_t *word;

    own_slots(&reading->runtime->instance, controllers);
    json_array_foreach (command, index, word) {
        const char *option = json_string_value(before), *device = json_string_value(word);
        char id[32], bus[32], address[32];
        before = word;
        if (option == NULL || device == NULL || strcmp(option, "-device") != 0 ||
            !option_value(device, "id", id, sizeof(id)) ||
            !option_value(device, "bus", bus, sizeof(bus)) ||
            !option_value(device, "addr", address, sizeof(address)))
            continue;
        AUTO_JSON json_t *hvinfo =
            memory_json(json_pack("{s:s, s:s}", "bus", bus, "addr", address));
        int slot = placement_slot(hvinfo);
        for (size_t i = 0; i < OWN_SLOTS; i++)
            if (strcmp(own_slot_id(&controllers[i]), id) == 0 && slot >= SLOTS_RESERVED)
                *controllers[i].slot = slot;
    }
}

/* The fifth element is not there: what the command tells. 0 stays for what it does not. */
static void derive_head(struct reading *reading)
{
    struct instance *instance = &reading->runtime->instance;
    const json_t *command = reading->runtime->kvm_cmd;
    const char *uuid;
    uuid_t binary;
    size_t place;

    instance->maxmem_mib = leading_number(command_value(command, "-m", &place), "size=", 1 << 30);
    instance->minmem_mib = instance->maxmem_mib;
    instance->vcpus = leading_number(command_value(command, "-smp", &place), "cpus=", 4096);
    instance->network_port = port_of_vnc(command_value(command, "-vnc", &place));
    if (instance->network_port == 0)
        instance->network_port = port_of_spice(command_value(command, "-spice", &place));
    uuid = json_string_value(command_value(command, "-uuid", &place));
    if (uuid != NULL && uuid_parse(uuid, binary) == 0) {
        free(instance->uuid);
        instance->uuid = memory_zeroed(37, 1);
        uuid_unparse_lower(binary, instance->uuid);
    }
    if (instance->maxmem_mib == 0)
        messages_add(&reading->runtime->notes, "kvm_cmd: does not tell the memory");
    if (instance->vcpus == 0)
        messages_add(&reading->runtime->notes, "kvm_cmd: does not tell the number of vCPUs");
}

static bool has_word(const json_t *command, const char *wanted)
{
    size_t index;
    json_t *word;

    json_array_foreach (command, index, word) {
        const char *text = json_string_value(word);
        if (text != NULL && strcmp(text, wanted) == 0)
            return true;
    }
    return false;
}

void read_ours(struct reading *reading)
{
    struct runtime *runtime = reading->runtime;
    json_t *ours = json_array_get(reading->list, 4);

    runtime->state = RUNTIME_FOREIGN;
    if (ours != NULL && !json_is_object(ours)) {
        messages_add(reading->problems, "%s: [4]: must be an object", reading->source);
        return;
    }
    AUTO_FREE char *prefix = memory_format("%s: ", reading->source);
    const struct check check = {prefix, reading->problems};

    derive_head(reading);
    derive_slots(reading);
    runtime->instance.default_devices =
        json_member(ours, "version") == NULL && !has_word(runtime->kvm_cmd, "-nodefaults");
    check_strings(&check, "[4]", ours);
    if (json_member(ours, "version") != NULL)
        read_version(reading, ours);
    runtime->ours = ours == NULL ? memory_json(json_object()) : json_deep_copy(ours);
    if (runtime->instance.tags == NULL)
        runtime->instance.tags = memory_json(json_array());
    if (runtime->instance.disk_template == NULL)
        runtime->instance.disk_template = memory_copy("");
    if (runtime->instance.uuid == NULL) {
        uuid_t binary;

        uuid_generate(binary);
        runtime->instance.uuid = memory_zeroed(37, 1);
        uuid_unparse_lower(binary, runtime->instance.uuid);
        messages_add(&runtime->notes, "kvm_cmd: has no -uuid, one was generated");
    }
}
