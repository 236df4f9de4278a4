/* SPDX-License-Identifier: BSD-2-Clause */
/* The target's places for disks that travel: what migrate_landing.c, migrate_landing_files.c and migrate_place.c share. */
#ifndef KVM_OPERATIONS_MIGRATE_LANDING_H
#define KVM_OPERATIONS_MIGRATE_LANDING_H

#include "migrate_disks.h"
#include "kvm/state/node.h"

/* ---- migrate_place.c ---- */

enum { PLACE_NAME_SIZE = 128 };

/* Resolve the path, open its directory and what is there, if anything is. Releases what `place` had. */
int place_open(const char *path, struct place *place, struct error *error);
/* What place_open found, with other flags; -1 with errno. */
int place_reopen(const struct place *place, int flags);
/* By disk_places of the node file. */
int place_check_allowed(const struct node *node, const char *path, const struct place *place,
                        struct error *error);
void place_release(struct place *place);
#define AUTO_PLACE __attribute__((cleanup(place_release)))
/* "/dev/GROUP/VOLUME", and nothing below. */
bool place_names_volume(const char *path, char group[PLACE_NAME_SIZE],
                        char volume[PLACE_NAME_SIZE]);

/* ---- migrate_landing.c ---- */

/* A file in the place's directory that has no name yet; it vanishes with its descriptor. */
int landing_unnamed(const struct landing *landing, int flags, struct error *error);
/* What is there, and may it be: opens the place, fills `exists` and `same`. */
int landing_look(const struct landings *landings, struct landing *landing, int flags,
                 struct error *error);

#endif
