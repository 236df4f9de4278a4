/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kvm-start FILE|-…: start instances from their definitions.
 *
 * Everything is checked before anything is made. An instance either runs when this ends with 0, or nothing of it is
 * left; killed at any moment, the same command repeated finishes or starts anew.
 */
#include <stdio.h>
#include <string.h>

#include "kvm/base/cli.h"
#include "kvm/base/json.h"
#include "kvm/base/log.h"
#include "kvm/base/report.h"
#include "kvm/base/transaction.h"
#include "kvm/operations/start.h"

enum { START_TIMEOUT_MS = 60000, PARALLEL_STARTS = 4 };

struct options {
    struct cli_common common;
    bool paused;
};

static const struct cli_option option_table[] = {
    {"paused", 0, CLI_FLAG, offsetof(struct options, paused), NULL,
     "leave the guest's CPUs stopped; the same command without it lets them run", 0, 0},
};

static const char *const usage[] = {"FILE|-... [--paused] [--dry-run]", NULL};

static const char *const notes[] = {
    "FILE is an instance definition, see kvm-instance(5); - reads it from standard input.",
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
    struct cli_arguments files;
    struct node node;
    struct start_options start;
};

static void observe(const char *what)
{
    log_detail("%s", what);
}

static void work(void *context, size_t index, struct result *result)
{
    const struct job *job = context;
    start_file(job->files.items[index], &job->node, &job->start, result);
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

int main(int argc, char **argv)
{
    struct options options = {0};
    struct job job = {0};
    struct error error = {0};

    cli_begin(argc, argv, &command);
    int status = cli_parse(&command, argc, argv, &options, &job.files);
    if (status >= 0)
        return status;
    if (job.files.count == 0) {
        log_error("which definition? '%s FILE', or '-' for standard input", command.program);
        return STATUS_USAGE;
    }
    if (node_open(&job.node, options.common.conf_dir, &error) < 0) {
        log_error("%s", error.text);
        return (int)error.status;
    }
    job.start = (struct start_options){
        .run_dir = options.common.run_dir,
        .paused = options.paused,
        .dry_run = options.common.dry_run,
        .timeout_ms = options.common.timeout_ms >= 0 ? options.common.timeout_ms : START_TIMEOUT_MS,
        .wait_lock_ms = options.common.wait_lock_ms,
        .observe = observe,
    };
    struct report report = {.json = options.common.json,
                            .details = options.common.dry_run ? print_plan : NULL};
    enum status result = report_run(&report, job.files.count, PARALLEL_STARTS, work, &job);
    node_close(&job.node);
    return cli_finish(result);
}
