/* Any bytes as a segment's records: the scan ends with an error or with sound records, and what it
 * hands out lies inside the record.
 *
 * The first byte says whether records are to be given the right position, epoch and checksum first,
 * so that what lies behind those checks is reached too.
 */
#include "base/crc32c.h"
#include "store/local/scan.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { BASE = 4096, EPOCH = 7, SIZE_MAX_USED = 64 * 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* Makes each record in turn pass the outer checks, as its own size has it. */
static void mend(uint8_t *bytes, size_t size)
{
    size_t at = 0;
    while (at + sizeof(struct record_header) <= size) {
        struct record_header header;
        memcpy(&header, bytes + at, sizeof header);
        header.size &= ~(RECORD_ALIGN - 1);
        if (header.size < sizeof header || header.size > size - at)
            return;
        header.position = BASE + at;
        header.epoch = EPOCH;
        memcpy(bytes + at, &header, sizeof header);
        header.crc = crc32c(0, bytes + at + 8, header.size - 8);
        memcpy(bytes + at, &header, sizeof header);
        at += header.size;
    }
}

static void check_inside(struct slice slice, const struct record *record)
{
    const uint8_t *start = (const uint8_t *)record->header;
    if (slice.size == 0)
        return;
    ASSERT(slice.bytes >= start);
    ASSERT(slice.bytes + slice.size <= start + record->header->size);
    static uint8_t copy[SIZE_MAX_USED]; /* a sanitizer watches each byte read */
    memcpy(copy, slice.bytes, slice.size);
}

static int check_record(void *data, const struct record *record)
{
    uint64_t *end = data;
    ASSERT(record->header->position == *end);
    *end += record->header->size;
    check_inside(record->message.topic, record);
    check_inside(record->message.client_id, record);
    check_inside(record->message.props, record);
    check_inside(record->message.payload, record);
    check_inside(slice_of(record->queue_ids, record->header->queue_count * sizeof(uint32_t)),
                 record);
    struct slice rest = record->ops;
    struct meta_op op;
    while (record_op_next(&rest, &op) > 0) {
        check_inside(op.key, record);
        check_inside(op.value, record);
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size < 1 || size > SIZE_MAX_USED)
        return 0;
    static uint8_t records[SIZE_MAX_USED] __attribute__((aligned(8)));
    memcpy(records, bytes + 1, size - 1);
    if (bytes[0] & 1)
        mend(records, size - 1);
    struct segment *segment = segment_new(1, BASE, SEGMENT_HEADER_SIZE + size, EPOCH);
    segment->size = SEGMENT_HEADER_SIZE + size - 1;
    segment->fd = memfd_create("segment", MFD_CLOEXEC);
    ASSERT(segment->fd >= 0);
    const ssize_t put = pwrite(segment->fd, records, size - 1, SEGMENT_HEADER_SIZE);
    ASSERT(put == (ssize_t)(size - 1));
    struct errmsg why = {0};
    uint64_t walked = BASE, end = 0;
    const struct scan scan = {
        .segment = segment, .from = BASE, .end = UINT64_MAX, .each = check_record, .data = &walked};
    const int err = scan_segment(&scan, &end, &why);
    ASSERT(err == 0 || err == ERR_CORRUPT);
    ASSERT(err == ERR_CORRUPT ? why.text[0] != '\0' : end == walked);
    (void)segment_unref(segment);
    return 0;
}
