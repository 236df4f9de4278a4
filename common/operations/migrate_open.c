/* SPDX-License-Identifier: BSD-2-Clause */
#include "migrate_private.h"

bool migrate_is_interrupted(const volatile sig_atomic_t *interrupted)
{
    return interrupted != NULL && *interrupted;
}

static int open_in_turns(struct session *session, const struct rundir *rundir,
                         const struct node *node, const char *name,
                         const struct migrate_options *options, bool known, struct error *error)
{
    deadline_t deadline = clock_deadline(options->wait_lock_ms);

    for (;;) {
        deadline_t turn = clock_earlier(deadline, clock_deadline(MIGRATE_TURN_MS));
        if ((known ? session_open_known(session, rundir, node, name, turn, error)
                   : session_open(session, rundir, node, name, true, turn, error)) == 0)
            return 0;
        if (error->status != STATUS_BUSY || clock_passed(deadline))
            return -1;
        if (migrate_is_interrupted(options->interrupted))
            return error_set(error, STATUS_FAILED, "interrupted");
    }
}

int migrate_open(struct session *session, const struct rundir *rundir, const struct node *node,
                 const char *name, const struct migrate_options *options, struct error *error)
{
    return open_in_turns(session, rundir, node, name, options, false, error);
}

int migrate_open_known(struct session *session, const struct rundir *rundir,
                       const struct node *node, const char *name,
                       const struct migrate_options *options, struct error *error)
{
    return open_in_turns(session, rundir, node, name, options, true, error);
}
