/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What Ganeti's loaders (2.16 to 3.1) and its node daemon demand of a runtime file, checked on what is written for every
 * golden definition. KVM_SUITE_WRITE=DIRECTORY leaves the files there, for a loader of Ganeti's own.
 */
#include <ctype.h>
#include <fcntl.h>
#include <unistd.h>
#include "golden.h"

#include "kvm/base/file.h"
#include "kvm/state/check.h"
#include "kvm/state/runtime.h"

static const struct rundir run_directory = {.fd = -1, .path = (char[]){"/run/golden"}};

static bool wrong(const char *where, const char *what)
{
    printf("# %s: %s\n", where, what);
    return false;
}

static bool is_one_of(const char *word, const char *const *words)
{
    for (; *words != NULL; words++)
        if (strcmp(*words, word) == 0)
            return true;
    return false;
}

/* One unknown key, and nothing that loads the file works any more. */
static bool has_only(const json_t *object, const char *const *known, const char *where)
{
    const char *key;
    json_t *value;

    json_object_foreach ((json_t *)(uintptr_t)object, key, value) {
        if (!is_one_of(key, known)) {
            printf("# %s.%s: no key of Ganeti's\n", where, key);
            return false;
        }
    }
    return true;
}

/* What Ganeti adds itself when it executes the command, and what no QEMU of today takes. */
static bool is_forbidden(const char *word)
{
    static const char *const forbidden[] = {
        "-qmp",     "-incoming",  "-S",       "-runas",      "-k",      "-net",     "-netdev",
        "-nic",     "-blockdev",  "-add-fd",  "-mon",        "-chroot", "-balloon", "-localtime",
        "-soundhw", "-usbdevice", "-no-acpi", "-enable-kvm", NULL};

    return is_one_of(word, forbidden) || strstr(word, ",server,nowait") != NULL ||
           (strncmp(word, "virtio-blk", 10) == 0 && strstr(word, ",id=cdrom") == NULL) ||
           strncmp(word, "virtio-net", 10) == 0 || strstr(word, "drive=disk-") != NULL;
}

/* The one value after an option that must be there once. */
static const json_t *only_value(const json_t *command, const char *option)
{
    const json_t *found = NULL;

    for (size_t i = 1; i + 1 < json_array_size(command); i++) {
        const char *word = json_string_value(json_array_get(command, i));
        if (word == NULL || strcmp(word, option) != 0)
            continue;
        if (found != NULL)
            return NULL;
        found = json_array_get(command, i + 1);
    }
    return found;
}

static bool good_command(const json_t *command, const char *name, bool chroot)
{
    const json_t *number = only_value(command, "-m");
    const char *cpus = json_string_value(only_value(command, "-smp"));
    const char *named = json_string_value(only_value(command, "-name"));

    if (named == NULL || strcmp(named, name) != 0)
        return wrong("kvm_cmd", "-name is not the bare name");
    if (!json_is_integer(number))
        return wrong("kvm_cmd", "-m is no JSON number");
    if (cpus == NULL || !isdigit((unsigned char)cpus[0]) ||
        strspn(cpus, "0123456789") != strcspn(cpus, ","))
        return wrong("kvm_cmd", "-smp does not begin with a number");
    for (size_t i = 0; i < json_array_size(command); i++) {
        const json_t *item = json_array_get(command, i);
        const char *word = json_string_value(item);
        if (item != number && word == NULL)
            return wrong("kvm_cmd", "a word is no string");
        if (word != NULL && is_forbidden(word) && !(chroot && strcmp(word, "-chroot") == 0))
            return wrong(word, "may not be in kvm_cmd");
    }
    return true;
}

static bool good_address(const json_t *hvinfo, const char *where)
{
    static const char *const known[] = {"driver",  "id",      "bus", "addr", "unit",
                                        "channel", "scsi-id", "lun", NULL};
    const char *address = json_text(hvinfo, "addr"), *id = json_text(hvinfo, "id");

    if (!has_only(hvinfo, known, where))
        return false;
    const char *driver = json_text(hvinfo, "driver");
    /* A device without a bus is passed over when slots are counted; one on a bus that its loader does not count is an
     * error there. */
    bool is_isa = driver != NULL && placement_is_isa(driver);
    if (id == NULL || strlen(id) > 31 || driver == NULL ||
        (json_text(hvinfo, "bus") == NULL) != is_isa)
        return wrong(where, "hvinfo lacks id, driver or bus");
    if (address != NULL && (strncmp(address, "0x", 2) != 0 ||
                            strspn(address + 2, "0123456789abcdef") != strlen(address + 2)))
        return wrong(where, "addr is no hexadecimal text");
    if (!is_isa && strcmp(json_text(hvinfo, "bus"), "scsi.0") == 0 &&
        (!json_is_integer(json_object_get(hvinfo, "scsi-id")) ||
         !json_is_integer(json_object_get(hvinfo, "lun"))))
        return wrong(where, "scsi-id and lun are no numbers");
    return true;
}

static bool good_nic(const json_t *nic)
{
    static const char *const known[] = {"name",    "mac",    "ip",   "network", "nicparams",
                                        "netinfo", "hvinfo", "uuid", NULL};
    const json_t *params = json_member(nic, "nicparams");

    if (json_text(nic, "mac") == NULL || json_text(nic, "uuid") == NULL ||
        json_text(params, "mode") == NULL || json_text(params, "link") == NULL)
        return wrong("nics", "mac, uuid, mode or link is missing");
    return has_only(nic, known, "nics") && good_address(json_member(nic, "hvinfo"), "nics");
}

static bool good_disk(const json_t *entry)
{
    static const char *const known[] = {
        "forthcoming", "name", "dev_type", "logical_id", "children",       "nodes",
        "iv_name",     "size", "mode",     "params",     "spindles",       "hvinfo",
        "serial_no",   "uuid", "ctime",    "mtime",      "dynamic_params", NULL};
    const json_t *disk = json_array_get(entry, 0);
    const char *mode = json_text(disk, "mode");

    if (json_array_size(entry) != 3)
        return wrong("disks", "an entry has not three parts");
    if (json_text(disk, "uuid") == NULL || json_text(disk, "dev_type") == NULL || mode == NULL ||
        !json_is_object(json_object_get(disk, "params")))
        return wrong("disks", "uuid, dev_type, mode or params is missing");
    return has_only(disk, known, "disks") && good_address(json_member(disk, "hvinfo"), "disks");
}

/* The ones that are read from the running instance's parameters when a device is plugged or the guest started anew. */
static bool good_hvparams(const json_t *hvparams, uint32_t others, bool q35)
{
    static const char *const needed[] = {
        "kernel_path", "boot_order", "disk_type",         "disk_discard", "disk_cache",
        "disk_aio",    "nic_type",   "virtio_net_queues", "vnet_hdr",     "vhost_net",
        "cpu_mask",    "use_chroot", "security_model",    "acpi",         "kvm_pci_reservations",
        NULL};
    static const char *const discards[] = {"ignore", "unmap", NULL};
    json_int_t first = json_number(hvparams, "kvm_pci_reservations", -1);

    for (size_t i = 0; needed[i] != NULL; i++)
        if (json_member(hvparams, needed[i]) == NULL)
            return wrong(needed[i], "is missing in the hvparams");
    if (!is_one_of(json_text(hvparams, "disk_discard"), discards))
        return wrong("disk_discard", "is not taken by 3.1's -blockdev");
    for (int slot = SLOTS_RESERVED; !q35 && slot < SLOTS_COUNT; slot++)
        if (slot >= first && (others & UINT32_C(1) << slot) != 0)
            return wrong("kvm_pci_reservations", "Ganeti would take the slot of a controller");
    return true;
}

static void leave(const char *name, const char *text)
{
    const char *directory = getenv("KVM_SUITE_WRITE");
    AUTO_FREE char *path =
        directory == NULL ? NULL : memory_format("%s/%s.runtime", directory, name);
    AUTO_CLOSE int descriptor =
        path == NULL ? -1 : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (descriptor >= 0)
        file_write_all(descriptor, text, strlen(text));
}

static bool good_devices(const json_t *list, const struct instance *instance)
{
    size_t i;
    json_t *one;

    if (json_array_size(json_array_get(list, 1)) != instance->nic_count ||
        json_array_size(json_array_get(list, 3)) != instance->disk_count)
        return wrong("file", "has not all NICs and disks");
    json_array_foreach (json_array_get(list, 1), i, one)
        if (!good_nic(one))
            return false;
    json_array_foreach (json_array_get(list, 3), i, one)
        if (!good_disk(one))
            return false;
    return true;
}

static uint32_t slot_of(const json_t *hvinfo)
{
    int slot = placement_slot(hvinfo);

    return slot == SLOT_NONE ? 0 : UINT32_C(1) << slot;
}

static bool keeps_the_contract(struct golden *golden)
{
    bool chroot = hvparams_truth(golden->instance.hvparams, "use_chroot");
    bool q35 = instance_is_q35(&golden->instance);
    AUTO_JSON json_t *record = cmdline_record(&golden->instance, &golden->plan, &run_directory);
    AUTO_RUNTIME struct runtime runtime = {0};
    size_t i;
    struct instance instance = golden->instance;
    uint32_t others = golden->placement.slots.taken;

    for (i = 0; i < instance.disk_count; i++)
        others &= ~slot_of(instance.disks[i].hvinfo);
    for (i = 0; i < instance.nic_count; i++)
        others &= ~slot_of(instance.nics[i].hvinfo);
    runtime_begin(&runtime, &instance);
    golden->instance = (struct instance){0};
    json_decref(runtime.kvm_cmd);
    runtime.kvm_cmd = json_incref(record);
    AUTO_FREE char *text = runtime_text(&runtime);
    AUTO_JSON json_t *list = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    leave(golden->name, text);
    if (json_array_size(list) != 5 || text[strlen(text) - 1] != '\n')
        return wrong("file", "is not five elements and a newline");
    return good_devices(list, &runtime.instance) &&
           good_command(json_array_get(list, 0), runtime.instance.name, chroot) &&
           good_hvparams(json_array_get(list, 2), others, q35);
}

TEST(contract, "what is written for every golden definition keeps Ganeti's contract")
{
    CHECK(golden_each(keeps_the_contract));
    return true;
}

/* Historic files, but for the one that no loader of Ganeti's takes. */
static bool is_written(const char *path)
{
    struct error error = {0};
    AUTO_JSON json_t *file = json_read(path, DEADLINE_NEVER, &error);
    const char *named = json_string_value(only_value(json_array_get(file, 0), "-name"));
    AUTO_FREE char *bytes = json_dumps(file, 0);
    AUTO_RUNTIME struct runtime runtime = {0};
    const char *name = strrchr(path, '/') + 1;

    if (strncmp(name, "44-", 3) == 0)
        return true;
    if (runtime_parse(bytes, strlen(bytes), path, named != NULL ? named : "test2", &runtime,
                      &error) < 0)
        return wrong(path, error.text);
    AUTO_FREE char *stem = memory_format("%.*s", (int)(strlen(name) - strlen(".runtime")), name);
    AUTO_FREE char *text = runtime_text(&runtime);
    AUTO_JSON json_t *list = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    leave(stem, text);
    if (json_array_size(list) != 5)
        return wrong(path, "is not written as five elements");
    return true;
}

TEST(historic, "every historic file is written again")
{
    glob_t found;

    CHECK(glob(TESTS_DIR "/vectors/*.runtime", 0, NULL, &found) == 0);
    for (size_t i = 0; i < found.gl_pathc; i++)
        CHECK(is_written(found.gl_pathv[i]));
    CHECK(found.gl_pathc >= 15);
    globfree(&found);
    return true;
}

UNIT_MAIN(UNIT(contract), UNIT(historic))
