/* SPDX-License-Identifier: BSD-2-Clause */
/* The mirrors as QEMU has them, whichever command has begun them: told, awaited, ended. */
#include <string.h>

#include "migrate_disks.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/qemu/peripheral.h"

enum { POLL_MS = 1, DROP_MS = 10000 };

static const char prefix[] = "kvm-copy-";

static bool is_ours(const char *name)
{
    return name != NULL && strncmp(name, prefix, strlen(prefix)) == 0;
}

json_t *copies_query(struct qmp *qmp, const char *question, json_t *arguments, deadline_t deadline,
                     struct error *error)
{
    json_t *list = NULL;
    return qmp_call(qmp, question, arguments, deadline, &list, error) == QMP_DONE ? list : NULL;
}

static size_t our_jobs(const json_t *jobs)
{
    size_t i, count = 0;
    json_t *job;

    json_array_foreach (jobs, i, job)
        count += is_ours(json_text(job, "device"));
    return count;
}

json_t *copies_state(struct qmp *qmp, deadline_t deadline)
{
    AUTO_JSON json_t *jobs = copies_query(qmp, "query-block-jobs", NULL, deadline, NULL);
    json_t *state = memory_json(json_array()), *job;
    size_t i;

    json_array_foreach (jobs, i, job)
        if (is_ours(json_text(job, "device")))
            json_array_append_new(
                state,
                memory_json(json_pack("{s:s, s:I, s:I, s:b}", "mirror", json_text(job, "device"),
                                      "copied", (json_int_t)json_number(job, "offset", 0), "total",
                                      (json_int_t)json_number(job, "len", 0), "ready",
                                      (int)json_truth(job, "ready", false))));
    return state;
}

/* ---- their end ---- */

int copies_await_none(struct qmp *qmp, deadline_t deadline, struct error *error)
{
    for (;;) {
        AUTO_JSON json_t *jobs = copies_query(qmp, "query-block-jobs", NULL, deadline, error);
        if (jobs == NULL)
            return -1;
        if (our_jobs(jobs) == 0)
            return 0;
        if (clock_passed(deadline))
            return error_set(error, STATUS_FAILED, "the mirrors of the disks do not end");
        clock_sleep_ms(POLL_MS);
    }
}

void copies_yank(struct qmp *qmp, const struct runtime *runtime, deadline_t deadline)
{
    const char *uuid;
    json_t *disk;

    json_object_foreach (migration_disks(runtime), uuid, disk)
        qmp_call_oob(qmp, "yank",
                     memory_json(json_pack("{s:[{s:s, s:s*}]}", "instances", "type", "block-node",
                                           "node-name", json_text(disk, "mirror"))),
                     deadline, NULL, NULL);
}

int copies_cancel(struct qmp *qmp, deadline_t deadline, struct error *error)
{
    AUTO_JSON json_t *jobs = copies_query(qmp, "query-block-jobs", NULL, deadline, error);
    size_t i;
    json_t *job;

    if (jobs == NULL)
        return -1;
    json_array_foreach (jobs, i, job) {
        json_t *arguments =
            memory_json(json_pack("{s:s*, s:b}", "device", json_text(job, "device"), "force", 1));
        /* One that has ended meanwhile is refused. */
        if (!is_ours(json_text(job, "device")))
            json_decref(arguments);
        else if (qmp_call(qmp, "block-job-cancel", arguments, deadline, NULL, error) == QMP_UNKNOWN)
            return -1;
    }
    return 0;
}

int copies_drop(struct qmp *qmp, const struct runtime *runtime, deadline_t deadline,
                struct error *error)
{
    deadline_t end = clock_earlier(deadline, clock_deadline(DROP_MS));
    size_t i;
    json_t *node;

    if (migration_disks(runtime) == NULL)
        return 0;
    if (copies_cancel(qmp, end, error) < 0 || copies_await_none(qmp, end, error) < 0)
        return -1;
    AUTO_JSON json_t *nodes = copies_query(qmp, "query-named-block-nodes",
                                           memory_json(json_pack("{s:b}", "flat", 1)), end, error);
    if (nodes == NULL)
        return -1;
    json_array_foreach (nodes, i, node)
        if (is_ours(json_text(node, "node-name")) &&
            peripheral_remove_node(qmp, json_text(node, "node-name"), end, error) < 0)
            return -1;
    return 0;
}
