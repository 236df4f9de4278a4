/* SPDX-License-Identifier: BSD-2-Clause */
#include "../../common/operations/adopt_private.h"
#include "kvm/base/memory.h"
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

UNIT_MAIN(UNIT(volumes))
