/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "migrate_inplace.h"
#include "migrate_sending.h"
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/host/network.h"
#include "kvm/host/tap.h"

char *inplace_path(const char *run_dir)
{
    return memory_format("%s/next", run_dir);
}

bool inplace_is(const struct runtime *runtime)
{
    return migration_text(runtime, "in_place") != NULL;
}

/* By /proc/self/exe: it is this very program, whatever has been installed in its place since. The lock of the new side is
 * free as soon as the last session of a killed command has ended. */
int inplace_open_remote(struct remote *remote, const struct rundir *rundir, const struct node *node,
                        const char *name, struct error *error)
{
    const char *const words[] = {name,         "serve",    "--in-place",  "--run-dir", rundir->path,
                                 "--conf-dir", node->path, "--wait-lock", "5",         NULL};

    return remote_open(remote, "/proc/self/exe", words, error);
}

int inplace_connect(const struct sending *sending, const char *token, struct error *error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int stream = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    int length = snprintf(address.sun_path, sizeof(address.sun_path), "%s/next/ctrl/%s.tunnel",
                          sending->rundir->path, sending->name);
    if (stream >= 0 && length < (int)sizeof(address.sun_path) &&
        connect(stream, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
        file_write_all(stream, token, strlen(token)) == 0)
        return stream;
    error_errno(error, STATUS_FAILED, "%s", address.sun_path);
    memory_close(&stream);
    return -1;
}

/* ---- the taps ---- */

/* One NIC's tap in the hands of the live QEMU; false where it has none that could be reset. */
static bool open_tap(const struct session *session, size_t index, struct tap *tap)
{
    const struct nic *nic = &session->runtime.instance.nics[index];
    char name[TAP_NAME_SIZE];

    return network_read_tap(session->rundir, session->name, nic->uuid, name) &&
           tap_take(session->process.pid, session->process.pidfd, name, tap, NULL) == 0;
}

/* "TAP HEADER OFFLOADS;…" into the record; true when there is anything to keep. */
static bool note_taps(struct session *session)
{
    AUTO_FREE char *text = memory_copy("");

    for (size_t i = 0; i < session->runtime.instance.nic_count; i++) {
        struct tap tap = {0};
        struct tap_manner manner;
        if (open_tap(session, i, &tap) && tap_read_manner(&tap, &manner)) {
            AUTO_FREE char *before = text;
            text = memory_format("%s%s %d %u;", before, tap.name, manner.header, manner.offloads);
        }
        tap_close(&tap);
    }
    migration_set_text(&session->runtime, "taps_before", text);
    return text[0] != '\0';
}

static int restore_tap(const struct session *session, const char *part, struct error *error)
{
    char name[TAP_NAME_SIZE];
    struct tap_manner manner;
    struct tap tap = {0};

    if (sscanf(part, "%15s %d %u", name, &manner.header, &manner.offloads) != 3)
        return 0;
    int result = tap_take(session->process.pid, session->process.pidfd, name, &tap, error);
    if (result == 0)
        result = tap_set_manner(&tap, &manner, error);
    tap_close(&tap);
    return result;
}

int inplace_restore_taps(const struct session *session, struct error *error)
{
    const char *text = migration_text(&session->runtime, "taps_before");
    AUTO_FREE char *parts = memory_copy(text != NULL ? text : "");
    char *rest = NULL;

    for (char *part = strtok_r(parts, ";", &rest); part != NULL; part = strtok_r(NULL, ";", &rest))
        if (restore_tap(session, part, error) < 0)
            return -1;
    return 0;
}

/* ---- accept ---- */

static int set_running(const struct sending *sending, bool on, struct error *error)
{
    if (sending->session.runtime.state == RUNTIME_PAUSED)
        return 0;
    return qmp_call(sending->qmp, on ? "cont" : "stop", NULL, clock_deadline(SETUP_MS), NULL,
                    error) == QMP_DONE
               ? 0
               : -1;
}

/* Everything that can be prepared is, before the guest is paused. The record comes before all, since recover goes by it. */
int inplace_accept(struct sending *sending, json_t *question, json_t **answer, struct error *error)
{
    AUTO_JSON json_t *accept = question;
    AUTO_JSON json_t *prepare = memory_json(json_copy(question));
    deadline_t deadline = clock_deadline(MIGRATE_ANSWER_MS);

    json_object_set_new(prepare, "stage", memory_json(json_string("prepare")));
    bool pause = note_taps(&sending->session);
    if (sending_record(sending, error) < 0)
        return -1;
    sending->accepted = true;
    if (remote_ask(&sending->remote, json_incref(prepare), deadline, NULL, error) < 0)
        return -1;
    if (pause && set_running(sending, false, error) < 0)
        return -1;
    if (remote_ask(&sending->remote, json_incref(accept), deadline, answer, error) < 0 ||
        inplace_restore_taps(&sending->session, error) < 0)
        return -1;
    return pause ? set_running(sending, true, error) : 0;
}
