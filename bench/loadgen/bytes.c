#include "bytes.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void out_of_memory(size_t size)
{
    fprintf(stderr, "tidemq-loadgen: out of memory asking for %zu bytes\n", size);
    exit(2);
}

void *bytes_new_array(size_t count, size_t size)
{
    void *memory = calloc(count > 0 ? count : 1, size);
    if (memory == NULL)
        out_of_memory(count * size);
    return memory;
}

uint8_t *bytes_reserve(struct bytes *bytes, size_t size)
{
    if (bytes->start == bytes->end)
        bytes->start = bytes->end = 0;
    if (bytes->capacity - bytes->end >= size)
        return bytes->data + bytes->end;

    const size_t used = bytes_size(bytes);
    if (bytes->start > 0 && bytes->capacity - used >= size && bytes->start >= used) {
        memmove(bytes->data, bytes->data + bytes->start, used);
    } else {
        size_t capacity = bytes->capacity > 0 ? bytes->capacity : 256;
        while (capacity - used < size)
            capacity *= 2;
        uint8_t *data = malloc(capacity);
        if (data == NULL)
            out_of_memory(capacity);
        if (used > 0)
            memcpy(data, bytes->data + bytes->start, used);
        free(bytes->data);
        bytes->data = data;
        bytes->capacity = capacity;
    }
    bytes->start = 0;
    bytes->end = used;
    return bytes->data + used;
}

void bytes_append(struct bytes *bytes, const void *data, size_t size)
{
    if (size == 0)
        return;
    memcpy(bytes_reserve(bytes, size), data, size);
    bytes->end += size;
}

void bytes_consume(struct bytes *bytes, size_t size)
{
    bytes->start += size;
}

void bytes_done(struct bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct bytes){0};
}
