/* SPDX-License-Identifier: BSD-2-Clause */
/* The checks of what a person sees and hears of a guest (hvparams_display.c), for hvparams_check.c. */
#ifndef KVM_STATE_HVPARAMS_PRIVATE_H
#define KVM_STATE_HVPARAMS_PRIVATE_H

#include "kvm/state/check.h"
#include "kvm/state/hvparams.h"

/* What a value that is not empty must be; NULL: it is that, or the parameter is none of these. */
const char *hvparams_display_fault(const char *name, const char *text);

/* What VNC, SPICE and the hardware need of each other. */
void hvparams_display_whole(const struct check *check, const json_t *filled);

#endif
