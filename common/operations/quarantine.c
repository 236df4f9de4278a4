/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/operations/quarantine.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "kvm/base/file.h"
#include "kvm/base/memory.h"

/* "chroot-quarantine/web1-runtime-20261127023107-9f3c"; the caller frees. */
static char *make_name(const char *name, const char *kind)
{
    time_t now = time(NULL);
    unsigned int random = 0;
    char stamp[32];
    struct tm local;

    localtime_r(&now, &local);
    strftime(stamp, sizeof(stamp), "%Y%m%d%H%M%S", &local);
    if (getrandom(&random, sizeof(random), 0) < 0)
        random = (unsigned int)getpid();
    return memory_format("chroot-quarantine/%s%s%s-%s-%04x", name, kind[0] != '\0' ? "-" : "", kind,
                         stamp, random & 0xffff);
}

/* Nobody else makes one of this instance, whose lock is held. */
static char *free_name(const struct rundir *rundir, const char *name, const char *kind)
{
    char *target = make_name(name, kind);

    while (file_exists(rundir->fd, target)) { /* a rename would put it in the place of that */
        free(target);
        target = make_name(name, kind);
    }
    return target;
}

char *quarantine_move(const struct rundir *rundir, const char *name, const char *path,
                      const char *kind, struct error *error)
{
    AUTO_FREE char *target = free_name(rundir, name, kind);

    if (file_make_directory(rundir->fd, "chroot-quarantine", 0700, error) < 0)
        return NULL;
    if (renameat(rundir->fd, path, rundir->fd, target) < 0) {
        error_errno(error, STATUS_INCOMPLETE, "%s/%s: can't be moved to quarantine", rundir->path,
                    path);
        return NULL;
    }
    if (file_sync_directory(rundir->fd, target, error) < 0 ||
        file_sync_directory(rundir->fd, path, error) < 0)
        return NULL;
    return memory_format("%s/%s", rundir->path, target);
}
