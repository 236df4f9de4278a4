/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interfaces of this network namespace by rtnetlink: no program is started, and sysfs is not asked,
 * which shows the namespace of whoever mounted it.
 *
 * All calls return 0, or -1 with errno (ENODEV: no such interface).
 */
#ifndef KVM_HOST_LINK_H
#define KVM_HOST_LINK_H

#include <stdbool.h>
#include <stdint.h>

enum { LINK_ADDRESS_SIZE = 6, LINK_KIND_SIZE = 16 };

struct link_state {
    int index;
    int master; /* index of the bridge or other master; 0: none */
    uint32_t mtu;
    bool up;
    char kind[LINK_KIND_SIZE]; /* "bridge", "tun", "veth", …; "" for hardware */
    bool vlan_filtering;       /* of a bridge */
    int default_pvid;          /* of a bridge; 0: none */
};

int link_query(const char *name, struct link_state *state);

/* One message, so that the interface is never up outside of its bridge. `address` NULL, `mtu` 0,
 * `master` 0: left as it is. */
int link_bring_up(int index, const uint8_t *address, uint32_t mtu, int master);

/* Down and out of its bridge. */
int link_take_down(int index);

/* VLAN membership of a bridge port. Removing one that is not there is success. */
int link_add_vlan(int index, int vlan, bool native);
int link_remove_vlan(int index, int vlan);

#endif
