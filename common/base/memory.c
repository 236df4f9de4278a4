/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/base/memory.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "kvm/base/error.h"
#include "kvm/base/file.h"
#include "kvm/base/log.h"

static _Noreturn void out_of_memory(void)
{
    static const char text[] = ": out of memory\n";
    const char *program = log_program();
    if (file_write_all(STDERR_FILENO, program, strlen(program)) == 0)
        file_write_all(STDERR_FILENO, text, sizeof(text) - 1);
    exit(STATUS_FAILED);
}

void *memory_zeroed(size_t count, size_t size)
{
    void *block = calloc(count > 0 ? count : 1, size > 0 ? size : 1);
    if (block == NULL)
        out_of_memory();
    return block;
}

void *memory_resize(void *old, size_t count, size_t size)
{
    void *block = reallocarray(old, count > 0 ? count : 1, size > 0 ? size : 1);
    if (block == NULL)
        out_of_memory();
    return block;
}

char *memory_copy(const char *text)
{
    if (text == NULL)
        return NULL;
    size_t size = strlen(text) + 1;
    return memcpy(memory_zeroed(size, 1), text, size);
}

char *memory_vformat(const char *format, va_list arguments)
{
    char *text = NULL;
    if (vasprintf(&text, format, arguments) < 0)
        out_of_memory();
    return text;
}

char *memory_format(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *text = memory_vformat(format, arguments);
    va_end(arguments);
    return text;
}

json_t *memory_json(json_t *value)
{
    if (value == NULL)
        out_of_memory();
    return value;
}

/* errno is kept: it runs at the end of a scope, often between a failure and its report. */
void memory_close(const int *descriptor)
{
    int number = errno;
    if (*descriptor >= 0)
        close(*descriptor);
    errno = number;
}
