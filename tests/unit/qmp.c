/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "kvm/base/json.h"
#include "kvm/qemu/qmp.h"
#include "fake.h"
#include "unit.h"

enum { GENEROUS_MS = 20 * 1000, SHORT_MS = 100 };

static deadline_t generous(void)
{
    return clock_deadline(GENEROUS_MS);
}

static struct qmp *connect_to(const struct fake *fake, struct error *error)
{
    return qmp_connect(fake->socket, false, generous(), error);
}

/* One call of query-status to a server with that script. */
static enum qmp_outcome ask(const char *script, json_t **result, struct error *error)
{
    AUTO_FAKE struct fake fake = fake_begin(script);
    AUTO_QMP struct qmp *qmp = connect_to(&fake, error);
    if (qmp == NULL)
        return (enum qmp_outcome) - 100;
    return qmp_call(qmp, "query-status", NULL, generous(), result, error);
}

TEST(plain, "a command has a result, the server a version and a pid")
{
    AUTO_FAKE struct fake fake = fake_begin("");
    struct error error;
    AUTO_QMP struct qmp *qmp = connect_to(&fake, &error);
    CHECK(qmp != NULL);
    CHECK_NUMBER(qmp_peer(qmp), fake.pid);
    CHECK_NUMBER(json_number(qmp_version(qmp), "major", 0), 7);
    AUTO_JSON json_t *result = NULL;
    CHECK_NUMBER(qmp_call(qmp, "query-status", NULL, generous(), &result, &error), QMP_DONE);
    CHECK_TEXT(json_text(result, "status"), "running");
    CHECK_TEXT(qmp_error_class(qmp), "");
    return true;
}

TEST(shapes, "line breaks and the size of reads do not matter")
{
    struct error error;
    const char *const scripts[] = {"bytewise\n", "pretty\n", "bytewise\npretty\n"};
    for (size_t i = 0; i < 3; i++) {
        AUTO_JSON json_t *result = NULL;
        CHECK_NUMBER(ask(scripts[i], &result, &error), QMP_DONE);
        CHECK_TEXT(json_text(result, "status"), "running");
    }
    return true;
}

TEST(early_events, "events ahead of the greeting and of a reply are kept, in their order")
{
    AUTO_FAKE struct fake fake = fake_begin(
        "before {\"event\":\"A\",\"n\":1}\\r\\n{\"event\":\"B\"}{\"event\":\"A\",\"n\":2}\n"
        "ahead query-status {\"event\":\"A\",\"n\":3}\n");
    struct error error;
    AUTO_QMP struct qmp *qmp = connect_to(&fake, &error);
    CHECK(qmp != NULL);
    CHECK_NUMBER(qmp_call(qmp, "query-status", NULL, generous(), NULL, &error), QMP_DONE);
    for (int i = 1; i <= 3; i++) {
        AUTO_JSON json_t *event = qmp_take_event(qmp, "A");
        CHECK_NUMBER(json_number(event, "n", 0), i);
    }
    CHECK(qmp_take_event(qmp, "A") == NULL);
    AUTO_JSON json_t *other = qmp_take_event(qmp, "B");
    CHECK(other != NULL);
    return true;
}

TEST(two_greetings, "a second greeting is no answer")
{
    struct error error;
    AUTO_JSON json_t *result = NULL;
    CHECK_NUMBER(ask("greeting {\"QMP\":{\"capabilities\":[]}}{\"QMP\":{\"version\":{}}}\n",
                     &result, &error),
                 QMP_DONE);
    CHECK_TEXT(json_text(result, "status"), "running");
    return true;
}

TEST(other_ids, "replies to other commands are dropped")
{
    struct error error;
    AUTO_JSON json_t *result = NULL;
    CHECK_NUMBER(
        ask("ahead query-status {\"return\":1,\"id\":\"other\"}{\"return\":2}"
            "{\"error\":{},\"id\":7}{\"return\":3,\"id\":null}{\"strange\":1,\"id\":@ID@}\n",
            &result, &error),
        QMP_DONE);
    CHECK_TEXT(json_text(result, "status"), "running");
    return true;
}

TEST(refusals, "a refusal has class and text; without them it is one all the same")
{
    struct error error;
    AUTO_FAKE struct fake fake =
        fake_begin("fail 1 DeviceNotFound no such thing\n"
                   "raw stop {\"error\":{},\"id\":@ID@}\n"
                   "raw cont {\"error\":{\"class\":\"GenericError\",\"desc\":\"not parsed\"}}\n"
                   "raw quit {\"error\":{\"class\":\"GenericError\",\"desc\":\"a\\u0007b\"},"
                   "\"id\":@ID@}\n");
    AUTO_QMP struct qmp *qmp = connect_to(&fake, &error);
    CHECK(qmp != NULL);
    CHECK_NUMBER(qmp_call(qmp, "device_del", NULL, generous(), NULL, &error), QMP_REFUSED);
    CHECK_TEXT(error.text, "device_del: no such thing");
    CHECK_NUMBER(error.status, STATUS_FAILED);
    CHECK_TEXT(qmp_error_class(qmp), "DeviceNotFound");
    CHECK_NUMBER(qmp_call(qmp, "stop", NULL, generous(), NULL, &error), QMP_REFUSED);
    CHECK_TEXT(error.text, "stop: refused without a reason");
    CHECK_TEXT(qmp_error_class(qmp), "");
    CHECK_NUMBER(qmp_call(qmp, "cont", NULL, generous(), NULL, &error), QMP_REFUSED);
    CHECK_TEXT(error.text, "cont: not parsed");
    CHECK_NUMBER(qmp_call(qmp, "quit", NULL, generous(), NULL, &error), QMP_REFUSED);
    CHECK_TEXT(error.text, "quit: a\\x07b");
    return true;
}

TEST(broken, "what is broken after the command was written leaves its effect unknown")
{
    static const char *const scripts[][2] = {
        {"raw query-status {\"return\":{},\"error\":{},\"id\":@ID@}\n", "a result and an error"},
        {"raw query-status {\"return\":\"\\xc3\",\"id\":@ID@}\n", "not valid"},
        {"raw query-status {\"return\":\"\\xc3\nclose query-status\n", "within a message"},
        {"raw query-status {\"return\":{\nclose query-status\n", "within a message"},
        {"raw query-status {\"return\":{},\\0 \"id\":@ID@}\n", "not valid"},
        {"raw query-status {\"return\":\"\\0\",\"id\":@ID@}\n", "not valid"},
        {"raw query-status {\"return\":1,\"return\":2,\"id\":@ID@}\n", "not valid"},
        {"raw query-status {\"return\":1]\n", "not valid"},
        {"raw query-status [1]\n", "does not speak QMP"},
        {"raw query-status garbage\n", "it sent \"garbage\""},
        {"close query-status\n", "closed the connection"},
        {"die query-status\n", "closed the connection"},
        {"big query-status 17000000\n",
         " MiB"}, /* of 16, or of the 48 that it takes: by where it was cut */
    };
    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        struct error error;
        CHECK_NUMBER(ask(scripts[i][0], NULL, &error), QMP_UNKNOWN);
        CHECK_NUMBER(error.status, STATUS_FAILED);
        CHECK_HAS(error.text, scripts[i][1]);
        CHECK_HAS(error.text, "query-status: ");
    }
    return true;
}

TEST(big_numbers, "integers beyond 64 bits do not lose the message")
{
    struct error error;
    AUTO_JSON json_t *result = NULL;
    CHECK_NUMBER(ask("raw query-status {\"return\":{\"n\":18446744073709551616},\"id\":@ID@}\n",
                     &result, &error),
                 QMP_DONE);
    CHECK(json_real_value(json_object_get(result, "n")) > 1.8e19);
    return true;
}

TEST(big_reply, "a reply of 8 MiB arrives whole")
{
    struct error error;
    AUTO_JSON json_t *result = NULL;
    CHECK_NUMBER(ask("big query-status 8388608\n", &result, &error), QMP_DONE);
    CHECK_NUMBER(json_string_length(result), 8388608);
    return true;
}

TEST(bracket_bomb, "a message whose parsed form would be huge is not parsed")
{
    enum { ITEMS = 500 * 1000 };
    static const char head[] = "raw query-status {\"return\":[{}", item[] = ",{}";
    AUTO_FREE char *script = memory_zeroed(sizeof(head) + ITEMS * strlen(item) + 32, 1);
    char *end = stpcpy(script, head);
    for (int i = 0; i < ITEMS; i++)
        end = stpcpy(end, item);
    stpcpy(end, "],\"id\":@ID@}\n");
    struct error error;
    CHECK_NUMBER(ask(script, NULL, &error), QMP_UNKNOWN);
    CHECK_HAS(error.text, "more than 48 MiB");
    return true;
}

TEST(flood, "a flood of a million events is answered through, and DEVICE_DELETED outlives it")
{
    AUTO_FAKE struct fake fake =
        fake_begin("behind stop {\"event\":\"DEVICE_DELETED\",\"data\":{\"device\":\"d\"}}\n"
                   "flood query-status 1000000\n");
    struct error error;
    AUTO_QMP struct qmp *qmp = connect_to(&fake, &error);
    CHECK(qmp != NULL);
    CHECK_NUMBER(qmp_call(qmp, "stop", NULL, generous(), NULL, &error), QMP_DONE);
    CHECK_NUMBER(qmp_call(qmp, "query-status", NULL, clock_deadline(60000), NULL, &error),
                 QMP_DONE);
    AUTO_JSON json_t *deleted = qmp_take_event(qmp, "DEVICE_DELETED");
    CHECK(deleted != NULL);
    size_t kept = 0;
    for (json_t *event; (event = qmp_take_event(qmp, "BALLOON_CHANGE")) != NULL; kept++)
        json_decref(event);
    CHECK(kept == 4096);
    return true;
}

static bool is_of_device(const json_t *event, const void *context)
{
    const char *device = json_text(json_object_get(event, "data"), "device");
    return device != NULL && strcmp(device, context) == 0;
}

TEST(waiting, "waiting for an event passes others by and leaves them")
{
    AUTO_FAKE struct fake fake = fake_begin("deleted ahead\nreturn stop {}\n");
    struct error error;
    bool lost = true;
    AUTO_QMP struct qmp *qmp = connect_to(&fake, &error);
    CHECK(qmp != NULL);
    CHECK_NUMBER(
        qmp_call(qmp, "device_add", json_pack("{s:s}", "id", "d"), generous(), NULL, &error),
        QMP_DONE);
    CHECK_NUMBER(
        qmp_call(qmp, "device_del", json_pack("{s:s}", "id", "d"), generous(), NULL, &error),
        QMP_DONE);
    CHECK(qmp_wait_event(qmp, "DEVICE_DELETED", is_of_device, "e", clock_deadline(0), &lost) ==
          NULL);
    CHECK(!lost);
    AUTO_JSON json_t *event =
        qmp_wait_event(qmp, "DEVICE_DELETED", is_of_device, "d", generous(), &lost);
    CHECK(event != NULL);
    AUTO_JSON json_t *backend = qmp_take_event(qmp, "DEVICE_DELETED");
    CHECK_TEXT(json_text(json_object_get(backend, "data"), "path"),
               "/machine/peripheral/d/virtio-backend");
    kill(fake.pid, SIGKILL);
    CHECK(qmp_wait_event(qmp, "DEVICE_DELETED", NULL, NULL, generous(), &lost) == NULL);
    CHECK(lost);
    CHECK(!qmp_read(qmp));
    return true;
}

TEST(banners, "another kind of server is named by what it says")
{
    static const char *const scripts[][2] = {
        {"greeting HTTP/1.1 400 Bad Request\\r\\n\n", "sent \"HTTP/1.1 400 Bad Request\\x0d\""},
        {"greeting SSH-2.0-x\\r\\n\n", "sent \"SSH-2.0-x"},
        {"greeting QEMU 7.2.0 monitor - type 'help'\\r\\n(qemu)\n", "sent \"QEMU 7.2.0 monitor"},
    };
    for (size_t i = 0; i < 3; i++) {
        struct error error;
        AUTO_FAKE struct fake fake = fake_begin(scripts[i][0]);
        CHECK(connect_to(&fake, &error) == NULL);
        CHECK_NUMBER(error.status, STATUS_FAILED);
        CHECK_HAS(error.text, scripts[i][1]);
        CHECK_HAS(error.text, fake.socket);
    }
    return true;
}

TEST(silence, "silence, another client and a full backlog are a time-out, in time")
{
    struct error error;
    AUTO_FAKE struct fake silent = fake_begin("greeting\n");
    CHECK(qmp_connect(silent.socket, false, clock_deadline(SHORT_MS), &error) == NULL);
    CHECK_NUMBER(error.status, STATUS_TIMEOUT);
    CHECK_HAS(error.text, "another client holds the monitor");

    AUTO_FAKE struct fake fake = fake_begin("");
    AUTO_QMP struct qmp *first = connect_to(&fake, &error);
    CHECK(first != NULL);
    int64_t before = clock_now_ms();
    CHECK(qmp_connect(fake.socket, false, clock_deadline(SHORT_MS), &error) == NULL);
    CHECK_HAS(error.text, "another client holds the monitor");
    CHECK(clock_now_ms() - before < 5000);
    qmp_release(&first);
    first = connect_to(&fake, &error);
    CHECK(first != NULL);

    AUTO_FAKE struct fake slow = fake_begin("greeting {\"QMP\":\n");
    CHECK(qmp_connect(slow.socket, false, clock_deadline(1000), &error) == NULL);
    CHECK_NUMBER(error.status, STATUS_TIMEOUT);
    CHECK(strstr(error.text, "another client") == NULL);
    return true;
}

TEST(backlog, "a socket whose backlog is full does not hang a connect")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", scratch.path);
    AUTO_CLOSE int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    AUTO_CLOSE int waiting = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(listener, (const struct sockaddr *)&address, sizeof(address)) == 0);
    CHECK(listen(listener, 0) == 0);
    CHECK(connect(waiting, (const struct sockaddr *)&address, sizeof(address)) == 0);
    struct error error;
    CHECK(qmp_connect(address.sun_path, false, clock_deadline(SHORT_MS), &error) == NULL);
    CHECK_NUMBER(error.status, STATUS_TIMEOUT);
    CHECK_HAS(error.text, "other clients wait");
    return true;
}

TEST(nobody, "a socket that nobody listens on, or that is not there, is told at once")
{
    struct error error;
    AUTO_FAKE struct fake fake = fake_begin("");
    kill(fake.pid, SIGKILL);
    waitpid(fake.pid, NULL, 0);
    CHECK(connect_to(&fake, &error) == NULL);
    CHECK_HAS(error.text, "QEMU is not listening");
    CHECK_NUMBER(error.status, STATUS_FAILED);
    unlink(fake.socket);
    CHECK(connect_to(&fake, &error) == NULL);
    CHECK_HAS(error.text, "QEMU is not listening");
    return true;
}

TEST(no_reply, "a command without a reply ends in time, and the next one has its own")
{
    struct error error;
    AUTO_FAKE struct fake fake = fake_begin("silent stop\n");
    AUTO_QMP struct qmp *qmp = connect_to(&fake, &error);
    CHECK(qmp != NULL);
    CHECK_NUMBER(qmp_call(qmp, "stop", NULL, clock_deadline(SHORT_MS), NULL, &error), QMP_UNKNOWN);
    CHECK_NUMBER(error.status, STATUS_TIMEOUT);
    CHECK_HAS(error.text, "stop: no answer");
    AUTO_JSON json_t *result = NULL;
    CHECK_NUMBER(qmp_call(qmp, "query-status", NULL, generous(), &result, &error), QMP_DONE);
    CHECK_TEXT(json_text(result, "status"), "running");
    return true;
}

TEST(dead_connection, "a command that could not be sent has had no effect")
{
    struct error error;
    AUTO_FAKE struct fake fake = fake_begin("die stop\n");
    AUTO_QMP struct qmp *qmp = connect_to(&fake, &error);
    CHECK(qmp != NULL);
    CHECK_NUMBER(qmp_call(qmp, "stop", NULL, generous(), NULL, &error), QMP_UNKNOWN);
    CHECK_NUMBER(qmp_call(qmp, "cont", NULL, generous(), NULL, &error), QMP_REFUSED);
    CHECK_HAS(error.text, "cont: ");
    CHECK_HAS(error.text, "it was not sent");
    return true;
}

TEST(descriptors, "descriptors go with the command and stay with the caller")
{
    struct error error;
    AUTO_FAKE struct fake fake = fake_begin("");
    AUTO_QMP struct qmp *qmp = connect_to(&fake, &error);
    CHECK(qmp != NULL);
    const int two[] = {0, 1};
    CHECK_NUMBER(qmp_call_fds(qmp, "add-fd", json_pack("{s:i}", "fdset-id", 4), two, 1, generous(),
                              NULL, &error),
                 QMP_DONE);
    CHECK_NUMBER(qmp_call_fds(qmp, "x", NULL, two, 2, generous(), NULL, &error), QMP_DONE);
    CHECK(scratch_holds(&fake.scratch, "commands",
                        "{\"n\":1,\"execute\":\"add-fd\",\"arguments\":{\"fdset-id\":4},"
                        "\"descriptors\":1}\n"
                        "{\"n\":2,\"execute\":\"x\",\"arguments\":{},\"descriptors\":2}\n"));
    CHECK(fcntl(0, F_GETFD) >= 0 && fcntl(1, F_GETFD) >= 0);
    int many[17] = {0};
    CHECK_NUMBER(qmp_call_fds(qmp, "x", NULL, many, 17, generous(), NULL, &error), QMP_REFUSED);
    return true;
}

/* Greets, accepts the first command, and goes; the socket stays open in the parent. */
__attribute__((noreturn)) static void greet_and_end(int server)
{
    char line[512];
    dprintf(server, "{\"QMP\":{}}");
    ssize_t got = read(server, line, sizeof(line));
    AUTO_JSON json_t *command = json_loadb(line, got > 0 ? (size_t)got : 0, 0, NULL);
    dprintf(server, "{\"return\":{},\"id\":%lld}", (long long)json_number(command, "id", 0));
    _exit(0);
}

TEST(not_reading, "a server that reads nothing does not hang the sender")
{
    enum { SIZE = 1024 * 1024, LONG_ENOUGH_MS = 1000 }; /* to make the text with sanitizers on */
    int pair[2];
    struct error error;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    AUTO_CLOSE int server = pair[1];
    pid_t greeter = fork();
    if (greeter == 0)
        greet_and_end(server);
    AUTO_QMP struct qmp *qmp = qmp_adopt(pair[0], "pair", false, generous(), &error);
    waitpid(greeter, NULL, 0);
    CHECK(qmp != NULL);
    CHECK(qmp_version(qmp) == NULL);
    AUTO_FREE char *text = memory_zeroed(SIZE + 1, 1);
    memset(text, 'x', SIZE);
    CHECK_NUMBER(qmp_call(qmp, "set", json_pack("{s:s}", "text", text),
                          clock_deadline(LONG_ENOUGH_MS), NULL, &error),
                 QMP_UNKNOWN);
    CHECK_NUMBER(error.status, STATUS_TIMEOUT);
    CHECK_HAS(error.text, "sent in part");
    CHECK_NUMBER(qmp_call(qmp, "cont", NULL, generous(), NULL, &error), QMP_REFUSED);
    return true;
}

TEST(out_of_band, "out of band works where it was negotiated")
{
    struct error error;
    AUTO_FAKE struct fake fake = fake_begin("");
    AUTO_QMP struct qmp *plain_one = connect_to(&fake, &error);
    CHECK(plain_one != NULL);
    CHECK_NUMBER(qmp_call_oob(plain_one, "yank", NULL, generous(), NULL, &error), QMP_REFUSED);
    qmp_release(&plain_one);
    AUTO_QMP struct qmp *qmp = qmp_connect(fake.socket, true, generous(), &error);
    CHECK(qmp != NULL);
    CHECK_NUMBER(qmp_call_oob(qmp, "yank", NULL, generous(), NULL, &error), QMP_DONE);
    return true;
}

static const struct qmp_request questions[] = {
    {"query-status", NULL}, {"query-migrate", NULL}, {"query-pci", NULL}};
enum { QUESTIONS = sizeof(questions) / sizeof(questions[0]) };

static const char *status_now(struct qmp *qmp, json_t **result)
{
    struct error error;

    if (qmp_call(qmp, "query-status", NULL, generous(), result, &error) != QMP_DONE)
        return error.text[0] != '\0' ? "refused" : "";
    return json_text(*result, "status");
}

TEST(ahead, "a query sent ahead is answered once, in any order, and a refusal is its own")
{
    struct error error;
    AUTO_FAKE struct fake fake = fake_begin("return 1 {\"status\":\"first\"}\n"
                                            "fail 2 GenericError not now\n"
                                            "return 4 {\"status\":\"fourth\"}\n");
    AUTO_QMP struct qmp *qmp = qmp_connect(fake.socket, true, generous(), &error);
    CHECK(qmp != NULL);
    qmp_ahead(qmp, questions, QUESTIONS, -1);
    CHECK_NUMBER(qmp_call(qmp, "query-migrate", NULL, generous(), NULL, &error), QMP_REFUSED);
    CHECK_TEXT(error.text, "query-migrate: not now");
    AUTO_JSON json_t *first = NULL, *fourth = NULL;
    CHECK_TEXT(status_now(qmp, &first), "first");
    CHECK_TEXT(status_now(qmp, &fourth), "fourth");
    return true;
}

TEST(ahead_of_all, "queries go along with the negotiation, where it brings oob")
{
    struct error error;
    AUTO_FAKE struct fake fake = fake_begin("return 1 {\"status\":\"first\"}\n");
    AUTO_QMP struct qmp *qmp =
        qmp_connect_asking(fake.socket, fake.pid, questions, 2, generous(), &error);
    CHECK(qmp != NULL);
    AUTO_JSON json_t *first = NULL;
    CHECK_NUMBER(qmp_call(qmp, "query-migrate", NULL, generous(), NULL, &error), QMP_DONE);
    CHECK_TEXT(status_now(qmp, &first), "first");
    CHECK(scratch_holds(&fake.scratch, "commands",
                        "{\"n\":1,\"execute\":\"query-status\",\"arguments\":{},"
                        "\"descriptors\":0}\n"
                        "{\"n\":2,\"execute\":\"query-migrate\",\"arguments\":{},"
                        "\"descriptors\":0}\n"));
    return true;
}

TEST(ahead_stale, "an answer from before another command is not taken")
{
    struct error error;
    AUTO_FAKE struct fake fake = fake_begin("return 1 {\"status\":\"early\"}\n"
                                            "return 5 {\"status\":\"late\"}\n");
    AUTO_QMP struct qmp *qmp = qmp_connect(fake.socket, true, generous(), &error);
    CHECK(qmp != NULL);
    qmp_ahead(qmp, questions, QUESTIONS, -1);
    CHECK_NUMBER(qmp_call(qmp, "cont", NULL, generous(), NULL, &error), QMP_DONE);
    AUTO_JSON json_t *late = NULL;
    CHECK_TEXT(status_now(qmp, &late), "late");
    return true;
}

TEST(ahead_lost, "a connection that ends between two answers is lost for the second")
{
    struct error error;
    AUTO_FAKE struct fake fake = fake_begin("close 2\n");
    AUTO_QMP struct qmp *qmp = qmp_connect(fake.socket, true, generous(), &error);
    CHECK(qmp != NULL);
    qmp_ahead(qmp, questions, QUESTIONS, -1);
    AUTO_JSON json_t *result = NULL;
    CHECK_TEXT(status_now(qmp, &result), "running");
    CHECK_NUMBER(qmp_call(qmp, "query-migrate", NULL, generous(), NULL, &error), QMP_UNKNOWN);
    return true;
}

TEST(ahead_in_band, "without oob nothing is sent ahead")
{
    struct error error;
    AUTO_FAKE struct fake fake = fake_begin("return 1 {\"status\":\"first\"}\n");
    AUTO_QMP struct qmp *qmp = connect_to(&fake, &error);
    CHECK(qmp != NULL);
    qmp_ahead(qmp, questions + 1, QUESTIONS - 1, -1);
    AUTO_JSON json_t *result = NULL;
    CHECK_TEXT(status_now(qmp, &result), "first");
    return true;
}

TEST(ahead_arguments, "an answer belongs to its arguments, and the descriptor to the first of them")
{
    struct error error;
    AUTO_FAKE struct fake fake = fake_begin("fail 2 GenericError no such node\n");
    AUTO_QMP struct qmp *qmp = qmp_connect(fake.socket, true, generous(), &error);
    CHECK(qmp != NULL);
    const struct qmp_request requests[] = {
        {"add-fd", json_pack("{s:i}", "fdset-id", 4)},
        {"blockdev-add", json_pack("{s:s}", "node-name", "mine")}};
    qmp_ahead(qmp, requests, 2, 0);
    CHECK_NUMBER(qmp_call_fds(qmp, "add-fd", json_pack("{s:i}", "fdset-id", 4), (int[]){0}, 1,
                              generous(), NULL, &error),
                 QMP_DONE);
    CHECK_NUMBER(qmp_call(qmp, "blockdev-add", json_pack("{s:s}", "node-name", "mine"), generous(),
                          NULL, &error),
                 QMP_REFUSED);
    CHECK_TEXT(error.text, "blockdev-add: no such node");
    qmp_ahead(qmp, (struct qmp_request[]){{"set_link", json_pack("{s:b}", "up", 0)}}, 1, -1);
    CHECK_NUMBER(qmp_call(qmp, "set_link", json_pack("{s:b}", "up", 1), generous(), NULL, &error),
                 QMP_DONE);
    CHECK(scratch_holds(
        &fake.scratch, "commands",
        "{\"n\":1,\"execute\":\"add-fd\",\"arguments\":{\"fdset-id\":4},"
        "\"descriptors\":1}\n"
        "{\"n\":2,\"execute\":\"blockdev-add\",\"arguments\":{\"node-name\":\"mine\"},"
        "\"descriptors\":0}\n"
        "{\"n\":3,\"execute\":\"set_link\",\"arguments\":{\"up\":false},"
        "\"descriptors\":0}\n"
        "{\"n\":4,\"execute\":\"set_link\",\"arguments\":{\"up\":true},"
        "\"descriptors\":0}\n"));
    return true;
}

static json_t *device(const char *id)
{
    return json_pack("{s:s, s:s}", "driver", "virtio-blk-pci", "id", id);
}

TEST(prepared, "a prepared command is executed by its call, and never without it")
{
    struct error error;
    AUTO_FAKE struct fake fake = fake_begin("");
    AUTO_QMP struct qmp *qmp = qmp_connect(fake.socket, true, generous(), &error);
    CHECK(qmp != NULL);
    qmp_ahead_prepare(qmp, questions, 1, -1, "device_add", device("one"));
    qmp_prepare(qmp, "device_add", device("never")); /* one at a time */
    AUTO_JSON json_t *result = NULL;
    CHECK_TEXT(status_now(qmp, &result), "running");
    CHECK_NUMBER(qmp_call(qmp, "device_add", device("one"), generous(), NULL, &error), QMP_DONE);
    /* with another behind it; by a call of another; by the same with other arguments; by the end */
    qmp_prepare(qmp, "device_add", device("two"));
    qmp_ahead(qmp, (struct qmp_request[]){{"device_add", device("two")}, questions[1]}, 2, -1);
    CHECK_NUMBER(qmp_call(qmp, "device_add", device("two"), generous(), NULL, &error), QMP_DONE);
    CHECK_NUMBER(qmp_call(qmp, "query-migrate", NULL, generous(), NULL, &error), QMP_DONE);
    qmp_prepare(qmp, "system_wakeup", NULL);
    CHECK_NUMBER(qmp_call(qmp, "system_wakeup", NULL, generous(), NULL, &error), QMP_DONE);
    qmp_prepare(qmp, "device_add", device("three"));
    CHECK_NUMBER(qmp_call(qmp, "stop", NULL, generous(), NULL, &error), QMP_DONE);
    qmp_prepare(qmp, "device_add", device("four"));
    CHECK_NUMBER(qmp_call(qmp, "device_add", device("five"), generous(), NULL, &error), QMP_DONE);
    qmp_prepare(qmp, "device_add", device("six"));
    qmp_release(&qmp);
    AUTO_QMP struct qmp *next = qmp_connect(fake.socket, true, generous(), &error);
    CHECK(next != NULL);
    CHECK_NUMBER(qmp_call(next, "cont", NULL, generous(), NULL, &error), QMP_DONE);
#define DEVICE(id) "{\"driver\":\"virtio-blk-pci\",\"id\":\"" id "\"}"
#define SENT(n, command, arguments)                                                                \
    "{\"n\":" n ",\"execute\":\"" command "\",\"arguments\":" arguments ",\"descriptors\":0}\n"
    CHECK(scratch_holds(&fake.scratch, "commands",
                        SENT("1", "query-status", "{}") SENT("2", "device_add", DEVICE("one"))
                            SENT("3", "device_add", DEVICE("two")) SENT("4", "query-migrate", "{}")
                                SENT("5", "system_wakeup", "{}") SENT("6", "-", DEVICE("three"))
                                    SENT("7", "stop", "{}") SENT("8", "-", DEVICE("four"))
                                        SENT("9", "device_add", DEVICE("five"))
                                            SENT("10", "cont", "{}")));
    return true;
}

TEST(prepared_in_band, "without oob nothing is prepared")
{
    struct error error;
    AUTO_FAKE struct fake fake = fake_begin("");
    AUTO_QMP struct qmp *qmp = connect_to(&fake, &error);
    CHECK(qmp != NULL);
    qmp_prepare(qmp, "device_add", device("one"));
    CHECK_NUMBER(qmp_call(qmp, "cont", NULL, generous(), NULL, &error), QMP_DONE);
    CHECK(scratch_holds(&fake.scratch, "commands", SENT("1", "cont", "{}")));
    return true;
}

TEST(refused_late, "a negotiation that is refused fails the first call, and the connection")
{
    struct error error;
    AUTO_FAKE struct fake fake = fake_begin("fail qmp_capabilities GenericError not today\n");
    AUTO_QMP struct qmp *qmp =
        qmp_connect_asking(fake.socket, fake.pid, questions, 2, generous(), &error);
    CHECK(qmp != NULL);
    CHECK_NUMBER(qmp_call(qmp, "query-status", NULL, generous(), NULL, &error), QMP_REFUSED);
    CHECK_HAS(error.text, "qmp_capabilities: not today");
    CHECK_NUMBER(qmp_call(qmp, "query-status", NULL, generous(), NULL, &error), QMP_REFUSED);
    return true;
}

TEST(wrong_peer, "nothing is sent to a server that is another process")
{
    struct error error;
    AUTO_FAKE struct fake fake = fake_begin("");
    CHECK(qmp_connect_peer(fake.socket, getpid(), false, generous(), &error) == NULL);
    CHECK_HAS(error.text, "its server is pid");
    AUTO_QMP struct qmp *qmp = qmp_connect_peer(fake.socket, fake.pid, false, generous(), &error);
    CHECK(qmp != NULL);
    return true;
}

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1 /* as gcc has it */
#endif
#endif

TEST(flat_memory, "all of it took less than 64 MiB")
{
#ifdef __SANITIZE_ADDRESS__
    return true; /* the sanitizer keeps what was freed */
#else
    struct rusage usage;
    CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
    printf("# at most %ld KiB\n", usage.ru_maxrss);
    CHECK(usage.ru_maxrss < 64 * 1024);
    return true;
#endif
}

UNIT_MAIN(UNIT(plain), UNIT(shapes), UNIT(early_events), UNIT(two_greetings), UNIT(other_ids),
          UNIT(refusals), UNIT(broken), UNIT(big_numbers), UNIT(big_reply), UNIT(bracket_bomb),
          UNIT(flood), UNIT(waiting), UNIT(banners), UNIT(silence), UNIT(backlog), UNIT(nobody),
          UNIT(no_reply), UNIT(dead_connection), UNIT(descriptors), UNIT(not_reading),
          UNIT(out_of_band), UNIT(ahead), UNIT(ahead_of_all), UNIT(ahead_stale), UNIT(ahead_lost),
          UNIT(ahead_in_band), UNIT(ahead_arguments), UNIT(prepared), UNIT(prepared_in_band),
          UNIT(refused_late), UNIT(wrong_peer), UNIT(flat_memory))
