/* SPDX-License-Identifier: BSD-2-Clause */
/* What a definition with faults of its own asks of the node. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "kvm/operations/definitions.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/host/network.h"
#include "kvm/qemu/cmdline.h"
#include "kvm/state/hvparams.h"
#include "kvm/state/instance.h"

static void check_there(const char *path, const char *where, struct messages *problems)
{
    struct stat status;

    if (stat(path, &status) < 0)
        messages_add(problems, "%s: can't be opened (current value: \"%s\"): %s", where, path,
                     strerror(errno));
}

static void check_disk(const json_t *given, const char *where, struct messages *problems)
{
    AUTO_MESSAGES struct messages faults = {0};
    AUTO_FREE char *place = memory_format("%s.path", where);
    struct disk disk;

    if (disk_parse(given, where, &disk, &faults) < 0)
        return; /* told already */
    if (disk.path != NULL && !disk_is_userspace(&disk))
        check_there(disk.path, place, problems);
    disk_release(&disk);
}

static void check_nic(const json_t *given, const struct node *node, const char *where,
                      struct messages *problems)
{
    AUTO_MESSAGES struct messages faults = {0};
    struct nic nic;

    if (nic_parse(given, where, json_member(node->defaults, "nicparams"), &nic, &faults) < 0)
        return;
    network_check(&nic, node->path, where, problems);
    nic_release(&nic);
}

static void check_hvparam(const char *name, json_t *value, const char *where,
                          struct messages *problems)
{
    AUTO_MESSAGES struct messages faults = {0};
    AUTO_JSON json_t *alone = memory_json(json_pack("{s:O}", name, value));
    AUTO_FREE char *place = memory_format("%s.%s", where, name);
    const char *text = json_text(alone, name);
    struct error reason = {0};

    hvparams_check(alone, where, &faults);
    if (faults.count > 0 || text == NULL)
        return;
    if (strcmp(name, "kvm_extra") == 0 && cmdline_check_extra(text, &reason) < 0)
        messages_add(problems, "%s: %s", place, reason.text);
    else if (text[0] == '/') /* all such are paths of what must be there */
        check_there(text, place, problems);
}

void definition_check_node(const json_t *definition, const struct node *node, const char *source,
                           struct messages *problems)
{
    static const char *const named[] = {"kvm_path",          "kernel_path",      "initrd_path",
                                        "cdrom_image_path",  "mem_path",         "kvm_extra",
                                        "cdrom2_image_path", "floppy_image_path"};
    const json_t *hvparams = json_member(definition, "hvparams");
    const json_t *disks = json_member(definition, "disks"), *nics = json_member(definition, "nics");
    AUTO_FREE char *where = memory_format("%s: hvparams", source);

    for (size_t i = 0; i < json_array_size(disks); i++) {
        AUTO_FREE char *place = memory_format("%s: disks[%zu]", source, i);
        check_disk(json_array_get(disks, i), place, problems);
    }
    for (size_t i = 0; i < json_array_size(nics); i++) {
        AUTO_FREE char *place = memory_format("%s: nics[%zu]", source, i);
        check_nic(json_array_get(nics, i), node, place, problems);
    }
    for (size_t i = 0; i < sizeof(named) / sizeof(named[0]); i++) {
        json_t *value = json_member(hvparams, named[i]);
        if (value != NULL)
            check_hvparam(named[i], value, where, problems);
    }
}
