/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The files of disks that travel, made and removed.
 *
 * A file is made without a name, its inode and time of birth are recorded in the runtime, and then it gets its name,
 * unless somebody else has one of that name by then. So a command that is killed leaves either nothing or a file of which
 * the runtime tells for sure that it was made here; that alone is ever removed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "migrate_landing.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/operations/image.h"

struct birth {
    char inode[24], born[40];
};

static int tell_birth(int directory, const char *path, int flags, struct birth *birth)
{
    struct statx status;

    if (statx(directory, path, flags, STATX_INO | STATX_BTIME | STATX_TYPE, &status) < 0)
        return -1;
    bool known = (status.stx_mask & STATX_BTIME) != 0;
    snprintf(birth->inode, sizeof(birth->inode), "%llu", (unsigned long long)status.stx_ino);
    snprintf(birth->born, sizeof(birth->born), "%lld.%09u",
             known ? (long long)status.stx_btime.tv_sec : 0,
             known ? (unsigned)status.stx_btime.tv_nsec : 0);
    if (S_ISREG(status.stx_mode))
        return 0;
    errno = EINVAL;
    return -1;
}

/* ---- made ---- */

static int fill(int file, const struct landing *landing)
{
    if (landing->qcow2)
        return image_make_qcow2(file, landing->size);
    return ftruncate(file, 0) < 0 ? -1 : ftruncate(file, (off_t)landing->size);
}

static int make_unnamed(const struct landing *landing, int *file, json_t *record,
                        struct error *error)
{
    struct birth birth;

    *file = landing_unnamed(landing, 0, error);
    if (*file < 0)
        return -1;
    if (fill(*file, landing) < 0 || fsync(*file) < 0 ||
        tell_birth(*file, "", AT_EMPTY_PATH, &birth) < 0)
        return error_errno(error, STATUS_FAILED, "%s", landing->path);
    json_object_set_new(record, "inode", memory_json(json_string(birth.inode)));
    json_object_set_new(record, "born", memory_json(json_string(birth.born)));
    return 0;
}

static int give_name(const struct landing *landing, int file, struct error *error)
{
    AUTO_FREE char *unnamed = memory_format("/proc/self/fd/%d", file);
    const struct place *place = &landing->place;

    return linkat(AT_FDCWD, unnamed, place->directory, place->name, AT_SYMLINK_FOLLOW) < 0 ||
                   fsync(place->directory) < 0
               ? error_errno(error, STATUS_FAILED, "%s", landing->path)
               : 0;
}

/* The disk's content comes anew; a block device has nothing to be made ready. */
static int take_over(const struct landing *landing, struct error *error)
{
    struct stat status;
    AUTO_CLOSE int there = place_reopen(&landing->place, O_RDWR);

    if (there < 0 || fstat(there, &status) < 0)
        return error_errno(error, STATUS_FAILED, "%s", landing->path);
    if (S_ISREG(status.st_mode) && (fill(there, landing) < 0 || fsync(there) < 0))
        return error_errno(error, STATUS_FAILED, "%s", landing->path);
    return 0;
}

static int prepare(const struct instance *instance, struct landings *landings, int *files,
                   json_t *records, struct error *error)
{
    for (size_t i = 0; i < landings->count; i++) {
        struct landing *landing = &landings->items[i];
        json_t *record = memory_json(json_pack("{s:s}", "path", landing->path));
        json_object_set_new(records, instance->disks[landing->index].uuid, record);
        if (landing_look(landings, landing, 0, error) < 0)
            return error_prefix(error, "disks[%zu]", landing->index);
        if (landing->same)
            return error_set(error, STATUS_STATE, "disks[%zu]: %s: is the source's own storage",
                             landing->index, landing->path);
        if (!landing->exists && make_unnamed(landing, &files[i], record, error) < 0)
            return error_prefix(error, "disks[%zu]", landing->index);
    }
    return 0;
}

int landing_make(const struct rundir *rundir, struct runtime *runtime, struct landings *landings,
                 struct error *error)
{
    AUTO_FREE int *files = memory_zeroed(landings->count + 1, sizeof(*files));
    AUTO_JSON json_t *records = memory_json(json_object());

    if (landings->count == 0)
        return 0;
    for (size_t i = 0; i < landings->count; i++)
        files[i] = -1;
    int result = prepare(&runtime->instance, landings, files, records, error);
    if (result == 0) {
        migration_set_disks(runtime, json_incref(records));
        result = runtime_commit(rundir, runtime, error);
    }
    for (size_t i = 0; i < landings->count && result == 0; i++)
        result = landings->items[i].exists ? take_over(&landings->items[i], error)
                                           : give_name(&landings->items[i], files[i], error);
    for (size_t i = 0; i < landings->count; i++) {
        if (landings->items[i].place.there < 0)
            landings->items[i].place.there = files[i];
        else
            memory_close(&files[i]);
    }
    return result;
}

int landing_check_opened(const void *context, size_t disk, int descriptor, struct error *error)
{
    const struct landings *landings = context;

    for (size_t i = 0; i < landings->count; i++) {
        const struct landing *landing = &landings->items[i];
        struct stat opened, checked;
        if (landing->index != disk)
            continue;
        if (fstat(descriptor, &opened) < 0 || fstat(landing->place.there, &checked) < 0)
            return error_errno(error, STATUS_FAILED, "disks[%zu]: %s", disk, landing->path);
        bool same = S_ISBLK(checked.st_mode)
                        ? S_ISBLK(opened.st_mode) && opened.st_rdev == checked.st_rdev
                        : opened.st_dev == checked.st_dev && opened.st_ino == checked.st_ino;
        if (!same)
            return error_set(error, STATUS_STATE,
                             "disks[%zu]: %s: is not any more what was checked and made ready "
                             "there: somebody changes that directory; look at it, or take another "
                             "place with --disk-path",
                             disk, landing->path);
    }
    return 0;
}

/* ---- and removed ---- */

static bool was_made(const json_t *record, const struct birth *birth)
{
    const char *inode = json_text(record, "inode"), *born = json_text(record, "born");
    return inode != NULL && born != NULL && strcmp(inode, birth->inode) == 0 &&
           strcmp(born, birth->born) == 0;
}

static int remove_one(const json_t *record, struct messages *warnings, struct error *error)
{
    const char *path = json_text(record, "path");
    AUTO_PLACE struct place place = {.directory = -1, .there = -1};
    struct birth birth;

    if (path == NULL || json_text(record, "inode") == NULL)
        return 0;
    if (tell_birth(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, &birth) < 0) {
        if (errno == ENOENT || errno == ENOTDIR || errno == EINVAL)
            return 0;
        return error_errno(error, STATUS_INCOMPLETE, "%s", path);
    }
    if (place_open(path, &place, error) < 0 ||
        tell_birth(place.directory, place.name, AT_SYMLINK_NOFOLLOW, &birth) < 0)
        return error_append(error, "; %s is left", path);
    if (!was_made(record, &birth)) {
        messages_add(warnings, "%s: is not the file that was made for the disk, left alone", path);
        return 0;
    }
    return unlinkat(place.directory, place.name, 0) < 0 || fsync(place.directory) < 0
               ? error_errno(error, STATUS_INCOMPLETE, "%s", path)
               : 0;
}

int landing_remove(const struct runtime *runtime, struct messages *warnings, struct error *error)
{
    const char *uuid;
    json_t *record;
    int result = 0;

    json_object_foreach (migration_disks(runtime), uuid, record)
        if (remove_one(record, warnings, error) < 0)
            result = error_prefix(error, "half-copied disk %s", uuid);
    if (result < 0)
        error->status = STATUS_INCOMPLETE;
    return result;
}

void landing_explain(const struct runtime *runtime, json_t *findings)
{
    const char *uuid;
    json_t *record;

    if (migration_side_of(runtime) != MIGRATION_TARGET ||
        migration_phase_of(runtime) != PHASE_ACCEPTED)
        return;
    json_object_foreach (migration_disks(runtime), uuid, record) {
        const char *path = json_text(record, "path");
        struct birth birth;
        if (path == NULL || tell_birth(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, &birth) < 0 ||
            !was_made(record, &birth))
            continue;
        AUTO_FREE char *finding = memory_format("%s: half-copied disk %s", path, uuid);
        json_array_append_new(
            findings, memory_json(json_pack("{s:s, s:s}", "finding", finding, "action", "remove")));
    }
}
