/* SPDX-License-Identifier: BSD-2-Clause */
/* Which instances a command is about: the names given, or all of the run directory; which definitions kvm-start is. */
#ifndef KVM_OPERATIONS_SELECT_H
#define KVM_OPERATIONS_SELECT_H

#include <stdbool.h>
#include "kvm/base/cli.h"
#include "kvm/base/error.h"
#include "kvm/state/node.h"
#include "kvm/state/rundir.h"

struct selection {
    struct rundir rundir;
    struct node node;
    const char *const *names; /* borrowed from the arguments, or from `all` */
    size_t count;
    char **all;          /* owned; NULL when names were given */
    struct error notice; /* with --all, why there is none: no run directory; text "" else */
};

/* Fill it before select_open, for select_release. */
#define SELECTION_NONE ((struct selection){.rundir = {.fd = -1}})

/* Check the names, each of which counts once (names and --all together, or neither, or what can't be a name: STATUS_USAGE), then open the node's
 * configuration and the run directory. Without a run directory --all finds nothing, which is no failure. */
int select_open(const struct cli_arguments *arguments, bool all, const struct cli_common *common,
                struct selection *selection, struct error *error);
void select_release(struct selection *selection);

/* Definitions: a file as it is, "-", and of a directory every *.json, in the order of their names; `all` is the directory
 * that --all means, NULL without. A directory that was named must hold one: STATUS_USAGE; that of --all may be missing or
 * empty (count 0). */
int select_definitions(const struct cli_arguments *arguments, const char *all,
                       struct selection *selection, struct error *error);

#endif
