/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Typed checks of JSON from outside, shared by definitions, hvparams and the runtime file. Each fault
 * becomes one problem "PREFIXkey: what is wrong (current value: V)"; absent keys and nulls are no fault.
 * Pure.
 */
#ifndef KVM_STATE_CHECK_H
#define KVM_STATE_CHECK_H

#include <stdbool.h>
#include <stdint.h>
#include <jansson.h>
#include "kvm/base/error.h"

struct check {
    const char *prefix; /* with its separator: "web1.json: " or "web1.json: disks[0]." */
    struct messages *problems;
};

enum { CHECK_TEXT_MAX = 4096 };

/* Adds the problem; `value` NULL: the key is not there. */
void check_fail(const struct check *check, const char *key, const json_t *value, const char *format,
                ...) ERROR_FORMAT(4, 5);

/* A string without control characters, at most CHECK_TEXT_MAX bytes. NULL: absent, or a problem was
 * added. Borrowed. */
const char *check_text(const struct check *check, const json_t *object, const char *key);

/* Leaves *value alone when absent or wrong; true when it was set. */
bool check_number(const struct check *check, const json_t *object, const char *key, int64_t low,
                  int64_t high, int64_t *value);

/* NULL: absent, or a problem was added. Borrowed. */
json_t *check_object(const struct check *check, const json_t *object, const char *key);
json_t *check_array(const struct check *check, const json_t *object, const char *key);

/* A string out of a NULL-terminated set. */
const char *check_choice(const struct check *check, const json_t *object, const char *key,
                         const char *const *choices);

/* An absolute, normalised path. */
const char *check_path(const struct check *check, const json_t *object, const char *key);

/* Canonical lower-case uuid into `uuid` (37 bytes): 1 when there, 0 when absent, -1 when wrong. */
int check_uuid(const struct check *check, const json_t *object, const char *key, char *uuid);

/* Puts the canonical form of object's "uuid" back; a missing one is generated. True when it was generated. */
bool check_settle_uuid(const struct check *check, json_t *object);

/* No string and no key anywhere below `value` holds a control character. */
bool check_strings(const struct check *check, const char *key, const json_t *value);

/* The same for every member of an object, its key included, but for strings under the keys of `told`
 * (NULL-terminated), which the caller checks by name. */
void check_members(const struct check *check, const json_t *object, const char *const *told);

/* Every key is in `known` or `ignored` (NULL-terminated; `ignored` may be NULL); the nearest known one
 * is named. */
void check_keys(const struct check *check, const json_t *object, const char *const *known,
                const char *const *ignored);

/* json_object_set_new that can't fail; `value` is stolen. */
void check_set(json_t *object, const char *key, json_t *value);

/* A deep copy of an object without the members that are null. */
json_t *check_copy(const json_t *object);

bool check_is_path(const char *text);
/* Letters, digits and the characters of `extra`; 1 … `most` bytes; no leading '-'. */
bool check_is_word(const char *text, const char *extra, size_t most);
bool check_is_one_of(const char *text, const char *const *choices);

/* "a, b, c" of a NULL-terminated set; the caller frees. */
char *check_list(const char *const *choices);

#endif
