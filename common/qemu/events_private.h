/* SPDX-License-Identifier: BSD-2-Clause */
/* Reading logs, for events.c (the lines) and events_ending.c (what they mean). */
#ifndef KVM_QEMU_EVENTS_PRIVATE_H
#define KVM_QEMU_EVENTS_PRIVATE_H

#include <stddef.h>
#include <jansson.h>
#include "kvm/state/rundir.h"

/* The last `most` bytes of a log, from a line's begin, NUL bytes replaced; "" when there is none. The
 * caller frees. */
char *events_tail(const struct rundir *rundir, enum rundir_file which, const char *name,
                  size_t most);

/* As events_read, from the last KVM_SUITE_START on (all when the log has none): its first line, and of the others those
 * with one of the names (NULL ends them), since parsing is the slow part. */
json_t *events_of_run(const struct rundir *rundir, const char *name, const char *const *names);

#endif
