/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Looking at instances without touching them: no lock, nothing written, the query monitor only, so that looking
 * never waits for doing. Everything is told as JSON; kvm-info prints it.
 */
#ifndef KVM_OPERATIONS_INSPECT_H
#define KVM_OPERATIONS_INSPECT_H

#include <stdbool.h>
#include <jansson.h>
#include "kvm/base/clock.h"
#include "kvm/base/error.h"
#include "kvm/operations/session.h"
#include "kvm/state/rundir.h"

/*
 * One line of the list, from files alone: {"instance", "state", "pid", "memory_mib", "vcpus", "since", "uuid",
 * "busy", "ending", "migration" {"side", "phase", "in_place"}}. state: "running", "paused", "starting" (or its start was interrupted), "stopped" (dead, files
 * are left), "absent" (nothing is here), "unknown" (the reason is in "fault"). since: seconds since the epoch. New
 * object, never NULL.
 */
json_t *inspect_brief(const struct rundir *rundir, const char *name);

/* The same and all there is to know, live values from the query monitor: "status", "memory_actual_mib", "qemu",
 * "machine", "disks", "nics", "console", "vnc", "hvparams" …; for a stopped one "runtime": [kvm_cmd, nics, hvparams,
 * disks]. A silent monitor is told in "fault". */
json_t *inspect_detail(const struct rundir *rundir, const char *name, deadline_t deadline);

/* {"disks": [...], "nics": [...]} of a session with a runtime, by the files alone. New object. */
json_t *inspect_devices(const struct session *session);

/* The map of the 32 slots: array of {"slot", "use": "reserved" | "ours" | "foreign" | "free" | "none", "what"}. For a
 * live instance QEMU is asked; NULL when nothing is known of the instance. */
json_t *inspect_slots(const struct rundir *rundir, const char *name, deadline_t deadline,
                      struct error *error);

/* The command that opens the serial console; NULL with STATUS_STATE when there is none. Caller frees. */
char *inspect_console(const struct rundir *rundir, const char *name, struct error *error);

/* True for the states in which a QEMU lives. */
bool inspect_is_live(const json_t *brief);

#endif
