#include "store/local/tail.h"

#include "base/mem.h"
#include "store/local/record.h"

enum { CAPACITY_MIN = 64 };

void tail_init(struct tail *tail, uint64_t bytes_max)
{
    *tail = (struct tail){.bytes_max = bytes_max, .capacity = CAPACITY_MIN};
    tail->chunks = mem_new(CAPACITY_MIN * sizeof *tail->chunks);
}

static void drop_chunk(struct tail *tail, struct tail_chunk *chunk)
{
    tail->bytes -= buf_size(chunk->buf);
    (void)buf_unref(chunk->buf);
    (void)segment_unref(chunk->segment);
    tail->count--;
}

void tail_done(struct tail *tail)
{
    while (tail->count > 0)
        drop_chunk(tail, tail_chunk(tail, tail->count - 1));
    mem_free(tail->chunks);
}

struct tail_chunk *tail_chunk(const struct tail *tail, uint32_t n)
{
    ASSERT(n < tail->count);
    return &tail->chunks[(tail->first + n) & (tail->capacity - 1)];
}

static bool grow(struct tail *tail)
{
    struct tail_chunk *chunks = mem_try_alloc(2 * tail->capacity * sizeof *chunks);
    if (!chunks)
        return false;
    for (uint32_t i = 0; i < tail->count; i++)
        chunks[i] = *tail_chunk(tail, i);
    mem_free(tail->chunks);
    tail->chunks = chunks;
    tail->first = 0;
    tail->capacity *= 2;
    return true;
}

static struct tail_chunk *add_chunk(struct tail *tail, struct segment *segment, uint64_t position,
                                    uint32_t size)
{
    if (tail->count == tail->capacity && !grow(tail))
        return NULL;
    struct buf *buf = buf_try_new(size);
    if (!buf)
        return NULL;
    ASSERT((uintptr_t)buf_bytes(buf) % RECORD_ALIGN == 0);
    tail->count++;
    tail->bytes += size;
    struct tail_chunk *chunk = tail_chunk(tail, tail->count - 1);
    *chunk = (struct tail_chunk){
        .buf = buf,
        .bytes = buf_bytes(buf),
        .base = position,
        .size = size,
        .segment = segment_ref(segment),
    };
    return chunk;
}

uint8_t *tail_reserve(struct tail *tail, struct segment *segment, uint64_t position, uint32_t size)
{
    struct tail_chunk *chunk = tail->count ? tail_chunk(tail, tail->count - 1) : NULL;
    ASSERT(!chunk || chunk->base + chunk->used == position);
    if (!chunk || chunk->segment != segment || chunk->size - chunk->used < size) {
        chunk = add_chunk(tail, segment, position, MAX(size, TAIL_CHUNK_SIZE));
        if (!chunk)
            return NULL;
    }
    uint8_t *bytes = chunk->bytes + chunk->used;
    chunk->used += size;
    return bytes;
}

uint32_t tail_find(const struct tail *tail, uint64_t position)
{
    uint32_t low = 0, high = tail->count; /* the last one with base <= position */
    while (low < high) {
        const uint32_t middle = (low + high) / 2;
        if (tail_chunk(tail, middle)->base <= position)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return tail->count;
    const struct tail_chunk *chunk = tail_chunk(tail, low - 1);
    return position - chunk->base < chunk->used ? low - 1 : tail->count;
}

void tail_trim(struct tail *tail, uint64_t end)
{
    while (tail->count > 1 && tail->bytes > tail->bytes_max) {
        struct tail_chunk *chunk = tail_chunk(tail, 0);
        if (chunk->base + chunk->used > end)
            return;
        drop_chunk(tail, chunk);
        tail->first = (tail->first + 1) & (tail->capacity - 1);
    }
}

void tail_cut(struct tail *tail, uint64_t position)
{
    while (tail->count > 0) {
        struct tail_chunk *chunk = tail_chunk(tail, tail->count - 1);
        if (chunk->base < position) {
            chunk->used = (uint32_t)MIN(chunk->used, position - chunk->base);
            chunk->handed = MIN(chunk->handed, chunk->used);
            chunk->size = chunk->used;
            return;
        }
        drop_chunk(tail, chunk);
    }
}
