/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/state/hvparams.h"

#include <assert.h>
#include <string.h>
#include "kvm/base/memory.h"
#include "kvm/base/text.h"

enum { CPU_MAX = 4095 };

const struct hvparam *hvparams_find(const char *name)
{
    for (size_t i = 0; i < hvparams_count; i++) {
        if (strcmp(hvparams_table[i].name, name) == 0)
            return &hvparams_table[i];
    }
    return NULL;
}

static json_t *default_value(const struct hvparam *param)
{
    switch (param->type) {
    case HVPARAM_TEXT:
        return memory_json(json_string(param->text));
    case HVPARAM_TRUTH:
        return json_boolean(param->number != 0);
    case HVPARAM_NUMBER:
        break;
    }
    return memory_json(json_integer(param->number));
}

static void put_given(json_t *filled, const json_t *given)
{
    const char *key;
    json_t *value;

    json_object_foreach ((json_t *)(uintptr_t)given, key, value) {
        if (json_is_null(value))
            continue;
        /* A copy, so that changing the filled set never changes what was given. */
        if (json_object_set_new(filled, key, memory_json(json_deep_copy(value))) != 0)
            memory_json(NULL);
    }
}

json_t *hvparams_fill(const json_t *defaults, const json_t *given)
{
    json_t *filled = memory_json(json_object());

    for (size_t i = 0; i < hvparams_count; i++) {
        const struct hvparam *param = &hvparams_table[i];

        if (json_object_set_new(filled, param->name, default_value(param)) != 0)
            memory_json(NULL);
    }
    put_given(filled, defaults);
    put_given(filled, given);
    const char *discard = json_string_value(json_object_get(filled, "disk_discard"));

    if (discard != NULL && strcmp(discard, "default") == 0)
        json_object_set_new(filled, "disk_discard", memory_json(json_string("ignore")));
    return filled;
}

const char *hvparams_text(const json_t *filled, const char *name)
{
    assert(hvparams_find(name) != NULL && hvparams_find(name)->type == HVPARAM_TEXT);
    const char *text = json_string_value(json_object_get(filled, name));

    return text == NULL ? "" : text;
}

bool hvparams_truth(const json_t *filled, const char *name)
{
    assert(hvparams_find(name) != NULL && hvparams_find(name)->type == HVPARAM_TRUTH);
    return json_is_true(json_object_get(filled, name));
}

int64_t hvparams_number(const json_t *filled, const char *name)
{
    assert(hvparams_find(name) != NULL && hvparams_find(name)->type == HVPARAM_NUMBER);
    return json_integer_value(json_object_get(filled, name));
}

/* "2" or "2-5" becomes numbers at the end of `list`. */
static bool add_range(json_t *list, char *range)
{
    char *dash = strchr(range, '-');
    int64_t low, high;

    if (dash != NULL)
        *dash = '\0';
    if (!text_number(range, 0, CPU_MAX, &low))
        return false;
    high = low;
    if (dash != NULL && !text_number(dash + 1, low, CPU_MAX, &high))
        return false;
    for (int64_t cpu = low; cpu <= high; cpu++) {
        if (json_array_append_new(list, memory_json(json_integer(cpu))) != 0)
            memory_json(NULL);
    }
    return json_array_size(list) <= CPU_MAX + 1;
}

/* One part of the mask: a new array, null for "all", NULL when it is wrong. */
static json_t *mask_part(char *part)
{
    if (strcmp(part, "all") == 0)
        return json_null();
    AUTO_FREE char *copy = memory_copy(part);
    json_t *list = memory_json(json_array());
    char *rest = copy;

    for (char *range = strsep(&rest, ","); range != NULL; range = strsep(&rest, ",")) {
        if (!add_range(list, range)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

json_t *hvparams_cpu_mask(const char *mask, struct error *error)
{
    AUTO_FREE char *copy = memory_copy(mask);
    json_t *parts = memory_json(json_array());
    char *rest = copy;

    for (char *part = strsep(&rest, ":"); part != NULL; part = strsep(&rest, ":")) {
        json_t *numbers = mask_part(part);

        if (numbers == NULL || json_array_size(parts) > CPU_MAX) {
            json_decref(numbers);
            json_decref(parts);
            error_set(error, STATUS_USAGE,
                      "must be \"all\" or CPU numbers and ranges like 0-2,5, or one such part for "
                      "each vCPU like 0:2-3:all");
            return NULL;
        }
        json_array_append_new(parts, numbers);
    }
    return parts;
}
