/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Files below a directory descriptor, so that nothing planted is followed: every call uses
 * O_NOFOLLOW | O_CLOEXEC on the last component, and checks what it opened.
 *
 * file_replace is the only way in which state reaches the disk. Its order (safety.md): fixed
 * temporary name ".NAME.tmp" in the same directory (a left-over one is removed first: the caller
 * holds the instance lock), O_CREAT|O_EXCL|O_NOFOLLOW, 0600 → write all → fsync → close → re-read
 * and compare → renameat → fsync of the directory. When it returns 0 the new content survives a
 * power cut; when it fails the old content is there, byte for byte. One failure comes too late for
 * that: fsync of the directory after the rename; it is STATUS_INCOMPLETE and says so.
 *
 * A relative name may hold slashes; no component of it is followed if it is a symbolic link. Of an
 * absolute name (with AT_FDCWD) only the last component is held to that.
 */
#ifndef KVM_BASE_FILE_H
#define KVM_BASE_FILE_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "kvm/base/error.h"

/* Read a whole regular file of at most `limit` bytes. *bytes is NUL-terminated, the caller frees;
 * *length may be NULL. A missing file fails with errno ENOENT (test with file_is_missing). Checks:
 * regular, one link, owner root or the caller; `private` also demands that group and others have no
 * write permission. `name` may hold slashes. */
int file_read(int directory, const char *name, size_t limit, bool private, char **bytes,
              size_t *length, struct error *error);

/* True when the last failing call of this module failed with ENOENT. */
bool file_is_missing(void);

/* True when the last file_read failed because of what is there: no regular file, a link, of another owner, too large… */
bool file_is_refused(void);

/* To read what is in an open directory; steals the descriptor (-1: NULL), also when it fails: NULL with errno. */
DIR *file_entries(int descriptor);

/* See above. `name` may hold slashes; the temporary file is made beside it. */
int file_replace(int directory, const char *name, const void *bytes, size_t length,
                 struct error *error);

/* Its two parts, for who has something else to do between them: the new content, whole and durable, beside the old; then
 * the new in the place of the old. A part that fails leaves no temporary file. */
int file_prepare(int directory, const char *name, const void *bytes, size_t length,
                 struct error *error);
int file_publish(int directory, const char *name, struct error *error);
/* What was prepared is not wanted any more; also what a killed file_replace has left. If it can't be removed it stays,
 * and is in nobody's way. */
void file_forget(int directory, const char *name);

/* The temporary file's name, which a killed file_replace leaves behind: "conf/.NAME.tmp" for "conf/NAME". The caller
 * frees. */
char *file_temporary(const char *name);

/* Unlink; a file that is not there is success. *was_there may be NULL. */
int file_remove(int directory, const char *name, bool *was_there, struct error *error);

/* mkdir -p below `directory`; what exists must be a directory. */
int file_make_directory(int directory, const char *name, mode_t mode, struct error *error);
/* Without following it: whether a symbolic link has this name. */
bool file_is_link(int directory, const char *name);

/* fsync of the directory that holds `name`. */
int file_sync_directory(int directory, const char *name, struct error *error);

bool file_exists(int directory, const char *name);

/* The path from the root on, without slashes at its end, so that it means the same in a child that works in another
 * directory. The caller frees; NULL with errno. */
char *file_absolute(const char *path);

/* Write all bytes, restarting on EINTR and short writes; -1 with errno. */
int file_write_all(int descriptor, const void *bytes, size_t length);

#endif
