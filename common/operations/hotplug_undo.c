/* SPDX-License-Identifier: BSD-2-Clause */
/* What the steps of an action change, in QEMU and in the runtime file, and how it is taken back. */
#include "hotplug_private.h"
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/qemu/monitor.h"

/* For looking and undoing, at least. */
enum { LAST_MOMENT_MS = 800 };

void hotplug_take_last_time(struct hotplug *hotplug)
{
    deadline_t last = clock_deadline(LAST_MOMENT_MS);

    if (!hotplug->recovering)
        hotplug->deadline = hotplug->end > last ? hotplug->end : last;
    hotplug->recovering = true;
}

bool hotplug_recover(struct hotplug *hotplug, struct error *error)
{
    struct error again = {0};

    if (hotplug->unknown)
        return false;
    hotplug_take_last_time(hotplug);
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

/* What fails here fails, and is told, when it is committed. */
void hotplug_prepare_commit(struct hotplug *hotplug)
{
    hotplug->prepared = runtime_prepare(hotplug->rundir, hotplug->runtime, NULL) == 0;
}

int hotplug_commit(struct hotplug *hotplug, struct error *error)
{
    bool prepared = hotplug->prepared;

    hotplug->touched = true;
    hotplug->prepared = false;
    if (!prepared && runtime_prepare(hotplug->rundir, hotplug->runtime, error) < 0)
        return -1;
    return runtime_publish(hotplug->rundir, hotplug->runtime, error);
}

void hotplug_forget_commit(struct hotplug *hotplug)
{
    char name[RUNDIR_PATH_MAX];

    if (!hotplug->prepared)
        return;
    hotplug->prepared = false;
    rundir_name(RUNDIR_RUNTIME, hotplug->name, name);
    file_forget(hotplug->rundir->fd, name);
}

int hotplug_restore(struct hotplug *hotplug, struct error *error)
{
    char name[RUNDIR_PATH_MAX];

    hotplug_forget_commit(hotplug);
    if (hotplug->unknown || hotplug->keep)
        return 0;
    rundir_name(RUNDIR_RUNTIME, hotplug->name, name);
    return file_replace(hotplug->rundir->fd, name, hotplug->before, hotplug->before_length, error);
}
