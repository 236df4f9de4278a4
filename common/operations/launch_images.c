/* SPDX-License-Identifier: BSD-2-Clause */
/* The images of an instance, looked at before anything is touched. */
#include <fcntl.h>
#include <string.h>

#include "launch_private.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/operations/image.h"
#include "kvm/qemu/device.h"
#include "kvm/state/hvparams.h"
#include "kvm/state/uri.h"

/* A driver that this QEMU lacks is found now, not when the guest is half made. */
static void check_uri(const struct launch *launch, const char *uri, const char *where,
                      struct messages *problems)
{
    const char *binary = hvparams_text(launch->instance->hvparams, "kvm_path");
    struct error reason = {0};
    AUTO_JSON json_t *node = uri_node(uri, &reason);

    if (node == NULL)
        messages_add(problems, "%s: %s (current value: \"%s\")", where, reason.text, uri);
    else if (launch->probe.major > 0 && probe_node(binary, node, &reason) < 0)
        messages_add(problems, "%s: %s (current value: \"%s\")", where, reason.text, uri);
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
        const char *place = media_place(instance, (enum medium)i);
        AUTO_FREE char *where = memory_format("%s: hvparams.%s", source, media_names[i].param);

        if (media_is_web(instance, (enum medium)i))
            check_uri(launch, place, where, problems);
        else if (place != NULL)
            image_check(place, O_RDONLY, where, &launch->medium_is_block[i], problems);
    }
    image_check_same(instance, source, problems);
}
