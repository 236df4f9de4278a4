/* SPDX-License-Identifier: BSD-2-Clause */
/* The target's side of one session: what migrate_serve*.c and migrate_accept.c share. */
#ifndef KVM_OPERATIONS_MIGRATE_SERVING_H
#define KVM_OPERATIONS_MIGRATE_SERVING_H

#include "migrate_disks.h"
#include "kvm/operations/launch.h"

struct serving {
    const char *run_dir;
    struct rundir rundir;
    const struct node *node;
    const char *name;
    const struct migrate_options *options;
    struct session session;  /* with the lock, once accepted */
    struct qmp *qmp;         /* kept from accept to the end: what is said while the guest is paused
                               must not wait for a greeting */
    struct runtime received; /* and the plan made of it: accept carries it out */
    struct landings landings;
    struct launch *launch;
    bool prepared;
    int64_t port;
    bool in_place; /* the instance runs on this node, in `home`, in the QEMU `old` */
    struct rundir home;
    struct qemu_process old;
    struct launch_heir heir;
    bool alone; /* no session: the accept of a script */
    bool accepted, attached;
    bool left; /* of an accept that failed, something could not be removed: abort tries again */
    int64_t silence_ms; /* the source says something at least so often; 0: it did not promise */
    int listener;
    char token[33];
    char *tunnel_path;
    char *uri;         /* where QEMU itself listens (multifd); NULL: we do */
    int64_t disk_port; /* of the NBD server, when disks travel */
    struct messages warnings;
};

/* ---- migrate_serve.c ---- */

/* Nothing is open yet; serving_end closes what was opened since, and changes nothing. */
struct serving serving_begin(const char *run_dir, const struct node *node, const char *name,
                             const struct migrate_options *options);
void serving_end(struct serving *serving);
/* One request of the session; new reference, NULL with error. */
json_t *serving_answer(struct serving *serving, const json_t *request, struct error *error);

/* ---- migrate_serve_accept.c ---- */

/* Where the memory will come, *port (0: any free one) becomes the one that it is. */
int serving_listen(struct serving *serving, const json_t *request, int64_t *port,
                   struct error *error);
void serving_stop_listening(struct serving *serving);
/* accept: QEMU waits here, with taps and devices as the guest knows them. */
json_t *serving_accept(struct serving *serving, const json_t *request, struct error *error);
/* In place: all of it that can be done before there is a QEMU. */
json_t *serving_prepare(struct serving *serving, const json_t *request, struct error *error);
/* receive: the source connects now; its connection becomes QEMU's, or QEMU takes its connections itself. */
json_t *serving_receive(struct serving *serving, struct error *error);
json_t *serving_warnings(const struct serving *serving);

/* ---- migrate_serve_check.c ---- */

int serving_open_rundir(struct serving *serving, bool create, struct error *error);
/* The received file is untrusted: it is parsed strictly, its kvm_cmd is not used at all, and what it may not choose (the
 * binary, further options of QEMU) comes from this node. */
int serving_take_instance(struct serving *serving, const json_t *request, struct runtime *received,
                          struct error *error);
/* check: everything that could fail here, nothing changed: {"ok", "problems", "warnings", "qemu", …}. */
json_t *serving_check(struct serving *serving, const json_t *request, struct error *error);
/* listen and sink: a stream that is thrown away, to measure the link: {"ok", "bytes", "ms"}. */
json_t *serving_listen_only(struct serving *serving, const json_t *request, struct error *error);
json_t *serving_sink(struct serving *serving, struct error *error);

#endif
