/* A growable byte buffer: appended at its end, consumed from its start.
 *
 * Thread: the load generator has one thread.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct bytes {
    uint8_t *data;
    size_t start; /* first byte not yet consumed */
    size_t end;   /* one past the last byte */
    size_t capacity;
};

/* Returns zeroed memory for `count` things of `size` bytes; ends the process when there is none.
 * The caller owns it (free()). */
void *bytes_new_array(size_t count, size_t size);

/* Makes room for `size` bytes behind the end and returns where they start. Whoever fills them
 * adds them to `end`. Moves the content, so earlier pointers are void. */
uint8_t *bytes_reserve(struct bytes *bytes, size_t size);

void bytes_append(struct bytes *bytes, const void *data, size_t size);

/* Drops `size` bytes at the start. */
void bytes_consume(struct bytes *bytes, size_t size);

static inline size_t bytes_size(const struct bytes *bytes)
{
    return bytes->end - bytes->start;
}

/* Frees the memory; `bytes` is empty and usable afterwards. */
void bytes_done(struct bytes *bytes);
