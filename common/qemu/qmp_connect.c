/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "qmp_private.h"

enum { BACKLOG_PAUSE_MS = 10 };

static int fail_to_connect(const char *path, struct error *error)
{
    if (errno == ENOENT || errno == ECONNREFUSED)
        return error_set(error, STATUS_FAILED, "%s: QEMU is not listening", path);
    return error_errno(error, STATUS_FAILED, "%s: connect", path);
}

/* A blocking connect to a socket with a full backlog would hang without end: EAGAIN instead, then
 * try again. */
static int connect_to(const char *path, deadline_t deadline, struct error *error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path))
        return error_set(error, STATUS_FAILED, "%s: longer than the %zu bytes of a socket path",
                         path, sizeof(address.sun_path) - 1);
    memcpy(address.sun_path, path, strlen(path));
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0)
        return error_errno(error, STATUS_FAILED, "socket");
    while (connect(descriptor, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        if (errno == EAGAIN && !clock_passed(deadline)) {
            clock_sleep_ms(BACKLOG_PAUSE_MS);
            continue;
        }
        if (errno == EINTR)
            continue;
        if (errno == EAGAIN)
            error_set(error, STATUS_TIMEOUT,
                      "%s: no greeting in time: other clients wait for the monitor already, or "
                      "QEMU hangs",
                      path);
        else
            fail_to_connect(path, error);
        close(descriptor);
        return -1;
    }
    return descriptor;
}

static int fail_greeting(const struct qmp *qmp, struct error *error)
{
    if (qmp->lost)
        return error_set(error, STATUS_FAILED, "%s: %s", qmp->name, qmp->fault);
    if (qmp->heard)
        return error_set(error, STATUS_TIMEOUT, "%s: the monitor has not greeted in time",
                         qmp->name);
    return error_set(error, STATUS_TIMEOUT,
                     "%s: no greeting in time: another client holds the monitor, or QEMU hangs",
                     qmp->name);
}

static bool offers_oob(const struct qmp *qmp)
{
    const json_t *capabilities = json_object_get(qmp->greeting, "capabilities");
    for (size_t i = 0; i < json_array_size(capabilities); i++) {
        const char *name = json_string_value(json_array_get(capabilities, i));
        if (name != NULL && strcmp(name, "oob") == 0)
            return true;
    }
    return false;
}

/* What a connection is made for: with out-of-band commands, and with queries right behind the negotiation. */
struct wish {
    bool oob;
    const struct qmp_request *requests;
    size_t count;
};

json_t *qmp_capabilities(const struct qmp *qmp)
{
    return qmp->oob ? memory_json(json_pack("{s:[s]}", "enable", "oob")) : NULL;
}

static void ask_along(struct qmp *qmp, const struct wish *wish)
{
    struct qmp_request all[QMP_AHEAD_MAX] = {{"qmp_capabilities", qmp_capabilities(qmp)}};
    size_t count = 1;

    for (; count <= wish->count && count < QMP_AHEAD_MAX; count++)
        all[count] = wish->requests[count - 1];
    qmp_ahead(qmp, all, count, -1);
}

static int negotiate(struct qmp *qmp, const struct wish *wish, deadline_t deadline,
                     struct error *error)
{
    while (qmp->greeting == NULL && qmp_wait(qmp, 0, deadline)) {
    }
    if (qmp->greeting == NULL)
        return fail_greeting(qmp, error);
    qmp->oob = wish->oob && offers_oob(qmp);
    qmp->negotiating = true;
    if (wish->count == 0 || !qmp->oob)
        return qmp_settle(qmp, deadline, error) == QMP_DONE ? 0 : -1;
    ask_along(qmp, wish);
    return 0;
}

static pid_t peer_of(int descriptor)
{
    struct ucred credentials = {0};
    socklen_t size = sizeof(credentials);
    if (getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0)
        return 0;
    return credentials.pid;
}

static struct qmp *begin(int descriptor, const char *name, const struct wish *wish,
                         deadline_t deadline, struct error *error)
{
    struct qmp *qmp = memory_zeroed(1, sizeof(*qmp));
    qmp->descriptor = descriptor;
    qmp->name = memory_copy(name);
    qmp->peer = peer_of(descriptor);
    int flags = fcntl(descriptor, F_GETFL);
    if (flags < 0 || fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) != 0) {
        error_errno(error, STATUS_FAILED, "%s: fcntl", name);
        qmp_close(qmp);
        return NULL;
    }
    if (negotiate(qmp, wish, deadline, error) != 0) {
        qmp_close(qmp);
        return NULL;
    }
    return qmp;
}

struct qmp *qmp_adopt(int descriptor, const char *name, bool oob, deadline_t deadline,
                      struct error *error)
{
    return begin(descriptor, name, &(struct wish){.oob = oob}, deadline, error);
}

static struct qmp *connect_peer(const char *path, pid_t peer, const struct wish *wish,
                                deadline_t deadline, struct error *error)
{
    int descriptor = connect_to(path, deadline, error);
    if (descriptor < 0)
        return NULL;
    pid_t found = peer_of(descriptor);
    if (found != peer) {
        error_set(error, STATUS_FAILED, "%s: its server is pid %d, not the instance's QEMU, pid %d",
                  path, (int)found, (int)peer);
        close(descriptor);
        return NULL;
    }
    return begin(descriptor, path, wish, deadline, error);
}

struct qmp *qmp_connect_peer(const char *path, pid_t peer, bool oob, deadline_t deadline,
                             struct error *error)
{
    return connect_peer(path, peer, &(struct wish){.oob = oob}, deadline, error);
}

struct qmp *qmp_connect_asking(const char *path, pid_t peer, const struct qmp_request *requests,
                               size_t count, deadline_t deadline, struct error *error)
{
    return connect_peer(path, peer, &(struct wish){true, requests, count}, deadline, error);
}

struct qmp *qmp_connect(const char *path, bool oob, deadline_t deadline, struct error *error)
{
    int descriptor = connect_to(path, deadline, error);
    return descriptor < 0 ? NULL : qmp_adopt(descriptor, path, oob, deadline, error);
}

void qmp_close(struct qmp *qmp)
{
    if (qmp == NULL)
        return;
    close(qmp->descriptor);
    json_decref(qmp->greeting);
    json_decref(qmp->reply);
    qmp_forget_ahead(qmp);
    json_decref(qmp->prepared.request.arguments);
    frame_release(&qmp->frame);
    store_release(&qmp->store);
    free(qmp->name);
    free(qmp);
}

void qmp_release(struct qmp **qmp)
{
    qmp_close(*qmp);
    *qmp = NULL;
}

pid_t qmp_peer(const struct qmp *qmp)
{
    return qmp->peer;
}

const json_t *qmp_version(const struct qmp *qmp)
{
    return json_object_get(json_object_get(qmp->greeting, "version"), "qemu");
}
