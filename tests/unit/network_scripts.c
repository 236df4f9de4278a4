/* SPDX-License-Identifier: BSD-2-Clause */
/* The operator's scripts in the place of the built-in set-up, and what they are told. */
#include <sched.h>
#include "nic.h"
#include "scratch.h"
#include "unit.h"

static const char *value_of(const struct hook_environment *environment, const char *name)
{
    size_t length = strlen(name);
    for (size_t i = 0; i < environment->count; i++)
        if (strncmp(environment->items[i], name, length) == 0 &&
            environment->items[i][length] == '=')
            return environment->items[i] + length + 1;
    return NULL;
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
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    const char *conf = scratch.path;
    AUTO_FREE char *ifup = memory_format("%s/kvm-ifup-custom", conf);
    AUTO_FREE char *ifdown = memory_format("%s/kvm-ifdown-custom", conf);
    AUTO_FREE char *told = memory_format("%s/told", conf);
    AUTO_FREE char *script = memory_format("#!/bin/sh\n{ echo \"args $*\"; env; } >%s\n", told);
    AUTO_FREE char *show = memory_format("cat %s", told);
    CHECK(unshare(CLONE_NEWNET) == 0); /* if it were set up by us all the same */
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

UNIT_MAIN(UNIT(environment), UNIT(custom))
