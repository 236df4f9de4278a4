/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * change-cdrom. The new medium is ready before the old one is taken out. Its node is "cdrom1" at start; here that name
 * and "cdrom1b" take turns, and each has its descriptor in a set marked with the same word; a medium of the web has
 * none. A node that is not in the drive is left over: reconcile_drive removes it. The second drive has "cdrom2" and
 * "cdrom2b".
 */
#include <fcntl.h>
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
#include "kvm/state/hvparams.h"
#include "kvm/state/media.h"
#include "kvm/state/placement.h"
#include "kvm/state/uri.h"

enum { TRAY_TRIES = 3 };

struct changing {
    struct hotplug *hotplug;
    enum medium medium;
    const char *path; /* or URL; NULL: only eject */
    const char *node; /* of the new medium */
    struct drive before;
    bool is_block;
    int image, set;
};

static const char *drive_id(const struct changing *changing)
{
    return media_names[changing->medium].device;
}

static json_t *drive_and(const struct changing *changing, const char *key, json_t *value)
{
    json_t *arguments = memory_json(json_pack("{s:s}", "id", drive_id(changing)));

    if (key != NULL)
        json_object_set_new(arguments, key, memory_json(value));
    return arguments;
}

/* ---- the new medium ---- */

static int open_image(void *plan, struct error *error)
{
    struct changing *changing = plan;

    if (uri_is_web(changing->path))
        return 0;
    changing->image = image_open(changing->path, O_RDONLY, error);
    return changing->image < 0 ? -1 : 0;
}

static int close_image(void *plan, struct error *error)
{
    struct changing *changing = plan;

    (void)error;
    memory_close(&changing->image);
    changing->image = -1;
    return 0;
}

static int take_descriptor_back(void *plan, struct error *error)
{
    const struct changing *changing = plan;
    return hotplug_take_back(changing->hotplug, peripheral_remove_fds, changing->node, error);
}

static int pass_descriptor(void *plan, struct error *error)
{
    struct changing *changing = plan;

    if (changing->image < 0) /* QEMU opens the URL itself */
        return 0;
    if (peripheral_add_fd(changing->hotplug->qmp, changing->image, changing->node,
                          changing->hotplug->deadline, &changing->set, error) == 0)
        return 0;
    return hotplug_failed(take_descriptor_back, plan, error);
}

static int remove_node(void *plan, struct error *error)
{
    const struct changing *changing = plan;
    return hotplug_take_back(changing->hotplug, peripheral_remove_node, changing->node, error);
}

static int add_node(void *plan, struct error *error)
{
    struct changing *changing = plan;
    json_t *node =
        device_medium_blockdev(changing->node, changing->path, changing->set, changing->is_block);

    switch (hotplug_call(changing->hotplug, "blockdev-add", node, error)) {
    case QMP_DONE:
        return 0;
    case QMP_REFUSED:
        break;
    case QMP_UNKNOWN:
        return hotplug_failed(remove_node, plan, error);
    }
    return -1;
}

/* ---- the drive: each of these may be repeated ---- */

static json_t *force_open(const struct changing *changing)
{
    return drive_and(changing, "force", json_true());
}

static int open_tray(void *plan, struct error *error)
{
    const struct changing *changing = plan;
    return hotplug_set(changing->hotplug, "blockdev-open-tray", force_open(changing), error);
}

static int close_tray(void *plan, struct error *error)
{
    const struct changing *changing = plan;
    return hotplug_set(changing->hotplug, "blockdev-close-tray", drive_and(changing, NULL, NULL),
                       error);
}

/* A guest that resets its drive, as firmware does early on, closes the tray between two commands. */
static bool opens_again(struct changing *changing)
{
    struct hotplug *hotplug = changing->hotplug;
    deadline_t deadline = hotplug->deadline;
    struct error second = {0};
    struct drive drive;

    return !hotplug->unknown &&
           peripheral_drive(hotplug->qmp, drive_id(changing), deadline, &drive, &second) == 0 &&
           drive.exists && !drive.tray_open && open_tray(changing, &second) == 0;
}

static int take_medium_out(void *plan, struct error *error)
{
    struct changing *changing = plan;
    int left = TRAY_TRIES;

    while (hotplug_set(changing->hotplug, "blockdev-remove-medium", drive_and(changing, NULL, NULL),
                       error) < 0)
        if (--left == 0 || !opens_again(changing))
            return -1;
    return 0;
}

/* Inserting is refused when it has been done. */
static int put_in_once(const struct changing *changing, const char *node, struct error *error)
{
    struct hotplug *hotplug = changing->hotplug;
    struct drive drive;
    json_t *arguments = drive_and(changing, "node-name", json_string(node));
    enum qmp_outcome outcome = hotplug_call(hotplug, "blockdev-insert-medium", arguments, error);

    if (outcome != QMP_UNKNOWN || hotplug->unknown)
        return outcome == QMP_DONE ? 0 : -1;
    if (peripheral_drive(hotplug->qmp, drive_id(changing), hotplug->deadline, &drive, error) < 0)
        return -1;
    return strcmp(drive.node, node) == 0 ? 0 : -1;
}

static int put_in(struct changing *changing, const char *node, struct error *error)
{
    int left = TRAY_TRIES;

    while (put_in_once(changing, node, error) < 0)
        if (--left == 0 || !opens_again(changing))
            return -1;
    return 0;
}

static int put_new_in(void *plan, struct error *error)
{
    struct changing *changing = plan;
    return put_in(changing, changing->node, error);
}

static int put_old_in(void *plan, struct error *error)
{
    struct changing *changing = plan;
    return put_in(changing, changing->before.node, error);
}

/* ---- and back ---- */

static int close_again(void *plan, struct error *error)
{
    const struct changing *changing = plan;
    return changing->before.tray_open ? 0
                                      : hotplug_undo(changing->hotplug, close_tray, plan, error);
}

static int old_medium_in(void *plan, struct error *error)
{
    const struct changing *changing = plan;
    return changing->before.node[0] == '\0'
               ? 0
               : hotplug_undo(changing->hotplug, put_old_in, plan, error);
}

static int new_medium_out(void *plan, struct error *error)
{
    const struct changing *changing = plan;
    return hotplug_undo(changing->hotplug, take_medium_out, plan, error);
}

static int open_again(void *plan, struct error *error)
{
    const struct changing *changing = plan;
    return hotplug_undo(changing->hotplug, open_tray, plan, error);
}

/* ---- the record ---- */

static int record_path(void *plan, struct error *error)
{
    struct changing *changing = plan;

    json_object_set_new(changing->hotplug->instance->hvparams, media_names[changing->medium].param,
                        memory_json(json_string(changing->path)));
    changing->hotplug->instance->ejected[changing->medium] = false;
    return hotplug_commit(changing->hotplug, error);
}

static int record_ejected(void *plan, struct error *error)
{
    struct changing *changing = plan;

    changing->hotplug->instance->ejected[changing->medium] = true;
    return hotplug_commit(changing->hotplug, error);
}

static int record_old(void *plan, struct error *error)
{
    struct changing *changing = plan;
    return hotplug_restore(changing->hotplug, error);
}

/* What fails here is tried again once, then left to the next command. */
static int remove_old_node(void *plan, struct error *error)
{
    struct changing *changing = plan;
    struct hotplug *hotplug = changing->hotplug;

    if (reconcile_drive(hotplug->qmp, changing->medium, hotplug->deadline, NULL, error) == 0)
        return 0;
    return hotplug_recover(hotplug, error)
               ? reconcile_drive(hotplug->qmp, changing->medium, hotplug->deadline, NULL, error)
               : -1;
}

static const struct step change_steps[] = {
    {"open the image", open_image, close_image, false},
    {"pass the descriptor (add-fd)", pass_descriptor, take_descriptor_back, false},
    {"add the block node (blockdev-add)", add_node, remove_node, false},
    {"open the tray", open_tray, close_again, false},
    {"take the old medium out", take_medium_out, old_medium_in, false},
    {"put the new medium in", put_new_in, new_medium_out, false},
    {"close the tray", close_tray, open_again, false},
    {"record the path in the runtime", record_path, record_old, true},
    {"remove the old block node", remove_old_node, NULL, false},
};

static const struct step eject_steps[] = {
    {"record it as ejected", record_ejected, record_old, false},
    {"open the tray", open_tray, close_again, false},
    {"take the medium out", take_medium_out, old_medium_in, true},
    {"remove its block node", remove_old_node, NULL, false},
};

/* ---- a dry run ---- */

static void plan_new_medium(const struct changing *changing)
{
    struct hotplug *hotplug = changing->hotplug;

    if (!uri_is_web(changing->path))
        hotplug_plan_command(hotplug, "add-fd",
                             memory_json(json_pack("{s:s}", "opaque", changing->node)));
    hotplug_plan_command(
        hotplug, "blockdev-add",
        device_medium_blockdev(changing->node, changing->path, 0, changing->is_block));
}

static void plan_old_node(const struct changing *changing)
{
    struct hotplug *hotplug = changing->hotplug;
    const char *node = changing->before.node;

    if (node[0] == '\0')
        return;
    hotplug_plan_command(hotplug, "blockdev-del",
                         memory_json(json_pack("{s:s}", "node-name", node)));
    hotplug_plan_command(hotplug, "remove-fd", memory_json(json_pack("{s:s}", "opaque", node)));
}

static void tell_plan(const struct changing *changing)
{
    struct hotplug *hotplug = changing->hotplug;
    bool eject = changing->path == NULL;

    hotplug_plan_steps(hotplug, eject ? eject_steps : change_steps,
                       eject ? COUNT(eject_steps) : COUNT(change_steps));
    if (!eject)
        plan_new_medium(changing);
    hotplug_plan_command(hotplug, "blockdev-open-tray", force_open(changing));
    hotplug_plan_command(hotplug, "blockdev-remove-medium", drive_and(changing, NULL, NULL));
    if (!eject) {
        hotplug_plan_command(hotplug, "blockdev-insert-medium",
                             drive_and(changing, "node-name", json_string(changing->node)));
        hotplug_plan_command(hotplug, "blockdev-close-tray", drive_and(changing, NULL, NULL));
        if (!uri_is_web(changing->path))
            hotplug_plan_file(hotplug, changing->path);
    }
    hotplug_plan_runtime(hotplug);
    plan_old_node(changing);
    hotplug_text(hotplug,
                 eject ? memory_format("would eject the %s", media_names[changing->medium].what)
                       : memory_format("would make %s the %s", changing->path,
                                       media_names[changing->medium].what));
}

/* A virtio or SCSI disk that stands for a CD-ROM has no tray. */
static int check_drive(const struct changing *changing, struct error *error)
{
    const char *driver = placement_cdrom_driver(changing->hotplug->instance, changing->medium);
    const struct medium_names *names = &media_names[changing->medium];

    if (changing->before.exists)
        return 0;
    if (media_place(changing->hotplug->instance, changing->medium) == NULL || driver == NULL)
        return error_set(error, STATUS_STATE,
                         "the instance has no %s drive; it has one when it is started with %s",
                         names->what, names->param);
    return error_set(error, STATUS_STATE,
                     "the %s is a %s, whose medium can't be changed; with cdrom_disk_type ide or "
                     "scsi-cd it can",
                     names->what, driver);
}

static int check_new(struct changing *changing, struct error *error)
{
    AUTO_MESSAGES struct messages problems = {0};

    if (!uri_is_web(changing->path) && changing->path[0] != '/')
        return error_set(error, STATUS_USAGE,
                         "PATH: must be absolute, a URL, or \"eject\" (current value: \"%s\")",
                         changing->path);
    if (uri_is_web(changing->path))
        image_check_uri(hvparams_text(changing->hotplug->instance->hvparams, "kvm_path"),
                        changing->path, true, "PATH", &problems);
    else
        image_check(changing->path, O_RDONLY, "PATH", &changing->is_block, &problems);
    return problems.count > 0 ? messages_error(&problems, STATUS_USAGE, error) : 0;
}

static int choose_drive(struct changing *changing, struct error *error)
{
    const struct hotplug *hotplug = changing->hotplug;
    const char *word = hotplug->count > 1 ? hotplug->arguments[1] : "cdrom";

    changing->medium = strcmp(word, "cdrom2") == 0 ? MEDIUM_CDROM2 : MEDIUM_CDROM;
    if (strcmp(word, media_names[changing->medium].device) != 0)
        return error_set(error, STATUS_USAGE,
                         "DRIVE: must be cdrom or cdrom2 (current value: \"%s\")", word);
    if (peripheral_drive(hotplug->qmp, drive_id(changing), hotplug->deadline, &changing->before,
                         error) < 0 ||
        check_drive(changing, error) < 0)
        return -1;
    changing->node = media_names[changing->medium].node;
    if (strcmp(changing->before.node, changing->node) == 0)
        changing->node = media_names[changing->medium].other;
    return 0;
}

int hotplug_change_cdrom(struct hotplug *hotplug, struct error *error)
{
    const char *path = hotplug->arguments[0];
    bool eject = strcmp(path, "eject") == 0;
    struct changing changing = {
        .hotplug = hotplug, .path = eject ? NULL : path, .image = -1, .set = -1};

    if (choose_drive(&changing, error) < 0 || (!eject && check_new(&changing, error) < 0))
        return -1;
    if (hotplug->options->dry_run) {
        tell_plan(&changing);
        return 0;
    }
    hotplug_text(hotplug,
                 eject ? memory_format("the %s is ejected", media_names[changing.medium].what)
                       : memory_format("the %s is %s", media_names[changing.medium].what, path));
    /* After eject the drive stays open. */
    int result = transaction_run(eject ? eject_steps : change_steps,
                                 eject ? COUNT(eject_steps) : COUNT(change_steps), &changing,
                                 hotplug->options->observe, error);
    close_image(&changing, NULL);
    return result;
}
