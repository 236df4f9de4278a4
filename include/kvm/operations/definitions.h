/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The definitions of one call of kvm-start, all read before any of them is started: standard input and pipes can be read
 * once only, and two that are of one instance are a mistake which must not be found half-way.
 */
#ifndef KVM_OPERATIONS_DEFINITIONS_H
#define KVM_OPERATIONS_DEFINITIONS_H

#include <stddef.h>
#include <jansson.h>
#include "kvm/base/clock.h"
#include "kvm/base/error.h"
#include "kvm/state/node.h"

struct definition {
    const char *source;  /* the file's name as given, or "stdin"; borrowed */
    json_t *document;    /* NULL: it could not be read */
    struct error *fault; /* why; NULL: it could */
};

struct definitions {
    struct definition *items;
    size_t count;
};

/* `files` are paths or "-". What can't be read is told with its own result, and is no failure here; two of one instance are
 * (STATUS_USAGE). To be released in both cases. */
int definitions_read(const char *const *files, size_t count, deadline_t deadline,
                     struct definitions *definitions, struct error *error);
void definitions_release(struct definitions *definitions);

/*
 * Of a definition that instance_parse has refused: what is sound in it and yet not to be had on this node (images,
 * bridges, named files, words of kvm_extra), so that the list of problems is whole. Only what depends on no other value
 * of it; what is sound as a whole is checked by launch_plan.
 */
void definition_check_node(const json_t *definition, const struct node *node, const char *source,
                           struct messages *problems);

#endif
