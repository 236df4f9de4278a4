/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/state/check.h"

#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>
#include <uuid/uuid.h>
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"

enum { SHOWN_MAX = 160 };

void check_fail(const struct check *check, const char *key, const json_t *value, const char *format,
                ...)
{
    va_list arguments;

    va_start(arguments, format);
    AUTO_FREE char *text = memory_vformat(format, arguments);
    va_end(arguments);
    if (value == NULL) {
        messages_add(check->problems, "%s%s: %s", check->prefix, key, text);
        return;
    }
    AUTO_FREE char *compact = json_compact(value);
    size_t length = strlen(compact);
    AUTO_FREE char *shown = text_escape(compact, length < SHOWN_MAX ? length : SHOWN_MAX);

    messages_add(check->problems, "%s%s: %s (current value: %s%s)", check->prefix, key, text, shown,
                 length < SHOWN_MAX ? "" : "…");
}

const char *check_text(const struct check *check, const json_t *object, const char *key)
{
    const json_t *value = json_member(object, key);

    if (value == NULL)
        return NULL;
    if (!json_is_string(value)) {
        check_fail(check, key, value, "must be a string");
        return NULL;
    }
    if (text_has_control(json_string_value(value))) {
        check_fail(check, key, value, "must not hold control characters");
        return NULL;
    }
    if (json_string_length(value) > CHECK_TEXT_MAX) {
        check_fail(check, key, value, "must have at most %d bytes", CHECK_TEXT_MAX);
        return NULL;
    }
    return json_string_value(value);
}

bool check_number(const struct check *check, const json_t *object, const char *key, int64_t low,
                  int64_t high, int64_t *number)
{
    const json_t *value = json_member(object, key);

    if (value == NULL)
        return false;
    if (!json_is_integer(value)) {
        check_fail(check, key, value, "must be a whole number");
        return false;
    }
    if (json_integer_value(value) < low || json_integer_value(value) > high) {
        if (high == INT64_MAX)
            check_fail(check, key, value, "must be at least %" PRId64, low);
        else
            check_fail(check, key, value, "must be from %" PRId64 " to %" PRId64, low, high);
        return false;
    }
    *number = json_integer_value(value);
    return true;
}

json_t *check_object(const struct check *check, const json_t *object, const char *key)
{
    json_t *value = json_member(object, key);

    if (value == NULL || json_is_object(value))
        return value;
    check_fail(check, key, value, "must be an object");
    return NULL;
}

json_t *check_array(const struct check *check, const json_t *object, const char *key)
{
    json_t *value = json_member(object, key);

    if (value == NULL || json_is_array(value))
        return value;
    check_fail(check, key, value, "must be a list");
    return NULL;
}

const char *check_choice(const struct check *check, const json_t *object, const char *key,
                         const char *const *choices)
{
    const char *text = check_text(check, object, key);

    if (text == NULL || check_is_one_of(text, choices))
        return text;
    AUTO_FREE char *list = check_list(choices);
    check_fail(check, key, json_member(object, key), "must be one of %s", list);
    return NULL;
}

const char *check_path(const struct check *check, const json_t *object, const char *key)
{
    const char *text = check_text(check, object, key);

    if (text == NULL || check_is_path(text))
        return text;
    if (text[0] != '/')
        check_fail(check, key, json_member(object, key), "must be absolute");
    else
        check_fail(check, key, json_member(object, key),
                   "must be normalised: no \".\", \"..\" or empty components");
    return NULL;
}

int check_uuid(const struct check *check, const json_t *object, const char *key, char *uuid)
{
    const char *text = check_text(check, object, key);
    uuid_t binary;

    if (text == NULL)
        return json_member(object, key) == NULL ? 0 : -1;
    if (uuid_parse(text, binary) != 0) {
        check_fail(check, key, json_member(object, key), "must be a uuid");
        return -1;
    }
    uuid_unparse_lower(binary, uuid);
    return 1;
}

void check_keys(const struct check *check, const json_t *object, const char *const *known,
                const char *const *ignored)
{
    const char *key;
    json_t *value;

    json_object_foreach ((json_t *)(uintptr_t)object, key, value) {
        if (check_is_one_of(key, known) || (ignored != NULL && check_is_one_of(key, ignored)))
            continue;
        AUTO_FREE char *shown = text_escape(key, strlen(key));
        const char *nearest = text_nearest(key, known);

        if (nearest != NULL)
            messages_add(check->problems, "%s%s: unknown key, did you mean \"%s\"?", check->prefix,
                         shown, nearest);
        else
            messages_add(check->problems, "%s%s: unknown key", check->prefix, shown);
    }
}

static bool has_control_below(const json_t *value)
{
    const char *key;
    json_t *item;
    size_t index;

    if (json_is_string(value))
        return text_has_control(json_string_value(value));
    json_array_foreach (value, index, item) {
        if (has_control_below(item))
            return true;
    }
    json_object_foreach ((json_t *)(uintptr_t)value, key, item) {
        if (text_has_control(key) || has_control_below(item))
            return true;
    }
    return false;
}

bool check_strings(const struct check *check, const char *key, const json_t *value)
{
    if (!has_control_below(value))
        return true;
    check_fail(check, key, value, "must not hold control characters");
    return false;
}

void check_members(const struct check *check, const json_t *object, const char *const *told)
{
    const char *key;
    json_t *value;

    json_object_foreach ((json_t *)(uintptr_t)object, key, value) {
        AUTO_FREE char *shown = text_escape(key, strlen(key));

        if (text_has_control(key))
            check_fail(check, shown, NULL, "a key must not hold control characters");
        else if (!json_is_string(value) || !check_is_one_of(key, told))
            check_strings(check, shown, value);
    }
}

void check_set(json_t *object, const char *key, json_t *value)
{
    /* Can only fail for want of memory: keys come from parsed JSON or from our own text. */
    if (json_object_set_new(object, key, memory_json(value)) != 0)
        memory_json(NULL);
}

json_t *check_copy(const json_t *object)
{
    json_t *copy = memory_json(json_object());
    const char *key;
    json_t *value;

    json_object_foreach ((json_t *)(uintptr_t)object, key, value) {
        if (!json_is_null(value))
            check_set(copy, key, json_deep_copy(value));
    }
    return copy;
}

bool check_is_path(const char *text)
{
    size_t length = strlen(text);

    if (text[0] != '/' || length >= PATH_MAX)
        return false;
    for (const char *part = text; *part != '\0';) {
        size_t size = strcspn(++part, "/");
        bool dots = (size == 1 && part[0] == '.') || (size == 2 && strncmp(part, "..", 2) == 0);

        if (dots || (size == 0 && length > 1))
            return false;
        part += size;
    }
    return true;
}

bool check_is_word(const char *text, const char *extra, size_t most)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    size_t length = 0;

    for (const char *at = text; *at != '\0'; at++, length++) {
        if (strchr(letters, *at) == NULL && strchr(extra, *at) == NULL)
            return false;
    }
    return length > 0 && length <= most && text[0] != '-';
}

bool check_is_one_of(const char *text, const char *const *choices)
{
    for (; *choices != NULL; choices++) {
        if (strcmp(text, *choices) == 0)
            return true;
    }
    return false;
}

char *check_list(const char *const *choices)
{
    char *list = memory_copy(choices[0] == NULL ? "" : choices[0]);

    for (size_t i = 1; choices[0] != NULL && choices[i] != NULL; i++) {
        char *longer = memory_format("%s, %s", list, choices[i]);

        free(list);
        list = longer;
    }
    return list;
}

bool check_settle_uuid(const struct check *check, json_t *object)
{
    char text[37] = "";
    uuid_t binary;
    int there = check_uuid(check, object, "uuid", text);

    if (there < 0)
        return false;
    if (there == 0) {
        uuid_generate(binary);
        uuid_unparse_lower(binary, text);
    }
    check_set(object, "uuid", json_string(text));
    return there == 0;
}
