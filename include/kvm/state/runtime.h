/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The runtime file conf/NAME.runtime: [kvm_cmd, nics, hvparams, disks, ours]. The first four elements
 * are Ganeti's contract (bare -name, -m as a JSON number, disks as [dict, path, uri], hvinfo in NICs and
 * disks); the fifth is this suite's: version, generation, state, boot_id, pid, start_time, qemu,
 * instance (normalised definition), devices (per-uuid state), migration.
 *
 * runtime_parse reads every historic form: three elements (no disks), two-element disk entries, the
 * integer `pci` of 2.10 instead of hvinfo, NICs and disks without uuid, removed options in kvm_cmd
 * (-balloon, -localtime, -soundhw, -usbdevice, -vnc …,tls, -no-acpi, server,nowait), and
 * disk_discard "default"; it upgrades to the form above. When the fifth element is missing the
 * instance is derived from kvm_cmd (-name, -uuid, -m, -smp) and hvparams. Unknown keys are kept.
 * What is damaged is refused with the place named ("web1.runtime: disks[0][0].hvinfo: …"); nothing
 * from the file is ever executed as it stands: kvm_cmd is a record.
 */
#ifndef KVM_STATE_RUNTIME_H
#define KVM_STATE_RUNTIME_H

#include <stdint.h>
#include <jansson.h>
#include "kvm/base/error.h"
#include "kvm/base/process.h"
#include "kvm/state/instance.h"
#include "kvm/state/rundir.h"

enum runtime_state {
    RUNTIME_STARTING, /* written before anything is touched; QEMU, if any, has executed nothing */
    RUNTIME_RUNNING,
    RUNTIME_PAUSED,    /* started with --paused and not continued since */
    RUNTIME_REBOOTING, /* kvm-stop --reboot is between its stop and its start */
    RUNTIME_INCOMING, /* the target of a migration: QEMU waits for, or has, the guest but may not run it yet */
    RUNTIME_FOREIGN, /* no fifth element: another tool wrote the file */
};

enum device_state { DEVICE_PRESENT, DEVICE_ADDING, DEVICE_REMOVING, DEVICE_CHANGING };

struct runtime {
    struct instance instance;
    json_t *kvm_cmd; /* array of strings (and the number after -m), upgraded */
    enum runtime_state state;
    int64_t generation; /* counts commits */
    char boot_id[BOOT_ID_SIZE];
    pid_t pid;           /* 0: none yet */
    uint64_t start_time; /* ticks, process_start_time */
    json_t *ours; /* the fifth element as loaded or made: keys that this version does not know
                             are kept; written back with the fields above put in */
    struct messages notes; /* what was upgraded or generated on load */
};

enum { RUNTIME_SIZE_MAX = 1024 * 1024 };

const char *runtime_state_name(enum runtime_state state);

/* A fresh runtime for an instance (steals *instance). */
void runtime_begin(struct runtime *runtime, struct instance *instance);

/* Pure: text to runtime, and back (newly allocated, ends with a newline). `name` is the instance the
 * file belongs to: a file of another one (-name differs) is refused. STATUS_FAILED with the place. */
int runtime_parse(const char *bytes, size_t length, const char *source, const char *name,
                  struct runtime *runtime, struct error *error);
char *runtime_text(const struct runtime *runtime);

/* Load; a missing file fails with STATUS_STATE and file_is_missing(). */
int runtime_load(const struct rundir *rundir, const char *name, struct runtime *runtime,
                 struct error *error);

/* For lists: name, uuid, maxmem, vcpus, state, pid, start_time, boot_id and ours.migration only, of a file that this
 * suite wrote; any other file is loaded whole. What is not listed is zero or NULL and must not be looked at. What is
 * damaged elsewhere in such a file is not noticed. */
int runtime_peek(const struct rundir *rundir, const char *name, struct runtime *runtime,
                 struct error *error);

/* Commit durably (file_replace), generation + 1. */
int runtime_commit(const struct rundir *rundir, struct runtime *runtime, struct error *error);
/* Its two parts (file_prepare, file_publish): what is published must be what was prepared. */
int runtime_prepare(const struct rundir *rundir, const struct runtime *runtime,
                    struct error *error);
int runtime_publish(const struct rundir *rundir, struct runtime *runtime, struct error *error);

int runtime_remove(const struct rundir *rundir, const char *name, struct error *error);

void runtime_release(struct runtime *runtime);
#define AUTO_RUNTIME __attribute__((cleanup(runtime_release)))

/* ours.devices.UUID.state; DEVICE_PRESENT when nothing is noted. */
enum device_state runtime_device_state(const struct runtime *runtime, const char *uuid);
/* ours.devices.UUID.again, beside a state: the object of the NIC that is to be plugged in its place (NULL: none). Kept
 * until the device is present or gone. Borrowed; the setter takes a reference. */
const json_t *runtime_device_again(const struct runtime *runtime, const char *uuid);
void runtime_set_device_again(struct runtime *runtime, const char *uuid, const json_t *again);
const char *runtime_device_state_name(const struct runtime *runtime, const char *uuid);
void runtime_set_device_state(struct runtime *runtime, const char *uuid, enum device_state state);

/* [kvm_cmd, nics, hvparams, disks] as loaded and upgraded, for --json; new array of what is the runtime's own, to be
 * read only. */
json_t *runtime_ganeti_json(const struct runtime *runtime);

#endif
