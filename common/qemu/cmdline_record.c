/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kvm_cmd of the runtime file, in the form and order of Ganeti 3.0: paths instead of descriptors, option
 * strings instead of JSON, no disks, no NICs and nothing else that Ganeti adds when it executes it. With it
 * Ganeti can start the instance again, or accept it on another node; the guest then finds the hardware of
 * cmdline_build. No -D: its directory would have to be on a node where only Ganeti has worked.
 */
#include "cmdline_private.h"

#include <string.h>

#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/state/hardware.h"
#include "kvm/state/hvparams.h"

/* "DRIVER,key=value,…" from what -device or -object take as JSON; numbers and booleans in QEMU's words. */
static void add_option(json_t *words, const char *name, json_t *stolen)
{
    const char *first = strcmp(name, "-object") == 0 ? "qom-type" : "driver";
    AUTO_FREE char *option = memory_copy(json_string_value(json_object_get(stolen, first)));
    const char *key;
    json_t *value;

    json_object_foreach (stolen, key, value) {
        AUTO_FREE char *text =
            json_is_integer(value)
                ? memory_format("%" JSON_INTEGER_FORMAT, json_integer_value(value))
            : json_is_boolean(value) ? memory_copy(json_is_true(value) ? "on" : "off")
                                     : text_double_commas(json_string_value(value));
        if (strcmp(key, first) == 0)
            continue;
        AUTO_FREE char *shorter = option;
        option = memory_format("%s,%s=%s", shorter, key, text);
    }
    cmdline_pair(words, name, option);
    json_decref(stolen);
}

static void add_device(json_t *words, json_t *stolen)
{
    add_option(words, "-device", stolen);
}

static void add_file(json_t *words, const char *option, const struct rundir *rundir,
                     enum rundir_file file, const struct instance *instance)
{
    AUTO_FREE char *path = rundir_path(rundir, file, instance->name);

    cmdline_pair(words, option, path);
}

/* A unix socket that QEMU makes and listens on. */
static void add_socket(json_t *words, const char *option, const char *before,
                       const struct rundir *rundir, enum rundir_file file,
                       const struct instance *instance, const char *after)
{
    AUTO_FREE char *path = rundir_path(rundir, file, instance->name);
    AUTO_FREE char *doubled = text_double_commas(path);

    cmdline_format(words, option, "%s%s,server=on,wait=off%s", before, doubled, after);
}

static void add_controllers(json_t *words, const struct instance *instance,
                            const struct cmdline_plan *plan)
{
    const struct placement *placement = plan->placement;

    cmdline_board(words, instance, add_option);
    for (int slot = SLOTS_RESERVED; instance_is_q35(instance) && slot <= placement->last_port;
         slot++)
        add_device(words, cmdline_root_port(slot));
    cmdline_sound(words, instance, plan, add_option);
    cmdline_threads(words, instance, add_option);
    cmdline_scsi(words, instance, plan, add_option);
    cmdline_balloon(words, instance, plan, add_option);
    cmdline_rng(words, instance, plan, add_option);
    cmdline_watchdog(words, instance, plan, add_option);
    cmdline_watchdog_action(words, instance);
}

static void add_channels(json_t *words, const struct instance *instance,
                         const struct cmdline_plan *plan, const struct rundir *rundir)
{
    bool has_agent = hvparams_truth(instance->hvparams, "use_guest_agent");

    if (plan->placement->serial_slot == SLOT_NONE)
        return;
    if (has_agent)
        add_socket(words, "-chardev", "socket,path=", rundir, RUNDIR_AGENT, instance, ",id=qga0");
    add_device(words, placement_hvinfo(instance, "virtio-serial-pci", cmdline_serial_id(instance),
                                       plan->placement->serial_slot));
    if (has_agent)
        cmdline_format(words, "-device",
                       "virtserialport,bus=%s.0,chardev=qga0,name=org.qemu.guest_agent.0",
                       cmdline_serial_id(instance));
    cmdline_vdagent(words, instance, plan, add_option);
}

static void add_process(json_t *words, const struct instance *instance,
                        const struct cmdline_plan *plan, const struct rundir *rundir)
{
    cmdline_word(words, hvparams_text(instance->hvparams, "kvm_path"));
    cmdline_pair(words, "-name", instance->name);
    /* A JSON number, as Ganeti writes it. */
    cmdline_word(words, "-m");
    json_array_append_new(words, memory_json(json_integer(instance->maxmem_mib)));
    cmdline_smp(words, instance);
    add_file(words, "-pidfile", rundir, RUNDIR_PID, instance);
    add_controllers(words, instance, plan);
    cmdline_word(words, "-daemonize");
    if (!instance->default_devices)
        cmdline_word(words, "-nodefaults");
    cmdline_pair(words, "-action", "panic=none");
    if (strcmp(hvparams_text(instance->hvparams, "reboot_behavior"), "exit") == 0)
        cmdline_word(words, "-no-reboot");
    cmdline_machine(words, instance, plan, plan->kvm ? "kvm" : NULL,
                    cmdline_has_usb(instance, plan));
}

static void add_extra(json_t *words, const struct instance *instance)
{
    char **extra = NULL;
    size_t count = 0;

    /* cmdline_build has split it before. */
    if (text_words(hvparams_text(instance->hvparams, "kvm_extra"), &extra, &count, NULL) < 0)
        return;
    for (size_t i = 0; i < count; i++)
        cmdline_word(words, extra[i]);
    text_words_release(extra);
}

json_t *cmdline_record(const struct instance *instance, const struct cmdline_plan *plan,
                       const struct rundir *rundir)
{
    const json_t *hvparams = instance->hvparams;
    const char *cpu = hvparams_text(hvparams, "cpu_type");
    json_t *words = memory_json(json_array());

    add_process(words, instance, plan, rundir);
    cmdline_record_media(words, instance, plan, add_option);
    cmdline_firmware_record(words, plan);
    cmdline_kernel(words, instance);
    cmdline_memory_path(words, instance);
    add_socket(words, "-monitor", "unix:", rundir, RUNDIR_MONITOR, instance, "");
    if (hvparams_truth(hvparams, "serial_console"))
        add_socket(words, "-serial", "unix:", rundir, RUNDIR_SERIAL, instance, "");
    else
        cmdline_pair(words, "-serial", "none");
    cmdline_usb(words, instance, plan, add_option);
    cmdline_display(words, instance, plan, add_option);
    if (hvparams_truth(hvparams, "use_localtime"))
        cmdline_pair(words, "-rtc", "base=localtime");
    cmdline_chroot(words, plan, NULL);
    if (cpu[0] != '\0')
        cmdline_pair(words, "-cpu", cpu);
    cmdline_pair(words, "-uuid", instance->uuid);
    add_channels(words, instance, plan, rundir);
    add_extra(words, instance);
    return words;
}
