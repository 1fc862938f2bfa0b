#include "broker/txn.h"

#include "base/mem.h"

#include <endian.h>
#include <string.h>

#define TXN_OPS_LARGE  1024u
#define TXN_SIZE_LARGE (256u << 10)

struct txn_op {
    enum meta_kind kind;
    size_t key_offset, key_size;
    size_t value_offset, value_size;
};

void txn_done(struct txn *txn)
{
    mem_free(txn->parts);
    mem_free(txn->ops);
    mem_free(txn->bytes);
    *txn = (struct txn){.parts = NULL};
}

bool txn_is_large(const struct txn *txn)
{
    return txn->count >= TXN_OPS_LARGE || txn->size >= TXN_SIZE_LARGE;
}

void txn_clear(struct txn *txn)
{
    txn->size = 0;
    txn->count = 0;
}

int txn_reserve(struct txn *txn, size_t size)
{
    if (txn->size + size <= txn->room)
        return 0;
    const size_t room = MAX(2 * txn->room, txn->size + size + 4096);
    uint8_t *grown = mem_try_realloc(txn->bytes, room);
    if (!grown)
        return ERR_NOMEM;
    txn->bytes = grown;
    txn->room = room;
    return 0;
}

/* Room for `size` more bytes. For what a client chose there is room already (txn_reserve). */
static uint8_t *txn_room(struct txn *txn, size_t size)
{
    const int err = txn_reserve(txn, size);
    ASSERT(err == 0);
    uint8_t *at = txn->bytes + txn->size;
    txn->size += size;
    return at;
}

void txn_begin(struct txn *txn, enum meta_kind kind)
{
    if (txn->count == txn->count_room) {
        const uint32_t room = MAX(16u, 2 * txn->count_room);
        struct txn_op *parts = mem_try_realloc(txn->parts, room * sizeof *parts);
        struct meta_op *ops = mem_try_realloc(txn->ops, room * sizeof *ops);
        ASSERT(parts);
        ASSERT(ops);
        txn->parts = parts;
        txn->ops = ops;
        txn->count_room = room;
    }
    txn->parts[txn->count++] =
        (struct txn_op){.kind = kind, .key_offset = txn->size, .value_offset = SIZE_MAX};
}

/* Adds to the key, or to the value once txn_value was called. */
static uint8_t *txn_more(struct txn *txn, size_t size)
{
    ASSERT(txn->count > 0);
    struct txn_op *part = &txn->parts[txn->count - 1];
    uint8_t *at = txn_room(txn, size);
    if (part->value_offset == SIZE_MAX)
        part->key_size += size;
    else
        part->value_size += size;
    return at;
}

void txn_value(struct txn *txn)
{
    ASSERT(txn->count > 0);
    txn->parts[txn->count - 1].value_offset = txn->size;
}

void txn_u8(struct txn *txn, uint8_t value)
{
    *txn_more(txn, 1) = value;
}

void txn_u16(struct txn *txn, uint16_t value)
{
    value = htole16(value);
    memcpy(txn_more(txn, sizeof value), &value, sizeof value);
}

void txn_u32(struct txn *txn, uint32_t value)
{
    value = htole32(value);
    memcpy(txn_more(txn, sizeof value), &value, sizeof value);
}

void txn_u64(struct txn *txn, uint64_t value)
{
    value = htole64(value);
    memcpy(txn_more(txn, sizeof value), &value, sizeof value);
}

void txn_be32(struct txn *txn, uint32_t value)
{
    value = htobe32(value);
    memcpy(txn_more(txn, sizeof value), &value, sizeof value);
}

void txn_be64(struct txn *txn, uint64_t value)
{
    value = htobe64(value);
    memcpy(txn_more(txn, sizeof value), &value, sizeof value);
}

void txn_bytes(struct txn *txn, struct slice bytes)
{
    if (bytes.size)
        memcpy(txn_more(txn, bytes.size), bytes.bytes, bytes.size);
}

void txn_sized(struct txn *txn, struct slice bytes)
{
    txn_u32(txn, bytes.size);
    txn_bytes(txn, bytes);
}

const struct meta_op *txn_ops(struct txn *txn)
{
    for (uint32_t i = 0; i < txn->count; i++) {
        const struct txn_op *part = &txn->parts[i];
        const bool has_value = part->value_offset != SIZE_MAX;
        txn->ops[i] = (struct meta_op){
            .kind = part->kind,
            .key = slice_of(txn->bytes + part->key_offset, part->key_size),
            .value = has_value ? slice_of(txn->bytes + part->value_offset, part->value_size)
                               : slice_of(NULL, 0),
        };
    }
    return txn->ops;
}

void txn_copy(struct txn *to, struct txn *from)
{
    const struct meta_op *ops = txn_ops(from);
    for (uint32_t i = 0; i < from->count; i++) {
        txn_begin(to, ops[i].kind);
        txn_bytes(to, ops[i].key);
        if (!ops[i].value.bytes)
            continue;
        txn_value(to);
        txn_bytes(to, ops[i].value);
    }
}

struct slice row_take(struct row_reader *reader, size_t size)
{
    if (size > reader->rest.size) {
        reader->bad = true;
        return slice_of(NULL, 0);
    }
    const struct slice taken = slice_of(reader->rest.bytes, size);
    reader->rest = slice_of(reader->rest.bytes + size, reader->rest.size - size);
    return taken;
}

uint8_t row_u8(struct row_reader *reader)
{
    const struct slice taken = row_take(reader, 1);
    return taken.size ? taken.bytes[0] : 0;
}

uint16_t row_u16(struct row_reader *reader)
{
    uint16_t value = 0;
    const struct slice taken = row_take(reader, sizeof value);
    if (taken.size)
        memcpy(&value, taken.bytes, sizeof value);
    return le16toh(value);
}

uint32_t row_u32(struct row_reader *reader)
{
    uint32_t value = 0;
    const struct slice taken = row_take(reader, sizeof value);
    if (taken.size)
        memcpy(&value, taken.bytes, sizeof value);
    return le32toh(value);
}

uint64_t row_u64(struct row_reader *reader)
{
    uint64_t value = 0;
    const struct slice taken = row_take(reader, sizeof value);
    if (taken.size)
        memcpy(&value, taken.bytes, sizeof value);
    return le64toh(value);
}

uint32_t row_be32(struct row_reader *reader)
{
    return be32toh(htole32(row_u32(reader)));
}

uint64_t row_be64(struct row_reader *reader)
{
    return be64toh(htole64(row_u64(reader)));
}

struct slice row_sized(struct row_reader *reader)
{
    return row_take(reader, row_u32(reader));
}
