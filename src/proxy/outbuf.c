#include "proxy/outbuf.h"

#include "base/mem.h"

#include <string.h>

struct out_chunk {
    struct out_chunk *next;
    const uint8_t *bytes; /* `space`, or those of `kept` */
    uint32_t begin, end;  /* what is still to be written */
    uint32_t room;        /* size of `space` */
    struct slice kept;
    uint8_t space[];
};

#define POOLED_ROOM ((uint32_t)(OUTBUF_CHUNK_SIZE - sizeof(struct out_chunk)))

enum { IOV_MAX_USED = 64 };

void out_pool_init(struct out_pool *pool, struct budget *budget, uint32_t count_max)
{
    *pool = (struct out_pool){.budget = budget, .count_max = count_max};
}

void out_pool_done(struct out_pool *pool)
{
    while (pool->first) {
        struct out_chunk *chunk = pool->first;
        pool->first = chunk->next;
        mem_free(chunk);
    }
    pool->count = pool->count_least = 0;
}

uint64_t out_pool_trim(struct out_pool *pool, uint32_t kept)
{
    ASSERT(pool->count_least <= pool->count);
    const uint32_t over = pool->count > kept ? pool->count - kept : 0;
    const uint32_t freed = MIN(pool->count_least, over);
    for (uint32_t i = 0; i < freed; i++) {
        struct out_chunk *chunk = pool->first;
        pool->first = chunk->next;
        mem_free(chunk);
    }
    pool->count -= freed;
    pool->count_least = pool->count;
    return (uint64_t)freed * OUTBUF_CHUNK_SIZE;
}

static uint64_t charge_of(const struct out_chunk *chunk)
{
    return sizeof *chunk + (uint64_t)chunk->room + chunk->kept.size;
}

static struct out_chunk *chunk_new(struct out_pool *pool, uint32_t room, struct slice kept)
{
    struct out_chunk *chunk = pool->first;
    if (room == POOLED_ROOM && chunk) {
        pool->first = chunk->next;
        pool->count--;
        pool->count_least = MIN(pool->count_least, pool->count);
    } else {
        chunk = mem_try_alloc(sizeof *chunk + (size_t)room);
        if (!chunk)
            return NULL;
        chunk->room = room;
    }
    chunk->next = NULL;
    chunk->kept = kept;
    chunk->bytes = kept.size > 0 ? kept.bytes : chunk->space;
    chunk->begin = 0;
    chunk->end = kept.size;
    budget_charge(pool->budget, charge_of(chunk));
    return chunk;
}

static void chunk_done(struct out_pool *pool, struct out_chunk *chunk)
{
    budget_give(pool->budget, charge_of(chunk));
    slice_done(&chunk->kept);
    if (chunk->room != POOLED_ROOM || pool->count >= pool->count_max) {
        mem_free(chunk);
        return;
    }
    chunk->next = pool->first;
    pool->first = chunk;
    pool->count++;
}

static void append(struct outbuf *out, struct out_chunk *chunk)
{
    if (out->last)
        out->last->next = chunk;
    else
        out->first = chunk;
    out->last = chunk;
}

static uint32_t room_left(const struct outbuf *out)
{
    const struct out_chunk *last = out->last;
    return last && last->bytes == last->space ? last->room - last->end : 0;
}

uint8_t *outbuf_reserve(struct outbuf *out, struct out_pool *pool, uint32_t size)
{
    if (room_left(out) < size) {
        struct out_chunk *chunk = chunk_new(pool, MAX(size, POOLED_ROOM), slice_of(NULL, 0));
        if (!chunk)
            return NULL;
        append(out, chunk);
    }
    return out->last->space + out->last->end;
}

void outbuf_commit(struct outbuf *out, uint32_t size)
{
    ASSERT(size <= room_left(out));
    out->last->end += size;
    out->size += size;
}

int outbuf_add(struct outbuf *out, struct out_pool *pool, const void *bytes, uint32_t size)
{
    const uint8_t *from = bytes;
    while (size > 0) {
        uint8_t *to = outbuf_reserve(out, pool, 1);
        if (!to)
            return ERR_NOMEM;
        const uint32_t part = MIN(size, room_left(out));
        memcpy(to, from, part);
        outbuf_commit(out, part);
        from += part;
        size -= part;
    }
    return 0;
}

int outbuf_add_kept_take(struct outbuf *out, struct out_pool *pool, struct slice kept)
{
    struct out_chunk *chunk = chunk_new(pool, 0, kept);
    if (!chunk) {
        slice_done(&kept);
        return ERR_NOMEM;
    }
    out->size += kept.size;
    append(out, chunk);
    return 0;
}

int outbuf_add_part(struct outbuf *out, struct out_pool *pool, struct buf *buf, uint32_t begin,
                    uint32_t size)
{
    const uint8_t *bytes = buf_bytes(buf) + begin;
    struct out_chunk *last = out->last;
    if (last && last->kept.buf == buf && last->bytes + last->end == bytes) {
        last->end += size;
        last->kept.size += size;
        budget_charge(pool->budget, size);
        out->size += size;
        return 0;
    }
    struct slice part = slice_of(bytes, size);
    part.buf = buf_ref(buf);
    return outbuf_add_kept_take(out, pool, part);
}

/* Drops `size` bytes at the front. A chunk reserved but never filled goes with the others. */
static void consume(struct outbuf *out, struct out_pool *pool, size_t size)
{
    ASSERT(size <= out->size);
    out->size -= size;
    while (out->first) {
        struct out_chunk *chunk = out->first;
        const uint32_t part = (uint32_t)MIN(size, chunk->end - chunk->begin);
        chunk->begin += part;
        size -= part;
        if (chunk->begin < chunk->end)
            return;
        out->first = chunk->next;
        if (!out->first)
            out->last = NULL;
        chunk_done(pool, chunk);
    }
}

ssize_t outbuf_write(struct outbuf *out, struct out_pool *pool, struct stream *stream,
                     size_t size_max)
{
    size_t total = 0;
    while (out->size > 0 && total < size_max) {
        struct iovec iov[IOV_MAX_USED];
        int count = 0;
        size_t offered = 0;
        for (struct out_chunk *it = out->first; it && count < IOV_MAX_USED; it = it->next) {
            if (it->begin == it->end)
                continue;
            iov[count].iov_base = (uint8_t *)it->bytes + it->begin;
            iov[count].iov_len = it->end - it->begin;
            offered += iov[count++].iov_len;
        }
        const ssize_t written = stream_writev(stream, iov, count);
        if (written == (ssize_t)ERR_AGAIN)
            break;
        if (written < 0)
            return written;
        consume(out, pool, (size_t)written);
        total += (size_t)written;
        if ((size_t)written < offered)
            break;
    }
    if (out->size == 0)
        outbuf_clear(out, pool); /* also what was reserved and not used */
    return (ssize_t)total;
}

void outbuf_clear(struct outbuf *out, struct out_pool *pool)
{
    while (out->first) {
        struct out_chunk *chunk = out->first;
        out->first = chunk->next;
        chunk_done(pool, chunk);
    }
    *out = (struct outbuf){0};
}
