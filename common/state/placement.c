/* SPDX-License-Identifier: BSD-2-Clause */
#include "placement_private.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/state/check.h"
#include "kvm/state/hardware.h"
#include "kvm/state/hvparams.h"

void placement_id(const char *kind, const char *uuid, char *buffer)
{
    /* Three groups of a uuid: 8 + 4 + 4 digits and two dashes. */
    snprintf(buffer, 32, "%s-%.18s", kind, uuid);
}

const char *placement_disk_driver(const struct disk *disk, const struct instance *instance)
{
    static const struct {
        const char *word, *driver;
    } words[] = {
        {"virtio", "virtio-blk-pci"},
        {"paravirtual", "virtio-blk-pci"},
        {"scsi", "scsi-hd"},
        {"scsi-hd", "scsi-hd"},
        {"scsi-cd", "scsi-cd"},
        {"scsi-block", "scsi-block"},
        {"scsi-generic", "scsi-generic"},
        {"ide", "ide-hd"},
        {"sata", "ide-hd"},
        {"sd", "sd-card"},
    };
    const char *word = json_text(disk->params, "bus");

    if (word == NULL)
        word = hvparams_text(instance->hvparams, "disk_type");
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(words[i].word, word) == 0)
            return words[i].driver;
    }
    return NULL;
}

bool placement_is_isa(const char *driver)
{
    return strcmp(driver, "ne2k_isa") == 0;
}

const char *placement_nic_driver(const struct instance *instance)
{
    static const char *const models[] = {"e1000",    "e1000e",   "i82551", "i82557b", "i82559er",
                                         "ne2k_isa", "ne2k_pci", "pcnet",  "rtl8139", NULL};
    const char *type = hvparams_text(instance->hvparams, "nic_type");

    if (strcmp(type, "paravirtual") == 0)
        return "virtio-net-pci";
    return check_is_one_of(type, models) ? type : NULL;
}

void placement_scsi_name(int number, char *buffer, size_t size)
{
    snprintf(buffer, size, number > 0 ? "scsi%d" : "scsi", number);
}

int placement_slot(const json_t *hvinfo)
{
    const char *bus = json_text(hvinfo, "bus"), *address = json_text(hvinfo, "addr");
    int64_t port;

    if (bus == NULL || address == NULL)
        return SLOT_NONE;
    if (strncmp(bus, "rp", 2) == 0)
        return text_number(bus + 2, 0, SLOTS_COUNT - 1, &port) ? (int)port : SLOT_NONE;
    if (strcmp(bus, "pci.0") != 0 || strncmp(address, "0x", 2) != 0)
        return SLOT_NONE;
    char *end;
    long slot = strtol(address + 2, &end, 16);

    if (*end != '\0' || end == address + 2 || slot < 0 || slot >= SLOTS_COUNT)
        return SLOT_NONE;
    return (int)slot;
}

json_t *placement_hvinfo(const struct instance *instance, const char *driver, const char *id,
                         int slot)
{
    char bus[16] = "pci.0", address[16] = "0x0";

    assert(slot >= 0 && slot < SLOTS_COUNT);
    if (instance_is_q35(instance))
        snprintf(bus, sizeof(bus), "rp%d", slot);
    else
        snprintf(address, sizeof(address), "0x%x", (unsigned)slot);
    return memory_json(
        json_pack("{s:s, s:s, s:s, s:s}", "driver", driver, "id", id, "bus", bus, "addr", address));
}

/* An SD card's slot is that of its controller, which it has for itself. */
static bool sits_on_pci(const char *driver)
{
    return strcmp(driver, "virtio-blk-pci") == 0 || strcmp(driver, "sd-card") == 0;
}

static bool is_scsi(const char *driver)
{
    return strncmp(driver, "scsi-", 5) == 0;
}

const char *placement_any_driver(const struct disk *disk, const struct instance *instance)
{
    const char *driver = json_text(disk->hvinfo, "driver");

    return driver != NULL ? driver : placement_disk_driver(disk, instance);
}

static int reserve(struct placement *placement, const json_t *hvinfo, const char *what,
                   struct error *error)
{
    int slot = placement_slot(hvinfo);

    if (slot == SLOT_NONE || slots_reserve(&placement->slots, slot, error) == 0)
        return 0;
    error_prefix(error, "%s: hvinfo: %s", what, json_text(hvinfo, "id"));
    if (error != NULL)
        error->status = STATUS_USAGE;
    return -1;
}

static int reserve_present(const struct instance *instance, struct placement *placement,
                           struct error *error)
{
    char what[32];

    for (size_t i = 0; i < instance->disk_count; i++) {
        snprintf(what, sizeof(what), "disks[%zu]", i);
        if (reserve(placement, instance->disks[i].hvinfo, what, error) != 0)
            return -1;
    }
    for (size_t i = 0; i < instance->nic_count; i++) {
        snprintf(what, sizeof(what), "nics[%zu]", i);
        if (reserve(placement, instance->nics[i].hvinfo, what, error) != 0)
            return -1;
    }
    return 0;
}

static int take(struct placement *placement, int from, const char *what, int *slot,
                struct error *error)
{
    if (slots_take(&placement->slots, from, slot, error) == 0)
        return 0;
    error_prefix(error, "%s", what);
    if (error != NULL)
        error->status = STATUS_USAGE;
    return -1;
}

/* A device of the suite's own: `recorded` is where it sits in the instance for good, 0: not decided. */
struct controller {
    const char *what;
    bool wanted;
    int *recorded, *slot;
};

/* Those that have a place keep it; the others then get the lowest, below kvm_pci_reservations where that is given. */
static int place_each(const struct controller *controllers, size_t count,
                      struct placement *placement, struct error *error)
{
    for (size_t i = 0; i < count; i++)
        if (controllers[i].wanted && *controllers[i].recorded != 0 &&
            slots_reserve(&placement->slots, *controllers[i].recorded, error) != 0)
            return error_prefix(error, "%s", controllers[i].what);
    for (size_t i = 0; i < count; i++) {
        const struct controller *one = &controllers[i];
        if (one->wanted && *one->recorded == 0 &&
            take(placement, SLOTS_RESERVED, one->what, one->recorded, error) != 0)
            return -1;
        if (one->wanted)
            *one->slot = *one->recorded;
    }
    return 0;
}

enum { OWN_DEVICES = 1 + SCSI_CONTROLLERS + 4 + CDROMS };

static void list_scsi(struct instance *instance, struct placement *placement,
                      struct controller *list)
{
    int wanted = units_controllers(instance);

    for (int i = 0; i < SCSI_CONTROLLERS; i++)
        list[i] = (struct controller){"SCSI controller", instance->scsi_slots[i] > 0 || i < wanted,
                                      &instance->scsi_slots[i], &placement->scsi_slots[i]};
}

static void list_cdroms(struct instance *instance, struct placement *placement,
                        struct controller *list)
{
    for (int i = 0; i < CDROMS; i++) {
        bool there = media_place(instance, (enum medium)i) != NULL;
        const char *driver = there ? placement_cdrom_driver(instance, (enum medium)i) : NULL;

        list[i] = (struct controller){media_names[i].what, driver != NULL && sits_on_pci(driver),
                                      &instance->cdrom_slots[i], &placement->cdrom_slots[i]};
    }
}

static int place_controllers(struct instance *instance, struct placement *placement,
                             struct error *error)
{
    const json_t *hvparams = instance->hvparams;
    bool serial = hvparams_truth(hvparams, "use_guest_agent") || hardware_has_vdagent(hvparams);
    bool pci_watchdog = strcmp(hvparams_text(hvparams, "watchdog"), "i6300esb") == 0;
    const struct controller others[] = {
        {"balloon", true, &instance->balloon_slot, &placement->balloon_slot},
        {"serial controller", serial, &instance->serial_slot, &placement->serial_slot},
        {"random number generator", hvparams_truth(hvparams, "virtio_rng"), &instance->rng_slot,
         &placement->rng_slot},
        {"watchdog", pci_watchdog, &instance->watchdog_slot, &placement->watchdog_slot},
    };
    struct controller all[OWN_DEVICES];

    all[0] = (struct controller){"sound card", hardware_pci_sound(hvparams) != NULL,
                                 &instance->sound_slot, &placement->sound_slot};
    list_scsi(instance, placement, all + 1);
    memcpy(all + 1 + SCSI_CONTROLLERS, others, sizeof(others));
    list_cdroms(instance, placement, all + OWN_DEVICES - CDROMS);
    return place_each(all, OWN_DEVICES, placement, error);
}

/* The disk's own word for its bus, to tell sata from ide. */
static bool wants_sata(const struct disk *disk, const struct instance *instance)
{
    const char *word = json_text(disk->params, "bus");

    if (word == NULL)
        word = hvparams_text(instance->hvparams, "disk_type");
    return strcmp(word, "sata") == 0;
}

static json_t *disk_hvinfo(const struct instance *instance, const struct disk *disk, int from,
                           struct placement *placement, struct units *units, struct error *error)
{
    const char *driver = placement_disk_driver(disk, instance);
    char id[32];
    int slot;

    placement_id("disk", disk->uuid, id);
    if (driver == NULL) {
        error_set(error, STATUS_USAGE, "disk_type %s is no model of today",
                  hvparams_text(instance->hvparams, "disk_type"));
        return NULL;
    }
    if (is_scsi(driver))
        return units_take_scsi(units, driver, id, error);
    if (sits_on_pci(driver)) {
        if (take(placement, from, id, &slot, error) != 0)
            return NULL;
        return placement_hvinfo(instance, driver, id, slot);
    }
    if (wants_sata(disk, instance) && !units->q35) {
        error_set(error, STATUS_USAGE,
                  "machine type pc has no SATA, use machine type q35 or bus ide");
        return NULL;
    }
    return units_take_ide(units, driver, id, error);
}

static int place_disks(struct instance *instance, int from, struct placement *placement,
                       struct error *error)
{
    struct units units;

    units_begin(instance, placement, &units);
    for (size_t i = 0; i < instance->disk_count; i++) {
        struct disk *disk = &instance->disks[i];

        if (json_object_size(disk->hvinfo) > 0)
            continue;
        json_t *hvinfo = disk_hvinfo(instance, disk, from, placement, &units, error);

        if (hvinfo == NULL)
            return error_prefix(error, "disks[%zu]", i);
        check_set(disk->object, "hvinfo", hvinfo);
        disk_refresh(disk);
    }
    return 0;
}

static int place_nics(struct instance *instance, int from, struct placement *placement,
                      struct error *error)
{
    const char *driver = placement_nic_driver(instance);

    for (size_t i = 0; i < instance->nic_count; i++) {
        struct nic *nic = &instance->nics[i];
        char id[32];
        int slot = SLOT_NONE;

        if (json_object_size(nic->hvinfo) > 0)
            continue;
        if (driver == NULL)
            return error_set(error, STATUS_USAGE, "nics[%zu]: nic_type %s is no model of today", i,
                             hvparams_text(instance->hvparams, "nic_type"));
        placement_id("nic", nic->uuid, id);
        if (placement_is_isa(driver) && i >= PLACEMENT_ISA_NICS)
            return error_set(error, STATUS_USAGE, "nics[%zu]: at most %d NICs of nic_type %s", i,
                             PLACEMENT_ISA_NICS, driver);
        if (!placement_is_isa(driver) && take(placement, from, id, &slot, error) != 0)
            return error_prefix(error, "nics[%zu]", i);
        check_set(nic->object, "hvinfo",
                  placement_is_isa(driver) ? json_pack("{s:s, s:s}", "driver", driver, "id", id)
                                           : placement_hvinfo(instance, driver, id, slot));
        nic_refresh(nic);
    }
    return 0;
}

/* Of disks and NICs, as bits. */
static uint32_t device_slots(const struct instance *instance)
{
    uint32_t mask = 0;

    for (size_t i = 0; i < instance->disk_count + instance->nic_count; i++) {
        int slot = placement_slot(i < instance->disk_count
                                      ? instance->disks[i].hvinfo
                                      : instance->nics[i - instance->disk_count].hvinfo);
        mask |= slot == SLOT_NONE ? 0 : UINT32_C(1) << slot;
    }
    return mask;
}

/* Ganeti looks for a free slot among those of disks and NICs from kvm_pci_reservations up, so that must be above all
 * others. They are in use, so it changes nothing here. On q35 it would move the root ports; Ganeti has no q35. */
static void tell_reservations(struct instance *instance, const struct placement *placement)
{
    uint32_t others = placement->slots.taken & ~device_slots(instance);
    json_int_t first = hvparams_number(instance->hvparams, "kvm_pci_reservations");

    if (instance_is_q35(instance))
        return;
    for (int slot = SLOTS_RESERVED; slot < SLOTS_COUNT; slot++)
        if ((others & UINT32_C(1) << slot) != 0 && slot >= first)
            first = slot + 1;
    check_set(instance->hvparams, "kvm_pci_reservations", json_integer(first));
}

int placement_assign(struct instance *instance, struct placement *placement, struct error *error)
{
    int first = (int)hvparams_number(instance->hvparams, "kvm_pci_reservations");
    int ports = (int)hvparams_number(instance->hvparams, "hotplug_ports");

    *placement = (struct placement){.sound_slot = SLOT_NONE,
                                    .balloon_slot = SLOT_NONE,
                                    .serial_slot = SLOT_NONE,
                                    .rng_slot = SLOT_NONE,
                                    .watchdog_slot = SLOT_NONE,
                                    .last_port = SLOTS_COUNT - 1};
    for (int i = 0; i < SCSI_CONTROLLERS; i++)
        placement->scsi_slots[i] = SLOT_NONE;
    for (int i = 0; i < CDROMS; i++)
        placement->cdrom_slots[i] = SLOT_NONE;
    slots_begin(&placement->slots);
    if (first < SLOTS_RESERVED)
        first = SLOTS_RESERVED;
    placement->slots.first = first;
    if (instance_is_q35(instance) && first + ports - 1 < placement->last_port)
        placement->last_port = first + ports - 1;
    placement->slots.end = placement->last_port + 1;
    if (reserve_present(instance, placement, error) != 0 ||
        place_controllers(instance, placement, error) != 0 ||
        place_disks(instance, first, placement, error) != 0)
        return -1;
    if (place_nics(instance, first, placement, error) != 0)
        return -1;
    tell_reservations(instance, placement);
    return 0;
}
