/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/base/json.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "kvm/base/memory.h"

enum { JSON_LEVELS_MAX = 64, JSON_FILE_MAX = 1024 * 1024 };

static bool is_too_deep(json_t *value, int levels)
{
    if (!json_is_object(value) && !json_is_array(value))
        return false;
    if (levels == 0)
        return true;
    for (size_t i = 0; i < json_array_size(value); i++) {
        if (is_too_deep(json_array_get(value, i), levels - 1))
            return true;
    }
    const char *key;
    json_t *member;
    json_object_foreach (value, key, member) {
        if (is_too_deep(member, levels - 1))
            return true;
    }
    return false;
}

/* Our own words, since jansson's quote the input, which may be a secret. */
static const char *fault_name(const json_error_t *fault)
{
    int code = (int)json_error_code(fault);
    switch (code) {
    case json_error_out_of_memory:
        return "out of memory";
    case json_error_stack_overflow:
        return "nested too deeply";
    case json_error_invalid_utf8:
        return "not valid UTF-8";
    case json_error_premature_end_of_input:
        return "it ends too early";
    case json_error_end_of_input_expected:
        return "more than one value";
    case json_error_null_character:
    case json_error_null_byte_in_key:
        return "a NUL character";
    case json_error_duplicate_key:
        return "a key is given twice";
    case json_error_numeric_overflow:
        return "a number is too large";
    default:
        return "not valid JSON";
    }
}

json_t *json_parse(const char *bytes, size_t length, const char *source, struct error *error)
{
    json_error_t fault;
    AUTO_JSON json_t *value =
        json_loadb(bytes, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &fault);
    if (value == NULL) {
        error_set(error, STATUS_FAILED, "%s: line %d column %d: %s", source, fault.line,
                  fault.column, fault_name(&fault));
        return NULL;
    }
    if (is_too_deep(value, JSON_LEVELS_MAX)) {
        error_set(error, STATUS_FAILED, "%s: nested too deeply (more than %d levels)", source,
                  JSON_LEVELS_MAX);
        return NULL;
    }
    return json_incref(value);
}

/* False with errno: the time is up. A person at a terminal has all the time. */
static bool wait_for_input(int descriptor, deadline_t deadline)
{
    struct pollfd poller = {descriptor, POLLIN, 0};

    if (isatty(descriptor))
        deadline = DEADLINE_NEVER;
    while (poll(&poller, 1, clock_poll_ms(deadline)) <= 0)
        if (clock_passed(deadline)) {
            errno = ETIMEDOUT;
            return false;
        }
    return true;
}

/* Whole content of a descriptor, at most JSON_FILE_MAX bytes; -1 with errno (EFBIG: larger). */
static ssize_t read_all(int descriptor, char *bytes, deadline_t deadline)
{
    size_t length = 0;
    for (;;) {
        if (!wait_for_input(descriptor, deadline))
            return -1;
        ssize_t got = read(descriptor, bytes + length, JSON_FILE_MAX + 1 - length);
        if (got == 0)
            return (ssize_t)length;
        if (got < 0 && errno != EINTR && errno != EAGAIN)
            return -1;
        length += got > 0 ? (size_t)got : 0;
        if (length > JSON_FILE_MAX) {
            errno = EFBIG;
            return -1;
        }
    }
}

json_t *json_read(const char *path, deadline_t deadline, struct error *error)
{
    bool is_stdin = strcmp(path, "-") == 0;
    const char *source = is_stdin ? "stdin" : path;
    AUTO_CLOSE int file = -1;
    if (!is_stdin) {
        file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        struct stat status;
        if (file < 0 || fstat(file, &status) < 0) {
            error_errno(error, STATUS_USAGE, "%s: open", source);
            return NULL;
        }
        if (!S_ISREG(status.st_mode) && !S_ISFIFO(status.st_mode)) {
            error_set(error, STATUS_USAGE, "%s: neither a regular file nor a pipe", source);
            return NULL;
        }
    }
    AUTO_FREE char *bytes = memory_zeroed(JSON_FILE_MAX + 1, 1);
    ssize_t length = read_all(is_stdin ? STDIN_FILENO : file, bytes, deadline);
    if (length < 0 && errno == EFBIG) {
        error_set(error, STATUS_USAGE, "%s: larger than 1 MiB", source);
        return NULL;
    }
    if (length < 0 && errno == ETIMEDOUT) {
        error_set(error, STATUS_TIMEOUT,
                  "%s: its end has not come in time, so nothing was done: who writes to that pipe?",
                  source);
        return NULL;
    }
    if (length < 0) {
        error_errno(error, STATUS_USAGE, "%s: read", source);
        return NULL;
    }
    json_t *value = json_parse(bytes, (size_t)length, source, error);
    if (value == NULL && error != NULL)
        error->status = STATUS_USAGE;
    return value;
}

json_t *json_member(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

json_t *json_find(const json_t *array, const char *key, const char *word)
{
    for (size_t i = 0; i < json_array_size(array); i++) {
        json_t *object = json_array_get(array, i);
        const char *text = json_text(object, key);
        if (text != NULL && strcmp(text, word) == 0)
            return object;
    }
    return NULL;
}

const char *json_text(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

int64_t json_number(const json_t *object, const char *key, int64_t otherwise)
{
    const json_t *value = json_object_get(object, key);
    return json_is_integer(value) ? json_integer_value(value) : otherwise;
}

bool json_truth(const json_t *object, const char *key, bool otherwise)
{
    const json_t *value = json_object_get(object, key);
    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

const char *json_type_name(const json_t *value)
{
    static const char *const names[] = {
        [JSON_OBJECT] = "object",   [JSON_ARRAY] = "array", [JSON_STRING] = "string",
        [JSON_INTEGER] = "integer", [JSON_REAL] = "number", [JSON_TRUE] = "boolean",
        [JSON_FALSE] = "boolean",   [JSON_NULL] = "null",
    };
    return value == NULL ? "nothing" : names[json_typeof(value)];
}

char *json_compact(const json_t *value)
{
    assert(value != NULL);
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    if (text == NULL) /* it was valid when it was made, so only memory can be missing */
        memory_json(NULL);
    return text;
}

void json_release(json_t **value)
{
    json_decref(*value);
    *value = NULL;
}
