/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kvm-hotplug INSTANCE ACTION [ARGUMENT…]: change the devices of a running instance.
 *
 * A device is reported as added when QEMU shows it, as removed when the guest has let it go and its backend is gone.
 * When the guest does not let go in time it stays "removing" (exit 6), and the next command, or a guest reset,
 * completes it. What fails is undone; what was killed is finished or undone by the next command.
 */
#include <stdio.h>
#include <string.h>

#include "kvm/base/cli.h"
#include "kvm/base/json.h"
#include "kvm/base/log.h"
#include "kvm/base/memory.h"
#include "kvm/base/report.h"
#include "kvm/base/transaction.h"
#include "kvm/operations/hotplug.h"
#include "kvm/operations/present.h"
#include "kvm/state/instance.h"

enum { HOTPLUG_TIMEOUT_MS = 30000 };

struct options {
    struct cli_common common;
    bool force;
};

static const struct cli_option option_table[] = {
    {"force", 0, CLI_FLAG, offsetof(struct options, force), NULL,
     "resize-disk: shrink as well; set-memory: below minmem as well", 0, 0},
};

static const char *const usage[] = {
    "INSTANCE check|list",
    "INSTANCE add-disk path=FILE|uri=URI [KEY=VALUE...]|-",
    "INSTANCE del-disk DISK",
    "INSTANCE add-nic [mode=MODE] [link=LINK] [KEY=VALUE...]|-",
    "INSTANCE del-nic NIC",
    "INSTANCE mod-nic NIC KEY=VALUE...|-",
    "INSTANCE resize-disk DISK SIZE [--force]",
    "INSTANCE set-memory MIB [--force]",
    "INSTANCE set-link NIC up|down",
    "INSTANCE change-cdrom PATH|eject [cdrom|cdrom2]",
    "INSTANCE set-io DISK KEY=VALUE...|-",
    NULL,
};

static const char *const notes[] = {
    "DISK is a uuid, name, index, path, uri or device id; NIC a uuid, name, index, MAC, tap or "
    "device "
    "id.",
    "A whole disk or NIC as a JSON object is read from standard input with -.",
    "Without --timeout an action may take 30 seconds.", NULL};

static const struct cli_command command = {
    .program = "kvm-hotplug",
    .usage = usage,
    .summary = "Change the devices of a running instance.",
    .options = option_table,
    .option_count = COUNT(option_table),
    .common_offset = offsetof(struct options, common),
    .operand = "instance",
    .actions = hotplug_actions,
    .action_keys = hotplug_keys,
    .notes = notes,
};

struct job {
    struct rundir rundir;
    struct node node;
    struct cli_arguments words;
    struct hotplug_options hotplug;
};

static void work(void *context, size_t index, struct result *result)
{
    const struct job *job = context;

    (void)index;
    hotplug_run(&job->rundir, &job->node, job->words.items[0], job->words.items[1],
                job->words.items + 2, job->words.count - 2, &job->hotplug, result);
}

/* The list, and the plan of a dry run. */
static void print_details(const struct result *result)
{
    size_t i;
    json_t *item;

    present_devices(result->detail);
    json_array_foreach (json_member(result->detail, "steps"), i, item)
        printf("  step: %s\n", json_string_value(item));
    json_array_foreach (json_member(result->detail, "commands"), i, item) {
        AUTO_FREE char *text = json_compact(item);
        printf("  QMP:  %s\n", text);
    }
    json_array_foreach (json_member(result->detail, "files"), i, item)
        printf("  file: %s\n", json_string_value(item));
    present_hooks(result->detail);
}

static int prepare(const struct options *options, struct job *job, struct error *error)
{
    if (job->words.count == 0)
        return error_set(error, STATUS_USAGE, "which instance, and what is to be done with it?");
    if (job->words.count == 1)
        return error_set(error, STATUS_USAGE,
                         "%s: what is to be done? For example 'check'; 'kvm-hotplug --help' lists "
                         "the actions",
                         job->words.items[0]);
    job->hotplug = (struct hotplug_options){
        .dry_run = options->common.dry_run,
        .force = options->force,
        .timeout_ms =
            options->common.timeout_ms >= 0 ? options->common.timeout_ms : HOTPLUG_TIMEOUT_MS,
        .wait_lock_ms = options->common.wait_lock_ms,
        .observe = log_step,
    };
    if (instance_check_name(job->words.items[0], error) < 0 ||
        node_open(&job->node, options->common.conf_dir, error) < 0)
        return -1;
    return rundir_open(&job->rundir, options->common.run_dir, false, error);
}

int main(int argc, char **argv)
{
    struct options options = {0};
    struct job job = {.rundir = {.fd = -1}};
    struct error error = {0};

    cli_begin(argc, argv, &command);
    int status = cli_parse(&command, argc, argv, &options, &job.words);
    if (status >= 0)
        return status;
    enum status result = STATUS_DONE;
    if (prepare(&options, &job, &error) < 0) {
        log_error("%s", error.text);
        result = error.status;
    } else {
        struct report report = {.json = options.common.json, .details = print_details};
        result = report_run(&report, 1, 1, work, &job);
    }
    node_close(&job.node);
    rundir_close(&job.rundir);
    return cli_finish(result);
}
