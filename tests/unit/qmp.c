/* SPDX-License-Identifier: BSD-2-Clause */
/* A command and its one outcome, whatever else the server says meanwhile; and the events. */
#include "kvm/base/json.h"
#include "kvm/qemu/qmp.h"
#include "fake.h"
#include "unit.h"

TEST(plain, "a command has a result, the server a version and a pid")
{
    AUTO_FAKE struct fake fake = fake_begin("");
    struct error error;
    AUTO_QMP struct qmp *qmp = fake_connect(&fake, &error);
    CHECK(qmp != NULL);
    CHECK_NUMBER(qmp_peer(qmp), fake.pid);
    CHECK_NUMBER(json_number(qmp_version(qmp), "major", 0), 7);
    AUTO_JSON json_t *result = NULL;
    CHECK_NUMBER(qmp_call(qmp, "query-status", NULL, generous(), &result, &error), QMP_DONE);
    CHECK_TEXT(json_text(result, "status"), "running");
    CHECK_TEXT(qmp_error_class(qmp), "");
    return true;
}

TEST(two_greetings, "a second greeting is no answer")
{
    struct error error;
    AUTO_JSON json_t *result = NULL;
    CHECK_NUMBER(fake_ask("greeting {\"QMP\":{\"capabilities\":[]}}{\"QMP\":{\"version\":{}}}\n",
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
        fake_ask("ahead query-status {\"return\":1,\"id\":\"other\"}{\"return\":2}"
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
    AUTO_QMP struct qmp *qmp = fake_connect(&fake, &error);
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

TEST(no_reply, "a command without a reply ends in time, and the next one has its own")
{
    struct error error;
    AUTO_FAKE struct fake fake = fake_begin("silent stop\n");
    AUTO_QMP struct qmp *qmp = fake_connect(&fake, &error);
    CHECK(qmp != NULL);
    CHECK_NUMBER(qmp_call(qmp, "stop", NULL, soon(), NULL, &error), QMP_UNKNOWN);
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
    AUTO_QMP struct qmp *qmp = fake_connect(&fake, &error);
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
    AUTO_QMP struct qmp *qmp = fake_connect(&fake, &error);
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

TEST(not_reading, "a server that reads nothing does not hang the sender")
{
    enum { SIZE = 1024 * 1024, LONG_ENOUGH_MS = 1000 }; /* to make the text with sanitizers on */
    int end = -1;
    struct error error;
    AUTO_QMP struct qmp *qmp = greeted_by_nobody(false, &end);
    AUTO_CLOSE int server = end;
    CHECK(qmp != NULL && server >= 0);
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
    AUTO_QMP struct qmp *plain_one = fake_connect(&fake, &error);
    CHECK(plain_one != NULL);
    CHECK_NUMBER(qmp_call_oob(plain_one, "yank", NULL, generous(), NULL, &error), QMP_REFUSED);
    qmp_release(&plain_one);
    AUTO_QMP struct qmp *qmp = qmp_connect(fake.socket, true, generous(), &error);
    CHECK(qmp != NULL);
    CHECK_NUMBER(qmp_call_oob(qmp, "yank", NULL, generous(), NULL, &error), QMP_DONE);
    return true;
}

TEST(early_events, "events ahead of the greeting and of a reply are kept, in their order")
{
    AUTO_FAKE struct fake fake = fake_begin(
        "before {\"event\":\"A\",\"n\":1}\\r\\n{\"event\":\"B\"}{\"event\":\"A\",\"n\":2}\n"
        "ahead query-status {\"event\":\"A\",\"n\":3}\n");
    struct error error;
    AUTO_QMP struct qmp *qmp = fake_connect(&fake, &error);
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
    AUTO_QMP struct qmp *qmp = fake_connect(&fake, &error);
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

UNIT_MAIN(UNIT(plain), UNIT(two_greetings), UNIT(other_ids), UNIT(refusals), UNIT(no_reply),
          UNIT(dead_connection), UNIT(descriptors), UNIT(not_reading), UNIT(out_of_band),
          UNIT(early_events), UNIT(waiting))
