/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The events that a connection has brought and nobody has taken yet, in flat memory: the newest
 * 4,096 of any name, and apart from them the newest 256 DEVICE_DELETED, which a flood of others must
 * not push out. Their memory is bounded as well, whatever their size. Private to qmp.c.
 */
#ifndef KVM_QEMU_QMP_STORE_H
#define KVM_QEMU_QMP_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <jansson.h>

enum {
    STORE_EVENTS = 4096,
    STORE_DELETED = 256,
    STORE_EVENTS_COST = 10 * 1024 * 1024, /* bytes; QEMU's events take 1 to 2.5 KiB each */
    STORE_DELETED_COST = 1024 * 1024,
};

struct stored {
    json_t *event;
    size_t cost;
};

struct ring {
    struct stored *items;                      /* `capacity` of them, made with the first event */
    size_t capacity, most, first, count, cost; /* cost stays within `most` */
};

/* Zero-initialised is empty. */
struct store {
    struct ring events, deleted;
};

/* Steals the event; `cost` is what it takes. The oldest go when there is no room. */
void store_add(struct store *store, json_t *event, size_t cost);

/* The oldest with that name for which `matches` (may be NULL) says yes; NULL: none. New reference. */
json_t *store_take(struct store *store, const char *name,
                   bool (*matches)(const json_t *event, const void *context), const void *context);

void store_release(struct store *store);

#endif
