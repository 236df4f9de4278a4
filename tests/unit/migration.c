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
};

enum { WORLDS = 1 << 20 };

static struct world worlds[WORLDS];
static size_t world_count;
static unsigned char seen[1 << 14]; /* a bit for each packed world */

static unsigned pack(const struct world *w)
{
    return (unsigned)w->source | (unsigned)w->target << 3 | (unsigned)w->source_runs << 6 |
           (unsigned)w->target_runs << 7 | (unsigned)w->source_alive << 8 |
           (unsigned)w->target_alive << 9 | (unsigned)w->copied << 10 | (unsigned)w->voted << 11 |
           (unsigned)w->commit_known << 12 | (unsigned)w->abort_known << 13 |
           (unsigned)w->arrived << 14 | (unsigned)w->ever_there << 15 | (unsigned)w->sent << 16;
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
    CONTROLS
};

static bool need_met(const struct world *w, enum migration_need need, enum control control)
{
    switch (need) {
    case NEED_NOTHING:
        return true;
    case NEED_COPIED:
        return w->copied;
    case NEED_VOTE:
        return w->voted || control == COMMIT_WITHOUT_VOTE;
    case NEED_COMMIT_TOKEN:
        return w->commit_known || control == RUN_WITHOUT_TOKEN;
    case NEED_ABORT_TOKEN:
        return w->abort_known || control == ABORT_WITHOUT_TOKEN;
    case NEED_ARRIVED:
        return w->arrived;
    }
    return false;
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
    if (rule->effect == EFFECT_STOP_HERE)
        stop_side(&next, source);
    if (rule->effect == EFFECT_RUN_HERE && source)
        next.source_runs = true;
    if (rule->effect == EFFECT_RUN_HERE && !source)
        next.target_runs = next.ever_there = true;
    visit(next);
}

/* What happens by itself or on the wire. */
static void happenings(const struct world *w, enum control control)
{
    struct world next = *w;

    if (w->source == PHASE_SENDING && w->source_alive && w->target == PHASE_ACCEPTED &&
        w->target_alive) {
        next.copied = true;
        next.source_runs = false;
        visit(next);
    }
    next = *w;
    next.voted = w->voted || (w->target == PHASE_READY && w->source == PHASE_SENDING);
    next.commit_known = w->commit_known || w->source == PHASE_COMMITTED ||
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

/* With both QEMUs alive, from what the files say: "abort" on the source, or "commit" on the target with the token. */
static bool can_be_made_to_run(const struct world *w)
{
    if (w->source_runs || w->target_runs)
        return true;
    bool source = w->source_alive && (w->source == PHASE_NONE || w->source == PHASE_SENDING);
    bool target = w->target_alive && (w->target == PHASE_READY || w->target == PHASE_NONE) &&
                  (w->source == PHASE_COMMITTED || w->commit_known);
    return source || target;
}

static size_t count_bad(bool (*good)(const struct world *w), bool only_alive)
{
    size_t bad = 0;

    for (size_t i = 0; i < world_count; i++)
        if (!only_alive || (worlds[i].source_alive && worlds[i].target_alive))
            bad += !good(&worlds[i]);
    return bad;
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

/* The end must be reachable, or the properties hold because nothing happens. */
TEST(arrives, "a migration can arrive, and can be undone")
{
    bool arrived = false, undone = false;

    search(AS_IT_IS);
    for (size_t i = 0; i < world_count; i++) {
        const struct world *w = &worlds[i];
        arrived = arrived || (w->target_runs && w->source == PHASE_GONE);
        undone = undone || (w->source_runs && w->copied && w->target == PHASE_GONE);
    }
    CHECK(arrived);
    CHECK(undone);
    return true;
}

TEST(controls, "each weakened protocol is found unsafe")
{
    for (int control = AS_IT_IS + 1; control < CONTROLS; control++) {
        search((enum control)control);
        size_t bad = count_bad(runs_once, false) + count_bad(can_be_made_to_run, true);
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
    return true;
}

UNIT_MAIN(UNIT(never_twice), UNIT(never_lost), UNIT(arrives), UNIT(controls), UNIT(out_of_order))
