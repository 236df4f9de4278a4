/* SPDX-License-Identifier: BSD-2-Clause */
/* Real sockets, images, taps and logs, to be put on the descriptors that a golden command line names. */
#ifndef KVM_TESTS_GOLDEN_DESCRIPTORS_H
#define KVM_TESTS_GOLDEN_DESCRIPTORS_H

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "golden_qemu.h"
#include "kvm/qemu/device.h"

enum { IMAGE = 1 << 20, FLOPPY = 1440 * 1024 };

static int loop_fd = -1; /* of the block device, made when a golden asks for one */

static char *in_scratch(const char *name)
{
    return memory_format("%s/%s", scratch, name);
}

static int make_file(const char *name, off_t size, int flags)
{
    AUTO_FREE char *path = in_scratch(name);
    int made = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (made < 0 || ftruncate(made, size) < 0)
        return -1;
    close(made);
    return open(path, flags | O_CLOEXEC);
}

static int bind_socket(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int made = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", scratch, name);
    unlink(address.sun_path);
    return bind(made, (struct sockaddr *)&address, sizeof(address)) < 0 ? -1 : made;
}

/* The loop device goes with its last descriptor. */
static int open_block_device(int flags)
{
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    int number = ioctl(control, LOOP_CTL_GET_FREE);
    int backing = make_file("block.raw", IMAGE, O_RDWR);
    struct loop_config config = {.fd = (unsigned)backing, .info = {.lo_flags = LO_FLAGS_AUTOCLEAR}};
    AUTO_FREE char *path = memory_format("/dev/loop%d", number);

    loop_fd = open(path, O_RDWR | O_CLOEXEC);
    if (control < 0 || number < 0 || loop_fd < 0 || ioctl(loop_fd, LOOP_CONFIGURE, &config) < 0)
        return -1;
    close(backing);
    close(control);
    return open(path, flags | O_CLOEXEC);
}

static int open_disk(const struct golden *golden, size_t index)
{
    const struct disk *disk = &golden->instance.disks[index];
    int flags = device_open_flags(disk, &golden->instance);

    if (golden->blocks[index])
        return open_block_device(flags);
    AUTO_FREE char *path = replaced(disk->path, placeholder, scratch);
    if (strstr(path, ".qcow2") != NULL)
        return open(path, flags | O_CLOEXEC);
    return make_file(strrchr(path, '/') + 1, IMAGE, flags);
}

static int open_tap(size_t nic, bool many)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

    if (many)
        request.ifr_flags |= IFF_MULTI_QUEUE;
    snprintf(request.ifr_name, IFNAMSIZ, "kg%d-%zu", (int)getpid(), nic);
    return ioctl(tap, TUNSETIFF, &request) < 0 ? -1 : tap;
}

static int open_descriptor(const struct golden *golden, size_t index)
{
    size_t owner = golden->owners[index];

    switch (golden->kinds[index]) {
    case GOLDEN_PID:
        return make_file("pid", 0, O_RDWR);
    case GOLDEN_TPM:
        return -1;
    case GOLDEN_FIRMWARE:
        return make_file("code.fd", IMAGE, O_RDONLY);
    case GOLDEN_NVRAM:
        return make_file("nvram.fd", IMAGE, O_RDWR);
    case GOLDEN_QMP:
        return bind_socket("qmp");
    case GOLDEN_QUERY:
        return bind_socket("query");
    case GOLDEN_MONITOR:
        return bind_socket("monitor");
    case GOLDEN_SERIAL:
        return bind_socket("serial");
    case GOLDEN_AGENT:
        return bind_socket("qga");
    case GOLDEN_EVENTS_SOCKET:
        return bind_socket("events.socket");
    case GOLDEN_KVMD:
        return bind_socket("kvmd");
    case GOLDEN_EVENTS:
        return make_file("events", 0, O_WRONLY | O_APPEND);
    case GOLDEN_DISK:
        return open_disk(golden, owner);
    case GOLDEN_CDROM:
        return make_file("cdrom", IMAGE, O_RDONLY);
    case GOLDEN_FLOPPY:
        return make_file("floppy", FLOPPY, O_RDONLY);
    case GOLDEN_TAP:
        return open_tap(owner, golden->plan.queues > 1);
    case GOLDEN_VHOST:
        return open("/dev/vhost-net", O_RDWR | O_CLOEXEC);
    }
    return -1;
}

#endif
