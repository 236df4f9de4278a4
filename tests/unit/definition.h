/* SPDX-License-Identifier: BSD-2-Clause */
/* An instance of the text of its definition, and what its check says of a bad one. */
#ifndef KVM_TESTS_DEFINITION_H
#define KVM_TESTS_DEFINITION_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/state/instance.h"

static char joined[16384]; /* the problems of the last parse, a line each */

static inline int parse(const char *text, const char *defaults, struct instance *instance)
{
    AUTO_MESSAGES struct messages problems = {0};
    AUTO_JSON json_t *definition = json_loads(text, 0, NULL);
    AUTO_JSON json_t *node = defaults == NULL ? NULL : json_loads(defaults, 0, NULL);

    if (definition == NULL) {
        printf("# the test's JSON is wrong: %s\n", text);
        abort();
    }
    int result = instance_parse(definition, "w.json", node, "node.json", instance, &problems);

    joined[0] = '\0';
    for (size_t i = 0; i < problems.count; i++)
        snprintf(joined + strlen(joined), sizeof(joined) - strlen(joined), "%s\n",
                 problems.items[i]);
    return result;
}

/* The problems of a definition with a name and these further members. */
static inline const char *bad(const char *members)
{
    AUTO_FREE char *text =
        memory_format("{\"name\": \"web1\"%s%s}", members[0] ? ", " : "", members);
    AUTO_INSTANCE struct instance instance;

    if (parse(text, NULL, &instance) == 0)
        return instance.hvparams == NULL ? "accepted, but empty" : "accepted";
    return instance.name == NULL ? joined : "refused, but not released";
}

#endif
