/* SPDX-License-Identifier: BSD-2-Clause */
#include "hvparams_private.h"

#include <arpa/inet.h>
#include <string.h>
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/transaction.h"
#include "kvm/state/hardware.h"

enum { INTERFACE_MAX = 15, KEYMAP_MAX = 32, CIPHERS_MAX = 1024 };

static bool is_host(const char *text)
{
    struct in6_addr address;

    return inet_pton(AF_INET, text, &address) == 1 || inet_pton(AF_INET6, text, &address) == 1 ||
           check_is_word(text, "._-@", INTERFACE_MAX);
}

/* A name below QEMU's own directory, never a path: "de", "en-us". */
static bool is_keymap(const char *text)
{
    return check_is_word(text, "_-", KEYMAP_MAX);
}

static bool is_ciphers(const char *text)
{
    return check_is_word(text, ":+-!@=_.", CIPHERS_MAX);
}

static size_t item_count(const char *text)
{
    size_t count = 1;

    for (; *text != '\0'; text++)
        count += *text == ',';
    return count;
}

static bool is_sound(const char *text)
{
    size_t slots = 0, count = item_count(text);

    for (size_t i = 0; i < count; i++) {
        const struct sound_card *card = hardware_sound(text, i);

        if (card == NULL)
            return false;
        for (size_t other = 0; other < i; other++) {
            if (hardware_sound(text, other) == card)
                return false;
        }
        slots += card->takes_slot;
    }
    return slots <= 1;
}

static bool is_usb(const char *text)
{
    AUTO_FREE char *copy = memory_copy(text);
    char *rest = copy;

    for (char *word = strsep(&rest, ","); word != NULL; word = strsep(&rest, ",")) {
        AUTO_JSON json_t *device = hardware_usb_device(word);

        if (device == NULL)
            return false;
    }
    return true;
}

static const struct hvparam_form forms[] = {
    {"spice_bind", is_host, "must be an IPv4 or IPv6 address or an interface name"},
    {"spice_tls_ciphers", is_ciphers, "must be a list of OpenSSL's cipher names"},
    {"keymap", is_keymap, "must be the name of one of QEMU's keymaps, like de or en-us"},
    {"soundhw", is_sound,
     "must be one of ac97, es1370, hda, sb16, adlib, gus, cs4231a, pcspk, or several with commas, "
     "of which ac97, es1370 and hda exclude each other"},
    {"usb_devices", is_usb,
     "must be words like tablet, mouse, keyboard, wacom-tablet, host:BUS.ADDRESS or "
     "host:VENDOR:PRODUCT, with commas"},
};

const char *hvparams_display_fault(const char *name, const char *text)
{
    return hvparams_form_fault(forms, COUNT(forms), name, text);
}

static bool is_set(const json_t *filled, const char *name)
{
    return hvparams_text(filled, name)[0] != '\0';
}

static void fail(const struct check *check, const json_t *filled, const char *name,
                 const char *text)
{
    check_fail(check, name, json_member(filled, name), "%s", text);
}

static void check_vnc(const struct check *check, const json_t *filled)
{
    if (is_set(filled, "vnc_password_file") && !is_set(filled, "vnc_bind_address"))
        fail(check, filled, "vnc_password_file", "needs vnc_bind_address");
    if (!hvparams_truth(filled, "vnc_x509_verify"))
        return;
    if (!is_set(filled, "vnc_x509_path"))
        fail(check, filled, "vnc_x509_verify", "needs vnc_x509_path");
    if (!hvparams_truth(filled, "vnc_tls"))
        fail(check, filled, "vnc_x509_verify", "needs vnc_tls");
}

static void check_without_spice(const struct check *check, const json_t *filled)
{
    static const char *const texts[] = {"spice_password_file", "spice_image_compression",
                                        "spice_jpeg_wan_compression",
                                        "spice_zlib_glz_wan_compression", "spice_streaming_video"};

    for (size_t i = 0; i < COUNT(texts); i++) {
        if (is_set(filled, texts[i]))
            fail(check, filled, texts[i], "needs spice_bind");
    }
    if (hvparams_number(filled, "spice_ip_version") != 0)
        fail(check, filled, "spice_ip_version", "needs spice_bind");
    if (hvparams_truth(filled, "spice_use_tls"))
        fail(check, filled, "spice_use_tls", "needs spice_bind");
}

static void check_spice(const struct check *check, const json_t *filled)
{
    const char *bind = hvparams_text(filled, "spice_bind");
    int64_t version = hvparams_number(filled, "spice_ip_version");
    struct in6_addr address;
    bool is_4 = inet_pton(AF_INET, bind, &address) == 1;
    bool is_6 = inet_pton(AF_INET6, bind, &address) == 1;

    if (version != 0 && version != 4 && version != 6)
        fail(check, filled, "spice_ip_version", "must be 0, 4 or 6");
    else if ((version == 4 && is_6) || (version == 6 && is_4))
        fail(check, filled, "spice_ip_version", "does not fit the address of spice_bind");
    if (is_set(filled, "vnc_bind_address"))
        fail(check, filled, "spice_bind",
             "excludes vnc_bind_address: a guest has one or the other");
}

void hvparams_display_whole(const struct check *check, const json_t *filled)
{
    check_vnc(check, filled);
    if (is_set(filled, "spice_bind"))
        check_spice(check, filled);
    else
        check_without_spice(check, filled);
}
