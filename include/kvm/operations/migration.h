/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who may do what next in a migration: the stage table, and the record of it in the runtime file.
 *
 *     source   none ──send──> sending ──commit──> committed ──finish──> (gone)
 *                             sending ──abort──>  none
 *     target   none ──accept──> accepted ──vote──> ready ──commit──> none (running)
 *                               accepted ──abort──> (gone)      ready ──abort──> (gone)
 *
 * and with post-copy, where the guest runs on the target before all its memory is there:
 *
 *     source   sending ──commit──> split ──complete──> committed ──finish──> (gone)
 *     target   accepted ──vote──> half ──commit──> filling (running) ──complete──> none (running)
 *                                 half ──abort──> (gone)
 *
 * The rule that makes it safe: the source's guest may be continued only in "sending", the target's only by the commit
 * token, which the source gives away only after "committed" is on its disk; and a target that has voted may end itself
 * only by the abort token, which the source gives away only after it has left "sending" backwards. So at no moment both
 * may run, and before "committed" the source, after it the target can always be made to run. tests/unit/migration.c
 * searches all orders of commands, crashes and losses for a counter-example, over this very table.
 *
 * In post-copy a third thing can be lost, the memory that only the other side has. So no stage ends a QEMU whose memory
 * the other one still needs; and since QEMU (7.2) can't come back from a post-copy whose link is cut, the source goes
 * back only while its link stands, and a target that has the processors' state ends itself by the abort token only.
 */
#ifndef KVM_OPERATIONS_MIGRATION_H
#define KVM_OPERATIONS_MIGRATION_H

#include <stdbool.h>
#include <stddef.h>
#include <jansson.h>
#include "kvm/base/error.h"
#include "kvm/state/runtime.h"

enum migration_side { MIGRATION_SOURCE, MIGRATION_TARGET };

enum migration_phase {
    PHASE_NONE,
    PHASE_SENDING,   /* source: memory is being copied, or was */
    PHASE_COMMITTED, /* source: only the target may run the guest from now on */
    PHASE_ACCEPTED,  /* target: QEMU waits for the memory */
    PHASE_READY,     /* target: has all of it, paused, and said so */
    PHASE_GONE,      /* nothing of the instance is here any more */
    PHASE_SPLIT,     /* source: as "committed", but memory that the target needs is only here */
    PHASE_HALF,      /* target: as "ready", but memory is still to come */
    PHASE_FILLING,   /* target: the guest runs here, and memory is still to come */
};

enum migration_stage {
    STAGE_ACCEPT,
    STAGE_SEND,
    STAGE_VOTE,
    STAGE_COMMIT,
    STAGE_ABORT,
    STAGE_FINISH,
    STAGE_VOTE_HALF,   /* "vote" in post-copy */
    STAGE_COMMIT_HALF, /* the source's "commit" after such a vote */
    STAGE_COMPLETE,    /* the last of the memory has come */
};

enum migration_need {
    NEED_NOTHING,
    NEED_COPIED,       /* target: QEMU has received everything */
    NEED_VOTE,         /* source: the target said "ready" */
    NEED_COMMIT_TOKEN, /* target */
    NEED_ABORT_TOKEN,  /* target */
    NEED_ARRIVED,      /* source: the target said that it runs the guest */
    NEED_HALF,         /* target: QEMU has everything but memory */
    NEED_VOTE_HALF,    /* source: the target said "half" */
    NEED_PRECOPY,      /* target: QEMU has nothing that the source can't do without */
    NEED_WAY_BACK,     /* source: not in a post-copy whose link is cut */
};

enum migration_effect {
    EFFECT_NONE,
    EFFECT_RUN_HERE, /* the guest's CPUs run on this side from here on */
    EFFECT_STOP_HERE /* this side's QEMU ends */
};

/* The new phase is on disk before the effect; for EFFECT_STOP_HERE after it. */
struct migration_rule {
    enum migration_side side;
    enum migration_phase from;
    enum migration_stage stage;
    enum migration_need need;
    enum migration_phase to;
    enum migration_effect effect;
};

extern const struct migration_rule migration_rules[];
extern const size_t migration_rule_count;

/* The rule, or NULL when this stage is out of order. */
const struct migration_rule *migration_rule(enum migration_side side, enum migration_phase from,
                                            enum migration_stage stage);

const char *migration_phase_name(enum migration_phase phase);
const char *migration_stage_name(enum migration_stage stage);

/* The record in the fifth element: "migration": {"side", "phase", "id", "peer", "commit_token", "abort_token", "taps"}. */
enum migration_phase migration_phase_of(const struct runtime *runtime);
enum migration_side migration_side_of(const struct runtime *runtime);
const char *migration_text(const struct runtime *runtime, const char *key); /* NULL; borrowed */
void migration_set_phase(struct runtime *runtime, enum migration_side side,
                         enum migration_phase phase);
void migration_set_text(struct runtime *runtime, const char *key, const char *value);
void migration_clear(struct runtime *runtime);

/* Taps of routed NICs, which are set up only when the guest has come. */
void migration_note_tap(struct runtime *runtime, const char *uuid, const char *tap);
const char *migration_tap(const struct runtime *runtime, const char *uuid);
void migration_forget_tap(struct runtime *runtime, const char *uuid); /* it has been set up */

/* Disks that travel with the guest, by uuid; NULL when none do. Source: {"mirror", "path"}. Target: {"path"}, and for a
 * file that was made for it {"inode", "born"}, which alone may be removed again. */
json_t *migration_disks(const struct runtime *runtime);           /* borrowed */
void migration_set_disks(struct runtime *runtime, json_t *disks); /* stolen */

/* Is memory of the guest on both sides, or may it be, by what this side's record says? */
bool migration_is_split(const struct runtime *runtime);

/* 32 hex digits from the kernel's random numbers. */
void migration_token(char token[33]);

/* Refuse with STATUS_STATE, naming phase and stage. */
int migration_out_of_order(const struct runtime *runtime, enum migration_stage stage,
                           struct error *error);

#endif
