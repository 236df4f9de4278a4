/* SPDX-License-Identifier: BSD-2-Clause */
/* Graphics card, I/O threads, the SCSI controller, the random number generator and the watchdog. */
#include "cmdline_private.h"

#include <inttypes.h>
#include <string.h>

#include "kvm/base/memory.h"
#include "kvm/state/hardware.h"
#include "kvm/state/hvparams.h"

enum { RNG_PERIOD_MS = 1000 };

/* The card sits where QEMU would put one by itself: in slot 2 of pc and in slot 1 of q35. pvpanic is what tells QEMU of a
 * guest's panic, so that the event log can; the ISA form takes no PCI slot. */
void cmdline_board(json_t *words, const struct instance *instance, cmdline_add_t add)
{
    bool q35 = instance_is_q35(instance);
    const char *word = hardware_vga(instance->hvparams);
    const char *driver = hardware_vga_driver(word);

    if (instance->default_devices) {
        if (strcmp(word, "std") != 0)
            cmdline_pair(words, "-vga", word);
        return;
    }
    if (driver != NULL)
        add(words, "-device",
            memory_json(json_pack("{s:s, s:s, s:s, s:s}", "driver", driver, "id", "vga", "bus",
                                  q35 ? "pcie.0" : "pci.0", "addr", q35 ? "0x1" : "0x2")));
    add(words, "-device",
        memory_json(json_pack("{s:s, s:s}", "driver", "pvpanic", "id", "pvpanic")));
}

/* Ganeti gives it no id. */
void cmdline_balloon(json_t *words, const struct instance *instance,
                     const struct cmdline_plan *plan, cmdline_add_t add)
{
    if (plan->placement->balloon_slot == SLOT_NONE)
        return;
    json_t *device =
        placement_hvinfo(instance, "virtio-balloon-pci", "balloon", plan->placement->balloon_slot);
    if (instance->default_devices)
        json_object_del(device, "id");
    add(words, "-device", device);
}

const char *cmdline_serial_id(const struct instance *instance)
{
    return instance->default_devices && !hardware_has_vdagent(instance->hvparams) ? "qga0"
                                                                                  : "spice";
}

void cmdline_threads(json_t *words, const struct instance *instance, cmdline_add_t add)
{
    int64_t threads = hvparams_number(instance->hvparams, "iothreads");

    for (int64_t i = 0; i < threads; i++) {
        AUTO_FREE char *id = memory_format("io%" PRId64, i);
        add(words, "-object",
            memory_json(json_pack("{s:s, s:s}", "qom-type", "iothread", "id", id)));
    }
}

void cmdline_scsi(json_t *words, const struct instance *instance, const struct cmdline_plan *plan,
                  cmdline_add_t add)
{
    const char *driver = placement_scsi_controller(instance);
    bool threaded = hvparams_number(instance->hvparams, "iothreads") > 0 &&
                    strcmp(driver, "virtio-scsi-pci") == 0;

    for (int i = 0; i < SCSI_CONTROLLERS; i++) {
        char id[16];
        if (plan->placement->scsi_slots[i] == SLOT_NONE)
            continue;
        placement_scsi_name(i, id, sizeof(id));
        json_t *device = placement_hvinfo(instance, driver, id, plan->placement->scsi_slots[i]);
        if (threaded)
            json_object_set_new(device, "iothread", memory_json(json_string("io0")));
        add(words, "-device", device);
    }
}

/* In a chroot there is no /dev/urandom should QEMU ever open it late; its own source is the same kernel's. */
void cmdline_rng(json_t *words, const struct instance *instance, const struct cmdline_plan *plan,
                 cmdline_add_t add)
{
    int64_t rate = hvparams_number(instance->hvparams, "virtio_rng_rate");
    bool builtin = plan->chroot != NULL;

    if (plan->placement->rng_slot == SLOT_NONE)
        return;
    add(words, "-object",
        memory_json(json_pack("{s:s, s:s, s:s*}", "qom-type",
                              builtin ? "rng-builtin" : "rng-random", "id", "rng0", "filename",
                              builtin ? NULL : "/dev/urandom")));
    json_t *device = placement_hvinfo(instance, "virtio-rng-pci", "rng", plan->placement->rng_slot);
    json_object_set_new(device, "rng", memory_json(json_string("rng0")));
    if (rate > 0) {
        json_object_set_new(device, "max-bytes", memory_json(json_integer(rate)));
        json_object_set_new(device, "period", memory_json(json_integer(RNG_PERIOD_MS)));
    }
    add(words, "-device", device);
}

/* The chip set of q35 has one of its own, which only must be let reset the machine (off by default before 8.0). */
void cmdline_watchdog(json_t *words, const struct instance *instance,
                      const struct cmdline_plan *plan, cmdline_add_t add)
{
    if (strcmp(hvparams_text(instance->hvparams, "watchdog"), "itco") == 0)
        cmdline_pair(words, "-global", "ICH9-LPC.noreboot=off");
    if (plan->placement->watchdog_slot != SLOT_NONE)
        add(words, "-device",
            placement_hvinfo(instance, "i6300esb", "watchdog", plan->placement->watchdog_slot));
}

void cmdline_watchdog_action(json_t *words, const struct instance *instance)
{
    if (hvparams_text(instance->hvparams, "watchdog")[0] != '\0')
        cmdline_format(words, "-action", "watchdog=%s",
                       hvparams_text(instance->hvparams, "watchdog_action"));
}
