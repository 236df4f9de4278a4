/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <string.h>

#include "launch_private.h"
#include "kvm/host/network.h"
#include "kvm/operations/migration.h"
#include "kvm/state/hvparams.h"

enum { UNDO_MS = 1000 };

static int take_down_nic(struct launch *launch, size_t index, struct error *error)
{
    const struct nic *nic = &launch->instance->nics[index];
    const char *name = launch->instance->name;
    char tap[TAP_NAME_SIZE];
    int result = 0;

    bool set_up = network_read_tap(launch->rundir, name, nic->uuid, tap);
    /* Also when the time of the start is up: what ifup did must not stay. */
    deadline_t least = clock_deadline(UNDO_MS), given = launch->options->deadline;
    deadline_t deadline = given > least ? given : least;
    if (set_up && network_ifdown(launch->instance, nic, index, tap, false, launch->node->path,
                                 deadline, error) < 0) {
        launch->network_left = true;
        result = error_append(error, "; 'kvm-cleanup %s' tries it again", name);
    }
    tap_close(&launch->taps[index]);
    if (result == 0)
        result = network_remove_tap(launch->rundir, name, index, nic->uuid, error);
    return result;
}

int launch_take_down_network(void *plan, struct error *error)
{
    struct launch *launch = plan;
    int result = 0;

    for (size_t i = launch->nics_up; i-- > 0 && !launch->unknown;)
        if (take_down_nic(launch, i, error) < 0)
            result = -1;
    return result;
}

/* It is up and stays up, whatever becomes of this QEMU. */
static int take_over_nic(struct launch *launch, size_t index, struct error *error)
{
    const struct launch_heir *heir = launch->options->heir;
    const struct instance *instance = launch->instance;
    char name[TAP_NAME_SIZE];

    if (!network_read_tap(heir->home, instance->name, instance->nics[index].uuid, name))
        return error_set(error, STATUS_STATE, "its tap is not known");
    if (tap_take(heir->pid, heir->pidfd, name, &launch->taps[index], error) < 0)
        return -1;
    if (launch->taps[index].queues == launch->queues)
        return 0;
    return error_set(error, STATUS_STATE, "tap %s: has %zu queues open instead of %zu", name,
                     launch->taps[index].queues, launch->queues);
}

static int open_vhost(struct launch *launch, size_t index, struct error *error)
{
    for (size_t queue = 0; launch->want_vhost && queue < launch->queues; queue++) {
        launch->vhost[index][queue] = tap_open_vhost();
        if (launch->vhost[index][queue] < 0)
            return error_errno(error, STATUS_FAILED, "/dev/vhost-net");
    }
    return 0;
}

static int bring_up_nic(struct launch *launch, size_t index, struct error *error)
{
    const struct instance *instance = launch->instance;
    const struct nic *nic = &instance->nics[index];
    struct tap *tap = &launch->taps[index];
    bool vnet_hdr = hvparams_truth(instance->hvparams, "vnet_hdr") &&
                    strcmp(placement_nic_driver(instance), "virtio-net-pci") == 0;

    if (launch->options->heir != NULL)
        return take_over_nic(launch, index, error) < 0 ? -1 : open_vhost(launch, index, error);
    if (tap_make(nic->uuid, vnet_hdr, launch->queues, tap, error) < 0)
        return -1;
    launch->nics_up = index + 1;
    /* A route to a guest that still runs elsewhere would cut it off: a routed NIC is set up when the guest has come. */
    bool later = launch->options->incoming && nic->mode == NIC_ROUTED;
    if (later)
        migration_note_tap(launch->runtime, nic->uuid, tap->name);
    if (!later &&
        network_write_tap(launch->rundir, instance->name, index, nic->uuid, tap->name, error) < 0)
        return -1;
    if (open_vhost(launch, index, error) < 0)
        return -1;
    return later ? 0
                 : network_ifup(instance, nic, index, tap->name, launch->node->path,
                                launch->options->deadline, error);
}

int launch_bring_up_network(void *plan, struct error *error)
{
    struct launch *launch = plan;

    for (size_t i = 0; i < launch->instance->nic_count; i++) {
        if (bring_up_nic(launch, i, error) == 0)
            continue;
        error_prefix(error, "nics[%zu]", i);
        struct error second = {0};
        if (launch_take_down_network(launch, &second) < 0) {
            error->status = STATUS_INCOMPLETE;
            error_append(error, "; %s", second.text);
        }
        return -1;
    }
    return 0;
}
