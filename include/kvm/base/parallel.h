/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The same work on several instances, each in a process of its own (so that a lock, a crash or a
 * wait of one is its own), at most `limit` at a time. A single item runs in this process.
 *
 * The worker fills a struct result; it is carried back as JSON. Results are handed to `done` as
 * they come, in this process, so that each instance gets its line at once; they are kept in the
 * order of the items for the JSON document.
 */
#ifndef KVM_BASE_PARALLEL_H
#define KVM_BASE_PARALLEL_H

#include <stddef.h>
#include <jansson.h>
#include "kvm/base/error.h"

struct result {
    enum status status;
    char *subject;  /* instance name, or the file where the name is not known; owned */
    char *text;     /* one line for people: the result, or the error's text; owned */
    json_t *detail; /* object, further keys for --json; NULL: none; owned */
    struct messages warnings;
};

void result_release(struct result *result);

/* {"instance", "status", "result" | "error", "warnings", …detail}; a new reference. */
json_t *result_json(const struct result *result);

typedef void (*parallel_work)(void *context, size_t index, struct result *result);
typedef void (*parallel_done)(void *context, size_t index, const struct result *result);

/* The highest status. `results` (count of them, zeroed by this call) may be NULL. */
enum status parallel_run(size_t count, size_t limit, parallel_work work, parallel_done done,
                         void *context, struct result *results);

#endif
