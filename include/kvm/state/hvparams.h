/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The hypervisor parameters: one table with name, type, default, check and who sees it. Pure.
 *
 * A set of hvparams is a JSON object in which, after hvparams_fill, every known parameter is there
 * with the right type, so the getters need no error. Unknown keys in a *definition* are an error;
 * in a *runtime file* they are kept as they are.
 *
 * Names and meaning are Ganeti's (its KVM hypervisor, 2.10 to 3.1); ours beside them: hotplug_ports.
 */
#ifndef KVM_STATE_HVPARAMS_H
#define KVM_STATE_HVPARAMS_H

#include <stdbool.h>
#include <stdint.h>
#include <jansson.h>
#include "kvm/base/error.h"

enum hvparam_type { HVPARAM_TEXT, HVPARAM_TRUTH, HVPARAM_NUMBER };

/* Who can notice the value: what the guest can notice comes from the running instance (runtime file),
 * also on reboot and on the target of a migration; the rest from the configuration now. */
enum hvparam_scope { HVPARAM_GUEST, HVPARAM_NODE };

struct hvparam {
    const char *name;
    enum hvparam_type type;
    const char *text;           /* default of HVPARAM_TEXT */
    int64_t number;             /* default of HVPARAM_NUMBER and HVPARAM_TRUTH */
    int64_t low, high;          /* HVPARAM_NUMBER */
    const char *const *choices; /* HVPARAM_TEXT: NULL-terminated closed set, or NULL */
    bool may_be_empty;          /* with choices: "" is allowed as well */
    bool is_path;               /* absolute normalised path when not empty */
    enum hvparam_scope scope;
    const char *help; /* one line for kvm-instance(5) */
};

extern const struct hvparam hvparams_table[];
extern const size_t hvparams_count;

const struct hvparam *hvparams_find(const char *name); /* NULL: unknown */

/* Check one object of given parameters (any subset): unknown names (nearest named), types, ranges and
 * choices. `where` is prefixed: "web1.json: hvparams". Null means unset = the
 * default. Adds to `problems`. */
void hvparams_check(const json_t *given, const char *where, struct messages *problems);

/* The same for the hvparams of a runtime file: unknown names are kept as they are, and so are words that
 * this suite can't start (another tool may have started the guest); types, ranges, choices and strings
 * are checked all the same. */
void hvparams_check_loaded(const json_t *given, const char *where, struct messages *problems);

/* The filled set of an instance that is to be started, perhaps from another tool's runtime file: as hvparams_check, but
 * unknown names are nothing to complain of. */
void hvparams_check_started(const json_t *filled, const char *where, struct messages *problems);

/* Checks that need the whole, filled set (dependencies): vnc password needs a bind address,
 * disk_aio native needs disk_cache none, boot_order cdrom needs an image, … Pure: no file is looked
 * at (launch does that). */
void hvparams_check_whole(const json_t *filled, const char *where, struct messages *problems);

/* New object: built-in defaults, then `defaults` (may be NULL), then `given` (may be NULL); nulls
 * mean "not given". Unknown keys of `given` are kept, those of `defaults` as well. disk_discard
 * "default" becomes "ignore", which is what it means and what Ganeti from 3.1 on wants to read. */
json_t *hvparams_fill(const json_t *defaults, const json_t *given);

/* Getters on a filled set; programming error when the name is not in the table. */
const char *hvparams_text(const json_t *filled, const char *name); /* never NULL; "" is unset */
bool hvparams_truth(const json_t *filled, const char *name);
int64_t hvparams_number(const json_t *filled, const char *name);

/* A multi CPU mask "0-2,5" | "all" | "0:2-3:all" (one part per vCPU). For each part: a list of CPU
 * numbers as a json array of integers, or null for "all". New array; NULL with error. */
json_t *hvparams_cpu_mask(const char *mask, struct error *error);

#endif
