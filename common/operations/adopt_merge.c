/* SPDX-License-Identifier: BSD-2-Clause */
/* One instance out of what runs and what a definition tells of it. */
#include <string.h>
#include <sys/stat.h>

#include "adopt_private.h"
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"

const char *adopt_source(const struct adopt *adopt)
{
    const char *file = adopt->options->definition;
    return file == NULL ? "the running QEMU" : strcmp(file, "-") == 0 ? "stdin" : file;
}

static const json_t *entry_for(const json_t *list, const json_t *live, const char *key)
{
    const char *uuid = json_text(live, "uuid"), *value = json_text(live, key);
    size_t i;
    json_t *entry;

    json_array_foreach (list, i, entry) {
        const char *its_uuid = json_text(entry, "uuid"), *its_value = json_text(entry, key);
        if ((its_uuid != NULL && uuid != NULL && strncmp(its_uuid, uuid, 18) == 0) ||
            (its_value != NULL && value != NULL && strcmp(its_value, value) == 0))
            return entry;
    }
    return NULL;
}

/* The file that a definition names must be the one that QEMU has open, also by another name. */
static void check_image(struct adopt *adopt, const json_t *entry, const json_t *live)
{
    const char *told = json_text(entry, "path"), *open = json_text(live, "path");
    struct stat one, other;

    if (told == NULL || open == NULL || strcmp(told, open) == 0)
        return;
    if (stat(told, &one) == 0 && stat(open, &other) == 0 &&
        (S_ISBLK(one.st_mode) ? S_ISBLK(other.st_mode) && one.st_rdev == other.st_rdev
                              : one.st_dev == other.st_dev && one.st_ino == other.st_ino))
        return;
    messages_add(&adopt->problems, "%s: disk %s: QEMU has %s open (current value of path: \"%s\")",
                 adopt_source(adopt), json_text(entry, "uuid"), open, told);
}

/* What runs, each with what the definition adds to it; what the definition has and QEMU has not is a problem. */
static json_t *merge(struct adopt *adopt, const json_t *given, json_t *live, const char *kind,
                     const char *key)
{
    json_t *list = memory_json(json_array());
    size_t i;
    json_t *one;

    json_array_foreach (live, i, one) {
        const json_t *entry = entry_for(given, one, key);
        json_t *whole = memory_json(entry != NULL ? json_deep_copy(entry) : json_object());
        json_t *params = json_member(whole, "params");
        check_image(adopt, entry, one);
        if (params != NULL)
            json_object_update_missing(params, json_member(one, "params"));
        json_object_update_missing(whole, one);
        json_object_set(whole, "hvinfo", json_object_get(one, "hvinfo"));
        if (given != NULL && entry == NULL)
            messages_add(&adopt->result->warnings,
                         "%s %s is not in the definition: taken from QEMU as it is", kind,
                         json_text(one, key));
        json_array_append_new(list, whole);
    }
    json_array_foreach ((json_t *)(uintptr_t)given, i, one)
        if (entry_for(live, one, key) == NULL)
            messages_add(&adopt->problems,
                         "%s: %ss[%zu]: QEMU does not have it (%s %s); take it out of the "
                         "definition",
                         adopt_source(adopt), kind, i, key,
                         json_text(one, key) != NULL ? json_text(one, key) : "not told");
    return list;
}

static void check_same(struct adopt *adopt, const json_t *given, const json_t *running,
                       const char *part, const char *key)
{
    const json_t *one = part != NULL ? json_member(given, part) : given;
    const json_t *other = part != NULL ? json_member(running, part) : running;
    AUTO_JSON json_t *mine = json_incref(json_member(one, key));
    AUTO_JSON json_t *theirs = json_incref(json_member(other, key));

    if (mine != NULL && theirs != NULL && !json_equal(mine, theirs)) {
        AUTO_FREE char *is = json_compact(theirs);
        AUTO_FREE char *told = json_compact(mine);
        messages_add(&adopt->problems, "%s: %s%s%s: it runs with %s (current value: %s)",
                     adopt_source(adopt), part != NULL ? part : "", part != NULL ? "." : "", key,
                     is, told);
    }
}

/* The user is in the process, not on the command line. */
static void add_user(struct adopt *adopt, json_t *hvparams)
{
    char process[32] = "", user[64] = "", path[RUNDIR_PATH_MAX];

    rundir_name(RUNDIR_UID, adopt->name, path);
    process_describe(adopt->session.process.pid, process, sizeof(process), user, sizeof(user));
    bool root = strcmp(user, "root") == 0;
    bool pool = file_exists(adopt->rundir->fd, path);
    json_object_set_new(hvparams, "security_model",
                        json_string(pool   ? "pool"
                                    : root ? "none"
                                           : "user"));
    if (!pool && !root)
        json_object_set_new(hvparams, "security_domain", memory_json(json_string(user)));
}

/* A definition as it was started: its own uuids are needed to find its devices. */
static json_t *read_definition(struct adopt *adopt, struct error *error)
{
    AUTO_MESSAGES struct messages problems = {0};
    AUTO_INSTANCE struct instance instance = {0};
    AUTO_JSON json_t *given = json_read(adopt->options->definition, adopt->deadline, error);

    if (given == NULL)
        return NULL;
    if (instance_parse(given, adopt_source(adopt), adopt->node->defaults, adopt->node->source,
                       &instance, &problems) < 0) {
        messages_error(&problems, STATUS_USAGE, error);
        return NULL;
    }
    json_t *whole = instance_json(&instance);
    /* A uuid that nobody gave is QEMU's, when it has one. */
    if (json_text(given, "uuid") == NULL && adopt_word(adopt->words, "-uuid") != NULL)
        json_object_set_new(whole, "uuid",
                            memory_json(json_string(adopt_word(adopt->words, "-uuid"))));
    return whole;
}

/* A tap that is no port of a bridge: it may be routed, or a VLAN's, and ifdown and the next start need to know. */
static void check_connected(struct adopt *adopt, const json_t *nics)
{
    size_t i;
    json_t *nic;

    json_array_foreach (nics, i, nic) {
        const char *tap = json_text(adopt->look.taps, json_text(nic, "uuid"));
        if (json_member(nic, "nicparams") == NULL)
            messages_add(&adopt->problems,
                         "NIC %s: tap %s is no port of a plain bridge; its mode and link are not "
                         "known",
                         json_text(nic, "mac"), tap != NULL && tap[0] != '\0' ? tap : "?");
    }
}

int adopt_make_instance(struct adopt *adopt, struct error *error)
{
    AUTO_MESSAGES struct messages ignored = {0};
    bool with_file = adopt->options->definition != NULL;
    AUTO_JSON json_t *running =
        adopt_definition(adopt->words, with_file ? &ignored : &adopt->problems);
    AUTO_JSON json_t *whole = with_file ? read_definition(adopt, error) : json_incref(running);
    if (whole == NULL)
        return -1;
    json_t *hvparams = json_object_get(whole, "hvparams");
    if (with_file) {
        check_same(adopt, whole, running, NULL, "name");
        check_same(adopt, whole, running, NULL, "uuid");
        check_same(adopt, whole, running, "beparams", "maxmem");
        check_same(adopt, whole, running, "beparams", "vcpus");
        /* An alias or "auto" in it means what it meant when it was started. */
        json_object_set(hvparams, "machine_version",
                        json_object_get(json_member(running, "hvparams"), "machine_version"));
        json_object_set(hvparams, "kvm_flag",
                        json_object_get(json_member(running, "hvparams"), "kvm_flag"));
    } else {
        add_user(adopt, hvparams);
        json_object_set_new(hvparams, "cdrom_image_path",
                            memory_json(json_string(adopt->look.cdrom)));
    }
    json_t *disks = merge(adopt, with_file ? json_member(whole, "disks") : NULL, adopt->look.disks,
                          "disk", "path");
    json_t *nics =
        merge(adopt, with_file ? json_member(whole, "nics") : NULL, adopt->look.nics, "nic", "mac");
    check_connected(adopt, nics);
    json_object_set_new(whole, "disks", disks);
    json_object_set_new(whole, "nics", nics);
    AUTO_MESSAGES struct messages problems = {0};
    if (instance_parse(whole, adopt_source(adopt), NULL, NULL, &adopt->instance, &problems) < 0) {
        for (size_t i = 0; i < problems.count; i++)
            messages_add(&adopt->problems, "%s", problems.items[i]);
        return 0;
    }
    adopt->instance.sound_slot = adopt->look.sound_slot;
    adopt->instance.scsi_slots[0] = adopt->look.scsi_slot;
    adopt->instance.balloon_slot = adopt->look.balloon_slot;
    adopt->instance.serial_slot = adopt->look.serial_slot;
    adopt_keep_settings(&adopt->look, &adopt->instance);
    return 0;
}
