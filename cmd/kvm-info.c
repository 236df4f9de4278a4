/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kvm-info [INSTANCE…]: list instances, show one, its slots, its events, its console.
 *
 * Takes no lock and writes nothing; what is alive is asked on its query monitor, which no changing command uses, so
 * looking never waits for doing. Exit 0: running; 3: not running.
 */
#include <stdio.h>
#include <string.h>

#include "kvm/base/cli.h"
#include "kvm/base/json.h"
#include "kvm/base/log.h"
#include "kvm/base/memory.h"
#include "kvm/base/transaction.h"
#include "kvm/operations/inspect.h"
#include "kvm/operations/present.h"
#include "kvm/qemu/events.h"
#include "kvm/state/instance.h"

enum { INFO_TIMEOUT_MS = 2000 };

struct options {
    struct cli_common common;
    bool slots, events, console;
};

static const struct cli_option option_table[] = {
    {"slots", 0, CLI_FLAG, offsetof(struct options, slots), NULL,
     "the map of the 32 PCI slots: reserved, ours, foreign, free", 0, 0},
    {"events", 0, CLI_FLAG, offsetof(struct options, events), NULL,
     "what QEMU and the suite's programs have logged, oldest first", 0, 0},
    {"console", 0, CLI_FLAG, offsetof(struct options, console), NULL,
     "print the command that opens the serial console", 0, 0},
};

static const char *const usage[] = {"[INSTANCE...]", "INSTANCE --slots|--events|--console", NULL};

static const char *const notes[] = {
    "Exit status 0 when all the instances named run, 3 when one does not; the list alone is 0.",
    "Without --timeout a monitor that does not answer is given 2 seconds.", NULL};

static const struct cli_command command = {
    .program = "kvm-info",
    .usage = usage,
    .summary = "List instances, or show one: state, devices, slots, events, console.",
    .options = option_table,
    .option_count = COUNT(option_table),
    .common_offset = offsetof(struct options, common),
    .operand = "instance",
    .notes = notes,
};

struct info {
    struct options options;
    struct cli_arguments names;
    struct rundir rundir;
    deadline_t deadline;
};

static enum status status_of(const json_t *detail)
{
    return inspect_is_live(detail) ? STATUS_DONE : STATUS_STATE;
}

static enum status fail(const struct error *error)
{
    log_error("%s", error->text);
    return error->status;
}

static enum status list(const struct info *info)
{
    size_t count;
    struct error error = {0};
    char **names = rundir_names(&info->rundir, &count, &error);
    AUTO_JSON json_t *all = memory_json(json_array());

    if (names == NULL)
        return fail(&error);
    for (size_t i = 0; i < count; i++)
        json_array_append_new(all, inspect_brief(&info->rundir, names[i]));
    rundir_names_release(names);
    if (info->options.common.json)
        present_json(all);
    else
        present_list(all);
    return STATUS_DONE;
}

static enum status show(const struct info *info)
{
    AUTO_JSON json_t *all = memory_json(json_array());
    enum status status = STATUS_DONE;

    for (size_t i = 0; i < info->names.count; i++) {
        struct error error = {0};
        const char *name = info->names.items[i];
        if (rundir_check_name(&info->rundir, name, &error) < 0) {
            log_error("%s", error.text);
            return error.status;
        }
        /* One that hangs leaves the others their share of the time. */
        int64_t left_ms = info->deadline - clock_now_ms();
        deadline_t share = clock_deadline(left_ms / (int64_t)(info->names.count - i));
        json_t *detail = inspect_detail(&info->rundir, name, share);
        if (status_of(detail) > status)
            status = status_of(detail);
        json_array_append_new(all, detail);
        if (!info->options.common.json)
            present_detail(detail);
    }
    if (info->options.common.json)
        present_json(all);
    return status;
}

static enum status show_slots(const struct info *info, const char *name)
{
    struct error error = {0};
    AUTO_JSON json_t *map = inspect_slots(&info->rundir, name, info->deadline, &error);

    if (map == NULL)
        return fail(&error);
    if (info->options.common.json)
        present_json(map);
    else
        present_slots(map);
    return STATUS_DONE;
}

static enum status show_events(const struct info *info, const char *name)
{
    size_t damaged = 0;
    AUTO_JSON json_t *events = events_read(&info->rundir, name, &damaged);

    if (damaged > 0)
        log_warning("%s: %zu lines of the event log can't be read and are left out", name, damaged);
    if (info->options.common.json)
        present_json(events);
    else
        present_events(events);
    return STATUS_DONE;
}

static enum status show_console(const struct info *info, const char *name)
{
    struct error error = {0};
    AUTO_FREE char *words = inspect_console(&info->rundir, name, &error);

    if (words == NULL)
        return fail(&error);
    if (info->options.common.json) {
        AUTO_JSON json_t *object =
            memory_json(json_pack("{s:s, s:s}", "instance", name, "command", words));
        present_json(object);
    } else {
        puts(words);
    }
    return STATUS_DONE;
}

static enum status one_view(const struct info *info)
{
    struct error error = {0};

    const char *name = info->names.items[0];
    if (rundir_check_name(&info->rundir, name, &error) < 0)
        return fail(&error);
    AUTO_JSON json_t *brief = inspect_brief(&info->rundir, name);
    if (strcmp(json_text(brief, "state"), "absent") == 0) {
        log_error("%s: nothing of it is in %s; 'kvm-info' lists what is", name, info->rundir.path);
        return STATUS_STATE;
    }
    if (info->options.slots)
        return show_slots(info, name);
    return info->options.events ? show_events(info, name) : show_console(info, name);
}

static enum status no_run_directory(const struct info *info, const struct error *error)
{
    if (error->status == STATUS_STATE && info->names.count == 0) {
        if (info->options.common.json)
            puts("[]");
        else
            log_warning("%s", error->text);
        return STATUS_DONE;
    }
    return fail(error);
}

int main(int argc, char **argv)
{
    struct info info = {.rundir = {.fd = -1}};
    struct error error = {0};
    enum status result;

    cli_begin(argc, argv, &command);
    int status = cli_parse(&command, argc, argv, &info.options, &info.names);
    if (status >= 0)
        return status;
    const struct options *options = &info.options;
    info.deadline = clock_deadline(options->common.timeout_ms >= 0 ? options->common.timeout_ms
                                                                   : INFO_TIMEOUT_MS);
    if (options->slots + options->events + options->console > 1) {
        log_error("--slots, --events and --console: one at a time");
        return STATUS_USAGE;
    }
    for (size_t i = 0; i < info.names.count; i++) {
        if (instance_check_name(info.names.items[i], &error) < 0)
            return cli_finish(fail(&error));
    }
    if ((options->slots || options->events || options->console) && info.names.count != 1) {
        log_error("--slots, --events and --console are about one instance: name it");
        return STATUS_USAGE;
    }
    if (rundir_open(&info.rundir, options->common.run_dir, false, &error) < 0)
        result = no_run_directory(&info, &error);
    else if (options->slots || options->events || options->console)
        result = one_view(&info);
    else
        result = info.names.count == 0 ? list(&info) : show(&info);
    rundir_close(&info.rundir);
    return cli_finish(result);
}
