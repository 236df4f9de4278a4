/* SPDX-License-Identifier: BSD-2-Clause */
#include "cmdline_private.h"

#include <inttypes.h>
#include <string.h>

#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/state/hvparams.h"

static bool has_word(const char *const *words, const char *word)
{
    for (; *words != NULL; words++) {
        const char *given = *words;
        if (strncmp(given, "--", 2) == 0) /* QEMU takes both */
            given++;
        if (strcmp(given, word) == 0)
            return true;
    }
    return false;
}

static void add_identity(json_t *words, const struct instance *instance,
                         const struct cmdline_plan *plan)
{
    cmdline_word(words, hvparams_text(instance->hvparams, "kvm_path"));
    /* Bare: tools find instances by these words in /proc/PID/cmdline, and read -m as a number. */
    cmdline_pair(words, "-name", instance->name);
    cmdline_format(words, "-m", "%" PRId64, instance->maxmem_mib);
    cmdline_smp(words, instance);
    cmdline_pair(words, "-uuid", instance->uuid);
    /* USB only where a device needs it: a controller costs wake-ups all the time. */
    cmdline_machine(words, instance, plan, plan->kvm ? "kvm" : "tcg",
                    cmdline_has_usb(instance, plan));
}

/* Where QEMU itself changes root and user, it must still be allowed to: with elevateprivileges=deny it is
 * killed by SIGSYS without a word (7.2). */
static void add_process(json_t *words, const struct instance *instance,
                        const struct cmdline_plan *plan, bool own_sandbox)
{
    cmdline_word(words, "-S");
    if (plan->incoming)
        cmdline_pair(words, "-incoming", "defer");
    cmdline_word(words, "-no-user-config");
    if (!instance->default_devices)
        cmdline_word(words, "-nodefaults");
    else if (instance->nic_count == 0)
        cmdline_pair(words, "-net", "none");
    cmdline_pair(words, "-msg", "timestamp=on");
    if (plan->probe->has_sandbox && !own_sandbox)
        cmdline_format(words, "-sandbox",
                       "on,obsolete=deny,elevateprivileges=%s,spawn=deny,resourcecontrol=deny",
                       plan->chroot != NULL || plan->run_as != NULL ? "allow" : "deny");
    if (strcmp(hvparams_text(instance->hvparams, "reboot_behavior"), "exit") == 0)
        cmdline_word(words, "-no-reboot");
    cmdline_pair(words, "-action", "panic=none");
    cmdline_watchdog_action(words, instance);
    cmdline_chroot(words, plan, plan->run_as);
}

static void add_guest(json_t *words, const struct instance *instance)
{
    const json_t *hvparams = instance->hvparams;
    const char *cpu = hvparams_text(hvparams, "cpu_type");

    cmdline_format(words, "-rtc", "base=%s",
                   hvparams_truth(hvparams, "use_localtime") ? "localtime" : "utc");
    if (cpu[0] != '\0')
        cmdline_pair(words, "-cpu", cpu);
    cmdline_memory_path(words, instance);
    cmdline_kernel(words, instance);
    if (hvparams_text(hvparams, "keymap")[0] != '\0')
        cmdline_pair(words, "-k", hvparams_text(hvparams, "keymap"));
}

static void add_monitor(json_t *words, const char *id, int socket, const char *mode)
{
    if (socket < 0)
        return;
    cmdline_format(words, "-chardev", "socket,id=%s,fd=%d,server=on,wait=off", id, socket);
    cmdline_format(words, "-mon", "chardev=%s,mode=%s", id, mode);
}

/* QEMU writes its own events: a monitor on a chardev that nobody ever opens is not waiting for a client's
 * negotiation and sends every event at once, into the chardev's log file. */
static void add_event_log(json_t *words, const struct cmdline_plan *plan)
{
    if (plan->events_fd < 0)
        return;
    cmdline_format(words, "-add-fd", "fd=%d,set=1,opaque=events", plan->events_fd);
    if (plan->events_socket_fd >= 0)
        cmdline_format(words, "-chardev",
                       "socket,id=ev,fd=%d,server=on,wait=off,logfile=/dev/fdset/1,logappend=on",
                       plan->events_socket_fd);
    else
        cmdline_pair(words, "-chardev", "null,id=ev,logfile=/dev/fdset/1,logappend=on");
    cmdline_pair(words, "-mon", "chardev=ev,mode=control");
}

static void add_channels(json_t *words, const struct instance *instance,
                         const struct cmdline_plan *plan)
{
    add_monitor(words, "qmp", plan->qmp_fd, "control");
    add_monitor(words, "query", plan->query_fd, "control");
    add_monitor(words, "kvmd", plan->kvmd_fd, "control");
    add_monitor(words, "hmp", plan->monitor_fd, "readline");
    add_event_log(words, plan);
    if (plan->serial_fd >= 0) {
        cmdline_format(words, "-chardev", "socket,id=serial0,fd=%d,server=on,wait=off",
                       plan->serial_fd);
        cmdline_pair(words, "-serial", "chardev:serial0");
    } else {
        cmdline_pair(words, "-serial", "none");
    }
    cmdline_display(words, instance, plan, cmdline_json);
}

json_t *cmdline_build(const struct instance *instance, const struct cmdline_plan *plan,
                      struct error *error)
{
    char **extra = NULL;
    size_t extra_count = 0;

    if (text_words(hvparams_text(instance->hvparams, "kvm_extra"), &extra, &extra_count, error) <
        0) {
        error_prefix(error, "hvparams.kvm_extra");
        return NULL;
    }
    json_t *words = memory_json(json_array());
    add_identity(words, instance, plan);
    cmdline_firmware(words, plan);
    add_process(words, instance, plan, has_word((const char *const *)extra, "-sandbox"));
    add_guest(words, instance);
    add_channels(words, instance, plan);
    cmdline_devices(words, instance, plan);
    for (size_t i = 0; i < extra_count; i++)
        cmdline_word(words, extra[i]);
    text_words_release(extra);
    return words;
}
