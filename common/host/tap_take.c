/* SPDX-License-Identifier: BSD-2-Clause */
/* A tap that another process has open: its descriptor, and the two properties of the interface that a second QEMU
 * would change under the first one. */
#include "kvm/host/tap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_tun.h>
#include <linux/major.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "kvm/base/memory.h"
#include "kvm/base/text.h"

enum { TUN_MINOR = 200 }; /* the kernel lists its devices in devices.txt */

/* ---- the descriptor ---- */

/* By its number: the name is that of the mount namespace in which it was opened, which may be gone. */
static bool is_tun(int directory, const char *entry)
{
    struct stat status;
    return fstatat(directory, entry, &status, 0) == 0 && S_ISCHR(status.st_mode) &&
           status.st_rdev == makedev(MISC_MAJOR, TUN_MINOR);
}

/* A copy of the other's descriptor when it is a queue of this tap; -1. */
static int take_queue(int pidfd, int number, const char *name, short *flags)
{
    struct ifreq request = {0};
    int copy = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);

    if (copy < 0)
        return -1;
    if (ioctl(copy, TUNGETIFF, &request) == 0 && strcmp(request.ifr_name, name) == 0) {
        *flags = request.ifr_flags;
        return copy;
    }
    close(copy);
    return -1;
}

int tap_take(pid_t pid, int pidfd, const char *name, struct tap *tap, struct error *error)
{
    char path[32];
    short flags = 0;
    const struct dirent *entry;

    *tap = (struct tap){0};
    snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    DIR *directory = opendir(path);
    if (directory == NULL)
        return error_errno(error, STATUS_FAILED, "%s", path);
    while (tap->queues < TAP_QUEUES_MAX && (entry = readdir(directory)) != NULL) {
        int64_t number = 0;
        if (!text_number(entry->d_name, 0, INT32_MAX, &number) ||
            !is_tun(dirfd(directory), entry->d_name))
            continue;
        int queue = take_queue(pidfd, (int)number, name, &flags);
        if (queue >= 0)
            tap->fds[tap->queues++] = queue;
    }
    closedir(directory);
    if (tap->queues == 0)
        return error_set(error, STATUS_FAILED, "QEMU (pid %d) does not have the tap %s open",
                         (int)pid, name);
    snprintf(tap->name, sizeof(tap->name), "%s", name);
    tap->vnet_hdr = (flags & IFF_VNET_HDR) != 0;
    return 0;
}

/* ---- what a second QEMU would change ---- */

/* What TUNSETOFFLOAD sets, by the names that the kernel gives the interface's features. */
static const struct {
    unsigned offload;
    const char *feature;
} offloads[] = {
    {TUN_F_CSUM, "tx-checksum-ip-generic"},
    {TUN_F_TSO4, "tx-tcp-segmentation"},
    {TUN_F_TSO6, "tx-tcp6-segmentation"},
    {TUN_F_TSO_ECN, "tx-tcp-ecn-segmentation"},
};

static bool ask_ethtool(const char *name, void *question)
{
    struct ifreq request = {.ifr_data = question};
    AUTO_CLOSE int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    return any >= 0 && ioctl(any, SIOCETHTOOL, &request) == 0;
}

static unsigned features_count(const char *name)
{
    AUTO_FREE struct ethtool_sset_info *info = memory_zeroed(1, sizeof(*info) + sizeof(__u32));

    info->cmd = ETHTOOL_GSSET_INFO;
    info->sset_mask = 1ULL << ETH_SS_FEATURES;
    if (!ask_ethtool(name, info) || info->sset_mask == 0)
        return 0;
    __u32 count = 0;
    memcpy(&count, (const char *)info + sizeof(*info), sizeof(count));
    return count;
}

static unsigned read_offloads(const char *name)
{
    unsigned count = features_count(name), found = 0;
    AUTO_FREE struct ethtool_gstrings *names =
        memory_zeroed(1, sizeof(*names) + (size_t)count * ETH_GSTRING_LEN);
    AUTO_FREE struct ethtool_gfeatures *features =
        memory_zeroed(1, sizeof(*features) + (count / 32 + 1) * sizeof(features->features[0]));

    names->cmd = ETHTOOL_GSTRINGS;
    names->string_set = ETH_SS_FEATURES;
    names->len = count;
    features->cmd = ETHTOOL_GFEATURES;
    features->size = count / 32 + 1;
    if (count == 0 || !ask_ethtool(name, names) || !ask_ethtool(name, features))
        return 0;
    for (unsigned i = 0; i < count; i++) {
        const char *feature = (const char *)names->data + (size_t)i * ETH_GSTRING_LEN;
        bool on = (features->features[i / 32].active >> (i % 32) & 1) != 0;
        for (size_t k = 0; on && k < sizeof(offloads) / sizeof(offloads[0]); k++)
            if (strncmp(feature, offloads[k].feature, ETH_GSTRING_LEN) == 0)
                found |= offloads[k].offload;
    }
    return found;
}

bool tap_read_manner(const struct tap *tap, struct tap_manner *manner)
{
    *manner = (struct tap_manner){0};
    if (!tap->vnet_hdr || ioctl(tap->fds[0], TUNGETVNETHDRSZ, &manner->header) != 0)
        return false;
    manner->offloads = read_offloads(tap->name);
    return true;
}

int tap_set_manner(const struct tap *tap, const struct tap_manner *manner, struct error *error)
{
    if (ioctl(tap->fds[0], TUNSETVNETHDRSZ, &manner->header) == 0 &&
        ioctl(tap->fds[0], TUNSETOFFLOAD, (unsigned long)manner->offloads) == 0)
        return 0;
    return error_errno(error, STATUS_INCOMPLETE, "tap %s: give it its header and offloads back",
                       tap->name);
}
