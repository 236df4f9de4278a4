/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "qmp_private.h"

enum {
    READ_SIZE = 64 * 1024,
    READ_AT_ONCE = 1024 * 1024, /* then the deadline is looked at again, even in a flood */
    DESCRIPTORS_MAX = 16,       /* QEMU 7.2 drops the rest: TCP_MAX_FDS */
};

bool qmp_lose(struct qmp *qmp, const char *reason)
{
    if (!qmp->lost)
        snprintf(qmp->fault, sizeof(qmp->fault), "%s", reason);
    qmp->lost = true;
    return false;
}

json_int_t qmp_number(struct qmp *qmp, json_t *message)
{
    json_object_set_new(message, "id", memory_json(json_integer(++qmp->calls)));
    return qmp->calls;
}

bool qmp_is_numbered(const json_t *message, json_int_t id)
{
    const json_t *own = json_object_get(message, "id");
    return json_is_number(own) && /* a real beside an integer that is too large for one */
           json_number_value(own) == (double)id;
}

/* What counts as the reply to the outstanding command: its id, or an error without any (QEMU sends
 * those for what it could not parse). */
static bool answers(const struct qmp *qmp, const json_t *message)
{
    if (qmp->id == 0 || qmp->reply != NULL)
        return false;
    if (json_object_get(message, "id") == NULL)
        return json_object_get(message, "error") != NULL;
    return qmp_is_numbered(message, qmp->id);
}

/* Steals the message. Whatever is of no known kind is dropped: the protocol grows. */
static void take_message(struct qmp *qmp, json_t *message, size_t cost)
{
    json_t *greeting = json_object_get(message, "QMP");
    bool is_reply =
        json_object_get(message, "return") != NULL || json_object_get(message, "error") != NULL;
    if (json_is_string(json_object_get(message, "event"))) {
        store_add(&qmp->store, message, cost);
        return;
    }
    if (greeting != NULL && qmp->greeting == NULL)
        qmp->greeting = json_incref(greeting);
    else if (is_reply && !ahead_keep(qmp, message) && answers(qmp, message))
        qmp->reply = json_incref(message);
    json_decref(message);
}

static bool take_messages(struct qmp *qmp)
{
    for (;;) {
        json_t *message = NULL;
        size_t cost = 0;
        char fault[FRAME_FAULT_SIZE];
        int got = frame_next(&qmp->frame, &message, &cost, fault);
        if (got < 0)
            return qmp_lose(qmp, fault);
        if (got == 0)
            return true;
        take_message(qmp, message, cost);
    }
}

bool qmp_read(struct qmp *qmp)
{
    for (size_t total = 0; !qmp->lost && total < READ_AT_ONCE;) {
        char *room = frame_room(&qmp->frame, READ_SIZE);
        ssize_t got = recv(qmp->descriptor, room, READ_SIZE, MSG_DONTWAIT);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            return true;
        if (got < 0)
            return qmp_lose(qmp, strerror(errno));
        if (got == 0)
            return qmp_lose(qmp, frame_is_empty(&qmp->frame)
                                     ? "QEMU has closed the connection"
                                     : "QEMU has closed the connection within a message");
        qmp->heard = true;
        total += (size_t)got;
        frame_added(&qmp->frame, (size_t)got);
        if (!take_messages(qmp))
            return false;
        if (got < READ_SIZE) /* a stream socket had no more */
            return true;
    }
    return !qmp->lost;
}

bool qmp_wait(struct qmp *qmp, short events, deadline_t deadline)
{
    while (!qmp->lost && !clock_passed(deadline)) {
        struct pollfd poller = {qmp->descriptor, (short)(POLLIN | events), 0};
        int ready = poll(&poller, 1, clock_poll_ms(deadline));
        if (ready < 0 && errno != EINTR)
            return qmp_lose(qmp, strerror(errno));
        if (ready <= 0)
            continue;
        if ((poller.revents & ~events) != 0)
            return qmp_read(qmp);
        return true;
    }
    return false;
}

/* Returns what was sent, 0 when the socket is full, -1 with errno. */
static ssize_t send_some(const struct qmp *qmp, char *bytes, size_t length, const int *descriptors,
                         size_t count)
{
    struct iovec part = {.iov_base = bytes, .iov_len = length};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * DESCRIPTORS_MAX)];
    } control = {0};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (count > 0) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
        struct cmsghdr *header = &control.align;
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * count);
        memcpy(CMSG_DATA(header), descriptors, sizeof(int) * count);
    }
    ssize_t sent = sendmsg(qmp->descriptor, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    return sent;
}

/* A peer that is stuck in writing to us would never read: so we do. */
size_t qmp_send(struct qmp *qmp, char *bytes, size_t length, const int *descriptors, size_t count,
                deadline_t deadline)
{
    size_t done = 0;
    while (done < length && !qmp->lost && !clock_passed(deadline)) {
        /* a descriptor goes with the first byte, once */
        ssize_t sent =
            send_some(qmp, bytes + done, length - done, descriptors, done == 0 ? count : 0);
        if (sent < 0)
            qmp_lose(qmp, strerror(errno));
        else if (sent > 0)
            done += (size_t)sent;
        else
            qmp_wait(qmp, POLLOUT, deadline);
    }
    return done;
}

/* QEMU names all its questions so. */
static bool is_question(const char *command)
{
    return strncmp(command, "query-", strlen("query-")) == 0 || strcmp(command, "qom-list") == 0 ||
           strcmp(command, "qom-get") == 0;
}

bool qmp_changed(const struct qmp *qmp)
{
    return qmp->changed;
}

/* Write the command. QMP_DONE: written. */
static enum qmp_outcome send_command(struct qmp *qmp, const char *command, json_t *message,
                                     const int *descriptors, size_t count, deadline_t deadline,
                                     struct error *error)
{
    bool prepared = qmp->prepared.request.command != NULL;
    AUTO_FREE char *text = ahead_write(qmp, message, &qmp->id);
    size_t length = strlen(text);
    size_t sent = qmp_send(qmp, text, length, descriptors, count, deadline);
    explicit_bzero(text, length); /* it may hold a password */
    qmp->changed = qmp->changed || (sent > 0 && !is_question(command));
    if (sent == length)
        return QMP_DONE;
    const char *effect = sent == 0 ? "it was not sent" : "it was sent in part";
    if (qmp->lost)
        error_set(error, STATUS_FAILED, "%s: %s; %s", command, qmp->fault, effect);
    else
        error_set(error, STATUS_TIMEOUT, "%s: QEMU takes no command in time; %s", command, effect);
    if (sent > 0 || prepared) /* whatever followed would be read as its end */
        qmp_lose(qmp, "a command was sent in part");
    return sent == 0 ? QMP_REFUSED : QMP_UNKNOWN;
}

static enum qmp_outcome refusal(struct qmp *qmp, const char *command, const json_t *fault,
                                struct error *error)
{
    const char *description = json_text(fault, "desc"), *class = json_text(fault, "class");
    snprintf(qmp->error_class, sizeof(qmp->error_class), "%s", class != NULL ? class : "");
    if (description == NULL)
        description = class != NULL ? class : "refused without a reason";
    AUTO_FREE char *shown = text_escape(description, strlen(description));
    error_set(error, STATUS_FAILED, "%s: %s", command, shown);
    return QMP_REFUSED;
}

/* Wait for the reply to the outstanding command and read it. */
static enum qmp_outcome receive(struct qmp *qmp, const char *command, deadline_t deadline,
                                json_t **result, struct error *error)
{
    while (qmp->reply == NULL && qmp_wait(qmp, 0, deadline)) {
    }
    AUTO_JSON json_t *reply = qmp->reply;
    qmp->reply = NULL;
    if (reply == NULL && !qmp->lost) {
        error_set(error, STATUS_TIMEOUT, "%s: no answer from QEMU in time", command);
        return QMP_UNKNOWN;
    }
    json_t *done = json_object_get(reply, "return"), *fault = json_object_get(reply, "error");
    if (done != NULL && fault != NULL)
        qmp_lose(qmp, "its server answered with a result and an error at once");
    if (reply == NULL || (done != NULL && fault != NULL)) {
        error_set(error, STATUS_FAILED, "%s: %s; whether it took effect is not known", command,
                  qmp->fault);
        return QMP_UNKNOWN;
    }
    if (fault != NULL)
        return refusal(qmp, command, fault, error);
    if (result != NULL)
        *result = json_incref(done);
    return QMP_DONE;
}

/* `message` has everything but the id. */
static enum qmp_outcome call(struct qmp *qmp, const char *command, json_t *message,
                             const int *descriptors, size_t count, deadline_t deadline,
                             json_t **result, struct error *error)
{
    enum qmp_outcome outcome = qmp_settle(qmp, deadline, error);
    if (outcome != QMP_DONE)
        return outcome;
    qmp->error_class[0] = '\0';
    if (!ahead_take(qmp, message)) {
        qmp_forget_ahead(qmp);
        qmp_read(qmp); /* a connection that has ended is noticed before, not after */
        outcome = send_command(qmp, command, message, descriptors, count, deadline, error);
    }
    if (outcome == QMP_DONE)
        outcome = receive(qmp, command, deadline, result, error);
    qmp->id = 0; /* an answer that comes later is nobody's */
    return outcome;
}

enum qmp_outcome qmp_settle(struct qmp *qmp, deadline_t deadline, struct error *error)
{
    static const char command[] = "qmp_capabilities";

    if (!qmp->negotiating)
        return QMP_DONE;
    qmp->negotiating = false;
    AUTO_JSON json_t *message = qmp_message("execute", command, qmp_capabilities(qmp));
    enum qmp_outcome outcome = call(qmp, command, message, NULL, 0, deadline, NULL, error);
    if (outcome == QMP_DONE)
        return QMP_DONE;
    error_prefix(error, "%s", qmp->name);
    qmp_forget_ahead(qmp);
    qmp_lose(qmp, "its negotiation has failed");
    return outcome;
}

json_t *qmp_message(const char *verb, const char *command, json_t *arguments)
{
    return memory_json(json_pack("{s:s, s:o*}", verb, command, "arguments", arguments));
}

enum qmp_outcome qmp_call_fds(struct qmp *qmp, const char *command, json_t *arguments,
                              const int *descriptors, size_t count, deadline_t deadline,
                              json_t **result, struct error *error)
{
    AUTO_JSON json_t *message = qmp_message("execute", command, arguments);
    if (count > DESCRIPTORS_MAX) {
        error_set(error, STATUS_FAILED, "%s: %zu descriptors at once, QEMU takes %d", command,
                  count, (int)DESCRIPTORS_MAX);
        return QMP_REFUSED;
    }
    return call(qmp, command, message, descriptors, count, deadline, result, error);
}

enum qmp_outcome qmp_call(struct qmp *qmp, const char *command, json_t *arguments,
                          deadline_t deadline, json_t **result, struct error *error)
{
    return qmp_call_fds(qmp, command, arguments, NULL, 0, deadline, result, error);
}

enum qmp_outcome qmp_call_oob(struct qmp *qmp, const char *command, json_t *arguments,
                              deadline_t deadline, json_t **result, struct error *error)
{
    AUTO_JSON json_t *message = qmp_message("exec-oob", command, arguments);
    if (!qmp->oob) {
        error_set(error, STATUS_FAILED, "%s: this connection takes nothing out of band", command);
        return QMP_REFUSED;
    }
    return call(qmp, command, message, NULL, 0, deadline, result, error);
}

const char *qmp_error_class(const struct qmp *qmp)
{
    return qmp->error_class;
}

json_t *qmp_wait_event(struct qmp *qmp, const char *name,
                       bool (*matches)(const json_t *event, const void *context),
                       const void *context, deadline_t deadline, bool *lost)
{
    if (lost != NULL)
        *lost = false;
    qmp_read(qmp); /* also when the deadline has passed: what is there counts */
    json_t *event = store_take(&qmp->store, name, matches, context);
    while (event == NULL && qmp_wait(qmp, 0, deadline))
        event = store_take(&qmp->store, name, matches, context);
    if (event == NULL) /* the last read may have brought it with the end */
        event = store_take(&qmp->store, name, matches, context);
    if (event == NULL && lost != NULL)
        *lost = qmp->lost;
    return event;
}

int qmp_descriptor(const struct qmp *qmp)
{
    return qmp->descriptor;
}

json_t *qmp_take_event(struct qmp *qmp, const char *name)
{
    return store_take(&qmp->store, name, NULL, NULL);
}
