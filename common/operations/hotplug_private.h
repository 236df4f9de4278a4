/* SPDX-License-Identifier: BSD-2-Clause */
/* One hotplug command at work: shared by the actions in hotplug_*.c. */
#ifndef KVM_OPERATIONS_HOTPLUG_PRIVATE_H
#define KVM_OPERATIONS_HOTPLUG_PRIVATE_H

#include <jansson.h>
#include "kvm/base/transaction.h"
#include "kvm/operations/hotplug.h"
#include "kvm/operations/session.h"
#include "kvm/qemu/qmp.h"
#include "kvm/state/slots.h"

enum hotplug_subject { SUBJECT_NONE, SUBJECT_DISK, SUBJECT_NIC };

/* What an action asks of QEMU: a free slot, a guest that hears. */
enum hotplug_needs { NEEDS_NOTHING = 0, NEEDS_SLOT = 1, NEEDS_GUEST = 2 };

struct hotplug {
    const struct rundir *rundir;
    const struct node *node;
    const char *name;
    const struct hotplug_options *options;
    char *const *arguments;
    size_t count;
    json_t *given; /* the object on standard input; NULL: none */
    deadline_t
        deadline; /* of what is done; a part of the time is kept for looking and undoing after a fault */
    deadline_t end; /* of all */
    struct result *result;
    struct session session;
    struct runtime *runtime;   /* of the session */
    struct instance *instance; /* of the runtime */
    struct qmp *qmp;
    enum hotplug_subject subject;
    char *
        subject_uuid; /* which device the first argument named before anything was reconciled; NULL: none */
    int needs;       /* of the action: a sum of enum hotplug_needs */
    char status[32]; /* query-status; "": not asked */
    char *before;    /* the runtime file as it was: what an undo writes back */
    size_t before_length;
    bool recovering; /* something has failed: `deadline` is the end */
    bool unknown;    /* QEMU's state can't be known: nothing may be undone (I15) */
    bool keep; /* the state written is to stay though the step failed: the next command needs it */
    bool answered; /* hotplug_check_answers has succeeded, or is not called for: only looking */
    bool prepared; /* what hotplug_commit is to put in place is written already */
    bool touched;  /* something was to be changed: in the file or by QEMU */
    bool goes_on;  /* the time is up, and the guest is still at it */
    int vacated;   /* slot of a device that a dry run took away; 0: none */
    json_t *again; /* what a mod-nic that was killed was to plug in place of this NIC; NULL: none */
    size_t again_index;
    bool again_down;
    bool advised; /* the message says already what to do */
};

/* Lock, live, recorded. `looking`: no lock, query monitor. */
int hotplug_open(struct hotplug *hotplug, bool looking, struct error *error);
/* Then, unless looking: not migrating, reconciled. With `may_answer_later`, and when nothing is to be reconciled, the
 * action calls hotplug_check_answers itself, before it has an effect or ends: it can decide and prepare while QEMU
 * answers. */
int hotplug_begin(struct hotplug *hotplug, bool may_answer_later, struct error *error);
/* Not migrating, by the answers to what was asked with the connection; looked at once. */
int hotplug_check_answers(struct hotplug *hotplug, struct error *error);
/* Asked anew, after something that took its time. */
int hotplug_check_again(struct hotplug *hotplug, struct error *error);
void hotplug_close(struct hotplug *hotplug);

/* The guest must be able to hear an unplug request: running. */
int hotplug_check_guest_listens(const struct hotplug *hotplug, const char *what,
                                struct error *error);

/* Before anything is decided or undone after a fault: the monitor answers again (opened anew when the connection was
 * lost), and there is time. False: QEMU's state can't be known; the first one to hear that gets the error. */
bool hotplug_recover(struct hotplug *hotplug, struct error *error);

/* From here on the time that was kept for it, when QEMU has no part in what is undone. */
void hotplug_take_last_time(struct hotplug *hotplug);

/* One QMP command that changes something. On QMP_UNKNOWN hotplug_recover was called: unless `unknown` is set then, the
 * caller can ask what has become of it. */
enum qmp_outcome hotplug_call(struct hotplug *hotplug, const char *command, json_t *arguments,
                              struct error *error);
/* The same for one that may be repeated: when its reply is lost it is sent again. */
int hotplug_set(struct hotplug *hotplug, const char *command, json_t *arguments,
                struct error *error);

/* After a step failed that has done something in part: `undo` it. Returns -1, with what could not be undone added. */
int hotplug_failed(int (*undo)(void *plan, struct error *error), void *plan, struct error *error);

/* Undo by `act`, which may be repeated, unless nothing may be undone any more. */
int hotplug_undo(struct hotplug *hotplug, int (*act)(void *plan, struct error *error), void *plan,
                 struct error *error);
/* The same for what is removed by its name. */
int hotplug_take_back(struct hotplug *hotplug,
                      int (*remove)(struct qmp *qmp, const char *name, deadline_t deadline,
                                    struct error *error),
                      const char *name, struct error *error);
/* At the begin of an undo: 1, it may be done; 0, nothing may be done any more; -1, that turned out just now. */
int hotplug_begin_undo(struct hotplug *hotplug, struct error *error);
/* At its end, what it returns: after a failed one the runtime stays as it is, for the next command to finish it. */
int hotplug_end_undo(struct hotplug *hotplug, int result);

/* Commit the runtime; write back what was there before. The first part of a commit can be done while QEMU is at work: the
 * runtime must be the same then when it is committed, or what was prepared be forgotten. */
void hotplug_prepare_commit(struct hotplug *hotplug);
void hotplug_forget_commit(struct hotplug *hotplug);
int hotplug_commit(struct hotplug *hotplug, struct error *error);
int hotplug_restore(struct hotplug *hotplug, struct error *error);

void hotplug_text(struct hotplug *hotplug, char *text);                       /* steals */
void hotplug_detail(struct hotplug *hotplug, const char *key, json_t *value); /* steals */

/* What a dry run tells, as "steps", "commands" in their order, "files" and "hooks" of the result. */
void hotplug_plan_steps(struct hotplug *hotplug, const struct step *steps, size_t count);
void hotplug_plan_command(struct hotplug *hotplug, const char *command,
                          json_t *arguments); /* steals; may be NULL */
void hotplug_plan_file(struct hotplug *hotplug, const char *path);
void hotplug_plan_runtime(struct hotplug *hotplug);
void hotplug_plan_tap(struct hotplug *hotplug, size_t index, const char *uuid);
void hotplug_plan_hook(struct hotplug *hotplug, char *words); /* steals */
void hotplug_plan_operation_hooks(struct hotplug *hotplug);   /* those around the action */

/* Read the object that "-" in the place of KEY=VALUE arguments means. Before anything is held or asked: whoever types it
 * may take his time. */
int hotplug_read_given(struct hotplug *hotplug, struct error *error);
/* That object, or KEY=VALUE arguments as one. Values of `numbers` become integers; unknown keys are refused with the
 * nearest one. New reference. */
json_t *hotplug_object(const struct hotplug *hotplug, size_t first, const char *const *keys,
                       const char *const *numbers, struct error *error);

/* Keys that a person writes at the top go into the object `into`, which is made when it is missing. */
void hotplug_move_keys(json_t *object, const char *const *keys, const char *into);

/* Index of the disk or NIC that `ident` (uuid, name, index, path; a NIC also by MAC or tap) names; ambiguous ones are
 * refused. -1 with STATUS_USAGE. */
int hotplug_find_disk(const struct hotplug *hotplug, const char *ident, struct error *error);
int hotplug_find_nic(const struct hotplug *hotplug, const char *ident, struct error *error);

/* Note which device the first argument names. Before reconciling: what that finishes or drops moves the indices, and an
 * index must never come to mean another device than the user saw. */
void hotplug_name_subject(struct hotplug *hotplug);

/* A uuid that none of the devices has, at a removal: it is so already. Sets the result's text. */
bool hotplug_is_gone(struct hotplug *hotplug, const char *kind, const char *ident);

/* Slots free in the runtime and in QEMU, and the one that `vacated` names. */
int hotplug_slots(struct hotplug *hotplug, struct slots *slots, struct error *error);
int hotplug_recorded_slots(struct hotplug *hotplug, struct slots *slots,
                           struct error *error); /* in the runtime alone */

/* Mark "removing", ask the guest, wait; then `remains` removes the backend; then the entry goes. */
struct removal {
    const char *what; /* "disk 4f2c…" */
    const char *uuid, *id;
    size_t index;
    const json_t *again; /* what is plugged in its place by the same command; NULL: nothing */
    int (*remains)(struct hotplug *hotplug, const struct removal *removal, struct error *error);
    void (*plan)(struct hotplug *hotplug,
                 const struct removal *removal); /* the same, for a dry run */
    void (*drop)(struct runtime *runtime, size_t index);
};
int hotplug_remove(struct hotplug *hotplug, const struct removal *removal, struct error *error);

/* hotplug_nic*.c, for mod-nic: mode, link and vlan that stand at the top go into nicparams; take a NIC away; plug one as an
 * add-nic of this object would, as the `index`-th. */
void hotplug_move_nicparams(json_t *object);
int hotplug_remove_nic(struct hotplug *hotplug, size_t index, const json_t *again,
                       struct error *error);
int hotplug_plug_nic(struct hotplug *hotplug, const json_t *object, size_t index, bool link_down,
                     struct error *error);

typedef int (*hotplug_action)(struct hotplug *hotplug, struct error *error);

int hotplug_check(struct hotplug *hotplug, struct error *error);
int hotplug_list(struct hotplug *hotplug, struct error *error);
int hotplug_add_disk(struct hotplug *hotplug, struct error *error);
int hotplug_del_disk(struct hotplug *hotplug, struct error *error);
int hotplug_add_nic(struct hotplug *hotplug, struct error *error);
int hotplug_del_nic(struct hotplug *hotplug, struct error *error);
int hotplug_mod_nic(struct hotplug *hotplug, struct error *error);
int hotplug_resize_disk(struct hotplug *hotplug, struct error *error);
int hotplug_set_memory(struct hotplug *hotplug, struct error *error);
int hotplug_set_link(struct hotplug *hotplug, struct error *error);
int hotplug_change_cdrom(struct hotplug *hotplug, struct error *error);
int hotplug_set_io(struct hotplug *hotplug, struct error *error);

extern const char *const hotplug_disk_keys[];
extern const char *const hotplug_nic_keys[];
extern const char *const hotplug_mod_nic_keys[];
extern const char *const hotplug_io_keys[];

#endif
