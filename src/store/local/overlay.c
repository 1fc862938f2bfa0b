#include "store/local/overlay.h"

#include "base/mem.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

struct wanted {
    enum overlay_table table;
    struct slice key;
};

enum { CHUNK_ROOM = 256 * 1024, ROW_ALIGN = 8 };

struct overlay_chunk {
    struct overlay_chunk *next;
    uint64_t used, room;
    uint8_t bytes[];
};

void overlay_init(struct overlay *overlay)
{
    *overlay = (struct overlay){0};
    hashmap_init(&overlay->rows);
}

void overlay_clear(struct overlay *overlay)
{
    struct overlay_chunk *chunk = overlay->chunks;
    while (chunk) {
        struct overlay_chunk *next = chunk->next;
        mem_free(chunk);
        chunk = next;
    }
    hashmap_done(&overlay->rows);
    overlay_init(overlay);
}

/* A large row has a chunk of its own, behind the one being filled. */
static void *chunk_take(struct overlay *overlay, uint64_t size)
{
    size = (size + ROW_ALIGN - 1) & ~(uint64_t)(ROW_ALIGN - 1);
    struct overlay_chunk *chunk = overlay->chunks;
    if (!chunk || chunk->room - chunk->used < size) {
        const bool alone = size > CHUNK_ROOM / 4;
        const uint64_t room = alone ? size : CHUNK_ROOM - sizeof *chunk;
        struct overlay_chunk *fresh = mem_try_alloc(sizeof *fresh + room);
        if (!fresh)
            return NULL;
        *fresh = (struct overlay_chunk){.room = room};
        struct overlay_chunk **place = alone && chunk ? &chunk->next : &overlay->chunks;
        fresh->next = *place;
        *place = fresh;
        overlay->bytes += sizeof *fresh + room;
        chunk = fresh;
    }
    void *taken = chunk->bytes + chunk->used;
    chunk->used += size;
    return taken;
}

static bool row_match(const struct hashnode *node, const void *key)
{
    const struct overlay_row *row = CONTAINER_OF(node, struct overlay_row, node);
    const struct wanted *wanted = key;
    return row->table == wanted->table && slice_equal(overlay_key(row), wanted->key);
}

static struct overlay_row *new_row(struct overlay *overlay, const struct wanted *wanted,
                                   uint32_t value_room)
{
    struct overlay_row *row =
        chunk_take(overlay, sizeof *row + (uint64_t)wanted->key.size + value_room);
    if (!row)
        return NULL;
    *row = (struct overlay_row){
        .key_size = wanted->key.size,
        .value_room = value_room,
        .table = (uint8_t)wanted->table,
    };
    if (wanted->key.size)
        memcpy(row->bytes, wanted->key.bytes, wanted->key.size);
    return row;
}

/* A row with room for the value, in the table; an existing one is used when the value fits. */
static struct overlay_row *make_row(struct overlay *overlay, const struct wanted *wanted,
                                    uint32_t value_size)
{
    const uint64_t hash = hash_bytes(wanted->key.bytes, wanted->key.size) + wanted->table;
    struct hashnode *node = hashmap_find(&overlay->rows, hash, row_match, wanted);
    struct overlay_row *row = node ? CONTAINER_OF(node, struct overlay_row, node) : NULL;
    if (row && row->value_room >= value_size)
        return row;
    struct overlay_row *bigger = new_row(overlay, wanted, value_size);
    if (!bigger)
        return NULL;
    if (row)
        hashmap_remove(&overlay->rows, node);
    hashmap_insert(&overlay->rows, &bigger->node, hash);
    return bigger;
}

static int put_op(struct overlay *overlay, const struct meta_op *op, uint64_t position)
{
    const struct wanted wanted = {.table = OVERLAY_ROWS, .key = op->key};
    const uint32_t head = op->kind == META_PUT_AT ? (uint32_t)sizeof position : 0;
    const uint32_t value_size = op->kind == META_DELETE ? 0 : head + op->value.size;
    struct overlay_row *row = make_row(overlay, &wanted, value_size);
    if (!row)
        return ERR_NOMEM;
    row->deleted = op->kind == META_DELETE;
    row->value_size = value_size;
    uint8_t *value = row->bytes + row->key_size;
    memcpy(value, &position, head);
    if (value_size > head)
        memcpy(value + head, op->value.bytes, op->value.size);
    return 0;
}

static int put_drop(struct overlay *overlay, uint32_t queue_id, uint64_t position)
{
    const uint32_t key = htonl(queue_id);
    const struct wanted wanted = {.table = OVERLAY_QUEUES, .key = slice_of(&key, sizeof key)};
    const struct overlay_queue value = {.dropped_at = position};
    struct overlay_row *row = make_row(overlay, &wanted, sizeof value);
    if (!row)
        return ERR_NOMEM;
    row->value_size = sizeof value;
    memcpy(row->bytes + row->key_size, &value, sizeof value);
    return 0;
}

int overlay_apply(struct overlay *overlay, const struct record *record)
{
    const uint64_t position = record->header->position;
    if (record->header->kind == RECORD_DROP)
        return put_drop(overlay, record->queue_ids[0], position);
    struct slice rest = record->ops;
    struct meta_op op;
    int more = 0;
    while ((more = record_op_next(&rest, &op)) > 0) {
        const int err = put_op(overlay, &op, position);
        if (err < 0)
            return err;
    }
    return more;
}

static int compare_rows(const void *a, const void *b)
{
    const struct overlay_row *left = *(struct overlay_row *const *)a;
    const struct overlay_row *right = *(struct overlay_row *const *)b;
    if (left->table != right->table)
        return left->table < right->table ? -1 : 1;
    return slice_order(overlay_key(left), overlay_key(right));
}

struct overlay_row **overlay_sorted(struct overlay *overlay)
{
    struct overlay_row **rows = mem_try_alloc(overlay->rows.count * sizeof *rows);
    if (!rows)
        return NULL;
    uint64_t pos = 0, count = 0;
    struct hashnode *node = NULL;
    while ((node = hashmap_next(&overlay->rows, &pos, node)))
        rows[count++] = CONTAINER_OF(node, struct overlay_row, node);
    ASSERT(count == overlay->rows.count);
    qsort(rows, count, sizeof *rows, compare_rows);
    return rows;
}
