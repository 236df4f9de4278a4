/* SPDX-License-Identifier: BSD-2-Clause */
/* How far it is, in words and as JSON. */
#include <stdio.h>
#include <string.h>

#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/operations/migrate.h"

enum { MIB = 1048576 };
static const double MBPS_OF_MIB = 8.388608;

/* Of a part and the whole; 0 when there is nothing. */
static int percent_of(int64_t part, int64_t whole)
{
    return whole > 0 ? (int)((double)part * 100 / (double)whole) : 0;
}

static int percent_copied(const struct migrate_progress *progress)
{
    return progress->total > 0 ? (int)(100 - progress->remaining * 100 / progress->total) : 0;
}

static char *disks_text(const struct migrate_progress *progress)
{
    int64_t copied = 0, total = 0;
    size_t ready = 0;

    for (size_t i = 0; i < progress->disk_count; i++) {
        copied += progress->disks[i].copied;
        total += progress->disks[i].total;
        ready += progress->disks[i].ready;
    }
    char *text = memory_format("disks: %3d %%, %lld of %lld MiB, %zu of %zu ready",
                               percent_of(copied, total), (long long)(copied / MIB),
                               (long long)(total / MIB), ready, progress->disk_count);
    for (size_t i = 0; i < progress->disk_count && progress->disk_count > 1; i++) {
        const struct migrate_disk_progress *disk = &progress->disks[i];
        AUTO_FREE char *before = text;
        text = memory_format("%s; %s %d %%", before, disk->disk,
                             percent_of(disk->copied, disk->total));
    }
    return text;
}

char *migrate_expected_text(int64_t expected_downtime_ms)
{
    return expected_downtime_ms < 0
               ? memory_copy("")
               : memory_format(", expected downtime %lld ms", (long long)expected_downtime_ms);
}

char *migrate_progress_text(const struct migrate_progress *progress)
{
    AUTO_FREE char *expected = migrate_expected_text(progress->expected_downtime_ms);

    if (strcmp(progress->phase, "disks") == 0)
        return disks_text(progress);
    return memory_format("%s: %3d %%, %lld MiB sent, %lld left, %.0f MiB/s, dirty %lld MiB/s%s",
                         progress->phase, percent_copied(progress),
                         (long long)progress->transferred / MIB,
                         (long long)progress->remaining / MIB, progress->mbps / MBPS_OF_MIB,
                         (long long)progress->dirty_bytes_per_s / MIB, expected);
}

static json_t *disks_json(const struct migrate_progress *progress)
{
    json_t *list = memory_json(json_array());

    for (size_t i = 0; i < progress->disk_count; i++) {
        const struct migrate_disk_progress *disk = &progress->disks[i];
        json_array_append_new(
            list, memory_json(json_pack("{s:s, s:I, s:I, s:b}", "disk", disk->disk, "copied",
                                        (json_int_t)disk->copied, "total", (json_int_t)disk->total,
                                        "ready", (int)disk->ready)));
    }
    return list;
}

/* By hand, since numbers of one digit after the point are enough for people who read it as well. */
char *migrate_progress_json(const struct migrate_progress *progress)
{
    AUTO_JSON json_t *list = disks_json(progress);
    AUTO_FREE char *disks = json_compact(list);
    AUTO_FREE char *expected =
        progress->expected_downtime_ms < 0
            ? memory_copy("null")
            : memory_format("%lld", (long long)progress->expected_downtime_ms);

    return memory_format(
        "{\"phase\": \"%s\", \"percent\": %d, \"transferred\": %lld, \"remaining\": %lld, "
        "\"mbps\": %.1f, \"dirty_bytes_per_second\": %lld, \"expected_downtime_ms\": %s, "
        "\"seconds\": %.1f%s%s}",
        progress->phase, percent_copied(progress), (long long)progress->transferred,
        (long long)progress->remaining, progress->mbps, (long long)progress->dirty_bytes_per_s,
        expected, progress->seconds, progress->disk_count > 0 ? ", \"disks\": " : "",
        progress->disk_count > 0 ? disks : "");
}
