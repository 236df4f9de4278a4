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

    CHECK_NUMBER(hvparams_count, 66);
    CHECK_NUMBER(json_object_size(filled), 66);
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
    CHECK_GOOD("{\"vnc_bind_address\": \"::1\", \"cpu_type\": \"host,+vmx\", \"acpi\": null}");
    return true;
}

TEST(unknown_names, "an unknown parameter is told with the nearest name")
{
    CHECK_BAD("{\"disk_cahce\": \"none\"}",
              "hvparams.disk_cahce: unknown parameter, did you mean \"disk_cache\"?");
    CHECK_TEXT(problems_of("{\"disk_cahce\": 1}", true, false), "");
    return true;
}

TEST(not_supported_yet, "what can't be had yet is refused, what asks for nothing is not")
{
    CHECK_BAD("{\"soundhw\": \"ac97\"}",
              "hvparams.soundhw: not supported yet (current value: \"ac97\")");
    CHECK_BAD("{\"vnc_tls\": true}", "vnc_tls: not supported yet");
    CHECK_BAD("{\"disk_type\": \"pflash\"}", "disk_type: not supported yet");
    CHECK_BAD("{\"nic_type\": \"ne2k_isa\"}", "nic_type: not supported yet");
    CHECK_BAD("{\"spice_use_vdagent\": false}", "spice_use_vdagent: not supported yet");
    CHECK_GOOD("{\"soundhw\": \"\", \"spice_tls_ciphers\": \"HIGH:-DES:-3DES:-EXPORT:-DH\", "
               "\"cdrom_disk_type\": \"\", \"disk_discard\": \"default\", "
               "\"scsi_controller_type\": \"lsi\", \"kvm_flag\": \"\"}");
    CHECK_TEXT(problems_of("{\"soundhw\": \"ac97\", \"disk_type\": \"pflash\"}", true, false), "");
    CHECK_HAS(problems_of("{\"disk_type\": \"hostile\"}", true, false), "disk_type: must be one");
    CHECK_HAS(problems_of("{\"vga\": \"a\\u0001\"}", true, false), "vga: must not hold control");
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

UNIT_MAIN(UNIT(table_is_whole), UNIT(types_are_checked), UNIT(unknown_names),
          UNIT(not_supported_yet), UNIT(dependencies), UNIT(filling), UNIT(cpu_masks))
