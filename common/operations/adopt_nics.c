/* SPDX-License-Identifier: BSD-2-Clause */
/* The NICs of a QEMU that is to be adopted: what the guest sees from QEMU, what is behind it from the node. */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "adopt_private.h"
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/host/network.h"
#include "kvm/host/tap.h"
#include "kvm/qemu/events.h"
#include "kvm/state/placement.h"

enum { FDINFO_MAX = 65536 };

/* ---- taps ---- */

/* The tap behind a descriptor of QEMU, which the kernel tells in fdinfo. */
static bool tap_of_descriptor(int pid, const char *number, char tap[TAP_NAME_SIZE])
{
    AUTO_FREE char *path = memory_format("/proc/%d/fdinfo/%s", pid, number);
    AUTO_FREE char *text = NULL;

    if (file_read(AT_FDCWD, path, FDINFO_MAX, false, &text, NULL, NULL) < 0)
        return false;
    const char *name = strstr(text, "\niff:\t");
    if (name == NULL)
        return false;
    snprintf(tap, TAP_NAME_SIZE, "%.*s", (int)strcspn(name + 6, "\n"), name + 6);
    return true;
}

/* The -netdev of that id on the command line names its first descriptor. */
static bool tap_by_words(const struct adopt_look *look, const char *netdev, char tap[TAP_NAME_SIZE])
{
    for (size_t i = 1; i + 1 < json_array_size(look->words); i++) {
        const char *word = json_string_value(json_array_get(look->words, i));
        const char *value = json_string_value(json_array_get(look->words, i + 1));
        if (strcmp(word, "-netdev") != 0)
            continue;
        AUTO_JSON json_t *one = json_parse(value, strlen(value), word, NULL);
        const char *id = json_text(one, "id");
        const char *numbers = json_text(one, "fds");
        if (numbers == NULL)
            numbers = json_text(one, "fd");
        if (id == NULL || strcmp(id, netdev) != 0 || numbers == NULL)
            continue;
        AUTO_FREE char *first = memory_format("%.*s", (int)strcspn(numbers, ":"), numbers);
        return tap_of_descriptor(look->pid, first, tap);
    }
    return false;
}

/* The tap file whose name is a uuid that begins like the id: the whole uuid, and the tap. */
static bool tap_by_files(const struct adopt_look *look, char uuid[37], char tap[TAP_NAME_SIZE])
{
    AUTO_FREE char *directory = rundir_path(look->rundir, RUNDIR_NIC, look->name);
    DIR *entries = opendir(directory);
    bool found = false;

    for (const struct dirent *entry; entries != NULL && (entry = readdir(entries)) != NULL;) {
        if (found || !text_is_uuid(entry->d_name) || strncmp(entry->d_name, uuid, 18) != 0)
            continue;
        found = network_read_tap(look->rundir, look->name, entry->d_name, tap);
        if (found)
            snprintf(uuid, 37, "%.36s", entry->d_name);
    }
    if (entries != NULL)
        closedir(entries);
    return found;
}

/* ---- what the tap is connected to ---- */

/* Mode and link of a tap that is a bridge's port; false: something else, which only a definition tells. */
static bool bridge_of(const char *tap, char bridge[TAP_NAME_SIZE])
{
    char target[256];
    AUTO_FREE char *link = memory_format("/sys/class/net/%s/master", tap);
    ssize_t length = readlink(link, target, sizeof(target) - 1);

    if (length <= 0)
        return false;
    target[length] = '\0';
    const char *name = strrchr(target, '/');
    snprintf(bridge, TAP_NAME_SIZE, "%.15s", name != NULL ? name + 1 : target);
    AUTO_FREE char *is_bridge = memory_format("/sys/class/net/%s/bridge", bridge);
    AUTO_FREE char *filter = memory_format("%s/vlan_filtering", is_bridge);
    AUTO_FREE char *filters = NULL;
    return access(is_bridge, F_OK) == 0 &&
           (file_read(AT_FDCWD, filter, FDINFO_MAX, false, &filters, NULL, NULL) < 0 ||
            filters[0] == '0');
}

static size_t index_of(const struct adopt_look *look, const json_t *nic)
{
    const char *tap = json_text(look->taps, json_text(nic, "uuid"));

    return tap != NULL ? network_index(look->rundir, look->name, tap) : SIZE_MAX;
}

/* As they were listed before, which their tap files tell; those without one come behind, in the order of their slots. */
static void insert(struct adopt_look *look, json_t *nic)
{
    size_t place = 0, index = index_of(look, nic);
    int slot = placement_slot(json_member(nic, "hvinfo"));
    const json_t *other;

    while ((other = json_array_get(look->nics, place)) != NULL) {
        size_t its_index = index_of(look, other);
        if (its_index > index ||
            (its_index == index && placement_slot(json_member(other, "hvinfo")) > slot))
            break;
        place++;
    }
    json_array_insert_new(look->nics, place, nic);
}

static void add_nic(struct adopt_look *look, const char *id, const char *driver,
                    const json_t *buses, const char *mac)
{
    char uuid[37] = "", tap[TAP_NAME_SIZE] = "", bridge[TAP_NAME_SIZE] = "";
    json_t *place = adopt_place(buses, driver, id);

    if (place == NULL || !adopt_uuid(id, uuid)) {
        messages_add(look->problems, "NIC %s (%s, %s): is none that this suite attaches", id,
                     driver, mac);
        json_decref(place);
        return;
    }
    if (!tap_by_files(look, uuid, tap) && !tap_by_words(look, id, tap))
        messages_add(look->problems, "NIC %s (%s): its tap is not known", id, mac);
    json_t *nic =
        memory_json(json_pack("{s:s, s:s, s:o}", "uuid", uuid, "mac", mac, "hvinfo", place));
    if (tap[0] != '\0' && bridge_of(tap, bridge))
        json_object_set_new(
            nic, "nicparams",
            memory_json(json_pack("{s:s, s:s}", "mode", "bridged", "link", bridge)));
    json_object_set_new(look->taps, uuid, memory_json(json_string(tap)));
    insert(look, nic);
}

void adopt_look_at_nics(struct adopt_look *look, const json_t *devices, const json_t *buses)
{
    size_t i;
    json_t *device;

    json_array_foreach (devices, i, device) {
        const char *id = json_text(device, "name"), *type = json_text(device, "type");
        if (id == NULL || type == NULL || strncmp(type, "child<", 6) != 0)
            continue;
        AUTO_JSON json_t *netdev = adopt_property(look, id, "netdev");
        AUTO_JSON json_t *mac = netdev != NULL ? adopt_property(look, id, "mac") : NULL;
        if (!json_is_string(mac))
            continue;
        AUTO_FREE char *driver = memory_format("%.*s", (int)strcspn(type + 6, ">"), type + 6);
        add_nic(look, id, driver, buses, json_string_value(mac));
    }
}

/* QEMU does not tell the state of a link; the event log holds what the suite has set, the last word of each NIC counts. */
json_t *adopt_read_links(const struct adopt_look *look)
{
    json_t *links = memory_json(json_object());
    AUTO_JSON json_t *events = events_read(look->rundir, look->name, NULL);
    size_t i;
    json_t *event;

    json_array_foreach (events, i, event) {
        const json_t *data = json_member(event, "data");
        const char *action = json_text(data, "action"), *nic = json_text(data, "nic");
        const char *name = json_text(event, "event"), *gone = json_text(data, "device");
        if (strcmp(name, "KVM_SUITE_START") == 0)
            json_object_clear(links);
        if (gone != NULL && strcmp(name, "DEVICE_DELETED") == 0)
            json_object_del(links, gone);
        if (action != NULL && nic != NULL && strncmp(action, "link-", 5) == 0)
            json_object_set_new(links, nic, memory_json(json_string(action)));
    }
    return links;
}
