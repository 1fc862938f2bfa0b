#include "net/quic_fifo.h"

#include "base/mem.h"

#include <string.h>

/* Room behind `end` that is allocated already. */
static uint64_t room(const struct quic_fifo *fifo)
{
    uint64_t chunks = 0;
    for (const struct quic_chunk *it = fifo->first; it; it = it->next)
        chunks++;
    return fifo->base + chunks * QUIC_CHUNK_SIZE - fifo->end;
}

/* A list of chunks for `size` more bytes. */
static int make_chunks(uint64_t size, struct quic_chunk **ret_first, struct quic_chunk **ret_last)
{
    struct quic_chunk *first = NULL, *last = NULL;
    for (uint64_t made = 0; made < size; made += QUIC_CHUNK_SIZE) {
        struct quic_chunk *chunk = mem_try_alloc(sizeof *chunk);
        if (!chunk) {
            while (first) {
                struct quic_chunk *next = first->next;
                mem_free(first);
                first = next;
            }
            return ERR_NOMEM;
        }
        chunk->next = first;
        first = chunk;
        last = last ? last : chunk;
    }
    *ret_first = first;
    *ret_last = last;
    return 0;
}

/* The chunk of a position that has one, and where in it. */
static struct quic_chunk *find(const struct quic_fifo *fifo, uint64_t position, size_t *ret_offset)
{
    struct quic_chunk *chunk = fifo->first;
    uint64_t offset = position - fifo->base;
    for (; offset >= QUIC_CHUNK_SIZE; offset -= QUIC_CHUNK_SIZE)
        chunk = chunk->next;
    *ret_offset = (size_t)offset;
    return chunk;
}

int quic_fifo_push(struct quic_fifo *fifo, const uint8_t *bytes, size_t size)
{
    if (!fifo->first)
        fifo->base = fifo->end;
    const uint64_t there = room(fifo);
    if (size > there) {
        struct quic_chunk *first, *last;
        if (make_chunks(size - there, &first, &last) < 0)
            return ERR_NOMEM;
        if (fifo->first)
            fifo->last->next = first;
        else
            fifo->first = first;
        fifo->last = last;
    }
    while (size > 0) {
        size_t offset;
        struct quic_chunk *chunk = find(fifo, fifo->end, &offset);
        const size_t part = MIN(size, QUIC_CHUNK_SIZE - offset);
        memcpy(chunk->bytes + offset, bytes, part);
        fifo->end += part;
        bytes += part;
        size -= part;
    }
    return 0;
}

int quic_fifo_look(const struct quic_fifo *fifo, uint64_t position, struct iovec *ret_iov,
                   int count)
{
    ASSERT(position >= fifo->begin);
    if (position >= fifo->end)
        return 0;
    size_t offset;
    struct quic_chunk *chunk = find(fifo, position, &offset);
    int used = 0;
    for (; used < count && position < fifo->end; used++, chunk = chunk->next, offset = 0) {
        const size_t part = (size_t)MIN((uint64_t)QUIC_CHUNK_SIZE - offset, fifo->end - position);
        ret_iov[used] = (struct iovec){chunk->bytes + offset, part};
        position += part;
    }
    return used;
}

void quic_fifo_release(struct quic_fifo *fifo, uint64_t position)
{
    ASSERT(position <= fifo->end);
    fifo->begin = MAX(fifo->begin, position);
    while (fifo->first &&
           (fifo->begin == fifo->end || fifo->begin - fifo->base >= QUIC_CHUNK_SIZE)) {
        struct quic_chunk *chunk = fifo->first;
        fifo->first = chunk->next;
        fifo->base += QUIC_CHUNK_SIZE;
        mem_free(chunk);
    }
    if (!fifo->first)
        fifo->last = NULL;
}

size_t quic_fifo_pop(struct quic_fifo *fifo, uint8_t *bytes, size_t size)
{
    size_t total = 0;
    struct iovec piece;
    while (total < size && quic_fifo_look(fifo, fifo->begin, &piece, 1) == 1) {
        const size_t part = MIN(piece.iov_len, size - total);
        memcpy(bytes + total, piece.iov_base, part);
        total += part;
        quic_fifo_release(fifo, fifo->begin + part);
    }
    return total;
}

void quic_fifo_clear(struct quic_fifo *fifo)
{
    quic_fifo_release(fifo, fifo->end);
}
