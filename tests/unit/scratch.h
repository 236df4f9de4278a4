/* SPDX-License-Identifier: BSD-2-Clause */
/* A directory of a test's own, removed with all that is in it at the end of the scope. */
#ifndef KVM_TESTS_SCRATCH_H
#define KVM_TESTS_SCRATCH_H

#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include "kvm/state/rundir.h"

struct scratch {
    char path[64];
    int fd;
};

static inline int scratch_remove_one(const char *path, const struct stat *status, int type,
                                     struct FTW *position)
{
    (void)status;
    (void)type;
    (void)position;
    return remove(path);
}

static inline void scratch_end(struct scratch *scratch)
{
    close(scratch->fd);
    nftw(scratch->path, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
#define AUTO_SCRATCH __attribute__((cleanup(scratch_end)))

static inline struct scratch scratch_begin(void)
{
    struct scratch scratch = {.path = "/tmp/kvm-unit-XXXXXX", .fd = -1};
    if (mkdtemp(scratch.path) == NULL) {
        perror("mkdtemp");
        exit(99);
    }
    scratch.fd = open(scratch.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return scratch;
}

static inline bool scratch_write(const struct scratch *scratch, const char *name, const char *text)
{
    int file = openat(scratch->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool good = file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text);
    return close(file) == 0 && good;
}

/* True when the file holds exactly `text`. */
static inline bool scratch_holds(const struct scratch *scratch, const char *name, const char *text)
{
    char bytes[4096];
    int file = openat(scratch->fd, name, O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, bytes, sizeof(bytes));
    if (file >= 0)
        close(file);
    return length == (ssize_t)strlen(text) && memcmp(bytes, text, strlen(text)) == 0;
}

/* It stands for a run directory, without those that are in one. */
static inline struct rundir scratch_rundir(struct scratch *scratch)
{
    return (struct rundir){.fd = scratch->fd, .path = scratch->path};
}

/* From here on mounts are seen by this program only. False: not allowed to us. */
static inline bool scratch_own_mounts(void)
{
    return unshare(CLONE_NEWNS) == 0 && mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

#endif
