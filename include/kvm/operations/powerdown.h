/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Ending a live QEMU: guest agent shutdown (use_guest_agent) → ACPI power button, repeated because a guest that
 * is still booting misses it → kill. Says who ended it and how long it took.
 */
#ifndef KVM_OPERATIONS_POWERDOWN_H
#define KVM_OPERATIONS_POWERDOWN_H

#include <stdbool.h>
#include <stdint.h>
#include "kvm/base/clock.h"
#include "kvm/base/error.h"
#include "kvm/qemu/monitor.h"
#include "kvm/state/rundir.h"
#include "kvm/state/runtime.h"

struct powerdown_options {
    deadline_t deadline; /* the guest is asked until then; after it STATUS_TIMEOUT and it runs on */
    bool force;          /* kill at once */
    int64_t kill_after_ms;              /* -1: never; else kill when it has not ended by then */
    void (*progress)(const char *text); /* NULL; what is being tried */
};

/* Returns 0 when the process is gone. `how` gets "the guest powered off on request", … as events tell. */
int powerdown_run(const struct rundir *rundir, const char *name, const struct runtime *runtime,
                  const struct qemu_process *process, const struct powerdown_options *options,
                  struct error *error);

/* SIGKILL through the pidfd and wait for the end; notes it in the event log first. */
int powerdown_kill(const struct rundir *rundir, const char *name,
                   const struct qemu_process *process, const char *reason, deadline_t deadline,
                   struct error *error);

#endif
