#include "store/local/record.h"

#include "base/crc32c.h"

#include <string.h>

enum { OP_HEAD_SIZE = 12 };

/* In front of each operation's key and value. */
struct op_head {
    uint32_t kind;
    uint32_t key_size;
    uint32_t value_size;
};
_Static_assert(sizeof(struct op_head) == OP_HEAD_SIZE, "written as it lies in memory");

static uint64_t round_up(uint64_t size)
{
    return (size + RECORD_ALIGN - 1) & ~(uint64_t)(RECORD_ALIGN - 1);
}

static uint64_t ops_size(const struct store_append *req)
{
    uint64_t size = 0;
    for (uint16_t i = 0; i < req->op_count; i++)
        size += OP_HEAD_SIZE + (uint64_t)req->ops[i].key.size + req->ops[i].value.size;
    return size;
}

uint64_t record_size(const struct store_append *req)
{
    const struct message *message = req->message;
    uint64_t size = sizeof(struct record_header) + ops_size(req);
    if (message) {
        if (message->topic.size > UINT16_MAX || message->client_id.size > UINT16_MAX)
            return UINT64_MAX;
        size += message->flags & MESSAGE_COPY ? sizeof message->origin : 0;
        size += (uint64_t)req->queue_count * sizeof(uint32_t);
        size += (uint64_t)message->topic.size + message->client_id.size;
        size += (uint64_t)message->props.size + message->payload.size;
    }
    size = round_up(size);
    return size <= UINT32_MAX ? size : UINT64_MAX;
}

static uint8_t *put(uint8_t *at, const void *bytes, size_t size)
{
    if (size)
        memcpy(at, bytes, size);
    return at + size;
}

static uint8_t *put_message(uint8_t *at, const struct store_append *req)
{
    const struct message *message = req->message;
    if (message->flags & MESSAGE_COPY)
        at = put(at, &message->origin, sizeof message->origin);
    at = put(at, req->queue_ids, req->queue_count * sizeof(uint32_t));
    at = put(at, message->topic.bytes, message->topic.size);
    at = put(at, message->client_id.bytes, message->client_id.size);
    at = put(at, message->props.bytes, message->props.size);
    return put(at, message->payload.bytes, message->payload.size);
}

static uint8_t *put_ops(uint8_t *at, const struct store_append *req)
{
    for (uint16_t i = 0; i < req->op_count; i++) {
        const struct meta_op *op = &req->ops[i];
        const struct op_head head = {
            .kind = op->kind, .key_size = op->key.size, .value_size = op->value.size};
        at = put(at, &head, sizeof head);
        at = put(at, op->key.bytes, op->key.size);
        at = put(at, op->value.bytes, op->value.size);
    }
    return at;
}

void record_write(uint8_t *bytes, const struct store_append *req, uint64_t position, uint32_t epoch)
{
    const uint64_t size = record_size(req);
    ASSERT(size <= UINT32_MAX);
    const struct message *message = req->message;
    struct record_header header = {
        .size = (uint32_t)size,
        .position = position,
        .epoch = epoch,
        .ops_size = (uint32_t)ops_size(req),
        .op_count = req->op_count,
        .kind = RECORD_APPEND,
    };
    uint8_t *at = bytes + sizeof header;
    if (message) {
        header.time_ms = message->time_ms;
        header.publisher = message->publisher;
        header.topic_id = message->topic_id;
        header.expiry_s = message->expiry_s;
        header.payload_size = message->payload.size;
        header.props_size = message->props.size;
        header.topic_size = (uint16_t)message->topic.size;
        header.client_id_size = (uint16_t)message->client_id.size;
        header.queue_count = req->queue_count;
        header.flags = message->flags;
        header.qos = message->qos;
        header.has_message = 1;
        at = put_message(at, req);
    }
    at = put_ops(at, req);
    ASSERT(at <= bytes + size && at + RECORD_ALIGN > bytes + size);
    memset(at, 0, (size_t)(bytes + size - at));
    memcpy(bytes, &header, sizeof header);
}

void record_write_drop(uint8_t *bytes, uint32_t queue_id, uint64_t position, uint32_t epoch)
{
    const struct record_header header = {
        .size = RECORD_DROP_SIZE,
        .position = position,
        .epoch = epoch,
        .queue_count = 1,
        .kind = RECORD_DROP,
    };
    memset(bytes, 0, RECORD_DROP_SIZE);
    memcpy(bytes, &header, sizeof header);
    memcpy(bytes + sizeof header, &queue_id, sizeof queue_id);
}

static uint32_t checksum(const uint8_t *bytes, uint32_t size)
{
    const size_t skip = offsetof(struct record_header, position);
    return crc32c(0, bytes + skip, size - skip);
}

void record_seal(uint8_t *bytes, uint64_t synced_end)
{
    struct record_header *header = (struct record_header *)(void *)bytes;
    ASSERT(synced_end <= header->position);
    const uint64_t unsynced = (header->position - synced_end) / RECORD_ALIGN;
    header->unsynced = (uint32_t)MIN(unsynced, UINT32_MAX);
    header->crc = checksum(bytes, header->size);
}

void record_write_lost(uint8_t *bytes, uint32_t size, uint32_t count, uint64_t position,
                       uint32_t epoch)
{
    const struct record_header header = {
        .size = size,
        .position = position,
        .epoch = epoch,
        .expiry_s = count,
        .kind = RECORD_LOST,
    };
    ASSERT(size >= sizeof header && size % RECORD_ALIGN == 0);
    memset(bytes, 0, size);
    memcpy(bytes, &header, sizeof header);
    record_seal(bytes, position);
}

static struct slice take(const uint8_t **at, uint32_t size, struct buf *buf)
{
    const struct slice slice = {.bytes = *at, .size = size, .buf = buf};
    *at += size;
    return slice;
}

struct record record_view(const uint8_t *bytes, struct buf *buf)
{
    const struct record_header *header = (const struct record_header *)(const void *)bytes;
    const uint8_t *at = bytes + sizeof *header;
    struct record record = {.header = header};
    struct message *message = &record.message;
    if (header->has_message) {
        message->publisher = header->publisher;
        message->time_ms = header->time_ms;
        message->position = header->position;
        message->expiry_s = header->expiry_s;
        message->topic_id = header->topic_id;
        message->qos = header->qos;
        message->flags = header->flags;
        if (header->flags & MESSAGE_COPY) {
            memcpy(&message->origin, at, sizeof message->origin);
            at += sizeof message->origin;
        }
    }
    record.queue_ids = (const uint32_t *)(const void *)at;
    at += header->queue_count * sizeof(uint32_t);
    if (header->has_message) {
        message->topic = take(&at, header->topic_size, buf);
        message->client_id = take(&at, header->client_id_size, buf);
        message->props = take(&at, header->props_size, buf);
        message->payload = take(&at, header->payload_size, buf);
    }
    record.ops = take(&at, header->ops_size, buf);
    return record;
}

/* The lengths inside add up to the record's size. */
static bool lengths_agree(const struct record_header *header)
{
    uint64_t size = sizeof *header + (uint64_t)header->queue_count * sizeof(uint32_t);
    if (header->has_message) {
        size += header->flags & MESSAGE_COPY ? sizeof(uint64_t) : 0;
        size += (uint64_t)header->topic_size + header->client_id_size;
        size += (uint64_t)header->props_size + header->payload_size;
    }
    size += header->ops_size;
    if (header->queue_count > STORE_QUEUES_MAX || header->has_message > 1)
        return false;
    if (header->kind == RECORD_LOST)
        return header->queue_count == 0 && !header->has_message && header->ops_size == 0;
    if (header->kind == RECORD_DROP) {
        if (header->queue_count != 1 || header->has_message || header->ops_size > 0)
            return false;
    } else if (header->kind != RECORD_APPEND) {
        return false;
    }
    return round_up(size) == header->size;
}

bool record_plausible(const uint8_t *bytes, uint64_t position, uint32_t epoch, uint64_t size_max)
{
    const struct record_header *header = (const struct record_header *)(const void *)bytes;
#ifdef MUTATION_NO_EPOCH_CHECK
    epoch = header->epoch;
#endif
    return header->position == position && header->epoch == epoch &&
           header->size >= sizeof *header && header->size % RECORD_ALIGN == 0 &&
           header->size <= size_max;
}

int record_parse(const uint8_t *bytes, uint64_t size, uint64_t position, uint32_t epoch,
                 struct buf *buf, struct record *ret_record)
{
    ASSERT((uintptr_t)bytes % RECORD_ALIGN == 0);
    const struct record_header *header = (const struct record_header *)(const void *)bytes;
    if (size < sizeof *header)
        return ERR_AGAIN;
    if (!record_plausible(bytes, position, epoch, UINT32_MAX))
        return ERR_CORRUPT;
    if (header->size > size)
        return ERR_AGAIN;
#ifndef MUTATION_NO_CRC_CHECK
    if (header->crc != checksum(bytes, header->size))
        return ERR_CORRUPT;
#endif
    if (!lengths_agree(header))
        return ERR_CORRUPT;
    *ret_record = record_view(bytes, buf);
    return 0;
}

int record_op_next(struct slice *rest, struct meta_op *ret_op)
{
    if (rest->size == 0)
        return 0;
    struct op_head head;
    if (rest->size < sizeof head)
        return ERR_CORRUPT;
    memcpy(&head, rest->bytes, sizeof head);
    const uint64_t size = sizeof head + (uint64_t)head.key_size + head.value_size;
    const bool kind_known =
        head.kind == META_PUT || head.kind == META_DELETE || head.kind == META_PUT_AT;
    if (!kind_known || size > rest->size || head.key_size > META_KEY_MAX)
        return ERR_CORRUPT;
    const uint8_t *at = rest->bytes + sizeof head;
    ret_op->kind = (enum meta_kind)head.kind;
    ret_op->key = take(&at, head.key_size, rest->buf);
    ret_op->value = take(&at, head.value_size, rest->buf);
    rest->bytes = at;
    rest->size -= (uint32_t)size;
    return 1;
}

bool record_in_queue(const struct record *record, uint32_t queue_id)
{
    const struct record_header *header = record->header;
    if (!header->has_message)
        return false;
    if (header->topic_id == queue_id)
        return true;
    for (uint16_t i = 0; i < header->queue_count; i++) {
        if (record->queue_ids[i] == queue_id)
            return true;
    }
    return false;
}
