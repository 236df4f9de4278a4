/* SPDX-License-Identifier: BSD-2-Clause */
/* What a QEMU that is to be adopted has: disks, controllers and their places; the NICs are in adopt_nics.c. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "adopt_private.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/base/transaction.h"
#include "kvm/state/slots.h"

enum { ID_GROUPS = 18, MIB = 1024 * 1024 }; /* "7c079136-2573-4112" */

static json_t *ask(struct adopt_look *look, const char *command, json_t *arguments,
                   struct error *error)
{
    json_t *reply = NULL;

    if (qmp_call(look->qmp, command, arguments, look->deadline, &reply, error) == QMP_DONE)
        return reply;
    return NULL;
}

json_t *adopt_property(struct adopt_look *look, const char *id, const char *property)
{
    AUTO_FREE char *path = memory_format("/machine/peripheral/%s", id);
    json_t *arguments = memory_json(json_pack("{s:s, s:s}", "path", path, "property", property));

    return ask(look, "qom-get", arguments, NULL);
}

bool adopt_uuid(const char *id, char uuid[37])
{
    uuid_t space, derived;
    char tail[37];
    const char *groups = strchr(id, '-');

    if (groups == NULL || strlen(groups + 1) != ID_GROUPS)
        return false;
    uuid_copy(space, *uuid_get_template("oid"));
    uuid_generate_sha1(derived, space, id, strlen(id));
    uuid_unparse_lower(derived, tail);
    snprintf(uuid, 37, "%s%s", groups + 1, tail + ID_GROUPS);
    return text_is_uuid(uuid);
}

/* ---- places ---- */

/* On q35 a device sits alone behind its root port, and the port's name is its place. */
static json_t *place_on(const json_t *devices, const char *port, const char *driver, const char *id)
{
    size_t i;
    json_t *device;

    json_array_foreach (devices, i, device) {
        const char *name = json_text(device, "qdev_id");
        const json_t *behind = json_member(json_member(device, "pci_bridge"), "devices");
        char address[8];
        if (name != NULL && strcmp(name, id) == 0) {
            snprintf(address, sizeof(address), "0x%x",
                     (unsigned)(json_number(device, "slot", 0) & (SLOTS_COUNT - 1)));
            return memory_json(json_pack("{s:s, s:s, s:s, s:s}", "driver", driver, "id", id, "bus",
                                         port, "addr", address));
        }
        json_t *found =
            behind != NULL ? place_on(behind, name != NULL ? name : "", driver, id) : NULL;
        if (found != NULL)
            return found;
    }
    return NULL;
}

json_t *adopt_place(const json_t *buses, const char *driver, const char *id)
{
    size_t i;
    json_t *bus;

    json_array_foreach (buses, i, bus) {
        json_t *found = place_on(json_member(bus, "devices"), "pci.0", driver, id);
        if (found != NULL)
            return found;
    }
    return NULL;
}

static int controller_slot(const json_t *buses, const char *id)
{
    AUTO_JSON json_t *place = adopt_place(buses, "", id);
    const char *bus = json_text(place, "bus"), *address = json_text(place, "addr");
    unsigned slot = 0;
    int64_t port = 0;

    if (place == NULL)
        return 0;
    if (bus != NULL && strncmp(bus, "rp", 2) == 0)
        return text_number(bus + 2, 0, SLOTS_COUNT - 1, &port) ? (int)port : 0;
    return sscanf(address, "0x%x", &slot) == 1 ? (int)slot : 0;
}

static json_t *place_on_scsi(struct adopt_look *look, const char *driver, const char *id)
{
    static const char *const keys[] = {"channel", "scsi-id", "lun"};
    json_t *hvinfo =
        memory_json(json_pack("{s:s, s:s, s:s}", "driver", driver, "id", id, "bus", "scsi.0"));

    for (size_t i = 0; i < COUNT(keys); i++) {
        AUTO_JSON json_t *value = adopt_property(look, id, keys[i]);
        json_object_set_new(hvinfo, keys[i], json_integer(json_integer_value(value)));
    }
    return hvinfo;
}

/* ---- images ---- */

/* "ID", "/machine/peripheral/ID" or that with "/virtio-backend" behind it; the caller frees, NULL: no device of ours. */
static char *device_of(const json_t *block)
{
    static const char peripheral[] = "/machine/peripheral/";
    const char *device = json_text(block, "qdev");

    if (device == NULL)
        return NULL;
    if (strncmp(device, peripheral, strlen(peripheral)) == 0)
        device += strlen(peripheral);
    if (device[0] == '/' || device[0] == '\0')
        return NULL;
    return memory_format("%.*s", (int)strcspn(device, "/"), device);
}

/* The driver of a device out of qom-list: "child<virtio-blk-pci>". The caller frees; NULL: there is none. */
static char *driver_of(const json_t *devices, const char *id)
{
    size_t i;
    json_t *device;

    json_array_foreach (devices, i, device) {
        const char *name = json_text(device, "name"), *type = json_text(device, "type");
        if (name != NULL && type != NULL && strcmp(name, id) == 0 &&
            strncmp(type, "child<", 6) == 0)
            return memory_format("%.*s", (int)strcspn(type + 6, ">"), type + 6);
    }
    return NULL;
}

/* The -blockdev of that node on the command line; a plugged disk has none. */
static json_t *node_words(const json_t *words, const char *node)
{
    for (size_t i = 1; i + 1 < json_array_size(words); i++) {
        const char *word = json_string_value(json_array_get(words, i));
        const char *value = json_string_value(json_array_get(words, i + 1));
        if (strcmp(word, "-blockdev") != 0)
            continue;
        json_t *one = json_parse(value, strlen(value), "-blockdev", NULL);
        const char *name = json_text(one, "node-name");
        if (name != NULL && strcmp(name, node) == 0)
            return one;
        json_decref(one);
    }
    return NULL;
}

/* ---- disks ---- */

/* As a runtime file has them: all in params. New object. */
static json_t *settings_of(struct adopt_look *look, const char *id, const json_t *inserted)
{
    static const char *const limits[] = {"iops", "iops_rd", "iops_wr", "bps", "bps_rd", "bps_wr"};
    const json_t *cache = json_member(inserted, "cache");
    const char *node = json_text(inserted, "node-name");
    AUTO_JSON json_t *words = node_words(look->words, node != NULL ? node : "");
    AUTO_JSON json_t *write_cache = adopt_property(look, id, "write-cache");
    AUTO_JSON json_t *serial = adopt_property(look, id, "serial");
    const char *aio = json_text(json_member(words, "file"), "aio");
    const char *written = json_string_value(write_cache);
    bool through = written != NULL && strcmp(written, "off") == 0;
    json_t *params = memory_json(json_pack("{s:s, s:s*, s:s*, s:s}", "cache",
                                           json_truth(cache, "direct", false) ? "none"
                                           : through                          ? "writethrough"
                                                                              : "default",
                                           "aio", aio, "discard", json_text(words, "discard"),
                                           "format", json_text(inserted, "drv")));

    if (json_string_length(serial) > 0)
        json_object_set(params, "serial", serial);
    for (size_t i = 0; i < COUNT(limits); i++)
        if (json_number(inserted, limits[i], 0) > 0)
            json_object_set_new(params, limits[i],
                                json_integer(json_number(inserted, limits[i], 0)));
    if (words == NULL)
        messages_add(look->notes,
                     "disk %s was plugged in: its aio and discard are taken from the hvparams", id);
    return params;
}

static void add_disk(struct adopt_look *look, const json_t *block, const char *id,
                     const char *driver, const json_t *buses, const char *path)
{
    const json_t *inserted = json_member(block, "inserted");
    bool scsi = strncmp(driver, "scsi-", 5) == 0;
    char uuid[37];
    json_t *place = scsi ? place_on_scsi(look, driver, id) : adopt_place(buses, driver, id);

    if (place == NULL || !adopt_uuid(id, uuid) || json_text(inserted, "drv") == NULL) {
        messages_add(look->problems, "disk %s (%s, %s): is none that this suite attaches", id,
                     driver, path);
        json_decref(place);
        return;
    }
    json_t *params = settings_of(look, id, inserted);
    json_object_set_new(params, "bus", json_string(scsi ? "scsi" : "virtio"));
    json_array_append_new(
        look->disks, memory_json(json_pack("{s:s, s:s, s:s, s:o, s:o}", "uuid", uuid, "path", path,
                                           "mode", json_truth(inserted, "ro", false) ? "ro" : "rw",
                                           "hvinfo", place, "params", params)));
}

static void look_at_block(struct adopt_look *look, const json_t *block, const json_t *devices,
                          const json_t *buses, const json_t *sets)
{
    const json_t *inserted = json_member(block, "inserted");
    AUTO_FREE char *id = device_of(block);
    AUTO_FREE char *driver = id != NULL ? driver_of(devices, id) : NULL;
    char path[ADOPT_PATH_SIZE] = "";
    const char *why;

    if (inserted == NULL || (id != NULL && strcmp(id, "floppy") == 0))
        return;
    if (id == NULL || driver == NULL) {
        const char *node = json_text(inserted, "node-name");
        /* UEFI firmware: which it is the definition says, and the command line is compared. */
        if (node != NULL && (strcmp(node, "pflash0") == 0 || strcmp(node, "pflash1") == 0))
            return;
        messages_add(look->problems, "block node %s: belongs to no device that has a name",
                     node != NULL ? node : "?");
    } else if (!adopt_image(look, sets, json_text(inserted, "file"), path, &why)) {
        messages_add(look->problems, "disk %s: %s", id, why);
    } else if (strcmp(id, "cdrom") == 0) {
        snprintf(look->cdrom, sizeof(look->cdrom), "%s", path);
    } else {
        add_disk(look, block, id, driver, buses, path);
    }
}

int adopt_look(struct adopt_look *look, struct error *error)
{
    size_t i;
    json_t *block;

    look->disks = memory_json(json_array());
    look->nics = memory_json(json_array());
    look->taps = memory_json(json_object());
    AUTO_JSON json_t *blocks = ask(look, "query-block", NULL, error);
    AUTO_JSON json_t *sets = blocks == NULL ? NULL : ask(look, "query-fdsets", NULL, error);
    AUTO_JSON json_t *buses = sets == NULL ? NULL : ask(look, "query-pci", NULL, error);
    json_t *path = memory_json(json_pack("{s:s}", "path", "/machine/peripheral"));
    AUTO_JSON json_t *devices = buses == NULL ? NULL : ask(look, "qom-list", path, error);
    if (buses == NULL)
        json_decref(path);
    if (devices == NULL)
        return -1;
    json_array_foreach (blocks, i, block)
        look_at_block(look, block, devices, buses, sets);
    look->sound_slot = controller_slot(buses, "sound");
    look->scsi_slot = controller_slot(buses, "scsi");
    look->balloon_slot = controller_slot(buses, "balloon");
    look->serial_slot = controller_slot(buses, "spice");
    adopt_look_at_nics(look, devices, buses);
    adopt_look_at_settings(look);
    return 0;
}

/* A balloon that has been blown up, and links that were taken down, come back at the next start. */
void adopt_look_at_settings(struct adopt_look *look)
{
    AUTO_JSON json_t *balloon = ask(look, "query-balloon", NULL, NULL);

    look->memory_mib = json_number(balloon, "actual", 0) / MIB;
    look->links = adopt_read_links(look);
}

void adopt_keep_settings(const struct adopt_look *look, struct instance *instance)
{
    if (look->memory_mib > 0 && look->memory_mib < instance->maxmem_mib)
        instance->memory_mib = look->memory_mib;
    for (size_t i = 0; i < instance->nic_count; i++) {
        const char *link = json_text(look->links, json_text(instance->nics[i].hvinfo, "id"));
        instance->nics[i].link_down = link != NULL && strcmp(link, "link-down") == 0;
    }
}

void adopt_look_release(struct adopt_look *look)
{
    json_release(&look->disks);
    json_release(&look->nics);
    json_release(&look->taps);
    json_release(&look->links);
}
