/* SPDX-License-Identifier: BSD-2-Clause */
/* Commands that are sent before they are called. */
#include <stdlib.h>
#include <string.h>
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "qmp_private.h"

enum { SEND_MS = 100 };

/* Of a command that was sent but for its name: the end that makes it one that QEMU does not have. */
static const char nothing[] = "-\"}\n";

static void drop(struct qmp_early *early)
{
    json_decref(early->request.arguments);
    json_decref(early->reply);
    *early = (struct qmp_early){0};
}

void qmp_forget_ahead(struct qmp *qmp)
{
    while (qmp->ahead_count > 0)
        drop(&qmp->ahead[--qmp->ahead_count]);
}

bool ahead_keep(struct qmp *qmp, json_t *message)
{
    for (size_t i = 0; i < qmp->ahead_count; i++) {
        struct qmp_early *early = &qmp->ahead[i];
        if (early->reply != NULL || !qmp_is_numbered(message, early->id))
            continue;
        early->reply = json_incref(message);
        return true;
    }
    return false;
}

static bool is_same(const struct qmp_request *request, const json_t *message)
{
    const char *command = json_text(message, "execute");
    const json_t *arguments = json_object_get(message, "arguments");

    if (command == NULL || strcmp(request->command, command) != 0)
        return false;
    return arguments == NULL ? request->arguments == NULL
                             : json_equal(request->arguments, arguments) != 0;
}

bool ahead_take(struct qmp *qmp, const json_t *message)
{
    for (size_t i = 0; i < qmp->ahead_count; i++) {
        struct qmp_early *early = &qmp->ahead[i];
        if (!is_same(&early->request, message))
            continue;
        qmp->id = early->id;
        qmp->reply = early->reply;
        json_decref(early->request.arguments);
        qmp->ahead_count--;
        memmove(early, early + 1, (qmp->ahead_count - i) * sizeof(*early));
        return true;
    }
    return false;
}

char *ahead_write(struct qmp *qmp, json_t *message, json_int_t *id)
{
    struct qmp_early *prepared = &qmp->prepared;
    bool pending = prepared->request.command != NULL;

    if (pending && is_same(&prepared->request, message)) {
        char *rest = memory_format("%s\"}\n", prepared->request.command);
        *id = prepared->id;
        drop(prepared);
        return rest;
    }
    *id = qmp_number(qmp, message);
    AUTO_FREE char *text = json_compact(message);
    char *all = memory_format("%s%s\n", pending ? nothing : "", text);
    explicit_bzero(text, strlen(text)); /* it may hold a password */
    drop(prepared);
    return all;
}

static char *write_down(struct qmp *qmp, const struct qmp_request *request)
{
    struct qmp_early *early = &qmp->ahead[qmp->ahead_count++];
    AUTO_JSON json_t *message =
        qmp_message("execute", request->command, json_incref(request->arguments));

    *early = (struct qmp_early){.request = *request};
    json_incref(early->request.arguments);
    return ahead_write(qmp, message, &early->id);
}

/* All but the end. */
static char *write_part(struct qmp *qmp, const struct qmp_request *request)
{
    AUTO_JSON json_t *message = memory_json(json_pack("{s:O*}", "arguments", request->arguments));
    struct qmp_early *prepared = &qmp->prepared;

    *prepared = (struct qmp_early){.request = *request, .id = qmp_number(qmp, message)};
    json_incref(prepared->request.arguments);
    AUTO_FREE char *text = json_compact(message);
    text[strlen(text) - 1] = '\0';
    return memory_format("%s,\"execute\":\"", text);
}

/* `last` is only prepared; NULL: nothing is. */
static void send_ahead(struct qmp *qmp, const struct qmp_request *requests, size_t count,
                       int descriptor, const struct qmp_request *last)
{
    bool pending = qmp->prepared.request.command != NULL;
    AUTO_FREE char *text = memory_copy("");

    for (size_t i = 0; i < count; i++) {
        AUTO_FREE char *line = write_down(qmp, &requests[i]);
        AUTO_FREE char *before = text;
        text = memory_format("%s%s", before, line);
    }
    if (last != NULL) {
        AUTO_FREE char *part = write_part(qmp, last);
        AUTO_FREE char *before = text;
        text = memory_format("%s%s", before, part);
    }
    size_t length = strlen(text);
    size_t sent =
        qmp_send(qmp, text, length, &descriptor, descriptor >= 0 ? 1 : 0, clock_deadline(SEND_MS));
    if (sent == length)
        return;
    drop(&qmp->prepared);
    /* Whatever followed would be read as the end of the last one; those before it are executed. */
    if (sent > 0 || pending)
        qmp_lose(qmp, "a command was sent in part");
    else
        qmp_forget_ahead(qmp);
}

static void ahead(struct qmp *qmp, const struct qmp_request *requests, size_t count, int descriptor,
                  const struct qmp_request *last)
{
    qmp_forget_ahead(qmp);
    if (qmp->oob && count <= QMP_AHEAD_MAX && qmp_read(qmp))
        send_ahead(qmp, requests, count, descriptor, last);
    for (size_t i = 0; i < count; i++)
        json_decref(requests[i].arguments);
}

void qmp_ahead(struct qmp *qmp, const struct qmp_request *requests, size_t count, int descriptor)
{
    ahead(qmp, requests, count, descriptor, NULL);
}

void qmp_ahead_prepare(struct qmp *qmp, const struct qmp_request *requests, size_t count,
                       int descriptor, const char *command, json_t *arguments)
{
    const struct qmp_request last = {command, arguments};

    ahead(qmp, requests, count, descriptor, &last);
    json_decref(arguments);
}

void qmp_prepare(struct qmp *qmp, const char *command, json_t *arguments)
{
    const struct qmp_request last = {command, arguments};

    if (qmp->oob && qmp->prepared.request.command == NULL)
        send_ahead(qmp, NULL, 0, -1, &last);
    json_decref(arguments);
}
