#include "base/buf.h"

#include "base/mem.h"

#include <stdatomic.h>
#include <string.h>

struct buf {
    _Atomic uint32_t ref_count;
    uint32_t size;
    uint8_t bytes[];
};

struct buf *buf_try_new(uint32_t size)
{
    struct buf *buf = mem_try_alloc(sizeof *buf + size);
    if (!buf)
        return NULL;
    atomic_init(&buf->ref_count, 1);
    buf->size = size;
    return buf;
}

uint8_t *buf_bytes(struct buf *buf)
{
    return buf->bytes;
}

uint32_t buf_size(const struct buf *buf)
{
    return buf->size;
}

struct buf *buf_ref(struct buf *buf)
{
    const uint32_t before = atomic_fetch_add_explicit(&buf->ref_count, 1, memory_order_relaxed);
    ASSERT(before > 0);
    return buf;
}

struct buf *buf_unref(struct buf *buf)
{
    if (!buf)
        return NULL;
    const uint32_t before = atomic_fetch_sub_explicit(&buf->ref_count, 1, memory_order_acq_rel);
    ASSERT(before > 0);
    if (before == 1)
        mem_free(buf);
    return NULL;
}

struct slice slice_str(const char *text)
{
    const size_t size = strlen(text);
    ASSERT(size <= UINT32_MAX);
    return slice_of(text, size);
}

int slice_keep(struct slice slice, struct slice *ret_kept)
{
    if (slice.size == 0) {
        *ret_kept = slice_of("", 0);
        return 0;
    }
    if (slice.buf && slice.size >= slice.buf->size / 8) {
        (void)buf_ref(slice.buf);
        *ret_kept = slice;
        return 0;
    }
    struct buf *copy = buf_try_new(slice.size);
    if (!copy)
        return ERR_NOMEM;
    memcpy(copy->bytes, slice.bytes, slice.size);
    *ret_kept = (struct slice){.bytes = copy->bytes, .size = slice.size, .buf = copy};
    return 0;
}

void slice_done(struct slice *slice)
{
    (void)buf_unref(slice->buf);
    *slice = (struct slice){0};
}

bool slice_equal(struct slice a, struct slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.bytes, b.bytes, a.size) == 0);
}

int slice_order(struct slice a, struct slice b)
{
    const uint32_t size = MIN(a.size, b.size);
    const int order = size > 0 ? memcmp(a.bytes, b.bytes, size) : 0;
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

bool slice_begins_with(struct slice slice, struct slice prefix)
{
    return slice.size >= prefix.size && slice_equal(slice_of(slice.bytes, prefix.size), prefix);
}
