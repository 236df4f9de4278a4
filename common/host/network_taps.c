/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which tap a NIC has, where the files of our own do not tell it. Ganeti writes nic/NAME/INDEX alone, with the NIC's
 * place in its configuration at that time, and after removals and insertions in the middle an old file may stay or be
 * overwritten. The order in which they were written is that of the NICs in the runtime file, to whose end it appends.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvm/base/file.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/host/network.h"
#include "kvm/host/tap.h"

enum { FILES_MAX = 256, LINE_SIZE = 128 };

struct tap_file {
    int64_t index;
    struct timespec written;
    char tap[TAP_NAME_SIZE];
};

struct tap_files {
    struct tap_file items[FILES_MAX];
    size_t count;
};

/* The kernel tells the interface of a tap descriptor: "iff:\tNAME". */
static bool descriptor_is_of(int directory, const char *number, const char *tap)
{
    int descriptor = openat(directory, number, O_RDONLY | O_CLOEXEC);
    FILE *stream = descriptor < 0 ? NULL : fdopen(descriptor, "r");
    char line[LINE_SIZE], name[TAP_NAME_SIZE + 1];
    bool found = false;

    if (stream == NULL)
        return false;
    while (!found && fgets(line, sizeof(line), stream) != NULL)
        found = sscanf(line, "iff: %16s", name) == 1 && strcmp(name, tap) == 0;
    fclose(stream);
    return found;
}

/* Also when it can't be told. */
static bool may_hold(pid_t pid, const char *tap)
{
    AUTO_FREE char *path = memory_format("/proc/%d/fdinfo", (int)pid);
    DIR *entries = pid > 0 ? opendir(path) : NULL;
    bool held = entries == NULL;

    for (struct dirent *entry; entries != NULL && !held && (entry = readdir(entries)) != NULL;)
        held = entry->d_name[0] != '.' && descriptor_is_of(dirfd(entries), entry->d_name, tap);
    if (entries != NULL)
        closedir(entries);
    return held;
}

static bool of_uuid(const struct rundir *rundir, const struct instance *instance, size_t index,
                    pid_t pid, char *tap)
{
    return network_read_tap(rundir, instance->name, instance->nics[index].uuid, tap) &&
           may_hold(pid, tap);
}

static bool is_named_by_uuid(const struct rundir *rundir, const struct instance *instance,
                             const char *tap)
{
    char other[TAP_NAME_SIZE];

    for (size_t i = 0; i < instance->nic_count; i++)
        if (network_read_tap(rundir, instance->name, instance->nics[i].uuid, other) &&
            strcmp(other, tap) == 0)
            return true;
    return false;
}

static int by_time(const void *a, const void *b)
{
    const struct tap_file *one = a, *other = b;

    if (one->written.tv_sec != other->written.tv_sec)
        return one->written.tv_sec < other->written.tv_sec ? -1 : 1;
    if (one->written.tv_nsec != other->written.tv_nsec)
        return one->written.tv_nsec < other->written.tv_nsec ? -1 : 1;
    return one->index < other->index ? -1 : one->index > other->index;
}

/* A name that was free again may have been given a second time: the file written last is right. */
static void drop_older(struct tap_files *files)
{
    size_t kept = 0;

    qsort(files->items, files->count, sizeof(files->items[0]), by_time);
    for (size_t i = 0; i < files->count; i++) {
        bool again = false;
        for (size_t k = i + 1; k < files->count; k++)
            again = again || strcmp(files->items[i].tap, files->items[k].tap) == 0;
        if (!again)
            files->items[kept++] = files->items[i];
    }
    files->count = kept;
}

/* NULL: there is none, and nothing in it. */
static DIR *open_directory(const struct rundir *rundir, const struct instance *instance)
{
    char directory[RUNDIR_PATH_MAX];

    rundir_name(RUNDIR_NIC, instance->name, directory);
    int descriptor = openat(rundir->fd, directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return file_entries(descriptor);
}

static void read_files(const struct rundir *rundir, const struct instance *instance, pid_t pid,
                       struct tap_files *files)
{
    DIR *entries = open_directory(rundir, instance);

    for (struct dirent *entry; entries != NULL && (entry = readdir(entries)) != NULL;) {
        struct tap_file *file = &files->items[files->count];
        struct stat status;
        if (files->count == FILES_MAX || !text_number(entry->d_name, 0, INT32_MAX, &file->index) ||
            fstatat(dirfd(entries), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0 ||
            !network_read_tap(rundir, instance->name, entry->d_name, file->tap) ||
            is_named_by_uuid(rundir, instance, file->tap) || !may_hold(pid, file->tap))
            continue;
        file->written = status.st_mtim;
        files->count++;
    }
    if (entries != NULL)
        closedir(entries);
    drop_older(files);
}

/* By the files of another tool; they count only when there is one for each NIC that has none of ours. */
static bool of_order(const struct rundir *rundir, const struct instance *instance, size_t index,
                     pid_t pid, char *tap)
{
    struct tap_files files = {.count = 0};
    size_t others = 0, place = 0;
    char ours[TAP_NAME_SIZE];

    for (size_t i = 0; i < instance->nic_count; i++) {
        if (of_uuid(rundir, instance, i, pid, ours))
            continue;
        if (i == index)
            place = others;
        others++;
    }
    read_files(rundir, instance, pid, &files);
    if (files.count != others)
        return false;
    memcpy(tap, files.items[place].tap, TAP_NAME_SIZE);
    return true;
}

bool network_find_tap(const struct rundir *rundir, const struct instance *instance, size_t index,
                      pid_t pid, char *tap)
{
    return of_uuid(rundir, instance, index, pid, tap) ||
           of_order(rundir, instance, index, pid, tap) ||
           network_read_tap(rundir, instance->name, instance->nics[index].uuid, tap);
}

static bool has_nic(const struct instance *instance, const char *uuid)
{
    for (size_t i = 0; i < instance->nic_count; i++)
        if (strcmp(instance->nics[i].uuid, uuid) == 0)
            return true;
    return false;
}

int network_drop_strangers(const struct rundir *rundir, const struct instance *instance,
                           struct error *error)
{
    DIR *entries = open_directory(rundir, instance);
    int result = 0;

    for (struct dirent *entry; entries != NULL && (entry = readdir(entries)) != NULL;) {
        char tap[TAP_NAME_SIZE];
        if (!text_is_uuid(entry->d_name) || has_nic(instance, entry->d_name))
            continue;
        bool named = network_read_tap(rundir, instance->name, entry->d_name, tap);
        if (network_forget_tap(rundir, instance->name, entry->d_name, named ? tap : NULL, error) <
            0)
            result = -1;
    }
    if (entries != NULL)
        closedir(entries);
    return result;
}
