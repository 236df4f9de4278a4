/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a person sees, hears and holds: VNC or SPICE, the graphics card, sound and USB devices, in the same
 * words for both forms but for the way a device is written, which the caller hands in.
 */
#include "cmdline_private.h"

#include <inttypes.h>
#include <string.h>

#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/base/transaction.h"
#include "kvm/state/hardware.h"
#include "kvm/state/hvparams.h"

enum { VNC_FIRST_PORT = 5900 };

static const char credentials[] = "vnctls0"; /* Ganeti's name */
static const char audio[] = "soundhw";

/* A display has no number below VNC's first port; Ganeti then gives no display, and neither do we. A
 * directory needs no port. */
bool cmdline_has_vnc(const struct instance *instance, const struct cmdline_plan *plan)
{
    return plan->vnc_address != NULL &&
           (plan->vnc_address[0] == '/' || instance->network_port > VNC_FIRST_PORT);
}

bool cmdline_has_spice(const struct instance *instance, const struct cmdline_plan *plan)
{
    return plan->spice_address != NULL && instance->network_port > 0;
}

bool cmdline_has_usb(const struct instance *instance, const struct cmdline_plan *plan)
{
    return cmdline_has_vnc(instance, plan) || instance->default_devices ||
           hvparams_text(instance->hvparams, "usb_mouse")[0] != '\0' ||
           hvparams_text(instance->hvparams, "usb_devices")[0] != '\0';
}

/* ",name=value" at the end of a value that is a list of options. */
static void add_option(char **list, const char *name, const char *value)
{
    AUTO_FREE char *doubled = text_double_commas(value);
    char *longer = memory_format("%s,%s=%s", *list, name, doubled);

    free(*list);
    *list = longer;
}

static void add_credentials(json_t *words, const json_t *hvparams, cmdline_add_t add)
{
    const char *directory = hvparams_text(hvparams, "vnc_x509_path");
    json_t *object;

    if (directory[0] == '\0')
        object = json_pack("{s:s, s:s, s:s}", "qom-type", "tls-creds-anon", "id", credentials,
                           "endpoint", "server");
    else
        object = json_pack("{s:s, s:s, s:s, s:s, s:b}", "qom-type", "tls-creds-x509", "id",
                           credentials, "endpoint", "server", "dir", directory, "verify-peer",
                           (int)hvparams_truth(hvparams, "vnc_x509_verify"));
    add(words, "-object", memory_json(object));
}

static void add_vnc(json_t *words, const struct instance *instance, const struct cmdline_plan *plan,
                    cmdline_add_t add)
{
    const json_t *hvparams = instance->hvparams;
    AUTO_FREE char *address = text_double_commas(plan->vnc_address);
    AUTO_FREE char *value =
        plan->vnc_later ? memory_copy("none")
        : address[0] == '/'
            ? memory_format("unix:%s/%s.vnc", address, instance->name)
            : memory_format("%s:%" PRId64, address, instance->network_port - VNC_FIRST_PORT);

    if (hvparams_text(hvparams, "vnc_password_file")[0] != '\0')
        add_option(&value, "password", "on");
    if (hvparams_truth(hvparams, "vnc_tls")) {
        add_credentials(words, hvparams, add);
        add_option(&value, "tls-creds", credentials);
    }
    if (hvparams_text(hvparams, "soundhw")[0] != '\0')
        add_option(&value, "audiodev", audio);
    cmdline_pair(words, "-vnc", value);
}

/* The address has been resolved, so the family is told by it. With ipv4=on besides, SPICE refuses 127.0.0.1 on a node
 * that has no other IPv4 address (getaddrinfo with AI_ADDRCONFIG). */
static void add_spice_listener(char **value, const struct instance *instance,
                               const struct cmdline_plan *plan)
{
    const json_t *hvparams = instance->hvparams;
    const char *ciphers = hvparams_text(hvparams, "spice_tls_ciphers");
    AUTO_FREE char *port = memory_format("%" PRId64, instance->network_port);
    AUTO_FREE char *authority = memory_format("%s/spice-ca.pem", plan->spice_directory);
    AUTO_FREE char *own = memory_format("%s/spice.pem", plan->spice_directory);

    if (!hvparams_truth(hvparams, "spice_use_tls")) {
        add_option(value, "port", port);
        return;
    }
    add_option(value, "tls-port", port);
    add_option(value, "x509-cacert-file", authority);
    add_option(value, "x509-key-file", own);
    add_option(value, "x509-cert-file", own);
    if (ciphers[0] != '\0')
        add_option(value, "tls-ciphers", ciphers);
}

static void add_spice(json_t *words, const struct instance *instance,
                      const struct cmdline_plan *plan)
{
    static const struct {
        const char *param, *option;
    } settings[] = {
        {"spice_image_compression", "image-compression"},
        {"spice_jpeg_wan_compression", "jpeg-wan-compression"},
        {"spice_zlib_glz_wan_compression", "zlib-glz-wan-compression"},
        {"spice_streaming_video", "streaming-video"},
    };
    const json_t *hvparams = instance->hvparams;
    AUTO_FREE char *value = memory_format("addr=%s", plan->spice_address);

    add_spice_listener(&value, instance, plan);
    /* With a ticket demanded and none set, nobody gets in: so it is until the password is set. */
    if (hvparams_text(hvparams, "spice_password_file")[0] == '\0')
        add_option(&value, "disable-ticketing", "on");
    for (size_t i = 0; i < COUNT(settings); i++) {
        const char *setting = hvparams_text(hvparams, settings[i].param);
        if (setting[0] != '\0')
            add_option(&value, settings[i].option, setting);
    }
    if (!hvparams_truth(hvparams, "spice_playback_compression"))
        add_option(&value, "playback-compression", "off");
    if (!hvparams_truth(hvparams, "spice_use_vdagent"))
        add_option(&value, "agent-mouse", "off");
    cmdline_pair(words, "-spice", value);
}

void cmdline_display(json_t *words, const struct instance *instance,
                     const struct cmdline_plan *plan, cmdline_add_t add)
{
    if (cmdline_has_vnc(instance, plan))
        add_vnc(words, instance, plan, add);
    else if (cmdline_has_spice(instance, plan))
        add_spice(words, instance, plan);
    else
        cmdline_pair(words, "-display", "none");
}

void cmdline_usb(json_t *words, const struct instance *instance, const struct cmdline_plan *plan,
                 cmdline_add_t add)
{
    AUTO_JSON json_t *devices =
        hardware_usb_devices(instance->hvparams, cmdline_has_vnc(instance, plan));
    json_t *device;
    size_t index;

    json_array_foreach (devices, index, device) {
        if (instance->default_devices) /* -usbdevice gives no id */
            json_object_del(device, "id");
        add(words, "-device", json_incref(device));
    }
}

/* Without an audiodev of its own, a card has none at all since QEMU 8.2. */
static void add_audiodev(json_t *words, const struct instance *instance,
                         const struct cmdline_plan *plan, cmdline_add_t add)
{
    add(words, "-audiodev",
        memory_json(json_pack("{s:s, s:s}", "driver",
                              cmdline_has_spice(instance, plan) ? "spice" : "none", "id", audio)));
}

static void add_card(json_t *words, const struct instance *instance,
                     const struct cmdline_plan *plan, const struct sound_card *card,
                     cmdline_add_t add)
{
    json_t *device =
        card->takes_slot
            ? placement_hvinfo(instance, card->driver, "sound", plan->placement->sound_slot)
            : memory_json(json_pack("{s:s, s:s}", "driver", card->driver, "id", card->word));

    if (card->codec != NULL) {
        add(words, "-device", device);
        device = memory_json(json_pack("{s:s, s:s, s:s, s:i}", "driver", card->codec, "id",
                                       "sound-codec", "bus", "sound.0", "cad", 0));
    }
    json_object_set_new(device, "audiodev", memory_json(json_string(audio)));
    add(words, "-device", device);
}

void cmdline_sound(json_t *words, const struct instance *instance, const struct cmdline_plan *plan,
                   cmdline_add_t add)
{
    const char *soundhw = hvparams_text(instance->hvparams, "soundhw");
    const struct sound_card *card;

    if (soundhw[0] != '\0')
        add_audiodev(words, instance, plan, add);
    for (size_t i = 0; (card = hardware_sound(soundhw, i)) != NULL; i++) {
        if (card->driver != NULL)
            add_card(words, instance, plan, card, add);
    }
}

/* The agent of SPICE in the guest talks through a port of the controller that the guest agent has too. */
void cmdline_vdagent(json_t *words, const struct instance *instance,
                     const struct cmdline_plan *plan, cmdline_add_t add)
{
    if (!cmdline_has_spice(instance, plan) || !hardware_has_vdagent(instance->hvparams) ||
        plan->placement->serial_slot == SLOT_NONE)
        return;
    cmdline_pair(words, "-chardev", "spicevmc,id=spicechannel0,name=vdagent");
    add(words, "-device",
        memory_json(json_pack("{s:s, s:s, s:s, s:s}", "driver", "virtserialport", "bus", "spice.0",
                              "chardev", "spicechannel0", "name", "com.redhat.spice.0")));
}
