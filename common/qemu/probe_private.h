/* SPDX-License-Identifier: BSD-2-Clause */
/* Asking a QEMU binary (probe_ask.c), apart from remembering the answer (probe.c). */
#ifndef KVM_QEMU_PROBE_PRIVATE_H
#define KVM_QEMU_PROBE_PRIVATE_H

#include "kvm/qemu/probe.h"

/* Start it, ask, end it. Nothing of it is left, whatever happens; at most 10 s. */
int probe_ask(const char *binary, struct probe *probe, struct error *error);

#endif
