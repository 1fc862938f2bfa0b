/* Metadata rows changed since the last checkpoint: the latest value of each.
 *
 * The log holds the same changes, durable and in order; the overlay is what the next checkpoint
 * writes to LMDB. Rows lie in chunks, which are freed as a whole: a worker frees what the loop has
 * allocated, and a million small pieces given back would hold up whoever allocates next. A row that
 * outgrows its room gets a new one, and the old one stays until then.
 * Thread: owner loop; a frozen overlay belongs to the worker that writes it.
 */
#pragma once

#include "base/hashmap.h"
#include "store/local/record.h"

enum overlay_table {
    OVERLAY_ROWS,   /* the owner's rows */
    OVERLAY_QUEUES, /* queues dropped: the id, most significant byte first -> struct overlay_queue
                     */
};

struct overlay_row {
    struct hashnode node;
    uint32_t key_size, value_size, value_room;
    uint8_t table; /* enum overlay_table */
    bool deleted;
    uint8_t bytes[]; /* key, then value */
};

/* Value of an OVERLAY_QUEUES row. */
struct overlay_queue {
    uint64_t first_seq;  /* first entry kept when the log was last trimmed */
    uint64_t dropped_at; /* log position where the queue was forgotten, 0: it was not */
    /* After records were lost: entries from log position `numbered_to` on have this number or a
     * higher one. Counts once the index files reach that position. */
    uint64_t next_seq, numbered_to;
};

struct overlay_chunk;

struct overlay {
    struct hashmap rows;
    struct overlay_chunk *chunks; /* the one being filled first */
    uint64_t bytes;               /* of all chunks */
};

void overlay_init(struct overlay *overlay);
void overlay_clear(struct overlay *overlay); /* frees the rows; may be used again */

static inline bool overlay_empty(const struct overlay *overlay)
{
    return overlay->rows.count == 0;
}

/* Takes in the operations of a record, or the queue it drops. Returns 0; ERR_NOMEM; ERR_CORRUPT:
 * the operations cannot be decoded. After an error the overlay lacks changes that the log has. */
MUST_CHECK int overlay_apply(struct overlay *overlay, const struct record *record);

/* All rows ordered by table and key, in new memory (mem_free); rows.count of them. NULL: no memory.
 */
struct overlay_row **overlay_sorted(struct overlay *overlay);

static inline struct slice overlay_key(const struct overlay_row *row)
{
    return slice_of(row->bytes, row->key_size);
}

static inline struct slice overlay_value(const struct overlay_row *row)
{
    return slice_of(row->bytes + row->key_size, row->value_size);
}
