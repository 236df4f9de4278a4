/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/host/network.h"

#include <string.h>
#include "kvm/base/memory.h"
#include "network_private.h"

static char *script(const char *conf_dir, const char *name)
{
    char *path = memory_format("%s/%s", conf_dir, name);
    if (hook_exists(path))
        return path;
    free(path);
    return NULL;
}

void network_check(const struct nic *nic, const char *conf_dir, const char *where,
                   struct messages *problems)
{
    struct error error = {0};
    AUTO_FREE char *ifup = script(conf_dir, "kvm-ifup-custom");
    AUTO_FREE char *ifdown = script(conf_dir, "kvm-ifdown-custom");
    if (ifup == NULL)
        modes_check(nic, where, problems);
    else if (hook_check(ifup, &error) != 0)
        messages_add(problems, "%s: %s", where, error.text);
    if (ifdown != NULL && hook_check(ifdown, &error) != 0)
        messages_add(problems, "%s: %s", where, error.text);
}

char *network_describe(const struct nic *nic, const char *conf_dir)
{
    AUTO_FREE char *path = script(conf_dir, "kvm-ifup-custom");
    return path != NULL ? memory_format("run %s", path) : modes_describe(nic);
}

char *network_describe_down(const struct nic *nic, const char *conf_dir)
{
    AUTO_FREE char *path = script(conf_dir, "kvm-ifdown-custom");
    return path != NULL ? memory_format("run %s", path) : modes_describe_down(nic);
}

int network_ifup(const struct instance *instance, const struct nic *nic, size_t index,
                 const char *tap, const char *conf_dir, deadline_t deadline, struct error *error)
{
    AUTO_FREE char *path = script(conf_dir, "kvm-ifup-custom");
    if (path == NULL) {
        if (modes_up(nic, tap, deadline, error) == 0)
            return 0;
        modes_down(nic, tap, deadline, NULL); /* what was done in part; the first error counts */
        return -1;
    }
    AUTO_HOOK_ENVIRONMENT struct hook_environment environment = {0};
    network_environment(instance->name, instance->tags, nic, index, tap, &environment);
    const char *const arguments[] = {tap, NULL};
    return hook_run(path, arguments, &environment, deadline, error);
}

int network_ifdown(const struct instance *instance, const struct nic *nic, size_t index,
                   const char *tap, bool only_local, const char *conf_dir, deadline_t deadline,
                   struct error *error)
{
    AUTO_FREE char *path = script(conf_dir, "kvm-ifdown-custom");
    if (path == NULL)
        return modes_down(nic, tap, deadline, error);
    AUTO_HOOK_ENVIRONMENT struct hook_environment environment = {0};
    network_environment(instance->name, instance->tags, nic, index, tap, &environment);
    const char *const arguments[] = {tap, only_local ? "true" : "false", NULL};
    return hook_run(path, arguments, &environment, deadline, error);
}
