/* SPDX-License-Identifier: BSD-2-Clause */
#include "unit.h"
#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <signal.h>
#include "kvm/base/file.h"
#include "kvm/base/memory.h"

enum { LIMIT = 4096 };

/* Nothing but the listed one file is in the directory, and it holds `text`. */
static bool only_holds(const struct scratch *scratch, const char *name, const char *text)
{
    AUTO_FREE char *temporary = memory_format(".%s.tmp", name);
    return scratch_holds(scratch, name, text) && !file_exists(scratch->fd, temporary);
}

TEST(replacing, "replace makes the file, then replaces it, 0600 and with no left-over")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    struct error error = {0};
    struct stat status;
    CHECK(file_replace(scratch.fd, "state", "one", 3, &error) == 0);
    CHECK(only_holds(&scratch, "state", "one"));
    CHECK(file_replace(scratch.fd, "state", "three", 5, &error) == 0);
    CHECK(only_holds(&scratch, "state", "three"));
    CHECK(fstatat(scratch.fd, "state", &status, 0) == 0);
    CHECK_NUMBER(status.st_mode & 07777, 0600);
    CHECK(file_replace(scratch.fd, "state", "", 0, &error) == 0);
    CHECK(only_holds(&scratch, "state", ""));
    return true;
}

TEST(in_two_parts,
     "what is prepared is not seen before it is published, and what fails leaves nothing")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    struct error error = {0};
    CHECK(file_replace(scratch.fd, "state", "old", 3, NULL) == 0);
    CHECK(file_prepare(scratch.fd, "state", "unwanted", 8, &error) == 0);
    CHECK(file_prepare(scratch.fd, "state", "new", 3, &error) == 0);
    CHECK(scratch_holds(&scratch, "state", "old"));
    CHECK(scratch_holds(&scratch, ".state.tmp", "new"));
    CHECK(file_publish(scratch.fd, "state", &error) == 0);
    CHECK(only_holds(&scratch, "state", "new"));
    CHECK(file_publish(scratch.fd, "state", &error) == -1);
    CHECK_HAS(error.text, "state: rename");
    CHECK(only_holds(&scratch, "state", "new"));
    CHECK(file_prepare(scratch.fd, "state", "newer", 5, &error) == 0);
    CHECK(unlinkat(scratch.fd, "state", 0) == 0 && symlinkat("/", scratch.fd, "state") == 0);
    CHECK(file_publish(scratch.fd, "state", &error) == -1);
    CHECK_HAS(error.text, "state: refused to replace it, it is not a regular file");
    CHECK(!file_exists(scratch.fd, ".state.tmp"));
    CHECK(unlinkat(scratch.fd, "state", 0) == 0);
    CHECK(file_prepare(scratch.fd, "state", "unwanted", 8, &error) == 0);
    file_forget(scratch.fd, "state");
    file_forget(scratch.fd, "state");
    CHECK(!file_exists(scratch.fd, ".state.tmp"));
    return true;
}

TEST(replacing_below, "the temporary file lies beside the file, and a left-over one is taken away")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    CHECK(file_make_directory(scratch.fd, "conf", 0700, NULL) == 0);
    CHECK(scratch_write(&scratch, "conf/.web1.runtime.tmp", "half a sta"));
    CHECK(file_replace(scratch.fd, "conf/web1.runtime", "whole", 5, NULL) == 0);
    CHECK(scratch_holds(&scratch, "conf/web1.runtime", "whole"));
    CHECK(!file_exists(scratch.fd, "conf/.web1.runtime.tmp"));
    return true;
}

TEST(planted_temporary, "a symbolic link planted as temporary file is not written through")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    CHECK(scratch_write(&scratch, "victim", "precious"));
    CHECK(symlinkat("victim", scratch.fd, ".state.tmp") == 0);
    CHECK(file_replace(scratch.fd, "state", "new", 3, NULL) == 0);
    CHECK(scratch_holds(&scratch, "victim", "precious"));
    CHECK(only_holds(&scratch, "state", "new"));

    CHECK(linkat(scratch.fd, "victim", scratch.fd, ".state.tmp", 0) == 0);
    CHECK(file_replace(scratch.fd, "state", "newer", 5, NULL) == 0);
    CHECK(scratch_holds(&scratch, "victim", "precious"));
    return true;
}

TEST(planted_target, "what is planted under the file's name is neither followed nor overwritten")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    struct error error = {0};
    struct stat status;
    CHECK(scratch_write(&scratch, "victim", "precious"));
    CHECK(symlinkat("victim", scratch.fd, "state") == 0);
    CHECK(file_replace(scratch.fd, "state", "new", 3, &error) == -1);
    CHECK_HAS(error.text, "state: refused");
    CHECK(fstatat(scratch.fd, "state", &status, AT_SYMLINK_NOFOLLOW) == 0);
    CHECK(S_ISLNK(status.st_mode));
    CHECK(scratch_holds(&scratch, "victim", "precious"));
    CHECK(mkdirat(scratch.fd, "place", 0700) == 0);
    CHECK(file_replace(scratch.fd, "place", "new", 3, &error) == -1);
    CHECK(!file_exists(scratch.fd, ".place.tmp"));
    return true;
}

TEST(planted_directory, "a symbolic link in place of a directory is not followed")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    struct error error = {0};
    CHECK(mkdirat(scratch.fd, "elsewhere", 0700) == 0);
    CHECK(scratch_write(&scratch, "elsewhere/state", "foreign"));
    CHECK(symlinkat("elsewhere", scratch.fd, "conf") == 0);
    CHECK(file_replace(scratch.fd, "conf/state", "new", 3, &error) == -1);
    CHECK(strstr(error.text, "what it lies in is a symbolic link") != NULL);
    AUTO_FREE char *bytes = NULL;
    CHECK(file_read(scratch.fd, "conf/state", LIMIT, false, &bytes, NULL, &error) == -1);
    CHECK(file_remove(scratch.fd, "conf/state", NULL, &error) == -1);
    CHECK(file_make_directory(scratch.fd, "conf", 0700, &error) == -1);
    CHECK(file_make_directory(scratch.fd, "conf/sub", 0700, &error) == -1);
    CHECK(scratch_holds(&scratch, "elsewhere/state", "foreign"));
    CHECK(!file_exists(scratch.fd, "elsewhere/sub"));
    return true;
}

TEST(left_over_stuck, "when the temporary name can't be cleared the old content stays")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    struct error error = {0};
    CHECK(file_replace(scratch.fd, "state", "old", 3, NULL) == 0);
    CHECK(mkdirat(scratch.fd, ".state.tmp", 0700) == 0);
    CHECK(file_replace(scratch.fd, "state", "new", 3, &error) == -1);
    CHECK_HAS(error.text, "state: remove the left-over temporary file: ");
    CHECK_NUMBER(error.status, STATUS_FAILED);
    CHECK(scratch_holds(&scratch, "state", "old"));
    return true;
}

/* Runs in a child, whose file size limit makes the write fail half-way. */
static bool replace_beyond_limit(const struct scratch *scratch)
{
    struct rlimit limit = {.rlim_cur = 4096, .rlim_max = 4096};
    struct error error = {0};
    AUTO_FREE char *large = memory_zeroed(8192, 1);
    signal(SIGXFSZ, SIG_IGN);
    return setrlimit(RLIMIT_FSIZE, &limit) == 0 &&
           file_replace(scratch->fd, "state", large, 8192, &error) == -1 &&
           strstr(error.text, "write the temporary file: File too large") != NULL;
}

TEST(short_write, "a write that fails half-way leaves the old content and no left-over")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    CHECK(file_replace(scratch.fd, "state", "old", 3, NULL) == 0);
    pid_t child = fork();
    if (child == 0)
        _exit(replace_beyond_limit(&scratch) ? 0 : 1);
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(only_holds(&scratch, "state", "old"));
    return true;
}

/* Runs in a child with a mount namespace of its own: 0 good, 1 wrong, 2 can't be tried here. */
static int replace_read_only(const struct scratch *scratch)
{
    struct error error = {0};
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount(scratch->path, scratch->path, NULL, MS_BIND, NULL) < 0 ||
        mount(NULL, scratch->path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) < 0)
        return 2;
    AUTO_CLOSE int mounted = open(scratch->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file_replace(mounted, "state", "new", 3, &error) != -1 ||
        file_remove(mounted, "none", NULL, NULL) != 0 ||
        file_remove(mounted, "state", NULL, NULL) != -1)
        return 1;
    return strstr(error.text, "state: create the temporary file: Read-only") == NULL;
}

TEST(read_only, "on a read-only file system replace fails and the old content stays")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    CHECK(file_replace(scratch.fd, "state", "old", 3, NULL) == 0);
    pid_t child = fork();
    if (child == 0)
        _exit(replace_read_only(&scratch));
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status));
    CHECK(only_holds(&scratch, "state", "old"));
    if (WEXITSTATUS(status) == 2)
        return unit_not_run("no mount namespace without privilege");
    CHECK_NUMBER(WEXITSTATUS(status), 0);
    return true;
}

TEST(reading, "reading gives the bytes, terminated, and their number")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    CHECK(file_replace(scratch.fd, "state", "a\0b", 3, NULL) == 0);
    AUTO_FREE char *bytes = NULL;
    size_t length = 0;
    CHECK(file_read(scratch.fd, "state", 3, true, &bytes, &length, NULL) == 0);
    CHECK_NUMBER(length, 3);
    CHECK(memcmp(bytes, "a\0b", 4) == 0);
    AUTO_FREE char *kernel = NULL;
    CHECK(file_read(AT_FDCWD, "/proc/self/mountinfo", 1 << 20, false, &kernel, &length, NULL) == 0);
    CHECK(length > 0 && strlen(kernel) == length);
    return true;
}

static bool is_refused(const struct scratch *scratch, const char *name, size_t limit, bool private,
                       const char *why)
{
    struct error error = {0};
    char *bytes = NULL;
    if (file_read(scratch->fd, name, limit, private, &bytes, NULL, &error) == -1 && bytes == NULL &&
        strstr(error.text, why) != NULL && strstr(error.text, name) != NULL && !file_is_missing())
        return true;
    printf("# %s: \"%s\"\n", name, error.text);
    free(bytes);
    return false;
}

TEST(reading_refused, "links, FIFOs, directories, large, shared and foreign files are refused")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    CHECK(scratch_write(&scratch, "good", "12345"));
    CHECK(is_refused(&scratch, "good", 4, false, "too large"));
    CHECK(symlinkat("good", scratch.fd, "link") == 0);
    CHECK(is_refused(&scratch, "link", LIMIT, false, "symbolic link"));
    CHECK(mkfifoat(scratch.fd, "fifo", 0600) == 0);
    CHECK(is_refused(&scratch, "fifo", LIMIT, false, "not a regular file"));
    CHECK(mkdirat(scratch.fd, "place", 0700) == 0);
    CHECK(is_refused(&scratch, "place", LIMIT, false, "not a regular file"));
    CHECK(fchmodat(scratch.fd, "good", 0620, 0) == 0);
    CHECK(is_refused(&scratch, "good", LIMIT, true, "may write it"));
    AUTO_FREE char *bytes = NULL;
    CHECK(file_read(scratch.fd, "good", LIMIT, false, &bytes, NULL, NULL) == 0);
    CHECK(linkat(scratch.fd, "good", scratch.fd, "second", 0) == 0);
    CHECK(is_refused(&scratch, "second", LIMIT, false, "more than one link"));
    CHECK(scratch_write(&scratch, "theirs", "x"));
    if (geteuid() == 0) {
        CHECK(fchownat(scratch.fd, "theirs", 12345, 12345, 0) == 0);
        CHECK(is_refused(&scratch, "theirs", LIMIT, false, "neither root nor the caller"));
    }
    return true;
}

TEST(missing, "a missing file is told from every other failure")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    struct error error = {0};
    char *bytes = NULL;
    CHECK(file_read(scratch.fd, "none", LIMIT, false, &bytes, NULL, &error) == -1);
    CHECK(file_is_missing());
    CHECK_TEXT(error.text, "none: open: No such file or directory");
    CHECK(file_read(scratch.fd, "no/where", LIMIT, false, &bytes, NULL, &error) == -1);
    CHECK(file_is_missing());
    CHECK(file_read(scratch.fd, ".", LIMIT, false, &bytes, NULL, &error) == -1);
    CHECK(!file_is_missing());
    CHECK(file_read(scratch.fd, "", LIMIT, false, &bytes, NULL, &error) == -1);
    CHECK(!file_is_missing());
    return true;
}

TEST(removing, "removing what is not there is success")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    bool was_there = false;
    CHECK(scratch_write(&scratch, "state", "x"));
    CHECK(file_remove(scratch.fd, "state", &was_there, NULL) == 0);
    CHECK(was_there && !file_exists(scratch.fd, "state"));
    CHECK(file_remove(scratch.fd, "state", &was_there, NULL) == 0);
    CHECK(!was_there);
    CHECK(file_remove(scratch.fd, "no/where", &was_there, NULL) == 0);
    CHECK(!was_there);
    CHECK(mkdirat(scratch.fd, "place", 0700) == 0);
    CHECK(file_remove(scratch.fd, "place", NULL, NULL) == -1);
    CHECK(file_exists(scratch.fd, "place"));
    CHECK(symlinkat("place", scratch.fd, "link") == 0);
    CHECK(file_remove(scratch.fd, "link", NULL, NULL) == 0);
    CHECK(file_exists(scratch.fd, "place") && !file_exists(scratch.fd, "link"));
    return true;
}

TEST(directories, "directories are made with those above them; what is there must be one")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    struct error error = {0};
    struct stat status;
    CHECK(file_make_directory(scratch.fd, "a/b/c/", 0750, &error) == 0);
    CHECK(file_make_directory(scratch.fd, "a/b/c", 0700, &error) == 0);
    CHECK(fstatat(scratch.fd, "a/b/c", &status, 0) == 0 && S_ISDIR(status.st_mode));
    CHECK_NUMBER(status.st_mode & 07777, 0750);
    CHECK(scratch_write(&scratch, "a/file", "x"));
    CHECK(file_make_directory(scratch.fd, "a/file", 0700, &error) == -1);
    CHECK_HAS(error.text, "a/file: refused, it is not a directory");
    CHECK(file_make_directory(scratch.fd, "a/file/sub", 0700, &error) == -1);
    AUTO_FREE char *absolute = memory_format("%s/x/y", scratch.path);
    CHECK(file_make_directory(AT_FDCWD, absolute, 0700, &error) == 0);
    CHECK(file_exists(scratch.fd, "x/y"));
    CHECK(file_sync_directory(scratch.fd, "x/y", &error) == 0);
    CHECK(file_sync_directory(scratch.fd, "no/where", &error) == -1);
    return true;
}

TEST(entries, "a descriptor that can't be read as a directory is closed")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    CHECK(scratch_write(&scratch, "file", "x"));
    int file = openat(scratch.fd, "file", O_RDONLY | O_CLOEXEC);
    CHECK(file >= 0);
    CHECK(file_entries(file) == NULL);
    CHECK(errno == ENOTDIR);
    CHECK(fcntl(file, F_GETFD) < 0 && errno == EBADF);
    CHECK(file_entries(-1) == NULL);
    DIR *entries = file_entries(openat(scratch.fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    CHECK(entries != NULL && readdir(entries) != NULL);
    closedir(entries);
    return true;
}

UNIT_MAIN(UNIT(entries), UNIT(replacing), UNIT(in_two_parts), UNIT(replacing_below),
          UNIT(planted_temporary), UNIT(planted_target), UNIT(planted_directory),
          UNIT(left_over_stuck), UNIT(short_write), UNIT(read_only), UNIT(reading),
          UNIT(reading_refused), UNIT(missing), UNIT(removing), UNIT(directories))
