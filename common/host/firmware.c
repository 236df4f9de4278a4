/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/host/firmware.h"

#include <dirent.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <string.h>
#include <sys/stat.h>

#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"

enum { DESCRIPTOR_MAX = 1024 * 1024, DESCRIPTORS = 256 };

const char *const firmware_directories[] = {"/etc/qemu/firmware", "/usr/local/share/qemu/firmware",
                                            "/usr/share/qemu/firmware", NULL};

/* The descriptors of all directories by name; of two with one name the first is kept. */
struct descriptors {
    char *paths[DESCRIPTORS];
    size_t count;
};

static const char *name_of(const char *path)
{
    return strrchr(path, '/') + 1;
}

static bool is_hidden(const struct descriptors *list, const char *name)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(name_of(list->paths[i]), name) == 0)
            return true;
    return false;
}

static void list_directory(const char *directory, struct descriptors *list)
{
    DIR *entries = opendir(directory);
    struct descriptors found = {.count = 0};

    for (struct dirent *entry; entries != NULL && (entry = readdir(entries)) != NULL;) {
        size_t length = strlen(entry->d_name);
        if (entry->d_name[0] == '.' || length < 6 ||
            strcmp(entry->d_name + length - 5, ".json") != 0 || is_hidden(list, entry->d_name) ||
            list->count + found.count >= DESCRIPTORS)
            continue;
        found.paths[found.count++] = memory_format("%s/%s", directory, entry->d_name);
    }
    if (entries != NULL)
        closedir(entries);
    for (size_t i = 0; i < found.count; i++)
        list->paths[list->count++] = found.paths[i];
}

static int by_name(const void *one, const void *other)
{
    return strcmp(name_of(*(char *const *)one), name_of(*(char *const *)other));
}

static void list_all(const char *const *directories, struct descriptors *list)
{
    list->count = 0;
    for (; *directories != NULL; directories++)
        list_directory(*directories, list);
    qsort(list->paths, list->count, sizeof(list->paths[0]), by_name);
}

static void descriptors_release(struct descriptors *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->paths[i]);
}

static bool has_word(const json_t *list, const char *word)
{
    size_t i;
    json_t *item;

    json_array_foreach (list, i, item)
        if (json_is_string(item) && strcmp(json_string_value(item), word) == 0)
            return true;
    return false;
}

/* "pc-q35-*" and the like are shell patterns. */
static bool is_for_machine(const json_t *descriptor, const char *machine)
{
    size_t i, k;
    json_t *target, *pattern;

    json_array_foreach (json_member(descriptor, "targets"), i, target) {
        const char *architecture = json_text(target, "architecture");
        if (architecture == NULL || strcmp(architecture, "x86_64") != 0)
            continue;
        json_array_foreach (json_member(target, "machines"), k, pattern)
            if (json_is_string(pattern) && fnmatch(json_string_value(pattern), machine, 0) == 0)
                return true;
    }
    return false;
}

static bool is_raw_file(const json_t *image)
{
    const char *format = json_text(image, "format"), *path = json_text(image, "filename");
    struct stat status;

    return format != NULL && strcmp(format, "raw") == 0 && path != NULL && path[0] == '/' &&
           stat(path, &status) == 0 && S_ISREG(status.st_mode);
}

static bool is_split_flash(const json_t *descriptor)
{
    const json_t *mapping = json_member(descriptor, "mapping");
    const char *device = json_text(mapping, "device"), *mode = json_text(mapping, "mode");

    return has_word(json_member(descriptor, "interface-types"), "uefi") && device != NULL &&
           strcmp(device, "flash") == 0 && (mode == NULL || strcmp(mode, "split") == 0) &&
           is_raw_file(json_member(mapping, "executable")) &&
           is_raw_file(json_member(mapping, "nvram-template"));
}

static bool is_asked_for(const json_t *descriptor, const char *name)
{
    const json_t *features = json_member(descriptor, "features");
    bool secure = has_word(features, "secure-boot");

    if (name[0] == '/')
        return strcmp(json_text(json_member(json_member(descriptor, "mapping"), "executable"),
                                "filename"),
                      name) == 0;
    if (strcmp(name, "uefi-secure") == 0)
        return secure && has_word(features, "enrolled-keys");
    return !secure && !has_word(features, "requires-smm");
}

static bool fits_nvram(const json_t *descriptor, off_t nvram_size)
{
    const json_t *template = json_member(json_member(descriptor, "mapping"), "nvram-template");
    struct stat status;

    return nvram_size == 0 ||
           (stat(json_text(template, "filename"), &status) == 0 && status.st_size == nvram_size);
}

static json_t *read_descriptor(const char *path)
{
    AUTO_FREE char *bytes = NULL;
    size_t length;

    /* An empty one only hides another; one that is damaged is as good as none. */
    if (file_read(AT_FDCWD, path, DESCRIPTOR_MAX, true, &bytes, &length, NULL) < 0)
        return NULL;
    json_t *descriptor = json_parse(bytes, length, path, NULL);
    if (descriptor != NULL && is_split_flash(descriptor))
        return descriptor;
    json_decref(descriptor);
    return NULL;
}

static void take(const json_t *descriptor, struct firmware *firmware)
{
    const json_t *mapping = json_member(descriptor, "mapping");
    const json_t *features = json_member(descriptor, "features");

    firmware->code = memory_copy(json_text(json_member(mapping, "executable"), "filename"));
    firmware->template = memory_copy(json_text(json_member(mapping, "nvram-template"), "filename"));
    firmware->smm = has_word(features, "requires-smm");
    firmware->secure = firmware->smm && has_word(features, "secure-boot");
}

/* True when one was found and taken. *other: one fitted but for the size of the NVRAM. */
static bool search(const struct descriptors *list, const char *name, const char *machine,
                   off_t nvram_size, struct firmware *firmware, bool *other)
{
    *other = false;
    for (size_t i = 0; i < list->count; i++) {
        AUTO_JSON json_t *descriptor = read_descriptor(list->paths[i]);
        if (descriptor == NULL || !is_asked_for(descriptor, name) ||
            (machine != NULL && !is_for_machine(descriptor, machine)))
            continue;
        if (fits_nvram(descriptor, nvram_size)) {
            take(descriptor, firmware);
            return true;
        }
        *other = true;
    }
    return false;
}

int firmware_find(const char *const *directories, const char *name, const char *machine,
                  off_t nvram_size, struct firmware *firmware, struct error *error)
{
    struct descriptors list;
    bool other;

    *firmware = (struct firmware){0};
    list_all(directories, &list);
    bool found = search(&list, name, machine, nvram_size, firmware, &other);
    descriptors_release(&list);
    if (found)
        return 0;
    if (name[0] == '/' && !other) { /* the operator knows what it is */
        firmware->code = memory_copy(name);
        return 0;
    }
    if (other)
        return error_set(
            error, STATUS_USAGE,
            "no firmware of this node fits the NVRAM of %lld bytes that the instance has",
            (long long)nvram_size);
    return error_set(error, STATUS_USAGE,
                     "no firmware descriptor (%s/*.json and so on) offers it for machine type %s; "
                     "the package ovmf or edk2-ovmf brings them",
                     directories[0], machine);
}

bool firmware_is_known(const char *const *directories, const char *code)
{
    struct descriptors list;
    struct firmware firmware = {0};
    bool other;

    list_all(directories, &list);
    bool found = search(&list, code, NULL, 0, &firmware, &other);
    descriptors_release(&list);
    firmware_release(&firmware);
    return found;
}

void firmware_release(struct firmware *firmware)
{
    free(firmware->code);
    free(firmware->template);
    *firmware = (struct firmware){0};
}
