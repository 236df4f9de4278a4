/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>

#include "kvm/operations/inspect.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/base/transaction.h"
#include "kvm/operations/session.h"
#include "kvm/state/hvparams.h"
#include "kvm/state/placement.h"

static void use_slot(json_t *map, int slot, const char *use, const char *what)
{
    json_t *one = slot >= 0 && slot < SLOTS_COUNT ? json_array_get(map, (size_t)slot) : NULL;

    if (one == NULL)
        return;
    json_object_set_new(one, "use", memory_json(json_string(use)));
    json_object_set_new(one, "what", memory_json(json_string(what)));
}

static json_t *empty_map(int last)
{
    static const char *const reserved[SLOTS_RESERVED] = {"host bridge", "ISA bridge", "VGA"};
    json_t *map = memory_json(json_array());

    for (int slot = 0; slot < SLOTS_COUNT; slot++) {
        json_array_append_new(map,
                              memory_json(json_pack("{s:i, s:s, s:s}", "slot", slot, "use",
                                                    slot > last ? "none" : "free", "what", "")));
        if (slot < SLOTS_RESERVED)
            use_slot(map, slot, "reserved", reserved[slot]);
    }
    return map;
}

static void put_device(json_t *map, const json_t *hvinfo, const char *kind, size_t index,
                       const char *name)
{
    AUTO_FREE char *what = memory_format(
        "%s %zu%s%s (%s)", kind, index, name != NULL ? " " : "", name != NULL ? name : "",
        json_text(hvinfo, "id") != NULL ? json_text(hvinfo, "id") : "no id");
    use_slot(map, placement_slot(hvinfo), "ours", what);
}

static bool is_ours(const json_t *map, int slot)
{
    const char *use = json_text(json_array_get(map, (size_t)slot), "use");
    return use != NULL && (strcmp(use, "ours") == 0 || strcmp(use, "reserved") == 0);
}

/* A device that QEMU has where the runtime knows of none. */
static void add_foreign(json_t *map, int64_t slot, const json_t *device)
{
    const char *id = json_text(device, "qdev_id");
    const char *words = json_text(json_member(device, "class_info"), "desc");

    if (slot < 0 || slot >= SLOTS_COUNT || is_ours(map, (int)slot))
        return;
    AUTO_FREE char *what =
        memory_format("%s%s%s", words != NULL ? words : "device",
                      id != NULL && id[0] != '\0' ? " " : "", id != NULL ? id : "");
    AUTO_FREE char *shown = text_escape(what, strlen(what));
    use_slot(map, (int)slot, "foreign", shown);
}

/* On pc a slot is a device of bus 0; on q35 it is what sits behind root port rpN. */
static void add_what_qemu_has(json_t *map, const json_t *buses, bool q35)
{
    size_t i, k;
    json_t *bus, *device;

    json_array_foreach (buses, i, bus) {
        if (json_number(bus, "bus", -1) != 0)
            continue;
        json_array_foreach (json_member(bus, "devices"), k, device) {
            const char *id = json_text(device, "qdev_id");
            const json_t *behind = json_member(json_member(device, "pci_bridge"), "devices");
            int64_t port;
            if (!q35)
                add_foreign(map, json_number(device, "slot", -1), device);
            else if (id != NULL && strncmp(id, "rp", 2) == 0 &&
                     text_number(id + 2, 0, SLOTS_COUNT - 1, &port) && json_array_size(behind) > 0)
                add_foreign(map, port, json_array_get(behind, 0));
        }
    }
}

static json_t *recorded_map(struct session *session, struct error *error)
{
    struct instance *instance = &session->runtime.instance;
    struct placement placement;

    if (placement_assign(instance, &placement, error) < 0)
        return NULL;
    json_t *map = empty_map(placement.last_port);
    use_slot(map, placement.sound_slot, "ours", "sound card (sound)");
    for (int i = 0; i < SCSI_CONTROLLERS; i++) {
        char id[16];
        placement_scsi_name(i, id, sizeof(id));
        AUTO_FREE char *what = memory_format("SCSI controller (%s)", id);
        use_slot(map, placement.scsi_slots[i], "ours", what);
    }
    for (int i = 0; i < CDROMS; i++) {
        AUTO_FREE char *what = memory_format("CD-ROM (%s)", media_names[i].device);
        use_slot(map, placement.cdrom_slots[i], "ours", what);
    }
    use_slot(map, placement.balloon_slot, "ours", "balloon (balloon)");
    use_slot(map, placement.serial_slot, "ours", "serial controller (spice)");
    use_slot(map, placement.rng_slot, "ours", "random number generator (rng)");
    use_slot(map, placement.watchdog_slot, "ours", "watchdog (watchdog)");
    for (size_t i = 0; i < instance->disk_count; i++)
        put_device(map, instance->disks[i].hvinfo, "disk", i, instance->disks[i].name);
    for (size_t i = 0; i < instance->nic_count; i++)
        put_device(map, instance->nics[i].hvinfo, "NIC", i, instance->nics[i].name);
    return map;
}

json_t *inspect_slots(const struct rundir *rundir, const char *name, deadline_t deadline,
                      struct error *error)
{
    AUTO_SESSION struct session session = {.lock = -1, .process = {.pidfd = -1}};
    AUTO_JSON json_t *buses = NULL;

    if (session_open(&session, rundir, NULL, name, false, 0, error) < 0)
        return NULL;
    if (!session.has_runtime) {
        error_set(error, STATUS_STATE, "%s: %s", name,
                  session.runtime_fault.text[0] != '\0' ? session.runtime_fault.text
                                                        : "no runtime file is here");
        return NULL;
    }
    json_t *map = recorded_map(&session, error);
    if (map == NULL || !session_is_live(&session))
        return map;
    AUTO_QMP struct qmp *qmp =
        monitor_look(rundir, name, &session.process, NULL, 0, deadline, error);
    if (qmp == NULL || qmp_call(qmp, "query-pci", NULL, deadline, &buses, error) != QMP_DONE) {
        json_decref(map);
        return NULL;
    }
    add_what_qemu_has(map, buses, instance_is_q35(&session.runtime.instance));
    return map;
}
