/* SPDX-License-Identifier: BSD-2-Clause */
/* What is sent before its call: queries, commands with descriptors, and one that only waits for the call. */
#include "kvm/base/json.h"
#include "kvm/qemu/qmp.h"
#include "fake.h"
#include "unit.h"

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
    AUTO_QMP struct qmp *qmp = fake_connect(&fake, &error);
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
    AUTO_QMP struct qmp *qmp = fake_connect(&fake, &error);
    CHECK(qmp != NULL);
    qmp_prepare(qmp, "device_add", device("one"));
    CHECK_NUMBER(qmp_call(qmp, "cont", NULL, generous(), NULL, &error), QMP_DONE);
    CHECK(scratch_holds(&fake.scratch, "commands", SENT("1", "cont", "{}")));
    return true;
}

TEST(ahead_in_part, "of commands that were sent ahead in part none is said to have had no effect")
{
    enum { SIZE = 1024 * 1024 };
    struct error error;
    int end = -1;
    AUTO_QMP struct qmp *qmp = greeted_by_nobody(true, &end);
    AUTO_CLOSE int server = end;
    CHECK(qmp != NULL && server >= 0);
    AUTO_FREE char *text = memory_zeroed(SIZE + 1, 1);
    memset(text, 'x', SIZE);
    const struct qmp_request requests[] = {{"cont", NULL},
                                           {"set", json_pack("{s:s}", "text", text)}};
    qmp_ahead(qmp, requests, 2, -1);
    CHECK_NUMBER(qmp_call(qmp, "cont", NULL, generous(), NULL, &error), QMP_UNKNOWN);
    CHECK_HAS(error.text, "sent in part; whether it took effect is not known");
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

UNIT_MAIN(UNIT(ahead), UNIT(ahead_of_all), UNIT(ahead_stale), UNIT(ahead_lost), UNIT(ahead_in_band),
          UNIT(ahead_arguments), UNIT(prepared), UNIT(prepared_in_band), UNIT(ahead_in_part),
          UNIT(refused_late))
