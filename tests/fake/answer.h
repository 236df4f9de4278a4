/* SPDX-License-Identifier: BSD-2-Clause */
/* How fake-qmp answers a command: by its script, else as its model does; what it writes down of it; how devices go. */
#ifndef KVM_TESTS_FAKE_ANSWER_H
#define KVM_TESTS_FAKE_ANSWER_H

#include "client.h"

static void log_command(const char *command, json_t *arguments, size_t descriptors)
{
    if (fake.log == NULL)
        return;
    json_t *line = memory_json(json_pack("{s:I, s:s, s:O, s:I}", "n", (json_int_t)fake.commands,
                                         "execute", command, "arguments", arguments, "descriptors",
                                         (json_int_t)descriptors));
    AUTO_FREE char *text = json_dumps(line, JSON_COMPACT);
    AUTO_FREE char *whole = memory_format("%s\n", text);
    json_decref(line);
    int log = open(fake.log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (log < 0 || file_write_all(log, whole, strlen(whole)) != 0)
        die(fake.log);
    close(log);
}

static void write_state(void)
{
    if (fake.state == NULL)
        return;
    AUTO_JSON json_t *state = model_state(&fake.model);
    AUTO_FREE char *temporary = memory_format("%s.new", fake.state);
    if (json_dump_file(state, temporary, JSON_COMPACT | JSON_SORT_KEYS) != 0 ||
        rename(temporary, fake.state) != 0)
        die(fake.state);
}

static bool goes(const char *how)
{
    return strcmp(fake.deleted, how) == 0;
}

static void device_deleted(const char *id)
{
    AUTO_FREE char *path = memory_format("/machine/peripheral/%s", id);
    AUTO_FREE char *backend = memory_format("%s/virtio-backend", path);
    send_event("DEVICE_DELETED", json_pack("{s:s}", "path", backend));
    if (goes("other"))
        send_event("DEVICE_DELETED",
                   json_pack("{s:s, s:s}", "device", "other", "path", "/machine/peripheral/other"));
    else if (!goes("path"))
        send_event("DEVICE_DELETED", json_pack("{s:s, s:s}", "device", id, "path", path));
}

/* The guest was asked for the device; what it does about it is in the script. */
static struct answer request_removal(const char *id)
{
    bool stays = goes("never") || goes("reset") || goes("late") || goes("refused");
    if (!stays || json_object_get(fake.model.devices, id) == NULL)
        return model_device_del(&fake.model, id)
                   ? answer_empty()
                   : answer_refusal("DeviceNotFound", memory_format("Device '%s' not found", id));
    bool again = json_object_get(fake.unplugging, id) != NULL;
    json_object_set_new(fake.unplugging, id, json_true());
    if (again && goes("late"))
        return answer_refusal("GenericError",
                              memory_format("Device %s is already in the process of unplug", id));
    return answer_empty();
}

/* What becomes of a request besides its reply. */
static void follow_removal(const char *id, bool done)
{
    if (goes("refused"))
        send_event("DEVICE_UNPLUG_GUEST_ERROR",
                   json_pack("{s:s, s:s}", "device", id, "path", "/machine/peripheral/x"));
    if (goes("late") && !done && model_device_del(&fake.model, id))
        device_deleted(id);
    else if (done && !goes("ahead") && json_object_get(fake.unplugging, id) == NULL)
        device_deleted(id);
}

/* A reset completes what the guest was asked for and did not answer. */
static void reset(void)
{
    const char *id;
    json_t *asked;
    send_event("RESET", json_pack("{s:b, s:s}", "guest", 0, "reason", "host-qmp-system-reset"));
    json_object_foreach (fake.unplugging, id, asked) {
        if (goes("reset") && model_device_del(&fake.model, id))
            device_deleted(id);
    }
}

/* What comes of a command besides its reply. */
static void follow_up(const char *command, const json_t *arguments, bool done)
{
    if (strcmp(command, "device_del") == 0)
        follow_removal(model_text(arguments, "id"), done);
    if (!done)
        return;
    if (strcmp(command, "cont") == 0) {
        fake.model.status = "running";
        send_event("RESUME", NULL);
    } else if (strcmp(command, "stop") == 0) {
        fake.model.status = "paused";
        send_event("STOP", NULL);
    } else if (strcmp(command, "system_reset") == 0) {
        reset();
    } else if (strcmp(command, "system_powerdown") == 0) {
        send_event("POWERDOWN", NULL);
        send_event("SHUTDOWN", json_pack("{s:b, s:s}", "guest", 1, "reason", "guest-shutdown"));
        fake.ended = true;
    } else if (strcmp(command, "quit") == 0) {
        send_event("SHUTDOWN", json_pack("{s:b, s:s}", "guest", 0, "reason", "host-qmp-quit"));
        fake.ended = true;
    }
}

/* The rule for this command by its number, else by its name. */
static const char *rule_for(const char *verb, const char *command)
{
    AUTO_FREE char *number = memory_format("%zu", fake.commands);
    const char *by_number = script_rest(&fake.script, verb, number);
    return by_number != NULL ? by_number : script_rest(&fake.script, verb, command);
}

static struct answer answer_command(const char *command, json_t *arguments, size_t descriptors)
{
    const char *fail = rule_for("fail", command), *given = rule_for("return", command);
    const char *big = rule_for("big", command);
    if (fail != NULL) {
        size_t class = strcspn(fail, " ");
        AUTO_FREE char *name = memory_format("%.*s", (int)class, fail);
        const char *text = fail[class] != '\0' ? fail + class + 1 : "the script says so";
        return answer_refusal(class > 0 ? name : "GenericError", memory_copy(text));
    }
    if (given != NULL)
        return answer_result(json_loads(given, JSON_DECODE_ANY, NULL));
    if (big != NULL) {
        size_t size = (size_t)strtoull(big, NULL, 10);
        AUTO_FREE char *text = memory_zeroed(size + 1, 1);
        return answer_result(json_string(memset(text, 'x', size)));
    }
    if (strcmp(command, "device_del") == 0)
        return request_removal(model_text(arguments, "id"));
    return model_execute(&fake.model, command, arguments, descriptors);
}

#endif
