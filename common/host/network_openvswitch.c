/* SPDX-License-Identifier: BSD-2-Clause */
#include "network_private.h"

#include <stdio.h>
#include <stdlib.h>
#include "kvm/base/memory.h"

enum { WORDS_MAX = 16, CHECK_MS = 5000 };

/* "100,200"; the caller frees. */
static char *trunk_list(const char *key, const struct vlans *vlans)
{
    char *list = memory_copy(key);
    for (size_t i = 0; i < vlans->count; i++) {
        char *longer = memory_format("%s%s%d", list, i == 0 ? "" : ",", vlans->tagged[i]);
        free(list);
        list = longer;
    }
    return list;
}

static void wait_word(deadline_t deadline, char *word, size_t size)
{
    int64_t left = deadline == DEADLINE_NEVER ? CHECK_MS : deadline - clock_now_ms();
    snprintf(word, size, "--timeout=%lld", left > 1000 ? (long long)left / 1000 : 1);
}

int openvswitch_up(const struct nic *nic, const char *tap, deadline_t deadline, struct error *error)
{
    struct link_state state;
    struct vlans vlans;
    if (nic->link[0] == '\0')
        return error_set(error, STATUS_USAGE,
                         "mode openvswitch needs a link, the name of a bridge");
    if (vlans_parse(nic->vlan, &vlans, error) != 0 || side_query(tap, &state, error) != 0)
        return -1;
    char wait[32], tag[32];
    AUTO_FREE char *trunks = trunk_list("trunks=", &vlans);
    const char *words[WORDS_MAX] = {"ovs-vsctl"};
    size_t count = 1;
    wait_word(deadline, wait, sizeof wait);
    snprintf(tag, sizeof tag, "tag=%d", vlans.native);
    /* Removed and made anew in one transaction: a left-over port keeps its old tag otherwise. */
    const char *const fixed[] = {wait, "--",       "--if-exists", "del-port", tap,
                                 "--", "add-port", nic->link,     tap};
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++)
        words[count++] = fixed[i];
    if (vlans.native != 0)
        words[count++] = tag;
    if (vlans.count > 0) {
        words[count++] = trunks;
        words[count++] = vlans.native != 0 ? "vlan_mode=native-untagged" : "vlan_mode=trunk";
    }
    if (program_must(words, deadline, error) != 0)
        return -1;
    return side_bring_up(nic, tap, &state, NULL, error);
}

/* The switch keeps a port in its database also when the interface is gone. */
int openvswitch_down(const char *tap, deadline_t deadline, struct error *error)
{
    char wait[32];
    wait_word(deadline, wait, sizeof wait);
    const char *words[] = {"ovs-vsctl", wait, "--", "--if-exists", "del-port", tap, NULL};
    return program_must(words, deadline, error) != 0 ? -1 : side_take_down(tap, error);
}

void openvswitch_check(const struct nic *nic, const char *where, struct messages *problems)
{
    struct error error = {0};
    struct vlans vlans;
    deadline_t deadline = clock_deadline(CHECK_MS);
    char wait[32];
    wait_word(deadline, wait, sizeof wait);
    const char *words[] = {"ovs-vsctl", wait, "--", "br-exists", nic->link, NULL};
    if (nic->link[0] == '\0') {
        messages_add(problems, "%s: mode openvswitch needs a link, the name of a bridge", where);
        return;
    }
    if (vlans_parse(nic->vlan, &vlans, &error) != 0)
        messages_add(problems, "%s: %s", where, error.text);
    int status = program_run(words, deadline, NULL, &error);
    if (status == 0)
        return;
    if (status < 0)
        messages_add(problems, "%s: %s", where, error.text);
    else if (status == 2)
        messages_add(problems, "%s: there is no Open vSwitch bridge %s on this node", where,
                     nic->link);
    else
        messages_add(problems, "%s: Open vSwitch does not answer (ovs-vsctl: exit status %d)",
                     where, status);
}
