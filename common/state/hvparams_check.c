/* SPDX-License-Identifier: BSD-2-Clause */
#include "hvparams_private.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <string.h>
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/base/transaction.h"
#include "kvm/state/uri.h"

static bool is_machine(const char *text)
{
    return check_is_word(text, "._-+", 64);
}

/* Features come after commas: "host,+vmx,model-id=x". */
static bool is_cpu(const char *text)
{
    return check_is_word(text, "._-+,=:", 1024);
}

static bool is_user(const char *text)
{
    return check_is_word(text, "._-", 32);
}

static bool is_capabilities(const char *text)
{
    return check_is_word(text, "-_:", 1024);
}

static bool is_firmware(const char *text)
{
    return strcmp(text, "bios") == 0 || strcmp(text, "uefi") == 0 ||
           strcmp(text, "uefi-secure") == 0 || check_is_path(text);
}

static bool is_single_word(const char *text)
{
    return strpbrk(text, " \t") == NULL;
}

static bool is_address(const char *text)
{
    struct in6_addr address;

    if (inet_pton(AF_INET, text, &address) == 1 || inet_pton(AF_INET6, text, &address) == 1)
        return true;
    return text[0] == '/' ? check_is_path(text) : check_is_word(text, "._-@", 15);
}

static bool is_mask(const char *text)
{
    AUTO_JSON json_t *mask = hvparams_cpu_mask(text, NULL);

    return mask != NULL;
}

static bool is_words(const char *text)
{
    char **words;
    size_t count;

    if (text_words(text, &words, &count, NULL) != 0)
        return false;
    text_words_release(words);
    return true;
}

static const struct hvparam_form forms[] = {
    {"machine_version", is_machine, "must be letters, digits and . _ - +"},
    {"cpu_type", is_cpu, "must be letters, digits and . _ - + , = :"},
    {"security_domain", is_user, "must be a user name"},
    {"migration_caps", is_capabilities, "must be capability names separated by colons"},
    {"firmware", is_firmware, "must be bios, uefi, uefi-secure or an absolute path"},
    {"root_path", is_single_word, "must be one word"},
    {"vnc_bind_address", is_address,
     "must be an IPv4 or IPv6 address, an interface name or an absolute directory"},
    {"cpu_mask", is_mask,
     "must be \"all\" or CPU numbers and ranges like 0-2,5, or one such part for each vCPU like "
     "0:2-3:all"},
    {"kvm_extra", is_words, "has a quote or a backslash that is not closed"},
};

const char *hvparams_form_fault(const struct hvparam_form *among, size_t count, const char *name,
                                const char *text)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(among[i].name, name) == 0 && text[0] != '\0' && !among[i].good(text))
            return among[i].expected;
    return NULL;
}

/* In a runtime file another tool may have written what only a start of ours can't do. */
static void check_form(const struct check *check, const struct hvparam *param, const char *text,
                       const json_t *value, bool loaded)
{
    const char *fault = loaded ? NULL : hvparams_display_fault(param->name, text);

    if (fault != NULL)
        check_fail(check, param->name, value, "%s", fault);
    fault = hvparams_form_fault(forms, COUNT(forms), param->name, text);
    if (fault != NULL)
        check_fail(check, param->name, value, "%s", fault);
    if (text[0] == '\0' &&
        (strcmp(param->name, "kvm_path") == 0 || strcmp(param->name, "cpu_mask") == 0))
        check_fail(check, param->name, value, "must not be empty");
}

/* A CD-ROM may come from the web. True when it was looked at, well or not. */
static bool check_web(const struct check *check, const struct hvparam *param, const char *text,
                      const json_t *value)
{
    struct error reason = {0};

    if (strncmp(param->name, "cdrom", 5) != 0 || !uri_is_web(text))
        return false;
    AUTO_JSON json_t *node = uri_node(text, &reason);
    if (node == NULL)
        check_fail(check, param->name, value, "%s", reason.text);
    return true;
}

static bool check_value(const struct check *check, const struct hvparam *param,
                        const json_t *object, bool loaded)
{
    const json_t *value = json_member(object, param->name);
    int64_t number;

    if (param->type == HVPARAM_NUMBER)
        return check_number(check, object, param->name, param->low, param->high, &number);
    if (param->type == HVPARAM_TRUTH) {
        if (!json_is_boolean(value))
            check_fail(check, param->name, value, "must be true or false");
        return json_is_boolean(value);
    }
    const char *text = check_text(check, object, param->name);

    if (text == NULL || (text[0] == '\0' && param->may_be_empty))
        return text != NULL;
    if (param->choices != NULL)
        return check_choice(check, object, param->name, param->choices) != NULL;
    if (param->is_path && check_web(check, param, text, value))
        return true;
    if (param->is_path && text[0] != '\0' && check_path(check, object, param->name) == NULL)
        return false;
    check_form(check, param, text, value, loaded);
    return true;
}

static const char *nearest_name(const char *name)
{
    const char **names = memory_zeroed(hvparams_count + 1, sizeof(*names));

    for (size_t i = 0; i < hvparams_count; i++)
        names[i] = hvparams_table[i].name;
    const char *nearest = text_nearest(name, names);

    free(names);
    return nearest;
}

static void unknown_name(const struct check *check, const char *name)
{
    AUTO_FREE char *shown = text_escape(name, strlen(name));
    const char *nearest = nearest_name(name);

    if (nearest != NULL)
        messages_add(check->problems, "%s%s: unknown parameter, did you mean \"%s\"?",
                     check->prefix, shown, nearest);
    else
        messages_add(check->problems, "%s%s: unknown parameter", check->prefix, shown);
}

enum strictness {
    AS_GIVEN,  /* a definition: all that is wrong */
    AS_LOADED, /* a runtime file: what no tool can have written */
    AS_STARTED /* a filled set: unknown names stay, the rest as given */
};

static void check_all(const json_t *given, const char *where, enum strictness strictness,
                      struct messages *problems)
{
    AUTO_FREE char *prefix = memory_format("%s.", where);
    struct check check = {prefix, problems};
    const char *key;
    json_t *value;

    json_object_foreach ((json_t *)(uintptr_t)given, key, value) {
        const struct hvparam *param = hvparams_find(key);

        if (param == NULL && strictness == AS_GIVEN)
            unknown_name(&check, key);
        if (param == NULL || json_is_null(value))
            continue;
        check_value(&check, param, given, strictness == AS_LOADED);
    }
}

void hvparams_check(const json_t *given, const char *where, struct messages *problems)
{
    check_all(given, where, AS_GIVEN, problems);
}

void hvparams_check_loaded(const json_t *given, const char *where, struct messages *problems)
{
    check_all(given, where, AS_LOADED, problems);
}

void hvparams_check_started(const json_t *filled, const char *where, struct messages *problems)
{
    check_all(filled, where, AS_STARTED, problems);
}

static bool is(const json_t *filled, const char *name, const char *value)
{
    return strcmp(hvparams_text(filled, name), value) == 0;
}

static bool is_set(const json_t *filled, const char *name)
{
    return !is(filled, name, "");
}

static void fail(const struct check *check, const json_t *filled, const char *name,
                 const char *text)
{
    check_fail(check, name, json_member(filled, name), "%s", text);
}

static void check_boot(const struct check *check, const json_t *filled)
{
    if (is(filled, "boot_order", "cdrom") && !is_set(filled, "cdrom_image_path"))
        fail(check, filled, "boot_order", "needs cdrom_image_path");
    if (is(filled, "boot_order", "floppy") && !is_set(filled, "floppy_image_path"))
        fail(check, filled, "boot_order", "needs floppy_image_path");
    if (is_set(filled, "initrd_path") && !is_set(filled, "kernel_path"))
        fail(check, filled, "initrd_path", "needs kernel_path");
    if (is_set(filled, "kernel_path") && !is_set(filled, "root_path"))
        fail(check, filled, "kernel_path", "needs root_path");
}

static void check_serial(const struct check *check, const json_t *filled)
{
    static const int64_t speeds[] = {75,    110,   300,    600,    1200,   2400,
                                     1800,  4800,  9600,   14400,  19200,  28800,
                                     38400, 57600, 115200, 230400, 345600, 460800};

    if (!hvparams_truth(filled, "serial_console"))
        return;
    for (size_t i = 0; i < COUNT(speeds); i++) {
        if (speeds[i] == hvparams_number(filled, "serial_speed"))
            return;
    }
    fail(check, filled, "serial_speed", "is not a speed that serial ports have");
}

static void check_slots(const struct check *check, const json_t *filled)
{
    int64_t first = hvparams_number(filled, "kvm_pci_reservations");
    int64_t ports = hvparams_number(filled, "hotplug_ports");

    if (first < 3)
        first = 3;
    if (strstr(hvparams_text(filled, "machine_version"), "q35") != NULL && first + ports > 32)
        check_fail(check, "hotplug_ports", json_member(filled, "hotplug_ports"),
                   "must be at most %" PRId64 " when the first port is %" PRId64, 32 - first,
                   first);
}

static void check_firmware(const struct check *check, const json_t *filled)
{
    bool q35 = strstr(hvparams_text(filled, "machine_version"), "q35") != NULL;

    if (is(filled, "firmware", "bios") || !is_set(filled, "firmware")) {
        if (is_set(filled, "nvram_path"))
            fail(check, filled, "nvram_path", "needs firmware uefi");
        if (is_set(filled, "nvram_template"))
            fail(check, filled, "nvram_template", "needs firmware uefi");
        return;
    }
    if (is(filled, "firmware", "uefi-secure") && !q35)
        fail(check, filled, "firmware", "needs machine_version q35");
    if (is(filled, "boot_order", "floppy"))
        fail(check, filled, "boot_order", "UEFI does not boot from a floppy");
}

static void check_watchdog(const struct check *check, const json_t *filled)
{
    bool q35 = strstr(hvparams_text(filled, "machine_version"), "q35") != NULL;

    if (is(filled, "watchdog", "itco") && !q35)
        fail(check, filled, "watchdog", "itco is part of machine type q35, use i6300esb");
    if (!is_set(filled, "watchdog") && !is(filled, "watchdog_action", "reset"))
        fail(check, filled, "watchdog_action", "needs watchdog");
    if (!hvparams_truth(filled, "virtio_rng") && hvparams_number(filled, "virtio_rng_rate") != 0)
        fail(check, filled, "virtio_rng_rate", "needs virtio_rng");
}

void hvparams_check_whole(const json_t *filled, const char *where, struct messages *problems)
{
    AUTO_FREE char *prefix = memory_format("%s.", where);
    struct check check = {prefix, problems};

    if (is(filled, "disk_aio", "native") && !is(filled, "disk_cache", "none"))
        fail(&check, filled, "disk_aio", "needs disk_cache none");
    if (is(filled, "security_model", "user") && !is_set(filled, "security_domain"))
        fail(&check, filled, "security_model", "needs security_domain");
    if (!is(filled, "security_model", "user") && is_set(filled, "security_domain"))
        fail(&check, filled, "security_domain", "is only for security_model user");
    check_boot(&check, filled);
    check_serial(&check, filled);
    check_slots(&check, filled);
    check_firmware(&check, filled);
    check_watchdog(&check, filled);
    hvparams_display_whole(&check, filled);
}
