/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launch_private.h"
#include "kvm/base/json.h"
#include "kvm/base/file.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/host/machine.h"
#include "kvm/operations/image.h"
#include "kvm/qemu/device.h"
#include "kvm/state/hvparams.h"

/* A file that QEMU opens by its path. */
static void check_named_file(const struct launch *launch, const char *source, const char *param,
                             struct messages *problems)
{
    const char *path = hvparams_text(launch->instance->hvparams, param);

    if (path[0] != '\0')
        launch_check_readable(launch, path, source, param, problems);
}

/* All of the guest's memory is taken at the start; of huge pages there is a pool, which other guests use too. */
static void check_memory_path(const struct launch *launch, const char *source,
                              struct messages *problems)
{
    const char *path = hvparams_text(launch->instance->hvparams, "mem_path");
    struct stat status;
    int64_t page_kib = 0;

    if (path[0] == '\0')
        return;
    if (stat(path, &status) < 0 || !S_ISDIR(status.st_mode)) {
        messages_add(problems, "%s: hvparams.mem_path: not a directory (current value: \"%s\")",
                     source, path);
        return;
    }
    if (!launch_user_may(launch, path, S_IWOTH | S_IXOTH))
        messages_add(problems,
                     "%s: hvparams.mem_path: the user of security_model can't write there (current "
                     "value: \"%s\")",
                     source, path);
    int64_t have_mib = machine_huge_mib(path, &page_kib);
    if (have_mib >= 0 && have_mib < launch->instance->maxmem_mib && !launch_is_running(launch))
        messages_add(
            problems,
            "%s: hvparams.mem_path: %lld MiB of huge pages are free, the guest takes %lld; "
            "/sys/kernel/mm/hugepages/hugepages-%lldkB/nr_hugepages sets how many there "
            "are (current value: \"%s\")",
            source, (long long)have_mib, (long long)launch->instance->maxmem_mib,
            (long long)page_kib, path);
}

void launch_check_files(struct launch *launch, const char *source, struct messages *problems)
{
    launch_check_images(launch, source, problems);
    check_named_file(launch, source, "kernel_path", problems);
    check_named_file(launch, source, "initrd_path", problems);
    check_memory_path(launch, source, problems);
}

/* A user without access to /dev/kvm gets its group as the only one: supplementary groups stay empty. */
static void give_access_to_kvm(struct launch *launch, const char *source, struct messages *problems)
{
    struct stat status;

    if (!launch->kvm || stat("/dev/kvm", &status) < 0 || (status.st_mode & S_IWOTH) != 0 ||
        (status.st_uid == launch->uid && (status.st_mode & S_IWUSR) != 0))
        return;
    if ((status.st_mode & S_IWGRP) != 0)
        launch->gid = status.st_gid;
    else
        messages_add(problems,
                     "%s: hvparams.security_model: /dev/kvm can't be opened by that user; "
                     "'chmod g+rw /dev/kvm' lets it be opened through its group",
                     source);
}

static void find_user(struct launch *launch, const char *source, struct messages *problems)
{
    const char *name = hvparams_text(launch->instance->hvparams, "security_domain");
    const struct passwd *user = getpwnam(name);

    launch->user = LAUNCH_USER;
    if (user == NULL) {
        messages_add(problems,
                     "%s: hvparams.security_domain: no such user on this node (current value: "
                     "\"%s\")",
                     source, name);
        return;
    }
    if (user->pw_uid == 0) {
        messages_add(problems,
                     "%s: hvparams.security_domain: is root; security_model \"none\" runs QEMU as "
                     "root (current value: \"%s\")",
                     source, name);
        return;
    }
    launch->uid = user->pw_uid;
    launch->gid = user->pw_gid;
}

static void find_pool(struct launch *launch, const char *source, struct messages *problems)
{
    struct error reason = {0};

    launch->user = LAUNCH_POOL;
    if (node_uid_pool(launch->node, &launch->pool, &launch->pool_count, &reason) < 0) {
        messages_add(problems, "%s", reason.text);
        return;
    }
    if (launch->pool_count == 0) {
        messages_add(problems,
                     "%s: hvparams.security_model: \"pool\" needs uid_pool in %s, for example "
                     "\"uid_pool\": \"4000-4019\"",
                     source, launch->node->source);
        return;
    }
    launch->uid = launch->pool[0];
    launch->gid = (gid_t)launch->pool[0];
}

void launch_check_user(struct launch *launch, const char *source, struct messages *problems)
{
    const json_t *hvparams = launch->instance->hvparams;
    const char *model = hvparams_text(hvparams, "security_model");

    if (strcmp(model, "user") == 0)
        find_user(launch, source, problems);
    if (strcmp(model, "pool") == 0)
        find_pool(launch, source, problems);
    if (launch->user != LAUNCH_ROOT)
        give_access_to_kvm(launch, source, problems);
    if (!hvparams_truth(hvparams, "use_chroot"))
        return;
    launch->chroot = rundir_path(launch->rundir, RUNDIR_CHROOT, launch->instance->name);
    if (launch->user != LAUNCH_ROOT)
        launch->run_as = memory_format("%u:%u", launch->uid, launch->gid);
}

static void check_vcpus(const struct launch *launch, const char *source, struct messages *problems)
{
    const char *machine = hvparams_text(launch->instance->hvparams, "machine_version");
    int64_t most = json_number(launch->probe.vcpus, machine, INT64_MAX);

    if (launch->instance->vcpus > most)
        messages_add(problems,
                     "%s: beparams.vcpus: %s takes %lld at the most (current value: %lld)", source,
                     machine, (long long)most, (long long)launch->instance->vcpus);
}

static void check_model(const struct launch *launch, const char *source, struct messages *problems)
{
    const json_t *hvparams = launch->instance->hvparams;
    const char *type = hvparams_text(hvparams, "cpu_type");
    const char *binary = hvparams_text(hvparams, "kvm_path"), *nearest;
    bool host = strcspn(type, ",") == strlen("host") && strncmp(type, "host", strlen("host")) == 0;

    if (type[0] == '\0')
        return;
    if (!probe_has_cpu(&launch->probe, type, &nearest))
        messages_add(problems,
                     "%s: hvparams.cpu_type: %s has no such CPU%s%s%s (current value: \"%s\"); "
                     "'%s -cpu help' lists what there is",
                     source, binary, nearest != NULL ? ", did you mean \"" : "",
                     nearest != NULL ? nearest : "", nearest != NULL ? "\"?" : "", type, binary);
    else if (host && !launch->kvm)
        messages_add(problems,
                     "%s: hvparams.cpu_type: needs KVM, and this instance runs without; \"max\" is "
                     "all that TCG has (current value: \"%s\")",
                     source, type);
}

static void check_features(const struct launch *launch, const char *source,
                           struct messages *problems)
{
    const char *type = hvparams_text(launch->instance->hvparams, "cpu_type");
    const char *binary = hvparams_text(launch->instance->hvparams, "kvm_path");
    AUTO_FREE char *nearest = NULL;
    AUTO_FREE char *lacks = probe_lacks_feature(&launch->probe, type, &nearest);

    if (lacks != NULL)
        messages_add(problems,
                     "%s: hvparams.cpu_type: %s has no CPU feature \"%s\"%s%s%s (current value: "
                     "\"%s\"); '%s -cpu help' lists them",
                     source, binary, lacks, nearest != NULL ? ", did you mean \"" : "",
                     nearest != NULL ? nearest : "", nearest != NULL ? "\"?" : "", type, binary);
}

static void check_mask(const struct launch *launch, const char *source, struct messages *problems)
{
    const char *mask = hvparams_text(launch->instance->hvparams, "cpu_mask");
    AUTO_JSON json_t *parts = hvparams_cpu_mask(mask, NULL);
    long online = sysconf(_SC_NPROCESSORS_CONF);
    size_t i, k;
    json_t *part, *cpu;

    json_array_foreach (parts, i, part) {
        json_array_foreach (part, k, cpu) {
            if (json_integer_value(cpu) >= online || json_integer_value(cpu) >= CPU_SETSIZE) {
                messages_add(problems,
                             "%s: hvparams.cpu_mask: CPU %lld is not on this node, which has 0 to "
                             "%ld (current value: \"%s\")",
                             source, (long long)json_integer_value(cpu), online - 1, mask);
                return;
            }
        }
    }
}

void launch_check_cpus(const struct launch *launch, const char *source, struct messages *problems)
{
    check_vcpus(launch, source, problems);
    check_model(launch, source, problems);
    check_features(launch, source, problems);
    check_mask(launch, source, problems);
}
