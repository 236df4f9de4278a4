/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <signal.h>
#include <string.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "kvm/base/memory.h"

enum { FIRST_LISTED = 3, LISTEN_BACKLOG = 1 };

/* What the child sends back through the close-on-exec pipe. The texts are constants of this program,
 * so the pointer means the same in parent and child. */
struct failure {
    const char *step;
    int number; /* errno */
};

/* Everything the child needs, made before the fork. */
struct child {
    const struct process_spec *spec;
    pid_t parent;
    int *moved; /* room for 3 + descriptor_count */
    char **argv;
    char **environment;
};

static int failed(struct failure *failure, const char *step)
{
    failure->step = step;
    failure->number = errno;
    return -1;
}

static void default_signals(bool ignore_interrupt)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    for (int number = 1; number < NSIG; number++)
        sigaction(number, &action, NULL); /* fails for KILL, STOP and libc's own: as it should */
    if (ignore_interrupt)
        signal(SIGINT, SIG_IGN);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/*
 * Lists are moved in two goes: first everything above the range of the targets, then each to its
 * place, so that no source is overwritten before it is read. The pipe ends up right above the range
 * and all the rest is closed. Nothing is closed after this: closing any descriptor of the pid file
 * would drop the lock that is taken on it later.
 */
static int move_descriptors(const struct child *child, int *pipe_end, struct failure *failure)
{
    const struct process_spec *spec = child->spec;
    size_t count = FIRST_LISTED + spec->descriptor_count;
    const int standard[FIRST_LISTED] = {spec->input, spec->output, spec->errors};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return failed(failure, "open /dev/null");
    int above = fcntl(*pipe_end, F_DUPFD_CLOEXEC, (int)count);
    if (above < 0)
        return failed(failure, "move the pipe");
    *pipe_end = above;
    for (size_t i = 0; i < count; i++) {
        int source = i < FIRST_LISTED ? standard[i] : spec->descriptors[i - FIRST_LISTED];
        if (i < FIRST_LISTED && source < 0)
            source = null;
        child->moved[i] = fcntl(source, F_DUPFD_CLOEXEC, (int)count);
        if (child->moved[i] < 0)
            return failed(failure, "take over a descriptor");
    }
    for (size_t i = 0; i < count; i++)
        if (dup2(child->moved[i], (int)i) < 0)
            return failed(failure, "place a descriptor");
    if (*pipe_end != (int)count && dup3(*pipe_end, (int)count, O_CLOEXEC) < 0)
        return failed(failure, "place the pipe");
    *pipe_end = (int)count;
    if (close_range((unsigned)count + 1, UINT_MAX, 0) != 0)
        return failed(failure, "close the other descriptors");
    return 0;
}

static int drop_user(const struct process_spec *spec, struct failure *failure)
{
    /* The bounding set first: dropping it needs a capability. The list ends at the first unknown. */
    for (unsigned long number = 0; prctl(PR_CAPBSET_READ, number, 0, 0, 0) >= 0; number++)
        if (prctl(PR_CAPBSET_DROP, number, 0, 0, 0) != 0)
            return failed(failure, "drop the capability bounding set");
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0)
        return failed(failure, "clear the ambient capabilities");
    if (setgroups(0, NULL) != 0)
        return failed(failure, "drop the supplementary groups");
    if (setresgid(spec->gid, spec->gid, spec->gid) != 0)
        return failed(failure, "change the group");
    if (setresuid(spec->uid, spec->uid, spec->uid) != 0)
        return failed(failure, "change the user");
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct nothing[_LINUX_CAPABILITY_U32S_3] = {{0}};
    if (syscall(SYS_capset, &header, nothing) != 0)
        return failed(failure, "drop the capabilities");
    return 0;
}

static int tie_to_parent(const struct child *child, struct failure *failure)
{
    if (!child->spec->die_with_parent && !child->spec->die_with_parent_until_exec)
        return 0;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        return failed(failure, "tie to the parent");
    if (getppid() == child->parent)
        return 0;
    errno = ESRCH; /* it ended before the tie was made */
    return failed(failure, "tie to the parent");
}

static int restrict_self(const struct child *child, struct failure *failure)
{
    const struct process_spec *spec = child->spec;
    const struct rlimit no_core = {0, 0};
    if (spec->no_core && setrlimit(RLIMIT_CORE, &no_core) != 0)
        return failed(failure, "forbid core dumps");
    if (spec->drop_user && drop_user(spec, failure) != 0)
        return -1;
    if ((spec->no_new_privs || spec->drop_user) && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return failed(failure, "forbid new privileges");
    /* Once more: a change of user clears the signal. */
    return spec->drop_user ? tie_to_parent(child, failure) : 0;
}

static int lock_pid_file(int file, struct failure *failure)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(file, F_SETLK, &lock) != 0)
        return failed(failure, "lock the pid file");
    char text[32];
    int length = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(file, 0) != 0 || pwrite(file, text, (size_t)length, 0) != length)
        return failed(failure, "write the pid file");
    return 0;
}

static int become(const struct child *child, int *pipe_end, struct failure *failure)
{
    const struct process_spec *spec = child->spec;
    default_signals(spec->ignore_interrupt);
    umask(077);
    if (tie_to_parent(child, failure) != 0)
        return -1;
    if (spec->new_session && setsid() < 0)
        return failed(failure, "start a session");
    if (move_descriptors(child, pipe_end, failure) != 0)
        return -1;
    if (chdir(spec->directory != NULL ? spec->directory : "/") != 0)
        return failed(failure, "change the directory");
    if (restrict_self(child, failure) != 0)
        return -1;
    if (spec->pid_lock >= 0 && lock_pid_file(FIRST_LISTED + spec->pid_lock, failure) != 0)
        return -1;
    for (size_t i = 0; i < spec->listen_count; i++)
        if (listen(FIRST_LISTED + spec->listen[i], LISTEN_BACKLOG) != 0)
            return failed(failure, "listen on a socket");
    if (!spec->die_with_parent && spec->die_with_parent_until_exec)
        prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
    execve(child->argv[0], child->argv, child->environment);
    return failed(failure, "execute");
}

__attribute__((noreturn)) static void run_child(const struct child *child, int pipe_end)
{
    struct failure failure = {0};
    become(child, &pipe_end, &failure);
    ssize_t written = write(pipe_end, &failure, sizeof failure);
    _exit(written == (ssize_t)sizeof failure ? 127 : 126);
}

/* execve wants pointers without const; the strings stay the caller's. */
static char **copy_pointers(const char *const *list)
{
    size_t count = 0;
    while (list != NULL && list[count] != NULL)
        count++;
    char **copy = memory_zeroed(count + 1, sizeof *copy);
    if (count > 0)
        memcpy(copy, list, count * sizeof *copy);
    return copy;
}

/* With all signals blocked, so that no handler of this program ever runs in the child. */
static pid_t fork_child(const struct child *child, int pipe_end)
{
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    if (pid == 0)
        run_child(child, pipe_end);
    int number = errno;
    sigprocmask(SIG_SETMASK, &before, NULL);
    errno = number;
    return pid;
}

/* End of file means that the exec worked. */
static int await_exec(int pipe_end, const char *path, struct error *error)
{
    struct failure failure = {0};
    ssize_t length;
    do
        length = read(pipe_end, &failure, sizeof failure);
    while (length < 0 && errno == EINTR);
    if (length == 0)
        return 0;
    if (length != (ssize_t)sizeof failure)
        return error_set(error, STATUS_FAILED, "start %s: no word from the child", path);
    errno = failure.number;
    return error_errno(error, STATUS_FAILED, "start %s: %s", path, failure.step);
}

pid_t process_spawn(const struct process_spec *spec, int *pidfd, struct error *error)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return error_errno(error, STATUS_FAILED, "start %s: pipe", spec->argv[0]);
    AUTO_CLOSE int reading = ends[0];
    AUTO_FREE char **argv = copy_pointers(spec->argv);
    AUTO_FREE char **environment = copy_pointers(spec->environment);
    AUTO_FREE int *moved = memory_zeroed(FIRST_LISTED + spec->descriptor_count, sizeof *moved);
    const struct child child = {spec, getpid(), moved, argv, environment};

    pid_t pid = fork_child(&child, ends[1]);
    int fork_errno = errno;
    close(ends[1]);
    errno = fork_errno;
    if (pid < 0)
        return error_errno(error, STATUS_FAILED, "start %s: fork", spec->argv[0]);
    int handle = process_pidfd(pid);
    if (handle < 0) {
        error_errno(error, STATUS_FAILED, "start %s: open its pidfd", spec->argv[0]);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return -1;
    }
    if (await_exec(reading, spec->argv[0], error) != 0) {
        process_end_child(pid, handle);
        close(handle);
        return -1;
    }
    if (pidfd != NULL)
        *pidfd = handle;
    else
        close(handle);
    return pid;
}
