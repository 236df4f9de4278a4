/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/qemu/device.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/state/hvparams.h"
#include "kvm/state/placement.h"
#include "kvm/state/uri.h"

enum { ID_SIZE = 32 };

static void put(json_t *object, const char *key, json_t *stolen)
{
    json_object_set_new(object, key, memory_json(stolen));
}

static void put_text(json_t *object, const char *key, const char *text)
{
    put(object, key, json_string(text));
}

/* The id of a device: what its hvinfo says, also in the style of other tools; else made of its uuid. */
static const char *device_id(const json_t *hvinfo, const char *kind, const char *uuid,
                             char made[ID_SIZE])
{
    const char *given = json_text(hvinfo, "id");

    if (given != NULL)
        return given;
    placement_id(kind, uuid, made);
    return made;
}

static const char *disk_driver(const struct disk *disk, const struct instance *instance)
{
    const char *given = json_text(disk->hvinfo, "driver");

    if (given == NULL)
        return placement_disk_driver(disk, instance);
    if (strcmp(given, "ide") == 0) /* Ganeti keeps the words of its -drive if=… */
        return "ide-hd";
    return strcmp(given, "scsi") == 0 ? "scsi-hd" : given;
}

/* A CD-ROM drive as a disk's frontend never writes, whatever the disk's mode. */
static bool is_read_only(const struct disk *disk, const struct instance *instance)
{
    const char *driver = disk_driver(disk, instance);

    return disk->read_only ||
           (driver != NULL && (strcmp(driver, "scsi-cd") == 0 || strcmp(driver, "ide-cd") == 0));
}

/*
 * Only what differs from the defaults of blockdev-add (qapi/block-core.json) is said: QEMU 7.2 takes a tenth of a
 * millisecond for each key, which was more than half of the time to open a node. One of the defaults matters here:
 * auto-read-only is false. A node that QEMU opens read-only first and upgrades later would need a second, read-only
 * descriptor in its fd set.
 */
static json_t *protocol_node(int set, bool block_device)
{
    AUTO_FREE char *name = memory_format("/dev/fdset/%d", set);

    return memory_json(
        json_pack("{s:s, s:s}", "driver", block_device ? "host_device" : "file", "filename", name));
}

/* What both levels of a node must agree in. */
static void put_settings(json_t *node, const struct disk_settings *settings, bool read_only)
{
    if (read_only)
        put(node, "read-only", json_true());
    if (strcmp(settings->discard, "ignore") != 0)
        put_text(node, "discard", settings->discard);
    if (settings->direct || settings->no_flush)
        put(node, "cache",
            json_pack("{s:b, s:b}", "direct", settings->direct, "no-flush", settings->no_flush));
}

/* QEMU opens the URI itself; how it reads and writes is the driver's business, so there is no aio. */
static json_t *userspace_node(const struct disk *disk)
{
    return memory_json(uri_node(disk->uri, NULL)); /* looked at before: it can't fail */
}

json_t *device_blockdev(const struct disk *disk, const struct instance *instance, int set,
                        bool block_device)
{
    bool read_only = is_read_only(disk, instance), userspace = disk_is_userspace(disk);
    struct disk_settings settings;
    char made[ID_SIZE];

    disk_settings(disk, instance, &settings);
    json_t *file = userspace ? userspace_node(disk) : protocol_node(set, block_device);
    put_settings(file, &settings, read_only);
    if (!userspace && strcmp(settings.aio, "threads") != 0)
        put_text(file, "aio", settings.aio);

    json_t *node = memory_json(json_object());
    put_text(node, "driver", settings.format);
    put_text(node, "node-name", device_id(disk->hvinfo, "disk", disk->uuid, made));
    put_settings(node, &settings, read_only);
    if (strcmp(settings.detect_zeroes, "off") != 0)
        put_text(node, "detect-zeroes", settings.detect_zeroes);
    put(node, "file", file);
    return node;
}

json_t *device_flash(const char *node, int set, bool read_only)
{
    json_t *file = protocol_node(set, false);

    if (read_only)
        put(file, "read-only", json_true());
    json_t *flash = memory_json(json_pack("{s:s, s:s}", "driver", "raw", "node-name", node));
    if (read_only)
        put(flash, "read-only", json_true());
    put(flash, "file", file);
    return flash;
}

json_t *device_medium_blockdev(const char *node, const char *place, int set, bool block_device)
{
    json_t *file =
        uri_is_web(place) ? memory_json(uri_node(place, NULL)) : protocol_node(set, block_device);

    put(file, "read-only", json_true());
    return memory_json(json_pack("{s:s, s:s, s:b, s:o}", "driver", "raw", "node-name", node,
                                 "read-only", 1, "file", file));
}

/* Where it sits: copied as it stands, numbers as numbers. */
static void put_address(json_t *device, const json_t *hvinfo)
{
    static const char *const keys[] = {"bus", "addr", "unit", "channel", "scsi-id", "lun"};

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        json_t *value = json_member(hvinfo, keys[i]);
        if (value != NULL)
            put(device, keys[i], json_incref(value));
    }
}

/* The two that hand commands through to a real device: they have neither a cache nor a serial number of
 * their own to set. */
static bool is_passthrough(const char *driver)
{
    return strcmp(driver, "scsi-block") == 0 || strcmp(driver, "scsi-generic") == 0;
}

/* The disk's own thread, else one in turn by its place among the disks: the guest can't notice which. */
static void put_threads(json_t *device, const struct disk *disk, const struct instance *instance)
{
    int64_t threads = hvparams_number(instance->hvparams, "iothreads");
    int64_t queues = json_number(disk->params, "queues", 0);
    int64_t thread = json_number(disk->params, "iothread", -1);

    if (queues > 0)
        put(device, "num-queues", json_integer(queues));
    if (threads == 0)
        return;
    if (thread < 0)
        thread = disk - instance->disks;
    AUTO_FREE char *id = memory_format("io%" PRId64, thread % threads);
    put_text(device, "iothread", id);
}

static void put_geometry(json_t *device, const json_t *params)
{
    static const char *const keys[] = {"cyls", "heads", "secs"};

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (json_member(params, keys[i]) != NULL)
            put(device, keys[i], json_integer(json_number(params, keys[i], 0)));
}

static bool is_card(const char *driver)
{
    return driver != NULL && strcmp(driver, "sd-card") == 0;
}

/* "sdhci5" behind slot 5. */
static char *card_reader_id(const struct disk *disk)
{
    return memory_format("sdhci%d", placement_slot(disk->hvinfo));
}

json_t *device_card_reader(const struct disk *disk)
{
    if (!is_card(json_text(disk->hvinfo, "driver")))
        return NULL;
    AUTO_FREE char *id = card_reader_id(disk);
    json_t *reader = memory_json(json_pack("{s:s, s:s}", "driver", "sdhci-pci", "id", id));
    put_address(reader, disk->hvinfo);
    return reader;
}

/* The card's bus has the same name on every reader, so it is said which. A card has no cache, serial number or
 * place in the boot order (7.2). */
static json_t *card(const struct disk *disk, const char *id)
{
    AUTO_FREE char *reader = card_reader_id(disk);
    AUTO_FREE char *bus = memory_format("%s/%s/sd-bus", json_text(disk->hvinfo, "bus"), reader);

    return memory_json(
        json_pack("{s:s, s:s, s:s, s:s}", "driver", "sd-card", "id", id, "drive", id, "bus", bus));
}

json_t *device_cdrom(const json_t *hvinfo, const char *node, int bootindex)
{
    json_t *device = memory_json(json_object());

    put_text(device, "driver", json_text(hvinfo, "driver"));
    put_text(device, "id", json_text(hvinfo, "id"));
    if (node != NULL) /* an empty drive */
        put_text(device, "drive", node);
    put_address(device, hvinfo);
    if (bootindex > 0)
        put(device, "bootindex", json_integer(bootindex));
    return device;
}

json_t *device_disk(const struct disk *disk, const struct instance *instance, int bootindex)
{
    const char *driver = disk_driver(disk, instance);
    struct disk_settings settings;
    char made[ID_SIZE];
    const char *id = device_id(disk->hvinfo, "disk", disk->uuid, made);

    if (is_card(driver))
        return card(disk, id);
    disk_settings(disk, instance, &settings);
    json_t *device = memory_json(json_object());
    put_text(device, "driver", driver != NULL ? driver : "virtio-blk-pci");
    put_text(device, "id", id);
    put_text(device, "drive", id);
    put_address(device, disk->hvinfo);
    if (driver == NULL || !is_passthrough(driver)) {
        if (settings.serial != NULL)
            put_text(device, "serial", settings.serial);
        /* "on" and "off" in words: the property is an OnOffAuto, which takes no boolean. */
        put_text(device, "write-cache", settings.write_cache ? "on" : "off");
    }
    if (driver == NULL || strcmp(driver, "virtio-blk-pci") == 0)
        put_threads(device, disk, instance);
    put_geometry(device, disk->params);
    if (bootindex > 0)
        put(device, "bootindex", json_integer(bootindex));
    return device;
}

int device_open_flags(const struct disk *disk, const struct instance *instance)
{
    struct disk_settings settings;

    disk_settings(disk, instance, &settings);
    return (is_read_only(disk, instance) ? O_RDONLY : O_RDWR) | (settings.direct ? O_DIRECT : 0);
}

/* "12" for one queue, "12:13" for more: the keys differ as well. */
static void put_descriptors(json_t *netdev, const char *one, const char *many,
                            const char *const *names, size_t queues)
{
    AUTO_FREE char *list = memory_copy(names[0]);

    for (size_t i = 1; i < queues; i++) {
        AUTO_FREE char *shorter = list;
        list = memory_format("%s:%s", shorter, names[i]);
    }
    put_text(netdev, queues > 1 ? many : one, list);
}

json_t *device_netdev(const struct nic *nic, const char *const *names,
                      const char *const *vhost_names, size_t queues)
{
    json_t *netdev = memory_json(json_object());
    char made[ID_SIZE];

    put_text(netdev, "type", "tap");
    put_text(netdev, "id", device_id(nic->hvinfo, "nic", nic->uuid, made));
    put_descriptors(netdev, "fd", "fds", names, queues);
    if (vhost_names != NULL) {
        put(netdev, "vhost", json_true());
        put(netdev, "vhostforce", json_true());
        put_descriptors(netdev, "vhostfd", "vhostfds", vhost_names, queues);
    }
    return netdev;
}

/* The first has what the device has by itself. */
static void put_isa_place(json_t *device, const struct nic *nic, const struct instance *instance)
{
    static const struct {
        int port, interrupt;
    } places[PLACEMENT_ISA_NICS] = {{0x300, 9}, {0x320, 10}, {0x340, 11}, {0x360, 3}};

    for (size_t i = 0; i < instance->nic_count && i < PLACEMENT_ISA_NICS; i++) {
        if (strcmp(instance->nics[i].uuid, nic->uuid) != 0)
            continue;
        put(device, "iobase", json_integer(places[i].port));
        put(device, "irq", json_integer(places[i].interrupt));
    }
}

json_t *device_nic(const struct nic *nic, const struct instance *instance, size_t queues,
                   int bootindex, bool no_rom)
{
    const char *driver = json_text(nic->hvinfo, "driver");
    char made[ID_SIZE];
    const char *id = device_id(nic->hvinfo, "nic", nic->uuid, made);

    if (driver == NULL)
        driver = placement_nic_driver(instance);
    if (driver == NULL)
        driver = "virtio-net-pci";
    json_t *device = memory_json(json_object());
    put_text(device, "driver", driver);
    put_text(device, "id", id);
    put_text(device, "netdev", id);
    put_text(device, "mac", nic->mac);
    if (placement_is_isa(driver))
        put_isa_place(device, nic, instance);
    else
        put_address(device, nic->hvinfo);
    if (queues > 1 && strncmp(driver, "virtio-net", strlen("virtio-net")) == 0) {
        put(device, "mq", json_true());
        put(device, "vectors", json_integer((json_int_t)(2 * queues + 2)));
    }
    if (bootindex > 0)
        put(device, "bootindex", json_integer(bootindex));
    if (no_rom && !placement_is_isa(driver)) /* an ISA card has no ROM to leave out */
        put_text(device, "romfile", "");
    return device;
}

json_t *device_throttle(const struct disk *disk)
{
    static const char *const keys[] = {"bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"};
    const char *id = json_text(disk->hvinfo, "id"), *driver = json_text(disk->hvinfo, "driver");
    bool inner = driver != NULL && strncmp(driver, "virtio-blk", 10) == 0;
    /* The PCI device of virtio only wraps the one that has the block backend. */
    AUTO_FREE char *path = id == NULL ? NULL
                           : inner    ? memory_format("/machine/peripheral/%s/virtio-backend", id)
                                      : memory_copy(id);
    json_t *arguments = memory_json(json_pack("{s:s*}", "id", path));
    bool any = false;

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        any = any || json_member(disk->params, keys[i]) != NULL;
        json_object_set_new(arguments, keys[i],
                            memory_json(json_integer(json_number(disk->params, keys[i], 0))));
    }
    if (!any) {
        json_decref(arguments);
        return NULL;
    }
    return arguments;
}

json_t *device_link(const struct nic *nic, bool up)
{
    char made[ID_SIZE];
    const char *id = device_id(nic->hvinfo, "nic", nic->uuid, made);

    return memory_json(json_pack("{s:s, s:b}", "name", id, "up", (int)up));
}
