/* SPDX-License-Identifier: BSD-2-Clause */
/* What is set between QEMU's first answer and the guest's first instruction. */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <dirent.h>
#include <fcntl.h>

#include "launch_private.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/qemu/device.h"
#include "kvm/qemu/events.h"
#include "kvm/host/machine.h"
#include "kvm/state/hvparams.h"

static int set_password(struct launch *launch, const char *protocol, const char *password,
                        struct error *error)
{
    if (password == NULL)
        return 0;
    json_t *arguments =
        memory_json(json_pack("{s:s, s:s}", "protocol", protocol, "password", password));
    return qmp_call(launch->qmp, "set_password", arguments, launch->options->deadline, NULL,
                    error) == QMP_DONE
               ? 0
               : error_prefix(error, "password of %s", protocol);
}

int launch_set_passwords(struct launch *launch, struct error *error)
{
    return set_password(launch, "vnc", launch->vnc_password, error) < 0
               ? -1
               : set_password(launch, "spice", launch->spice_password, error);
}

/* NULL (all CPUs) gives false: nothing is to be set. */
static bool cpu_set_of(const json_t *part, cpu_set_t *set)
{
    size_t i;
    json_t *cpu;

    CPU_ZERO(set);
    json_array_foreach (part, i, cpu)
        CPU_SET((size_t)json_integer_value(cpu), set);
    return json_is_array(part);
}

static bool is_thread(const struct launch *launch, pid_t thread)
{
    char path[64];
    struct stat status;

    snprintf(path, sizeof(path), "/proc/%d/task/%d", (int)launch->pid, (int)thread);
    return stat(path, &status) == 0;
}

static int pin_thread(const struct launch *launch, pid_t thread, const cpu_set_t *set,
                      struct error *error)
{
    /* QEMU names its vCPU threads; only a thread of this very process is touched. */
    if (!is_thread(launch, thread))
        return error_set(error, STATUS_FAILED, "cpu_mask: thread %d is not one of QEMU's (pid %d)",
                         (int)thread, (int)launch->pid);
    if (sched_setaffinity(thread, sizeof(*set), set) < 0)
        return error_errno(error, STATUS_FAILED, "cpu_mask: thread %d", (int)thread);
    return 0;
}

static int pin_process(const struct launch *launch, const cpu_set_t *set, struct error *error)
{
    char path[64];
    int result = 0;

    snprintf(path, sizeof(path), "/proc/%d/task", (int)launch->pid);
    DIR *tasks = opendir(path);
    if (tasks == NULL)
        return error_errno(error, STATUS_FAILED, "cpu_mask: %s", path);
    for (struct dirent *entry; result == 0 && (entry = readdir(tasks)) != NULL;) {
        int64_t thread = 0;
        if (text_number(entry->d_name, 1, INT32_MAX, &thread))
            result = pin_thread(launch, (pid_t)thread, set, error);
        if (result < 0 && !is_thread(launch, (pid_t)thread))
            result = 0; /* one of QEMU's workers, which come and go */
    }
    closedir(tasks);
    return result;
}

static int pin_vcpus(const struct launch *launch, const json_t *parts, struct error *error)
{
    AUTO_JSON json_t *vcpus = NULL;
    size_t i;
    json_t *vcpu;
    cpu_set_t set;

    if (qmp_call(launch->qmp, "query-cpus-fast", NULL, launch->options->deadline, &vcpus, error) !=
        QMP_DONE)
        return error_prefix(error, "cpu_mask");
    json_array_foreach (vcpus, i, vcpu) {
        int64_t index = json_number(vcpu, "cpu-index", -1);
        const json_t *part = index < 0 ? NULL : json_array_get(parts, (size_t)index);
        if (part != NULL && cpu_set_of(part, &set) &&
            pin_thread(launch, (pid_t)json_number(vcpu, "thread-id", 0), &set, error) < 0)
            return -1;
    }
    return 0;
}

int launch_set_affinity(struct launch *launch, struct error *error)
{
    const char *mask = hvparams_text(launch->instance->hvparams, "cpu_mask");
    AUTO_JSON json_t *parts = hvparams_cpu_mask(mask, error);
    cpu_set_t set;

    if (parts == NULL)
        return -1;
    if (json_array_size(parts) > 1)
        return pin_vcpus(launch, parts, error);
    return cpu_set_of(json_array_get(parts, 0), &set) ? pin_process(launch, &set, error) : 0;
}

/* The guest starts with as much of maxmem, or of what set-memory has set, as the node has, but not less than minmem. */
int launch_set_balloon(struct launch *launch, struct error *error)
{
    const struct instance *instance = launch->instance;
    int64_t available = machine_available_mib();
    int64_t wanted = instance->memory_mib > 0 && instance->memory_mib < instance->maxmem_mib
                         ? instance->memory_mib
                         : instance->maxmem_mib;
    int64_t least = instance->minmem_mib < wanted ? instance->minmem_mib : wanted;
    int64_t start = wanted;

    if (available >= 0 && available < start)
        start = available > least ? available : least;
    if (start >= instance->maxmem_mib)
        return 0;
    if (start < wanted)
        messages_add(launch->warnings,
                     "the node has %lld MiB available: the guest starts with %lld of %lld MiB",
                     (long long)available, (long long)start, (long long)wanted);
    json_t *arguments = memory_json(json_pack("{s:I}", "value", (json_int_t)(start * 1024 * 1024)));
    return qmp_call(launch->qmp, "balloon", arguments, launch->options->deadline, NULL, error) ==
                   QMP_DONE
               ? 0
               : error_prefix(error, "balloon");
}

int launch_set_limits(struct launch *launch, struct error *error)
{
    const struct instance *instance = launch->instance;

    for (size_t i = 0; i < instance->disk_count; i++) {
        json_t *arguments = device_throttle(&instance->disks[i]);
        if (arguments != NULL && qmp_call(launch->qmp, "block_set_io_throttle", arguments,
                                          launch->options->deadline, NULL, error) != QMP_DONE)
            return error_prefix(error, "disks[%zu]: limits", i);
    }
    return 0;
}

int launch_set_links(struct launch *launch, struct error *error)
{
    const struct instance *instance = launch->instance;

    for (size_t i = 0; i < instance->nic_count; i++) {
        if (!instance->nics[i].link_down)
            continue;
        if (qmp_call(launch->qmp, "set_link", device_link(&instance->nics[i], false),
                     launch->options->deadline, NULL, error) != QMP_DONE)
            return error_prefix(error, "nics[%zu]: link", i);
        events_note_link(launch->rundir, instance->name, json_text(instance->nics[i].hvinfo, "id"),
                         false);
    }
    return 0;
}
