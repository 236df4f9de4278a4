/* SPDX-License-Identifier: BSD-2-Clause */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvm/operations/teardown.h"
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "kvm/base/text.h"
#include "kvm/base/transaction.h"
#include "kvm/host/network.h"
#include "kvm/host/swtpm.h"
#include "kvm/host/tap.h"
#include "kvm/operations/quarantine.h"

struct teardown {
    const struct rundir *rundir;
    const struct node *node;
    const char *name;
    const struct runtime *runtime; /* NULL: unknown */
    const struct teardown_options *options;
    struct messages *warnings;
    struct messages failures;
};

/* Single files of an instance. What a reboot keeps comes last; the runtime file is the very last. */
static const struct {
    enum rundir_file file;
    bool kept_for_reboot;
    const char *what;
} files[] = {
    {RUNDIR_MONITOR, false, "monitor socket"},
    {RUNDIR_QMP, false, "monitor socket"},
    {RUNDIR_QUERY, false, "monitor socket"},
    {RUNDIR_KVMD, false, "socket of the shutdown watcher"},
    {RUNDIR_EVENTS_SOCKET, false, "socket of the event log"},
    {RUNDIR_SHUTDOWN, false, "mark that the user shut it down"},
    {RUNDIR_SERIAL, false, "serial console socket"},
    {RUNDIR_AGENT, false, "guest agent socket"},
    {RUNDIR_VNC, false, "VNC socket"},
    {RUNDIR_SPICE, false, "SPICE socket"},
    {RUNDIR_TUNNEL, false, "socket for the memory of a migration"},
    {RUNDIR_KEYMAP, false, "keymap"},
    {RUNDIR_TPM, false, "pid file of the TPM's emulator"},
    {RUNDIR_PID, false, "pid file"},
    {RUNDIR_UID, true, "uid taken from the pool"},
    {RUNDIR_EVENTS, true, "event log"},
    {RUNDIR_LOG, true, "messages of QEMU"},
    {RUNDIR_RUNTIME, true, "runtime file"},
};

__attribute__((format(printf, 2, 3))) static void tell(const struct teardown *teardown,
                                                       const char *format, ...)
{
    char text[ERROR_TEXT_MAX];
    va_list arguments;

    if (teardown->options == NULL || teardown->options->observe == NULL)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    teardown->options->observe(text);
}

static void note_failure(struct teardown *teardown, const struct error *error)
{
    messages_add(&teardown->failures, "%s", error->text);
}

static bool is_directory(const struct rundir *rundir, const char *path)
{
    struct stat status;

    return fstatat(rundir->fd, path, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode);
}

/* Nothing of ours makes a directory there: what it holds is somebody's. */
static void remove_path(struct teardown *teardown, const char *path)
{
    struct error error = {0};

    if (!is_directory(teardown->rundir, path)) {
        if (file_remove(teardown->rundir->fd, path, NULL, &error) < 0)
            note_failure(teardown, &error);
        return;
    }
    AUTO_FREE char *moved = quarantine_move(teardown->rundir, teardown->name, path, "odd", &error);
    if (moved == NULL)
        note_failure(teardown, &error);
    else
        messages_add(teardown->warnings, "%s/%s was a directory: moved to %s",
                     teardown->rundir->path, path, moved);
}

static void remove_one(struct teardown *teardown, const char *name)
{
    AUTO_FREE char *temporary = file_temporary(name);

    remove_path(teardown, name);
    remove_path(teardown, temporary);
}

/* The runtime file that could not be read: what it tells may still be of use to a person. */
static void keep_damaged(struct teardown *teardown, const char *path)
{
    struct error error = {0};

    if (!file_exists(teardown->rundir->fd, path))
        return;
    AUTO_FREE char *moved =
        quarantine_move(teardown->rundir, teardown->name, path, "runtime", &error);
    if (moved == NULL)
        note_failure(teardown, &error);
    else
        messages_add(teardown->warnings, "the runtime file can't be read: %s; moved to %s",
                     teardown->options->fault != NULL ? teardown->options->fault : "damaged",
                     moved);
}

/* ---- network ---- */

static void take_down_nics(struct teardown *teardown)
{
    const struct instance *instance = &teardown->runtime->instance;
    char tap[TAP_NAME_SIZE];

    for (size_t i = 0; i < instance->nic_count; i++) {
        const struct nic *nic = &instance->nics[i];
        struct error error = {0};
        if (!network_find_tap(teardown->rundir, instance, i, 0, tap))
            continue;
        size_t index = network_index(teardown->rundir, teardown->name, tap);
        tell(teardown, "run ifdown for NIC %s (tap %s)", nic->uuid, tap);
        if (network_ifdown(instance, nic, index != SIZE_MAX ? index : i, tap,
                           teardown->options->only_local, teardown->node->path,
                           teardown->options->deadline, &error) < 0 ||
            network_forget_tap(teardown->rundir, teardown->name, nic->uuid, tap, &error) < 0)
            note_failure(teardown, &error);
    }
}

/* Calls `each` for every entry of nic/NAME that is a tap file. */
static void each_tap_file(const struct rundir *rundir, const char *name,
                          void (*each)(void *context, const char *ident, const char *tap),
                          void *context)
{
    char directory[RUNDIR_PATH_MAX], tap[TAP_NAME_SIZE];

    rundir_name(RUNDIR_NIC, name, directory);
    int descriptor = openat(rundir->fd, directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *entries = file_entries(descriptor);
    for (struct dirent *entry; entries != NULL && (entry = readdir(entries)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        bool known = network_read_tap(rundir, name, entry->d_name, tap);
        each(context, entry->d_name, known ? tap : NULL);
    }
    if (entries != NULL)
        closedir(entries);
}

static void warn_of_tap(void *context, const char *ident, const char *tap)
{
    struct teardown *teardown = context;

    if (text_is_uuid(ident))
        messages_add(teardown->warnings,
                     "NIC %s (tap %s): ifdown was not run since no runtime file tells its "
                     "configuration",
                     ident, tap != NULL ? tap : "unknown");
}

/* What is left in nic/NAME belongs to no NIC of the runtime, or is a temporary file. */
static void remove_nic_directory(struct teardown *teardown)
{
    char directory[RUNDIR_PATH_MAX];
    struct error error = {0};

    rundir_name(RUNDIR_NIC, teardown->name, directory);
    int descriptor =
        openat(teardown->rundir->fd, directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (descriptor < 0 && errno == ENOENT)
        return;
    if (descriptor < 0) {
        remove_one(teardown, directory); /* a planted link or file: itself, not what it leads to */
        return;
    }
    DIR *entries = file_entries(descriptor);
    for (struct dirent *entry; entries != NULL && (entry = readdir(entries)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            unlinkat(dirfd(entries), entry->d_name, 0);
    if (entries != NULL)
        closedir(entries);
    if (unlinkat(teardown->rundir->fd, directory, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return;
    if (errno == ENOTEMPTY) {
        remove_path(teardown, directory); /* a directory in it is not ours either */
        return;
    }
    error_errno(&error, STATUS_INCOMPLETE, "%s/%s", teardown->rundir->path, directory);
    note_failure(teardown, &error);
}

/* ---- chroot ---- */

/* An empty one goes; anything in it is foreign and moves to quarantine, never deleted, never looked into. */
static void remove_chroot(struct teardown *teardown)
{
    char name[RUNDIR_PATH_MAX];
    struct error error = {0};

    rundir_name(RUNDIR_CHROOT, teardown->name, name);
    if (unlinkat(teardown->rundir->fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return;
    if (errno == ENOTDIR) {
        remove_one(teardown, name);
        return;
    }
    AUTO_FREE char *moved = quarantine_move(teardown->rundir, teardown->name, name, "", &error);
    if (moved == NULL)
        note_failure(teardown, &error);
    else
        messages_add(teardown->warnings, "the chroot was not empty: moved to %s", moved);
}

int teardown_chroot(const struct rundir *rundir, const char *name, struct messages *warnings,
                    struct error *error)
{
    struct teardown teardown = {.rundir = rundir, .name = name, .warnings = warnings};

    remove_chroot(&teardown);
    if (teardown.failures.count == 0)
        return 0;
    messages_error(&teardown.failures, STATUS_INCOMPLETE, error);
    messages_release(&teardown.failures);
    return -1;
}

/* ---- the whole ---- */

/* Also when the holder can't be told: what is not known to be dead is not taken for dead. */
static bool pid_file_is_locked(const struct rundir *rundir, const char *name)
{
    char path[RUNDIR_PATH_MAX];

    rundir_name(RUNDIR_PID, name, path);
    AUTO_CLOSE int descriptor = openat(rundir->fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    return descriptor >= 0 && process_lock_holder(descriptor) != 0;
}

int teardown_run(const struct rundir *rundir, const struct node *node, const char *name,
                 const struct runtime *runtime, const struct teardown_options *options,
                 struct messages *warnings, struct error *error)
{
    struct teardown teardown = {rundir, node, name, runtime, options, warnings, {0}};

    if (pid_file_is_locked(rundir, name))
        return error_set(error, STATUS_STATE, "QEMU still runs; 'kvm-stop %s' stops it", name);
    struct error left = {0};
    if (options->lasting != NULL)
        tell(&teardown, "remove what outlives it (NVRAM, state of the TPM)");
    lasting_remove_temporary(node, name, runtime);
    /* A state that its emulator has open stays. */
    if (swtpm_end(rundir, name, options->deadline, &left) < 0 ||
        (options->lasting != NULL &&
         lasting_remove(node, name, runtime, options->lasting, &left) < 0))
        note_failure(&teardown, &left);
    if (runtime != NULL)
        take_down_nics(&teardown);
    else
        each_tap_file(rundir, name, warn_of_tap, &teardown);
    /* A NIC of which ifdown failed keeps its mark. */
    if (teardown.failures.count == 0)
        remove_nic_directory(&teardown);
    remove_chroot(&teardown);
    struct error kept = {0};
    if (runtime != NULL && teardown_remove_vnc_socket(&runtime->instance, &kept) < 0)
        note_failure(&teardown, &kept);
    for (size_t i = 0; i < COUNT(files); i++) {
        char path[RUNDIR_PATH_MAX];
        /* After a failure the next clean-up needs the runtime, and the log to tell how it ended. */
        if ((options->keep_runtime || teardown.failures.count > 0) && files[i].kept_for_reboot)
            continue;
        rundir_name(files[i].file, name, path);
        if (file_exists(rundir->fd, path))
            tell(&teardown, "remove the %s (%s)", files[i].what, path);
        if (files[i].file == RUNDIR_RUNTIME && runtime == NULL)
            keep_damaged(&teardown, path);
        remove_one(&teardown, path);
    }
    /* What was removed stays removed after a power cut. */
    struct error unsynced = {0};
    if (teardown.failures.count == 0 &&
        (file_sync_directory(rundir->fd, "conf/runtime", &unsynced) < 0 ||
         file_sync_directory(rundir->fd, "nic/tap", &unsynced) < 0) &&
        !file_is_missing())
        note_failure(&teardown, &unsynced);
    if (teardown.failures.count == 0)
        return 0;
    messages_error(&teardown.failures, STATUS_INCOMPLETE, error);
    messages_release(&teardown.failures);
    return error_append(error, "; 'kvm-cleanup %s%s' tries again",
                        options->lasting != NULL && options->lasting->all ? "--remove-state " : "",
                        name);
}

/* ---- explain ---- */

static void found(json_t *list, const char *finding, const char *action)
{
    json_array_append_new(
        list, memory_json(json_pack("{s:s, s:s}", "finding", finding, "action", action)));
}

struct explain {
    json_t *list;
    const struct teardown *teardown;
};

static void explain_tap(void *context, const char *ident, const char *tap)
{
    const struct explain *explain = context;
    const struct runtime *runtime = explain->teardown->runtime;

    if (!text_is_uuid(ident))
        return;
    AUTO_FREE char *finding = memory_format(
        "nic/%s/%s: NIC still configured, tap %s (%s)", explain->teardown->name, ident,
        tap != NULL ? tap : "unknown", tap != NULL && tap_exists(tap) ? "there" : "gone");
    found(explain->list, finding,
          runtime != NULL ? "run ifdown, remove the tap files"
                          : "remove the tap files (no runtime file tells how to run ifdown)");
}

static void explain_chroot(json_t *list, const struct rundir *rundir, const char *name)
{
    char path[RUNDIR_PATH_MAX];
    struct stat status;

    rundir_name(RUNDIR_CHROOT, name, path);
    if (fstatat(rundir->fd, path, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return;
    AUTO_FREE char *finding = memory_format("%s: chroot", path);
    int descriptor = openat(rundir->fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *entries = file_entries(descriptor);
    int count = 0;
    while (entries != NULL && readdir(entries) != NULL)
        count++;
    if (entries != NULL)
        closedir(entries);
    found(list, finding, count > 2 ? "move its content to chroot-quarantine" : "remove");
}

json_t *teardown_explain(const struct rundir *rundir, const struct node *node, const char *name,
                         const struct runtime *runtime)
{
    struct teardown teardown = {rundir, node, name, runtime, NULL, NULL, {0}};
    json_t *list = memory_json(json_array());
    struct explain explain = {list, &teardown};

    each_tap_file(rundir, name, explain_tap, &explain);
    explain_chroot(list, rundir, name);
    AUTO_FREE char *vnc = runtime == NULL ? NULL : teardown_vnc_socket(&runtime->instance);
    if (vnc != NULL) {
        AUTO_FREE char *finding = memory_format("%s: VNC socket", vnc);
        found(list, finding, "remove");
    }
    for (size_t i = 0; i < COUNT(files); i++) {
        char path[RUNDIR_PATH_MAX];
        rundir_name(files[i].file, name, path);
        AUTO_FREE char *temporary = file_temporary(path);
        if (file_exists(rundir->fd, path)) {
            bool odd = is_directory(rundir, path);
            bool damaged = files[i].file == RUNDIR_RUNTIME && runtime == NULL;
            AUTO_FREE char *finding = memory_format(
                "%s: %s", path, odd ? "a directory in the place of a file" : files[i].what);
            found(list, finding, odd || damaged ? "move it to chroot-quarantine" : "remove");
        }
        if (file_exists(rundir->fd, temporary)) {
            AUTO_FREE char *finding = memory_format("%s: left by an interrupted write", temporary);
            found(list, finding, "remove");
        }
    }
    return list;
}
