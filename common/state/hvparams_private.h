/* SPDX-License-Identifier: BSD-2-Clause */
/* The checks of what a person sees and hears of a guest (hvparams_display.c), for hvparams_check.c. */
#ifndef KVM_STATE_HVPARAMS_PRIVATE_H
#define KVM_STATE_HVPARAMS_PRIVATE_H

#include "kvm/state/check.h"
#include "kvm/state/hvparams.h"

/* What the text of a parameter looks like, where neither a set of words nor "a path" says it. */
struct hvparam_form {
    const char *name;
    bool (*good)(const char *text);
    const char *expected; /* for people: "must be …" */
};

/* What a value that is not empty must be; NULL: it is that, or the parameter is none of these. */
const char *hvparams_form_fault(const struct hvparam_form *forms, size_t count, const char *name,
                                const char *text);

/* The same of the forms of hvparams_display.c. */
const char *hvparams_display_fault(const char *name, const char *text);

/* What VNC, SPICE and the hardware need of each other. */
void hvparams_display_whole(const struct check *check, const json_t *filled);

#endif
