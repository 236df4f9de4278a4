/* SPDX-License-Identifier: BSD-2-Clause */
/* The definition of an instance: defaults, all problems at once, the whole and its NICs. */
#include "definition.h"
#include "kvm/base/text.h"
#include "kvm/state/hvparams.h"
#include "unit.h"

#define UUID_A "7c079136-2573-4112-82d0-0d3d2aa90d8f"
#define UUID_B "9f5c5bd4-6f60-480b-acdc-9bb1a4b7df79"
#define UUID_A2 "7c079136-2573-4112-82d0-ffffffffffff"

TEST(short_definition, "the short definition of the manual gets all its defaults")
{
    AUTO_INSTANCE struct instance instance;
    int result = parse("{\"name\": \"web1\", \"beparams\": {\"memory\": 512, \"vcpus\": 2},"
                       " \"disks\": [{\"path\": \"/dev/vg0/web1\"}],"
                       " \"nics\": [{\"nicparams\": {\"mode\": \"bridged\", \"link\": \"br0\"}}]}",
                       NULL, &instance);

    CHECK_TEXT(joined, "");
    CHECK_NUMBER(result, 0);
    CHECK_TEXT(instance.name, "web1");
    CHECK(text_is_uuid(instance.uuid));
    CHECK_NUMBER(instance.maxmem_mib, 512);
    CHECK_NUMBER(instance.minmem_mib, 512);
    CHECK_NUMBER(instance.vcpus, 2);
    CHECK_NUMBER(instance.disk_count, 1);
    CHECK_TEXT(instance.disks[0].path, "/dev/vg0/web1");
    CHECK_TEXT(instance.disks[0].dev_type, "blockdev");
    CHECK(!instance.disks[0].read_only);
    CHECK(text_is_uuid(instance.disks[0].uuid));
    CHECK_TEXT(json_text(instance.disks[0].object, "iv_name"), "disk/0");
    CHECK(json_object_get(instance.disks[0].object, "path") == NULL);
    CHECK_NUMBER(instance.nic_count, 1);
    CHECK_NUMBER(instance.nics[0].mode, NIC_BRIDGED);
    CHECK_TEXT(instance.nics[0].vlan, "");
    CHECK(text_is_mac(instance.nics[0].mac));
    CHECK(strncmp(instance.nics[0].mac, "aa:00:00:", 9) == 0);
    CHECK_NUMBER(instance.network_port, 0);
    return true;
}

TEST(defaults_have_an_order, "definition goes over node file over built-in")
{
    AUTO_INSTANCE struct instance instance;
    int result =
        parse("{\"name\": \"a\", \"beparams\": {\"vcpus\": 3},"
              " \"hvparams\": {\"nic_type\": \"e1000\"},"
              " \"nics\": [{}, {\"nicparams\": {\"mode\": \"routed\"}, \"ip\": \"10.0.0.1\"}]}",
              "{\"beparams\": {\"maxmem\": 1024, \"vcpus\": 2},"
              " \"hvparams\": {\"nic_type\": \"rtl8139\", \"cpu_type\": \"host\"},"
              " \"nicparams\": {\"mode\": \"bridged\", \"link\": \"br9\", \"vlan\": \".7\"}}",
              &instance);

    CHECK_TEXT(joined, "");
    CHECK_NUMBER(result, 0);
    CHECK_NUMBER(instance.vcpus, 3);
    CHECK_NUMBER(instance.maxmem_mib, 1024);
    CHECK_TEXT(hvparams_text(instance.hvparams, "nic_type"), "e1000");
    CHECK_TEXT(hvparams_text(instance.hvparams, "cpu_type"), "host");
    CHECK_TEXT(instance.nics[0].link, "br9");
    CHECK_TEXT(instance.nics[0].vlan, ".7");
    CHECK_NUMBER(instance.nics[1].mode, NIC_ROUTED);
    CHECK_TEXT(instance.nics[1].link, "");
    CHECK_TEXT(instance.nics[1].vlan, "");
    return true;
}

static const char full[] =
    "{\"name\": \"web1.example.com\", \"uuid\": \"" UUID_B "\", \"primary_node\": \"n1\","
    " \"os\": \"debootstrap\", \"admin_state\": \"up\", \"serial_no\": 4, \"ctime\": 1.5,"
    " \"osparams\": {}, \"disk_template\": \"plain\", \"network_port\": 11000,"
    " \"tags\": [\"web\", \"prod:1\"], \"beparams\": {\"maxmem\": 512, \"minmem\": 256, \"vcpus\": "
    "4,"
    " \"always_failover\": false}, \"hvparams\": {\"disk_cache\": \"none\", \"disk_aio\": "
    "\"native\","
    " \"cpu_cores\": 2, \"cpu_mask\": \"0:1:2:all\", \"kernel_args\": \"ro \\u00e9\"},"
    " \"disks\": [{\"dev_type\": \"plain\", \"logical_id\": [\"vg0\", \"x.disk0\"], \"size\": 1024,"
    "   \"mode\": \"ro\", \"name\": \"root\", \"params\": {\"stripes\": 1}, \"cache\": "
    "\"writethrough\","
    "   \"serial\": \"S1\", \"uuid\": \"7C079136-2573-4112-82D0-0D3D2AA90D8F\", \"nodes\": [\"n\"],"
    "   \"hvinfo\": {\"driver\": \"scsi-hd\", \"id\": \"disk-7c079136-2573-4112\", \"bus\": "
    "\"scsi.0\","
    "   \"channel\": 0, \"scsi-id\": 3, \"lun\": 0}},"
    "  {\"path\": \"/srv/a,b.img\"}],"
    " \"nics\": [{\"mac\": \"AA:00:00:01:02:03\", \"ip\": \"2001:db8::1\", \"name\": \"front\","
    "   \"network\": \"" UUID_A "\", \"netinfo\": {\"gateway\": \"10.0.0.1\"},"
    "   \"nicparams\": {\"mode\": \"openvswitch\", \"link\": \"ovs0\", \"vlan\": \"100\"}}]}";

TEST(round_trip, "what instance_json writes reads back to the same instance")
{
    AUTO_INSTANCE struct instance first, second;

    CHECK_NUMBER(parse(full, NULL, &first), 0);
    AUTO_JSON json_t *written = instance_json(&first);
    AUTO_FREE char *text = json_compact(written);
    int result = parse(text, NULL, &second);

    CHECK_TEXT(joined, "");
    CHECK_NUMBER(result, 0);
    AUTO_JSON json_t *again = instance_json(&second);

    CHECK(json_equal(written, again));
    CHECK_TEXT(first.disks[0].uuid, UUID_A);
    CHECK(first.disks[0].read_only);
    CHECK_TEXT(first.disks[0].path, "/dev/vg0/x.disk0");
    CHECK_TEXT(json_text(first.disks[0].params, "cache"), "writethrough");
    CHECK_NUMBER(json_number(first.disks[0].params, "stripes", 0), 1);
    CHECK_NUMBER(json_number(first.disks[0].hvinfo, "scsi-id", 0), 3);
    CHECK_TEXT(first.disks[1].path, "/srv/a,b.img");
    CHECK_TEXT(first.disks[1].dev_type, "file");
    CHECK_TEXT(first.nics[0].mac, "aa:00:00:01:02:03");
    CHECK_TEXT(first.nics[0].vlan, ".100");
    CHECK_NUMBER(first.minmem_mib, 256);
    CHECK_NUMBER(json_array_size(first.tags), 2);
    return true;
}

TEST(all_problems_at_once, "all problems are told at once, each with place and value")
{
    const char *text =
        bad("\"disks\": [{\"path\": \"x\"}, {\"pth\": \"/y\"}], \"network_port\": 70000,"
            " \"hvparams\": {\"acpi\": \"yes\"}, \"nmae\": 1");

    CHECK_HAS(text, "w.json: disks[0].path: must be absolute (current value: \"x\")\n");
    CHECK_HAS(text, "w.json: disks[1].pth: unknown key, did you mean \"path\"?\n");
    CHECK_HAS(text, "w.json: network_port: must be from 0 to 65535 (current value: 70000)\n");
    CHECK_HAS(text, "w.json: hvparams.acpi: must be true or false (current value: \"yes\")\n");
    CHECK_HAS(text, "w.json: nmae: unknown key, did you mean \"name\"?\n");
    return true;
}

TEST(names, "instance names are an allow-list")
{
    static const char *const wrong[] = {"",    "-a",  ".a",       "a/b", "a b",
                                        "a,b", "a\n", "\xc3\xa9", "..",  "a=b"};
    struct error error = {0};
    char name[INSTANCE_NAME_MAX + 2];

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        CHECK_NUMBER(instance_check_name(wrong[i], &error), -1);
        CHECK_NUMBER(error.status, STATUS_USAGE);
    }
    memset(name, 'a', sizeof(name));
    name[INSTANCE_NAME_MAX + 1] = '\0';
    CHECK_NUMBER(instance_check_name(name, &error), -1);
    name[INSTANCE_NAME_MAX] = '\0';
    CHECK_NUMBER(instance_check_name(name, &error), 0);
    CHECK_NUMBER(instance_check_name("web1.example.com", &error), 0);
    return true;
}

TEST(top_level, "top-level fields are type-checked")
{
    AUTO_INSTANCE struct instance instance;

    CHECK_NUMBER(parse("{}", NULL, &instance), -1);
    CHECK_HAS(joined, "w.json: name: is missing");
    CHECK_NUMBER(parse("[]", NULL, &instance), -1);
    CHECK_HAS(joined, "w.json: must be an object");
    CHECK_NUMBER(parse("{\"name\": \"a\"}", "{\"hvparams\": {\"acpi\": 1}}", &instance), -1);
    CHECK_HAS(joined, "node.json: hvparams.acpi: must be true or false");
    CHECK_HAS(bad("\"uuid\": \"x\""), "w.json: uuid: must be a uuid");
    CHECK_HAS(bad("\"tags\": [\"a b\"]"), "w.json: tags[0]: must be a string");
    CHECK_HAS(bad("\"tags\": \"a\""), "w.json: tags: must be a list");
    CHECK_HAS(bad("\"disks\": {}"), "w.json: disks: must be a list");
    CHECK_HAS(bad("\"disks\": [\"" UUID_A "\"]"), "w.json: disks[0]: must be an object");
    CHECK_HAS(bad("\"nics\": [3]"), "w.json: nics[0]: must be an object");
    CHECK_HAS(bad("\"hvparams\": []"), "w.json: hvparams: must be an object");
    CHECK_HAS(bad("\"beparams\": {\"memory\": 0}"), "beparams.memory: must be from 1");
    CHECK_HAS(bad("\"beparams\": {\"vcpus\": 4294967301}"), "beparams.vcpus: must be from 1");
    CHECK_HAS(bad("\"beparams\": {\"maxmem\": 64, \"minmem\": 65}"),
              "beparams.minmem: must be at most maxmem, 64");
    CHECK_HAS(bad("\"beparams\": {\"vcpu\": 1}"), "did you mean \"vcpus\"?");
    return true;
}

TEST(whole_instance, "topology, CPU mask and SCSI controller are checked against the instance")
{
    CHECK_HAS(bad("\"beparams\": {\"vcpus\": 4}, \"hvparams\": {\"cpu_cores\": 3}"),
              "make 3, which does not fit vcpus");
    CHECK_HAS(
        bad("\"beparams\": {\"vcpus\": 8}, \"hvparams\": {\"cpu_cores\": 2, \"cpu_threads\": 1,"
            " \"cpu_sockets\": 2}"),
        "make 4, which does not fit vcpus");
    CHECK_HAS(bad("\"hvparams\": {\"cpu_mask\": \"0:1\"}"), "cpu_mask: has 2 parts");
    CHECK_TEXT(bad("\"hvparams\": {\"scsi_controller_type\": \"lsi\", \"disk_type\": \"scsi-hd\"},"
                   " \"disks\": [{\"path\": \"/a\"}]"),
               "accepted");
    return true;
}

static const char *bad_nic(const char *members)
{
    AUTO_FREE char *text = memory_format("\"nics\": [{%s}]", members);
    return bad(text);
}

TEST(nics_are_checked, "NICs are checked field by field")
{
    CHECK_HAS(bad_nic(""), "w.json: nics[0].nicparams.link: is missing: the bridge");
    CHECK_HAS(bad_nic("\"nicparams\": {\"mode\": \"routed\"}"), "nics[0].ip: is missing");
    CHECK_HAS(bad_nic("\"nicparams\": {\"mode\": \"macvtap\"}"), "nicparams.mode: must be one of");
    CHECK_HAS(bad_nic("\"nicparams\": {\"link\": \"br0;x\"}"), "link: must be an interface name");
    CHECK_HAS(bad_nic("\"nicparams\": {\"link\": \"br0\", \"vlan\": \".4095\"}"),
              "vlan: must be like");
    CHECK_HAS(bad_nic("\"nicparams\": {\"link\": \"br0\", \"vlan\": \":1.2\"}"),
              "vlan: must be like");
    CHECK_HAS(bad_nic("\"ip\": \"10.0.0.256\""), "nics[0].ip: must be an IPv4 or IPv6 address");
    CHECK_HAS(bad_nic("\"mac\": \"01:00:5e:00:00:01\""), "nics[0].mac: must be a MAC address");
    CHECK_HAS(bad_nic("\"mac\": \"aa:bb\""), "nics[0].mac: must be a MAC address");
    CHECK_HAS(bad_nic("\"mca\": \"x\""), "nics[0].mca: unknown key, did you mean \"mac\"?");
    CHECK_HAS(bad_nic("\"netinfo\": {\"name\": \"a\\nb\"}"),
              "nics[0].netinfo: must not hold control");
    return true;
}

TEST(unique_things, "MACs, uuids, device ids and written paths are unique")
{
    CHECK_HAS(bad("\"disks\": [{\"path\": \"/a\"}, {\"path\": \"/a\", \"mode\": \"ro\"}]"),
              "w.json: disks[1].path: is that of disks[0] too, and one of them writes");
    CHECK_TEXT(bad("\"disks\": [{\"path\": \"/a\", \"mode\": \"ro\"},"
                   " {\"path\": \"/a\", \"mode\": \"ro\"}]"),
               "accepted");
    CHECK_HAS(bad("\"disks\": [{\"path\": \"/a\", \"uuid\": \"" UUID_A "\"},"
                  " {\"path\": \"/b\", \"uuid\": \"" UUID_A "\"}]"),
              "disks[1].uuid: is that of disks[0] too");
    CHECK_HAS(bad("\"disks\": [{\"path\": \"/a\", \"uuid\": \"" UUID_A "\"},"
                  " {\"path\": \"/b\", \"uuid\": \"" UUID_A2 "\"}]"),
              "disks[1].uuid: makes the same device id as disks[0], disk-7c079136-2573-4112");
    CHECK_HAS(bad("\"nics\": [{\"mac\": \"aa:00:00:00:00:01\", \"nicparams\": {\"link\": \"b\"}},"
                  " {\"mac\": \"AA:00:00:00:00:01\", \"nicparams\": {\"link\": \"b\"}}]"),
              "nics[1].mac: is that of nics[0] too");
    return true;
}

UNIT_MAIN(UNIT(short_definition), UNIT(defaults_have_an_order), UNIT(round_trip),
          UNIT(all_problems_at_once), UNIT(names), UNIT(top_level), UNIT(whole_instance),
          UNIT(nics_are_checked), UNIT(unique_things))
