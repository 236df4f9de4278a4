/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>

#include "hotplug_private.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/transaction.h"
#include "kvm/operations/image.h"
#include "kvm/operations/reconcile.h"
#include "kvm/qemu/device.h"
#include "kvm/qemu/peripheral.h"
#include "kvm/state/placement.h"

const char *const hotplug_disk_keys[] = {
    "path", "size", "name", "uuid",    "mode",    "cache", "aio",    "discard", "format", "serial",
    "bus",  "slot", "iops", "iops_rd", "iops_wr", "bps",   "bps_rd", "bps_wr",  NULL};
static const char *const number_keys[] = {"size", "slot",   "iops",   "iops_rd", "iops_wr",
                                          "bps",  "bps_rd", "bps_wr", NULL};
const char *const hotplug_io_keys[] = {"iops",   "iops_rd", "iops_wr", "bps",
                                       "bps_rd", "bps_wr",  NULL};

struct adding {
    struct hotplug *hotplug;
    size_t index; /* of the new disk in the instance */
    int image;
    bool is_block;
    int set;
    struct plug plug;
};

static struct disk *new_disk(const struct adding *adding)
{
    return &adding->hotplug->instance->disks[adding->index];
}

/* ---- deciding ---- */

/* Limits stand in params, where a runtime file has room for them. */
static void move_limits(json_t *object)
{
    json_t *params = json_member(object, "params");

    for (int i = 0; hotplug_io_keys[i] != NULL; i++) {
        json_t *value = json_object_get(object, hotplug_io_keys[i]);
        if (value == NULL)
            continue;
        if (!json_is_object(params)) {
            params = memory_json(json_object());
            json_object_set_new(object, "params", params);
        }
        json_object_set(params, hotplug_io_keys[i], value);
        json_object_del(object, hotplug_io_keys[i]);
    }
}

static int append_disk(struct hotplug *hotplug, const json_t *object, struct error *error)
{
    struct instance *instance = hotplug->instance;
    AUTO_MESSAGES struct messages problems = {0};
    struct disk disk = {0};

    if (disk_parse(object, "add-disk", &disk, &problems) < 0)
        return messages_error(&problems, STATUS_USAGE, error);
    instance->disks =
        memory_resize(instance->disks, instance->disk_count + 2, sizeof(*instance->disks));
    if (json_member(disk.object, "iv_name") == NULL) {
        AUTO_FREE char *number = memory_format("disk/%zu", instance->disk_count);
        json_object_set_new(disk.object, "iv_name", memory_json(json_string(number)));
        disk_refresh(&disk);
    }
    instance->disks[instance->disk_count++] = disk;
    return 0;
}

/* "already so" when the same disk is there; its uuid on something else is an error that the uniqueness check tells. */
static bool is_there(const struct hotplug *hotplug, const json_t *object)
{
    const char *uuid = json_text(object, "uuid"), *path = json_text(object, "path");
    const struct instance *instance = hotplug->instance;

    for (size_t i = 0; uuid != NULL && path != NULL && i < instance->disk_count; i++)
        if (strcmp(instance->disks[i].uuid, uuid) == 0 && instance->disks[i].path != NULL &&
            strcmp(instance->disks[i].path, path) == 0 &&
            runtime_device_state(hotplug->runtime, uuid) == DEVICE_PRESENT)
            return true;
    return false;
}

static int place_on_pci(struct adding *adding, const char *driver, int64_t wanted,
                        struct error *error)
{
    struct plug *plug = &adding->plug;
    struct slots *slots = &plug->slots;

    plug->slot_fixed = wanted >= 0;
    plug->slot = (int)wanted;
    if (plug->slot_fixed ? slots_reserve(slots, plug->slot, error) < 0
                         : slots_take(slots, slots->first, &plug->slot, error) < 0)
        return -1;
    char id[32];
    placement_id("disk", new_disk(adding)->uuid, id);
    json_object_set_new(new_disk(adding)->object, "hvinfo",
                        placement_hvinfo(adding->hotplug->instance, driver, id, plug->slot));
    disk_refresh(new_disk(adding));
    return 0;
}

static int place_on_scsi(struct adding *adding, struct error *error)
{
    struct placement placement;
    bool exists;

    if (peripheral_exists(adding->hotplug->qmp, "scsi", adding->hotplug->deadline, &exists, error) <
        0)
        return -1;
    if (!exists)
        return error_set(error, STATUS_STATE,
                         "bus=scsi: the instance has no SCSI controller; it gets one when it is "
                         "started with disk_type \"scsi\" or with a SCSI disk");
    return placement_assign(adding->hotplug->instance, &placement, error);
}

static int place(struct adding *adding, int64_t wanted, struct error *error)
{
    const struct disk *disk = new_disk(adding);
    const char *driver = placement_disk_driver(disk, adding->hotplug->instance);

    adding->plug.slot = SLOT_NONE;
    if (driver != NULL && strncmp(driver, "scsi-", 5) == 0) {
        if (wanted >= 0)
            return error_set(error, STATUS_USAGE, "slot: a SCSI disk has none");
        return place_on_scsi(adding, error);
    }
    if (driver == NULL || strcmp(driver, "virtio-blk-pci") != 0)
        return error_set(error, STATUS_STATE,
                         "a %s disk can't be plugged into a running guest; bus=virtio or bus=scsi "
                         "can",
                         driver != NULL ? driver : "disk of unknown type");
    return place_on_pci(adding, driver, wanted, error);
}

static int decide(struct adding *adding, const json_t *given, struct error *error)
{
    struct hotplug *hotplug = adding->hotplug;
    AUTO_JSON json_t *object = memory_json(json_deep_copy(given));
    AUTO_MESSAGES struct messages problems = {0};
    int64_t wanted = json_number(object, "slot", -1);

    if (json_member(object, "slot") != NULL && !json_is_integer(json_member(object, "slot")))
        return error_set(error, STATUS_USAGE, "slot: must be a number from 3 to 31");
    json_object_del(object, "slot");
    move_limits(object);
    /* The slots are looked at before the new disk is there, which has no place yet. */
    if (hotplug_slots(hotplug, &adding->plug.slots, error) < 0 ||
        append_disk(hotplug, object, error) < 0)
        return -1;
    adding->index = hotplug->instance->disk_count - 1;
    instance_check_unique(hotplug->instance, hotplug->name, &problems);
    struct disk *disk = new_disk(adding);
    if (disk->path != NULL)
        image_check(disk->path, device_open_flags(disk, hotplug->instance), "path",
                    &adding->is_block, &problems);
    if (problems.count > 0)
        return messages_error(&problems, STATUS_USAGE, error);
    if (place(adding, wanted, error) < 0)
        return -1;
    adding->plug.id = json_text(new_disk(adding)->hvinfo, "id");
    return 0;
}

/* ---- the steps ---- */

static int open_image(void *plan, struct error *error)
{
    struct adding *adding = plan;
    const struct disk *disk = new_disk(adding);

    adding->image =
        image_open(disk->path, device_open_flags(disk, adding->hotplug->instance), error);
    return adding->image < 0 ? -1 : 0;
}

static int close_image(void *plan, struct error *error)
{
    struct adding *adding = plan;

    (void)error;
    memory_close(&adding->image);
    adding->image = -1;
    return 0;
}

static int record_adding(void *plan, struct error *error)
{
    struct adding *adding = plan;

    runtime_set_device_state(adding->hotplug->runtime, new_disk(adding)->uuid, DEVICE_ADDING);
    return hotplug_commit(adding->hotplug, error);
}

static int drop_adding(void *plan, struct error *error)
{
    struct adding *adding = plan;
    return hotplug_restore(adding->hotplug, error);
}

static int take_descriptor_back(void *plan, struct error *error)
{
    struct adding *adding = plan;
    struct hotplug *hotplug = adding->hotplug;
    int ready = hotplug_begin_undo(hotplug, error);

    if (ready <= 0)
        return ready;
    return hotplug_end_undo(
        hotplug, peripheral_remove_fds(hotplug->qmp, adding->plug.id, hotplug->deadline, error));
}

static int pass_descriptor(void *plan, struct error *error)
{
    struct adding *adding = plan;

    if (peripheral_add_fd(adding->hotplug->qmp, adding->image, adding->plug.id,
                          adding->hotplug->deadline, &adding->set, error) == 0)
        return 0;
    return hotplug_failed(take_descriptor_back, plan, error);
}

static int add_node(void *plan, struct error *error)
{
    struct adding *adding = plan;
    struct hotplug *hotplug = adding->hotplug;
    bool exists = false;
    json_t *node =
        device_blockdev(new_disk(adding), hotplug->instance, adding->set, adding->is_block);
    enum qmp_outcome outcome = hotplug_call(hotplug, "blockdev-add", node, error);

    if (outcome == QMP_UNKNOWN && !hotplug->unknown &&
        peripheral_node(hotplug->qmp, adding->plug.id, hotplug->deadline, &exists, NULL, NULL) ==
            0 &&
        exists)
        return 0;
    return outcome == QMP_DONE ? 0 : -1;
}

static int remove_node(void *plan, struct error *error)
{
    struct adding *adding = plan;

    struct hotplug *hotplug = adding->hotplug;
    int ready = hotplug_begin_undo(hotplug, error);

    if (ready <= 0)
        return ready;
    return hotplug_end_undo(
        hotplug, peripheral_remove_node(hotplug->qmp, adding->plug.id, hotplug->deadline, error));
}

static json_t *build_frontend(const struct hotplug *hotplug, const struct plug *plug)
{
    const struct adding *adding = plug->device;
    return device_disk(new_disk(adding), hotplug->instance, 0);
}

static void place_frontend(struct hotplug *hotplug, struct plug *plug)
{
    struct adding *adding = plug->device;
    struct disk *disk = new_disk(adding);
    AUTO_FREE char *driver = memory_copy(json_text(disk->hvinfo, "driver"));
    AUTO_FREE char *id = memory_copy(plug->id);

    json_object_set_new(disk->object, "hvinfo",
                        placement_hvinfo(hotplug->instance, driver, id, plug->slot));
    disk_refresh(disk);
    plug->id = json_text(disk->hvinfo, "id");
}

static int plug_device(void *plan, struct error *error)
{
    struct adding *adding = plan;
    return hotplug_plug(adding->hotplug, &adding->plug, error);
}

static int unplug_device(void *plan, struct error *error)
{
    struct adding *adding = plan;
    return hotplug_unplug_again(adding->hotplug, adding->plug.id, error);
}

static int see_device(void *plan, struct error *error)
{
    struct adding *adding = plan;
    return hotplug_see(adding->hotplug, adding->plug.id, error);
}

static int limit_io(void *plan, struct error *error)
{
    struct adding *adding = plan;
    json_t *arguments = device_throttle(new_disk(adding));

    return arguments == NULL
               ? 0
               : hotplug_set(adding->hotplug, "block_set_io_throttle", arguments, error);
}

static int record_present(void *plan, struct error *error)
{
    struct adding *adding = plan;

    runtime_set_device_state(adding->hotplug->runtime, new_disk(adding)->uuid, DEVICE_PRESENT);
    return hotplug_commit(adding->hotplug, error);
}

static const struct step steps[] = {
    {"open the image", open_image, close_image, false},
    {"record the intent in the runtime", record_adding, drop_adding, false},
    {"pass the descriptor (add-fd)", pass_descriptor, take_descriptor_back, false},
    {"add the block node (blockdev-add)", add_node, remove_node, false},
    {"plug the device (device_add)", plug_device, unplug_device, false},
    {"set the limits (block_set_io_throttle)", limit_io, NULL, false},
    {"see it in QEMU", see_device, NULL, false},
    {"record it as present", record_present, NULL, false},
};

static void tell(struct hotplug *hotplug, const struct adding *adding)
{
    const struct disk *disk = new_disk(adding);

    hotplug_detail(hotplug, "uuid", json_string(disk->uuid));
    hotplug_detail(hotplug, "index", json_integer((json_int_t)adding->index));
    hotplug_detail(hotplug, "device", json_string(adding->plug.id));
    hotplug_detail(hotplug, "hvinfo", json_deep_copy(disk->hvinfo));
    if (adding->plug.slot != SLOT_NONE)
        hotplug_detail(hotplug, "slot", json_integer(adding->plug.slot));
}

static void tell_plan(struct hotplug *hotplug, const struct adding *adding)
{
    const struct disk *disk = new_disk(adding);
    json_t *commands = memory_json(
        json_pack("[{s:s, s:{s:s}}, {s:s, s:o}, {s:s, s:o}]", "execute", "add-fd", "arguments",
                  "opaque", adding->plug.id, "execute", "blockdev-add", "arguments",
                  device_blockdev(disk, hotplug->instance, 0, adding->is_block), "execute",
                  "device_add", "arguments", device_disk(disk, hotplug->instance, 0)));
    json_t *plan = memory_json(json_array()), *limits = device_throttle(disk);

    if (limits != NULL)
        json_array_append_new(commands,
                              memory_json(json_pack("{s:s, s:o}", "execute",
                                                    "block_set_io_throttle", "arguments", limits)));
    for (size_t i = 0; i < COUNT(steps); i++)
        json_array_append_new(plan, memory_json(json_string(steps[i].what)));
    tell(hotplug, adding);
    hotplug_detail(hotplug, "steps", plan);
    hotplug_detail(hotplug, "commands", commands);
}

int hotplug_add_disk(struct hotplug *hotplug, struct error *error)
{
    AUTO_JSON json_t *given = hotplug_object(hotplug, 0, hotplug_disk_keys, number_keys, error);
    struct adding adding = {.hotplug = hotplug,
                            .image = -1,
                            .plug = {.build = build_frontend, .place = place_frontend}};

    adding.plug.device = &adding;
    if (given == NULL)
        return -1;
    if (is_there(hotplug, given)) {
        hotplug_text(hotplug, memory_format("disk %s is there already", json_text(given, "uuid")));
        return 0;
    }
    if (decide(&adding, given, error) < 0)
        return -1;
    if (hotplug->options->dry_run) {
        tell_plan(hotplug, &adding);
        hotplug_text(hotplug, memory_format("would add disk %s", new_disk(&adding)->uuid));
        return 0;
    }
    int result = transaction_run(steps, COUNT(steps), &adding, hotplug->options->observe, error);
    close_image(&adding, NULL);
    if (result < 0)
        return error_prefix(error, "add disk %s", new_disk(&adding)->uuid);
    tell(hotplug, &adding);
    AUTO_FREE char *where =
        adding.plug.slot != SLOT_NONE
            ? memory_format("slot %d", adding.plug.slot)
            : memory_format("SCSI id %lld",
                            (long long)json_number(new_disk(&adding)->hvinfo, "scsi-id", -1));
    hotplug_text(hotplug, memory_format("disk %s added: %s, %s", new_disk(&adding)->uuid,
                                        adding.plug.id, where));
    return 0;
}

static int remove_disk_remains(struct hotplug *hotplug, const struct removal *removal,
                               struct error *error)
{
    return reconcile_remove_disk_backend(hotplug->qmp, removal->id, hotplug->deadline, error);
}

int hotplug_del_disk(struct hotplug *hotplug, struct error *error)
{
    if (hotplug_is_gone(hotplug, "disk", hotplug->arguments[0]))
        return 0;
    int index = hotplug_find_disk(hotplug, hotplug->arguments[0], error);
    if (index < 0)
        return -1;
    const struct disk *disk = &hotplug->instance->disks[index];
    AUTO_FREE char *uuid = memory_copy(disk->uuid);
    AUTO_FREE char *id = memory_copy(json_text(disk->hvinfo, "id"));
    AUTO_FREE char *what = memory_format("disk %s", uuid);
    const char *driver = json_text(disk->hvinfo, "driver");
    if (id == NULL || driver == NULL ||
        (strcmp(driver, "virtio-blk-pci") != 0 && strncmp(driver, "scsi-", 5) != 0))
        return error_set(error, STATUS_STATE, "%s: a %s disk can't be removed from a running guest",
                         what, driver != NULL ? driver : "disk of unknown type");
    struct removal removal = {.what = what,
                              .uuid = uuid,
                              .id = id,
                              .index = (size_t)index,
                              .remains = remove_disk_remains,
                              .drop = reconcile_drop_disk};
    if (hotplug_remove(hotplug, &removal, error) < 0)
        return -1;
    hotplug_detail(hotplug, "uuid", json_string(uuid));
    hotplug_detail(hotplug, "device", json_string(id));
    if (!hotplug->options->dry_run)
        hotplug_text(hotplug, memory_format("disk %s removed", uuid));
    return 0;
}
