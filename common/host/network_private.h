/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The built-in set-up of each mode, and the little language of VLANs. Everything here may be
 * repeated: what is so already is success.
 */
#ifndef KVM_HOST_NETWORK_PRIVATE_H
#define KVM_HOST_NETWORK_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include "kvm/base/clock.h"
#include "kvm/base/error.h"
#include "kvm/state/instance.h"
#include "link.h"

enum { VLANS_MAX = 64 };

/* ".100": untagged in VLAN 100; ":100:200": tagged in both; ".100:200": both at once; "100" is
 * taken for ".100". */
struct vlans {
    int native; /* 0: none */
    int tagged[VLANS_MAX];
    size_t count;
};
int vlans_parse(const char *text, struct vlans *vlans, struct error *error);

/* What must be there before the built-in set-up can work. */
void modes_check(const struct nic *nic, const char *where, struct messages *problems);

int modes_up(const struct nic *nic, const char *tap, deadline_t deadline, struct error *error);
int modes_down(const struct nic *nic, const char *tap, deadline_t deadline, struct error *error);

/* The modes one by one. */
void bridged_check(const struct nic *nic, const char *where, struct messages *problems);
int bridged_up(const struct nic *nic, const char *tap, struct error *error);
void openvswitch_check(const struct nic *nic, const char *where, struct messages *problems);
int openvswitch_up(const struct nic *nic, const char *tap, deadline_t deadline,
                   struct error *error);
int openvswitch_down(const char *tap, deadline_t deadline, struct error *error);
void routed_check(const struct nic *nic, const char *where, struct messages *problems);
int routed_up(const struct nic *nic, const char *tap, deadline_t deadline, struct error *error);
int routed_down(const struct nic *nic, const char *tap, deadline_t deadline, struct error *error);

/* The tap, this node's side of the cable. With a bridge it becomes a member of it and gets its MTU;
 * one that is in it already stays. Taking down one that is gone is success. */
int side_query(const char *tap, struct link_state *state, struct error *error);
int side_bring_up(const struct nic *nic, const char *tap, const struct link_state *state,
                  const struct link_state *bridge, struct error *error);
int side_take_down(const char *tap, struct error *error);

/* Programs of the system, looked for only where distributions put them; PATH is not asked.
 * words[0] is the name. program_run returns the exit status, or -1; `output` may be NULL.
 * program_must fails for any exit status but 0. */
enum { PROGRAM_PATH_SIZE = 64 };
bool program_find(const char *name, char *path);
int program_run(const char **words, deadline_t deadline, char **output, struct error *error);
int program_must(const char **words, deadline_t deadline, struct error *error);

/* In words; the caller frees. */
char *modes_describe(const struct nic *nic);
char *modes_describe_down(const struct nic *nic);

#endif
