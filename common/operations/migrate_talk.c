/* SPDX-License-Identifier: BSD-2-Clause */
/* What is said in a session: lines, questions and their answers, signs of life. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "migrate_private.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "kvm/base/text.h"

enum {
    DYING_MS = 500,
    SIGN_EVERY_MS = 2000,
    SHOWN_MOST = 200,
    SILENT_MS = 3000, /* for one that has said nothing in all its time */
};

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

/* No more than finds room at once: EAGAIN when that is nothing. The descriptor may be another program's as well, so it
 * stays blocking. */
static ssize_t write_some(int descriptor, const char *bytes, size_t length)
{
    struct pollfd room = {.fd = descriptor, .events = POLLOUT};
    ssize_t sent = send(descriptor, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (sent >= 0 || errno != ENOTSOCK)
        return sent;
    if (poll(&room, 1, 0) > 0)
        return write(descriptor, bytes, length < PIPE_BUF ? length : PIPE_BUF);
    errno = EAGAIN;
    return -1;
}

/* Some lines are longer than what lies between us and a side that has stopped reading. */
static int write_in_time(int descriptor, const char *bytes,
                         const volatile sig_atomic_t *interrupted, deadline_t deadline)
{
    size_t left = strlen(bytes);

    while (left > 0) {
        ssize_t written = write_some(descriptor, bytes, left);
        if (written >= 0) {
            bytes += written;
            left -= (size_t)written;
            continue;
        }
        if (errno != EAGAIN && errno != EINTR)
            return -1;
        bool stop = migrate_is_interrupted(interrupted);
        if (stop || clock_passed(deadline)) {
            errno = stop ? EINTR : ETIMEDOUT;
            return -1;
        }
        struct pollfd room = {.fd = descriptor, .events = POLLOUT};
        poll(&room, 1, clock_poll_ms(clock_earlier(deadline, clock_deadline(MIGRATE_TURN_MS))));
    }
    return 0;
}

int remote_write(int descriptor, const json_t *object, const volatile sig_atomic_t *interrupted,
                 deadline_t deadline)
{
    AUTO_FREE char *text = json_compact(object);
    AUTO_FREE char *line = memory_format("%s\n", text);
    return write_in_time(descriptor, line, interrupted, deadline);
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
        remote->silent = !ended && !interrupted;
        if (ended)
            tell_end(remote, error);
        else
            error_set(error, STATUS_INCOMPLETE, "%s",
                      interrupted ? "interrupted" : "the target does not answer in time");
        return NULL;
    }
}

/* Half a question is the last that was said: the target sees its end, and does nothing by it. */
static int give_up(struct remote *remote, struct error *error)
{
    bool interrupted = errno == EINTR;

    memory_close(&remote->to);
    remote->to = -1;
    remote->silent = !interrupted;
    return error_set(error, STATUS_INCOMPLETE, "%s",
                     interrupted ? "interrupted" : "the target does not listen");
}

static int put_question(struct remote *remote, const json_t *question, deadline_t deadline,
                        struct error *error)
{
    AUTO_JSON json_t *numbered = memory_json(json_copy((json_t *)(uintptr_t)question));

    if (remote->to < 0)
        return error_set(error, STATUS_INCOMPLETE, "the session with the target has ended");
    json_object_set_new(numbered, "number", memory_json(json_integer(++remote->asked)));
    if (remote_write(remote->to, numbered, remote->interrupted, deadline) < 0)
        return errno == EINTR || errno == ETIMEDOUT ? give_up(remote, error)
                                                    : tell_end_and_words(remote, error);
    remote->unanswered++;
    return 0;
}

int remote_question(struct remote *remote, const json_t *question, struct error *error)
{
    return put_question(remote, question, clock_deadline(MIGRATE_ANSWER_MS), error);
}

/* One that came a second time is passed over: what it says was taken or dropped before, and the answer that is waited for
 * still comes. A number that was never asked is nobody's answer. */
static bool has_form(const struct remote *remote, const json_t *reply)
{
    int64_t number = json_number(reply, "number", 0);

    return json_is_boolean(json_member(reply, "ok")) && number >= 0 && number <= remote->asked &&
           (number > 0 || !remote->numbers);
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
        if (!has_form(remote, reply))
            return not_ours(line, error);
        if (!is_awaited(remote, reply))
            continue;
        remote->signs = 0;
        remote->silent = false;
        return judge(reply, answer, error);
    }
}

int remote_ask(struct remote *remote, json_t *question, deadline_t deadline, json_t **answer,
               struct error *error)
{
    AUTO_JSON json_t *owned = question;

    if (put_question(remote, owned, deadline, error) < 0)
        return -1;
    return remote_answer(remote, deadline, answer, error);
}

deadline_t remote_patience(const struct remote *remote, int64_t usual_ms)
{
    return clock_deadline(remote->silent && usual_ms > SILENT_MS ? SILENT_MS : usual_ms);
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
        if (!has_form(remote, reply))
            return not_ours(line, error);
        if (json_number(reply, "number", remote->asked) != remote->asked)
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
    if (remote->signs > 0) {
        remote->silent = clock_passed(remote->patience);
        return remote->silent
                   ? error_set(error, STATUS_INCOMPLETE,
                               "the target has said nothing for %d seconds", MIGRATE_SILENCE_S)
                   : 0;
    }
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
