/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where a disk that travels may come to lie. A request is another node's: it must neither plant a file where this one looks
 * for programs, units or jobs, nor write over what is no disk.
 *
 * A path is resolved once. What was judged is then opened component by component, following nothing, and all further work
 * is done by these descriptors: who changes a directory in the meantime gets nothing written elsewhere.
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

/* Without disk_places of the node file: what is there is overwritten only where disks use to be… */
static const char *const disk_directories[] = {"/srv",
                                               "/mnt",
                                               "/media",
                                               "/data",
                                               "/tmp",
                                               "/var/tmp",
                                               "/var/lib/kvm-suite",
                                               "/var/lib/ganeti",
                                               "/var/lib/libvirt/images",
                                               NULL};
/* …and new files are made anywhere but here. */
static const char *const system_directories[] = {
    "/bin",  "/boot", "/dev", "/etc",  "/lib", "/lib32", "/lib64",     "/libx32",
    "/proc", "/root", "/run", "/sbin", "/sys", "/usr",   "/var/spool", NULL};

void place_release(struct place *place)
{
    memory_close(&place->directory);
    memory_close(&place->there);
    free(place->real);
    *place = (struct place){.directory = -1, .there = -1};
}

/* ---- opened ---- */

/* An absolute path without symbolic links; one that has become one since fails. */
static int open_walking(const char *real)
{
    AUTO_FREE char *parts = memory_copy(real);
    char *rest = NULL;
    int directory = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    for (char *part = strtok_r(parts, "/", &rest); part != NULL && directory >= 0;
         part = strtok_r(NULL, "/", &rest)) {
        int next = openat(directory, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int saved = errno;
        close(directory);
        errno = saved;
        directory = next;
    }
    return directory;
}

/* The directory part of a path with a slash; "/" of "/x". The caller frees. */
static char *above_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return memory_format("%.*s", slash == path ? 1 : (int)(slash - path), path);
}

/* Of what is not there its directory is resolved, else all of it. */
static char *resolve(const char *path, struct error *error)
{
    AUTO_FREE char *above = above_of(path);
    struct stat status;

    if (lstat(path, &status) == 0) {
        char *real = realpath(path, NULL);
        if (real == NULL)
            error_errno(error, STATUS_STATE, "%s", path);
        return real;
    }
    if (errno != ENOENT && errno != ENOTDIR) {
        error_errno(error, STATUS_STATE, "%s", path);
        return NULL;
    }
    AUTO_FREE char *directory = realpath(above, NULL);
    if (directory == NULL && errno == ENOENT)
        error_set(error, STATUS_STATE, "%s: there is no directory %s, make it first", path, above);
    else if (directory == NULL)
        error_errno(error, STATUS_STATE, "%s", above);
    return directory == NULL ? NULL
                             : memory_format("%s%s", strcmp(directory, "/") == 0 ? "" : directory,
                                             strrchr(path, '/'));
}

int place_open(const char *path, struct place *place, struct error *error)
{
    place_release(place);
    place->real = resolve(path, error);
    if (place->real == NULL)
        return -1;
    AUTO_FREE char *above = above_of(place->real);
    place->name = strrchr(place->real, '/') + 1;
    place->directory = open_walking(above);
    if (place->directory < 0)
        return error_errno(error, STATUS_STATE, "%s", above);
    place->there = openat(place->directory, place->name,
                          O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (place->there < 0 && errno != ENOENT)
        return error_errno(error, STATUS_STATE, "%s", path);
    return 0;
}

int place_reopen(const struct place *place, int flags)
{
    AUTO_FREE char *path = memory_format("/proc/self/fd/%d", place->there);
    return open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
}

/* ---- allowed ---- */

/* What of `path` is below the directory, "" when it is that; NULL: it is elsewhere. */
static const char *below(const char *path, const char *directory)
{
    size_t length = strcmp(directory, "/") == 0 ? 0 : strlen(directory);

    if (strncmp(path, directory, length) != 0 || (path[length] != '/' && path[length] != '\0'))
        return NULL;
    return path + length;
}

static bool is_allowed_below(const char *real, const char *directory)
{
    AUTO_FREE char *resolved = realpath(directory, NULL);
    const char *rest = resolved == NULL ? NULL : below(real, resolved);

    return rest != NULL && rest[0] != '\0' && strstr(rest, "/.") == NULL;
}

static bool is_below_any(const char *real, const char *const *directories)
{
    for (size_t i = 0; directories[i] != NULL; i++)
        if (is_allowed_below(real, directories[i]))
            return true;
    return false;
}

static bool is_system_place(const char *real)
{
    for (size_t i = 0; system_directories[i] != NULL; i++)
        if (below(real, system_directories[i]) != NULL)
            return true;
    return strstr(real, "/.") != NULL;
}

bool place_names_volume(const char *path, char group[PLACE_NAME_SIZE], char volume[PLACE_NAME_SIZE])
{
    char rest[2];
    return strlen(path) < PLACE_NAME_SIZE &&
           sscanf(path, "/dev/%127[^/]/%127[^/]%1s", group, volume, rest) == 2;
}

/* The links in /dev are the system's own: a volume is known by the name that was asked for. */
static bool is_device_allowed(const char *path, const char *real, const json_t *places)
{
    char group[PLACE_NAME_SIZE], volume[PLACE_NAME_SIZE];
    size_t i;
    json_t *place;

    if (below(path, "/dev") == NULL || below(real, "/dev") == NULL)
        return false;
    if (places == NULL)
        return strncmp(real, "/dev/dm-", 8) == 0 && place_names_volume(path, group, volume);
    json_array_foreach (places, i, place)
        if (below(json_string_value(place), "/dev") != NULL &&
            below(path, json_string_value(place)) != NULL)
            return true;
    return false;
}

static bool is_file_allowed(const char *real, bool exists, const json_t *places)
{
    size_t i;
    json_t *place;

    if (places == NULL)
        return exists ? is_below_any(real, disk_directories) : !is_system_place(real);
    json_array_foreach (places, i, place)
        if (is_allowed_below(real, json_string_value(place)))
            return true;
    return false;
}

static int refuse(const struct node *node, const char *path, const struct place *place,
                  const json_t *places, bool device, struct error *error)
{
    AUTO_FREE char *above = above_of(device ? path : place->real);
    AUTO_FREE char *value = places == NULL ? memory_copy("not set") : json_compact(places);
    const char *usual = device              ? ", which allows logical volumes only"
                        : place->there >= 0 ? ", which allows to overwrite files below /srv, /mnt "
                                              "and the like only"
                                            : ", so disks are not made in directories of the "
                                              "system or in hidden ones";

    return error_set(error, STATUS_STATE,
                     "%s: refused: %s: disk_places: must name \"%s\" or a directory above it "
                     "(current value: %s%s); put it there, then repeat the command",
                     path, node->source, above, value, places == NULL ? usual : "");
}

int place_check_allowed(const struct node *node, const char *path, const struct place *place,
                        struct error *error)
{
    const json_t *places = json_member(node->defaults, "disk_places");
    struct stat status = {0};

    if (place->there >= 0 && fstat(place->there, &status) < 0)
        return error_errno(error, STATUS_STATE, "%s", path);
    bool device = S_ISBLK(status.st_mode);
    if (device ? is_device_allowed(path, place->real, places)
               : is_file_allowed(place->real, place->there >= 0, places))
        return 0;
    return refuse(node, path, place, places, device, error);
}
