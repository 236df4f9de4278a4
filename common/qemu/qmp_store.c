/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdlib.h>
#include <string.h>
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "qmp_store.h"

static struct stored *ring_at(const struct ring *ring, size_t index)
{
    return &ring->items[(ring->first + index) % ring->capacity];
}

static void ring_drop_oldest(struct ring *ring)
{
    struct stored *oldest = ring_at(ring, 0);
    json_decref(oldest->event);
    ring->cost -= oldest->cost;
    ring->first = (ring->first + 1) % ring->capacity;
    ring->count--;
}

static void ring_begin(struct ring *ring, size_t capacity, size_t most)
{
    if (ring->items == NULL) {
        ring->items = memory_zeroed(capacity, sizeof(*ring->items));
        ring->capacity = capacity;
        ring->most = most;
    }
}

static void ring_add(struct ring *ring, json_t *event, size_t cost)
{
    if (ring->count == ring->capacity)
        ring_drop_oldest(ring);
    *ring_at(ring, ring->count++) = (struct stored){event, cost};
    ring->cost += cost;
    while (ring->cost > ring->most)
        ring_drop_oldest(ring);
}

static json_t *ring_remove(struct ring *ring, size_t index)
{
    struct stored taken = *ring_at(ring, index);
    for (size_t i = index; i + 1 < ring->count; i++)
        *ring_at(ring, i) = *ring_at(ring, i + 1);
    ring->count--;
    ring->cost -= taken.cost;
    return taken.event;
}

static void ring_release(struct ring *ring)
{
    while (ring->count > 0)
        ring_drop_oldest(ring);
    free(ring->items);
    *ring = (struct ring){0};
}

static bool is_deleted(const char *name)
{
    return strcmp(name, "DEVICE_DELETED") == 0;
}

void store_add(struct store *store, json_t *event, size_t cost)
{
    ring_begin(&store->events, STORE_EVENTS, STORE_EVENTS_COST);
    ring_begin(&store->deleted, STORE_DELETED, STORE_DELETED_COST);
    const char *name = json_text(event, "event");
    ring_add(name != NULL && is_deleted(name) ? &store->deleted : &store->events, event, cost);
}

json_t *store_take(struct store *store, const char *name,
                   bool (*matches)(const json_t *event, const void *context), const void *context)
{
    struct ring *ring = is_deleted(name) ? &store->deleted : &store->events;
    for (size_t i = 0; i < ring->count; i++) {
        const json_t *event = ring_at(ring, i)->event;
        const char *found = json_text(event, "event");
        if (found != NULL && strcmp(found, name) == 0 &&
            (matches == NULL || matches(event, context)))
            return ring_remove(ring, i);
    }
    return NULL;
}

void store_release(struct store *store)
{
    ring_release(&store->events);
    ring_release(&store->deleted);
}
