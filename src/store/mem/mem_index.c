#include "store/mem/mem_index.h"

#include "base/mem.h"

#include <string.h>

void mem_deque_push(struct mem_deque *deque, void *item)
{
    if (deque->end == deque->room) {
        const uint64_t count = deque->end - deque->first;
        if (deque->first > count) { /* more than half is free in front */
            memcpy(deque->items, deque->items + deque->first, count * sizeof item);
        } else {
            deque->room = MAX(deque->room * 2, UINT64_C(4));
            deque->items = mem_grow(deque->items, deque->room * sizeof item);
            memmove(deque->items, deque->items + deque->first, count * sizeof item);
        }
        deque->first = 0;
        deque->end = count;
    }
    deque->items[deque->end++] = item;
}

static bool has_id(const struct hashnode *node, const void *key)
{
    return CONTAINER_OF(node, const struct mem_queue, node)->id == *(const uint32_t *)key;
}

void mem_index_init(struct mem_index *index)
{
    hashmap_init(&index->queues);
}

void mem_index_done(struct mem_index *index)
{
    uint64_t pos = 0;
    struct hashnode *node = NULL;
    while ((node = hashmap_next(&index->queues, &pos, node))) {
        struct mem_queue *queue = CONTAINER_OF(node, struct mem_queue, node);
        hashmap_remove(&index->queues, node);
        mem_free(queue->records.items);
        mem_free(queue);
    }
    hashmap_done(&index->queues);
}

static struct mem_queue *find(const struct mem_index *index, uint32_t id)
{
    struct hashnode *node = hashmap_find(&index->queues, hash_u64(id), has_id, &id);
    return node ? CONTAINER_OF(node, struct mem_queue, node) : NULL;
}

struct mem_queue *mem_index_find(const struct mem_index *index, uint32_t id)
{
    struct mem_queue *queue = find(index, id);
    return queue && !queue->hidden ? queue : NULL;
}

static struct mem_queue *ensure(struct mem_index *index, uint32_t id)
{
    struct mem_queue *queue = find(index, id);
    if (!queue) {
        queue = mem_new(sizeof *queue);
        queue->id = id;
        hashmap_insert(&index->queues, &queue->node, hash_u64(id));
    }
    return queue;
}

uint64_t mem_index_push(struct mem_index *index, uint32_t id, void *record)
{
    struct mem_queue *queue = ensure(index, id);
    if (queue->dropped)
        return 0;
    mem_deque_push(&queue->records, record);
    return mem_queue_next_seq(queue) - 1;
}

void mem_index_pop_front(struct mem_index *index, uint32_t id, const void *record)
{
    struct mem_queue *queue = find(index, id);
    ASSERT(queue != NULL);
    if (queue->dropped)
        return;
    ASSERT(queue->records.first < queue->records.end);
    ASSERT(queue->records.items[queue->records.first] == record);
    queue->records.first++;
    queue->first_seq++;
}

void mem_index_pop_back(struct mem_index *index, uint32_t id, const void *record)
{
    struct mem_queue *queue = find(index, id);
    ASSERT(queue != NULL);
    if (queue->dropped)
        return;
    ASSERT(queue->records.first < queue->records.end);
    ASSERT(queue->records.items[queue->records.end - 1] == record);
    queue->records.end--;
}

void mem_index_drop(struct mem_index *index, uint32_t id)
{
    struct mem_queue *queue = ensure(index, id);
    queue->hidden = false;
    queue->dropped = true;
    queue->first_seq = 0;
    mem_free(queue->records.items);
    queue->records = (struct mem_deque){0};
}

void mem_index_hide(struct mem_index *index, uint32_t id)
{
    ensure(index, id)->hidden = true;
}

void mem_index_unhide(struct mem_index *index)
{
    uint64_t pos = 0;
    struct hashnode *node = NULL;
    while ((node = hashmap_next(&index->queues, &pos, node)))
        CONTAINER_OF(node, struct mem_queue, node)->hidden = false;
}

uint64_t mem_queue_next_seq(const struct mem_queue *queue)
{
    return queue->first_seq + (queue->records.end - queue->records.first);
}
