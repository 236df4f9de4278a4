/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kvm-cleanup INSTANCE…|--all: remove what dead instances left.
 *
 * A live instance is never touched (exit 3; with --all it is left alone). ifdown runs for NICs still configured; what
 * lies in a chroot goes to quarantine. Every step can be repeated.
 */
#include <stdio.h>
#include <string.h>

#include "kvm/base/cli.h"
#include "kvm/base/json.h"
#include "kvm/base/log.h"
#include "kvm/base/report.h"
#include "kvm/base/transaction.h"
#include "kvm/operations/present.h"
#include "kvm/operations/cleanup.h"
#include "kvm/operations/select.h"

enum { CLEANUP_TIMEOUT_MS = 60000, PARALLEL_CLEANUPS = 8 };

struct options {
    struct cli_common common;
    int64_t parallel;
    bool all, explain, force, remove_state;
};

static const struct cli_option option_table[] = {
    {"all", 0, CLI_FLAG, offsetof(struct options, all), NULL,
     "every instance of the run directory that does not run", 0, 0},
    {"force", 0, CLI_FLAG, offsetof(struct options, force), NULL,
     "also the source of a post-copy that ended in the middle: its guest is lost", 0, 0},
    {"explain", 0, CLI_FLAG, offsetof(struct options, explain), NULL,
     "list every finding and what would be done, without doing it (the same as --dry-run)", 0, 0},
    {"remove-state", 0, CLI_FLAG, offsetof(struct options, remove_state), NULL,
     "also remove what outlives an instance, for one that will not be started again: its NVRAM and "
     "the state of its TPM",
     0, 0},
    {"parallel", 0, CLI_NUMBER, offsetof(struct options, parallel), "N", "so many at a time (8)", 1,
     1000},
};

static const char *const usage[] = {
    "INSTANCE...|--all [--explain] [--force] [--parallel N]",
    "INSTANCE... --remove-state [--explain] [--force] [--parallel N]",
    NULL,
};

static const char *const notes[] = {"Without --timeout a clean-up may take 60 seconds.", NULL};

static const struct cli_command command = {
    .program = "kvm-cleanup",
    .usage = usage,
    .summary = "Remove what instances that do not run any more have left.",
    .options = option_table,
    .option_count = COUNT(option_table),
    .common_offset = offsetof(struct options, common),
    .operand = "instance",
    .notes = notes,
};

struct job {
    struct selection selection;
    struct cleanup_options cleanup;
};

static void work(void *context, size_t index, struct result *result)
{
    const struct job *job = context;
    cleanup_instance(&job->selection.rundir, &job->selection.node, job->selection.names[index],
                     &job->cleanup, result);
}

static void print_findings(const struct result *result)
{
    size_t i;
    json_t *one;

    json_array_foreach (json_member(result->detail, "findings"), i, one)
        printf("  %s: would %s\n", json_text(one, "finding"), json_text(one, "action"));
    present_hooks(result->detail);
}

static int prepare(const struct options *options, const struct cli_arguments *names,
                   struct job *job, struct error *error)
{
    job->cleanup = (struct cleanup_options){
        .explain = options->explain || options->common.dry_run,
        .force = options->force,
        .skip_live = options->all,
        .remove_state = options->remove_state,
        .timeout_ms =
            options->common.timeout_ms >= 0 ? options->common.timeout_ms : CLEANUP_TIMEOUT_MS,
        .wait_lock_ms = options->common.wait_lock_ms,
        .observe = log_step,
    };
    if (options->all && options->remove_state)
        return error_set(error, STATUS_USAGE, "--remove-state takes names, not --all");
    if (select_open(names, options->all, &options->common, &job->selection, error) < 0)
        return -1;
    if (job->selection.notice.text[0] != '\0')
        log_warning("%s", job->selection.notice.text);
    return 0;
}

int main(int argc, char **argv)
{
    struct options options = {.parallel = PARALLEL_CLEANUPS};
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
        struct report report = {.json = options.common.json, .details = print_findings};
        result = report_run(&report, job.selection.count, (size_t)options.parallel, work, &job);
    }
    select_release(&job.selection);
    return cli_finish(result);
}
