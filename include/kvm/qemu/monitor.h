/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The right QEMU behind the right socket. A pid is believed when it holds the lock on pid/NAME (QEMU's
 * own POSIX lock, or the one our child took before it became QEMU), its start time is the recorded one
 * where there is a record of this boot, and the monitor's peer credentials name it.
 */
#ifndef KVM_QEMU_MONITOR_H
#define KVM_QEMU_MONITOR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "kvm/base/clock.h"
#include "kvm/base/error.h"
#include "kvm/qemu/qmp.h"
#include "kvm/state/rundir.h"
#include "kvm/state/runtime.h"

struct qemu_process {
    pid_t pid; /* 0: no QEMU lives */
    uint64_t start_time;
    int pidfd; /* -1 when pid is 0 */
};

/* Find the live QEMU of an instance: lock holder → pidfd → ask again → start time. Returns 0 with
 * pid 0 when there is none; -1 (STATUS_FAILED) when something is odd and unknown must not be taken for
 * dead (pid file not regular or not ours, holder can't be opened). */
int monitor_find(const struct rundir *rundir, const char *name, struct qemu_process *process,
                 struct error *error);
void monitor_forget(struct qemu_process *process);
#define AUTO_PROCESS __attribute__((cleanup(monitor_forget)))

/* True unless the runtime recorded another process of this boot (a foreign or fresh runtime records
 * none, which is fine). */
bool monitor_is_recorded(const struct qemu_process *process, const struct runtime *runtime);

/* True when the command line of a process names other instances only (-name NAME or guest=NAME): its QEMU is not that of
 * `name`. False when it can't be known. That it names one proves nothing, only that it does not. */
bool monitor_is_of_another(pid_t pid, const char *name);

/* Connect to ctrl/NAME.qmp (`file` RUNDIR_QMP; only under the lock) or another monitor and check that its peer is
 * `process`. */
struct qmp *monitor_open(const struct rundir *rundir, const char *name, enum rundir_file file,
                         const struct qemu_process *process, deadline_t deadline,
                         struct error *error);

/* The same to look only, without the lock: ctrl/NAME.query, or, of a QEMU that has none since another tool started it,
 * ctrl/NAME.qmp. Who works with that one is not waited for long, and the caller is to let it go soon. `asked` (count may
 * be 0) is sent along, as qmp_ahead does. */
struct qmp *monitor_look(const struct rundir *rundir, const char *name,
                         const struct qemu_process *process, const struct qmp_request *asked,
                         size_t count, deadline_t deadline, struct error *error);

/* query-status: "running", "paused", "prelaunch", "inmigrate", "postmigrate", …; buffer ≥ 32. */
int monitor_status(struct qmp *qmp, deadline_t deadline, char *status, struct error *error);

#endif
