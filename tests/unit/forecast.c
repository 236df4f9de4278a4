/* SPDX-License-Identifier: BSD-2-Clause */
#include "unit.h"
#include "kvm/base/memory.h"
#include "kvm/operations/forecast.h"

static const int64_t MIB = 1048576;

static char *verdict_of(const struct forecast_rates *rates, struct forecast *forecast)
{
    forecast_copy(rates, forecast);
    return forecast_verdict(rates, forecast);
}

TEST(idle, "an idle guest takes as long as its memory")
{
    struct forecast_rates rates = {.memory = 1000 * MIB, .link = 100 * MIB, .downtime_ms = 30};
    struct forecast forecast;
    AUTO_FREE char *text = verdict_of(&rates, &forecast);

    CHECK(forecast.converges);
    CHECK_NUMBER(forecast.seconds, 10);
    CHECK_NUMBER(forecast.downtime_ms, 30);
    CHECK_TEXT(text, "will converge in about 10.0 s, downtime about 30 ms");
    return true;
}

TEST(busy, "what is changed meanwhile is sent again, in ever shorter passes")
{
    struct forecast_rates rates = {
        .memory = 1000 * MIB, .link = 100 * MIB, .dirty = 50 * MIB, .downtime_ms = 100};
    struct forecast forecast;

    forecast_copy(&rates, &forecast);
    CHECK(forecast.converges);
    CHECK(forecast.seconds > 19 && forecast.seconds < 20);
    CHECK(forecast.downtime_ms > 30 && forecast.downtime_ms <= 130);
    return true;
}

TEST(too_busy, "a guest faster than the link is told with what helps")
{
    struct forecast_rates rates = {
        .memory = 8192 * MIB, .link = 1126 * MIB, .dirty = 1946 * MIB, .downtime_ms = 30};
    struct forecast forecast;
    AUTO_FREE char *text = verdict_of(&rates, &forecast);

    CHECK(!forecast.converges);
    CHECK_TEXT(text, "dirty 1.9 GiB/s > link 1.1 GiB/s: use --auto-converge or --postcopy");
    rates.slows_down = true;
    forecast_copy(&rates, &forecast);
    CHECK(forecast.converges);
    return true;
}

TEST(limited, "a limit of bandwidth is named as such")
{
    struct forecast_rates rates = {.memory = 512 * MIB,
                                   .link = 1000 * MIB,
                                   .bandwidth = 32 * MIB,
                                   .dirty = 64 * MIB,
                                   .downtime_ms = 30};
    struct forecast forecast;
    AUTO_FREE char *text = verdict_of(&rates, &forecast);

    CHECK_NUMBER(forecast.rate, 32 * MIB);
    CHECK_TEXT(
        text,
        "dirty 64 MiB/s > bandwidth 32 MiB/s: use --auto-converge, more --bandwidth or --postcopy");
    rates.bandwidth = 2000 * MIB;
    forecast_copy(&rates, &forecast);
    CHECK_NUMBER(forecast.rate, 1000 * MIB);
    CHECK(forecast.converges);
    return true;
}

TEST(paused, "a guest paused before the copy is down all the time")
{
    struct forecast_rates rates = {
        .memory = 100 * MIB, .link = 100 * MIB, .dirty = 500 * MIB, .paused = true};
    struct forecast forecast;

    forecast_copy(&rates, &forecast);
    CHECK(forecast.converges);
    CHECK_NUMBER(forecast.downtime_ms, 1030);
    return true;
}

TEST(unknown, "what could not be measured is not guessed")
{
    struct forecast_rates rates = {.memory = 100 * MIB, .dirty = -1, .downtime_ms = 30};
    struct forecast forecast;
    AUTO_FREE char *nothing = verdict_of(&rates, &forecast);

    CHECK_TEXT(nothing, "how long it would take is not known");
    rates.link = 100 * MIB;
    AUTO_FREE char *some = verdict_of(&rates, &forecast);
    CHECK_HAS(some, "if the guest changes little");
    return true;
}

TEST(flags, "flags that the other CPU lacks are named, whole words only")
{
    AUTO_FREE char *same = forecast_missing_flags("fpu sse2 avx", "avx fpu sse2");
    AUTO_FREE char *less = forecast_missing_flags("fpu avx avx512f", "fpu avx512f");

    CHECK_TEXT(same, "");
    CHECK_TEXT(less, "avx");
    return true;
}

UNIT_MAIN(UNIT(idle), UNIT(busy), UNIT(too_busy), UNIT(limited), UNIT(paused), UNIT(unknown),
          UNIT(flags))
