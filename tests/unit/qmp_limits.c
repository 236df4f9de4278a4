/* SPDX-License-Identifier: BSD-2-Clause */
/* How messages are told apart, what is none, and how much of it is taken. */
#include <sys/resource.h>
#include "kvm/base/json.h"
#include "kvm/qemu/qmp.h"
#include "fake.h"
#include "unit.h"

TEST(shapes, "line breaks and the size of reads do not matter")
{
    struct error error;
    const char *const scripts[] = {"bytewise\n", "pretty\n", "bytewise\npretty\n"};
    for (size_t i = 0; i < 3; i++) {
        AUTO_JSON json_t *result = NULL;
        CHECK_NUMBER(fake_ask(scripts[i], &result, &error), QMP_DONE);
        CHECK_TEXT(json_text(result, "status"), "running");
    }
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
        CHECK_NUMBER(fake_ask(scripts[i][0], NULL, &error), QMP_UNKNOWN);
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
    CHECK_NUMBER(
        fake_ask("raw query-status {\"return\":{\"n\":18446744073709551616},\"id\":@ID@}\n",
                 &result, &error),
        QMP_DONE);
    CHECK(json_real_value(json_object_get(result, "n")) > 1.8e19);
    return true;
}

TEST(big_reply, "a reply of 8 MiB arrives whole")
{
    struct error error;
    AUTO_JSON json_t *result = NULL;
    CHECK_NUMBER(fake_ask("big query-status 8388608\n", &result, &error), QMP_DONE);
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
    CHECK_NUMBER(fake_ask(script, NULL, &error), QMP_UNKNOWN);
    CHECK_HAS(error.text, "more than 48 MiB");
    return true;
}

TEST(flood, "a flood of a million events is answered through, and DEVICE_DELETED outlives it")
{
    AUTO_FAKE struct fake fake =
        fake_begin("behind stop {\"event\":\"DEVICE_DELETED\",\"data\":{\"device\":\"d\"}}\n"
                   "flood query-status 1000000\n");
    struct error error;
    AUTO_QMP struct qmp *qmp = fake_connect(&fake, &error);
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

UNIT_MAIN(UNIT(shapes), UNIT(broken), UNIT(big_numbers), UNIT(big_reply), UNIT(bracket_bomb),
          UNIT(flood), UNIT(flat_memory))
