/* SPDX-License-Identifier: BSD-2-Clause */
#include <sys/stat.h>
#include "kvm/base/memory.h"
#include "kvm/host/firmware.h"
#include "scratch.h"
#include "unit.h"

/* A descriptor of the node; its images are `image` of the scratch directory, of which `template` has another size. */
static bool describe(const struct scratch *scratch, const char *name, const char *device,
                     const char *format, const char *template, const char *features)
{
    AUTO_FREE char *text =
        memory_format("{\"interface-types\": [\"uefi\"], \"mapping\": {\"device\": \"%s\", "
                      "\"executable\": {\"filename\": "
                      "\"%s/code.fd\", \"format\": \"%s\"}, \"nvram-template\": {\"filename\": "
                      "\"%s/%s\", \"format\": \"%s\"}}, "
                      "\"targets\": [{\"architecture\": \"x86_64\", \"machines\": "
                      "[\"pc-q35-*\"]}], \"features\": [%s]}",
                      device, scratch->path, format, scratch->path, template, format, features);
    return scratch_write(scratch, name, text);
}

struct place {
    struct scratch scratch;
    char *directories[3];
};

static void place_end(struct place *place)
{
    scratch_end(&place->scratch);
    free(place->directories[0]);
    free(place->directories[1]);
}

static bool place_begin(struct place *place)
{
    place->scratch = scratch_begin();
    place->directories[0] = memory_format("%s/etc", place->scratch.path);
    place->directories[1] = memory_format("%s/usr", place->scratch.path);
    place->directories[2] = NULL;
    mkdirat(place->scratch.fd, "etc", 0700);
    mkdirat(place->scratch.fd, "usr", 0700);
    return scratch_write(&place->scratch, "code.fd", "code") &&
           scratch_write(&place->scratch, "vars.fd", "vars") &&
           scratch_write(&place->scratch, "large.fd", "variables");
}

#define PLACE                                                                                      \
    __attribute__((cleanup(place_end))) struct place place;                                        \
    CHECK(place_begin(&place));                                                                    \
    const struct scratch *scratch = &place.scratch;                                                \
    const char *const *directories = (const char *const *)place.directories

static bool finds(const char *const *directories, const char *name, off_t nvram,
                  const char *template)
{
    struct firmware firmware;
    struct error error = {0};
    int result = firmware_find(directories, name, "pc-q35-7.2", nvram, &firmware, &error);
    bool right = result == 0 && firmware.template != NULL &&
                 strcmp(strrchr(firmware.template, '/') + 1, template) == 0;

    if (!right)
        printf("# %s: %s\n", name, result < 0 ? error.text : firmware.template);
    firmware_release(&firmware);
    return right;
}

TEST(order, "descriptors are taken in the order of their names, and one in /etc hides its namesake")
{
    PLACE;
    CHECK(describe(scratch, "usr/50-a.json", "flash", "raw", "vars.fd", ""));
    CHECK(describe(scratch, "usr/60-b.json", "flash", "raw", "large.fd", ""));
    CHECK(finds(directories, "uefi", 0, "vars.fd"));
    CHECK(finds(directories, "uefi", 9, "large.fd"));
    CHECK(describe(scratch, "etc/40-c.json", "flash", "raw", "large.fd", ""));
    CHECK(finds(directories, "uefi", 0, "large.fd"));
    CHECK(scratch_write(scratch, "etc/40-c.json", ""));
    CHECK(finds(directories, "uefi", 0, "vars.fd"));
    CHECK(scratch_write(scratch, "etc/50-a.json", ""));
    CHECK(finds(directories, "uefi", 0, "large.fd"));
    return true;
}

TEST(secure, "Secure Boot is taken only when it is asked for, and then with its keys")
{
    PLACE;
    struct firmware firmware;
    CHECK(describe(scratch, "usr/40-a.json", "flash", "raw", "large.fd",
                   "\"secure-boot\", \"requires-smm\""));
    CHECK(describe(scratch, "usr/50-b.json", "flash", "raw", "vars.fd",
                   "\"secure-boot\", \"requires-smm\", \"enrolled-keys\""));
    CHECK_NUMBER(firmware_find(directories, "uefi", "pc-q35-7.2", 0, &firmware, NULL), -1);
    CHECK(finds(directories, "uefi-secure", 0, "vars.fd"));
    CHECK_NUMBER(firmware_find(directories, "uefi-secure", "pc-q35-7.2", 0, &firmware, NULL), 0);
    CHECK(firmware.smm && firmware.secure);
    firmware_release(&firmware);
    return true;
}

TEST(unfit, "other formats, other mappings, other machines and missing images are passed over")
{
    PLACE;
    struct firmware firmware;
    struct error error = {0};
    CHECK(describe(scratch, "usr/10-a.json", "memory", "raw", "vars.fd", ""));
    CHECK(describe(scratch, "usr/20-b.json", "flash", "qcow2", "vars.fd", ""));
    CHECK(describe(scratch, "usr/30-c.json", "flash", "raw", "missing.fd", ""));
    CHECK(scratch_write(scratch, "usr/40-d.json", "{\"mapping\": 7, \"targets\": {}}"));
    CHECK(scratch_write(scratch, "usr/50-e.json", "no JSON"));
    CHECK_NUMBER(firmware_find(directories, "uefi", "pc-q35-7.2", 0, &firmware, &error), -1);
    CHECK_HAS(error.text, "no firmware descriptor");
    CHECK(describe(scratch, "usr/60-f.json", "flash", "raw", "vars.fd", ""));
    CHECK_NUMBER(firmware_find(directories, "uefi", "pc-i440fx-7.2", 0, &firmware, &error), -1);
    CHECK_HAS(error.text, "machine type pc-i440fx-7.2");
    CHECK_NUMBER(firmware_find(directories, "uefi", "pc-q35-7.2", 5, &firmware, &error), -1);
    CHECK_HAS(error.text, "fits the NVRAM of 5 bytes");
    return true;
}

TEST(paths, "a path is known when a descriptor names it; any other has no template")
{
    PLACE;
    struct firmware firmware;
    AUTO_FREE char *code = memory_format("%s/code.fd", scratch->path);
    CHECK(!firmware_is_known(directories, code));
    CHECK(describe(scratch, "usr/60-b.json", "flash", "raw", "vars.fd", ""));
    CHECK(firmware_is_known(directories, code));
    CHECK(!firmware_is_known(directories, "/etc/passwd"));
    CHECK(finds(directories, code, 0, "vars.fd"));
    CHECK_NUMBER(firmware_find(directories, "/x.fd", "pc-q35-7.2", 0, &firmware, NULL), 0);
    CHECK_TEXT(firmware.code, "/x.fd");
    CHECK(firmware.template == NULL && !firmware.smm);
    firmware_release(&firmware);
    return true;
}

UNIT_MAIN(UNIT(order), UNIT(secure), UNIT(unfit), UNIT(paths))
