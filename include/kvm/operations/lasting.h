/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What outlives an instance on its node: the file of its UEFI variables and the state of its TPM. It goes when that is asked
 * for, and when it was made for a guest that then never ran. For an instance whose QEMU and swtpm are dead, under the lock,
 * and before its runtime file goes: that alone tells where the file is, so that a removal that was killed can be repeated.
 */
#ifndef KVM_OPERATIONS_LASTING_H
#define KVM_OPERATIONS_LASTING_H

#include <stdbool.h>
#include <jansson.h>
#include "kvm/base/error.h"
#include "kvm/state/node.h"
#include "kvm/state/runtime.h"

struct lasting {
    bool all;        /* else what was made for the guest, as the runtime file tells */
    bool nvram, tpm; /* filled: it was there and was removed */
};

/* `runtime` NULL: there is none, and only what is in the node's state directory can be found. Durable; repeatable;
 * STATUS_INCOMPLETE. */
int lasting_remove(const struct node *node, const char *name, const struct runtime *runtime,
                   struct lasting *lasting, struct error *error);

/* Adds {"finding", "action"} for what lasting_remove would remove. */
void lasting_explain(const struct node *node, const char *name, const struct runtime *runtime,
                     bool all, json_t *findings);

/* What was made for a guest that may have run all the same stays: a warning for each. */
void lasting_warn(const struct runtime *runtime, struct messages *warnings);

/* What a command that was killed while it wrote the file left beside it; what stays is in nobody's way. */
void lasting_remove_temporary(const struct node *node, const char *name,
                              const struct runtime *runtime);

/* The guest has executed no instruction here, and by the record none will: a start that was interrupted before its last step,
 * or a migration that did not come. */
bool lasting_never_ran(const struct runtime *runtime);

#endif
