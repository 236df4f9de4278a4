/* SPDX-License-Identifier: BSD-2-Clause */
/* One migration at work: what the source and the target side share. */
#ifndef KVM_OPERATIONS_MIGRATE_PRIVATE_H
#define KVM_OPERATIONS_MIGRATE_PRIVATE_H

#include <jansson.h>
#include "kvm/operations/migrate.h"
#include "kvm/operations/migration.h"
#include "kvm/operations/session.h"
#include "kvm/qemu/qmp.h"

enum {
    MIGRATE_LINE_MAX = 4 * 1024 * 1024,
    MIGRATE_ANSWER_MS = 60000,
    MIGRATE_CONNECT_MS = 20000,
    MIGRATE_SILENCE_MOST_S = 3600, /* that a side may promise */
    MIGRATE_SILENCE_S = 60,        /* the longest that a side says nothing while nothing is asked */
    MIGRATE_PHASE_SIZE = 32,
    MIGRATE_TURN_MS = 100, /* a signal that comes between two short waits ends neither */
};

/* The event of ours by which the command that drives a copy knows that `cancel` has ended it. */
#define MIGRATE_CANCEL "migrate-cancel"

/* ---- migrate_open.c ---- */

/* Has a signal asked to end it? `interrupted` may be NULL. */
bool migrate_is_interrupted(const volatile sig_atomic_t *interrupted);
/* session_open with the lock, for which --wait-lock waits, but not against a signal. */
int migrate_open(struct session *session, const struct rundir *rundir, const struct node *node,
                 const char *name, const struct migrate_options *options, struct error *error);

/* The same as session_open_known: a name that was never used here leaves no lock file. */
int migrate_open_known(struct session *session, const struct rundir *rundir,
                       const struct node *node, const char *name,
                       const struct migrate_options *options, struct error *error);

/* ---- migrate_remote.c, migrate_talk.c: the session with the other side, one JSON object a line ---- */

struct remote {
    pid_t pid;
    int pidfd;
    int to, from; /* its standard input and output */
    char *bytes;  /* received and not yet a whole line */
    size_t length;
    json_int_t asked;  /* number of the last question; the answer to it has the same */
    bool numbers;      /* the target numbers its answers: what has none is no answer of it */
    size_t unanswered; /* questions whose answers have not come yet */
    size_t signs;      /* how many of them are but signs of life */
    bool silent;       /* it has let the whole time go by that it had, for the last of them */
    deadline_t next_sign, patience;
    const volatile sig_atomic_t
        *interrupted; /* an answer is not awaited any longer once this is set; may be NULL */
};

/* Start COMMAND (words split like a shell's) with the words after it; stderr stays ours. */
int remote_open(struct remote *remote, const char *command, const char *const *words,
                struct error *error);
/* Its end is awaited for a moment, then it is ended: what it started there lives on. */
void remote_close(struct remote *remote);

/* Write one object and wait for the answer: {"ok": true, …} gives it in *answer (new reference, may be NULL);
 * {"ok": false, "status", "error"} becomes the error, prefixed "on TARGET: ". A lost session: STATUS_INCOMPLETE. */
/* For --tunnel: one stream that is both its standard input and output; returns our end (the caller's). */
int remote_open_stream(struct remote *remote, const char *command, const char *const *words,
                       struct error *error);
/* A question alone, and the answer to the last one: those of earlier ones that nobody took are passed over. */
int remote_question(struct remote *remote, const json_t *question, struct error *error);
int remote_answer(struct remote *remote, deadline_t deadline, json_t **answer, struct error *error);
int remote_ask(struct remote *remote, json_t *question, deadline_t deadline, json_t **answer,
               struct error *error);
/* For a last word to it: `usual_ms`, but not that long for one that has just been silent for longer. */
deadline_t remote_patience(const struct remote *remote, int64_t usual_ms);
/* The list of texts under `key` of an answer, escaped. */
void remote_texts(const json_t *answer, const char *key, struct messages *messages);
/* Where nothing is asked for long: to be called again and again. It sends a sign of life now and then, which the other side
 * answers; so each of them notices when the other has gone without a word. -1: it has. Nothing without a session. */
int remote_keep(struct remote *remote, struct error *error);

/* One line from a descriptor; NULL at its end (*ended) or the deadline. The caller frees. */
char *remote_line(int descriptor, char **bytes, size_t *length, deadline_t deadline, bool *ended);
/* And a newline. -1 with errno: ETIMEDOUT, EINTR (`interrupted`, may be NULL) after a part of it. */
int remote_write(int descriptor, const json_t *object, const volatile sig_atomic_t *interrupted,
                 deadline_t deadline);

/* ---- migrate_channel.c: the stream that carries the memory ---- */

/* Listen on address and port (0: any free one); *port is the one that it is. */
int channel_listen(const char *address, int64_t *port, int *listener, struct error *error);
/* The first connection that presents the token in time; all others are closed unread. Anything on `session` means that
 * the source has given up; `interrupted` may be NULL. */
int channel_accept(int listener, int session, const char *token,
                   const volatile sig_atomic_t *interrupted, deadline_t deadline,
                   struct error *error);
int channel_connect(const char *address, int64_t port, const char *token, deadline_t deadline,
                    struct error *error);
/* Keepalive and user time-out, so that both ends notice a cut link in seconds. */
void channel_watch_link(int descriptor);
/* getfd under `name` on this monitor. */
int channel_pass(struct qmp *qmp, int descriptor, const char *name, deadline_t deadline,
                 struct error *error);
/* The number of a host, for a QEMU that has no resolver; the caller frees. */
char *channel_host(const char *address, struct error *error);
/* Where QEMU itself listens and connects: "tcp:10.0.0.2:8102". The caller frees. */
char *channel_uri(const char *address, int64_t port, struct error *error);
/* channel_watch_link for this QEMU's connections from or to that port; how many there are. */
size_t channel_watch_process(pid_t pid, int pidfd, int64_t port);
/* Nobody listens at this port of that QEMU any more, and its connections there are ended. */
void channel_hang_up_process(pid_t pid, int pidfd, int64_t port);

/* ---- migrate_request.c: the form of what comes from the other side. All problems at once, STATUS_USAGE ---- */

/* accept; `source` names it in the message. */
int migrate_check_request(const json_t *request, const char *source, struct error *error);
/* The documents of the stages without a session. */
int migrate_check_offer(const json_t *offer, const char *source, struct error *error);
int migrate_check_accepted(const json_t *accepted, const char *source, struct error *error);

/* ---- migrate_tls.c ---- */

/* A one-time pre-shared key as QEMU's TLS credentials "kvm-suite-tls". `server`: the target, where the file that carries
 * it must stay until the source has connected: channel_forget_secret removes it. */
int channel_credentials(const struct session *session, struct qmp *qmp, const char *key,
                        bool server, deadline_t deadline, struct error *error);
/* The same of the certificates in the directory `from`; each side proves who it is. Nothing stays behind. */
int channel_certificates(const struct session *session, struct qmp *qmp, const char *from,
                         bool server, deadline_t deadline, struct error *error);
void channel_check_certificates(const char *from, bool server, struct messages *problems);
/* Another one-time key in place of the one that channel_credentials wrote for the server. */
int channel_renew_secret(const struct session *session, const char *key, struct error *error);
void channel_forget_secret(const struct session *session, bool server);
void channel_drop_credentials(struct qmp *qmp, deadline_t deadline);

/* ---- migrate_setup.c: capabilities and parameters, the same on both sides ---- */

/* {"capabilities": [...], "parameters": {...}} of the options and hvparams; what both sides set. New object. */
json_t *migrate_plan(const struct instance *instance, const struct migrate_options *options);
/* By option or by migration_mode. */
bool migrate_is_non_live(const struct instance *instance, const struct migrate_options *options);
/* Is the name in migration_caps? */
bool migrate_has_capability(const struct instance *instance, const char *name);
/* Post-copy after the first pass, by option or by migration_caps; and post-copy at all. */
bool migrate_is_postcopy(const struct instance *instance, const struct migrate_options *options);
bool migrate_may_postcopy(const struct instance *instance, const struct migrate_options *options);
/* Has it the form of one? It comes from the other side. */
bool migrate_is_plan(const json_t *plan);
int migrate_apply(struct qmp *qmp, const json_t *plan, bool target, deadline_t deadline,
                  struct error *error);
/* After it: nothing stays switched on in a QEMU that runs on, since another tool that migrates it sets only its own.
 * What fails is set by the next migration. */
void migrate_reset(struct qmp *qmp, deadline_t deadline);
/* What the guest can notice of this QEMU: PCI devices and their places, block devices. New object. */
json_t *migrate_tree(struct qmp *qmp, deadline_t deadline, struct error *error);
/* The differences in words, added to `problems`. */
void migrate_compare(const json_t *here, const json_t *there, struct messages *problems);

/* query-migrate; new reference. NULL with error. */
json_t *migrate_query(struct qmp *qmp, deadline_t deadline, struct error *error);
struct migrate_progress migrate_progress_of(const json_t *reply, double seconds); /* borrows */

/* ---- migrate_postcopy.c: when memory is on both sides ---- */

/* Is this query-migrate's word for a post-copy, running or with its link cut? */
bool postcopy_is(const char *phase);
/* Source: refuse the way back where QEMU has none (STATUS_INCOMPLETE). A monitor that does not answer is no reason. */
int postcopy_check_back(struct qmp *qmp, const char *name, deadline_t deadline,
                        struct error *error);
/* Source, after the commit: until QEMU has sent the last of the memory. STATUS_INCOMPLETE when the link is cut or the
 * user does not want to wait. `began` (clock_wall): the command, whose progress goes on. *last is query-migrate's last
 * answer. */
int postcopy_wait(struct session *session, struct qmp *qmp, struct remote *remote,
                  const struct migrate_options *options, double began, json_t **last,
                  struct error *error);
/* Source: a new stream in place of the cut one, to the target at the other end of the session. */
int postcopy_resume(struct session *session, struct qmp *qmp, struct remote *remote,
                    const struct migrate_options *options, struct error *error);
/* Source: the stage "complete": recorded; the target is told by the caller. */
int source_complete(struct session *session, struct qmp *qmp, deadline_t deadline,
                    struct error *error);
/* Target: the stage "complete", after which nothing tells of the migration any more. */
int target_complete(struct session *session, struct qmp *qmp, deadline_t deadline,
                    struct error *error);
/* Target: QEMU waits for a new stream: {"ok", "port", "key"}, or {"ok", "completed"} when it needs none. */
json_t *target_resume(struct session *session, const json_t *request, struct error *error);
/* Target: keepalive on the new stream once it is there. */
void target_watch(const struct session *session, int64_t port);
/* Target: may QEMU of this instance catch the guest's page faults? Adds to the problems. */
void postcopy_check_target(const struct instance *instance, struct messages *problems);

/* Wait for the end of the copy on this side: "completed", "failed", "cancelled" or a post-copy's "postcopy-active" into
 * `phase`, by QEMU's own events.
 * `fresh`: this connection may have missed them, so it is asked first. What comes on `session` (-1: none) means that the
 * other side has given up. */
int migrate_await_end(struct qmp *qmp, int session, bool fresh, deadline_t deadline,
                      char phase[MIGRATE_PHASE_SIZE], struct error *error);

/* While the guest is paused: before all other programs. */
void migrate_hurry(bool on);

/* ---- migrate_stages.c: the target's stages. `qmp` NULL: a connection is made for it ---- */

/* Commit: record, run the guest, set up routed NICs, announce. Needs the lock and a session. */
int target_commit(struct session *session, struct qmp *qmp, const char *token, deadline_t deadline,
                  struct messages *warnings, struct error *error);
int target_abort(struct session *session, const char *token, deadline_t deadline,
                 struct messages *warnings, struct error *error);
/* The last words of QEMU on this side: when an incoming one dies, they alone tell why. The caller frees. */
char *target_last_words(const struct session *session);
struct qmp *target_monitor(const struct session *session, deadline_t deadline, struct error *error);
/* `stream`: of the session with the source, -1: none. */
int target_vote(struct session *session, struct qmp *qmp, int stream, deadline_t deadline,
                struct error *error);

/* ---- migrate_back.c: the source's way back, and its end ---- */

/* Without a session: record that only the target may run it. `token` is what the target's vote has told. */
int source_commit(struct session *session, const char *token, deadline_t deadline,
                  struct error *error);

/* Back to running here: cancel what is under way, continue the guest, verify; "sending" → none. */
int source_abort(struct session *session, deadline_t deadline, struct error *error);
/* The stream that no `migrate` has taken. After the target was told, whose QEMU would complain of its end otherwise. */
void source_drop_stream(const struct session *session, deadline_t deadline);
/* After a source_abort that could go back but not run the guest yet (the phase is none): again. */
int source_continue(struct session *session, deadline_t deadline, struct error *error);
/* The target knows: no record of the migration is needed any more. */
int source_forget(struct session *session, struct error *error);
/* The target runs it: end QEMU here and clean up. */
int source_finish(struct session *session, deadline_t deadline, struct messages *warnings,
                  struct error *error);

/* ---- migrate_hooks.c: kvm-migrate-pre.d and -post.d; the lock is free after the second ---- */

int migrate_hooks_pre(const struct session *session, const struct instance *instance,
                      enum migration_side side, const char *peer, deadline_t deadline,
                      struct error *error);
void migrate_hooks_post(struct session *session, enum migration_side side, const char *peer,
                        deadline_t deadline, struct messages *warnings);
/* The target's, when its commit has noted that they are due. */
void target_hooks_post(struct session *session, deadline_t deadline, struct messages *warnings);

#endif
