/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A new QEMU under a running guest, on the same node: a migration whose target is a run directory of its own below the
 * instance's, RUN_DIR/next. Stages, votes, records and recover are those of every migration; in place are
 *
 *     the session    this program itself, `serve --in-place`, as a child
 *     the memory     through a unix socket in RUN_DIR/next
 *     the taps       taken out of the old QEMU by descriptor, never set up or down; while the new QEMU opens them the
 *                    guest is paused, and they get back what it reset
 *     the end        the old QEMU ends, and the new one's files take the place of its own; its runtime file last, so that
 *                    until then RUN_DIR says "committed" and recover goes on
 */
#ifndef KVM_OPERATIONS_MIGRATE_INPLACE_H
#define KVM_OPERATIONS_MIGRATE_INPLACE_H

#include "migrate_private.h"

struct launch;
struct sending;
struct serving;

/* ---- both sides ---- */

/* RUN_DIR/next; the caller frees. */
char *inplace_path(const char *run_dir);
bool inplace_is(
    const struct runtime *runtime); /* the migration that its record tells is one in place */

/* ---- inplace_source.c: the side that has the guest ---- */

/* The session with the other side. */
int inplace_open_remote(struct remote *remote, const struct rundir *rundir, const struct node *node,
                        const char *name, struct error *error);
/* accept, with the guest paused while the new QEMU opens its taps. "sending" is recorded before that. Steals the question. */
int inplace_accept(struct sending *sending, json_t *question, json_t **answer, struct error *error);
int inplace_connect(const struct sending *sending, const char *token, struct error *error);
/* The old QEMU's taps as the record tells that they were. Before its guest runs on. */
int inplace_restore_taps(const struct session *session, struct error *error);

/* ---- inplace_adopt.c: after the commit ---- */

/* End the old QEMU, and make the new one's files the instance's. Repeatable from wherever it was interrupted. */
int inplace_adopt(struct session *session, deadline_t deadline, struct messages *warnings,
                  struct error *error);
/* True when that has begun: the guest is known to run in the new QEMU. */
bool inplace_is_adopting(const struct runtime *runtime);

/* ---- inplace_serve.c: the new QEMU's side ---- */

/* What the received instance runs with is this node's own: only the program may be another one. */
void inplace_take_program(const struct node *node, json_t *hvparams);
/* What can't be done in place is told by name. */
void inplace_check(const struct instance *instance, struct messages *problems);
/* Its uid is the one that the old QEMU has. */
int inplace_take_uid(const struct serving *serving, struct error *error);
/* The old QEMU, for launch_options. */
int inplace_find_old(struct serving *serving, struct error *error);
void inplace_note_display(struct runtime *runtime, const struct launch *launch);
/* Its display must be able to get its address later. */
int inplace_check_display(struct qmp *qmp, const struct instance *instance, deadline_t deadline,
                          struct error *error);

#endif
