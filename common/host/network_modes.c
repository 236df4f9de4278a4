/* SPDX-License-Identifier: BSD-2-Clause */
#include "network_private.h"

#include <errno.h>
#include <stdio.h>
#include "kvm/base/memory.h"

/*
 * A bridge takes the lowest address of its ports, so a tap gets the guest's with a first byte of fe:
 * higher than all others, and the same after each start. A guest that has fe itself must not meet
 * its own address on the host.
 */
static void tap_address(const char *mac, uint8_t *address)
{
    unsigned bytes[LINK_ADDRESS_SIZE] = {0};
    sscanf(mac, "%2x:%2x:%2x:%2x:%2x:%2x", &bytes[0], &bytes[1], &bytes[2], &bytes[3], &bytes[4],
           &bytes[5]);
    for (size_t i = 0; i < LINK_ADDRESS_SIZE; i++)
        address[i] = (uint8_t)bytes[i];
    address[0] = bytes[0] == 0xfe ? 0xfa : 0xfe;
}

int side_query(const char *tap, struct link_state *state, struct error *error)
{
    if (link_query(tap, state) != 0)
        return error_errno(error, STATUS_FAILED, "interface %s", tap);
    return 0;
}

int side_bring_up(const struct nic *nic, const char *tap, const struct link_state *state,
                  const struct link_state *bridge, struct error *error)
{
    uint8_t address[LINK_ADDRESS_SIZE];
    tap_address(nic->mac, address);
    if (link_bring_up(state->index, address, bridge != NULL ? bridge->mtu : 0,
                      bridge != NULL && state->master == 0 ? bridge->index : 0) == 0)
        return 0;
    if (bridge != NULL)
        return error_errno(error, STATUS_FAILED, "add %s to bridge %s", tap, nic->link);
    return error_errno(error, STATUS_FAILED, "set %s up", tap);
}

int side_take_down(const char *tap, struct error *error)
{
    struct link_state state;
    if ((link_query(tap, &state) == 0 && link_take_down(state.index) == 0) || errno == ENODEV)
        return 0;
    return error_errno(error, STATUS_FAILED, "set %s down", tap);
}

void modes_check(const struct nic *nic, const char *where, struct messages *problems)
{
    switch (nic->mode) {
    case NIC_BRIDGED:
        bridged_check(nic, where, problems);
        break;
    case NIC_OPENVSWITCH:
        openvswitch_check(nic, where, problems);
        break;
    case NIC_ROUTED:
        routed_check(nic, where, problems);
        break;
    case NIC_MODE_UNKNOWN:
        messages_add(problems, "%s: mode \"%s\" has no built-in set-up: it needs kvm-ifup-custom",
                     where, nic->mode_name);
        break;
    }
}

int modes_up(const struct nic *nic, const char *tap, deadline_t deadline, struct error *error)
{
    switch (nic->mode) {
    case NIC_BRIDGED:
        return bridged_up(nic, tap, error);
    case NIC_OPENVSWITCH:
        return openvswitch_up(nic, tap, deadline, error);
    case NIC_ROUTED:
        return routed_up(nic, tap, deadline, error);
    case NIC_MODE_UNKNOWN:
        break;
    }
    return error_set(error, STATUS_USAGE,
                     "mode \"%s\" has no built-in set-up: it needs kvm-ifup-custom",
                     nic->mode_name);
}

int modes_down(const struct nic *nic, const char *tap, deadline_t deadline, struct error *error)
{
    switch (nic->mode) {
    case NIC_OPENVSWITCH:
        return openvswitch_down(tap, deadline, error);
    case NIC_ROUTED:
        return routed_down(nic, tap, deadline, error);
    case NIC_BRIDGED:
    case NIC_MODE_UNKNOWN:
        break;
    }
    return side_take_down(tap, error);
}

char *modes_describe(const struct nic *nic)
{
    const char *vlan = nic->vlan[0] != '\0' ? ", VLAN " : "";
    switch (nic->mode) {
    case NIC_BRIDGED:
        return memory_format("add the tap to bridge %s%s%s and set it up", nic->link, vlan,
                             nic->vlan);
    case NIC_OPENVSWITCH:
        return memory_format("add the tap to Open vSwitch bridge %s%s%s and set it up", nic->link,
                             vlan, nic->vlan);
    case NIC_ROUTED:
        return memory_format("route %s to the tap%s%s", nic->ip != NULL ? nic->ip : "?",
                             nic->link[0] != '\0' ? " in table " : "", nic->link);
    case NIC_MODE_UNKNOWN:
        break;
    }
    return memory_format("nothing: mode \"%s\" has no built-in set-up", nic->mode_name);
}

char *modes_describe_down(const struct nic *nic)
{
    switch (nic->mode) {
    case NIC_OPENVSWITCH:
        return memory_format("take the tap out of Open vSwitch bridge %s and set it down",
                             nic->link);
    case NIC_ROUTED:
        return memory_format("remove the route of %s and set the tap down",
                             nic->ip != NULL ? nic->ip : "?");
    case NIC_BRIDGED:
    case NIC_MODE_UNKNOWN:
        break;
    }
    return memory_copy("set the tap down");
}
