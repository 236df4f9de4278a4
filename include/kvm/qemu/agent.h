/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest agent (org.qemu.guest_agent.0), as far as stopping needs it. Its protocol has no greeting and,
 * after guest-shutdown, no reply; a guest without a running agent simply never answers, so each step has a
 * short time of its own.
 *
 * Source: QEMU docs/interop/qemu-ga-ref; the channel is resynchronised by guest-sync with a fresh number.
 */
#ifndef KVM_QEMU_AGENT_H
#define KVM_QEMU_AGENT_H

#include <sys/types.h>
#include "kvm/base/clock.h"
#include "kvm/base/error.h"

/* Ask the agent behind the unix socket `path`, whose peer must be `pid`, to power the guest off. Returns 0
 * when the agent answered the sync and the request was written; -1 when there is no agent that answers. */
int agent_shutdown(const char *path, pid_t pid, deadline_t deadline, struct error *error);

#endif
