/* Log records: how an append lies in the log, byte for byte.
 *
 *   header (72 bytes, little endian) | origin u64, with MESSAGE_COPY | queue ids u32 each |
 *   topic | client id | properties | payload | metadata operations | zeros up to 8 bytes
 *
 * A record names its own position and the epoch (start of the server) it was written in, so that
 * bytes left over in a recycled segment, or beyond a torn end, are never taken for it. `unsynced`
 * says how far the log was durable when it was written: that tells damage from a torn end.
 *
 * Everything here is pure: no I/O, no allocation. Thread: any.
 */
#pragma once

#include "store/store.h"

#define RECORD_ALIGN 8u

enum record_kind {
    RECORD_APPEND = 1, /* a message, metadata operations, or both */
    RECORD_DROP = 2,   /* its one queue is forgotten */
    RECORD_LOST = 3,   /* stands in the place of records that `store repair` gave up; expiry_s: how
                        * many they were at most */
};

struct record_header {
    uint32_t size; /* of the whole record, a multiple of RECORD_ALIGN */
    uint32_t crc;  /* CRC-32C of everything behind this field */
    uint64_t position;
    uint32_t epoch;
    uint32_t unsynced; /* (position - end of what was durable) / 8, or UINT32_MAX: unknown */
    uint64_t time_ms;
    uint64_t publisher;
    uint32_t topic_id;
    uint32_t expiry_s;
    uint32_t payload_size;
    uint32_t props_size;
    uint32_t ops_size;
    uint16_t topic_size;
    uint16_t client_id_size;
    uint16_t queue_count;
    uint16_t op_count;
    uint8_t kind;
    uint8_t flags; /* enum message_flags */
    uint8_t qos;
    uint8_t has_message;
};
_Static_assert(sizeof(struct record_header) == 72, "written as it lies in memory");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "records are little endian");

/* A record as it lies in memory; everything points into its bytes. */
struct record {
    const struct record_header *header;
    struct message message; /* zero without has_message */
    const uint32_t *queue_ids;
    struct slice ops; /* all operations, encoded */
};

/* Bytes the record of `req` takes; UINT64_MAX when a length does not fit its field. */
uint64_t record_size(const struct store_append *req);

/* Writes the record of `req`, all but crc and unsynced, to `bytes` (record_size of them, aligned to
 * RECORD_ALIGN). */
void record_write(uint8_t *bytes, const struct store_append *req, uint64_t position,
                  uint32_t epoch);

/* Writes the record that forgets a queue; RECORD_DROP_SIZE bytes. */
#define RECORD_DROP_SIZE 80u
void record_write_drop(uint8_t *bytes, uint32_t queue_id, uint64_t position, uint32_t epoch);

/* Writes what stands in the place of up to `count` lost records; `size` bytes, a multiple of
 * RECORD_ALIGN and at least a header's. It is sealed. */
void record_write_lost(uint8_t *bytes, uint32_t size, uint32_t count, uint64_t position,
                       uint32_t epoch);

/* Fills in what is known only when the record goes out: `synced_end`, up to where the log is
 * durable, and the checksum. */
void record_seal(uint8_t *bytes, uint64_t synced_end);

/* Looks at a record this process wrote, or that record_parse has accepted. `buf` goes into the
 * slices; it may be NULL. */
struct record record_view(const uint8_t *bytes, struct buf *buf);

/* Checks and looks at a record read from disk.
 *
 * bytes      aligned to RECORD_ALIGN; `size` of them are there.
 * position   what it must say; epoch likewise.
 *
 * Returns 0; ERR_AGAIN: the header asks for more than `size` bytes (record_needs says how many);
 * ERR_CORRUPT. */
MUST_CHECK int record_parse(const uint8_t *bytes, uint64_t size, uint64_t position, uint32_t epoch,
                            struct buf *buf, struct record *ret_record);

/* true when the start of `bytes` (a whole header) names that position and epoch and a possible size
 * of at most `size_max`. */
bool record_plausible(const uint8_t *bytes, uint64_t position, uint32_t epoch, uint64_t size_max);

/* Takes the next operation off `rest`, which is record.ops to start with; META_PUT_AT comes out as
 * written. Returns 1; 0: no more; ERR_CORRUPT. */
MUST_CHECK int record_op_next(struct slice *rest, struct meta_op *ret_op);

/* true when the record belongs to that queue. */
bool record_in_queue(const struct record *record, uint32_t queue_id);
