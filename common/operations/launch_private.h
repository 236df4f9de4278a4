/* SPDX-License-Identifier: BSD-2-Clause */
/* The plan of a start: what launch_plan.c decides and launch.c carries out. */
#ifndef KVM_OPERATIONS_LAUNCH_PRIVATE_H
#define KVM_OPERATIONS_LAUNCH_PRIVATE_H

#include <sys/types.h>
#include "kvm/host/firmware.h"
#include "kvm/host/tap.h"
#include "kvm/operations/launch.h"
#include "kvm/qemu/cmdline.h"
#include "kvm/qemu/probe.h"
#include "kvm/qemu/qmp.h"
#include "kvm/state/placement.h"

enum launch_user { LAUNCH_ROOT, LAUNCH_USER, LAUNCH_POOL };

/* Unix sockets in ctrl/ that QEMU gets bound, in the order of their descriptors. */
enum launch_socket {
    SOCKET_QMP,
    SOCKET_QUERY,
    SOCKET_MONITOR,
    SOCKET_SERIAL,
    SOCKET_AGENT,
    SOCKET_EVENTS,
    SOCKET_KVMD,
    SOCKET_COUNT
};

struct launch {
    const struct rundir *rundir;
    const struct node *node;
    struct instance *instance;
    struct placement placement;
    struct probe probe;
    bool kvm;
    size_t queues;
    bool want_vhost;
    bool events_by_socket;

    enum launch_user user;
    uid_t uid;
    gid_t gid;
    uint32_t *pool;
    size_t pool_count;
    char *chroot;
    char *run_as; /* "UID:GID" when QEMU itself changes user (chroot) */
    char *vnc_address;
    char *vnc_password, *spice_password; /* wiped when released */
    char *spice_address;

    /* Real descriptors; -1 while not open. */
    int pid_file, events;
    int media[MEDIA];
    int sockets[SOCKET_COUNT];
    size_t disk_count, nic_count; /* of the arrays: the instance may be gone before the plan is */
    int *disks;
    bool *disk_is_block;
    bool medium_is_block[MEDIA];
    struct firmware firmware; /* code NULL: the machine's BIOS */
    char *nvram;              /* path; NULL with code NULL */
    bool nvram_missing;       /* when it was looked at: it is made of the template */
    bool nvram_made;          /* by this start */
    int firmware_code, nvram_file;
    bool tpm;       /* it has one */
    bool tpm_made;  /* its state, by this start */
    int tpm_socket; /* QEMU's end */
    struct tap *taps;
    int (*vhost)[CMDLINE_QUEUES_MAX];

    /* The numbers they have in the child, and the table that makes it so: table[i] becomes 3 + i. */
    struct cmdline_plan plan;
    int *disk_number;
    int (*tap_number)[CMDLINE_QUEUES_MAX];
    int (*vhost_number)[CMDLINE_QUEUES_MAX];
    bool *vhost_used;
    int *table;
    size_t table_count;
    int listen[SOCKET_COUNT];
    size_t listen_count;

    /* While it runs. */
    struct runtime *runtime;
    const struct launch_options *options;
    struct messages *warnings;
    enum runtime_state state_before;
    bool fresh;        /* there was no runtime file before */
    size_t nics_up;    /* NICs of which the tap file was written */
    bool network_left; /* ifdown failed for one of them */
    pid_t pid;
    int pidfd;
    struct qmp *qmp;
    off_t log_start; /* what QEMU says of this start comes after it */
    bool unknown;    /* the guest may be running: nothing may be undone any more */
};

/* launch_numbers.c: the sockets of this instance, and the numbers that all descriptors have in QEMU. */
bool launch_uses_socket(const struct launch *launch, enum launch_socket which);
enum rundir_file launch_socket_file(enum launch_socket which);
/* Fill plan, table and listen from the real descriptors (or -1 for a dry run). */
void launch_number_descriptors(struct launch *launch);

/* launch_guest.c: what is set while the guest is still stopped. */
int launch_set_passwords(struct launch *launch, struct error *error);
int launch_set_affinity(struct launch *launch, struct error *error);
int launch_set_balloon(struct launch *launch, struct error *error);
int launch_set_limits(struct launch *launch, struct error *error);
int launch_set_links(struct launch *launch, struct error *error);

/* launch_pool.c: take a free uid of the pool for this instance, under the pool's own lock; give it back. */
int launch_take_uid(struct launch *launch, struct error *error);
int launch_return_uid(struct launch *launch, struct error *error);

/* launch_images.c: what disks and media name, on this node. */
void launch_check_images(struct launch *launch, const char *source, struct messages *problems);

/* launch_check.c: everything that needs the node, all problems at once. */
void launch_check_files(struct launch *launch, const char *source, struct messages *problems);
void launch_check_user(struct launch *launch, const char *source, struct messages *problems);
void launch_check_cpus(const struct launch *launch, const char *source, struct messages *problems);

/* launch_display.c: what VNC, SPICE and the guest's hardware need of the node and its QEMU. */
void launch_check_display(struct launch *launch, bool use_cache, const char *source,
                          struct messages *problems);

/* launch_access.c: may the user that QEMU becomes do it (`want` in the bits of "others")? A regular file that QEMU
 * reads by its path: problems are added. Does the instance run now, in another QEMU? */
bool launch_user_may(const struct launch *launch, const char *path, mode_t want);
void launch_check_readable(const struct launch *launch, const char *path, const char *source,
                           const char *param, struct messages *problems);
bool launch_is_running(const struct launch *launch);
/* launch_tpm.c: its emulator, which must be there before QEMU; and back. launch_close_tpm: QEMU has the connection, and the
 * emulator must notice when it ends. */
void launch_check_tpm(struct launch *launch, const char *source, struct messages *problems);
int launch_start_tpm(void *plan, struct error *error);
int launch_end_tpm(void *plan, struct error *error);
void launch_close_tpm(struct launch *launch);
/* Where QEMU's messages go; -1 with error. */
int launch_open_log(struct launch *launch, struct error *error);

/* launch_firmware.c: which firmware; the instance's NVRAM, made of the template when it is not there; and back. */
void launch_check_firmware(struct launch *launch, const char *source, struct messages *problems);
int launch_make_nvram(void *plan, struct error *error);
int launch_remove_nvram(void *plan, struct error *error);
int launch_open_firmware(struct launch *launch, struct error *error);

/* launch_network.c: taps, tap files and ifup of all NICs; and back. */
int launch_bring_up_network(void *plan, struct error *error);
int launch_take_down_network(void *plan, struct error *error);

/* launch_qemu.c: bound sockets, the process, its first answer; and back. */
int launch_make_sockets(void *plan, struct error *error);
int launch_remove_sockets(void *plan, struct error *error);
int launch_start_qemu(void *plan, struct error *error);
int launch_end_qemu(void *plan, struct error *error);
int launch_meet_qemu(void *plan, struct error *error);
/* Put QEMU's own messages since this start into the error; returns -1. */
int launch_say_what_qemu_said(const struct launch *launch, struct error *error);

#endif
