/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kvm-start FILE|DIR|-…|--all: start instances from their definitions; --resume NAME…: let paused ones go on.
 *
 * Everything is checked before anything is made. An instance either runs when this ends with 0, or nothing of it is
 * left; killed at any moment, the same command repeated finishes or starts anew.
 */
#include <stdio.h>
#include <string.h>

#include "kvm/base/cli.h"
#include "kvm/base/json.h"
#include "kvm/base/log.h"
#include "kvm/base/memory.h"
#include "kvm/base/report.h"
#include "kvm/base/transaction.h"
#include "kvm/operations/adopt.h"
#include "kvm/operations/resume.h"
#include "kvm/operations/select.h"
#include "kvm/operations/start.h"
#include "kvm/state/instance.h"

enum { START_TIMEOUT_MS = 60000, PARALLEL_STARTS = 4 };

struct options {
    struct cli_common common;
    const char *adopt;
    int64_t parallel;
    bool all, paused, resume;
};

static const struct cli_option option_table[] = {
    {"adopt", 0, CLI_TEXT, offsetof(struct options, adopt), "INSTANCE",
     "make a new runtime file for a QEMU (name or pid) that runs without a good one", 0, 0},
    {"all", 0, CLI_FLAG, offsetof(struct options, all), NULL,
     "every definition in the directory instances of the configuration directory", 0, 0},
    {"paused", 0, CLI_FLAG, offsetof(struct options, paused), NULL,
     "leave the guest's CPUs stopped; the same command without it lets them run", 0, 0},
    {"parallel", 0, CLI_NUMBER, offsetof(struct options, parallel), "N", "so many at a time (4)", 1,
     1000},
    {"resume", 0, CLI_FLAG, offsetof(struct options, resume), NULL,
     "let instances go on that are paused: by --paused, an I/O error, a watchdog, another program",
     0, 0},
};

static const char *const usage[] = {
    "FILE|DIR|-... [--paused] [--parallel N]",
    "--all [--paused] [--parallel N]",
    "--adopt INSTANCE [FILE]",
    "--resume INSTANCE...",
    NULL,
};

static const char *const notes[] = {
    "FILE is an instance definition, see kvm-instance(5); - reads it from standard input.",
    "DIR stands for every definition in it (*.json).",
    "Without --timeout a start may take 60 seconds.", NULL};

static const struct cli_command command = {
    .program = "kvm-start",
    .usage = usage,
    .summary = "Start instances from their definitions.",
    .options = option_table,
    .option_count = COUNT(option_table),
    .common_offset = offsetof(struct options, common),
    .operand = "file",
    .notes = notes,
};

struct job {
    struct selection files;
    struct definitions definitions;
    struct node node;
    struct start_options start;
};

static void work(void *context, size_t index, struct result *result)
{
    const struct job *job = context;
    start_definition(&job->definitions.items[index], &job->node, &job->start, result);
}

static void print_list(const char *title, const json_t *list)
{
    size_t i;
    json_t *item;

    json_array_foreach (list, i, item)
        printf("  %s %s\n", i == 0 ? title : "        ", json_string_value(item));
}

/* Quoted where a shell needs it, so that the line can be pasted. */
static void print_word(const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "-_./:=,+@%";

    if (word[0] != '\0' && word[strspn(word, plain)] == '\0') {
        printf(" %s", word);
        return;
    }
    printf(" '");
    for (; *word != '\0'; word++) {
        if (*word == '\'')
            printf("'\\''");
        else
            putchar(*word);
    }
    putchar('\'');
}

static void print_plan(const struct result *result)
{
    const json_t *words = json_member(result->detail, "command");
    const char *slot;
    json_t *value;
    size_t i;

    if (words == NULL)
        return;
    printf("  command:");
    json_array_foreach (words, i, value)
        print_word(json_string_value(value));
    printf("\n  slots:  ");
    json_object_foreach (json_member(result->detail, "slots"), slot, value)
        printf(" %s=%s;", slot, json_string_value(value));
    putchar('\n');
    print_list("hooks:  ", json_member(result->detail, "hooks"));
    print_list("files:  ", json_member(result->detail, "files"));
}

static int prepare(const struct options *options, const struct cli_arguments *words,
                   struct job *job, struct error *error)
{
    if (node_open(&job->node, options->common.conf_dir, error) < 0)
        return -1;
    AUTO_FREE char *directory = memory_format("%s/instances", job->node.path);
    if (select_definitions(words, options->all ? directory : NULL, &job->files, error) < 0)
        return -1;
    if (job->files.count == 0) /* nothing to do, but it may be a slip */
        log_warning("%s: there is no definition (*.json) in it", directory);
    job->start = (struct start_options){
        .run_dir = options->common.run_dir,
        .paused = options->paused,
        .dry_run = options->common.dry_run,
        .timeout_ms =
            options->common.timeout_ms >= 0 ? options->common.timeout_ms : START_TIMEOUT_MS,
        .wait_lock_ms = options->common.wait_lock_ms,
        .observe = log_step,
    };
    return definitions_read(job->files.names, job->files.count,
                            clock_deadline(job->start.timeout_ms), &job->definitions, error);
}

/* ---- --adopt ---- */

struct adoption {
    struct rundir rundir;
    struct node node;
    const char *who;
    struct adopt_options options;
};

static void adopt(void *context, size_t index, struct result *result)
{
    const struct adoption *adoption = context;

    (void)index;
    adopt_run(&adoption->rundir, &adoption->node, adoption->who, &adoption->options, result);
}

static int prepare_adoption(const struct options *options, const struct cli_arguments *words,
                            struct adoption *adoption, struct error *error)
{
    if (options->all || options->paused || options->resume || words->count > 1)
        return error_set(error, STATUS_USAGE,
                         "--adopt takes one definition at most, and no --all, --paused or "
                         "--resume");
    adoption->who = options->adopt;
    adoption->options = (struct adopt_options){
        .definition = words->count > 0 ? words->items[0] : NULL,
        .dry_run = options->common.dry_run,
        .timeout_ms =
            options->common.timeout_ms >= 0 ? options->common.timeout_ms : START_TIMEOUT_MS,
        .wait_lock_ms = options->common.wait_lock_ms,
    };
    if (instance_check_name(adoption->who, error) < 0) /* a pid passes as well */
        return -1;
    if (node_open(&adoption->node, options->common.conf_dir, error) < 0)
        return -1;
    return rundir_open(&adoption->rundir, options->common.run_dir, false, error);
}

static enum status run_adoption(const struct options *options, const struct cli_arguments *words)
{
    struct adoption adoption = {.rundir = {.fd = -1}};
    struct report report = {.json = options->common.json};
    struct error error = {0};
    enum status result;

    if (prepare_adoption(options, words, &adoption, &error) < 0) {
        log_error("%s", error.text);
        result = error.status;
    } else {
        result = report_run(&report, 1, 1, adopt, &adoption);
    }
    node_close(&adoption.node);
    rundir_close(&adoption.rundir);
    return result;
}

/* ---- --resume ---- */

struct resumption {
    struct selection selection;
    struct resume_options options;
};

static void resume(void *context, size_t index, struct result *result)
{
    const struct resumption *job = context;

    resume_instance(&job->selection.rundir, &job->selection.node, job->selection.names[index],
                    &job->options, result);
}

static enum status run_resumption(const struct options *options, const struct cli_arguments *words)
{
    struct resumption job = {.selection = SELECTION_NONE,
                             .options = {.dry_run = options->common.dry_run,
                                         .timeout_ms = options->common.timeout_ms >= 0
                                                           ? options->common.timeout_ms
                                                           : START_TIMEOUT_MS,
                                         .wait_lock_ms = options->common.wait_lock_ms}};
    struct report report = {.json = options->common.json};
    struct error error = {0};
    enum status result;

    if (options->all || options->paused || words->count == 0)
        error_set(&error, STATUS_USAGE,
                  "--resume takes the names of instances, and neither --all nor --paused");
    if (error.status != 0 ||
        select_open(words, false, &options->common, &job.selection, &error) < 0) {
        log_error("%s", error.text);
        result = error.status;
    } else {
        result = report_run(&report, job.selection.count, (size_t)options->parallel, resume, &job);
    }
    select_release(&job.selection);
    return result;
}

int main(int argc, char **argv)
{
    struct options options = {.parallel = PARALLEL_STARTS};
    struct cli_arguments words;
    struct job job = {0};
    struct error error = {0};

    cli_begin(argc, argv, &command);
    int status = cli_parse(&command, argc, argv, &options, &words);
    if (status >= 0)
        return status;
    if (options.adopt != NULL)
        return cli_finish(run_adoption(&options, &words));
    if (options.resume)
        return cli_finish(run_resumption(&options, &words));
    enum status result;
    if (prepare(&options, &words, &job, &error) < 0) {
        log_error("%s", error.text);
        result = error.status;
    } else {
        struct report report = {.json = options.common.json,
                                .details = options.common.dry_run ? print_plan : NULL};
        result = report_run(&report, job.files.count, (size_t)options.parallel, work, &job);
    }
    definitions_release(&job.definitions);
    select_release(&job.files);
    node_close(&job.node);
    return cli_finish(result);
}
