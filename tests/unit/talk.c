/* SPDX-License-Identifier: BSD-2-Clause */
/* What is said in a migration's session, with a target that is this test's other end. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../common/operations/migrate_private.h"
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "unit.h"

enum { SOON_MS = 150, LONG_MS = 20000, LONG_BYTES = 1000000 };

/* A session with the target's ends of it, what it hears and what it says; and what the last question failed with. */
struct talk {
    struct remote remote;
    int hears, says;
    struct error error;
};

static struct talk begin(void)
{
    int to[2], from[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, to) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, from) < 0)
        abort();
    return (struct talk){
        .remote = {.pidfd = -1, .to = to[0], .from = from[0]}, .hears = to[1], .says = from[1]};
}

static void end(struct talk *talk)
{
    close(talk->hears);
    close(talk->says);
    remote_close(&talk->remote);
}
#define AUTO_TALK __attribute__((cleanup(end)))

static bool say(const struct talk *talk, const char *line)
{
    return file_write_all(talk->says, line, strlen(line)) == 0;
}

static int ask_this(struct talk *talk, json_t *question, int64_t ms)
{
    return remote_ask(&talk->remote, question, clock_deadline(ms), NULL, &talk->error);
}

static int ask(struct talk *talk, int64_t ms)
{
    return ask_this(talk, json_pack("{s:s}", "stage", "vote"), ms);
}

static json_t *long_question(void)
{
    AUTO_FREE char *text = memory_zeroed(LONG_BYTES + 1, 1);

    memset(text, 'x', LONG_BYTES);
    return json_pack("{s:s}", "stage", text);
}

TEST(passed_over,
     "an answer that comes again is passed over, and the next one is that to its own question")
{
    AUTO_TALK struct talk talk = begin();

    CHECK(say(&talk, "{\"ok\": true, \"number\": 1}\n{\"ok\": true, \"number\": 1}\n"
                     "{\"ok\": false, \"status\": 3, \"error\": \"no\", \"number\": 2}\n"));
    CHECK_NUMBER(ask(&talk, LONG_MS), 0);
    CHECK_NUMBER(ask(&talk, LONG_MS), -1);
    CHECK_TEXT(talk.error.text, "on the target: no");
    return true;
}

TEST(nobodys, "an answer to what was never asked is refused at once")
{
    static const char *const lines[] = {"{\"ok\": true, \"number\": 3}\n",
                                        "{\"ok\": true, \"number\": -1}\n", "{\"ok\": true}\n",
                                        "{\"number\": 2}\n"};

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        AUTO_TALK struct talk talk = begin();
        CHECK(say(&talk, "{\"ok\": true, \"number\": 1}\n") && say(&talk, lines[i]));
        CHECK_NUMBER(ask(&talk, LONG_MS), 0);
        deadline_t soon = clock_deadline(LONG_MS / 2);
        CHECK_NUMBER(ask(&talk, LONG_MS), -1);
        CHECK(!clock_passed(soon));
        CHECK_HAS(talk.error.text, "not the answer of a kvm-migrate");
    }
    return true;
}

TEST(last_word, "one that was silent for all its time is told the last word, and hardly waited for")
{
    AUTO_TALK struct talk talk = begin();

    CHECK(remote_patience(&talk.remote, LONG_MS) > clock_deadline(LONG_MS / 2));
    CHECK_NUMBER(ask(&talk, SOON_MS), -1);
    CHECK_TEXT(talk.error.text, "the target does not answer in time");
    CHECK(remote_patience(&talk.remote, LONG_MS) < clock_deadline(LONG_MS / 2));
    CHECK(remote_patience(&talk.remote, SOON_MS) <= clock_deadline(SOON_MS));
    CHECK(say(&talk, "{\"ok\": true, \"number\": 1}\n{\"ok\": true, \"number\": 2}\n"));
    CHECK_NUMBER(ask(&talk, LONG_MS), 0);
    CHECK(remote_patience(&talk.remote, LONG_MS) > clock_deadline(LONG_MS / 2));
    return true;
}

TEST(deaf, "a target that does not read is waited for as long as the question may take")
{
    AUTO_TALK struct talk talk = begin();
    deadline_t at_least = clock_deadline(SOON_MS), at_most = clock_deadline(LONG_MS);

    CHECK_NUMBER(ask_this(&talk, long_question(), SOON_MS), -1);
    CHECK(clock_passed(at_least) && !clock_passed(at_most));
    CHECK_TEXT(talk.error.text, "the target does not listen");
    CHECK_NUMBER(ask(&talk, LONG_MS), -1);
    CHECK_TEXT(talk.error.text, "the session with the target has ended");
    return true;
}

TEST(pipe_full,
     "a line into a pipe that nobody empties takes no longer than it may, and hears a signal")
{
    int ends[2];
    AUTO_JSON json_t *line = long_question();
    const volatile sig_atomic_t interrupted = 1;
    deadline_t soon = clock_deadline(LONG_MS);

    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    CHECK_NUMBER(remote_write(ends[1], line, NULL, clock_deadline(SOON_MS)), -1);
    CHECK_NUMBER(errno, ETIMEDOUT);
    CHECK_NUMBER(remote_write(ends[1], line, &interrupted, clock_deadline(LONG_MS)), -1);
    CHECK_NUMBER(errno, EINTR);
    CHECK(!clock_passed(soon));
    close(ends[0]);
    signal(SIGPIPE, SIG_IGN);
    CHECK_NUMBER(remote_write(ends[1], line, NULL, clock_deadline(LONG_MS)), -1);
    CHECK_NUMBER(errno, EPIPE);
    close(ends[1]);
    return true;
}

UNIT_MAIN(UNIT(passed_over), UNIT(nobodys), UNIT(last_word), UNIT(deaf), UNIT(pipe_full))
