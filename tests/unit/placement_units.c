/* SPDX-License-Identifier: BSD-2-Clause */
/* Places behind a controller: SCSI, IDE and SATA, CD-ROMs, SD cards. */
#include "placing.h"

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

UNIT_MAIN(UNIT(controllers_fill), UNIT(cdroms), UNIT(sd_cards), UNIT(ide_units), UNIT(sata_ports))
