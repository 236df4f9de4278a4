/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The QEMU Machine Protocol: one call = command + arguments + descriptors in, result or description
 * out. The peer may be odd or hostile (safety.md, "Talking to a monitor"): frames are complete JSON
 * values, not lines; every command has an id, replies with another id are dropped; at most 16 MiB a
 * message and 64 MiB buffered; flat memory under a flood of events (the newest 4,096 are kept, and all
 * DEVICE_DELETED of the last 256); one absolute deadline.
 *
 *     qmp_connect → qmp_call… / qmp_wait_event… → qmp_close
 *
 * Source: QEMU docs/interop/qmp-spec; behaviour of two clients on one socket: the second gets no
 * greeting until the first has left (measured on 7.2), hence the deadline on the greeting.
 */
#ifndef KVM_QEMU_QMP_H
#define KVM_QEMU_QMP_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <jansson.h>
#include "kvm/base/clock.h"
#include "kvm/base/error.h"

struct qmp; /* a connection */

enum qmp_outcome {
    QMP_DONE = 0,     /* the reply was a result */
    QMP_REFUSED = -1, /* the reply was an error, or not a byte could be sent: no effect */
    QMP_UNKNOWN = -2, /* connection lost or time up after the command was written: ask again */
};

/* A command to be sent before it is called. */
struct qmp_request {
    const char *command; /* must last until its answer is taken or dropped */
    json_t *arguments;   /* NULL: none */
};

/* Connect to the unix socket, wait for the greeting, negotiate (with oob when the server offers it and
 * `oob` is set). On failure NULL: STATUS_FAILED, or STATUS_TIMEOUT when no greeting came in time (text:
 * "another client holds the monitor"). */
struct qmp *qmp_connect(const char *path, bool oob, deadline_t deadline, struct error *error);
/* The same, but before a byte is sent the server must be the process `peer` (STATUS_FAILED). */
struct qmp *qmp_connect_peer(const char *path, pid_t peer, bool oob, deadline_t deadline,
                             struct error *error);

/* The same with oob, and with queries that are sent along with the negotiation: see qmp_ahead. Where that is done, the
 * first call waits for the negotiation's answer, not this one. */
struct qmp *qmp_connect_asking(const char *path, pid_t peer, const struct qmp_request *requests,
                               size_t count, deadline_t deadline, struct error *error);

/* The same over a connected stream socket, which is consumed by success and by failure; `name` stands
 * in messages where the path would. */
struct qmp *qmp_adopt(int descriptor, const char *name, bool oob, deadline_t deadline,
                      struct error *error);

void qmp_close(struct qmp *qmp);
void qmp_release(struct qmp **qmp);
#define AUTO_QMP __attribute__((cleanup(qmp_release)))

/* Whether a command was sent, in part at least, that is more than a question. */
bool qmp_changed(const struct qmp *qmp);

pid_t qmp_peer(const struct qmp *qmp); /* SO_PEERCRED of the server */
const json_t *
qmp_version(const struct qmp *qmp); /* greeting's "qemu" {major, minor, micro}; borrowed */

/*
 * Execute. `arguments` is stolen (NULL: none). `descriptors` (count, may be 0) go with the first byte;
 * they are borrowed: the caller closes its copies. *result is a new reference on QMP_DONE (NULL when
 * not wanted). The text of a refusal is QEMU's description, escaped and cut: "device_add: PCI: slot 5 …".
 */
enum qmp_outcome qmp_call_fds(struct qmp *qmp, const char *command, json_t *arguments,
                              const int *descriptors, size_t count, deadline_t deadline,
                              json_t **result, struct error *error);
enum qmp_outcome qmp_call(struct qmp *qmp, const char *command, json_t *arguments,
                          deadline_t deadline, json_t **result, struct error *error);

/*
 * Send commands at once and don't wait: the next qmp_call with the same command and arguments takes the answer. Spares
 * a turn of QEMU's main loop, 0.2 to 0.3 ms on 7.2, for each but the first, and QEMU reads the later ones, at 4 us a
 * byte, while it executes the earlier; only on a connection with oob, since it reads no command ahead on others. To be
 * used right before they are called: a call of anything else drops the answers that were not taken, so that none is out
 * of date. What can't be sent is sent by its call; when that turned out in the middle, the connection is lost, and what
 * has become of each is QMP_UNKNOWN. A command that has an effect may go only behind one without the
 * success of which it is refused; when that one fails, whether it took effect must be asked for all the same.
 * `descriptor` goes with the first one; -1: none. The arguments are stolen.
 */
void qmp_ahead(struct qmp *qmp, const struct qmp_request *requests, size_t count, int descriptor);
void qmp_forget_ahead(struct qmp *qmp); /* drop what was not taken */

/*
 * Send a command but for its end, its name: QEMU reads it while it executes what was sent before, and can't execute it
 * before the qmp_call or qmp_ahead of the same command and arguments sends the rest. A call of anything else that has to
 * be sent ends it as a command that there is not, so it never has an effect of its own. For what must not be done before
 * an answer is known. The arguments are stolen. Only where qmp_ahead sends.
 */
void qmp_prepare(struct qmp *qmp, const char *command, json_t *arguments);
/* Both in one write. With two, the first may wake QEMU on this processor, and the other waits for it to be done. */
void qmp_ahead_prepare(struct qmp *qmp, const struct qmp_request *requests, size_t count,
                       int descriptor, const char *command, json_t *arguments);

/* Out of band (exec-oob), for yank and migrate-pause while an in-band command hangs. Needs a connection
 * made with `oob` to a server that offers it; else QMP_REFUSED. */
enum qmp_outcome qmp_call_oob(struct qmp *qmp, const char *command, json_t *arguments,
                              deadline_t deadline, json_t **result, struct error *error);

/* The class of the last refusal ("GenericError", "DeviceNotFound", …); "" when there was none. */
const char *qmp_error_class(const struct qmp *qmp);

/* The oldest kept event with that name, removed from the store (new reference); else waits for one.
 * `matches` may be NULL. NULL at the deadline (*lost false) or when the connection ended (*lost true;
 * may be NULL). Events that do not match stay in the store. */
json_t *qmp_wait_event(struct qmp *qmp, const char *name,
                       bool (*matches)(const json_t *event, const void *context),
                       const void *context, deadline_t deadline, bool *lost);

/* For poll(2) together with other descriptors; then qmp_read takes in what is there without waiting.
 * False: the connection has ended. */
int qmp_descriptor(const struct qmp *qmp);
bool qmp_read(struct qmp *qmp);
json_t *qmp_take_event(struct qmp *qmp, const char *name); /* no waiting; NULL: none */

#endif
