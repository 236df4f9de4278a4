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
 * nvram_is_awaited: there is no file yet, and nvram_receive would make it of them. nvram_check_received: what another node
 * asks for as firmware and NVRAM must be what this node has for the purpose.
 */
char *nvram_hex(const json_t *record);
bool nvram_is_awaited(const struct node *node, const struct instance *instance, const char *hex);
int nvram_receive(const struct node *node, const struct instance *instance, const char *hex,
                  struct error *error);
int nvram_check_received(const struct node *node, const struct instance *instance,
                         struct error *error);

/* The target of a migration: what QEMU wrote into the file survives a power cut from here on. */
int nvram_sync(const json_t *record, struct error *error);

/* The file that the record names, else the one of the state directory. The caller frees. */
char *nvram_recorded(const struct node *node, const char *name, const json_t *record);
/* It goes, durably. One outside of the state directory must look like what it is said to be: a record may have come from
 * another node. STATUS_INCOMPLETE. */
int nvram_remove(const struct node *node, const char *name, const json_t *record, bool *was_there,
                 struct error *error);

#endif
