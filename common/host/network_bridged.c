/* SPDX-License-Identifier: BSD-2-Clause */
#include "network_private.h"

#include <errno.h>
#include <string.h>

static int find_bridge(const struct nic *nic, struct link_state *bridge, struct vlans *vlans,
                       struct error *error)
{
    if (nic->link[0] == '\0')
        return error_set(error, STATUS_USAGE, "mode bridged needs a link, the name of a bridge");
    if (vlans_parse(nic->vlan, vlans, error) != 0)
        return -1;
    if (link_query(nic->link, bridge) != 0)
        return errno == ENODEV
                   ? error_set(error, STATUS_USAGE, "there is no bridge %s on this node", nic->link)
                   : error_errno(error, STATUS_FAILED, "interface %s", nic->link);
    if (strcmp(bridge->kind, "bridge") != 0)
        return error_set(error, STATUS_USAGE, "interface %s is not a bridge", nic->link);
    if (nic->vlan[0] != '\0' && !bridge->vlan_filtering)
        return error_set(error, STATUS_USAGE,
                         "VLAN %s on bridge %s, which does not filter VLANs; ip link set %s type "
                         "bridge vlan_filtering 1",
                         nic->vlan, nic->link, nic->link);
    return 0;
}

static bool has_vlan(const struct vlans *vlans, int vlan)
{
    for (size_t i = 0; i < vlans->count; i++)
        if (vlans->tagged[i] == vlan)
            return true;
    return vlans->native == vlan;
}

static int set_vlans(const char *tap, const struct link_state *state,
                     const struct link_state *bridge, const struct vlans *vlans,
                     struct error *error)
{
    /* The VLAN that the bridge gives to each new port is not one that was asked for. */
    int given = bridge->default_pvid;
    if (given != 0 && !has_vlan(vlans, given) && link_remove_vlan(state->index, given) != 0)
        return error_errno(error, STATUS_FAILED, "take %s out of VLAN %d", tap, given);
    if (vlans->native != 0 && link_add_vlan(state->index, vlans->native, true) != 0)
        return error_errno(error, STATUS_FAILED, "put %s into VLAN %d", tap, vlans->native);
    for (size_t i = 0; i < vlans->count; i++)
        if (vlans->tagged[i] != vlans->native &&
            link_add_vlan(state->index, vlans->tagged[i], false) != 0)
            return error_errno(error, STATUS_FAILED, "put %s into VLAN %d", tap, vlans->tagged[i]);
    return 0;
}

int bridged_up(const struct nic *nic, const char *tap, struct error *error)
{
    struct link_state state, bridge;
    struct vlans vlans;
    if (find_bridge(nic, &bridge, &vlans, error) != 0 || side_query(tap, &state, error) != 0)
        return -1;
    if (state.master != 0 && state.master != bridge.index)
        return error_set(error, STATUS_FAILED, "%s is in another bridge than %s", tap, nic->link);
    if (side_bring_up(nic, tap, &state, &bridge, error) != 0)
        return -1;
    return nic->vlan[0] != '\0' ? set_vlans(tap, &state, &bridge, &vlans, error) : 0;
}

void bridged_check(const struct nic *nic, const char *where, struct messages *problems)
{
    struct error error = {0};
    struct link_state bridge;
    struct vlans vlans;
    if (find_bridge(nic, &bridge, &vlans, &error) != 0)
        messages_add(problems, "%s: %s", where, error.text);
}
