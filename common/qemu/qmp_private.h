/* SPDX-License-Identifier: BSD-2-Clause */
/* A connection, for qmp.c (commands, events) and qmp_connect.c (socket, greeting, negotiation). */
#ifndef KVM_QEMU_QMP_PRIVATE_H
#define KVM_QEMU_QMP_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "kvm/qemu/qmp.h"
#include "qmp_frame.h"
#include "qmp_store.h"

enum { QMP_CLASS_SIZE = 64, QMP_AHEAD_MAX = 5 };

/* A command that was sent before it is called. */
struct qmp_early {
    struct qmp_request request; /* with a reference to the arguments */
    json_int_t id;
    json_t *reply; /* NULL until it came */
};

struct qmp {
    int descriptor;
    char *name; /* path of the socket, for messages */
    pid_t peer;
    json_t *greeting; /* the "QMP" object; NULL until it came */
    bool oob;         /* negotiated */
    bool negotiating; /* the answer to that is not taken yet */
    bool heard;       /* a byte has come */
    bool changed;     /* something other than a question was sent by qmp_call */
    bool lost;
    char fault[FRAME_FAULT_SIZE]; /* why it is lost */
    struct frame frame;
    struct store store;
    json_int_t calls;
    json_int_t id; /* of the outstanding command; 0 when there is none */
    json_t *reply; /* to it; NULL until it came */
    struct qmp_early ahead[QMP_AHEAD_MAX];
    size_t ahead_count;
    struct qmp_early prepared; /* sent but for its end; no command: none */
    char error_class[QMP_CLASS_SIZE];
};

/* Mark as lost; the first reason stays. Returns false. */
bool qmp_lose(struct qmp *qmp, const char *reason);

/* Wait for more, to the deadline, and take it in. False: the time is up, or the connection is lost. */
bool qmp_wait(struct qmp *qmp, short events, deadline_t deadline);

/* Write it all, taking in what comes meanwhile. Returns how much was written; less than `length`: the time is up, or
 * the connection is lost. */
size_t qmp_send(struct qmp *qmp, char *bytes, size_t length, const int *descriptors, size_t count,
                deadline_t deadline);

/* Negotiate, unless it is done. What fails it loses the connection. */
enum qmp_outcome qmp_settle(struct qmp *qmp, deadline_t deadline, struct error *error);
/* The arguments of qmp_capabilities; NULL: none. */
json_t *qmp_capabilities(const struct qmp *qmp);

/* {VERB: COMMAND, "arguments"}; steals the arguments. */
json_t *qmp_message(const char *verb, const char *command, json_t *arguments);
/* Give the message an id of its own, short since QEMU reads byte by byte; has a message that id? */
json_int_t qmp_number(struct qmp *qmp, json_t *message);
bool qmp_is_numbered(const json_t *message, json_int_t id);

/* Commands sent ahead (qmp_ahead.c): keep a reply to one; make one the outstanding command. */
bool ahead_keep(struct qmp *qmp, json_t *message);
bool ahead_take(struct qmp *qmp, const json_t *message);
/* What to send for the message, which has no id yet: the rest of it when it was prepared. Ends what was prepared in any
 * case. The caller frees. */
char *ahead_write(struct qmp *qmp, json_t *message, json_int_t *id);

#endif
