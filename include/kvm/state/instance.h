/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An instance as this suite thinks of it. There is one model and two written forms: the definition
 * that kvm-start reads (instance_parse) and the runtime file (runtime.h). Pure.
 *
 * Disks and NICs keep Ganeti's JSON dictionary whole (`object`, owned), because keys that we do not
 * know must survive; the other fields are views into it (borrowed, refreshed by the functions here)
 * or beside it. `object` holds only keys that Ganeti's loaders accept.
 */
#ifndef KVM_STATE_INSTANCE_H
#define KVM_STATE_INSTANCE_H

#include <stdbool.h>
#include <stdint.h>
#include <jansson.h>
#include "kvm/base/error.h"

enum nic_mode { NIC_BRIDGED, NIC_ROUTED, NIC_OPENVSWITCH, NIC_MODE_UNKNOWN };

struct disk {
    json_t *object;
    const char *uuid;     /* canonical; never NULL after parse or load */
    const char *name;     /* NULL: none */
    char *path;           /* what the node opens; NULL: only a URI is known. Owned */
    char *uri;            /* userspace access, see disk_is_userspace; owned; NULL */
    bool read_only;       /* mode "ro" */
    int64_t size_mib;     /* 0: not told */
    const char *dev_type; /* "file", "blockdev", "plain", …; "" unknown */
    const json_t
        *params; /* object or NULL: cache aio discard format serial bus access heads secs … */
    const json_t *hvinfo; /* object or NULL: driver id bus addr | channel scsi-id lun */
};

struct nic {
    json_t *object;
    const char *uuid;
    const char *name; /* NULL: none */
    const char *mac;  /* never NULL after parse */
    const char *ip;   /* NULL: none */
    enum nic_mode mode;
    const char *mode_name;
    const char *link;    /* "" none */
    const char *vlan;    /* "" none; ".100", ":100:200" as Ganeti writes it */
    const char *network; /* uuid of the network; NULL */
    const json_t *netinfo;
    const json_t *hvinfo;
    bool link_down; /* set-link: the guest sees its cable pulled out; in the runtime file only */
};

enum { SCSI_CONTROLLERS = 4, CDROMS = 2 };

struct instance {
    char *name;
    char *uuid;
    int64_t maxmem_mib, minmem_mib; /* 0: not known (runtime file of another tool without -m) */
    int64_t vcpus;                  /* 0: not known, likewise */
    json_t *hvparams;               /* filled */
    struct disk *disks;
    size_t disk_count;
    struct nic *nics;
    size_t nic_count;
    json_t *tags;         /* array of strings */
    int64_t network_port; /* 0: none; VNC and SPICE listen here (VNC display = port - 5900) */
    char *disk_template;  /* "" unknown */
    /* Where its controllers sit: decided at the first start and then kept, so that no slot moves when disks come and
     * go. 0: not decided yet, or it has none. */
    int sound_slot, scsi_slots[SCSI_CONTROLLERS], balloon_slot, serial_slot, rng_slot,
        watchdog_slot;
    int cdrom_slots[CDROMS]; /* of paravirtual CD-ROMs */
    /* What kvm-hotplug has set, and a reboot or migration keeps; in the runtime file only. */
    int64_t memory_mib;   /* of the balloon; 0: as at any start */
    bool ejected[CDROMS]; /* the drive is there, without its medium */
    /* It was started by Ganeti, so it has what QEMU adds by itself (graphics card, CD-ROM drive, floppy, parallel
     * port), and it keeps that over reboots and migrations. */
    bool default_devices;
};

enum { INSTANCE_NAME_MAX = 200 };

/* Letters, digits, '.', '_', '-'; no leading '-' or '.'; 1 … INSTANCE_NAME_MAX bytes; also no
 * ".runtime"-like trap: rundir_check_name adds the length of the socket path. Error: STATUS_USAGE. */
int instance_check_name(const char *name, struct error *error);

/*
 * Read a definition. `defaults` is the node file (object with hvparams, beparams, nicparams; may be
 * NULL), `source` the file's name for messages, `defaults_source` that of the node file. All problems
 * are added, each as "SOURCE: FIELD: what is wrong (current value: V)"; returns -1 when there is any
 * (status is the caller's: STATUS_USAGE). Fills defaults, makes missing uuids (derived from the
 * name and the place in the definition, so that every start gives the same) and MACs
 * (aa:00:00 and 24 bits from the NIC's uuid). Keys that Ganeti writes and a node does not need are
 * ignored by list; others are refused with the nearest known key.
 * On failure *instance is released and zeroed.
 */
int instance_parse(const json_t *definition, const char *source, const json_t *defaults,
                   const char *defaults_source, struct instance *instance,
                   struct messages *problems);

/* The normalised definition: what instance_parse would read back to the same instance. New object,
 * of what is the instance's own: to be read only while that is in use. */
json_t *instance_json(const struct instance *instance);

void instance_release(struct instance *instance);
#define AUTO_INSTANCE __attribute__((cleanup(instance_release)))

/* Refresh the borrowed views after `object` was changed. */
void disk_refresh(struct disk *disk);
void nic_refresh(struct nic *nic);

/* Checks over all devices: MACs, uuids, device ids (first three groups of the uuid), read-write
 * paths unique. Adds to problems. */
void instance_check_unique(const struct instance *instance, const char *source,
                           struct messages *problems);

/* One disk of an instance against its hvparams: what only works with this model or that. For kvm-hotplug as well. */
void instance_check_disk(const struct instance *instance, const struct disk *disk,
                         const char *where, struct messages *problems);

bool instance_is_q35(const struct instance *instance); /* by machine_version, resolved or alias */

/* One disk or NIC as kvm-start and kvm-hotplug read it: `given` is the object of the definition.
 * *disk gets its own copies. Problems as above with `where` ("web1.json: disks[0]"). */
int disk_parse(const json_t *given, const char *where, struct disk *disk,
               struct messages *problems);
int nic_parse(const json_t *given, const char *where, const json_t *nicparams_defaults,
              struct nic *nic, struct messages *problems);
void disk_release(struct disk *disk);
void nic_release(struct nic *nic);

/*
 * The same out of a runtime file, where another tool may have written: unknown keys are kept, a uuid that
 * is missing is generated (told in `notes`). Types and strings are checked as strictly. `path` and `uri`
 * may be NULL; they are copied.
 */
int disk_load(const json_t *given, const char *path, const char *uri, const char *where,
              struct disk *disk, struct messages *notes, struct messages *problems);
int nic_load(const json_t *given, const char *where, struct nic *nic, struct messages *notes,
             struct messages *problems);

/* uuid, beparams, tags, network_port and disk_template of a definition into an instance that has its
 * name; `least` is the least memory and number of vCPUs (0 in a runtime file: not known). */
void instance_read_head(const json_t *definition, const char *source, int64_t least,
                        struct instance *instance, struct messages *problems);

/* hvinfo of a disk or NIC; {} is fine. `drivers`: NULL-terminated. Unknown keys are refused unless
 * `loaded`. */
void hvinfo_check(const json_t *hvinfo, const char *where, const char *const *drivers, bool loaded,
                  struct messages *problems);

/* QEMU opens the URI (uri.h) itself: there is one, and params.access says so, or there is no path. */
bool disk_is_userspace(const struct disk *disk);

/* Effective settings of a disk: its params over the hvparams of the running instance; cache is
 * forced to "none" for externally mirrored templates (drbd, blockdev, ext, sharedfile, gluster;
 * not rbd). cache: default none writeback writethrough. aio: threads native io_uring.
 * discard: ignore unmap. format: raw qcow2. bus: the frontend's, "virtio" "scsi" "ide" "sata" …
 * Strings are borrowed. */
struct disk_settings {
    const char *cache, *aio, *discard, *format, *serial; /* serial NULL: none */
    const char *detect_zeroes;                           /* off on unmap */
    bool direct, no_flush, write_cache;
};
void disk_settings(const struct disk *disk, const struct instance *instance,
                   struct disk_settings *settings);

#endif
