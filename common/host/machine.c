/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/io_uring.h>
#include <linux/magic.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

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

bool machine_has_io_uring(struct error *error)
{
    struct io_uring_params parameters = {0};
    AUTO_CLOSE int ring = (int)syscall(SYS_io_uring_setup, 1, &parameters);

    if (ring < 0)
        error_errno(error, STATUS_USAGE, "io_uring_setup");
    return ring >= 0;
}

static int64_t huge_number(int64_t page_kib, const char *what)
{
    AUTO_FREE char *path =
        memory_format("/sys/kernel/mm/hugepages/hugepages-%lldkB/%s", (long long)page_kib, what);
    FILE *file = fopen(path, "re");
    long long number = 0;

    if (file == NULL || fscanf(file, "%lld", &number) != 1)
        number = 0;
    if (file != NULL)
        fclose(file);
    return number;
}

/* The node's pool, which may grow by what overcommit allows, within the limit of the mount where it has one. Without a
 * limit statfs tells zeros. */
int64_t machine_huge_mib(const char *directory, int64_t *page_kib)
{
    struct statfs mount;

    if (statfs(directory, &mount) < 0 || mount.f_type != HUGETLBFS_MAGIC)
        return -1;
    *page_kib = mount.f_bsize / 1024;
    int64_t more = huge_number(*page_kib, "nr_overcommit_hugepages") -
                   huge_number(*page_kib, "surplus_hugepages");
    int64_t pages = huge_number(*page_kib, "free_hugepages") -
                    huge_number(*page_kib, "resv_hugepages") + (more > 0 ? more : 0);
    if (mount.f_blocks > 0 && (int64_t)mount.f_bavail < pages)
        pages = (int64_t)mount.f_bavail;
    return pages > 0 ? pages * *page_kib / 1024 : 0;
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
