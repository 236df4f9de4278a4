/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <sys/sysmacros.h>
#include "../../common/operations/adopt_private.h"
#include "kvm/base/memory.h"
#include "scratch.h"
#include "unit.h"

TEST(volumes, "names of the device mapper become the paths of LVM's volumes, or none")
{
    static const struct {
        const char *name, *path;
    } names[] = {
        {"vg0-web1", "/dev/vg0/web1"},
        {"vg--a-web--1", "/dev/vg-a/web-1"},
        {"vg-a----b", "/dev/vg/a--b"},
        {"vg0-web1-real", NULL},
        {"vg0-web1_rimage", "/dev/vg0/web1_rimage"},
        {"crypt", NULL},
        {"luks--1", NULL},
        {"", NULL},
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        AUTO_FREE char *path = adopt_volume_path(names[i].name);
        if (names[i].path == NULL)
            CHECK(path == NULL);
        else
            CHECK_TEXT(path, names[i].path);
    }
    return true;
}

/* As on a node with LVM: a device "0" of the mapper that is /dev/loop0, its name told by a file of sysfs. */
static bool map_loop0(void)
{
    static const char name[] = "/sys/dev/block/7:0/dm/name";

    if (!scratch_own_mounts() || mount("none", "/sys/dev/block", "tmpfs", 0, NULL) != 0 ||
        mkdir("/sys/dev/block/7:0", 0755) != 0 || mkdir("/sys/dev/block/7:0/dm", 0755) != 0)
        return false;
    int file = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    return file >= 0 && close(file) == 0 &&
           mount("/sys/block/loop0/ro", name, NULL, MS_BIND, NULL) == 0 &&
           (mkdir("/dev/mapper", 0755) == 0 || errno == EEXIST) &&
           mount("none", "/dev/mapper", "tmpfs", 0, NULL) == 0 &&
           mknod("/dev/mapper/0", S_IFBLK | 0600, makedev(7, 0)) == 0;
}

TEST(mapped, "a device that QEMU has open is called as the device mapper calls it")
{
    char path[ADOPT_PATH_SIZE] = "";
    const char *why = NULL;
    int device = open("/dev/loop0", O_RDONLY | O_CLOEXEC);

    if (device < 0 || !map_loop0())
        return unit_not_run("there is no loop device, or mounts are not allowed");
    const struct adopt_look look = {.pid = (int)getpid()};
    json_t *sets = json_pack("[{s:i, s:[{s:i}]}]", "fdset-id", 2, "fds", "fd", device);
    CHECK(adopt_image(&look, sets, "/dev/fdset/2", path, &why));
    CHECK_TEXT(path, "/dev/mapper/0");
    json_decref(sets);
    close(device);
    return true;
}

UNIT_MAIN(UNIT(volumes), UNIT(mapped))
