/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/base/log.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "kvm/base/file.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"

static const char *the_program = "kvm-suite";
static bool is_verbose;

void log_begin(const char *program)
{
    the_program = program;
}

void log_verbose(bool on)
{
    is_verbose = on;
}

const char *log_program(void)
{
    return the_program;
}

/* One write for the whole message: those of parallel workers do not mix. */
static void print(const char *kind, const char *text)
{
    static const char indent[] = "\n  ";
    char *line = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&line, &size);
    if (stream == NULL)
        return;
    fprintf(stream, "%s: %s", the_program, kind);
    size_t left = strlen(text);
    while (left > 0 && text[left - 1] == '\n')
        left--;
    while (left > 0) {
        size_t taken = text_printable_length(text, left);
        if (taken > 0)
            fwrite(text, 1, taken, stream);
        else if (*text == '\n')
            fputs(indent, stream);
        else
            fprintf(stream, "\\x%02x", (unsigned)(unsigned char)*text);
        taken += taken == 0;
        text += taken;
        left -= taken;
    }
    fputc('\n', stream);
    if (fclose(stream) == 0)
        file_write_all(STDERR_FILENO, line, size);
    free(line);
}

#define PRINT(kind, format)                                                                        \
    do {                                                                                           \
        va_list arguments;                                                                         \
        va_start(arguments, format);                                                               \
        AUTO_FREE char *text = memory_vformat(format, arguments);                                  \
        va_end(arguments);                                                                         \
        print(kind, text);                                                                         \
    } while (0)

void log_error(const char *format, ...)
{
    PRINT("", format);
}

void log_warning(const char *format, ...)
{
    PRINT("warning: ", format);
}

void log_detail(const char *format, ...)
{
    if (is_verbose)
        PRINT("", format);
}

void log_step(const char *what)
{
    log_detail("%s", what);
}

void log_warnings(const char *subject, const struct messages *warnings)
{
    for (size_t i = 0; i < warnings->count; i++) {
        if (subject != NULL)
            log_warning("%s: %s", subject, warnings->items[i]);
        else
            log_warning("%s", warnings->items[i]);
    }
}
