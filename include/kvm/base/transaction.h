/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An operation is a static table of steps over a plan that was decided before the first one.
 *
 *     static const struct step steps[] = {
 *         {"write the runtime", write_intent, drop_intent, 0},
 *         {"start QEMU", spawn, kill_it, 0},
 *     };
 *     return transaction_run(steps, COUNT(steps), &plan, error);
 *
 * Steps are applied in order. The first failure undoes the steps applied before it, in reverse; the
 * failing step itself must have undone what it did in part. The error text gets the step's name as
 * prefix. An undo that fails turns the status into STATUS_INCOMPLETE and its text is appended.
 * After a step marked `pivot` there is no way back: a later failure leaves everything as it is and
 * becomes STATUS_INCOMPLETE.
 *
 * For tests: with KVM_SUITE_FAIL_STEP=N in the environment the N-th step (from 1) is applied and then
 * treated as failed after being undone, so that every undo can be exercised.
 */
#ifndef KVM_BASE_TRANSACTION_H
#define KVM_BASE_TRANSACTION_H

#include <stdbool.h>
#include <stddef.h>
#include "kvm/base/error.h"

struct step {
    const char *what; /* verb first, lower case: "open the images" */
    int (*apply)(void *plan, struct error *error);
    int (*undo)(void *plan, struct error *error); /* NULL: nothing to undo */
    bool pivot;
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* `observe` may be NULL; it is called before each step ("open the images") and each undo
 * ("undo: open the images"), for -v. */
int transaction_run(const struct step *steps, size_t count, void *plan,
                    void (*observe)(const char *what), struct error *error);

#endif
