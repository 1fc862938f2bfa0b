/* Fifo: the bytes of one direction of a QUIC stream, in chunks that stay where they are until they
 * are released, because what was sent is needed until it is acknowledged. Positions count from the
 * stream's beginning.
 *
 * Thread: owner.
 */
#pragma once

#include "base/base.h"

#include <sys/uio.h>

#define QUIC_CHUNK_SIZE 4080u

struct quic_chunk {
    struct quic_chunk *next;
    uint8_t bytes[QUIC_CHUNK_SIZE];
};

/* All zero: empty. */
struct quic_fifo {
    struct quic_chunk *first, *last;
    uint64_t begin, end; /* what is in it */
    uint64_t base;       /* position of the first chunk's first byte */
};

static inline uint64_t quic_fifo_size(const struct quic_fifo *fifo)
{
    return fifo->end - fifo->begin;
}

/* Adds all of them. Returns 0, or ERR_NOMEM: none was added. */
MUST_CHECK int quic_fifo_push(struct quic_fifo *fifo, const uint8_t *bytes, size_t size);
/* Shows what lies from `position` on, in at most `count` pieces, which may be less than all.
 * Returns how many pieces; they are borrowed until they are released. */
int quic_fifo_look(const struct quic_fifo *fifo, uint64_t position, struct iovec *ret_iov,
                   int count);
/* Forgets what lies before `position`. */
void quic_fifo_release(struct quic_fifo *fifo, uint64_t position);
/* Copies at most `size` bytes out and forgets them. Returns how many. */
size_t quic_fifo_pop(struct quic_fifo *fifo, uint8_t *bytes, size_t size);
/* Forgets everything; positions go on. */
void quic_fifo_clear(struct quic_fifo *fifo);
