/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>

#include "kvm/operations/forecast.h"
#include "kvm/base/clock.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"

/* Device state, the target's vote and the commit: measured 20 to 50 ms on a quiet link. */
enum { HAND_OVER_MS = 30, PASSES_MAX = 100, MARGIN_PERCENT = 95 };

static const double mebibyte = 1048576;

void forecast_copy(const struct forecast_rates *rates, struct forecast *forecast)
{
    bool limited = rates->bandwidth > 0 && (rates->link <= 0 || rates->bandwidth < rates->link);

    *forecast = (struct forecast){.rate = limited ? rates->bandwidth : rates->link};
    if (forecast->rate <= 0)
        return;
    double rate = (double)forecast->rate, left = (double)rates->memory;
    double dirty = rates->dirty > 0 && !rates->paused ? (double)rates->dirty : 0;
    if (rates->slows_down && dirty > rate / 2)
        dirty = rate / 2;
    double enough = rate * (double)rates->downtime_ms / 1000;

    if (rates->postcopy) {
        double span = left / rate, again = dirty * span < left ? dirty * span : left;
        forecast->seconds = span + again / rate;
        forecast->converges = true;
        forecast->downtime_ms = HAND_OVER_MS;
        return;
    }
    for (int pass = 0; pass < PASSES_MAX && left > enough; pass++) {
        double span = left / rate;
        forecast->seconds += span;
        double again = dirty * span;
        left = again < (double)rates->memory ? again : (double)rates->memory;
    }
    forecast->converges = left <= enough && dirty * 100 < rate * MARGIN_PERCENT;
    forecast->downtime_ms = (int64_t)(left / rate * 1000) + HAND_OVER_MS;
    if (rates->paused)
        forecast->downtime_ms += (int64_t)(forecast->seconds * 1000);
}

void forecast_format_rate(int64_t bytes_per_second, char *buffer)
{
    double mib = (double)bytes_per_second / mebibyte;

    if (mib >= 1000)
        snprintf(buffer, 32, "%.1f GiB/s", mib / 1024);
    else if (mib >= 10 || mib < 0.05)
        snprintf(buffer, 32, "%.0f MiB/s", mib);
    else
        snprintf(buffer, 32, "%.1f MiB/s", mib);
}

char *forecast_verdict(const struct forecast_rates *rates, const struct forecast *forecast)
{
    char span[32], dirty[32], rate[32];
    bool limited = rates->link <= 0 || forecast->rate < rates->link;

    if (forecast->rate <= 0)
        return memory_copy("how long it would take is not known");
    clock_format_span(forecast->seconds, span, sizeof(span));
    forecast_format_rate(rates->dirty, dirty);
    forecast_format_rate(forecast->rate, rate);
    if (!forecast->converges)
        return memory_format("dirty %s > %s %s: use --auto-converge%s or --postcopy", dirty,
                             limited ? "bandwidth" : "link", rate,
                             limited ? ", more --bandwidth" : "");
    if (rates->postcopy)
        return memory_format("will arrive by post-copy in about %s, downtime about %lld ms", span,
                             (long long)forecast->downtime_ms);
    return memory_format(
        "will %s in about %s, downtime about %lld ms%s", rates->paused ? "be copied" : "converge",
        span, (long long)forecast->downtime_ms,
        rates->dirty < 0 && !rates->paused ? ", if the guest changes little memory meanwhile" : "");
}

char *forecast_missing_flags(const char *here, const char *there)
{
    AUTO_FREE char *words = memory_copy(here);
    char *missing = memory_copy(""), *rest = NULL;

    for (char *word = strtok_r(words, " \t\n", &rest); word != NULL;
         word = strtok_r(NULL, " \t\n", &rest)) {
        if (text_list_has(there, " ", word))
            continue;
        char *longer = memory_format("%s%s%s", missing, missing[0] != '\0' ? " " : "", word);
        free(missing);
        missing = longer;
    }
    return missing;
}
