/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A running QEMU whose runtime file is missing or damaged gets a new one: what kvm-start --adopt does. QEMU itself is
 * not changed. What is known comes from QEMU (devices, images, sizes, places), its command line, the taps and, when it
 * is given, a definition (names, tags, scripts' parameters, what only a person knows). What would make another guest of
 * it at the next start is refused, all of it at once, rather than guessed.
 */
#ifndef KVM_OPERATIONS_ADOPT_H
#define KVM_OPERATIONS_ADOPT_H

#include <stdbool.h>
#include <stdint.h>
#include "kvm/base/parallel.h"
#include "kvm/state/node.h"
#include "kvm/state/rundir.h"

struct adopt_options {
    const char *definition; /* path, "-", or NULL: none */
    bool dry_run;
    int64_t timeout_ms;
    int64_t wait_lock_ms;
};

/* `who` is an instance's name or the pid of a QEMU. Only one that holds the lock on this run directory's pid file and
 * answers on its QMP socket there can be adopted. */
void adopt_run(const struct rundir *rundir, const struct node *node, const char *who,
               const struct adopt_options *options, struct result *result);

#endif
