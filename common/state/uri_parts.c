/* SPDX-License-Identifier: BSD-2-Clause */
#include "uri_private.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <inttypes.h>
#include <string.h>
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/state/check.h"

enum { HOST_MAX = 253 };

void uri_release(struct uri *uri)
{
    free(uri->host);
    free(uri->path);
    free(uri->socket);
    *uri = (struct uri){0};
}

static int hex_digit(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    return isxdigit((unsigned char)digit) ? tolower((unsigned char)digit) - 'a' + 10 : -1;
}

char *uri_decode(const char *text, size_t length, struct error *error)
{
    char *decoded = memory_zeroed(length + 1, 1);
    size_t filled = 0;

    for (size_t i = 0; i < length; i++) {
        bool escaped = text[i] == '%';
        int high = escaped && i + 2 < length ? hex_digit(text[i + 1]) : -1;
        int low = high >= 0 ? hex_digit(text[i + 2]) : -1;

        if (escaped && low < 0) {
            free(decoded);
            error_set(error, STATUS_USAGE, "a %% must begin two hexadecimal digits");
            return NULL;
        }
        decoded[filled++] = escaped ? (char)(high * 16 + low) : text[i];
        i += escaped ? 2 : 0;
    }
    if (strlen(decoded) == filled && text_is_utf8(decoded) && !text_has_control(decoded))
        return decoded;
    free(decoded);
    error_set(error, STATUS_USAGE, "hides a control character or what is no UTF-8");
    return NULL;
}

bool uri_is_host(const char *text)
{
    struct in6_addr address;
    size_t length = strlen(text);

    if (text[0] != '[')
        return check_is_word(text, ".-_", HOST_MAX);
    if (length < 3 || text[length - 1] != ']')
        return false;
    AUTO_FREE char *inner = memory_format("%.*s", (int)(length - 2), text + 1);
    return inet_pton(AF_INET6, inner, &address) == 1;
}

json_t *uri_address(const char *host, int64_t port)
{
    bool bare = host[0] != '[';
    AUTO_FREE char *name =
        bare ? memory_copy(host) : memory_format("%.*s", (int)(strlen(host) - 2), host + 1);
    AUTO_FREE char *number = memory_format("%" PRId64, port);

    return memory_json(json_pack("{s:s, s:s, s:s}", "type", "inet", "host", name, "port", number));
}

json_t *uri_socket(const char *path)
{
    return memory_json(json_pack("{s:s, s:s}", "type", "unix", "path", path));
}

/* HOST[:PORT] of `length` bytes. */
static int split_authority(const char *text, size_t length, struct uri *uri, struct error *error)
{
    AUTO_FREE char *all = memory_format("%.*s", (int)length, text);
    char *bracket = strchr(all, ']');
    char *colon = strrchr(bracket != NULL ? bracket : all, ':');

    if (strchr(all, '@') != NULL)
        return error_set(error, STATUS_USAGE,
                         "a user or password must not stand in it: everybody could read it");
    if (colon != NULL) {
        *colon = '\0';
        if (!text_number(colon + 1, 1, 65535, &uri->port))
            return error_set(error, STATUS_USAGE, "port %s: must be from 1 to 65535", colon + 1);
    }
    if (all[0] != '\0' && !uri_is_host(all))
        return error_set(error, STATUS_USAGE,
                         "host %s: must be a name, an IPv4 address or an IPv6 address in []", all);
    uri->host = memory_copy(all);
    return 0;
}

/* The only key of a query is "socket". */
static int split_query(const char *query, bool with_socket, struct uri *uri, struct error *error)
{
    static const char key[] = "socket=";

    if (!with_socket || strncmp(query, key, strlen(key)) != 0 || strchr(query, '&') != NULL)
        return error_set(error, STATUS_USAGE, "?%s: %s", query,
                         with_socket ? "only ?socket=FILE is known"
                                     : "nothing is known after a question mark");
    uri->socket = uri_decode(query + strlen(key), strlen(query + strlen(key)), error);
    if (uri->socket == NULL)
        return error_prefix(error, "socket");
    return check_is_path(uri->socket)
               ? 0
               : error_set(error, STATUS_USAGE, "socket: must be an absolute path");
}

int uri_split(const char *rest, int64_t port, bool with_socket, struct uri *uri,
              struct error *error)
{
    size_t authority = strcspn(rest, "/?#"), path = authority + strcspn(rest + authority, "?#");
    const char *begin = rest + authority + (rest[authority] == '/' ? 1 : 0);

    *uri = (struct uri){.port = port};
    if (strchr(rest, '#') != NULL)
        return error_set(error, STATUS_USAGE, "a # in it must be written as %%23");
    if (split_authority(rest, authority, uri, error) < 0)
        return -1;
    uri->path = uri_decode(begin, (size_t)(rest + path - begin), error);
    if (uri->path == NULL)
        return -1;
    if (rest[path] == '?' && split_query(rest + path + 1, with_socket, uri, error) < 0)
        return -1;
    if (with_socket && uri->socket == NULL)
        return error_set(error, STATUS_USAGE, "needs ?socket=FILE");
    return with_socket && uri->host[0] != '\0'
               ? error_set(error, STATUS_USAGE,
                           "a socket has no host: three slashes, then the path")
               : 0;
}
