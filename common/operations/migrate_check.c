/* SPDX-License-Identifier: BSD-2-Clause */
/* Everything that could fail, asked of both sides before anything is changed; and how long the copy would take. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "migrate_sending.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/host/machine.h"
#include "kvm/host/swtpm.h"
#include "kvm/operations/forecast.h"
#include "kvm/operations/nvram.h"
#include "kvm/state/hvparams.h"

enum {
    PUMP_MS = 500, /* so long, or so much, is sent to measure the link */
    PUMP_BYTES = 256 * 1024 * 1024,
    BLOCK_BYTES = 256 * 1024,
    DIRTY_SECONDS = 1,
    DIRTY_MS = 5000,
    POLL_MS = 20,
};

json_t *sending_request(const struct sending *sending, const char *stage)
{
    AUTO_FREE char *text = runtime_text(&sending->session.runtime);
    json_t *whole = json_loads(text, 0, NULL);

    return memory_json(json_pack("{s:s, s:o}", "stage", stage, "runtime", memory_json(whole)));
}

static json_t *where_to(const struct sending *sending)
{
    return memory_json(json_pack("{s:s, s:I, s:b}", "address", sending->address, "port",
                                 (json_int_t)sending->port, "tunnel",
                                 (int)sending->options->tunnel));
}

void sending_take_warnings(struct sending *sending, const json_t *answer)
{
    remote_texts(answer, "warnings", &sending->result->warnings);
}

/* ---- what both sides say ---- */

/* The CPU's flags go with the question only when the guest runs on that CPU and is not emulated. */
static bool uses_kvm(const struct sending *sending)
{
    AUTO_JSON json_t *reply = NULL;
    return qmp_call(sending->qmp, "query-kvm", NULL, clock_deadline(SETUP_MS), &reply, NULL) ==
               QMP_DONE &&
           json_truth(reply, "enabled", false);
}

/* A newer QEMU reads what an older one sent; the way back is where it goes wrong. */
static void compare_versions(struct sending *sending, const json_t *answer)
{
    const json_t *here = qmp_version(sending->qmp);
    const char *there = json_text(answer, "qemu");
    int mine[3] = {(int)json_number(here, "major", 0), (int)json_number(here, "minor", 0),
                   (int)json_number(here, "micro", 0)};
    int theirs[3] = {0};

    if (there == NULL || sscanf(there, "%d.%d.%d", &theirs[0], &theirs[1], &theirs[2]) != 3)
        return;
    snprintf(sending->version, sizeof(sending->version), "%.20s", there);
    snprintf(sending->versions, sizeof(sending->versions),
             sending->options->in_place ? "%d.%d.%d now, %.20s then" : "%d.%d.%d here, %.20s there",
             mine[0], mine[1], mine[2], there);
    if (mine[0] * 1000 + mine[1] > theirs[0] * 1000 + theirs[1])
        messages_add(&sending->result->warnings,
                     "QEMU %s: an older one may not understand what a newer one sends",
                     sending->versions);
}

/* The hooks of this side have --timeout, and the link is measured; the target holds nothing as yet. */
static int64_t silence_until_accept(const struct sending *sending)
{
    return sending->options->timeout_ms / 1000 + (int64_t)3 * MIGRATE_SILENCE_S;
}

int sending_check_target(struct sending *sending, struct error *error)
{
    AUTO_JSON json_t *answer = NULL;
    json_t *question = sending_request(sending, "check");
    AUTO_FREE char *flags = uses_kvm(sending) ? machine_cpu_flags() : memory_copy("");

    sending_say(sending, "check the target");
    json_object_update_new(question, where_to(sending));
    json_object_set_new(question, "silence",
                        memory_json(json_integer(silence_until_accept(sending))));
    copies_ask(sending, question);
    if (hvparams_text(sending->session.runtime.instance.hvparams, "tpm")[0] != '\0' &&
        swtpm_pid(sending->rundir, sending->name) <= 0)
        messages_add(&sending->problems, "tpm: its swtpm has died, and its state with it; "
                                         "'kvm-stop --reboot' starts it anew");
    json_object_set_new(question, "firmware",
                        nvram_sizes(json_member(sending->session.runtime.ours, "firmware"), NULL));
    json_object_set_new(question, "cpu_flags", memory_json(json_string(flags)));
    json_object_set_new(question, "postcopy",
                        memory_json(json_boolean(migrate_may_postcopy(
                            &sending->session.runtime.instance, sending->options))));
    if (sending->options->tls_x509 != NULL) {
        channel_check_certificates(sending->options->tls_x509, false, &sending->problems);
        json_object_set_new(question, "x509", memory_json(json_string(sending->options->tls_x509)));
    }
    if (remote_ask(&sending->remote, question, clock_deadline(MIGRATE_ANSWER_MS), &answer, error) <
        0)
        return -1;
    sending_take_warnings(sending, answer);
    remote_texts(answer, "problems", &sending->problems);
    copies_take_answer(sending, answer);
    sending->available_mib = json_number(answer, "available_mib", -1);
    const char *program = json_text(answer, "program");
    sending->program = memory_copy(program != NULL ? program : "?");
    compare_versions(sending, answer);
    return 0;
}

/* ---- the link ---- */

/* Random bytes: a link that compresses must not look faster than it is. Ends early when nobody reads. */
static void pump(int stream)
{
    AUTO_FREE char *block = memory_zeroed(1, BLOCK_BYTES);
    deadline_t deadline = clock_deadline(PUMP_MS);

    for (size_t at = 0; at < BLOCK_BYTES; at += 256)
        if (getrandom(block + at, 256, 0) != 256)
            return;
    fcntl(stream, F_SETFL, O_NONBLOCK);
    for (int64_t sent = 0; sent < PUMP_BYTES && !clock_passed(deadline);) {
        struct pollfd wait = {.fd = stream, .events = POLLOUT};
        if (poll(&wait, 1, clock_poll_ms(deadline)) <= 0)
            return;
        ssize_t count = write(stream, block, BLOCK_BYTES);
        if (count < 0 && errno != EINTR && errno != EAGAIN)
            return;
        sent += count > 0 ? count : 0;
    }
}

/* Over the way that the memory would take, so it also shows whether that way is open. */
static int measure_link(struct sending *sending, int64_t *bytes_per_second, struct error *error)
{
    AUTO_JSON json_t *place = NULL, *answer = NULL;
    json_t *question = where_to(sending);
    deadline_t deadline = clock_deadline(MIGRATE_ANSWER_MS);

    json_object_set_new(question, "stage", memory_json(json_string("listen")));
    if (remote_ask(&sending->remote, question, deadline, &place, error) < 0)
        return -1;
    AUTO_JSON json_t *sink = memory_json(json_pack("{s:s}", "stage", "sink"));
    if (remote_question(&sending->remote, sink, error) < 0)
        return -1;
    int stream = sending_stream(sending, json_number(place, "port", 0), json_text(place, "token"),
                                clock_deadline(MIGRATE_CONNECT_MS), error);
    if (stream < 0)
        return -1;
    pump(stream);
    shutdown(stream, SHUT_WR);
    int result = remote_answer(&sending->remote, deadline, &answer, error);
    close(stream);
    if (result < 0)
        return -1;
    int64_t ms = json_number(answer, "ms", 0), bytes = json_number(answer, "bytes", 0);
    *bytes_per_second = bytes / (ms > 0 ? ms : 1) * 1000;
    return 0;
}

/* ---- the guest ---- */

static void begin_dirty_rate(struct sending *sending)
{
    json_t *arguments = memory_json(json_pack("{s:i}", "calc-time", DIRTY_SECONDS));
    qmp_call(sending->qmp, "calc-dirty-rate", arguments, clock_deadline(SETUP_MS), NULL, NULL);
}

/* Bytes a second that the guest changes; -1 where QEMU can't tell. */
static int64_t dirty_rate(struct sending *sending)
{
    deadline_t deadline = clock_deadline(DIRTY_MS);

    while (!clock_passed(deadline)) {
        AUTO_JSON json_t *reply = NULL;
        if (qmp_call(sending->qmp, "query-dirty-rate", NULL, deadline, &reply, NULL) != QMP_DONE)
            return -1;
        const char *status = json_text(reply, "status");
        if (status != NULL && strcmp(status, "measured") == 0)
            return json_number(reply, "dirty-rate", -1) < 0
                       ? -1
                       : json_number(reply, "dirty-rate", 0) * 1048576;
        if (status == NULL || strcmp(status, "unstarted") == 0)
            return -1;
        clock_sleep_ms(POLL_MS);
    }
    return -1;
}

static int64_t memory_of(struct sending *sending)
{
    AUTO_JSON json_t *reply = NULL;

    if (qmp_call(sending->qmp, "query-memory-size-summary", NULL, clock_deadline(SETUP_MS), &reply,
                 NULL) != QMP_DONE)
        return sending->session.runtime.instance.maxmem_mib * 1048576;
    return json_number(reply, "base-memory", 0) + json_number(reply, "plugged-memory", 0);
}

/* ---- the verdict ---- */

static void tell(struct sending *sending, const struct forecast_rates *rates,
                 const struct forecast *forecast)
{
    AUTO_FREE char *verdict = forecast_verdict(rates, forecast);
    char link[32] = "not measured", dirty[32] = "not known";

    if (rates->link > 0)
        forecast_format_rate(rates->link, link);
    if (rates->dirty >= 0)
        forecast_format_rate(rates->dirty, dirty);
    free(sending->result->text);
    sending->result->text = memory_format(
        "%s %s: link %s, dirty %s, %lld MiB of memory, QEMU %s: %s",
        forecast->rate > 0 && !forecast->converges ? "would never arrive on" : "can be migrated to",
        sending->options->target, link, dirty, (long long)(rates->memory / 1048576),
        sending->versions, verdict);
    json_decref(sending->result->detail);
    sending->result->detail = memory_json(json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:I, s:s, s:s}", "target", sending->options->target,
        "memory_bytes", (json_int_t)rates->memory, "link_bytes_per_second", (json_int_t)rates->link,
        "dirty_bytes_per_second", (json_int_t)rates->dirty, "copy_bytes_per_second",
        (json_int_t)forecast->rate, "target_available_mib", (json_int_t)sending->available_mib,
        "qemu", sending->versions, "verdict", verdict));
    if (forecast->rate > 0)
        json_object_update_new(sending->result->detail,
                               json_pack("{s:b, s:f, s:I}", "converges", (int)forecast->converges,
                                         "expected_seconds", forecast->seconds,
                                         "expected_downtime_ms",
                                         (json_int_t)forecast->downtime_ms));
}

int sending_measure(struct sending *sending, struct error *error)
{
    const struct migrate_options *options = sending->options;
    const json_t *parameters = json_member(sending->plan, "parameters");
    struct forecast_rates rates = {
        .bandwidth = json_number(parameters, "max-bandwidth", 0),
        .downtime_ms = json_number(parameters, "downtime-limit", 0),
        .slows_down = options->auto_converge,
        .postcopy = migrate_may_postcopy(&sending->session.runtime.instance, options),
        .paused = migrate_is_non_live(&sending->session.runtime.instance, options)};
    struct forecast forecast;

    sending_say(sending, "measure the link and the guest");
    begin_dirty_rate(sending);
    if (measure_link(sending, &rates.link, error) < 0 && !options->tunnel) {
        messages_add(&sending->problems, "the way of the memory: %s", error->text);
        return 0;
    }
    rates.memory = memory_of(sending);
    rates.dirty = dirty_rate(sending);
    forecast_copy(&rates, &forecast);
    tell(sending, &rates, &forecast);
    copies_tell_forecast(sending, forecast.rate);
    if (forecast.rate > 0 && !forecast.converges)
        return error_set(error, STATUS_STATE, "%s", sending->result->text);
    return 0;
}
