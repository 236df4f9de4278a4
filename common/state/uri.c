/* SPDX-License-Identifier: BSD-2-Clause */
#include "uri_private.h"

#include <inttypes.h>
#include <string.h>
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/base/transaction.h"
#include "kvm/state/check.h"

enum {
    GLUSTER_PORT = 24007,
    ISCSI_PORT = 3260,
    NBD_PORT = 10809,
    LUN_MAX = 16383,
    NAME_MAX_BYTES = 255
};

static json_t *refuse(json_t *half_made)
{
    json_decref(half_made);
    return NULL;
}

static void put(json_t *node, const char *key, const char *text)
{
    check_set(node, key, json_string(text));
}

static json_t *begin(const char *driver)
{
    return memory_json(json_pack("{s:s}", "driver", driver));
}

/* ---- gluster ---- */

static json_t *gluster(const char *rest, bool by_socket, struct error *error)
{
    AUTO_URI struct uri uri = {0};

    if (uri_split(rest, GLUSTER_PORT, by_socket, &uri, error) < 0)
        return NULL;
    size_t volume = strcspn(uri.path, "/");
    const char *path = uri.path + volume + (uri.path[volume] == '/' ? 1 : 0);

    if (volume == 0 || path[0] == '\0' || path[0] == '/') {
        error_set(error, STATUS_USAGE, "must be like gluster://HOST/VOLUME/PATH");
        return NULL;
    }
    json_t *node = begin("gluster");
    AUTO_FREE char *name = memory_format("%.*s", (int)volume, uri.path);
    put(node, "volume", name);
    put(node, "path", path);
    json_t *server = by_socket
                         ? uri_socket(uri.socket)
                         : uri_address(uri.host[0] != '\0' ? uri.host : "localhost", uri.port);
    check_set(node, "server", json_pack("[o]", server));
    return node;
}

static json_t *gluster_tcp(const char *rest, struct error *error)
{
    return gluster(rest, false, error);
}

static json_t *gluster_unix(const char *rest, struct error *error)
{
    return gluster(rest, true, error);
}

/* ---- iscsi ---- */

static json_t *scsi_over(const char *transport, const char *rest, struct error *error)
{
    AUTO_URI struct uri uri = {0};
    int64_t lun;

    if (uri_split(rest, ISCSI_PORT, false, &uri, error) < 0)
        return NULL;
    char *slash = strrchr(uri.path, '/');

    if (uri.host[0] == '\0' || slash == NULL || slash == uri.path ||
        !text_number(slash + 1, 0, LUN_MAX, &lun)) {
        error_set(error, STATUS_USAGE,
                  "must be like iscsi://HOST/TARGET/LUN, with a number as LUN");
        return NULL;
    }
    *slash = '\0';
    json_t *node = begin("iscsi");
    AUTO_FREE char *portal = memory_format("%s:%" PRId64, uri.host, uri.port);
    put(node, "transport", transport);
    put(node, "portal", portal);
    put(node, "target", uri.path);
    check_set(node, "lun", json_integer(lun));
    return node;
}

static json_t *iscsi(const char *rest, struct error *error)
{
    return scsi_over("tcp", rest, error);
}

static json_t *iser(const char *rest, struct error *error)
{
    return scsi_over("iser", rest, error);
}

/* ---- nbd ---- */

static json_t *nbd_node(json_t *server, const char *export)
{
    json_t *node = begin("nbd");

    check_set(node, "server", server);
    if (export[0] != '\0')
        put(node, "export", export);
    return node;
}

static json_t *nbd_tcp(const char *rest, struct error *error)
{
    AUTO_URI struct uri uri = {0};

    if (uri_split(rest, NBD_PORT, false, &uri, error) < 0)
        return NULL;
    if (uri.host[0] == '\0') {
        error_set(error, STATUS_USAGE, "must be like nbd://HOST/EXPORT");
        return NULL;
    }
    return nbd_node(uri_address(uri.host, uri.port), uri.path);
}

static json_t *nbd_unix(const char *rest, struct error *error)
{
    AUTO_URI struct uri uri = {0};

    if (uri_split(rest, NBD_PORT, true, &uri, error) < 0)
        return NULL;
    return nbd_node(uri_socket(uri.socket), uri.path);
}

/* nbd:HOST:PORT and nbd:unix:FILE, QEMU's older form; the export's name ends it, whatever it holds. */
static json_t *nbd_plain(const char *rest, struct error *error)
{
    static const char marker[] = ":exportname=";
    const char *end = strstr(rest, marker);
    const char *export = end != NULL ? end + strlen(marker) : "";
    AUTO_FREE char *where =
        memory_format("%.*s", (int)(end != NULL ? (size_t)(end - rest) : strlen(rest)), rest);
    char *colon = strrchr(where, ':');
    int64_t port;

    if (strncmp(where, "unix:", 5) == 0) {
        if (check_is_path(where + 5))
            return nbd_node(uri_socket(where + 5), export);
        error_set(error, STATUS_USAGE, "unix: must be followed by an absolute path");
        return NULL;
    }
    if (colon != NULL)
        *colon = '\0';
    if (colon == NULL || !uri_is_host(where) || !text_number(colon + 1, 1, 65535, &port)) {
        error_set(error, STATUS_USAGE, "must be like nbd:HOST:PORT or nbd:unix:FILE");
        return NULL;
    }
    return nbd_node(uri_address(where, port), export);
}

/* ---- rbd ---- */

/* Up to a separator of `ends` that has no backslash before it; what was escaped is put in plainly. *text moves
 * on to the separator, or to the end. */
static char *rbd_word(const char **text, const char *ends)
{
    char *word = memory_zeroed(strlen(*text) + 1, 1);
    size_t filled = 0;

    for (; **text != '\0' && strchr(ends, **text) == NULL; (*text)++) {
        if (**text == '\\' && (*text)[1] != '\0')
            (*text)++;
        word[filled++] = **text;
    }
    return word;
}

static bool is_rbd_name(const char *name)
{
    return name[0] != '\0' && strlen(name) <= NAME_MAX_BYTES;
}

/* "HOST[:PORT][;HOST…]", after the backslashes have gone. */
static int rbd_servers(json_t *node, const char *hosts, struct error *error)
{
    AUTO_FREE char *copy = memory_copy(hosts);
    json_t *list = memory_json(json_array());
    char *rest = copy;

    check_set(node, "server", list);
    for (char *one = strsep(&rest, ";,"); one != NULL; one = strsep(&rest, ";,")) {
        AUTO_URI struct uri uri = {0};

        if (uri_split(one, 6789, false, &uri, error) < 0)
            return error_prefix(error, "mon_host");
        if (uri.host[0] == '\0' || uri.path[0] != '\0')
            return error_set(error, STATUS_USAGE, "mon_host: must be HOST or HOST\\:PORT");
        json_t *address = uri_address(uri.host, uri.port);
        json_object_del(address, "type");
        json_array_append_new(list, address);
    }
    return 0;
}

static int rbd_option(json_t *node, const char *key, const char *value, struct error *error)
{
    if (strcmp(key, "id") == 0 && is_rbd_name(value)) {
        put(node, "user", value);
        return 0;
    }
    if (strcmp(key, "conf") == 0 && check_is_path(value)) {
        put(node, "conf", value);
        return 0;
    }
    if (strcmp(key, "mon_host") == 0)
        return rbd_servers(node, value, error);
    if (strcmp(key, "id") == 0 || strcmp(key, "conf") == 0)
        return error_set(error, STATUS_USAGE, "%s: must be %s", key,
                         key[0] == 'i' ? "a user name" : "an absolute path");
    if (strcmp(key, "key") == 0 || strcmp(key, "keyring") == 0 || strcmp(key, "keyfile") == 0)
        return error_set(
            error, STATUS_USAGE,
            "%s: keys do not stand in a URI; the file that conf= names says where they are", key);
    AUTO_FREE char *shown = text_escape(key, strlen(key));
    return error_set(error, STATUS_USAGE, "%s: unknown option; id, conf and mon_host are known",
                     shown);
}

static int rbd_options(json_t *node, const char *text, struct error *error)
{
    static const char *const members[][2] = {
        {"id", "user"}, {"conf", "conf"}, {"mon_host", "server"}};

    while (*text == ':') {
        text++;
        AUTO_FREE char *key = rbd_word(&text, "=:");
        AUTO_FREE char *value = NULL;

        if (*text != '=')
            return error_set(error, STATUS_USAGE, "options must be like :id=USER");
        text++;
        value = rbd_word(&text, ":");
        for (size_t i = 0; i < COUNT(members); i++)
            if (strcmp(members[i][0], key) == 0 && json_member(node, members[i][1]) != NULL)
                return error_set(error, STATUS_USAGE, "%s: given twice", key);
        if (rbd_option(node, key, value, error) < 0)
            return -1;
    }
    return 0;
}

static json_t *rbd(const char *rest, struct error *error)
{
    AUTO_FREE char *pool = rbd_word(&rest, "/@:");
    AUTO_FREE char *space = *rest == '/' ? (rest++, rbd_word(&rest, "/@:")) : memory_copy("");
    AUTO_FREE char *image = *rest == '/' ? (rest++, rbd_word(&rest, "/@:")) : NULL;
    AUTO_FREE char *snapshot = *rest == '@' ? (rest++, rbd_word(&rest, "/@:")) : NULL;

    if (!is_rbd_name(pool) || !is_rbd_name(space) || (image != NULL && !is_rbd_name(image)) ||
        (snapshot != NULL && !is_rbd_name(snapshot)) || (*rest != '\0' && *rest != ':')) {
        error_set(error, STATUS_USAGE, "must be like rbd:POOL/IMAGE");
        return NULL;
    }
    json_t *node = begin("rbd");
    put(node, "pool", pool);
    if (image != NULL)
        put(node, "namespace", space);
    put(node, "image", image != NULL ? image : space);
    if (snapshot != NULL)
        put(node, "snapshot", snapshot);
    return rbd_options(node, rest, error) < 0 ? refuse(node) : node;
}

/* ---- the web ---- */

/* The URL goes to the library behind the driver as it stands. */
static json_t *web(const char *scheme, const char *rest, struct error *error)
{
    size_t authority = strcspn(rest, "/?#");
    AUTO_URI struct uri uri = {0};
    AUTO_FREE char *host = memory_format("%.*s", (int)authority, rest);

    if (uri_split(host, 80, false, &uri, error) < 0)
        return NULL;
    if (uri.host[0] == '\0' || rest[authority] != '/' || rest[authority + 1] == '\0') {
        error_set(error, STATUS_USAGE, "must be like %s://HOST/PATH", scheme);
        return NULL;
    }
    for (const char *byte = rest; *byte != '\0'; byte++) {
        if (*byte > ' ' && *byte < 0x7f && strchr("\"<>\\^`{|}", *byte) == NULL)
            continue;
        error_set(error, STATUS_USAGE,
                  "blanks and other special characters must be written as %%XX");
        return NULL;
    }
    json_t *node = begin(scheme);
    AUTO_FREE char *url = memory_format("%s://%s", scheme, rest);
    put(node, "url", url);
    return node;
}

static json_t *http(const char *rest, struct error *error)
{
    return web("http", rest, error);
}

static json_t *https(const char *rest, struct error *error)
{
    return web("https", rest, error);
}

static const struct {
    const char *start;
    json_t *(*make)(const char *rest, struct error *error);
} schemes[] = {
    {"rbd:", rbd},
    {"gluster://", gluster_tcp},
    {"gluster+tcp://", gluster_tcp},
    {"gluster+unix://", gluster_unix},
    {"iscsi://", iscsi},
    {"iser://", iser},
    {"nbd://", nbd_tcp},
    {"nbd+tcp://", nbd_tcp},
    {"nbd+unix://", nbd_unix},
    {"nbd:", nbd_plain},
    {"http://", http},
    {"https://", https},
};

json_t *uri_node(const char *uri, struct error *error)
{
    if (!text_is_utf8(uri) || text_has_control(uri)) {
        error_set(error, STATUS_USAGE, "has a control character or what is no UTF-8");
        return NULL;
    }
    for (size_t i = 0; i < COUNT(schemes); i++)
        if (strncmp(uri, schemes[i].start, strlen(schemes[i].start)) == 0)
            return schemes[i].make(uri + strlen(schemes[i].start), error);
    error_set(error, STATUS_USAGE,
              "must begin with rbd:, gluster://, gluster+unix://, iscsi://, iser://, nbd:, nbd://, "
              "nbd+unix://, http:// or https://");
    return NULL;
}

bool uri_is_web(const char *text)
{
    return strncmp(text, "http://", 7) == 0 || strncmp(text, "https://", 8) == 0;
}

static bool has_driver(const json_t *node, const char *driver)
{
    const char *has = json_text(node, "driver");

    return has != NULL && strcmp(has, driver) == 0;
}

bool uri_is_read_only(const json_t *node)
{
    return json_member(node, "url") != NULL || json_member(node, "snapshot") != NULL;
}

const char *uri_storage(const json_t *node)
{
    if (has_driver(node, "rbd"))
        return "rbd";
    return has_driver(node, "gluster") ? "gluster" : "ext";
}
