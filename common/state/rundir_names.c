/* SPDX-License-Identifier: BSD-2-Clause */
/* The part of rundir.h that finds the instances which a run directory holds. */
#include "kvm/state/rundir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "kvm/base/file.h"
#include "kvm/base/memory.h"
#include "kvm/state/instance.h"

static const char *const no_suffix[] = {"", NULL};
static const char *const runtime_suffix[] = {".runtime", NULL};
static const char *const control_suffixes[] = {".monitor",  ".qmp",    ".query",  ".kvmd",
                                               ".shutdown", ".serial", ".qga",    ".vnc",
                                               ".spice",    ".events", ".tunnel", NULL};
static const char *const events_suffix[] = {".jsonl", NULL};
static const char *const log_suffix[] = {".log", NULL};

static const struct {
    const char *directory;
    const char *const *suffixes;
} places[] = {
    {"pid", no_suffix},       {"uid", no_suffix},    {"ctrl", control_suffixes},
    {"conf", runtime_suffix}, {"nic", no_suffix},    {"keymap", no_suffix},
    {"tpm", no_suffix},       {"chroot", no_suffix}, {"events", events_suffix},
    {"log", log_suffix},
};

struct names {
    char **items;
    size_t count, room;
};

/* The instance that an entry belongs to, allocated; NULL: none. */
static char *owner_of(const char *entry, const char *const *suffixes)
{
    size_t length = strlen(entry);
    for (; *suffixes != NULL; suffixes++) {
        size_t tail = strlen(*suffixes);
        if (length <= tail || strcmp(entry + length - tail, *suffixes) != 0)
            continue;
        char *name = memory_copy(entry);
        name[length - tail] = '\0';
        if (instance_check_name(name, NULL) == 0)
            return name;
        free(name);
    }
    return NULL;
}

/* A command that was killed while it wrote the first file has left no more than ".ENTRY.tmp". */
static char *owner_of_hidden(const char *entry, const char *const *suffixes)
{
    static const char tail[] = ".tmp";
    size_t length = strlen(entry), rest = 1 + strlen(tail);
    if (length <= rest || strcmp(entry + length - strlen(tail), tail) != 0)
        return NULL;
    AUTO_FREE char *inner = memory_format("%.*s", (int)(length - rest), entry + 1);
    return owner_of(inner, suffixes);
}

static void add(struct names *names, char *name)
{
    if (names->count + 1 >= names->room) {
        names->room = names->room * 2 + 64;
        names->items = memory_resize(names->items, names->room, sizeof(names->items[0]));
    }
    names->items[names->count++] = name;
    names->items[names->count] = NULL;
}

/* NULL at the end, with errno 0, or when the rest can't be read. */
static const struct dirent *next_entry(DIR *stream)
{
    errno = 0;
    return readdir(stream);
}

static int scan(const struct rundir *rundir, const char *directory, const char *const *suffixes,
                struct names *names, struct error *error)
{
    int fd = openat(rundir->fd, directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return 0;
    DIR *stream = file_entries(fd);
    const struct dirent *entry;
    while (stream != NULL && (entry = next_entry(stream)) != NULL) {
        char *name = *entry->d_name == '.' ? owner_of_hidden(entry->d_name, suffixes)
                                           : owner_of(entry->d_name, suffixes);
        if (name != NULL)
            add(names, name);
    }
    int result = stream == NULL || errno != 0
                     ? error_errno(error, STATUS_FAILED,
                                   "%s/%s: can't be read, so which instances are here is not known",
                                   rundir->path, directory)
                     : 0;
    if (stream != NULL)
        closedir(stream);
    return result;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char **rundir_names(const struct rundir *rundir, size_t *count, struct error *error)
{
    struct names names = {.items = memory_zeroed(1, sizeof(names.items[0])), .room = 1};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
        if (scan(rundir, places[i].directory, places[i].suffixes, &names, error) < 0) {
            rundir_names_release(names.items);
            return NULL;
        }
    qsort(names.items, names.count, sizeof(names.items[0]), compare);
    size_t kept = 0;
    for (size_t i = 0; i < names.count; i++) {
        if (kept > 0 && strcmp(names.items[kept - 1], names.items[i]) == 0)
            free(names.items[i]);
        else
            names.items[kept++] = names.items[i];
    }
    names.items[kept] = NULL;
    if (count != NULL)
        *count = kept;
    return names.items;
}

void rundir_names_release(char **names)
{
    for (char **name = names; name != NULL && *name != NULL; name++)
        free(*name);
    free(names);
}
