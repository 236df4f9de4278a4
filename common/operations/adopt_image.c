/* SPDX-License-Identifier: BSD-2-Clause */
/* The image behind a block node of a running QEMU, by a name that will still mean it at the next start. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "adopt_private.h"
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/base/transaction.h"

/* A file of sysfs has the size of a page, whatever is in it. */
enum { ATTRIBUTE_MAX = 64 * 1024 };

/* ---- names of block devices ---- */

char *adopt_volume_path(const char *name)
{
    char *path = memory_format("/dev/%s", name), *to = path + strlen("/dev/");
    int parts = 1;

    for (const char *from = name; *from != '\0'; from++) {
        bool doubled = *from == '-' && from[1] == '-';
        bool divides = *from == '-' && !doubled;
        *to++ = divides ? '/' : *from;
        parts += divides;
        from += doubled;
    }
    *to = '\0';
    if (parts == 2) /* three: a part of a volume, which has no name of its own */
        return path;
    free(path);
    return NULL;
}

static bool is_device(const char *path, dev_t device)
{
    struct stat status;

    return path != NULL && strlen(path) < ADOPT_PATH_SIZE && stat(path, &status) == 0 &&
           S_ISBLK(status.st_mode) && status.st_rdev == device;
}

/* As LVM and the device mapper call it; NULL: it is none of theirs. The caller frees. */
static char *mapped_name(dev_t device)
{
    AUTO_FREE char *file =
        memory_format("/sys/dev/block/%u:%u/dm/name", major(device), minor(device));
    AUTO_FREE char *name = NULL;

    if (file_read(AT_FDCWD, file, ATTRIBUTE_MAX, false, &name, NULL, NULL) < 0)
        return NULL;
    name[strcspn(name, "\n")] = '\0';
    char *path = adopt_volume_path(name);
    if (is_device(path, device))
        return path;
    free(path);
    path = memory_format("/dev/mapper/%s", name);
    if (is_device(path, device))
        return path;
    free(path);
    return NULL;
}

/* The first of the alphabet, so that it is the same one each time. */
static char *linked_name(const char *directory, dev_t device)
{
    DIR *entries = opendir(directory);
    char *first = NULL;

    for (const struct dirent *entry; entries != NULL && (entry = readdir(entries)) != NULL;) {
        AUTO_FREE char *path = memory_format("%s/%s", directory, entry->d_name);
        if (entry->d_name[0] == '.' || !is_device(path, device) ||
            (first != NULL && strcmp(first, path) < 0))
            continue;
        free(first);
        first = memory_copy(path);
    }
    if (entries != NULL)
        closedir(entries);
    return first;
}

/* Numbers like those of /dev/dm-3, /dev/sdb and /dev/loop0 go to another device at the next boot of the node. */
static void make_stable(char path[ADOPT_PATH_SIZE])
{
    static const char *const directories[] = {"/dev/disk/by-id", "/dev/disk/by-partuuid",
                                              "/dev/disk/by-path"};
    struct stat status;

    if (stat(path, &status) < 0 || !S_ISBLK(status.st_mode))
        return;
    char *name = mapped_name(status.st_rdev);
    for (size_t i = 0; name == NULL && i < COUNT(directories); i++)
        name = linked_name(directories[i], status.st_rdev);
    if (name != NULL)
        snprintf(path, ADOPT_PATH_SIZE, "%s", name);
    free(name);
}

/* ---- what QEMU has open ---- */

/* The descriptor in QEMU that an fd set holds; -1: none. */
static int64_t descriptor_of(const json_t *sets, const char *file)
{
    int64_t number;
    size_t i;
    json_t *set;

    if (strncmp(file, "/dev/fdset/", 11) != 0 || !text_number(file + 11, 0, INT32_MAX, &number))
        return -1;
    json_array_foreach (sets, i, set)
        if (json_number(set, "fdset-id", -1) == number)
            return json_number(json_array_get(json_member(set, "fds"), 0), "fd", -1);
    return -1;
}

bool adopt_image(const struct adopt_look *look, const json_t *sets, const char *file,
                 char path[ADOPT_PATH_SIZE], const char **why)
{
    static const char deleted[] = " (deleted)";
    int64_t descriptor = file == NULL ? -1 : descriptor_of(sets, file);

    *why = "what it opens is not known";
    if (descriptor < 0) {
        if (file == NULL || file[0] != '/' || strncmp(file, "/dev/fdset/", 11) == 0)
            return false;
        snprintf(path, ADOPT_PATH_SIZE, "%s", file);
        return strlen(file) < ADOPT_PATH_SIZE;
    }
    AUTO_FREE char *link = memory_format("/proc/%d/fd/%d", look->pid, (int)descriptor);
    ssize_t length = readlink(link, path, ADOPT_PATH_SIZE - 1);
    if (length <= 0)
        return false;
    path[length] = '\0';
    size_t tail = strlen(deleted);
    *why = "its image has been deleted";
    if (path[0] != '/' ||
        ((size_t)length >= tail && strcmp(path + (size_t)length - tail, deleted) == 0))
        return false;
    make_stable(path);
    return true;
}
