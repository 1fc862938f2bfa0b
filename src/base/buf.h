/* Refcounted bytes, and slices of them.
 *
 * A buf is immutable once shared. A slice borrows bytes for the call, or, when it names its
 * buf and holds a reference, for as long as it is kept. Thread: any (atomic count).
 */
#pragma once

#include "base/base.h"

struct buf; /* opaque: count and size in front of the bytes */

struct slice {
    const uint8_t *bytes;
    uint32_t size;
    struct buf *buf; /* what the bytes lie in, or NULL when they are only borrowed */
};

/* New buf with room for `size` bytes, one reference; NULL when out of memory. */
MUST_CHECK struct buf *buf_try_new(uint32_t size);
uint8_t *buf_bytes(struct buf *buf);
uint32_t buf_size(const struct buf *buf);
struct buf *buf_ref(struct buf *buf);   /* returns buf */
struct buf *buf_unref(struct buf *buf); /* NULL is fine; returns NULL */

/* Borrowed slice over caller's bytes. */
static inline struct slice slice_of(const void *bytes, size_t size)
{
    return (struct slice){.bytes = bytes, .size = (uint32_t)size, .buf = NULL};
}

/* Borrowed slice over a C string. */
struct slice slice_str(const char *text);

/* Makes *ret_kept outlive the call: references slice.buf when it has one and the slice is at least
 * an eighth of it, else copies. Returns 0 or ERR_NOMEM. Release with slice_done. */
MUST_CHECK int slice_keep(struct slice slice, struct slice *ret_kept);
void slice_done(struct slice *slice); /* drops the reference if any; clears */
bool slice_equal(struct slice a, struct slice b);
/* Byte order, as memcmp's; of two that begin alike the shorter one comes first. */
int slice_order(struct slice a, struct slice b);
bool slice_begins_with(struct slice slice, struct slice prefix);
