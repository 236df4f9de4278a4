/* SPDX-License-Identifier: BSD-2-Clause */
/* One action of kvm-migrate by files and QEMU of this side: what migrate_local.c and migrate_recover.c share. */
#ifndef KVM_OPERATIONS_MIGRATE_LOCAL_H
#define KVM_OPERATIONS_MIGRATE_LOCAL_H

#include "migrate_private.h"

enum { LOCAL_MS = 60000 };

struct local {
    const struct rundir *rundir;
    const struct node *node;
    const char *name;
    const char *token;
    const struct migrate_options *options;
    struct session session;
    struct result *result;
};

/* kvm-migrate-post.d of the source; the lock is free after it. */
void local_source_hooks(struct local *local);
/* The result's text; steals. */
void local_say(struct local *local, char *text);

/* True when there is nothing of the instance on this node. */
bool local_is_absent(const struct session *session);

/* ---- migrate_look.c ---- */

/* Whether a migration is under way can be told: STATUS_STATE when the runtime file is damaged, or missing while QEMU lives. */
int local_check_known(const struct local *local, struct error *error);
int local_status(struct local *local, struct error *error);
/* End QEMU's copy; the command that drives it goes back. */
int local_cancel(struct local *local, struct error *error);

/* ---- migrate_recover.c ---- */

/* Finish or undo; the other side is asked where it can be. */
int local_recover(struct local *local, struct error *error);
/* This source went back to running, and what the target is to be told is still recorded. */
bool local_has_gone_back(const struct session *session);
/* The source has committed: the target runs the guest, then this side ends. */
int local_recover_committed(struct local *local, struct error *error);

#endif
