/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>

#include "hotplug_disk.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/operations/image.h"
#include "kvm/operations/reconcile.h"
#include "kvm/qemu/device.h"
#include "kvm/qemu/peripheral.h"

/* ---- the steps ---- */

static int open_image(void *plan, struct error *error)
{
    struct disk_adding *adding = plan;
    const struct disk *disk = disk_adding_disk(adding);

    if (disk_is_userspace(disk))
        return 0;
    adding->image =
        image_open(disk->path, device_open_flags(disk, adding->plug.hotplug->instance), error);
    return adding->image < 0 ? -1 : 0;
}

static int close_image(void *plan, struct error *error)
{
    struct disk_adding *adding = plan;

    (void)error;
    memory_close(&adding->image);
    adding->image = -1;
    return 0;
}

/* The node was sent along with the descriptor. */
static int take_both_back(void *plan, struct error *error)
{
    const struct plug *plug = plan;
    return hotplug_take_back(plug->hotplug, reconcile_remove_disk_backend, plug->id, error);
}

static json_t *block_node(const struct disk_adding *adding)
{
    return device_blockdev(disk_adding_disk(adding), adding->plug.hotplug->instance, adding->set,
                           adding->is_block);
}

static json_t *descriptor_arguments(const struct disk_adding *adding)
{
    return peripheral_add_fd_arguments(adding->plug.id, adding->set);
}

/* The block node is sent behind it: without its descriptor it is refused. QEMU can read what the device will be
 * meanwhile, but not plug it. */
static int pass_descriptor(void *plan, struct error *error)
{
    struct disk_adding *adding = plan;
    const struct plug *plug = plan;
    struct hotplug *hotplug = plug->hotplug;

    if (adding->image < 0) /* QEMU opens the URI itself */
        return 0;
    const struct qmp_request both[] = {{"add-fd", descriptor_arguments(adding)},
                                       {"blockdev-add", block_node(adding)}};
    qmp_ahead_prepare(hotplug->qmp, both, COUNT(both), adding->image, "device_add",
                      plug->frontend(plug));
    plug_prepare_present(&adding->plug);
    if (peripheral_add_fd(hotplug->qmp, adding->image, plug->id, hotplug->deadline, &adding->set,
                          error) == 0)
        return 0;
    return hotplug_failed(take_both_back, plan, error);
}

static int add_node(void *plan, struct error *error)
{
    struct disk_adding *adding = plan;
    struct hotplug *hotplug = adding->plug.hotplug;
    bool exists = false;
    enum qmp_outcome outcome = hotplug_call(hotplug, "blockdev-add", block_node(adding), error);

    if (outcome == QMP_UNKNOWN && !hotplug->unknown &&
        peripheral_node(hotplug->qmp, adding->plug.id, hotplug->deadline, &exists, NULL, NULL) ==
            0 &&
        exists)
        return 0;
    return outcome == QMP_DONE ? 0 : -1;
}

static int remove_node(void *plan, struct error *error)
{
    const struct plug *plug = plan;
    return hotplug_take_back(plug->hotplug, peripheral_remove_node, plug->id, error);
}

static json_t *frontend(const struct plug *plug)
{
    const struct instance *instance = plug->hotplug->instance;
    return device_disk(&instance->disks[plug->index], instance, 0);
}

static void refresh(struct plug *plug)
{
    disk_refresh(&plug->hotplug->instance->disks[plug->index]);
}

static int limit_io(void *plan, struct error *error)
{
    struct disk_adding *adding = plan;
    json_t *arguments = device_throttle(disk_adding_disk(adding));

    return arguments == NULL
               ? 0
               : hotplug_set(adding->plug.hotplug, "block_set_io_throttle", arguments, error);
}

static const struct step steps[] = {
    {"open the image", open_image, close_image, false},
    {"record the intent in the runtime", plug_record, plug_drop, false},
    {"pass the descriptor (add-fd)", pass_descriptor, take_both_back, false},
    {"add the block node (blockdev-add)", add_node, remove_node, false},
    {"plug the device (device_add)", plug_device, plug_unplug, false},
    {"set the limits (block_set_io_throttle)", limit_io, NULL, false},
    {"see it in QEMU", plug_see, NULL, false},
    {"record it as present", plug_record_present, NULL, false},
};

static void tell_plan(struct disk_adding *adding)
{
    struct hotplug *hotplug = adding->plug.hotplug;
    const struct disk *disk = disk_adding_disk(adding);
    json_t *limits = device_throttle(disk);

    plug_tell(&adding->plug);
    hotplug_plan_steps(hotplug, steps, COUNT(steps));
    if (!disk_is_userspace(disk))
        hotplug_plan_command(hotplug, "add-fd", descriptor_arguments(adding));
    hotplug_plan_command(hotplug, "blockdev-add", block_node(adding));
    hotplug_plan_command(hotplug, "device_add", frontend(&adding->plug));
    if (limits != NULL)
        hotplug_plan_command(hotplug, "block_set_io_throttle", limits);
    if (!disk_is_userspace(disk))
        hotplug_plan_file(hotplug, disk->path);
    hotplug_plan_runtime(hotplug);
    hotplug_text(hotplug, memory_format("would add disk %s", disk->uuid));
}

static bool same_text(const char *one, const char *other)
{
    return one != NULL && other != NULL && strcmp(one, other) == 0;
}

/* "already so" when the same disk is there; its uuid on something else is an error that the uniqueness check tells. */
static bool is_there(const struct hotplug *hotplug, const json_t *object)
{
    const char *uuid = json_text(object, "uuid"), *path = json_text(object, "path");
    const char *uri = json_text(object, "uri");
    const struct instance *instance = hotplug->instance;

    for (size_t i = 0; uuid != NULL && i < instance->disk_count; i++)
        if (strcmp(instance->disks[i].uuid, uuid) == 0 &&
            (same_text(instance->disks[i].path, path) || same_text(instance->disks[i].uri, uri)) &&
            runtime_device_state(hotplug->runtime, uuid) == DEVICE_PRESENT)
            return true;
    return false;
}

/* All that can be done while QEMU answers whether the disk may be added, and where, and before it matters: QEMU can't
 * do its part of it yet, and the record is not seen. */
static void prepare(struct disk_adding *adding)
{
    struct hotplug *hotplug = adding->plug.hotplug;

    if (!disk_is_userspace(disk_adding_disk(adding)))
        qmp_prepare(hotplug->qmp, "add-fd", descriptor_arguments(adding));
    runtime_set_device_state(hotplug->runtime, plug_uuid(&adding->plug), DEVICE_ADDING);
    hotplug_prepare_commit(hotplug);
}

static int add(struct disk_adding *adding, struct error *error)
{
    struct hotplug *hotplug = adding->plug.hotplug;
    struct plug *plug = &adding->plug;

    prepare(adding);
    if (hotplug_check_answers(hotplug, error) < 0 || plug_confirm_slot(plug, error) < 0)
        return -1;
    int result = transaction_run(steps, COUNT(steps), adding, hotplug->options->observe, error);

    close_image(adding, NULL);
    if (result < 0)
        return error_prefix(error, "add disk %s", plug_uuid(plug));
    plug_tell(plug);
    AUTO_FREE char *where =
        plug->slot != SLOT_NONE
            ? memory_format("slot %d", plug->slot)
            : memory_format("SCSI id %lld", (long long)json_number(disk_adding_disk(adding)->hvinfo,
                                                                   "scsi-id", -1));
    hotplug_text(hotplug, memory_format("disk %s added: %s, %s", plug_uuid(plug), plug->id, where));
    return 0;
}

int hotplug_add_disk(struct hotplug *hotplug, struct error *error)
{
    AUTO_JSON json_t *given = disk_adding_read(hotplug, error);
    struct disk_adding adding = {
        .plug = {.hotplug = hotplug, .frontend = frontend, .refresh = refresh}, .image = -1};
    struct error fault = {0};

    if (given == NULL)
        return -1;
    if (is_there(hotplug, given)) {
        hotplug_text(hotplug, memory_format("disk %s is there already", json_text(given, "uuid")));
        return hotplug_check_answers(hotplug, error);
    }
    if (disk_adding_decide(&adding, given, &fault) < 0) {
        if (hotplug_check_answers(hotplug, error) == 0) /* "not now" comes first */
            *error = fault;
        return -1;
    }
    if (!hotplug->options->dry_run)
        return add(&adding, error);
    if (plug_confirm_slot(&adding.plug, error) < 0)
        return -1;
    tell_plan(&adding);
    return 0;
}

static int remove_disk_remains(struct hotplug *hotplug, const struct removal *removal,
                               struct error *error)
{
    return reconcile_remove_disk_backend(hotplug->qmp, removal->id, hotplug->deadline, error);
}

static void plan_remains(struct hotplug *hotplug, const struct removal *removal)
{
    hotplug_plan_command(hotplug, "blockdev-del",
                         memory_json(json_pack("{s:s}", "node-name", removal->id)));
    hotplug_plan_command(hotplug, "remove-fd",
                         memory_json(json_pack("{s:s}", "opaque", removal->id)));
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
                              .plan = plan_remains,
                              .drop = reconcile_drop_disk};
    if (hotplug_remove(hotplug, &removal, error) < 0)
        return -1;
    hotplug_detail(hotplug, "uuid", json_string(uuid));
    hotplug_detail(hotplug, "device", json_string(id));
    if (!hotplug->options->dry_run)
        hotplug_text(hotplug, memory_format("disk %s removed", uuid));
    return 0;
}
