/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvm/host/machine.h"
#include "kvm/base/memory.h"

int64_t machine_available_mib(void)
{
    char line[256];
    long long kib = -1;
    FILE *file = fopen("/proc/meminfo", "re");

    while (file != NULL && kib < 0 && fgets(line, sizeof(line), file) != NULL)
        if (sscanf(line, "MemAvailable: %lld kB", &kib) != 1)
            kib = -1;
    if (file != NULL)
        fclose(file);
    return kib < 0 ? -1 : kib / 1024;
}

/* The first CPU's: a guest may run on each of them. */
char *machine_cpu_flags(void)
{
    char *line = NULL, *vendor = NULL, *flags = NULL;
    size_t size = 0;
    FILE *file = fopen("/proc/cpuinfo", "re");

    while (file != NULL && flags == NULL && getline(&line, &size, file) > 0) {
        const char *value = strstr(line, ": ");
        line[strcspn(line, "\n")] = '\0';
        if (value != NULL && vendor == NULL && strncmp(line, "vendor_id", 9) == 0)
            vendor = memory_copy(value + 2);
        else if (value != NULL && strncmp(line, "flags", 5) == 0)
            flags = memory_copy(value + 2);
    }
    if (file != NULL)
        fclose(file);
    char *both = flags == NULL ? memory_copy("")
                               : memory_format("%s%s%s", vendor != NULL ? vendor : "",
                                               vendor != NULL ? " " : "", flags);
    free(line);
    free(vendor);
    free(flags);
    return both;
}
