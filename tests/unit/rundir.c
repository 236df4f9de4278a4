/* SPDX-License-Identifier: BSD-2-Clause */
#include "unit.h"
#include "scratch.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <signal.h>
#include "kvm/base/clock.h"
#include "kvm/base/log.h"
#include "kvm/base/memory.h"
#include "kvm/state/rundir.h"

static bool opens(struct rundir *rundir, const struct scratch *scratch)
{
    AUTO_FREE char *path = memory_format("%s/run", scratch->path);
    struct error error = {0};
    if (rundir_open(rundir, path, true, &error) == 0)
        return true;
    printf("# %s\n", error.text);
    return false;
}

TEST(making, "the run directory is made with all of its directories, private")
{
    static const char *const expected[] = {"pid", "uid",    "ctrl",  "conf",
                                           "nic", "keymap", "lock",  "chroot",
                                           "log", "events", "cache", "chroot-quarantine"};
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    AUTO_RUNDIR struct rundir rundir = {0};
    CHECK(opens(&rundir, &scratch));
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        struct stat status;
        CHECK(fstatat(rundir.fd, expected[i], &status, AT_SYMLINK_NOFOLLOW) == 0);
        CHECK(S_ISDIR(status.st_mode));
        CHECK_NUMBER(status.st_mode & 07777, 0700);
    }
    return true;
}

TEST(absent, "a run directory that is not there is a matter of state, and is not made")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    AUTO_FREE char *path = memory_format("%s/run", scratch.path);
    AUTO_RUNDIR struct rundir rundir = {0};
    struct error error = {0};
    CHECK(rundir_open(&rundir, path, false, &error) == -1);
    CHECK_NUMBER(error.status, STATUS_STATE);
    CHECK_HAS(error.text, path);
    CHECK(faccessat(scratch.fd, "run", F_OK, 0) == -1);
    return true;
}

TEST(existing, "a directory with Ganeti's modes is taken as it is")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    AUTO_RUNDIR struct rundir rundir = {0};
    struct stat status;
    CHECK(mkdirat(scratch.fd, "run", 0775) == 0 && fchmodat(scratch.fd, "run", 0775, 0) == 0);
    CHECK(mkdirat(scratch.fd, "run/conf", 0775) == 0);
    CHECK(fchmodat(scratch.fd, "run/conf", 0775, 0) == 0);
    CHECK(opens(&rundir, &scratch));
    CHECK(fstatat(rundir.fd, "conf", &status, 0) == 0);
    CHECK_NUMBER(status.st_mode & 07777, 0775);
    return true;
}

static bool is_refused(const struct scratch *scratch, const char *why)
{
    AUTO_FREE char *path = memory_format("%s/run", scratch->path);
    for (int create = 0; create < 2; create++) {
        AUTO_RUNDIR struct rundir rundir = {0};
        struct error error = {0};
        if (rundir_open(&rundir, path, create, &error) == -1 && strstr(error.text, why) != NULL &&
            rundir.fd == -1)
            continue;
        printf("# \"%s\"\n", error.text);
        return false;
    }
    return true;
}

TEST(odd_paths, "a run directory whose name is no plain text is refused, for it stands in JSON")
{
    struct rundir rundir;
    struct error error;
    CHECK_NUMBER(rundir_open(&rundir, "/tmp/\xff", true, &error), -1);
    CHECK_NUMBER(error.status, STATUS_USAGE);
    CHECK_NUMBER(rundir_open(&rundir, "/tmp/a\nb", true, &error), -1);
    CHECK_NUMBER(error.status, STATUS_USAGE);
    return true;
}

TEST(refusing, "a run directory that others could prepare is refused")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    CHECK(scratch_write(&scratch, "run", "x"));
    CHECK(is_refused(&scratch, "not a directory"));
    CHECK(unlinkat(scratch.fd, "run", 0) == 0 && mkdirat(scratch.fd, "other", 0700) == 0);
    CHECK(symlinkat("other", scratch.fd, "run") == 0);
    CHECK(is_refused(&scratch, "is a symbolic link; name the directory itself"));
    CHECK(unlinkat(scratch.fd, "run", 0) == 0 && mkdirat(scratch.fd, "run", 0700) == 0);
    CHECK(fchmodat(scratch.fd, "run", 01777, 0) == 0);
    CHECK(is_refused(&scratch, "everybody may write it"));
    CHECK(fchmodat(scratch.fd, "run", 0700, 0) == 0);
    CHECK(symlinkat("../other", scratch.fd, "run/lock") == 0);
    CHECK(
        is_refused(&scratch, "run/lock: refused, it is not a directory; look at it with 'ls -l "));
    CHECK(is_refused(&scratch, "run/lock.away"));
    CHECK(unlinkat(scratch.fd, "run/lock", 0) == 0);
    if (geteuid() == 0) {
        CHECK(fchownat(scratch.fd, "run", 12345, 12345, 0) == 0);
        CHECK(is_refused(&scratch, "uid 12345"));
    }
    return true;
}

TEST(paths, "paths are absolute, without slashes at their end")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    AUTO_FREE char *given = memory_format("%s/run//", scratch.path);
    AUTO_RUNDIR struct rundir rundir = {0};
    CHECK(rundir_open(&rundir, given, true, NULL) == 0);
    AUTO_FREE char *expected = memory_format("%s/run/ctrl/web1.qmp", scratch.path);
    AUTO_FREE char *path = rundir_path(&rundir, RUNDIR_QMP, "web1");
    CHECK_TEXT(path, expected);

    char here[512], name[RUNDIR_PATH_MAX];
    CHECK(getcwd(here, sizeof(here)) != NULL && chdir(scratch.path) == 0);
    AUTO_RUNDIR struct rundir relative = {0};
    int result = rundir_open(&relative, "run", false, NULL);
    CHECK(chdir(here) == 0 && result == 0);
    CHECK_TEXT(relative.path, rundir.path);
    rundir_name(RUNDIR_RUNTIME, "web1", name);
    CHECK_TEXT(name, "conf/web1.runtime");
    rundir_name(RUNDIR_EVENTS, "web1", name);
    CHECK_TEXT(name, "events/web1.jsonl");
    rundir_name(RUNDIR_NIC, "web1", name);
    CHECK_TEXT(name, "nic/web1");
    return true;
}

TEST(long_names, "a name is as long as the socket paths allow, to the byte")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    AUTO_RUNDIR struct rundir rundir = {0};
    CHECK(opens(&rundir, &scratch));
    size_t room = 107 - strlen(rundir.path) - strlen("/ctrl/.monitor");
    AUTO_FREE char *name = memory_format("%0*d", (int)room, 0);
    struct error error = {0};
    CHECK(rundir_check_name(&rundir, name, &error) == 0);
    AUTO_FREE char *path = rundir_path(&rundir, RUNDIR_MONITOR, name);
    CHECK_NUMBER(strlen(path), 107);
    AUTO_FREE char *longer = memory_format("%s0", name);
    CHECK(rundir_check_name(&rundir, longer, &error) == -1);
    CHECK_NUMBER(error.status, STATUS_USAGE);
    CHECK_HAS(error.text, "too long by 1 bytes");
    CHECK(rundir_check_name(&rundir, "../web1", &error) == -1);
    CHECK(rundir_check_name(&rundir, "-web1", &error) == -1);
    return true;
}

TEST(locking, "a held lock is told with its holder, and free after the holder's close")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    AUTO_RUNDIR struct rundir rundir = {0};
    CHECK(opens(&rundir, &scratch));
    log_begin("kvm-hotplug");
    char text[256], pid[32];
    snprintf(pid, sizeof(pid), "pid %d by ", (int)getpid());
    struct error error = {0};
    int lock = -1, second = -1;
    CHECK(!rundir_lock_holder(&rundir, "web1", text, sizeof(text)));
    CHECK(rundir_lock(&rundir, "web1", clock_deadline(0), &lock, &error) == 0);
    CHECK((fcntl(lock, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(rundir_lock(&rundir, "web1", clock_deadline(0), &second, &error) == -1);
    CHECK_NUMBER(second, -1);
    CHECK_NUMBER(error.status, STATUS_BUSY);
    CHECK_HAS(error.text, "busy: kvm-hotplug pid ");
    CHECK_HAS(error.text, pid);
    CHECK_HAS(error.text, " since ");
    CHECK(rundir_lock_holder(&rundir, "web1", text, sizeof(text)));
    CHECK_HAS(text, pid);
    CHECK(rundir_lock(&rundir, "web2", clock_deadline(0), &second, &error) == 0);
    close(second);
    close(lock);
    CHECK(!rundir_lock_holder(&rundir, "web1", text, sizeof(text)));
    CHECK(rundir_lock(&rundir, "web1", clock_deadline(0), &lock, &error) == 0);
    close(lock);
    CHECK(faccessat(rundir.fd, "lock/web1", F_OK, 0) == 0);
    return true;
}

TEST(waiting, "a waiter gets the lock when the holder is killed, or gives up at its deadline")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    AUTO_RUNDIR struct rundir rundir = {0};
    CHECK(opens(&rundir, &scratch));
    int ready[2], lock = -1;
    CHECK(pipe(ready) == 0);
    pid_t child = fork();
    if (child == 0) {
        if (rundir_lock(&rundir, "web1", clock_deadline(0), &lock, NULL) == 0 &&
            write(ready[1], "x", 1) == 1)
            pause();
        _exit(1);
    }
    char byte;
    close(ready[1]);
    CHECK(child > 0 && read(ready[0], &byte, 1) == 1);
    close(ready[0]);
    int64_t begin = clock_now_ms();
    CHECK(rundir_lock(&rundir, "web1", clock_deadline(120), &lock, NULL) == -1);
    CHECK(clock_now_ms() - begin >= 120 && clock_now_ms() - begin < 1120);
    CHECK(kill(child, SIGKILL) == 0);
    CHECK(rundir_lock(&rundir, "web1", clock_deadline(10000), &lock, NULL) == 0);
    CHECK(waitpid(child, NULL, 0) == child);
    close(lock);
    return true;
}

TEST(stale_holder, "the line of a dead holder is not shown, and goes with the next lock")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    AUTO_RUNDIR struct rundir rundir = {0};
    CHECK(opens(&rundir, &scratch));
    char long_line[700], text[256];
    memset(long_line, 'x', sizeof(long_line) - 1);
    long_line[sizeof(long_line) - 1] = '\0';
    CHECK(scratch_write(&scratch, "run/lock/web1", long_line));
    CHECK(!rundir_lock_holder(&rundir, "web1", text, sizeof(text)));
    int lock = -1;
    CHECK(rundir_lock(&rundir, "web1", clock_deadline(0), &lock, NULL) == 0);
    CHECK(rundir_lock_holder(&rundir, "web1", text, sizeof(text)));
    CHECK_HAS(text, "pid ");
    CHECK(scratch_write(&scratch, "run/lock/web1", "{\"program\": \"\\u001b[2J\", \"uid\": 0}\n"));
    CHECK(rundir_lock_holder(&rundir, "web1", text, sizeof(text)));
    CHECK_HAS(text, "\\x1b[2J pid 0 by root");
    CHECK(scratch_write(&scratch, "run/lock/web1", "nonsense"));
    CHECK(rundir_lock_holder(&rundir, "web1", text, sizeof(text)));
    CHECK_TEXT(text, "another program");
    close(lock);
    return true;
}

TEST(dying_holder, "who inherited the lock of a dead holder is waited for, but only a moment")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    AUTO_RUNDIR struct rundir rundir = {0};
    CHECK(opens(&rundir, &scratch));
    static const int dying_ms[] = {100, 3000};
    for (size_t i = 0, late = 0; i < 2; i++) {
        int lock = -1, status = -1;
        pid_t child = fork();
        if (child == 0) {
            bool locked = rundir_lock(&rundir, "web1", clock_deadline(0), &lock, NULL) == 0;
            if (locked && fork() == 0) /* as a child between fork and exec */
                clock_sleep_ms(dying_ms[i]);
            _exit(locked ? 0 : 1);
        }
        CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
        int64_t begin = clock_now_ms();
        int result = rundir_lock(&rundir, "web1", clock_deadline(0), &lock, NULL);
        CHECK(clock_now_ms() - begin < 2000);
        if (i == 0 && result < 0 && late++ < 3) { /* a loaded node may have let it sleep on */
            clock_sleep_ms(200);
            i--;
            continue;
        }
        CHECK_NUMBER(result, i == 0 ? 0 : -1);
        memory_close(&lock);
    }
    return true;
}

TEST(planted_lock, "a planted lock file is refused and its target left alone")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    AUTO_RUNDIR struct rundir rundir = {0};
    CHECK(opens(&rundir, &scratch));
    CHECK(scratch_write(&scratch, "victim", "precious"));
    CHECK(scratch_write(&scratch, "linked", "precious"));
    CHECK(symlinkat("../../victim", rundir.fd, "lock/web1") == 0);
    CHECK(linkat(scratch.fd, "linked", rundir.fd, "lock/web2", 0) == 0);
    CHECK(mkfifoat(rundir.fd, "lock/web3", 0600) == 0);
    static const char *const names[] = {"web1", "web2", "web3"};
    for (size_t i = 0; i < 3; i++) {
        int lock = -1;
        struct error error = {0};
        CHECK(rundir_lock(&rundir, names[i], clock_deadline(0), &lock, &error) == -1);
        CHECK_NUMBER(error.status, STATUS_FAILED);
        CHECK_NUMBER(lock, -1);
    }
    CHECK(scratch_holds(&scratch, "victim", "precious"));
    CHECK(scratch_holds(&scratch, "linked", "precious"));
    return true;
}

TEST(names, "every place but the lock makes an instance known, once, in order")
{
    static const char *const files[] = {
        "pid/m1",           "pid/m2",          "ctrl/m2.qmp",    "conf/m2.runtime",
        "uid/m3",           "ctrl/m4.monitor", "ctrl/m5.serial", "ctrl/m6.dot.qga",
        "conf/m7.runtime",  "keymap/m8",       "lock/no1",       "log/m10.log",
        "events/m11.jsonl", "ctrl/no4.other",  "conf/no5",       "conf/.o1.runtime.tmp",
        "pid/-no7",         "pid/no 8",        "ctrl/.qmp",      "pid/a1",
        "conf/.no9.tmp",
    };
    static const char *const expected[] = {"a1", "m1",     "m10", "m11", "m2", "m3", "m4",
                                           "m5", "m6.dot", "m7",  "m8",  "m9", "n1", "o1"};
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    AUTO_RUNDIR struct rundir rundir = {0};
    CHECK(opens(&rundir, &scratch));
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        AUTO_FREE char *path = memory_format("run/%s", files[i]);
        CHECK(scratch_write(&scratch, path, ""));
    }
    CHECK(mkdirat(rundir.fd, "nic/m9", 0700) == 0 && mkdirat(rundir.fd, "chroot/n1", 0700) == 0);
    size_t count = 0, wanted = sizeof(expected) / sizeof(expected[0]);
    char **names = rundir_names(&rundir, &count, NULL);
    for (size_t i = 0; i < wanted && i < count; i++)
        CHECK_TEXT(names[i], expected[i]);
    CHECK_NUMBER(count, wanted);
    CHECK(names[count] == NULL);
    rundir_names_release(names);
    return true;
}

TEST(no_names, "an empty run directory holds no names")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    AUTO_RUNDIR struct rundir rundir = {0};
    CHECK(opens(&rundir, &scratch));
    size_t count = 9;
    char **names = rundir_names(&rundir, &count, NULL);
    CHECK(names != NULL && names[0] == NULL);
    CHECK_NUMBER(count, 0);
    rundir_names_release(names);
    return true;
}

TEST(unreadable_names, "a directory that can't be read is told, not left out of the list")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    AUTO_RUNDIR struct rundir rundir = {0};
    CHECK(opens(&rundir, &scratch) && scratch_write(&scratch, "run/pid/web1", ""));
    struct rlimit before, tight;
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    AUTO_CLOSE int lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);
    tight = (struct rlimit){.rlim_cur = (rlim_t)lowest, .rlim_max = before.rlim_max};
    CHECK(lowest >= 0 && setrlimit(RLIMIT_NOFILE, &tight) == 0);
    struct error error = {0};
    size_t count = 0;
    char **names = rundir_names(&rundir, &count, &error);
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK(names == NULL && error.status == STATUS_FAILED);
    CHECK(strstr(error.text, "run/pid: can't be read") != NULL);
    return true;
}

TEST(many_names, "a thousand instances are listed in a moment")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    AUTO_RUNDIR struct rundir rundir = {0};
    CHECK(opens(&rundir, &scratch));
    for (int i = 0; i < 1000; i++) {
        AUTO_FREE char *pid = memory_format("run/pid/i%d", i);
        AUTO_FREE char *qmp = memory_format("run/ctrl/i%d.qmp", i);
        AUTO_FREE char *runtime = memory_format("run/conf/i%d.runtime", i);
        CHECK(scratch_write(&scratch, pid, "") && scratch_write(&scratch, qmp, ""));
        CHECK(scratch_write(&scratch, runtime, ""));
    }
    size_t count = 0;
    int64_t begin = clock_now_ms();
    char **names = rundir_names(&rundir, &count, NULL);
    int64_t took = clock_now_ms() - begin;
    rundir_names_release(names);
    printf("# %lld ms\n", (long long)took);
    CHECK_NUMBER(count, 1000);
    CHECK(took < 250);
    return true;
}

TEST(files_of_one, "any file but the lock counts as a file of the instance")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    AUTO_RUNDIR struct rundir rundir = {0};
    CHECK(opens(&rundir, &scratch));
    CHECK(scratch_write(&scratch, "run/lock/web1", ""));
    CHECK(!rundir_has_files(&rundir, "web1"));
    CHECK(symlinkat("nowhere", rundir.fd, "ctrl/web1.vnc") == 0);
    CHECK(rundir_has_files(&rundir, "web1"));
    CHECK(!rundir_has_files(&rundir, "web"));
    CHECK(scratch_write(&scratch, "run/conf/.web2.runtime.tmp",
                        "")); /* all that a killed start left */
    CHECK(rundir_has_files(&rundir, "web2"));
    return true;
}

UNIT_MAIN(UNIT(making), UNIT(absent), UNIT(existing), UNIT(odd_paths), UNIT(refusing), UNIT(paths),
          UNIT(long_names), UNIT(locking), UNIT(waiting), UNIT(stale_holder), UNIT(dying_holder),
          UNIT(planted_lock), UNIT(names), UNIT(no_names), UNIT(unreadable_names), UNIT(many_names),
          UNIT(files_of_one))
