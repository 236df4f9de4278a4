/* SPDX-License-Identifier: BSD-2-Clause */
/* The stages by files and QEMU of this side alone. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "migrate_inplace.h"
#include "migrate_local.h"
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/log.h"
#include "kvm/base/memory.h"

enum { LOOK_MS = 3000 };

void local_say(struct local *local, char *text)
{
    free(local->result->text);
    local->result->text = text;
}

void local_source_hooks(struct local *local)
{
    const struct runtime *runtime = &local->session.runtime;
    const char *recorded = inplace_is(runtime) ? "localhost" : migration_text(runtime, "peer");
    AUTO_FREE char *peer = recorded == NULL ? NULL : memory_copy(recorded);

    migrate_hooks_post(&local->session, MIGRATION_SOURCE, peer,
                       clock_deadline(local->options->timeout_ms), &local->result->warnings);
}

/* ---- the stages as commands of their own ---- */

static int need_runtime(const struct local *local, struct error *error)
{
    if (local->session.has_runtime)
        return 0;
    return error_set(error, STATUS_STATE, "%s",
                     local->session.runtime_fault.text[0] != '\0'
                         ? local->session.runtime_fault.text
                         : "nothing of it is here");
}

bool local_is_absent(const struct session *session)
{
    return !session->has_runtime && !session->has_files && !session_is_live(session);
}

/* What abort and finish lead to: repeated they find it so. */
static bool is_gone(const struct local *local, const char *action)
{
    const struct session *session = &local->session;

    return (strcmp(action, "abort") == 0 || strcmp(action, "finish") == 0) &&
           local_is_absent(session);
}

/* For the next command's --token -. */
static int give_token(struct local *local, const char *token)
{
    local->result->detail = memory_json(json_pack("{s:s*}", "token", token));
    return 0;
}

static int vote(struct local *local, deadline_t deadline, struct error *error)
{
    const char *token = migration_text(&local->session.runtime, "vote_token");

    if (target_vote(&local->session, NULL, -1, deadline, error) < 0)
        return -1;
    local_say(local, token == NULL ? memory_copy("ready: everything has arrived")
                                   : memory_format("ready: everything has arrived; on the source: "
                                                   "kvm-migrate %s commit --token %s",
                                                   local->name, token));
    return give_token(local, token);
}

static int commit(struct local *local, deadline_t deadline, struct error *error)
{
    struct session *session = &local->session;
    const char *token = migration_text(&session->runtime, "commit_token");
    bool source = migration_side_of(&session->runtime) == MIGRATION_SOURCE;

    if ((source ? source_commit(session, local->token, deadline, error)
                : target_commit(session, NULL, local->token, deadline, &local->result->warnings,
                                error)) < 0)
        return -1;
    local_say(local, source ? memory_format("committed: only the target may run the guest now; "
                                            "there: kvm-migrate %s commit --token %s",
                                            local->name, token)
                            : memory_copy("the guest runs here"));
    give_token(local, token);
    if (!source)
        target_hooks_post(session, deadline, &local->result->warnings);
    return 0;
}

/* Has it gone back before, what is to be told is told again. */
static int abort_source(struct session *session, struct error *error)
{
    deadline_t deadline = clock_deadline(LOCAL_MS);

    if (local_has_gone_back(session) && session_is_live(session))
        return source_continue(session, deadline, error);
    return source_abort(session, deadline, error);
}

static int abort_side(struct local *local, struct error *error)
{
    struct messages *warnings = &local->result->warnings;

    if (migration_side_of(&local->session.runtime) == MIGRATION_TARGET) {
        local_say(local, memory_copy("aborted: nothing of it is here any more"));
        return target_abort(&local->session, local->token, clock_deadline(LOCAL_MS), warnings,
                            error);
    }
    if (inplace_is(&local->session.runtime) &&
        migration_phase_of(&local->session.runtime) == PHASE_SENDING)
        return local_recover(local, error); /* nobody else can end the new QEMU */
    AUTO_FREE char *token = memory_copy(migration_text(&local->session.runtime, "abort_token"));
    if (abort_source(&local->session, error) < 0)
        return -1;
    source_drop_stream(&local->session, clock_deadline(LOOK_MS));
    local_say(local, memory_format("aborted: the guest runs here; on the target: kvm-migrate %s "
                                   "abort --token %s",
                                   local->name, token != NULL ? token : "?"));
    return give_token(local, token);
}

static int run_stage(struct local *local, const char *action, struct error *error)
{
    struct messages *warnings = &local->result->warnings;
    deadline_t deadline = clock_deadline(LOCAL_MS);

    if (strcmp(action, "recover") == 0)
        return local_recover(local, error);
    if (is_gone(local, action)) {
        local_say(local, memory_format("%s: nothing of it is here", action));
        return 0;
    }
    if (need_runtime(local, error) < 0)
        return -1;
    if (strcmp(action, "abort") == 0)
        return abort_side(local, error);
    if (strcmp(action, "vote") == 0)
        return vote(local, deadline, error);
    if (strcmp(action, "commit") == 0)
        return commit(local, deadline, error);
    /* Without the token the target is asked first: ending this side while the guest has not arrived would leave the
     * token that makes it run nowhere but there. */
    const char *expected = migration_text(&local->session.runtime, "commit_token");
    if (migration_phase_of(&local->session.runtime) == PHASE_COMMITTED && local->token == NULL)
        return local_recover_committed(local, error);
    if (local->token != NULL && (expected == NULL || strcmp(local->token, expected) != 0))
        return error_set(error, STATUS_STATE, "finish: this is not the commit token");
    local_say(local, memory_copy("cleaned up: the guest runs on the target"));
    if (source_finish(&local->session, deadline, warnings, error) < 0)
        return -1;
    local_source_hooks(local);
    return 0;
}

void migrate_local(const struct rundir *rundir, const struct node *node, const char *name,
                   const char *action, const char *token, const struct migrate_options *options,
                   struct result *result)
{
    struct local local = {.rundir = rundir,
                          .node = node,
                          .name = name,
                          .token = token,
                          .options = options,
                          .result = result,
                          .session = {.lock = -1, .process = {.pidfd = -1}}};
    struct error error = {0};
    bool looking = strcmp(action, "status") == 0 || strcmp(action, "cancel") == 0;

    result->subject = memory_copy(name);
    int failed = looking ? session_open(&local.session, rundir, node, name, false, 0, &error)
                         : migrate_open_known(&local.session, rundir, node, name, options, &error);
    if (failed == 0) {
        failed = strcmp(action, "status") == 0   ? local_status(&local, &error)
                 : strcmp(action, "cancel") == 0 ? local_cancel(&local, &error)
                                                 : run_stage(&local, action, &error);
        session_close(&local.session);
    }
    if (failed < 0) {
        result->status = error.status;
        local_say(&local, memory_copy(error.text));
    }
}

/* ---- the tunnel's far end ---- */

static bool carry(int from, int to)
{
    char bytes[262144];
    ssize_t got = read(from, bytes, sizeof(bytes));

    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return true;
    return got > 0 && file_write_all(to, bytes, (size_t)got) == 0;
}

static enum status tell_no_tunnel(const char *name, const char *path)
{
    log_error("%s: no migration waits for a tunnel here (%s: %s); 'kvm-migrate %s to TARGET "
              "--tunnel' on the source begins one, and starts this end of it by itself",
              name, path, strerror(errno), name);
    return STATUS_STATE;
}

enum status migrate_pipe(const struct rundir *rundir, const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    AUTO_CLOSE int far = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    AUTO_FREE char *path = rundir_path(rundir, RUNDIR_TUNNEL, name);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    if (far < 0 || connect(far, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return tell_no_tunnel(name, path);
    for (;;) {
        struct pollfd wait[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
                                 {.fd = far, .events = POLLIN}};
        if (poll(wait, 2, -1) < 0 && errno != EINTR)
            return STATUS_FAILED;
        if (wait[0].revents != 0 && !carry(STDIN_FILENO, far))
            return STATUS_DONE;
        if (wait[1].revents != 0 && !carry(far, STDOUT_FILENO))
            return STATUS_DONE;
    }
}
