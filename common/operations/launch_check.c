/* SPDX-License-Identifier: BSD-2-Clause */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <pwd.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launch_private.h"
#include "kvm/base/json.h"
#include "kvm/base/file.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/operations/image.h"
#include "kvm/qemu/device.h"
#include "kvm/state/hvparams.h"

enum { VNC_PASSWORD_MAX = 8 };

static bool readable_by(const struct stat *status, uid_t uid, gid_t gid)
{
    if (uid == 0)
        return true;
    if (status->st_uid == uid)
        return (status->st_mode & S_IRUSR) != 0;
    if (status->st_gid == gid)
        return (status->st_mode & S_IRGRP) != 0;
    return (status->st_mode & S_IROTH) != 0;
}

/* A file that QEMU opens by its path. */
static void check_named_file(const struct launch *launch, const char *source, const char *param,
                             struct messages *problems)
{
    const char *path = hvparams_text(launch->instance->hvparams, param);
    struct stat status;

    if (path[0] == '\0')
        return;
    if (stat(path, &status) < 0)
        messages_add(problems, "%s: hvparams.%s: %s (current value: \"%s\")", source, param,
                     strerror(errno), path);
    else if (!S_ISREG(status.st_mode))
        messages_add(problems, "%s: hvparams.%s: not a regular file (current value: \"%s\")",
                     source, param, path);
    else if (launch->user == LAUNCH_USER && !readable_by(&status, launch->uid, launch->gid))
        messages_add(problems,
                     "%s: hvparams.%s: user %s of security_domain can't read it (current value: "
                     "\"%s\")",
                     source, param, hvparams_text(launch->instance->hvparams, "security_domain"),
                     path);
}

void launch_check_files(struct launch *launch, const char *source, struct messages *problems)
{
    const struct instance *instance = launch->instance;
    const char *cdrom = hvparams_text(instance->hvparams, "cdrom_image_path");
    const char *floppy = hvparams_text(instance->hvparams, "floppy_image_path");
    const char *memory = hvparams_text(instance->hvparams, "mem_path");
    struct stat status;
    bool ignored;

    for (size_t i = 0; i < instance->disk_count; i++) {
        AUTO_FREE char *where = memory_format("%s: disks[%zu].path", source, i);
        if (instance->disks[i].path != NULL)
            image_check(instance->disks[i].path, device_open_flags(&instance->disks[i], instance),
                        where, &launch->disk_is_block[i], problems);
    }
    AUTO_FREE char *cdrom_where = memory_format("%s: hvparams.cdrom_image_path", source);
    if (cdrom[0] != '\0')
        image_check(cdrom, O_RDONLY, cdrom_where, &launch->cdrom_is_block, problems);
    AUTO_FREE char *floppy_where = memory_format("%s: hvparams.floppy_image_path", source);
    if (floppy[0] != '\0')
        image_check(floppy, O_RDONLY, floppy_where, &ignored, problems);
    check_named_file(launch, source, "kernel_path", problems);
    check_named_file(launch, source, "initrd_path", problems);
    if (memory[0] != '\0' && (stat(memory, &status) < 0 || !S_ISDIR(status.st_mode)))
        messages_add(problems, "%s: hvparams.mem_path: not a directory (current value: \"%s\")",
                     source, memory);
}

/* A user without access to /dev/kvm gets its group as the only one: supplementary groups stay empty. */
static void give_access_to_kvm(struct launch *launch, const char *source, struct messages *problems)
{
    struct stat status;

    if (!launch->kvm || stat("/dev/kvm", &status) < 0 || (status.st_mode & S_IWOTH) != 0 ||
        (status.st_uid == launch->uid && (status.st_mode & S_IWUSR) != 0))
        return;
    if ((status.st_mode & S_IWGRP) != 0)
        launch->gid = status.st_gid;
    else
        messages_add(problems,
                     "%s: hvparams.security_model: /dev/kvm can't be opened by that user; "
                     "'chmod g+rw /dev/kvm' lets it be opened through its group",
                     source);
}

static void find_user(struct launch *launch, const char *source, struct messages *problems)
{
    const char *name = hvparams_text(launch->instance->hvparams, "security_domain");
    const struct passwd *user = getpwnam(name);

    launch->user = LAUNCH_USER;
    if (user == NULL) {
        messages_add(problems,
                     "%s: hvparams.security_domain: no such user on this node (current value: "
                     "\"%s\")",
                     source, name);
        return;
    }
    if (user->pw_uid == 0) {
        messages_add(problems,
                     "%s: hvparams.security_domain: is root; security_model \"none\" runs QEMU as "
                     "root (current value: \"%s\")",
                     source, name);
        return;
    }
    launch->uid = user->pw_uid;
    launch->gid = user->pw_gid;
}

static void find_pool(struct launch *launch, const char *source, struct messages *problems)
{
    struct error reason = {0};

    launch->user = LAUNCH_POOL;
    if (node_uid_pool(launch->node, &launch->pool, &launch->pool_count, &reason) < 0) {
        messages_add(problems, "%s", reason.text);
        return;
    }
    if (launch->pool_count == 0) {
        messages_add(problems,
                     "%s: hvparams.security_model: \"pool\" needs uid_pool in %s, for example "
                     "\"uid_pool\": \"4000-4019\"",
                     source, launch->node->source);
        return;
    }
    launch->uid = launch->pool[0];
    launch->gid = (gid_t)launch->pool[0];
}

void launch_check_user(struct launch *launch, const char *source, struct messages *problems)
{
    const json_t *hvparams = launch->instance->hvparams;
    const char *model = hvparams_text(hvparams, "security_model");

    if (strcmp(model, "user") == 0)
        find_user(launch, source, problems);
    if (strcmp(model, "pool") == 0)
        find_pool(launch, source, problems);
    if (launch->user != LAUNCH_ROOT)
        give_access_to_kvm(launch, source, problems);
    if (!hvparams_truth(hvparams, "use_chroot"))
        return;
    launch->chroot = rundir_path(launch->rundir, RUNDIR_CHROOT, launch->instance->name);
    if (launch->user != LAUNCH_ROOT)
        launch->run_as = memory_format("%u:%u", launch->uid, launch->gid);
}

/* The first IPv4 address of an interface; false when it has none. */
static bool interface_address(const char *name, char *text, socklen_t size)
{
    struct ifaddrs *list = NULL;
    bool found = false;

    if (getifaddrs(&list) < 0)
        return false;
    for (struct ifaddrs *one = list; one != NULL && !found; one = one->ifa_next) {
        if (one->ifa_addr == NULL || one->ifa_addr->sa_family != AF_INET ||
            strcmp(one->ifa_name, name) != 0)
            continue;
        const struct sockaddr_in *address = (const void *)one->ifa_addr;
        found = inet_ntop(AF_INET, &address->sin_addr, text, size) != NULL;
    }
    freeifaddrs(list);
    return found;
}

static void resolve_vnc_address(struct launch *launch, const char *bind, const char *source,
                                struct messages *problems)
{
    unsigned char address[sizeof(struct in6_addr)];
    char text[INET_ADDRSTRLEN];
    struct stat status;

    if (inet_pton(AF_INET, bind, address) == 1)
        launch->vnc_address = memory_copy(bind);
    else if (inet_pton(AF_INET6, bind, address) == 1)
        launch->vnc_address = memory_format("[%s]", bind);
    else if (bind[0] == '/' && stat(bind, &status) == 0 && S_ISDIR(status.st_mode))
        launch->vnc_address = memory_copy(bind);
    else if (bind[0] != '/' && interface_address(bind, text, sizeof(text)))
        launch->vnc_address = memory_copy(text);
    else
        messages_add(problems,
                     "%s: hvparams.vnc_bind_address: neither an address, nor an interface with an "
                     "IPv4 address, nor a directory (current value: \"%s\")",
                     source, bind);
    if (bind[0] != '/' && launch->instance->network_port <= 5900)
        messages_add(problems,
                     "%s: network_port: VNC on an address needs a port above 5900 (current value: "
                     "%lld)",
                     source, (long long)launch->instance->network_port);
}

/* The password is the file's first line; an empty one would mean none, so it is refused. */
static void read_vnc_password(struct launch *launch, const char *path, const char *source,
                              struct messages *problems)
{
    struct error reason = {0};
    char *text = NULL;

    if (file_read(AT_FDCWD, path, 4096, true, &text, NULL, &reason) < 0) {
        messages_add(problems, "%s: hvparams.vnc_password_file: %s", source, reason.text);
        return;
    }
    text[strcspn(text, "\r\n")] = '\0';
    launch->vnc_password = text;
    if (text[0] == '\0')
        messages_add(problems,
                     "%s: hvparams.vnc_password_file: the first line is empty, which would mean no "
                     "password (current value: \"%s\")",
                     source, path);
    else if (!text_is_utf8(text) || text_has_control(text))
        messages_add(problems,
                     "%s: hvparams.vnc_password_file: the first line is not plain text (current "
                     "value: \"%s\")",
                     source, path);
    else if (strlen(text) > VNC_PASSWORD_MAX)
        messages_add(problems,
                     "%s: hvparams.vnc_password_file: longer than 8 characters, of which VNC would "
                     "use the first 8 only (current value: \"%s\")",
                     source, path);
}

void launch_check_vnc(struct launch *launch, const char *source, struct messages *problems)
{
    const json_t *hvparams = launch->instance->hvparams;
    const char *bind = hvparams_text(hvparams, "vnc_bind_address");
    const char *file = hvparams_text(hvparams, "vnc_password_file");

    if (bind[0] == '\0')
        return;
    resolve_vnc_address(launch, bind, source, problems);
    if (file[0] != '\0')
        read_vnc_password(launch, file, source, problems);
}

void launch_check_cpus(const struct launch *launch, const char *source, struct messages *problems)
{
    const char *mask = hvparams_text(launch->instance->hvparams, "cpu_mask");
    AUTO_JSON json_t *parts = hvparams_cpu_mask(mask, NULL);
    long online = sysconf(_SC_NPROCESSORS_CONF);
    size_t i, k;
    json_t *part, *cpu;

    json_array_foreach (parts, i, part) {
        json_array_foreach (part, k, cpu) {
            if (json_integer_value(cpu) >= online || json_integer_value(cpu) >= CPU_SETSIZE) {
                messages_add(problems,
                             "%s: hvparams.cpu_mask: CPU %lld is not on this node, which has 0 to "
                             "%ld (current value: \"%s\")",
                             source, (long long)json_integer_value(cpu), online - 1, mask);
                return;
            }
        }
    }
}
