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

/* The target's ends: what it hears and what it says. */
static struct remote begin(int *hears, int *says)
{
    int to[2], from[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, to) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, from) < 0)
        abort();
    *hears = to[1];
    *says = from[1];
    return (struct remote){.pidfd = -1, .to = to[0], .from = from[0]};
}

static void end(struct remote *remote, int hears, int says)
{
    close(hears);
    close(says);
    remote_close(remote);
}

static bool say(int says, const char *line)
{
    return file_write_all(says, line, strlen(line)) == 0;
}

static int ask(struct remote *remote, int64_t ms, struct error *error)
{
    return remote_ask(remote, json_pack("{s:s}", "stage", "vote"), clock_deadline(ms), NULL, error);
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
    struct error error = {0};
    int hears, says;
    struct remote remote = begin(&hears, &says);

    CHECK(say(says, "{\"ok\": true, \"number\": 1}\n{\"ok\": true, \"number\": 1}\n"
                    "{\"ok\": false, \"status\": 3, \"error\": \"no\", \"number\": 2}\n"));
    CHECK_NUMBER(ask(&remote, LONG_MS, &error), 0);
    CHECK_NUMBER(ask(&remote, LONG_MS, &error), -1);
    CHECK_TEXT(error.text, "on the target: no");
    end(&remote, hears, says);
    return true;
}

TEST(nobodys, "an answer to what was never asked is refused at once")
{
    static const char *const lines[] = {"{\"ok\": true, \"number\": 3}\n",
                                        "{\"ok\": true, \"number\": -1}\n", "{\"ok\": true}\n",
                                        "{\"number\": 2}\n"};

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct error error = {0};
        int hears, says;
        struct remote remote = begin(&hears, &says);
        CHECK(say(says, "{\"ok\": true, \"number\": 1}\n") && say(says, lines[i]));
        CHECK_NUMBER(ask(&remote, LONG_MS, &error), 0);
        deadline_t soon = clock_deadline(LONG_MS / 2);
        CHECK_NUMBER(ask(&remote, LONG_MS, &error), -1);
        CHECK(!clock_passed(soon));
        CHECK_HAS(error.text, "not the answer of a kvm-migrate");
        end(&remote, hears, says);
    }
    return true;
}

TEST(last_word, "one that was silent for all its time is told the last word, and hardly waited for")
{
    struct error error = {0};
    int hears, says;
    struct remote remote = begin(&hears, &says);

    CHECK(remote_patience(&remote, LONG_MS) > clock_deadline(LONG_MS / 2));
    CHECK_NUMBER(ask(&remote, SOON_MS, &error), -1);
    CHECK_TEXT(error.text, "the target does not answer in time");
    CHECK(remote_patience(&remote, LONG_MS) < clock_deadline(LONG_MS / 2));
    CHECK(remote_patience(&remote, SOON_MS) <= clock_deadline(SOON_MS));
    CHECK(say(says, "{\"ok\": true, \"number\": 1}\n{\"ok\": true, \"number\": 2}\n"));
    CHECK_NUMBER(ask(&remote, LONG_MS, &error), 0);
    CHECK(remote_patience(&remote, LONG_MS) > clock_deadline(LONG_MS / 2));
    end(&remote, hears, says);
    return true;
}

TEST(deaf, "a target that does not read is waited for as long as the question may take")
{
    struct error error = {0};
    int hears, says;
    struct remote remote = begin(&hears, &says);
    deadline_t soon = clock_deadline(LONG_MS);

    CHECK_NUMBER(remote_ask(&remote, long_question(), clock_deadline(SOON_MS), NULL, &error), -1);
    CHECK(!clock_passed(soon));
    CHECK_TEXT(error.text, "the target does not listen");
    CHECK_NUMBER(ask(&remote, LONG_MS, &error), -1);
    CHECK_TEXT(error.text, "the session with the target has ended");
    end(&remote, hears, says);
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
