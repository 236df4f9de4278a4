/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kvm-stop INSTANCE…|--all: ask the guest to power off, wait for the end of its QEMU, clean up.
 *
 * Guest agent (where configured), then the ACPI power button; nothing is killed unless --force or --kill-after says
 * so. When the time is up the guest still runs, and the exit status is 6.
 */
#include <string.h>

#include "kvm/base/cli.h"
#include "kvm/base/log.h"
#include "kvm/base/report.h"
#include "kvm/base/transaction.h"
#include "kvm/operations/present.h"
#include "kvm/operations/select.h"
#include "kvm/operations/stop.h"

enum { STOP_TIMEOUT_MS = 120000, PARALLEL_STOPS = 16 };

struct options {
    struct cli_common common;
    int64_t parallel;
    bool all, force, reboot, reset;
    int64_t kill_after_ms;
};

static const struct cli_option option_table[] = {
    {"all", 0, CLI_FLAG, offsetof(struct options, all), NULL, "every instance of the run directory",
     0, 0},
    {"force", 0, CLI_FLAG, offsetof(struct options, force), NULL,
     "kill at once, without asking the guest", 0, 0},
    {"kill-after", 0, CLI_SECONDS, offsetof(struct options, kill_after_ms), "SECONDS",
     "ask the guest, and kill it when it has not powered off by then", 0,
     (int64_t)7 * 24 * 3600 * 1000},
    {"reboot", 0, CLI_FLAG, offsetof(struct options, reboot), NULL,
     "start it again afterwards, from its runtime file: same devices, same slots", 0, 0},
    {"reset", 0, CLI_FLAG, offsetof(struct options, reset), NULL,
     "press the reset button; QEMU goes on running", 0, 0},
    {"parallel", 0, CLI_NUMBER, offsetof(struct options, parallel), "N", "so many at a time (16)",
     1, 1000},
};

static const char *const usage[] = {
    "INSTANCE...|--all [--timeout SECONDS] [--kill-after SECONDS] [--reboot] [--parallel N]",
    "INSTANCE...|--all --force [--reboot] [--parallel N]",
    "INSTANCE...|--all --reset [--parallel N]",
    NULL,
};

static const char *const notes[] = {
    "Without --timeout the guest has 120 seconds. When the time is up it still runs (exit 6).",
    NULL};

static const struct cli_command command = {
    .program = "kvm-stop",
    .usage = usage,
    .summary = "Ask guests to power off, wait for it, and clean up.",
    .options = option_table,
    .option_count = COUNT(option_table),
    .common_offset = offsetof(struct options, common),
    .operand = "instance",
    .notes = notes,
};

struct job {
    struct selection selection;
    struct stop_options stop;
};

static void work(void *context, size_t index, struct result *result)
{
    const struct job *job = context;
    stop_instance(&job->selection.rundir, &job->selection.node, job->selection.names[index],
                  &job->stop, result);
}

static void print_hooks(const struct result *result)
{
    present_hooks(result->detail);
}

static int prepare(const struct options *options, const struct cli_arguments *names,
                   struct job *job, struct error *error)
{
    if (options->reset && (options->reboot || options->force || options->kill_after_ms >= 0))
        return error_set(error, STATUS_USAGE,
                         "--reset goes with neither --reboot, --force nor --kill-after");
    if (options->force && options->kill_after_ms >= 0)
        return error_set(error, STATUS_USAGE, "--force kills at once: --kill-after has no use");
    job->stop = (struct stop_options){
        .force = options->force,
        .reboot = options->reboot,
        .reset = options->reset,
        .dry_run = options->common.dry_run,
        .timeout_ms =
            options->common.timeout_ms >= 0 ? options->common.timeout_ms : STOP_TIMEOUT_MS,
        .kill_after_ms = options->kill_after_ms,
        .wait_lock_ms = options->common.wait_lock_ms,
        .observe = log_step,
    };
    if (options->common.timeout_ms >= 0 && options->kill_after_ms > options->common.timeout_ms)
        return error_set(error, STATUS_USAGE,
                         "--kill-after %g comes after --timeout %g, when nothing is waited for any "
                         "more",
                         (double)options->kill_after_ms / 1000,
                         (double)options->common.timeout_ms / 1000);
    if (options->kill_after_ms > job->stop.timeout_ms)
        job->stop.timeout_ms = options->kill_after_ms;
    if (select_open(names, options->all, &options->common, &job->selection, error) < 0)
        return -1;
    if (job->selection.notice.text[0] != '\0')
        log_warning("%s", job->selection.notice.text);
    return 0;
}

int main(int argc, char **argv)
{
    struct options options = {.kill_after_ms = -1, .parallel = PARALLEL_STOPS};
    struct cli_arguments names;
    struct job job = {.selection = SELECTION_NONE};
    struct error error = {0};

    cli_begin(argc, argv, &command);
    int status = cli_parse(&command, argc, argv, &options, &names);
    if (status >= 0)
        return status;
    enum status result = STATUS_DONE;
    if (prepare(&options, &names, &job, &error) < 0) {
        log_error("%s", error.text);
        result = error.status;
    } else {
        struct report report = {.json = options.common.json, .details = print_hooks};
        result = report_run(&report, job.selection.count, (size_t)options.parallel, work, &job);
    }
    select_release(&job.selection);
    return cli_finish(result);
}
