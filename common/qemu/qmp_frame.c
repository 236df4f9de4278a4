/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "qmp_frame.h"

/* What jansson 2.14 allocates, malloc's rounding included: an object with its first buckets, an
 * array with its first table, one member's pair, one value. */
enum { COST_OBJECT = 240, COST_ARRAY = 144, COST_PAIR = 112, COST_VALUE = 96 };

enum { KEEP_CAPACITY = 256 * 1024, GREETING_SHOWN = 60 };

char *frame_room(struct frame *frame, size_t want)
{
    if (frame->start > 0 && frame->capacity - frame->end < want) {
        memmove(frame->bytes, frame->bytes + frame->start, frame->end - frame->start);
        frame->end -= frame->start;
        frame->scanned -= frame->start;
        frame->start = 0;
    }
    if (frame->capacity - frame->end < want) {
        frame->capacity = frame->end + want + frame->end / 2;
        frame->bytes = memory_resize(frame->bytes, frame->capacity, 1);
    }
    return frame->bytes + frame->end;
}

void frame_added(struct frame *frame, size_t count)
{
    frame->end += count;
}

void frame_release(struct frame *frame)
{
    free(frame->bytes);
    *frame = (struct frame){0};
}

bool frame_is_empty(const struct frame *frame)
{
    return frame->depth == 0 && frame->scanned == frame->end;
}

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

/* A message is at its end, or a big one has left a big buffer: begin anew. */
static void forget_message(struct frame *frame)
{
    frame->start = frame->scanned;
    frame->cost = 0;
    if (frame->start == frame->end) {
        frame->start = frame->scanned = frame->end = 0;
        if (frame->capacity > KEEP_CAPACITY)
            frame_release(frame);
    }
}

/* One byte outside of strings. Returns false when the value has ended with it. */
static bool scan_structure(struct frame *frame, char byte)
{
    switch (byte) {
    case '"':
        frame->in_string = true;
        return true;
    case '{':
        frame->cost += COST_OBJECT + COST_VALUE;
        frame->depth++;
        return true;
    case '[':
        frame->cost += COST_ARRAY + COST_VALUE;
        frame->depth++;
        return true;
    case ',':
        frame->cost += COST_VALUE;
        return true;
    case ':':
        frame->cost += COST_PAIR;
        return true;
    case '}':
    case ']':
        frame->depth--;
        return frame->depth > 0;
    default:
        return true;
    }
}

/* Strings are most of a big message: skip to the byte that matters. */
static void scan_string(struct frame *frame)
{
    while (frame->in_string && frame->scanned < frame->end) {
        char byte = frame->bytes[frame->scanned++];
        if (frame->escaped)
            frame->escaped = false;
        else if (byte == '\\')
            frame->escaped = true;
        else if (byte == '"')
            frame->in_string = false;
    }
}

/* True when the value that begins at frame->start ends before frame->scanned. */
static bool scan(struct frame *frame)
{
    while (frame->scanned < frame->end) {
        if (frame->in_string)
            scan_string(frame);
        else if (!scan_structure(frame, frame->bytes[frame->scanned++]))
            return true;
    }
    return false;
}

static int fault_foreign(const struct frame *frame, char *fault)
{
    size_t shown = frame->end - frame->start;
    if (shown > GREETING_SHOWN)
        shown = GREETING_SHOWN;
    const char *begin = frame->bytes + frame->start;
    const char *newline = memchr(begin, '\n', shown);
    if (newline != NULL)
        shown = (size_t)(newline - begin);
    AUTO_FREE char *text = text_escape(begin, shown);
    snprintf(fault, FRAME_FAULT_SIZE, "its server does not speak QMP: it sent \"%s\"", text);
    return -1;
}

static json_t *parse(const char *bytes, size_t length, char *fault)
{
    json_error_t where;
    json_t *message = json_loadb(bytes, length, JSON_REJECT_DUPLICATES, &where);
    if (message == NULL && json_error_code(&where) == json_error_numeric_overflow)
        message =
            json_loadb(bytes, length, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &where);
    if (message == NULL) {
        AUTO_FREE char *why = text_escape(where.text, strlen(where.text));
        snprintf(fault, FRAME_FAULT_SIZE, "its server sent JSON that is not valid: %.180s", why);
    }
    return message;
}

int frame_next(struct frame *frame, json_t **message, size_t *cost, char *fault)
{
    while (frame->depth == 0 && frame->scanned < frame->end &&
           is_blank(frame->bytes[frame->scanned]))
        frame->scanned++;
    if (frame->depth == 0) {
        forget_message(frame);
        if (frame->scanned == frame->end)
            return 0;
        if (frame->bytes[frame->scanned] != '{')
            return fault_foreign(frame, fault);
    }
    bool complete = scan(frame);
    size_t length = frame->scanned - frame->start;
    if (length > FRAME_MESSAGE_MAX) {
        snprintf(fault, FRAME_FAULT_SIZE, "its server sent a message of more than 16 MiB");
        return -1;
    }
    if (frame->cost + 3 * length > FRAME_MEMORY_MAX) { /* jansson copies a string twice */
        snprintf(fault, FRAME_FAULT_SIZE,
                 "its server sent a message that would take more than 48 MiB of memory");
        return -1;
    }
    if (!complete)
        return 0;
    *message = parse(frame->bytes + frame->start, length, fault);
    if (*message == NULL)
        return -1;
    *cost = frame->cost + length;
    forget_message(frame);
    return 1;
}
