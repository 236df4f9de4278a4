/* SPDX-License-Identifier: BSD-2-Clause */
/* Live migration: what kvm-migrate does. The rules are migration.h's; this is the work. */
#ifndef KVM_OPERATIONS_MIGRATE_H
#define KVM_OPERATIONS_MIGRATE_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <jansson.h>
#include "kvm/base/parallel.h"
#include "kvm/operations/session.h"
#include "kvm/state/node.h"
#include "kvm/state/rundir.h"

/* NONE: not said, which is cancel. */
enum migrate_on_deadline {
    ON_DEADLINE_NONE,
    ON_DEADLINE_CANCEL,
    ON_DEADLINE_PAUSE,
    ON_DEADLINE_POSTCOPY
};

/* A disk that travels (--copy-disks). */
struct migrate_disk_progress {
    const char *disk; /* its name, else its uuid */
    int64_t copied, total;
    bool ready; /* both sides are the same; what the guest writes goes to both */
};

/* What query-migrate tells, for the progress line. */
struct migrate_progress {
    const char *phase;
    int64_t transferred, remaining, total; /* bytes */
    double mbps;                           /* megabits a second */
    int64_t dirty_bytes_per_s;
    int64_t expected_downtime_ms; /* -1: QEMU does not tell it yet */
    double seconds;
    const struct migrate_disk_progress *disks;
    size_t disk_count;
};

struct migrate_options {
    const char *target;    /* TARGET as typed */
    const char *remote;    /* --remote; NULL: "ssh root@TARGET" */
    const char *address;   /* --address: where the target listens; NULL: TARGET */
    int64_t port;          /* -1: migration_port */
    int64_t bandwidth_mib; /* -1: migration_bandwidth; 0: unlimited */
    int64_t downtime_ms;   /* -1: migration_downtime */
    int64_t deadline_ms;   /* for the copy; -1: none */
    enum migrate_on_deadline on_deadline;
    int64_t multifd;                 /* connections that carry the memory; 0: one, passed by us */
    const char *multifd_compression; /* "none", "zlib", "zstd" */
    const char *tls_x509;   /* certificates, the same path on both nodes; NULL: a one-time key */
    const char *copy_disks; /* which: names with commas; "": all local ones; NULL: none */
    const char *const *disk_paths; /* DISK=PATH on the target, NULL-terminated; NULL: none */
    int64_t disk_port;             /* -1: the one after `port` */
    bool overwrite_disks;
    bool auto_converge;
    bool postcopy; /* after the first pass; migration_caps may say so as well */
    bool plain_tcp;
    bool tunnel;
    bool in_place; /* a new QEMU on this node */
    bool non_live;
    bool rehearse;
    const char *token;  /* --token as typed */
    int64_t timeout_ms; /* of everything but the copy */
    int64_t wait_lock_ms;
    const volatile sig_atomic_t *interrupted; /* Ctrl-C */
    void (*observe)(const char *what);
    void (*progress)(const struct migrate_progress *progress);
};

/* ---- the command line: migrate_options.c, migrate_input.c, migrate_show.c ---- */

/* to, check, rehearse, offer: a TARGET follows. */
bool migrate_takes_target(const char *action);
/* Which options go with the action, and together; as typed, multifd_compression NULL when it was not. STATUS_USAGE. */
int migrate_check_options(const struct migrate_options *options, const char *action,
                          struct error *error);
/* What the other side's stage has printed, on standard input: accept and send want a document, one line; new reference. */
json_t *migrate_read_document(struct error *error);
/* The bare token, or results printed with --json; the caller frees. */
char *migrate_read_token(struct error *error);
/* The line that tells how far it is, without its newline; the caller frees. */
char *migrate_progress_text(const struct migrate_progress *progress);
char *migrate_progress_json(const struct migrate_progress *progress);
/* ", expected downtime 30 ms"; "" when it is not known (-1). The caller frees. */
char *migrate_expected_text(int64_t expected_downtime_ms);

/* ---- the work ---- */

/* True when part of the guest may be on another node that this QEMU alone can't run: by the record, or for a source that
 * was not committed by what QEMU says. */
bool migrate_is_half(const struct session *session);

/* `kvm-migrate NAME to TARGET` and `rehearse TARGET`; `check TARGET` with only_check. */
void migrate_to(const struct rundir *rundir, const struct node *node, const char *name,
                const struct migrate_options *options, bool only_check, struct result *result);

/* The target's side of a session: requests on stdin, answers on stdout, until stdin ends. Returns the exit status. */
enum status migrate_serve(const char *run_dir, const struct node *node, const char *name,
                          const struct migrate_options *options);

/* Carry bytes between stdin/stdout and the unix socket of a waiting target (--tunnel). */
enum status migrate_pipe(const struct rundir *rundir, const char *name);

/* The stages without a session. `offer` on the source gives the document that `accept` on the target wants, accept the
 * one that `send` wants. accept writes it to standard output, and ends when the source has connected. */
enum status migrate_offer(const struct rundir *rundir, const struct node *node, const char *name,
                          const struct migrate_options *options, json_t **document);
enum status migrate_accept(const char *run_dir, const struct node *node, const char *name,
                           const struct migrate_options *options, json_t *offer);
/* Copy; ends with everything sent and the guest paused. */
void migrate_send(const struct rundir *rundir, const struct node *node, const char *name,
                  const struct migrate_options *options, const json_t *accepted,
                  struct result *result);

/* status, cancel, recover, vote, commit, abort: by files and QEMU of this side. `token` may be NULL. */
void migrate_local(const struct rundir *rundir, const struct node *node, const char *name,
                   const char *action, const char *token, const struct migrate_options *options,
                   struct result *result);

#endif
