/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launch_private.h"
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/operations/nvram.h"
#include "kvm/state/hvparams.h"

/* True when it is a flash image; else a problem. `param` names what gave the path. */
static bool check_flash(const char *path, const char *source, const char *param, off_t *size,
                        struct messages *problems)
{
    struct stat status;

    if (stat(path, &status) < 0) {
        messages_add(problems, "%s: hvparams.%s: %s: %s", source, param, path, strerror(errno));
        return false;
    }
    *size = status.st_size;
    if (S_ISREG(status.st_mode) && nvram_is_flash_size(status.st_size))
        return true;
    messages_add(problems,
                 "%s: hvparams.%s: %s: is no flash image: those are files of a multiple of 4096 "
                 "bytes, at most 64 MiB",
                 source, param, path);
    return false;
}

/* The file may be there from before; what was planted in its place is not followed. */
static bool look_at_nvram(struct launch *launch, const char *source, off_t *size,
                          struct messages *problems)
{
    struct stat status;

    *size = 0;
    launch->nvram_missing = lstat(launch->nvram, &status) < 0;
    if (launch->nvram_missing) {
        if (errno == ENOENT)
            return true;
        messages_add(problems, "%s: hvparams.nvram_path: %s: %s", source, launch->nvram,
                     strerror(errno));
        return false;
    }
    if (!S_ISREG(status.st_mode) || status.st_nlink != 1) {
        messages_add(problems, "%s: hvparams.nvram_path: %s: is not a regular file of its own",
                     source, launch->nvram);
        return false;
    }
    return check_flash(launch->nvram, source, "nvram_path", size, problems);
}

static void check_template(struct launch *launch, const char *source, struct messages *problems)
{
    off_t size;

    if (!launch->nvram_missing)
        return;
    if (launch->firmware.template == NULL)
        messages_add(problems,
                     "%s: hvparams.nvram_template: is needed: no firmware descriptor tells it for "
                     "this firmware, and %s is not there yet",
                     source, launch->nvram);
    else
        check_flash(launch->firmware.template, source, "nvram_template", &size, problems);
}

void launch_check_firmware(struct launch *launch, const char *source, struct messages *problems)
{
    const json_t *hvparams = launch->instance->hvparams;
    const char *name = hvparams_text(hvparams, "firmware");
    const char *template = hvparams_text(hvparams, "nvram_template");
    struct error reason = {0};
    off_t size;

    if (name[0] == '\0' || strcmp(name, "bios") == 0)
        return;
    launch->nvram = nvram_path(launch->node, launch->instance);
    if (!look_at_nvram(launch, source, &size, problems))
        return;
    if (firmware_find(firmware_directories, name, hvparams_text(hvparams, "machine_version"),
                      template[0] == '\0' ? size : 0, &launch->firmware, &reason) < 0) {
        messages_add(problems, "%s: hvparams.firmware: %s (current value: \"%s\")", source,
                     reason.text, name);
        return;
    }
    if (template[0] != '\0') {
        free(launch->firmware.template);
        launch->firmware.template = memory_copy(template);
    }
    check_flash(launch->firmware.code, source, "firmware", &size, problems);
    check_template(launch, source, problems);
}

static bool was_received(const struct launch *launch)
{
    return launch->options != NULL && launch->options->nvram_received;
}

int launch_make_nvram(void *plan, struct error *error)
{
    struct launch *launch = plan;

    if (launch->firmware.code == NULL || file_exists(AT_FDCWD, launch->nvram))
        return 0;
    launch->nvram_made = true;
    return nvram_make(launch->node, launch->instance, launch->firmware.template, error);
}

/* Nothing has run on it: it is the template still. */
int launch_remove_nvram(void *plan, struct error *error)
{
    struct launch *launch = plan;

    if (launch->unknown || launch->nvram == NULL || !(launch->nvram_made || was_received(launch)))
        return 0;
    return file_remove(AT_FDCWD, launch->nvram, NULL, error);
}

int launch_open_firmware(struct launch *launch, struct error *error)
{
    struct stat status;

    if (launch->firmware.code == NULL)
        return 0;
    launch->firmware_code = open(launch->firmware.code, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (launch->firmware_code < 0)
        return error_errno(error, STATUS_FAILED, "%s", launch->firmware.code);
    launch->nvram_file =
        open(launch->nvram, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (launch->nvram_file < 0 || fstat(launch->nvram_file, &status) < 0)
        return error_errno(error, STATUS_FAILED, "%s", launch->nvram);
    if (!S_ISREG(status.st_mode) || status.st_nlink != 1)
        return error_set(error, STATUS_FAILED, "%s: refused, it is not a regular file of its own",
                         launch->nvram);
    return 0;
}

json_t *launch_firmware_record(const struct launch *launch)
{
    if (launch->firmware.code == NULL)
        return json_null();
    return memory_json(
        json_pack("{s:s, s:s, s:b}", "code", launch->firmware.code, "nvram", launch->nvram, "made",
                  (int)(!file_exists(AT_FDCWD, launch->nvram) || was_received(launch))));
}

void launch_compare_firmware(const struct launch *launch, const json_t *theirs,
                             struct messages *problems)
{
    AUTO_JSON json_t *record = launch_firmware_record(launch);
    AUTO_JSON json_t *ours = nvram_sizes(record, launch->firmware.template);
    static const char *const parts[] = {"code", "nvram"};

    for (size_t i = 0; i < 2 && theirs != NULL; i++) {
        int64_t there = json_number(theirs, parts[i], 0), here = json_number(ours, parts[i], 0);
        if (there != here)
            messages_add(
                problems,
                "firmware: its %s is %lld bytes long on the source and %lld here (%s): the "
                "same firmware must be on both nodes",
                parts[i], (long long)there, (long long)here,
                json_text(record, parts[i]) != NULL ? json_text(record, parts[i]) : "none");
    }
}
