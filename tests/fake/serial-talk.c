/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * serial-talk SOCKET SECONDS COMMAND: have the test guest run a shell command over its serial line, print
 * what it answers and exit with its status. 254: the time was up, 255: wrong use.
 *
 * What a guest says while nobody is connected is lost, its GUEST READY too. So the guest is asked for a
 * sign of life until it gives one; only then goes the command, between two marks of its own.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { TIME_UP = 254, WRONG_USE = 255, ASK_EVERY_MS = 300, LINE_BYTES = 65536 };

struct talk {
    int fd;
    long long deadline_ms;
    char buffer[LINE_BYTES];
    size_t length;
};

static long long now_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (long long)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static int connect_serial(const char *path, long long deadline_ms)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timespec pause = {.tv_nsec = 20000000};

    if (strlen(path) >= sizeof(address.sun_path))
        return -1;
    strcpy(address.sun_path, path);
    do {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
            return fd;
        if (fd >= 0)
            close(fd);
        nanosleep(&pause, NULL);
    } while (now_ms() < deadline_ms);
    return -1;
}

static bool say(const struct talk *talk, const char *text)
{
    size_t left = strlen(text);

    while (left > 0) {
        ssize_t written = write(talk->fd, text, left);
        if (written < 0 && errno != EAGAIN)
            return false;
        if (written < 0) {
            struct pollfd wait = {.fd = talk->fd, .events = POLLOUT};
            if (now_ms() >= talk->deadline_ms || poll(&wait, 1, ASK_EVERY_MS) < 0)
                return false;
            continue;
        }
        text += written;
        left -= (size_t)written;
    }
    return true;
}

/* Take the first whole line out of the buffer. */
static bool take_line(struct talk *talk, char *line)
{
    char *end = memchr(talk->buffer, '\n', talk->length);

    if (end == NULL)
        return false;
    size_t length = (size_t)(end - talk->buffer);
    memcpy(line, talk->buffer, length);
    if (length > 0 && line[length - 1] == '\r')
        line[length - 1] = '\0';
    line[length] = '\0';
    talk->length -= length + 1;
    memmove(talk->buffer, end + 1, talk->length);
    return true;
}

/* 1: a line; 0: none until then; -1: the guest is gone. */
static int hear(struct talk *talk, long long until_ms, char *line)
{
    while (!take_line(talk, line)) {
        long long left = until_ms - now_ms();
        struct pollfd wait = {.fd = talk->fd, .events = POLLIN};
        if (left <= 0)
            return 0;
        if (talk->length == sizeof(talk->buffer) - 1)
            talk->length = 0;
        if (poll(&wait, 1, (int)left) <= 0)
            continue;
        ssize_t got =
            read(talk->fd, talk->buffer + talk->length, sizeof(talk->buffer) - 1 - talk->length);
        if (got == 0 || (got < 0 && errno != EAGAIN))
            return -1;
        if (got > 0)
            talk->length += (size_t)got;
    }
    return 1;
}

static bool wait_for_life(struct talk *talk, char *line)
{
    while (now_ms() < talk->deadline_ms) {
        long long until = now_ms() + ASK_EVERY_MS;
        int heard;
        if (!say(talk, "echo @@LIFE\n"))
            return false;
        if (until > talk->deadline_ms)
            until = talk->deadline_ms;
        while ((heard = hear(talk, until, line)) > 0) {
            if (strcmp(line, "@@LIFE") == 0)
                return true;
        }
        if (heard < 0)
            return false;
    }
    return false;
}

static int ask(struct talk *talk, const char *command, char *line)
{
    bool begun = false;

    if (!say(talk, "echo @@BEGIN; ") || !say(talk, command) || !say(talk, "\n"))
        return TIME_UP;
    while (hear(talk, talk->deadline_ms, line) > 0) {
        if (strcmp(line, "@@BEGIN") == 0) {
            begun = true;
        } else if (begun && strncmp(line, "@@RC ", 5) == 0) {
            return atoi(line + 5);
        } else if (begun && strcmp(line, "GUEST READY") == 0) {
            break; /* it started anew: no answer will come */
        } else if (begun) {
            puts(line);
        }
    }
    return TIME_UP;
}

int main(int argc, char **argv)
{
    static struct talk talk;
    static char line[LINE_BYTES];

    if (argc != 4) {
        fputs("usage: serial-talk SOCKET SECONDS COMMAND\n", stderr);
        return WRONG_USE;
    }
    talk.deadline_ms = now_ms() + 1000LL * atoi(argv[2]);
    talk.fd = connect_serial(argv[1], talk.deadline_ms);
    if (talk.fd < 0) {
        fprintf(stderr, "serial-talk: %s: can't connect: %s\n", argv[1], strerror(errno));
        return TIME_UP;
    }
    int status = wait_for_life(&talk, line) ? ask(&talk, argv[3], line) : TIME_UP;
    if (status == TIME_UP)
        fprintf(stderr, "serial-talk: %s: no answer within %s seconds, or the guest started anew\n",
                argv[1], argv[2]);
    return status;
}
