/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/qemu/probe.h"
#include "kvm/state/check.h"
#include "probe_private.h"

enum { CACHE_NAME_SIZE = 160, CACHE_SIZE_MAX = 256 * 1024, CACHE_VERSION = 4 };

/* Which build of the binary this is: a replaced one has another inode or time. */
static int cache_name(const char *binary, char *name, struct error *error)
{
    struct stat status;
    if (stat(binary, &status) != 0)
        return error_errno(error, STATUS_FAILED, "%s", binary);
    if (!S_ISREG(status.st_mode))
        return error_set(error, STATUS_FAILED, "%s: not a regular file", binary);
    if (access(binary, X_OK) != 0)
        return error_errno(error, STATUS_FAILED, "%s: can't be executed", binary);
    snprintf(name, CACHE_NAME_SIZE, "cache/qemu-%u.%u-%ju-%jd-%jd%09ld.json", major(status.st_dev),
             minor(status.st_dev), (uintmax_t)status.st_ino, (intmax_t)status.st_size,
             (intmax_t)status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
    return 0;
}

static json_t *probe_json(const struct probe *probe)
{
    return memory_json(json_pack(
        "{s:i, s:[i, i, i], s:O, s:O, s:O, s:O, s:O, s:b, s:b, s:b, s:b}", "version", CACHE_VERSION,
        "qemu", probe->major, probe->minor, probe->micro, "machines", probe->machines, "vcpus",
        probe->vcpus, "cpus", probe->cpus, "features", probe->features, "types", probe->types,
        "sandbox", (int)probe->has_sandbox, "run_with_chroot", (int)probe->run_with_chroot,
        "run_with_user", (int)probe->run_with_user, "null_event_log", (int)probe->null_event_log));
}

static bool are_machines(const json_t *machines)
{
    const char *name;
    json_t *value;
    if (json_object_size(machines) == 0)
        return false;
    json_object_foreach ((json_t *)(uintptr_t)machines, name, value) {
        if (!json_is_string(value))
            return false;
    }
    return true;
}

/* Steals nothing. False when anything in it is not as probe_json writes it. */
static bool probe_from_json(json_t *cached, struct probe *probe)
{
    int version = 0, sandbox = 0, chroot = 0, user = 0, null_log = 0;
    json_t *machines = NULL, *vcpus = NULL, *cpus = NULL, *features = NULL, *types = NULL;
    struct probe found = {0};
    if (json_unpack(cached, "{s:i, s:[i, i, i!], s:o, s:o, s:o, s:o, s:o, s:b, s:b, s:b, s:b !}",
                    "version", &version, "qemu", &found.major, &found.minor, &found.micro,
                    "machines", &machines, "vcpus", &vcpus, "cpus", &cpus, "features", &features,
                    "types", &types, "sandbox", &sandbox, "run_with_chroot", &chroot,
                    "run_with_user", &user, "null_event_log", &null_log) != 0)
        return false;
    if (version != CACHE_VERSION || !are_machines(machines) || !json_is_object(vcpus) ||
        !json_is_array(cpus) || !json_is_string(features) || !json_is_array(types))
        return false;
    found.machines = json_incref(machines);
    found.vcpus = json_incref(vcpus);
    found.cpus = json_incref(cpus);
    found.features = json_incref(features);
    found.types = json_incref(types);
    found.has_sandbox = sandbox != 0;
    found.run_with_chroot = chroot != 0;
    found.run_with_user = user != 0;
    found.null_event_log = null_log != 0;
    *probe = found;
    return true;
}

static bool read_cache(const struct rundir *rundir, const char *name, struct probe *probe)
{
    AUTO_FREE char *text = NULL;
    size_t length = 0;
    if (file_read(rundir->fd, name, CACHE_SIZE_MAX, true, &text, &length, NULL) != 0)
        return false;
    AUTO_JSON json_t *cached = json_parse(text, length, name, NULL);
    return cached != NULL && probe_from_json(cached, probe);
}

/* The cache is shared by all instances and held by no instance's lock. Whoever finds it being written
 * leaves it at that: it only saves time. */
static void write_cache(const struct rundir *rundir, const char *name, const struct probe *probe)
{
    if (file_make_directory(rundir->fd, "cache", 0700, NULL) != 0)
        return;
    AUTO_CLOSE int lock =
        openat(rundir->fd, "cache/lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (lock < 0 || fcntl(lock, F_OFD_SETLK, &whole) != 0)
        return;
    AUTO_JSON json_t *cached = probe_json(probe);
    AUTO_FREE char *text = json_compact(cached);
    file_replace(rundir->fd, name, text, strlen(text), NULL);
}

int probe_binary(const struct rundir *rundir, const char *binary, bool use_cache,
                 struct probe *probe, struct error *error)
{
    char name[CACHE_NAME_SIZE];
    *probe = (struct probe){0};
    if (cache_name(binary, name, error) != 0)
        return -1;
    if (use_cache && read_cache(rundir, name, probe))
        return 0;
    if (probe_ask(binary, probe, error) != 0)
        return -1;
    if (use_cache)
        write_cache(rundir, name, probe);
    return 0;
}

void probe_keep(const struct rundir *rundir, const char *binary, const struct probe *probe)
{
    char name[CACHE_NAME_SIZE];

    if (cache_name(binary, name, NULL) == 0)
        write_cache(rundir, name, probe);
}

static bool has_type(const struct probe *probe, const char *type)
{
    for (size_t i = 0; i < json_array_size(probe->types); i++) {
        const char *one = json_string_value(json_array_get(probe->types, i));
        if (one != NULL && strcmp(one, type) == 0)
            return true;
    }
    return false;
}

bool probe_has_type(const struct rundir *rundir, const char *binary, bool use_cache,
                    struct probe *probe, const char *type)
{
    char name[CACHE_NAME_SIZE];
    struct probe again = {0};
    if (has_type(probe, type))
        return true;
    if (cache_name(binary, name, NULL) != 0 || probe_ask(binary, &again, NULL) != 0)
        return false;
    json_decref(probe->types);
    probe->types = json_incref(again.types);
    probe_release(&again);
    if (use_cache && has_type(probe, type))
        write_cache(rundir, name, probe);
    return has_type(probe, type);
}

void probe_release(struct probe *probe)
{
    json_decref(probe->machines);
    json_decref(probe->vcpus);
    json_decref(probe->cpus);
    json_decref(probe->features);
    json_decref(probe->types);
    *probe = (struct probe){0};
}

void probe_note_event_log(const struct rundir *rundir, const char *binary, bool null_works)
{
    char name[CACHE_NAME_SIZE];
    struct probe probe;
    if (cache_name(binary, name, NULL) != 0 || !read_cache(rundir, name, &probe))
        return;
    probe.null_event_log = null_works;
    write_cache(rundir, name, &probe);
    probe_release(&probe);
}

const char *probe_machine(const struct probe *probe, const char *name)
{
    return json_text(probe->machines, name);
}
