/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Time in milliseconds. A deadline is an absolute CLOCK_MONOTONIC time; every operation has one and
 * hands it down, so that many small waits never add up to more than was asked for.
 */
#ifndef KVM_BASE_CLOCK_H
#define KVM_BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

typedef int64_t deadline_t; /* ms of CLOCK_MONOTONIC; DEADLINE_NEVER waits for ever */
#define DEADLINE_NEVER INT64_MAX

int64_t clock_now_ms(void);               /* CLOCK_MONOTONIC */
double clock_wall(void);                  /* seconds since the epoch, with fraction */
deadline_t clock_deadline(int64_t in_ms); /* saturates; negative means now */
deadline_t clock_earlier(deadline_t a, deadline_t b);
bool clock_passed(deadline_t deadline);
int clock_poll_ms(deadline_t deadline); /* for poll(2): 0 when passed, -1 for never */
void clock_sleep_ms(int64_t ms);        /* the pause of a polling loop */

/* "2026-11-23 02:13:07" in local time, and "1.2 s", "34 ms", "3 d 4 h". buffers >= 32 bytes. */
void clock_format_wall(double wall, char *buffer, int size);
void clock_format_span(double seconds, char *buffer, int size);

#endif
