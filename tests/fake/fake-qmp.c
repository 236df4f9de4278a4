/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A QMP server for tests, well-behaved or odd:
 *
 *     fake-qmp SOCKET [SCRIPT] [--query SOCKET] [--pid-file FILE] [--log FILE] [--events FILE] [--state FILE]
 *
 * It listens, takes the write lock that QEMU holds on its pid file, says "ready" on stdout and serves one
 * client per socket at a time until quit or TERM. Each command but qmp_capabilities is written to the log as
 * {"n", "execute", "arguments", "descriptors"}; events go to the events file as QEMU's null chardev log
 * would have them; the state file has what the server has, as it is after each command.
 *
 * SCRIPT, one rule a line; TEXT knows \n \r \0 \\ \xNN, and @ID@ is the command's id. Where COMMAND stands, K
 * is the K-th command, counted as in the log:
 *
 *     before TEXT               on connect, ahead of the greeting
 *     greeting TEXT             in the place of the greeting; "greeting" alone: nothing at all
 *     bytewise · pretty         send byte by byte · send JSON over many lines
 *     status WORD               what query-status says
 *     has COMMAND JSON          carried out before anybody connects: what is plugged from the start
 *     meanwhile COMMAND NAME JSON   somebody else's command, carried out ahead of this one
 *     fail COMMAND [CLASS [TEXT]]
 *     return COMMAND JSON       this result, and nothing else happens
 *     raw COMMAND TEXT          this in the place of a reply
 *     ahead COMMAND TEXT        this ahead of the reply
 *     behind COMMAND TEXT       this after the reply
 *     flood COMMAND COUNT       so many events ahead of the reply
 *     big COMMAND BYTES         a result that is a string of that size
 *     close COMMAND             end the connection in the place of (raw: after) the reply; nothing is done
 *     drop COMMAND              do it, then end the connection in the place of the reply
 *     die COMMAND               end the process like a crash
 *     silent COMMAND            no reply, and nothing is done
 *     mute COMMAND              do it, and no reply
 *     deleted HOW               how a device goes; default: at once, with the events of a virtio device
 *             ahead|path|other  the event comes ahead of the reply | names no device | names another one
 *             never             no event, the device stays: a guest that does not answer
 *             reset             the same until a system_reset: then device and event
 *             late              the first request changes nothing, a second one is refused; then it goes
 *             refused           the guest says no
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "answer.h"
#include "client.h"
#include "script.h"

static volatile sig_atomic_t terminated;

static void on_term(int number)
{
    terminated = number;
}

/* ---- commands ---- */

static void reply(struct client *client, json_t *id, const struct answer *answer)
{
    if (answer->result != NULL)
        send_json(client, json_pack("{s:O, s:O*}", "return", answer->result, "id", id));
    else
        send_json(client, json_pack("{s:{s:s, s:s}, s:O*}", "error", "class", answer->class, "desc",
                                    answer->text, "id", id));
}

/* NAME JSON, as if another client had sent it: it must succeed. */
static void carry_out(const char *command, const char *text)
{
    AUTO_JSON json_t *arguments = json_loads(text, 0, NULL);
    struct answer answer = model_execute(&fake.model, command, arguments, 1);
    if (arguments == NULL || answer.result == NULL) {
        fprintf(stderr, "fake-qmp: %s %s: %s\n", command, text,
                answer.text != NULL ? answer.text : "not JSON");
        exit(1);
    }
    json_decref(answer.result);
}

static void let_others_act(const char *command)
{
    const char *rule = rule_for("meanwhile", command);
    if (rule == NULL)
        return;
    AUTO_FREE char *name = memory_format("%.*s", (int)strcspn(rule, " "), rule);
    carry_out(name, rule + strcspn(rule, " "));
}

/* What stands ahead of a reply, or in its place. False: there is no reply, and nothing is done. */
static bool before_reply(struct client *client, const char *command, const json_t *arguments,
                         const char *id)
{
    const char *flood = rule_for("flood", command), *ahead = rule_for("ahead", command),
               *raw = rule_for("raw", command);
    if (rule_for("die", command) != NULL)
        _exit(1);
    if (flood != NULL)
        send_flood(client, strtol(flood, NULL, 10));
    if (ahead != NULL)
        send_text(client, ahead, id);
    if (strcmp(command, "device_del") == 0 && goes("ahead"))
        device_deleted(model_text(arguments, "id"));
    if (raw != NULL)
        send_text(client, raw, id);
    if (rule_for("close", command) != NULL)
        client_end(client);
    return raw == NULL && client->descriptor >= 0 && rule_for("silent", command) == NULL;
}

static void execute(struct client *client, const char *command, json_t *arguments, json_t *id)
{
    size_t descriptors = client->descriptors;
    client->descriptors = 0;
    fake.commands++;
    log_command(command, arguments, descriptors);
    let_others_act(command);
    AUTO_FREE char *id_text = json_dumps(id, JSON_ENCODE_ANY);
    const char *behind = rule_for("behind", command);
    if (!before_reply(client, command, arguments, id_text))
        return;
    struct answer answer = answer_command(command, arguments, descriptors);
    write_state();
    if (rule_for("drop", command) != NULL)
        client_end(client);
    else if (rule_for("mute", command) == NULL)
        reply(client, id, &answer);
    if (behind != NULL)
        send_text(client, behind, id_text);
    if (rule_for("return", command) == NULL)
        follow_up(command, arguments, answer.result != NULL);
    write_state();
    json_decref(answer.result);
    free(answer.class);
    free(answer.text);
}

static void take_line(struct client *client, const char *line, size_t length)
{
    AUTO_JSON json_t *message = json_loadb(line, length, 0, NULL);
    const char *command = json_text(message, "execute");
    if (command == NULL)
        command = json_text(message, "exec-oob");
    AUTO_JSON json_t *none = json_object();
    json_t *arguments = json_object_get(message, "arguments"), *id = json_object_get(message, "id");
    if (command == NULL)
        send_json(client, json_pack("{s:{s:s, s:s}}", "error", "class", "GenericError", "desc",
                                    "Invalid JSON syntax"));
    else if (strcmp(command, "qmp_capabilities") == 0 && rule_for("fail", command) == NULL)
        send_json(client, json_pack("{s:{}, s:O*}", "return", "id", id));
    else
        execute(client, command, arguments != NULL ? arguments : none, id);
}

/* ---- sockets ---- */

static void greet(struct client *client)
{
    const char *before = script_rest(&fake.script, "before", ""),
               *greeting = script_rest(&fake.script, "greeting", "");
    if (before != NULL)
        send_text(client, before, "");
    if (greeting != NULL)
        send_text(client, greeting, "");
    else
        send_json(client, json_pack("{s:{s:{s:{s:i, s:i, s:i}, s:s}, s:[s]}}", "QMP", "version",
                                    "qemu", "major", 7, "minor", 2, "micro", 0, "package", "",
                                    "capabilities", "oob"));
}

/* Appends to the client's bytes; descriptors that come along are counted and closed. */
static ssize_t receive(struct client *client)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * DESCRIPTORS_MAX)];
    } control;
    struct iovec part = {client->bytes + client->length, LINE_MAX_SIZE - client->length};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    ssize_t got = recvmsg(client->descriptor, &message, MSG_CMSG_CLOEXEC);
    if (got <= 0 || message.msg_controllen < sizeof(struct cmsghdr) ||
        control.align.cmsg_type != SCM_RIGHTS)
        return got;
    size_t count = (control.align.cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
        int descriptor;
        memcpy(&descriptor, CMSG_DATA(&control.align) + i * sizeof(int), sizeof(int));
        close(descriptor);
    }
    client->descriptors += count;
    return got;
}

static void serve(struct client *client)
{
    ssize_t got = receive(client);
    if (got <= 0 || client->length + (size_t)got >= LINE_MAX_SIZE) {
        client_end(client);
        return;
    }
    client->length += (size_t)got;
    char *newline;
    while (client->descriptor >= 0 &&
           (newline = memchr(client->bytes, '\n', client->length)) != NULL) {
        size_t length = (size_t)(newline - client->bytes);
        take_line(client, client->bytes, length);
        if (client->descriptor < 0) /* its bytes are forgotten */
            return;
        client->length -= length + 1;
        memmove(client->bytes, newline + 1, client->length);
    }
}

static void lock_pid_file(void)
{
    fake.pid_lock = open(fake.pid_file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fake.pid_lock < 0 || fcntl(fake.pid_lock, F_SETLK, &whole) != 0)
        die(fake.pid_file);
    if (ftruncate(fake.pid_lock, 0) != 0 || dprintf(fake.pid_lock, "%d\n", (int)getpid()) < 0)
        die(fake.pid_file);
}

static int listen_on(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path))
        die(path);
    memcpy(address.sun_path, path, strlen(path));
    unlink(path);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (const struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(listener, 1) != 0)
        die(path);
    return listener;
}

static void follow_script(const char *path)
{
    errno = EINVAL;
    if (!script_read(&fake.script, path))
        die(path);
    const struct rule *status = script_verb(&fake.script, "status");
    const struct rule *deleted = script_verb(&fake.script, "deleted");
    fake.bytewise = script_verb(&fake.script, "bytewise") != NULL;
    fake.pretty = script_verb(&fake.script, "pretty") != NULL;
    if (status != NULL)
        fake.model.status = status->subject;
    if (deleted != NULL)
        fake.deleted = deleted->subject;
    for (size_t i = 0; i < fake.script.count; i++)
        if (strcmp(fake.script.rules[i].verb, "has") == 0)
            carry_out(fake.script.rules[i].subject, fake.script.rules[i].rest);
}

static void begin(void)
{
    struct sigaction action = {.sa_handler = on_term};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    sigset_t ends; /* only let in while waiting, so that none is missed */
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    if (fake.pid_file != NULL)
        lock_pid_file();
    for (size_t i = 0; i < SOCKETS; i++) {
        fake.clients[i] = (struct client){-1, -1, memory_zeroed(LINE_MAX_SIZE, 1), 0, 0};
        if (fake.sockets[i] != NULL)
            fake.clients[i].listener = listen_on(fake.sockets[i]);
    }
    write_state();
    puts("ready");
    fflush(stdout);
}

/* One client per socket: while one is there, the next waits unaccepted and gets no greeting. */
static void serve_all(void)
{
    struct pollfd pollers[SOCKETS];
    for (size_t i = 0; i < SOCKETS; i++) {
        struct client *client = &fake.clients[i];
        bool idle = client->descriptor < 0;
        pollers[i] = (struct pollfd){idle ? client->listener : client->descriptor, POLLIN, 0};
    }
    sigset_t none;
    sigemptyset(&none);
    if (ppoll(pollers, SOCKETS, NULL, &none) < 0)
        return;
    for (size_t i = 0; i < SOCKETS; i++) {
        struct client *client = &fake.clients[i];
        if (pollers[i].revents == 0)
            continue;
        if (client->descriptor >= 0) {
            serve(client);
        } else {
            client->descriptor = accept4(client->listener, NULL, NULL, SOCK_CLOEXEC);
            if (client->descriptor >= 0)
                greet(client);
        }
    }
}

static void end(void)
{
    if (terminated)
        send_event("SHUTDOWN", json_pack("{s:b, s:s}", "guest", 0, "reason", "host-signal"));
    for (size_t i = 0; i < SOCKETS; i++) {
        client_end(&fake.clients[i]);
        free(fake.clients[i].bytes);
        if (fake.sockets[i] != NULL)
            unlink(fake.sockets[i]);
    }
    if (fake.pid_file != NULL)
        unlink(fake.pid_file);
    script_release(&fake.script);
    json_decref(fake.unplugging);
    model_release(&fake.model);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"query", required_argument, NULL, 'q'}, {"pid-file", required_argument, NULL, 'p'},
        {"log", required_argument, NULL, 'l'},   {"events", required_argument, NULL, 'e'},
        {"state", required_argument, NULL, 's'}, {NULL, 0, NULL, 0}};
    model_begin(&fake.model);
    fake.unplugging = memory_json(json_object());
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        const char **value = option == 'q'   ? &fake.sockets[1]
                             : option == 'p' ? &fake.pid_file
                             : option == 'l' ? &fake.log
                             : option == 'e' ? &fake.events
                             : option == 's' ? &fake.state
                                             : NULL;
        if (value == NULL)
            return 2;
        *value = optarg;
    }
    if (optind >= argc) {
        fprintf(stderr, "usage: fake-qmp SOCKET [SCRIPT] [--query SOCKET] [--pid-file FILE] "
                        "[--log FILE] [--events FILE] [--state FILE]\n");
        return 2;
    }
    fake.sockets[0] = argv[optind];
    if (optind + 1 < argc)
        follow_script(argv[optind + 1]);
    begin();
    while (!fake.ended && !terminated)
        serve_all();
    end();
    return 0;
}
