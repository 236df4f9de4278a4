/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/base/error.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "kvm/base/memory.h"

/* Takes back the part of a character that the cut has left: the text may go into JSON. */
static size_t whole_characters(const char *text, size_t length)
{
    size_t start = length, need = 1;
    while (start > 0 && length - start < 4 && ((unsigned char)text[start - 1] & 0xc0) == 0x80)
        start--;
    unsigned char lead = start > 0 ? (unsigned char)text[start - 1] : 0;
    if (lead >= 0xc0)
        need = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    return need > length - start + 1 ? start - 1 : length;
}

/* Formats into a buffer of its own first: the arguments may point into error->text. */
__attribute__((format(printf, 3, 0))) static void compose(struct error *error, const char *before,
                                                          const char *format, va_list arguments,
                                                          const char *after)
{
    char text[ERROR_TEXT_MAX];
    size_t length = 0;
    const char *parts[] = {before, NULL, after};
    for (size_t i = 0; i < 3; i++) {
        int added = i == 1 ? vsnprintf(text + length, sizeof(text) - length, format, arguments)
                           : snprintf(text + length, sizeof(text) - length, "%s", parts[i]);
        length += added > 0 ? (size_t)added : 0;
        if (length >= sizeof(text))
            length = sizeof(text) - 1;
    }
    if (length == sizeof(text) - 1)
        length = whole_characters(text, length);
    text[length] = '\0';
    memcpy(error->text, text, length + 1);
}

int error_set(struct error *error, enum status status, const char *format, ...)
{
    if (error == NULL)
        return -1;
    va_list arguments;
    va_start(arguments, format);
    compose(error, "", format, arguments, "");
    va_end(arguments);
    error->status = status;
    return -1;
}

int error_errno(struct error *error, enum status status, const char *format, ...)
{
    if (error == NULL)
        return -1;
    int number = errno;
    char reason[256] = ": ";
    char space[192];
    snprintf(reason, sizeof(reason), ": %s", strerror_r(number, space, sizeof(space)));
    va_list arguments;
    va_start(arguments, format);
    compose(error, "", format, arguments, reason);
    va_end(arguments);
    error->status = status;
    errno = number;
    return -1;
}

int error_prefix(struct error *error, const char *format, ...)
{
    if (error == NULL)
        return -1;
    char after[ERROR_TEXT_MAX + 2];
    snprintf(after, sizeof(after), ": %s", error->text);
    va_list arguments;
    va_start(arguments, format);
    compose(error, "", format, arguments, after);
    va_end(arguments);
    return -1;
}

int error_append(struct error *error, const char *format, ...)
{
    if (error == NULL)
        return -1;
    char before[ERROR_TEXT_MAX];
    memcpy(before, error->text, sizeof(before));
    before[sizeof(before) - 1] = '\0';
    va_list arguments;
    va_start(arguments, format);
    compose(error, before, format, arguments, "");
    va_end(arguments);
    return -1;
}

void messages_add(struct messages *messages, const char *format, ...)
{
    if (messages == NULL)
        return;
    va_list arguments;
    va_start(arguments, format);
    char *item = memory_vformat(format, arguments);
    va_end(arguments);
    messages->items =
        memory_resize(messages->items, messages->count + 1, sizeof(messages->items[0]));
    messages->items[messages->count++] = item;
}

void messages_release(struct messages *messages)
{
    if (messages == NULL)
        return;
    for (size_t i = 0; i < messages->count; i++)
        free(messages->items[i]);
    free(messages->items);
    messages->items = NULL;
    messages->count = 0;
}

int messages_error(const struct messages *messages, enum status status, struct error *error)
{
    enum { ROOM_FOR_REST = 64 };
    assert(messages != NULL && messages->count > 0);
    if (error == NULL)
        return -1;
    error_set(error, status, "%s", messages->items[0]);
    size_t length = strlen(error->text);
    for (size_t i = 1; i < messages->count; i++) {
        size_t more = 1 + strlen(messages->items[i]);
        if (length + more + ROOM_FOR_REST > ERROR_TEXT_MAX)
            return error_append(error, "\nand %zu more", messages->count - i);
        error_append(error, "\n%s", messages->items[i]);
        length += more;
    }
    return -1;
}
