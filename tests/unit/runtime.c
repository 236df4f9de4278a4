/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "unit.h"
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/state/hvparams.h"
#include "kvm/state/runtime.h"

#define VECTORS TESTS_DIR "/vectors/"

static const struct {
    const char *file, *name;
} vectors[] = {
    {"00-2.10-testdata", "xen-test-inst2"},  {"01-2.16-testdata", "xen-test-inst2"},
    {"03-2.4-3elem", "web1.example.com"},    {"06-2.10-e1000-ide", "xen-test-inst2"},
    {"09-2.10-no-pci", "xen-test-inst2"},    {"13-pci-and-hvinfo", "xen-test-inst2"},
    {"17-3.0.2-written", "vm1.example.com"}, {"18-3.0.2-scsi", "vm1.example.com"},
    {"20-master-unit-data", "test2"},        {"23-balloon-args", "xen-test-inst2"},
    {"24-localtime", "xen-test-inst2"},      {"26-vnc-x509", "xen-test-inst2"},
    {"36-chroot-no-vnc", "vm1.example.com"}, {"39-extra-5th", "vm1.example.com"},
};

static char *read_vector(const char *file, const char *suffix)
{
    AUTO_FREE char *path = memory_format(VECTORS "%s%s", file, suffix);
    FILE *stream = fopen(path, "re");
    char *bytes = memory_zeroed(65536, 1);

    if (stream == NULL || fread(bytes, 1, 65535, stream) == 0) {
        printf("# can't read %s\n", path);
        abort();
    }
    fclose(stream);
    return bytes;
}

static int load(const char *file, const char *name, struct runtime *runtime, struct error *error)
{
    AUTO_FREE char *bytes = read_vector(file, ".runtime");

    return runtime_parse(bytes, strlen(bytes), "w.runtime", name, runtime, error);
}

/* What newest Ganeti that loads the file makes of it: new reference. */
static json_t *expected_of(const char *file)
{
    AUTO_FREE char *bytes = read_vector(file, ".expect.json");
    AUTO_JSON json_t *expect = json_loads(bytes, 0, NULL);
    json_t *good = json_object_get(json_object_get(expect, "master"), "ok");

    if (good == NULL)
        good = json_object_get(json_object_get(expect, "3.0.2"), "ok");
    return json_incref(good);
}

/* Our documented further upgrades, made a second time by other means. */
static json_t *further_command(const json_t *command)
{
    json_t *words = json_array(), *item;
    size_t index;

    json_array_foreach (command, index, item) {
        const char *word = json_string_value(item);
        const char *nowait = word == NULL ? NULL : strstr(word, ",server,nowait");

        if (word != NULL && strcmp(word, "-usbdevice") == 0) {
            json_array_append_new(words, json_string("-device"));
        } else if (word != NULL && strcmp(word, "tablet") == 0) {
            json_array_append_new(words, json_string("usb-tablet"));
        } else if (nowait != NULL) {
            AUTO_FREE char *longer =
                memory_format("%.*s,server=on,wait=off", (int)(nowait - word), word);
            json_array_append_new(words, json_string(longer));
        } else {
            json_array_append(words, item);
        }
    }
    return words;
}

static bool same(const char *what, const char *file, const json_t *ours, const json_t *theirs)
{
    AUTO_FREE char *our_text = json_dumps(ours, JSON_SORT_KEYS | JSON_ENCODE_ANY);
    AUTO_FREE char *their_text = json_dumps(theirs, JSON_SORT_KEYS | JSON_ENCODE_ANY);

    if (json_equal(ours, theirs))
        return true;
    printf("# %s: %s differ\n# ours:   %s\n# theirs: %s\n", file, what, our_text, their_text);
    return false;
}

/* Generated uuids can't be compared: "<random>" stands for any. */
static void put_random(json_t *ours, const json_t *theirs)
{
    json_t *item;
    size_t index;

    json_array_foreach (theirs, index, item) {
        const char *uuid = json_text(item, "uuid");
        json_t *mine = json_array_get(ours, index);

        if (uuid != NULL && strcmp(uuid, "<random>") == 0 && text_is_uuid(json_text(mine, "uuid")))
            json_object_set_new(mine, "uuid", json_string("<random>"));
    }
}

static bool same_hvparams(const char *file, const json_t *ours, const json_t *theirs)
{
    const char *key;
    json_t *value;

    json_object_foreach ((json_t *)(uintptr_t)theirs, key, value) {
        bool machine = strcmp(key, "machine_version") == 0 && json_string_length(value) == 0;
        bool discard = strcmp(key, "disk_discard") == 0;

        if (!machine && !discard && !same(key, file, json_object_get(ours, key), value))
            return false;
    }
    const char *discard = json_text(ours, "disk_discard");

    return discard != NULL && strcmp(discard, "ignore") == 0;
}

TEST(historic_forms, "every historic form loads to the meaning that Ganeti gives it")
{
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        const char *file = vectors[i].file;
        AUTO_RUNTIME struct runtime runtime = {0};
        struct error error = {0};

        if (load(file, vectors[i].name, &runtime, &error) != 0)
            printf("# %s: %s\n", file, error.text);
        CHECK_TEXT(error.text, "");
        AUTO_JSON json_t *list = runtime_ganeti_json(&runtime);
        AUTO_JSON json_t *expected = expected_of(file);
        AUTO_JSON json_t *command = further_command(json_object_get(expected, "kvm_cmd"));

        CHECK(expected != NULL);
        CHECK_NUMBER(json_array_size(list), 4);
        put_random(json_array_get(list, 1), json_object_get(expected, "nics"));
        CHECK(same("kvm_cmd", file, json_array_get(list, 0), command));
        CHECK(same("nics", file, json_array_get(list, 1), json_object_get(expected, "nics")));
        CHECK(same_hvparams(file, json_array_get(list, 2), json_object_get(expected, "hvparams")));
        CHECK(same("disks", file, json_array_get(list, 3), json_object_get(expected, "disks")));
        CHECK_NUMBER(runtime.state, RUNTIME_FOREIGN);
    }
    return true;
}

TEST(can_be_started, "what other tools wrote of an instance's parameters can be started here")
{
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        AUTO_RUNTIME struct runtime runtime = {0};
        AUTO_MESSAGES struct messages problems = {0};

        CHECK_NUMBER(load(vectors[i].file, vectors[i].name, &runtime, NULL), 0);
        hvparams_check_started(runtime.instance.hvparams, vectors[i].file, &problems);
        CHECK_TEXT(problems.count > 0 ? problems.items[0] : "", "");
    }
    return true;
}

TEST(written_and_read_again, "what was loaded and written reads back to the same")
{
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        AUTO_RUNTIME struct runtime first = {0}, second = {0};
        struct error error = {0};

        CHECK_NUMBER(load(vectors[i].file, vectors[i].name, &first, &error), 0);
        AUTO_FREE char *text = runtime_text(&first);

        runtime_parse(text, strlen(text), "again", vectors[i].name, &second, &error);
        CHECK_TEXT(error.text, "");
        AUTO_FREE char *again = runtime_text(&second);

        CHECK_TEXT(again, text);
    }
    return true;
}

TEST(head_from_the_command, "without a fifth element the instance is derived from the command")
{
    AUTO_RUNTIME struct runtime runtime = {0}, bare = {0};

    CHECK_NUMBER(load("17-3.0.2-written", "vm1.example.com", &runtime, NULL), 0);
    CHECK_TEXT(runtime.instance.name, "vm1.example.com");
    CHECK_TEXT(runtime.instance.uuid, "6b29fc40-ca47-4067-b31d-00dd010662da");
    CHECK_NUMBER(runtime.instance.maxmem_mib, 96);
    CHECK_NUMBER(runtime.instance.vcpus, 1);
    CHECK_TEXT(hvparams_text(runtime.instance.hvparams, "machine_version"), "pc-i440fx-7.2");
    CHECK_NUMBER(runtime.generation, 0);
    CHECK_NUMBER(runtime.pid, 0);
    CHECK_NUMBER(load("26-vnc-x509", "xen-test-inst2", &bare, NULL), 0);
    CHECK_NUMBER(bare.instance.network_port, 11000);
    return true;
}

TEST(unknown_keys_stay, "an unknown key in a NIC is kept, not refused")
{
    AUTO_RUNTIME struct runtime runtime = {0};
    struct error error = {0};

    load("44-nic-extra-key", "vm1.example.com", &runtime, &error);
    CHECK_TEXT(error.text, "");
    CHECK_NUMBER(json_number(runtime.instance.nics[0].object, "foo", 0), 1);
    return true;
}

/* A small file with one thing in it changed: every %s is a member. */
static char *file_with(const char *command, const char *nic, const char *hvparam, const char *disk,
                       const char *fifth)
{
    return memory_format(
        "[[\"/usr/bin/kvm\", \"-name\", \"web1\", \"-m\", 128, \"-smp\", \"2\"%s],"
        " [{\"mac\": \"aa:00:00:00:00:01\", \"uuid\": \"003fc157-66a8-4e6d-8b7e-ec4f69751396\","
        "   \"nicparams\": {\"mode\": \"bridged\", \"link\": \"br0\"}%s}],"
        " {\"acpi\": true, \"disk_type\": \"paravirtual\"%s},"
        " [[{\"dev_type\": \"file\", \"uuid\": \"7c079136-2573-4112-82d0-0d3d2aa90d8f\"%s}, \"/d\","
        "   null]]%s]",
        command, nic, hvparam, disk, fifth);
}

TEST(devices_of_qemu,
     "what Ganeti started has QEMU's default devices, and keeps them when we write its file")
{
    AUTO_RUNTIME struct runtime theirs = {0}, again = {0}, bare = {0}, ours = {0};
    struct error error = {0};

    CHECK_NUMBER(load("17-3.0.2-written", "vm1.example.com", &theirs, NULL), 0);
    CHECK(theirs.instance.default_devices);
    AUTO_FREE char *text = runtime_text(&theirs);
    runtime_parse(text, strlen(text), "again", "vm1.example.com", &again, &error);
    CHECK_TEXT(error.text, "");
    CHECK(again.instance.default_devices);
    AUTO_FREE char *plain = file_with(
        ", \"-nodefaults\", \"-device\", \"virtio-balloon-pci,id=balloon,bus=pci.0,addr=0x5\","
        " \"-device\", \"lsi,id=scsi,bus=pci.0,addr=0x4\", \"-device\", \"virtio-balloon\"",
        "", "", "", "");
    runtime_parse(plain, strlen(plain), "w.runtime", "web1", &bare, &error);
    CHECK_TEXT(error.text, "");
    CHECK(!bare.instance.default_devices);
    CHECK_NUMBER(bare.instance.balloon_slot, 5);
    CHECK_NUMBER(bare.instance.scsi_slots[0], 4);
    CHECK_NUMBER(bare.instance.serial_slot, 0);
    AUTO_FREE char *kept = runtime_text(&bare);
    runtime_parse(kept, strlen(kept), "kept", "web1", &ours, &error);
    CHECK_TEXT(error.text, "");
    CHECK(!ours.instance.default_devices);
    return true;
}

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

TEST(removed_options, "options that QEMU has lost are rewritten, and it is told")
{
    AUTO_FREE char *text = file_with(
        ", \"-localtime\", \"-localtime\", \"-soundhw\", \"ac97,hda,pcspk\", \"-no-acpi\", \"-M\", "
        "\"pc\","
        " \"-balloon\", \"none\", \"-vnc\", \"10.0.0.1:3,password,tls,x509verify=/p\","
        " \"-usbdevice\", \"host:1.2\", \"-usbdevice\", \"disk:/x\", \"-localtime\"",
        "", "", "", "");
    AUTO_RUNTIME struct runtime runtime = {0};
    struct error error = {0};

    runtime_parse(text, strlen(text), "w.runtime", "web1", &runtime, &error);
    CHECK_TEXT(error.text, "");
    AUTO_FREE char *command = json_compact(runtime.kvm_cmd);

    CHECK_TEXT(command,
               "[\"/usr/bin/kvm\",\"-name\",\"web1\",\"-m\",128,\"-smp\",\"2\",\"-rtc\","
               "\"base=localtime\",\"-audiodev\",\"none,id=soundhw\",\"-device\",\"AC97,audiodev="
               "soundhw\","
               "\"-device\",\"intel-hda\",\"-device\",\"hda-duplex,audiodev=soundhw\","
               "\"-M\",\"pc,pcspk-audiodev=soundhw,acpi=off\",\"-object\","
               "\"tls-creds-x509,id=vnctls0,endpoint=server,dir=/p,verify-peer=yes\",\"-vnc\","
               "\"10.0.0.1:3,password,tls-creds=vnctls0\",\"-device\",\"usb-host,hostbus=1,"
               "hostaddr=2\",\"-usbdevice\",\"disk:/x\"]");
    CHECK_NUMBER(runtime.instance.network_port, 5903);
    CHECK_TEXT(hvparams_text(runtime.instance.hvparams, "machine_version"), "pc");
    CHECK(runtime.notes.count >= 6);
    return true;
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

static int fresh(struct runtime *runtime)
{
    AUTO_JSON json_t *definition = json_loads(
        "{\"name\": \"web1\", \"beparams\": {\"maxmem\": 512, \"minmem\": 256, \"vcpus\": 2},"
        " \"tags\": [\"a\"], \"network_port\": 11000, \"disk_template\": \"file\","
        " \"disks\": [{\"path\": \"/srv/d\\u00e9\"}], \"nics\": [{\"nicparams\": {\"link\": "
        "\"br0\"}}]}",
        0, NULL);
    AUTO_MESSAGES struct messages problems = {0};
    AUTO_INSTANCE struct instance instance;

    if (instance_parse(definition, "w.json", NULL, NULL, &instance, &problems) != 0)
        return -1;
    runtime_begin(runtime, &instance);
    return 0;
}

TEST(fifth_element, "our own element keeps state, process, intents and unknown keys")
{
    AUTO_RUNTIME struct runtime runtime = {0}, again = {0};
    struct error error = {0};

    CHECK_NUMBER(fresh(&runtime), 0);
    const char *uuid = runtime.instance.disks[0].uuid;

    CHECK_NUMBER(runtime.state, RUNTIME_STARTING);
    CHECK_NUMBER(runtime_device_state(&runtime, uuid), DEVICE_PRESENT);
    runtime_set_device_state(&runtime, uuid, DEVICE_ADDING);
    runtime.state = RUNTIME_PAUSED;
    runtime.pid = 4711;
    runtime.start_time = 123456789;
    strcpy(runtime.boot_id, "6b29fc40-ca47-4067-b31d-00dd010662da");
    json_object_set_new(runtime.ours, "later", json_string("kept"));
    json_object_set_new(runtime.ours, "migration", json_pack("{s:s}", "phase", "sending"));
    runtime.instance.memory_mib = 300;
    runtime.instance.ejected[0] = true;
    runtime.instance.nics[0].link_down = true;
    AUTO_FREE char *text = runtime_text(&runtime);

    CHECK(text[strlen(text) - 1] == '\n');
    CHECK_HAS(text, "[[\"/usr/bin/qemu-system-x86_64\", \"-name\", \"web1\", \"-m\", 512, ");
    CHECK_HAS(text, "/srv/d\\u00E9");
    CHECK_NUMBER(runtime_parse(text, strlen(text), "w.runtime", "web1", &again, &error), 0);
    CHECK_NUMBER(again.state, RUNTIME_PAUSED);
    CHECK_NUMBER(again.pid, 4711);
    CHECK_NUMBER(again.start_time, 123456789);
    CHECK_TEXT(again.boot_id, "6b29fc40-ca47-4067-b31d-00dd010662da");
    CHECK_NUMBER(runtime_device_state(&again, uuid), DEVICE_ADDING);
    CHECK_TEXT(json_text(again.ours, "later"), "kept");
    CHECK_TEXT(json_text(json_member(again.ours, "migration"), "phase"), "sending");
    CHECK_NUMBER(again.instance.memory_mib, 300);
    CHECK(again.instance.ejected[0] && again.instance.nics[0].link_down);
    again.instance.ejected[0] = again.instance.nics[0].link_down = false;
    AUTO_FREE char *less = runtime_text(&again);
    CHECK_HAS(less, "\"kept\": {\"memory\": 300}");
    CHECK_NUMBER(again.instance.minmem_mib, 256);
    CHECK_NUMBER(again.instance.network_port, 11000);
    CHECK_TEXT(again.instance.disk_template, "file");
    CHECK_TEXT(again.instance.uuid, runtime.instance.uuid);
    CHECK_NUMBER(json_array_size(again.instance.tags), 1);
    runtime_set_device_state(&again, uuid, DEVICE_PRESENT);
    CHECK_NUMBER(json_object_size(json_member(again.ours, "devices")), 0);
    return true;
}

TEST(on_disk, "commit counts generations, load reads back, remove removes")
{
    char path[] = "/tmp/unit-runtime-XXXXXX", file[RUNDIR_PATH_MAX];
    struct error error = {0};

    CHECK(mkdtemp(path) != NULL);
    struct rundir rundir = {.fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), .path = path};
    CHECK(rundir.fd >= 0);
    CHECK_NUMBER(mkdirat(rundir.fd, "conf", 0700), 0);
    AUTO_RUNTIME struct runtime runtime = {0}, missing = {0}, loaded = {0};

    CHECK_NUMBER(runtime_load(&rundir, "web1", &missing, &error), -1);
    CHECK_NUMBER(error.status, STATUS_STATE);
    CHECK(file_is_missing());
    CHECK_NUMBER(fresh(&runtime), 0);
    CHECK_NUMBER(runtime_commit(&rundir, &runtime, &error), 0);
    CHECK_NUMBER(runtime_commit(&rundir, &runtime, &error), 0);
    CHECK_NUMBER(runtime_load(&rundir, "web1", &loaded, &error), 0);
    CHECK_NUMBER(loaded.generation, 2);
    CHECK_NUMBER(runtime_prepare(&rundir, &runtime, &error), 0);
    CHECK_NUMBER(runtime.generation, 2);
    runtime_release(&loaded);
    CHECK_NUMBER(runtime_load(&rundir, "web1", &loaded, &error), 0);
    CHECK_NUMBER(loaded.generation, 2);
    CHECK_NUMBER(runtime_publish(&rundir, &runtime, &error), 0);
    CHECK_NUMBER(runtime.generation, 3);
    CHECK_NUMBER(runtime_publish(&rundir, &runtime, &error), -1); /* nothing is prepared any more */
    CHECK_NUMBER(runtime.generation, 3);
    runtime_release(&loaded);
    CHECK_NUMBER(runtime_load(&rundir, "web1", &loaded, &error), 0);
    CHECK_NUMBER(loaded.generation, 3);
    CHECK_TEXT(loaded.instance.disks[0].path, "/srv/d\xc3\xa9");
    AUTO_RUNTIME struct runtime peeked = {0}, whole = {0};

    CHECK_NUMBER(runtime_peek(&rundir, "web1", &peeked, &error), 0);
    CHECK_TEXT(peeked.instance.uuid, loaded.instance.uuid);
    CHECK_NUMBER(peeked.instance.maxmem_mib, loaded.instance.maxmem_mib);
    CHECK_NUMBER(peeked.instance.vcpus, loaded.instance.vcpus);
    CHECK_NUMBER(peeked.state, loaded.state);
    CHECK_NUMBER(peeked.pid, loaded.pid);
    CHECK_NUMBER(peeked.instance.disk_count, 0);
    /* What is not ours, or damaged, is read as carefully as ever. */
    AUTO_FREE char *text = runtime_text(&loaded);
    AUTO_FREE char *three =
        memory_format("%.*s]\n", (int)(strstr(text, ", {\"version\"") - text), text);
    CHECK_NUMBER(file_replace(rundir.fd, "conf/web1.runtime", three, strlen(three), &error), 0);
    CHECK_NUMBER(runtime_peek(&rundir, "web1", &whole, &error), 0);
    CHECK_NUMBER(whole.state, RUNTIME_FOREIGN);
    CHECK(whole.instance.disk_count > 0);
    CHECK_NUMBER(file_replace(rundir.fd, "conf/web1.runtime", text, strlen(text) - 3, &error), 0);
    runtime_release(&whole);
    for (size_t cut = 1; cut < strlen(text) - 1; cut += 1 + cut % 37) {
        CHECK_NUMBER(file_replace(rundir.fd, "conf/web1.runtime", text, cut, &error), 0);
        CHECK_NUMBER(runtime_peek(&rundir, "web1", &whole, &error), -1);
    }
    CHECK_HAS(error.text, "web1.runtime");
    rundir_name(RUNDIR_RUNTIME, "web1", file);
    struct stat status;

    CHECK_NUMBER(fstatat(rundir.fd, file, &status, 0), 0);
    CHECK_NUMBER(status.st_mode & 07777, 0600);
    CHECK_NUMBER(runtime_remove(&rundir, "web1", &error), 0);
    CHECK(!file_exists(rundir.fd, file));
    CHECK_NUMBER(runtime_remove(&rundir, "web1", &error), 0);
    unlinkat(rundir.fd, "conf", AT_REMOVEDIR);
    close(rundir.fd);
    rmdir(path);
    return true;
}

UNIT_MAIN(UNIT(historic_forms), UNIT(can_be_started), UNIT(written_and_read_again),
          UNIT(head_from_the_command), UNIT(devices_of_qemu), UNIT(unknown_keys_stay),
          UNIT(removed_options), UNIT(small_file_is_good), UNIT(damage_is_refused),
          UNIT(hostile_strings), UNIT(another_instance), UNIT(every_truncation),
          UNIT(fifth_element), UNIT(on_disk))
