/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/qemu/cmdline.h"

#include <string.h>

#include "kvm/base/text.h"

/* What the suite decides itself, or relies on being as it set it. */
static const struct refusal {
    const char *word;
    const char *why;
} refusals[] = {
    {"-S", "use --paused"},
    {"-incoming", "use kvm-migrate"},
    {"-loadvm", "the guest's state is started afresh"},
    {"-preconfig", "the instance would never be ready"},
    {"-name", "the name is the instance's"},
    {"-uuid", "the uuid is the instance's"},
    {"-m", "use beparams.maxmem"},
    {"-smp", "use beparams.vcpus, cpu_cores, cpu_threads and cpu_sockets"},
    {"-M", "use machine_version"},
    {"-accel", "use kvm_flag"},
    {"-enable-kvm", "use kvm_flag"},
    {"-no-acpi", "use acpi"},
    {"-no-shutdown", "a guest that has powered off would stay"},
    {"-daemonize", "the suite starts QEMU in the background itself"},
    {"-pidfile", "the suite keeps the pid file"},
    {"-D", "the suite keeps QEMU's messages"},
    {"-add-fd", "the suite numbers the descriptors"},
    {"-runas", "use security_model"},
    {"-run-with", "use security_model and use_chroot"},
    {"-chroot", "use use_chroot"},
    {"-qmp", "the suite has its own monitors; a further one keeps unused descriptors open"},
    {"-qmp-pretty", "the suite has its own monitors; a further one keeps unused descriptors open"},
    {"-mon", "the suite has its own monitors; a further one keeps unused descriptors open"},
    {"-monitor", "the suite has its own monitors; a further one keeps unused descriptors open"},
    {"-nographic", "it would move the monitor to the standard streams"},
    {"-curses", "QEMU has no terminal"},
    {"-readconfig", "what it reads can't be checked"},
    {"-snapshot", "what the guest writes would be lost"},
    {"-version", "QEMU would only print its version"},
    {"-h", "QEMU would only print its help"},
    {"-help", "QEMU would only print its help"},
    {"-dump-vmstate", "QEMU would end at once"},
};

static const struct refusal *find_refusal(const char *word)
{
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
        if (strcmp(refusals[i].word, word) == 0)
            return &refusals[i];
    return NULL;
}

/* True when `list` ("a=1,b=2") has an item that begins with `start`. */
static bool has_item(const char *list, const char *start)
{
    for (const char *item = list; item != NULL; item = strchr(item, ',')) {
        item += *item == ',';
        if (strncmp(item, start, strlen(start)) == 0)
            return true;
    }
    return false;
}

/* Two options are fine but for some of their values. */
static int check_value(const char *word, const char *value, struct error *error)
{
    size_t first = strcspn(value, ",=");

    if (strcmp(word, "-machine") == 0 && (value[first] != '=' || has_item(value, "type=")))
        return error_set(error, STATUS_USAGE,
                         "-machine %s: the machine type is not allowed here: use machine_version",
                         value);
    if (strcmp(word, "-machine") == 0 && has_item(value, "accel="))
        return error_set(error, STATUS_USAGE,
                         "-machine %s: the accelerator is not allowed here: use kvm_flag", value);
    if (strcmp(word, "-action") == 0 && has_item(value, "shutdown=pause"))
        return error_set(error, STATUS_USAGE,
                         "-action %s: not allowed: a guest that has powered off would stay", value);
    return 0;
}

static int check_words(char *const *words, size_t count, struct error *error)
{
    for (size_t i = 0; i < count; i++) {
        const char *word = words[i];
        if (strncmp(word, "--", 2) == 0) /* QEMU takes both */
            word++;
        const struct refusal *refusal = find_refusal(word);
        if (refusal != NULL)
            return error_set(error, STATUS_USAGE, "%s is not allowed: %s", words[i], refusal->why);
        if (check_value(word, i + 1 < count ? words[i + 1] : "", error) < 0)
            return -1;
    }
    return 0;
}

int cmdline_check_extra(const char *kvm_extra, struct error *error)
{
    char **words = NULL;
    size_t count = 0;

    if (text_words(kvm_extra, &words, &count, error) < 0)
        return -1;
    int result = check_words(words, count, error);
    text_words_release(words);
    return result;
}
