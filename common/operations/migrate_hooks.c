/* SPDX-License-Identifier: BSD-2-Clause */
/* The operator's executables around a migration, on both sides. */
#include <string.h>
#include <unistd.h>

#include "migrate_private.h"
#include "kvm/base/memory.h"
#include "kvm/operations/operation_hooks.h"

enum { WORDS = 7, NODE_NAME_SIZE = 256 };

struct told {
    char node[NODE_NAME_SIZE];
    const char *more[WORDS];
};

static struct operation operation_of(const struct session *session, const struct instance *instance,
                                     enum migration_side side, const char *peer,
                                     deadline_t deadline, struct told *told)
{
    bool source = side == MIGRATION_SOURCE;
    size_t count = 0;

    *told = (struct told){0};
    gethostname(told->node, sizeof(told->node) - 1);
    told->more[count++] = "GANETI_MIGRATE_CLEANUP";
    told->more[count++] = "False";
    told->more[count++] = source ? "GANETI_OLD_PRIMARY" : "GANETI_NEW_PRIMARY";
    told->more[count++] = told->node;
    if (peer != NULL) {
        told->more[count++] = source ? "GANETI_NEW_PRIMARY" : "GANETI_OLD_PRIMARY";
        told->more[count++] = peer;
    }
    return (struct operation){.kind = OPERATION_MIGRATE,
                              .rundir = session->rundir,
                              .node = session->node,
                              .name = session->name,
                              .instance = instance,
                              .action = source ? "source" : "target",
                              .more = told->more,
                              .deadline = deadline};
}

int migrate_hooks_pre(const struct session *session, const struct instance *instance,
                      enum migration_side side, const char *peer, deadline_t deadline,
                      struct error *error)
{
    struct told told;
    const struct operation operation = operation_of(session, instance, side, peer, deadline, &told);

    return operation_hooks_pre(&operation, error);
}

/* Once: the commit has noted that they are due, and whoever runs them first takes the note away. */
void target_hooks_post(struct session *session, deadline_t deadline, struct messages *warnings)
{
    struct runtime *runtime = &session->runtime;
    const char *due = migration_text(runtime, "post_hooks");
    struct error error = {0};

    if (due == NULL || strcmp(due, "due") != 0)
        return;
    AUTO_FREE char *peer = migration_text(runtime, "peer") == NULL
                               ? NULL
                               : memory_copy(migration_text(runtime, "peer"));
    migration_set_text(runtime, "post_hooks", "begun");
    if (runtime_commit(session->rundir, runtime, &error) < 0)
        messages_add(warnings, "post hooks: %s", error.text);
    else
        migrate_hooks_post(session, MIGRATION_TARGET, peer, deadline, warnings);
}

void migrate_hooks_post(struct session *session, enum migration_side side, const char *peer,
                        deadline_t deadline, struct messages *warnings)
{
    struct told told;
    const struct operation operation =
        operation_of(session, session->has_runtime ? &session->runtime.instance : NULL, side, peer,
                     deadline, &told);

    session_unlock(session);
    operation_hooks_post(&operation, warnings);
}
