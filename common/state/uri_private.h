/* SPDX-License-Identifier: BSD-2-Clause */
/* A URI on its way apart: uri.c does the schemes, uri_parts.c what they share. */
#ifndef KVM_STATE_URI_PRIVATE_H
#define KVM_STATE_URI_PRIVATE_H

#include <stdint.h>
#include "kvm/state/uri.h"

/* scheme://HOST:PORT/PATH?KEY=VALUE&…; all owned. */
struct uri {
    char *host; /* "" none; an IPv6 address with its brackets */
    int64_t port;
    char *path;   /* decoded, without the first slash */
    char *socket; /* ?socket=, decoded; NULL */
};

/* `rest` is what follows "scheme://". `keys`: is ?socket= fine. */
int uri_split(const char *rest, int64_t port, bool with_socket, struct uri *uri,
              struct error *error);
void uri_release(struct uri *uri);
#define AUTO_URI __attribute__((cleanup(uri_release)))

/* "a%20b" to "a b"; NULL: STATUS_USAGE when it is no such text, or hides a control character. */
char *uri_decode(const char *text, size_t length, struct error *error);

bool uri_is_host(const char *text); /* a name, an IPv4 address, or an IPv6 address in brackets */

/* {"type": "inet", "host", "port"} or {"type": "unix", "path"}; new object. Brackets go. */
json_t *uri_address(const char *host, int64_t port);
json_t *uri_socket(const char *path);

#endif
