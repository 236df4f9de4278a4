/* SPDX-License-Identifier: BSD-2-Clause */
#include "unit.h"
#include "kvm/base/json.h"
#include "kvm/state/hvparams.h"

/* The problems of one object, joined; "" when there are none. */
static const char *problems_of(const char *text, bool loaded, bool whole)
{
    static char joined[8192];
    AUTO_MESSAGES struct messages problems = {0};
    AUTO_JSON json_t *given = json_loads(text, 0, NULL);
    AUTO_JSON json_t *filled = hvparams_fill(NULL, given);

    joined[0] = '\0';
    if (given == NULL)
        return "the test's JSON is wrong";
    if (whole)
        hvparams_check_whole(filled, "w.json: hvparams", &problems);
    else if (loaded)
        hvparams_check_loaded(given, "w.json: hvparams", &problems);
    else
        hvparams_check(given, "w.json: hvparams", &problems);
    for (size_t i = 0; i < problems.count; i++)
        snprintf(joined + strlen(joined), sizeof(joined) - strlen(joined), "%s\n",
                 problems.items[i]);
    return joined;
}

#define CHECK_GOOD(text) CHECK_TEXT(problems_of(text, false, false), "")
#define CHECK_BAD(text, part) CHECK_HAS(problems_of(text, false, false), part)
#define CHECK_WHOLE(text, part) CHECK_HAS(problems_of(text, false, true), part)

TEST(table_is_whole, "the table has Ganeti's 65 names and ours, each once, and its defaults pass")
{
    AUTO_JSON json_t *filled = hvparams_fill(NULL, NULL);
    AUTO_MESSAGES struct messages problems = {0};

    CHECK(hvparams_count > 65);
    CHECK_NUMBER(json_object_size(filled), hvparams_count);
    hvparams_check(filled, "x", &problems);
    hvparams_check_whole(filled, "x", &problems);
    CHECK_NUMBER(problems.count, 0);
    for (size_t i = 0; i < hvparams_count; i++) {
        CHECK(hvparams_find(hvparams_table[i].name) == &hvparams_table[i]);
        CHECK(hvparams_table[i].help != NULL && hvparams_table[i].help[0] != '\0');
    }
    CHECK(hvparams_find("acpy") == NULL);
    return true;
}

TEST(types_are_checked, "wrong types, ranges and sets are told with name and value")
{
    CHECK_BAD("{\"acpi\": 1}", "w.json: hvparams.acpi: must be true or false (current value: 1)");
    CHECK_BAD("{\"migration_port\": \"8102\"}", "migration_port: must be a whole number");
    CHECK_BAD("{\"migration_port\": 0}", "must be from 1 to 65534 (current value: 0)");
    CHECK_BAD("{\"disk_cache\": \"unsafe\"}",
              "must be one of default, none, writeback, writethrough (current value: \"unsafe\")");
    CHECK_BAD("{\"kernel_path\": \"boot/x\"}", "kernel_path: must be absolute");
    CHECK_BAD("{\"kernel_path\": \"/boot/../x\"}", "kernel_path: must be normalised");
    CHECK_BAD("{\"kvm_path\": \"\"}", "kvm_path: must not be empty");
    CHECK_BAD("{\"kernel_args\": \"a\\nb\"}", "kernel_args: must not hold control characters");
    CHECK_BAD("{\"machine_version\": \"pc,accel=tcg\"}", "machine_version: must be letters");
    CHECK_BAD("{\"kvm_extra\": \"-device 'x\"}", "kvm_extra: has a quote");
    CHECK_BAD("{\"root_path\": \"/dev/vda init=/bin/sh\"}", "root_path: must be one word");
    CHECK_BAD("{\"vnc_bind_address\": \"no such thing\"}", "vnc_bind_address: must be an IPv4");
    CHECK_BAD("{\"hotplug_ports\": 30}", "must be from 1 to 29");
    CHECK_BAD("{\"watchdog\": \"ib700\"}", "watchdog: must be one of i6300esb, itco");
    CHECK_BAD("{\"iothreads\": 65}", "must be from 0 to 64");
    CHECK_GOOD("{\"vnc_bind_address\": \"::1\", \"cpu_type\": \"host,+vmx\", \"acpi\": null}");
    return true;
}

TEST(hardware_fits, "what only one machine type has, or depends on another parameter, is told")
{
    CHECK_WHOLE("{\"watchdog\": \"itco\"}", "itco is part of machine type q35, use i6300esb");
    CHECK_WHOLE("{\"watchdog_action\": \"none\"}", "watchdog_action: needs watchdog");
    CHECK_WHOLE("{\"virtio_rng_rate\": 1}", "virtio_rng_rate: needs virtio_rng");
    CHECK_TEXT(
        problems_of("{\"watchdog\": \"itco\", \"machine_version\": \"pc-q35-7.2\"}", false, true),
        "");
    return true;
}

TEST(unknown_names, "an unknown parameter is told with the nearest name")
{
    CHECK_BAD("{\"disk_cahce\": \"none\"}",
              "hvparams.disk_cahce: unknown parameter, did you mean \"disk_cache\"?");
    CHECK_TEXT(problems_of("{\"disk_cahce\": 1}", true, false), "");
    return true;
}

TEST(kept_of_others,
     "what a release of Ganeti has as its default is taken, what no tool can have written is not")
{
    CHECK_GOOD("{\"soundhw\": \"\", \"spice_tls_ciphers\": \"HIGH:-DES:-3DES:-EXPORT:-DH\", "
               "\"cdrom_disk_type\": \"\", \"disk_discard\": \"default\", "
               "\"scsi_controller_type\": \"lsi\", \"kvm_flag\": \"\"}");
    CHECK_TEXT(problems_of("{\"soundhw\": \"ac97\", \"disk_type\": \"pflash\"}", true, false), "");
    CHECK_HAS(problems_of("{\"disk_type\": \"hostile\"}", true, false), "disk_type: must be one");
    CHECK_HAS(problems_of("{\"keymap\": \"a\\u0001\"}", true, false),
              "keymap: must not hold control");
    return true;
}

TEST(display_forms, "the words of display, sound and USB are those that QEMU has devices for")
{
    static const char *const sounds[] = {"gus,", ",",   "ac97,hda",       "sb16,sb16",
                                         "AC97", "all", "ac97,audiodev=x"};
    static const char *const devices[] = {
        "disk:/x",    "tablet,",      "host:",   "host:1",   "host:0.1",    "host:256.1",
        "host:1.128", "host:12345:1", "host:1:", "host:1:g", "host:auto:1", "keyboard;mouse"};
    char text[64];

    for (size_t i = 0; i < sizeof(sounds) / sizeof(sounds[0]); i++) {
        snprintf(text, sizeof(text), "{\"soundhw\": \"%s\"}", sounds[i]);
        CHECK_BAD(text, "soundhw: must be one of ac97");
        CHECK_TEXT(problems_of(text, true, false), ""); /* another tool may have written it */
    }
    for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
        snprintf(text, sizeof(text), "{\"usb_devices\": \"%s\"}", devices[i]);
        CHECK_BAD(text, "usb_devices: must be words like tablet");
    }
    CHECK_BAD("{\"keymap\": \"../de\"}", "keymap: must be the name of one of QEMU's");
    CHECK_BAD("{\"vga\": \"xenfb\"}", "vga: must be one of std, cirrus");
    CHECK_BAD("{\"spice_bind\": \"/run\"}", "spice_bind: must be an IPv4 or IPv6 address");
    CHECK_BAD("{\"spice_bind\": \"127.0.0.1,port=1\"}", "spice_bind: must be");
    CHECK_BAD("{\"spice_tls_ciphers\": \"HIGH,port=1\"}", "spice_tls_ciphers: must be a list");
    CHECK_BAD("{\"spice_ip_version\": 7}", "must be from 0 to 6");
    CHECK_GOOD("{\"soundhw\": \"pcspk,sb16,hda\", \"keymap\": \"fr-ca\", \"vga\": \"\", "
               "\"usb_devices\": \"tablet,host:1.2,host:046d:C52b\", \"spice_bind\": \"eth0.5\", "
               "\"spice_tls_ciphers\": \"HIGH:!aNULL:@SECLEVEL=2\"}");
    return true;
}

TEST(display_dependencies, "VNC and SPICE are checked as a whole")
{
    CHECK_WHOLE("{\"vnc_x509_verify\": true, \"vnc_tls\": true}",
                "vnc_x509_verify: needs vnc_x509_path");
    CHECK_WHOLE("{\"vnc_x509_verify\": true, \"vnc_x509_path\": \"/x\"}",
                "vnc_x509_verify: needs vnc_tls");
    CHECK_WHOLE("{\"spice_bind\": \"::1\", \"vnc_bind_address\": \"::1\"}",
                "spice_bind: excludes vnc_bind_address");
    CHECK_WHOLE("{\"spice_bind\": \"::1\", \"spice_ip_version\": 5}",
                "spice_ip_version: must be 0, 4 or 6");
    CHECK_WHOLE("{\"spice_bind\": \"::1\", \"spice_ip_version\": 4}",
                "spice_ip_version: does not fit the address");
    CHECK_WHOLE("{\"spice_bind\": \"10.0.0.1\", \"spice_ip_version\": 6}",
                "spice_ip_version: does not fit the address");
    CHECK_WHOLE("{\"spice_password_file\": \"/p\"}", "spice_password_file: needs spice_bind");
    CHECK_WHOLE("{\"spice_image_compression\": \"off\"}", "spice_image_compression: needs");
    CHECK_WHOLE("{\"spice_jpeg_wan_compression\": \"auto\"}", "spice_jpeg_wan_compression: needs");
    CHECK_WHOLE("{\"spice_zlib_glz_wan_compression\": \"auto\"}",
                "spice_zlib_glz_wan_compression: needs");
    CHECK_WHOLE("{\"spice_streaming_video\": \"all\"}", "spice_streaming_video: needs");
    CHECK_WHOLE("{\"spice_ip_version\": 4}", "spice_ip_version: needs spice_bind");
    CHECK_WHOLE("{\"spice_use_tls\": true}", "spice_use_tls: needs spice_bind");
    CHECK_TEXT(problems_of("{\"spice_use_vdagent\": false, \"spice_playback_compression\": false, "
                           "\"spice_tls_ciphers\": \"\", \"vnc_x509_path\": \"/x\"}",
                           false, true),
               "");
    return true;
}

TEST(started, "what is to be started is checked as a definition is, but for unknown names")
{
    AUTO_JSON json_t *given = json_pack("{s:s, s:s}", "soundhw", "gusmax", "new_one", "x");
    AUTO_JSON json_t *filled = hvparams_fill(NULL, given);
    AUTO_MESSAGES struct messages problems = {0};

    hvparams_check_started(filled, "w", &problems);
    CHECK_NUMBER(problems.count, 1);
    CHECK_HAS(problems.items[0], "w.soundhw: must be one of");
    return true;
}

TEST(web_images, "a CD-ROM may be a URL, a kernel may not")
{
    CHECK_GOOD("{\"cdrom_image_path\": \"https://example.org/a.iso?x=1,2\", "
               "\"cdrom2_image_path\": \"http://[2001:db8::1]:8080/b.iso\"}");
    CHECK_BAD("{\"cdrom_image_path\": \"http://user:secret@example.org/a.iso\"}",
              "cdrom_image_path: a user or password must not stand in it");
    CHECK_BAD("{\"cdrom2_image_path\": \"http://example.org/a b.iso\"}",
              "cdrom2_image_path: blanks and other special characters");
    CHECK_BAD("{\"cdrom_image_path\": \"ftp://example.org/a.iso\"}",
              "cdrom_image_path: must be absolute");
    CHECK_BAD("{\"kernel_path\": \"http://example.org/a\"}", "kernel_path: must be absolute");
    CHECK_BAD("{\"floppy_image_path\": \"http://example.org/a\"}",
              "floppy_image_path: must be absolute");
    return true;
}

TEST(dependencies, "parameters that need each other are checked as a whole")
{
    CHECK_WHOLE("{\"disk_aio\": \"native\"}", "disk_aio: needs disk_cache none");
    CHECK_WHOLE("{\"vnc_password_file\": \"/p\"}", "vnc_password_file: needs vnc_bind_address");
    CHECK_WHOLE("{\"security_model\": \"user\"}", "security_model: needs security_domain");
    CHECK_WHOLE("{\"security_domain\": \"kvm\"}", "security_domain: is only for");
    CHECK_WHOLE("{\"boot_order\": \"cdrom\"}", "boot_order: needs cdrom_image_path");
    CHECK_WHOLE("{\"boot_order\": \"floppy\"}", "boot_order: needs floppy_image_path");
    CHECK_WHOLE("{\"initrd_path\": \"/i\"}", "initrd_path: needs kernel_path");
    CHECK_WHOLE("{\"kernel_path\": \"/k\", \"root_path\": \"\"}", "kernel_path: needs root_path");
    CHECK_WHOLE("{\"serial_speed\": 38401}", "serial_speed: is not a speed");
    CHECK_WHOLE("{\"machine_version\": \"q35\", \"kvm_pci_reservations\": 20}",
                "hotplug_ports: must be at most 12 when the first port is 20");
    CHECK_TEXT(problems_of("{\"serial_speed\": 38401, \"serial_console\": false, \"disk_aio\": "
                           "\"native\", \"disk_cache\": \"none\"}",
                           false, true),
               "");
    return true;
}

TEST(filling, "given goes over defaults over built-in, nulls are nothing, unknown keys stay")
{
    AUTO_JSON json_t *node = json_pack("{s:s, s:i}", "cpu_type", "host", "migration_port", 9000);
    AUTO_JSON json_t *given = json_pack("{s:i, s:n, s:s, s:s}", "migration_port", 9001, "acpi",
                                        "other", "kept", "disk_discard", "default");
    AUTO_JSON json_t *filled = hvparams_fill(node, given);

    CHECK_TEXT(hvparams_text(filled, "cpu_type"), "host");
    CHECK_NUMBER(hvparams_number(filled, "migration_port"), 9001);
    CHECK(hvparams_truth(filled, "acpi"));
    CHECK_TEXT(json_text(filled, "other"), "kept");
    CHECK_TEXT(hvparams_text(filled, "disk_discard"), "ignore");
    CHECK_TEXT(hvparams_text(filled, "soundhw"), "");
    return true;
}

TEST(cpu_masks, "CPU masks give one list for all or one for each vCPU")
{
    AUTO_JSON json_t *all = hvparams_cpu_mask("all", NULL);
    AUTO_JSON json_t *parts = hvparams_cpu_mask("0-2,5:all:7", NULL);
    static const char *const wrong[] = {"",   "1-",   "-1", "3-1",  "a",
                                        "1,", "1::2", "01", "4096", " 1"};

    CHECK_NUMBER(json_array_size(all), 1);
    CHECK(json_is_null(json_array_get(all, 0)));
    CHECK_NUMBER(json_array_size(parts), 3);
    CHECK_NUMBER(json_array_size(json_array_get(parts, 0)), 4);
    CHECK_NUMBER(json_integer_value(json_array_get(json_array_get(parts, 0), 3)), 5);
    CHECK(json_is_null(json_array_get(parts, 1)));
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct error error = {0};
        AUTO_JSON json_t *mask = hvparams_cpu_mask(wrong[i], &error);

        CHECK(mask == NULL);
        CHECK_HAS(error.text, "must be \"all\" or CPU numbers");
    }
    return true;
}

UNIT_MAIN(UNIT(table_is_whole), UNIT(types_are_checked), UNIT(hardware_fits), UNIT(unknown_names),
          UNIT(kept_of_others), UNIT(display_forms), UNIT(display_dependencies), UNIT(started),
          UNIT(web_images), UNIT(dependencies), UNIT(filling), UNIT(cpu_masks))
