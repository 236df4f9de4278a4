/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is in an instance's place and can't be ours, or is ours and damaged, is moved aside and never deleted: to
 * chroot-quarantine/NAME-STAMP-xxxx of the run directory, where a person finds it.
 */
#ifndef KVM_OPERATIONS_QUARANTINE_H
#define KVM_OPERATIONS_QUARANTINE_H

#include "kvm/base/error.h"
#include "kvm/state/rundir.h"

/* `path` is relative to the run directory; `kind` becomes a part of the new name, "" none. Durable. The new path, whole, which
 * the caller frees; NULL with STATUS_INCOMPLETE. */
char *quarantine_move(const struct rundir *rundir, const char *name, const char *path,
                      const char *kind, struct error *error);

#endif
