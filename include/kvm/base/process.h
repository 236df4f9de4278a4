/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Processes: who one is (a pid alone is never believed), spawning with exactly the listed
 * descriptors, signalling and waiting through a pidfd.
 */
#ifndef KVM_BASE_PROCESS_H
#define KVM_BASE_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "kvm/base/clock.h"
#include "kvm/base/error.h"

enum { BOOT_ID_SIZE = 37 };

/* This boot of the node (/proc/sys/kernel/random/boot_id); "" when it can't be read. */
const char *process_boot_id(void);

/* Start time of a process in clock ticks since boot: field 22 of /proc/PID/stat, counted from the
 * last ')' since the name may hold anything. False when there is no such process. */
bool process_start_time(pid_t pid, uint64_t *ticks);

/* Wall-clock seconds since the epoch at which a process with that start time was started. */
double process_started_at(uint64_t ticks);

/* True for a zombie ('Z' or 'X'), which is as good as dead. */
bool process_is_zombie(pid_t pid);

/* True for one that has given its memory back, which it does before its locks, or that is not there. */
bool process_is_ending(pid_t pid);

/* The words of its command line, each ended by NUL; what is beyond 64 KiB, or was not read whole, is missing. NULL when
 * it can't be read. The caller frees. */
char *process_command_line(pid_t pid, size_t *length);

/* The name of a process (comm) and of the user it runs as, for "busy" messages; buffers ≥ 32. */
void process_describe(pid_t pid, char *name, int name_size, char *user, int user_size);

/* pidfd_open; -1 with errno (ESRCH: gone). */
int process_pidfd(pid_t pid);
int process_signal(int pidfd, int signal); /* pidfd_send_signal; -1 with errno */

/* Wait until the process behind the pidfd has ended (readable). True: ended. */
bool process_wait_gone(int pidfd, deadline_t deadline);

/* What a child is to be. Zero-initialise, then fill. */
struct process_spec {
    const char *const *argv;        /* [0] is executed by path, without a shell and without PATH */
    const char *const *environment; /* NULL-terminated; NULL means empty */
    const int *descriptors;         /* descriptors[i] becomes 3 + i in the child */
    size_t descriptor_count;
    int input;             /* becomes 0; -1: /dev/null */
    int output;            /* becomes 1; -1: /dev/null */
    int errors;            /* becomes 2; -1: /dev/null */
    bool new_session;      /* setsid */
    bool ignore_interrupt; /* SIGINT stays ignored: Ctrl-C is for this program alone */
    bool die_with_parent;  /* PR_SET_PDEATHSIG SIGKILL, kept across exec */
    bool die_with_parent_until_exec;
    bool no_core; /* RLIMIT_CORE 0 */
    bool no_new_privs;
    bool drop_user; /* setgroups(0), setresgid(gid), setresuid(uid), no capabilities */
    uid_t uid;
    gid_t gid;
    int pid_lock;      /* see below; index into descriptors, or -1 */
    const int *listen; /* indices into descriptors of bound sockets; child listens */
    size_t listen_count;
    const char *directory; /* chdir; NULL: "/" */
};

/*
 * fork and exec. In the child, before exec: descriptors as listed and no others (also none inherited
 * by this program), signals default and unmasked, umask 077. If `pid_lock` is given, the child takes
 * a POSIX write lock on that file, truncates it and writes its pid and a newline: the lock lives
 * exactly as long as the process, over exec, and F_GETLK names it to anybody. If `listen` is given,
 * the child listens on those bound unix sockets, so that SO_PEERCRED of a client names this process.
 * Returns the pid (*pidfd is opened when not NULL), or -1 when the fork, the set-up or the exec
 * failed: the child's failure comes back through a close-on-exec pipe and names the step.
 */
pid_t process_spawn(const struct process_spec *spec, int *pidfd, struct error *error);

/* Run to the end: stdout and stderr together into *output (at most 64 KiB, the rest is read and
 * dropped; the caller frees; may be NULL). At the deadline TERM to its process group, KILL a second
 * later. Returns the wait status, or -1 (not started, or timed out). Uses new_session. */
int process_run(const struct process_spec *spec, deadline_t deadline, char **output,
                struct error *error);

/* Ends a just spawned child of ours that is not to be: SIGKILL by pidfd, reaped. */
void process_end_child(pid_t pid, int pidfd);

/*
 * The lock that QEMU (or our child before it) holds on its pid file. F_GETLK on the open file:
 * returns the live holder's pid, 0 when nobody holds it, -1 with errno.
 */
pid_t process_lock_holder(int pid_file);

#endif
