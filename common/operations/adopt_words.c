/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The command line of a running QEMU that this suite started, read back. It need not be complete: what was read is
 * built into a command line again, and the two are compared word by word.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "adopt_private.h"
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/base/transaction.h"

enum { COMMAND_MAX = 1024 * 1024 };

json_t *adopt_read_words(int pid, struct error *error)
{
    AUTO_FREE char *path = memory_format("/proc/%d/cmdline", pid);
    AUTO_FREE char *bytes = NULL;
    size_t length = 0;

    if (file_read(AT_FDCWD, path, COMMAND_MAX, false, &bytes, &length, error) < 0)
        return NULL;
    json_t *words = memory_json(json_array());
    for (size_t i = 0; i < length; i += strlen(bytes + i) + 1) {
        if (!text_is_utf8(bytes + i)) {
            json_decref(words);
            error_set(error, STATUS_STATE, "the command line of pid %d is not UTF-8", pid);
            return NULL;
        }
        json_array_append_new(words, memory_json(json_string(bytes + i)));
    }
    return words;
}

const char *adopt_word_at(const json_t *words, size_t index)
{
    const char *word = json_string_value(json_array_get(words, index));
    return word != NULL ? word : "";
}

const char *adopt_word(const json_t *words, const char *option)
{
    for (size_t i = 1; i + 1 < json_array_size(words); i++)
        if (strcmp(adopt_word_at(words, i), option) == 0)
            return adopt_word_at(words, i + 1);
    return NULL;
}

static void set_text(json_t *object, const char *key, const char *value)
{
    json_object_set_new(object, key, memory_json(json_string(value)));
}

static void set_number_of(json_t *object, const char *key, const char *text, int64_t most,
                          const char *option, struct messages *problems)
{
    int64_t number;

    if (text != NULL && text_number(text, 0, most, &number))
        json_object_set_new(object, key, json_integer(number));
    else
        messages_add(problems, "%s: its value is not a plain number", option);
}

bool adopt_is_device(const char *id)
{
    static const char *const prefixes[] = {"disk-", "nic-", "hotdisk-", "hotnic-"};

    for (size_t i = 0; id != NULL && i < COUNT(prefixes); i++)
        if (strncmp(id, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return false;
}

/* ---- one reader for each option that a definition makes ---- */

struct reading {
    json_t *definition, *hvparams, *beparams;
    const char *name;
    struct messages *problems;
};

static void read_name(struct reading *reading, const char *value)
{
    set_text(reading->definition, "name", value);
}

static void read_uuid(struct reading *reading, const char *value)
{
    set_text(reading->definition, "uuid", value);
}

static void read_memory(struct reading *reading, const char *value)
{
    set_number_of(reading->beparams, "maxmem", value, INT64_MAX, "-m", reading->problems);
}

/* "2,cores=2,threads=1" */
static void read_cpus(struct reading *reading, const char *value)
{
    AUTO_FREE char *copy = memory_copy(value);
    char *rest = copy, *part = strsep(&rest, ",");

    set_number_of(reading->beparams, "vcpus", part, 4096, "-smp", reading->problems);
    while ((part = strsep(&rest, ",")) != NULL) {
        char *equals = strchr(part, '=');
        if (equals == NULL)
            continue;
        *equals = '\0';
        AUTO_FREE char *key = memory_format("cpu_%s", part);
        set_number_of(reading->hvparams, key, equals + 1, 4096, "-smp", reading->problems);
    }
}

static void read_machine(struct reading *reading, const char *value)
{
    AUTO_FREE char *machine = memory_format("%.*s", (int)strcspn(value, ","), value);

    if (strncmp(value, "pflash0=", 8) == 0) /* a second one, of UEFI firmware */
        return;
    set_text(reading->hvparams, "machine_version", machine);
    set_text(reading->hvparams, "kvm_flag",
             strstr(value, "accel=kvm") != NULL ? "enabled" : "disabled");
    json_object_set_new(reading->hvparams, "acpi",
                        json_boolean(strstr(value, ",acpi=off") == NULL));
}

static void read_clock(struct reading *reading, const char *value)
{
    json_object_set_new(reading->hvparams, "use_localtime",
                        json_boolean(strcmp(value, "base=localtime") == 0));
}

static void read_cpu(struct reading *reading, const char *value)
{
    set_text(reading->hvparams, "cpu_type", value);
}

static void read_memory_path(struct reading *reading, const char *value)
{
    set_text(reading->hvparams, "mem_path", value);
}

static void read_kernel(struct reading *reading, const char *value)
{
    set_text(reading->hvparams, "kernel_path", value);
}

static void read_initrd(struct reading *reading, const char *value)
{
    set_text(reading->hvparams, "initrd_path", value);
}

/* "root=ROOT ARGS[ console=ttyS0,SPEED]" */
static void read_append(struct reading *reading, const char *value)
{
    static const char console[] = " console=ttyS0,";
    const char *blank = strchr(value, ' ');

    if (strncmp(value, "root=", 5) != 0 || blank == NULL) {
        messages_add(reading->problems, "-append: does not begin with root=");
        return;
    }
    AUTO_FREE char *root = memory_format("%.*s", (int)(blank - value - 5), value + 5);
    AUTO_FREE char *arguments = memory_copy(blank + 1);
    char *last = NULL;
    for (char *at = arguments; (at = strstr(at, console)) != NULL; at++)
        last = at;
    int64_t speed;
    if (last != NULL && text_number(last + strlen(console), 75, 460800, &speed)) {
        json_object_set_new(reading->hvparams, "serial_speed", json_integer(speed));
        *last = '\0';
    }
    set_text(reading->hvparams, "root_path", root);
    set_text(reading->hvparams, "kernel_args", arguments);
}

static void read_serial(struct reading *reading, const char *value)
{
    json_object_set_new(reading->hvparams, "serial_console",
                        json_boolean(strcmp(value, "none") != 0));
}

static void read_boot(struct reading *reading, const char *value)
{
    if (strcmp(value, "order=a") == 0)
        set_text(reading->hvparams, "boot_order", "floppy");
}

static void read_chroot(struct reading *reading, const char *value)
{
    if (strstr(value, "user=") == value)
        return;
    json_object_set_new(reading->hvparams, "use_chroot", json_true());
}

static void pass(struct reading *reading, const char *value)
{
    (void)reading;
    (void)value;
}

static void add_extra(json_t *hvparams, const char *word);

/* Devices that the parameters make; others are somebody's kvm_extra. */
static bool is_known(const char *driver, const char *id)
{
    static const char *const ids[] = {"pvpanic", "scsi",   "balloon", "spice",
                                      "cdrom",   "floppy", "fdc"};

    for (size_t i = 0; id != NULL && i < COUNT(ids); i++)
        if (strcmp(ids[i], id) == 0)
            return true;
    return strcmp(driver, "pcie-root-port") == 0 || strcmp(driver, "virtserialport") == 0;
}

static void read_known(struct reading *reading, const json_t *device)
{
    const char *driver = json_text(device, "driver"), *id = json_text(device, "id");
    const char *chardev = json_text(device, "chardev");

    if (chardev != NULL && strcmp(chardev, "qga0") == 0)
        json_object_set_new(reading->hvparams, "use_guest_agent", json_true());
    if (strcmp(driver, "pcie-root-port") == 0) {
        int64_t ports = json_number(reading->hvparams, "hotplug_ports", 0);
        json_object_set_new(reading->hvparams, "hotplug_ports", json_integer(ports + 1));
    }
    if (id != NULL && strcmp(id, "scsi") == 0)
        set_text(reading->hvparams, "scsi_controller_type", driver);
}

static void read_boot_index(struct reading *reading, const char *id)
{
    if (id != NULL)
        set_text(reading->hvparams, "boot_order",
                 strcmp(id, "cdrom") == 0     ? "cdrom"
                 : strstr(id, "nic-") != NULL ? "network"
                                              : "disk");
}

/* Hardware of parameters that are not read back: as kvm_extra it would be in the way of its own slots. */
static bool is_told_by_definition(const char *id)
{
    static const char *const ids[] = {"rng",  "watchdog", "cdrom2", "tpm",
                                      "tpm0", "scsi1",    "scsi2",  "scsi3"};

    for (size_t i = 0; id != NULL && i < COUNT(ids); i++)
        if (strcmp(ids[i], id) == 0)
            return true;
    return false;
}

static void read_device(struct reading *reading, const char *value)
{
    AUTO_JSON json_t *device = json_parse(value, strlen(value), "-device", NULL);
    const char *driver = json_text(device, "driver"), *id = json_text(device, "id");

    if (json_number(device, "bootindex", 0) == 1)
        read_boot_index(reading, id);
    if (adopt_display_device(reading->hvparams, device))
        return;
    if (is_told_by_definition(id))
        messages_add(reading->problems, "-device %s: comes from a parameter: give the definition",
                     value);
    if (driver != NULL && is_known(driver, id)) {
        read_known(reading, device);
    } else if (driver == NULL || !adopt_is_device(id)) {
        add_extra(reading->hvparams, "-device");
        add_extra(reading->hvparams, value);
    }
}

static const struct {
    const char *option;
    void (*read)(struct reading *reading, const char *value); /* NULL: it has no value */
} readers[] = {
    {"-name", read_name},
    {"-uuid", read_uuid},
    {"-m", read_memory},
    {"-smp", read_cpus},
    {"-machine", read_machine},
    {"-rtc", read_clock},
    {"-cpu", read_cpu},
    {"-mem-path", read_memory_path},
    {"-kernel", read_kernel},
    {"-initrd", read_initrd},
    {"-append", read_append},
    {"-serial", read_serial},
    {"-boot", read_boot},
    {"-chroot", read_chroot},
    {"-run-with", read_chroot},
    {"-device", read_device},
    {"-runas", pass},
    {"-incoming", pass},
    {"-msg", pass},
    {"-sandbox", pass},
    {"-action", pass},
    {"-chardev", pass},
    {"-mon", pass},
    {"-add-fd", pass},
    {"-display", pass},
    {"-blockdev", pass},
    {"-netdev", pass},
    {"-mem-prealloc", NULL},
    {"-S", NULL},
    {"-no-user-config", NULL},
    {"-nodefaults", NULL},
    {"-no-reboot", NULL},
};

static size_t find_reader(const char *option)
{
    size_t i = 0;

    while (i < COUNT(readers) && strcmp(readers[i].option, option) != 0)
        i++;
    return i;
}

/* What a shell would take for one word. */
static char *quoted(const char *word)
{
    char *text = memory_copy("'");

    for (; *word != '\0'; word++) {
        char *longer =
            *word == '\'' ? memory_format("%s'\\''", text) : memory_format("%s%c", text, *word);
        free(text);
        text = longer;
    }
    char *whole = memory_format("%s'", text);
    free(text);
    return whole;
}

static void add_extra(json_t *hvparams, const char *word)
{
    const char *before = json_text(hvparams, "kvm_extra");
    AUTO_FREE char *plain = quoted(word);
    AUTO_FREE char *all =
        memory_format("%s%s%s", before != NULL ? before : "", before != NULL ? " " : "", plain);

    set_text(hvparams, "kvm_extra", all);
}

json_t *adopt_definition(const json_t *words, struct messages *problems)
{
    json_t *definition = memory_json(json_pack("{s:{}, s:{}}", "hvparams", "beparams"));
    struct reading reading = {.definition = definition,
                              .hvparams = json_object_get(definition, "hvparams"),
                              .beparams = json_object_get(definition, "beparams"),
                              .problems = problems};

    set_text(reading.hvparams, "kvm_path", adopt_word_at(words, 0));
    set_text(reading.hvparams, "reboot_behavior", "reboot");
    set_text(reading.hvparams, "boot_order", "disk");
    set_text(reading.hvparams, "vga", "none"); /* until its device comes */
    for (size_t i = 1; i < json_array_size(words); i++) {
        const char *word = adopt_word_at(words, i);
        size_t found = find_reader(word);
        if (adopt_display_option(definition, word, adopt_word_at(words, i + 1), problems))
            i++;
        else if (found == COUNT(readers))
            add_extra(reading.hvparams, word);
        else if (strcmp(word, "-no-reboot") == 0)
            set_text(reading.hvparams, "reboot_behavior", "exit");
        else if (readers[found].read != NULL)
            readers[found].read(&reading, adopt_word_at(words, ++i));
    }
    return definition;
}
