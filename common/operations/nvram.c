/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/operations/nvram.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/host/firmware.h"
#include "kvm/state/hvparams.h"

enum { FLASH_SECTOR = 4096, FLASH_MAX = 64 * 1024 * 1024, SENT_MAX = 1024 * 1024 };

static const char digits[] = "0123456789abcdef";

bool nvram_is_flash_size(off_t size)
{
    return size > 0 && size <= FLASH_MAX && size % FLASH_SECTOR == 0;
}

char *nvram_path(const struct node *node, const struct instance *instance)
{
    const char *given = hvparams_text(instance->hvparams, "nvram_path");

    return given[0] != '\0' ? memory_copy(given)
                            : memory_format("%s/nvram/%s.fd", node->state_path, instance->name);
}

/* Others may pass through the state directory: further things in it belong to other users. */
static int make_directory(const struct node *node, struct error *error)
{
    AUTO_FREE char *directory = memory_format("%s/nvram", node->state_path);

    if (file_make_directory(AT_FDCWD, node->state_path, 0711, error) < 0)
        return -1;
    return file_make_directory(AT_FDCWD, directory, 0700, error);
}

/* The directory of the default path is ours to make, any other the operator's. */
static int write_nvram(const struct node *node, const struct instance *instance, const void *bytes,
                       size_t length, struct error *error)
{
    AUTO_FREE char *path = nvram_path(node, instance);

    if (hvparams_text(instance->hvparams, "nvram_path")[0] == '\0' &&
        make_directory(node, error) < 0)
        return -1;
    return file_replace(AT_FDCWD, path, bytes, length, error);
}

int nvram_make(const struct node *node, const struct instance *instance, const char *template,
               struct error *error)
{
    AUTO_FREE char *bytes = NULL;
    size_t length;

    if (template == NULL)
        return error_set(error, STATUS_FAILED, "there is no template to make it of");
    AUTO_FREE char *real = realpath(template, NULL); /* a link of the package's */
    if (file_read(AT_FDCWD, real != NULL ? real : template, FLASH_MAX, true, &bytes, &length,
                  error) < 0)
        return -1;
    return write_nvram(node, instance, bytes, length, error);
}

char *nvram_hex(const json_t *record)
{
    const char *path = json_text(record, "nvram");
    AUTO_FREE char *bytes = NULL;
    size_t length;

    if (path == NULL || file_read(AT_FDCWD, path, SENT_MAX, true, &bytes, &length, NULL) < 0)
        return NULL;
    char *hex = memory_zeroed(2 * length + 1, 1);
    for (size_t i = 0; i < length; i++) {
        hex[2 * i] = digits[(unsigned char)bytes[i] >> 4];
        hex[2 * i + 1] = digits[(unsigned char)bytes[i] & 15];
    }
    return hex;
}

/* False when it is not what nvram_hex makes. */
static bool read_hex(const char *hex, size_t length, char *bytes)
{
    for (size_t i = 0; i < length; i++) {
        const char *high = strchr(digits, hex[2 * i]), *low = strchr(digits, hex[2 * i + 1]);
        if (high == NULL || low == NULL)
            return false;
        bytes[i] = (char)((high - digits) << 4 | (low - digits));
    }
    return true;
}

bool nvram_is_awaited(const struct node *node, const struct instance *instance, const char *hex)
{
    AUTO_FREE char *path = nvram_path(node, instance);
    const char *firmware = hvparams_text(instance->hvparams, "firmware");

    return hex != NULL && strcmp(firmware, "bios") != 0 && firmware[0] != '\0' &&
           !file_exists(AT_FDCWD, path);
}

int nvram_receive(const struct node *node, const struct instance *instance, const char *hex,
                  struct error *error)
{
    size_t length = strlen(hex) / 2;
    AUTO_FREE char *bytes = memory_zeroed(length + 1, 1);
    if (strlen(hex) % 2 != 0 || !nvram_is_flash_size((off_t)length) ||
        !read_hex(hex, length, bytes))
        return error_set(error, STATUS_USAGE, "the NVRAM in the request is damaged");
    return write_nvram(node, instance, bytes, length, error);
}

/* A file of data that is named after the instance, and not the system's: the other side chooses the instance's name as well,
 * and a distribution's templates have names that an instance may have. */
static bool may_be_nvram(const char *path, const char *name)
{
    static const char *const systems[] = {"/usr/", "/etc/",  "/boot/", "/bin/", "/sbin/",
                                          "/lib",  "/proc/", "/sys/",  "/dev/"};
    AUTO_FREE char *ending = memory_format("/%s.fd", name);
    size_t length = strlen(path), tail = strlen(ending);

    for (size_t i = 0; i < sizeof(systems) / sizeof(systems[0]); i++)
        if (strncmp(path, systems[i], strlen(systems[i])) == 0)
            return false;
    return length > tail && strcmp(path + length - tail, ending) == 0 &&
           strstr(path, "/../") == NULL && !firmware_is_known(firmware_directories, path);
}

/* The code is opened by root and read by the guest, the NVRAM is written: neither may be any file that the other side
 * likes to name. */
int nvram_check_received(const struct node *node, const struct instance *instance,
                         struct error *error)
{
    const json_t *own = json_member(node->defaults, "hvparams");
    static const char *const params[] = {"firmware", "nvram_template", "nvram_path"};

    for (size_t i = 0; i < 3; i++) {
        const char *value = hvparams_text(instance->hvparams, params[i]);
        const char *allowed = json_text(own, params[i]);
        if (value[0] != '/' || (allowed != NULL && strcmp(value, allowed) == 0) ||
            (i == 0 && firmware_is_known(firmware_directories, value)) ||
            (i == 2 && may_be_nvram(value, instance->name)))
            continue;
        return error_set(error, STATUS_STATE,
                         i == 2 ? "the instance has %s \"%s\": one that travels must be a file "
                                  "named after the instance, NAME.fd, in no directory of the system"
                                : "the instance has %s \"%s\", which neither a firmware descriptor "
                                  "nor kvm-defaults.json of this node names (put the same value "
                                  "there)",
                         params[i], value);
    }
    return 0;
}

static int64_t size_of(const char *path)
{
    struct stat status;

    return path != NULL && stat(path, &status) == 0 ? (int64_t)status.st_size : 0;
}

json_t *nvram_sizes(const json_t *record, const char *template)
{
    const char *nvram = json_text(record, "nvram");

    if (nvram == NULL)
        return NULL;
    int64_t size = size_of(nvram);
    return memory_json(json_pack("{s:I, s:I}", "code",
                                 (json_int_t)size_of(json_text(record, "code")), "nvram",
                                 (json_int_t)(size > 0 ? size : size_of(template))));
}

int nvram_sync(const json_t *record, struct error *error)
{
    const char *path = json_text(record, "nvram");

    if (path == NULL)
        return 0;
    AUTO_CLOSE int file = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (file < 0 || fsync(file) < 0)
        return error_errno(error, STATUS_FAILED, "%s", path);
    return 0;
}

char *nvram_recorded(const struct node *node, const char *name, const json_t *record)
{
    const char *recorded = json_text(record, "nvram");

    return recorded != NULL ? memory_copy(recorded)
                            : memory_format("%s/nvram/%s.fd", node->state_path, name);
}

/* Of a file outside of the state directory. */
static int check_is_flash(const char *path, struct error *error)
{
    struct stat status;

    if (lstat(path, &status) < 0 ||
        (S_ISREG(status.st_mode) && status.st_nlink == 1 && nvram_is_flash_size(status.st_size)))
        return 0;
    return error_set(
        error, STATUS_INCOMPLETE,
        "%s: is recorded as its NVRAM but does not look like one, and stays; remove it "
        "by hand if it is",
        path);
}

int nvram_remove(const struct node *node, const char *name, const json_t *record, bool *was_there,
                 struct error *error)
{
    AUTO_FREE char *path = nvram_recorded(node, name, record);
    AUTO_FREE char *own = nvram_recorded(node, name, NULL);

    if (strcmp(path, own) != 0 && check_is_flash(path, error) < 0)
        return -1;
    if (file_remove(AT_FDCWD, path, was_there, error) == 0 &&
        (!*was_there || file_sync_directory(AT_FDCWD, path, error) == 0))
        return 0;
    error->status = STATUS_INCOMPLETE;
    return error_prefix(error, "its NVRAM");
}
