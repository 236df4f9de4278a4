/* SPDX-License-Identifier: BSD-2-Clause */
#include "placement_private.h"

#include <stdio.h>
#include <string.h>
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/base/transaction.h"
#include "kvm/state/hvparams.h"

/* IDE: the second channel of pc, whose two drives are units 2 and 3; the second and third port of q35. */
enum { CDROM_UNIT_PC = 2, CDROM_PORT_Q35 = 1 };

/* What QEMU takes on one controller (7.2), less the id that lsi and dc390 have themselves. */
static const struct controller {
    const char *driver;
    int ids;
} controllers[] = {{"virtio-scsi-pci", 256}, {"lsi", 7}, {"megasas", 64}, {"dc390", 7}};

const char *placement_scsi_controller(const struct instance *instance)
{
    const char *type = hvparams_text(instance->hvparams, "scsi_controller_type");

    return type[0] != '\0' ? type : controllers[0].driver;
}

static int ids_of(const char *driver)
{
    for (size_t i = 0; i < COUNT(controllers); i++)
        if (strcmp(controllers[i].driver, driver) == 0)
            return controllers[i].ids;
    return controllers[0].ids;
}

static bool is_scsi(const char *driver)
{
    return driver != NULL && strncmp(driver, "scsi-", 5) == 0;
}

const char *placement_cdrom_driver(const struct instance *instance, enum medium medium)
{
    static const char *const words[][2] = {
        {"", "ide-cd"},
        {"ide", "ide-cd"},
        {"ide-cd", "ide-cd"},
        {"sata", "ide-cd"},
        {"scsi", "scsi-cd"},
        {"scsi-cd", "scsi-cd"},
        {"scsi-hd", "scsi-hd"},
        {"scsi-block", "scsi-block"},
        {"scsi-generic", "scsi-generic"},
        {"paravirtual", "virtio-blk-pci"},
    };
    const char *word = hvparams_text(instance->hvparams, "cdrom_disk_type");
    const char *driver = NULL;

    for (size_t i = 0; i < COUNT(words); i++)
        if (strcmp(words[i][0], word) == 0)
            driver = words[i][1];
    /* As with Ganeti up to 3.0: the firmware of a PC boots a CD-ROM from no virtio device. */
    if (driver != NULL && strcmp(driver, "virtio-blk-pci") == 0 && medium == MEDIUM_CDROM &&
        media_boots_from(instance, "cdrom"))
        return "ide-cd";
    return driver;
}

static const char *cdrom_driver(const struct instance *instance, enum medium medium)
{
    return media_place(instance, medium) != NULL ? placement_cdrom_driver(instance, medium) : NULL;
}

/* N of bus "scsi.0" (0) and "scsiN.0"; -1: another bus. */
static int controller_of(const char *bus)
{
    int64_t number = 0;

    if (bus == NULL || strncmp(bus, "scsi", 4) != 0)
        return -1;
    AUTO_FREE char *digits = memory_format("%.*s", (int)strcspn(bus + 4, "."), bus + 4);
    bool numbered = digits[0] != '\0';

    if (strcmp(bus + 4 + strlen(digits), ".0") != 0 ||
        (numbered && !text_number(digits, 1, SCSI_CONTROLLERS - 1, &number)))
        return -1;
    return (int)number;
}

int units_controllers(const struct instance *instance)
{
    int ids = ids_of(placement_scsi_controller(instance)), wanted = 0, least = 0;

    for (int i = 0; i < CDROMS; i++)
        wanted += is_scsi(cdrom_driver(instance, (enum medium)i));
    for (size_t i = 0; i < instance->disk_count; i++) {
        const struct disk *disk = &instance->disks[i];
        int there = controller_of(json_text(disk->hvinfo, "bus"));

        wanted += is_scsi(placement_any_driver(disk, instance));
        least = there + 1 > least ? there + 1 : least;
    }
    /* Without a disk now, the controller still is there for one that is added later. */
    if (wanted == 0 && strncmp(hvparams_text(instance->hvparams, "disk_type"), "scsi", 4) == 0)
        return 1;
    int count = (wanted + ids - 1) / ids;
    return count > least ? count : least;
}

static void mark_unit(const struct disk *disk, struct units *units)
{
    const char *bus = json_text(disk->hvinfo, "bus");
    int64_t id = json_number(disk->hvinfo, "scsi-id", -1);
    int64_t number, unit = json_number(disk->hvinfo, "unit", 0);
    int controller = controller_of(bus);

    if (controller >= 0 && id >= 0 && id < SCSI_IDS_MAX)
        units->scsi[controller][id] = true;
    if (bus == NULL || strncmp(bus, "ide.", 4) != 0 ||
        !text_number(bus + 4, 0, AHCI_MAX - 1, &number))
        return;
    if (units->q35)
        units->ahci[number] = true;
    else if (number < 2 && unit >= 0 && unit < 2)
        units->ide[number * 2 + unit] = true;
}

void units_begin(const struct instance *instance, const struct placement *placement,
                 struct units *units)
{
    *units = (struct units){.q35 = instance_is_q35(instance),
                            .controller = placement_scsi_controller(instance)};
    units->ids = ids_of(units->controller);
    while (units->controllers < SCSI_CONTROLLERS &&
           placement->scsi_slots[units->controllers] != SLOT_NONE)
        units->controllers++;
    for (int i = 0; i < CDROMS; i++) {
        const char *driver = cdrom_driver(instance, (enum medium)i);

        if (is_scsi(driver))
            units->scsi[0][units->ids - 1 - i] = true;
        else if (driver != NULL && strcmp(driver, "ide-cd") == 0)
            units->ide[CDROM_UNIT_PC + i] = units->ahci[CDROM_PORT_Q35 + i] = true;
    }
    for (size_t i = 0; i < instance->disk_count; i++)
        mark_unit(&instance->disks[i], units);
}

static int first_free(const bool *taken, int count)
{
    for (int i = 0; i < count; i++) {
        if (!taken[i])
            return i;
    }
    return -1;
}

static json_t *scsi_hvinfo(const char *driver, const char *id, int controller, int number)
{
    char bus[16];

    placement_scsi_name(controller, bus, sizeof(bus));
    snprintf(bus + strlen(bus), sizeof(bus) - strlen(bus), ".0");
    return memory_json(json_pack("{s:s, s:s, s:s, s:i, s:i, s:i}", "driver", driver, "id", id,
                                 "bus", bus, "channel", 0, "scsi-id", number, "lun", 0));
}

json_t *units_take_scsi(struct units *units, const char *driver, const char *id,
                        struct error *error)
{
    for (int i = 0; i < units->controllers; i++) {
        int number = first_free(units->scsi[i], units->ids);

        if (number < 0)
            continue;
        units->scsi[i][number] = true;
        return scsi_hvinfo(driver, id, i, number);
    }
    error_set(error, STATUS_USAGE,
              "%d SCSI controller%s of type %s take%s %d drives, the CD-ROMs among them; "
              "scsi_controller_type virtio-scsi-pci takes most",
              units->controllers, units->controllers == 1 ? "" : "s", units->controller,
              units->controllers == 1 ? "s" : "", units->controllers * units->ids);
    return NULL;
}

static json_t *ide_hvinfo(bool q35, const char *driver, const char *id, int number)
{
    char bus[16];

    snprintf(bus, sizeof(bus), "ide.%d", q35 ? number : number / 2);
    return memory_json(json_pack("{s:s, s:s, s:s, s:i}", "driver", driver, "id", id, "bus", bus,
                                 "unit", q35 ? 0 : number % 2));
}

json_t *units_take_ide(struct units *units, const char *driver, const char *id, struct error *error)
{
    bool *taken = units->q35 ? units->ahci : units->ide;
    int count = units->q35 ? AHCI_MAX : IDE_MAX, number = first_free(taken, count);

    if (number < 0) {
        error_set(error, STATUS_USAGE,
                  "machine type %s has place for %d %s drives, the CD-ROM among "
                  "them",
                  units->q35 ? "q35" : "pc", count, units->q35 ? "SATA" : "IDE");
        return NULL;
    }
    taken[number] = true;
    return ide_hvinfo(units->q35, driver, id, number);
}

/* Fixed places, from the end of the SCSI ids: no CD-ROM moves when disks come and go. */
json_t *placement_cdrom(const struct instance *instance, const struct placement *placement,
                        enum medium medium)
{
    const char *driver = cdrom_driver(instance, medium), *id = media_names[medium].device;
    bool q35 = instance_is_q35(instance);
    int number = (int)medium;

    if (driver == NULL)
        return NULL;
    if (is_scsi(driver))
        return scsi_hvinfo(driver, id, 0, ids_of(placement_scsi_controller(instance)) - 1 - number);
    if (strcmp(driver, "virtio-blk-pci") == 0)
        return placement_hvinfo(instance, driver, id, placement->cdrom_slots[number]);
    return ide_hvinfo(q35, driver, id, (q35 ? CDROM_PORT_Q35 : CDROM_UNIT_PC) + number);
}
