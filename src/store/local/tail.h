/* The tail of the log in memory: chunks of records as they were laid out, the youngest last.
 *
 * Appends are written here first, at the place they will have in the log; the log thread writes
 * from here; readers near the end are served from here without a copy. A chunk's records never
 * cross into another chunk or segment. Old chunks go when there are too many bytes of them and all
 * in them is done with; readers may hold on to their bufs.
 *
 * Thread: owner loop; the log thread touches the bytes handed to it only.
 */
#pragma once

#include "base/buf.h"
#include "store/local/segment.h"

#define TAIL_CHUNK_SIZE (256u * 1024)

struct tail_chunk {
    struct buf *buf;
    uint8_t *bytes;
    uint64_t base; /* log position of its first byte */
    uint32_t size; /* room; no more is added once it equals `used` */
    uint32_t used;
    uint32_t handed;         /* bytes given to the log thread */
    struct segment *segment; /* referenced */
};

struct tail {
    struct tail_chunk *chunks; /* a ring of `capacity`, a power of two */
    uint32_t first, count, capacity;
    uint64_t bytes;     /* room in all chunks */
    uint64_t bytes_max; /* aimed at */
};

void tail_init(struct tail *tail, uint64_t bytes_max);
void tail_done(struct tail *tail);

/* The nth chunk, oldest first; n below tail->count. Valid until the next tail_reserve. */
struct tail_chunk *tail_chunk(const struct tail *tail, uint32_t n);

/* Makes room for `size` bytes at `position`, which is where the tail ends or where `segment`
 * begins, and counts them as used. Returns NULL when out of memory. */
uint8_t *tail_reserve(struct tail *tail, struct segment *segment, uint64_t position, uint32_t size);

/* Index of the chunk in which `position` lies, tail->count when there is none. */
uint32_t tail_find(const struct tail *tail, uint64_t position);

/* Lets go of the oldest chunks while there are too many bytes, none that reaches beyond `end`. */
void tail_trim(struct tail *tail, uint64_t end);

/* Forgets everything from `position` on; what stays takes no more records. */
void tail_cut(struct tail *tail, uint64_t position);
