/* SPDX-License-Identifier: BSD-2-Clause */
/* In a network and a mount namespace of its own: the node's interfaces and files are not touched.
 * What the kernel was told is read back with ip and bridge. */
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "kvm/host/network.h"
#include "kvm/host/tap.h"
#include "unit.h"

enum { LONG_MS = 20000 };

static const char uuid[] = "7c079136-2573-4112-82d0-0d3d2aa90d8f";
static char place[] = "/tmp/unit-network-XXXXXX";
static char no_conf[64], conf[64], sample_conf[64], ovs_words[64];
static const char *set_up = no_conf; /* the built-in set-up, or the directory with the samples */

/* Output of a shell command; the caller frees; never NULL. */
static char *shell(const char *command)
{
    const char *argv[] = {"/bin/sh", "-c", command, NULL};
    const char *environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", NULL};
    struct process_spec spec = {.argv = argv,
                                .environment = environment,
                                .input = -1,
                                .output = -1,
                                .errors = -1,
                                .pid_lock = -1};
    char *output = NULL;
    int status = process_run(&spec, clock_deadline(LONG_MS), &output, NULL);
    if (status != 0)
        printf("# %s: %d, %s\n", command, status, output != NULL ? output : "");
    if (status == 0 && output != NULL)
        return output;
    free(output);
    return memory_copy("(it failed)");
}

static bool says(const char *command, const char *part)
{
    AUTO_FREE char *output = shell(command);
    bool good = strstr(output, part) != NULL;
    if (!good)
        printf("# %s: \"%s\" without \"%s\"\n", command, output, part);
    return good;
}

static bool is_silent(const char *command)
{
    AUTO_FREE char *output = shell(command);
    if (*output != '\0')
        printf("# %s: \"%s\"\n", command, output);
    return *output == '\0';
}

static bool write_script(const char *path, const char *text, mode_t mode)
{
    AUTO_CLOSE int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    return file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text) &&
           fchmod(file, mode) == 0;
}

static struct nic make_nic(enum nic_mode mode, const char *mode_name, const char *link)
{
    return (struct nic){.uuid = uuid,
                        .mac = "aa:00:00:12:34:56",
                        .mode = mode,
                        .mode_name = mode_name,
                        .link = link,
                        .vlan = ""};
}

static int up(struct nic *nic, const char *tap, const char *conf_dir, struct error *error)
{
    char name[] = "web1";
    struct instance instance = {.name = name, .nics = nic, .nic_count = 1};
    return network_ifup(&instance, 0, tap, conf_dir, clock_deadline(LONG_MS), error);
}

static int down(const struct nic *nic, const char *tap, const char *conf_dir, struct error *error)
{
    char name[] = "web1";
    AUTO_JSON json_t *tags = json_pack("[s, s]", "one", "two");
    struct instance instance = {.name = name, .tags = tags};
    return network_ifdown(&instance, nic, 0, tap, true, conf_dir, clock_deadline(LONG_MS), error);
}

/* Whether the checks find exactly one problem with this in it; "" for none at all. */
static bool finds(const struct nic *nic, const char *conf_dir, const char *part)
{
    struct messages problems = {0};
    network_check(nic, conf_dir, "web1: nics[0]", &problems);
    bool good = *part == '\0' ? problems.count == 0
                              : problems.count == 1 && strstr(problems.items[0], part) != NULL;
    for (size_t i = 0; i < problems.count && !good; i++)
        printf("# %s\n", problems.items[i]);
    messages_release(&problems);
    return good;
}

static const char *value_of(const struct hook_environment *environment, const char *name)
{
    size_t length = strlen(name);
    for (size_t i = 0; i < environment->count; i++)
        if (strncmp(environment->items[i], name, length) == 0 &&
            environment->items[i][length] == '=')
            return environment->items[i] + length + 1;
    return NULL;
}

TEST(own_namespaces, "namespaces for the tests can be made")
{
    static const char fake[] = "#!/bin/sh\necho \"$*\" >>OVS\n"
                               "[ \"$3 $4\" != 'br-exists nobridge' ] || exit 2\n";
    CHECK(mkdtemp(place) != NULL);
    snprintf(no_conf, sizeof no_conf, "%s/none", place);
    snprintf(conf, sizeof conf, "%s/conf", place);
    snprintf(sample_conf, sizeof sample_conf, "%s/samples", place);
    snprintf(ovs_words, sizeof ovs_words, "%s/ovs", place);
    CHECK(mkdir(conf, 0700) == 0);
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

TEST(environment, "the scripts are told all of a NIC, also of the one with index 0")
{
    AUTO_HOOK_ENVIRONMENT struct hook_environment full = {0}, bare = {0}, unknown = {0};
    struct nic nic = make_nic(NIC_BRIDGED, "bridged", "br0");
    network_environment("web1", NULL, &nic, 3, "", &bare);
    CHECK_TEXT(value_of(&bare, "INTERFACE_INDEX"), "3");
    static const char *const absent[] = {"TAGS",      "IP",           "INTERFACE_NAME", "VLAN",
                                         "INTERFACE", "NETWORK_NAME", "NETWORK_UUID"};
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++)
        CHECK(value_of(&bare, absent[i]) == NULL);
    network_environment("web1", NULL, &nic, SIZE_MAX, "tap0", &unknown);
    CHECK(value_of(&unknown, "INTERFACE_INDEX") == NULL);

    json_t *tags = json_pack("[s, s]", "one", "two");
    json_t *info = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:n, s:[s]}", "name", "net1", "uuid",
                             "11111111-2573-4112-82d0-0d3d2aa90d8f", "network", "192.0.2.0/24",
                             "gateway", "192.0.2.1", "network6", "2001:db8::/64", "mac_prefix",
                             "aa:00:01", "gateway6", "tags", "x");
    nic.ip = "192.0.2.7";
    nic.name = "eth0";
    nic.vlan = ".100";
    nic.netinfo = info;
    network_environment("web1", tags, &nic, 0, "tap0", &full);
    json_decref(tags);
    json_decref(info);
    static const char *const expected[][2] = {
        {"INSTANCE", "web1"},
        {"MAC", "aa:00:00:12:34:56"},
        {"MODE", "bridged"},
        {"INTERFACE", "tap0"},
        {"INTERFACE_INDEX", "0"},
        {"INTERFACE_UUID", uuid},
        {"INTERFACE_NAME", "eth0"},
        {"TAGS", "one two"},
        {"IP", "192.0.2.7"},
        {"LINK", "br0"},
        {"BRIDGE", "br0"},
        {"VLAN", ".100"},
        {"NETWORK_NAME", "net1"},
        {"NETWORK_SUBNET", "192.0.2.0/24"},
        {"NETWORK_GATEWAY", "192.0.2.1"},
        {"NETWORK_SUBNET6", "2001:db8::/64"},
        {"NETWORK_MAC_PREFIX", "aa:00:01"},
        {"NETWORK_TAGS", "x"},
        {"NETWORK_UUID", "11111111-2573-4112-82d0-0d3d2aa90d8f"}};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        CHECK_TEXT(value_of(&full, expected[i][0]), expected[i][1]);
    CHECK_NUMBER(full.count, sizeof expected / sizeof expected[0]);
    return true;
}

TEST(custom,
     "the operator's scripts replace the built-in set-up and see nothing of our environment")
{
    struct nic nic = make_nic(NIC_BRIDGED, "bridged", "nobridge");
    struct error error = {0};
    AUTO_FREE char *ifup = memory_format("%s/kvm-ifup-custom", conf);
    AUTO_FREE char *ifdown = memory_format("%s/kvm-ifdown-custom", conf);
    AUTO_FREE char *told = memory_format("%s/told", place);
    AUTO_FREE char *script = memory_format("#!/bin/sh\n{ echo \"args $*\"; env; } >%s\n", told);
    AUTO_FREE char *show = memory_format("cat %s", told);
    setenv("SECRET", "x", 1);
    CHECK(write_script(ifup, script, 0755) && write_script(ifdown, script, 0755));
    CHECK(finds(&nic, conf, ""));
    CHECK_NUMBER(up(&nic, "tap0", conf, &error), 0);
    AUTO_FREE char *up_told = shell(show);
    CHECK_HAS(up_told, "args tap0\n");
    CHECK_HAS(up_told, "INTERFACE_INDEX=0\n");
    CHECK_HAS(up_told, "LC_ALL=C\n");
    CHECK_HAS(up_told, ":/sbin");
    CHECK(strstr(up_told, "SECRET") == NULL);
    CHECK_NUMBER(down(&nic, "tap0", conf, &error), 0);
    CHECK(says(show, "args tap0 true\n"));
    CHECK(says(show, "TAGS=one two\n"));
    CHECK(write_script(ifup, "#!/bin/sh\necho first\nprintf 'no \\033[31mroute\\n' >&2\nexit 3\n",
                       0755));
    CHECK_NUMBER(up(&nic, "tap0", conf, &error), -1);
    CHECK_HAS(error.text, "kvm-ifup-custom ended with exit status 3: first/no \\x1b[31mroute");
    CHECK(write_script(ifup, "#!/bin/sh\nkill -9 $$\n", 0755));
    CHECK_NUMBER(up(&nic, "tap0", conf, &error), -1);
    CHECK_HAS(error.text, "was ended by signal 9");
    CHECK(write_script(ifup, "#!/bin/sh\n", 0777) && finds(&nic, conf, "may be written by others"));
    CHECK_NUMBER(up(&nic, "tap0", conf, &error), -1);
    CHECK(write_script(ifup, "#!/bin/sh\n", 0644) && finds(&nic, conf, "is not executable"));
    CHECK(write_script(ifup, "#!/bin/sh\n", 0755) && chown(ifup, 64001, 0) == 0);
    CHECK(finds(&nic, conf, "belongs to user 64001"));
    CHECK(unlink(ifup) == 0 && symlink("/nonexistent", ifup) == 0);
    CHECK(finds(&nic, conf, "No such file or directory"));
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

TEST(files, "tap files are there under index and uuid, and the directory goes with the last")
{
    AUTO_FREE char *path = memory_format("%s/run", place);
    AUTO_RUNDIR struct rundir rundir = {.fd = -1};
    struct error error = {0};
    char tap[TAP_NAME_SIZE];
    CHECK_NUMBER(rundir_open(&rundir, path, true, &error), 0);
    CHECK(!network_read_tap(&rundir, "web1", "0", tap));
    CHECK_NUMBER(network_write_tap(&rundir, "web1", 0, uuid, "tap0", &error), 0);
    CHECK_NUMBER(network_write_tap(&rundir, "web1", 1, "other", "tap1", &error), 0);
    CHECK(network_read_tap(&rundir, "web1", uuid, tap));
    CHECK_TEXT(tap, "tap0");
    CHECK(network_read_tap(&rundir, "web1", "1", tap));
    CHECK_TEXT(tap, "tap1");
    CHECK_NUMBER(network_remove_tap(&rundir, "web1", 0, uuid, &error), 0);
    CHECK_NUMBER(network_remove_tap(&rundir, "web1", 0, uuid, &error), 0);
    CHECK(!network_read_tap(&rundir, "web1", "0", tap));
    CHECK_NUMBER(faccessat(rundir.fd, "nic/web1", F_OK, 0), 0);
    CHECK_NUMBER(network_remove_tap(&rundir, "web1", 1, "other", &error), 0);
    CHECK_NUMBER(faccessat(rundir.fd, "nic/web1", F_OK, 0), -1);
    static const char *const bad[] = {"tap%d", "../x", "a name", "", "sixteen-letters-", "-x"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK_NUMBER(network_write_tap(&rundir, "web1", 0, uuid, bad[i], &error), 0);
        CHECK(!network_read_tap(&rundir, "web1", uuid, tap));
    }
    return true;
}

static void put(const struct rundir *rundir, const char *ident, const char *tap, time_t written)
{
    AUTO_FREE char *name = memory_format("nic/web1/%s", ident);
    struct timespec times[2] = {{.tv_sec = written}, {.tv_sec = written}};

    file_make_directory(rundir->fd, "nic/web1", 0700, NULL);
    file_replace(rundir->fd, name, tap, strlen(tap), NULL);
    utimensat(rundir->fd, name, times, 0);
}

/* "TAP TAP …" of the three NICs, "-" for one that is not known. */
static const char *found(const struct rundir *rundir, pid_t pid)
{
    static char uuids[3][40] = {"c0000001-2573-4112-8a00-000000000001",
                                "c0000002-2573-4112-8a00-000000000002",
                                "c0000003-2573-4112-8a00-000000000003"};
    static char text[80];
    struct nic nics[3] = {{.uuid = uuids[0]}, {.uuid = uuids[1]}, {.uuid = uuids[2]}};
    struct instance instance = {.name = (char[]){"web1"}, .nics = nics, .nic_count = 3};

    text[0] = '\0';
    for (size_t i = 0; i < 3; i++) {
        char tap[TAP_NAME_SIZE];
        bool known = network_find_tap(rundir, &instance, i, pid, tap);
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", i > 0 ? " " : "",
                 known ? tap : "-");
    }
    return text;
}

TEST(taps_of_ganeti,
     "the taps of NICs that Ganeti has set up are told by its files when these can be right")
{
    AUTO_FREE char *path = memory_format("%s/ganeti", place);
    AUTO_RUNDIR struct rundir rundir = {.fd = -1};
    CHECK_NUMBER(rundir_open(&rundir, path, true, NULL), 0);
    CHECK_TEXT(found(&rundir, 0), "- - -");
    put(&rundir, "0", "tap0", 100);
    put(&rundir, "1", "tap1", 100);
    CHECK_TEXT(found(&rundir, 0), "- - -"); /* of three NICs two: which? */
    put(&rundir, "2", "tap2", 100);
    CHECK_TEXT(found(&rundir, 0), "tap0 tap1 tap2");
    /* The first was removed and one plugged into its place: the new NIC is the last of the runtime file. */
    put(&rundir, "0", "tap9", 200);
    CHECK_TEXT(found(&rundir, 0), "tap1 tap2 tap9");
    /* A name that was given a second time. */
    put(&rundir, "5", "tap1", 300);
    CHECK_TEXT(found(&rundir, 0), "tap2 tap9 tap1");
    put(&rundir, "6", "tap3", 50);
    CHECK_TEXT(found(&rundir, 0), "- - -");
    /* Ours tells its NIC whatever else is there. */
    put(&rundir, "c0000002-2573-4112-8a00-000000000002", "tap2", 400);
    CHECK(strstr(found(&rundir, 0), " tap2 ") != NULL);
    /* A process that holds none of them proves them all wrong but ours, for which there is no better. */
    CHECK_TEXT(found(&rundir, getpid()), "- tap2 -");
    return true;
}

TEST(swept, "the tests leave nothing")
{
    AUTO_FREE char *command = memory_format("rm -r %s", place);
    CHECK(is_silent(command));
    return true;
}

UNIT_MAIN(UNIT(own_namespaces), UNIT(bridged), UNIT(own_address), UNIT(vlans), UNIT(checked),
          UNIT(other_bridge), UNIT(routed), UNIT(routed_main), UNIT(openvswitch), UNIT(environment),
          UNIT(custom), UNIT(samples), UNIT(files), UNIT(taps_of_ganeti), UNIT(swept))
