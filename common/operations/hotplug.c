/* SPDX-License-Identifier: BSD-2-Clause */
/* The actions by name: what each takes and needs, and how one is begun and ended. */
#include <stdio.h>
#include <string.h>

#include "hotplug_private.h"
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/base/transaction.h"
#include "kvm/operations/operation_hooks.h"
#include "kvm/operations/reconcile.h"
#include "kvm/qemu/peripheral.h"

const char *const hotplug_actions[] = {
    "check",       "list",       "add-disk", "del-disk",     "add-nic", "del-nic", "mod-nic",
    "resize-disk", "set-memory", "set-link", "change-cdrom", "set-io",  NULL};

/* In the order of hotplug_actions. `looking`: no lock, changes nothing. */
static const struct {
    hotplug_action run;
    bool looking;
    int needs;
    size_t least, most;
    const char *arguments;
    const char *const *keys;
    enum hotplug_subject subject; /* what the first argument names */
} actions[] = {
    {hotplug_check, true, NEEDS_NOTHING, 0, 0, NULL, NULL, SUBJECT_NONE},
    {hotplug_list, true, NEEDS_NOTHING, 0, 0, NULL, NULL, SUBJECT_NONE},
    {hotplug_add_disk, false, NEEDS_SLOT, 1, SIZE_MAX, "path=FILE|uri=URI [KEY=VALUE...]|-",
     hotplug_disk_keys, SUBJECT_NONE},
    {hotplug_del_disk, false, NEEDS_GUEST, 1, 1, "DISK", NULL, SUBJECT_DISK},
    {hotplug_add_nic, false, NEEDS_SLOT, 0, SIZE_MAX, "[mode=MODE] [link=LINK] [KEY=VALUE...]|-",
     hotplug_nic_keys, SUBJECT_NONE},
    {hotplug_del_nic, false, NEEDS_GUEST, 1, 1, "NIC", NULL, SUBJECT_NIC},
    {hotplug_mod_nic, false, NEEDS_SLOT | NEEDS_GUEST, 2, SIZE_MAX, "NIC KEY=VALUE...|-",
     hotplug_mod_nic_keys, SUBJECT_NIC},
    {hotplug_resize_disk, false, NEEDS_NOTHING, 2, 2, "DISK SIZE [--force]", NULL, SUBJECT_DISK},
    {hotplug_set_memory, false, NEEDS_NOTHING, 1, 1, "MIB [--force]", NULL, SUBJECT_NONE},
    {hotplug_set_link, false, NEEDS_NOTHING, 2, 2, "NIC up|down", NULL, SUBJECT_NIC},
    {hotplug_change_cdrom, false, NEEDS_NOTHING, 1, 2, "PATH|eject [cdrom|cdrom2]", NULL,
     SUBJECT_NONE},
    {hotplug_set_io, false, NEEDS_NOTHING, 2, SIZE_MAX, "DISK KEY=VALUE...|-", hotplug_io_keys,
     SUBJECT_DISK},
};

static int find_action(const char *action)
{
    for (int i = 0; hotplug_actions[i] != NULL; i++)
        if (strcmp(hotplug_actions[i], action) == 0)
            return i;
    return -1;
}

const char *const *hotplug_keys(const char *action)
{
    int index = find_action(action);
    return index < 0 ? NULL : actions[index].keys;
}

void hotplug_text(struct hotplug *hotplug, char *text)
{
    free(hotplug->result->text);
    hotplug->result->text = text;
}

void hotplug_detail(struct hotplug *hotplug, const char *key, json_t *value)
{
    if (hotplug->result->detail == NULL)
        hotplug->result->detail = memory_json(json_object());
    json_object_set_new(hotplug->result->detail, key, memory_json(value));
}

/* Who forces a removal waits for something that there is not. */
static int check_force(const struct hotplug *hotplug, int index, struct error *error)
{
    hotplug_action run = actions[index].run;
    bool removes = run == hotplug_del_disk || run == hotplug_del_nic;

    if (!hotplug->options->force || run == hotplug_resize_disk || run == hotplug_set_memory)
        return 0;
    return error_set(error, STATUS_USAGE, "--force is for resize-disk and set-memory%s",
                     removes ? "; a guest can't be made to let a device go, and to take what is "
                               "behind it away would lose data"
                             : "");
}

static int check_arguments(const struct hotplug *hotplug, int index, struct error *error)
{
    if (hotplug->count >= actions[index].least && hotplug->count <= actions[index].most)
        return 0;
    if (actions[index].arguments == NULL)
        return error_set(error, STATUS_USAGE, "%s: takes no further word", hotplug_actions[index]);
    return error_set(error, STATUS_USAGE, "usage: kvm-hotplug INSTANCE %s %s",
                     hotplug_actions[index], actions[index].arguments);
}

/* The status and the last words of a failure. That QEMU did not answer in time to what was to be changed, and was then
 * undone, is a failure like others. */
static void conclude(const struct hotplug *hotplug, struct error *error)
{
    if (error->status == STATUS_TIMEOUT && !hotplug->goes_on && hotplug->touched)
        error->status = STATUS_FAILED;
    else if (error->status == STATUS_TIMEOUT && !hotplug->goes_on && !hotplug->advised)
        error_append(error,
                     "; nothing was changed: repeat the command, or 'kvm-stop --force %s' ends it",
                     hotplug->name);
    if (hotplug->unknown || (hotplug->keep && !hotplug->goes_on))
        error->status = STATUS_INCOMPLETE;
    if (error->status == STATUS_INCOMPLETE && !hotplug->advised)
        error_append(error, "; repeat the command: it is finished or undone then");
}

/* The hooks before it see the devices as they are, those behind it as they have become. */
static int run_with_hooks(struct hotplug *hotplug, int index, hotplug_action run,
                          struct error *error)
{
    struct operation operation = {.kind = OPERATION_HOTPLUG,
                                  .rundir = hotplug->rundir,
                                  .node = hotplug->node,
                                  .name = hotplug->name,
                                  .instance = hotplug->instance,
                                  .action = hotplug_actions[index],
                                  .arguments = hotplug->arguments,
                                  .argument_count = hotplug->count,
                                  .deadline = hotplug->deadline};

    int hooks = operation_hooks_pre(&operation, error);
    if (hooks < 0 || (hooks > 0 && hotplug_check_again(hotplug, error) < 0) ||
        run(hotplug, error) < 0)
        return -1;
    qmp_release(&hotplug->qmp);
    session_unlock(&hotplug->session);
    operation.deadline = hotplug->end;
    operation_hooks_post(&operation, &hotplug->result->warnings);
    return 0;
}

/* add-disk decides while QEMU answers; a hook that is run before has an effect. */
static bool may_answer_later(const struct hotplug *hotplug, int index)
{
    return actions[index].run == hotplug_add_disk &&
           !operation_hooks_exist(hotplug->node, OPERATION_HOTPLUG);
}

static int run_action(struct hotplug *hotplug, const char *action, struct error *error)
{
    int index = find_action(action);

    if (index < 0) {
        const char *near = text_nearest(action, hotplug_actions);
        return error_set(error, STATUS_USAGE, "%s: no such action%s%s%s", action,
                         near != NULL ? ", did you mean \"" : "; 'kvm-hotplug --help' lists them",
                         near != NULL ? near : "", near != NULL ? "\"?" : "");
    }
    if (check_arguments(hotplug, index, error) < 0 || check_force(hotplug, index, error) < 0 ||
        rundir_check_name(hotplug->rundir, hotplug->name, error) < 0)
        return -1;
    hotplug->subject = actions[index].subject;
    hotplug->needs = actions[index].needs;
    if (actions[index].keys != NULL && hotplug_read_given(hotplug, error) < 0)
        return -1;
    bool looking = actions[index].looking || hotplug->options->dry_run;
    if (actions[index].run != hotplug_check && hotplug_open(hotplug, looking, error) < 0)
        return -1;
    if (!looking && hotplug_begin(hotplug, may_answer_later(hotplug, index), error) < 0)
        return -1;
    if (!looking)
        return run_with_hooks(hotplug, index, actions[index].run, error);
    if (actions[index].run(hotplug, error) < 0)
        return -1;
    if (!actions[index].looking)
        hotplug_plan_operation_hooks(hotplug);
    return 0;
}

void hotplug_run(const struct rundir *rundir, const struct node *node, const char *name,
                 const char *action, char *const *arguments, size_t count,
                 const struct hotplug_options *options, struct result *result)
{
    struct hotplug hotplug = {.rundir = rundir,
                              .node = node,
                              .name = name,
                              .options = options,
                              .arguments = arguments,
                              .count = count,
                              .result = result,
                              .session = {.lock = -1, .process = {.pidfd = -1}}};
    struct error error = {0};

    result->subject = memory_copy(name);
    if (run_action(&hotplug, action, &error) < 0) {
        conclude(&hotplug, &error);
        result->status = error.status;
        hotplug_text(&hotplug, memory_copy(error.text));
    }
    hotplug_close(&hotplug);
}
