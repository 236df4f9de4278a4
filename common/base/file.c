/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "kvm/base/memory.h"

static _Thread_local bool was_missing, was_refused;

bool file_is_missing(void)
{
    return was_missing;
}

bool file_is_refused(void)
{
    return was_refused;
}

DIR *file_entries(int descriptor)
{
    DIR *entries = descriptor < 0 ? NULL : fdopendir(descriptor);
    int why = errno;

    if (entries == NULL)
        memory_close(&descriptor);
    errno = why;
    return entries;
}

static int fail_errno(struct error *error, const char *name, const char *what)
{
    was_missing = errno == ENOENT;
    was_refused = errno == ELOOP || errno == ENOTDIR || errno == ENXIO; /* the last: a socket */
    if (errno == ELOOP)
        return error_set(error, STATUS_FAILED, "%s: %s: refused, it is a symbolic link", name,
                         what);
    if (errno == ENOTDIR) /* which a link is as well where none is followed */
        return error_set(error, STATUS_FAILED,
                         "%s: %s: refused, what it lies in is a symbolic link or no directory",
                         name, what);
    return error_errno(error, STATUS_FAILED, "%s: %s", name, what);
}

static int fail(struct error *error, const char *name, const char *why)
{
    was_missing = false;
    was_refused = true;
    return error_set(error, STATUS_FAILED, "%s: %s", name, why);
}

/* Opens the directory that holds `name`; *last is the last component, in `name`. */
static int open_parent(int directory, const char *name, const char **last)
{
    const char *slash = strrchr(name, '/');
    *last = slash != NULL ? slash + 1 : name;
    if (**last == '\0' || strlen(name) >= PATH_MAX) {
        errno = **last == '\0' ? EINVAL : ENAMETOOLONG;
        return -1;
    }
    char path[PATH_MAX];
    if (*name == '/') {
        snprintf(path, sizeof(path), "%.*s", (int)(slash - name), name);
        return open(*path != '\0' ? path : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    int parent = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    memcpy(path, name, strlen(name) + 1);
    char *rest = path;
    for (char *end = strchr(rest, '/'); parent >= 0 && end != NULL; end = strchr(rest, '/')) {
        AUTO_CLOSE int above = parent;
        *end = '\0';
        parent = openat(above, *rest != '\0' ? rest : ".",
                        O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        rest = end + 1;
    }
    return parent;
}

/* Of a name in some directory only the caller knows what is to be typed. */
static int refuse(struct error *error, const char *name, const char *why, const char *mend)
{
    was_refused = true;
    error_set(error, STATUS_FAILED, "%s: refused, %s", name, why);
    return *name == '/' ? error_append(error, "; look at what is in it, then: %s %s", mend, name)
                        : -1;
}

static int check_opened(int file, const char *name, size_t limit, bool private, struct error *error)
{
    struct stat status;
    if (fstat(file, &status) < 0)
        return fail_errno(error, name, "stat");
    if (!S_ISREG(status.st_mode))
        return fail(error, name, "refused, it is not a regular file");
    if (status.st_nlink != 1)
        return fail(error, name, "refused, it has more than one link");
    if (status.st_uid != 0 && status.st_uid != geteuid())
        return refuse(error, name, "its owner is neither root nor the caller", "chown root");
    if (private && (status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return refuse(error, name, "its group or others may write it", "chmod go-w");
    if ((size_t)status.st_size > limit)
        return fail(error, name, "refused, it is too large");
    return 0;
}

static int read_opened(int file, const char *name, size_t limit, char **bytes, size_t *length,
                       struct error *error)
{
    struct stat status;
    size_t room = fstat(file, &status) == 0 ? (size_t)status.st_size + 1 : 1, filled = 0;
    AUTO_FREE char *content = memory_zeroed(room + 1, 1);
    for (;;) {
        ssize_t got = read(file, content + filled, room - filled);
        if (got == 0)
            break;
        if (got < 0 && errno != EINTR)
            return fail_errno(error, name, "read");
        filled += got > 0 ? (size_t)got : 0;
        if (filled > limit)
            return fail(error, name, "refused, it is too large");
        if (filled == room) { /* it grew, or is of a file system that tells no size */
            room *= 2;
            content = memory_resize(content, room + 1, 1);
        }
    }
    content[filled] = '\0';
    *bytes = content;
    content = NULL;
    if (length != NULL)
        *length = filled;
    return 0;
}

int file_read(int directory, const char *name, size_t limit, bool private, char **bytes,
              size_t *length, struct error *error)
{
    was_missing = was_refused = false;
    const char *last;
    AUTO_CLOSE int parent = open_parent(directory, name, &last);
    if (parent < 0)
        return fail_errno(error, name, "open");
    /* O_NONBLOCK: a planted FIFO must not hold us up before it is refused */
    AUTO_CLOSE int file =
        openat(parent, last, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0)
        return fail_errno(error, name, "open");
    if (check_opened(file, name, limit, private, error) < 0)
        return -1;
    return read_opened(file, name, limit, bytes, length, error);
}

int file_write_all(int descriptor, const void *bytes, size_t length)
{
    const char *at = bytes;
    while (length > 0) {
        ssize_t written = write(descriptor, at, length);
        if (written < 0 && errno != EINTR)
            return -1;
        if (written > 0) {
            at += written;
            length -= (size_t)written;
        }
    }
    return 0;
}

/* Makes the temporary file whole and durable, but not yet seen under its name. */
static int write_temporary(int parent, const char *temporary, const char *name, const void *bytes,
                           size_t length, struct error *error)
{
    int file =
        openat(parent, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file < 0)
        return fail_errno(error, name, "create the temporary file");
    const char *step = NULL;
    if (file_write_all(file, bytes, length) < 0)
        step = "write the temporary file";
    else if (fsync(file) < 0)
        step = "fsync of the temporary file";
    if (step != NULL) {
        memory_close(&file);
        return fail_errno(error, name, step);
    }
    if (close(file) < 0) /* a network file system tells a full disk only here */
        return fail_errno(error, name, "close the temporary file");

    AUTO_FREE char *again = NULL;
    size_t again_length;
    if (file_read(parent, temporary, length, true, &again, &again_length, error) < 0)
        return error_prefix(error, "%s: read back", name);
    if (again_length != length || memcmp(again, bytes, length) != 0)
        return fail(error, name, "the temporary file does not hold what was written");
    return 0;
}

char *file_temporary(const char *name)
{
    const char *slash = strrchr(name, '/');
    int directory = slash != NULL ? (int)(slash + 1 - name) : 0;
    return memory_format("%.*s.%s.tmp", directory, name, name + directory);
}

int file_prepare(int directory, const char *name, const void *bytes, size_t length,
                 struct error *error)
{
    was_missing = false;
    const char *last;
    AUTO_CLOSE int parent = open_parent(directory, name, &last);
    if (parent < 0)
        return fail_errno(error, name, "open the directory");
    AUTO_FREE char *temporary = file_temporary(last);
    if (file_exists(parent, temporary) && unlinkat(parent, temporary, 0) < 0)
        return fail_errno(error, name, "remove the left-over temporary file");
    if (write_temporary(parent, temporary, name, bytes, length, error) == 0)
        return 0;
    unlinkat(parent, temporary, 0);
    return -1;
}

static int put_in_place(int parent, const char *temporary, const char *last, const char *name,
                        struct error *error)
{
    struct stat status;
    if (fstatat(parent, last, &status, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(status.st_mode))
        return fail(error, name, "refused to replace it, it is not a regular file");
    return renameat(parent, temporary, parent, last) < 0 ? fail_errno(error, name, "rename") : 0;
}

int file_publish(int directory, const char *name, struct error *error)
{
    was_missing = false;
    const char *last;
    AUTO_CLOSE int parent = open_parent(directory, name, &last);
    if (parent < 0)
        return fail_errno(error, name, "open the directory");
    AUTO_FREE char *temporary = file_temporary(last);
    if (put_in_place(parent, temporary, last, name, error) < 0) {
        unlinkat(parent, temporary, 0);
        return -1;
    }
    if (fsync(parent) < 0) {
        fail_errno(error, name, "fsync of its directory");
        error_append(error, "; the new content is in place but may not survive a power cut");
        if (error != NULL)
            error->status = STATUS_INCOMPLETE;
        return -1;
    }
    return 0;
}

void file_forget(int directory, const char *name)
{
    AUTO_FREE char *temporary = file_temporary(name);
    file_remove(directory, temporary, NULL, NULL);
}

int file_replace(int directory, const char *name, const void *bytes, size_t length,
                 struct error *error)
{
    return file_prepare(directory, name, bytes, length, error) < 0
               ? -1
               : file_publish(directory, name, error);
}

int file_remove(int directory, const char *name, bool *was_there, struct error *error)
{
    was_missing = false;
    const char *last;
    AUTO_CLOSE int parent = open_parent(directory, name, &last);
    /* looked for first: a read-only file system refuses to unlink even what is not there */
    int result = parent < 0 || !file_exists(parent, last) ? -1 : unlinkat(parent, last, 0);
    if (was_there != NULL)
        *was_there = result == 0 || errno != ENOENT;
    if (result < 0 && errno != ENOENT)
        return fail_errno(error, name, "remove");
    return 0;
}

bool file_is_link(int directory, const char *name)
{
    struct stat status;

    return fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(status.st_mode);
}

/* The new entry is made durable as well: a file committed in it would be lost with it. */
static int make_one(int directory, const char *name, mode_t mode, struct error *error)
{
    const char *last;
    AUTO_CLOSE int parent = open_parent(directory, name, &last);
    if (parent < 0)
        return fail_errno(error, name, "open the directory above");
    bool made = mkdirat(parent, last, mode) == 0;
    if (!made && errno != EEXIST)
        return fail_errno(error, name, "make the directory");
    AUTO_CLOSE int opened = openat(parent, last, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (opened < 0 && errno == ENOTDIR)
        return fail(error, name,
                    file_is_link(parent, last)
                        ? "refused, it is a symbolic link; name the directory itself"
                        : "refused, it is not a directory");
    if (opened < 0)
        return fail_errno(error, name, "open");
    if (made && (fchmod(opened, mode) < 0 || fsync(parent) < 0))
        return fail_errno(error, name, "make the directory");
    return 0;
}

int file_make_directory(int directory, const char *name, mode_t mode, struct error *error)
{
    was_missing = false;
    AUTO_FREE char *path = memory_copy(name);
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        path[--length] = '\0';
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        /* what exists above may be reached through links that the operator named */
        bool there = path[strlen(path) - 1] == '/' ||
                     (*path == '/' && faccessat(AT_FDCWD, path, F_OK, 0) == 0);
        if (!there && make_one(directory, path, mode, error) < 0)
            return -1;
        *slash = '/';
    }
    return make_one(directory, path, mode, error);
}

int file_sync_directory(int directory, const char *name, struct error *error)
{
    was_missing = false;
    const char *last;
    AUTO_CLOSE int parent = open_parent(directory, name, &last);
    if (parent < 0)
        return fail_errno(error, name, "open its directory");
    if (fsync(parent) < 0)
        return fail_errno(error, name, "fsync of its directory");
    return 0;
}

bool file_exists(int directory, const char *name)
{
    struct stat status;
    return fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0;
}

char *file_absolute(const char *path)
{
    char *absolute = NULL;
    if (*path == '/') {
        absolute = memory_copy(path);
    } else {
        AUTO_FREE char *here = getcwd(NULL, 0);
        if (here == NULL)
            return NULL;
        absolute = memory_format("%s/%s", strcmp(here, "/") == 0 ? "" : here, path);
    }
    size_t length = strlen(absolute);
    while (length > 1 && absolute[length - 1] == '/')
        absolute[--length] = '\0';
    return absolute;
}
