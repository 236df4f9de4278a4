/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * accept as a command of its own. It tells where the source is to connect, waits for that connection, and ends: QEMU has
 * it then. QEMU does not listen itself: on 7.2 a stranger who connects and says nothing holds up its whole main loop (and
 * that of the source), TLS or not.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "migrate_serving.h"
#include "kvm/base/json.h"
#include "kvm/base/log.h"
#include "kvm/base/memory.h"
#include "kvm/operations/launch.h"

enum { ACCEPT_MS = 60000 };

static const char *const echoed[] = {"id",      "commit_token", "abort_token", "vote_token",
                                     "address", "peer",         "x509",        "options"};

/* What `send` needs. */
static json_t *document(const json_t *offer, int64_t port, const char *token, const char *key,
                        json_t *tree)
{
    json_t *answer =
        memory_json(json_pack("{s:s, s:I, s:s, s:s, s:o}", "document", "accepted", "port",
                              (json_int_t)port, "token", token, "key", key, "tree", tree));

    for (size_t i = 0; i < sizeof(echoed) / sizeof(echoed[0]); i++)
        if (json_object_get(offer, echoed[i]) != NULL)
            json_object_set(answer, echoed[i], json_object_get(offer, echoed[i]));
    return answer;
}

static json_t *ask(struct serving *serving, json_t *request, struct error *error)
{
    AUTO_JSON json_t *owned = request;
    return serving_answer(serving, owned, error);
}

static json_t *begin(struct serving *serving, json_t *offer, struct error *error)
{
    AUTO_JSON json_t *accepted = ask(serving, json_incref(offer), error);
    AUTO_JSON json_t *tree =
        accepted == NULL ? NULL : ask(serving, json_pack("{s:s}", "stage", "tree"), error);

    if (tree == NULL)
        return NULL;
    return document(offer, json_number(accepted, "port", 0), serving->token,
                    json_text(accepted, "key"), json_incref(json_member(tree, "tree")));
}

/* The same offer again, while QEMU still waits: another port, token and key, which nobody has kept. */
static json_t *repeat(struct serving *serving, const json_t *offer, struct error *error)
{
    deadline_t deadline = clock_deadline(ACCEPT_MS);
    int64_t port = json_number(offer, "port", 0);
    char key[65] = "";

    serving->qmp = target_monitor(&serving->session, deadline, error);
    AUTO_JSON json_t *reply =
        serving->qmp == NULL ? NULL : migrate_query(serving->qmp, deadline, error);
    AUTO_JSON json_t *tree = reply == NULL ? NULL : migrate_tree(serving->qmp, deadline, error);
    if (tree == NULL)
        return NULL;
    if (json_text(reply, "status") != NULL) {
        error_set(error, STATUS_STATE, "accept: the source has connected already (QEMU says %s)",
                  json_text(reply, "status"));
        return NULL;
    }
    if (serving_listen(serving, offer, &port, error) < 0)
        return NULL;
    migration_token(serving->token);
    if (json_truth(offer, "tls", true) && json_text(offer, "x509") == NULL) {
        migration_token(key);
        migration_token(key + 32);
        if (channel_renew_secret(&serving->session, key, error) < 0)
            return NULL;
    }
    json_t *answer = document(offer, port, serving->token, key, json_incref(tree));
    explicit_bzero(key, sizeof(key));
    return answer;
}

/* True when this very offer was accepted before: *answer is then set, or the error. */
static bool was_accepted(struct serving *serving, const json_t *offer, json_t **answer,
                         struct error *error)
{
    const char *id = json_text(offer, "id");
    struct error odd = {0};

    if (serving_open_rundir(serving, true, &odd) < 0)
        return false; /* the accept itself tells it */
    if (migrate_open(&serving->session, &serving->rundir, serving->node, serving->name,
                     serving->options, &odd) < 0) {
        if (odd.status == STATUS_BUSY) /* the lock has been waited for */
            *error = odd;
        return odd.status == STATUS_BUSY;
    }
    const struct runtime *runtime = &serving->session.runtime;
    bool here = serving->session.has_runtime && session_is_live(&serving->session) &&
                migration_side_of(runtime) == MIGRATION_TARGET &&
                migration_phase_of(runtime) != PHASE_NONE;
    const char *mine = here ? migration_text(runtime, "id") : NULL;
    bool same = here && id != NULL && mine != NULL && strcmp(id, mine) == 0;

    if (here && (!same || migration_phase_of(runtime) != PHASE_ACCEPTED))
        migration_out_of_order(runtime, STAGE_ACCEPT, error);
    else if (here)
        *answer = repeat(serving, offer, error);
    else
        session_close(&serving->session);
    return here;
}

static int accept_now(struct serving *serving, json_t *offer, struct error *error)
{
    json_t *answer = NULL;

    if (migrate_check_offer(offer, "standard input", error) < 0)
        return -1;
    if (!was_accepted(serving, offer, &answer, error)) {
        json_object_set_new(offer, "stage", memory_json(json_string("accept")));
        answer = begin(serving, offer, error);
    } else {
        serving->attached = answer != NULL;
    }
    if (answer == NULL)
        return -1;
    if (migrate_is_interrupted(serving->options->interrupted)) {
        json_decref(answer);
        return error_set(error, STATUS_FAILED, "interrupted");
    }
    int result = remote_write(STDOUT_FILENO, answer, serving->options->interrupted,
                              clock_deadline(ACCEPT_MS));
    json_decref(answer);
    if (result < 0 && errno == EINTR)
        return error_set(error, STATUS_FAILED, "interrupted");
    if (result < 0)
        return error_errno(error, STATUS_FAILED, "standard output");
    AUTO_JSON json_t *received = ask(serving, json_pack("{s:s}", "stage", "receive"), error);
    return received == NULL ? -1 : 0;
}

/* A QEMU that was started by this very command and got no stream is ended again. */
static void undo(struct serving *serving, struct error *error)
{
    struct error second = {0};

    if (serving->attached) {
        error_append(error,
                     "; QEMU of an earlier accept still waits here: repeat the accept, or "
                     "'kvm-migrate %s abort'",
                     serving->name);
    } else if (serving->accepted && target_abort(&serving->session, NULL, clock_deadline(ACCEPT_MS),
                                                 &serving->warnings, &second) < 0) {
        error->status = STATUS_INCOMPLETE;
        error_append(error, "; %s; 'kvm-migrate %s abort' removes what is left", second.text,
                     serving->name);
    } else if (serving->accepted) {
        error_append(error, "; undone, nothing of it is left here");
    }
    log_error("%s: %s", serving->name, error->text);
}

enum status migrate_accept(const char *run_dir, const struct node *node, const char *name,
                           const struct migrate_options *options, json_t *offer)
{
    struct serving serving = serving_begin(run_dir, node, name, options);
    struct error error = {0};
    serving.alone = true;
    int failed = accept_now(&serving, offer, &error);

    if (failed < 0)
        undo(&serving, &error);
    for (size_t i = 0; i < serving.warnings.count; i++)
        log_warning("%s: %s", name, serving.warnings.items[i]);
    serving_end(&serving);
    return failed < 0 ? error.status : STATUS_DONE;
}
