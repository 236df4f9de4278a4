/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The configuration directory: kvm-defaults.json (node-wide hvparams, beparams, nicparams, uid_pool, disk_places),
 * kvm-ifup-custom, kvm-ifdown-custom, hooks/.
 */
#ifndef KVM_STATE_NODE_H
#define KVM_STATE_NODE_H

#include <stdint.h>
#include <jansson.h>
#include "kvm/base/error.h"

struct node {
    char *path;       /* of the configuration directory */
    json_t *defaults; /* kvm-defaults.json checked; an empty object when there is none */
    char *source;     /* its path, for messages */
    char *
        state_path; /* of what outlives the instances: nvram/NAME.fd and so on. KVM_STATE_DIR, else state_dir of
                         the node file, else the built-in one */
};

/* Reads and checks kvm-defaults.json (all problems at once, STATUS_USAGE). A missing directory or
 * file is fine. */
int node_open(struct node *node, const char *conf_dir, struct error *error);
void node_close(struct node *node);
#define AUTO_NODE __attribute__((cleanup(node_close)))

/* uid_pool of the node file: "4000-4019,5000". Adds nothing and returns 0 uids when not set.
 * *uids is allocated. */
int node_uid_pool(const struct node *node, uint32_t **uids, size_t *count, struct error *error);

#endif
