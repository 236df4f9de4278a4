/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kvm/base/report.h"
#include "kvm/base/clock.h"
#include "kvm/base/log.h"
#include "kvm/base/memory.h"

enum { LINE_EVERY_MS = 10000, JSON_EVERY_MS = 1000 };

struct telling {
    const struct report *report;
    parallel_work work;
    void *context;
    size_t count, done, failed;
    bool terminal;
    deadline_t next; /* line of progress, where it is not redrawn */
};

static void do_work(void *context, size_t index, struct result *result)
{
    const struct telling *telling = context;
    telling->work(telling->context, index, result);
}

static void tell(const struct report *report, const struct result *result)
{
    log_warnings(result->subject, &result->warnings);
    if (result->status != STATUS_DONE) {
        const char *text = result->text != NULL ? result->text : "failed without a reason";
        size_t length = strlen(result->subject);
        /* Problems of a definition begin with its file's name: it is not said twice. */
        if (strncmp(text, result->subject, length) == 0 && text[length] == ':')
            log_error("%s", text);
        else
            log_error("%s: %s", result->subject, text);
        return;
    }
    if (report->json)
        return;
    printf("%s: %s\n", result->subject, result->text != NULL ? result->text : "done");
    if (report->details != NULL)
        report->details(result);
    fflush(stdout);
}

/* How far it has come; the last item tells itself. */
static void show_progress(struct telling *telling)
{
    if (telling->done == telling->count)
        return;
    if (telling->terminal) {
        fprintf(stderr, "%zu of %zu done, %zu failed", telling->done, telling->count,
                telling->failed);
        fflush(stderr);
        return;
    }
    if (!clock_passed(telling->next))
        return;
    telling->next = clock_deadline(telling->report->json ? JSON_EVERY_MS : LINE_EVERY_MS);
    if (telling->report->json)
        fprintf(stderr, "{\"done\": %zu, \"count\": %zu, \"failed\": %zu}\n", telling->done,
                telling->count, telling->failed);
    else
        fprintf(stderr, "%s: %zu of %zu done, %zu failed\n", log_program(), telling->done,
                telling->count, telling->failed);
}

static void erase_progress(const struct telling *telling)
{
    if (telling->terminal)
        fputs("\r\033[K", stderr);
}

static void take(void *context, size_t index, const struct result *result)
{
    struct telling *telling = context;

    (void)index;
    telling->done++;
    telling->failed += result->status != STATUS_DONE;
    erase_progress(telling);
    tell(telling->report, result);
    show_progress(telling);
}

static void print_json(size_t count, const struct result *results)
{
    json_t *list = memory_json(json_array());

    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, result_json(&results[i]));
    json_dumpf(list, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(list);
}

enum status report_run(const struct report *report, size_t count, size_t limit, parallel_work work,
                       void *context)
{
    struct telling telling = {
        .report = report,
        .work = work,
        .context = context,
        .count = count,
        .terminal = count > 1 && !report->json && isatty(STDERR_FILENO) != 0,
        .next = clock_deadline(report->json ? JSON_EVERY_MS : LINE_EVERY_MS),
    };
    AUTO_FREE struct result *results = memory_zeroed(count, sizeof(*results));

    if (count > 1)
        show_progress(&telling);
    enum status status = parallel_run(count, limit, do_work, take, &telling, results);
    if (report->json)
        print_json(count, results);
    for (size_t i = 0; i < count; i++)
        result_release(&results[i]);
    return status;
}
