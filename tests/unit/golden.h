/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The golden command lines: tests/golden/NAME.json holds {"definition", "plan"}, NAME.argv the words of
 * cmdline_build, one on a line, NAME.record those of cmdline_record as JSON, one on a line.
 *
 * Keys of "plan", all optional: kvm, chroot, run_as, vnc_address, queues, vhost, events_socket, blocks (per
 * disk: a block device), firmware, nvram (paths), secure, no_sandbox, default_devices, run_with_chroot, run_with_user,
 * spice_address.
 *
 * "ask", optional: what the real QEMU must say (cmdline_qemu.c), a list of {"execute", "arguments", "return"}, of whose
 * "return" each member that is there must be in the answer.
 *
 * Descriptors are numbered from 3 in the order of `kinds`; 3 is the pid file's.
 */
#ifndef KVM_TESTS_GOLDEN_H
#define KVM_TESTS_GOLDEN_H

#include <glob.h>

#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/qemu/cmdline.h"
#include "kvm/state/hvparams.h"
#include "unit.h"

enum { GOLDEN_DEVICES = 8, GOLDEN_DESCRIPTORS = 64, GOLDEN_FIRST = 3 };

enum golden_kind {
    GOLDEN_PID,
    GOLDEN_QMP,
    GOLDEN_QUERY,
    GOLDEN_MONITOR,
    GOLDEN_SERIAL,
    GOLDEN_AGENT,
    GOLDEN_EVENTS_SOCKET,
    GOLDEN_KVMD,
    GOLDEN_EVENTS,
    GOLDEN_DISK,
    GOLDEN_CDROM,
    GOLDEN_FLOPPY,
    GOLDEN_FIRMWARE,
    GOLDEN_NVRAM,
    GOLDEN_TPM,
    GOLDEN_TAP,
    GOLDEN_VHOST,
};

struct golden {
    char *name;
    json_t *file;
    struct instance instance;
    struct placement placement;
    struct probe probe;
    struct cmdline_plan plan;
    enum golden_kind kinds[GOLDEN_DESCRIPTORS];
    size_t owners[GOLDEN_DESCRIPTORS]; /* index of the disk or NIC */
    size_t count;
    int disks[GOLDEN_DEVICES];
    bool blocks[GOLDEN_DEVICES], vhost[GOLDEN_DEVICES];
    int taps[GOLDEN_DEVICES][CMDLINE_QUEUES_MAX], vhosts[GOLDEN_DEVICES][CMDLINE_QUEUES_MAX];
};

static inline int golden_number(struct golden *golden, enum golden_kind kind, size_t owner)
{
    golden->kinds[golden->count] = kind;
    golden->owners[golden->count] = owner;
    return GOLDEN_FIRST + (int)golden->count++;
}

static inline void golden_number_channels(struct golden *golden, const json_t *plan)
{
    const json_t *hvparams = golden->instance.hvparams;
    struct cmdline_plan *to = &golden->plan;

    golden_number(golden, GOLDEN_PID, 0);
    to->qmp_fd = golden_number(golden, GOLDEN_QMP, 0);
    to->query_fd = golden_number(golden, GOLDEN_QUERY, 0);
    to->monitor_fd = golden_number(golden, GOLDEN_MONITOR, 0);
    to->serial_fd =
        hvparams_truth(hvparams, "serial_console") ? golden_number(golden, GOLDEN_SERIAL, 0) : -1;
    to->agent_fd =
        hvparams_truth(hvparams, "use_guest_agent") ? golden_number(golden, GOLDEN_AGENT, 0) : -1;
    to->events_socket_fd = json_truth(plan, "events_socket", false)
                               ? golden_number(golden, GOLDEN_EVENTS_SOCKET, 0)
                               : -1;
    to->kvmd_fd =
        hvparams_truth(hvparams, "user_shutdown") ? golden_number(golden, GOLDEN_KVMD, 0) : -1;
    to->events_fd = golden_number(golden, GOLDEN_EVENTS, 0);
}

static inline void golden_number_devices(struct golden *golden, const json_t *plan)
{
    struct cmdline_plan *to = &golden->plan;

    to->queues = (size_t)json_number(plan, "queues", 1);
    for (size_t i = 0; i < golden->instance.disk_count; i++) {
        golden->disks[i] = disk_is_userspace(&golden->instance.disks[i])
                               ? -1
                               : golden_number(golden, GOLDEN_DISK, i);
        golden->blocks[i] = json_is_true(json_array_get(json_member(plan, "blocks"), i));
    }
    for (size_t i = 0; i < MEDIA; i++) {
        bool named = media_place(&golden->instance, (enum medium)i) != NULL &&
                     !media_is_web(&golden->instance, (enum medium)i);
        enum golden_kind kind = i == MEDIUM_FLOPPY ? GOLDEN_FLOPPY : GOLDEN_CDROM;
        to->medium_fd[i] = named ? golden_number(golden, kind, i) : -1;
    }
    to->firmware_path = json_text(plan, "firmware");
    to->nvram_path = json_text(plan, "nvram");
    to->firmware_smm = to->firmware_secure = json_truth(plan, "secure", false);
    to->firmware_fd = to->firmware_path != NULL ? golden_number(golden, GOLDEN_FIRMWARE, 0) : -1;
    to->nvram_fd = to->firmware_path != NULL ? golden_number(golden, GOLDEN_NVRAM, 0) : -1;
    to->tpm_fd = hvparams_text(golden->instance.hvparams, "tpm")[0] != '\0'
                     ? golden_number(golden, GOLDEN_TPM, 0)
                     : -1;
    for (size_t i = 0; i < golden->instance.nic_count; i++) {
        golden->vhost[i] = json_truth(plan, "vhost", false);
        for (size_t queue = 0; queue < to->queues; queue++)
            golden->taps[i][queue] = golden_number(golden, GOLDEN_TAP, i);
        for (size_t queue = 0; golden->vhost[i] && queue < to->queues; queue++)
            golden->vhosts[i][queue] = golden_number(golden, GOLDEN_VHOST, i);
    }
    to->disk_fd = golden->disks;
    to->disk_is_block = golden->blocks;
    to->tap_fd = (const int(*)[CMDLINE_QUEUES_MAX])golden->taps;
    to->vhost_fd = (const int(*)[CMDLINE_QUEUES_MAX])golden->vhosts;
    to->vhost = golden->vhost;
}

static inline void golden_fill_plan(struct golden *golden, const json_t *plan)
{
    struct cmdline_plan *to = &golden->plan;

    golden->instance.default_devices = json_truth(plan, "default_devices", false);
    golden->probe.major = 7;
    golden->probe.minor = 2;
    golden->probe.has_sandbox = !json_truth(plan, "no_sandbox", false);
    golden->probe.run_with_chroot = json_truth(plan, "run_with_chroot", false);
    golden->probe.run_with_user = json_truth(plan, "run_with_user", false);
    golden->probe.machines =
        memory_json(json_pack("{s:s, s:s, s:s, s:s}", "pc", "pc-i440fx-7.2", "pc-i440fx-7.2",
                              "pc-i440fx-7.2", "q35", "pc-q35-7.2", "pc-q35-7.2", "pc-q35-7.2"));
    to->placement = &golden->placement;
    to->probe = &golden->probe;
    to->kvm = json_truth(plan, "kvm", false);
    to->chroot = json_text(plan, "chroot");
    to->run_as = json_text(plan, "run_as");
    to->vnc_address = json_text(plan, "vnc_address");
    to->spice_address = json_text(plan, "spice_address");
    to->spice_directory = "/srv/golden";
    golden_number_channels(golden, plan);
    golden_number_devices(golden, plan);
}

static inline void golden_release(struct golden *golden)
{
    instance_release(&golden->instance);
    json_decref(golden->probe.machines);
    json_decref(golden->file);
    free(golden->name);
    *golden = (struct golden){0};
}

static inline void golden_print(const struct messages *problems)
{
    for (size_t i = 0; i < problems->count; i++)
        printf("# %s\n", problems->items[i]);
}

/* `path` is that of the .json file; false with the reasons printed. */
static inline bool golden_load(const char *path, struct golden *golden)
{
    AUTO_MESSAGES struct messages problems = {0};
    struct error error = {0};
    const char *slash = strrchr(path, '/');

    *golden = (struct golden){0};
    golden->name = memory_format("%.*s", (int)(strlen(slash + 1) - strlen(".json")), slash + 1);
    golden->file = json_read(path, DEADLINE_NEVER, &error);
    if (golden->file == NULL) {
        printf("# %s\n", error.text);
        return false;
    }
    const json_t *definition = json_member(golden->file, "definition");
    if (instance_parse(definition, path, NULL, NULL, &golden->instance, &problems) < 0) {
        golden_print(&problems);
        return false;
    }
    if (placement_assign(&golden->instance, &golden->placement, &error) < 0) {
        printf("# %s: %s\n", golden->name, error.text);
        return false;
    }
    golden_fill_plan(golden, json_member(golden->file, "plan"));
    return true;
}

/* Calls `check` for each golden; false when one fails, or there are none. */
static inline bool golden_each(bool (*check)(struct golden *golden))
{
    glob_t found;
    bool good = true;

    if (glob(TESTS_DIR "/golden/*.json", 0, NULL, &found) != 0) {
        printf("# no golden command lines in %s/golden\n", TESTS_DIR);
        return false;
    }
    for (size_t i = 0; i < found.gl_pathc; i++) {
        struct golden golden;
        bool fine = golden_load(found.gl_pathv[i], &golden) && check(&golden);
        if (!fine)
            printf("# in %s\n", found.gl_pathv[i]);
        good = good && fine;
        golden_release(&golden);
    }
    globfree(&found);
    return good;
}

#endif
