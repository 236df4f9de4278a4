/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvm/operations/image.h"
#include "kvm/base/memory.h"

void image_check(const char *path, int flags, const char *where, bool *is_block,
                 struct messages *problems)
{
    struct stat status;
    AUTO_CLOSE int descriptor = open(path, (flags & ~O_DIRECT) | O_CLOEXEC | O_NONBLOCK);

    if (descriptor < 0 || fstat(descriptor, &status) < 0) {
        messages_add(problems, "%s: can't be opened (current value: \"%s\"): %s", where, path,
                     strerror(errno));
        return;
    }
    if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
        messages_add(problems, "%s: neither a file nor a block device (current value: \"%s\")",
                     where, path);
        return;
    }
    if (S_ISREG(status.st_mode) && status.st_size == 0)
        messages_add(problems, "%s: the file is empty (current value: \"%s\")", where, path);
    *is_block = S_ISBLK(status.st_mode);
    if ((flags & O_DIRECT) == 0)
        return;
    AUTO_CLOSE int direct = open(path, flags | O_CLOEXEC | O_NONBLOCK);
    if (direct < 0)
        messages_add(problems,
                     "%s: the file system does not open it with O_DIRECT, which the cache mode "
                     "needs (current value: \"%s\"): %s",
                     where, path, strerror(errno));
}

int image_open(const char *path, int flags, struct error *error)
{
    int descriptor = open(path, flags | O_CLOEXEC | O_NONBLOCK);

    if (descriptor < 0)
        return error_errno(error, STATUS_FAILED, "%s", path);
    return descriptor;
}
