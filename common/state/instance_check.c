/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/state/instance_check.h"

#include <inttypes.h>
#include <string.h>
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/state/hvparams.h"
#include "kvm/state/placement.h"

bool instance_is_q35(const struct instance *instance)
{
    return strstr(hvparams_text(instance->hvparams, "machine_version"), "q35") != NULL;
}

/* QEMU multiplies what is given and fills in the rest, which must come out even. */
static void check_topology(const struct instance *instance, const char *source,
                           struct messages *problems)
{
    static const char *const names[] = {"cpu_sockets", "cpu_cores", "cpu_threads"};
    int64_t product = 1;
    int given = 0;

    for (size_t i = 0; i < 3; i++) {
        int64_t number = hvparams_number(instance->hvparams, names[i]);

        given += number > 0;
        product *= number > 0 ? number : 1;
    }
    if ((given == 3 && product != instance->vcpus) || instance->vcpus % product != 0)
        messages_add(problems,
                     "%s: hvparams.cpu_cores: cpu_sockets, cpu_cores and cpu_threads make %" PRId64
                     ", which does not fit vcpus (current value: %" PRId64 ")",
                     source, product, instance->vcpus);
}

static void check_mask(const struct instance *instance, const char *source,
                       struct messages *problems)
{
    AUTO_JSON json_t *parts =
        hvparams_cpu_mask(hvparams_text(instance->hvparams, "cpu_mask"), NULL);
    size_t count = json_array_size(parts);

    if (count > 1 && (int64_t)count != instance->vcpus)
        messages_add(problems,
                     "%s: hvparams.cpu_mask: has %zu parts, must have 1 or as many as vcpus "
                     "(current value: %" PRId64 ")",
                     source, count, instance->vcpus);
}

void instance_check_disk(const struct instance *instance, const struct disk *disk,
                         const char *where, struct messages *problems)
{
    const char *driver = placement_disk_driver(disk, instance);
    int64_t threads = hvparams_number(instance->hvparams, "iothreads");
    int64_t thread = json_number(disk->params, "iothread", -1);
    bool virtio = driver != NULL && strcmp(driver, "virtio-blk-pci") == 0;
    struct disk_settings settings;

    disk_settings(disk, instance, &settings);
    if (!virtio && json_member(disk->params, "queues") != NULL)
        messages_add(problems, "%s: queues: is only for virtio disks", where);
    if (!virtio && thread >= 0)
        messages_add(problems, "%s: iothread: is only for virtio disks", where);
    else if (thread >= threads)
        messages_add(problems,
                     "%s: iothread: hvparams.iothreads makes %" PRId64
                     " of them, numbered from 0 (current value: %" PRId64 ")",
                     where, threads, thread);
    if (strcmp(settings.detect_zeroes, "unmap") == 0 && strcmp(settings.discard, "unmap") != 0)
        messages_add(problems, "%s: detect_zeroes: unmap needs discard unmap", where);
    disk_check_frontend(instance, disk, where, problems);
}

void instance_check_whole(const struct instance *instance, const char *source,
                          struct messages *problems)
{
    check_topology(instance, source, problems);
    check_mask(instance, source, problems);
    media_check(instance, source, problems);
    for (size_t i = 0; i < instance->disk_count; i++) {
        AUTO_FREE char *where = memory_format("%s: disks[%zu]", source, i);
        instance_check_disk(instance, &instance->disks[i], where, problems);
    }
}

static void device_id(const char *kind, const char *uuid, const json_t *hvinfo, char *id)
{
    const char *given = json_text(hvinfo, "id");

    if (given == NULL)
        placement_id(kind, uuid, id);
    else
        snprintf(id, 32, "%s", given);
}

struct device {
    char place[32];
    char id[32];
    const char *uuid;
};

static void check_pair(const struct device *one, const struct device *other, const char *source,
                       struct messages *problems)
{
    if (strcmp(one->uuid, other->uuid) == 0)
        messages_add(problems, "%s: %s.uuid: is that of %s too (current value: \"%s\")", source,
                     other->place, one->place, other->uuid);
    else if (strcmp(one->id, other->id) == 0)
        messages_add(problems,
                     "%s: %s.uuid: makes the same device id as %s, %s: its first three groups "
                     "must differ (current value: \"%s\")",
                     source, other->place, one->place, one->id, other->uuid);
}

static void check_devices(const struct instance *instance, const char *source,
                          struct messages *problems)
{
    size_t count = instance->disk_count + instance->nic_count;
    struct device *devices = memory_zeroed(count + 1, sizeof(*devices));

    for (size_t i = 0; i < count; i++) {
        struct device *device = &devices[i];

        if (i < instance->disk_count) {
            const struct disk *disk = &instance->disks[i];
            snprintf(device->place, sizeof(device->place), "disks[%zu]", i);
            device_id("disk", disk->uuid, disk->hvinfo, device->id);
            device->uuid = disk->uuid;
        } else {
            const struct nic *nic = &instance->nics[i - instance->disk_count];
            snprintf(device->place, sizeof(device->place), "nics[%zu]", i - instance->disk_count);
            device_id("nic", nic->uuid, nic->hvinfo, device->id);
            device->uuid = nic->uuid;
        }
        for (size_t j = 0; j < i; j++)
            check_pair(&devices[j], device, source, problems);
    }
    free(devices);
}

static void check_macs(const struct instance *instance, const char *source,
                       struct messages *problems)
{
    for (size_t i = 1; i < instance->nic_count; i++) {
        for (size_t j = 0; j < i; j++) {
            if (strcmp(instance->nics[i].mac, instance->nics[j].mac) == 0)
                messages_add(problems,
                             "%s: nics[%zu].mac: is that of nics[%zu] too (current value: "
                             "\"%s\")",
                             source, i, j, instance->nics[i].mac);
        }
    }
}

/* "path" or "uri" when both disks have the same. */
static const char *same_place(const struct disk *one, const struct disk *other)
{
    bool userspace = disk_is_userspace(other);

    if (disk_is_userspace(one) != userspace)
        return NULL;
    if (userspace)
        return strcmp(one->uri, other->uri) == 0 ? "uri" : NULL;
    return one->path != NULL && other->path != NULL && strcmp(one->path, other->path) == 0 ? "path"
                                                                                           : NULL;
}

static void check_paths(const struct instance *instance, const char *source,
                        struct messages *problems)
{
    for (size_t i = 1; i < instance->disk_count; i++) {
        for (size_t j = 0; j < i; j++) {
            const struct disk *one = &instance->disks[j], *other = &instance->disks[i];
            const char *key = same_place(one, other);

            if (key == NULL || (one->read_only && other->read_only))
                continue;
            messages_add(problems,
                         "%s: disks[%zu].%s: is that of disks[%zu] too, and one of them writes "
                         "(current value: \"%s\")",
                         source, i, key, j, key[0] == 'u' ? other->uri : other->path);
        }
    }
}

void instance_check_unique(const struct instance *instance, const char *source,
                           struct messages *problems)
{
    check_devices(instance, source, problems);
    check_macs(instance, source, problems);
    check_paths(instance, source, problems);
}
