/* Queues of the model engine: for each id, the records that belong to it, by number. Thread: owner.
 */
#pragma once

#include "base/hashmap.h"

/* Pointers in order; taken from either end. */
struct mem_deque {
    void **items;
    uint64_t first, end, room; /* items[first] to items[end - 1] */
};

void mem_deque_push(struct mem_deque *deque, void *item);

struct mem_queue {
    struct hashnode node;
    uint32_t id;
    bool hidden;        /* dropped, but a crash would bring it back: entries are kept */
    bool dropped;       /* takes no more entries */
    uint64_t first_seq; /* of records.items[records.first] */
    struct mem_deque records;
};

struct mem_index {
    struct hashmap queues;
};

void mem_index_init(struct mem_index *index);
void mem_index_done(struct mem_index *index);
/* NULL: unknown, or hidden. */
struct mem_queue *mem_index_find(const struct mem_index *index, uint32_t id);
/* Adds a record; returns its number in the queue, 0 when the queue was dropped. */
uint64_t mem_index_push(struct mem_index *index, uint32_t id, void *record);
/* Takes a record off the front, or the end, where it must lie unless the queue was dropped. */
void mem_index_pop_front(struct mem_index *index, uint32_t id, const void *record);
void mem_index_pop_back(struct mem_index *index, uint32_t id, const void *record);
void mem_index_drop(struct mem_index *index, uint32_t id);
/* The first half of it, which mem_index_unhide takes back, for all queues. */
void mem_index_hide(struct mem_index *index, uint32_t id);
void mem_index_unhide(struct mem_index *index);
uint64_t mem_queue_next_seq(const struct mem_queue *queue);
