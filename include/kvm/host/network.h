/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A NIC's host side: configured by the operator's kvm-ifup-custom when it is there, else by the built-in set-up
 * of its mode (bridged: member of the bridge LINK, with VLAN filtering where VLAN is given; openvswitch: port of
 * LINK with tag or trunks; routed: route to IP through the tap, in table LINK, with proxy ARP).
 *
 * The tap files nic/NAME/INDEX and nic/NAME/UUID hold the tap's name from before ifup runs until ifdown has run:
 * they are the mark that a NIC is to be unconfigured.
 *
 * Environment of the scripts (as in the seed and Ganeti 3.1): PATH INSTANCE MAC MODE INTERFACE INTERFACE_INDEX
 * INTERFACE_UUID TAGS [IP] [INTERFACE_NAME] [LINK] [VLAN] [BRIDGE] [NETWORK_*]. Arguments: ifup TAP; ifdown TAP
 * true|false (true: only this node's side goes, the instance lives on elsewhere or will be started again).
 */
#ifndef KVM_HOST_NETWORK_H
#define KVM_HOST_NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "kvm/base/clock.h"
#include "kvm/base/error.h"
#include "kvm/host/hook.h"
#include "kvm/state/instance.h"
#include "kvm/state/rundir.h"

/* Checks before anything is made: the bridge exists, ovs-vsctl is there, a routed NIC has an ip. Adds problems
 * with `where` as prefix. With a custom script only what the script can't repair is checked (nothing). */
void network_check(const struct nic *nic, const char *conf_dir, const char *where,
                   struct messages *problems);

/* What would be done, in words, for --dry-run: "add TAP to bridge br0 and set it up". Caller frees. */
char *network_describe(const struct nic *nic, const char *conf_dir);
char *network_describe_down(const struct nic *nic, const char *conf_dir);

/* `index` is that of its tap file. */
int network_ifup(const struct instance *instance, const struct nic *nic, size_t index,
                 const char *tap, const char *conf_dir, deadline_t deadline, struct error *error);
/* `nic` need not be one that the instance has now. `tap` may be gone already: the built-in ifdown then has nothing to do,
 * the custom one is run all the same. */
int network_ifdown(const struct instance *instance, const struct nic *nic, size_t index,
                   const char *tap, bool only_local, const char *conf_dir, deadline_t deadline,
                   struct error *error);

/* The environment, for tests and --dry-run. index SIZE_MAX: not known. */
void network_environment(const char *instance, const json_t *tags, const struct nic *nic,
                         size_t index, const char *tap, struct hook_environment *environment);

/* Tap files. read: false when there is none; buffer of TAP_NAME_SIZE. */
int network_write_tap(const struct rundir *rundir, const char *instance, size_t index,
                      const char *uuid, const char *tap, struct error *error);
bool network_read_tap(const struct rundir *rundir, const char *instance, const char *ident,
                      char *tap);
int network_remove_tap(const struct rundir *rundir, const char *instance, size_t index,
                       const char *uuid, struct error *error);

/* The same when the index is not known: the tap files of this NIC and the one by index of `tap` (NULL: not known) go.
 * Fine when there is none. */
int network_forget_tap(const struct rundir *rundir, const char *instance, const char *uuid,
                       const char *tap, struct error *error);

/* The index by which ifup was told of this NIC, and ifdown is to be: that of its tap file, which need not be its place in
 * the list once others were removed. SIZE_MAX: there is none. */
size_t network_index(const struct rundir *rundir, const char *instance, const char *tap);

/* The tap of a NIC, also of one that Ganeti has set up, which writes no file by uuid. `pid` is that of the live QEMU: a
 * tap that it does not hold is not believed as long as there is a better one; 0: none lives. False: not known. */
bool network_find_tap(const struct rundir *rundir, const struct instance *instance, size_t index,
                      pid_t pid, char *tap);

/* Tap files of NICs that the instance does not have (any more), since another tool removed them, go. */
int network_drop_strangers(const struct rundir *rundir, const struct instance *instance,
                           struct error *error);

/* The lowest index that no tap file of the instance has: that of a NIC to be added. */
size_t network_free_index(const struct rundir *rundir, const char *instance);

#endif
