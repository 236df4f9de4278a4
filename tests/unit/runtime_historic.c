/* SPDX-License-Identifier: BSD-2-Clause */
/* What other tools and older versions wrote: all forms of the file, and what a newer QEMU has lost. */
#include "kvm/base/json.h"
#include "kvm/base/text.h"
#include "kvm/state/hvparams.h"
#include "runtime_file.h"
#include "unit.h"

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

TEST(unknown_keys_stay, "an unknown key in a NIC is kept, not refused")
{
    AUTO_RUNTIME struct runtime runtime = {0};
    struct error error = {0};

    load("44-nic-extra-key", "vm1.example.com", &runtime, &error);
    CHECK_TEXT(error.text, "");
    CHECK_NUMBER(json_number(runtime.instance.nics[0].object, "foo", 0), 1);
    return true;
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

UNIT_MAIN(UNIT(historic_forms), UNIT(can_be_started), UNIT(written_and_read_again),
          UNIT(head_from_the_command), UNIT(devices_of_qemu), UNIT(unknown_keys_stay),
          UNIT(removed_options))
