/* Queue index in memory: for each queue its bounds, and the entries not yet sealed into a file.
 *
 * Entries of one queue lie in a chain of blocks that double in size; all chains of a generation
 * lie in one arena. There are at most two generations: the active one, and the one that is being
 * sealed, which stays readable until its file is in place. A queue points at its youngest chain
 * only; the generation's number tells whether that chain still exists, so that ending a generation
 * touches no queue.
 *
 * Cost: 8 bytes for an entry, 64 for a queue, 72 for a chain.
 * Thread: owner loop; a frozen generation is also read by the worker that seals it.
 */
#pragma once

#include "base/hashmap.h"

struct qentry {
    uint32_t place; /* (position - base of the generation) / 8 */
    uint32_t size8; /* of the record, / 8 */
};

struct qblock {
    struct qblock *next;
    uint32_t count, capacity;
    struct qentry entries[];
};

struct qchain {
    uint32_t queue_id;
    uint32_t count; /* 0: its queue is gone */
    uint64_t first_seq;
    struct qblock *head, *tail;
    const struct qblock *near; /* where the last read began, so that the next need not walk: */
    uint64_t near_seq;         /* number of its first entry. The loop's alone. */
    struct qchain *next;       /* in the generation */
    struct qchain *older;      /* the queue's chain in the generation before */
    uint32_t older_number;
};

struct arena_chunk;

struct qgen {
    uint32_t number; /* from 1 */
    uint32_t chain_count;
    uint64_t base, end; /* log positions covered; end is set when frozen */
    uint64_t entry_count;
    uint64_t memory; /* bytes of arena */
    struct qchain *chains;
    struct arena_chunk *arena;
};

struct queue {
    struct hashnode node;
    uint64_t first_seq, next_seq;
    struct qchain *chain; /* the youngest; exists while chain_number is a living generation's */
    uint32_t chain_number;
    uint32_t id;
    uint32_t file_hint; /* id of the sealed file last read from; 0 = none */
};

struct qindex {
    struct hashmap queues;
    struct queue *spare;
    struct queue_slab *slabs;
    struct qgen active, frozen;  /* frozen.number 0: none */
    struct arena_chunk *retired; /* of generations that have ended, to be freed */
    uint64_t floor;              /* first number of queues not seen before; 0 but for repairs */
};

/* base: log position from which entries will be added. */
void qindex_init(struct qindex *index, uint64_t base);
void qindex_done(struct qindex *index);

struct queue *qindex_find(const struct qindex *index, uint32_t queue_id); /* NULL: unknown */

/* Finds or makes the queue, empty and numbered from 0 (from index->floor during a repair). */
struct queue *qindex_get(struct qindex *index, uint32_t queue_id);

/* Adds an entry at the end of a queue and returns its number. Positions only grow. */
uint64_t qindex_add(struct qindex *index, uint32_t queue_id, uint64_t position, uint32_t size);

/* Leaves `count` numbers out in every queue, also in those that come: that many entries may have
 * been lost here. The active generation must have no entries. */
void qindex_skip(struct qindex *index, uint64_t count);

void qindex_drop(struct qindex *index, uint32_t queue_id);

struct qplace {
    uint64_t position;
    uint32_t size;
};

/* First number of the queue that lies in memory; next_seq when none does. */
uint64_t qindex_memory_first(const struct qindex *index, const struct queue *queue);

/* Copies the places of up to count_max entries from from_seq on, which lies in memory.
 * Returns how many; they may be fewer than there are. */
uint32_t qindex_read(const struct qindex *index, const struct queue *queue, uint64_t from_seq,
                     struct qplace *ret_places, uint32_t count_max);

/* Ends the active generation at log position `end`: it becomes the frozen one, of which there must
 * be none. Afterwards qindex_thaw ends that. */
void qindex_freeze(struct qindex *index, uint64_t end);
void qindex_thaw(struct qindex *index);
/* Frees up to chunk_count MiB of what generations that have ended leave behind, so that it need not
 * be done in one go. Returns true while there is more. */
bool qindex_release(struct qindex *index, uint32_t chunk_count);
