/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/state/instance.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>
#include <uuid/uuid.h>
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/state/check.h"

static const char *const known_keys[] = {"name",    "mac",    "ip",   "network", "nicparams",
                                         "netinfo", "hvinfo", "uuid", NULL};
static const char *const ignored_keys[] = {"pci", "serial_no", "ctime", "mtime", NULL};
static const char *const mode_names[] = {"bridged", "routed", "openvswitch", NULL};
static const char *const drivers[] = {"virtio-net-pci", "e1000",    "e1000e",   "i82551",
                                      "i82557b",        "i82559er", "ne2k_pci", "ne2k_isa",
                                      "pcnet",          "rtl8139",  NULL};

static enum nic_mode mode_of(const char *name)
{
    for (int mode = NIC_BRIDGED; mode < NIC_MODE_UNKNOWN; mode++) {
        if (name != NULL && strcmp(mode_names[mode], name) == 0)
            return (enum nic_mode)mode;
    }
    return NIC_MODE_UNKNOWN;
}

void nic_refresh(struct nic *nic)
{
    const json_t *params = json_member(nic->object, "nicparams");
    const char *mode = json_text(params, "mode");
    const char *link = json_text(params, "link");
    const char *vlan = json_text(params, "vlan");

    nic->uuid = json_text(nic->object, "uuid");
    nic->name = json_text(nic->object, "name");
    nic->mac = json_text(nic->object, "mac");
    nic->ip = json_text(nic->object, "ip");
    nic->mode = mode_of(mode);
    nic->mode_name = mode == NULL ? "" : mode;
    nic->link = link == NULL ? "" : link;
    nic->vlan = vlan == NULL ? "" : vlan;
    nic->network = json_text(nic->object, "network");
    nic->netinfo = json_member(nic->object, "netinfo");
    nic->hvinfo = json_member(nic->object, "hvinfo");
}

void nic_release(struct nic *nic)
{
    if (nic == NULL)
        return;
    json_decref(nic->object);
    *nic = (struct nic){0};
}

/* ".100" untagged in 100, ":100:200" tagged in both, ".100:200" one untagged and more tagged. */
static bool is_vlan(const char *text)
{
    for (const char *part = text; *part != '\0';) {
        char number[5] = "";
        size_t digits = strspn(part + 1, "0123456789");
        int64_t value;

        if (*part != ':' && !(*part == '.' && part == text))
            return false;
        if (digits == 0 || digits >= sizeof(number))
            return false;
        memcpy(number, part + 1, digits);
        if (!text_number(number, 1, 4094, &value))
            return false;
        part += 1 + digits;
    }
    return true;
}

static bool is_ip(const char *text)
{
    struct in6_addr address;

    return inet_pton(AF_INET, text, &address) == 1 || inet_pton(AF_INET6, text, &address) == 1;
}

/* Letters go lower-case, as Ganeti keeps them. */
static void settle_mac(const struct check *check, json_t *object)
{
    const char *given = check_text(check, object, "mac");

    if (given == NULL)
        return;
    AUTO_FREE char *mac = memory_copy(given);

    for (char *at = mac; *at != '\0'; at++)
        *at = (char)tolower((unsigned char)*at);
    /* Zero means "not given" to QEMU, which then takes the same one in every guest. */
    if (!text_is_mac(mac) || strcmp(mac, "00:00:00:00:00:00") == 0) {
        check_fail(check, "mac", json_member(object, "mac"),
                   "must be a MAC address like aa:00:00:12:34:56, neither a multicast one nor "
                   "zero");
        return;
    }
    check_set(object, "mac", json_string(mac));
}

static void check_fields(const struct check *check, json_t *object, bool loaded)
{
    static const char *const told[] = {"name", "ip", "network", "mac", "uuid", NULL};
    AUTO_FREE char *hvinfo_place = memory_format("%shvinfo", check->prefix);
    const char *ip = check_text(check, object, "ip");

    check_members(check, object, told);
    check_text(check, object, "name");
    check_text(check, object, "network");
    check_object(check, object, "netinfo");
    check_object(check, object, "nicparams");
    if (ip != NULL && !is_ip(ip))
        check_fail(check, "ip", json_member(object, "ip"), "must be an IPv4 or IPv6 address");
    hvinfo_check(check_object(check, object, "hvinfo"), hvinfo_place, drivers, loaded,
                 check->problems);
    settle_mac(check, object);
}

/* The node's link and vlan belong to the node's mode: a routed NIC has no use for a bridge's name. */
static void fill_params(json_t *object, const json_t *defaults)
{
    json_t *params = json_member(object, "nicparams");
    const char *default_mode = json_text(defaults, "mode");

    if (params == NULL)
        check_set(object, "nicparams", params = json_object());
    if (default_mode == NULL)
        default_mode = "bridged";
    if (json_member(params, "mode") == NULL)
        check_set(params, "mode", json_string(default_mode));
    const char *mode = json_text(params, "mode");
    bool same = mode != NULL && strcmp(mode, default_mode) == 0;
    const char *link = same ? json_text(defaults, "link") : NULL;
    const char *vlan = same ? json_text(defaults, "vlan") : NULL;

    if (json_member(params, "link") == NULL)
        check_set(params, "link", json_string(link == NULL ? "" : link));
    if (json_member(params, "vlan") == NULL)
        check_set(params, "vlan", json_string(vlan == NULL ? "" : vlan));
}

static void check_vlan(const struct check *check, json_t *params, enum nic_mode mode)
{
    const char *vlan = check_text(check, params, "vlan");
    int64_t number;

    if (vlan == NULL || vlan[0] == '\0')
        return;
    if (mode == NIC_ROUTED) {
        check_fail(check, "vlan", json_member(params, "vlan"), "is not for mode routed");
    } else if (text_number(vlan, 1, 4094, &number)) {
        /* A bare number is what people write; Ganeti keeps it with the dot. */
        AUTO_FREE char *dotted = memory_format(".%s", vlan);
        check_set(params, "vlan", json_string(dotted));
    } else if (!is_vlan(vlan)) {
        check_fail(check, "vlan", json_member(params, "vlan"),
                   "must be like 100, .100, :100:200 or .100:200, from 1 to 4094");
    }
}

static void check_params(const char *where, json_t *object, struct messages *problems)
{
    static const char *const known[] = {"mode", "link", "vlan", NULL};
    AUTO_FREE char *prefix = memory_format("%s.nicparams.", where);
    struct check check = {prefix, problems};
    json_t *params = json_member(object, "nicparams");

    check_keys(&check, params, known, NULL);
    enum nic_mode mode = mode_of(check_choice(&check, params, "mode", mode_names));
    const char *link = check_text(&check, params, "link");

    check_vlan(&check, params, mode);
    if (link == NULL || mode == NIC_MODE_UNKNOWN)
        return;
    if (link[0] == '\0' && mode != NIC_ROUTED)
        check_fail(&check, "link", NULL, "is missing: the %s to connect to",
                   mode == NIC_BRIDGED ? "bridge" : "Open vSwitch bridge");
    if (link[0] != '\0' && !check_is_word(link, "._-@", 15))
        check_fail(&check, "link", json_member(params, "link"),
                   mode == NIC_ROUTED ? "must be a routing table" : "must be an interface name");
    if (mode == NIC_ROUTED && json_member(object, "ip") == NULL)
        messages_add(problems, "%s.ip: is missing, mode routed needs it", where);
}

/* Locally administered, and stable as long as the uuid is. */
static void settle_missing_mac(json_t *object)
{
    uuid_t binary;

    if (json_member(object, "mac") != NULL || uuid_parse(json_text(object, "uuid"), binary) != 0)
        return;
    AUTO_FREE char *mac =
        memory_format("aa:00:00:%02x:%02x:%02x", binary[13], binary[14], binary[15]);
    check_set(object, "mac", json_string(mac));
}

int nic_parse(const json_t *given, const char *where, const json_t *nicparams_defaults,
              struct nic *nic, struct messages *problems)
{
    AUTO_FREE char *prefix = memory_format("%s.", where);
    struct check check = {prefix, problems};
    size_t before = problems->count;

    *nic = (struct nic){0};
    if (!json_is_object(given)) {
        messages_add(problems, "%s: must be an object", where);
        return -1;
    }
    check_keys(&check, given, known_keys, ignored_keys);
    nic->object = check_copy(given);
    for (size_t i = 0; ignored_keys[i] != NULL; i++)
        json_object_del(nic->object, ignored_keys[i]);
    check_fields(&check, nic->object, false);
    check_settle_uuid(&check, nic->object);
    json_t *params = json_member(nic->object, "nicparams");

    if (params == NULL || json_is_object(params)) {
        fill_params(nic->object, nicparams_defaults);
        check_params(where, nic->object, problems);
    }
    if (problems->count > before) {
        nic_release(nic);
        return -1;
    }
    settle_missing_mac(nic->object);
    nic_refresh(nic);
    return 0;
}

static void check_loaded_params(const char *where, const json_t *object, struct messages *problems)
{
    AUTO_FREE char *prefix = memory_format("%s.nicparams.", where);
    struct check check = {prefix, problems};
    const json_t *params = json_member(object, "nicparams");
    const char *mode = check_text(&check, params, "mode");
    const char *link = check_text(&check, params, "link");
    const char *vlan = check_text(&check, params, "vlan");

    if (mode != NULL && !check_is_word(mode, "_-", 32))
        check_fail(&check, "mode", json_member(params, "mode"), "must be a word");
    if (link != NULL && link[0] != '\0' && !check_is_word(link, "._-@", 64))
        check_fail(&check, "link", json_member(params, "link"),
                   "must be an interface name or a routing table");
    if (vlan != NULL && !is_vlan(vlan))
        check_fail(&check, "vlan", json_member(params, "vlan"), "must be like .100 or :100:200");
}

int nic_load(const json_t *given, const char *where, struct nic *nic, struct messages *notes,
             struct messages *problems)
{
    AUTO_FREE char *prefix = memory_format("%s.", where);
    struct check check = {prefix, problems};
    size_t before = problems->count;

    *nic = (struct nic){0};
    if (!json_is_object(given)) {
        messages_add(problems, "%s: must be an object", where);
        return -1;
    }
    nic->object = check_copy(given);
    check_fields(&check, nic->object, true);
    if (json_member(nic->object, "mac") == NULL)
        check_fail(&check, "mac", NULL, "is missing");
    check_loaded_params(where, nic->object, problems);
    if (check_settle_uuid(&check, nic->object))
        messages_add(notes, "%suuid: was missing, generated", prefix);
    if (problems->count > before) {
        nic_release(nic);
        return -1;
    }
    nic_refresh(nic);
    return 0;
}
