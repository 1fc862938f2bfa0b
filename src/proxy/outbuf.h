/* Output buffer: encoded packets waiting to be written to one stream.
 *
 * A chain of chunks from a pool shared by all conns of a loop; empty, it holds none. Large payloads
 * are referenced instead of copied. Everything goes out with as few writes as possible.
 * Thread: owner loop.
 */
#pragma once

#include "base/budget.h"
#include "base/buf.h"
#include "net/stream.h"

#define OUTBUF_CHUNK_SIZE 4096u /* a pooled chunk, its head included */

struct out_chunk;

/* Chunks not in use, kept for the next burst; see out_pool_trim. */
struct out_pool {
    struct out_chunk *first;
    uint32_t count, count_max;
    uint32_t count_least;  /* since the last trim: so many have not been needed */
    struct budget *budget; /* charged for what is in use, also beyond its maximum */
};

struct outbuf {
    struct out_chunk *first, *last;
    uint64_t size; /* bytes waiting */
};

void out_pool_init(struct out_pool *pool, struct budget *budget, uint32_t count_max);
void out_pool_done(struct out_pool *pool);
/* Frees the chunks that nobody has needed since the last call, but for `kept` of all. To be called
 * now and then, or one burst would take its memory for ever. Returns the bytes freed. */
uint64_t out_pool_trim(struct out_pool *pool, uint32_t kept);

/* Returns room for `size` bytes in one piece, or NULL: out of memory. */
uint8_t *outbuf_reserve(struct outbuf *out, struct out_pool *pool, uint32_t size);
/* Appends the first `size` bytes of what was reserved last. */
void outbuf_commit(struct outbuf *out, uint32_t size);
/* Appends a copy. Returns 0 or ERR_NOMEM; on failure part of it may have been appended. */
MUST_CHECK int outbuf_add(struct outbuf *out, struct out_pool *pool, const void *bytes,
                          uint32_t size);
/* Appends a reference to `kept` (from slice_keep), which is taken over. Returns 0 or ERR_NOMEM. */
MUST_CHECK int outbuf_add_kept_take(struct outbuf *out, struct out_pool *pool, struct slice kept);
/* Appends a reference to part of `buf`; one more reference only when it does not continue what was
 * appended last. Returns 0 or ERR_NOMEM. */
MUST_CHECK int outbuf_add_part(struct outbuf *out, struct out_pool *pool, struct buf *buf,
                               uint32_t begin, uint32_t size);
/* Writes until everything is out, the stream takes no more, or `size_max` bytes went out. Returns
 * the bytes written, or the stream's error (not ERR_AGAIN). */
MUST_CHECK ssize_t outbuf_write(struct outbuf *out, struct out_pool *pool, struct stream *stream,
                                size_t size_max);
void outbuf_clear(struct outbuf *out, struct out_pool *pool);
