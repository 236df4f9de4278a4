/* SPDX-License-Identifier: BSD-2-Clause */
/* VNC or SPICE, graphics, sound and USB, read back from the command line of a running QEMU. */
#include <string.h>

#include "adopt_private.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/base/transaction.h"
#include "kvm/state/hardware.h"

enum { VNC_FIRST_PORT = 5900, PORT_MAX = 65535 };

static void set_text(json_t *object, const char *key, const char *value)
{
    json_object_set_new(object, key, memory_json(json_string(value)));
}

/* The next of a list of options, a doubled comma being one; NULL: there is none. The caller frees. */
static char *next_option(const char **rest)
{
    const char *from = *rest;
    char *option = memory_zeroed(strlen(from) + 1, 1), *to = option;

    while (*from != '\0' && (*from != ',' || from[1] == ',')) {
        from += *from == ',';
        *to++ = *from++;
    }
    *rest = from + (*from == ',');
    if (option[0] != '\0')
        return option;
    free(option);
    return NULL;
}

/* The value of "name=value"; NULL: another name. */
static const char *value_of(const char *option, const char *name)
{
    size_t length = strlen(name);

    return strncmp(option, name, length) == 0 && option[length] == '=' ? option + length + 1 : NULL;
}

static void password_unknown(const char *option, struct messages *problems)
{
    messages_add(problems, "%s: the file of its password is not known: give the definition",
                 option);
}

static void read_vnc_option(json_t *hvparams, const char *option, struct messages *problems)
{
    if (strcmp(option, "password=on") == 0)
        password_unknown("-vnc", problems);
    else if (strcmp(option, "tls-creds=vnctls0") == 0)
        json_object_set_new(hvparams, "vnc_tls", json_true());
    else if (strcmp(option, "audiodev=soundhw") != 0)
        messages_add(problems, "-vnc: %s is not understood", option);
}

/* "ADDRESS:DISPLAY" or "unix:DIR/NAME.vnc" */
static void read_vnc_address(json_t *definition, char *where, struct messages *problems)
{
    json_t *hvparams = json_object_get(definition, "hvparams");
    char *colon = strrchr(where, ':');
    int64_t display;

    if (strncmp(where, "unix:", 5) == 0 && strrchr(where, '/') != NULL) {
        *strrchr(where, '/') = '\0';
        set_text(hvparams, "vnc_bind_address", where + 5);
        return;
    }
    if (colon == NULL || !text_number(colon + 1, 0, PORT_MAX - VNC_FIRST_PORT, &display)) {
        messages_add(problems, "-vnc %s: is not understood", where);
        return;
    }
    *colon = '\0';
    if (where[0] == '[' && colon > where + 1 && colon[-1] == ']')
        colon[-1] = '\0';
    set_text(hvparams, "vnc_bind_address", where + (where[0] == '['));
    json_object_set_new(definition, "network_port", json_integer(display + VNC_FIRST_PORT));
}

static void read_vnc(json_t *definition, const char *value, struct messages *problems)
{
    AUTO_FREE char *where = next_option(&value);
    char *option;

    if (where == NULL)
        return;
    read_vnc_address(definition, where, problems);
    while ((option = next_option(&value)) != NULL) {
        read_vnc_option(json_object_get(definition, "hvparams"), option, problems);
        free(option);
    }
}

/* False: none of the options whose value is a parameter's. */
static bool read_spice_setting(json_t *hvparams, const char *option)
{
    static const struct {
        const char *name, *param;
    } settings[] = {
        {"addr", "spice_bind"},
        {"image-compression", "spice_image_compression"},
        {"jpeg-wan-compression", "spice_jpeg_wan_compression"},
        {"zlib-glz-wan-compression", "spice_zlib_glz_wan_compression"},
        {"streaming-video", "spice_streaming_video"},
        {"tls-ciphers", "spice_tls_ciphers"},
    };

    for (size_t i = 0; i < COUNT(settings); i++) {
        const char *value = value_of(option, settings[i].name);
        if (value == NULL)
            continue;
        set_text(hvparams, settings[i].param, value);
        return true;
    }
    return false;
}

static bool read_spice_port(json_t *definition, const char *option)
{
    const char *plain = value_of(option, "port"), *tls = value_of(option, "tls-port");
    int64_t port;

    if (plain == NULL && tls == NULL)
        return false;
    json_object_set_new(json_object_get(definition, "hvparams"), "spice_use_tls",
                        json_boolean(tls != NULL));
    if (text_number(tls != NULL ? tls : plain, 1, PORT_MAX, &port))
        json_object_set_new(definition, "network_port", json_integer(port));
    return true;
}

/* Where the certificates are is this node's business; that they are the same, the comparison tells. */
static void read_spice_option(json_t *hvparams, const char *option)
{
    static const char *const off[][2] = {{"playback-compression=off", "spice_playback_compression"},
                                         {"agent-mouse=off", "spice_use_vdagent"}};

    for (size_t i = 0; i < COUNT(off); i++)
        if (strcmp(option, off[i][0]) == 0)
            json_object_set_new(hvparams, off[i][1], json_false());
}

static void read_spice(json_t *definition, const char *value, struct messages *problems)
{
    json_t *hvparams = json_object_get(definition, "hvparams");
    bool has_password = true;
    char *option;

    set_text(hvparams, "spice_tls_ciphers", "");
    while ((option = next_option(&value)) != NULL) {
        has_password = has_password && strcmp(option, "disable-ticketing=on") != 0;
        if (!read_spice_setting(hvparams, option) && !read_spice_port(definition, option))
            read_spice_option(hvparams, option);
        free(option);
    }
    if (has_password)
        password_unknown("-spice", problems);
}

/* False: another object. */
static bool read_credentials(json_t *hvparams, const char *value)
{
    AUTO_JSON json_t *object = json_parse(value, strlen(value), "-object", NULL);
    const char *id = json_text(object, "id"), *directory = json_text(object, "dir");

    if (id == NULL || strcmp(id, "vnctls0") != 0)
        return false;
    if (directory != NULL)
        set_text(hvparams, "vnc_x509_path", directory);
    if (json_truth(object, "verify-peer", false))
        json_object_set_new(hvparams, "vnc_x509_verify", json_true());
    return true;
}

/* "word" at the end of a list with commas. */
static void add_word(json_t *hvparams, const char *param, const char *word)
{
    const char *before = json_text(hvparams, param);
    AUTO_FREE char *all =
        memory_format("%s%s%s", before != NULL ? before : "", before != NULL ? "," : "", word);

    set_text(hvparams, param, all);
}

bool adopt_display_option(json_t *definition, const char *option, const char *value,
                          struct messages *problems)
{
    json_t *hvparams = json_object_get(definition, "hvparams");

    if (strcmp(option, "-object") == 0)
        return read_credentials(hvparams, value);
    if (strcmp(option, "-machine") == 0 && strstr(value, ",pcspk-audiodev=soundhw") != NULL)
        add_word(hvparams, "soundhw", "pcspk");
    if (strcmp(option, "-mon") == 0 && strncmp(value, "chardev=kvmd,", 13) == 0)
        json_object_set_new(hvparams, "user_shutdown", json_true());
    if (strcmp(option, "-k") == 0)
        set_text(hvparams, "keymap", value);
    else if (strcmp(option, "-vnc") == 0)
        read_vnc(definition, value, problems);
    else if (strcmp(option, "-spice") == 0)
        read_spice(definition, value, problems);
    else
        return strcmp(option, "-audiodev") == 0;
    return true;
}

/* What is so without a word is left without one. */
static bool read_graphics(json_t *hvparams, const char *driver)
{
    static const char *const words[] = {"std", "cirrus", "vmware", "qxl", "virtio"};

    set_text(hvparams, "vga", "");
    for (size_t i = 0; i < COUNT(words); i++)
        if (strcmp(hardware_vga_driver(words[i]), driver) == 0 &&
            strcmp(hardware_vga(hvparams), words[i]) != 0)
            set_text(hvparams, "vga", words[i]);
    return true;
}

/* The card of PCI is called "sound", the others by their words. */
static bool read_sound(json_t *hvparams, const char *driver, const char *id)
{
    static const char *const slotted[] = {"ac97", "es1370", "hda"};
    const struct sound_card *card = hardware_sound_card(id);

    if (card != NULL && card->driver != NULL && strcmp(card->driver, driver) == 0)
        add_word(hvparams, "soundhw", id);
    for (size_t i = 0; strcmp(id, "sound") == 0 && i < COUNT(slotted); i++)
        if (strcmp(hardware_sound_card(slotted[i])->driver, driver) == 0)
            add_word(hvparams, "soundhw", slotted[i]);
    return card != NULL || strcmp(id, "sound") == 0 || strcmp(id, "sound-codec") == 0;
}

static bool read_usb(json_t *hvparams, const json_t *device, const char *driver)
{
    static const char *const words[] = {"tablet", "mouse", "keyboard", "wacom-tablet"};

    for (size_t i = 0; i < COUNT(words); i++) {
        AUTO_JSON json_t *known = hardware_usb_device(words[i]);
        if (strcmp(json_text(known, "driver"), driver) == 0)
            add_word(hvparams, "usb_devices", words[i]);
    }
    if (strcmp(driver, "usb-host") != 0)
        return true;
    AUTO_FREE char *word =
        json_member(device, "vendorid") != NULL
            ? memory_format("host:%04x:%04x", (unsigned)json_number(device, "vendorid", 0),
                            (unsigned)json_number(device, "productid", 0))
            : memory_format("host:%lld.%lld", (long long)json_number(device, "hostbus", 0),
                            (long long)json_number(device, "hostaddr", 0));
    add_word(hvparams, "usb_devices", word);
    return true;
}

bool adopt_display_device(json_t *hvparams, const json_t *device)
{
    const char *driver = json_text(device, "driver"), *id = json_text(device, "id");

    if (driver == NULL || id == NULL)
        return false;
    if (strcmp(id, "vga") == 0)
        return read_graphics(hvparams, driver);
    if (strcmp(id, "tablet") == 0 || strcmp(id, "mouse") == 0) {
        set_text(hvparams, "usb_mouse", id);
        return true;
    }
    if (strncmp(id, "usb", 3) == 0 && strncmp(driver, "usb-", 4) == 0)
        return read_usb(hvparams, device, driver);
    return read_sound(hvparams, driver, id);
}
