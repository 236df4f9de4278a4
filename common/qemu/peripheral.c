/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>

#include "kvm/qemu/peripheral.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/base/transaction.h"

enum { IN_USE_PAUSE_MS = 5, ASK_AGAIN_MS = 1000, DENIALS_MAX = 3 };

static int ask(struct qmp *qmp, const char *command, json_t *arguments, deadline_t deadline,
               json_t **result, struct error *error)
{
    return qmp_call(qmp, command, arguments, deadline, result, error) == QMP_DONE ? 0 : -1;
}

json_t *peripheral_exists_arguments(void)
{
    return memory_json(json_pack("{s:s}", "path", "/machine/peripheral"));
}

int peripheral_exists(struct qmp *qmp, const char *id, deadline_t deadline, bool *exists,
                      struct error *error)
{
    AUTO_JSON json_t *list = NULL;
    size_t i;
    json_t *one;

    if (ask(qmp, "qom-list", peripheral_exists_arguments(), deadline, &list, error) < 0)
        return -1;
    *exists = false;
    json_array_foreach (list, i, one) {
        const char *name = json_text(one, "name");
        *exists = *exists || (name != NULL && strcmp(name, id) == 0);
    }
    return 0;
}

/* On q35: rpN with a device behind it is taken; a slot without its port can't be used. */
static void take_port(const json_t *device, struct slots *slots, uint32_t *ports)
{
    const char *id = json_text(device, "qdev_id");
    int64_t port;

    if (id == NULL || strncmp(id, "rp", 2) != 0 || !text_number(id + 2, 0, SLOTS_COUNT - 1, &port))
        return;
    *ports |= UINT32_C(1) << port;
    if (json_array_size(json_member(json_member(device, "pci_bridge"), "devices")) > 0)
        slots->taken |= UINT32_C(1) << port;
}

int peripheral_slots(struct qmp *qmp, bool q35, deadline_t deadline, struct slots *slots,
                     struct error *error)
{
    AUTO_JSON json_t *buses = NULL;
    uint32_t ports = 0;
    size_t i, k;
    json_t *bus, *device;

    if (ask(qmp, "query-pci", NULL, deadline, &buses, error) < 0)
        return -1;
    json_array_foreach (buses, i, bus) {
        if (json_number(bus, "bus", -1) != 0)
            continue;
        json_array_foreach (json_member(bus, "devices"), k, device) {
            int64_t slot = json_number(device, "slot", -1);
            if (q35)
                take_port(device, slots, &ports);
            else if (slot >= 0 && slot < SLOTS_COUNT)
                slots->taken |= UINT32_C(1) << slot;
        }
    }
    if (q35)
        slots->taken |= ~ports;
    return 0;
}

int peripheral_node(struct qmp *qmp, const char *node, deadline_t deadline, bool *exists,
                    int64_t *size, struct error *error)
{
    AUTO_JSON json_t *nodes = NULL;
    json_t *arguments = memory_json(json_pack("{s:b}", "flat", 1));
    size_t i;
    json_t *one;

    if (ask(qmp, "query-named-block-nodes", arguments, deadline, &nodes, error) < 0)
        return -1;
    *exists = false;
    json_array_foreach (nodes, i, one) {
        const char *name = json_text(one, "node-name");
        if (name == NULL || strcmp(name, node) != 0)
            continue;
        *exists = true;
        if (size != NULL)
            *size = json_number(json_member(one, "image"), "virtual-size", 0);
    }
    return 0;
}

/* The device itself, or the one that the PCI device of virtio wraps. */
static bool is_block_of(const json_t *block, const char *id)
{
    static const char place[] = "/machine/peripheral/";
    const char *drive = json_text(block, "device"), *device = json_text(block, "qdev");
    size_t length = strlen(id);

    if (drive != NULL && strcmp(drive, id) == 0)
        return true;
    if (device != NULL && strncmp(device, place, strlen(place)) == 0)
        device += strlen(place);
    return device != NULL && strncmp(device, id, length) == 0 &&
           (device[length] == '\0' || device[length] == '/');
}

int peripheral_backend(struct qmp *qmp, const char *id, deadline_t deadline, char *node,
                       int64_t *size, struct error *error)
{
    AUTO_JSON json_t *blocks = NULL;
    bool exists;
    size_t i;
    json_t *one;

    node[0] = '\0';
    if (peripheral_node(qmp, id, deadline, &exists, size, error) < 0)
        return -1;
    if (exists)
        snprintf(node, PERIPHERAL_NODE_SIZE, "%s", id);
    if (exists)
        return 0;
    if (ask(qmp, "query-block", NULL, deadline, &blocks, error) < 0)
        return -1;
    json_array_foreach (blocks, i, one) {
        const json_t *inserted = json_member(one, "inserted");
        const char *name = json_text(inserted, "node-name");
        if (!is_block_of(one, id) || name == NULL)
            continue;
        snprintf(node, PERIPHERAL_NODE_SIZE, "%s", name);
        if (size != NULL)
            *size = json_number(json_member(inserted, "image"), "virtual-size", 0);
    }
    return 0;
}

int peripheral_remove_node(struct qmp *qmp, const char *node, deadline_t deadline,
                           struct error *error)
{
    for (;;) {
        bool exists;
        json_t *arguments = memory_json(json_pack("{s:s}", "node-name", node));
        enum qmp_outcome outcome = qmp_call(qmp, "blockdev-del", arguments, deadline, NULL, error);
        if (outcome == QMP_DONE)
            return 0;
        if (outcome == QMP_UNKNOWN ||
            peripheral_node(qmp, node, deadline, &exists, NULL, error) < 0)
            return -1;
        if (!exists)
            return 0;
        if (clock_passed(deadline))
            return -1;
        clock_sleep_ms(IN_USE_PAUSE_MS);
    }
}

int peripheral_remove_netdev(struct qmp *qmp, const char *id, deadline_t deadline,
                             struct error *error)
{
    json_t *arguments = memory_json(json_pack("{s:s}", "id", id));

    switch (qmp_call(qmp, "netdev_del", arguments, deadline, NULL, error)) {
    case QMP_DONE:
        return 0;
    case QMP_REFUSED:
        return strcmp(qmp_error_class(qmp), "DeviceNotFound") == 0 ? 0 : -1;
    case QMP_UNKNOWN:
        break;
    }
    return -1;
}

json_t *peripheral_add_fd_arguments(const char *opaque, int set)
{
    json_t *arguments = memory_json(json_pack("{s:s}", "opaque", opaque));

    if (set >= 0)
        json_object_set_new(arguments, "fdset-id", memory_json(json_integer(set)));
    return arguments;
}

int peripheral_add_fd(struct qmp *qmp, int descriptor, const char *opaque, deadline_t deadline,
                      int *set, struct error *error)
{
    AUTO_JSON json_t *reply = NULL;

    if (qmp_call_fds(qmp, "add-fd", peripheral_add_fd_arguments(opaque, *set), &descriptor, 1,
                     deadline, &reply, error) != QMP_DONE)
        return -1;
    *set = (int)json_number(reply, "fdset-id", -1);
    return 0;
}

int peripheral_remove_fds(struct qmp *qmp, const char *opaque, deadline_t deadline,
                          struct error *error)
{
    AUTO_JSON json_t *sets = NULL;
    size_t i, k;
    json_t *set, *descriptor;

    if (ask(qmp, "query-fdsets", NULL, deadline, &sets, error) < 0)
        return -1;
    json_array_foreach (sets, i, set) {
        bool ours = false;
        json_array_foreach (json_member(set, "fds"), k, descriptor) {
            const char *mark = json_text(descriptor, "opaque");
            ours = ours || (mark != NULL && strcmp(mark, opaque) == 0);
        }
        if (!ours)
            continue;
        json_t *arguments =
            memory_json(json_pack("{s:I}", "fdset-id", json_number(set, "fdset-id", -1)));
        if (ask(qmp, "remove-fd", arguments, deadline, NULL, error) < 0)
            return -1;
    }
    return 0;
}

/* They must not begin with a digit. */
void peripheral_fd_name(char *name, const char *kind, size_t queue)
{
    snprintf(name, PERIPHERAL_NAME_SIZE, "kvm-suite-%s-%zu", kind, queue);
}

int peripheral_close_names(struct qmp *qmp, size_t queues, deadline_t deadline, struct error *error)
{
    static const char *const kinds[] = {"vhost", "tap"};
    char name[PERIPHERAL_NAME_SIZE];

    for (size_t i = queues; i-- > 0;) {
        for (size_t kind = 0; kind < COUNT(kinds); kind++) {
            peripheral_fd_name(name, kinds[kind], i);
            json_t *arguments = memory_json(json_pack("{s:s}", "fdname", name));
            if (qmp_call(qmp, "closefd", arguments, deadline, NULL, error) == QMP_UNKNOWN)
                return -1;
        }
    }
    return 0;
}

static bool is_about(const json_t *event, const void *context)
{
    const char *device = json_text(json_member(event, "data"), "device");
    return device != NULL && strcmp(device, context) == 0;
}

/* A request may be refused because an earlier one is under way, or the device is gone: asking tells. *denials counts
 * the refusals until a request is taken, which is then what counts. */
static void request_removal(struct qmp *qmp, const char *id, deadline_t deadline, bool *exists,
                            int *denials, struct error *error)
{
    json_t *arguments = memory_json(json_pack("{s:s}", "id", id));

    *exists = true;
    if (qmp_call(qmp, "device_del", arguments, deadline, NULL, error) != QMP_REFUSED) {
        *denials = -1;
        return;
    }
    *exists = strcmp(qmp_error_class(qmp), "DeviceNotFound") != 0;
    if (*denials >= 0)
        (*denials)++;
}

enum unplug_end peripheral_unplug(struct qmp *qmp, const char *id, deadline_t deadline,
                                  void (*progress)(const char *text), struct error *error)
{
    bool exists = true, lost = false;
    int denials = 0;

    for (bool first = true;; first = false) {
        struct error denial = {0};
        if (!first && progress != NULL)
            progress("asking the guest again");
        deadline_t until = clock_earlier(clock_deadline(ASK_AGAIN_MS), deadline);
        request_removal(qmp, id, until, &exists, &denials, &denial);
        until = clock_earlier(clock_deadline(ASK_AGAIN_MS), deadline);
        AUTO_JSON json_t *deleted =
            exists ? qmp_wait_event(qmp, "DEVICE_DELETED", is_about, id, until, &lost) : NULL;
        (void)deleted; /* asking tells, also when the event is lost or of an older request */
        AUTO_JSON json_t *refused = qmp_take_event(qmp, "DEVICE_UNPLUG_GUEST_ERROR");
        if (lost) {
            error_set(error, STATUS_FAILED, "the connection to QEMU was lost while it removed %s",
                      id);
            return UNPLUG_FAILED;
        }
        /* The answer that decides has a moment of its own, also when the time for the guest is up. */
        if (peripheral_exists(qmp, id, clock_deadline(ASK_AGAIN_MS), &exists, error) < 0)
            return UNPLUG_FAILED;
        if (!exists)
            return UNPLUG_GONE;
        if (refused != NULL && is_about(refused, id))
            return UNPLUG_REFUSED;
        if (denials == DENIALS_MAX || (denials > 0 && clock_passed(deadline))) {
            error_set(error, STATUS_FAILED, "%s", denial.text);
            return UNPLUG_DENIED;
        }
        if (clock_passed(deadline))
            return UNPLUG_PENDING;
    }
}

int peripheral_drive(struct qmp *qmp, const char *id, deadline_t deadline, struct drive *drive,
                     struct error *error)
{
    AUTO_JSON json_t *list = NULL;
    size_t i;
    json_t *one;

    *drive = (struct drive){0};
    if (ask(qmp, "query-block", NULL, deadline, &list, error) < 0)
        return -1;
    json_array_foreach (list, i, one) {
        const char *device = json_text(one, "qdev");
        if (device == NULL || strcmp(device, id) != 0)
            continue;
        const char *node = json_text(json_member(one, "inserted"), "node-name");
        drive->exists = true;
        drive->tray_open = json_truth(one, "tray_open", false);
        snprintf(drive->node, sizeof(drive->node), "%s", node != NULL ? node : "");
    }
    return 0;
}

int peripheral_migration(struct qmp *qmp, deadline_t deadline, const char **phase, bool *ever,
                         struct error *error)
{
    static const char *const busy[] = {"setup",
                                       "active",
                                       "pre-switchover",
                                       "device",
                                       "cancelling",
                                       "wait-unplug",
                                       "postcopy-active",
                                       "postcopy-paused",
                                       "postcopy-recover",
                                       "postcopy-recover-setup"};
    static const char *const idle[] = {"none", "completed", "failed", "cancelled"};
    AUTO_JSON json_t *reply = NULL;

    *phase = NULL;
    if (ask(qmp, "query-migrate", NULL, deadline, &reply, error) < 0)
        return -1;
    const char *status = json_text(reply, "status");
    *ever = json_object_size(reply) > 0; /* one that is expected has an address and no status */
    if (status != NULL)
        *phase = "in a way that is not known here"; /* a newer QEMU has more of them */
    for (size_t i = 0; status != NULL && i < COUNT(busy); i++)
        if (strcmp(status, busy[i]) == 0)
            *phase = busy[i];
    for (size_t i = 0; status != NULL && i < COUNT(idle); i++)
        if (strcmp(status, idle[i]) == 0)
            *phase = NULL;
    return 0;
}
