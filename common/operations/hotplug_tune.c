/* SPDX-License-Identifier: BSD-2-Clause */
/* Changes of devices that stay: size, memory, link, limits. */
#include <stdio.h>
#include <string.h>

#include "hotplug_private.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/qemu/device.h"
#include "kvm/qemu/events.h"
#include "kvm/qemu/peripheral.h"
#include "kvm/state/hvparams.h"

enum { BALLOON_PAUSE_MS = 50 };

#define MIB INT64_C(1048576)

/* Record what was changed in the instance, then tell QEMU; which refuses it: the record is as before. Not known: the
 * record stays, and repeating the command makes it true. Steals the arguments. */
static int set_recorded(struct hotplug *hotplug, const char *command, json_t *arguments,
                        struct error *error)
{
    struct error second = {0};

    if (hotplug_commit(hotplug, error) < 0) {
        json_decref(arguments);
        return -1;
    }
    if (hotplug_set(hotplug, command, arguments, error) == 0)
        return 0;
    if (error->status == STATUS_INCOMPLETE || hotplug_restore(hotplug, &second) == 0)
        return -1;
    error->status = STATUS_INCOMPLETE;
    return error_append(error, "; %s", second.text);
}

/* ---- resize-disk ---- */

/* "2048" and "2048M" are MiB, "20G" GiB, "1T" TiB; "+5G" is added to what there is. Bytes; -1: no size. */
static int64_t parse_size(const char *text, int64_t now)
{
    static const char units[] = "MGT";
    bool more = text[0] == '+';
    AUTO_FREE char *digits = memory_copy(more ? text + 1 : text);
    size_t length = strlen(digits);
    int64_t factor = MIB, number;
    const char *unit = length > 0 ? strchr(units, digits[length - 1]) : NULL;

    if (unit != NULL) {
        for (const char *step = units; step < unit; step++)
            factor *= 1024;
        digits[length - 1] = '\0';
    }
    if (!text_number(digits, 1, INT64_MAX / factor / 2, &number))
        return -1;
    return number * factor + (more ? now : 0);
}

static int check_size(const struct hotplug *hotplug, int64_t now, int64_t wanted,
                      struct error *error)
{
    if (wanted < 0)
        return error_set(error, STATUS_USAGE,
                         "SIZE: expected MiB, or a number with M, G or T, with + in front to add "
                         "(current value: \"%s\")",
                         hotplug->arguments[1]);
    if (wanted < now && !hotplug->options->force)
        return error_set(error, STATUS_USAGE,
                         "SIZE: smaller than the %lld MiB it has: what lies behind would be lost; "
                         "--force shrinks it all the same",
                         (long long)(now / MIB));
    return 0;
}

int hotplug_resize_disk(struct hotplug *hotplug, struct error *error)
{
    int index = hotplug_find_disk(hotplug, hotplug->arguments[0], error);
    int64_t now = 0, after = 0;
    char node[PERIPHERAL_NODE_SIZE];

    if (index < 0)
        return -1;
    struct disk *disk = &hotplug->instance->disks[index];
    const char *id = json_text(disk->hvinfo, "id");
    if (id == NULL)
        return error_set(error, STATUS_STATE, "disk %s: its block node is not known", disk->uuid);
    if (peripheral_backend(hotplug->qmp, id, hotplug->deadline, node, &now, error) < 0)
        return -1;
    if (node[0] == '\0')
        return error_set(error, STATUS_STATE, "disk %s: QEMU has no block node %s", disk->uuid, id);
    int64_t wanted = parse_size(hotplug->arguments[1], now);
    if (check_size(hotplug, now, wanted, error) < 0)
        return -1;
    hotplug_detail(hotplug, "uuid", json_string(disk->uuid));
    hotplug_detail(hotplug, "size_before", json_integer(now));
    AUTO_JSON json_t *arguments =
        memory_json(json_pack("{s:s, s:I}", "node-name", node, "size", wanted));
    if (hotplug->options->dry_run) {
        if (wanted != now)
            hotplug_plan_command(hotplug, "block_resize", json_incref(arguments));
        hotplug_plan_runtime(hotplug);
        hotplug_text(hotplug,
                     memory_format("would resize disk %s from %lld to %lld MiB", disk->uuid,
                                   (long long)(now / MIB), (long long)(wanted / MIB)));
        return 0;
    }
    json_object_set_new(disk->object, "size", memory_json(json_integer(wanted / MIB)));
    disk_refresh(disk);
    if (wanted == now ? hotplug_commit(hotplug, error) < 0
                      : set_recorded(hotplug, "block_resize", json_incref(arguments), error) < 0)
        return error_prefix(error, "disk %s", disk->uuid);
    /* It has the new size by QEMU's word; this only tells how it was rounded. */
    if (peripheral_backend(hotplug->qmp, id, hotplug->deadline, node, &after, NULL) < 0)
        after = wanted;
    hotplug_detail(hotplug, "size", json_integer(after));
    hotplug_text(hotplug, memory_format("disk %s has %lld MiB (before: %lld)", disk->uuid,
                                        (long long)(after / MIB), (long long)(now / MIB)));
    return 0;
}

/* ---- set-memory ---- */

static int64_t balloon_now(struct hotplug *hotplug, struct error *error)
{
    AUTO_JSON json_t *reply = NULL;

    if (qmp_call(hotplug->qmp, "query-balloon", NULL, hotplug->end, &reply, error) != QMP_DONE)
        return -1;
    return json_number(reply, "actual", -1) / MIB;
}

static int wait_for_balloon(struct hotplug *hotplug, int64_t wanted, struct error *error)
{
    int64_t told = -1, now;

    while ((now = balloon_now(hotplug, error)) >= 0 && now != wanted) {
        if (now != told && hotplug->options->observe != NULL) {
            AUTO_FREE char *text = memory_format("the guest has %lld MiB", (long long)now);
            hotplug->options->observe(text);
        }
        told = now;
        hotplug->goes_on = clock_passed(hotplug->end - BALLOON_PAUSE_MS);
        if (hotplug->goes_on)
            return error_set(error, STATUS_TIMEOUT,
                             "the guest has %lld MiB and goes on towards %lld MiB; a guest without "
                             "a balloon driver never gets there",
                             (long long)now, (long long)wanted);
        clock_sleep_ms(BALLOON_PAUSE_MS);
    }
    return now < 0 ? -1 : 0;
}

int hotplug_set_memory(struct hotplug *hotplug, struct error *error)
{
    const struct instance *instance = hotplug->instance;
    int64_t wanted;

    if (!text_number(hotplug->arguments[0], 1, instance->maxmem_mib, &wanted))
        return error_set(
            error, STATUS_USAGE,
            "MIB: must be a whole number from %lld (minmem; --force goes below it, to 1) to %lld "
            "(maxmem) (current value: \"%s\")",
            (long long)instance->minmem_mib, (long long)instance->maxmem_mib,
            hotplug->arguments[0]);
    if (wanted < instance->minmem_mib && !hotplug->options->force)
        return error_set(
            error, STATUS_USAGE,
            "MIB: below minmem, which is %lld; --force does it all the same, the guest "
            "may run out of memory",
            (long long)instance->minmem_mib);
    json_t *arguments = memory_json(json_pack("{s:I}", "value", wanted * MIB));
    if (hotplug->options->dry_run) {
        hotplug_plan_runtime(hotplug);
        hotplug_plan_command(hotplug, "balloon", arguments);
        hotplug_text(hotplug, memory_format("would set the memory to %lld MiB", (long long)wanted));
        return 0;
    }
    hotplug->instance->memory_mib = wanted < instance->maxmem_mib ? wanted : 0;
    if (set_recorded(hotplug, "balloon", arguments, error) < 0)
        return -1;
    if (wait_for_balloon(hotplug, wanted, error) < 0) {
        if (!hotplug->goes_on)
            error->status = STATUS_INCOMPLETE;
        return -1;
    }
    hotplug_detail(hotplug, "memory_mib", json_integer(wanted));
    hotplug_text(hotplug, memory_format("the guest has %lld MiB", (long long)wanted));
    return 0;
}

/* ---- set-link ---- */

int hotplug_set_link(struct hotplug *hotplug, struct error *error)
{
    int index = hotplug_find_nic(hotplug, hotplug->arguments[0], error);
    bool up = strcmp(hotplug->arguments[1], "up") == 0;

    if (index < 0)
        return -1;
    if (!up && strcmp(hotplug->arguments[1], "down") != 0)
        return error_set(error, STATUS_USAGE, "expected \"up\" or \"down\" (current value: \"%s\")",
                         hotplug->arguments[1]);
    struct nic *nic = &hotplug->instance->nics[index];
    hotplug_detail(hotplug, "uuid", json_string(nic->uuid));
    hotplug_text(hotplug,
                 memory_format("%sNIC %s: link %s", hotplug->options->dry_run ? "would set " : "",
                               nic->uuid, up ? "up" : "down"));
    json_t *arguments = device_link(nic, up);
    if (hotplug->options->dry_run) {
        hotplug_plan_command(hotplug, "set_link", arguments);
        hotplug_plan_runtime(hotplug);
        return 0;
    }
    nic->link_down = !up;
    if (set_recorded(hotplug, "set_link", arguments, error) < 0)
        return -1;
    events_note_link(hotplug->rundir, hotplug->name, json_text(nic->hvinfo, "id"), up);
    return 0;
}

/* ---- set-io ---- */

static int check_limits(const json_t *limits, struct error *error)
{
    const char *key;
    json_t *value;

    json_object_foreach ((json_t *)(uintptr_t)limits, key, value) {
        bool known = false;
        for (int i = 0; hotplug_io_keys[i] != NULL; i++)
            known = known || strcmp(hotplug_io_keys[i], key) == 0;
        if (!known) {
            AUTO_FREE char *shown = text_escape(key, strlen(key));
            return error_set(error, STATUS_USAGE, "%s: unknown key", shown);
        }
        if (!json_is_integer(value) || json_integer_value(value) < 0)
            return error_set(error, STATUS_USAGE, "%s: must be a number, 0 or more", key);
    }
    return 0;
}

/* QEMU takes a limit of all or limits of reads and writes, of operations as of bytes. */
static int check_totals(const json_t *params, struct error *error)
{
    static const char *const totals[] = {"iops", "bps"};
    static const char *const parts[] = {"rd", "wr"};

    for (size_t i = 0; i < COUNT(totals) * COUNT(parts); i++) {
        const char *total = totals[i / COUNT(parts)];
        AUTO_FREE char *part = memory_format("%s_%s", total, parts[i % COUNT(parts)]);
        if (json_number(params, total, 0) > 0 && json_number(params, part, 0) > 0)
            return error_set(error, STATUS_USAGE,
                             "%s and %s exclude each other: give 0 for the one to be dropped, "
                             "such as %s=0",
                             total, part, total);
    }
    return 0;
}

int hotplug_set_io(struct hotplug *hotplug, struct error *error)
{
    AUTO_JSON json_t *limits = hotplug_object(hotplug, 1, hotplug_io_keys, hotplug_io_keys, error);
    int index = limits == NULL || check_limits(limits, error) < 0
                    ? -1
                    : hotplug_find_disk(hotplug, hotplug->arguments[0], error);

    if (index < 0)
        return -1;
    struct disk *disk = &hotplug->instance->disks[index];
    json_t *params = json_member(disk->object, "params");
    if (!json_is_object(params)) {
        params = memory_json(json_object());
        json_object_set_new(disk->object, "params", params);
    }
    json_object_update(params, limits);
    if (check_totals(params, error) < 0)
        return error_prefix(error, "disk %s", disk->uuid);
    disk_refresh(disk);
    AUTO_JSON json_t *arguments = device_throttle(disk);
    AUTO_FREE char *text = json_compact(limits);
    hotplug_detail(hotplug, "uuid", json_string(disk->uuid));
    hotplug_text(hotplug,
                 memory_format("%sdisk %s: limits %s",
                               hotplug->options->dry_run ? "would set " : "", disk->uuid, text));
    if (hotplug->options->dry_run) {
        hotplug_plan_command(hotplug, "block_set_io_throttle", json_incref(arguments));
        hotplug_plan_runtime(hotplug);
        return 0;
    }
    if (set_recorded(hotplug, "block_set_io_throttle", json_incref(arguments), error) < 0)
        return error_prefix(error, "disk %s", disk->uuid);
    return 0;
}
