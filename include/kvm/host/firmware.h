/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which UEFI firmware the node has: by QEMU's firmware descriptors (docs/interop/firmware.json of QEMU), or by plain
 * paths. A descriptor in /etc hides the one of the same name in /usr/share; they are tried in the order of their names.
 * Only split flash images in raw format are taken: code that stays as it is, and a template of the variables that
 * each instance gets a copy of.
 */
#ifndef KVM_HOST_FIRMWARE_H
#define KVM_HOST_FIRMWARE_H

#include <stdbool.h>
#include <sys/types.h>
#include "kvm/base/error.h"

struct firmware {
    char *code;     /* path; NULL: none, the machine's BIOS */
    char *template; /* of the NVRAM; NULL: none */
    bool smm;       /* the machine needs smm=on */
    bool secure;    /* its variables are kept from the guest's system by SMM: Secure Boot */
};

/* Where descriptors lie, most important first, NULL-terminated. */
extern const char *const firmware_directories[];

/*
 * `name`: "uefi" (without Secure Boot), "uefi-secure" (with it, and keys enrolled) or the path of the code. `machine` is
 * the pinned machine type, `nvram_size` the size of the NVRAM that the instance has already (0: none), which must be that
 * of the template. A path that a descriptor names as well takes template and features from it. Fails with STATUS_USAGE.
 */
int firmware_find(const char *const *directories, const char *name, const char *machine,
                  off_t nvram_size, struct firmware *firmware, struct error *error);

/* True when a descriptor of this node names the path: what another node asks for may be trusted. */
bool firmware_is_known(const char *const *directories, const char *code);

void firmware_release(struct firmware *firmware);

#endif
