/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What must be known of a QEMU binary before it runs an instance, asked through QMP of a throw-away
 * `-machine none` process and kept per binary (device, inode, size, mtime) in cache/ of the run
 * directory, since asking costs about 50 ms.
 */
#ifndef KVM_QEMU_PROBE_H
#define KVM_QEMU_PROBE_H

#include <stdbool.h>
#include <jansson.h>
#include "kvm/base/clock.h"
#include "kvm/base/error.h"
#include "kvm/state/rundir.h"

struct probe {
    int major, minor, micro;
    json_t *types;    /* array: those of hardware_all_types that it had when it was asked */
    json_t *machines; /* object: alias or name → canonical name */
    json_t *vcpus;    /* object: canonical name → how many vCPUs that machine takes at the most */
    json_t *cpus;     /* array: its CPU models; empty: it does not tell them */
    json_t *features; /* string: what its CPUs can be given, with blanks between; "": not told */
    bool has_sandbox; /* -sandbox is built in */
    bool run_with_chroot; /* -run-with chroot= instead of -chroot */
    bool run_with_user;   /* -run-with user= instead of -runas */
    bool null_event_log;  /* false once a start saw that the null chardev form logs no events */
};

/* `use_cache` false: neither read nor write (dry run). */
int probe_binary(const struct rundir *rundir, const char *binary, bool use_cache,
                 struct probe *probe, struct error *error);
void probe_release(struct probe *probe);
/* Write the cache for a probe that was made without; what fails costs only time. */
void probe_keep(const struct rundir *rundir, const char *binary, const struct probe *probe);

/* Does the binary have this QOM type? What it lacks may have been installed since it was asked, so it is asked again. */
bool probe_has_type(const struct rundir *rundir, const char *binary, bool use_cache,
                    struct probe *probe, const char *type);

/*
 * Does this binary know the node (as uri_node makes it) and have its driver? Asked with an option that makes the
 * opening fail before anything is opened or connected to. Not cached: the driver's package may come any time.
 */
int probe_node(const char *binary, const json_t *node, struct error *error);

/* Open the node read-only in a QEMU of its own, and close it again: is the image there? Waits as long as a
 * connection is tried, at most to the deadline. */
int probe_open(const char *binary, const json_t *node, deadline_t deadline, struct error *error);

/* Note in the cache that this binary needs the socket form of the event log. */
void probe_note_event_log(const struct rundir *rundir, const char *binary, bool null_works);

/* Resolve an alias ("pc", "q35", "" = the default machine) to the pinned name; NULL when unknown.
 * Borrowed from the probe. */
const char *probe_machine(const struct probe *probe, const char *name);

/* Has it the CPU model of a cpu_type ("Haswell", "host,+vmx": up to the first comma)? Also true when it does not tell.
 * *nearest: one that is spelled alike, or NULL; borrowed from the probe. */
bool probe_has_cpu(const struct probe *probe, const char *cpu_type, const char **nearest);

/* The first feature of a cpu_type ("+avx2", "-vmx", "hv_time", "level=13", behind the model) that no CPU of this binary
 * has; NULL: none, or it does not tell. *nearest: one that is spelled alike, or NULL. The caller frees both. */
char *probe_lacks_feature(const struct probe *probe, const char *cpu_type, char **nearest);

#endif
