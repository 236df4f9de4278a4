/* SPDX-License-Identifier: BSD-2-Clause */
/* What is refused: damage, hostile strings, the file of another instance. */
#include "runtime_file.h"
#include "unit.h"

static const char *refusal_of(const char *text)
{
    static struct error error;
    AUTO_RUNTIME struct runtime runtime = {0};

    error = (struct error){0};
    if (runtime_parse(text, strlen(text), "w.runtime", "web1", &runtime, &error) == 0)
        return "accepted";
    if (error.status != STATUS_FAILED || runtime.instance.name != NULL || runtime.kvm_cmd != NULL)
        return "refused, but with the wrong status or not released";
    return error.text;
}

static const char *refusal(const char *command, const char *nic, const char *hvparam,
                           const char *disk, const char *fifth)
{
    AUTO_FREE char *text = file_with(command, nic, hvparam, disk, fifth);

    return refusal_of(text);
}

TEST(small_file_is_good, "the file that the refusals below start from is accepted")
{
    CHECK_TEXT(refusal("", "", "", "", ""), "accepted");
    CHECK_TEXT(refusal("", "", "", "", ", {}"), "accepted");
    CHECK_TEXT(refusal("", "", ", \"new_one\": [1]", "", ""), "accepted");
    CHECK_TEXT(refusal("", "", "", ", \"pci\": null", ""), "accepted");
    CHECK_TEXT(refusal_of("[[\"/k\", \"-name\", \"web1,debug-threads=on\"], [], {}]"), "accepted");
    CHECK_TEXT(refusal_of("[[\"/k\"], [], {}, [[{\"dev_type\": \"file\"}, \"/d\"]]]"), "accepted");
    return true;
}

#define KEPT(kept) ", {\"version\": 1, \"state\": \"running\", \"kept\": " kept "}"

TEST(damage_is_refused, "damage is refused with its place")
{
    CHECK_HAS(refusal_of(""), "w.runtime");
    CHECK_HAS(refusal_of("[[\"/k\"], [], {}, []"), "line 1");
    CHECK_HAS(refusal_of("{}"), "w.runtime: must be a list of 3 to 5 elements");
    CHECK_HAS(refusal_of("[[], []]"), "must be a list of 3 to 5 elements");
    CHECK_HAS(refusal_of("[[], [], {}, []]"), "w.runtime: kvm_cmd: must be a list of 1 to");
    CHECK_HAS(refusal_of("[[\"/k\", 3], [], {}, []]"), "kvm_cmd[1]: must be a string");
    CHECK_HAS(refusal_of("[[\"/k\", \"a\\n\"], [], {}, []]"), "kvm_cmd[1]: must be a string");
    CHECK_HAS(refusal_of("[[\"/k\"], {}, {}, []]"), "w.runtime: nics: must be a list");
    CHECK_HAS(refusal_of("[[\"/k\"], [], [], []]"), "w.runtime: hvparams: must be an object");
    CHECK_HAS(refusal_of("[[\"/k\"], [], {}, {}]"), "w.runtime: disks: must be a list");
    CHECK_HAS(refusal_of("[[\"/k\"], [], {}, [{}]]"), "disks[0]: must be a list of dictionary");
    CHECK_HAS(refusal_of("[[\"/k\"], [], {}, [[{}, \"/d\", null, 1]]]"),
              "disks[0]: must be a list");
    CHECK_HAS(refusal_of("[[\"/k\"], [], {}, [[{}, null, null]]]"), "disks[0]: has neither path");
    CHECK_HAS(refusal_of("[[\"/k\"], [], {}, [[{}, \"/a/../b\", null]]]"),
              "disks[0][1]: must be an");
    CHECK_HAS(refusal_of("[[\"/k\"], [], {}, [[{}, 1, null]]]"), "disks[0][1]: must be a string");
    CHECK_HAS(refusal_of("[[\"/k\"], [], {\"acpi\": true, \"acpi\": true}, []]"), "w.runtime");
    CHECK_HAS(refusal(", \"-m\", {}", "", "", "", ""), "kvm_cmd[8]: must be a string");
    CHECK_HAS(refusal("", ", \"ip\": 5", "", "", ""), "w.runtime: nics[0].ip: must be a string");
    CHECK_HAS(refusal("", ", \"pci\": \"6\"", "", "", ""), "nics[0].pci: must be a whole number");
    CHECK_HAS(refusal("", ", \"pci\": 32", "", "", ""), "nics[0].pci: must be from 0 to 31");
    CHECK_HAS(refusal("", ", \"pci\": 6", "", "", ""), "nics[0].pci: needs nic_type");
    CHECK_HAS(refusal("", "", ", \"nic_type\": 3", "", ""), "hvparams.nic_type: must be a string");
    CHECK_HAS(refusal("", "", ", \"disk_cache\": \"x\"", "", ""),
              "hvparams.disk_cache: must be one");
    CHECK_HAS(refusal("", "", "", ", \"size\": \"1\"", ""), "disks[0][0].size: must be a whole");
    CHECK_HAS(refusal("", "", "", "", ", 3"), "w.runtime: [4]: must be an object");
    CHECK_HAS(refusal("", "", "", "", KEPT("{\"memory\": -1}")), "[4].kept.memory: must be from 0");
    CHECK_HAS(refusal("", "", "", "", KEPT("{\"ejected\": \"in\"}")), "[4].kept.ejected: must be");
    CHECK_HAS(refusal("", "", "", "", KEPT("{\"links_down\": 1}")), "[4].kept.links_down: must");
    CHECK_HAS(refusal("", "", "", "", ", {}, {}"), "must be a list of 3 to 5 elements");
    return true;
}

TEST(hostile_strings, "hostile strings are refused with their place")
{
    CHECK_HAS(refusal("",
                      ", \"hvinfo\": {\"driver\": \"e1000\", \"id\": \"a,romfile=/etc/passwd\"}",
                      "", "", ""),
              "w.runtime: nics[0].hvinfo.id: must be letters");
    CHECK_HAS(refusal("", ", \"hvinfo\": {\"driver\": \"vfio-pci\", \"id\": \"a\"}", "", "", ""),
              "nics[0].hvinfo.driver: must be one of");
    CHECK_HAS(
        refusal("", ", \"hvinfo\": {\"driver\": \"e1000\", \"id\": \"a\", \"romfile\": \"/etc/x\"}",
                "", "", ""),
        "nics[0].hvinfo.romfile: must be a plain word or number");
    CHECK_HAS(refusal("", "", "",
                      ", \"hvinfo\": {\"driver\": \"scsi-hd\", \"id\": \"a\", \"scsi-id\": -1}",
                      ""),
              "disks[0][0].hvinfo.scsi-id: must be from 0");
    CHECK_HAS(refusal("", ", \"name\": \"a\\u0007\"", "", "", ""), "nics[0].name: must not hold");
    CHECK_HAS(refusal("", ", \"netinfo\": {\"a\": [\"\\n\"]}", "", "", ""),
              "nics[0].netinfo: must not");
    CHECK_HAS(refusal("", ", \"a\\nb\": 1", "", "", ""), "nics[0].a\\x0ab: a key must not hold");
    CHECK_HAS(refusal("", "", ", \"other\": {\"a\\n\": 1}", "", ""), "hvparams: must not hold");
    CHECK_HAS(refusal("", "", ", \"cpu_type\": \"host -S\"", "", ""), "hvparams.cpu_type: must be");
    CHECK_HAS(refusal("", "", "", ", \"uuid2\": \"\\u001b[2J\"", ""),
              "disks[0][0].uuid2: must not hold control");
    CHECK_HAS(refusal("", "", "", "",
                      ", {\"version\": 1, \"state\": \"running\", \"boot_id\": \"../x\"}"),
              "[4].boot_id: must be a uuid");
    CHECK_HAS(refusal("", "", "", "", ", {\"version\": 1, \"state\": \"flying\"}"),
              "[4].state: must be one of");
    CHECK_HAS(
        refusal("", "", "", "", ", {\"version\": 1, \"state\": \"running\", \"pid\": 4294967301}"),
        "[4].pid: must be from 0");
    CHECK_HAS(refusal("", "", "", "", ", {\"version\": 2}"), "[4].version: was written by a newer");
    CHECK_HAS(refusal("", "", "", "",
                      ", {\"version\": 1, \"state\": \"running\", \"instance\": {\"name\": "
                      "\"web2\"}}"),
              "[4].instance.name: must be the instance's own, web1");
    CHECK_HAS(refusal("", "", "", "",
                      ", {\"version\": 1, \"state\": \"running\", \"devices\": {\"../x\": {}}}"),
              "[4].devices.../x: must be an object by the uuid");
    return true;
}

TEST(another_instance, "the file of another instance is refused")
{
    AUTO_RUNTIME struct runtime runtime = {0};
    struct error error = {0};

    CHECK_NUMBER(load("17-3.0.2-written", "vm1.example.co", &runtime, &error), -1);
    CHECK_TEXT(error.text,
               "w.runtime: kvm_cmd[2]: belongs to another instance, \"vm1.example.com\"");
    CHECK_NUMBER(load("17-3.0.2-written", "vm1.example.com2", &runtime, &error), -1);
    return true;
}

TEST(every_truncation, "no truncated file is accepted")
{
    AUTO_FREE char *bytes = read_vector("18-3.0.2-scsi", ".runtime");
    size_t length = strlen(bytes);

    while (length > 0 && strchr(" \n\r\t", bytes[length - 1]) != NULL)
        length--;
    for (size_t cut = 0; cut < length; cut++) {
        AUTO_RUNTIME struct runtime runtime = {0};

        CHECK_NUMBER(runtime_parse(bytes, cut, "w.runtime", "vm1.example.com", &runtime, NULL), -1);
    }
    return true;
}

UNIT_MAIN(UNIT(small_file_is_good), UNIT(damage_is_refused), UNIT(hostile_strings),
          UNIT(another_instance), UNIT(every_truncation))
