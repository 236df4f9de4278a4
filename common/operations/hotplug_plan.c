/* SPDX-License-Identifier: BSD-2-Clause */
/* What a dry run tells: steps, QMP commands in their order, files, hooks. */
#include <stdlib.h>

#include "hotplug_private.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/operations/operation_hooks.h"

static void add(struct hotplug *hotplug, const char *list, json_t *value)
{
    json_t *items = json_member(hotplug->result->detail, list);

    if (items == NULL) {
        hotplug_detail(hotplug, list, json_array());
        items = json_member(hotplug->result->detail, list);
    }
    json_array_append_new(items, memory_json(value));
}

void hotplug_plan_steps(struct hotplug *hotplug, const struct step *steps, size_t count)
{
    for (size_t i = 0; i < count; i++)
        add(hotplug, "steps", json_string(steps[i].what));
}

void hotplug_plan_command(struct hotplug *hotplug, const char *command, json_t *arguments)
{
    add(hotplug, "commands", json_pack("{s:s, s:o*}", "execute", command, "arguments", arguments));
}

void hotplug_plan_file(struct hotplug *hotplug, const char *path)
{
    add(hotplug, "files", json_string(path));
}

void hotplug_plan_runtime(struct hotplug *hotplug)
{
    AUTO_FREE char *path = rundir_path(hotplug->rundir, RUNDIR_RUNTIME, hotplug->name);

    hotplug_plan_file(hotplug, path);
}

void hotplug_plan_tap(struct hotplug *hotplug, size_t index, const char *uuid)
{
    AUTO_FREE char *directory = rundir_path(hotplug->rundir, RUNDIR_NIC, hotplug->name);
    AUTO_FREE char *by_index = memory_format("%s/%zu", directory, index);
    AUTO_FREE char *by_uuid = memory_format("%s/%s", directory, uuid);

    hotplug_plan_file(hotplug, by_index);
    hotplug_plan_file(hotplug, by_uuid);
}

void hotplug_plan_hook(struct hotplug *hotplug, char *words)
{
    add(hotplug, "hooks", json_string(words));
    free(words);
}

void hotplug_plan_operation_hooks(struct hotplug *hotplug)
{
    AUTO_JSON json_t *list = memory_json(json_array());
    size_t i;
    json_t *words;

    operation_hooks_describe(hotplug->node, OPERATION_HOTPLUG, list);
    json_array_foreach (list, i, words)
        add(hotplug, "hooks", json_incref(words));
}
