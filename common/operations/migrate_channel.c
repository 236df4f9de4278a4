/* SPDX-License-Identifier: BSD-2-Clause */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "migrate_private.h"
#include "kvm/base/file.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"

enum {
    TOKEN_SIZE = 32,
    GREETING_MS = 5000,
    USER_TIMEOUT_MS = 5000,
    CALLERS = 16, /* that have not presented the token yet; the one that came first goes */
    PORT_MOST = 65535,
};

void channel_watch_link(int descriptor)
{
    const int on = 1, idle = 2, interval = 1, count = 3, limit = USER_TIMEOUT_MS;

    setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
    setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
    setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
    setsockopt(descriptor, IPPROTO_TCP, TCP_USER_TIMEOUT, &limit, sizeof(limit));
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/* It may be the other side's word. */
static int check_port(int64_t port, struct error *error)
{
    if (port >= 0 && port <= PORT_MOST)
        return 0;
    return error_set(error, STATUS_USAGE, "port: must be from 0 to %d (current value: %lld)",
                     PORT_MOST, (long long)port);
}

static struct addrinfo *resolve(const char *address, int64_t port, struct error *error)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *list = NULL;
    char service[16];

    if (check_port(port, error) < 0)
        return NULL;
    snprintf(service, sizeof(service), "%d", (int)port);
    int result = getaddrinfo(address, service, &hints, &list);
    if (result == 0)
        return list;
    error_set(error, STATUS_USAGE, "%s: %s; --address gives another name, or the number", address,
              gai_strerror(result));
    return NULL;
}

/* By errno. */
static int tell_unheard(const char *address, int64_t port, struct error *error)
{
    int reason = errno;

    error_errno(error, STATUS_FAILED, "listening on %s port %lld (migration address and port)",
                address, (long long)port);
    if (reason == EADDRNOTAVAIL)
        return error_append(error, "; --address gives one that the node has");
    if (reason == EADDRINUSE)
        return error_append(error, "; 'ss -ltnp' on that node shows by whom, --port takes another");
    return -1;
}

int channel_listen(const char *address, int64_t *port, int *listener, struct error *error)
{
    struct sockaddr_storage bound;
    socklen_t size = sizeof(bound);
    const int on = 1;
    struct addrinfo *list = resolve(address, *port, error);

    if (list == NULL)
        return -1;
    *listener = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int result = *listener;
    if (result >= 0) {
        setsockopt(*listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        result = bind(*listener, list->ai_addr, list->ai_addrlen);
    }
    freeaddrinfo(list);
    if (result < 0 || listen(*listener, CALLERS) < 0 ||
        getsockname(*listener, (struct sockaddr *)&bound, &size) < 0)
        return tell_unheard(address, *port, error);
    *port = bound.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&bound)->sin6_port)
                                        : ntohs(((struct sockaddr_in *)&bound)->sin_port);
    return 0;
}

/* ---- who calls ---- */

struct caller {
    int descriptor;
    deadline_t until; /* the token must have come */
    size_t length;
    char got[TOKEN_SIZE];
};

struct callers {
    struct caller items[CALLERS];
    size_t count;
};

static void callers_release(struct callers *callers)
{
    for (size_t i = 0; i < callers->count; i++)
        close(callers->items[i].descriptor);
    callers->count = 0;
}

static void drop_caller(struct callers *callers, size_t index)
{
    close(callers->items[index].descriptor);
    callers->count--;
    memmove(&callers->items[index], &callers->items[index + 1],
            (callers->count - index) * sizeof(callers->items[0]));
}

static void add_caller(struct callers *callers, int listener)
{
    int descriptor = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

    if (descriptor < 0)
        return;
    if (callers->count == CALLERS)
        drop_caller(callers, 0);
    callers->items[callers->count++] =
        (struct caller){.descriptor = descriptor, .until = clock_deadline(GREETING_MS)};
}

static bool is_token(const char got[TOKEN_SIZE], const char *token)
{
    unsigned char difference = 0;

    for (size_t i = 0; i < TOKEN_SIZE; i++)
        difference |= (unsigned char)(got[i] ^ token[i]);
    return difference == 0;
}

/* Not a byte more than the token is read: what follows is QEMU's. False: not the one that is waited for. */
static bool hear(struct caller *caller)
{
    ssize_t count = recv(caller->descriptor, caller->got + caller->length,
                         TOKEN_SIZE - caller->length, MSG_DONTWAIT);

    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return !clock_passed(caller->until);
    if (count <= 0)
        return false;
    caller->length += (size_t)count;
    return true;
}

/* The one that has presented the token, taken out of the others; -1: nobody yet. */
static int hear_all(struct callers *callers, const char *token)
{
    for (size_t i = callers->count; i-- > 0;) {
        struct caller *caller = &callers->items[i];
        bool stays = hear(caller);
        if (stays && caller->length == TOKEN_SIZE && is_token(caller->got, token)) {
            int connection = caller->descriptor;
            *caller = callers->items[--callers->count];
            return connection;
        }
        if (!stays || caller->length == TOKEN_SIZE)
            drop_caller(callers, i);
    }
    return -1;
}

/* False: the time is up, or something has come on `session`. */
static bool wait_for_callers(const struct callers *callers, int listener, int session,
                             deadline_t deadline, bool *more)
{
    struct pollfd wait[CALLERS + 2] = {{.fd = listener, .events = POLLIN},
                                       {.fd = session, .events = POLLIN}};

    for (size_t i = 0; i < callers->count; i++) {
        wait[i + 2] = (struct pollfd){.fd = callers->items[i].descriptor, .events = POLLIN};
        deadline = clock_earlier(deadline, callers->items[i].until);
    }
    int ready = poll(wait, callers->count + 2, clock_poll_ms(deadline));
    *more = ready > 0 && wait[0].revents != 0;
    return ready <= 0 || wait[1].revents == 0 || *more;
}

/* All that call are heard at once: one that says nothing keeps nobody away. */
int channel_accept(int listener, int session, const char *token,
                   const volatile sig_atomic_t *interrupted, deadline_t deadline,
                   struct error *error)
{
    __attribute__((cleanup(callers_release))) struct callers callers = {0};
    bool more = false;

    while (!clock_passed(deadline) && !migrate_is_interrupted(interrupted) &&
           wait_for_callers(&callers, listener, session,
                            clock_earlier(deadline, clock_deadline(MIGRATE_TURN_MS)), &more)) {
        if (more)
            add_caller(&callers, listener);
        int connection = hear_all(&callers, token);
        if (connection >= 0)
            return connection;
    }
    if (migrate_is_interrupted(interrupted))
        return error_set(error, STATUS_FAILED, "interrupted");
    return error_set(error, STATUS_FAILED,
                     "the source did not connect for the memory; is its way to the migration "
                     "address and port open?");
}

/* ---- the source's end ---- */

static int connect_in_time(int descriptor, const struct addrinfo *where, deadline_t deadline)
{
    struct pollfd wait = {.fd = descriptor, .events = POLLOUT};
    int fault = 0;
    socklen_t size = sizeof(fault);

    if (connect(descriptor, where->ai_addr, where->ai_addrlen) < 0 && errno != EINPROGRESS)
        return -1;
    if (poll(&wait, 1, clock_poll_ms(deadline)) <= 0) {
        errno = ETIMEDOUT;
        return -1;
    }
    if (getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &fault, &size) < 0 || fault != 0) {
        errno = fault;
        return -1;
    }
    return fcntl(descriptor, F_SETFL, 0);
}

int channel_connect(const char *address, int64_t port, const char *token, deadline_t deadline,
                    struct error *error)
{
    struct addrinfo *list = resolve(address, port, error);
    int descriptor = -1;

    if (list == NULL)
        return -1;
    for (const struct addrinfo *one = list; one != NULL && descriptor < 0; one = one->ai_next) {
        descriptor = socket(one->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (descriptor < 0 || connect_in_time(descriptor, one, deadline) == 0)
            continue;
        int saved = errno;
        close(descriptor);
        errno = saved;
        descriptor = -1;
    }
    freeaddrinfo(list);
    if (descriptor < 0)
        return error_errno(error, STATUS_FAILED, "%s port %lld", address, (long long)port);
    if (file_write_all(descriptor, token, TOKEN_SIZE) < 0) {
        close(descriptor);
        return error_errno(error, STATUS_FAILED, "%s port %lld", address, (long long)port);
    }
    return descriptor;
}

int channel_pass(struct qmp *qmp, int descriptor, const char *name, deadline_t deadline,
                 struct error *error)
{
    json_t *arguments = memory_json(json_pack("{s:s}", "fdname", name));
    return qmp_call_fds(qmp, "getfd", arguments, &descriptor, 1, deadline, NULL, error) == QMP_DONE
               ? 0
               : -1;
}

/* ---- where QEMU connects by itself ---- */

char *channel_host(const char *address, struct error *error)
{
    char host[NI_MAXHOST];
    struct addrinfo *list = resolve(address, 0, error);

    if (list == NULL)
        return NULL;
    int result =
        getnameinfo(list->ai_addr, list->ai_addrlen, host, sizeof(host), NULL, 0, NI_NUMERICHOST);
    freeaddrinfo(list);
    if (result == 0)
        return memory_copy(host);
    error_set(error, STATUS_FAILED, "%s: %s", address, gai_strerror(result));
    return NULL;
}

char *channel_uri(const char *address, int64_t port, struct error *error)
{
    AUTO_FREE char *host = check_port(port, error) < 0 ? NULL : channel_host(address, error);

    if (host == NULL)
        return NULL;
    return memory_format(strchr(host, ':') != NULL ? "tcp:[%s]:%d" : "tcp:%s:%d", host, (int)port);
}

static bool end_has_port(int connection,
                         int (*name)(int descriptor, struct sockaddr *address, socklen_t *size),
                         int64_t port)
{
    struct sockaddr_storage end;
    socklen_t size = sizeof(end);

    if (name(connection, (struct sockaddr *)&end, &size) < 0)
        return false;
    if (end.ss_family == AF_INET)
        return ntohs(((struct sockaddr_in *)&end)->sin_port) == port;
    return end.ss_family == AF_INET6 && ntohs(((struct sockaddr_in6 *)&end)->sin6_port) == port;
}

/* glibc declares the name functions with a transparent union, which has no place in a pointer's type. */
static int peer_name(int descriptor, struct sockaddr *address, socklen_t *size)
{
    return getpeername(descriptor, address, size);
}

static int own_name(int descriptor, struct sockaddr *address, socklen_t *size)
{
    return getsockname(descriptor, address, size);
}

static bool has_port(int connection, int64_t port)
{
    return end_has_port(connection, peer_name, port) || end_has_port(connection, own_name, port);
}

static bool listens_on(int descriptor, int64_t port)
{
    int listening = 0;
    socklen_t size = sizeof(listening);

    return end_has_port(descriptor, own_name, port) &&
           getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == 0 &&
           listening != 0;
}

static bool was_called_on(int descriptor, int64_t port)
{
    return end_has_port(descriptor, own_name, port) && !listens_on(descriptor, port);
}

static void hang_up(int descriptor)
{
    shutdown(descriptor, SHUT_RDWR);
}

/* Options and state belong to the socket, whoever holds it: a copy of QEMU's descriptor is enough. */
static size_t for_each_socket(pid_t pid, int pidfd, int64_t port,
                              bool (*is_one)(int descriptor, int64_t port),
                              void (*act)(int descriptor))
{
    AUTO_FREE char *path = memory_format("/proc/%d/fd", (int)pid);
    DIR *directory = opendir(path);
    const struct dirent *entry;
    size_t found = 0;

    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        int64_t number = 0;
        if (!text_number(entry->d_name, 0, INT32_MAX, &number))
            continue;
        AUTO_CLOSE int copy = (int)syscall(SYS_pidfd_getfd, pidfd, (int)number, 0);
        if (copy < 0 || !is_one(copy, port))
            continue;
        act(copy);
        found++;
    }
    if (directory != NULL)
        closedir(directory);
    return found;
}

size_t channel_watch_process(pid_t pid, int pidfd, int64_t port)
{
    return for_each_socket(pid, pidfd, port, has_port, channel_watch_link);
}

/* First nobody may come any more, then those who are there go. */
void channel_hang_up_process(pid_t pid, int pidfd, int64_t port)
{
    for_each_socket(pid, pidfd, port, listens_on, hang_up);
    for_each_socket(pid, pidfd, port, was_called_on, hang_up);
}
