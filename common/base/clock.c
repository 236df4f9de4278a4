/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/base/clock.h"

#include <limits.h>
#include <stdio.h>
#include <time.h>

int64_t clock_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

double clock_wall(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

deadline_t clock_deadline(int64_t in_ms)
{
    int64_t now = clock_now_ms();
    if (in_ms <= 0)
        return now;
    return in_ms > DEADLINE_NEVER - now ? DEADLINE_NEVER : now + in_ms;
}

deadline_t clock_earlier(deadline_t a, deadline_t b)
{
    return a < b ? a : b;
}

bool clock_passed(deadline_t deadline)
{
    return deadline != DEADLINE_NEVER && clock_now_ms() >= deadline;
}

int clock_poll_ms(deadline_t deadline)
{
    if (deadline == DEADLINE_NEVER)
        return -1;
    int64_t now = clock_now_ms();
    if (deadline <= now)
        return 0;
    return deadline - now > INT_MAX ? INT_MAX : (int)(deadline - now);
}

/* A signal ends the pause early: the loop around it looks again, which is what the signal is for. */
void clock_sleep_ms(int64_t ms)
{
    if (ms <= 0)
        return;
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000};
    nanosleep(&pause, NULL);
}

void clock_format_wall(double wall, char *buffer, int size)
{
    if (size <= 0)
        return;
    time_t seconds = (time_t)wall;
    struct tm parts;
    if (localtime_r(&seconds, &parts) == NULL ||
        strftime(buffer, (size_t)size, "%Y-%m-%d %H:%M:%S", &parts) == 0)
        snprintf(buffer, (size_t)size, "?");
}

void clock_format_span(double seconds, char *buffer, int size)
{
    if (size <= 0)
        return;
    if (!(seconds > 0)) /* also not a number */
        seconds = 0;
    if (seconds > 1e15)
        seconds = 1e15;
    long long ms = (long long)(seconds * 1000 + 0.5), tenths = (long long)(seconds * 10 + 0.5);
    long long whole = (long long)(seconds + 0.5);
    if (ms < 1000)
        snprintf(buffer, (size_t)size, "%lld ms", ms);
    else if (tenths < 600)
        snprintf(buffer, (size_t)size, "%lld.%lld s", tenths / 10, tenths % 10);
    else if (whole < 3600)
        snprintf(buffer, (size_t)size, "%lld min %lld s", whole / 60, whole % 60);
    else if (whole < 86400)
        snprintf(buffer, (size_t)size, "%lld h %lld min", whole / 3600, whole % 3600 / 60);
    else
        snprintf(buffer, (size_t)size, "%lld d %lld h", whole / 86400, whole % 86400 / 3600);
}
