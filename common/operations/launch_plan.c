/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>
#include <unistd.h>

#include "launch_private.h"
#include "kvm/base/memory.h"
#include "kvm/host/kvm.h"
#include "kvm/host/network.h"
#include "kvm/state/hvparams.h"

static void decide_accelerator(struct launch *launch, struct messages *warnings)
{
    const char *flag = hvparams_text(launch->instance->hvparams, "kvm_flag");
    char why[128] = "";

    if (strcmp(flag, "enabled") == 0 || strcmp(flag, "disabled") == 0) {
        launch->kvm = flag[0] == 'e';
        return;
    }
    launch->kvm = kvm_is_usable(why, sizeof(why));
    if (!launch->kvm)
        messages_add(warnings,
                     "KVM can't be used here (%s): the guest runs under TCG, which is slow; "
                     "kvm_flag \"disabled\" says so without this warning",
                     why);
    /* Pinned: what the guest runs with stays the same over a reboot. */
    json_object_set_new(launch->instance->hvparams, "kvm_flag",
                        json_string(launch->kvm ? "enabled" : "disabled"));
}

static void decide_machine(struct launch *launch, const char *source, struct messages *problems)
{
    json_t *hvparams = launch->instance->hvparams;
    const char *asked = hvparams_text(hvparams, "machine_version");
    const char *name = probe_machine(&launch->probe, asked);

    if (name == NULL) {
        messages_add(problems,
                     "%s: hvparams.machine_version: %s does not have it (current value: \"%s\"); "
                     "'%s -machine help' lists what there is",
                     source, hvparams_text(hvparams, "kvm_path"), asked,
                     hvparams_text(hvparams, "kvm_path"));
        return;
    }
    if (strncmp(name, "pc-", 3) != 0) {
        messages_add(problems,
                     "%s: hvparams.machine_version: only types of the pc and q35 families are "
                     "supported (current value: \"%s\")",
                     source, name);
        return;
    }
    json_object_set_new(hvparams, "machine_version", memory_json(json_string(name)));
}

static void decide_network(struct launch *launch, const char *source, struct messages *problems,
                           struct messages *warnings)
{
    const struct instance *instance = launch->instance;
    const json_t *hvparams = instance->hvparams;
    const char *driver = placement_nic_driver(instance);
    bool paravirtual = driver != NULL && strcmp(driver, "virtio-net-pci") == 0;

    launch->queues = paravirtual ? (size_t)hvparams_number(hvparams, "virtio_net_queues") : 1;
    launch->want_vhost = paravirtual && hvparams_truth(hvparams, "vhost_net");
    for (size_t i = 0; i < instance->nic_count; i++) {
        AUTO_FREE char *where = memory_format("%s: nics[%zu]", source, i);
        network_check(&instance->nics[i], launch->node->path, where, problems);
    }
    if (launch->want_vhost && instance->nic_count > 0) {
        int descriptor = tap_open_vhost();
        if (descriptor < 0) {
            launch->want_vhost = false;
            messages_add(warnings, "vhost_net is set but /dev/vhost-net can't be opened: NICs run "
                                   "without it ('modprobe vhost_net' loads the module)");
        } else {
            close(descriptor);
        }
    }
}

static struct launch *allocate(const struct rundir *rundir, const struct node *node,
                               struct instance *instance)
{
    struct launch *launch = memory_zeroed(1, sizeof(*launch));
    size_t disks = instance->disk_count + 1, nics = instance->nic_count + 1;

    launch->rundir = rundir;
    launch->node = node;
    launch->instance = instance;
    launch->disk_count = instance->disk_count;
    launch->nic_count = instance->nic_count;
    launch->pid_file = launch->events = launch->pidfd = -1;
    for (int i = 0; i < MEDIA; i++)
        launch->media[i] = -1;
    for (int i = 0; i < SOCKET_COUNT; i++)
        launch->sockets[i] = -1;
    launch->firmware_code = launch->nvram_file = launch->tpm_socket = -1;
    launch->disks = memory_zeroed(disks, sizeof(int));
    launch->disk_is_block = memory_zeroed(disks, sizeof(bool));
    launch->disk_number = memory_zeroed(disks, sizeof(int));
    launch->taps = memory_zeroed(nics, sizeof(struct tap));
    launch->vhost = memory_zeroed(nics, sizeof(*launch->vhost));
    launch->tap_number = memory_zeroed(nics, sizeof(*launch->tap_number));
    launch->vhost_number = memory_zeroed(nics, sizeof(*launch->vhost_number));
    launch->vhost_used = memory_zeroed(nics, sizeof(bool));
    for (size_t i = 0; i < instance->disk_count; i++)
        launch->disks[i] = -1;
    for (size_t i = 0; i < instance->nic_count; i++)
        for (int queue = 0; queue < CMDLINE_QUEUES_MAX; queue++)
            launch->vhost[i][queue] = launch->taps[i].fds[queue] = -1;
    launch->table = memory_zeroed(
        6 + MEDIA + SOCKET_COUNT + disks + 2 * nics * (size_t)CMDLINE_QUEUES_MAX, sizeof(int));
    return launch;
}

void launch_keep_probe(const struct launch *launch)
{
    probe_keep(launch->rundir, hvparams_text(launch->instance->hvparams, "kvm_path"),
               &launch->probe);
}

int launch_plan(const struct rundir *rundir, const struct node *node, struct instance *instance,
                const char *source, bool use_cache, struct launch **result,
                struct messages *warnings, struct error *error)
{
    AUTO_LAUNCH struct launch *launch = allocate(rundir, node, instance);
    AUTO_MESSAGES struct messages problems = {0};
    struct error reason = {0};
    bool probed = probe_binary(rundir, hvparams_text(instance->hvparams, "kvm_path"), use_cache,
                               &launch->probe, &reason) == 0;

    if (!probed)
        messages_add(&problems, "%s: hvparams.kvm_path: %s", source, reason.text);
    if (probed)
        decide_machine(launch, source, &problems);
    launch->events_by_socket = probed && !launch->probe.null_event_log;
    if (probed)
        launch_check_firmware(launch, source, &problems);
    launch_check_tpm(launch, source, &problems);
    decide_accelerator(launch, warnings);
    decide_network(launch, source, &problems, warnings);
    launch_check_user(launch, source, &problems);
    launch_check_files(launch, source, &problems);
    launch_check_display(launch, use_cache, source, &problems);
    launch_check_cpus(launch, source, &problems);
    if (cmdline_check_extra(hvparams_text(instance->hvparams, "kvm_extra"), &reason) < 0)
        messages_add(&problems, "%s: hvparams.kvm_extra: %s", source, reason.text);
    if (probed && placement_assign(instance, &launch->placement, &reason) < 0)
        messages_add(&problems, "%s: %s", source, reason.text);
    if (problems.count > 0)
        return messages_error(&problems, STATUS_USAGE, error);

    launch_number_descriptors(launch);
    *result = launch;
    launch = NULL;
    return 0;
}

static void close_all(struct launch *launch)
{
    memory_close(&launch->pid_file);
    memory_close(&launch->events);
    for (int i = 0; i < MEDIA; i++)
        memory_close(&launch->media[i]);
    memory_close(&launch->firmware_code);
    memory_close(&launch->nvram_file);
    memory_close(&launch->tpm_socket);
    memory_close(&launch->pidfd);
    for (int i = 0; i < SOCKET_COUNT; i++)
        memory_close(&launch->sockets[i]);
    for (size_t i = 0; i < launch->disk_count; i++)
        memory_close(&launch->disks[i]);
    for (size_t i = 0; i < launch->nic_count; i++) {
        tap_close(&launch->taps[i]);
        for (int queue = 0; queue < CMDLINE_QUEUES_MAX; queue++)
            memory_close(&launch->vhost[i][queue]);
    }
}

static void wipe(char **secret)
{
    if (*secret != NULL)
        explicit_bzero(*secret, strlen(*secret));
    free(*secret);
    *secret = NULL;
}

void launch_release(struct launch **pointer)
{
    struct launch *launch = *pointer;

    if (launch == NULL)
        return;
    close_all(launch);
    qmp_release(&launch->qmp);
    probe_release(&launch->probe);
    wipe(&launch->vnc_password);
    wipe(&launch->spice_password);
    free(launch->vnc_address);
    free(launch->spice_address);
    firmware_release(&launch->firmware);
    free(launch->nvram);
    free(launch->chroot);
    free(launch->run_as);
    free(launch->pool);
    free(launch->disks);
    free(launch->disk_is_block);
    free(launch->disk_number);
    free(launch->taps);
    free(launch->vhost);
    free(launch->tap_number);
    free(launch->vhost_number);
    free(launch->vhost_used);
    free(launch->table);
    free(launch);
    *pointer = NULL;
}
