/* SPDX-License-Identifier: BSD-2-Clause */
/* Queries that are sent before they are called. */
#include <stdlib.h>
#include <string.h>
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "qmp_private.h"

enum { SEND_MS = 100 };

void ahead_drop(struct qmp *qmp)
{
    while (qmp->ahead_count > 0)
        json_decref(qmp->ahead[--qmp->ahead_count].reply);
}

bool ahead_keep(struct qmp *qmp, json_t *message)
{
    for (size_t i = 0; i < qmp->ahead_count; i++) {
        struct qmp_question *question = &qmp->ahead[i];
        if (question->reply != NULL || !qmp_is_numbered(message, question->id))
            continue;
        question->reply = json_incref(message);
        return true;
    }
    return false;
}

bool ahead_take(struct qmp *qmp, const json_t *message)
{
    const char *query = json_text(message, "execute");

    if (query == NULL || json_object_get(message, "arguments") != NULL)
        return false;
    for (size_t i = 0; i < qmp->ahead_count; i++) {
        struct qmp_question *question = &qmp->ahead[i];
        if (strcmp(question->query, query) != 0)
            continue;
        memcpy(qmp->id, question->id, sizeof(qmp->id));
        qmp->reply = question->reply;
        qmp->ahead_count--;
        memmove(question, question + 1, (qmp->ahead_count - i) * sizeof(*question));
        return true;
    }
    return false;
}

void qmp_ahead(struct qmp *qmp, const char *const *queries)
{
    AUTO_FREE char *text = memory_copy("");

    ahead_drop(qmp);
    if (!qmp->oob || qmp->lost)
        return;
    for (; *queries != NULL && qmp->ahead_count < QMP_AHEAD_MAX; queries++) {
        struct qmp_question *question = &qmp->ahead[qmp->ahead_count++];
        AUTO_JSON json_t *message = memory_json(json_pack("{s:s}", "execute", *queries));
        *question = (struct qmp_question){.query = *queries};
        qmp_number(qmp, message, question->id);
        AUTO_FREE char *line = json_compact(message);
        AUTO_FREE char *before = text;
        text = memory_format("%s%s\n", before, line);
    }
    size_t length = strlen(text);
    size_t sent = qmp_send(qmp, text, length, NULL, 0, clock_deadline(SEND_MS));
    if (sent == length)
        return;
    ahead_drop(qmp);
    if (sent > 0)
        qmp_lose(qmp,
                 "a command was sent in part"); /* whatever followed would be read as its end */
}
