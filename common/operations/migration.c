/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "kvm/operations/migration.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/transaction.h"

const struct migration_rule migration_rules[] = {
    {MIGRATION_TARGET, PHASE_NONE, STAGE_ACCEPT, NEED_NOTHING, PHASE_ACCEPTED, EFFECT_NONE},
    {MIGRATION_TARGET, PHASE_ACCEPTED, STAGE_VOTE, NEED_COPIED, PHASE_READY, EFFECT_NONE},
    {MIGRATION_TARGET, PHASE_READY, STAGE_VOTE, NEED_NOTHING, PHASE_READY, EFFECT_NONE},
    {MIGRATION_TARGET, PHASE_READY, STAGE_COMMIT, NEED_COMMIT_TOKEN, PHASE_NONE, EFFECT_RUN_HERE},
    {MIGRATION_TARGET, PHASE_ACCEPTED, STAGE_ABORT, NEED_PRECOPY, PHASE_GONE, EFFECT_STOP_HERE},
    {MIGRATION_TARGET, PHASE_READY, STAGE_ABORT, NEED_ABORT_TOKEN, PHASE_GONE, EFFECT_STOP_HERE},
    {MIGRATION_SOURCE, PHASE_NONE, STAGE_SEND, NEED_NOTHING, PHASE_SENDING, EFFECT_NONE},
    {MIGRATION_SOURCE, PHASE_SENDING, STAGE_COMMIT, NEED_VOTE, PHASE_COMMITTED, EFFECT_NONE},
    {MIGRATION_SOURCE, PHASE_COMMITTED, STAGE_COMMIT, NEED_NOTHING, PHASE_COMMITTED, EFFECT_NONE},
    {MIGRATION_SOURCE, PHASE_SENDING, STAGE_ABORT, NEED_WAY_BACK, PHASE_NONE, EFFECT_RUN_HERE},
    {MIGRATION_SOURCE, PHASE_COMMITTED, STAGE_FINISH, NEED_ARRIVED, PHASE_GONE, EFFECT_STOP_HERE},
    {MIGRATION_TARGET, PHASE_ACCEPTED, STAGE_VOTE_HALF, NEED_HALF, PHASE_HALF, EFFECT_NONE},
    {MIGRATION_TARGET, PHASE_HALF, STAGE_VOTE_HALF, NEED_NOTHING, PHASE_HALF, EFFECT_NONE},
    {MIGRATION_TARGET, PHASE_HALF, STAGE_COMMIT, NEED_COMMIT_TOKEN, PHASE_FILLING, EFFECT_RUN_HERE},
    {MIGRATION_TARGET, PHASE_FILLING, STAGE_COMMIT, NEED_COMMIT_TOKEN, PHASE_FILLING,
     EFFECT_RUN_HERE},
    {MIGRATION_TARGET, PHASE_FILLING, STAGE_COMPLETE, NEED_COPIED, PHASE_NONE, EFFECT_NONE},
    {MIGRATION_TARGET, PHASE_HALF, STAGE_ABORT, NEED_ABORT_TOKEN, PHASE_GONE, EFFECT_STOP_HERE},
    {MIGRATION_SOURCE, PHASE_SENDING, STAGE_COMMIT_HALF, NEED_VOTE_HALF, PHASE_SPLIT, EFFECT_NONE},
    {MIGRATION_SOURCE, PHASE_SPLIT, STAGE_COMMIT_HALF, NEED_NOTHING, PHASE_SPLIT, EFFECT_NONE},
    {MIGRATION_SOURCE, PHASE_SPLIT, STAGE_COMPLETE, NEED_COPIED, PHASE_COMMITTED, EFFECT_NONE},
};
const size_t migration_rule_count = COUNT(migration_rules);

static const char *const phases[] = {"none", "sending", "committed", "accepted", "ready",
                                     "gone", "split",   "half",      "filling"};
static const char *const stages[] = {"accept", "send", "vote",   "commit",  "abort",
                                     "finish", "vote", "commit", "complete"};

const struct migration_rule *migration_rule(enum migration_side side, enum migration_phase from,
                                            enum migration_stage stage)
{
    for (size_t i = 0; i < migration_rule_count; i++) {
        const struct migration_rule *rule = &migration_rules[i];
        if (rule->side == side && rule->from == from && rule->stage == stage)
            return rule;
    }
    return NULL;
}

const char *migration_phase_name(enum migration_phase phase)
{
    return phases[phase];
}

const char *migration_stage_name(enum migration_stage stage)
{
    return stages[stage];
}

static json_t *record_of(const struct runtime *runtime)
{
    return json_member(runtime->ours, "migration");
}

static json_t *make_record(struct runtime *runtime)
{
    json_t *record = record_of(runtime);

    if (record == NULL) {
        record = memory_json(json_object());
        json_object_set_new(runtime->ours, "migration", record);
    }
    return record;
}

enum migration_phase migration_phase_of(const struct runtime *runtime)
{
    const char *name = json_text(record_of(runtime), "phase");

    for (size_t i = 0; name != NULL && i < COUNT(phases); i++)
        if (strcmp(phases[i], name) == 0)
            return (enum migration_phase)i;
    return PHASE_NONE;
}

enum migration_side migration_side_of(const struct runtime *runtime)
{
    const char *side = json_text(record_of(runtime), "side");
    return side != NULL && strcmp(side, "target") == 0 ? MIGRATION_TARGET : MIGRATION_SOURCE;
}

const char *migration_text(const struct runtime *runtime, const char *key)
{
    return json_text(record_of(runtime), key);
}

void migration_set_phase(struct runtime *runtime, enum migration_side side,
                         enum migration_phase phase)
{
    migration_set_text(runtime, "side", side == MIGRATION_TARGET ? "target" : "source");
    migration_set_text(runtime, "phase", phases[phase]);
}

void migration_set_text(struct runtime *runtime, const char *key, const char *value)
{
    json_object_set_new(make_record(runtime), key, memory_json(json_string(value)));
}

void migration_clear(struct runtime *runtime)
{
    json_object_clear(make_record(runtime));
}

void migration_note_tap(struct runtime *runtime, const char *uuid, const char *tap)
{
    json_t *record = make_record(runtime), *taps = json_member(record, "taps");

    if (taps == NULL) {
        taps = memory_json(json_object());
        json_object_set_new(record, "taps", taps);
    }
    json_object_set_new(taps, uuid, memory_json(json_string(tap)));
}

const char *migration_tap(const struct runtime *runtime, const char *uuid)
{
    return json_text(json_member(record_of(runtime), "taps"), uuid);
}

void migration_forget_tap(struct runtime *runtime, const char *uuid)
{
    json_object_del(json_member(record_of(runtime), "taps"), uuid);
}

json_t *migration_disks(const struct runtime *runtime)
{
    json_t *disks = json_member(record_of(runtime), "disks");
    return json_object_size(disks) > 0 ? disks : NULL;
}

void migration_set_disks(struct runtime *runtime, json_t *disks)
{
    json_object_set_new(make_record(runtime), "disks", disks);
}

bool migration_is_split(const struct runtime *runtime)
{
    enum migration_phase phase = migration_phase_of(runtime);
    return phase == PHASE_SPLIT || phase == PHASE_HALF || phase == PHASE_FILLING;
}

void migration_token(char token[33])
{
    unsigned char bytes[16];

    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
        abort(); /* the kernel gives 16 bytes whole; a guessable token must never be */
    for (size_t i = 0; i < sizeof(bytes); i++)
        snprintf(token + 2 * i, 3, "%02x", bytes[i]);
}

int migration_out_of_order(const struct runtime *runtime, enum migration_stage stage,
                           struct error *error)
{
    enum migration_phase phase = migration_phase_of(runtime);

    if (phase == PHASE_NONE)
        return error_set(error, STATUS_STATE, "%s: no migration of it is under way here",
                         stages[stage]);
    return error_set(error, STATUS_STATE, "%s: the migration is \"%s\" on this side (the %s)",
                     stages[stage], phases[phase],
                     migration_side_of(runtime) == MIGRATION_TARGET ? "target" : "source");
}
