/* SPDX-License-Identifier: BSD-2-Clause */
/* What VNC, SPICE and the rest of a guest's hardware need of the node: addresses, ports, passwords, certificates, and
 * a QEMU that has them. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launch_private.h"
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/base/transaction.h"
#include "kvm/state/hardware.h"
#include "kvm/state/hvparams.h"

enum { VNC_FIRST_PORT = 5900, VNC_PASSWORD_MAX = 8, SPICE_PASSWORD_MAX = 60 };

struct address {
    int family; /* AF_INET, AF_INET6; AF_UNSPEC: none */
    char text[INET6_ADDRSTRLEN];
};

static bool parse_address(const char *text, struct address *address)
{
    unsigned char bytes[sizeof(struct in6_addr)];

    address->family = inet_pton(AF_INET, text, bytes) == 1    ? AF_INET
                      : inet_pton(AF_INET6, text, bytes) == 1 ? AF_INET6
                                                              : AF_UNSPEC;
    return address->family != AF_UNSPEC &&
           inet_ntop(address->family, bytes, address->text, sizeof(address->text)) != NULL;
}

/* The first address of that family; of IPv6 none that only holds on its link. */
static bool interface_address(const char *name, int family, struct address *address)
{
    struct ifaddrs *list = NULL;
    bool found = false;

    if (getifaddrs(&list) < 0)
        return false;
    for (struct ifaddrs *one = list; one != NULL && !found; one = one->ifa_next) {
        if (one->ifa_addr == NULL || one->ifa_addr->sa_family != family ||
            strcmp(one->ifa_name, name) != 0)
            continue;
        const struct sockaddr_in *four = (const void *)one->ifa_addr;
        const struct sockaddr_in6 *six = (const void *)one->ifa_addr;
        const void *bytes = family == AF_INET ? (const void *)&four->sin_addr : &six->sin6_addr;
        if (family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&six->sin6_addr))
            continue;
        found = inet_ntop(family, bytes, address->text, sizeof(address->text)) != NULL;
    }
    freeifaddrs(list);
    address->family = found ? family : AF_UNSPEC;
    return found;
}

/* `version`: 4, 6, or 0 for IPv4 before IPv6. */
static bool resolve(const char *bind, int64_t version, struct address *address)
{
    if (parse_address(bind, address))
        return true;
    return (version != 6 && interface_address(bind, AF_INET, address)) ||
           (version != 4 && interface_address(bind, AF_INET6, address));
}

/* 0: QEMU can listen there; else the reason. */
static int try_port(const struct address *address, int64_t port)
{
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    const struct sockaddr *where =
        address->family == AF_INET ? (const void *)&four : (const void *)&six;
    socklen_t size = address->family == AF_INET ? sizeof(four) : sizeof(six);
    int on = 1;
    AUTO_CLOSE int tried = socket(address->family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    inet_pton(address->family, address->text,
              address->family == AF_INET ? (void *)&four.sin_addr : (void *)&six.sin6_addr);
    if (tried < 0 || setsockopt(tried, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
        return errno;
    if (address->family == AF_INET6 &&
        setsockopt(tried, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0)
        return errno;
    return bind(tried, where, size) < 0 ? errno : 0;
}

/* An instance that runs holds its port itself; in place, in the QEMU that is there still. */
static void check_port(const struct launch *launch, const struct address *address,
                       const char *param, const char *source, struct messages *problems)
{
    int64_t port = launch->instance->network_port;
    bool own = launch_is_running(launch) || launch->rundir->home != NULL;
    int reason = own ? 0 : try_port(address, port);

    if (reason == EADDRNOTAVAIL)
        messages_add(problems, "%s: hvparams.%s: %s is no address of this node", source, param,
                     address->text);
    else if (reason == EADDRINUSE)
        messages_add(problems,
                     "%s: network_port: somebody listens on it at %s; 'ss -ltnp sport = :%lld' "
                     "shows who (current value: %lld)",
                     source, address->text, (long long)port, (long long)port);
    else if (reason != 0)
        messages_add(problems, "%s: network_port: %s: %s (current value: %lld)", source,
                     address->text, strerror(reason), (long long)port);
}

/* The password is the file's first line; an empty one would mean none, so it is refused. The caller frees. */
static char *read_password(const struct launch *launch, const char *param, size_t most,
                           const char *source, struct messages *problems)
{
    const char *path = hvparams_text(launch->instance->hvparams, param);
    struct error reason = {0};
    char *text = NULL;

    if (path[0] == '\0')
        return NULL;
    if (file_read(AT_FDCWD, path, 4096, true, &text, NULL, &reason) < 0) {
        messages_add(problems, "%s: hvparams.%s: %s", source, param, reason.text);
        return NULL;
    }
    text[strcspn(text, "\r\n")] = '\0';
    if (text[0] == '\0')
        messages_add(problems,
                     "%s: hvparams.%s: the first line is empty, which would mean no password "
                     "(current value: \"%s\")",
                     source, param, path);
    else if (!text_is_utf8(text) || text_has_control(text))
        messages_add(problems,
                     "%s: hvparams.%s: the first line is not plain text (current value: \"%s\")",
                     source, param, path);
    else if (strlen(text) > most)
        messages_add(problems,
                     "%s: hvparams.%s: longer than %zu characters, which is all that the protocol "
                     "has room for (current value: \"%s\")",
                     source, param, most, path);
    return text;
}

static void check_vnc_directory(struct launch *launch, const char *bind, const char *source,
                                struct messages *problems)
{
    struct stat status;

    launch->vnc_address = memory_copy(bind);
    if (stat(bind, &status) < 0 || !S_ISDIR(status.st_mode))
        messages_add(problems,
                     "%s: hvparams.vnc_bind_address: no such directory (current value: "
                     "\"%s\")",
                     source, bind);
    else if (!launch_user_may(launch, bind, S_IWOTH | S_IXOTH))
        messages_add(problems,
                     "%s: hvparams.vnc_bind_address: the user of security_model can't make a "
                     "socket there (current value: \"%s\")",
                     source, bind);
}

static void check_vnc_address(struct launch *launch, const char *bind, const char *source,
                              struct messages *problems)
{
    bool has_port = launch->instance->network_port > VNC_FIRST_PORT;
    struct address address;

    if (!has_port)
        messages_add(problems,
                     "%s: network_port: VNC on an address needs a port above 5900 (current value: "
                     "%lld)",
                     source, (long long)launch->instance->network_port);
    if (!resolve(bind, 0, &address)) {
        messages_add(problems,
                     "%s: hvparams.vnc_bind_address: neither an address, nor an interface that "
                     "has one, nor a directory (current value: \"%s\")",
                     source, bind);
        return;
    }
    launch->vnc_address = memory_format(address.family == AF_INET6 ? "[%s]" : "%s", address.text);
    if (has_port)
        check_port(launch, &address, "vnc_bind_address", source, problems);
}

static void check_vnc_certificates(const struct launch *launch, const char *source,
                                   struct messages *problems)
{
    static const char *const files[] = {"ca-cert.pem", "server-cert.pem", "server-key.pem"};
    const json_t *hvparams = launch->instance->hvparams;
    const char *directory = hvparams_text(hvparams, "vnc_x509_path");

    if (!hvparams_truth(hvparams, "vnc_tls") || directory[0] == '\0')
        return;
    for (size_t i = 0; i < COUNT(files); i++) {
        AUTO_FREE char *path = memory_format("%s/%s", directory, files[i]);
        launch_check_readable(launch, path, source, "vnc_x509_path", problems);
    }
}

static void check_vnc(struct launch *launch, const char *source, struct messages *problems)
{
    const char *bind = hvparams_text(launch->instance->hvparams, "vnc_bind_address");

    if (bind[0] == '\0')
        return;
    if (bind[0] == '/')
        check_vnc_directory(launch, bind, source, problems);
    else
        check_vnc_address(launch, bind, source, problems);
    check_vnc_certificates(launch, source, problems);
    launch->vnc_password =
        read_password(launch, "vnc_password_file", VNC_PASSWORD_MAX, source, problems);
}

static void check_spice(struct launch *launch, const char *source, struct messages *problems)
{
    static const char *const files[] = {"spice-ca.pem", "spice.pem"};
    const json_t *hvparams = launch->instance->hvparams;
    const char *bind = hvparams_text(hvparams, "spice_bind");
    bool has_port = launch->instance->network_port > 0;
    struct address address;

    if (bind[0] == '\0')
        return;
    if (!has_port)
        messages_add(problems, "%s: network_port: SPICE needs one (current value: %lld)", source,
                     (long long)launch->instance->network_port);
    if (!resolve(bind, hvparams_number(hvparams, "spice_ip_version"), &address))
        messages_add(problems,
                     "%s: hvparams.spice_bind: neither an address, nor an interface that has one "
                     "of spice_ip_version (current value: \"%s\")",
                     source, bind);
    else {
        launch->spice_address = memory_copy(address.text);
        if (has_port)
            check_port(launch, &address, "spice_bind", source, problems);
    }
    for (size_t i = 0; hvparams_truth(hvparams, "spice_use_tls") && i < COUNT(files); i++) {
        AUTO_FREE char *path = memory_format("%s/%s", launch->node->path, files[i]);
        launch_check_readable(launch, path, source, "spice_use_tls", problems);
    }
    launch->spice_password =
        read_password(launch, "spice_password_file", SPICE_PASSWORD_MAX, source, problems);
}

/* Many builds of QEMU leave SPICE, sound cards and more out, or into packages of their own. */
static void check_types(struct launch *launch, bool use_cache, const char *source,
                        struct messages *problems)
{
    const char *binary = hvparams_text(launch->instance->hvparams, "kvm_path");
    AUTO_JSON json_t *types = hardware_types(launch->instance->hvparams);
    const char *type;
    json_t *param;

    json_object_foreach (types, type, param) {
        if (probe_has_type(launch->rundir, binary, use_cache, &launch->probe, type))
            continue;
        messages_add(problems,
                     "%s: hvparams.%s: %s has no %s; a package of QEMU modules may bring it "
                     "('%s -device help' lists what there is)",
                     source, json_string_value(param), binary, type, binary);
    }
}

void launch_check_display(struct launch *launch, bool use_cache, const char *source,
                          struct messages *problems)
{
    AUTO_FREE char *where = memory_format("%s: hvparams", source);

    hvparams_check_started(launch->instance->hvparams, where, problems);
    check_vnc(launch, source, problems);
    check_spice(launch, source, problems);
    if (launch->probe.machines != NULL)
        check_types(launch, use_cache, source, problems);
}
