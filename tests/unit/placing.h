/* SPDX-License-Identifier: BSD-2-Clause */
/* Instances of a few disks and NICs, and where each device was put. */
#ifndef KVM_TESTS_PLACING_H
#define KVM_TESTS_PLACING_H

#include "definition.h"
#include "kvm/state/placement.h"
#include "unit.h"

static inline int make(const char *members, struct instance *instance)
{
    AUTO_FREE char *text = memory_format("{\"name\": \"web1\", %s}", members);
    int result = parse(text, NULL, instance);

    if (joined[0] != '\0')
        printf("# %s", joined);
    return result;
}

#define DISK(letter, members)                                                                      \
    "{\"path\": \"/" letter                                                                        \
    "\", \"uuid\": \"" letter letter letter letter letter letter letter letter                     \
    "-1111-4111-8111-111111111111\"" members "}"
#define NIC(letter)                                                                                \
    "{\"nicparams\": {\"link\": \"br0\"}, \"mac\": \"aa:00:00:00:00:0" letter                      \
    "\", \"uuid\": \"" letter letter letter letter letter letter letter letter                     \
    "-2222-4222-8222-222222222222\"}"

static inline const char *hvinfo_text(const json_t *hvinfo)
{
    static char text[256];
    AUTO_FREE char *compact = json_compact(hvinfo);

    snprintf(text, sizeof(text), "%s", compact);
    return text;
}

#endif
