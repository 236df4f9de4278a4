/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What jansson leaves to the caller: strict parsing with the place of the fault named, typed
 * getters that never truncate.
 *
 * Getters return the value, or the default where the key is absent or null; a key of the wrong type
 * counts as absent here: validation (instance.c, runtime.c) has refused it before.
 */
#ifndef KVM_BASE_JSON_H
#define KVM_BASE_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>
#include <jansson.h>
#include "kvm/base/clock.h"
#include "kvm/base/error.h"

/* Strict: one value, UTF-8, no duplicate keys, no NUL, at most 64 levels. `source` names it in the
 * error ("line 3 column 7"); the text itself is never quoted. STATUS_FAILED. */
json_t *json_parse(const char *bytes, size_t length, const char *source, struct error *error);

/* A file given by an operator (definition, node defaults): regular file or pipe, ≤ 1 MiB; "-" is
 * stdin. STATUS_USAGE; STATUS_TIMEOUT when a pipe, but for a terminal, has not ended by the deadline. */
json_t *json_read(const char *path, deadline_t deadline, struct error *error);

const char *json_text(const json_t *object, const char *key); /* NULL when absent; borrowed */
int64_t json_number(const json_t *object, const char *key, int64_t otherwise);
bool json_truth(const json_t *object, const char *key, bool otherwise);
json_t *json_member(const json_t *object, const char *key); /* NULL when absent or null; borrowed */
/* The first object of the array whose text `key` is `word`; NULL when there is none; borrowed. */
json_t *json_find(const json_t *array, const char *key, const char *word);

/* The word for a type: "string", "number", … */
const char *json_type_name(const json_t *value);

/* Compact text, keys in the order of insertion; the caller frees. */
char *json_compact(const json_t *value);

void json_release(json_t **value); /* json_decref, for AUTO_JSON */
#define AUTO_JSON __attribute__((cleanup(json_release)))

#endif
