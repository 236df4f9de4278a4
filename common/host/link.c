/* SPDX-License-Identifier: BSD-2-Clause */
#include "link.h"

#include <errno.h>
#include <net/if.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "kvm/base/memory.h"

enum { REQUEST_MAX = 512, REPLY_MAX = 32 * 1024 };

/* A request under construction; the bytes are aligned as the kernel wants them. */
struct request {
    struct nlmsghdr header;
    struct ifinfomsg link;
    char attributes[REQUEST_MAX];
};

static struct request new_request(uint16_t type, unsigned char family, int index)
{
    struct request request = {0};
    request.header.nlmsg_type = type;
    request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    request.header.nlmsg_len = NLMSG_LENGTH(sizeof request.link);
    request.link.ifi_family = family;
    request.link.ifi_index = index;
    return request;
}

/* Returns where the attribute begins, for nesting. */
static size_t add(struct request *request, uint16_t type, const void *bytes, size_t length)
{
    size_t used = request->header.nlmsg_len - NLMSG_LENGTH(sizeof request->link);
    struct rtattr attribute = {.rta_len = (uint16_t)(sizeof attribute + length), .rta_type = type};
    memcpy(request->attributes + used, &attribute, sizeof attribute);
    if (length > 0)
        memcpy(request->attributes + used + sizeof attribute, bytes, length);
    request->header.nlmsg_len += (uint32_t)RTA_ALIGN(attribute.rta_len);
    return used;
}

static void end_nest(struct request *request, size_t begin)
{
    size_t used = request->header.nlmsg_len - NLMSG_LENGTH(sizeof request->link);
    uint16_t length = (uint16_t)(used - begin);
    memcpy(request->attributes + begin + offsetof(struct rtattr, rta_len), &length, sizeof length);
}

/* Send and take the answer. The kernel answers within the call, so nothing is waited for.
 * Returns its length, or -1 with the errno that the kernel sent. */
static ssize_t talk(const struct request *request, char *reply, size_t size)
{
    AUTO_CLOSE int channel = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (channel < 0)
        return -1;
    const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    if (sendto(channel, request, request->header.nlmsg_len, 0, (const struct sockaddr *)&kernel,
               sizeof kernel) < 0)
        return -1;
    ssize_t length;
    do
        length = recv(channel, reply, size, 0);
    while (length < 0 && errno == EINTR);
    struct nlmsghdr header;
    struct nlmsgerr failure;
    if (length < (ssize_t)sizeof header)
        return length < 0 ? -1 : (errno = EPROTO, -1);
    memcpy(&header, reply, sizeof header);
    if (header.nlmsg_type != NLMSG_ERROR)
        return length;
    if ((size_t)length < NLMSG_LENGTH(sizeof failure))
        return errno = EPROTO, -1;
    memcpy(&failure, reply + NLMSG_HDRLEN, sizeof failure);
    errno = -failure.error;
    return failure.error == 0 ? length : -1;
}

static int change(const struct request *request)
{
    char reply[4096];
    return talk(request, reply, sizeof reply) < 0 ? -1 : 0;
}

/* ---- reading ---- */

struct attributes {
    const char *bytes;
    size_t length;
};

/* The next attribute, false at the end. */
static bool next(struct attributes *list, uint16_t *type, struct attributes *value)
{
    struct rtattr attribute;
    if (list->length < sizeof attribute)
        return false;
    memcpy(&attribute, list->bytes, sizeof attribute);
    if (attribute.rta_len < sizeof attribute || attribute.rta_len > list->length)
        return false;
    *type = (uint16_t)(attribute.rta_type & ~(NLA_F_NESTED | NLA_F_NET_BYTEORDER));
    *value =
        (struct attributes){list->bytes + sizeof attribute, attribute.rta_len - sizeof attribute};
    size_t step = RTA_ALIGN(attribute.rta_len);
    step = step < list->length ? step : list->length;
    *list = (struct attributes){list->bytes + step, list->length - step};
    return true;
}

static uint32_t number(struct attributes value)
{
    uint8_t byte;
    uint16_t half;
    uint32_t whole = 0;
    if (value.length == sizeof byte) {
        memcpy(&byte, value.bytes, sizeof byte);
        whole = byte;
    } else if (value.length == sizeof half) {
        memcpy(&half, value.bytes, sizeof half);
        whole = half;
    } else if (value.length == sizeof whole) {
        memcpy(&whole, value.bytes, sizeof whole);
    }
    return whole;
}

static void read_bridge(struct attributes data, struct link_state *state)
{
    uint16_t type;
    struct attributes value;
    while (next(&data, &type, &value)) {
        if (type == IFLA_BR_VLAN_FILTERING)
            state->vlan_filtering = number(value) != 0;
        else if (type == IFLA_BR_VLAN_DEFAULT_PVID)
            state->default_pvid = (int)number(value);
    }
}

static void read_kind(struct attributes info, struct link_state *state)
{
    uint16_t type;
    struct attributes value;
    while (next(&info, &type, &value)) {
        if (type == IFLA_INFO_KIND && value.length < sizeof state->kind)
            memcpy(state->kind, value.bytes, value.length);
        else if (type == IFLA_INFO_DATA && strcmp(state->kind, "bridge") == 0)
            read_bridge(value, state);
    }
}

int link_query(const char *name, struct link_state *state)
{
    *state = (struct link_state){0};
    size_t length = strlen(name);
    if (length == 0 || length >= IFNAMSIZ)
        return errno = ENODEV, -1;
    struct request request = new_request(RTM_GETLINK, AF_UNSPEC, 0);
    request.header.nlmsg_flags = NLM_F_REQUEST;
    add(&request, IFLA_IFNAME, name, length + 1);
    AUTO_FREE char *reply = memory_zeroed(1, REPLY_MAX);
    ssize_t got = talk(&request, reply, REPLY_MAX);
    struct ifinfomsg message;
    if (got < 0)
        return -1;
    if ((size_t)got < NLMSG_LENGTH(sizeof message))
        return errno = EPROTO, -1;
    memcpy(&message, reply + NLMSG_HDRLEN, sizeof message);
    state->index = message.ifi_index;
    state->up = (message.ifi_flags & IFF_UP) != 0;
    struct attributes list = {reply + NLMSG_SPACE(sizeof message),
                              (size_t)got - NLMSG_SPACE(sizeof message)};
    uint16_t type;
    struct attributes value;
    while (next(&list, &type, &value)) {
        if (type == IFLA_MASTER)
            state->master = (int)number(value);
        else if (type == IFLA_MTU)
            state->mtu = number(value);
        else if (type == IFLA_LINKINFO)
            read_kind(value, state);
    }
    return 0;
}

/* ---- changing ---- */

int link_bring_up(int index, const uint8_t *address, uint32_t mtu, int master)
{
    struct request request = new_request(RTM_SETLINK, AF_UNSPEC, index);
    const uint32_t master_index = (uint32_t)master;
    request.link.ifi_flags = IFF_UP;
    request.link.ifi_change = IFF_UP;
    if (address != NULL)
        add(&request, IFLA_ADDRESS, address, LINK_ADDRESS_SIZE);
    if (mtu != 0)
        add(&request, IFLA_MTU, &mtu, sizeof mtu);
    if (master != 0)
        add(&request, IFLA_MASTER, &master_index, sizeof master_index);
    return change(&request);
}

int link_take_down(int index)
{
    struct request request = new_request(RTM_SETLINK, AF_UNSPEC, index);
    const uint32_t none = 0;
    request.link.ifi_change = IFF_UP;
    add(&request, IFLA_MASTER, &none, sizeof none);
    return change(&request);
}

static int change_vlan(uint16_t message, int index, int vlan, uint16_t flags)
{
    struct request request = new_request(message, AF_BRIDGE, index);
    const struct bridge_vlan_info info = {.flags = flags, .vid = (uint16_t)vlan};
    size_t nest = add(&request, IFLA_AF_SPEC, NULL, 0);
    add(&request, IFLA_BRIDGE_VLAN_INFO, &info, sizeof info);
    end_nest(&request, nest);
    return change(&request);
}

int link_add_vlan(int index, int vlan, bool native)
{
    return change_vlan(RTM_SETLINK, index, vlan,
                       native ? BRIDGE_VLAN_INFO_PVID | BRIDGE_VLAN_INFO_UNTAGGED : 0);
}

int link_remove_vlan(int index, int vlan)
{
    return change_vlan(RTM_DELLINK, index, vlan, 0) == 0 || errno == ENOENT ? 0 : -1;
}
