/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdint.h>
#include <string.h>
#include <sys/random.h>

#include "hotplug_disk.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/operations/image.h"
#include "kvm/qemu/device.h"
#include "kvm/qemu/peripheral.h"
#include "kvm/state/hvparams.h"
#include "kvm/state/placement.h"

/* Above the numbers of fd sets that are given at start and by QEMU. */
enum { SET_LEAST = 1 << 20 };

const char *const hotplug_disk_keys[] = {
    "path",    "size",   "name",   "uuid",   "mode",          "cache",    "aio",
    "discard", "format", "serial", "bus",    "slot",          "iops",     "iops_rd",
    "iops_wr", "bps",    "bps_rd", "bps_wr", "detect_zeroes", "iothread", "queues",
    "uri",     "access", "cyls",   "heads",  "secs",          NULL};
static const char *const number_keys[] = {"iothread", "queues",  "size", "slot",   "iops",
                                          "iops_rd",  "iops_wr", "bps",  "bps_rd", "bps_wr",
                                          "cyls",     "heads",   "secs", NULL};
const char *const hotplug_io_keys[] = {"iops",   "iops_rd", "iops_wr", "bps",
                                       "bps_rd", "bps_wr",  NULL};

json_t *disk_adding_read(const struct hotplug *hotplug, struct error *error)
{
    return hotplug_object(hotplug, 0, hotplug_disk_keys, number_keys, error);
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

struct disk *disk_adding_disk(const struct disk_adding *adding)
{
    return &adding->plug.hotplug->instance->disks[adding->plug.index];
}

static int place_on_scsi(const struct disk_adding *adding, struct error *error)
{
    struct hotplug *hotplug = adding->plug.hotplug;
    struct placement placement;
    bool exists;

    if (hotplug_check_answers(hotplug, error) < 0 ||
        peripheral_exists(hotplug->qmp, "scsi", hotplug->deadline, &exists, error) < 0)
        return -1;
    if (!exists)
        return error_set(error, STATUS_STATE,
                         "bus=scsi: the instance has no SCSI controller; it gets one when it is "
                         "started with disk_type \"scsi\" or with a SCSI disk");
    if (placement_assign(hotplug->instance, &placement, error) < 0)
        return -1;
    const char *bus = json_text(disk_adding_disk(adding)->hvinfo, "bus");
    AUTO_FREE char *controller = memory_format("%.*s", (int)strcspn(bus, "."), bus);
    if (peripheral_exists(hotplug->qmp, controller, hotplug->deadline, &exists, error) < 0)
        return -1;
    return exists ? 0
                  : error_set(error, STATUS_STATE,
                              "bus=scsi: all places of the instance's SCSI controllers are taken; "
                              "it gets one more when it is started with more SCSI disks");
}

static int place(struct disk_adding *adding, int64_t wanted, struct error *error)
{
    const struct disk *disk = disk_adding_disk(adding);
    const char *driver = placement_disk_driver(disk, adding->plug.hotplug->instance);

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
    return plug_choose_slot(&adding->plug, "disk", driver, wanted, error);
}

/* Chosen here, and not by QEMU when the descriptor is passed, so that the block node can be sent along with it. At random
 * out of two thousand million above those that a start or QEMU itself gives: to ask which are free would cost a turn of
 * QEMU's main loop for each byte. */
static int choose_set(struct disk_adding *adding, struct error *error)
{
    uint32_t number;

    if (getrandom(&number, sizeof(number), 0) != (ssize_t)sizeof(number))
        return error_errno(error, STATUS_FAILED, "getrandom");
    adding->set = (int)(SET_LEAST + number % (INT32_MAX - SET_LEAST));
    return 0;
}

int disk_adding_decide(struct disk_adding *adding, const json_t *given, struct error *error)
{
    struct plug *plug = &adding->plug;
    struct hotplug *hotplug = plug->hotplug;
    AUTO_JSON json_t *object = memory_json(json_deep_copy(given));
    AUTO_MESSAGES struct messages problems = {0};
    int64_t wanted;

    if (plug_read_slot(object, &wanted, error) < 0)
        return -1;
    /* Limits stand in params, where a runtime file has room for them. */
    hotplug_move_keys(object, hotplug_io_keys, "params");
    /* The slots are looked at before the new disk is there, which has no place yet. */
    if (hotplug_recorded_slots(hotplug, &plug->slots, error) < 0 ||
        append_disk(hotplug, object, error) < 0)
        return -1;
    plug->index = hotplug->instance->disk_count - 1;
    struct disk *disk = disk_adding_disk(adding);
    plug->object = disk->object;
    instance_check_unique(hotplug->instance, hotplug->name, &problems);
    instance_check_disk(hotplug->instance, disk, "add-disk", &problems);
    if (disk_is_userspace(disk))
        image_check_uri(hvparams_text(hotplug->instance->hvparams, "kvm_path"), disk->uri, true,
                        "uri", &problems);
    else
        image_check_disk(disk, hotplug->instance, "path", &adding->is_block, &problems);
    image_check_same(hotplug->instance, hotplug->name, &problems);
    if (problems.count > 0)
        return messages_error(&problems, STATUS_USAGE, error);
    if (place(adding, wanted, error) < 0 || choose_set(adding, error) < 0)
        return -1;
    plug->id = json_text(disk->hvinfo, "id");
    return 0;
}
