/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "migrate_private.h"
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "kvm/base/text.h"

enum { CLOSE_WAIT_MS = 3000, DYING_MS = 500, SIGN_EVERY_MS = 2000, SHOWN_MOST = 200 };

static const char *const search_path[] = {"/usr/local/sbin", "/usr/local/bin", "/usr/sbin",
                                          "/usr/bin",        "/sbin",          "/bin"};

/* Where a bare word lies; the caller frees. */
static char *find_program(const char *word)
{
    if (strchr(word, '/') != NULL)
        return memory_copy(word);
    for (size_t i = 0; i < sizeof(search_path) / sizeof(search_path[0]); i++) {
        char *path = memory_format("%s/%s", search_path[i], word);
        if (access(path, X_OK) == 0)
            return path;
        free(path);
    }
    return memory_copy(word);
}

/* The remote command is the user's own program (ssh): it gets the user's environment, for its agent and its keys. */
static int spawn(struct remote *remote, const char **argv, int input, int output,
                 struct error *error)
{
    struct process_spec spec = {.argv = argv,
                                .environment = (const char *const *)environ,
                                .input = input,
                                .output = output,
                                .errors = STDERR_FILENO,
                                .die_with_parent = true,
                                .ignore_interrupt = true,
                                .pid_lock = -1};

    remote->pid = process_spawn(&spec, &remote->pidfd, error);
    if (remote->pid > 0)
        return 0;
    remote->pid = 0;
    return -1;
}

/* COMMAND's words and ours, [0] found; `parts` and `program` hold what *argv borrows. */
struct words {
    char **parts;
    char *program;
    const char **argv;
};

static void words_release(struct words *words)
{
    text_words_release(words->parts);
    free(words->program);
    free(words->argv);
}

static int words_join(const char *command, const char *const *more, struct words *words,
                      struct error *error)
{
    size_t count = 0, extra = 0;

    *words = (struct words){0};
    if (text_words(command, &words->parts, &count, error) < 0)
        return error_prefix(error, "--remote");
    if (count == 0)
        return error_set(error, STATUS_USAGE, "--remote: is empty");
    while (more[extra] != NULL)
        extra++;
    words->program = find_program(words->parts[0]);
    words->argv = memory_zeroed(count + extra + 1, sizeof(*words->argv));
    words->argv[0] = words->program;
    for (size_t i = 1; i < count; i++)
        words->argv[i] = words->parts[i];
    for (size_t i = 0; i < extra; i++)
        words->argv[count + i] = more[i];
    return 0;
}

static int open_with(struct remote *remote, const char *command, const char *const *more, int input,
                     int output, struct error *error)
{
    __attribute__((cleanup(words_release))) struct words words;

    if (words_join(command, more, &words, error) < 0)
        return -1;
    return spawn(remote, words.argv, input, output, error) < 0 ? error_prefix(error, "--remote")
                                                               : 0;
}

int remote_open(struct remote *remote, const char *command, const char *const *more,
                struct error *error)
{
    int input[2] = {-1, -1}, output[2] = {-1, -1};

    *remote = (struct remote){.pidfd = -1, .to = -1, .from = -1};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, input) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, output) < 0) {
        error_errno(error, STATUS_FAILED, "socketpair");
        memory_close(&input[0]);
        memory_close(&input[1]);
        return -1;
    }
    remote->to = input[0];
    remote->from = output[0];
    int result = open_with(remote, command, more, input[1], output[1], error);
    close(input[1]);
    close(output[1]);
    if (result < 0)
        remote_close(remote);
    return result;
}

int remote_open_stream(struct remote *remote, const char *command, const char *const *more,
                       struct error *error)
{
    int pair[2];

    *remote = (struct remote){.pidfd = -1, .to = -1, .from = -1};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return error_errno(error, STATUS_FAILED, "socketpair");
    int result = open_with(remote, command, more, pair[1], pair[1], error);
    close(pair[1]);
    if (result == 0)
        return pair[0];
    close(pair[0]);
    return -1;
}

void remote_close(struct remote *remote)
{
    memory_close(&remote->to);
    memory_close(&remote->from);
    remote->to = remote->from = -1;
    if (remote->pid > 0 && !process_wait_gone(remote->pidfd, clock_deadline(CLOSE_WAIT_MS)))
        process_signal(remote->pidfd, SIGTERM);
    if (remote->pid > 0)
        process_end_child(remote->pid, remote->pidfd);
    memory_close(&remote->pidfd);
    remote->pidfd = -1;
    remote->pid = 0;
    free(remote->bytes);
    remote->bytes = NULL;
    remote->length = 0;
}

static char *take_line(char **bytes, size_t *length)
{
    char *end = *length == 0 ? NULL : memchr(*bytes, '\n', *length);

    if (end == NULL)
        return NULL;
    size_t taken = (size_t)(end - *bytes) + 1;
    char *line = memory_zeroed(taken, 1);
    memcpy(line, *bytes, taken - 1);
    *length -= taken;
    memmove(*bytes, *bytes + taken, *length);
    return line;
}

char *remote_line(int descriptor, char **bytes, size_t *length, deadline_t deadline, bool *ended)
{
    char chunk[65536], *line;

    *ended = false;
    while ((line = take_line(bytes, length)) == NULL) {
        struct pollfd wait = {.fd = descriptor, .events = POLLIN};
        int ready = poll(&wait, 1, clock_poll_ms(deadline));
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0)
            return NULL;
        ssize_t got = read(descriptor, chunk, sizeof(chunk));
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got <= 0 || *length + (size_t)got > MIGRATE_LINE_MAX) {
            *ended = true;
            return NULL;
        }
        *bytes = memory_resize(*bytes, *length + (size_t)got, 1);
        memcpy(*bytes + *length, chunk, (size_t)got);
        *length += (size_t)got;
    }
    return line;
}

int remote_write(int descriptor, const json_t *object)
{
    AUTO_FREE char *text = json_compact(object);
    AUTO_FREE char *line = memory_format("%s\n", text);
    return file_write_all(descriptor, line, strlen(line));
}

/* Whoever answers like that is not our program: a shell that greets, or the wrong command. */
static int not_ours(const char *line, struct error *error)
{
    size_t length = strlen(line);
    AUTO_FREE char *shown = text_escape(line, length < SHOWN_MOST ? length : SHOWN_MOST);

    return error_set(
        error, STATUS_FAILED,
        "--remote: this is not the answer of a kvm-migrate: \"%s%s\"; what the command "
        "runs must be 'kvm-migrate INSTANCE serve', and nothing else may write to its "
        "standard output",
        shown, length > SHOWN_MOST ? "..." : "");
}

static int judge(const json_t *reply, json_t **answer, struct error *error)
{
    const char *text = json_text(reply, "error");
    int64_t status = json_number(reply, "status", STATUS_FAILED);

    if (json_truth(reply, "ok", false)) {
        if (answer != NULL)
            *answer = json_deep_copy(reply);
        return 0;
    }
    AUTO_FREE char *shown = text_escape(text != NULL ? text : "no reason was given",
                                        strlen(text != NULL ? text : "no reason was given"));
    if (status < STATUS_FAILED || status > STATUS_TIMEOUT)
        status = STATUS_FAILED;
    return error_set(error, (enum status)status, "on the target: %s", shown);
}

void remote_texts(const json_t *answer, const char *key, struct messages *messages)
{
    size_t i;
    json_t *text;

    json_array_foreach (json_member(answer, key), i, text) {
        AUTO_FREE char *shown = text_escape(json_is_string(text) ? json_string_value(text) : "?",
                                            json_is_string(text) ? json_string_length(text) : 1);
        messages_add(messages, "on the target: %s", shown);
    }
}

/* The other end is closed: by whichever of reading and writing that was noticed, it is told in the same words. */
static int tell_end(const struct remote *remote, struct error *error)
{
    siginfo_t end = {0};

    error_set(error, STATUS_INCOMPLETE, "the session with the target has ended");
    if (!process_wait_gone(remote->pidfd, clock_deadline(DYING_MS)) ||
        waitid(P_PID, (id_t)remote->pid, &end, WEXITED | WNOHANG | WNOWAIT) < 0 || end.si_pid == 0)
        return -1;
    if (end.si_code != CLD_EXITED)
        return error_append(error, ": the remote command was killed by signal %d", end.si_status);
    return error_append(error, ": the remote command's exit status is %d", end.si_status);
}

/* What it has written before it ended, when that is no answer. */
static int tell_end_and_words(struct remote *remote, struct error *error)
{
    bool ended = false;
    AUTO_FREE char *line = remote_line(remote->from, &remote->bytes, &remote->length,
                                       clock_deadline(DYING_MS), &ended);
    AUTO_JSON json_t *reply = line == NULL ? NULL : json_parse(line, strlen(line), "", NULL);

    if (line != NULL && !json_is_boolean(json_member(reply, "ok")))
        return not_ours(line, error);
    return tell_end(remote, error);
}

/* In short waits, since a signal that comes between two of them ends neither. */
static char *await_line(struct remote *remote, deadline_t deadline, struct error *error)
{
    for (;;) {
        bool ended = false;
        deadline_t slice = clock_earlier(deadline, clock_deadline(MIGRATE_TURN_MS));
        char *line = remote_line(remote->from, &remote->bytes, &remote->length, slice, &ended);
        if (line != NULL)
            return line;
        bool interrupted = migrate_is_interrupted(remote->interrupted);
        if (!ended && !interrupted && !clock_passed(deadline))
            continue;
        if (ended)
            tell_end(remote, error);
        else
            error_set(error, STATUS_INCOMPLETE, "%s",
                      interrupted ? "interrupted" : "the target does not answer in time");
        return NULL;
    }
}

/* Half a question is the last that was said: the target sees its end, and does nothing by it. */
static int give_up(struct remote *remote, bool interrupted, struct error *error)
{
    memory_close(&remote->to);
    remote->to = -1;
    return error_set(error, STATUS_INCOMPLETE, "%s",
                     interrupted ? "interrupted" : "the target does not listen");
}

/* Some questions are longer than what lies between us and a target that has stopped reading. */
static int send_line(struct remote *remote, const char *line, struct error *error)
{
    deadline_t deadline = clock_deadline(MIGRATE_ANSWER_MS);
    size_t left = strlen(line);

    while (left > 0) {
        ssize_t sent = send(remote->to, line, left, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent > 0) {
            line += sent;
            left -= (size_t)sent;
            continue;
        }
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            return tell_end_and_words(remote, error);
        bool interrupted = migrate_is_interrupted(remote->interrupted);
        if (interrupted || clock_passed(deadline))
            return give_up(remote, interrupted, error);
        struct pollfd wait = {.fd = remote->to, .events = POLLOUT};
        poll(&wait, 1, MIGRATE_TURN_MS);
    }
    return 0;
}

int remote_question(struct remote *remote, const json_t *question, struct error *error)
{
    AUTO_JSON json_t *numbered = memory_json(json_copy((json_t *)(uintptr_t)question));

    json_object_set_new(numbered, "number", memory_json(json_integer(++remote->asked)));
    AUTO_FREE char *text = json_compact(numbered);
    AUTO_FREE char *line = memory_format("%s\n", text);
    if (send_line(remote, line, error) < 0)
        return -1;
    remote->unanswered++;
    return 0;
}

/* An older kvm-migrate does not number its answers: they are counted. One that came twice is not that to the next
 * question, least of all to the one whether the guest has arrived. */
static bool is_awaited(struct remote *remote, const json_t *reply)
{
    int64_t number = json_number(reply, "number", 0);

    if (number == 0)
        return remote->unanswered == 0 || --remote->unanswered == 0;
    remote->numbers = true;
    if (number != remote->asked)
        return false;
    remote->unanswered = 0;
    return true;
}

int remote_answer(struct remote *remote, deadline_t deadline, json_t **answer, struct error *error)
{
    for (;;) {
        AUTO_FREE char *line = await_line(remote, deadline, error);
        if (line == NULL)
            return -1;
        AUTO_JSON json_t *reply = json_parse(line, strlen(line), "answer of the target", NULL);
        if (!json_is_boolean(json_member(reply, "ok")) ||
            (remote->numbers && json_number(reply, "number", 0) == 0) ||
            json_number(reply, "number", 0) > remote->asked)
            return not_ours(line, error);
        if (!is_awaited(remote, reply))
            continue;
        remote->signs = 0;
        return judge(reply, answer, error);
    }
}

int remote_ask(struct remote *remote, json_t *question, deadline_t deadline, json_t **answer,
               struct error *error)
{
    AUTO_JSON json_t *owned = question;

    if (remote_question(remote, owned, error) < 0)
        return -1;
    return remote_answer(remote, deadline, answer, error);
}

/* ---- signs of life ---- */

/* What is no answer yet is none; an end is told. */
static int take_signs(struct remote *remote, struct error *error)
{
    while (remote->signs > 0) {
        bool ended = false;
        AUTO_FREE char *line =
            remote_line(remote->from, &remote->bytes, &remote->length, clock_deadline(0), &ended);
        if (ended)
            return tell_end(remote, error);
        if (line == NULL)
            return 0;
        AUTO_JSON json_t *reply = json_parse(line, strlen(line), "", NULL);
        int64_t number = json_number(reply, "number", remote->asked);
        if (number != remote->asked)
            continue;
        remote->signs--;
        remote->unanswered--;
    }
    return 0;
}

int remote_keep(struct remote *remote, struct error *error)
{
    AUTO_JSON json_t *sign = NULL;

    if (remote->to < 0 || remote->unanswered > remote->signs)
        return 0;
    if (take_signs(remote, error) < 0)
        return -1;
    if (remote->signs > 0)
        return clock_passed(remote->patience)
                   ? error_set(error, STATUS_INCOMPLETE,
                               "the target has said nothing for %d seconds", MIGRATE_SILENCE_S)
                   : 0;
    if (!clock_passed(remote->next_sign))
        return 0;
    sign = memory_json(json_pack("{s:s}", "stage", "here"));
    if (remote_question(remote, sign, error) < 0)
        return -1;
    remote->signs = 1;
    remote->next_sign = clock_deadline(SIGN_EVERY_MS);
    remote->patience = clock_deadline((int64_t)MIGRATE_SILENCE_S * 1000);
    return 0;
}
