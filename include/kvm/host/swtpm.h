/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The TPM emulator of an instance: a swtpm process, whose other end QEMU has as a connected socket. It ends by itself when
 * QEMU does, but for one that was in the middle of an answer when QEMU was killed: that one is seen to stay now and then, and
 * the clean-up ends it. Like QEMU it holds a lock on a pid file, tpm/NAME of the run directory, for as long as it lives, and
 * that lock alone tells who it is. Its state outlives it, in tpm/NAME of the state directory.
 */
#ifndef KVM_HOST_SWTPM_H
#define KVM_HOST_SWTPM_H

#include <stdbool.h>
#include <sys/types.h>
#include "kvm/base/clock.h"
#include "kvm/base/error.h"
#include "kvm/state/node.h"
#include "kvm/state/rundir.h"

struct swtpm_spec {
    const char *binary;
    const char *state; /* directory */
    bool drop_user;
    uid_t uid;
    gid_t gid;
    int log; /* its messages; stays the caller's */
};

/* tpm/NAME of the node's state directory; the caller frees. */
char *swtpm_state(const struct node *node, const char *name);

/* Another swtpm has it open: also on another node, where both see one file system. */
bool swtpm_state_is_used(const char *state);

/* Make the directory (*made: it was not there) and give it and what is in it to the user. */
int swtpm_state_prepare(const struct node *node, const char *name, uid_t uid, gid_t gid, bool *made,
                        struct error *error);
/* Durably, with all that is in it; STATUS_INCOMPLETE. */
int swtpm_state_remove(const struct node *node, const char *name, bool *was_there,
                       struct error *error);

/* Start; *end is QEMU's end of the connection. */
int swtpm_start(const struct rundir *rundir, const char *name, const struct swtpm_spec *spec,
                int *end, struct error *error);

/* The live one's pid; 0: none; -1: can't be told. */
pid_t swtpm_pid(const struct rundir *rundir, const char *name);

/* After QEMU's end: wait for its own end for a moment, else end it; the pid file goes. All within the deadline but for a last
 * moment: STATUS_INCOMPLETE. */
int swtpm_end(const struct rundir *rundir, const char *name, deadline_t deadline,
              struct error *error);

#endif
