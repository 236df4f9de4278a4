/* SPDX-License-Identifier: BSD-2-Clause */
#include "network_private.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include "kvm/base/file.h"
#include "kvm/base/memory.h"

enum { RULES_MAX = 32 };

static bool is_version_6(const char *ip)
{
    return strchr(ip, ':') != NULL;
}

static bool is_address(const char *ip)
{
    unsigned char address[sizeof(struct in6_addr)];
    return inet_pton(is_version_6(ip) ? AF_INET6 : AF_INET, ip, address) == 1;
}

/* `name` stands in a directory of its own for each interface, made by the kernel. */
static int set_sysctl(bool version_6, const char *tap, const char *name, struct error *error)
{
    char path[128];
    snprintf(path, sizeof path, "/proc/sys/net/ipv%d/conf/%s/%s", version_6 ? 6 : 4, tap, name);
    AUTO_CLOSE int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0 || file_write_all(file, "1\n", 2) != 0)
        return error_errno(error, STATUS_FAILED, "set %s", path);
    return 0;
}

/* A rule outlives its interface and may be there several times: all of them go. */
static int remove_rules(const struct nic *nic, const char *version, const char *tap,
                        deadline_t deadline, struct error *error)
{
    for (int left = 0; nic->link[0] != '\0' && left < RULES_MAX; left++) {
        const char *words[] = {"ip", version, "rule", "del", "iif", tap, "lookup", nic->link, NULL};
        int status = program_run(words, deadline, NULL, error);
        if (status != 0)
            return status < 0 ? -1 : 0;
    }
    return 0;
}

int routed_up(const struct nic *nic, const char *tap, deadline_t deadline, struct error *error)
{
    struct link_state state;
    if (nic->ip == NULL || !is_address(nic->ip))
        return error_set(error, STATUS_USAGE, "mode routed needs an ip, not \"%s\"",
                         nic->ip != NULL ? nic->ip : "");
    bool six = is_version_6(nic->ip);
    const char *version = six ? "-6" : "-4";
    AUTO_FREE char *route = memory_format("%s/%d", nic->ip, six ? 128 : 32);
    if (side_query(tap, &state, error) != 0 || side_bring_up(nic, tap, &state, NULL, error) != 0 ||
        remove_rules(nic, version, tap, deadline, error) != 0)
        return -1;
    bool table = nic->link[0] != '\0';
    const char *rule[] = {"ip", version, "rule", "add", "iif", tap, "lookup", nic->link, NULL};
    const char *replace[] = {"ip",      version,  "route", "replace", route,
                             "proto",   "static", "dev",   tap,       table ? "table" : NULL,
                             nic->link, NULL};
    if ((table && program_must(rule, deadline, error) != 0) ||
        program_must(replace, deadline, error) != 0)
        return -1;
    if (set_sysctl(six, tap, six ? "proxy_ndp" : "proxy_arp", error) != 0)
        return -1;
    return set_sysctl(six, tap, "forwarding", error);
}

/* The routes go with the interface being set down. */
int routed_down(const struct nic *nic, const char *tap, deadline_t deadline, struct error *error)
{
    const char *version = nic->ip != NULL && is_version_6(nic->ip) ? "-6" : "-4";
    if (remove_rules(nic, version, tap, deadline, error) != 0)
        return -1;
    return side_take_down(tap, error);
}

void routed_check(const struct nic *nic, const char *where, struct messages *problems)
{
    char path[PROGRAM_PATH_SIZE];
    if (nic->ip == NULL || !is_address(nic->ip))
        messages_add(problems, "%s: mode routed needs an ip (current value: %s)", where,
                     nic->ip != NULL ? nic->ip : "none");
    if (!program_find("ip", path))
        messages_add(problems, "%s: mode routed needs the program ip, which is not installed",
                     where);
}
