/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/state/hardware.h"

#include <stdio.h>
#include <string.h>
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/base/transaction.h"
#include "kvm/state/check.h"
#include "kvm/state/hvparams.h"

enum { WORD_SIZE = 32, USB_BUS_MAX = 255, USB_ADDRESS_MAX = 127 };

const char *const hardware_all_types[] = {
    "cirrus-vga", "vmware-svga",
    "qxl-vga",    "virtio-vga",
    "AC97",       "ES1370",
    "intel-hda",  "sb16",
    "gus",        "adlib",
    "cs4231a",    "usb-tablet",
    "usb-mouse",  "usb-kbd",
    "usb-host",   "usb-wacom-tablet",
    "isa-pcspk",  "chardev-spicevmc",
    NULL,
};

static const struct {
    const char *word, *driver;
} graphics[] = {
    {"std", "VGA"},     {"cirrus", "cirrus-vga"}, {"vmware", "vmware-svga"},
    {"qxl", "qxl-vga"}, {"virtio", "virtio-vga"},
};

static const struct sound_card cards[] = {
    {"ac97", "AC97", NULL, true},  {"es1370", "ES1370", NULL, true},
    {"sb16", "sb16", NULL, false}, {"hda", "intel-hda", "hda-duplex", true},
    {"gus", "gus", NULL, false},   {"adlib", "adlib", NULL, false},
    {"pcspk", NULL, NULL, false},  {"cs4231a", "cs4231a", NULL, false},
};

static const struct {
    const char *word, *driver;
} usb[] = {
    {"tablet", "usb-tablet"},
    {"mouse", "usb-mouse"},
    {"keyboard", "usb-kbd"},
    {"wacom-tablet", "usb-wacom-tablet"},
};

const char *hardware_vga(const json_t *hvparams)
{
    const char *word = hvparams_text(hvparams, "vga");

    if (word[0] != '\0')
        return word;
    return hvparams_text(hvparams, "spice_bind")[0] != '\0' ? "qxl" : "std";
}

const char *hardware_vga_driver(const char *word)
{
    for (size_t i = 0; i < COUNT(graphics); i++) {
        if (strcmp(graphics[i].word, word) == 0)
            return graphics[i].driver;
    }
    return NULL;
}

/* Item `index` of a list with commas; false: it has no such item, or one that is longer than any word. */
static bool item_of(const char *list, size_t index, char *word)
{
    for (; index > 0 && list != NULL; index--) {
        list = strchr(list, ',');
        list = list != NULL ? list + 1 : NULL;
    }
    if (list == NULL || list[0] == '\0')
        return false;
    size_t length = strcspn(list, ",");

    if (length >= WORD_SIZE)
        return false;
    memcpy(word, list, length);
    word[length] = '\0';
    return true;
}

const struct sound_card *hardware_sound_card(const char *word)
{
    for (size_t i = 0; i < COUNT(cards); i++) {
        if (strcmp(cards[i].word, word) == 0)
            return &cards[i];
    }
    return NULL;
}

const struct sound_card *hardware_sound(const char *soundhw, size_t index)
{
    char word[WORD_SIZE];

    return item_of(soundhw, index, word) ? hardware_sound_card(word) : NULL;
}

const struct sound_card *hardware_pci_sound(const json_t *hvparams)
{
    const char *soundhw = hvparams_text(hvparams, "soundhw");
    const struct sound_card *card;

    for (size_t i = 0; (card = hardware_sound(soundhw, i)) != NULL; i++) {
        if (card->takes_slot)
            return card;
    }
    return NULL;
}

bool hardware_has_pc_speaker(const char *soundhw)
{
    const struct sound_card *card;

    for (size_t i = 0; (card = hardware_sound(soundhw, i)) != NULL; i++) {
        if (card->driver == NULL)
            return true;
    }
    return false;
}

/* Four hexadecimal digits, as lsusb prints them. */
static bool usb_number(const char *text, size_t length, unsigned *number)
{
    char digits[5] = "";

    if (length == 0 || length > 4 || strspn(text, "0123456789abcdefABCDEF") < length)
        return false;
    memcpy(digits, text, length);
    return sscanf(digits, "%x", number) == 1;
}

static json_t *usb_host(const char *which)
{
    const char *dot = strchr(which, '.'), *colon = strchr(which, ':');
    unsigned vendor, product;
    int64_t bus, address;

    if (colon != NULL) {
        if (!usb_number(which, (size_t)(colon - which), &vendor) ||
            !usb_number(colon + 1, strlen(colon + 1), &product))
            return NULL;
        return memory_json(json_pack("{s:s, s:I, s:I}", "driver", "usb-host", "vendorid",
                                     (json_int_t)vendor, "productid", (json_int_t)product));
    }
    AUTO_FREE char *first = memory_format("%.*s", (int)strcspn(which, "."), which);
    if (dot == NULL || !text_number(first, 1, USB_BUS_MAX, &bus) ||
        !text_number(dot + 1, 1, USB_ADDRESS_MAX, &address))
        return NULL;
    return memory_json(json_pack("{s:s, s:I, s:I}", "driver", "usb-host", "hostbus",
                                 (json_int_t)bus, "hostaddr", (json_int_t)address));
}

json_t *hardware_usb_device(const char *word)
{
    if (strncmp(word, "host:", 5) == 0)
        return usb_host(word + 5);
    for (size_t i = 0; i < COUNT(usb); i++) {
        if (strcmp(usb[i].word, word) == 0)
            return memory_json(json_pack("{s:s}", "driver", usb[i].driver));
    }
    return NULL;
}

static void add_usb(json_t *devices, const char *word, const char *id)
{
    json_t *device = hardware_usb_device(word);

    if (device == NULL)
        return;
    check_set(device, "id", json_string(id));
    json_array_append_new(devices, device);
}

json_t *hardware_usb_devices(const json_t *hvparams, bool has_vnc)
{
    const char *mouse = hvparams_text(hvparams, "usb_mouse");
    json_t *devices = memory_json(json_array());
    char word[WORD_SIZE];

    if (mouse[0] == '\0' && has_vnc)
        mouse = "tablet";
    if (mouse[0] != '\0')
        add_usb(devices, mouse, mouse);
    for (size_t i = 0; item_of(hvparams_text(hvparams, "usb_devices"), i, word); i++) {
        AUTO_FREE char *id = memory_format("usb%zu", i);

        add_usb(devices, word, id);
    }
    return devices;
}

bool hardware_has_vdagent(const json_t *hvparams)
{
    return hvparams_text(hvparams, "spice_bind")[0] != '\0' &&
           hvparams_truth(hvparams, "spice_use_vdagent");
}

static void need(json_t *types, const char *type, const char *param)
{
    if (type != NULL && check_is_one_of(type, hardware_all_types))
        check_set(types, type, json_string(param));
}

json_t *hardware_types(const json_t *hvparams)
{
    const char *soundhw = hvparams_text(hvparams, "soundhw");
    bool spice = hvparams_text(hvparams, "spice_bind")[0] != '\0';
    bool own_vga = hvparams_text(hvparams, "vga")[0] != '\0';
    AUTO_JSON json_t *devices = hardware_usb_devices(hvparams, false);
    json_t *types = memory_json(json_object()), *device;
    const struct sound_card *card;
    size_t index;

    need(types, hardware_vga_driver(hardware_vga(hvparams)), own_vga ? "vga" : "spice_bind");
    if (spice)
        need(types, "chardev-spicevmc", "spice_bind");
    for (size_t i = 0; (card = hardware_sound(soundhw, i)) != NULL; i++)
        need(types, card->driver != NULL ? card->driver : "isa-pcspk", "soundhw");
    json_array_foreach (devices, index, device)
        need(types, json_text(device, "driver"),
             strncmp(json_text(device, "id"), "usb", 3) == 0 ? "usb_devices" : "usb_mouse");
    return types;
}
