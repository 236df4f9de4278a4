/* SPDX-License-Identifier: BSD-2-Clause */
#include "cmdline_private.h"

#include <stdio.h>
#include <string.h>

#include "kvm/base/memory.h"
#include "kvm/qemu/device.h"
#include "kvm/state/hardware.h"
#include "kvm/state/media.h"
#include "kvm/state/hvparams.h"

enum { NUMBER_SIZE = 12, FIRST_DISK_SET = 2 };

static void add_agent(json_t *words, const struct instance *instance,
                      const struct cmdline_plan *plan)
{
    AUTO_FREE char *bus = memory_format("%s.0", cmdline_serial_id(instance));

    if (plan->agent_fd < 0)
        return;
    cmdline_format(words, "-chardev", "socket,id=qga0,fd=%d,server=on,wait=off", plan->agent_fd);
    cmdline_json(words, "-device",
                 memory_json(json_pack("{s:s, s:s, s:s, s:s}", "driver", "virtserialport", "bus",
                                       bus, "chardev", "qga0", "name", "org.qemu.guest_agent.0")));
}

static void add_controllers(json_t *words, const struct instance *instance,
                            const struct cmdline_plan *plan)
{
    const struct placement *placement = plan->placement;

    cmdline_sound(words, instance, plan, cmdline_json);
    cmdline_threads(words, instance, cmdline_json);
    cmdline_scsi(words, instance, plan, cmdline_json);
    cmdline_balloon(words, instance, plan, cmdline_json);
    cmdline_rng(words, instance, plan, cmdline_json);
    cmdline_watchdog(words, instance, plan, cmdline_json);
    cmdline_tpm(words, instance, plan);
    if (placement->serial_slot == SLOT_NONE)
        return;
    cmdline_json(words, "-device",
                 placement_hvinfo(instance, "virtio-serial-pci", cmdline_serial_id(instance),
                                  placement->serial_slot));
    add_agent(words, instance, plan);
    cmdline_vdagent(words, instance, plan, cmdline_json);
}

/* The controller of an SD card takes the slot, the card sits on it. */
static void add_card_reader(json_t *words, const struct disk *disk)
{
    json_t *reader = device_card_reader(disk);

    if (reader != NULL)
        cmdline_json(words, "-device", reader);
}

static void add_disk(json_t *words, const struct instance *instance,
                     const struct cmdline_plan *plan, size_t index)
{
    const struct disk *disk = &instance->disks[index];
    int set = FIRST_DISK_SET + (int)index;
    bool boots = index == 0 && media_boots_from(instance, "disk");
    json_t *device = device_disk(disk, instance, boots ? 1 : 0);

    if (plan->disk_fd[index] >= 0)
        cmdline_descriptor_set(words, plan->disk_fd[index], set,
                               json_string_value(json_object_get(device, "id")));
    cmdline_json(words, "-blockdev",
                 device_blockdev(disk, instance, set, plan->disk_is_block[index]));
    add_card_reader(words, disk);
    cmdline_json(words, "-device", device);
}

static void add_nic(json_t *words, const struct instance *instance, const struct cmdline_plan *plan,
                    size_t index)
{
    const struct nic *nic = &instance->nics[index];
    char numbers[CMDLINE_QUEUES_MAX][NUMBER_SIZE], vhost_numbers[CMDLINE_QUEUES_MAX][NUMBER_SIZE];
    const char *names[CMDLINE_QUEUES_MAX], *vhost_names[CMDLINE_QUEUES_MAX];
    bool vhost = plan->vhost != NULL && plan->vhost[index];
    bool boots = index == 0 && media_boots_from(instance, "network");

    for (size_t i = 0; i < plan->queues; i++) {
        snprintf(numbers[i], NUMBER_SIZE, "%d", plan->tap_fd[index][i]);
        names[i] = numbers[i];
        if (vhost)
            snprintf(vhost_numbers[i], NUMBER_SIZE, "%d", plan->vhost_fd[index][i]);
        vhost_names[i] = vhost_numbers[i];
    }
    cmdline_json(words, "-netdev",
                 device_netdev(nic, names, vhost ? vhost_names : NULL, plan->queues));
    cmdline_json(words, "-device",
                 device_nic(nic, instance, plan->queues, boots ? 1 : 0, plan->chroot != NULL));
}

void cmdline_devices(json_t *words, const struct instance *instance,
                     const struct cmdline_plan *plan)
{
    for (int slot = SLOTS_RESERVED; instance_is_q35(instance) && slot <= plan->placement->last_port;
         slot++)
        cmdline_json(words, "-device", cmdline_root_port(slot));
    cmdline_board(words, instance, cmdline_json);
    cmdline_usb(words, instance, plan, cmdline_json);
    add_controllers(words, instance, plan);
    cmdline_media(words, instance, plan);
    for (size_t i = 0; i < instance->disk_count; i++)
        add_disk(words, instance, plan, i);
    for (size_t i = 0; i < instance->nic_count; i++)
        add_nic(words, instance, plan, i);
}
