/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/base/clock.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/operations/image.h"
#include "kvm/qemu/probe.h"
#include "kvm/state/hvparams.h"
#include "kvm/state/media.h"
#include "kvm/state/uri.h"

enum { OPEN_MS = 10000 };

void image_check_uri(const char *binary, const char *uri, bool open, const char *where,
                     struct messages *problems)
{
    struct error reason = {0};
    AUTO_JSON json_t *node = uri_node(uri, &reason);

    if (node == NULL)
        messages_add(problems, "%s: %s (current value: \"%s\")", where, reason.text, uri);
    else if (probe_node(binary, node, &reason) < 0)
        messages_add(
            problems,
            "%s: %s does not know how: %s; block driver %s may be in a package of its own, "
            "such as qemu-block-extra (current value: \"%s\")",
            where, binary, reason.text, json_text(node, "driver"), uri);
    else if (open && probe_open(binary, node, clock_deadline(OPEN_MS), &reason) < 0)
        messages_add(problems, "%s: can't be opened (current value: \"%s\"): %s", where, uri,
                     reason.status == STATUS_TIMEOUT ? "its server does not answer within 10 s"
                                                     : reason.text);
}

void image_check_uris(const struct instance *instance, const char *source,
                      struct messages *problems)
{
    const char *binary = hvparams_text(instance->hvparams, "kvm_path");

    for (size_t i = 0; i < instance->disk_count; i++) {
        AUTO_FREE char *where = memory_format("%s: disks[%zu].uri", source, i);
        if (disk_is_userspace(&instance->disks[i]))
            image_check_uri(binary, instance->disks[i].uri, true, where, problems);
    }
    for (int i = 0; i < MEDIA; i++) {
        AUTO_FREE char *where = memory_format("%s: hvparams.%s", source, media_names[i].param);
        if (media_is_web(instance, (enum medium)i))
            image_check_uri(binary, media_place(instance, (enum medium)i), true, where, problems);
    }
}
