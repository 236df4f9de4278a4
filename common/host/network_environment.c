/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/host/network.h"

#include <stdio.h>
#include <string.h>
#include "kvm/base/json.h"
#include "kvm/base/memory.h"

/* Tags have no blanks, so blanks separate them. NULL for what is no list; the caller frees. */
static char *join(const json_t *list)
{
    if (!json_is_array(list))
        return NULL;
    char *text = memory_copy("");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *item = json_string_value(json_array_get(list, i));
        char *longer =
            memory_format("%s%s%s", text, *text != '\0' ? " " : "", item != NULL ? item : "");
        free(text);
        text = longer;
    }
    return text;
}

static void add_network(const struct nic *nic, struct hook_environment *environment)
{
    static const char *const names[][2] = {
        {"NETWORK_NAME", "name"},         {"NETWORK_SUBNET", "network"},
        {"NETWORK_GATEWAY", "gateway"},   {"NETWORK_SUBNET6", "network6"},
        {"NETWORK_GATEWAY6", "gateway6"}, {"NETWORK_MAC_PREFIX", "mac_prefix"}};
    if (nic->netinfo == NULL && nic->network == NULL)
        return;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        hook_set(environment, names[i][0], json_text(nic->netinfo, names[i][1]));
    const char *uuid = json_text(nic->netinfo, "uuid");
    hook_set(environment, "NETWORK_UUID", uuid != NULL ? uuid : nic->network);
    AUTO_FREE char *tags = join(json_member(nic->netinfo, "tags"));
    hook_set(environment, "NETWORK_TAGS", tags);
}

static const char *unless_empty(const char *text)
{
    return text != NULL && *text != '\0' ? text : NULL;
}

void network_environment(const char *instance, const json_t *tags, const struct nic *nic,
                         size_t index, const char *tap, struct hook_environment *environment)
{
    char number[24];
    AUTO_FREE char *all_tags = join(tags);
    snprintf(number, sizeof number, "%zu", index);
    hook_set(environment, "INSTANCE", instance);
    hook_set(environment, "MAC", nic->mac);
    hook_set(environment, "MODE", nic->mode_name);
    hook_set(environment, "INTERFACE", unless_empty(tap));
    hook_set(environment, "INTERFACE_INDEX", index != SIZE_MAX ? number : NULL);
    hook_set(environment, "INTERFACE_UUID", nic->uuid);
    hook_set(environment, "TAGS", all_tags);
    hook_set(environment, "IP", unless_empty(nic->ip));
    hook_set(environment, "INTERFACE_NAME", unless_empty(nic->name));
    hook_set(environment, "LINK", unless_empty(nic->link));
    hook_set(environment, "VLAN", unless_empty(nic->vlan));
    hook_set(environment, "BRIDGE", nic->mode == NIC_BRIDGED ? unless_empty(nic->link) : NULL);
    add_network(nic, environment);
}
