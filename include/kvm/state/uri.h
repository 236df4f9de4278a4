/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Images that QEMU opens itself over the network: a URI as Ganeti and QEMU write it, taken apart strictly into
 * the members that blockdev-add takes (qapi/block-core.json). Pure.
 *
 *   rbd:POOL[/NAMESPACE]/IMAGE[@SNAPSHOT][:id=USER][:conf=FILE][:mon_host=HOST[\:PORT][;…]]
 *   gluster[+tcp]://[HOST[:PORT]]/VOLUME/PATH        gluster+unix:///VOLUME/PATH?socket=FILE
 *   iscsi://HOST[:PORT]/TARGET/LUN                   iser://…
 *   nbd[+tcp]://HOST[:PORT][/EXPORT]                 nbd+unix:///[EXPORT]?socket=FILE
 *   nbd:HOST:PORT[:exportname=EXPORT]                nbd:unix:FILE[:exportname=EXPORT]
 *   http://…, https://…                              read-only
 *
 * What a URI can't say safely is refused by name: passwords and keys would be read by everybody who sees the
 * definition, the runtime file or QEMU's command line.
 */
#ifndef KVM_STATE_URI_H
#define KVM_STATE_URI_H

#include <stdbool.h>
#include <jansson.h>
#include "kvm/base/error.h"

/* {"driver": …, …}: the protocol node without node-name, cache and mode; new object. NULL: STATUS_USAGE. */
json_t *uri_node(const char *uri, struct error *error);

bool uri_is_web(const char *text); /* begins as http:// or https:// do */

/* Nothing can be written there: http, https, and a snapshot. `node` as uri_node makes it. */
bool uri_is_read_only(const json_t *node);

/* Ganeti's dev_type of such storage: "rbd", "gluster", else "ext". */
const char *uri_storage(const json_t *node);

#endif
