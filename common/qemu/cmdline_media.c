/* SPDX-License-Identifier: BSD-2-Clause */
/* CD-ROMs and floppy, as they are executed and as they are recorded. */
#include "cmdline_private.h"

#include <string.h>

#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/qemu/device.h"
#include "kvm/state/media.h"

enum { FIRST_DISK_SET = 2 };

/* The node of a medium. Its set is named as the node: with the medium the set is removed. */
static void add_node(json_t *words, const struct instance *instance,
                     const struct cmdline_plan *plan, enum medium medium)
{
    int set = FIRST_DISK_SET + (int)instance->disk_count + (int)medium;
    const char *node = media_names[medium].node;

    if (plan->medium_fd[medium] >= 0)
        cmdline_descriptor_set(words, plan->medium_fd[medium], set, node);
    cmdline_json(words, "-blockdev",
                 device_medium_blockdev(node, media_place(instance, medium), set,
                                        plan->medium_is_block[medium]));
}

static json_t *cdrom_device(const struct instance *instance, const struct cmdline_plan *plan,
                            enum medium medium)
{
    AUTO_JSON json_t *hvinfo = placement_cdrom(instance, plan->placement, medium);
    bool boots = medium == MEDIUM_CDROM && media_boots_from(instance, "cdrom");

    const char *node = media_file(instance, medium) != NULL ? media_names[medium].node : NULL;

    return device_cdrom(hvinfo, node, boots ? 1 : 0);
}

/* q35 has no floppy controller of its own. The drive has no bootindex, its controller has one for each of its two
 * drives; that of pc is the machine's, so that only -global reaches it. */
static void add_floppy(json_t *words, const struct instance *instance,
                       const struct cmdline_plan *plan)
{
    bool boots = media_boots_from(instance, "floppy"), q35 = instance_is_q35(instance);

    if (media_place(instance, MEDIUM_FLOPPY) == NULL)
        return;
    add_node(words, instance, plan, MEDIUM_FLOPPY);
    json_t *controller = memory_json(json_pack("{s:s, s:s}", "driver", "isa-fdc", "id", "fdc"));
    if (boots)
        json_object_set_new(controller, "bootindexA", json_integer(1));
    if (q35)
        cmdline_json(words, "-device", controller);
    else
        json_decref(controller);
    if (boots && !q35)
        cmdline_pair(words, "-global", "isa-fdc.bootindexA=1");
    cmdline_json(words, "-device",
                 memory_json(json_pack("{s:s, s:s, s:s}", "driver", "floppy", "id", "floppy",
                                       "drive", "floppy1")));
}

void cmdline_media(json_t *words, const struct instance *instance, const struct cmdline_plan *plan)
{
    for (int i = 0; i < CDROMS; i++) {
        enum medium medium = (enum medium)i;
        if (media_place(instance, medium) == NULL)
            continue;
        if (media_file(instance, medium) != NULL)
            add_node(words, instance, plan, medium);
        cmdline_json(words, "-device", cdrom_device(instance, plan, medium));
    }
    add_floppy(words, instance, plan);
}

/* ---- the record ---- */

static void record_boot(json_t *words, const struct instance *instance)
{
    static const char *const orders[][2] = {{"cdrom", "d"}, {"floppy", "a"}, {"network", "n"}};

    for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++)
        if (media_boots_from(instance, orders[i][0]))
            cmdline_pair(words, "-boot", orders[i][1]);
}

/* An IDE drive is the -drive alone; the index says the place that cmdline_media gives. Any other has its -device. */
static void record_cdrom(json_t *words, const struct instance *instance,
                         const struct cmdline_plan *plan, enum medium medium, cmdline_add_t add)
{
    AUTO_JSON json_t *hvinfo = placement_cdrom(instance, plan->placement, medium);
    const char *node = media_names[medium].node, *bus = json_text(hvinfo, "bus");

    if (hvinfo == NULL)
        return;
    const char *path = media_file(instance, medium);
    AUTO_FREE char *doubled = text_double_commas(path != NULL ? path : "");
    AUTO_FREE char *file =
        path != NULL ? memory_format("file=%s,format=raw,", doubled) : memory_copy("");
    if (strcmp(json_text(hvinfo, "driver"), "ide-cd") == 0) {
        int index = bus[4] - '0';
        if (!instance_is_q35(instance))
            index = index * 2 + (int)json_number(hvinfo, "unit", 0);
        cmdline_format(words, "-drive", "%smedia=cdrom,if=ide,index=%d", file, index);
        return;
    }
    cmdline_format(words, "-drive", "%smedia=cdrom,if=none,id=%s", file, node);
    add(words, "-device", device_cdrom(hvinfo, node, 0));
}

void cmdline_record_media(json_t *words, const struct instance *instance,
                          const struct cmdline_plan *plan, cmdline_add_t add)
{
    const char *place = media_place(instance, MEDIUM_FLOPPY);

    record_boot(words, instance);
    for (int i = 0; i < CDROMS; i++)
        record_cdrom(words, instance, plan, (enum medium)i, add);
    if (place == NULL)
        return;
    AUTO_FREE char *floppy = text_double_commas(place);
    cmdline_format(words, "-drive", "file=%s,format=raw,if=floppy,read-only=on", floppy);
}
