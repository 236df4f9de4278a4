/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The byte stream of a QMP peer cut into complete JSON values, whatever the size of the reads and
 * however the peer breaks its lines. Private to qmp.c.
 *
 *     frame_room → read(2) into it → frame_added → frame_next until it returns 0
 */
#ifndef KVM_QEMU_QMP_FRAME_H
#define KVM_QEMU_QMP_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <jansson.h>

enum {
    FRAME_MESSAGE_MAX = 16 * 1024 * 1024,
    FRAME_MEMORY_MAX = 48 * 1024 * 1024, /* what a message and its parsed form may take together */
    FRAME_FAULT_SIZE = 256,
};

/* Zero-initialised is empty. */
struct frame {
    char *bytes;
    size_t capacity;
    size_t start;   /* of the message that is being collected */
    size_t scanned; /* up to here its structure is known */
    size_t end;
    unsigned depth;
    bool in_string, escaped;
    size_t cost; /* estimate of what jansson will take for its structure */
};

/* Room for at least `want` more bytes. */
char *frame_room(struct frame *frame, size_t want);
void frame_added(struct frame *frame, size_t count);

/* 1: *message is a new reference to an object, *cost its memory · 0: nothing complete is there · -1:
 * the peer does not speak QMP; `fault` (FRAME_FAULT_SIZE) says why, and the stream is of no use. */
int frame_next(struct frame *frame, json_t **message, size_t *cost, char *fault);

/* True when nothing but white space has come since the last message. */
bool frame_is_empty(const struct frame *frame);

void frame_release(struct frame *frame);

#endif
