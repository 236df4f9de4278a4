/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The runtime file against QEMU: devices that an interrupted command left as "adding", "removing" or "changing" are
 * finished or undone. Called by every command that is about to change devices, under the lock.
 */
#ifndef KVM_OPERATIONS_RECONCILE_H
#define KVM_OPERATIONS_RECONCILE_H

#include "kvm/base/clock.h"
#include "kvm/base/error.h"
#include "kvm/qemu/qmp.h"
#include "kvm/state/node.h"
#include "kvm/state/rundir.h"
#include "kvm/state/media.h"
#include "kvm/state/runtime.h"

/*
 * adding: QEMU shows the device → present; else its backend, tap and entry go. removing: QEMU does not show it any more
 * → backend, tap and entry go; else it stays "removing". changing: the NIC's set-up is taken down and brought up as the file has it; what fails
 * is a note, and it stays "changing". The runtime is committed when anything changed; `notes` tells
 * what was done. What another tool has left of devices that the file does not have any more, block nodes and tap files,
 * goes as well. *touched: something was done, or asked for, that is more than looking.
 */
int reconcile_live(const struct rundir *rundir, const struct node *node, struct runtime *runtime,
                   struct qmp *qmp, deadline_t deadline, struct messages *notes, bool *touched,
                   struct error *error);

/* Whether it has anything to ask QEMU. */
bool reconcile_has_work(const struct runtime *runtime);

/* The block nodes of media that are not in this CD-ROM drive, and their descriptors, go. `notes` may be NULL. */
int reconcile_drive(struct qmp *qmp, enum medium medium, deadline_t deadline,
                    struct messages *notes, struct error *error);

/* For an instance without QEMU that is to be started again: entries that are not "present" go (what was being removed
 * is gone, what was being added was never acknowledged). Nothing is committed. */
void reconcile_dead(struct runtime *runtime);

/* Drop the entry of a disk or NIC from the runtime (by index); its device state goes as well. */
void reconcile_drop_disk(struct runtime *runtime, size_t index);
void reconcile_drop_nic(struct runtime *runtime, size_t index);

/* Remove what belongs to a device that QEMU does not have (any more). */
int reconcile_remove_disk_backend(struct qmp *qmp, const char *id, deadline_t deadline,
                                  struct error *error);
int reconcile_remove_nic_backend(const struct rundir *rundir, const struct node *node,
                                 const struct runtime *runtime, size_t index, struct qmp *qmp,
                                 deadline_t deadline, struct error *error);

#endif
