/* SPDX-License-Identifier: BSD-2-Clause */
/* What adopt.c, adopt_words.c and adopt_devices.c share. */
#ifndef KVM_OPERATIONS_ADOPT_PRIVATE_H
#define KVM_OPERATIONS_ADOPT_PRIVATE_H

#include <stdbool.h>
#include <jansson.h>
#include "kvm/base/clock.h"
#include "kvm/base/error.h"
#include "kvm/operations/adopt.h"
#include "kvm/operations/launch.h"
#include "kvm/operations/session.h"
#include "kvm/qemu/qmp.h"
#include "kvm/state/rundir.h"

/* ---- adopt_words.c: the command line, pure ---- */

/* The words of a process as an array of strings; NULL with an error. */
json_t *adopt_read_words(int pid, struct error *error);

/* The definition, without disks and NICs, that this command line was built from, as far as it tells: name, uuid,
 * beparams, hvparams, network_port. Words that no definition makes go into kvm_extra. New object. */
json_t *adopt_definition(const json_t *words, struct messages *problems);

const char *adopt_word_at(const json_t *words, size_t index); /* "" behind the end */
/* By its id: a disk or a NIC. They are looked at in QEMU itself, since some came and went after the start. */
bool adopt_is_device(const char *id);

/* adopt_compare.c: what the suite would start for the adopted instance against what runs: a problem for each word that differs.
 * Descriptors' numbers, disks and NICs (QEMU tells those) and -incoming are passed over. */
void adopt_compare_words(const json_t *running, const json_t *expected, struct messages *problems);

/* adopt_display.c, pure: one option with its value, or a device. False: it is none of VNC, SPICE, graphics, sound and
 * USB (or it tells of something else as well). */
bool adopt_display_option(json_t *definition, const char *option, const char *value,
                          struct messages *problems);
bool adopt_display_device(json_t *hvparams, const json_t *device);

/* The value of the first `option`, NULL when it is not there; borrowed. */
const char *adopt_word(const json_t *words, const char *option);

/* ---- adopt_devices.c: what QEMU has ---- */

struct adopt_look {
    struct qmp *qmp;
    const struct rundir *rundir;
    const char *name;
    int pid;
    const json_t *words;
    deadline_t deadline;
    struct messages *problems, *notes;
    /* Filled by adopt_look: */
    json_t *disks, *nics; /* entries of a definition, with uuid and hvinfo */
    json_t *taps;         /* uuid of a NIC to the name of its tap */
    char cdrom[4096];     /* image in the drive "cdrom"; "" none */
    int64_t memory_mib;   /* that the balloon leaves to the guest; 0: it does not tell */
    json_t *links;        /* device id of a NIC to "link-up" or "link-down" */
    int sound_slot, scsi_slot, balloon_slot, serial_slot; /* 0: none */
};

/* Ask QEMU. -1 when it does not answer; what it answers and can't be understood is a problem. */
int adopt_look(struct adopt_look *look, struct error *error);
void adopt_look_release(struct adopt_look *look);
/* Of that only what kvm-hotplug has set: memory and links. What can't be asked stays unknown. */
void adopt_look_at_settings(struct adopt_look *look);
void adopt_keep_settings(const struct adopt_look *look, struct instance *instance);

/* In adopt_image.c: `file` as query-block tells it, by a name that will still mean it at the next start. False: not known;
 * *why says so. */
enum { ADOPT_PATH_SIZE = 4096 };
bool adopt_image(const struct adopt_look *look, const json_t *sets, const char *file,
                 char path[ADOPT_PATH_SIZE], const char **why);
/* Pure: /dev/GROUP/VOLUME of "GROUP-VOLUME", in which a hyphen of a name is doubled; NULL: another form. The caller frees. */
char *adopt_volume_path(const char *name);

/* In adopt_nics.c: the entries of the NICs. */
void adopt_look_at_nics(struct adopt_look *look, const json_t *devices, const json_t *buses);
json_t *adopt_read_links(const struct adopt_look *look);

/* Property of a device by id; new reference, NULL when it has none. */
json_t *adopt_property(struct adopt_look *look, const char *id, const char *property);
/* hvinfo of a PCI device: where query-pci shows it. NULL: it is not there. New object. */
json_t *adopt_place(const json_t *buses, const char *driver, const char *id);
/* The uuid whose first three groups the id has ("disk-7c079136-2573-4112"); the rest is derived from the id, always the
 * same. False: the id is of another form. */
bool adopt_uuid(const char *id, char uuid[37]);

/* ---- adopt_merge.c ---- */

struct adopt {
    const struct rundir *rundir;
    const struct node *node;
    const struct adopt_options *options;
    const char *who;
    char *name;
    bool foreign; /* the runtime file is another tool's, and is taken over as it is */
    struct session session;
    struct qmp *qmp;
    json_t *words;
    struct adopt_look look;
    struct instance instance;
    struct launch *launch;
    struct messages problems;
    char status[32];
    deadline_t deadline;
    struct result *result;
};

const char *adopt_source(const struct adopt *adopt); /* of the definition, for messages */
/* adopt->instance out of the command line or the definition, and what was seen in QEMU. What does not fit is added to the
 * problems, and the instance may have no name then. -1: the definition can't be read. */
int adopt_make_instance(struct adopt *adopt, struct error *error);

/* ---- adopt_foreign.c ---- */

/* With the runtime file that another tool (or an older command) wrote, and nothing else: it is taken over when QEMU has all
 * devices that it tells of. What does not fit is added to the problems. */
int adopt_foreign(struct adopt *adopt, struct error *error);

#endif
