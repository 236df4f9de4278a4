/* SPDX-License-Identifier: BSD-2-Clause */
#include "unit.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/state/hvparams.h"
#include "kvm/state/instance.h"

#define UUID_A "7c079136-2573-4112-82d0-0d3d2aa90d8f"
#define UUID_B "9f5c5bd4-6f60-480b-acdc-9bb1a4b7df79"
#define UUID_A2 "7c079136-2573-4112-82d0-ffffffffffff"

static char joined[16384];

static int parse(const char *text, const char *defaults, struct instance *instance)
{
    AUTO_MESSAGES struct messages problems = {0};
    AUTO_JSON json_t *definition = json_loads(text, 0, NULL);
    AUTO_JSON json_t *node = defaults == NULL ? NULL : json_loads(defaults, 0, NULL);

    if (definition == NULL) {
        printf("# the test's JSON is wrong: %s\n", text);
        abort();
    }
    int result = instance_parse(definition, "w.json", node, "node.json", instance, &problems);

    joined[0] = '\0';
    for (size_t i = 0; i < problems.count; i++)
        snprintf(joined + strlen(joined), sizeof(joined) - strlen(joined), "%s\n",
                 problems.items[i]);
    return result;
}

/* The problems of a definition with a name and these further members. */
static const char *bad(const char *members)
{
    AUTO_FREE char *text =
        memory_format("{\"name\": \"web1\"%s%s}", members[0] ? ", " : "", members);
    AUTO_INSTANCE struct instance instance;

    if (parse(text, NULL, &instance) == 0)
        return instance.hvparams == NULL ? "accepted, but empty" : "accepted";
    return instance.name == NULL ? joined : "refused, but not released";
}

static const char *bad_disk(const char *members)
{
    AUTO_FREE char *text = memory_format("\"disks\": [{%s}]", members);
    return bad(text);
}

static const char *bad_nic(const char *members)
{
    AUTO_FREE char *text = memory_format("\"nics\": [{%s}]", members);
    return bad(text);
}

TEST(disk_models,
     "queues and iothread are for virtio disks, detect_zeroes unmap needs discard unmap")
{
    CHECK_HAS(bad_disk("\"path\": \"/d\", \"bus\": \"scsi\", \"queues\": 2"),
              "w.json: disks[0]: queues: is only for virtio disks");
    CHECK_HAS(bad_disk("\"path\": \"/d\", \"bus\": \"ide\", \"iothread\": 0"),
              "w.json: disks[0]: iothread: is only for virtio disks");
    CHECK_HAS(bad_disk("\"path\": \"/d\", \"iothread\": 0"),
              "iothread: hvparams.iothreads makes 0 of them, numbered from 0 (current value: 0)");
    CHECK_HAS(bad_disk("\"path\": \"/d\", \"detect_zeroes\": \"unmap\""),
              "detect_zeroes: unmap needs discard unmap");
    CHECK_HAS(bad_disk("\"path\": \"/d\", \"detect_zeroes\": \"yes\""),
              "must be one of off, on, unmap");
    CHECK_HAS(bad_disk("\"path\": \"/d\", \"queues\": 0"), "queues: must be from 1 to 256");
    CHECK_TEXT(bad("\"hvparams\": {\"iothreads\": 2, \"disk_discard\": \"unmap\"}, \"disks\": "
                   "[{\"path\": \"/d\", "
                   "\"iothread\": 1, \"queues\": 4, \"detect_zeroes\": \"unmap\"}]"),
               "accepted");
    return true;
}

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

TEST(disks_are_checked, "disks are checked field by field")
{
    CHECK_HAS(bad_disk(""), "w.json: disks[0].path: is missing");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"uri\": \"rbd:x\""),
              "disks[0].uri: must be like rbd:POOL/IMAGE (current value: \"rbd:x\")");
    CHECK_HAS(bad_disk("\"uri\": 1"), "disks[0].uri: must be a string");
    CHECK_HAS(bad_disk("\"uri\": \"http://a/b\""), "disks[0].uri: can only be read, it needs mode");
    CHECK_HAS(bad_disk("\"uri\": \"rbd:a/b@c\""), "disks[0].uri: can only be read, it needs mode");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"access\": \"userspace\""),
              "disks[0].uri: is missing, and params.access is \"userspace\"");
    CHECK_HAS(bad_disk("\"uri\": \"rbd:a/b\", \"access\": \"kernelspace\""),
              "disks[0].path: is missing, and params.access is \"kernelspace\"");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"access\": \"user\""),
              "disks[0].params.access: must be one of kernelspace, userspace");
    CHECK_HAS(bad_disk("\"path\": \"/a/../b\""), "disks[0].path: must be normalised");
    CHECK_HAS(bad_disk("\"path\": \"/a\\u007f\""), "disks[0].path: must not hold control");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"mode\": \"w\""),
              "disks[0].mode: must be one of rw, ro");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"size\": -1"), "disks[0].size: must be from 0");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"cache\": \"x\""), "disks[0].params.cache: must be one");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"aio\": \"native\", \"cache\": \"writeback\""),
              "disks[0].params.aio: needs cache none");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"cache\": \"none\", \"params\": {\"cache\": \"none\"}"),
              "disks[0].cache: is given in params as well");
    CHECK_HAS(bad_disk("\"path\": \"/dev/x\", \"cache\": \"writeback\""),
              "disks[0].params.cache: must be none for dev_type blockdev");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"serial\": \"a b\""),
              "disks[0].params.serial: must be 1");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"dev_type\": \"zfs\""),
              "disks[0].dev_type: must be one");
    CHECK_HAS(bad_disk("\"dev_type\": \"plain\", \"logical_id\": [\"..\", \"x\"]"),
              "disks[0].path: is missing");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"params\": {\"x\": \"a\\nb\"}"),
              "disks[0].params: must not hold control characters");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"hvinfo\": {\"driver\": \"vfio-pci\", \"id\": \"x\"}"),
              "disks[0].hvinfo.driver: must be one of");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"hvinfo\": {\"driver\": \"scsi-hd\", \"id\": \"x,y\"}"),
              "disks[0].hvinfo.id: must be letters");
    CHECK_HAS(
        bad_disk("\"path\": \"/a\", \"hvinfo\": {\"driver\": \"virtio-blk-pci\", \"id\": \"x\","
                 " \"bus\": \"pci.0\", \"addr\": \"0x20\"}"),
        "disks[0].hvinfo.addr: must be from \"0x0\" to \"0x1f\"");
    return true;
}

TEST(models_are_checked, "what a disk's model can't have is told with the field and the reason")
{
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"bus\": \"mtd\""),
              "disks[0]: bus: the machine types pc and q35 have no raw flash");
    CHECK_HAS(bad("\"hvparams\": {\"disk_type\": \"pflash\"}, \"disks\": [{\"path\": \"/a\"}]"),
              "hvparams.disk_type: the flash of the machine types pc and q35 holds the firmware");
    CHECK_TEXT(bad("\"hvparams\": {\"disk_type\": \"pflash\"}, \"disks\": [{\"path\": \"/a\", "
                   "\"bus\": \"sd\"}]"),
               "accepted");
    CHECK_HAS(bad("\"hvparams\": {\"cdrom_disk_type\": \"mtd\", \"cdrom_image_path\": \"/a\"}"),
              "hvparams.cdrom_disk_type: the machine types");
    CHECK_HAS(bad("\"hvparams\": {\"cdrom_disk_type\": \"sd\", \"cdrom2_image_path\": \"/a\"}"),
              "hvparams.cdrom_disk_type: an SD card can't be read-only");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"bus\": \"ide\", \"mode\": \"ro\""),
              "disks[0]: mode: QEMU has no read-only IDE or SATA disk");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"bus\": \"sd\", \"mode\": \"ro\""),
              "disks[0]: mode: QEMU has no read-only SD card");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"cyls\": 100, \"heads\": 16"),
              "disks[0]: cyls, heads and secs go together");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"bus\": \"ide\", \"cyls\": 100, \"heads\": 17, "
                       "\"secs\": 63"),
              "disks[0]: heads: must be from 1 to 16 (current value: 17)");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"bus\": \"scsi-cd\", \"cyls\": 1, \"heads\": 1, "
                       "\"secs\": 1"),
              "disks[0]: cyls: only virtio");
    CHECK_HAS(bad_disk("\"path\": \"/a\", \"cyls\": 0"), "disks[0].params.cyls: must be from 1");
    return true;
}

TEST(userspace, "a URI alone is userspace access, with a path beside it params.access decides")
{
    static const struct {
        const char *disk, *uri, *type;
        bool userspace;
    } cases[] = {
        {"\"uri\": \"rbd:pool/one\"", "rbd:pool/one", "rbd", true},
        {"\"uri\": \"gluster://a/v/p\"", "gluster://a/v/p", "gluster", true},
        {"\"uri\": \"nbd://a/v\"", "nbd://a/v", "ext", true},
        {"\"uri\": \"rbd:pool/one\", \"path\": \"/dev/rbd0\"", "rbd:pool/one", "blockdev", false},
        {"\"uri\": \"rbd:pool/one\", \"path\": \"/dev/rbd0\", \"access\": \"userspace\"",
         "rbd:pool/one", "blockdev", true},
        {"\"dev_type\": \"rbd\", \"logical_id\": [\"rbd\", \"one\"], "
         "\"params\": {\"access\": \"userspace\", \"pool\": \"pool\"}",
         "rbd:pool/one", "rbd", true},
        {"\"dev_type\": \"gluster\", \"logical_id\": [\"gluster\", \"a/b\"], \"params\": "
         "{\"access\": \"userspace\", \"host\": \"h\", \"port\": 1, \"volume\": \"v\"}",
         "gluster://h:1/v/a/b", "gluster", true},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        AUTO_INSTANCE struct instance instance = {0}, again = {0};
        AUTO_FREE char *text = memory_format("{\"name\": \"a\", \"disks\": [{%s}]}", cases[i].disk);
        CHECK_NUMBER(parse(text, NULL, &instance), 0);
        CHECK_TEXT(instance.disks[0].uri, cases[i].uri);
        CHECK_TEXT(instance.disks[0].dev_type, cases[i].type);
        CHECK(disk_is_userspace(&instance.disks[0]) == cases[i].userspace);
        AUTO_JSON json_t *written = instance_json(&instance);
        AUTO_FREE char *normal = json_compact(written);
        CHECK_NUMBER(parse(normal, NULL, &again), 0);
        CHECK_TEXT(again.disks[0].uri, cases[i].uri);
        CHECK(disk_is_userspace(&again.disks[0]) == cases[i].userspace);
    }
    CHECK_HAS(bad("\"disks\": [{\"uri\": \"nbd://a/v\"}, {\"uri\": \"nbd://a/v\"}]"),
              "disks[1].uri: is that of disks[0] too");
    return true;
}

TEST(secret_is_dropped, "the shared secret of a DRBD disk is not kept")
{
    AUTO_INSTANCE struct instance instance;
    int result =
        parse("{\"name\": \"a\", \"disks\": [{\"dev_type\": \"drbd\", \"path\": \"/dev/drbd0\","
              " \"logical_id\": [\"n1\", \"n2\", 11000, 0, 1, \"topsecret\"]}]}",
              NULL, &instance);

    CHECK_NUMBER(result, 0);
    AUTO_JSON json_t *written = instance_json(&instance);
    AUTO_FREE char *text = json_compact(written);

    CHECK(strstr(text, "topsecret") == NULL);
    CHECK_HAS(text, "11000");
    return true;
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

TEST(settings_of_a_disk, "a disk's own settings go before the instance's, and safety before both")
{
    AUTO_INSTANCE struct instance instance;
    struct disk_settings settings;

    CHECK_NUMBER(
        parse("{\"name\": \"a\", \"hvparams\": {\"disk_cache\": \"writethrough\"}, \"disks\": ["
              "{\"path\": \"/a\"}, {\"path\": \"/b\", \"aio\": \"native\"},"
              " {\"path\": \"/dev/c\"},"
              " {\"path\": \"/d\", \"cache\": \"writeback\", \"discard\": \"unmap\","
              "  \"format\": \"qcow2\", \"serial\": \"S\"}]}",
              NULL, &instance),
        0);
    disk_settings(&instance.disks[0], &instance, &settings);
    CHECK_TEXT(settings.cache, "writethrough");
    CHECK(!settings.direct && !settings.write_cache && !settings.no_flush);
    CHECK_TEXT(settings.format, "raw");
    CHECK(settings.serial == NULL);
    CHECK_TEXT(settings.discard, "ignore");
    disk_settings(&instance.disks[1], &instance, &settings);
    CHECK_TEXT(settings.aio, "native");
    CHECK_TEXT(settings.cache, "none");
    disk_settings(&instance.disks[2], &instance, &settings);
    CHECK_TEXT(settings.cache, "none");
    CHECK(settings.direct && settings.write_cache);
    disk_settings(&instance.disks[3], &instance, &settings);
    CHECK_TEXT(settings.cache, "writeback");
    CHECK_TEXT(settings.discard, "unmap");
    CHECK_TEXT(settings.format, "qcow2");
    CHECK_TEXT(settings.serial, "S");
    return true;
}

UNIT_MAIN(UNIT(disk_models), UNIT(short_definition), UNIT(defaults_have_an_order), UNIT(round_trip),
          UNIT(all_problems_at_once), UNIT(names), UNIT(top_level), UNIT(whole_instance),
          UNIT(disks_are_checked), UNIT(models_are_checked), UNIT(userspace),
          UNIT(secret_is_dropped), UNIT(nics_are_checked), UNIT(unique_things),
          UNIT(settings_of_a_disk))
