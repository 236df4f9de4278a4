/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The removable media of an instance: two CD-ROMs and a floppy, each with its hvparam, the id of its drive and the
 * names of its block nodes. Where a CD-ROM drive sits is the placement's business. Pure.
 */
#ifndef KVM_STATE_MEDIA_H
#define KVM_STATE_MEDIA_H

#include "kvm/state/instance.h"

enum medium { MEDIUM_CDROM, MEDIUM_CDROM2, MEDIUM_FLOPPY, MEDIA };

struct medium_names {
    const char *param;  /* the hvparam with its path or URL */
    const char *what;   /* for people */
    const char *device; /* id of the drive */
    const char *node;   /* of the medium at the start */
    const char *other;  /* of the medium after a change; the two take turns */
};
extern const struct medium_names media_names[MEDIA];

/* The path or URL; NULL: the instance has no such drive. Borrowed. */
const char *media_place(const struct instance *instance, enum medium medium);

/* The same, but NULL also for a drive whose medium was ejected: what is to be opened. */
const char *media_file(const struct instance *instance, enum medium medium);

/* QEMU opens it itself: it is a URL. */
bool media_is_web(const struct instance *instance, enum medium medium);

/* "cdrom", "disk", "floppy" or "network": does the firmware boot from it? Not with a kernel of the node. */
bool media_boots_from(const struct instance *instance, const char *what);

#endif
