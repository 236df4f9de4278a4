/* SPDX-License-Identifier: BSD-2-Clause */
/* What the parts of cmdline share: words are added to a JSON array in order. */
#ifndef KVM_QEMU_CMDLINE_PRIVATE_H
#define KVM_QEMU_CMDLINE_PRIVATE_H

#include "kvm/qemu/cmdline.h"

void cmdline_word(json_t *words, const char *word);
void cmdline_pair(json_t *words, const char *option, const char *value);
void cmdline_format(json_t *words, const char *option, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void cmdline_json(json_t *words, const char *option, json_t *value); /* steals value */

/* cmdline_common.c: what both forms say in the same words. */
void cmdline_smp(json_t *words, const struct instance *instance);
/* `accelerator` NULL: none named. */
void cmdline_machine(json_t *words, const struct instance *instance,
                     const struct cmdline_plan *plan, const char *accelerator, bool usb);
void cmdline_memory_path(json_t *words, const struct instance *instance);
void cmdline_kernel(json_t *words, const struct instance *instance);
void cmdline_chroot(json_t *words, const struct cmdline_plan *plan, const char *run_as);
json_t *cmdline_root_port(int slot); /* of q35; new reference */

/* cmdline_hardware.c: what is the same in both forms but for its syntax. `add` writes an option whose value is an
 * object ("driver" or "qom-type" first) and steals it. */
typedef void (*cmdline_add_t)(json_t *words, const char *option, json_t *stolen);
void cmdline_board(json_t *words, const struct instance *instance, cmdline_add_t add);
void cmdline_balloon(json_t *words, const struct instance *instance,
                     const struct cmdline_plan *plan, cmdline_add_t add);
const char *cmdline_serial_id(const struct instance *instance); /* its controller's */
void cmdline_threads(json_t *words, const struct instance *instance, cmdline_add_t add);
void cmdline_scsi(json_t *words, const struct instance *instance, const struct cmdline_plan *plan,
                  cmdline_add_t add);
void cmdline_rng(json_t *words, const struct instance *instance, const struct cmdline_plan *plan,
                 cmdline_add_t add);
void cmdline_watchdog(json_t *words, const struct instance *instance,
                      const struct cmdline_plan *plan, cmdline_add_t add);
void cmdline_watchdog_action(json_t *words, const struct instance *instance);
/* cmdline_display.c */
void cmdline_display(json_t *words, const struct instance *instance,
                     const struct cmdline_plan *plan, cmdline_add_t add);
void cmdline_usb(json_t *words, const struct instance *instance, const struct cmdline_plan *plan,
                 cmdline_add_t add);
void cmdline_sound(json_t *words, const struct instance *instance, const struct cmdline_plan *plan,
                   cmdline_add_t add);
void cmdline_vdagent(json_t *words, const struct instance *instance,
                     const struct cmdline_plan *plan, cmdline_add_t add);
bool cmdline_has_vnc(const struct instance *instance, const struct cmdline_plan *plan);
bool cmdline_has_spice(const struct instance *instance, const struct cmdline_plan *plan);
bool cmdline_has_usb(const struct instance *instance, const struct cmdline_plan *plan);

/* cmdline_media.c: CD-ROMs and floppy, in both forms. */
void cmdline_media(json_t *words, const struct instance *instance, const struct cmdline_plan *plan);
void cmdline_record_media(json_t *words, const struct instance *instance,
                          const struct cmdline_plan *plan, cmdline_add_t add);
/* -add-fd; `what` is what QEMU may tell about the set by query-fdsets. */
void cmdline_descriptor_set(json_t *words, int descriptor, int set, const char *what);

/* The TPM, of which another tool can start no emulator: in the executed form alone. */
void cmdline_tpm(json_t *words, const struct instance *instance, const struct cmdline_plan *plan);

/* cmdline_firmware.c: UEFI firmware and its variables; each form in its own words. */
void cmdline_firmware(json_t *words, const struct cmdline_plan *plan);
void cmdline_firmware_record(json_t *words, const struct cmdline_plan *plan);

/* cmdline_devices.c: the devices of the executed form and what stands behind them. */
void cmdline_devices(json_t *words, const struct instance *instance,
                     const struct cmdline_plan *plan);

#endif
