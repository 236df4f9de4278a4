/* SPDX-License-Identifier: BSD-2-Clause */
/* What fake-qmp is at the moment, its clients, and what is sent to them. */
#ifndef KVM_TESTS_FAKE_CLIENT_H
#define KVM_TESTS_FAKE_CLIENT_H

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
#include "kvm/base/clock.h"
#include "kvm/base/error.h"
#include "kvm/base/file.h"
#include "model.h"
#include "script.h"

enum { SOCKETS = 2, LINE_MAX_SIZE = 1024 * 1024, DESCRIPTORS_MAX = 16 };

struct client {
    int listener, descriptor;
    char *bytes; /* a line that is being received */
    size_t length, descriptors;
};

static struct {
    struct script script;
    struct client clients[SOCKETS];
    struct model model;
    const char *sockets[SOCKETS], *pid_file, *log, *events, *state, *deleted;
    json_t *unplugging; /* ids that the guest was asked for */
    int pid_lock;
    size_t commands;
    bool bytewise, pretty, ended;
} fake = {.pid_lock = -1, .deleted = "virtio"};

__attribute__((noreturn)) static void die(const char *what)
{
    fprintf(stderr, "fake-qmp: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void client_end(struct client *client)
{
    if (client->descriptor >= 0)
        close(client->descriptor);
    client->descriptor = -1;
    client->length = client->descriptors = 0;
}

static void send_bytes(struct client *client, const char *bytes, size_t length)
{
    size_t step = fake.bytewise ? 1 : length;
    for (size_t i = 0; i < length && client->descriptor >= 0; i += step)
        if (file_write_all(client->descriptor, bytes + i, step) != 0)
            client_end(client);
}

/* A script's text: escapes, and @ID@. */
static void send_text(struct client *client, const char *rest, const char *id)
{
    AUTO_FREE char *text = memory_copy(rest);
    char *mark = strstr(text, "@ID@");
    if (mark != NULL) {
        char *filled = memory_format("%.*s%s%s", (int)(mark - text), text, id, mark + 4);
        free(text);
        text = filled;
    }
    size_t length = script_unescape(text);
    send_bytes(client, text, length);
}

/* Steals. */
static void send_json(struct client *client, json_t *message)
{
    AUTO_FREE char *text = json_dumps(memory_json(message), fake.pretty ? JSON_INDENT(4) : 0);
    json_decref(message);
    AUTO_FREE char *line = memory_format("%s\r\n", text);
    send_bytes(client, line, strlen(line));
}

/* To every client that has finished its greeting, and to the events file. Steals. */
static void send_event(const char *name, json_t *data)
{
    double now = clock_wall();
    json_int_t seconds = (json_int_t)now;
    json_t *event = memory_json(
        json_pack("{s:{s:I, s:I}, s:s, s:o*}", "timestamp", "seconds", seconds, "microseconds",
                  (json_int_t)((now - (double)seconds) * 1e6), "event", name, "data", data));
    for (size_t i = 0; i < SOCKETS; i++)
        if (fake.clients[i].descriptor >= 0)
            send_json(&fake.clients[i], json_incref(event));
    int log = fake.events == NULL
                  ? -1
                  : open(fake.events, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    AUTO_FREE char *text = json_dumps(event, 0);
    AUTO_FREE char *line = memory_format("%s\r\n", text);
    json_decref(event);
    if (log >= 0 && file_write_all(log, line, strlen(line)) != 0)
        die(fake.events);
    if (log >= 0)
        close(log);
}

static void send_flood(struct client *client, long count)
{
    static const char line[] = "{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, "
                               "\"event\": \"BALLOON_CHANGE\", \"data\": {\"actual\": 3}}\r\n";
    enum { AT_ONCE = 512 };
    AUTO_FREE char *block = memory_zeroed(AT_ONCE, sizeof(line));
    size_t length = sizeof(line) - 1;
    for (size_t i = 0; i < AT_ONCE; i++)
        memcpy(block + i * length, line, length);
    for (size_t left = (size_t)count; left > 0 && client->descriptor >= 0;) {
        size_t now = left < AT_ONCE ? left : AT_ONCE;
        send_bytes(client, block, now * length);
        left -= now;
    }
}

#endif
