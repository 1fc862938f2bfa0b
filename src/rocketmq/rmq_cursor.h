/* Cursor: goes along bytes in network order. Asked for more than is there, it gives zeroes, and
 * says at the end that it was short; a caller reads everything and checks once. */
#pragma once

#include "base/buf.h"

struct rmq_cursor {
    const uint8_t *next;
    size_t left;
    bool is_short;
};

static inline struct rmq_cursor rmq_cursor_on(struct slice bytes)
{
    return (struct rmq_cursor){.next = bytes.bytes, .left = bytes.size};
}

static inline uint64_t rmq_cursor_number(struct rmq_cursor *cursor, size_t size)
{
    uint64_t value = 0;
    if (cursor->left < size) {
        cursor->is_short = true;
        cursor->left = 0;
        return 0;
    }
    for (size_t i = 0; i < size; i++)
        value = value << 8 | cursor->next[i];
    cursor->next += size;
    cursor->left -= size;
    return value;
}

static inline uint8_t rmq_cursor_u8(struct rmq_cursor *cursor)
{
    return (uint8_t)rmq_cursor_number(cursor, 1);
}

static inline uint16_t rmq_cursor_u16(struct rmq_cursor *cursor)
{
    return (uint16_t)rmq_cursor_number(cursor, 2);
}

static inline uint32_t rmq_cursor_u32(struct rmq_cursor *cursor)
{
    return (uint32_t)rmq_cursor_number(cursor, 4);
}

static inline uint64_t rmq_cursor_u64(struct rmq_cursor *cursor)
{
    return rmq_cursor_number(cursor, 8);
}

/* The next `size` bytes, borrowed from what the cursor is on. */
static inline struct slice rmq_cursor_slice(struct rmq_cursor *cursor, uint32_t size)
{
    if (cursor->left < size) {
        cursor->is_short = true;
        cursor->left = 0;
        return slice_of(NULL, 0);
    }
    const struct slice slice = slice_of(cursor->next, size);
    cursor->next += size;
    cursor->left -= size;
    return slice;
}

/* The other direction: writes a number of `size` bytes and returns what is behind it. */
static inline uint8_t *rmq_put_number(uint8_t *bytes, uint64_t value, size_t size)
{
    for (size_t i = size; i-- > 0; value >>= 8)
        bytes[i] = (uint8_t)value;
    return bytes + size;
}
