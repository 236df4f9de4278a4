/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a running QEMU has: devices by id, taken slots, block nodes, fd sets; and the removal of backends. QEMU is
 * asked, never assumed: every function that removes is also right when the thing is gone already.
 */
#ifndef KVM_QEMU_PERIPHERAL_H
#define KVM_QEMU_PERIPHERAL_H

#include <stdbool.h>
#include <jansson.h>
#include "kvm/base/clock.h"
#include "kvm/base/error.h"
#include "kvm/qemu/qmp.h"
#include "kvm/state/slots.h"

/* Is there a device with this id (/machine/peripheral)? */
int peripheral_exists(struct qmp *qmp, const char *id, deadline_t deadline, bool *exists,
                      struct error *error);

/* Mark every slot that query-pci shows as taken; on q35 a slot is taken when its root port has a device, and not
 * usable when there is no such port. */
int peripheral_slots(struct qmp *qmp, bool q35, deadline_t deadline, struct slots *slots,
                     struct error *error);

/* Is there a block node of this name? *size (bytes) may be NULL. */
int peripheral_node(struct qmp *qmp, const char *node, deadline_t deadline, bool *exists,
                    int64_t *size, struct error *error);

/* The block node behind the disk with this device id: the node of that name, or, of a disk that another tool gave to
 * QEMU as -drive, the one whose name QEMU has made up. "" when there is none. *size (bytes) may be NULL. */
enum { PERIPHERAL_NODE_SIZE = 64 };
int peripheral_backend(struct qmp *qmp, const char *id, deadline_t deadline, char *node,
                       int64_t *size, struct error *error);

/* blockdev-del, repeated while QEMU says that the node is in use; gone is success. */
int peripheral_remove_node(struct qmp *qmp, const char *node, deadline_t deadline,
                           struct error *error);

/* netdev_del; gone is success. */
int peripheral_remove_netdev(struct qmp *qmp, const char *id, deadline_t deadline,
                             struct error *error);

/* Pass a descriptor into the fd set *set, or with -1 into a new one, the number of which is then in *set; it is marked
 * with `opaque`. */
int peripheral_add_fd(struct qmp *qmp, int descriptor, const char *opaque, deadline_t deadline,
                      int *set, struct error *error);
json_t *peripheral_add_fd_arguments(const char *opaque, int set);
json_t *peripheral_exists_arguments(void); /* of qom-list, to send it ahead of peripheral_exists */

/* Remove all fd sets marked with `opaque`. */
int peripheral_remove_fds(struct qmp *qmp, const char *opaque, deadline_t deadline,
                          struct error *error);

/* Descriptors that go with getfd have names: KIND ("tap" or "vhost") of a queue. QEMU keeps what no netdev has taken,
 * also when the connection ends. Closing those of the first `queues`; one that is not there is fine. */
enum { PERIPHERAL_NAME_SIZE = 64 };
void peripheral_fd_name(char *name, const char *kind, size_t queue);
int peripheral_close_names(struct qmp *qmp, size_t queues, deadline_t deadline,
                           struct error *error);

enum unplug_end {
    UNPLUG_GONE,    /* DEVICE_DELETED for this id, and QEMU does not show it any more */
    UNPLUG_REFUSED, /* the guest said no (DEVICE_UNPLUG_GUEST_ERROR) */
    UNPLUG_DENIED, /* QEMU refused several requests and took none, see error: it can't be unplugged, or it is
                     * being unplugged since before */
    UNPLUG_PENDING, /* the time is up: the guest has not let it go yet, but may */
    UNPLUG_FAILED,  /* something else, see error */
};

/*
 * device_del and the wait for the guest. The request is repeated each second while the VM runs, because one that
 * arrives while the guest boots is lost. `progress` may be NULL; it is called before each repetition.
 */
enum unplug_end peripheral_unplug(struct qmp *qmp, const char *id, deadline_t deadline,
                                  void (*progress)(const char *text), struct error *error);

/* *phase is the status of query-migrate when a migration is under way that forbids hotplug; NULL: none. Static. *ever: one
 * is or was, in either direction, or is expected; false also of one that is expected without an address yet. */
int peripheral_migration(struct qmp *qmp, deadline_t deadline, const char **phase, bool *ever,
                         struct error *error);

/* A drive with a removable medium, by the id of its device. */
struct drive {
    bool exists, tray_open;
    char node[64]; /* of the medium; "" when there is none */
};
int peripheral_drive(struct qmp *qmp, const char *id, deadline_t deadline, struct drive *drive,
                     struct error *error);

#endif
