/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/host/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "kvm/base/memory.h"

enum { NAME_DIGITS = 8, SUFFIX_MAX = 99 };

static int open_queue(const char *name, short flags, int *queue)
{
    struct ifreq request = {.ifr_flags = flags};
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    int file = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (file < 0)
        return -1;
    if (ioctl(file, TUNSETIFF, &request) == 0) {
        *queue = file;
        return 0;
    }
    int number = errno;
    close(file);
    errno = number;
    return -1;
}

/* The features of the kernel's driver. */
static int features(unsigned *flags, struct error *error)
{
    AUTO_CLOSE int file = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (file < 0)
        return error_errno(error, STATUS_FAILED, "open /dev/net/tun");
    if (ioctl(file, TUNGETFEATURES, flags) != 0)
        return error_errno(error, STATUS_FAILED, "/dev/net/tun: ask for its features");
    return 0;
}

/* The first queue makes the interface, under the first name that nobody has. */
static int make_first(const char *uuid, short flags, struct tap *tap, struct error *error)
{
    for (int suffix = 0; suffix <= SUFFIX_MAX; suffix++) {
        char ending[8] = "";
        if (suffix > 0)
            snprintf(ending, sizeof ending, "-%d", suffix);
        snprintf(tap->name, sizeof tap->name, "kvm%.*s%.3s", NAME_DIGITS, uuid, ending);
        if (open_queue(tap->name, (short)(flags | IFF_TUN_EXCL), &tap->fds[0]) == 0) {
            tap->queues = 1;
            return 0;
        }
        if (errno != EBUSY && errno != EEXIST)
            return error_errno(error, STATUS_FAILED, "make the tap %s", tap->name);
    }
    return error_set(error, STATUS_FAILED, "make a tap: all names from kvm%.*s to %s are taken",
                     NAME_DIGITS, uuid, tap->name);
}

int tap_make(const char *uuid, bool vnet_hdr, size_t queues, struct tap *tap, struct error *error)
{
    unsigned available = 0;
    *tap = (struct tap){0};
    if (queues < 1 || queues > TAP_QUEUES_MAX)
        return error_set(error, STATUS_USAGE, "a tap has 1 to %d queues, not %zu", TAP_QUEUES_MAX,
                         queues);
    if (features(&available, error) != 0)
        return -1;
    if (queues > 1 && (available & IFF_MULTI_QUEUE) == 0)
        return error_set(error, STATUS_FAILED, "this kernel's taps have one queue, not %zu",
                         queues);
    tap->vnet_hdr = vnet_hdr && (available & IFF_VNET_HDR) != 0;
    short flags = (short)(IFF_TAP | IFF_NO_PI | (tap->vnet_hdr ? IFF_VNET_HDR : 0) |
                          (queues > 1 ? IFF_MULTI_QUEUE : 0));
    if (make_first(uuid, flags, tap, error) != 0) {
        *tap = (struct tap){0};
        return -1;
    }
    while (tap->queues < queues) {
        if (open_queue(tap->name, flags, &tap->fds[tap->queues]) != 0) {
            error_errno(error, STATUS_FAILED, "tap %s: open queue %zu of %zu", tap->name,
                        tap->queues + 1, queues);
            tap_close(tap);
            return -1;
        }
        tap->queues++;
    }
    return 0;
}

void tap_close(struct tap *tap)
{
    if (tap == NULL)
        return;
    for (size_t i = 0; i < tap->queues; i++)
        close(tap->fds[i]);
    *tap = (struct tap){0};
}

bool tap_exists(const char *name)
{
    return if_nametoindex(name) != 0;
}

int tap_open_vhost(void)
{
    return open("/dev/vhost-net", O_RDWR | O_CLOEXEC);
}
