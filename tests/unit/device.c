/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/qemu/device.h"

#include <fcntl.h>

#include "definition.h"
#include "unit.h"

/* An instance with one disk and one NIC; `disk` and `hvparams` are members of their objects. */
static bool make(const char *hvparams, const char *disk, const char *nic, struct instance *instance)
{
    AUTO_FREE char *text = memory_format(
        "{\"name\": \"web1\", \"beparams\": {\"memory\": 128}, \"hvparams\": {%s}, "
        "\"disks\": [{\"uuid\": \"7c079136-2573-4112-8a00-000000000001\", \"path\": \"/a,b\"%s}], "
        "\"nics\": [{\"uuid\": \"4f2c0000-2573-4112-8a00-000000000002\", "
        "\"mac\": \"aa:00:00:00:00:01\", "
        "\"nicparams\": {\"mode\": \"bridged\", \"link\": \"br0\"}%s}]}",
        hvparams, disk, nic);

    int result = parse(text, NULL, instance);
    CHECK_TEXT(joined, "");
    CHECK_NUMBER(result, 0);
    return true;
}

/* Steals `value`. */
static bool is(json_t *value, const char *expected)
{
    AUTO_FREE char *text = json_compact(value);

    json_decref(value);
    CHECK_TEXT(text, expected);
    return true;
}

#define DISK_PLACE                                                                                 \
    ", \"hvinfo\": {\"driver\": \"virtio-blk-pci\", \"id\": \"disk-1\", \"bus\": \"pci.0\", "      \
    "\"addr\": \"0xc\"}"
#define NIC_PLACE                                                                                  \
    ", \"hvinfo\": {\"driver\": \"virtio-net-pci\", \"id\": \"nic-1\", \"bus\": \"pci.0\", "       \
    "\"addr\": \"0xd\"}"

TEST(plain_disk, "a disk is a format node over a file node of an fd set, and a frontend")
{
    AUTO_INSTANCE struct instance instance = {0};

    CHECK(make("", DISK_PLACE ", \"dev_type\": \"file\"", "", &instance));
    const struct disk *disk = &instance.disks[0];
    CHECK(is(device_blockdev(disk, &instance, 2, false),
             "{\"driver\":\"raw\",\"node-name\":\"disk-1\","
             "\"file\":{\"driver\":\"file\",\"filename\":\"/dev/fdset/2\"}}"));
    CHECK(is(device_disk(disk, &instance, 0),
             "{\"driver\":\"virtio-blk-pci\",\"id\":\"disk-1\",\"drive\":\"disk-1\","
             "\"bus\":\"pci.0\",\"addr\":\"0xc\",\"write-cache\":\"on\"}"));
    CHECK_NUMBER(device_open_flags(disk, &instance), O_RDWR);
    return true;
}

TEST(tuned_disk, "cache, aio, discard, format, serial and boot index reach both levels")
{
    AUTO_INSTANCE struct instance instance = {0};

    CHECK(make("",
               DISK_PLACE ", \"cache\": \"none\", \"aio\": \"native\", \"discard\": \"unmap\", "
                          "\"format\": \"qcow2\", \"serial\": \"4711\", \"mode\": \"ro\"",
               "", &instance));
    const struct disk *disk = &instance.disks[0];
    CHECK(is(device_blockdev(disk, &instance, 7, true),
             "{\"driver\":\"qcow2\",\"node-name\":\"disk-1\",\"read-only\":true,"
             "\"discard\":\"unmap\",\"cache\":{\"direct\":true,\"no-flush\":false},"
             "\"file\":{\"driver\":\"host_device\",\"filename\":\"/dev/fdset/7\","
             "\"read-only\":true,\"discard\":\"unmap\","
             "\"cache\":{\"direct\":true,\"no-flush\":false},\"aio\":\"native\"}}"));
    CHECK(is(device_disk(disk, &instance, 1),
             "{\"driver\":\"virtio-blk-pci\",\"id\":\"disk-1\",\"drive\":\"disk-1\","
             "\"bus\":\"pci.0\",\"addr\":\"0xc\",\"serial\":\"4711\",\"write-cache\":\"on\","
             "\"bootindex\":1}"));
    CHECK_NUMBER(device_open_flags(disk, &instance), O_RDONLY | O_DIRECT);
    return true;
}

/* The runtime file's cache, not the drive's: QEMU must flush after each write. */
TEST(writethrough, "cache writethrough takes the drive's write cache away")
{
    AUTO_INSTANCE struct instance instance = {0};

    CHECK(make("\"disk_cache\": \"writethrough\"", DISK_PLACE ", \"dev_type\": \"file\"", "",
               &instance));
    AUTO_JSON json_t *device = device_disk(&instance.disks[0], &instance, 0);
    CHECK_TEXT(json_text(device, "write-cache"), "off");
    CHECK_NUMBER(device_open_flags(&instance.disks[0], &instance), O_RDWR);
    return true;
}

TEST(scsi_disk, "the place of a SCSI disk stays numbers")
{
    AUTO_INSTANCE struct instance instance = {0};

    CHECK(make("\"disk_type\": \"scsi\"",
               ", \"hvinfo\": {\"driver\": \"scsi-hd\", \"id\": \"disk-1\", \"bus\": \"scsi.0\", "
               "\"channel\": 0, \"scsi-id\": 3, \"lun\": 1}",
               "", &instance));
    CHECK(is(device_disk(&instance.disks[0], &instance, 0),
             "{\"driver\":\"scsi-hd\",\"id\":\"disk-1\",\"drive\":\"disk-1\",\"bus\":\"scsi.0\","
             "\"channel\":0,\"scsi-id\":3,\"lun\":1,\"write-cache\":\"on\"}"));
    return true;
}

TEST(passthrough, "a disk that hands its commands through has no serial and no write cache")
{
    static const char *const drivers[] = {"scsi-block", "scsi-generic"};

    for (size_t i = 0; i < 2; i++) {
        AUTO_INSTANCE struct instance instance = {0};
        AUTO_FREE char *disk = memory_format(", \"serial\": \"x\", \"hvinfo\": {\"driver\": "
                                             "\"%s\", \"id\": \"disk-1\", \"bus\": \"scsi.0\"}",
                                             drivers[i]);
        CHECK(make("\"disk_type\": \"scsi\"", disk, "", &instance));
        AUTO_JSON json_t *device = device_disk(&instance.disks[0], &instance, 1);
        CHECK(json_member(device, "serial") == NULL);
        CHECK(json_member(device, "write-cache") == NULL);
        CHECK_NUMBER(json_number(device, "bootindex", 0), 1);
    }
    return true;
}

TEST(cdrom_disk, "a disk on a CD-ROM drive is read-only whatever its mode")
{
    AUTO_INSTANCE struct instance instance = {0};

    CHECK(make("", ", \"dev_type\": \"file\", \"hvinfo\": {\"driver\": \"scsi-cd\", \"id\": \"d\"}",
               "", &instance));
    AUTO_JSON json_t *node = device_blockdev(&instance.disks[0], &instance, 2, false);
    CHECK(json_truth(node, "read-only", false));
    CHECK(json_truth(json_member(node, "file"), "read-only", false));
    CHECK_NUMBER(device_open_flags(&instance.disks[0], &instance), O_RDONLY);
    return true;
}

TEST(found_id, "an id of another tool's style is used as it stands, for node and frontend")
{
    AUTO_INSTANCE struct instance instance = {0};

    CHECK(make("",
               ", \"hvinfo\": {\"driver\": \"virtio-blk-pci\", \"id\": \"hotdisk-7c079136-pci-4\", "
               "\"bus\": \"pci.0\", \"addr\": \"0x4\"}",
               "", &instance));
    AUTO_JSON json_t *node = device_blockdev(&instance.disks[0], &instance, 2, false);
    AUTO_JSON json_t *device = device_disk(&instance.disks[0], &instance, 0);
    CHECK_TEXT(json_text(node, "node-name"), "hotdisk-7c079136-pci-4");
    CHECK_TEXT(json_text(device, "id"), "hotdisk-7c079136-pci-4");
    CHECK_TEXT(json_text(device, "drive"), "hotdisk-7c079136-pci-4");
    return true;
}

TEST(short_names, "ide and scsi, which older files name as driver, are QEMU's ide-hd and scsi-hd")
{
    static const char *const names[][2] = {{"ide", "ide-hd"}, {"scsi", "scsi-hd"}};

    for (size_t i = 0; i < 2; i++) {
        AUTO_INSTANCE struct instance instance = {0};
        AUTO_FREE char *disk =
            memory_format(", \"hvinfo\": {\"driver\": \"%s\", \"id\": \"disk-1\"}", names[i][0]);
        CHECK(make("", disk, "", &instance));
        AUTO_JSON json_t *device = device_disk(&instance.disks[0], &instance, 0);
        CHECK_TEXT(json_text(device, "driver"), names[i][1]);
    }
    return true;
}

TEST(cdrom, "a CD-ROM is a read-only raw node")
{
    CHECK(is(device_medium_blockdev("cdrom1", "/x", 9, false),
             "{\"driver\":\"raw\",\"node-name\":\"cdrom1\",\"read-only\":true,"
             "\"file\":{\"driver\":\"file\",\"filename\":\"/dev/fdset/9\",\"read-only\":true}}"));
    return true;
}

TEST(plain_nic, "a NIC of one queue has one descriptor and no mq")
{
    AUTO_INSTANCE struct instance instance = {0};
    static const char *const names[] = {"12"};

    CHECK(make("", "", NIC_PLACE, &instance));
    CHECK(is(device_netdev(&instance.nics[0], names, NULL, 1),
             "{\"type\":\"tap\",\"id\":\"nic-1\",\"fd\":\"12\"}"));
    CHECK(is(device_nic(&instance.nics[0], &instance, 1, 0, false),
             "{\"driver\":\"virtio-net-pci\",\"id\":\"nic-1\",\"netdev\":\"nic-1\","
             "\"mac\":\"aa:00:00:00:00:01\",\"bus\":\"pci.0\",\"addr\":\"0xd\"}"));
    return true;
}

TEST(queues, "queues come with mq and vectors, vhost never without vhostforce")
{
    AUTO_INSTANCE struct instance instance = {0};
    static const char *const names[] = {"n0", "n1", "n2"}, *const vhost[] = {"v0", "v1", "v2"};

    CHECK(make("", "", NIC_PLACE, &instance));
    CHECK(is(device_netdev(&instance.nics[0], names, vhost, 3),
             "{\"type\":\"tap\",\"id\":\"nic-1\",\"fds\":\"n0:n1:n2\",\"vhost\":true,"
             "\"vhostforce\":true,\"vhostfds\":\"v0:v1:v2\"}"));
    CHECK(is(device_netdev(&instance.nics[0], names, vhost, 1),
             "{\"type\":\"tap\",\"id\":\"nic-1\",\"fd\":\"n0\",\"vhost\":true,"
             "\"vhostforce\":true,\"vhostfd\":\"v0\"}"));
    CHECK(is(device_nic(&instance.nics[0], &instance, 3, 2, true),
             "{\"driver\":\"virtio-net-pci\",\"id\":\"nic-1\",\"netdev\":\"nic-1\","
             "\"mac\":\"aa:00:00:00:00:01\",\"bus\":\"pci.0\",\"addr\":\"0xd\",\"mq\":true,"
             "\"vectors\":8,\"bootindex\":2,\"romfile\":\"\"}"));
    return true;
}

TEST(other_nics, "only virtio has queues, and an ISA card no ROM to leave out")
{
    static const char *const drivers[] = {"e1000", "ne2k_isa"};

    for (size_t i = 0; i < 2; i++) {
        AUTO_INSTANCE struct instance instance = {0};
        AUTO_FREE char *nic =
            memory_format(", \"hvinfo\": {\"driver\": \"%s\", \"id\": \"nic-1\"}", drivers[i]);
        CHECK(make("", "", nic, &instance));
        AUTO_JSON json_t *device = device_nic(&instance.nics[0], &instance, 2, 0, true);
        CHECK(json_member(device, "mq") == NULL);
        CHECK(json_member(device, "vectors") == NULL);
        CHECK((json_member(device, "romfile") != NULL) == (i == 0));
    }
    return true;
}

UNIT_MAIN(UNIT(plain_disk), UNIT(tuned_disk), UNIT(writethrough), UNIT(scsi_disk),
          UNIT(passthrough), UNIT(cdrom_disk), UNIT(found_id), UNIT(short_names), UNIT(cdrom),
          UNIT(plain_nic), UNIT(queues), UNIT(other_nics))
