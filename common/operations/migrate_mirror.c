/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The source's disks onto the target's: an NBD client and a mirror for each.
 *
 * What the guest writes goes to both sides before it is told "written" (copy-mode write-blocking), from the start: so
 * the copying always ends, however hard the guest writes, and nothing is left to be sent when it is paused.
 */
#include <stdio.h>
#include <string.h>

#include "migrate_sending.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "kvm/qemu/peripheral.h"

enum {
    OPEN_SECONDS = 5,
    ALIVE_EVERY_MS = 2000,
    ANSWER_MS = 30000, /* of a session that is slow or was interrupted for a while */
};

static json_t *one_name(const char *key, const char *name)
{
    return memory_json(json_pack("{s:s}", key, name));
}

static bool is_about(const json_t *event, const void *context)
{
    const char *device = json_text(json_member(event, "data"), "device");
    return device != NULL && strcmp(device, context) == 0;
}

/* A mirror that is not there any more has told in its last event how it ended. */
static int tell_end(struct sending *sending, const struct copy *copy, bool wanted,
                    struct error *error)
{
    AUTO_JSON json_t *event = qmp_wait_event(sending->qmp, "BLOCK_JOB_COMPLETED", is_about,
                                             copy->client, clock_deadline(LOOK_MS), NULL);
    const json_t *data = json_member(event, "data");
    const char *why = json_text(data, "error");
    bool whole = event != NULL && why == NULL &&
                 json_number(data, "offset", -1) == json_number(data, "len", 0);

    if (wanted && whole)
        return 0;
    if (sending_was_cancelled(sending, error))
        return error_prefix(error, "copying disk %s to %s", copy->label, copy->path);
    return error_set(error, STATUS_FAILED, "copying disk %s to %s %s%s%s", copy->label, copy->path,
                     event == NULL ? "was cancelled" : "failed", why != NULL ? ": " : "",
                     why != NULL ? why : "");
}

static int failed(struct sending *sending, const struct copy *copy, struct error *error)
{
    return tell_end(sending, copy, false, error);
}

/* ---- the way there ---- */

/* The target's QEMU may hang while its node answers for it: the guest's writes would wait for it then. */
static int check_alive(struct sending *sending, struct error *error)
{
    if (remote_ask(&sending->remote, json_pack("{s:s}", "stage", "alive"),
                   clock_deadline(ANSWER_MS), NULL, error) == 0)
        return 0;
    if (error->status == STATUS_TIMEOUT) /* it is its time that is up, and ours is not waited for */
        error->status = STATUS_FAILED;
    return error_prefix(error, "copying the disks");
}

/* QEMU waits in blockdev-add, and the guest with it; from 7.0 on for a limited time. */
static bool knows_open_timeout(struct qmp *qmp)
{
    AUTO_JSON json_t *schema =
        copies_query(qmp, "query-qmp-schema", NULL, clock_deadline(SETUP_MS), NULL);
    size_t i, k;
    json_t *type, *member;

    json_array_foreach (schema, i, type) {
        json_array_foreach (json_member(type, "members"), k, member) {
            const char *name = json_text(member, "name");
            if (name != NULL && strcmp(name, "open-timeout") == 0)
                return true;
        }
    }
    return false;
}

static int add_client(struct sending *sending, const struct copy *copy, const char *host,
                      int64_t port, bool limited, struct error *error)
{
    const struct migrate_options *options = sending->options;
    AUTO_FREE char *service = memory_format("%lld", (long long)port);
    json_t *node = memory_json(json_pack(
        "{s:s, s:s, s:{s:s, s:s, s:s}, s:s}", "driver", "nbd", "node-name", copy->client, "server",
        "type", "inet", "host", host, "port", service, "export", copy->disk->uuid));

    if (!options->plain_tcp)
        json_object_set_new(node, "tls-creds", memory_json(json_string("kvm-suite-tls")));
    if (limited)
        json_object_set_new(node, "open-timeout", memory_json(json_integer(OPEN_SECONDS)));
    if (options->tls_x509 != NULL)
        json_object_set_new(node, "tls-hostname", memory_json(json_string(options->target)));
    if (qmp_call(sending->qmp, "blockdev-add", node, clock_deadline(MIGRATE_CONNECT_MS), NULL,
                 error) == QMP_DONE)
        return 0;
    error_prefix(error, "disk %s: connecting to %s port %s", copy->label, host, service);
    return error_append(error, "; is the way to the migration address and that port open?");
}

static int64_t bandwidth_of(const struct sending *sending)
{
    return json_number(json_member(sending->plan, "parameters"), "max-bandwidth", 0);
}

static int start_mirror(struct sending *sending, const struct copy *copy, struct error *error)
{
    json_t *arguments = memory_json(
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:I}", "job-id", copy->client, "device", copy->node,
                  "target", copy->client, "sync", "full", "copy-mode", "write-blocking", "speed",
                  (json_int_t)(bandwidth_of(sending) / (int64_t)sending->copies.count)));

    if (qmp_call(sending->qmp, "blockdev-mirror", arguments, clock_deadline(SETUP_MS), NULL,
                 error) == QMP_DONE)
        return 0;
    return error_prefix(error, "disk %s", copy->label);
}

int copies_begin(struct sending *sending, const json_t *answer, struct error *error)
{
    const struct qemu_process *process = &sending->session.process;
    struct copies *copies = &sending->copies;
    int64_t port = json_number(answer, "disk_port", 0);

    sending->copy_end = sending->options->deadline_ms >= 0
                            ? clock_deadline(sending->options->deadline_ms)
                            : DEADLINE_NEVER;
    if (copies->count == 0)
        return 0;
    sending_say(sending, "connect for the disks");
    AUTO_FREE char *host = channel_host(sending->address, error);
    if (host == NULL || check_alive(sending, error) < 0)
        return -1;
    bool limited = knows_open_timeout(sending->qmp);
    for (size_t i = 0; i < copies->count; i++)
        if (add_client(sending, &copies->items[i], host, port, limited, error) < 0)
            return -1;
    /* QEMU's own connections notice a cut link only by what we set. */
    channel_watch_process(process->pid, process->pidfd, port);
    sending_say(sending, "copy the disks");
    for (size_t i = 0; i < copies->count; i++)
        if (start_mirror(sending, &copies->items[i], error) < 0)
            return -1;
    return 0;
}

/* Those that are ready leave their share of the bandwidth to the others. */
static void share_bandwidth(struct sending *sending, size_t busy)
{
    const struct copies *copies = &sending->copies;

    for (size_t i = 0; bandwidth_of(sending) > 0 && i < copies->count; i++) {
        json_t *arguments = memory_json(
            json_pack("{s:s, s:I}", "device", copies->items[i].client, "speed",
                      (json_int_t)(bandwidth_of(sending) / (int64_t)(busy > 0 ? busy : 1))));
        qmp_call(sending->qmp, "block-job-set-speed", arguments, clock_deadline(SETUP_MS), NULL,
                 NULL);
    }
}

/* Take in how far they are; *busy is how many are not ready. */
static int look(struct sending *sending, size_t *busy, struct error *error)
{
    struct copies *copies = &sending->copies;
    AUTO_JSON json_t *jobs =
        copies_query(sending->qmp, "query-block-jobs", NULL, clock_deadline(SETUP_MS), error);

    *busy = 0;
    if (jobs == NULL)
        return -1;
    for (size_t i = 0; i < copies->count; i++) {
        struct copy *copy = &copies->items[i];
        const json_t *job = json_find(jobs, "device", copy->client);
        if (job == NULL)
            return failed(sending, copy, error);
        copy->copied = json_number(job, "offset", 0);
        copy->total = json_number(job, "len", 0);
        copy->ready = json_truth(job, "ready", false);
        *busy += !copy->ready;
    }
    return 0;
}

static void tell_progress(const struct sending *sending)
{
    struct migrate_progress progress = {
        .phase = "disks", .expected_downtime_ms = -1, .seconds = clock_wall() - sending->began};
    AUTO_FREE struct migrate_disk_progress *disks = copies_progress(&sending->copies);

    for (size_t i = 0; i < sending->copies.count; i++) {
        progress.total += disks[i].total;
        progress.transferred += disks[i].copied;
    }
    progress.remaining = progress.total - progress.transferred;
    progress.disks = disks;
    progress.disk_count = sending->copies.count;
    if (sending->options->progress != NULL)
        sending->options->progress(&progress);
}

struct migrate_disk_progress *copies_progress(const struct copies *copies)
{
    struct migrate_disk_progress *disks = memory_zeroed(copies->count + 1, sizeof(*disks));

    for (size_t i = 0; i < copies->count; i++)
        disks[i] = (struct migrate_disk_progress){copies->items[i].label, copies->items[i].copied,
                                                  copies->items[i].total, copies->items[i].ready};
    return disks;
}

static int check_deadline(struct sending *sending, struct error *error)
{
    enum migrate_on_deadline then = sending->options->on_deadline;

    if (!clock_passed(sending->copy_end) ||
        (then != ON_DEADLINE_NONE && then != ON_DEADLINE_CANCEL))
        return 0;
    sending->given_up = true;
    return error_set(error, STATUS_FAILED,
                     "the disks were not copied by the deadline; give it more time, or "
                     "more --bandwidth");
}

int copies_watch(struct sending *sending, struct error *error)
{
    size_t busy = sending->copies.count, before = busy;
    deadline_t ask = clock_deadline(ALIVE_EVERY_MS);

    while (busy > 0) {
        if (look(sending, &busy, error) < 0 ||
            (clock_passed(ask) && check_alive(sending, error) < 0))
            return -1;
        if (clock_passed(ask))
            ask = clock_deadline(ALIVE_EVERY_MS);
        tell_progress(sending);
        if (busy != before)
            share_bandwidth(sending, before = busy);
        if (sending_check_interrupted(sending, error) < 0 || check_deadline(sending, error) < 0)
            return -1;
        bool lost = false;
        if (busy > 0)
            json_decref(qmp_wait_event(sending->qmp, "BLOCK_JOB_READY", NULL, NULL,
                                       clock_deadline(LOOK_MS), &lost));
        if (process_wait_gone(sending->session.process.pidfd, clock_deadline(lost ? LOOK_MS : 0)))
            return error_set(error, STATUS_FAILED, "QEMU here has ended while copying");
    }
    return 0;
}

int copies_check(struct sending *sending, struct error *error)
{
    size_t busy = 0;
    return sending->copies.count == 0 ? 0 : look(sending, &busy, error);
}

/* ---- the end ---- */

/* A mirror that is ready and cancelled leaves a whole copy, and the guest with its old disk. */
int copies_finish(struct sending *sending, struct error *error)
{
    struct copies *copies = &sending->copies;
    deadline_t deadline = clock_deadline(SWITCH_MS);

    if (copies->count == 0)
        return 0;
    sending_say(sending, "end the mirrors of the disks");
    for (size_t i = 0; i < copies->count; i++) {
        struct copy *copy = &copies->items[i];
        json_t *arguments = one_name("device", copy->client);
        if (qmp_call(sending->qmp, "block-job-cancel", arguments, deadline, NULL, error) !=
            QMP_DONE)
            return failed(sending, copy, error);
    }
    if (copies_await_none(sending->qmp, deadline, error) < 0)
        return -1;
    for (size_t i = 0; i < copies->count; i++)
        if (tell_end(sending, &copies->items[i], true, error) < 0)
            return -1;
    for (size_t i = 0; i < copies->count; i++)
        if (peripheral_remove_node(sending->qmp, copies->items[i].client, deadline, error) < 0)
            return -1;
    return 0;
}
