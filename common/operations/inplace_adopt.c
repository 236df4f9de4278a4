/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "migrate_inplace.h"
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/transaction.h"
#include "kvm/operations/powerdown.h"
#include "kvm/operations/quarantine.h"
#include "kvm/operations/teardown.h"
#include "kvm/qemu/events.h"
#include "kvm/state/hvparams.h"

enum { VNC_FIRST_PORT = 5900 };

/* In this order; the runtime file is the last, and with it the instance is the new QEMU's. */
static const enum rundir_file moved[] = {
    RUNDIR_MONITOR,       RUNDIR_QMP,    RUNDIR_QUERY,  RUNDIR_KVMD, RUNDIR_SERIAL, RUNDIR_AGENT,
    RUNDIR_EVENTS_SOCKET, RUNDIR_CHROOT, RUNDIR_EVENTS, RUNDIR_LOG,  RUNDIR_PID,    RUNDIR_RUNTIME,
};

bool inplace_is_adopting(const struct runtime *runtime)
{
    return inplace_is(runtime) && migration_text(runtime, "adopting") != NULL;
}

static int note_adopting(struct session *session, struct error *error)
{
    if (inplace_is_adopting(&session->runtime))
        return 0;
    migration_set_text(&session->runtime, "adopting", "yes");
    return runtime_commit(session->rundir, &session->runtime, error);
}

/* The holder of the pid file may be the new one already. */
static int end_old(struct session *session, deadline_t deadline, struct error *error)
{
    if (session_is_live(session) && monitor_is_recorded(&session->process, &session->runtime) &&
        powerdown_kill(session->rundir, session->name, &session->process, "replaced in place",
                       deadline, error) < 0)
        return -1;
    monitor_forget(&session->process);
    return 0;
}

/* Nothing of ours makes a directory where a file is to be: what it holds is somebody's. */
static int clear_way(const struct session *session, const char *path, struct messages *warnings,
                     struct error *error)
{
    const struct rundir *rundir = session->rundir;
    AUTO_FREE char *away = quarantine_move(rundir, session->name, path, "odd", error);

    if (away == NULL)
        return -1;
    messages_add(warnings, "%s/%s was a directory: moved to %s", rundir->path, path, away);
    return 0;
}

static int move(const struct rundir *from, const struct session *session, enum rundir_file file,
                struct messages *warnings, struct error *error)
{
    const struct rundir *to = session->rundir;
    char path[RUNDIR_PATH_MAX];

    rundir_name(file, session->name, path);
    int result = renameat(from->fd, path, to->fd, path);
    if (result < 0 && errno == EISDIR) {
        if (clear_way(session, path, warnings, error) < 0)
            return -1;
        result = renameat(from->fd, path, to->fd, path);
    }
    if (result == 0 || errno == ENOENT)
        return 0;
    return error_errno(error, STATUS_INCOMPLETE, "%s/%s: rename to %s", from->path, path, to->path);
}

/* The old one's chroot is in the way unless it is empty: what is in it goes to quarantine. */
static int clear_chroot(const struct rundir *next, const struct session *session,
                        struct messages *warnings, struct error *error)
{
    char path[RUNDIR_PATH_MAX];

    rundir_name(RUNDIR_CHROOT, session->name, path);
    if (!file_exists(next->fd, path))
        return 0;
    return teardown_chroot(session->rundir, session->name, warnings, error);
}

static int move_files(const struct rundir *next, struct session *session, struct messages *warnings,
                      struct error *error)
{
    char path[RUNDIR_PATH_MAX];

    for (size_t i = 0; i < COUNT(moved); i++) {
        if (moved[i] == RUNDIR_RUNTIME) {
            rundir_name(RUNDIR_UID, session->name, path);
            if (file_remove(next->fd, path, NULL, error) < 0)
                return -1;
        }
        if (move(next, session, moved[i], warnings, error) < 0)
            return -1;
    }
    rundir_name(RUNDIR_RUNTIME, session->name, path);
    return file_sync_directory(session->rundir->fd, path, error);
}

/* ---- the display ---- */

static json_t *display_address(const char *address, int64_t port, const char *name)
{
    AUTO_FREE char *service = memory_format("%lld", (long long)port);
    AUTO_FREE char *host = memory_copy(address);
    size_t length = strlen(host);

    if (host[0] == '/') {
        AUTO_FREE char *path = memory_format("%s/%s.vnc", host, name);
        return memory_json(json_pack("{s:s, s:s}", "type", "unix", "path", path));
    }
    if (host[0] == '[') { /* as QEMU's option wants it, not as its monitor does */
        memmove(host, host + 1, length);
        host[length - 2] = '\0';
    }
    return memory_json(json_pack("{s:s, s:s, s:s}", "type", "inet", "host", host, "port", service));
}

/* The port is free once the old QEMU is gone. The guest runs without its display if it can't be had. */
static void give_display(const struct rundir *next, const struct session *session,
                         deadline_t deadline, struct messages *warnings)
{
    AUTO_PROCESS struct qemu_process process = {.pidfd = -1};
    AUTO_RUNTIME struct runtime runtime = {0};
    struct error error = {0};
    char socket_name[RUNDIR_PATH_MAX];

    /* Once its monitor has been moved it has its display. */
    rundir_name(RUNDIR_QMP, session->name, socket_name);
    if (!file_exists(next->fd, socket_name) ||
        runtime_load(next, session->name, &runtime, NULL) < 0)
        return;
    const char *address = migration_text(&runtime, "vnc");
    int64_t port = runtime.instance.network_port;
    if (address == NULL || (address[0] != '/' && port <= VNC_FIRST_PORT) ||
        monitor_find(next, session->name, &process, &error) < 0 || process.pid == 0)
        return;
    AUTO_QMP struct qmp *qmp =
        monitor_open(next, session->name, RUNDIR_QMP, &process, deadline, &error);
    json_t *where = display_address(address, port, session->name);
    json_t *arguments = memory_json(json_pack("{s:s, s:[o]}", "type", "vnc", "addresses", where));
    if (qmp != NULL &&
        qmp_call(qmp, "display-update", arguments, deadline, NULL, &error) == QMP_DONE)
        return;
    if (qmp == NULL)
        json_decref(arguments);
    messages_add(warnings, "VNC: %s; the guest runs, without its display", error.text);
}

int inplace_adopt(struct session *session, deadline_t deadline, struct messages *warnings,
                  struct error *error)
{
    AUTO_FREE char *path = inplace_path(session->rundir->path);
    AUTO_RUNDIR struct rundir next = {.fd = -1};

    if (rundir_open(&next, path, false, error) < 0 || note_adopting(session, error) < 0 ||
        end_old(session, deadline, error) < 0)
        return -1;
    give_display(&next, session, deadline, warnings);
    if (clear_chroot(&next, session, warnings, error) < 0 ||
        move_files(&next, session, warnings, error) < 0) {
        error->status = STATUS_INCOMPLETE;
        return error_append(error, "; the guest runs in the new QEMU; 'kvm-migrate %s recover'",
                            session->name);
    }
    events_note(session->rundir, session->name, "KVM_SUITE_ACTION", "replaced in place", NULL);
    return 0;
}
