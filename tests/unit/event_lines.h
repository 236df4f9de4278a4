/* SPDX-License-Identifier: BSD-2-Clause */
/* Event lines as QEMU and the suite write them, and a run directory for them. */
#ifndef KVM_TESTS_EVENT_LINES_H
#define KVM_TESTS_EVENT_LINES_H

#include "scratch.h"

/* A run directory with the logs of instance "x". */
static inline struct rundir rundir_of(struct scratch *scratch)
{
    mkdirat(scratch->fd, "events", 0700);
    mkdirat(scratch->fd, "log", 0700);
    return scratch_rundir(scratch);
}

/* The run began at 1000 s. */
#define START                                                                                      \
    "{\"timestamp\":{\"seconds\":1000,\"microseconds\":0},\"event\":\"KVM_SUITE_START\"}\n"
#define EVENT(seconds, name, data)                                                                 \
    "{\"timestamp\": {\"seconds\": " #seconds ", \"microseconds\": 5}, \"event\": \"" name         \
    "\", \"data\": " data "}\r\n"
#define RESUME EVENT(1001, "RESUME", "{}")
#define RESET EVENT(1501, "RESET", "{\"guest\": true, \"reason\": \"guest-reset\"}")

#endif
