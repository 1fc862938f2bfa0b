#include "store/local/qindex.h"

#include "base/mem.h"

#include <string.h>

enum {
    ARENA_CHUNK_SIZE = 1024 * 1024,
    BLOCK_CAPACITY_MIN = 2,
    BLOCK_CAPACITY_MAX = 2048,
    SLAB_COUNT = 512,
    PLACE_UNIT = 8,
};

struct arena_chunk {
    struct arena_chunk *next;
    uint64_t used;
    uint8_t bytes[ARENA_CHUNK_SIZE];
};

struct queue_slab {
    struct queue_slab *next;
    struct queue queues[SLAB_COUNT];
};

/* Zeroed memory, aligned to 8. */
static void *arena_take(struct qgen *gen, uint32_t size)
{
    size = (size + 7) & ~7u;
    struct arena_chunk *chunk = gen->arena;
    if (!chunk || ARENA_CHUNK_SIZE - chunk->used < size) {
        chunk = mem_new(sizeof *chunk);
        chunk->next = gen->arena;
        gen->arena = chunk;
        gen->memory += sizeof *chunk;
    }
    void *taken = chunk->bytes + chunk->used;
    chunk->used += size;
    return taken;
}

static void free_chunk(struct arena_chunk **first)
{
    struct arena_chunk *chunk = *first;
    *first = chunk->next;
    mem_free(chunk);
}

static void gen_free(struct qgen *gen)
{
    while (gen->arena)
        free_chunk(&gen->arena);
    *gen = (struct qgen){0};
}

bool qindex_release(struct qindex *index, uint32_t chunk_count)
{
    for (; index->retired && chunk_count > 0; chunk_count--)
        free_chunk(&index->retired);
    return index->retired != NULL;
}

void qindex_init(struct qindex *index, uint64_t base)
{
    *index = (struct qindex){.active = {.number = 1, .base = base}};
    hashmap_init(&index->queues);
}

void qindex_done(struct qindex *index)
{
    gen_free(&index->active);
    gen_free(&index->frozen);
    (void)qindex_release(index, UINT32_MAX);
    hashmap_done(&index->queues);
    struct queue_slab *slab = index->slabs;
    while (slab) {
        struct queue_slab *next = slab->next;
        mem_free(slab);
        slab = next;
    }
}

static bool queue_match(const struct hashnode *node, const void *key)
{
    return CONTAINER_OF(node, struct queue, node)->id == *(const uint32_t *)key;
}

struct queue *qindex_find(const struct qindex *index, uint32_t queue_id)
{
    struct hashnode *node =
        hashmap_find(&index->queues, hash_u64(queue_id), queue_match, &queue_id);
    return node ? CONTAINER_OF(node, struct queue, node) : NULL;
}

/* Unused queues are chained through node.next. */
static struct queue *take_spare(struct qindex *index)
{
    if (!index->spare) {
        struct queue_slab *slab = mem_new(sizeof *slab);
        slab->next = index->slabs;
        index->slabs = slab;
        for (uint32_t i = 0; i + 1 < SLAB_COUNT; i++)
            slab->queues[i].node.next = &slab->queues[i + 1].node;
        index->spare = slab->queues;
    }
    struct queue *queue = index->spare;
    struct hashnode *next = queue->node.next;
    index->spare = next ? CONTAINER_OF(next, struct queue, node) : NULL;
    memset(queue, 0, sizeof *queue);
    return queue;
}

struct queue *qindex_get(struct qindex *index, uint32_t queue_id)
{
    ASSERT(queue_id != 0);
    struct queue *queue = qindex_find(index, queue_id);
    if (!queue) {
        queue = take_spare(index);
        queue->id = queue_id;
        queue->first_seq = queue->next_seq = index->floor;
        hashmap_insert(&index->queues, &queue->node, hash_u64(queue_id));
    }
    return queue;
}

/* The queue's chain in the active generation. */
static struct qchain *active_chain(struct qindex *index, struct queue *queue)
{
    struct qgen *gen = &index->active;
    if (queue->chain_number == gen->number)
        return queue->chain;
    struct qchain *chain = arena_take(gen, sizeof *chain);
    chain->queue_id = queue->id;
    chain->first_seq = queue->next_seq;
    chain->older = queue->chain;
    chain->older_number = queue->chain_number;
    chain->next = gen->chains;
    gen->chains = chain;
    gen->chain_count++;
    queue->chain = chain;
    queue->chain_number = gen->number;
    return chain;
}

static struct qblock *add_block(struct qgen *gen, struct qchain *chain)
{
    const uint32_t capacity = chain->tail
                                  ? MIN(chain->tail->capacity * 2, (uint32_t)BLOCK_CAPACITY_MAX)
                                  : (uint32_t)BLOCK_CAPACITY_MIN;
    const uint32_t size = (uint32_t)(sizeof(struct qblock) + capacity * sizeof(struct qentry));
    struct qblock *block = arena_take(gen, size);
    block->capacity = capacity;
    if (chain->tail)
        chain->tail->next = block;
    else
        chain->head = block;
    chain->tail = block;
    return block;
}

uint64_t qindex_add(struct qindex *index, uint32_t queue_id, uint64_t position, uint32_t size)
{
    struct qgen *gen = &index->active;
    struct queue *queue = qindex_get(index, queue_id);
    struct qchain *chain = active_chain(index, queue);
    struct qblock *block = chain->tail;
    if (!block || block->count == block->capacity)
        block = add_block(gen, chain);
    const uint64_t place = (position - gen->base) / PLACE_UNIT;
    ASSERT(position >= gen->base && place <= UINT32_MAX);
    ASSERT(size % PLACE_UNIT == 0);
    block->entries[block->count++] =
        (struct qentry){.place = (uint32_t)place, .size8 = size / PLACE_UNIT};
    chain->count++;
    gen->entry_count++;
    return queue->next_seq++;
}

void qindex_skip(struct qindex *index, uint64_t count)
{
    ASSERT(index->active.entry_count == 0);
    index->floor += count;
    uint64_t pos = 0;
    struct hashnode *node = NULL;
    while ((node = hashmap_next(&index->queues, &pos, node)))
        CONTAINER_OF(node, struct queue, node)->next_seq += count;
}

void qindex_drop(struct qindex *index, uint32_t queue_id)
{
    struct queue *queue = qindex_find(index, queue_id);
    if (!queue)
        return;
    if (queue->chain_number == index->active.number) {
        index->active.entry_count -= queue->chain->count;
        queue->chain->count = 0; /* a frozen chain is left as it is: a worker reads it */
    }
    hashmap_remove(&index->queues, &queue->node);
    queue->node.next = index->spare ? &index->spare->node : NULL;
    index->spare = queue;
}

/* The queue's chain in the active and in the frozen generation, either may be NULL. */
static void chains_of(const struct qindex *index, const struct queue *queue,
                      struct qchain **ret_active, struct qchain **ret_frozen)
{
    *ret_active = *ret_frozen = NULL;
    const uint32_t frozen_number = index->frozen.number;
    if (queue->chain_number == index->active.number) {
        *ret_active = queue->chain;
        if (frozen_number && queue->chain->older_number == frozen_number)
            *ret_frozen = queue->chain->older;
    } else if (frozen_number && queue->chain_number == frozen_number) {
        *ret_frozen = queue->chain;
    }
}

uint64_t qindex_memory_first(const struct qindex *index, const struct queue *queue)
{
    struct qchain *active, *frozen;
    chains_of(index, queue, &active, &frozen);
    if (frozen)
        return frozen->first_seq;
    return active ? active->first_seq : queue->next_seq;
}

static uint32_t read_chain(const struct qgen *gen, struct qchain *chain, uint64_t from_seq,
                           struct qplace *ret_places, uint32_t count_max)
{
    if (!chain->near || from_seq < chain->near_seq) {
        chain->near = chain->head;
        chain->near_seq = chain->first_seq;
    }
    const struct qblock *block = chain->near;
    uint64_t skip = from_seq - chain->near_seq;
    uint32_t count = 0;
    for (; block && block->next && skip >= block->count; block = block->next)
        skip -= block->count;
    chain->near = block;
    chain->near_seq = from_seq - skip;
    for (; block && count < count_max; block = block->next) {
        for (uint64_t i = skip; i < block->count && count < count_max; i++) {
            const struct qentry *entry = &block->entries[i];
            ret_places[count++] =
                (struct qplace){.position = gen->base + (uint64_t)entry->place * PLACE_UNIT,
                                .size = entry->size8 * PLACE_UNIT};
        }
        skip = 0;
    }
    return count;
}

uint32_t qindex_read(const struct qindex *index, const struct queue *queue, uint64_t from_seq,
                     struct qplace *ret_places, uint32_t count_max)
{
    struct qchain *active, *frozen;
    chains_of(index, queue, &active, &frozen);
    uint32_t count = 0;
    if (frozen && from_seq < frozen->first_seq + frozen->count) {
        ASSERT(from_seq >= frozen->first_seq);
        count = read_chain(&index->frozen, frozen, from_seq, ret_places, count_max);
    }
    if (active && count < count_max) {
        ASSERT(from_seq + count >= active->first_seq);
        count += read_chain(&index->active, active, from_seq + count, ret_places + count,
                            count_max - count);
    }
    return count;
}

void qindex_freeze(struct qindex *index, uint64_t end)
{
    ASSERT(index->frozen.number == 0);
    ASSERT(end >= index->active.base);
    index->frozen = index->active;
    index->frozen.end = end;
    index->active = (struct qgen){.number = index->frozen.number + 1, .base = end};
}

void qindex_thaw(struct qindex *index)
{
    ASSERT(index->frozen.number != 0);
    (void)qindex_release(index, UINT32_MAX); /* of the one before, long done */
    index->retired = index->frozen.arena;
    index->frozen = (struct qgen){0};
}
