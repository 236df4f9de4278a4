/* SPDX-License-Identifier: BSD-2-Clause */
/* What the other side's stage has printed, on standard input. */
#include <stdio.h>
#include <string.h>

#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/operations/migrate.h"

enum { INPUT_MAX = 4 * 1024 * 1024 };

static const char source[] = "standard input";

static int too_long(struct error *error)
{
    return error_set(error, STATUS_USAGE, "%s: is longer than 4 MiB", source);
}

/* One line, since who writes it may wait for us before it ends. */
json_t *migrate_read_document(struct error *error)
{
    AUTO_FREE char *line = memory_zeroed(1, INPUT_MAX + 2);
    json_t *document = NULL;

    if (fgets(line, INPUT_MAX + 2, stdin) == NULL || line[strspn(line, " \t\r\n")] == '\0') {
        error_set(error, STATUS_USAGE, "%s: has no document", source);
        return NULL;
    }
    size_t length = strlen(line);
    if (length > INPUT_MAX)
        too_long(error);
    else
        document = json_parse(line, length, source, error);
    if (document == NULL)
        error->status = STATUS_USAGE;
    explicit_bzero(line, length);
    return document;
}

/* With --json a list of results, of which the first tells it. */
static char *token_of_results(const char *text, size_t length, struct error *error)
{
    AUTO_JSON json_t *results = json_parse(text, length, source, error);
    const char *token = json_text(json_array_get(results, 0), "token");

    if (results == NULL) {
        error->status = STATUS_USAGE;
        return NULL;
    }
    if (token != NULL)
        return memory_copy(token);
    error_set(error, STATUS_STATE, "%s: tells no token", source);
    return NULL;
}

char *migrate_read_token(struct error *error)
{
    AUTO_FREE char *text = memory_zeroed(1, INPUT_MAX + 2);
    size_t length = fread(text, 1, INPUT_MAX + 1, stdin);
    char *token = NULL;

    if (length > INPUT_MAX) {
        too_long(error);
    } else if (text[0] == '[') {
        token = token_of_results(text, length, error);
    } else {
        text[strcspn(text, "\r\n")] = '\0';
        token = memory_copy(text);
    }
    explicit_bzero(text, length);
    return token;
}
