/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One instance under its lock: what is on the node (files, process, runtime) looked at once and in the right
 * order, the way in which every changing operation begins.
 */
#ifndef KVM_OPERATIONS_SESSION_H
#define KVM_OPERATIONS_SESSION_H

#include <stdbool.h>
#include "kvm/base/clock.h"
#include "kvm/base/error.h"
#include "kvm/operations/lasting.h"
#include "kvm/qemu/events.h"
#include "kvm/qemu/monitor.h"
#include "kvm/state/node.h"
#include "kvm/state/rundir.h"
#include "kvm/state/runtime.h"

struct session {
    const struct rundir *rundir;
    const struct node *node;
    const char *name;
    int lock;                    /* -1: looked at without the lock */
    struct qemu_process process; /* pid 0: no QEMU lives */
    bool has_runtime;
    struct runtime runtime;
    struct error runtime_fault; /* why it could not be loaded; text "" when there simply is none */
    bool taken_over;            /* the record was made by another tool, or on another boot */
    bool has_files;             /* anything of the instance is there */
    void (*observe)(const char *what); /* each step of a clean-up, for -v; NULL: nobody looks */
};

/* Lock (when `locked`), find the process, load the runtime. A runtime that can't be loaded is no failure here; a recorded
 * QEMU that lives without the pid file is: it would be taken for dead, and its guest be started a second time. */
int session_open(struct session *session, const struct rundir *rundir, const struct node *node,
                 const char *name, bool locked, deadline_t lock_deadline, struct error *error);
/* The same with the lock, for who does nothing without has_files or a QEMU that lives: a name that was never used here,
 * which may be a slip, leaves no lock file. */
int session_open_known(struct session *session, const struct rundir *rundir,
                       const struct node *node, const char *name, deadline_t lock_deadline,
                       struct error *error);
/* The same in two halves, for who has something to do in between: lock and process, then files. */
int session_find(struct session *session, const struct rundir *rundir, const struct node *node,
                 const char *name, bool locked, deadline_t lock_deadline, struct error *error);
int session_read(struct session *session, struct error *error);
/* Without the lock, and with runtime_peek: for lists. */
int session_peek(struct session *session, const struct rundir *rundir, const char *name,
                 struct error *error);
void session_close(struct session *session);
/* What follows does not need the lock any more, and may be a command of its own on this instance. */
void session_unlock(struct session *session);
#define AUTO_SESSION __attribute__((cleanup(session_close)))

bool session_is_live(const struct session *session);

/* Refuse to act on a live QEMU that is not the recorded one (I15, I19): STATUS_FAILED. */
int session_check_recorded(const struct session *session, struct error *error);

/* Refuse while a migration is under way: STATUS_STATE. */
int session_check_settled(const struct session *session, struct error *error);

/* Refuse to remove what tells that the guest was given to another node, and what makes it run there: STATUS_STATE. */
int session_check_kept(const struct session *session, struct error *error);

/* True when a start was interrupted before the guest's CPUs ran: the runtime says "starting" (or "rebooting", for
 * the start of a reboot), and QEMU (if it lives) answers "prelaunch". Ending such a QEMU loses nothing. */
bool session_is_unstarted(const struct session *session, deadline_t deadline);

/* For an instance without a live QEMU, or one that session_is_unstarted: end it, remove everything (but for what
 * session_check_kept refuses, and what outlives an instance). `ending` tells before that how it ended. */
int session_clear(struct session *session, bool keep_runtime, deadline_t deadline,
                  struct ending *ending, struct messages *warnings, struct error *error);
/* The same, with what outlives it as `lasting` says; NULL: no more of that than was made for a guest that never ran. */
int session_clear_lasting(struct session *session, struct lasting *lasting, deadline_t deadline,
                          struct ending *ending, struct messages *warnings, struct error *error);

#endif
