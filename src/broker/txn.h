/* Transaction under construction: metadata operations and the bytes they need.
 *
 * One per broker, reused: store_append copies everything at the submit. Thread: loop.
 */
#pragma once

#include "store/meta.h"

struct txn {
    struct txn_op *parts; /* offsets into bytes, because bytes move when they grow */
    struct meta_op *ops;  /* made by txn_ops */
    uint8_t *bytes;
    size_t size, room;
    uint32_t count, count_room;
};

void txn_done(struct txn *txn);
void txn_clear(struct txn *txn);
/* Makes room for `size` more bytes, before rows are added that hold what a client chose, with
 * TXN_ROW_ROOM for what else is in one. Returns 0 or ERR_NOMEM. */
#define TXN_ROW_ROOM 256u
MUST_CHECK int txn_reserve(struct txn *txn, size_t size);
/* As much as should go into one record. */
bool txn_is_large(const struct txn *txn);

/* Begins an operation; its key is what is added until txn_value, its value what is added after. */
void txn_begin(struct txn *txn, enum meta_kind kind);
void txn_value(struct txn *txn);
void txn_u8(struct txn *txn, uint8_t value);
void txn_u16(struct txn *txn, uint16_t value);
void txn_u32(struct txn *txn, uint32_t value);
void txn_u64(struct txn *txn, uint64_t value);  /* little endian */
void txn_be32(struct txn *txn, uint32_t value); /* for keys: sorts as the number does */
void txn_be64(struct txn *txn, uint64_t value);
void txn_bytes(struct txn *txn, struct slice bytes); /* without a length */
void txn_sized(struct txn *txn, struct slice bytes); /* u32 length in front */

/* Adds the operations of another one. */
void txn_copy(struct txn *to, struct txn *from);
/* The finished operations; valid until the next change of the transaction. */
const struct meta_op *txn_ops(struct txn *txn);

/* Reads a row back; `bad` turns true at the first thing that does not fit, and stays. */
struct row_reader {
    struct slice rest;
    bool bad;
};

uint8_t row_u8(struct row_reader *reader);
uint16_t row_u16(struct row_reader *reader);
uint32_t row_u32(struct row_reader *reader);
uint64_t row_u64(struct row_reader *reader);
uint32_t row_be32(struct row_reader *reader);
uint64_t row_be64(struct row_reader *reader);
struct slice row_sized(struct row_reader *reader);
struct slice row_take(struct row_reader *reader, size_t size);
