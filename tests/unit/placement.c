/* SPDX-License-Identifier: BSD-2-Clause */
#include "definition.h"
#include "kvm/state/placement.h"
#include "unit.h"

static int make(const char *members, struct instance *instance)
{
    AUTO_FREE char *text = memory_format("{\"name\": \"web1\", %s}", members);
    int result = parse(text, NULL, instance);

    if (joined[0] != '\0')
        printf("# %s", joined);
    return result;
}

#define DISK(letter, members)                                                                      \
    "{\"path\": \"/" letter                                                                        \
    "\", \"uuid\": \"" letter letter letter letter letter letter letter letter                     \
    "-1111-4111-8111-111111111111\"" members "}"
#define NIC(letter)                                                                                \
    "{\"nicparams\": {\"link\": \"br0\"}, \"mac\": \"aa:00:00:00:00:0" letter                      \
    "\", \"uuid\": \"" letter letter letter letter letter letter letter letter                     \
    "-2222-4222-8222-222222222222\"}"

static const char *hvinfo_text(const json_t *hvinfo)
{
    static char text[256];
    AUTO_FREE char *compact = json_compact(hvinfo);

    snprintf(text, sizeof(text), "%s", compact);
    return text;
}

TEST(order_on_pc, "on pc: controllers first, then disks, then NICs")
{
    AUTO_INSTANCE struct instance instance;
    struct placement placement;

    CHECK_NUMBER(
        make("\"hvparams\": {\"use_guest_agent\": true}, \"disks\": [" DISK("a", "") ", " DISK(
                 "b", ", \"bus\": \"scsi\"") "], \"nics\": [" NIC("c") "]",
             &instance),
        0);
    CHECK_NUMBER(placement_assign(&instance, &placement, NULL), 0);
    CHECK_NUMBER(placement.scsi_slots[0], 3);
    CHECK_NUMBER(placement.balloon_slot, 4);
    CHECK_NUMBER(placement.serial_slot, 5);
    CHECK_NUMBER(placement.last_port, 31);
    CHECK_TEXT(
        hvinfo_text(instance.disks[0].hvinfo),
        "{\"driver\":\"virtio-blk-pci\",\"id\":\"disk-aaaaaaaa-1111-4111\",\"bus\":\"pci.0\","
        "\"addr\":\"0x6\"}");
    CHECK_TEXT(hvinfo_text(instance.disks[1].hvinfo),
               "{\"driver\":\"scsi-hd\",\"id\":\"disk-bbbbbbbb-1111-4111\",\"bus\":\"scsi.0\","
               "\"channel\":0,\"scsi-id\":0,\"lun\":0}");
    CHECK_TEXT(hvinfo_text(instance.nics[0].hvinfo),
               "{\"driver\":\"virtio-net-pci\",\"id\":\"nic-cccccccc-2222-4222\",\"bus\":\"pci.0\","
               "\"addr\":\"0x7\"}");
    return true;
}

TEST(further_controllers,
     "random number generator and watchdog come last, and stay where they were")
{
    AUTO_INSTANCE struct instance instance;
    struct placement placement;

    CHECK_NUMBER(make("\"hvparams\": {\"virtio_rng\": true, \"watchdog\": \"i6300esb\"}, "
                      "\"disks\": [" DISK("a", "") "]",
                      &instance),
                 0);
    CHECK_NUMBER(placement_assign(&instance, &placement, NULL), 0);
    CHECK_NUMBER(placement.balloon_slot, 3);
    CHECK_NUMBER(placement.rng_slot, 4);
    CHECK_NUMBER(placement.watchdog_slot, 5);
    CHECK_TEXT(json_text(instance.disks[0].hvinfo, "addr"), "0x6");
    json_object_set_new(instance.hvparams, "use_guest_agent", json_true());
    CHECK_NUMBER(placement_assign(&instance, &placement, NULL), 0);
    CHECK_NUMBER(placement.serial_slot, 7);
    CHECK_NUMBER(placement.rng_slot, 4);
    CHECK_NUMBER(placement.watchdog_slot, 5);
    json_object_set_new(instance.hvparams, "watchdog", json_string("itco"));
    CHECK_NUMBER(placement_assign(&instance, &placement, NULL), 0);
    CHECK_NUMBER(placement.watchdog_slot, SLOT_NONE);
    return true;
}

TEST(sound_first, "a sound card of PCI comes before all, and SPICE shares the agent's controller")
{
    AUTO_INSTANCE struct instance instance;
    struct placement placement;

    CHECK_NUMBER(make("\"network_port\": 6000, \"hvparams\": {\"soundhw\": \"pcspk,hda\", "
                      "\"spice_bind\": \"::1\", \"use_guest_agent\": true}, \"disks\": [" DISK(
                          "b", ", \"bus\": \"scsi\"") "]",
                      &instance),
                 0);
    CHECK_NUMBER(placement_assign(&instance, &placement, NULL), 0);
    CHECK_NUMBER(placement.sound_slot, 3);
    CHECK_NUMBER(placement.scsi_slots[0], 4);
    CHECK_NUMBER(placement.balloon_slot, 5);
    CHECK_NUMBER(placement.serial_slot, 6);
    json_object_set_new(instance.hvparams, "soundhw", json_string("sb16"));
    json_object_set_new(instance.hvparams, "use_guest_agent", json_false());
    instance.sound_slot = 0;
    CHECK_NUMBER(placement_assign(&instance, &placement, NULL), 0);
    CHECK_NUMBER(placement.sound_slot, SLOT_NONE);
    CHECK_NUMBER(placement.serial_slot, 6); /* of the SPICE agent, where it was */
    return true;
}

TEST(reservations, "kvm_pci_reservations moves disks and NICs up, not the controllers")
{
    AUTO_INSTANCE struct instance instance;
    struct placement placement;

    CHECK_NUMBER(
        make("\"hvparams\": {\"kvm_pci_reservations\": 12, \"nic_type\": \"e1000\"}, \"disks\": "
             "[" DISK("a", "") "], \"nics\": [" NIC("c") "]",
             &instance),
        0);
    CHECK_NUMBER(placement_assign(&instance, &placement, NULL), 0);
    CHECK_NUMBER(placement.scsi_slots[0], SLOT_NONE);
    CHECK_NUMBER(placement.balloon_slot, 3);
    CHECK_TEXT(json_text(instance.disks[0].hvinfo, "addr"), "0xc");
    CHECK_TEXT(json_text(instance.nics[0].hvinfo, "addr"), "0xd");
    CHECK_TEXT(json_text(instance.nics[0].hvinfo, "driver"), "e1000");
    CHECK_NUMBER(placement.slots.first, 12);
    return true;
}

TEST(root_ports, "on q35 a slot is a root port, and there are hotplug_ports of them")
{
    AUTO_INSTANCE struct instance instance;
    struct placement placement;
    struct error error = {0};

    CHECK_NUMBER(make("\"hvparams\": {\"machine_version\": \"pc-q35-7.2\", \"hotplug_ports\": 3}, "
                      "\"disks\": [" DISK("a", "") "], \"nics\": [" NIC("c") "]",
                      &instance),
                 0);
    CHECK_NUMBER(placement_assign(&instance, &placement, NULL), 0);
    CHECK_NUMBER(placement.last_port, 5);
    CHECK_NUMBER(placement.balloon_slot, 3);
    CHECK_TEXT(json_text(instance.disks[0].hvinfo, "bus"), "rp4");
    CHECK_TEXT(json_text(instance.disks[0].hvinfo, "addr"), "0x0");
    CHECK_NUMBER(placement_slot(instance.disks[0].hvinfo), 4);
    CHECK_TEXT(json_text(instance.nics[0].hvinfo, "bus"), "rp5");
    CHECK_NUMBER(slots_free_count(&placement.slots, 0), 0);
    json_object_set_new(instance.hvparams, "hotplug_ports", json_integer(2));
    json_object_del(instance.nics[0].object, "hvinfo");
    nic_refresh(&instance.nics[0]);
    CHECK_NUMBER(placement_assign(&instance, &placement, &error), -1);
    CHECK_NUMBER(error.status, STATUS_USAGE);
    CHECK_HAS(error.text, "nics[0]: nic-cccccccc-2222-4222: all PCI slots from 3 to 4 are taken");
    return true;
}

TEST(keeps_what_is_there, "what has an hvinfo keeps it, and two on one slot are refused")
{
    AUTO_INSTANCE struct instance instance;
    struct placement placement;
    struct error error = {0};

    CHECK_NUMBER(
        make("\"disks\": [" DISK("a", "") ", " DISK(
                 "b", ", \"hvinfo\": {\"driver\": \"virtio-blk-pci\", \"id\": "
                      "\"hotdisk-bbbbbbbb-pci-4\", \"bus\": \"pci.0\", \"addr\": \"0x4\"}") "]",
             &instance),
        0);
    CHECK_NUMBER(placement_assign(&instance, &placement, NULL), 0);
    CHECK_TEXT(json_text(instance.disks[1].hvinfo, "id"), "hotdisk-bbbbbbbb-pci-4");
    CHECK_TEXT(json_text(instance.disks[1].hvinfo, "addr"), "0x4");
    CHECK_TEXT(json_text(instance.disks[0].hvinfo, "addr"), "0x5");
    AUTO_JSON json_t *before = json_deep_copy(instance.disks[0].object);
    CHECK_NUMBER(placement_assign(&instance, &placement, NULL), 0);
    CHECK(json_equal(before, instance.disks[0].object));
    json_object_set_new(json_object_get(instance.disks[0].object, "hvinfo"), "addr",
                        json_string("0x4"));
    CHECK_NUMBER(placement_assign(&instance, &placement, &error), -1);
    CHECK_NUMBER(error.status, STATUS_USAGE);
    CHECK_HAS(error.text, "disks[1]: hvinfo");
    CHECK_HAS(error.text, "PCI slot 4 is taken");
    return true;
}

TEST(ide_units, "IDE disks leave the CD-ROM its place, and there are four units")
{
    AUTO_INSTANCE struct instance instance;
    struct placement placement;
    struct error error = {0};

    CHECK_NUMBER(make("\"hvparams\": {\"disk_type\": \"ide\", \"cdrom_image_path\": \"/cd.iso\"}, "
                      "\"disks\": [" DISK("a", "") ", " DISK("b", "") ", " DISK("c", "") "]",
                      &instance),
                 0);
    CHECK_NUMBER(placement_assign(&instance, &placement, NULL), 0);
    CHECK_TEXT(
        hvinfo_text(instance.disks[0].hvinfo),
        "{\"driver\":\"ide-hd\",\"id\":\"disk-aaaaaaaa-1111-4111\",\"bus\":\"ide.0\",\"unit\":0}");
    CHECK_TEXT(json_text(instance.disks[1].hvinfo, "bus"), "ide.0");
    CHECK_NUMBER(json_number(instance.disks[1].hvinfo, "unit", -1), 1);
    CHECK_TEXT(json_text(instance.disks[2].hvinfo, "bus"), "ide.1");
    CHECK_NUMBER(json_number(instance.disks[2].hvinfo, "unit", -1), 1);
    CHECK_NUMBER(placement_slot(instance.disks[2].hvinfo), SLOT_NONE);

    AUTO_INSTANCE struct instance more;
    CHECK_NUMBER(
        make("\"hvparams\": {\"disk_type\": \"ide\"}, \"disks\": [" DISK("a", "") ", " DISK(
                 "b", "") ", " DISK("c", "") ", " DISK("d", "") ", " DISK("e", "") "]",
             &more),
        0);
    CHECK_NUMBER(placement_assign(&more, &placement, &error), -1);
    CHECK_HAS(error.text, "disks[4]: machine type pc has place for 4 IDE drives");
    return true;
}

TEST(sata_ports, "SATA is q35's: one disk a port; pc refuses it")
{
    AUTO_INSTANCE struct instance instance, pc;
    struct placement placement;
    struct error error = {0};

    CHECK_NUMBER(
        make("\"hvparams\": {\"machine_version\": \"q35\", \"cdrom_image_path\": \"/cd\"}, "
             "\"disks\": [" DISK("a", ", \"bus\": \"sata\"") ", " DISK(
                 "b", ", \"bus\": \"ide\"") ", " DISK("c", ", \"bus\": \"sata\"") "]",
             &instance),
        0);
    CHECK_NUMBER(placement_assign(&instance, &placement, NULL), 0);
    CHECK_TEXT(json_text(instance.disks[0].hvinfo, "bus"), "ide.0");
    CHECK_TEXT(json_text(instance.disks[1].hvinfo, "bus"), "ide.2");
    CHECK_TEXT(json_text(instance.disks[2].hvinfo, "bus"), "ide.3");
    AUTO_JSON json_t *cdrom = placement_cdrom(&instance, &placement, MEDIUM_CDROM);
    CHECK_TEXT(json_text(cdrom, "bus"), "ide.1");
    CHECK_NUMBER(json_number(instance.disks[2].hvinfo, "unit", -1), 0);
    CHECK_NUMBER(make("\"disks\": [" DISK("a", ", \"bus\": \"sata\"") "]", &pc), 0);
    CHECK_NUMBER(placement_assign(&pc, &placement, &error), -1);
    CHECK_HAS(error.text, "disks[0]: machine type pc has no SATA");
    CHECK_NUMBER(error.status, STATUS_USAGE);
    return true;
}

TEST(too_many, "more devices than slots are refused")
{
    AUTO_INSTANCE struct instance instance;
    struct placement placement;
    struct error error = {0};

    CHECK_NUMBER(make("\"hvparams\": {\"kvm_pci_reservations\": 30}, \"disks\": [" DISK(
                          "a", "") ", " DISK("b", "") ", " DISK("c", "") "]",
                      &instance),
                 0);
    CHECK_NUMBER(placement_assign(&instance, &placement, &error), -1);
    CHECK_NUMBER(error.status, STATUS_USAGE);
    CHECK_HAS(error.text,
              "disks[2]: disk-cccccccc-1111-4111: all PCI slots from 30 to 31 are taken");
    return true;
}

TEST(isa_nics, "NICs of ISA take no slot, and there are at most four")
{
    AUTO_INSTANCE struct instance instance;
    struct placement placement;
    struct error error = {0};

    CHECK_NUMBER(make("\"hvparams\": {\"nic_type\": \"ne2k_isa\"}, \"nics\": [" NIC("a") ", " NIC(
                          "b") ", " NIC("c") ", " NIC("d") ", " NIC("e") "]",
                      &instance),
                 0);
    CHECK_NUMBER(placement_assign(&instance, &placement, &error), -1);
    CHECK_HAS(error.text, "nics[4]: at most 4 NICs of nic_type ne2k_isa");
    CHECK_NUMBER(error.status, STATUS_USAGE);
    CHECK_TEXT(hvinfo_text(instance.nics[0].hvinfo),
               "{\"driver\":\"ne2k_isa\",\"id\":\"nic-aaaaaaaa-2222-4222\"}");
    return true;
}

TEST(slots_from_text, "a slot is read from hvinfo only where it is one")
{
    static const struct {
        const char *hvinfo;
        int slot;
    } cases[] = {
        {"{\"bus\": \"pci.0\", \"addr\": \"0x1f\"}", 31},
        {"{\"bus\": \"pci.0\", \"addr\": \"0xC\"}", 12},
        {"{\"bus\": \"rp5\", \"addr\": \"0x0\"}", 5},
        {"{\"bus\": \"pci.0\", \"addr\": \"0x20\"}", -1},
        {"{\"bus\": \"pci.0\", \"addr\": \"0x\"}", -1},
        {"{\"bus\": \"pci.0\", \"addr\": \"c\"}", -1},
        {"{\"bus\": \"pci.1\", \"addr\": \"0x5\"}", -1},
        {"{\"bus\": \"rp05\", \"addr\": \"0x0\"}", -1},
        {"{\"bus\": \"scsi.0\", \"scsi-id\": 4}", -1},
        {"{}", -1},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        AUTO_JSON json_t *hvinfo = json_loads(cases[i].hvinfo, 0, NULL);
        CHECK_NUMBER(placement_slot(hvinfo), cases[i].slot);
    }
    CHECK_NUMBER(placement_slot(NULL), SLOT_NONE);
    return true;
}

TEST(controllers_stay, "a controller keeps its slot when the disk that called for it has gone")
{
    AUTO_INSTANCE struct instance instance;
    struct placement placement;

    CHECK_NUMBER(make("\"disks\": [" DISK("a", ", \"bus\": \"scsi\"") "]", &instance), 0);
    CHECK_NUMBER(placement_assign(&instance, &placement, NULL), 0);
    CHECK_NUMBER(instance.scsi_slots[0], 3);
    CHECK_NUMBER(instance.balloon_slot, 4);
    disk_release(&instance.disks[0]);
    instance.disk_count = 0;
    CHECK_NUMBER(placement_assign(&instance, &placement, NULL), 0);
    CHECK_NUMBER(placement.scsi_slots[0], 3);
    CHECK_NUMBER(placement.balloon_slot, 4);
    CHECK_NUMBER(placement.serial_slot, SLOT_NONE);
    return true;
}

/* `count` SCSI disks behind this controller. */
static bool fill_controllers(const char *type, int count, struct instance *instance,
                             struct placement *placement, struct error *error)
{
    AUTO_FREE char *members =
        memory_format("\"hvparams\": {\"disk_type\": \"scsi\", \"scsi_controller_type\": \"%s\", "
                      "\"cdrom_disk_type\": \"scsi-cd\", \"cdrom_image_path\": \"/cd\", "
                      "\"cdrom2_image_path\": \"/cd2\"}, \"disks\": [",
                      type);

    for (int i = 0; i < count; i++) {
        AUTO_FREE char *before = members;
        members =
            memory_format("%s%s{\"path\": \"/%d\", \"uuid\": \"%08x-1111-4111-8111-111111111111\"}",
                          before, i > 0 ? ", " : "", i, i + 1);
    }
    AUTO_FREE char *all = memory_format("%s]", members);
    CHECK_NUMBER(make(all, instance), 0);
    return placement_assign(instance, placement, error) == 0;
}

TEST(controllers_fill, "a SCSI controller takes what its type can, then comes the next")
{
    static const struct {
        const char *type;
        int disks, controllers, last_id;
        const char *last_bus;
    } cases[] = {{"lsi", 5, 1, 4, "scsi.0"},       {"lsi", 6, 2, 0, "scsi1.0"},
                 {"dc390", 26, 4, 6, "scsi3.0"},   {"megasas", 63, 2, 0, "scsi1.0"},
                 {"megasas", 62, 1, 61, "scsi.0"}, {"virtio-scsi-pci", 255, 2, 0, "scsi1.0"}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        AUTO_INSTANCE struct instance instance = {0};
        struct placement placement;
        struct error error = {0};
        CHECK(fill_controllers(cases[i].type, cases[i].disks, &instance, &placement, &error));
        const json_t *last = instance.disks[cases[i].disks - 1].hvinfo;
        CHECK_TEXT(json_text(last, "bus"), cases[i].last_bus);
        CHECK_NUMBER(json_number(last, "scsi-id", -1), cases[i].last_id);
        for (int k = 0; k < SCSI_CONTROLLERS; k++)
            CHECK((placement.scsi_slots[k] != SLOT_NONE) == (k < cases[i].controllers));
    }
    AUTO_INSTANCE struct instance instance = {0};
    struct placement placement;
    struct error error = {0};
    CHECK(!fill_controllers("lsi", 27, &instance, &placement, &error));
    CHECK_HAS(error.text, "disks[26]: 4 SCSI controllers of type lsi take 28 drives, the CD-ROMs");
    CHECK_NUMBER(error.status, STATUS_USAGE);
    return true;
}

TEST(cdroms, "both CD-ROMs have their own places, whatever the type, and disks keep out of them")
{
    static const struct {
        const char *members, *first, *second;
    } cases[] = {
        {"", "{\"driver\":\"ide-cd\",\"id\":\"cdrom\",\"bus\":\"ide.1\",\"unit\":0}",
         "{\"driver\":\"ide-cd\",\"id\":\"cdrom2\",\"bus\":\"ide.1\",\"unit\":1}"},
        {", \"machine_version\": \"q35\", \"cdrom_disk_type\": \"sata\"",
         "{\"driver\":\"ide-cd\",\"id\":\"cdrom\",\"bus\":\"ide.1\",\"unit\":0}",
         "{\"driver\":\"ide-cd\",\"id\":\"cdrom2\",\"bus\":\"ide.2\",\"unit\":0}"},
        {", \"cdrom_disk_type\": \"scsi-cd\", \"scsi_controller_type\": \"lsi\"",
         "{\"driver\":\"scsi-cd\",\"id\":\"cdrom\",\"bus\":\"scsi.0\",\"channel\":0,\"scsi-id\":6,"
         "\"lun\":0}",
         "{\"driver\":\"scsi-cd\",\"id\":\"cdrom2\",\"bus\":\"scsi.0\",\"channel\":0,\"scsi-id\":5,"
         "\"lun\":0}"},
        {", \"cdrom_disk_type\": \"paravirtual\"",
         "{\"driver\":\"virtio-blk-pci\",\"id\":\"cdrom\",\"bus\":\"pci.0\",\"addr\":\"0x4\"}",
         "{\"driver\":\"virtio-blk-pci\",\"id\":\"cdrom2\",\"bus\":\"pci.0\",\"addr\":\"0x5\"}"},
        {", \"cdrom_disk_type\": \"paravirtual\", \"boot_order\": \"cdrom\"",
         "{\"driver\":\"ide-cd\",\"id\":\"cdrom\",\"bus\":\"ide.1\",\"unit\":0}",
         "{\"driver\":\"virtio-blk-pci\",\"id\":\"cdrom2\",\"bus\":\"pci.0\",\"addr\":\"0x4\"}"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        AUTO_INSTANCE struct instance instance = {0};
        struct placement placement;
        AUTO_FREE char *members =
            memory_format("\"hvparams\": {\"cdrom_image_path\": \"/cd\", \"cdrom2_image_path\": "
                          "\"/cd2\"%s}, \"disks\": [" DISK("a", "") "]",
                          cases[i].members);
        CHECK_NUMBER(make(members, &instance), 0);
        CHECK_NUMBER(placement_assign(&instance, &placement, NULL), 0);
        AUTO_JSON json_t *first = placement_cdrom(&instance, &placement, MEDIUM_CDROM);
        AUTO_JSON json_t *second = placement_cdrom(&instance, &placement, MEDIUM_CDROM2);
        CHECK_TEXT(hvinfo_text(first), cases[i].first);
        CHECK_TEXT(hvinfo_text(second), cases[i].second);
    }
    return true;
}

TEST(sd_cards, "an SD card takes the PCI slot that its controller gets")
{
    AUTO_INSTANCE struct instance instance;
    struct placement placement;

    CHECK_NUMBER(make("\"disks\": [" DISK("a", ", \"bus\": \"sd\"") "]", &instance), 0);
    CHECK_NUMBER(placement_assign(&instance, &placement, NULL), 0);
    CHECK_TEXT(hvinfo_text(instance.disks[0].hvinfo),
               "{\"driver\":\"sd-card\",\"id\":\"disk-aaaaaaaa-1111-4111\",\"bus\":\"pci.0\","
               "\"addr\":\"0x4\"}");
    return true;
}

UNIT_MAIN(UNIT(order_on_pc), UNIT(sound_first), UNIT(controllers_fill), UNIT(cdroms),
          UNIT(sd_cards), UNIT(controllers_stay), UNIT(further_controllers), UNIT(reservations),
          UNIT(root_ports), UNIT(keeps_what_is_there), UNIT(ide_units), UNIT(sata_ports),
          UNIT(too_many), UNIT(isa_nics), UNIT(slots_from_text))
