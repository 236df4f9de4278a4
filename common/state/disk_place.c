/* SPDX-License-Identifier: BSD-2-Clause */
/* What is opened for a disk: a path of the node, or a URI that QEMU opens itself. */
#include "disk_private.h"

#include <inttypes.h>
#include <string.h>
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/state/uri.h"

static const char *logical_text(const json_t *object, size_t index)
{
    const char *text = json_string_value(json_array_get(json_member(object, "logical_id"), index));

    return text == NULL ? "" : text;
}

/* Where the storage alone tells what the node opens. */
static char *derived_path(const json_t *object)
{
    const char *type = json_text(object, "dev_type");
    char *path = NULL;

    if (type == NULL)
        return NULL;
    if (strcmp(type, "plain") == 0 || strcmp(type, "lvm") == 0)
        path = memory_format("/dev/%s/%s", logical_text(object, 0), logical_text(object, 1));
    else if (strcmp(type, "file") == 0 || strcmp(type, "sharedfile") == 0 ||
             strcmp(type, "blockdev") == 0)
        path = memory_copy(logical_text(object, 1));
    if (path == NULL || check_is_path(path))
        return path;
    free(path);
    return NULL;
}

/* Ganeti's parameters of an rbd pool or gluster volume make the URI that Ganeti would give. */
static char *derived_uri(const json_t *object)
{
    const char *type = json_text(object, "dev_type"), *name = logical_text(object, 1);
    const json_t *params = json_member(object, "params");
    const char *pool = json_text(params, "pool"), *volume = json_text(params, "volume");
    const char *user = json_text(params, "user-id"), *host = json_text(params, "host");

    if (type == NULL || name[0] == '\0')
        return NULL;
    if (strcmp(type, "rbd") == 0 && pool != NULL)
        return memory_format("rbd:%s/%s%s%s", pool, name, user != NULL ? ":id=" : "",
                             user != NULL ? user : "");
    if (strcmp(type, "gluster") == 0 && host != NULL && volume != NULL)
        return memory_format("gluster://%s:%" PRId64 "/%s/%s", host,
                             json_number(params, "port", 24007), volume, name);
    return NULL;
}

static void check_uri(const struct check *check, const struct disk *disk)
{
    AUTO_FREE char *shown = text_escape(disk->uri, strlen(disk->uri));
    AUTO_JSON json_t *value = memory_json(json_string(shown));
    const char *mode = json_text(disk->object, "mode");
    struct error reason = {0};
    AUTO_JSON json_t *node = uri_node(disk->uri, &reason);

    if (node == NULL)
        check_fail(check, "uri", value, "%s", reason.text);
    else if (uri_is_read_only(node) && (mode == NULL || strcmp(mode, "ro") != 0))
        check_fail(check, "uri", value, "can only be read, it needs mode \"ro\"");
}

static void settle_uri(const struct check *check, const json_t *given, struct disk *disk)
{
    const json_t *params = json_member(disk->object, "params");
    const char *access = json_text(params, "access");
    bool userspace = access != NULL && strcmp(access, "userspace") == 0;
    const char *uri = check_text(check, given, "uri");

    if (uri != NULL)
        disk->uri = memory_copy(uri);
    else if (userspace)
        disk->uri = derived_uri(disk->object);
    if (disk->uri != NULL)
        check_uri(check, disk);
    else if (userspace && json_member(given, "uri") == NULL)
        check_fail(check, "uri", NULL, "is missing, and params.access is \"userspace\"");
}

void disk_settle_path(const struct check *check, const json_t *given, struct disk *disk)
{
    settle_uri(check, given, disk);
    if (json_member(given, "path") != NULL)
        disk->path = memory_copy(check_path(check, given, "path"));
    else
        disk->path = derived_path(disk->object);
    if (json_member(given, "path") != NULL || disk->path != NULL)
        return;
    const char *access = json_text(json_member(disk->object, "params"), "access");

    if (disk->uri != NULL && access != NULL && strcmp(access, "kernelspace") == 0)
        check_fail(check, "path", NULL, "is missing, and params.access is \"kernelspace\"");
    else if (disk->uri == NULL && json_member(given, "uri") == NULL &&
             (access == NULL || strcmp(access, "userspace") != 0))
        check_fail(check, "path", NULL,
                   "is missing, and dev_type and logical_id do not tell what to open");
}

bool disk_is_userspace(const struct disk *disk)
{
    const char *access = json_text(disk->params, "access");

    return disk->uri != NULL &&
           (disk->path == NULL || (access != NULL && strcmp(access, "userspace") == 0));
}

static const char *default_type(const struct disk *disk)
{
    AUTO_JSON json_t *node = disk->path == NULL ? uri_node(disk->uri, NULL) : NULL;

    if (node != NULL)
        return uri_storage(node);
    return strncmp(disk->path, "/dev/", 5) == 0 ? "blockdev" : "file";
}

void disk_settle_defaults(struct disk *disk)
{
    json_t *object = disk->object;

    if (json_member(object, "mode") == NULL)
        check_set(object, "mode", json_string("rw"));
    if (json_member(object, "size") == NULL)
        check_set(object, "size", json_integer(0));
    if (json_member(object, "params") == NULL)
        check_set(object, "params", json_object());
    if (disk->path == NULL)
        check_set(json_member(object, "params"), "access", json_string("userspace"));
    if (json_member(object, "dev_type") == NULL)
        check_set(object, "dev_type", json_string(default_type(disk)));
    const char *type = json_text(object, "dev_type");

    if (json_member(object, "logical_id") != NULL || disk->path == NULL)
        return;
    if (strcmp(type, "file") == 0)
        check_set(object, "logical_id", json_pack("[ss]", "loop", disk->path));
    else if (strcmp(type, "blockdev") == 0)
        check_set(object, "logical_id", json_pack("[ss]", "manual", disk->path));
}
