/* One allocation for each row: the struct, its links, key, value. Heights are drawn from a hash of
 * the key: one link more with a chance of one in four. */
#include "store/mem/mem_rows.h"

#include "base/hashmap.h"
#include "base/mem.h"

#include <string.h>

enum { HEIGHT_MAX = 16 };

struct mem_row {
    uint32_t height, key_size, value_size;
    struct mem_row *next[]; /* `height` links, then key and value */
};

struct mem_rows {
    uint64_t bytes;
    struct mem_row *first[HEIGHT_MAX];
};

static uint8_t *key_bytes(const struct mem_row *row)
{
    return (uint8_t *)(row->next + row->height);
}

static struct slice row_key(const struct mem_row *row)
{
    return slice_of(key_bytes(row), row->key_size);
}

static struct slice row_value(const struct mem_row *row)
{
    return slice_of(key_bytes(row) + row->key_size, row->value_size);
}

static uint64_t row_bytes(const struct mem_row *row)
{
    return sizeof *row + row->height * sizeof row->next[0] + row->key_size + row->value_size;
}

static void copy(uint8_t **at, struct slice from)
{
    if (from.size > 0)
        memcpy(*at, from.bytes, from.size);
    *at += from.size;
}

struct mem_row *mem_row_new(struct slice key, struct slice prefix, struct slice value)
{
    ASSERT(key.size > 0);
    uint32_t height = 1;
    for (uint64_t bits = hash_bytes(key.bytes, key.size); height < HEIGHT_MAX && (bits & 3) == 0;
         bits >>= 2)
        height++;
    struct mem_row *row = mem_try_alloc(sizeof *row + height * sizeof row->next[0] + key.size +
                                        (size_t)prefix.size + value.size);
    if (!row)
        return NULL;
    *row = (struct mem_row){
        .height = height,
        .key_size = key.size,
        .value_size = prefix.size + value.size,
    };
    uint8_t *at = key_bytes(row);
    copy(&at, key);
    copy(&at, prefix);
    copy(&at, value);
    return row;
}

void mem_row_free(struct mem_row *row)
{
    mem_free(row);
}

struct mem_rows *mem_rows_new(void)
{
    return mem_new(sizeof(struct mem_rows));
}

struct mem_rows *mem_rows_free(struct mem_rows *rows)
{
    if (!rows)
        return NULL;
    for (struct mem_row *row = rows->first[0]; row;) {
        struct mem_row *next = row->next[0];
        mem_free(row);
        row = next;
    }
    mem_free(rows);
    return NULL;
}

/* The links that lead past everything below `key`, one for each height; *ret_links[0] is the first
 * row that is not. */
static void seek(struct mem_rows *rows, struct slice key, struct mem_row **ret_links[HEIGHT_MAX])
{
    struct mem_row **links = rows->first;
    for (uint32_t level = HEIGHT_MAX; level-- > 0;) {
        while (links[level] && slice_order(row_key(links[level]), key) < 0)
            links = links[level]->next;
        ret_links[level] = &links[level];
    }
}

static void unlink_equal(struct mem_rows *rows, struct slice key,
                         struct mem_row **links[HEIGHT_MAX])
{
    struct mem_row *row = *links[0];
    if (!row || slice_order(row_key(row), key) != 0)
        return;
    for (uint32_t level = 0; level < row->height; level++)
        *links[level] = row->next[level];
    rows->bytes -= row_bytes(row);
    mem_free(row);
}

void mem_rows_put(struct mem_rows *rows, struct mem_row *row)
{
    struct mem_row **links[HEIGHT_MAX];
    seek(rows, row_key(row), links);
    unlink_equal(rows, row_key(row), links);
    for (uint32_t level = 0; level < row->height; level++) {
        row->next[level] = *links[level];
        *links[level] = row;
    }
    rows->bytes += row_bytes(row);
}

void mem_rows_delete(struct mem_rows *rows, struct mem_row *row)
{
    struct mem_row **links[HEIGHT_MAX];
    seek(rows, row_key(row), links);
    unlink_equal(rows, row_key(row), links);
    mem_free(row);
}

int mem_rows_scan(const struct mem_rows *rows, struct slice prefix, meta_scan_fn *each, void *data)
{
    struct mem_row *const *links = rows->first;
    for (uint32_t level = HEIGHT_MAX; level-- > 0;) {
        while (links[level] && slice_order(row_key(links[level]), prefix) < 0)
            links = links[level]->next;
    }
    int err = 0;
    for (const struct mem_row *row = links[0];
         row && err >= 0 && slice_begins_with(row_key(row), prefix); row = row->next[0])
        err = each(data, row_key(row), row_value(row));
    return MIN(err, 0);
}

uint64_t mem_rows_bytes(const struct mem_rows *rows)
{
    return rows->bytes;
}
