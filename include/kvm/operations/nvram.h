/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The file of an instance's UEFI variables. It is made of a template at the first start, belongs to the instance from then
 * on, outlives stop and clean-up, and is removed only when that is asked for.
 */
#ifndef KVM_OPERATIONS_NVRAM_H
#define KVM_OPERATIONS_NVRAM_H

#include <stdbool.h>
#include <sys/types.h>
#include <jansson.h>
#include "kvm/base/error.h"
#include "kvm/state/instance.h"
#include "kvm/state/node.h"

bool nvram_is_flash_size(off_t size);

/* nvram_path of the instance, else nvram/NAME.fd of the node's state directory. The caller frees. */
char *nvram_path(const struct node *node, const struct instance *instance);

/* A durable copy of the template at nvram_path. */
int nvram_make(const struct node *node, const struct instance *instance, const char *template,
               struct error *error);

/* Sizes of what the record in the runtime file ("code", "nvram") names: {"code", "nvram"} in bytes; an NVRAM that is not
 * there yet has that of the template (may be NULL). NULL when the record is none. New reference. */
json_t *nvram_sizes(const json_t *record, const char *template);

/*
 * A migration brings the NVRAM as memory; QEMU writes it to the target's file when the guest runs there. So that the file is
 * right before that as well, its contents go with the request as hexadecimal digits (NULL: none, or far too large).
 * nvram_receive makes the file of them unless it is there; *made tells whether it did. nvram_check_received: what another
 * node asks for as firmware and NVRAM must be what this node has for the purpose.
 */
char *nvram_hex(const json_t *record);
int nvram_receive(const struct node *node, const struct instance *instance, const char *hex,
                  bool *made, struct error *error);
void nvram_take_back(const struct node *node, const struct instance *instance, bool made);
int nvram_check_received(const struct node *node, const struct instance *instance,
                         struct error *error);

/* The target of a migration: what QEMU wrote into the file survives a power cut from here on. */
int nvram_sync(const json_t *record, struct error *error);

/* What outlives the instance goes: the recorded file, else the one of the state directory. *was_there may be NULL. */
int nvram_remove(const struct node *node, const char *name, const json_t *record, bool *was_there,
                 struct error *error);

/* An aborted target: the file goes when it was made for the guest that never came. */
int nvram_unmake(const json_t *record, struct error *error);

#endif
