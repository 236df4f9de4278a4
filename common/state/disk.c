/* SPDX-License-Identifier: BSD-2-Clause */
#include "disk_private.h"

#include <inttypes.h>
#include <string.h>
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/transaction.h"
#include "kvm/state/hvparams.h"

static const char *const known_keys[] = {
    "path",          "uri",         "name",    "dev_type",       "logical_id",
    "children",      "nodes",       "iv_name", "size",           "mode",
    "params",        "spindles",    "hvinfo",  "serial_no",      "uuid",
    "ctime",         "mtime",       "cache",   "dynamic_params", "aio",
    "discard",       "forthcoming", "format",  "serial",         "bus",
    "detect_zeroes", "iothread",    "queues",  "access",         "cyls",
    "heads",         "secs",        NULL};
static const char *const ignored_keys[] = {"pci", "physical_id", NULL};
static const char *const short_keys[] = {"cache", "aio",           "discard",  "format", "serial",
                                         "bus",   "detect_zeroes", "iothread", "queues", "access",
                                         "cyls",  "heads",         "secs",     NULL};

/* lvm and drbd8 are what Ganeti up to 2.11 wrote for plain and drbd. */
static const char *const types[] = {"file", "blockdev", "plain", "drbd",  "sharedfile", "rbd",
                                    "ext",  "gluster",  "lvm",   "drbd8", NULL};
static const char *const drivers[] = {"virtio-blk-pci",
                                      "scsi-hd",
                                      "ide-hd",
                                      "scsi-block",
                                      "scsi-cd",
                                      "scsi-generic",
                                      "sd-card",
                                      "ide",
                                      "scsi",
                                      "sd",
                                      "mtd",
                                      "pflash",
                                      NULL};

static void check_serial(const struct check *check, const json_t *params)
{
    const char *serial = check_text(check, params, "serial");

    if (serial != NULL && !check_is_word(serial, "_.:+-", 20))
        check_fail(check, "serial", json_member(params, "serial"),
                   "must be 1 to 20 letters, digits and _ . : + -");
}

/* The short keys stand in params by the time that they are checked. They are told by the place where they were given. */
struct given {
    const json_t *object; /* as it was given; NULL: with the keys in params */
    struct check above, params;
};

static const struct check *place_of(const struct given *given, const char *key)
{
    return json_member(given->object, key) != NULL ? &given->above : &given->params;
}

/* What Ganeti keeps in params beside ours depends on the storage: plain values of any name. */
static void check_params(const json_t *params, const struct given *given)
{
    static const char *const caches[] = {"default", "none", "writeback", "writethrough", NULL};
    static const char *const aios[] = {"threads", "native", "io_uring", NULL};
    static const char *const discards[] = {"ignore", "unmap", "default", NULL};
    static const char *const formats[] = {"raw", "qcow2", NULL};
    static const char *const detections[] = {"off", "on", "unmap", NULL};
    static const char *const buses[] = {
        "virtio",     "scsi",         "ide", "sata",   "paravirtual", "scsi-hd", "scsi-cd",
        "scsi-block", "scsi-generic", "sd",  "pflash", "mtd",         NULL};
    static const char *const accesses[] = {"kernelspace", "userspace", NULL};
    int64_t number;

    check_choice(place_of(given, "cache"), params, "cache", caches);
    check_choice(place_of(given, "aio"), params, "aio", aios);
    check_choice(place_of(given, "discard"), params, "discard", discards);
    check_choice(place_of(given, "format"), params, "format", formats);
    check_choice(place_of(given, "bus"), params, "bus", buses);
    check_choice(place_of(given, "detect_zeroes"), params, "detect_zeroes", detections);
    check_number(place_of(given, "iothread"), params, "iothread", 0, 63, &number);
    check_number(place_of(given, "queues"), params, "queues", 1, 256, &number);
    check_number(place_of(given, "cyls"), params, "cyls", 1, 65535, &number);
    check_number(place_of(given, "heads"), params, "heads", 1, 255, &number);
    check_number(place_of(given, "secs"), params, "secs", 1, 255, &number);
    check_serial(place_of(given, "serial"), params);
    check_choice(place_of(given, "access"), params, "access", accesses);

    const char *aio = json_text(params, "aio"), *cache = json_text(params, "cache");

    if (aio != NULL && cache != NULL && strcmp(aio, "native") == 0 && strcmp(cache, "none") != 0)
        check_fail(place_of(given, "aio"), "aio", json_member(params, "aio"), "needs cache none");
}

static void check_logical_id(const struct check *check, json_t *object)
{
    json_t *list = check_array(check, object, "logical_id"), *item;
    const char *type = json_text(object, "dev_type");
    size_t index;

    json_array_foreach (list, index, item) {
        if (json_is_object(item) || json_is_array(item))
            check_fail(check, "logical_id", NULL, "must be a list of strings and numbers");
    }
    /* The sixth is DRBD's shared secret: it has no use here, and files are read by others. */
    if (type != NULL && strncmp(type, "drbd", 4) == 0 && json_array_size(list) > 5)
        json_array_set_new(list, 5, json_null());
}

static void check_moments(const struct check *check, const json_t *object)
{
    static const char *const moments[] = {"ctime", "mtime"};

    for (size_t i = 0; i < COUNT(moments); i++) {
        const json_t *value = json_member(object, moments[i]);

        if (value != NULL && !json_is_number(value))
            check_fail(check, moments[i], value, "must be a number");
    }
    const json_t *forthcoming = json_member(object, "forthcoming");

    if (forthcoming != NULL && !json_is_boolean(forthcoming))
        check_fail(check, "forthcoming", forthcoming, "must be true or false");
}

static void check_fields(const struct check *check, const json_t *given, json_t *object,
                         bool loaded)
{
    static const char *const told[] = {"name", "iv_name", "mode", "dev_type", "uuid", NULL};
    static const char *const modes[] = {"rw", "ro", NULL};
    AUTO_FREE char *hvinfo_place = memory_format("%shvinfo", check->prefix);
    AUTO_FREE char *params_place = memory_format("%sparams.", check->prefix);
    const struct given keys = {given, *check, {params_place, check->problems}};
    int64_t number;

    check_members(check, object, told);
    check_text(check, object, "name");
    check_text(check, object, "iv_name");
    check_choice(check, object, "mode", modes);
    if (!loaded)
        check_choice(check, object, "dev_type", types);
    const char *type = check_text(check, object, "dev_type");

    if (loaded && type != NULL && !check_is_word(type, "_-", 32))
        check_fail(check, "dev_type", json_member(object, "dev_type"), "must be a word");
    check_number(check, object, "size", 0, INT64_MAX >> 20, &number);
    check_number(check, object, "spindles", 0, INT64_MAX, &number);
    check_number(check, object, "serial_no", 0, INT64_MAX, &number);
    check_array(check, object, "children");
    check_array(check, object, "nodes");
    check_object(check, object, "dynamic_params");
    check_params(check_object(check, object, "params"), &keys);
    hvinfo_check(check_object(check, object, "hvinfo"), hvinfo_place, drivers, loaded,
                 check->problems);
    check_logical_id(check, object);
    check_moments(check, object);
}

void disk_refresh(struct disk *disk)
{
    const char *mode = json_text(disk->object, "mode");
    const char *type = json_text(disk->object, "dev_type");

    disk->uuid = json_text(disk->object, "uuid");
    disk->name = json_text(disk->object, "name");
    disk->read_only = mode != NULL && strcmp(mode, "ro") == 0;
    disk->size_mib = json_number(disk->object, "size", 0);
    disk->dev_type = type == NULL ? "" : type;
    disk->params = json_member(disk->object, "params");
    disk->hvinfo = json_member(disk->object, "hvinfo");
}

void disk_release(struct disk *disk)
{
    if (disk == NULL)
        return;
    json_decref(disk->object);
    free(disk->path);
    free(disk->uri);
    *disk = (struct disk){0};
}

static void move_short_keys(const struct check *check, json_t *object)
{
    for (size_t i = 0; short_keys[i] != NULL; i++) {
        json_t *value = json_member(object, short_keys[i]);
        json_t *params = json_member(object, "params");

        if (value == NULL || (params != NULL && !json_is_object(params)))
            continue;
        if (json_member(params, short_keys[i]) != NULL)
            check_fail(check, short_keys[i], value, "is given in params as well");
        if (params == NULL)
            check_set(object, "params", params = json_object());
        check_set(params, short_keys[i], json_incref(value));
        json_object_del(object, short_keys[i]);
    }
}

/* Storage that another node may open at the same time (during a migration): the node's page cache would
 * hide one side's writes from the other. */
static bool is_mirrored(const char *type)
{
    static const char *const mirrored[] = {"drbd",       "drbd8",   "blockdev", "ext",
                                           "sharedfile", "gluster", NULL};

    return check_is_one_of(type, mirrored);
}

static void check_cache(const struct check *check, const json_t *given, const struct disk *disk)
{
    const char *cache = json_text(disk->params, "cache");

    if (cache != NULL && is_mirrored(disk->dev_type) && strcmp(cache, "none") != 0 &&
        strcmp(cache, "default") != 0)
        check_fail(check, json_member(given, "cache") != NULL ? "cache" : "params.cache",
                   json_member(disk->params, "cache"),
                   "must be none for dev_type %s, which another node may open; local volumes are "
                   "dev_type plain",
                   disk->dev_type);
}

int disk_parse(const json_t *given, const char *where, struct disk *disk, struct messages *problems)
{
    AUTO_FREE char *prefix = memory_format("%s.", where);
    struct check check = {prefix, problems};
    size_t before = problems->count;

    *disk = (struct disk){0};
    if (!json_is_object(given)) {
        messages_add(problems, "%s: must be an object", where);
        return -1;
    }
    check_keys(&check, given, known_keys, ignored_keys);
    disk->object = check_copy(given);
    json_object_del(disk->object, "path");
    json_object_del(disk->object, "uri");
    for (size_t i = 0; ignored_keys[i] != NULL; i++)
        json_object_del(disk->object, ignored_keys[i]);
    move_short_keys(&check, disk->object);
    check_fields(&check, given, disk->object, false);
    check_settle_uuid(&check, disk->object);
    disk_settle_path(&check, given, disk);
    if (problems->count == before) {
        disk_settle_defaults(disk);
        disk_refresh(disk);
        check_cache(&check, given, disk);
    }
    if (problems->count == before)
        return 0;
    disk_release(disk);
    return -1;
}

int disk_load(const json_t *given, const char *path, const char *uri, const char *where,
              struct disk *disk, struct messages *notes, struct messages *problems)
{
    AUTO_FREE char *prefix = memory_format("%s.", where);
    struct check check = {prefix, problems};
    size_t before = problems->count;

    *disk = (struct disk){0};
    if (!json_is_object(given)) {
        messages_add(problems, "%s: must be an object", where);
        return -1;
    }
    disk->object = check_copy(given);
    check_fields(&check, NULL, disk->object, true);
    if (check_settle_uuid(&check, disk->object))
        messages_add(notes, "%suuid: was missing, generated", prefix);
    if (problems->count > before) {
        disk_release(disk);
        return -1;
    }
    disk->path = memory_copy(path);
    disk->uri = memory_copy(uri);
    disk_refresh(disk);
    return 0;
}

void disk_settings(const struct disk *disk, const struct instance *instance,
                   struct disk_settings *settings)
{
    const char *cache = json_text(disk->params, "cache");
    const char *aio = json_text(disk->params, "aio");
    const char *discard = json_text(disk->params, "discard");
    const char *format = json_text(disk->params, "format");
    const char *detect = json_text(disk->params, "detect_zeroes");

    settings->cache = cache != NULL ? cache : hvparams_text(instance->hvparams, "disk_cache");
    settings->aio = aio != NULL ? aio : hvparams_text(instance->hvparams, "disk_aio");
    settings->discard =
        discard != NULL ? discard : hvparams_text(instance->hvparams, "disk_discard");
    settings->format = format != NULL ? format : "raw";
    settings->serial = json_text(disk->params, "serial");
    settings->detect_zeroes = detect != NULL ? detect : "off";
    /* QEMU refuses native aio on a cached image. */
    if (is_mirrored(disk->dev_type) || strcmp(settings->aio, "native") == 0)
        settings->cache = "none";
    if (strcmp(settings->discard, "unmap") != 0)
        settings->discard = "ignore";
    settings->direct = strcmp(settings->cache, "none") == 0;
    settings->no_flush = false;
    settings->write_cache = strcmp(settings->cache, "writethrough") != 0;
}
