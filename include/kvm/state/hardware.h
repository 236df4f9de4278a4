/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the words of vga, soundhw, usb_mouse and usb_devices mean in QEMU's device models, for the checks, the
 * placement, the command line and the upgrade of old ones. Pure.
 */
#ifndef KVM_STATE_HARDWARE_H
#define KVM_STATE_HARDWARE_H

#include <stdbool.h>
#include <jansson.h>

/* The word that holds: vga where it is set, else "qxl" with SPICE, else "std". */
const char *hardware_vga(const json_t *hvparams);
/* The device of such a word; NULL: "none", or unknown. */
const char *hardware_vga_driver(const char *word);

struct sound_card {
    const char *word;
    const char *driver; /* NULL: the machine has it (pcspk) and only gets its audiodev */
    const char *codec;  /* a second device on its bus; NULL: none */
    bool takes_slot;    /* of PCI */
};

/* NULL: unknown. */
const struct sound_card *hardware_sound_card(const char *word);
/* Card number `index` of a list as soundhw has it; NULL: there are no more, or unknown. */
const struct sound_card *hardware_sound(const char *soundhw, size_t index);
/* The card that takes a slot; NULL: none of them does. */
const struct sound_card *hardware_pci_sound(const json_t *hvparams);
bool hardware_has_pc_speaker(const char *soundhw);

/* {"driver", …} for a word of usb_devices (what -usbdevice took): tablet, mouse, keyboard, wacom-tablet,
 * host:BUS.ADDRESS, host:VENDOR:PRODUCT (hexadecimal). New reference; NULL: unknown. */
json_t *hardware_usb_device(const char *word);
/* Devices of usb_mouse and usb_devices, and the tablet that comes with VNC: a new array of such objects with
 * their ids. */
json_t *hardware_usb_devices(const json_t *hvparams, bool has_vnc);

bool hardware_has_vdagent(const json_t *hvparams);

/* The QOM types that an instance with these hvparams needs beyond what every QEMU has, each with the hvparam
 * that asks for it: {"qxl-vga": "spice_bind"}. New object. */
json_t *hardware_types(const json_t *hvparams);
/* All types that hardware_types may name, NULL-terminated. */
extern const char *const hardware_all_types[];

#endif
