/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * --copy-disks: disks that travel with the guest.
 *
 *     source                                     target
 *     choose: which disks, how large
 *     check ──────────────────────────────────>  landing_check: places, space, what is there already
 *     accept ─────────────────────────────────>  landing_make: files, with the intent in the runtime first
 *                                                exports_open: QEMU's NBD server, before the guest can run
 *     copies_begin: NBD nodes and mirrors
 *     copies_watch: until both sides are the same
 *     … the memory; at its end, guest paused:
 *     copies_finish: mirrors ended, nodes gone
 *     vote ───────────────────────────────────>  exports_close: nobody writes from outside any more, all is on the disk
 *
 * The mirrors end before the target may vote, and the vote comes before the commit: so before the commit the source's
 * disks are whole and are the guest's, and after it only the target's are written. A way back drops mirrors and nodes
 * (copies_drop) and the files that were made (landing_remove); no file that was there before is ever removed.
 */
#ifndef KVM_OPERATIONS_MIGRATE_DISKS_H
#define KVM_OPERATIONS_MIGRATE_DISKS_H

#include "migrate_private.h"

enum { COPY_NODE_SIZE = 32 };

struct copy {
    const struct disk *disk;     /* of the session's runtime */
    const char *node;            /* its block node; borrowed */
    const char *label;           /* what people call it: name, else uuid */
    char *path;                  /* where it will be on the target */
    char client[COPY_NODE_SIZE]; /* node of the NBD client, id of the mirror */
    bool by_name;                /* asked for by its name */
    int64_t size, used;          /* bytes: the disk's, and what it takes here */
    int64_t copied, total;       /* of the mirror */
    bool ready;
};

struct copies {
    struct copy *items;
    size_t count;
    char *left; /* paths of what stays behind here, for the result */
};

struct sending;
struct serving;

/* ---- migrate_disks.c, the source: which disks ---- */

/* By --copy-disks; what speaks against it goes to the problems. */
int copies_choose(struct sending *sending, struct error *error);
/* "disks" and what belongs to them into a request. */
void copies_ask(const struct sending *sending, json_t *request);
/* What the target said: disks that it has already since both sides see the same storage are left out. */
void copies_take_answer(struct sending *sending, const json_t *answer);
void copies_release(struct copies *copies);
/* For the runtime: so that recover knows that there may be mirrors. */
void copies_record(const struct copies *copies, struct runtime *runtime);
/* The target can't be told to remove its copies: where they are. */
void copies_tell_remains(const struct copies *copies, const char *target, struct error *error);
/* How much there is to be copied, and how long at that rate (0: not known), into the result of a check. */
void copies_tell_forecast(struct sending *sending, int64_t rate);
/* What was copied and what stays behind, into the result. */
void copies_tell(struct sending *sending);

/* ---- migrate_mirror.c, the source: the copying ---- */

int copies_begin(struct sending *sending, const json_t *answer, struct error *error);
int copies_watch(struct sending *sending, struct error *error);
/* For the progress; the caller frees. */
struct migrate_disk_progress *copies_progress(const struct copies *copies);
/* All mirrors are still there, and ready. */
int copies_check(struct sending *sending, struct error *error);
/* The guest is paused: end the mirrors, which leaves both sides the same, and let go of the target. */
int copies_finish(struct sending *sending, struct error *error);

/* ---- migrate_jobs.c, the source: the mirrors that QEMU has ---- */

/* The answer to a question that does not take long; new reference. NULL with error. */
json_t *copies_query(struct qmp *qmp, const char *question, json_t *arguments, deadline_t deadline,
                     struct error *error);
/* Until none of ours is left. */
int copies_await_none(struct qmp *qmp, deadline_t deadline, struct error *error);
/* {"mirror", "copied", "total", "ready"} of each mirror that QEMU has; new reference. */
json_t *copies_state(struct qmp *qmp, deadline_t deadline);
/* End them as they are. Before anything else on the way back, since a mirror whose target hangs holds up the guest's
 * writes, and QEMU with them. */
void copies_yank(struct qmp *qmp, const struct runtime *runtime, deadline_t deadline);
int copies_drop(struct qmp *qmp, const struct runtime *runtime, deadline_t deadline,
                struct error *error);
/* From elsewhere, to make the command that drives them go back. */
int copies_cancel(struct qmp *qmp, deadline_t deadline, struct error *error);

/* ---- migrate_landing.c, the target: places for them ---- */

/* Where a path leads: resolved once, by descriptors from then on. */
struct place {
    int directory, there; /* what is there, or has been made there; -1: nothing */
    char *real;
    const char *name; /* in the directory; the end of `real` */
};

struct landing {
    struct place place;
    size_t index; /* of the disk in the instance */
    char *path;
    int64_t size, used;
    bool qcow2;
    char *identity; /* of the source's file or device; "" not told */
    bool exists, same;
};

struct landings {
    struct landing *items;
    size_t count;
    const struct node *node;
    bool overwrite;
};

/* The disks of a request, which is a stranger's; their places become those of the instance. Nothing is touched. */
int landing_read(const json_t *request, const struct node *node, struct instance *instance,
                 struct landings *landings, struct error *error);
/* Everything that could fail here, all at once; marks what is the source's own storage. */
void landing_check(const struct instance *instance, struct landings *landings,
                   struct messages *problems, struct messages *warnings);
/* Make the files: unnamed, then recorded in the runtime, which is committed, then named. */
int landing_make(const struct rundir *rundir, struct runtime *runtime, struct landings *landings,
                 struct error *error);
/* launch's check_image, `context` the landings after landing_make: a disk is opened by its path, and is it still what was
 * checked and made there? */
int landing_check_opened(const void *context, size_t disk, int descriptor, struct error *error);
/* Remove what landing_make made, as the runtime tells; anything else at these places is left and told. */
int landing_remove(const struct runtime *runtime, struct messages *warnings, struct error *error);
/* What landing_remove would do when the guest never comes: {"finding", "action"} of each. */
void landing_explain(const struct runtime *runtime, json_t *findings);
void landing_release(struct landings *landings);
#define AUTO_LANDINGS __attribute__((cleanup(landing_release)))

/* ---- migrate_export.c, the target: QEMU's NBD server ---- */

/* Listens where the request wants it; *port is the one that it is. */
int exports_open(struct serving *serving, const json_t *request, struct qmp *qmp, int64_t *port,
                 struct error *error);
/* No export is left, and what was written is on the disk. Nothing to do when no disks travel. */
int exports_close(const struct session *session, struct qmp *qmp, deadline_t deadline,
                  struct error *error);

#endif
