/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The run directory: every path in it, the per-instance lock, and which names it holds. Layout and
 * purpose of each file: design, "Run directory"; it is Ganeti's, so that both can work on one.
 */
#ifndef KVM_STATE_RUNDIR_H
#define KVM_STATE_RUNDIR_H

#include <stdbool.h>
#include <stddef.h>
#include "kvm/base/clock.h"
#include "kvm/base/error.h"

enum rundir_file {
    RUNDIR_PID,      /* pid/NAME */
    RUNDIR_UID,      /* uid/NAME */
    RUNDIR_MONITOR,  /* ctrl/NAME.monitor: HMP, for other tools */
    RUNDIR_QMP,      /* ctrl/NAME.qmp: actions, under the lock */
    RUNDIR_QUERY,    /* ctrl/NAME.query: queries */
    RUNDIR_KVMD,     /* ctrl/NAME.kvmd: monitor for the watcher of user_shutdown */
    RUNDIR_SHUTDOWN, /* ctrl/NAME.shutdown: Ganeti's mark "the user shut it down" */
    RUNDIR_SERIAL,   /* ctrl/NAME.serial */
    RUNDIR_AGENT,    /* ctrl/NAME.qga */
    RUNDIR_VNC,      /* ctrl/NAME.vnc */
    RUNDIR_SPICE,    /* ctrl/NAME.spice */
    RUNDIR_TUNNEL,   /* ctrl/NAME.tunnel: where the memory of a migration comes in, for a moment */
    RUNDIR_RUNTIME,  /* conf/NAME.runtime */
    RUNDIR_NIC,      /* nic/NAME, a directory of INDEX and UUID files */
    RUNDIR_KEYMAP,   /* keymap/NAME */
    RUNDIR_CHROOT,   /* chroot/NAME, a directory */
    RUNDIR_LOCK,     /* lock/NAME, never unlinked */
    RUNDIR_EVENTS,   /* events/NAME.jsonl */
    RUNDIR_LOG,      /* log/NAME.log */
    RUNDIR_EVENTS_SOCKET, /* ctrl/NAME.events: of the socket form of the event log; nobody connects */
    RUNDIR_TPM,           /* tpm/NAME: pid of its swtpm, which holds a lock on it */
    RUNDIR_FILE_COUNT,
};

enum { RUNDIR_PATH_MAX = 512 };

struct rundir {
    int fd;     /* O_DIRECTORY | O_CLOEXEC */
    char *path; /* absolute, no trailing slash */
    /* Of RUN_DIR/next alone, where a QEMU begins that is to take the place of another one: that one's. Borrowed. */
    const struct rundir *home;
};

/* Open; with `create` make it and its sub-directories where missing (0700, root). Without `create` a
 * missing run directory fails with STATUS_STATE ("no instance was ever started here"). */
int rundir_open(struct rundir *rundir, const char *path, bool create, struct error *error);
/* Make the sub-directories that are missing in one that was opened without `create` (Ganeti's has no lock/). */
int rundir_complete(const struct rundir *rundir, struct error *error);
void rundir_close(struct rundir *rundir);
#define AUTO_RUNDIR __attribute__((cleanup(rundir_close)))

/* Name relative to the run directory, e.g. "ctrl/web1.qmp"; buffer of RUNDIR_PATH_MAX. */
void rundir_name(enum rundir_file file, const char *instance, char *buffer);
/* The same with the run directory's path before it; the caller frees. */
char *rundir_path(const struct rundir *rundir, enum rundir_file file, const char *instance);

/* instance_check_name, and the longest socket path fits into 107 bytes. */
int rundir_check_name(const struct rundir *rundir, const char *name, struct error *error);

/*
 * The per-instance lock: an OFD write lock on lock/NAME, O_CLOEXEC, polled to the deadline. The
 * holder writes one JSON line {"program", "pid", "user", "since"} into the file for the message of the
 * others: "busy: kvm-hotplug pid 4711 by root since 02:13:07". Fails with STATUS_BUSY.
 * The lock is released by closing *lock (AUTO_CLOSE).
 */
int rundir_lock(const struct rundir *rundir, const char *name, deadline_t deadline, int *lock,
                struct error *error);

/* Who holds it now, for kvm-info: false when nobody. Takes no lock. `text` ≥ 256 bytes. */
bool rundir_lock_holder(const struct rundir *rundir, const char *name, char *text, size_t size);

/* All instance names of which any file of an instance is there (lock/, log/ and events/ alone do not
 * count), sorted, NULL-terminated; free with rundir_names_release. NULL when a directory can't be read: a list that lacks
 * one that runs would be taken for the whole. */
char **rundir_names(const struct rundir *rundir, size_t *count, struct error *error);
void rundir_names_release(char **names);

/* True if there is any file of this instance but its lock. */
bool rundir_has_files(const struct rundir *rundir, const char *name);
/* True if there is one, or its lock, which whoever makes the first takes before: else the name was never used here. */
bool rundir_knows(const struct rundir *rundir, const char *name);

#endif
