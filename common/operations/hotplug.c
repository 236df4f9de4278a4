/* SPDX-License-Identifier: BSD-2-Clause */
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

/* Kept for looking and undoing: a part of the time, but not more than that; and at least a last moment. */
enum { RESERVE_PART = 4, RESERVE_MS = 5000, LAST_MOMENT_MS = 800 };

const char *const hotplug_actions[] = {
    "check",       "list",       "add-disk", "del-disk",     "add-nic", "del-nic", "mod-nic",
    "resize-disk", "set-memory", "set-link", "change-cdrom", "set-io",  NULL};

/* In the order of hotplug_actions. `looking`: no lock, changes nothing. */
static const struct {
    hotplug_action run;
    bool looking;
    size_t least, most;
    const char *arguments;
    const char *const *keys;
    enum hotplug_subject subject; /* what the first argument names */
} actions[] = {
    {hotplug_check, true, 0, 0, NULL, NULL, SUBJECT_NONE},
    {hotplug_list, true, 0, 0, NULL, NULL, SUBJECT_NONE},
    {hotplug_add_disk, false, 1, SIZE_MAX, "path=FILE|uri=URI [KEY=VALUE...]|-", hotplug_disk_keys,
     SUBJECT_NONE},
    {hotplug_del_disk, false, 1, 1, "DISK", NULL, SUBJECT_DISK},
    {hotplug_add_nic, false, 0, SIZE_MAX, "[mode=MODE] [link=LINK] [KEY=VALUE...]|-",
     hotplug_nic_keys, SUBJECT_NONE},
    {hotplug_del_nic, false, 1, 1, "NIC", NULL, SUBJECT_NIC},
    {hotplug_mod_nic, false, 2, SIZE_MAX, "NIC KEY=VALUE...|-", hotplug_mod_nic_keys, SUBJECT_NIC},
    {hotplug_resize_disk, false, 2, 2, "DISK SIZE [--force]", NULL, SUBJECT_DISK},
    {hotplug_set_memory, false, 1, 1, "MIB [--force]", NULL, SUBJECT_NONE},
    {hotplug_set_link, false, 2, 2, "NIC up|down", NULL, SUBJECT_NIC},
    {hotplug_change_cdrom, false, 1, 2, "PATH|eject [cdrom|cdrom2]", NULL, SUBJECT_NONE},
    {hotplug_set_io, false, 2, SIZE_MAX, "DISK KEY=VALUE...|-", hotplug_io_keys, SUBJECT_DISK},
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

static int keep_what_was(struct hotplug *hotplug, struct error *error)
{
    char name[RUNDIR_PATH_MAX];

    free(hotplug->before);
    hotplug->before = NULL;
    rundir_name(RUNDIR_RUNTIME, hotplug->name, name);
    return file_read(hotplug->rundir->fd, name, RUNTIME_SIZE_MAX, true, &hotplug->before,
                     &hotplug->before_length, error);
}

static int check_state(struct hotplug *hotplug, struct error *error)
{
    const struct session *session = &hotplug->session;

    if (!session_is_live(session))
        return error_set(error, STATUS_STATE, "it does not run; 'kvm-start FILE' starts it");
    if (!session->has_runtime)
        return error_set(
            error, STATUS_STATE,
            "its runtime file %s%s, so its devices are not known; 'kvm-start --adopt %s' "
            "makes a new one",
            session->runtime_fault.text[0] != '\0' ? "can't be read: " : "is missing",
            session->runtime_fault.text, hotplug->name);
    if (session->runtime.state == RUNTIME_STARTING)
        return error_set(error, STATUS_STATE,
                         "its start was interrupted; repeat 'kvm-start' or 'kvm-stop %s'",
                         hotplug->name);
    return session_check_recorded(session, error) < 0 ? -1 : session_check_settled(session, error);
}

static int check_migration(struct hotplug *hotplug, struct error *error)
{
    const char *phase;

    if (peripheral_migration(hotplug->qmp, hotplug->deadline, &phase, error) < 0)
        return error_prefix(error, "whether a migration is in progress");
    if (phase == NULL && strcmp(hotplug->status, "inmigrate") != 0 &&
        strcmp(hotplug->status, "postmigrate") != 0 &&
        strcmp(hotplug->status, "finish-migrate") != 0)
        return 0;
    return error_set(error, STATUS_STATE,
                     "a migration is in progress (%s): devices stay as they are until it has ended",
                     phase != NULL ? phase : hotplug->status);
}

/* With what has to be known before anything is done: QEMU reads the short ones while it works on the long one. */
static void connect_monitor(struct hotplug *hotplug, bool looking, struct error *error)
{
    enum { STATUS = 1 };
    static const struct qmp_request questions[] = {
        {"query-pci", NULL}, [STATUS] = {"query-status", NULL}, {"query-migrate", NULL}};
    AUTO_FREE char *path = rundir_path(hotplug->rundir, RUNDIR_QMP, hotplug->name);

    hotplug->qmp = looking ? monitor_look(hotplug->rundir, hotplug->name, &hotplug->session.process,
                                          &questions[STATUS], 1, hotplug->deadline, error)
                           : qmp_connect_asking(path, hotplug->session.process.pid, questions,
                                                COUNT(questions), hotplug->deadline, error);
}

int hotplug_open(struct hotplug *hotplug, bool looking, struct error *error)
{
    struct error unreachable = {0};

    if (!looking && !rundir_knows(hotplug->rundir, hotplug->name)) /* a slip leaves no lock */
        return error_set(error, STATUS_STATE, "it does not run; 'kvm-start FILE' starts it");
    if (session_find(&hotplug->session, hotplug->rundir, hotplug->node, hotplug->name, !looking,
                     clock_deadline(hotplug->options->wait_lock_ms), error) < 0)
        return -1;
    if (session_is_live(&hotplug->session)) /* before the files: it answers while they are read */
        connect_monitor(hotplug, looking, &unreachable);
    if (session_read(&hotplug->session, error) < 0)
        return -1;
    hotplug->runtime = &hotplug->session.runtime;
    hotplug->instance = &hotplug->runtime->instance;
    if (check_state(hotplug, error) < 0)
        return -1;
    if (hotplug->qmp == NULL && unreachable.status == STATUS_TIMEOUT) /* conclude goes on */
        return error_set(error, STATUS_TIMEOUT, "%s", unreachable.text);
    if (hotplug->qmp == NULL)
        return error_set(error, unreachable.status,
                         "%s; 'kvm-info %s' shows more, 'kvm-stop --force %s' ends it",
                         unreachable.text, hotplug->name, hotplug->name);
    if (monitor_status(hotplug->qmp, hotplug->deadline, hotplug->status, error) < 0)
        return -1;
    if (looking)
        return 0;
    if (check_migration(hotplug, error) < 0)
        return -1;
    hotplug_name_subject(hotplug);
    hotplug->touched = true; /* for as long as that works */
    if (!hotplug->options->dry_run &&
        reconcile_live(hotplug->rundir, hotplug->node, hotplug->runtime, hotplug->qmp,
                       hotplug->deadline, &hotplug->result->warnings, error) < 0)
        return error_prefix(error, "finishing what an earlier command left");
    hotplug->touched = false;
    return keep_what_was(hotplug, error);
}

void hotplug_close(struct hotplug *hotplug)
{
    qmp_release(&hotplug->qmp);
    session_close(&hotplug->session);
    free(hotplug->before);
    free(hotplug->subject_uuid);
    hotplug->before = hotplug->subject_uuid = NULL;
}

int hotplug_check_guest_listens(const struct hotplug *hotplug, const char *what,
                                struct error *error)
{
    if (strcmp(hotplug->status, "running") == 0)
        return 0;
    if (strcmp(hotplug->status, "prelaunch") == 0)
        return error_set(error, STATUS_STATE,
                         "%s: the guest has not run yet (paused start), and QEMU would lose the "
                         "request; let it run first: 'kvm-start FILE' again without --paused",
                         what);
    return error_set(error, STATUS_STATE,
                     "%s: the guest is \"%s\" and can't let a device go before it runs again", what,
                     hotplug->status);
}

bool hotplug_recover(struct hotplug *hotplug, struct error *error)
{
    struct error again = {0};

    if (hotplug->unknown)
        return false;
    deadline_t last = clock_deadline(LAST_MOMENT_MS);
    if (!hotplug->recovering)
        hotplug->deadline = hotplug->end > last ? hotplug->end : last;
    hotplug->recovering = true;
    if (hotplug->qmp != NULL && qmp_read(hotplug->qmp))
        return true;
    qmp_release(&hotplug->qmp);
    hotplug->qmp = monitor_open(hotplug->rundir, hotplug->name, RUNDIR_QMP,
                                &hotplug->session.process, hotplug->deadline, &again);
    if (hotplug->qmp != NULL)
        return true;
    hotplug->unknown = true;
    if (error != NULL)
        error_append(error, "%s%s", error->text[0] != '\0' ? "; " : "", again.text);
    return false;
}

enum qmp_outcome hotplug_call(struct hotplug *hotplug, const char *command, json_t *arguments,
                              struct error *error)
{
    hotplug->touched = true;
    enum qmp_outcome outcome =
        qmp_call(hotplug->qmp, command, arguments, hotplug->deadline, NULL, error);

    if (outcome == QMP_UNKNOWN)
        hotplug_recover(hotplug, error);
    return outcome;
}

int hotplug_set(struct hotplug *hotplug, const char *command, json_t *arguments,
                struct error *error)
{
    AUTO_JSON json_t *again = json_incref(arguments);
    enum qmp_outcome outcome = hotplug_call(hotplug, command, arguments, error);

    if (outcome == QMP_UNKNOWN && !hotplug->unknown)
        outcome = hotplug_call(hotplug, command, json_incref(again), error);
    if (outcome == QMP_UNKNOWN)
        error->status = STATUS_INCOMPLETE;
    return outcome == QMP_DONE ? 0 : -1;
}

int hotplug_begin_undo(struct hotplug *hotplug, struct error *error)
{
    if (hotplug->keep || hotplug->unknown)
        return 0;
    return hotplug_recover(hotplug, error) ? 1 : -1;
}

int hotplug_end_undo(struct hotplug *hotplug, int result)
{
    hotplug->keep = hotplug->keep || result < 0;
    return result;
}

int hotplug_undo(struct hotplug *hotplug, int (*act)(void *plan, struct error *error), void *plan,
                 struct error *error)
{
    int ready = hotplug_begin_undo(hotplug, error);

    return ready <= 0 ? ready : hotplug_end_undo(hotplug, act(plan, error));
}

int hotplug_take_back(struct hotplug *hotplug,
                      int (*remove)(struct qmp *qmp, const char *name, deadline_t deadline,
                                    struct error *error),
                      const char *name, struct error *error)
{
    int ready = hotplug_begin_undo(hotplug, error);

    if (ready <= 0)
        return ready;
    return hotplug_end_undo(hotplug, remove(hotplug->qmp, name, hotplug->deadline, error));
}

int hotplug_failed(int (*undo)(void *plan, struct error *error), void *plan, struct error *error)
{
    struct error second = {0};

    if (undo(plan, &second) == 0)
        return -1;
    error->status = STATUS_INCOMPLETE;
    return error_append(error, "; %s", second.text);
}

int hotplug_commit(struct hotplug *hotplug, struct error *error)
{
    hotplug->touched = true;
    return runtime_commit(hotplug->rundir, hotplug->runtime, error);
}

int hotplug_restore(struct hotplug *hotplug, struct error *error)
{
    char name[RUNDIR_PATH_MAX];

    if (hotplug->unknown || hotplug->keep)
        return 0;
    rundir_name(RUNDIR_RUNTIME, hotplug->name, name);
    return file_replace(hotplug->rundir->fd, name, hotplug->before, hotplug->before_length, error);
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
    if (hooks > 0)
        qmp_forget_ahead(hotplug->qmp); /* asked before they ran */
    if (hooks < 0 || run(hotplug, error) < 0)
        return -1;
    qmp_release(&hotplug->qmp);
    session_unlock(&hotplug->session);
    operation.deadline = hotplug->end;
    operation_hooks_post(&operation, &hotplug->result->warnings);
    return 0;
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
    bool looking = actions[index].looking || hotplug->options->dry_run;
    if (actions[index].run != hotplug_check && hotplug_open(hotplug, looking, error) < 0)
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
    int64_t part = options->timeout_ms / RESERVE_PART;
    int64_t reserve = part < RESERVE_MS ? part : RESERVE_MS;
    struct hotplug hotplug = {.rundir = rundir,
                              .node = node,
                              .name = name,
                              .options = options,
                              .arguments = arguments,
                              .count = count,
                              .deadline = clock_deadline(options->timeout_ms - reserve),
                              .end = clock_deadline(options->timeout_ms),
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
