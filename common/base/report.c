/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>

#include "kvm/base/report.h"
#include "kvm/base/log.h"
#include "kvm/base/memory.h"

struct telling {
    const struct report *report;
    parallel_work work;
    void *context;
};

static void do_work(void *context, size_t index, struct result *result)
{
    const struct telling *telling = context;
    telling->work(telling->context, index, result);
}

static void tell(void *context, size_t index, const struct result *result)
{
    const struct telling *telling = context;

    (void)index;
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
    if (telling->report->json)
        return;
    printf("%s: %s\n", result->subject, result->text != NULL ? result->text : "done");
    if (telling->report->details != NULL)
        telling->report->details(result);
    fflush(stdout);
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
    struct telling telling = {report, work, context};
    AUTO_FREE struct result *results = memory_zeroed(count, sizeof(*results));
    enum status status = parallel_run(count, limit, do_work, tell, &telling, results);

    if (report->json)
        print_json(count, results);
    for (size_t i = 0; i < count; i++)
        result_release(&results[i]);
    return status;
}
