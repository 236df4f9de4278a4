/* SPDX-License-Identifier: BSD-2-Clause */
#include "cmdline_private.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/state/hardware.h"
#include "kvm/state/hvparams.h"

enum { FIRST_PORT_SLOT = 0x10, FUNCTIONS = 8 };

void cmdline_word(json_t *words, const char *word)
{
    json_array_append_new(words, memory_json(json_string(word)));
}

void cmdline_pair(json_t *words, const char *option, const char *value)
{
    cmdline_word(words, option);
    cmdline_word(words, value);
}

void cmdline_format(json_t *words, const char *option, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    AUTO_FREE char *value = memory_vformat(format, arguments);
    va_end(arguments);
    cmdline_pair(words, option, value);
}

void cmdline_json(json_t *words, const char *option, json_t *value)
{
    AUTO_FREE char *text = json_compact(value);

    cmdline_pair(words, option, text);
    json_decref(value);
}

void cmdline_smp(json_t *words, const struct instance *instance)
{
    static const char *const parts[] = {"cores", "threads", "sockets"};
    AUTO_FREE char *value = memory_format("%" PRId64, instance->vcpus);

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        AUTO_FREE char *param = memory_format("cpu_%s", parts[i]);
        int64_t number = hvparams_number(instance->hvparams, param);
        if (number > 0) {
            AUTO_FREE char *shorter = value;
            value = memory_format("%s,%s=%" PRId64, shorter, parts[i], number);
        }
    }
    cmdline_pair(words, "-smp", value);
}

/* acpi=off rather than -no-acpi, which QEMU 9.0 no longer knows. The speaker is a part of the machine. */
void cmdline_machine(json_t *words, const struct instance *instance,
                     const struct cmdline_plan *plan, const char *accelerator, bool usb)
{
    const char *name = hvparams_text(instance->hvparams, "machine_version");
    const char *pinned = probe_machine(plan->probe, name);

    cmdline_format(words, "-machine", "%s%s%s%s%s%s", pinned != NULL ? pinned : name,
                   accelerator != NULL ? ",accel=" : "", accelerator != NULL ? accelerator : "",
                   hvparams_truth(instance->hvparams, "acpi") ? "" : ",acpi=off",
                   usb ? ",usb=on" : "",
                   hardware_has_pc_speaker(hvparams_text(instance->hvparams, "soundhw"))
                       ? ",pcspk-audiodev=soundhw"
                       : "");
}

void cmdline_memory_path(json_t *words, const struct instance *instance)
{
    const char *path = hvparams_text(instance->hvparams, "mem_path");

    if (path[0] == '\0')
        return;
    cmdline_pair(words, "-mem-path", path);
    cmdline_word(words, "-mem-prealloc");
}

void cmdline_kernel(json_t *words, const struct instance *instance)
{
    const json_t *hvparams = instance->hvparams;
    const char *kernel = hvparams_text(hvparams, "kernel_path");
    const char *initrd = hvparams_text(hvparams, "initrd_path");
    AUTO_FREE char *console = NULL;

    if (kernel[0] == '\0')
        return;
    cmdline_pair(words, "-kernel", kernel);
    if (initrd[0] != '\0')
        cmdline_pair(words, "-initrd", initrd);
    if (hvparams_truth(hvparams, "serial_console"))
        console =
            memory_format(" console=ttyS0,%" PRId64, hvparams_number(hvparams, "serial_speed"));
    cmdline_format(words, "-append", "root=%s %s%s", hvparams_text(hvparams, "root_path"),
                   hvparams_text(hvparams, "kernel_args"), console != NULL ? console : "");
}

/* -chroot takes its directory as it stands, -run-with is a list of options. */
void cmdline_chroot(json_t *words, const struct cmdline_plan *plan, const char *run_as)
{
    bool same_word = run_as != NULL && plan->probe->run_with_chroot && plan->probe->run_with_user;

    if (plan->chroot == NULL)
        return;
    if (plan->probe->run_with_chroot) {
        AUTO_FREE char *directory = text_double_commas(plan->chroot);
        cmdline_format(words, "-run-with", "chroot=%s%s%s", directory, same_word ? ",user=" : "",
                       same_word ? run_as : "");
    } else {
        cmdline_pair(words, "-chroot", plan->chroot);
    }
    if (run_as == NULL || same_word)
        return;
    if (plan->probe->run_with_user)
        cmdline_format(words, "-run-with", "user=%s", run_as);
    else
        cmdline_pair(words, "-runas", run_as);
}

void cmdline_descriptor_set(json_t *words, int descriptor, int set, const char *what)
{
    AUTO_FREE char *opaque = text_double_commas(what);

    cmdline_format(words, "-add-fd", "fd=%d,set=%d,opaque=%s", descriptor, set, opaque);
}

/* Eight to a slot of pcie.0, from slot 0x10 up; the chassis number must differ and not be 0. */
json_t *cmdline_root_port(int slot)
{
    int place = slot - SLOTS_RESERVED;
    AUTO_FREE char *id = memory_format("rp%d", slot);
    AUTO_FREE char *address =
        memory_format("0x%x.0x%x", (unsigned)(FIRST_PORT_SLOT + place / FUNCTIONS),
                      (unsigned)(place % FUNCTIONS));
    json_t *port =
        memory_json(json_pack("{s:s, s:s, s:s, s:i, s:s}", "driver", "pcie-root-port", "id", id,
                              "bus", "pcie.0", "chassis", slot + 1, "addr", address));

    if (place % FUNCTIONS == 0)
        json_object_set_new(port, "multifunction", json_true());
    return port;
}
