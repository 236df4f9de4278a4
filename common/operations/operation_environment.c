/* SPDX-License-Identifier: BSD-2-Clause */
/* The variables of the operation hooks. GANETI_*: names and values as Ganeti's hooks(7) has them. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kvm/operations/operation_hooks.h"
#include "kvm/base/json.h"
#include "kvm/base/log.h"
#include "kvm/base/memory.h"

/* By operation_kind. Ganeti has no operation for a clean-up alone: it is a stop there. */
static const struct {
    const char *code, *path;
} ganeti[] = {
    [OPERATION_START] = {"OP_INSTANCE_STARTUP", "instance-start"},
    [OPERATION_STOP] = {"OP_INSTANCE_SHUTDOWN", "instance-stop"},
    [OPERATION_REBOOT] = {"OP_INSTANCE_REBOOT", "instance-reboot"},
    [OPERATION_HOTPLUG] = {"OP_INSTANCE_SET_PARAMS", "instance-modify"},
    [OPERATION_MIGRATE] = {"OP_INSTANCE_MIGRATE", "instance-migrate"},
    [OPERATION_CLEANUP] = {"OP_INSTANCE_SHUTDOWN", "instance-stop"},
};

static void set_number(struct hook_environment *environment, const char *name, int64_t number)
{
    char text[24];
    snprintf(text, sizeof(text), "%" PRId64, number);
    hook_set(environment, name, text);
}

/* PREFIX and the number and the rest: GANETI_INSTANCE_DISK0_SIZE. */
static void set_of(struct hook_environment *environment, const char *prefix, size_t index,
                   const char *rest, const char *value)
{
    AUTO_FREE char *name = memory_format("%s%zu_%s", prefix, index, rest);
    hook_set(environment, name, value);
}

static const char *unless_empty(const char *text)
{
    return text != NULL && *text != '\0' ? text : NULL;
}

static void add_disks(const struct instance *instance, struct hook_environment *environment)
{
    static const char prefix[] = "GANETI_INSTANCE_DISK";

    set_number(environment, "GANETI_INSTANCE_DISK_COUNT", (int64_t)instance->disk_count);
    for (size_t i = 0; i < instance->disk_count; i++) {
        const struct disk *disk = &instance->disks[i];
        AUTO_FREE char *size = memory_format("%" PRId64, disk->size_mib);
        set_of(environment, prefix, i, "UUID", disk->uuid);
        set_of(environment, prefix, i, "NAME", unless_empty(disk->name));
        set_of(environment, prefix, i, "SIZE", disk->size_mib > 0 ? size : NULL);
        set_of(environment, prefix, i, "MODE", disk->read_only ? "ro" : "rw");
        set_of(environment, prefix, i, "DEV_TYPE", unless_empty(disk->dev_type));
        AUTO_FREE char *path = memory_format("KVM_SUITE_DISK%zu_PATH", i);
        hook_set(environment, path, disk->path != NULL ? disk->path : disk->uri);
    }
}

static void add_nics(const struct instance *instance, struct hook_environment *environment)
{
    static const char prefix[] = "GANETI_INSTANCE_NIC";

    set_number(environment, "GANETI_INSTANCE_NIC_COUNT", (int64_t)instance->nic_count);
    for (size_t i = 0; i < instance->nic_count; i++) {
        const struct nic *nic = &instance->nics[i];
        set_of(environment, prefix, i, "UUID", nic->uuid);
        set_of(environment, prefix, i, "NAME", unless_empty(nic->name));
        set_of(environment, prefix, i, "MAC", nic->mac);
        set_of(environment, prefix, i, "IP", unless_empty(nic->ip));
        set_of(environment, prefix, i, "MODE", nic->mode_name);
        set_of(environment, prefix, i, "LINK", unless_empty(nic->link));
        set_of(environment, prefix, i, "VLAN", unless_empty(nic->vlan));
        set_of(environment, prefix, i, "BRIDGE",
               nic->mode == NIC_BRIDGED ? unless_empty(nic->link) : NULL);
        set_of(environment, prefix, i, "NETWORK_UUID", unless_empty(nic->network));
    }
}

/* As the parameter is called, true and false as words, a file of a secret by its name only. */
static void add_hvparams(const struct instance *instance, struct hook_environment *environment)
{
    const char *key;
    json_t *value;

    json_object_foreach (instance->hvparams, key, value) {
        AUTO_FREE char *name = memory_format("GANETI_INSTANCE_HV_%s", key);
        if (json_is_string(value))
            hook_set(environment, name, json_string_value(value));
        else if (json_is_boolean(value))
            hook_set(environment, name, json_is_true(value) ? "True" : "False");
        else if (json_is_integer(value))
            set_number(environment, name, json_integer_value(value));
    }
}

static void add_tags(const json_t *tags, struct hook_environment *environment)
{
    AUTO_FREE char *text = memory_copy("");
    size_t i;
    json_t *tag;

    json_array_foreach (tags, i, tag) {
        char *longer =
            memory_format("%s%s%s", text, *text != '\0' ? " " : "", json_string_value(tag));
        free(text);
        text = longer;
    }
    hook_set(environment, "GANETI_INSTANCE_TAGS", text);
}

static void add_instance(const struct instance *instance, struct hook_environment *environment)
{
    hook_set(environment, "KVM_SUITE_UUID", instance->uuid);
    hook_set(environment, "GANETI_INSTANCE_HYPERVISOR", "kvm");
    hook_set(environment, "GANETI_INSTANCE_DISK_TEMPLATE", unless_empty(instance->disk_template));
    set_number(environment, "GANETI_INSTANCE_MINMEM", instance->minmem_mib);
    set_number(environment, "GANETI_INSTANCE_MAXMEM", instance->maxmem_mib);
    set_number(environment, "GANETI_INSTANCE_MEMORY", instance->maxmem_mib);
    set_number(environment, "GANETI_INSTANCE_VCPUS", instance->vcpus);
    set_number(environment, "GANETI_INSTANCE_BE_minmem", instance->minmem_mib);
    set_number(environment, "GANETI_INSTANCE_BE_maxmem", instance->maxmem_mib);
    set_number(environment, "GANETI_INSTANCE_BE_vcpus", instance->vcpus);
    add_disks(instance, environment);
    add_nics(instance, environment);
    add_hvparams(instance, environment);
    add_tags(instance->tags, environment);
}

void operation_environment(const struct operation *operation, const char *phase,
                           struct hook_environment *environment)
{
    char node[256] = "";

    gethostname(node, sizeof(node) - 1);
    hook_set(environment, "GANETI_HOOKS_VERSION", "2");
    hook_set(environment, "GANETI_HOOKS_PHASE", phase);
    hook_set(environment, "GANETI_HOOKS_PATH", ganeti[operation->kind].path);
    hook_set(environment, "GANETI_OP_CODE", ganeti[operation->kind].code);
    hook_set(environment, "GANETI_OBJECT_TYPE", "INSTANCE");
    hook_set(environment, "GANETI_OP_TARGET", operation->name);
    hook_set(environment, "GANETI_INSTANCE_NAME", operation->name);
    hook_set(environment, "GANETI_INSTANCE_PRIMARY", node);
    hook_set(environment, "KVM_SUITE_PROGRAM", log_program());
    hook_set(environment, "KVM_SUITE_ACTION", operation->action);
    for (size_t i = 0; i < operation->argument_count; i++) {
        AUTO_FREE char *name = memory_format("KVM_SUITE_ARGUMENT%zu", i);
        hook_set(environment, name, operation->arguments[i]);
    }
    hook_set(environment, "KVM_RUN_DIR", operation->rundir->path);
    hook_set(environment, "KVM_CONF_DIR", operation->node->path);
    hook_set(environment, "KVM_STATE_DIR", operation->node->state_path);
    for (size_t i = 0; operation->more != NULL && operation->more[i] != NULL; i += 2)
        hook_set(environment, operation->more[i], operation->more[i + 1]);
    if (operation->instance != NULL)
        add_instance(operation->instance, environment);
}
