/* SPDX-License-Identifier: BSD-2-Clause */
/* The target's places for disks that travel: what migrate_landing.c and migrate_landing_files.c share. */
#ifndef KVM_OPERATIONS_MIGRATE_LANDING_H
#define KVM_OPERATIONS_MIGRATE_LANDING_H

#include "migrate_disks.h"

/* The directory of a path, which must be one where disks may be made; *name is the rest of `path`. The caller closes. */
int landing_directory(const char *path, const char **name, struct error *error);
/* A file in it that has no name yet; it vanishes with its descriptor. */
int landing_unnamed(int directory, const struct landing *landing, int flags, struct error *error);
/* What is there, and may it be: fills `exists` and `same`. */
int landing_look(const struct landings *landings, struct landing *landing, int flags,
                 struct error *error);

#endif
