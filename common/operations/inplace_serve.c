/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>

#include "launch_private.h"
#include "migrate_inplace.h"
#include "migrate_serving.h"
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/state/hvparams.h"
#include "kvm/state/placement.h"

void inplace_take_program(const struct node *node, json_t *hvparams)
{
    json_t *path = json_member(json_member(node->defaults, "hvparams"), "kvm_path");

    if (json_is_string(path))
        json_object_set(hvparams, "kvm_path", path);
}

void inplace_check(const struct instance *instance, struct messages *problems)
{
    const json_t *hvparams = instance->hvparams;
    const char *driver = placement_nic_driver(instance);
    const char *vnc = hvparams_text(hvparams, "vnc_bind_address");

    if (instance->nic_count > 0 && driver != NULL && strcmp(driver, "virtio-net-pci") == 0 &&
        hvparams_number(hvparams, "virtio_net_queues") > 1)
        messages_add(
            problems,
            "virtio_net_queues: the new QEMU would switch off queues of the running guest; "
            "in place works with one queue only (current value: %lld)",
            (long long)hvparams_number(hvparams, "virtio_net_queues"));
    if (hvparams_text(hvparams, "tpm")[0] != '\0')
        messages_add(problems, "tpm: two emulators can't have one state directory");
    if (hvparams_text(hvparams, "spice_bind")[0] != '\0')
        messages_add(problems, "spice_bind: two QEMUs can't listen on one SPICE port, and it can't "
                               "be given to the new one later");
    if (strstr(hvparams_text(hvparams, "usb_devices"), "host:") != NULL)
        messages_add(problems, "usb_devices: two QEMUs can't have one USB device of the node");
    if (vnc[0] == '/' && hvparams_truth(hvparams, "use_chroot"))
        messages_add(problems, "vnc_bind_address: a directory is out of reach for a QEMU in its "
                               "chroot (use_chroot)");
}

int inplace_take_uid(const struct serving *serving, struct error *error)
{
    char name[RUNDIR_PATH_MAX];
    AUTO_FREE char *text = NULL;
    size_t length = 0;

    rundir_name(RUNDIR_UID, serving->name, name);
    if (!file_exists(serving->home.fd, name))
        return 0;
    if (file_read(serving->home.fd, name, 64, false, &text, &length, error) < 0)
        return -1;
    return file_replace(serving->rundir.fd, name, text, length, error);
}

int inplace_find_old(struct serving *serving, struct error *error)
{
    if (monitor_find(&serving->home, serving->name, &serving->old, error) < 0)
        return -1;
    if (serving->old.pid == 0)
        return error_set(error, STATUS_STATE, "its QEMU has ended");
    serving->heir = (struct launch_heir){&serving->home, serving->old.pid, serving->old.pidfd};
    return 0;
}

void inplace_note_display(struct runtime *runtime, const struct launch *launch)
{
    if (launch->vnc_address != NULL)
        migration_set_text(runtime, "vnc", launch->vnc_address);
}

int inplace_check_display(struct qmp *qmp, const struct instance *instance, deadline_t deadline,
                          struct error *error)
{
    AUTO_JSON json_t *commands = NULL;
    size_t i;
    json_t *one;

    if (hvparams_text(instance->hvparams, "vnc_bind_address")[0] == '\0')
        return 0;
    if (qmp_call(qmp, "query-commands", NULL, deadline, &commands, error) != QMP_DONE)
        return -1;
    json_array_foreach (commands, i, one) {
        const char *name = json_text(one, "name");
        if (name != NULL && strcmp(name, "display-update") == 0)
            return 0;
    }
    return error_set(
        error, STATUS_STATE,
        "vnc_bind_address: two QEMUs can't listen on one VNC port, and this QEMU can't "
        "be given it later (QEMU 7.1 can)");
}
