/* SPDX-License-Identifier: BSD-2-Clause */
/* In a network and a mount namespace of its own: the node's interfaces and files are not touched.
 * What the kernel was told is read back with ip and bridge. */
#include <sched.h>
#include <sys/mount.h>
#include "kvm/host/tap.h"
#include "nic.h"
#include "unit.h"

static char place[] = "/tmp/unit-network-XXXXXX";
static char no_conf[64], sample_conf[64], ovs_words[64];
static const char *set_up = no_conf; /* the built-in set-up, or the directory with the samples */

TEST(own_namespaces, "namespaces for the tests can be made")
{
    static const char fake[] = "#!/bin/sh\necho \"$*\" >>OVS\n"
                               "[ \"$3 $4\" != 'br-exists nobridge' ] || exit 2\n";
    CHECK(mkdtemp(place) != NULL);
    snprintf(no_conf, sizeof no_conf, "%s/none", place);
    snprintf(sample_conf, sizeof sample_conf, "%s/samples", place);
    snprintf(ovs_words, sizeof ovs_words, "%s/ovs", place);
    CHECK(unshare(CLONE_NEWNET | CLONE_NEWNS) == 0);
    CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    CHECK(mount("none", "/sys", "sysfs", 0, NULL) == 0);
    CHECK(mount("none", "/usr/local/sbin", "tmpfs", 0, "mode=0755") == 0);
    char script[256];
    const char *hole = strstr(fake, "OVS");
    snprintf(script, sizeof script, "%.*s%s%s", (int)(hole - fake), fake, ovs_words, hole + 3);
    CHECK(write_script("/usr/local/sbin/ovs-vsctl", script, 0755));
    CHECK(is_silent("ip link add br0 type bridge && ip link set br0 mtu 1400 up && "
                    "ip link add brv type bridge && ip link set brv up"));
    return true;
}

TEST(bridged, "bridged: the tap gets the bridge, its MTU and an address that no bridge takes")
{
    struct nic nic = make_nic(NIC_BRIDGED, "bridged", "br0");
    struct error error = {0};
    struct tap tap;
    CHECK(finds(&nic, no_conf, ""));
    CHECK_NUMBER(tap_make(uuid, true, 1, &tap, &error), 0);
    for (int turn = 0; turn < 2; turn++) {
        CHECK_NUMBER(up(&nic, tap.name, set_up, &error), 0);
        CHECK(says("ip -o link show dev kvm7c079136", "master br0"));
        CHECK(says("ip -o link show dev kvm7c079136", "mtu 1400"));
        CHECK(says("ip -o link show dev kvm7c079136", "fe:00:00:12:34:56"));
        CHECK(says("ip -o link show dev kvm7c079136", ",UP"));
    }
    for (int turn = 0; turn < 2; turn++) {
        CHECK_NUMBER(down(&nic, tap.name, set_up, &error), 0);
        CHECK(is_silent("ip -o link show master br0"));
        CHECK(is_silent("ip -o link show up dev kvm7c079136"));
    }
    tap_close(&tap);
    CHECK_NUMBER(down(&nic, "kvm7c079136", set_up, &error), 0);
    return true;
}

TEST(own_address, "a guest whose address begins with fe does not meet it on the host")
{
    struct nic nic = make_nic(NIC_BRIDGED, "bridged", "br0");
    struct tap tap;
    nic.mac = "fe:00:00:12:34:56";
    CHECK_NUMBER(tap_make(uuid, true, 1, &tap, NULL), 0);
    int result = up(&nic, tap.name, set_up, NULL);
    bool good = says("ip -o link show dev kvm7c079136", "fa:00:00:12:34:56");
    tap_close(&tap);
    CHECK(result == 0 && good);
    return true;
}

TEST(vlans, "bridged: VLANs of a filtering bridge, without the one it gives to each port")
{
    static const struct {
        const char *vlan, *shown;
    } cases[] = {{".100", "100 PVID Egress Untagged"},
                 {"100", "100 PVID Egress Untagged"},
                 {":100:200", "100 200"},
                 {".100:200", "100 PVID Egress Untagged 200"},
                 {".1", "1 PVID Egress Untagged"},
                 {"", "1 PVID Egress Untagged"}};
    AUTO_FREE char *able = shell("ip link set brv type bridge vlan_filtering 1 2>&1 || :");
    if (*able != '\0') {
        /* A kernel without CONFIG_BRIDGE_VLAN_FILTERING: a VLAN must be refused, not dropped. */
        struct nic nic = make_nic(NIC_BRIDGED, "bridged", "brv");
        nic.vlan = ".100";
        printf("# this kernel's bridges can't filter VLANs: %s", able);
        CHECK(finds(&nic, no_conf, "bridge brv, which does not filter VLANs"));
        return true;
    }
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct nic nic = make_nic(NIC_BRIDGED, "bridged", "brv");
        struct error error = {0};
        struct tap tap;
        nic.vlan = cases[i].vlan;
        CHECK(finds(&nic, no_conf, ""));
        CHECK_NUMBER(tap_make(uuid, true, 1, &tap, &error), 0);
        int first = up(&nic, tap.name, set_up, &error);
        int second = up(&nic, tap.name, set_up, &error);
        AUTO_FREE char *shown = shell("bridge vlan show dev kvm7c079136 | tail -n +2 | "
                                      "sed 's/^kvm7c079136//' | xargs");
        tap_close(&tap);
        shown[strcspn(shown, "\n")] = '\0';
        CHECK(first == 0 && second == 0);
        CHECK_TEXT(shown, cases[i].shown);
    }
    return true;
}

TEST(checked, "what the node lacks is told before anything is made")
{
    struct nic nic = make_nic(NIC_BRIDGED, "bridged", "nobridge");
    struct error error = {0};
    CHECK(finds(&nic, no_conf, "web1: nics[0]: there is no bridge nobridge on this node"));
    nic.link = "lo";
    CHECK(finds(&nic, no_conf, "interface lo is not a bridge"));
    nic.link = "a-name-that-no-interface-can-have";
    CHECK(finds(&nic, no_conf, "there is no bridge a-name-that-no-interface-can-have"));
    nic.link = "";
    CHECK(finds(&nic, no_conf, "needs a link"));
    nic.link = "br0";
    nic.vlan = ".100";
    CHECK(finds(&nic, no_conf, "bridge br0, which does not filter VLANs; ip link set br0"));
    static const char *const bad[] = {".0", ".4095", ".", ":", ".1:", "1x", ".01", ".1.2", "::1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        nic.vlan = bad[i];
        CHECK(finds(&nic, no_conf, "is not of the form"));
    }
    nic = make_nic(NIC_ROUTED, "routed", "");
    CHECK(finds(&nic, no_conf, "mode routed needs an ip (current value: none)"));
    nic.ip = "192.0.2.7/24";
    CHECK(finds(&nic, no_conf, "mode routed needs an ip (current value: 192.0.2.7/24)"));
    nic = make_nic(NIC_OPENVSWITCH, "openvswitch", "nobridge");
    CHECK(finds(&nic, no_conf, "there is no Open vSwitch bridge nobridge on this node"));
    nic = make_nic(NIC_MODE_UNKNOWN, "ext", "");
    CHECK(finds(&nic, no_conf, "mode \"ext\" has no built-in set-up"));
    CHECK_NUMBER(up(&nic, "lo", no_conf, &error), -1);
    return true;
}

TEST(other_bridge, "a tap that somebody put into another bridge is refused by name")
{
    struct nic nic = make_nic(NIC_BRIDGED, "bridged", "br0");
    struct error error = {0};
    struct tap tap;
    CHECK_NUMBER(tap_make(uuid, true, 1, &tap, &error), 0);
    CHECK(is_silent("ip link set kvm7c079136 master brv"));
    int result = up(&nic, tap.name, set_up, &error);
    tap_close(&tap);
    CHECK_NUMBER(result, -1);
    CHECK_TEXT(error.text, "kvm7c079136 is in another bridge than br0");
    return true;
}

TEST(routed, "routed: route, rule and proxy ARP, once each, and gone after ifdown")
{
    struct nic nic = make_nic(NIC_ROUTED, "routed", "100");
    struct error error = {0};
    struct tap tap;
    nic.ip = "192.0.2.7";
    CHECK(finds(&nic, no_conf, ""));
    CHECK_NUMBER(tap_make(uuid, true, 1, &tap, &error), 0);
    for (int turn = 0; turn < 2; turn++) {
        CHECK_NUMBER(up(&nic, tap.name, set_up, &error), 0);
        CHECK(says("ip route show table 100", "192.0.2.7 dev kvm7c079136 proto static"));
        CHECK(says("ip rule show | grep -c 'iif kvm7c079136 lookup 100'", "1\n"));
        CHECK(says("cat /proc/sys/net/ipv4/conf/kvm7c079136/proxy_arp "
                   "/proc/sys/net/ipv4/conf/kvm7c079136/forwarding",
                   "1\n1\n"));
    }
    /* QEMU died: the tap is gone, its rule is not. */
    tap_close(&tap);
    CHECK(says("ip rule show", "iif kvm7c079136 [detached]"));
    for (int turn = 0; turn < 2; turn++) {
        CHECK_NUMBER(down(&nic, "kvm7c079136", set_up, &error), 0);
        CHECK(is_silent("ip rule show | grep kvm7c079136; :"));
    }
    return true;
}

TEST(routed_main, "routed without a link: the main table and no rule, IPv6 as well")
{
    struct nic nic = make_nic(NIC_ROUTED, "routed", "");
    struct error error = {0};
    struct tap tap;
    CHECK_NUMBER(tap_make(uuid, true, 1, &tap, &error), 0);
    nic.ip = "192.0.2.7";
    CHECK_NUMBER(up(&nic, tap.name, set_up, &error), 0);
    CHECK(says("ip route show", "192.0.2.7 dev kvm7c079136"));
    CHECK(is_silent("ip rule show | grep kvm7c079136; :"));
    CHECK_NUMBER(down(&nic, tap.name, set_up, &error), 0);
    CHECK(is_silent("ip route show"));
    if (access("/proc/sys/net/ipv6", F_OK) == 0) {
        nic.ip = "2001:db8::7";
        CHECK_NUMBER(up(&nic, tap.name, set_up, &error), 0);
        CHECK(says("ip -6 route show", "2001:db8::7 dev kvm7c079136"));
        CHECK(says("cat /proc/sys/net/ipv6/conf/kvm7c079136/proxy_ndp", "1\n"));
    }
    tap_close(&tap);
    return true;
}

TEST(openvswitch, "openvswitch: the port is made anew with its tag and trunks, and removed")
{
    static const struct {
        const char *vlan, *words;
    } cases[] = {{"", "add-port ovs0 kvm7c079136\n"},
                 {".100", "add-port ovs0 kvm7c079136 tag=100\n"},
                 {"100", "add-port ovs0 kvm7c079136 tag=100\n"},
                 {":100:200", "add-port ovs0 kvm7c079136 trunks=100,200 vlan_mode=trunk\n"},
                 {".100:200", "add-port ovs0 kvm7c079136 tag=100 trunks=200 "
                              "vlan_mode=native-untagged\n"}};
    AUTO_FREE char *show = memory_format("cat %s; rm %s", ovs_words, ovs_words);
    struct nic nic = make_nic(NIC_OPENVSWITCH, "openvswitch", "ovs0");
    struct error error = {0};
    struct tap tap;
    CHECK(finds(&nic, no_conf, ""));
    CHECK(says(show, " -- br-exists ovs0\n"));
    CHECK_NUMBER(tap_make(uuid, true, 1, &tap, &error), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        nic.vlan = cases[i].vlan;
        CHECK_NUMBER(up(&nic, tap.name, set_up, &error), 0);
        AUTO_FREE char *words = shell(show);
        CHECK_HAS(words, "-- --if-exists del-port kvm7c079136 -- ");
        CHECK_HAS(words, cases[i].words);
        CHECK(says("ip -o link show dev kvm7c079136", ",UP"));
    }
    tap_close(&tap);
    CHECK_NUMBER(down(&nic, "kvm7c079136", set_up, &error), 0);
    CHECK(says(show, "-- --if-exists del-port kvm7c079136\n"));
    return true;
}

TEST(samples, "the sample scripts do what the built-in set-up does")
{
    static const char *const names[] = {"kvm-ifup-custom", "kvm-ifdown-custom"};
    CHECK(mkdir(sample_conf, 0700) == 0);
    for (size_t i = 0; i < 2; i++) {
        AUTO_FREE char *copy =
            memory_format("install -m 755 %s/../common/host/hooks/%s.sample %s/%s", TESTS_DIR,
                          names[i], sample_conf, names[i]);
        CHECK(is_silent(copy));
    }
    set_up = sample_conf;
    bool good = bridged() && own_address() && vlans() && routed() && routed_main() && openvswitch();
    set_up = no_conf;
    return good;
}

TEST(swept, "the tests leave nothing")
{
    AUTO_FREE char *command = memory_format("rm -r %s", place);
    CHECK(is_silent("{ ip -o link; ip rule; ip route show table all; } | grep kvm7c079136; :"));
    CHECK(is_silent(command));
    return true;
}

UNIT_MAIN(UNIT(own_namespaces), UNIT(bridged), UNIT(own_address), UNIT(vlans), UNIT(checked),
          UNIT(other_bridge), UNIT(routed), UNIT(routed_main), UNIT(openvswitch), UNIT(samples),
          UNIT(swept))
