/* SPDX-License-Identifier: BSD-2-Clause */
/* What the user that QEMU runs as may do with files that QEMU opens by their path. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launch_private.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"

/* `want` in the bits of "others". Which uid of a pool it will be is not known yet, so nothing may hang on it. */
static bool allows(const struct launch *launch, const struct stat *status, mode_t want)
{
    if (launch->user != LAUNCH_POOL && status->st_uid == launch->uid)
        return ((status->st_mode >> 6) & want) == want;
    if (status->st_gid == launch->gid)
        return ((status->st_mode >> 3) & want) == want;
    return (status->st_mode & want) == want;
}

/* With a chroot QEMU opens its files first and gives up root then. */
bool launch_user_may(const struct launch *launch, const char *path, mode_t want)
{
    AUTO_FREE char *directory = memory_copy(path);
    struct stat status;

    if (launch->user == LAUNCH_ROOT || launch->chroot != NULL)
        return true;
    if (stat(path, &status) < 0 || !allows(launch, &status, want))
        return false;
    for (char *slash = strrchr(directory, '/'); slash != NULL; slash = strrchr(directory, '/')) {
        *slash = '\0';
        if (stat(directory[0] == '\0' ? "/" : directory, &status) < 0 ||
            !allows(launch, &status, S_IXOTH))
            return false;
    }
    return true;
}

void launch_check_readable(const struct launch *launch, const char *path, const char *source,
                           const char *param, struct messages *problems)
{
    struct stat status;

    if (stat(path, &status) < 0)
        messages_add(problems, "%s: hvparams.%s: %s (current value: \"%s\")", source, param,
                     strerror(errno), path);
    else if (!S_ISREG(status.st_mode))
        messages_add(problems, "%s: hvparams.%s: not a regular file (current value: \"%s\")",
                     source, param, path);
    else if (!launch_user_may(launch, path, S_IROTH))
        messages_add(problems,
                     "%s: hvparams.%s: the user of security_model can't read it; with use_chroot "
                     "QEMU opens it before it gives up root (current value: \"%s\")",
                     source, param, path);
}

bool launch_is_running(const struct launch *launch)
{
    char name[RUNDIR_PATH_MAX];

    if (launch->rundir->fd < 0)
        return false;
    rundir_name(RUNDIR_PID, launch->instance->name, name);
    AUTO_CLOSE int file =
        openat(launch->rundir->fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    return file >= 0 && process_lock_holder(file) > 0;
}
