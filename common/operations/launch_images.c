/* SPDX-License-Identifier: BSD-2-Clause */
/* The images of an instance, looked at before anything is touched. */
#include <fcntl.h>
#include <string.h>

#include "launch_private.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/host/machine.h"
#include "kvm/operations/image.h"
#include "kvm/qemu/device.h"
#include "kvm/state/hvparams.h"

/* A driver that this QEMU lacks is found now, not when the guest is half made. */
static void check_uri(const struct launch *launch, const char *uri, const char *where,
                      struct messages *problems)
{
    if (launch->probe.major > 0) /* else the binary is told already */
        image_check_uri(hvparams_text(launch->instance->hvparams, "kvm_path"), uri, false, where,
                        problems);
}

/* Some builds of QEMU lack it, and some nodes forbid it. */
static void check_io_uring(const struct launch *launch, const char *source,
                           struct messages *problems)
{
    const struct instance *instance = launch->instance;
    const char *binary = hvparams_text(instance->hvparams, "kvm_path");
    AUTO_JSON json_t *node = memory_json(json_pack("{s:s, s:s, s:s}", "driver", "file", "filename",
                                                   "/dev/fdset/1", "aio", "io_uring"));
    struct error reason = {0};

    for (size_t i = 0; i < instance->disk_count; i++) {
        const struct disk *disk = &instance->disks[i];
        struct disk_settings settings;
        disk_settings(disk, instance, &settings);
        if (disk_is_userspace(disk) || strcmp(settings.aio, "io_uring") != 0)
            continue;
        if (!machine_has_io_uring(&reason) ||
            (launch->probe.major > 0 && probe_node(binary, node, &reason) < 0))
            messages_add(problems,
                         "%s: disks[%zu]: aio: io_uring can't be had here: %s; threads can", source,
                         i, reason.text);
        return;
    }
}

static void check_disk(struct launch *launch, size_t index, const char *source,
                       struct messages *problems)
{
    const struct disk *disk = &launch->instance->disks[index];
    bool userspace = disk_is_userspace(disk);
    AUTO_FREE char *where =
        memory_format("%s: disks[%zu].%s", source, index, userspace ? "uri" : "path");

    if (userspace)
        check_uri(launch, disk->uri, where, problems);
    else if (disk->path != NULL)
        image_check_disk(disk, launch->instance, where, &launch->disk_is_block[index], problems);
    else
        messages_add(problems, "%s: is missing", where);
}

void launch_check_images(struct launch *launch, const char *source, struct messages *problems)
{
    const struct instance *instance = launch->instance;

    for (size_t i = 0; i < instance->disk_count; i++)
        check_disk(launch, i, source, problems);
    for (int i = 0; i < MEDIA; i++) {
        const char *place = media_file(instance, (enum medium)i);
        AUTO_FREE char *where = memory_format("%s: hvparams.%s", source, media_names[i].param);

        if (media_is_web(instance, (enum medium)i))
            check_uri(launch, place, where, problems);
        else if (place != NULL)
            image_check(place, O_RDONLY, where, &launch->medium_is_block[i], problems);
    }
    image_check_same(instance, source, problems);
    check_io_uring(launch, source, problems);
}
