/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An instance becomes a QEMU command line. Pure: same input, same words. Descriptors stand in it by the
 * number they will have in the child: the caller lists them in the order of `struct cmdline_plan`.
 *
 * Two forms: cmdline_build is what is executed (JSON -blockdev, -device, -netdev; sockets, images and taps
 * by descriptor); cmdline_record is what the runtime file keeps in kvm_cmd in Ganeti's form (bare -name,
 * -m as a number, -pidfile, -daemonize, no disks, no NICs).
 */
#ifndef KVM_QEMU_CMDLINE_H
#define KVM_QEMU_CMDLINE_H

#include <stdbool.h>
#include <stddef.h>
#include <jansson.h>
#include "kvm/base/error.h"
#include "kvm/qemu/probe.h"
#include "kvm/state/instance.h"
#include "kvm/state/media.h"
#include "kvm/state/placement.h"
#include "kvm/state/rundir.h"

/* Far above what the disks take, also the ones that are plugged later. */
enum { CMDLINE_QUEUES_MAX = 32, CMDLINE_FIRMWARE_SET = 1000, CMDLINE_NVRAM_SET = 1001 };

/* Everything that is not in the instance. Descriptor numbers are those in the child; -1: not there. */
struct cmdline_plan {
    const struct placement *placement;
    const struct probe *probe;
    bool incoming;                                         /* -incoming defer */
    bool kvm;                                              /* accelerator: kvm, else tcg */
    int monitor_fd, qmp_fd, query_fd, serial_fd, agent_fd; /* bound unix sockets */
    int kvmd_fd;                                           /* the same, for user_shutdown */
    int events_fd;                                         /* O_APPEND file; goes into fd set 1 */
    int events_socket_fd; /* >= 0: socket form of the event log instead of the null chardev */
    const int *disk_fd;   /* per disk: fd set 2 + index; -1 for userspace access */
    const bool *disk_is_block;
    int medium_fd[MEDIA]; /* fd set 2 + disk_count + medium; -1 as well for a URL */
    bool medium_is_block[MEDIA];
    const int (*tap_fd)[CMDLINE_QUEUES_MAX]; /* per NIC; `queues` of each used */
    const int (*vhost_fd)[CMDLINE_QUEUES_MAX];
    size_t queues;      /* per NIC */
    const bool *vhost;  /* per NIC */
    const char *chroot; /* path; NULL: none */
    const char *run_as; /* "UID:GID" for -runas / -run-with user= (only with chroot); NULL: none */
    bool vnc_later;     /* it gets its address by QMP, when another QEMU has left it */
    const char *vnc_address;     /* resolved: "10.0.0.1", "[::1]", or a directory; NULL: no VNC */
    const char *spice_address;   /* resolved: "10.0.0.1", "::1"; NULL: no SPICE */
    const char *spice_directory; /* holds spice-ca.pem and spice.pem */
    int tpm_fd;                  /* connected to its swtpm; only looked at with hvparams.tpm */
    int firmware_fd, nvram_fd;   /* fd sets CMDLINE_FIRMWARE_SET and the next */
    const char
        *firmware_path; /* NULL: the machine's BIOS; the descriptors are then not looked at */
    const char *nvram_path;
    bool firmware_smm, firmware_secure;
};

/* JSON array of strings, [0] the binary; new reference. Fails only for what no earlier check can see
 * (kvm_extra that does not split). */
json_t *cmdline_build(const struct instance *instance, const struct cmdline_plan *plan,
                      struct error *error);

/* kvm_cmd for the runtime file; new reference. */
json_t *cmdline_record(const struct instance *instance, const struct cmdline_plan *plan,
                       const struct rundir *rundir);

/* kvm_extra: words that would break the suite (-incoming, -pidfile, -qmp, -S, -daemonize, -runas,
 * -chroot, …) are refused by name. */
int cmdline_check_extra(const char *kvm_extra, struct error *error);

#endif
