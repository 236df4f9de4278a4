/* SPDX-License-Identifier: BSD-2-Clause */
/* What a probe tells of CPU models and their features. */
#include <stdlib.h>
#include <string.h>
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/qemu/probe.h"
#include "kvm/state/check.h"

bool probe_has_cpu(const struct probe *probe, const char *cpu_type, const char **nearest)
{
    size_t count = json_array_size(probe->cpus), known = 0;
    AUTO_FREE char *model = memory_format("%.*s", (int)strcspn(cpu_type, ","), cpu_type);
    AUTO_FREE const char **names = memory_zeroed(count + 1, sizeof(*names));

    for (size_t i = 0; i < count; i++) {
        const char *name = json_string_value(json_array_get(probe->cpus, i));
        if (name != NULL)
            names[known++] = name;
    }
    *nearest = NULL;
    if (known == 0 || check_is_one_of(model, names))
        return true;
    *nearest = text_nearest(model, names);
    return false;
}

/* "+avx2" and "-avx2" as they stand; of "hv_time" and "hv_time=on" QEMU takes '_' for '-', and one has two names. */
static char *feature_name(const char *word, size_t length)
{
    bool plain = *word != '+' && *word != '-';
    char *name = memory_format("%.*s", (int)length - (plain ? 0 : 1), word + (plain ? 0 : 1));

    if (!plain)
        return name;
    name[strcspn(name, "=")] = '\0';
    for (char *at = strchr(name, '_'); at != NULL; at = strchr(at, '_'))
        *at = '-';
    if (strcmp(name, "tsc-freq") != 0)
        return name;
    free(name);
    return memory_copy("tsc-frequency");
}

/* The caller frees; NULL: none is near. */
static char *nearest_item(const char *list, const char *word)
{
    AUTO_FREE char *copy = memory_copy(list);
    AUTO_FREE const char **items = memory_zeroed(strlen(list) / 2 + 2, sizeof(*items));
    size_t count = 0;
    char *rest = NULL;

    for (char *item = strtok_r(copy, " ", &rest); item != NULL; item = strtok_r(NULL, " ", &rest))
        items[count++] = item;
    const char *nearest = text_nearest(word, items);
    return nearest != NULL ? memory_copy(nearest) : NULL;
}

char *probe_lacks_feature(const struct probe *probe, const char *cpu_type, char **nearest)
{
    const char *known = json_string_value(probe->features);
    const char *word = cpu_type + strcspn(cpu_type, ",");

    *nearest = NULL;
    while (known != NULL && *known != '\0' && *word == ',') {
        size_t length = strcspn(++word, ",");
        char *name = feature_name(word, length);
        word += length;
        if (*name != '\0' && !text_list_has(known, " ", name)) {
            *nearest = nearest_item(known, name);
            return name;
        }
        free(name);
    }
    return NULL;
}
