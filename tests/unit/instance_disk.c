/* SPDX-License-Identifier: BSD-2-Clause */
/* The disks of a definition: their fields, models, access and settings. */
#include "definition.h"
#include "unit.h"

static const char *bad_disk(const char *members)
{
    AUTO_FREE char *text = memory_format("\"disks\": [{%s}]", members);
    return bad(text);
}

TEST(disk_models,
     "queues and iothread are for virtio disks, detect_zeroes unmap needs discard unmap")
{
    CHECK_HAS(bad_disk("\"path\": \"/d\", \"bus\": \"scsi\", \"queues\": 2"),
              "w.json: disks[0]: queues: is only for virtio disks");
    CHECK_HAS(bad_disk("\"path\": \"/d\", \"bus\": \"ide\", \"iothread\": 0"),
              "w.json: disks[0]: iothread: is only for virtio disks");
    CHECK_HAS(bad_disk("\"path\": \"/d\", \"iothread\": 0"),
              "iothread: hvparams.iothreads makes 0 of them, numbered from 0 (current value: 0)");
    CHECK_HAS(bad_disk("\"path\": \"/d\", \"detect_zeroes\": \"unmap\""),
              "detect_zeroes: unmap needs discard unmap");
    CHECK_HAS(bad_disk("\"path\": \"/d\", \"detect_zeroes\": \"yes\""),
              "must be one of off, on, unmap");
    CHECK_HAS(bad_disk("\"path\": \"/d\", \"queues\": 0"), "queues: must be from 1 to 256");
    CHECK_TEXT(bad("\"hvparams\": {\"iothreads\": 2, \"disk_discard\": \"unmap\"}, \"disks\": "
                   "[{\"path\": \"/d\", "
                   "\"iothread\": 1, \"queues\": 4, \"detect_zeroes\": \"unmap\"}]"),
               "accepted");
    return true;
}

TEST(disks_are_checked, "disks are checked field by field")
{
    CHECK_HAS(bad_disk(""), "w.json: disks[0].path: is missing");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"uri\": \"rbd:x\""),
              "disks[0].uri: must be like rbd:POOL/IMAGE (current value: \"rbd:x\")");
    CHECK_HAS(bad_disk("\"uri\": 1"), "disks[0].uri: must be a string");
    CHECK_HAS(bad_disk("\"uri\": \"http://a/b\""), "disks[0].uri: can only be read, it needs mode");
    CHECK_HAS(bad_disk("\"uri\": \"rbd:a/b@c\""), "disks[0].uri: can only be read, it needs mode");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"access\": \"userspace\""),
              "disks[0].uri: is missing, and params.access is \"userspace\"");
    CHECK_HAS(bad_disk("\"uri\": \"rbd:a/b\", \"access\": \"kernelspace\""),
              "disks[0].path: is missing, and params.access is \"kernelspace\"");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"access\": \"user\""),
              "disks[0].access: must be one of kernelspace, userspace");
    CHECK_HAS(bad_disk("\"path\": \"/a/../b\""), "disks[0].path: must be normalised");
    CHECK_HAS(bad_disk("\"path\": \"/a\\u007f\""), "disks[0].path: must not hold control");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"mode\": \"w\""),
              "disks[0].mode: must be one of rw, ro");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"size\": -1"), "disks[0].size: must be from 0");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"cache\": \"x\""), "disks[0].cache: must be one");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"aio\": \"native\", \"cache\": \"writeback\""),
              "disks[0].aio: needs cache none");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"cache\": \"none\", \"params\": {\"cache\": \"none\"}"),
              "disks[0].cache: is given in params as well");
    CHECK_HAS(bad_disk("\"path\": \"/dev/x\", \"cache\": \"writeback\""),
              "disks[0].cache: must be none for dev_type blockdev");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"serial\": \"a b\""), "disks[0].serial: must be 1");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"dev_type\": \"zfs\""),
              "disks[0].dev_type: must be one");
    CHECK_HAS(bad_disk("\"dev_type\": \"plain\", \"logical_id\": [\"..\", \"x\"]"),
              "disks[0].path: is missing");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"params\": {\"x\": \"a\\nb\"}"),
              "disks[0].params: must not hold control characters");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"hvinfo\": {\"driver\": \"vfio-pci\", \"id\": \"x\"}"),
              "disks[0].hvinfo.driver: must be one of");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"hvinfo\": {\"driver\": \"scsi-hd\", \"id\": \"x,y\"}"),
              "disks[0].hvinfo.id: must be letters");
    CHECK_HAS(
        bad_disk("\"path\": \"/a\", \"hvinfo\": {\"driver\": \"virtio-blk-pci\", \"id\": \"x\","
                 " \"bus\": \"pci.0\", \"addr\": \"0x20\"}"),
        "disks[0].hvinfo.addr: must be from \"0x0\" to \"0x1f\"");
    return true;
}

TEST(models_are_checked, "what a disk's model can't have is told with the field and the reason")
{
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"bus\": \"mtd\""),
              "disks[0]: bus: the machine types pc and q35 have no raw flash");
    CHECK_HAS(bad("\"hvparams\": {\"disk_type\": \"pflash\"}, \"disks\": [{\"path\": \"/a\"}]"),
              "hvparams.disk_type: the flash of the machine types pc and q35 holds the firmware");
    CHECK_TEXT(bad("\"hvparams\": {\"disk_type\": \"pflash\"}, \"disks\": [{\"path\": \"/a\", "
                   "\"bus\": \"sd\"}]"),
               "accepted");
    CHECK_HAS(bad("\"hvparams\": {\"cdrom_disk_type\": \"mtd\", \"cdrom_image_path\": \"/a\"}"),
              "hvparams.cdrom_disk_type: the machine types");
    CHECK_HAS(bad("\"hvparams\": {\"cdrom_disk_type\": \"sd\", \"cdrom2_image_path\": \"/a\"}"),
              "hvparams.cdrom_disk_type: an SD card can't be read-only");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"bus\": \"ide\", \"mode\": \"ro\""),
              "disks[0]: mode: QEMU has no read-only IDE or SATA disk");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"bus\": \"sd\", \"mode\": \"ro\""),
              "disks[0]: mode: QEMU has no read-only SD card");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"cyls\": 100, \"heads\": 16"),
              "disks[0]: cyls, heads and secs go together");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"bus\": \"ide\", \"cyls\": 100, \"heads\": 17, "
                       "\"secs\": 63"),
              "disks[0]: heads: must be from 1 to 16 (current value: 17)");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"bus\": \"scsi-cd\", \"cyls\": 1, \"heads\": 1, "
                       "\"secs\": 1"),
              "disks[0]: cyls: only virtio");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"cyls\": 0"), "disks[0].cyls: must be from 1");
    return true;
}

TEST(userspace, "a URI alone is userspace access, with a path beside it params.access decides")
{
    static const struct {
        const char *disk, *uri, *type;
        bool userspace;
    } cases[] = {
        {"\"uri\": \"rbd:pool/one\"", "rbd:pool/one", "rbd", true},
        {"\"uri\": \"gluster://a/v/p\"", "gluster://a/v/p", "gluster", true},
        {"\"uri\": \"nbd://a/v\"", "nbd://a/v", "ext", true},
        {"\"uri\": \"rbd:pool/one\", \"path\": \"/dev/rbd0\"", "rbd:pool/one", "blockdev", false},
        {"\"uri\": \"rbd:pool/one\", \"path\": \"/dev/rbd0\", \"access\": \"userspace\"",
         "rbd:pool/one", "blockdev", true},
        {"\"dev_type\": \"rbd\", \"logical_id\": [\"rbd\", \"one\"], "
         "\"params\": {\"access\": \"userspace\", \"pool\": \"pool\"}",
         "rbd:pool/one", "rbd", true},
        {"\"dev_type\": \"gluster\", \"logical_id\": [\"gluster\", \"a/b\"], \"params\": "
         "{\"access\": \"userspace\", \"host\": \"h\", \"port\": 1, \"volume\": \"v\"}",
         "gluster://h:1/v/a/b", "gluster", true},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        AUTO_INSTANCE struct instance instance = {0}, again = {0};
        AUTO_FREE char *text = memory_format("{\"name\": \"a\", \"disks\": [{%s}]}", cases[i].disk);
        CHECK_NUMBER(parse(text, NULL, &instance), 0);
        CHECK_TEXT(instance.disks[0].uri, cases[i].uri);
        CHECK_TEXT(instance.disks[0].dev_type, cases[i].type);
        CHECK(disk_is_userspace(&instance.disks[0]) == cases[i].userspace);
        AUTO_JSON json_t *written = instance_json(&instance);
        AUTO_FREE char *normal = json_compact(written);
        CHECK_NUMBER(parse(normal, NULL, &again), 0);
        CHECK_TEXT(again.disks[0].uri, cases[i].uri);
        CHECK(disk_is_userspace(&again.disks[0]) == cases[i].userspace);
    }
    CHECK_HAS(bad("\"disks\": [{\"uri\": \"nbd://a/v\"}, {\"uri\": \"nbd://a/v\"}]"),
              "disks[1].uri: is that of disks[0] too");
    return true;
}

TEST(secret_is_dropped, "the shared secret of a DRBD disk is not kept")
{
    AUTO_INSTANCE struct instance instance;
    int result =
        parse("{\"name\": \"a\", \"disks\": [{\"dev_type\": \"drbd\", \"path\": \"/dev/drbd0\","
              " \"logical_id\": [\"n1\", \"n2\", 11000, 0, 1, \"topsecret\"]}]}",
              NULL, &instance);

    CHECK_NUMBER(result, 0);
    AUTO_JSON json_t *written = instance_json(&instance);
    AUTO_FREE char *text = json_compact(written);

    CHECK(strstr(text, "topsecret") == NULL);
    CHECK_HAS(text, "11000");
    return true;
}

TEST(settings_of_a_disk, "a disk's own settings go before the instance's, and safety before both")
{
    AUTO_INSTANCE struct instance instance;
    struct disk_settings settings;

    CHECK_NUMBER(
        parse("{\"name\": \"a\", \"hvparams\": {\"disk_cache\": \"writethrough\"}, \"disks\": ["
              "{\"path\": \"/a\"}, {\"path\": \"/b\", \"aio\": \"native\"},"
              " {\"path\": \"/dev/c\"},"
              " {\"path\": \"/d\", \"cache\": \"writeback\", \"discard\": \"unmap\","
              "  \"format\": \"qcow2\", \"serial\": \"S\"}]}",
              NULL, &instance),
        0);
    disk_settings(&instance.disks[0], &instance, &settings);
    CHECK_TEXT(settings.cache, "writethrough");
    CHECK(!settings.direct && !settings.write_cache && !settings.no_flush);
    CHECK_TEXT(settings.format, "raw");
    CHECK(settings.serial == NULL);
    CHECK_TEXT(settings.discard, "ignore");
    disk_settings(&instance.disks[1], &instance, &settings);
    CHECK_TEXT(settings.aio, "native");
    CHECK_TEXT(settings.cache, "none");
    disk_settings(&instance.disks[2], &instance, &settings);
    CHECK_TEXT(settings.cache, "none");
    CHECK(settings.direct && settings.write_cache);
    disk_settings(&instance.disks[3], &instance, &settings);
    CHECK_TEXT(settings.cache, "writeback");
    CHECK_TEXT(settings.discard, "unmap");
    CHECK_TEXT(settings.format, "qcow2");
    CHECK_TEXT(settings.serial, "S");
    return true;
}

UNIT_MAIN(UNIT(disk_models), UNIT(disks_are_checked), UNIT(models_are_checked), UNIT(userspace),
          UNIT(secret_is_dropped), UNIT(settings_of_a_disk))
