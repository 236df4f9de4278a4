/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "kvm/qemu/agent.h"
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"

enum { AGENT_REPLY_MAX = 64 * 1024, REFUSAL_WAIT_MS = 500 };

static int connect_to(const char *path, pid_t pid, struct error *error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct ucred peer;
    socklen_t size = sizeof(peer);

    if (strlen(path) >= sizeof(address.sun_path))
        return error_set(error, STATUS_FAILED, "%s: longer than a socket's path can be", path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0)
        return error_errno(error, STATUS_FAILED, "socket");
    if (connect(descriptor, (const struct sockaddr *)&address, sizeof(address)) < 0) {
        error_errno(error, STATUS_FAILED, "guest agent: %s", path);
        close(descriptor);
        return -1;
    }
    if (getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || peer.pid != pid) {
        close(descriptor);
        return error_set(error, STATUS_FAILED, "guest agent: %s does not belong to pid %d", path,
                         (int)pid);
    }
    return descriptor;
}

/* The sync is answered by {"return": NUMBER}; anything before it is an older client's. */
static int wait_for_sync(int descriptor, const char *number, deadline_t deadline,
                         struct error *error)
{
    char reply[AGENT_REPLY_MAX + 1];
    size_t length = 0;

    while (length < AGENT_REPLY_MAX) {
        struct pollfd wait = {.fd = descriptor, .events = POLLIN};
        if (poll(&wait, 1, clock_poll_ms(deadline)) <= 0) {
            if (!clock_passed(deadline))
                continue;
            return error_set(error, STATUS_TIMEOUT, "the guest agent does not answer");
        }
        ssize_t got = read(descriptor, reply + length, AGENT_REPLY_MAX - length);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got <= 0)
            return error_set(error, STATUS_FAILED, "the guest agent's channel was closed");
        length += (size_t)got;
        if (memmem(reply, length, number, strlen(number)) != NULL)
            return 0;
    }
    return error_set(error, STATUS_FAILED, "the guest agent talks without answering");
}

/* An agent that obeys says nothing; one that refuses says so at once. */
static int wait_for_refusal(int descriptor, deadline_t deadline, struct error *error)
{
    char reply[AGENT_REPLY_MAX];
    size_t length = 0;

    for (;;) {
        struct pollfd wait = {.fd = descriptor, .events = POLLIN};
        int ready = poll(&wait, 1, clock_poll_ms(deadline));
        if (ready == 0 || (ready < 0 && errno != EINTR) || length == sizeof(reply))
            return 0;
        ssize_t got = read(descriptor, reply + length, sizeof(reply) - length);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got <= 0) /* QEMU is gone already */
            return 0;
        length += (size_t)got;
        const char *begin = memmem(reply, length, "{\"error\"", strlen("{\"error\""));
        const char *end =
            begin == NULL ? NULL : memchr(begin, '\n', length - (size_t)(begin - reply));
        if (end == NULL)
            continue;
        AUTO_JSON json_t *refusal = json_parse(begin, (size_t)(end - begin), "guest agent", NULL);
        const char *words = json_text(json_member(refusal, "error"), "desc");
        AUTO_FREE char *shown =
            text_escape(words == NULL ? "" : words, words == NULL ? 0 : strlen(words));
        return error_set(error, STATUS_FAILED, "the guest agent refuses: %.200s", shown);
    }
}

int agent_shutdown(const char *path, pid_t pid, deadline_t deadline, struct error *error)
{
    static const char shutdown_command[] =
        "{\"execute\":\"guest-shutdown\",\"arguments\":{\"mode\":\"powerdown\"}}\n";
    unsigned int random = 0;
    char number[16];
    AUTO_CLOSE int descriptor = connect_to(path, pid, error);

    if (descriptor < 0)
        return -1;
    if (getrandom(&random, sizeof(random), 0) < 0)
        random = (unsigned int)getpid();
    snprintf(number, sizeof(number), "%u", 100000000U + random % 900000000U);
    AUTO_FREE char *sync =
        memory_format("{\"execute\":\"guest-sync\",\"arguments\":{\"id\":%s}}\n", number);
    if (file_write_all(descriptor, sync, strlen(sync)) < 0)
        return error_errno(error, STATUS_FAILED, "guest agent");
    if (wait_for_sync(descriptor, number, deadline, error) < 0)
        return -1;
    if (file_write_all(descriptor, shutdown_command, strlen(shutdown_command)) < 0)
        return error_errno(error, STATUS_FAILED, "guest agent");
    return wait_for_refusal(descriptor, clock_earlier(deadline, clock_deadline(REFUSAL_WAIT_MS)),
                            error);
}
