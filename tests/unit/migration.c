/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An exhaustive search over the stage protocol, with the table of migration.c itself: every order of stages, crashes of
 * either tool, lost messages, dead QEMUs and manual commands with every token that can be known by then. The two
 * properties: never do both sides run (and never after the target ran, the source), and while both QEMUs live some
 * sequence of documented commands makes the guest run.
 */
#include "unit.h"
#include "kvm/base/transaction.h"
#include "kvm/operations/migration.h"

struct world {
    enum migration_phase source, target;
    bool source_runs, target_runs; /* the guest's CPUs, on each side */
    bool source_alive, target_alive;
    bool copied;       /* everything has arrived */
    bool voted;        /* the source has seen the vote */
    bool commit_known; /* the commit token has left the source */
    bool abort_known;
    bool arrived;    /* the source has been told that the target runs it */
    bool ever_there; /* the target has run it */
    bool sent; /* tokens are made for one sending; another one is another migration, with its own */
    /* post-copy */
    bool switched;   /* the target has all but memory, and the source's QEMU is in post-copy */
    bool cut;        /* …whose stream is broken */
    bool voted_half; /* the source has seen such a vote */
    bool stuck; /* the source's QEMU was told to go back from a post-copy whose stream is broken */
    bool ended_half; /* a stage has ended a QEMU that had what the other one still needs */
};

enum { WORLDS = 1 << 20 };

static struct world worlds[WORLDS];
static size_t world_count;
static unsigned char seen[1 << 21]; /* a bit for each packed world */

static unsigned pack(const struct world *w)
{
    return (unsigned)w->source | (unsigned)w->target << 4 | (unsigned)w->source_runs << 8 |
           (unsigned)w->target_runs << 9 | (unsigned)w->source_alive << 10 |
           (unsigned)w->target_alive << 11 | (unsigned)w->copied << 12 | (unsigned)w->voted << 13 |
           (unsigned)w->commit_known << 14 | (unsigned)w->abort_known << 15 |
           (unsigned)w->arrived << 16 | (unsigned)w->ever_there << 17 | (unsigned)w->sent << 18 |
           (unsigned)w->switched << 19 | (unsigned)w->cut << 20 | (unsigned)w->voted_half << 21 |
           (unsigned)w->stuck << 22 | (unsigned)w->ended_half << 23;
}

static void visit(struct world world)
{
    unsigned packed = pack(&world);

    if ((seen[packed / 8] >> (packed % 8) & 1) != 0)
        return;
    seen[packed / 8] = (unsigned char)(seen[packed / 8] | 1U << (packed % 8));
    worlds[world_count++] = world;
}

/* Weakenings of the protocol, which the search must find unsafe. */
enum control {
    AS_IT_IS,
    COMMIT_WITHOUT_VOTE,
    RUN_WITHOUT_TOKEN,
    TOKEN_BEFORE_RECORD, /* the commit token leaves with the question for the vote */
    ABORT_WITHOUT_TOKEN, /* a target that has voted ends itself */
    BACK_AFTER_COMMIT,
    RUN_WHEN_SWITCHED,   /* post-copy's target runs as soon as it can, as QEMU does by itself */
    SPLIT_IS_COMMITTED,  /* the source may finish while the target still needs its memory */
    BACK_WHEN_CUT,       /* the source cancels a post-copy whose link is cut */
    ABORT_WHEN_SWITCHED, /* a target with the processors' state ends itself before it has voted */
    COMPLETE_UNSEEN,     /* the source takes the copy for complete without asking QEMU */
    CONTROLS
};

static bool need_met(const struct world *w, enum migration_need need, enum control control)
{
    switch (need) {
    case NEED_NOTHING:
        return true;
    case NEED_COPIED:
        return w->copied || (control == COMPLETE_UNSEEN && w->source == PHASE_SPLIT);
    case NEED_VOTE:
        return w->voted || control == COMMIT_WITHOUT_VOTE;
    case NEED_COMMIT_TOKEN:
        return w->commit_known || control == RUN_WITHOUT_TOKEN;
    case NEED_ABORT_TOKEN:
        return w->abort_known || control == ABORT_WITHOUT_TOKEN;
    case NEED_ARRIVED:
        return w->arrived;
    case NEED_HALF:
        return w->switched && !w->copied;
    case NEED_VOTE_HALF:
        return w->voted_half;
    case NEED_PRECOPY:
        return !w->switched || control == ABORT_WHEN_SWITCHED;
    case NEED_WAY_BACK:
        return !w->cut || control == BACK_WHEN_CUT;
    }
    return false;
}

/* Would the end of one side's QEMU take with it what the other one needs to run the guest? */
static bool holds_half(const struct world *w)
{
    bool here = w->source_runs || w->source == PHASE_NONE;
    return w->switched && !w->copied && !here && w->source_alive && w->target_alive;
}

static void stop_side(struct world *w, bool source)
{
    if (source) {
        w->source_alive = w->source_runs = false;
        w->source = PHASE_GONE;
    } else {
        w->target_alive = w->target_runs = false;
        w->target = PHASE_GONE;
    }
}

/* One stage on one side, when the table allows it. The record is on disk before the effect, so both happen, or only the
 * record (the tool is killed between them), or nothing. */
static void try_rule(const struct world *w, const struct migration_rule *rule, enum control control)
{
    bool source = rule->side == MIGRATION_SOURCE;
    bool alive = source ? w->source_alive : w->target_alive || rule->stage == STAGE_ACCEPT;
    enum migration_phase phase = source ? w->source : w->target;
    struct world next = *w;

    if (phase != rule->from || !alive || !need_met(w, rule->need, control))
        return;
    if (rule->stage == STAGE_ACCEPT && (w->source != PHASE_NONE || w->ever_there))
        return;
    if (rule->stage == STAGE_SEND && (w->sent || w->target != PHASE_ACCEPTED))
        return;
    next.sent = next.sent || rule->stage == STAGE_SEND;
    *(source ? &next.source : &next.target) = rule->to;
    if (rule->stage == STAGE_ACCEPT)
        next.target_alive = true;
    visit(next);
    if (rule->effect == EFFECT_STOP_HERE) {
        next.ended_half = next.ended_half || holds_half(w);
        stop_side(&next, source);
    }
    if (rule->effect == EFFECT_RUN_HERE && source) {
        next.stuck = w->cut;
        next.source_runs = !w->cut;
        next.switched = next.cut = false;
    }
    if (rule->effect == EFFECT_RUN_HERE && !source)
        next.target_runs = next.ever_there = true;
    visit(next);
}

/* Post-copy's own: the switch, the rest of the memory, the link's end and its return (recover). */
static void post_copy(const struct world *w, enum control control)
{
    struct world next = *w;

    if (!w->source_alive || !w->target_alive)
        return;
    if (w->source == PHASE_SENDING && w->target == PHASE_ACCEPTED && !w->switched && !w->copied) {
        next.switched = true;
        next.source_runs = false;
        if (control == RUN_WHEN_SWITCHED)
            next.target_runs = next.ever_there = true;
        visit(next);
    }
    if (!w->switched || w->copied)
        return;
    next = *w;
    next.cut = !w->cut;
    visit(next);
    if (w->cut)
        return;
    next.cut = false;
    next.copied = true;
    visit(next);
    /* The source takes a "half" for all there is. */
    if (control == SPLIT_IS_COMMITTED && w->source == PHASE_SPLIT) {
        next = *w;
        next.source = PHASE_COMMITTED;
        visit(next);
    }
}

/* What happens by itself or on the wire. */
static void happenings(const struct world *w, enum control control)
{
    struct world next = *w;

    if (w->source == PHASE_SENDING && w->source_alive && w->target == PHASE_ACCEPTED &&
        w->target_alive && !w->switched) {
        next.copied = true;
        next.source_runs = false;
        visit(next);
    }
    post_copy(w, control);
    next = *w;
    next.voted = w->voted || (w->target == PHASE_READY && w->source == PHASE_SENDING);
    next.voted_half = w->voted_half || (w->target == PHASE_HALF && w->source == PHASE_SENDING);
    next.commit_known = w->commit_known || w->source == PHASE_COMMITTED ||
                        w->source == PHASE_SPLIT ||
                        (control == TOKEN_BEFORE_RECORD && w->source == PHASE_SENDING);
    next.arrived = w->arrived || w->ever_there;
    visit(next);
    /* The abort token leaves the source only when it has gone back. */
    next = *w;
    next.abort_known = w->abort_known || (w->source == PHASE_NONE && w->target != PHASE_NONE &&
                                          w->target != PHASE_ACCEPTED);
    visit(next);
    next = *w;
    if (w->source_alive) {
        stop_side(&next, true);
        next.source = w->source; /* the file stays */
        visit(next);
    }
    next = *w;
    if (w->target_alive) {
        stop_side(&next, false);
        next.target = w->target;
        visit(next);
    }
    if (control == BACK_AFTER_COMMIT && w->source == PHASE_COMMITTED && w->source_alive) {
        next = *w;
        next.source = PHASE_NONE;
        next.source_runs = true;
        visit(next);
    }
}

static void search(enum control control)
{
    memset(seen, 0, sizeof(seen));
    world_count = 0;
    visit((struct world){.source_runs = true, .source_alive = true});
    for (size_t i = 0; i < world_count; i++) {
        struct world world = worlds[i];
        happenings(&world, control);
        for (size_t rule = 0; rule < migration_rule_count; rule++)
            try_rule(&world, &migration_rules[rule], control);
    }
}

static bool runs_twice(const struct world *w)
{
    return (w->source_runs && w->target_runs) || (w->source_runs && w->ever_there);
}

static bool runs_by(enum migration_side side, enum migration_phase phase,
                    enum migration_stage stage)
{
    const struct migration_rule *rule = migration_rule(side, phase, stage);

    return phase == PHASE_NONE || (rule != NULL && rule->effect == EFFECT_RUN_HERE);
}

/* With both QEMUs alive, from what the files say: "abort" on the source, or "commit" on the target with the token. */
static bool can_be_made_to_run(const struct world *w)
{
    if (w->source_runs || w->target_runs)
        return true;
    if (w->stuck)
        return false;
    bool committed = w->source == PHASE_COMMITTED || w->source == PHASE_SPLIT || w->commit_known;
    return (w->source_alive && runs_by(MIGRATION_SOURCE, w->source, STAGE_ABORT)) ||
           (w->target_alive && runs_by(MIGRATION_TARGET, w->target, STAGE_COMMIT) && committed);
}

static size_t count_bad(bool (*good)(const struct world *w), bool only_alive)
{
    size_t bad = 0;

    for (size_t i = 0; i < world_count; i++)
        if (!only_alive || (worlds[i].source_alive && worlds[i].target_alive))
            bad += !good(&worlds[i]);
    return bad;
}

/* No stage throws away what the other side needs, or takes a half for the whole: a lost half is a lost guest. */
static bool keeps_halves(const struct world *w)
{
    bool taken_for_whole = w->target == PHASE_NONE && w->ever_there && w->switched && !w->copied;

    return !w->ended_half && !w->stuck && !taken_for_whole;
}

static bool runs_once(const struct world *w)
{
    return !runs_twice(w);
}

TEST(never_twice, "in no order of stages, crashes and losses does the guest run twice")
{
    search(AS_IT_IS);
    printf("# %zu states\n", world_count);
    CHECK(world_count > 100);
    for (size_t i = 0; i < world_count; i++)
        if (!runs_once(&worlds[i]))
            printf("# bad: source %d target %d runs %d %d\n", (int)worlds[i].source,
                   (int)worlds[i].target, worlds[i].source_runs, worlds[i].target_runs);
    CHECK_NUMBER(count_bad(runs_once, false), 0);
    return true;
}

TEST(never_lost, "while both QEMUs live, a documented command makes the guest run")
{
    search(AS_IT_IS);
    for (size_t i = 0; i < world_count; i++)
        if (worlds[i].source_alive && worlds[i].target_alive && !can_be_made_to_run(&worlds[i]))
            printf("# bad: source %d target %d commit known %d\n", (int)worlds[i].source,
                   (int)worlds[i].target, worlds[i].commit_known);
    CHECK_NUMBER(count_bad(can_be_made_to_run, true), 0);
    return true;
}

TEST(never_halved, "no stage ends a QEMU whose memory the other side still needs")
{
    search(AS_IT_IS);
    for (size_t i = 0; i < world_count; i++)
        if (!keeps_halves(&worlds[i]))
            printf("# bad: source %d target %d ended half %d stuck %d\n", (int)worlds[i].source,
                   (int)worlds[i].target, worlds[i].ended_half, worlds[i].stuck);
    CHECK_NUMBER(count_bad(keeps_halves, false), 0);
    return true;
}

/* The end must be reachable, or the properties hold because nothing happens. */
TEST(arrives, "a migration can arrive, and can be undone")
{
    bool arrived = false, undone = false, filled = false, resumed = false;
    bool undone_ready = false, undone_half = false;

    search(AS_IT_IS);
    for (size_t i = 0; i < world_count; i++) {
        const struct world *w = &worlds[i];
        bool back = w->source_runs && w->target == PHASE_GONE;
        arrived = arrived || (w->target_runs && w->source == PHASE_GONE && w->voted &&
                              !w->switched && w->target == PHASE_NONE);
        undone = undone || (back && w->copied && !w->voted);
        undone_ready = undone_ready || (back && w->voted);
        undone_half = undone_half || (back && w->voted_half);
        filled = filled || (w->target == PHASE_FILLING && w->target_runs && !w->copied);
        resumed = resumed || (w->voted_half && w->target_runs && w->target == PHASE_NONE &&
                              w->source == PHASE_GONE && w->copied);
    }
    CHECK(arrived);
    CHECK(undone && undone_ready && undone_half);
    CHECK(filled);
    CHECK(resumed);
    return true;
}

TEST(controls, "each weakened protocol is found unsafe")
{
    for (int control = AS_IT_IS + 1; control < CONTROLS; control++) {
        search((enum control)control);
        size_t bad = count_bad(runs_once, false) + count_bad(can_be_made_to_run, true) +
                     count_bad(keeps_halves, false);
        printf("# control %d: %zu bad states\n", control, bad);
        CHECK(bad > 0);
    }
    return true;
}

TEST(out_of_order, "stages out of order have no rule")
{
    CHECK(migration_rule(MIGRATION_SOURCE, PHASE_COMMITTED, STAGE_ABORT) == NULL);
    CHECK(migration_rule(MIGRATION_TARGET, PHASE_ACCEPTED, STAGE_COMMIT) == NULL);
    CHECK(migration_rule(MIGRATION_TARGET, PHASE_NONE, STAGE_COMMIT) == NULL);
    CHECK(migration_rule(MIGRATION_SOURCE, PHASE_NONE, STAGE_COMMIT) == NULL);
    CHECK(migration_rule(MIGRATION_SOURCE, PHASE_SENDING, STAGE_FINISH) == NULL);
    CHECK(migration_rule(MIGRATION_SOURCE, PHASE_SPLIT, STAGE_FINISH) == NULL);
    CHECK(migration_rule(MIGRATION_SOURCE, PHASE_SPLIT, STAGE_ABORT) == NULL);
    CHECK(migration_rule(MIGRATION_TARGET, PHASE_FILLING, STAGE_ABORT) == NULL);
    return true;
}

TEST(again, "a stage whose answer was lost can be asked for again, and changes nothing")
{
    static const struct {
        enum migration_side side;
        enum migration_phase phase;
        enum migration_stage stage;
    } cases[] = {{MIGRATION_TARGET, PHASE_READY, STAGE_VOTE},
                 {MIGRATION_TARGET, PHASE_HALF, STAGE_VOTE_HALF},
                 {MIGRATION_TARGET, PHASE_FILLING, STAGE_COMMIT},
                 {MIGRATION_SOURCE, PHASE_COMMITTED, STAGE_COMMIT},
                 {MIGRATION_SOURCE, PHASE_SPLIT, STAGE_COMMIT_HALF}};

    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct migration_rule *rule =
            migration_rule(cases[i].side, cases[i].phase, cases[i].stage);
        CHECK(rule != NULL);
        CHECK_NUMBER(rule->to, cases[i].phase);
    }
    return true;
}

UNIT_MAIN(UNIT(never_twice), UNIT(never_lost), UNIT(never_halved), UNIT(arrives), UNIT(controls),
          UNIT(out_of_order), UNIT(again))
