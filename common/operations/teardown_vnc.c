/* SPDX-License-Identifier: BSD-2-Clause */
/* The socket of VNC in a directory of the operator's: QEMU that is killed leaves it there. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvm/operations/teardown.h"
#include "kvm/base/memory.h"
#include "kvm/state/hvparams.h"

char *teardown_vnc_socket(const struct instance *instance)
{
    const char *directory = hvparams_text(instance->hvparams, "vnc_bind_address");
    struct stat status;

    if (directory[0] != '/')
        return NULL;
    char *path = memory_format("%s/%s.vnc", directory, instance->name);
    if (lstat(path, &status) == 0 && S_ISSOCK(status.st_mode))
        return path;
    free(path);
    return NULL;
}

int teardown_remove_vnc_socket(const struct instance *instance, struct error *error)
{
    AUTO_FREE char *path = teardown_vnc_socket(instance);

    if (path == NULL || unlink(path) == 0 || errno == ENOENT)
        return 0;
    return error_errno(error, STATUS_INCOMPLETE, "%s", path);
}
