/* SPDX-License-Identifier: BSD-2-Clause */
/* A NIC of an instance, set up by the module; a shell that tells what came of it. */
#ifndef KVM_TESTS_NIC_H
#define KVM_TESTS_NIC_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "kvm/host/network.h"

enum { LONG_MS = 20000 };

static const char uuid[] = "7c079136-2573-4112-82d0-0d3d2aa90d8f";

/* Output of a shell command; the caller frees; never NULL. */
static inline char *shell(const char *command)
{
    const char *argv[] = {"/bin/sh", "-c", command, NULL};
    const char *environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", NULL};
    struct process_spec spec = {.argv = argv,
                                .environment = environment,
                                .input = -1,
                                .output = -1,
                                .errors = -1,
                                .pid_lock = -1};
    char *output = NULL;
    int status = process_run(&spec, clock_deadline(LONG_MS), &output, NULL);
    if (status != 0)
        printf("# %s: %d, %s\n", command, status, output != NULL ? output : "");
    if (status == 0 && output != NULL)
        return output;
    free(output);
    return memory_copy("(it failed)");
}

static inline bool says(const char *command, const char *part)
{
    AUTO_FREE char *output = shell(command);
    bool good = strstr(output, part) != NULL;
    if (!good)
        printf("# %s: \"%s\" without \"%s\"\n", command, output, part);
    return good;
}

static inline bool is_silent(const char *command)
{
    AUTO_FREE char *output = shell(command);
    if (*output != '\0')
        printf("# %s: \"%s\"\n", command, output);
    return *output == '\0';
}

static inline bool write_script(const char *path, const char *text, mode_t mode)
{
    AUTO_CLOSE int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    return file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text) &&
           fchmod(file, mode) == 0;
}

static inline struct nic make_nic(enum nic_mode mode, const char *mode_name, const char *link)
{
    return (struct nic){.uuid = uuid,
                        .mac = "aa:00:00:12:34:56",
                        .mode = mode,
                        .mode_name = mode_name,
                        .link = link,
                        .vlan = ""};
}

static inline int up(struct nic *nic, const char *tap, const char *conf_dir, struct error *error)
{
    char name[] = "web1";
    struct instance instance = {.name = name, .nics = nic, .nic_count = 1};
    return network_ifup(&instance, &instance.nics[0], 0, tap, conf_dir, clock_deadline(LONG_MS),
                        error);
}

static inline int down(const struct nic *nic, const char *tap, const char *conf_dir,
                       struct error *error)
{
    char name[] = "web1";
    AUTO_JSON json_t *tags = json_pack("[s, s]", "one", "two");
    struct instance instance = {.name = name, .tags = tags};
    return network_ifdown(&instance, nic, 0, tap, true, conf_dir, clock_deadline(LONG_MS), error);
}

/* Whether the checks find exactly one problem with this in it; "" for none at all. */
static inline bool finds(const struct nic *nic, const char *conf_dir, const char *part)
{
    struct messages problems = {0};
    network_check(nic, conf_dir, "web1: nics[0]", &problems);
    bool good = *part == '\0' ? problems.count == 0
                              : problems.count == 1 && strstr(problems.items[0], part) != NULL;
    for (size_t i = 0; i < problems.count && !good; i++)
        printf("# %s\n", problems.items[i]);
    messages_release(&problems);
    return good;
}

#endif
