/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/state/media.h"

#include <string.h>
#include "kvm/state/hvparams.h"
#include "kvm/state/uri.h"

const struct medium_names media_names[MEDIA] = {
    [MEDIUM_CDROM] = {"cdrom_image_path", "CD-ROM", "cdrom", "cdrom1", "cdrom1b"},
    [MEDIUM_CDROM2] = {"cdrom2_image_path", "second CD-ROM", "cdrom2", "cdrom2", "cdrom2b"},
    [MEDIUM_FLOPPY] = {"floppy_image_path", "floppy", "floppy", "floppy1", "floppy1b"},
};

const char *media_place(const struct instance *instance, enum medium medium)
{
    const char *place = hvparams_text(instance->hvparams, media_names[medium].param);

    return place[0] != '\0' ? place : NULL;
}

const char *media_file(const struct instance *instance, enum medium medium)
{
    bool ejected = medium < MEDIUM_FLOPPY && instance->ejected[medium];

    return ejected ? NULL : media_place(instance, medium);
}

bool media_is_web(const struct instance *instance, enum medium medium)
{
    const char *place = media_file(instance, medium);

    return place != NULL && uri_is_web(place);
}

bool media_boots_from(const struct instance *instance, const char *what)
{
    return hvparams_text(instance->hvparams, "kernel_path")[0] == '\0' &&
           strcmp(hvparams_text(instance->hvparams, "boot_order"), what) == 0;
}
