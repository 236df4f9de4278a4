/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The event log events/NAME.jsonl, which QEMU writes itself (one QMP event a line), read back; and the
 * lines that the suite's programs add, in the same form: {"timestamp", "event": "KVM_SUITE_START" |
 * "KVM_SUITE_ACTION", "data": {"program", "action", "pid", "user", …}}.
 *
 * From it: how the run that began with the last KVM_SUITE_START ended. SHUTDOWN with its reason says
 * guest, panic, quit or signal (log/NAME.log names the sender of a signal); a log without SHUTDOWN and a
 * free pid file is a crash or SIGKILL; another boot id is the node.
 */
#ifndef KVM_QEMU_EVENTS_H
#define KVM_QEMU_EVENTS_H

#include <stdbool.h>
#include <jansson.h>
#include "kvm/base/error.h"
#include "kvm/state/rundir.h"
#include "kvm/state/runtime.h"

enum ending_kind {
    ENDING_NONE,      /* it is running, or nothing is known */
    ENDING_GUEST,     /* the guest powered off by itself */
    ENDING_REQUESTED, /* the guest powered off after POWERDOWN or the agent's shutdown */
    ENDING_RESET,     /* the guest rebooted and reboot_behavior is exit */
    ENDING_PANIC,
    ENDING_QUIT,   /* QMP quit */
    ENDING_SIGNAL, /* TERM, INT or HUP */
    ENDING_KILLED, /* killed by a program of the suite (recorded), or SIGKILL, OOM, crash: unknown */
    ENDING_NODE,   /* the node rebooted under it */
    ENDING_WATCHDOG,  /* the watchdog device powered it off */
    ENDING_NEVER_RAN, /* start was interrupted before the guest's CPUs ran */
};

struct ending {
    enum ending_kind kind;
    double at;      /* wall clock of the deciding event; 0: unknown */
    char text[256]; /* "the guest powered off by itself at 02:13:07" */
};

const char *ending_kind_name(enum ending_kind kind); /* "guest-poweroff", … for --json */

/* Read the end of the log (at most its last MiB). `runtime` may be NULL. Never fails: what is unknown
 * is ENDING_KILLED or ENDING_NONE with a text that says so. `alive` is what monitor_find said. */
void events_ending(const struct rundir *rundir, const char *name, const struct runtime *runtime,
                   bool alive, struct ending *ending);

/* All that is kept, oldest first; new array of the lines' objects; lines that do not parse are left out and counted. */
json_t *events_read(const struct rundir *rundir, const char *name, size_t *damaged);

/* The newest event that has one of the names (NULL ends them); a new reference. NULL: there is none. */
json_t *events_last(const struct rundir *rundir, const char *name, const char *const *names);

/* Seconds since the epoch; 0: the event has no time. */
double events_time(const json_t *event);

/* True when an event of that name with a time ≥ `since` (clock_wall) is in the log. */
bool events_seen(const struct rundir *rundir, const char *name, const char *event, double since);

/* Add a line of ours (one O_APPEND write). `detail` is stolen, may be NULL. Errors are ignored: the log
 * is for people. */
void events_note(const struct rundir *rundir, const char *name, const char *event,
                 const char *action, json_t *detail);

/* The link of a NIC, by its device id, has been set: QEMU itself does not tell it to anybody who asks later. */
void events_note_link(const struct rundir *rundir, const char *name, const char *id, bool up);

/* Open (create) for QEMU: O_WRONLY | O_APPEND, 0600; cut to its last half when above 1 MiB. */
int events_open(const struct rundir *rundir, const char *name, struct error *error);

/* Event log and QEMU's messages of a live instance: when they take more than 1 MiB, all but the last half of that goes: a
 * guest that makes events without end must not fill the run directory. Nothing that is kept can be lost, whenever this is
 * killed, nor what QEMU writes meanwhile; but for a file system that knows neither FALLOC_FL_COLLAPSE_RANGE nor
 * FALLOC_FL_PUNCH_HOLE. With the latter alone the file begins with a hole. Every command that holds the lock does it. */
void events_bound(const struct rundir *rundir, const char *name);

#endif
