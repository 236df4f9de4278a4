/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "unit.h"

enum { LONG_MS = 10000 };

static const char *const path_only[] = {"PATH=/usr/bin:/bin", NULL};

static struct process_spec shell(const char *const *argv)
{
    return (struct process_spec){.argv = argv,
                                 .environment = path_only,
                                 .input = -1,
                                 .output = -1,
                                 .errors = -1,
                                 .pid_lock = -1};
}

/* The output of a shell script with this set-up; the caller frees; NULL when it failed. */
static char *output_of(struct process_spec spec, const char *script)
{
    const char *argv[] = {"/bin/sh", "-c", script, NULL};
    struct error error = {0};
    char *output = NULL;
    spec.argv = argv;
    int status = process_run(&spec, clock_deadline(LONG_MS), &output, &error);
    if (status == 0)
        return output;
    printf("# status %d, %s, %s\n", status, error.text, output != NULL ? output : "");
    free(output);
    return NULL;
}

/* Within a generous time. */
static bool is_gone(pid_t pid)
{
    for (deadline_t deadline = clock_deadline(LONG_MS); !clock_passed(deadline); clock_sleep_ms(2))
        if (kill(pid, 0) != 0 || process_is_zombie(pid))
            return true;
    return false;
}

TEST(start_time, "a process is its pid and its start time, whatever its name holds")
{
    uint64_t before = 0, after = 0;
    CHECK(process_start_time(getpid(), &before));
    CHECK(prctl(PR_SET_NAME, "a) R 1 2 (b) Z") == 0);
    CHECK(process_start_time(getpid(), &after));
    CHECK(before != 0 && before == after);
    CHECK(!process_is_zombie(getpid()));
    CHECK(!process_start_time(-1, &after));
    double age = clock_wall() - process_started_at(before);
    CHECK(age > -1 && age < 3600);
    CHECK_NUMBER(strlen(process_boot_id()), 36);
    return true;
}

TEST(zombie, "a dead child that nobody reaped is a zombie and gone for its pidfd")
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    AUTO_CLOSE int pidfd = process_pidfd(pid);
    CHECK(pidfd >= 0);
    CHECK(process_wait_gone(pidfd, clock_deadline(LONG_MS)));
    CHECK(process_is_zombie(pid));
    CHECK(waitpid(pid, NULL, 0) == pid);
    CHECK(process_signal(pidfd, 0) == -1 && errno == ESRCH);
    CHECK(process_pidfd(pid) == -1);
    return true;
}

TEST(described, "a process is described by its name and user, made harmless")
{
    char name[32], user[32];
    CHECK(prctl(PR_SET_NAME, "x\033[2Jy") == 0);
    process_describe(getpid(), name, sizeof name, user, sizeof user);
    CHECK_TEXT(name, "x?[2Jy");
    CHECK(user[0] != '\0' && user[0] != '?');
    process_describe(-1, name, sizeof name, user, sizeof user);
    CHECK_TEXT(name, "?");
    return true;
}

TEST(exactly_listed, "a child has the listed descriptors, in order, and no others")
{
    enum { STRAY = 40 }; /* beyond the targets, which hide what was there */
    int one[2], two[2];
    CHECK(pipe(one) == 0 && pipe(two) == 0); /* without O_CLOEXEC: must be closed all the same */
    CHECK(dup2(one[0], STRAY) == STRAY);
    /* Crosswise over the targets 3, 4, 5. */
    const int listed[] = {two[0], one[0], two[0]};
    struct process_spec spec = shell(NULL);
    spec.descriptors = listed;
    spec.descriptor_count = 3;
    CHECK(write(one[1], "one\n", 4) == 4 && write(two[1], "two\nsame\n", 9) == 9);
    AUTO_FREE char *list = output_of(spec, "n=0; while [ $n -lt 64 ]; do "
                                           "[ -e /proc/$$/fd/$n ] && echo $n; n=$((n+1)); done; :");
    CHECK_TEXT(list, "0\n1\n2\n3\n4\n5\n");
    AUTO_FREE char *lines = output_of(spec, "read b <&4; read a <&3; read c <&5; echo $a $b $c");
    close(one[0]), close(one[1]), close(two[0]), close(two[1]), close(STRAY);
    CHECK_TEXT(lines, "two one same\n");
    return true;
}

TEST(clean_start, "a child starts with default signals, the given environment, umask 077 and /")
{
    sigset_t blocked, before;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigprocmask(SIG_BLOCK, &blocked, &before);
    signal(SIGPIPE, SIG_IGN);
    setenv("SECRET", "x", 1);
    AUTO_FREE char *output =
        output_of(shell(NULL), "umask; pwd; echo ${SECRET-none}; "
                               "grep -E '^Sig(Blk|Ign)' /proc/self/status | tr -d '\\t'");
    sigprocmask(SIG_SETMASK, &before, NULL);
    CHECK_TEXT(output, "0077\n/\nnone\nSigBlk:0000000000000000\nSigIgn:0000000000000000\n");
    return true;
}

TEST(step_named, "a failure in the child comes back with its step and leaves no child")
{
    const char *const argv[] = {"/nonexistent/program", NULL};
    struct process_spec spec = shell(argv);
    struct error error = {0};
    CHECK_NUMBER(process_spawn(&spec, NULL, &error), -1);
    CHECK_TEXT(error.text, "start /nonexistent/program: execute: No such file or directory");
    const int closed[] = {-1};
    spec.descriptors = closed;
    spec.descriptor_count = 1;
    CHECK_NUMBER(process_spawn(&spec, NULL, &error), -1);
    CHECK_TEXT(error.text,
               "start /nonexistent/program: take over a descriptor: Bad file descriptor");
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
    return true;
}

TEST(locked_file, "the pid file is locked by the child over its exec, as long as it lives")
{
    char name[] = "/tmp/unit-process-XXXXXX";
    AUTO_CLOSE int file = mkstemp(name);
    CHECK(file >= 0 && unlink(name) == 0);
    CHECK(write(file, "an older and longer content", 27) == 27);
    const char *const argv[] = {"/bin/sleep", "60", NULL};
    const int listed[] = {file};
    struct process_spec spec = shell(argv);
    struct error error = {0};
    char content[32] = "", expected[32];
    int pidfd = -1;
    spec.descriptors = listed;
    spec.descriptor_count = 1;
    spec.pid_lock = 0;
    CHECK_NUMBER(process_lock_holder(file), 0);
    pid_t pid = process_spawn(&spec, &pidfd, &error);
    AUTO_CLOSE int handle = pidfd;
    CHECK(pid > 0);
    CHECK_NUMBER(process_lock_holder(file), pid);
    snprintf(expected, sizeof expected, "%ld\n", (long)pid);
    CHECK(pread(file, content, sizeof content - 1, 0) > 0);
    CHECK_TEXT(content, expected);
    CHECK_NUMBER(process_spawn(&spec, NULL, &error), -1);
    CHECK_HAS(error.text, "lock the pid file");
    CHECK_NUMBER(process_lock_holder(file), pid);
    process_end_child(pid, handle);
    CHECK_NUMBER(process_lock_holder(file), 0);
    return true;
}

TEST(nameless_lock, "a lock whose holder can't be named is held all the same")
{
    char name[] = "/tmp/unit-process-XXXXXX";
    AUTO_CLOSE int file = mkstemp(name);
    AUTO_CLOSE int other = open(name, O_RDWR | O_CLOEXEC);
    CHECK(file >= 0 && other >= 0 && unlink(name) == 0);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    CHECK(fcntl(other, F_OFD_SETLK, &lock) == 0);
    CHECK(process_lock_holder(file) == -1 && errno == EBUSY);
    return true;
}

TEST(peer_is_child, "a client of a passed socket sees the child as its peer")
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "/tmp/unit-process-%ld", (long)getpid());
    AUTO_CLOSE int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    AUTO_CLOSE int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    unlink(address.sun_path);
    CHECK(bind(server, (struct sockaddr *)&address, sizeof address) == 0);
    const char *const argv[] = {"/bin/sleep", "60", NULL};
    const int listed[] = {server}, listening[] = {0};
    struct process_spec spec = shell(argv);
    struct ucred peer = {0};
    socklen_t size = sizeof peer;
    spec.descriptors = listed;
    spec.descriptor_count = 1;
    spec.listen = listening;
    spec.listen_count = 1;
    pid_t pid = process_spawn(&spec, NULL, NULL);
    bool connected = connect(client, (struct sockaddr *)&address, sizeof address) == 0 &&
                     getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0;
    unlink(address.sun_path);
    process_end_child(pid, -1);
    CHECK(connected);
    CHECK_NUMBER(peer.pid, pid);
    return true;
}

/* Core dumps, a supplementary group and inheritable capabilities: what a change of user alone leaves to a child. */
static bool give_to_children(bool give)
{
    const gid_t group = 64003;
    struct rlimit core;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];

    if (syscall(SYS_capget, &header, sets) != 0 || getrlimit(RLIMIT_CORE, &core) != 0)
        return false;
    core.rlim_cur = give ? core.rlim_max : 0;
    for (size_t i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
        sets[i].inheritable = give ? sets[i].permitted : 0;
    return syscall(SYS_capset, &header, sets) == 0 && setgroups(give ? 1 : 0, &group) == 0 &&
           setrlimit(RLIMIT_CORE, &core) == 0;
}

TEST(dropped, "a child of another user has no groups, capabilities or way back")
{
    struct process_spec spec = shell(NULL);
    CHECK(geteuid() == 0 && give_to_children(true));
    spec.drop_user = true;
    spec.uid = 64001;
    spec.gid = 64002;
    spec.no_core = true;
    AUTO_FREE char *output =
        output_of(spec, "grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs)' /proc/self/status | "
                        "tr -s '\\t ' ' '; ulimit -c");
    CHECK(give_to_children(false));
    CHECK_TEXT(output, "Uid: 64001 64001 64001 64001\nGid: 64002 64002 64002 64002\nGroups: \n"
                       "CapInh: 0000000000000000\nCapPrm: 0000000000000000\n"
                       "CapEff: 0000000000000000\nCapBnd: 0000000000000000\n"
                       "CapAmb: 0000000000000000\nNoNewPrivs: 1\n0\n");
    return true;
}

/* A process that spawns a sleeper, or with `input` one that repeats it, and dies; returns the other's pid. */
static pid_t orphan(bool until_exec_only, bool drop, int input, int output)
{
    int ends[2];
    pid_t pid = -1;
    if (pipe(ends) != 0)
        return -1;
    pid_t parent = fork();
    if (parent == 0) {
        const char *const sleeper[] = {"/bin/sleep", "60", NULL}, *const cat[] = {"/bin/cat", NULL};
        struct process_spec spec = shell(input < 0 ? sleeper : cat);
        spec.input = input;
        spec.output = output;
        spec.die_with_parent = !until_exec_only;
        spec.die_with_parent_until_exec = until_exec_only;
        spec.drop_user = drop;
        spec.uid = 64001;
        spec.gid = 64001;
        pid = process_spawn(&spec, NULL, NULL);
        _exit(write(ends[1], &pid, sizeof pid) == sizeof pid ? 0 : 1);
    }
    close(ends[1]);
    if (read(ends[0], &pid, sizeof pid) != sizeof pid)
        pid = -1;
    close(ends[0]);
    waitpid(parent, NULL, 0);
    return pid;
}

TEST(tied, "a tied child dies with its parent, also after a change of user")
{
    pid_t plain = orphan(false, false, -1, -1);
    CHECK(plain > 0 && is_gone(plain));
    pid_t dropped_user = orphan(false, true, -1, -1);
    CHECK(dropped_user > 0 && is_gone(dropped_user));
    return true;
}

TEST(untied, "a child that is tied until exec only outlives its parent")
{
    int in[2], out[2];
    char byte;
    signal(SIGPIPE, SIG_IGN);
    CHECK(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
    pid_t pid = orphan(true, false, in[0], out[1]);
    close(in[0]);
    close(out[1]);
    CHECK(pid > 0);
    /* The signal of its parent's end would have come before this. */
    CHECK(write(in[1], "x", 1) == 1 && read(out[0], &byte, 1) == 1);
    close(in[1]);
    close(out[0]);
    CHECK(is_gone(pid));
    return true;
}

TEST(run_output, "a run returns its wait status and both outputs, cut at 64 KiB")
{
    AUTO_FREE char *output = NULL;
    const char *const fails[] = {"/bin/sh", "-c", "echo a; echo b >&2; exit 7", NULL};
    struct process_spec spec = shell(fails);
    int status = process_run(&spec, clock_deadline(LONG_MS), &output, NULL);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    CHECK_TEXT(output, "a\nb\n");
    AUTO_FREE char *flood = output_of(shell(NULL), "head -c 300000 /dev/zero | tr '\\0' x");
    CHECK(flood != NULL);
    CHECK_NUMBER(strlen(flood), 65536);
    return true;
}

TEST(run_ends, "a run ends with its process, though a grandchild holds the output")
{
    int64_t begin = clock_now_ms();
    AUTO_FREE char *output = output_of(shell(NULL), "sleep 60 & echo $!");
    CHECK(output != NULL && clock_now_ms() - begin < LONG_MS / 2);
    pid_t grandchild = (pid_t)strtol(output, NULL, 10);
    CHECK(grandchild > 1 && kill(grandchild, SIGKILL) == 0);
    return true;
}

TEST(run_deadline, "at the deadline the whole group goes, deaf ones too")
{
    AUTO_FREE char *output = NULL;
    const char *const deaf[] = {"/bin/sh", "-c",
                                "trap '' TERM; sleep 60 & echo $$ $!; sleep 60; sleep 60", NULL};
    struct process_spec spec = shell(deaf);
    struct error error = {0};
    int64_t begin = clock_now_ms();
    CHECK_NUMBER(process_run(&spec, clock_deadline(2000), &output, &error), -1);
    CHECK(clock_now_ms() - begin < LONG_MS);
    CHECK_HAS(error.text, "/bin/sh: did not end within ");
    char *rest = output;
    pid_t pid = (pid_t)strtol(output, &rest, 10), another = (pid_t)strtol(rest, NULL, 10);
    CHECK(pid > 1 && another > 1);
    CHECK(is_gone(another));
    CHECK(kill(pid, 0) == -1 && errno == ESRCH);
    for (deadline_t deadline = clock_deadline(LONG_MS); kill(-pid, 0) == 0; clock_sleep_ms(5))
        CHECK(!clock_passed(deadline));
    return true;
}

UNIT_MAIN(UNIT(start_time), UNIT(zombie), UNIT(described), UNIT(exactly_listed), UNIT(clean_start),
          UNIT(step_named), UNIT(locked_file), UNIT(nameless_lock), UNIT(peer_is_child),
          UNIT(dropped), UNIT(tied), UNIT(untied), UNIT(run_output), UNIT(run_ends),
          UNIT(run_deadline))
