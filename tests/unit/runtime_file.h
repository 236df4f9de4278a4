/* SPDX-License-Identifier: BSD-2-Clause */
/* Runtime files for the tests: those of tests/vectors, and a small one with one thing in it changed. */
#ifndef KVM_TESTS_RUNTIME_FILE_H
#define KVM_TESTS_RUNTIME_FILE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kvm/base/memory.h"
#include "kvm/state/runtime.h"

static inline char *read_vector(const char *file, const char *suffix)
{
    AUTO_FREE char *path = memory_format(TESTS_DIR "/vectors/%s%s", file, suffix);
    FILE *stream = fopen(path, "re");
    char *bytes = memory_zeroed(65536, 1);

    if (stream == NULL || fread(bytes, 1, 65535, stream) == 0) {
        printf("# can't read %s\n", path);
        abort();
    }
    fclose(stream);
    return bytes;
}

static inline int load(const char *file, const char *name, struct runtime *runtime,
                       struct error *error)
{
    AUTO_FREE char *bytes = read_vector(file, ".runtime");

    return runtime_parse(bytes, strlen(bytes), "w.runtime", name, runtime, error);
}

/* A small file with one thing in it changed: every %s is a member. */
static inline char *file_with(const char *command, const char *nic, const char *hvparam,
                              const char *disk, const char *fifth)
{
    return memory_format(
        "[[\"/usr/bin/kvm\", \"-name\", \"web1\", \"-m\", 128, \"-smp\", \"2\"%s],"
        " [{\"mac\": \"aa:00:00:00:00:01\", \"uuid\": \"003fc157-66a8-4e6d-8b7e-ec4f69751396\","
        "   \"nicparams\": {\"mode\": \"bridged\", \"link\": \"br0\"}%s}],"
        " {\"acpi\": true, \"disk_type\": \"paravirtual\"%s},"
        " [[{\"dev_type\": \"file\", \"uuid\": \"7c079136-2573-4112-82d0-0d3d2aa90d8f\"%s}, \"/d\","
        "   null]]%s]",
        command, nic, hvparam, disk, fifth);
}

#endif
