/* SPDX-License-Identifier: BSD-2-Clause */
/* add-nic: decided in hotplug_nic_decide.c, its tap and descriptors in hotplug_nic_tap.c, done in hotplug_nic.c. */
#ifndef KVM_OPERATIONS_HOTPLUG_NIC_H
#define KVM_OPERATIONS_HOTPLUG_NIC_H

#include "hotplug_plug.h"
#include "kvm/host/tap.h"

struct nic_adding {
    struct plug plug; /* first: it is the plan of the common steps */
    size_t tap_index; /* of its tap file */
    char tap_name[TAP_NAME_SIZE];
    struct tap tap;
    int vhost[TAP_QUEUES_MAX];
    size_t queues;
    bool want_vhost;
    size_t passed; /* queues of which the descriptors were passed */
};

/* What kvm-hotplug was given; NULL: an error. New reference. */
json_t *nic_adding_read(const struct hotplug *hotplug, struct error *error);
/* Check it, put the NIC into the instance, the `index`-th or, with SIZE_MAX, the last, and choose its slot. */
int nic_adding_decide(struct nic_adding *adding, const json_t *given, size_t index,
                      struct error *error);
struct nic *nic_adding_nic(const struct nic_adding *adding);

/* Steps, and what undoes them. */
int nic_adding_bring_tap_up(void *plan, struct error *error);
int nic_adding_take_tap_down(void *plan, struct error *error);
int nic_adding_pass_descriptors(void *plan, struct error *error);
int nic_adding_take_descriptors_back(void *plan, struct error *error);
int nic_adding_add_netdev(void *plan, struct error *error);
int nic_adding_remove_netdev(void *plan, struct error *error);
/* The QMP commands of these steps, for a dry run. */
void nic_adding_plan(const struct nic_adding *adding);
void nic_adding_close(struct nic_adding *adding);

#endif
