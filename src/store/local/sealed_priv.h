/* How index files lie on disk; for sealed.c and sealed_write.c only. */
#pragma once

#include "store/local/sealed.h"

#define SEALED_MAGIC               UINT64_C(0x31584449514d4454) /* "TDMQIDX1" */
#define SEALED_VERSION             1u

#define SEALED_PAYLOAD_SIZE        4080u
#define SEALED_DIRECTORY_PER_BLOCK 170u
#define SEALED_ENTRIES_PER_BLOCK   510u

struct sealed_header {
    uint64_t magic;
    uint32_t version;
    uint32_t queue_count;
    uint64_t start, end;
    uint64_t entry_count;
};

/* Ends every block. */
struct sealed_trailer {
    uint64_t start; /* the file's */
    uint32_t number;
    uint32_t crc; /* of the block before this field */
};
_Static_assert(sizeof(struct sealed_trailer) == SEALED_BLOCK_SIZE - SEALED_PAYLOAD_SIZE, "layout");
_Static_assert(sizeof(struct sealed_queue) * SEALED_DIRECTORY_PER_BLOCK == SEALED_PAYLOAD_SIZE,
               "layout");
_Static_assert(sizeof(struct qentry) * SEALED_ENTRIES_PER_BLOCK == SEALED_PAYLOAD_SIZE, "layout");

static inline uint64_t sealed_blocks(uint64_t count, uint32_t per_block)
{
    return (count + per_block - 1) / per_block;
}

void sealed_block_finish(uint8_t *block, uint64_t start, uint32_t number);
