/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory that is there: out of memory ends the program with a message and exit status 1, so no
 * caller checks. Safe for this suite because an operation that dies is completed or undone by the
 * next command. All results are released with free(), or by AUTO_FREE at the end of the scope.
 */
#ifndef KVM_BASE_MEMORY_H
#define KVM_BASE_MEMORY_H

#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <jansson.h>

void *memory_zeroed(size_t count, size_t size);
void *memory_resize(void *old, size_t count, size_t size);
char *memory_copy(const char *text); /* NULL gives NULL */
char *memory_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
char *memory_vformat(const char *format, va_list arguments) __attribute__((format(printf, 1, 0)));

/* A new reference that a jansson constructor made; NULL means out of memory here. */
json_t *memory_json(json_t *value);

static inline void memory_release(void *pointer)
{
    free(*(void **)pointer);
}
#define AUTO_FREE __attribute__((cleanup(memory_release)))

/* Scope-bound descriptor: closed when >= 0. */
void memory_close(const int *descriptor);
#define AUTO_CLOSE __attribute__((cleanup(memory_close)))

#endif
