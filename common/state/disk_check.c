/* SPDX-License-Identifier: BSD-2-Clause */
/* What the model of a disk or CD-ROM can't have: told by the field, with the reason, before QEMU would. */
#include "kvm/state/instance_check.h"

#include <inttypes.h>
#include <string.h>
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/transaction.h"
#include "kvm/state/check.h"
#include "kvm/state/hvparams.h"
#include "kvm/state/placement.h"

/* Ganeti knows these words as well; QEMU's PCs have nothing that they could mean. */
static const char *impossible(const char *word)
{
    if (strcmp(word, "mtd") == 0)
        return "the machine types pc and q35 have no raw flash; paravirtual, scsi and ide take any "
               "image";
    if (strcmp(word, "pflash") == 0)
        return "the flash of the machine types pc and q35 holds the firmware and is no disk; "
               "paravirtual, scsi and ide take any image";
    return NULL;
}

static void check_model(const struct instance *instance, const struct disk *disk, const char *where,
                        struct messages *problems)
{
    const char *word = json_text(disk->params, "bus");
    const char *type = hvparams_text(instance->hvparams, "disk_type");
    const char *reason = impossible(word != NULL ? word : type);

    if (reason != NULL)
        messages_add(problems, "%s: %s: %s (current value: \"%s\")", where,
                     word != NULL ? "bus" : "hvparams.disk_type", reason,
                     word != NULL ? word : type);
}

static bool has_driver(const char *driver, const char *const *list)
{
    return driver != NULL && check_is_one_of(driver, list);
}

/* QEMU 7.2: "Block node is read-only", "Cannot use read-only drive as SD card". */
static void check_mode(const struct disk *disk, const char *driver, const char *where,
                       struct messages *problems)
{
    static const char *const writers[] = {"ide-hd", "sd-card", NULL};

    if (disk->read_only && has_driver(driver, writers))
        messages_add(problems,
                     "%s: mode: QEMU has no read-only %s; bus virtio or scsi can be (current "
                     "value: \"ro\")",
                     where, driver[0] == 'i' ? "IDE or SATA disk" : "SD card");
}

/* The ranges are QEMU's own (7.2, blkconf_geometry). */
static void check_geometry(const struct disk *disk, const char *driver, const char *where,
                           struct messages *problems)
{
    static const char *const with[] = {"virtio-blk-pci", "scsi-hd", "ide-hd", NULL};
    static const char *const keys[] = {"cyls", "heads", "secs"};
    const int64_t most[] = {65535, has_driver(driver, with) && driver[0] == 'i' ? 16 : 255, 255};
    int given = 0;

    for (size_t i = 0; i < COUNT(keys); i++)
        given += json_member(disk->params, keys[i]) != NULL;
    if (given == 0)
        return;
    if (given < 3)
        messages_add(problems, "%s: cyls, heads and secs go together: all or none", where);
    if (!has_driver(driver, with))
        messages_add(problems, "%s: cyls: only virtio, scsi-hd, ide and sata disks have a geometry",
                     where);
    for (size_t i = 0; i < COUNT(keys); i++) {
        int64_t number = json_number(disk->params, keys[i], 1);

        if (number > most[i])
            messages_add(problems,
                         "%s: %s: must be from 1 to %" PRId64 " (current value: %" PRId64 ")",
                         where, keys[i], most[i], number);
    }
}

/* QEMU refuses them only when the guest has its disk already (7.2, throttle_is_valid). */
static void check_limits(const struct disk *disk, const char *where, struct messages *problems)
{
    static const char *const totals[] = {"iops", "bps"};
    static const char *const ends[] = {"", "_rd", "_wr"};
    const int64_t most = INT64_C(1000000000000000);

    for (size_t i = 0; i < COUNT(totals) * COUNT(ends); i++) {
        const char *total = totals[i / COUNT(ends)], *end = ends[i % COUNT(ends)];
        AUTO_FREE char *key = memory_format("%s%s", total, end);
        const json_t *value = json_member(disk->params, key);
        int64_t number = json_number(disk->params, key, -1);

        if (value != NULL && (number < 0 || number > most))
            messages_add(problems, "%s: %s: must be a number from 0 to %" PRId64, where, key, most);
        if (*end != '\0' && number > 0 && json_number(disk->params, total, 0) > 0)
            messages_add(problems, "%s: %s: excludes %s, give one of them", where, key, total);
    }
}

void disk_check_frontend(const struct instance *instance, const struct disk *disk,
                         const char *where, struct messages *problems)
{
    const char *driver = placement_disk_driver(disk, instance);

    check_model(instance, disk, where, problems);
    check_mode(disk, driver, where, problems);
    check_geometry(disk, driver, where, problems);
    check_limits(disk, where, problems);
}

void media_check(const struct instance *instance, const char *source, struct messages *problems)
{
    const char *type = hvparams_text(instance->hvparams, "cdrom_disk_type");
    bool used =
        media_place(instance, MEDIUM_CDROM) != NULL || media_place(instance, MEDIUM_CDROM2) != NULL;
    const char *reason = impossible(type);

    if (used && reason != NULL)
        messages_add(problems, "%s: hvparams.cdrom_disk_type: %s (current value: \"%s\")", source,
                     reason, type);
    else if (used && strcmp(type, "sd") == 0)
        messages_add(problems,
                     "%s: hvparams.cdrom_disk_type: an SD card can't be read-only; ide, scsi-cd "
                     "and paravirtual can (current value: \"sd\")",
                     source);
}
