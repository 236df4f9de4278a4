/* SPDX-License-Identifier: BSD-2-Clause */
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "kvm/base/clock.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/parallel.h"
#include "unit.h"

enum { ITEMS = 7 };

/* Told by the workers through the pipe: one byte at the begin, one at the end of each. */
struct shared {
    int ends[2];
    pid_t parent;
    int together; /* so many are to run at a time: the first of them wait for each other */
    int done[ITEMS];
    size_t done_count;
};

/* Until as many have begun, but not for ever. */
static void meet(const struct shared *shared)
{
    int told = 0;
    for (deadline_t deadline = clock_deadline(10000); !clock_passed(deadline); clock_sleep_ms(1))
        if (ioctl(shared->ends[0], FIONREAD, &told) == 0 && told >= shared->together)
            return;
}

static void work(void *context, size_t index, struct result *result)
{
    const struct shared *shared = context;
    bool told = write(shared->ends[1], "+", 1) == 1;
    if ((int)index < shared->together)
        meet(shared);
    else
        clock_sleep_ms(5); /* so that one too many would be seen */
    result->status = index == 3 ? STATUS_BUSY : STATUS_DONE;
    result->subject = memory_format("web%zu", index);
    result->text = memory_copy(index == 3 ? "busy \xff" : "started");
    result->detail =
        json_pack("{s:I, s:b}", "pid", (json_int_t)getpid(), "own", getpid() != shared->parent);
    if (index == 1)
        messages_add(&result->warnings, "a warning of %zu", index);
    if (index == 5)
        kill(getpid(), SIGKILL);
    if (!told || write(shared->ends[1], "-", 1) != 1)
        result->status = STATUS_FAILED;
}

static void done(void *context, size_t index, const struct result *result)
{
    struct shared *shared = context;
    shared->done[index] += result->subject != NULL;
    shared->done_count++;
}

TEST(carried, "results come back whole and in order, a crash is told and the highest status wins")
{
    struct shared shared = {.parent = getpid(), .together = 3};
    struct result results[ITEMS];
    CHECK(pipe(shared.ends) == 0);
    CHECK_NUMBER(parallel_run(ITEMS, 3, work, done, &shared, results), STATUS_INCOMPLETE);
    close(shared.ends[1]);
    CHECK_NUMBER(shared.done_count, ITEMS);
    for (size_t i = 0; i < ITEMS; i++)
        CHECK_NUMBER(shared.done[i], 1);
    CHECK_TEXT(results[0].subject, "web0");
    CHECK_TEXT(results[6].subject, "web6");
    CHECK(json_truth(results[6].detail, "own", false));
    CHECK_NUMBER(results[1].warnings.count, 1);
    CHECK_TEXT(results[1].warnings.items[0], "a warning of 1");
    CHECK_NUMBER(results[3].status, STATUS_BUSY);
    CHECK_TEXT(results[3].text, "busy \\xff");
    CHECK_NUMBER(results[5].status, STATUS_INCOMPLETE);
    CHECK_HAS(results[5].text, "signal 9");
    for (size_t i = 0; i < ITEMS; i++)
        result_release(&results[i]);
    char told[2 * ITEMS + 1];
    ssize_t length = read(shared.ends[0], told, sizeof told);
    close(shared.ends[0]);
    CHECK_NUMBER(length, 2 * ITEMS - 1);
    int now = 0, most = 0;
    for (ssize_t i = 0; i < length; i++) {
        now += told[i] == '+' ? 1 : -1;
        most = now > most ? now : most;
    }
    CHECK(most >= 3);
    CHECK(most <= 4); /* three, and the killed one, which never says "-" */
    return true;
}

TEST(single, "a single item runs in this process, and none is done")
{
    struct shared shared = {.parent = getpid()};
    struct result result;
    CHECK(pipe(shared.ends) == 0);
    CHECK_NUMBER(parallel_run(1, 4, work, done, &shared, &result), STATUS_DONE);
    CHECK_NUMBER(json_number(result.detail, "pid", 0), getpid());
    result_release(&result);
    CHECK_NUMBER(parallel_run(0, 4, work, done, &shared, NULL), STATUS_DONE);
    CHECK_NUMBER(shared.done_count, 1);
    CHECK_NUMBER(parallel_run(3, 0, work, NULL, &shared, NULL), STATUS_DONE);
    close(shared.ends[0]);
    close(shared.ends[1]);
    return true;
}

TEST(as_json, "a result is one object: instance, status, result or error, warnings, details")
{
    struct result result = {.status = STATUS_DONE,
                            .subject = memory_copy("web1"),
                            .text = memory_copy("started"),
                            .detail = json_pack("{s:i, s:s}", "pid", 7, "status", "not this")};
    AUTO_JSON json_t *good = result_json(&result);
    AUTO_FREE char *good_text = json_compact(good);
    result.status = STATUS_STATE;
    messages_add(&result.warnings, "w");
    AUTO_JSON json_t *bad = result_json(&result);
    AUTO_FREE char *bad_text = json_compact(bad);
    result_release(&result);
    CHECK_TEXT(good_text, "{\"instance\":\"web1\",\"status\":0,\"result\":\"started\","
                          "\"warnings\":[],\"pid\":7}");
    CHECK_TEXT(bad_text, "{\"instance\":\"web1\",\"status\":3,\"error\":\"started\","
                         "\"warnings\":[\"w\"],\"pid\":7}");
    return true;
}

UNIT_MAIN(UNIT(carried), UNIT(single), UNIT(as_json))
