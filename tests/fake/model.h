/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * As much of QEMU as the suite's programs look at: what was plugged is there when asked for, and what is
 * refused by QEMU (a second device in a slot, a node in use) is refused here. For fake-qmp.c alone.
 */
#ifndef KVM_TESTS_FAKE_MODEL_H
#define KVM_TESTS_FAKE_MODEL_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>
#include "kvm/base/json.h"
#include "kvm/base/memory.h"

struct model {
    const char *status; /* of query-status */
    json_t *devices;    /* id → arguments of device_add */
    json_t *nodes;      /* node-name → arguments of blockdev-add */
    json_t *netdevs;    /* id → arguments of netdev_add */
    json_t *fdsets;     /* number as text → opaque */
    json_t *names;      /* getfd names */
    json_t *settings;   /* of limits, links and the balloon: command and id → arguments */
    json_t *medium;     /* node-name in the drive of the device "cdrom", or null */
    bool tray_open;
    int64_t balloon; /* bytes */
};

/* What a command does to the model: a result, or a refusal with class and text. */
struct answer {
    json_t *result;     /* new reference; NULL: refused */
    char *class, *text; /* owned */
};

static inline void model_begin(struct model *model)
{
    *model = (struct model){.status = "running", .balloon = 256 << 20};
    model->devices = json_object();
    model->nodes = json_object();
    model->netdevs = json_object();
    model->fdsets = json_object();
    model->names = json_object();
    model->settings = json_object();
    model->medium = json_null();
}

static inline void model_release(struct model *model)
{
    json_decref(model->devices);
    json_decref(model->nodes);
    json_decref(model->netdevs);
    json_decref(model->fdsets);
    json_decref(model->names);
    json_decref(model->settings);
    json_decref(model->medium);
}

/* All of it, for a test to look at. */
static inline json_t *model_state(const struct model *model)
{
    return memory_json(json_pack(
        "{s:O, s:O, s:O, s:O, s:O, s:O, s:O, s:b}", "devices", model->devices, "nodes",
        model->nodes, "netdevs", model->netdevs, "fdsets", model->fdsets, "names", model->names,
        "settings", model->settings, "medium", model->medium, "tray_open", (int)model->tray_open));
}

static inline struct answer answer_result(json_t *result)
{
    return (struct answer){.result = memory_json(result)};
}

static inline struct answer answer_refusal(const char *class, char *text)
{
    return (struct answer){.class = memory_copy(class), .text = text};
}

static inline struct answer answer_empty(void)
{
    return answer_result(json_object());
}

static inline const char *model_text(const json_t *object, const char *key)
{
    const char *text = json_text(object, key);
    return text != NULL ? text : "";
}

/* The entry of `table` whose `key` has that value. */
static inline const char *model_find(json_t *table, const char *key, const char *value)
{
    const char *name;
    json_t *entry;
    json_object_foreach (table, name, entry) {
        if (strcmp(model_text(entry, key), value) == 0)
            return name;
    }
    return NULL;
}

static inline struct answer model_device_add(struct model *model, json_t *arguments)
{
    const char *id = model_text(arguments, "id"), *address = model_text(arguments, "addr");
    const char *drive = model_text(arguments, "drive"), *netdev = model_text(arguments, "netdev");
    if (json_object_get(model->devices, id) != NULL)
        return answer_refusal("GenericError", memory_format("Duplicate device ID '%s'", id));
    const char *holder = model_find(model->devices, "addr", address);
    if (address[0] != '\0' && holder != NULL &&
        strcmp(model_text(json_object_get(model->devices, holder), "bus"),
               model_text(arguments, "bus")) == 0)
        return answer_refusal(
            "GenericError",
            memory_format("PCI: slot %s function 0 not available, in use by %s", address, holder));
    if (drive[0] != '\0' && json_object_get(model->nodes, drive) == NULL)
        return answer_refusal(
            "GenericError",
            memory_format("Device needs media, but drive '%s' is not there", drive));
    if (netdev[0] != '\0' && json_object_get(model->netdevs, netdev) == NULL)
        return answer_refusal("GenericError",
                              memory_format("Property 'netdev' can't find value '%s'", netdev));
    json_object_set(model->devices, id, arguments);
    return answer_empty();
}

/* Put an entry into a table, take one out; both refuse as QEMU does. */
static inline struct answer model_put(json_t *table, const char *key, json_t *value)
{
    if (json_object_get(table, key) != NULL)
        return answer_refusal("GenericError", memory_format("Duplicate ID '%s'", key));
    json_object_set(table, key, value);
    return answer_empty();
}

static inline struct answer model_drop(json_t *table, const char *key, const char *class)
{
    if (json_object_del(table, key) != 0)
        return answer_refusal(class, memory_format("'%s' is not there", key));
    return answer_empty();
}

static inline bool model_is_medium(const struct model *model, const char *node)
{
    return json_is_string(model->medium) && strcmp(json_string_value(model->medium), node) == 0;
}

/* With what was set for it. False: there is no such device. */
static inline bool model_device_del(struct model *model, const char *id)
{
    const char *key;
    json_t *setting;
    void *next;
    if (json_object_del(model->devices, id) != 0)
        return false;
    json_object_foreach_safe (model->settings, next, key, setting) {
        if (strstr(key, id) != NULL)
            json_object_del(model->settings, key);
    }
    return true;
}

static inline struct answer model_blockdev_del(struct model *model, const char *node)
{
    if (model_find(model->devices, "drive", node) != NULL || model_is_medium(model, node))
        return answer_refusal("GenericError", memory_format("Node %s is in use", node));
    return model_drop(model->nodes, node, "GenericError");
}

/* The names of getfd that a netdev is made from are used up, also by a netdev that is refused. */
static inline struct answer model_netdev_add(struct model *model, json_t *arguments)
{
    static const char *const keys[] = {"fd", "fds", "vhostfd", "vhostfds"};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        AUTO_FREE char *list = memory_copy(model_text(arguments, keys[i]));
        char *rest = NULL;
        for (char *name = strtok_r(list, ":", &rest); name != NULL;
             name = strtok_r(NULL, ":", &rest))
            if (json_object_del(model->names, name) != 0)
                return answer_refusal(
                    "GenericError",
                    memory_format("File descriptor named '%s' has not been found", name));
    }
    return model_put(model->netdevs, model_text(arguments, "id"), arguments);
}

enum { MODEL_NODE_SIZE = 1 << 20 };

static inline struct answer model_resize(struct model *model, const json_t *arguments)
{
    json_t *node = json_object_get(model->nodes, model_text(arguments, "node-name"));
    if (node == NULL)
        return answer_refusal("GenericError", memory_copy("Cannot find that node"));
    json_object_set_new(node, "size", json_integer(json_number(arguments, "size", 0)));
    return answer_empty();
}

/* The drive of the device "cdrom". */
static inline struct answer model_drive(struct model *model, const char *command,
                                        const json_t *arguments)
{
    const char *node = model_text(arguments, "node-name");
    bool insert = strcmp(command, "blockdev-insert-medium") == 0;
    if (strcmp(command, "blockdev-open-tray") == 0)
        model->tray_open = true;
    else if (strcmp(command, "blockdev-close-tray") == 0)
        model->tray_open = false;
    else if (!model->tray_open)
        return answer_refusal("GenericError", memory_copy("Tray of device 'cdrom' is not open"));
    else if (insert && !json_is_null(model->medium))
        return answer_refusal("GenericError",
                              memory_copy("There already is a medium in device 'cdrom'"));
    else if (insert && json_object_get(model->nodes, node) == NULL)
        return answer_refusal("GenericError", memory_format("Node '%s' not found", node));
    else {
        json_decref(model->medium);
        model->medium = insert ? json_string(node) : json_null();
    }
    return answer_empty();
}

static inline json_t *model_query_block(const struct model *model)
{
    json_t *list = json_array(), *device;
    const char *id;
    json_object_foreach (model->devices, id, device) {
        bool drive = strcmp(id, "cdrom") == 0;
        const char *node = drive ? json_string_value(model->medium) : json_text(device, "drive");
        json_t *inserted = node == NULL ? NULL : json_pack("{s:s}", "node-name", node);
        if (drive || node != NULL)
            json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:o*}", "device", "", "qdev", id,
                                                  "removable", (int)drive, "inserted", inserted));
        if (drive)
            json_object_set_new(json_array_get(list, json_array_size(list) - 1), "tray_open",
                                json_boolean(model->tray_open));
    }
    return list;
}

static inline json_t *model_query_pci(struct model *model)
{
    json_t *devices = json_array();
    const char *id;
    json_t *device;
    for (int slot = 0; slot < 2; slot++)
        json_array_append_new(devices, json_pack("{s:i, s:i, s:i, s:s}", "bus", 0, "slot", slot,
                                                 "function", 0, "qdev_id", ""));
    json_object_foreach (model->devices, id, device) {
        const char *address = json_text(device, "addr");
        if (address != NULL)
            json_array_append_new(devices, json_pack("{s:i, s:i, s:i, s:s}", "bus", 0, "slot",
                                                     (int)strtol(address, NULL, 16), "function", 0,
                                                     "qdev_id", id));
    }
    return json_pack("[{s:i, s:o}]", "bus", 0, "devices", devices);
}

static inline json_t *model_query_nodes(struct model *model)
{
    json_t *nodes = json_array();
    const char *name;
    json_t *node;
    json_object_foreach (model->nodes, name, node) {
        json_int_t size = (json_int_t)json_number(node, "size", MODEL_NODE_SIZE);
        json_array_append_new(nodes, json_pack("{s:s, s:s, s:b, s:{s:I}}", "node-name", name, "drv",
                                               model_text(node, "driver"), "ro",
                                               json_truth(node, "read-only", false), "image",
                                               "virtual-size", size));
    }
    return nodes;
}

static inline json_t *model_query_fdsets(struct model *model)
{
    json_t *sets = json_array();
    const char *number;
    json_t *opaque;
    json_object_foreach (model->fdsets, number, opaque) {
        json_array_append_new(sets, json_pack("{s:i, s:[{s:i, s:O}]}", "fdset-id",
                                              (int)strtol(number, NULL, 10), "fds", "fd", 9,
                                              "opaque", opaque));
    }
    return sets;
}

static inline json_t *model_qom_list(struct model *model)
{
    json_t *list = json_pack("[{s:s, s:s}]", "name", "type", "type", "string");
    const char *id;
    json_t *device;
    json_object_foreach (model->devices, id, device) {
        AUTO_FREE char *type = memory_format("child<%s>", model_text(device, "driver"));
        json_array_append_new(list, json_pack("{s:s, s:s}", "name", id, "type", type));
    }
    return list;
}

/* The first number that no set has; the caller frees its text. */
static inline char *model_free_set(const struct model *model, int64_t *number)
{
    for (*number = 0;; (*number)++) {
        char *text = memory_format("%lld", (long long)*number);
        if (json_object_get(model->fdsets, text) == NULL)
            return text;
        free(text);
    }
}

static inline struct answer model_fds(struct model *model, const char *command, json_t *arguments,
                                      size_t descriptors)
{
    AUTO_FREE char *set = memory_format("%lld", (long long)json_number(arguments, "fdset-id", 0));
    const char *name = model_text(arguments, "fdname");
    bool brings = strcmp(command, "add-fd") == 0 || strcmp(command, "getfd") == 0;
    if (brings && descriptors != 1)
        return answer_refusal("GenericError",
                              memory_copy("No file descriptor supplied via SCM_RIGHTS"));
    if (strcmp(command, "getfd") == 0) { /* a name that is there already gets the new descriptor */
        json_object_set_new(model->names, name, json_true());
        return answer_empty();
    }
    if (strcmp(command, "closefd") == 0)
        return model_drop(model->names, name, "GenericError");
    if (strcmp(command, "remove-fd") == 0)
        return model_drop(model->fdsets, set, "GenericError");
    int64_t number = json_number(arguments, "fdset-id", -1);
    AUTO_FREE char *free_set = number < 0 ? model_free_set(model, &number) : memory_copy(set);
    json_object_set_new(model->fdsets, free_set, json_string(model_text(arguments, "opaque")));
    return answer_result(json_pack("{s:I, s:i}", "fdset-id", (json_int_t)number, "fd", 9));
}

static inline struct answer model_query(struct model *model, const char *command)
{
    if (strcmp(command, "query-status") == 0)
        return answer_result(json_pack("{s:s, s:b, s:b}", "status", model->status, "running",
                                       strcmp(model->status, "running") == 0, "singlestep", 0));
    if (strcmp(command, "query-pci") == 0)
        return answer_result(model_query_pci(model));
    if (strcmp(command, "query-named-block-nodes") == 0)
        return answer_result(model_query_nodes(model));
    if (strcmp(command, "query-fdsets") == 0)
        return answer_result(model_query_fdsets(model));
    if (strcmp(command, "query-block") == 0)
        return answer_result(model_query_block(model));
    if (strcmp(command, "query-balloon") == 0)
        return answer_result(json_pack("{s:I}", "actual", (json_int_t)model->balloon));
    if (strcmp(command, "query-version") == 0)
        return answer_result(json_pack("{s:{s:i, s:i, s:i}, s:s}", "qemu", "major", 7, "minor", 2,
                                       "micro", 0, "package", ""));
    if (strcmp(command, "query-migrate") == 0)
        return answer_empty();
    return answer_result(json_array());
}

static inline struct answer model_execute(struct model *model, const char *command,
                                          json_t *arguments, size_t descriptors)
{
    if (strcmp(command, "-") == 0) /* that ends a command which is not to be executed */
        return answer_refusal("CommandNotFound", memory_copy("The command - has not been found"));
    if (strcmp(command, "device_add") == 0)
        return model_device_add(model, arguments);
    if (strcmp(command, "device_del") == 0)
        return model_device_del(model, model_text(arguments, "id"))
                   ? answer_empty()
                   : answer_refusal("DeviceNotFound", memory_copy("no such device"));
    if (strcmp(command, "blockdev-add") == 0)
        return model_put(model->nodes, model_text(arguments, "node-name"), arguments);
    if (strcmp(command, "blockdev-del") == 0)
        return model_blockdev_del(model, model_text(arguments, "node-name"));
    if (strcmp(command, "netdev_add") == 0)
        return model_netdev_add(model, arguments);
    if (strcmp(command, "netdev_del") == 0)
        return model_drop(model->netdevs, model_text(arguments, "id"), "DeviceNotFound");
    if (strstr("add-fd remove-fd getfd closefd", command) != NULL)
        return model_fds(model, command, arguments, descriptors);
    if (strcmp(command, "block_resize") == 0)
        return model_resize(model, arguments);
    if (strstr("blockdev-open-tray blockdev-close-tray blockdev-insert-medium "
               "blockdev-remove-medium",
               command) != NULL)
        return model_drive(model, command, arguments);
    if (strcmp(command, "qom-list") == 0)
        return answer_result(model_qom_list(model));
    if (strstr("block_set_io_throttle set_link balloon", command) != NULL) {
        const char *id = model_text(arguments, "id"), *name = model_text(arguments, "name");
        AUTO_FREE char *key = memory_format("%s %s%s", command, id, name);
        json_object_set(model->settings, key, arguments);
    }
    if (strcmp(command, "balloon") == 0)
        model->balloon = json_number(arguments, "value", model->balloon);
    if (strncmp(command, "query-", strlen("query-")) == 0)
        return model_query(model, command);
    return answer_empty();
}

#endif
