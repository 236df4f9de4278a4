/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A runtime becomes a running QEMU: the first start, and the start after a reboot.
 *
 * Order (safety.md, Start): runtime "starting" → taps, tap files, ifup → QEMU with -S → identity, passwords,
 * affinity, balloon → runtime "running" → cont last. A crash before cont leaves a paused QEMU that has executed
 * nothing, so ending it is safe. Any failure undoes what was done, in reverse.
 */
#ifndef KVM_OPERATIONS_LAUNCH_H
#define KVM_OPERATIONS_LAUNCH_H

#include <stdbool.h>
#include <sys/types.h>
#include <jansson.h>
#include "kvm/base/clock.h"
#include "kvm/base/error.h"
#include "kvm/state/instance.h"
#include "kvm/state/node.h"
#include "kvm/state/rundir.h"
#include "kvm/state/runtime.h"

/* In place: the QEMU that has the guest now. Its taps are taken over; what is recorded is what will be true when its
 * files have become the new one's. */
struct launch_heir {
    const struct rundir *home;
    pid_t pid;
    int pidfd;
};

struct launch_options {
    const struct launch_heir *heir; /* NULL: there is nobody to take over from */
    bool incoming;                  /* wait for a migration; implies that nothing runs */
    bool nvram_received;            /* made of what the source sent: goes again if this fails */
    bool paused;                    /* leave the guest's CPUs stopped */
    deadline_t deadline;            /* of the whole start */
    /* NULL; of each image of a disk, opened and not yet QEMU's: may it be this one? */
    int (*check_image)(const void *context, size_t disk, int descriptor, struct error *error);
    const void *check_context;
    void (*observe)(const char *what); /* NULL; each step, for -v */
};

/*
 * Decide: resolve the machine type and kvm_flag, check everything that needs the node (binary, images, bridges,
 * users, addresses: all problems at once, STATUS_USAGE), assign slots. Changes only *instance, touches nothing
 * else; with `use_cache` false the probe's cache is not written either. `source` names the instance in problems.
 */
struct launch; /* the plan */
int launch_plan(const struct rundir *rundir, const struct node *node, struct instance *instance,
                const char *source, bool use_cache, struct launch **launch,
                struct messages *warnings, struct error *error);
void launch_release(struct launch **launch);
/* Of a plan that was made before there was a run directory: what was asked of the binary is known to the next start. */
void launch_keep_probe(const struct launch *launch);
#define AUTO_LAUNCH __attribute__((cleanup(launch_release)))

/* For the runtime file: {"code", "nvram", "made"}; null with the machine's BIOS. New reference. */
json_t *launch_firmware_record(const struct launch *launch);

/* For the runtime file: {"state", "made"} of the TPM; null without. New reference. */
json_t *launch_tpm_record(const struct launch *launch);

/* The target of a migration: flash memory travels as memory does, into a file of the same size. `theirs`: what nvram_sizes
 * gave on the source. */
void launch_compare_firmware(const struct launch *launch, const json_t *theirs,
                             struct messages *problems);

/* What launch_run would do, as JSON for --dry-run: {"command": [...], "slots": {...}, "hooks": [...],
 * "files": [...]}. New object. */
json_t *launch_describe(const struct launch *launch);

/* kvm_cmd as launch_run would record it. New array. */
json_t *launch_record(const struct launch *launch);

/* Do it. The instance lock is held by the caller; `runtime` holds the instance (runtime_begin, or loaded for a
 * reboot) and gets kvm_cmd, pid and state. Warnings: what works but not as asked (event log, memory). */
int launch_run(struct launch *launch, struct runtime *runtime, const struct launch_options *options,
               struct messages *warnings, struct error *error);

#endif
