/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "kvm/base/clock.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "kvm/base/text.h"
#include "kvm/qemu/qmp.h"
#include "probe_private.h"
#include "kvm/state/check.h"
#include "kvm/state/hardware.h"

enum { ASK_MS = 10 * 1000, QUIT_MS = 1000, STDERR_SIZE = 1024, STDERR_WAIT_MS = 200 };

/* A QEMU that runs nothing, with its monitor on our end of a socket pair. */
struct asked {
    pid_t pid;
    int pidfd;
    int monitor; /* -1 once the connection has it */
    int errors;  /* what it writes on stderr; non-blocking */
};

static void asked_end(struct asked *asked)
{
    if (asked->pid > 0)
        process_end_child(asked->pid, asked->pidfd);
    memory_close(&asked->pidfd);
    memory_close(&asked->monitor);
    memory_close(&asked->errors);
}

static int asked_start(const char *binary, struct asked *asked, struct error *error)
{
    const char *const argv[] = {binary,
                                "-machine",
                                "none",
                                "-nodefaults",
                                "-no-user-config",
                                "-display",
                                "none",
                                "-S",
                                "-chardev",
                                "socket,id=qmp,fd=3",
                                "-mon",
                                "chardev=qmp,mode=control",
                                NULL};
    int pair[2], errors[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return error_errno(error, STATUS_FAILED, "socketpair");
    asked->monitor = pair[0];
    AUTO_CLOSE int theirs = pair[1];
    if (pipe2(errors, O_CLOEXEC) != 0)
        return error_errno(error, STATUS_FAILED, "pipe");
    asked->errors = errors[0];
    AUTO_CLOSE int their_errors = errors[1];
    if (fcntl(asked->errors, F_SETFL, O_NONBLOCK) != 0)
        return error_errno(error, STATUS_FAILED, "fcntl");
    const struct process_spec spec = {
        .argv = argv,
        .descriptors = &theirs,
        .descriptor_count = 1,
        .input = -1,
        .output = -1,
        .errors = their_errors,
        .new_session = true,
        .die_with_parent = true,
        .no_core = true,
        .no_new_privs = true,
        .pid_lock = -1,
    };
    asked->pid = process_spawn(&spec, &asked->pidfd, error);
    return asked->pid > 0 ? 0 : -1;
}

/* Why it did not answer stands in the first line on its stderr. */
static int fail_with_stderr(const struct asked *asked, struct error *error)
{
    char text[STDERR_SIZE] = "";
    size_t length = 0;
    struct pollfd poller = {asked->errors, POLLIN, 0};
    deadline_t deadline = clock_deadline(STDERR_WAIT_MS);
    while (length < sizeof(text) && memchr(text, '\n', length) == NULL &&
           poll(&poller, 1, clock_poll_ms(deadline)) > 0) {
        ssize_t got = read(asked->errors, text + length, sizeof(text) - length);
        if (got <= 0)
            break;
        length += (size_t)got;
    }
    const char *newline = memchr(text, '\n', length);
    if (newline != NULL)
        length = (size_t)(newline - text);
    if (length == 0)
        return -1;
    AUTO_FREE char *line = text_escape(text, length);
    return error_append(error, "; it said: %s", line);
}

/* [{"name", "alias"?, "is-default"?}, …] to {"": default, name: name, alias: name} */
static json_t *machine_names(const json_t *machines)
{
    json_t *names = memory_json(json_object());
    for (size_t i = 0; i < json_array_size(machines); i++) {
        const json_t *machine = json_array_get(machines, i);
        json_t *name = json_object_get(machine, "name");
        const char *alias = json_text(machine, "alias");
        if (!json_is_string(name))
            continue;
        json_object_set(names, json_string_value(name), name);
        if (alias != NULL)
            json_object_set(names, alias, name);
        if (json_truth(machine, "is-default", false))
            json_object_set(names, "", name);
    }
    return names;
}

/* The same list to {name: how many vCPUs it takes at the most}. */
static json_t *machine_vcpus(const json_t *machines)
{
    json_t *most = memory_json(json_object());
    for (size_t i = 0; i < json_array_size(machines); i++) {
        const json_t *machine = json_array_get(machines, i);
        const char *name = json_text(machine, "name");
        json_t *count = json_object_get(machine, "cpu-max");
        if (name != NULL && json_is_integer(count))
            json_object_set(most, name, count);
    }
    return most;
}

static json_t *cpu_names(const json_t *models)
{
    json_t *names = memory_json(json_array());
    for (size_t i = 0; i < json_array_size(models); i++) {
        json_t *name = json_object_get(json_array_get(models, i), "name");
        if (json_is_string(name))
            json_array_append(names, name);
    }
    return names;
}

/* The names of the properties of the model "max", which has all that any other has. */
static json_t *cpu_features(struct qmp *qmp, const json_t *models, deadline_t deadline)
{
    const char *type = json_text(json_find(models, "name", "max"), "typename");
    AUTO_JSON json_t *properties = NULL;
    AUTO_FREE char *names = memory_copy("");

    if (type != NULL)
        qmp_call(qmp, "qom-list-properties", memory_json(json_pack("{s:s}", "typename", type)),
                 deadline, &properties, NULL);
    for (size_t i = 0; i < json_array_size(properties); i++) {
        const char *name = json_text(json_array_get(properties, i), "name");
        if (name == NULL || strchr(name, ' ') != NULL)
            continue;
        AUTO_FREE char *before = names;
        names = memory_format("%s%s%s", before, *before != '\0' ? " " : "", name);
    }
    return memory_json(json_string(names));
}

/* The names of interest among all types. The question makes QEMU load its modules (30 ms on 7.2). */
static json_t *type_names(const json_t *types)
{
    json_t *names = memory_json(json_array());
    for (size_t i = 0; i < json_array_size(types); i++) {
        const char *name = json_text(json_array_get(types, i), "name");
        if (name != NULL && check_is_one_of(name, hardware_all_types))
            json_array_append_new(names, memory_json(json_string(name)));
    }
    return names;
}

static int ask(struct qmp *qmp, deadline_t deadline, struct probe *probe, struct error *error)
{
    AUTO_JSON json_t *machines = NULL, *options = NULL, *types = NULL, *cpus = NULL;
    if (qmp_call(qmp, "query-machines", NULL, deadline, &machines, error) != QMP_DONE ||
        qmp_call(qmp, "query-command-line-options", NULL, deadline, &options, error) != QMP_DONE ||
        qmp_call(qmp, "qom-list-types", NULL, deadline, &types, error) != QMP_DONE)
        return -1;
    /* A build without it does not tell its models; then none is refused before the start. */
    if (qmp_call(qmp, "query-cpu-definitions", NULL, deadline, &cpus, error) == QMP_UNKNOWN)
        return -1;
    const json_t *version = qmp_version(qmp);
    probe->major = (int)json_number(version, "major", 0);
    probe->minor = (int)json_number(version, "minor", 0);
    probe->micro = (int)json_number(version, "micro", 0);
    /* An option that this build does not have is not in the list. */
    probe->has_sandbox = json_find(options, "option", "sandbox") != NULL;
    const json_t *run_with =
        json_object_get(json_find(options, "option", "run-with"), "parameters");
    probe->run_with_chroot = json_find(run_with, "name", "chroot") != NULL;
    probe->run_with_user = json_find(run_with, "name", "user") != NULL;
    probe->null_event_log = true;
    probe->types = type_names(types);
    probe->machines = machine_names(machines);
    probe->vcpus = machine_vcpus(machines);
    probe->cpus = cpu_names(cpus);
    probe->features = cpu_features(qmp, cpus, deadline);
    if (json_object_size(probe->machines) > 0)
        return 0;
    probe_release(probe);
    return error_set(error, STATUS_FAILED, "query-machines: it has none");
}

static int refused_nodes(struct qmp *qmp, const json_t *node, deadline_t deadline,
                         struct error *error)
{
    struct error first = {0}, second = {0};
    AUTO_JSON json_t *asked = memory_json(json_deep_copy(node));
    json_t *known = memory_json(json_pack("{s:s, s:s, s:s}", "driver", "null-co", "node-name",
                                          "kvm-suite-probe", "detect-zeroes", "unmap"));

    /* Zeroes can't be unmapped without discard: every driver that is there is refused with these very words, before
     * it opens anything. */
    json_object_update_missing(asked, known);
    if (qmp_call(qmp, "blockdev-add", known, deadline, NULL, &first) != QMP_REFUSED ||
        qmp_call(qmp, "blockdev-add", json_incref(asked), deadline, NULL, &second) != QMP_REFUSED)
        return error_set(error, STATUS_FAILED, "its block drivers can't be asked for");
    if (strcmp(first.text, second.text) == 0)
        return 0;
    return error_set(error, STATUS_USAGE, "%s", second.text);
}

static int with_asked(const char *binary, deadline_t deadline, const json_t *node, bool open,
                      struct error *error)
{
    __attribute__((cleanup(asked_end))) struct asked asked = {0, -1, -1, -1};
    if (asked_start(binary, &asked, error) != 0)
        return error_prefix(error, "%s", binary);
    int monitor = asked.monitor;
    asked.monitor = -1;
    AUTO_QMP struct qmp *qmp = qmp_adopt(monitor, "the monitor", false, deadline, error);
    if (qmp == NULL)
        return error_prefix(error, "%s", binary);
    if (!open)
        return refused_nodes(qmp, node, deadline, error);
    json_t *named = memory_json(json_deep_copy(node));
    json_object_set_new(named, "node-name", memory_json(json_string("kvm-suite-probe")));
    json_object_set_new(named, "read-only", json_true());
    return qmp_call(qmp, "blockdev-add", named, deadline, NULL, error) == QMP_DONE ? 0 : -1;
}

int probe_node(const char *binary, const json_t *node, struct error *error)
{
    return with_asked(binary, clock_deadline(ASK_MS), node, false, error);
}

int probe_open(const char *binary, const json_t *node, deadline_t deadline, struct error *error)
{
    return with_asked(binary, deadline, node, true, error);
}

int probe_ask(const char *binary, struct probe *probe, struct error *error)
{
    __attribute__((cleanup(asked_end))) struct asked asked = {0, -1, -1, -1};
    deadline_t deadline = clock_deadline(ASK_MS);
    if (asked_start(binary, &asked, error) != 0)
        return error_prefix(error, "%s", binary);
    int monitor = asked.monitor;
    asked.monitor = -1;
    AUTO_QMP struct qmp *qmp = qmp_adopt(monitor, "the monitor", false, deadline, error);
    if (qmp == NULL || ask(qmp, deadline, probe, error) != 0) {
        if (error != NULL && error->status == STATUS_TIMEOUT)
            error_set(error, STATUS_FAILED, "no answer within %d s", ASK_MS / 1000);
        error_prefix(error, "%s: it does not work as QEMU", binary);
        return fail_with_stderr(&asked, error);
    }
    if (qmp_call(qmp, "quit", NULL, clock_deadline(QUIT_MS), NULL, NULL) == QMP_DONE)
        process_wait_gone(asked.pidfd, clock_deadline(QUIT_MS));
    return 0;
}
