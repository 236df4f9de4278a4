/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/host/network.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "kvm/base/file.h"
#include "kvm/base/memory.h"
#include "kvm/host/tap.h"

enum { FILE_MAX = 64, INDEX_MAX = 1024 };

/* nic/NAME/IDENT; the caller frees. */
static char *file_name(const char *instance, const char *ident)
{
    char directory[RUNDIR_PATH_MAX];
    rundir_name(RUNDIR_NIC, instance, directory);
    return memory_format("%s/%s", directory, ident);
}

static int write_one(const struct rundir *rundir, const char *instance, const char *ident,
                     const char *tap, struct error *error)
{
    AUTO_FREE char *name = file_name(instance, ident);
    return file_replace(rundir->fd, name, tap, strlen(tap), error);
}

int network_write_tap(const struct rundir *rundir, const char *instance, size_t index,
                      const char *uuid, const char *tap, struct error *error)
{
    char directory[RUNDIR_PATH_MAX], number[24];
    snprintf(number, sizeof number, "%zu", index);
    rundir_name(RUNDIR_NIC, instance, directory);
    if (file_make_directory(rundir->fd, directory, 0700, error) != 0)
        return -1;
    /* The one by uuid is what our own commands look at, so it is there first and goes last. */
    if (write_one(rundir, instance, uuid, tap, error) != 0)
        return -1;
    return write_one(rundir, instance, number, tap, error);
}

/* What the kernel takes for a name and no script can misread. */
static bool is_tap_name(const char *name)
{
    size_t length = strlen(name);
    return length > 0 && length < TAP_NAME_SIZE && strpbrk(name, "/%:'\"\\$` \t\n") == NULL &&
           name[0] != '-' && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

bool network_read_tap(const struct rundir *rundir, const char *instance, const char *ident,
                      char *tap)
{
    AUTO_FREE char *name = file_name(instance, ident);
    AUTO_FREE char *bytes = NULL;
    if (file_read(rundir->fd, name, FILE_MAX, true, &bytes, NULL, NULL) != 0)
        return false;
    bytes[strcspn(bytes, "\n")] = '\0';
    if (!is_tap_name(bytes))
        return false;
    snprintf(tap, TAP_NAME_SIZE, "%s", bytes);
    return true;
}

/* What a killed command left in the directory while it wrote a tap file. */
static int remove_temporaries(const struct rundir *rundir, const char *directory,
                              struct error *error)
{
    int descriptor = openat(rundir->fd, directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *entries = file_entries(descriptor);
    int result = 0;

    for (struct dirent *entry; entries != NULL && (entry = readdir(entries)) != NULL;) {
        size_t length = strlen(entry->d_name);
        if (entry->d_name[0] == '.' && length > 4 &&
            strcmp(entry->d_name + length - 4, ".tmp") == 0)
            result = file_remove(descriptor, entry->d_name, NULL, error) != 0 ? -1 : result;
    }
    if (entries != NULL)
        closedir(entries);
    return result;
}

int network_remove_tap(const struct rundir *rundir, const char *instance, size_t index,
                       const char *uuid, struct error *error)
{
    char number[24], directory[RUNDIR_PATH_MAX];
    snprintf(number, sizeof number, "%zu", index);
    AUTO_FREE char *by_index = file_name(instance, number);
    AUTO_FREE char *by_uuid = file_name(instance, uuid);
    if (index != SIZE_MAX && file_remove(rundir->fd, by_index, NULL, error) != 0)
        return -1;
    if (file_remove(rundir->fd, by_uuid, NULL, error) != 0)
        return -1;
    rundir_name(RUNDIR_NIC, instance, directory);
    if (remove_temporaries(rundir, directory, error) != 0)
        return -1;
    if (unlinkat(rundir->fd, directory, AT_REMOVEDIR) == 0 || errno == ENOENT ||
        errno == ENOTEMPTY || errno == EEXIST)
        return 0;
    return error_errno(error, STATUS_FAILED, "%s/%s", rundir->path, directory);
}

size_t network_index(const struct rundir *rundir, const char *instance, const char *tap)
{
    char number[24], other[TAP_NAME_SIZE];

    for (size_t index = 0; index < INDEX_MAX; index++) {
        snprintf(number, sizeof number, "%zu", index);
        if (network_read_tap(rundir, instance, number, other) && strcmp(other, tap) == 0)
            return index;
    }
    return SIZE_MAX;
}

int network_forget_tap(const struct rundir *rundir, const char *instance, const char *uuid,
                       const char *tap, struct error *error)
{
    size_t index = tap != NULL ? network_index(rundir, instance, tap) : SIZE_MAX;

    return network_remove_tap(rundir, instance, index, uuid, error);
}

size_t network_free_index(const struct rundir *rundir, const char *instance)
{
    char number[24], tap[TAP_NAME_SIZE];
    size_t index = 0;

    for (;; index++) {
        snprintf(number, sizeof number, "%zu", index);
        if (!network_read_tap(rundir, instance, number, tap))
            return index;
    }
}
