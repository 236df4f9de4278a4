/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <scsi/sg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvm/operations/image.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/qemu/device.h"
#include "kvm/state/placement.h"

enum { SG_VERSION_LEAST = 30000 };

static void check_direct(const char *path, int flags, const char *where, struct messages *problems)
{
    AUTO_CLOSE int direct = open(path, flags | O_CLOEXEC | O_NONBLOCK);

    if (direct < 0)
        messages_add(problems,
                     "%s: the file system does not open it with O_DIRECT, which the cache mode "
                     "needs (current value: \"%s\"): %s",
                     where, path, strerror(errno));
}

/* Opened without O_DIRECT, and what it is: -1 when a problem was added. `generic`: a character device is fine. */
static int open_image(const char *path, int flags, bool generic, const char *where,
                      struct stat *status, struct messages *problems)
{
    int descriptor = open(path, (flags & ~O_DIRECT) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (descriptor < 0 || fstat(descriptor, status) < 0) {
        messages_add(problems, "%s: can't be opened (current value: \"%s\"): %s", where, path,
                     strerror(errno));
    } else if (generic && !S_ISCHR(status->st_mode)) {
        messages_add(problems,
                     "%s: scsi-generic needs a /dev/sg device of the node, which it is not "
                     "(current value: \"%s\")",
                     where, path);
    } else if (!generic && !S_ISREG(status->st_mode) && !S_ISBLK(status->st_mode)) {
        messages_add(problems, "%s: neither a file nor a block device (current value: \"%s\")",
                     where, path);
    } else {
        return descriptor;
    }
    memory_close(&descriptor);
    return -1;
}

void image_check(const char *path, int flags, const char *where, bool *is_block,
                 struct messages *problems)
{
    struct stat status;
    AUTO_CLOSE int descriptor = open_image(path, flags, false, where, &status, problems);

    if (descriptor < 0)
        return;
    if (S_ISREG(status.st_mode) && status.st_size == 0)
        messages_add(problems, "%s: the file is empty (current value: \"%s\")", where, path);
    *is_block = S_ISBLK(status.st_mode);
    if ((flags & O_DIRECT) != 0)
        check_direct(path, flags, where, problems);
}

static bool is_scsi(int descriptor)
{
    int version = 0;

    return ioctl(descriptor, SG_GET_VERSION_NUM, &version) == 0 && version >= SG_VERSION_LEAST;
}

/* What scsi-block and scsi-generic hand the guest's commands to. */
static void check_scsi_device(const char *path, int flags, const char *driver, const char *where,
                              bool *is_block, struct messages *problems)
{
    struct stat status;
    bool generic = strcmp(driver, "scsi-generic") == 0;
    AUTO_CLOSE int descriptor = open_image(path, flags, generic, where, &status, problems);

    *is_block = true;
    if (descriptor >= 0 && !is_scsi(descriptor))
        messages_add(problems,
                     "%s: %s hands the guest's commands to a SCSI device of the node, which it is "
                     "not; scsi-hd takes any image (current value: \"%s\")",
                     where, driver, path);
}

static void check_card_size(const char *path, const char *format, const char *where,
                            struct messages *problems)
{
    AUTO_CLOSE int image = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    off_t size = image < 0 ? 0 : lseek(image, 0, SEEK_END);

    if (strcmp(format, "raw") == 0 && size > 0 && (size & (size - 1)) != 0)
        messages_add(problems,
                     "%s: the size of an SD card must be a power of two, it has %lld bytes "
                     "(current value: \"%s\")",
                     where, (long long)size, path);
}

void image_check_disk(const struct disk *disk, const struct instance *instance, const char *where,
                      bool *is_block, struct messages *problems)
{
    const char *driver = json_text(disk->hvinfo, "driver");
    int flags = device_open_flags(disk, instance);
    struct disk_settings settings;

    if (driver == NULL)
        driver = placement_disk_driver(disk, instance);
    if (driver != NULL &&
        (strcmp(driver, "scsi-generic") == 0 || strcmp(driver, "scsi-block") == 0)) {
        check_scsi_device(disk->path, flags, driver, where, is_block, problems);
        return;
    }
    image_check(disk->path, flags, where, is_block, problems);
    disk_settings(disk, instance, &settings);
    if (driver != NULL && strcmp(driver, "sd-card") == 0)
        check_card_size(disk->path, settings.format, where, problems);
}

/* ---- one image, two names ---- */

struct opened {
    char name[64]; /* "disks[0].path" */
    const char *path;
    bool writes, there;
    struct stat status;
};

static struct opened opened_as(const char *path, bool writes)
{
    struct opened opened = {.path = path, .writes = writes};

    opened.there = path != NULL && stat(path, &opened.status) == 0;
    return opened;
}

static bool is_same(const struct opened *one, const struct opened *other)
{
    bool block = one->there && other->there && S_ISBLK(one->status.st_mode);

    if (!one->there || !other->there || (!one->writes && !other->writes))
        return false;
    if (block || S_ISBLK(other->status.st_mode))
        return block && S_ISBLK(other->status.st_mode) &&
               one->status.st_rdev == other->status.st_rdev;
    return one->status.st_dev == other->status.st_dev && one->status.st_ino == other->status.st_ino;
}

static size_t list_opened(const struct instance *instance, struct opened *list)
{
    size_t count = 0;

    for (size_t i = 0; i < instance->disk_count; i++) {
        const struct disk *disk = &instance->disks[i];
        if (disk_is_userspace(disk))
            continue;
        list[count] = opened_as(disk->path, !disk->read_only);
        snprintf(list[count++].name, sizeof(list->name), "disks[%zu].path", i);
    }
    for (int i = 0; i < MEDIA; i++) {
        const char *place = media_file(instance, (enum medium)i);
        if (place == NULL || media_is_web(instance, (enum medium)i))
            continue;
        list[count] = opened_as(place, false);
        snprintf(list[count++].name, sizeof(list->name), "hvparams.%s", media_names[i].param);
    }
    return count;
}

void image_check_same(const struct instance *instance, const char *source,
                      struct messages *problems)
{
    AUTO_FREE struct opened *list =
        memory_zeroed(instance->disk_count + MEDIA + 1, sizeof(struct opened));
    size_t count = list_opened(instance, list);

    for (size_t i = 1; i < count; i++)
        for (size_t k = 0; k < i; k++)
            /* The same words are told by instance_check_unique, of disks. */
            if (is_same(&list[k], &list[i]) &&
                (strcmp(list[k].path, list[i].path) != 0 || list[i].name[0] == 'h'))
                messages_add(problems,
                             "%s: %s: is the image of %s too, and one of them writes (current "
                             "value: \"%s\")",
                             source, list[i].name, list[k].name, list[i].path);
}

int image_open(const char *path, int flags, struct error *error)
{
    AUTO_CLOSE int descriptor = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat status;
    int opened = descriptor;

    if (descriptor < 0 || fstat(descriptor, &status) < 0)
        return error_errno(error, STATUS_FAILED, "%s", path);
    if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode) && !is_scsi(descriptor))
        return error_set(error, STATUS_FAILED,
                         "%s: refused, it was replaced since it was looked at, by what is neither "
                         "a file nor a block device; see 'ls -l %s'",
                         path, path);
    descriptor = -1;
    return opened;
}
