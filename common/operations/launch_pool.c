/* SPDX-License-Identifier: BSD-2-Clause */
/* uid/NAME holds the uid that an instance has taken from the node's pool. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "launch_private.h"
#include "kvm/base/file.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"

enum { POOL_LOCK_WAIT_MS = 10000 };

/* One starter at a time looks for a free uid. Held for a few file accesses only. */
static int lock_pool(const struct rundir *rundir, deadline_t latest, struct error *error)
{
    deadline_t deadline = clock_earlier(clock_deadline(POOL_LOCK_WAIT_MS), latest);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int descriptor =
        openat(rundir->fd, "lock/.uid-pool", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (descriptor < 0)
        return error_errno(error, STATUS_FAILED, "%s/lock/.uid-pool", rundir->path);
    while (fcntl(descriptor, F_OFD_SETLK, &lock) < 0) {
        if (errno != EAGAIN && errno != EACCES && errno != EINTR) {
            error_errno(error, STATUS_FAILED, "%s/lock/.uid-pool: lock", rundir->path);
            close(descriptor);
            return -1;
        }
        if (clock_passed(deadline)) {
            close(descriptor);
            return error_set(error, STATUS_BUSY, "%s/lock/.uid-pool: another start holds it",
                             rundir->path);
        }
        clock_sleep_ms(5);
    }
    return descriptor;
}

static bool read_uid(const struct rundir *rundir, const char *instance, int64_t *uid)
{
    char name[RUNDIR_PATH_MAX];
    AUTO_FREE char *text = NULL;

    rundir_name(RUNDIR_UID, instance, name);
    if (file_read(rundir->fd, name, 64, false, &text, NULL, NULL) < 0)
        return false;
    text[strcspn(text, "\n")] = '\0';
    return text_number(text, 1, UINT32_MAX - 1, uid);
}

static bool uid_is_taken(const struct launch *launch, uint32_t uid)
{
    int directory = openat(launch->rundir->fd, "uid", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *entries = file_entries(directory);
    bool taken = false;

    for (struct dirent *entry; entries != NULL && !taken && (entry = readdir(entries)) != NULL;) {
        int64_t other;
        taken = entry->d_name[0] != '.' && strcmp(entry->d_name, launch->instance->name) != 0 &&
                read_uid(launch->rundir, entry->d_name, &other) && other == (int64_t)uid;
    }
    if (entries != NULL)
        closedir(entries);
    return taken;
}

static bool in_pool(const struct launch *launch, int64_t uid)
{
    for (size_t i = 0; i < launch->pool_count; i++)
        if (launch->pool[i] == uid)
            return true;
    return false;
}

/* The group is that of the user with this uid where there is one, else the same number; the group of
 * /dev/kvm that the plan chose stays. */
static void adopt_uid(struct launch *launch, uint32_t uid)
{
    const struct passwd *user = getpwuid(uid);

    if (launch->gid == (gid_t)launch->pool[0])
        launch->gid = user != NULL ? user->pw_gid : (gid_t)uid;
    launch->uid = uid;
    if (launch->run_as == NULL)
        return;
    free(launch->run_as);
    launch->run_as = memory_format("%u:%u", launch->uid, launch->gid);
}

int launch_take_uid(struct launch *launch, struct error *error)
{
    char name[RUNDIR_PATH_MAX], text[16];
    int64_t own = -1;
    AUTO_CLOSE int lock = lock_pool(launch->rundir, launch->options->deadline, error);

    if (lock < 0)
        return -1;
    if (read_uid(launch->rundir, launch->instance->name, &own) && in_pool(launch, own) &&
        !uid_is_taken(launch, (uint32_t)own)) {
        adopt_uid(launch, (uint32_t)own);
        return 0;
    }
    for (size_t i = 0; i < launch->pool_count; i++) {
        if (uid_is_taken(launch, launch->pool[i]))
            continue;
        adopt_uid(launch, launch->pool[i]);
        rundir_name(RUNDIR_UID, launch->instance->name, name);
        snprintf(text, sizeof(text), "%u", launch->uid);
        return file_replace(launch->rundir->fd, name, text, strlen(text), error);
    }
    return error_set(error, STATUS_STATE, "all %zu uids of uid_pool in %s are taken",
                     launch->pool_count, launch->node->source);
}

int launch_return_uid(struct launch *launch, struct error *error)
{
    char name[RUNDIR_PATH_MAX];

    rundir_name(RUNDIR_UID, launch->instance->name, name);
    return file_remove(launch->rundir->fd, name, NULL, error);
}
