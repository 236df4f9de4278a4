/* SPDX-License-Identifier: BSD-2-Clause */
/* The source's side of one migration: what migrate_source.c, migrate_connect.c and migrate_copy.c share. */
#ifndef KVM_OPERATIONS_MIGRATE_SENDING_H
#define KVM_OPERATIONS_MIGRATE_SENDING_H

#include "migrate_disks.h"

enum {
    LOOK_MS = 100,     /* between two looks at the progress */
    SETTLE_MS = 5000,  /* for QEMU to leave a cancelled migration */
    SWITCH_MS = 30000, /* device state and the target's confirmation, guest paused */
    END_MS = 10000,
    DYING_MS = 2000, /* for a QEMU whose monitor is gone to be gone itself */
    SETUP_MS = 60000,
    ZERO_TIMES_MS = 50, /* "completed" may come with times of zero: asked once more */
};

struct sending {
    const struct rundir *rundir;
    const struct node *node;
    const char *name;
    const struct migrate_options *options;
    struct result *result;
    struct session session;
    struct qmp
        *qmp; /* with oob where QEMU has it; the query monitor stays free for those who look on */
    struct remote remote, pipe;
    struct messages problems; /* what speaks against it, of both sides */
    json_t *plan;
    const char *address;
    int64_t port;
    char *uri; /* where QEMU sends it */
    bool only_check;
    struct copies copies;  /* --copy-disks */
    deadline_t copy_end;   /* --deadline, of disks and memory together */
    int64_t available_mib; /* of the target's memory; -1: not known */
    char versions[64];     /* of QEMU on both sides */
    char version[24];      /* of the other side's alone */
    char *program;         /* in place: the new one; NULL: not told */
    bool accepted;         /* the target was asked to: it may hold an incoming QEMU */
    bool recorded;         /* "sending" is on our disk */
    bool committed;
    bool postcopy; /* QEMU was told to switch to it */
    bool given_up; /* by us or our user: what QEMU there says of that is no cause */
    char commit_token[33], abort_token[33];
    char vote_token[33];   /* without a session: what the vote is told by; else "" */
    json_t *last;          /* query-migrate at the end */
    double began, copying; /* all of it, and `migrate` */
};

/* "sending" into the runtime file; once. */
int sending_record(struct sending *sending, struct error *error);
void sending_say(const struct sending *sending, const char *what);

/* migrate_connect.c: lock, monitors, session with the target, and the stream for the memory. */
int sending_open(struct sending *sending, struct error *error);
/* By which the target is reached; the caller frees. */
char *sending_remote_command(const struct migrate_options *options);
int sending_open_remote(struct sending *sending, struct error *error);
int sending_accept(struct sending *sending, json_t **answer, struct error *error);
/* Its question, with new tokens; new reference. */
json_t *sending_accept_question(struct sending *sending);
int sending_set_up_tls(struct sending *sending, const char *key, deadline_t deadline,
                       struct error *error);
int sending_compare(struct sending *sending, struct error *error);
int sending_connect(struct sending *sending, const json_t *answer, struct error *error);
/* The stream to a target that listens or has its tunnel ready; the caller closes it. */
int sending_stream(struct sending *sending, int64_t port, const char *token, deadline_t deadline,
                   struct error *error);

/* migrate_check.c: everything that could fail, before anything is changed. Adds to the problems. */
json_t *sending_request(const struct sending *sending, const char *stage); /* with the runtime */
void sending_take_warnings(struct sending *sending, const json_t *answer);
int sending_check_target(struct sending *sending, struct error *error);
/* Measured rates, and what they mean; the result is told. */
int sending_measure(struct sending *sending, struct error *error);

/* migrate_copy.c: from `migrate` to the pause. */
int sending_begin(struct sending *sending, struct error *error);
int sending_watch(struct sending *sending, struct error *error);
/* Ctrl-C, which is an error then. */
int sending_check_interrupted(struct sending *sending, struct error *error);
/* Has `cancel` ended the copy, whatever QEMU calls that? Then it is the error. */
bool sending_was_cancelled(struct sending *sending, struct error *error);
/* query-migrate's reply (or NULL) and its phase "failed" or "cancelled" as an error; returns -1. */
int sending_copy_failed(struct sending *sending, const json_t *reply, const char *phase,
                        struct error *error);

/* migrate_switch.c: the guest is paused. To "completed", the target asked for its vote; then the vote, the commit. */
int sending_switch_over(struct sending *sending, struct error *error);
int sending_commit(struct sending *sending, struct error *error);

#endif
