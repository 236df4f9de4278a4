/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Between the files of runtime: parse reads the five elements and checks them, upgrade turns the
 * historic forms of the first four into today's.
 */
#ifndef KVM_STATE_RUNTIME_PRIVATE_H
#define KVM_STATE_RUNTIME_PRIVATE_H

#include <jansson.h>
#include "kvm/state/runtime.h"

enum { RUNTIME_VERSION = 1 };

/* In the order of their enums, NULL-terminated. */
extern const char *const runtime_state_names[];
extern const char *const runtime_device_states[];

/* One file on its way in. */
struct reading {
    const char *source, *name;
    json_t *list; /* the elements; upgraded in place */
    struct runtime *runtime;
    struct messages *problems;
};

/* The fifth element; what it does not tell is derived from kvm_cmd, which has been read before. */
void read_ours(struct reading *reading);

/* A new kvm_cmd that today's QEMU takes; what was changed is told in `notes`. The words are checked
 * before: strings, and a number after -m. */
json_t *upgrade_command(const json_t *kvm_cmd, struct messages *notes);

/* 2.10 to 2.15 kept the PCI slot as a number: `pci` of the NIC or disk (changed in place) becomes hvinfo.
 * `model` is the nic_type or disk_type, NULL when the file has none. */
void upgrade_pci(json_t *device, bool is_nic, const char *model, const char *where,
                 struct messages *notes, struct messages *problems);

/* The word after the first `option` in kvm_cmd; NULL: not there. *place gets its index. */
const json_t *command_value(const json_t *kvm_cmd, const char *option, size_t *place);

/* The slots of the instance's controllers and paravirtual CD-ROMs, as they stand in ours.slots; new object. */
json_t *runtime_slots_json(const struct instance *instance);

#endif
