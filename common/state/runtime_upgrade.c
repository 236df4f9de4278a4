/* SPDX-License-Identifier: BSD-2-Clause */
#include "runtime_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <uuid/uuid.h>
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/state/check.h"
#include "kvm/state/hardware.h"
#include "kvm/state/slots.h"

/* The words made so far, and what of the whole is known only at the end. */
struct upgrade {
    json_t *words;
    struct messages *notes;
    bool no_acpi, localtime;
    bool spice, sound, speaker;
};

static void add(struct upgrade *upgrade, const char *word)
{
    json_array_append_new(upgrade->words, memory_json(json_string(word)));
}

static void add_format(struct upgrade *upgrade, const char *option, const char *format, ...)
    ERROR_FORMAT(3, 4);

static void add_format(struct upgrade *upgrade, const char *option, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    AUTO_FREE char *value = memory_vformat(format, arguments);
    va_end(arguments);
    add(upgrade, option);
    add(upgrade, value);
}

/* QEMU 4.0 took -balloon out; "virtio" may carry id and address. */
static void balloon(struct upgrade *upgrade, const char *value)
{
    if (strcmp(value, "none") != 0)
        add_format(upgrade, "-device", "virtio-balloon%s", value + strcspn(value, ","));
    messages_add(upgrade->notes, "kvm_cmd: -balloon became -device virtio-balloon");
}

/* QEMU 7.1 took -soundhw out. Its own word for the cards made them in order, before any -device. */
static void soundhw(struct upgrade *upgrade, const char *value)
{
    const struct sound_card *card;

    if (hardware_sound(value, 0) == NULL) { /* no model that there is any more */
        add_format(upgrade, "-soundhw", "%s", value);
        return;
    }
    if (!upgrade->sound)
        add_format(upgrade, "-audiodev", "%s,id=soundhw", upgrade->spice ? "spice" : "none");
    upgrade->sound = true;
    for (size_t i = 0; (card = hardware_sound(value, i)) != NULL; i++) {
        if (card->driver == NULL)
            upgrade->speaker = true;
        else if (card->codec == NULL)
            add_format(upgrade, "-device", "%s,audiodev=soundhw", card->driver);
        else
            add_format(upgrade, "-device", "%s", card->driver);
        if (card->codec != NULL)
            add_format(upgrade, "-device", "%s,audiodev=soundhw", card->codec);
    }
    messages_add(upgrade->notes, "kvm_cmd: -soundhw %s became -audiodev and -device", value);
}

/* Deprecated for long, and in QEMU of today without the devices of the host. */
static void usbdevice(struct upgrade *upgrade, const char *value)
{
    AUTO_JSON json_t *device = hardware_usb_device(value);
    AUTO_FREE char *option = NULL;
    const char *key;
    json_t *part;

    if (device == NULL) {
        add_format(upgrade, "-usbdevice", "%s", value);
        return;
    }
    json_object_foreach (device, key, part) {
        AUTO_FREE char *shorter = option;
        option = shorter == NULL ? memory_copy(json_string_value(part))
                                 : memory_format("%s,%s=%" JSON_INTEGER_FORMAT, shorter, key,
                                                 json_integer_value(part));
    }
    add_format(upgrade, "-device", "%s", option);
    messages_add(upgrade->notes, "kvm_cmd: -usbdevice %s became -device %s", value, option);
}

/* QEMU 2.5 moved the keys of VNC into an object: tls, x509=DIR and x509verify=DIR leave the value. */
static void vnc(struct upgrade *upgrade, const char *value)
{
    AUTO_FREE char *copy = memory_copy(value);
    AUTO_FREE char *kept = memory_copy("");
    const char *directory = NULL, *verify = "no";
    char *rest = copy;
    bool tls = false, first = true;

    for (char *part = strsep(&rest, ","); part != NULL; part = strsep(&rest, ",")) {
        if (!first && strcmp(part, "tls") == 0) {
            tls = true;
        } else if (!first && strncmp(part, "x509=", 5) == 0) {
            directory = part + 5;
        } else if (!first && strncmp(part, "x509verify=", 11) == 0) {
            directory = part + 11;
            verify = "yes";
        } else {
            char *longer = memory_format("%s%s%s", kept, first ? "" : ",", part);
            free(kept);
            kept = longer;
        }
        first = false;
    }
    if (!tls && directory == NULL) {
        add_format(upgrade, "-vnc", "%s", value);
        return;
    }
    if (directory == NULL)
        add_format(upgrade, "-object", "tls-creds-anon,id=vnctls0,endpoint=server");
    else
        add_format(upgrade, "-object",
                   "tls-creds-x509,id=vnctls0,endpoint=server,dir=%s,verify-peer=%s", directory,
                   verify);
    add_format(upgrade, "-vnc", "%s,tls-creds=vnctls0", kept);
    messages_add(upgrade->notes, "kvm_cmd: the TLS options of -vnc became -object tls-creds");
}

/* Short forms of booleans have been deprecated since QEMU 6.0. */
static void add_socket(struct upgrade *upgrade, const char *option, const char *value)
{
    static const char old[] = ",server,nowait";
    const char *at = strstr(value, old);

    if (at == NULL)
        add_format(upgrade, option, "%s", value);
    else
        add_format(upgrade, option, "%.*s,server=on,wait=off%s", (int)(at - value), value,
                   at + sizeof(old) - 1);
}

static const struct {
    const char *option;
    void (*rewrite)(struct upgrade *upgrade, const char *value);
} rewrites[] = {
    {"-balloon", balloon},
    {"-soundhw", soundhw},
    {"-usbdevice", usbdevice},
    {"-vnc", vnc},
};

/* Words that stand alone and are gone from QEMU. */
static bool drop_flag(struct upgrade *upgrade, const char *word)
{
    if (strcmp(word, "-no-acpi") == 0) {
        upgrade->no_acpi = true;
        return true;
    }
    if (strcmp(word, "-localtime") != 0)
        return false;
    /* QEMU takes one -rtc; old files have the flag twice. */
    if (!upgrade->localtime) {
        add_format(upgrade, "-rtc", "base=localtime");
        messages_add(upgrade->notes, "kvm_cmd: -localtime became -rtc base=localtime");
    }
    upgrade->localtime = true;
    return true;
}

/* True when `word` with its value was dealt with. */
static bool rewrite_pair(struct upgrade *upgrade, const char *word, const char *value)
{
    static const char *const sockets[] = {"-monitor", "-serial", "-qmp", "-chardev", NULL};

    if (value == NULL)
        return false;
    for (size_t i = 0; i < sizeof(rewrites) / sizeof(rewrites[0]); i++) {
        if (strcmp(rewrites[i].option, word) == 0) {
            rewrites[i].rewrite(upgrade, value);
            return true;
        }
    }
    if (!check_is_one_of(word, sockets))
        return false;
    add_socket(upgrade, word, value);
    return true;
}

/* What was an option of its own is a property of the machine. */
static void put_machine_property(struct upgrade *upgrade, const char *property)
{
    size_t place;
    const json_t *machine = command_value(upgrade->words, "-machine", &place);

    if (machine == NULL)
        machine = command_value(upgrade->words, "-M", &place);
    if (machine == NULL || !json_is_string(machine)) {
        add_format(upgrade, "-machine", "%s", property);
    } else {
        AUTO_FREE char *value = memory_format("%s,%s", json_string_value(machine), property);
        json_array_set_new(upgrade->words, place, memory_json(json_string(value)));
    }
}

json_t *upgrade_command(const json_t *kvm_cmd, struct messages *notes)
{
    struct upgrade upgrade = {.words = memory_json(json_array()), .notes = notes};
    size_t count = json_array_size(kvm_cmd), place;

    upgrade.spice = command_value(kvm_cmd, "-spice", &place) != NULL;
    for (size_t i = 0; i < count; i++) {
        json_t *item = json_array_get(kvm_cmd, i);
        const char *word = json_string_value(item);
        const char *value = json_string_value(json_array_get(kvm_cmd, i + 1));

        if (word != NULL && i > 0 && drop_flag(&upgrade, word))
            continue;
        if (word != NULL && i > 0 && rewrite_pair(&upgrade, word, value)) {
            i++;
            continue;
        }
        json_array_append(upgrade.words, item);
    }
    if (upgrade.speaker)
        put_machine_property(&upgrade, "pcspk-audiodev=soundhw");
    if (upgrade.no_acpi) { /* gone in QEMU 9.0 */
        put_machine_property(&upgrade, "acpi=off");
        messages_add(notes, "kvm_cmd: -no-acpi became -machine acpi=off");
    }
    return upgrade.words;
}

const json_t *command_value(const json_t *kvm_cmd, const char *option, size_t *place)
{
    size_t count = json_array_size(kvm_cmd);

    for (size_t i = 1; i + 1 < count; i++) {
        const char *word = json_string_value(json_array_get(kvm_cmd, i));

        if (word == NULL || strcmp(word, option) != 0)
            continue;
        *place = i + 1;
        return json_array_get(kvm_cmd, i + 1);
    }
    return NULL;
}

/* The names that the drivers had when `pci` was written: what is no model of a PCI device is kept as it
 * stands, as other tools do. */
static const char *old_driver(bool is_nic, const char *model)
{
    if (strcmp(model, "paravirtual") == 0)
        return is_nic ? "virtio-net-pci" : "virtio-blk-pci";
    return model;
}

void upgrade_pci(json_t *device, bool is_nic, const char *model, const char *where,
                 struct messages *notes, struct messages *problems)
{
    AUTO_FREE char *prefix = memory_format("%s.", where);
    struct check check = {prefix, problems};
    char id[64], address[8], uuid[37];
    uuid_t binary;
    int64_t slot;

    if (!check_number(&check, device, "pci", 0, SLOTS_COUNT - 1, &slot))
        return;
    if (json_member(device, "hvinfo") != NULL)
        return;
    int there = check_uuid(&check, device, "uuid", uuid);

    if (there < 0)
        return;
    if (there == 0) {
        uuid_generate(binary);
        uuid_unparse_lower(binary, uuid);
        check_set(device, "uuid", json_string(uuid));
        messages_add(notes, "%suuid: was missing, generated", prefix);
    }
    if (model == NULL) {
        check_fail(&check, "pci", json_member(device, "pci"),
                   is_nic ? "needs nic_type in the hvparams" : "needs disk_type in the hvparams");
        return;
    }
    snprintf(id, sizeof(id), "%s-%.8s-pci-%d", is_nic ? "hotnic" : "hotdisk", uuid, (int)slot);
    snprintf(address, sizeof(address), "0x%x", (unsigned)slot);
    check_set(device, "hvinfo",
              json_pack("{s:s, s:s, s:s, s:s}", "driver", old_driver(is_nic, model), "id", id,
                        "bus", "pci.0", "addr", address));
    json_object_del(device, "pci");
}
