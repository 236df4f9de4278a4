/* SPDX-License-Identifier: BSD-2-Clause */
/* The real QEMU, for the tests that ask it. */
#ifndef KVM_TESTS_QEMU_H
#define KVM_TESTS_QEMU_H

#include <unistd.h>
#include "unit.h"

static const char qemu[] = "/usr/bin/qemu-system-x86_64";

#define NEED_QEMU                                                                                  \
    do {                                                                                           \
        if (access(qemu, X_OK) != 0)                                                               \
            return unit_not_run("there is no /usr/bin/qemu-system-x86_64");                        \
    } while (0)

#endif
