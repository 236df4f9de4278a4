/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What can only be checked on a whole instance: CPU topology against vCPUs, the SCSI controller against the
 * disks. Uniqueness (instance_check_unique) is declared in instance.h, since kvm-hotplug needs it as well.
 */
#ifndef KVM_STATE_INSTANCE_CHECK_H
#define KVM_STATE_INSTANCE_CHECK_H

#include "kvm/state/instance.h"

/* On a parsed instance with filled hvparams. */
void instance_check_whole(const struct instance *instance, const char *source,
                          struct messages *problems);

/* disk_check.c: the model of a disk against what is asked of it (part of instance_check_disk), that of CD-ROMs. */
void disk_check_frontend(const struct instance *instance, const struct disk *disk,
                         const char *where, struct messages *problems);
void media_check(const struct instance *instance, const char *source, struct messages *problems);

#endif
