/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kvm-migrate INSTANCE to TARGET: move a running guest to another node.
 *
 * The guest never runs on both sides and is never lost to a failure: before the commit the source can always run it on,
 * after it only the target may. What was interrupted at any point is finished or undone by 'recover'.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kvm/base/cli.h"
#include "kvm/base/json.h"
#include "kvm/base/log.h"
#include "kvm/base/memory.h"
#include "kvm/base/report.h"
#include "kvm/base/text.h"
#include "kvm/base/transaction.h"
#include "kvm/operations/migrate.h"
#include "kvm/state/instance.h"

enum { MIGRATE_TIMEOUT_MS = 60000, LINE_EVERY_MS = 2000 };

struct options {
    struct cli_common common;
    const char *remote, *address, *on_deadline, *token;
    const char *compression, *x509;
    const char *copy_disks;
    const char **disk_paths;
    int64_t port, bandwidth, downtime, deadline_ms, multifd, disk_port;
    bool overwrite_disks, auto_converge, postcopy, plain_tcp, tunnel, non_live, in_place;
};

#define OPTION(field) offsetof(struct options, field)

static const struct cli_option option_table[] = {
    {"remote", 0, CLI_TEXT, OPTION(remote), "COMMAND",
     "runs a command on the target (ssh root@TARGET)", 0, 0},
    {"address", 0, CLI_TEXT, OPTION(address), "ADDRESS",
     "where the target listens for the memory (TARGET)", 0, 0},
    {"port", 0, CLI_NUMBER, OPTION(port), "PORT", "its port (migration_port); 0: any free one", 0,
     65535},
    {"bandwidth", 0, CLI_NUMBER, OPTION(bandwidth), "MIB",
     "at most so many MiB a second (migration_bandwidth); 0: unlimited", 0, 1000000},
    {"downtime", 0, CLI_NUMBER, OPTION(downtime), "MS",
     "pause the guest at most so long (migration_downtime)", 0, 2000000},
    {"deadline", 0, CLI_SECONDS, OPTION(deadline_ms), "SECONDS", "time for the copy (none)", 1,
     (int64_t)31 * 24 * 3600 * 1000},
    {"on-deadline", 0, CLI_TEXT, OPTION(on_deadline), "ACTION",
     "then: cancel, pause the guest so that the copy ends, or postcopy (cancel)", 0, 0},
    {"auto-converge", 0, CLI_FLAG, OPTION(auto_converge), NULL,
     "slow the guest down when the copy does not converge", 0, 0},
    {"postcopy", 0, CLI_FLAG, OPTION(postcopy), NULL,
     "after the first pass run the guest there, its memory follows", 0, 0},
    {"multifd", 0, CLI_NUMBER, OPTION(multifd), "N", "send the memory over N connections at once",
     1, 255},
    {"multifd-compression", 0, CLI_TEXT, OPTION(compression), "METHOD",
     "none, zlib or zstd, with --multifd (none)", 0, 0},
    {"tls-x509", 0, CLI_TEXT, OPTION(x509), "DIR",
     "certificates there, on both nodes, instead of a one-time key", 0, 0},
    {"tunnel", 0, CLI_FLAG, OPTION(tunnel), NULL,
     "send the memory through the remote command: no open port", 0, 0},
    {"plain-tcp", 0, CLI_FLAG, OPTION(plain_tcp), NULL,
     "do not encrypt the memory (it is, with a one-time key)", 0, 0},
    {"non-live", 0, CLI_FLAG, OPTION(non_live), NULL, "pause the guest before copying", 0, 0},
    {"copy-disks", 0, CLI_OPTIONAL, OPTION(copy_disks), "DISKS",
     "copy local disks as well: all, or those named with commas", 0, 0},
    {"disk-path", 0, CLI_LIST, OPTION(disk_paths), "DISK=PATH",
     "where a copied disk will be on the target; may be repeated", 0, 0},
    {"disk-port", 0, CLI_NUMBER, OPTION(disk_port), "PORT",
     "port for the disks (the one after --port); 0: any free one", 0, 65535},
    {"overwrite-disks", 0, CLI_FLAG, OPTION(overwrite_disks), NULL,
     "copied disks may take the place of what is there", 0, 0},
    {"in-place", 0, CLI_FLAG, OPTION(in_place), NULL,
     "to localhost: give the guest a new QEMU on this node", 0, 0},
    {"token", 0, CLI_TEXT, OPTION(token), "TOKEN",
     "commit, abort, finish: the other side's word; -: from standard input", 0, 0},
};

static const char *const usage[] = {
    "INSTANCE check|rehearse|to TARGET [--remote COMMAND] [--address ADDRESS] [OPTION...]",
    "INSTANCE check|rehearse|to localhost --in-place [OPTION...]",
    "INSTANCE status|cancel",
    "INSTANCE recover [--remote COMMAND]",
    "INSTANCE offer TARGET [OPTION...]",
    "INSTANCE accept|vote",
    "INSTANCE send [--deadline SECONDS] [--on-deadline cancel|pause]",
    "INSTANCE commit|abort|finish [--token TOKEN]",
    NULL,
};

static const char *const actions[] = {"to",    "check",  "rehearse", "status", "cancel", "recover",
                                      "vote",  "commit", "abort",    "finish", "serve",  "pipe",
                                      "offer", "accept", "send",     NULL};

static const char *const notes[] = {
    "Ctrl-C cancels a copy cleanly; the guest runs on here.",
    "serve and pipe are the target's side of a session: standard input and output belong to it.",
    NULL};

static const struct cli_command command = {
    .program = "kvm-migrate",
    .usage = usage,
    .summary = "Move a running guest to another node.",
    .options = option_table,
    .option_count = COUNT(option_table),
    .common_offset = offsetof(struct options, common),
    .operand = "instance",
    .actions = actions,
    .notes = notes,
};

struct job {
    struct options options;
    struct cli_arguments words;
    struct rundir rundir;
    struct node node;
    struct migrate_options migrate;
    json_t *document; /* from standard input */
    char *token;
};

static volatile sig_atomic_t interrupted;
static bool as_json;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

/* Before anything is begun. The source's Ctrl-C is not the target's: to a `serve` on the same terminal the source tells
 * what follows from it. */
static void hear_signals(const char *action)
{
    struct sigaction interrupt = {.sa_handler = on_interrupt}, before;
    bool serves = strcmp(action, "serve") == 0;

    if (!serves)
        sigaction(SIGINT, &interrupt, NULL);
    sigaction(SIGTERM, &interrupt, NULL);
    /* The way on which somebody has come here from the source may end. */
    if ((serves || strcmp(action, "accept") == 0) && sigaction(SIGHUP, NULL, &before) == 0 &&
        before.sa_handler != SIG_IGN)
        sigaction(SIGHUP, &interrupt, NULL);
}

/* A line redrawn on a terminal, a line now and then when not, JSON lines with --json. */
static void show_progress(const struct migrate_progress *progress)
{
    static double last;
    bool terminal = isatty(STDERR_FILENO) != 0 && !as_json;

    if (!terminal && (progress->seconds - last) * 1000 < LINE_EVERY_MS)
        return;
    last = progress->seconds;
    AUTO_FREE char *text =
        as_json ? migrate_progress_json(progress) : migrate_progress_text(progress);
    fprintf(stderr, "%s%s%s",
            terminal  ? "\r\033[K"
            : as_json ? ""
                      : "kvm-migrate: ",
            text, terminal ? "" : "\n");
    fflush(stderr);
}

static void work(void *context, size_t index, struct result *result)
{
    const struct job *job = context;
    const char *name = job->words.items[0], *action = job->words.items[1];

    (void)index;
    if (migrate_takes_target(action))
        migrate_to(&job->rundir, &job->node, name, &job->migrate,
                   strcmp(action, "check") == 0 || job->options.common.dry_run, result);
    else if (strcmp(action, "send") == 0)
        migrate_send(&job->rundir, &job->node, name, &job->migrate, job->document, result);
    else
        migrate_local(&job->rundir, &job->node, name, action, job->token, &job->migrate, result);
    if (isatty(STDERR_FILENO) != 0 && !as_json && migrate_takes_target(action))
        fprintf(stderr, "\r\033[K");
}

static int check_words(const struct job *job, struct error *error)
{
    const struct cli_arguments *words = &job->words;

    if (words->count < 2)
        return error_set(error, STATUS_USAGE,
                         "which instance, and what is to be done? For example "
                         "'kvm-migrate web1 to node2'");
    const char *action = words->items[1];
    for (int i = 0; actions[i] != NULL; i++) {
        if (strcmp(actions[i], action) != 0)
            continue;
        size_t wanted = migrate_takes_target(action) ? 3 : 2;
        if (words->count == wanted)
            return 0;
        if (words->count < wanted)
            return error_set(error, STATUS_USAGE, "%s: to which TARGET?", action);
        return error_set(error, STATUS_USAGE,
                         wanted == 3 ? "%s: only one TARGET (one word too many: \"%s\")"
                                     : "%s: takes no further word (one too many: \"%s\")",
                         action, words->items[wanted]);
    }
    const char *near = text_nearest(action, actions);
    return error_set(error, STATUS_USAGE, "%s: no such action%s%s%s", action,
                     near != NULL ? ", did you mean \"" : "; 'kvm-migrate --help' lists them",
                     near != NULL ? near : "", near != NULL ? "\"?" : "");
}

static int fill_options(struct job *job, struct error *error)
{
    const struct options *options = &job->options;
    const char *then = options->on_deadline != NULL ? options->on_deadline : "";

    if (options->on_deadline != NULL && strcmp(then, "cancel") != 0 && strcmp(then, "pause") != 0 &&
        strcmp(then, "postcopy") != 0)
        return error_set(error, STATUS_USAGE,
                         "--on-deadline: must be cancel, pause or postcopy (current value: \"%s\")",
                         then);
    job->migrate = (struct migrate_options){
        .target = job->words.count > 2 ? job->words.items[2] : NULL,
        .remote = options->remote,
        .address = options->address,
        .port = options->port,
        .bandwidth_mib = options->bandwidth,
        .downtime_ms = options->downtime,
        .deadline_ms = options->deadline_ms,
        .on_deadline = strcmp(then, "pause") == 0      ? ON_DEADLINE_PAUSE
                       : strcmp(then, "postcopy") == 0 ? ON_DEADLINE_POSTCOPY
                       : strcmp(then, "cancel") == 0   ? ON_DEADLINE_CANCEL
                                                       : ON_DEADLINE_NONE,
        .multifd = options->multifd,
        .multifd_compression = options->compression,
        .tls_x509 = options->x509,
        .copy_disks = options->copy_disks,
        .disk_paths = options->disk_paths,
        .disk_port = options->disk_port,
        .overwrite_disks = options->overwrite_disks,
        .auto_converge = options->auto_converge,
        .postcopy = options->postcopy,
        .plain_tcp = options->plain_tcp,
        .tunnel = options->tunnel,
        .in_place = options->in_place,
        .non_live = options->non_live,
        .token = options->token,
        .rehearse = strcmp(job->words.items[1], "rehearse") == 0,
        .timeout_ms =
            options->common.timeout_ms >= 0 ? options->common.timeout_ms : MIGRATE_TIMEOUT_MS,
        .wait_lock_ms = options->common.wait_lock_ms,
        .interrupted = &interrupted,
        .observe = log_step,
        .progress = show_progress,
    };
    return 0;
}

/* What was not said, once it has been checked. */
static void settle_options(struct migrate_options *options)
{
    if (options->multifd_compression == NULL)
        options->multifd_compression = "none";
    if (!options->in_place)
        return;
    options->plain_tcp = options->tunnel = true;
    if (options->bandwidth_mib < 0) /* nobody else is on the way that the memory takes then */
        options->bandwidth_mib = 0;
}

static int prepare(struct job *job, struct error *error)
{
    if (check_words(job, error) < 0 || instance_check_name(job->words.items[0], error) < 0 ||
        fill_options(job, error) < 0 ||
        migrate_check_options(&job->migrate, job->words.items[1], error) < 0)
        return -1;
    settle_options(&job->migrate);
    if (job->options.common.dry_run &&
        (!migrate_takes_target(job->words.items[1]) || strcmp(job->words.items[1], "offer") == 0))
        return error_set(error, STATUS_USAGE,
                         "--dry-run goes with to and rehearse only; 'status' "
                         "looks without changing anything");
    return node_open(&job->node, job->options.common.conf_dir, error);
}

static enum status print_document(enum status status, json_t *document)
{
    if (document == NULL)
        return status;
    json_dumpf(document, stdout, JSON_COMPACT);
    printf("\n");
    json_decref(document);
    return status;
}

static enum status offer(struct job *job)
{
    json_t *document = NULL;
    enum status status =
        migrate_offer(&job->rundir, &job->node, job->words.items[0], &job->migrate, &document);

    return print_document(status, document);
}

static int read_what_is_needed(struct job *job, struct error *error)
{
    const char *action = job->words.items[1], *token = job->options.token;

    if (strcmp(action, "accept") == 0 || strcmp(action, "send") == 0) {
        job->document = migrate_read_document(error);
        return job->document == NULL ? -1 : 0;
    }
    if (token == NULL)
        return 0;
    job->token = strcmp(token, "-") == 0 ? migrate_read_token(error) : memory_copy(token);
    return job->token == NULL ? -1 : 0;
}

static enum status run(struct job *job, struct error *error)
{
    const char *name = job->words.items[0], *action = job->words.items[1];

    if (read_what_is_needed(job, error) < 0) {
        log_error("%s", error->text);
        return error->status;
    }
    /* These have nothing to undo; a vote waits for the copy, and is given in one moment. */
    if (strcmp(action, "pipe") != 0 && strcmp(action, "offer") != 0 && strcmp(action, "vote") != 0)
        hear_signals(action);
    if (strcmp(action, "accept") == 0)
        return migrate_accept(job->options.common.run_dir, &job->node, name, &job->migrate,
                              job->document);
    if (strcmp(action, "serve") == 0)
        return migrate_serve(job->options.common.run_dir, &job->node, name, &job->migrate);
    if (rundir_open(&job->rundir, job->options.common.run_dir, false, error) < 0) {
        log_error("%s", error->text);
        return error->status;
    }
    if (strcmp(action, "pipe") == 0)
        return migrate_pipe(&job->rundir, name);
    if (strcmp(action, "offer") == 0)
        return offer(job);
    struct report report = {.json = job->options.common.json};
    return report_run(&report, 1, 1, work, job);
}

int main(int argc, char **argv)
{
    struct job job = {
        .rundir = {.fd = -1},
        .options = {
            .port = -1, .bandwidth = -1, .downtime = -1, .deadline_ms = -1, .disk_port = -1}};
    struct error error = {0};

    cli_begin(argc, argv, &command);
    int status = cli_parse(&command, argc, argv, &job.options, &job.words);
    if (status >= 0)
        return status;
    as_json = job.options.common.json;
    enum status result;
    if (prepare(&job, &error) < 0) {
        log_error("%s", error.text);
        result = error.status;
    } else {
        result = run(&job, &error);
    }
    node_close(&job.node);
    json_decref(job.document);
    free(job.token);
    cli_release(&command, &job.options);
    rundir_close(&job.rundir);
    return cli_finish(result);
}
