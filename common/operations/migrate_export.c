/* SPDX-License-Identifier: BSD-2-Clause */
/* QEMU's NBD server on the target, through which the source writes the disks until the vote. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "migrate_disks.h"
#include "migrate_serving.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/qemu/device.h"

static const struct disk *disk_of(const struct runtime *runtime, const char *uuid)
{
    const struct instance *instance = &runtime->instance;

    for (size_t i = 0; i < instance->disk_count; i++)
        if (strcmp(instance->disks[i].uuid, uuid) == 0)
            return &instance->disks[i];
    return NULL;
}

/* ---- holes stay holes ---- */

/* The fd set that the image came in; false when QEMU does not tell it. */
static bool fd_set_of(struct qmp *qmp, const char *node, deadline_t deadline, int64_t *set)
{
    static const char place[] = "/dev/fdset/";
    AUTO_JSON json_t *nodes = NULL;
    size_t i;
    json_t *one;

    if (qmp_call(qmp, "query-named-block-nodes", memory_json(json_pack("{s:b}", "flat", 1)),
                 deadline, &nodes, NULL) != QMP_DONE)
        return false;
    json_array_foreach (nodes, i, one) {
        const char *name = json_text(one, "node-name"), *file = json_text(one, "file");
        if (name != NULL && file != NULL && strcmp(name, node) == 0 &&
            strncmp(file, place, strlen(place)) == 0)
            return text_number(file + strlen(place), 0, INT32_MAX, set);
    }
    return false;
}

static void set_discard(json_t *node)
{
    json_object_set_new(node, "discard", memory_json(json_string("unmap")));
    if (json_is_object(json_object_get(node, "file")))
        set_discard(json_object_get(node, "file"));
}

/* A mirror writes zeroes where the source has holes; only a node with discard "unmap" makes them holes again. Only so long
 * as the disk is copied, unless the guest's own discards may do it as well; where it can't be, the file is filled. */
static void keep_holes(const struct runtime *runtime, struct qmp *qmp, bool on, deadline_t deadline)
{
    const char *uuid;
    json_t *record;

    json_object_foreach (migration_disks(runtime), uuid, record) {
        const struct disk *disk = disk_of(runtime, uuid);
        const char *node = disk == NULL ? NULL : json_text(disk->hvinfo, "id");
        struct disk_settings settings;
        int64_t set = 0;
        if (node == NULL || json_text(record, "inode") == NULL)
            continue;
        disk_settings(disk, &runtime->instance, &settings);
        if (strcmp(settings.format, "raw") != 0 || strcmp(settings.discard, "unmap") == 0 ||
            !fd_set_of(qmp, node, deadline, &set))
            continue;
        json_t *options = device_blockdev(disk, &runtime->instance, (int)set, false);
        if (on)
            set_discard(options);
        qmp_call(qmp, "blockdev-reopen", memory_json(json_pack("{s:[o]}", "options", options)),
                 deadline, NULL, NULL);
    }
}

/* ---- the server ---- */

/* Who connects and says nothing takes a place and must not take the source's; still there must be an end. */
enum { STRANGERS_MOST = 100 };

static int start_server(struct serving *serving, const json_t *request, struct qmp *qmp,
                        int64_t *port, deadline_t deadline, struct error *error)
{
    const char *address = json_text(request, "address");
    AUTO_CLOSE int listener = -1;

    /* Ours, so that the port is taken for sure, and a QEMU without rights can have it. */
    if (channel_listen(address != NULL ? address : "127.0.0.1", port, &listener, error) < 0 ||
        channel_pass(qmp, listener, "kvm-suite-nbd", deadline, error) < 0)
        return -1;
    json_t *arguments = memory_json(json_pack(
        "{s:{s:s, s:{s:s}}, s:I}", "addr", "type", "fd", "data", "str", "kvm-suite-nbd",
        "max-connections",
        (json_int_t)json_object_size(migration_disks(&serving->session.runtime)) + STRANGERS_MOST));
    if (json_truth(request, "tls", true))
        json_object_set_new(arguments, "tls-creds", memory_json(json_string("kvm-suite-tls")));
    return qmp_call(qmp, "nbd-server-start", arguments, deadline, NULL, error) == QMP_DONE ? 0 : -1;
}

int exports_open(struct serving *serving, const json_t *request, struct qmp *qmp, int64_t *port,
                 struct error *error)
{
    struct runtime *runtime = &serving->session.runtime;
    deadline_t deadline = clock_deadline(MIGRATE_ANSWER_MS / 2);
    const char *uuid;
    json_t *record;

    *port = json_number(request, "disk_port", 0);
    if (migration_disks(runtime) == NULL)
        return 0;
    keep_holes(runtime, qmp, true, deadline);
    if (start_server(serving, request, qmp, port, deadline, error) < 0)
        return error_prefix(error, "a way for the disks");
    AUTO_FREE char *recorded = memory_format("%lld", (long long)*port);
    migration_set_text(runtime, "disk_port", recorded);
    json_object_foreach (migration_disks(runtime), uuid, record) {
        const struct disk *disk = disk_of(runtime, uuid);
        AUTO_FREE char *id = memory_format("kvm-copy-%s", uuid);
        json_t *arguments = memory_json(json_pack(
            "{s:s, s:s, s:s*, s:s, s:b}", "type", "nbd", "id", id, "node-name",
            disk == NULL ? NULL : json_text(disk->hvinfo, "id"), "name", uuid, "writable", 1));
        if (qmp_call(qmp, "block-export-add", arguments, deadline, NULL, error) != QMP_DONE)
            return error_prefix(error, "a way for disk %s", uuid);
    }
    return 0;
}

/* ---- its end ---- */

/* Before 9.1 nbd-server-stop waits, and all of QEMU with it, for a stranger who has connected and says nothing (seen on
 * 7.2). The source has let go by now. */
static void hang_up_strangers(const struct session *session)
{
    const char *recorded = migration_text(&session->runtime, "disk_port");
    int64_t port = 0;

    if (recorded != NULL && text_number(recorded, 1, UINT16_MAX, &port))
        channel_hang_up_process(session->process.pid, session->process.pidfd, port);
}

static int stop_server(struct qmp *qmp, deadline_t deadline, struct error *error)
{
    AUTO_JSON json_t *exports = NULL;
    enum qmp_outcome outcome = qmp_call(qmp, "nbd-server-stop", NULL, deadline, NULL, error);

    if (outcome == QMP_UNKNOWN)
        return -1;
    /* Refused when it was stopped before. What counts is that nobody can write any more. */
    struct error again = {0};
    for (;;) {
        if (qmp_call(qmp, "query-block-exports", NULL, deadline, &exports, &again) != QMP_DONE)
            return error_set(error, STATUS_FAILED, "%s", again.text);
        if (json_array_size(exports) == 0)
            return 0;
        if (clock_passed(deadline))
            return error_set(error, STATUS_FAILED, "the source still holds the disks' exports");
        json_decref(exports);
        exports = NULL;
        clock_sleep_ms(1);
    }
}

static int sync_one(const char *path, struct error *error)
{
    AUTO_CLOSE int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    return file < 0 || fsync(file) < 0 ? error_errno(error, STATUS_FAILED, "%s", path) : 0;
}

int exports_close(const struct session *session, struct qmp *qmp, deadline_t deadline,
                  struct error *error)
{
    const struct runtime *runtime = &session->runtime;
    const char *uuid;
    json_t *record;

    if (migration_disks(runtime) == NULL)
        return 0;
    hang_up_strangers(session);
    if (stop_server(qmp, deadline, error) < 0)
        return error_prefix(error, "the way of the disks");
    keep_holes(runtime, qmp, false, deadline);
    /* What the guest was told to be written must outlive a power cut here as well. */
    json_object_foreach (migration_disks(runtime), uuid, record)
        if (json_text(record, "path") != NULL && sync_one(json_text(record, "path"), error) < 0)
            return -1;
    return 0;
}
