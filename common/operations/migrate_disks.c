/* SPDX-License-Identifier: BSD-2-Clause */
/* Which disks travel, and what is told of them. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "migrate_disks.h"
#include "migrate_sending.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "kvm/base/text.h"
#include "kvm/base/transaction.h"
#include "kvm/qemu/peripheral.h"
#include "kvm/state/check.h"

enum { ASK_MS = 10000, STAT_BLOCK = 512 };

/* ---- choosing ---- */

/* Storage of one node, by what the definition or Ganeti calls it. The others are where both nodes see them. */
static bool is_local(const struct disk *disk)
{
    static const char *const types[] = {"file", "plain", "lvm", NULL};
    return !disk_is_userspace(disk) && check_is_one_of(disk->dev_type, types);
}

static bool is_called(const struct disk *disk, const char *ident)
{
    const char *names[] = {disk->uuid, disk->name, disk->path, json_text(disk->hvinfo, "id")};

    for (size_t i = 0; i < COUNT(names); i++)
        if (names[i] != NULL && strcmp(names[i], ident) == 0)
            return true;
    return false;
}

/* By uuid, name, path here, device id or number; -1 with a problem. */
static int find_disk(const struct instance *instance, const char *option, const char *ident,
                     struct messages *problems)
{
    int64_t number;
    int found = -1;

    for (size_t i = 0; i < instance->disk_count; i++) {
        if (!is_called(&instance->disks[i], ident))
            continue;
        if (found >= 0) {
            messages_add(problems, "--%s: \"%s\" is more than one disk, give the uuid", option,
                         ident);
            return -1;
        }
        found = (int)i;
    }
    if (found < 0 && text_number(ident, 0, (int64_t)instance->disk_count - 1, &number))
        found = (int)number;
    if (found < 0)
        messages_add(problems, "--%s: no disk is called \"%s\"; 'kvm-info %s' shows them", option,
                     ident, instance->name);
    return found;
}

static struct copy *add_copy(struct copies *copies, const struct disk *disk, bool by_name)
{
    for (size_t i = 0; i < copies->count; i++) {
        if (copies->items[i].disk != disk)
            continue;
        copies->items[i].by_name |= by_name;
        return &copies->items[i];
    }
    copies->items = memory_resize(copies->items, copies->count + 1, sizeof(*copies->items));
    struct copy *copy = &copies->items[copies->count++];
    *copy = (struct copy){.disk = disk,
                          .node = json_text(disk->hvinfo, "id"),
                          .label = disk->name != NULL ? disk->name : disk->uuid,
                          .path = memory_copy(disk->path),
                          .by_name = by_name};
    return copy;
}

static void choose_named(struct sending *sending, const struct instance *instance,
                         struct messages *faults)
{
    AUTO_FREE char *list = memory_copy(sending->options->copy_disks);
    char *rest = NULL;

    for (char *name = strtok_r(list, ",", &rest); name != NULL; name = strtok_r(NULL, ",", &rest)) {
        int index = find_disk(instance, "copy-disks", name, faults);
        if (index >= 0)
            add_copy(&sending->copies, &instance->disks[index], true);
    }
}

static void choose_places(struct sending *sending, const struct instance *instance,
                          struct messages *faults)
{
    const char *const *places = sending->options->disk_paths;

    for (; places != NULL && *places != NULL; places++) {
        const char *path = strchr(*places, '=');
        if (path == NULL || !check_is_path(path + 1)) {
            messages_add(faults,
                         "--disk-path: must be DISK=PATH with an absolute path (current value: "
                         "\"%s\")",
                         *places);
            continue;
        }
        AUTO_FREE char *ident = memory_format("%.*s", (int)(path - *places), *places);
        int index = find_disk(instance, "disk-path", ident, faults);
        if (index < 0)
            continue;
        struct copy *copy = add_copy(&sending->copies, &instance->disks[index], true);
        free(copy->path);
        copy->path = memory_copy(path + 1);
    }
}

/* The commands of such a guest go past the block layer, and so past any mirror. */
static bool is_passed_through(const struct disk *disk)
{
    static const char *const drivers[] = {"scsi-block", "scsi-generic", NULL};
    const char *driver = json_text(disk->hvinfo, "driver");
    return driver != NULL && check_is_one_of(driver, drivers);
}

static int look_at(struct sending *sending, struct copy *copy, size_t number, struct error *error)
{
    const struct disk *disk = copy->disk;
    struct stat status;
    bool exists = false;

    snprintf(copy->client, sizeof(copy->client), "kvm-copy-%zu", number);
    bool elsewhere = disk->path == NULL || disk_is_userspace(disk);
    if (disk->read_only || is_passed_through(disk) || elsewhere || copy->node == NULL) {
        messages_add(&sending->problems, "disk %s: %s, it can't be copied", copy->label,
                     disk->read_only ? "is read-only: put it onto the target by hand"
                     : is_passed_through(disk)
                         ? "the guest's commands are passed through to the device"
                     : elsewhere ? "it is no file or device of this node"
                                 : "its hvinfo tells no id");
        return 0;
    }
    if (peripheral_node(sending->qmp, copy->node, clock_deadline(ASK_MS), &exists, &copy->size,
                        error) < 0)
        return -1;
    if (!exists)
        messages_add(&sending->problems, "disk %s: QEMU has no block node %s, it can't be copied",
                     copy->label, copy->node);
    copy->used = copy->size;
    if (stat(disk->path, &status) == 0 && S_ISREG(status.st_mode) &&
        (int64_t)status.st_blocks * STAT_BLOCK < copy->size)
        copy->used = (int64_t)status.st_blocks * STAT_BLOCK;
    copy->total = copy->size;
    return 0;
}

int copies_choose(struct sending *sending, struct error *error)
{
    const struct instance *instance = &sending->session.runtime.instance;
    struct copies *copies = &sending->copies;
    AUTO_MESSAGES struct messages faults = {0};

    if (sending->options->copy_disks == NULL)
        return 0;
    if (sending->options->copy_disks[0] != '\0')
        choose_named(sending, instance, &faults);
    for (size_t i = 0; i < instance->disk_count && sending->options->copy_disks[0] == '\0'; i++)
        if (is_local(&instance->disks[i]) && !instance->disks[i].read_only)
            add_copy(copies, &instance->disks[i], false);
    choose_places(sending, instance, &faults);
    if (faults.count > 0)
        return messages_error(&faults, STATUS_USAGE, error);
    for (size_t i = 0; i < copies->count; i++)
        if (look_at(sending, &copies->items[i], i, error) < 0)
            return -1;
    if (copies->count == 0 && sending->problems.count == 0)
        messages_add(&sending->result->warnings,
                     "--copy-disks: it has no writable disk of dev_type file or plain, so none is "
                     "copied; --copy-disks=DISK,... names others");
    return 0;
}

/* ---- to the target ---- */

/* Of this boot of this machine: where source and target are one machine, the same file is known for sure. */
static char *identity_of(const char *path)
{
    struct stat status;

    if (stat(path, &status) < 0)
        return memory_copy("");
    bool block = S_ISBLK(status.st_mode);
    return memory_format("%s:%s:%llx:%llx", process_boot_id(), block ? "device" : "file",
                         (unsigned long long)(block ? status.st_rdev : status.st_dev),
                         (unsigned long long)(block ? 0 : status.st_ino));
}

void copies_ask(const struct sending *sending, json_t *request)
{
    const struct copies *copies = &sending->copies;
    json_t *list = memory_json(json_array());

    for (size_t i = 0; i < copies->count; i++) {
        const struct copy *copy = &copies->items[i];
        AUTO_FREE char *identity = identity_of(copy->disk->path);
        json_array_append_new(
            list, memory_json(json_pack("{s:s, s:s, s:I, s:I, s:s}", "uuid", copy->disk->uuid,
                                        "path", copy->path, "size", (json_int_t)copy->size, "used",
                                        (json_int_t)copy->used, "identity", identity)));
    }
    json_object_set_new(request, "disks", list);
    json_object_update_new(
        request,
        json_pack("{s:b, s:I}", "overwrite", (int)sending->options->overwrite_disks, "disk_port",
                  (json_int_t)(sending->options->disk_port >= 0 ? sending->options->disk_port
                               : sending->port > 0 && sending->port < 65535 ? sending->port + 1
                                                                            : 0)));
}

static bool lists(const json_t *list, const char *uuid)
{
    size_t i;
    json_t *one;

    json_array_foreach (list, i, one)
        if (json_is_string(one) && strcmp(json_string_value(one), uuid) == 0)
            return true;
    return false;
}

static void drop_copy(struct copies *copies, size_t index)
{
    free(copies->items[index].path);
    copies->count--;
    memmove(&copies->items[index], &copies->items[index + 1],
            (copies->count - index) * sizeof(*copies->items));
}

void copies_take_answer(struct sending *sending, const json_t *answer)
{
    struct copies *copies = &sending->copies;

    for (size_t i = 0; i < copies->count;) {
        struct copy *copy = &copies->items[i];
        if (!lists(json_member(answer, "same"), copy->disk->uuid)) {
            i++;
            continue;
        }
        if (copy->by_name) {
            messages_add(&sending->problems,
                         "disk %s: on the target %s is the very storage that the guest uses here: "
                         "leave it out of --copy-disks, or give another place with --disk-path",
                         copy->label, copy->path);
            i++;
            continue;
        }
        messages_add(&sending->result->warnings,
                     "disk %s: the target sees the same storage, so it is not copied", copy->label);
        drop_copy(copies, i);
    }
}

/* ---- told ---- */

void copies_release(struct copies *copies)
{
    for (size_t i = 0; i < copies->count; i++)
        free(copies->items[i].path);
    free(copies->items);
    free(copies->left);
    *copies = (struct copies){0};
}

void copies_record(const struct copies *copies, struct runtime *runtime)
{
    json_t *disks = memory_json(json_object());

    for (size_t i = 0; i < copies->count; i++)
        json_object_set_new(disks, copies->items[i].disk->uuid,
                            memory_json(json_pack("{s:s, s:s}", "mirror", copies->items[i].client,
                                                  "path", copies->items[i].path)));
    if (copies->count > 0)
        migration_set_disks(runtime, disks);
    else
        json_decref(disks);
}

void copies_tell(struct sending *sending)
{
    const struct copies *copies = &sending->copies;
    json_t *disks = memory_json(json_array()), *left = memory_json(json_array());
    AUTO_FREE char *paths = memory_copy("");
    char host[256] = "here";

    gethostname(host, sizeof(host) - 1);
    for (size_t i = 0; i < copies->count; i++) {
        const struct copy *copy = &copies->items[i];
        json_array_append_new(
            disks, memory_json(json_pack("{s:s, s:s, s:I}", "disk", copy->disk->uuid, "path",
                                         copy->path, "bytes", (json_int_t)copy->total)));
        json_array_append_new(left, memory_json(json_string(copy->disk->path)));
        AUTO_FREE char *before = paths;
        paths = memory_format("%s%s%s", before, i > 0 ? " " : "", copy->disk->path);
    }
    json_object_set_new(sending->result->detail, "disks", disks);
    json_object_set_new(sending->result->detail, "left", left);
    if (copies->count == 0)
        return;
    AUTO_FREE char *text = sending->result->text;
    sending->result->text =
        memory_format("%s; %zu disk%s copied, left on %s: %s (not used any more; remove with rm or "
                      "lvremove once the guest is well)",
                      text, copies->count, copies->count == 1 ? "" : "s", host, paths);
}

void copies_tell_remains(const struct copies *copies, const char *target, struct error *error)
{
    for (size_t i = 0; i < copies->count; i++)
        error_append(error, "%s%s", i == 0 ? "; half-copied disks there: " : ", ",
                     copies->items[i].path);
    if (copies->count > 0)
        error_append(error, " (that removes those made for it; after a crash of %s, rm does)",
                     target);
}

void copies_tell_forecast(struct sending *sending, int64_t rate)
{
    const struct copies *copies = &sending->copies;
    int64_t bytes = 0, used = 0;
    char span[32] = "a time that is not known";

    /* QEMU counts what is empty for the bandwidth as well. */
    for (size_t i = 0; i < copies->count; i++) {
        bytes += copies->items[i].size;
        used += copies->items[i].used;
    }
    json_object_update_new(sending->result->detail,
                           json_pack("{s:I, s:I, s:I}", "disks", (json_int_t)copies->count,
                                     "disk_bytes", (json_int_t)bytes, "disk_bytes_used",
                                     (json_int_t)used));
    if (copies->count == 0)
        return;
    if (rate > 0)
        clock_format_span((double)bytes / (double)rate, span, sizeof(span));
    AUTO_FREE char *text = sending->result->text;
    sending->result->text = memory_format(
        "%s; before that %zu disk%s of %lld MiB (%lld MiB used) %s copied, in at most about %s",
        text, copies->count, copies->count == 1 ? "" : "s", (long long)(bytes >> 20),
        (long long)(used >> 20), copies->count == 1 ? "is" : "are", span);
}
