/* SPDX-License-Identifier: BSD-2-Clause */
/* PCI slots, and ports of q35: who comes first, who stays, who is refused. */
#include "placing.h"

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

UNIT_MAIN(UNIT(order_on_pc), UNIT(further_controllers), UNIT(sound_first), UNIT(reservations),
          UNIT(root_ports), UNIT(keeps_what_is_there), UNIT(too_many), UNIT(isa_nics),
          UNIT(slots_from_text), UNIT(controllers_stay))
