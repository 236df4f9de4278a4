/* SPDX-License-Identifier: BSD-2-Clause */
/* Places on the target for disks that travel: what is asked for, and whether it can be. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "migrate_landing.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "kvm/base/text.h"
#include "kvm/qemu/device.h"
#include "kvm/state/check.h"

/* All disks of an instance together still fit into a number. */
static const int64_t SIZE_MOST = INT64_MAX >> 8;

enum { SECTOR = 512, LOCKS_FIRST = 100, LOCKS_COUNT = 200 };

void landing_release(struct landings *landings)
{
    for (size_t i = 0; i < landings->count; i++) {
        place_release(&landings->items[i].place);
        free(landings->items[i].path);
        free(landings->items[i].identity);
    }
    free(landings->items);
    *landings = (struct landings){0};
}

/* ---- the request ---- */

static int find_disk(const struct instance *instance, const char *uuid)
{
    for (size_t i = 0; uuid != NULL && i < instance->disk_count; i++)
        if (strcmp(instance->disks[i].uuid, uuid) == 0)
            return (int)i;
    return -1;
}

static bool is_taken(const struct landings *landings, int index)
{
    for (size_t i = 0; i < landings->count; i++)
        if (landings->items[i].index == (size_t)index)
            return true;
    return false;
}

/* Where Ganeti looks for it, and what it takes it for: a volume that became a file is one. */
static void tell_place(struct disk *disk, const char *path)
{
    char group[PLACE_NAME_SIZE], volume[PLACE_NAME_SIZE];
    bool device = strncmp(path, "/dev/", 5) == 0;
    bool was_volume = strcmp(disk->dev_type, "plain") == 0 || strcmp(disk->dev_type, "lvm") == 0;
    json_t *logical = NULL;

    if (was_volume && place_names_volume(path, group, volume)) {
        logical = json_pack("[ss]", group, volume);
    } else if (!device || was_volume || strcmp(disk->dev_type, "file") == 0) {
        logical = json_pack("[ss]", "loop", path);
        json_object_set_new(disk->object, "dev_type", memory_json(json_string("file")));
    } else {
        logical = json_pack("[ss]", "manual", path);
        json_object_set_new(disk->object, "dev_type", memory_json(json_string("blockdev")));
    }
    json_object_set_new(disk->object, "logical_id", memory_json(logical));
    if (json_array_size(json_member(disk->object, "children")) > 0)
        json_object_set_new(disk->object, "children", memory_json(json_array()));
}

/* The place becomes the disk's. */
static void move_disk(struct disk *disk, const char *path)
{
    if (disk->path != NULL && strcmp(disk->path, path) != 0)
        tell_place(disk, path);
    free(disk->path);
    disk->path = memory_copy(path);
    disk_refresh(disk);
}

static int read_one(const json_t *given, struct instance *instance, struct landings *landings,
                    struct error *error)
{
    const char *path = json_text(given, "path"), *identity = json_text(given, "identity");
    int64_t size = json_number(given, "size", 0), used = json_number(given, "used", 0);
    int index = find_disk(instance, json_text(given, "uuid"));

    if (index < 0 || is_taken(landings, index) || instance->disks[index].read_only)
        return error_set(
            error, STATUS_USAGE,
            "the request names a disk to copy that is no writable one of the instance");
    if (path == NULL || !check_is_path(path) || path[strlen(path) - 1] == '/')
        return error_set(error, STATUS_USAGE, "disks[%d]: the request tells no path", index);
    if (size <= 0 || size > SIZE_MOST || size % SECTOR != 0 || used < 0 || used > size)
        return error_set(error, STATUS_USAGE, "disks[%d]: the request tells no size", index);
    struct disk_settings settings;
    disk_settings(&instance->disks[index], instance, &settings);
    landings->items = memory_resize(landings->items, landings->count + 1, sizeof(*landings->items));
    landings->items[landings->count++] =
        (struct landing){.place = {.directory = -1, .there = -1},
                         .index = (size_t)index,
                         .path = memory_copy(path),
                         .size = size,
                         .used = used,
                         .qcow2 = strcmp(settings.format, "qcow2") == 0,
                         .identity = memory_copy(identity != NULL ? identity : "")};
    move_disk(&instance->disks[index], path);
    return 0;
}

int landing_read(const json_t *request, const struct node *node, struct instance *instance,
                 struct landings *landings, struct error *error)
{
    AUTO_MESSAGES struct messages problems = {0};
    size_t i;
    json_t *one;

    landings->node = node;
    landings->overwrite = json_truth(request, "overwrite", false);
    json_array_foreach (json_member(request, "disks"), i, one)
        if (read_one(one, instance, landings, error) < 0)
            return -1;
    if (landings->count > 0)
        instance_check_unique(instance, "request", &problems);
    return problems.count == 0 ? 0 : messages_error(&problems, STATUS_USAGE, error);
}

/* ---- places ---- */

/* On a file system that can't, the disk is made by hand and taken with --overwrite-disks. */
int landing_unnamed(const struct landing *landing, int flags, struct error *error)
{
    int file = openat(landing->place.directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC | flags, 0600);

    if (file >= 0)
        return file;
    if (errno == EOPNOTSUPP || errno == EISDIR)
        return error_set(error, STATUS_STATE,
                         "%s: the file system there can't make a file without a name first; make "
                         "the disk by hand ('truncate -s %lld %s') and give --overwrite-disks",
                         landing->path, (long long)landing->size, landing->path);
    return error_errno(error, STATUS_STATE, "%s: a file can't be made there", landing->path);
}

/* QEMU marks what it has open by locks in this range of bytes, whatever program it belongs to. */
static bool is_in_use(int descriptor)
{
    struct flock lock = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = LOCKS_FIRST, .l_len = LOCKS_COUNT};
    return fcntl(descriptor, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

static bool is_same(const struct landing *landing, const struct stat *status)
{
    bool block = S_ISBLK(status->st_mode);
    AUTO_FREE char *identity =
        memory_format("%s:%s:%llx:%llx", process_boot_id(), block ? "device" : "file",
                      (unsigned long long)(block ? status->st_rdev : status->st_dev),
                      (unsigned long long)(block ? 0 : status->st_ino));

    return process_boot_id()[0] != '\0' && strcmp(identity, landing->identity) == 0;
}

static int check_device(const struct landing *landing, struct error *error)
{
    uint64_t size = 0;
    AUTO_CLOSE int device = place_reopen(&landing->place, O_RDWR | O_EXCL);

    if (device < 0 && errno == EBUSY)
        return error_set(error, STATUS_STATE, "%s: in use, mounted or part of something",
                         landing->path);
    if (device < 0 || ioctl(device, BLKGETSIZE64, &size) < 0)
        return error_errno(error, STATUS_STATE, "%s", landing->path);
    if (landing->qcow2)
        return error_set(error, STATUS_STATE, "%s: a qcow2 disk is not put onto a block device",
                         landing->path);
    if (size != (uint64_t)landing->size)
        return error_set(error, STATUS_STATE,
                         "%s: has %llu bytes, the disk %lld: the guest would notice, so it must be "
                         "the same",
                         landing->path, (unsigned long long)size, (long long)landing->size);
    return 0;
}

/* Something is at the place. Only when asked to is it written over, and never what somebody uses. */
static int check_existing(const struct landings *landings, struct landing *landing,
                          struct error *error)
{
    struct stat status;

    if (fstat(landing->place.there, &status) < 0)
        return error_errno(error, STATUS_STATE, "%s", landing->path);
    landing->exists = true;
    landing->same = is_same(landing, &status);
    if (landing->same)
        return 0;
    if (!landings->overwrite)
        return error_set(error, STATUS_STATE,
                         "%s: is there already and is not overwritten unasked: --overwrite-disks "
                         "does that, --disk-path takes another place, and storage that both nodes "
                         "share is left out by naming the others in --copy-disks=DISK,...",
                         landing->path);
    if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode))
        return error_set(error, STATUS_STATE, "%s: neither a file nor a block device",
                         landing->path);
    if (place_check_allowed(landings->node, landing->path, &landing->place, error) < 0)
        return -1;
    if (is_in_use(landing->place.there))
        return error_set(error, STATUS_STATE, "%s: in use by another instance", landing->path);
    if (S_ISBLK(status.st_mode))
        return check_device(landing, error);
    if (status.st_nlink > 1)
        return error_set(error, STATUS_STATE,
                         "%s: is there under %lu names and is not overwritten; take another place "
                         "with --disk-path",
                         landing->path, (unsigned long)status.st_nlink);
    return 0;
}

static bool is_missing_device(const char *path)
{
    struct stat status;

    return strncmp(path, "/dev/", 5) == 0 && lstat(path, &status) < 0 &&
           (errno == ENOENT || errno == ENOTDIR);
}

/* An unnamed file is made for a moment: it shows all that could be in the way, and leaves no trace. */
static int check_new(const struct landings *landings, const struct landing *landing, int flags,
                     struct error *error)
{
    if (place_check_allowed(landings->node, landing->path, &landing->place, error) < 0)
        return -1;
    AUTO_CLOSE int file = landing_unnamed(landing, flags, error);
    return file < 0 ? -1 : 0;
}

int landing_look(const struct landings *landings, struct landing *landing, int flags,
                 struct error *error)
{
    landing->exists = landing->same = false;
    if (is_missing_device(landing->path))
        return error_set(error, STATUS_STATE,
                         "%s: there is no such device; make it with %lld bytes (lvcreate -L %lldb "
                         "...) and give --overwrite-disks, or take another place with --disk-path",
                         landing->path, (long long)landing->size, (long long)landing->size);
    if (place_open(landing->path, &landing->place, error) < 0)
        return -1;
    return landing->place.there >= 0 ? check_existing(landings, landing, error)
                                     : check_new(landings, landing, flags, error);
}

/* ---- space ---- */

static bool measure(const struct landing *landing, dev_t *device, int64_t *free_bytes)
{
    struct stat status;
    struct statvfs space;
    int directory = landing->place.directory;

    if (landing->same || directory < 0 ||
        (landing->place.there >= 0 &&
         (fstat(landing->place.there, &status) < 0 || !S_ISREG(status.st_mode))) ||
        fstat(directory, &status) < 0 || fstatvfs(directory, &space) < 0)
        return false;
    *device = status.st_dev;
    *free_bytes = (int64_t)(space.f_bavail * space.f_frsize);
    return true;
}

/* All disks that come onto one file system together; told once, at the first of them. */
static void check_space(const struct landings *landings, size_t first, struct messages *problems,
                        struct messages *warnings)
{
    int64_t available = 0, ignored, used = 0, size = 0;
    dev_t device = 0, other = 0;

    if (!measure(&landings->items[first], &device, &available))
        return;
    for (size_t i = 0; i < landings->count; i++) {
        if (!measure(&landings->items[i], &other, &ignored) || other != device)
            continue;
        if (i < first)
            return;
        used += landings->items[i].used;
        size += landings->items[i].size;
    }
    const char *path = landings->items[first].path;
    if (used > available)
        messages_add(problems, "%s: %lld MiB are free there, the disks take %lld MiB", path,
                     (long long)(available >> 20), (long long)(used >> 20));
    else if (size > available)
        messages_add(warnings,
                     "%s: %lld MiB are free there; the disks take %lld MiB now, but can grow to "
                     "%lld MiB",
                     path, (long long)(available >> 20), (long long)(used >> 20),
                     (long long)(size >> 20));
}

void landing_check(const struct instance *instance, struct landings *landings,
                   struct messages *problems, struct messages *warnings)
{
    for (size_t i = 0; i < landings->count; i++) {
        struct landing *landing = &landings->items[i];
        struct error error = {0};
        int flags = device_open_flags(&instance->disks[landing->index], instance) & O_DIRECT;
        if (landing_look(landings, landing, flags, &error) < 0)
            messages_add(problems, "disks[%zu]: %s", landing->index, error.text);
    }
    for (size_t i = 0; i < landings->count; i++)
        check_space(landings, i, problems, warnings);
}
