#include "mqtt/encode.h"
#include "mqtt/write.h"

/* Bytes of the properties, without their length field. */
static uint64_t block_size(const struct enc_publish *publish)
{
    uint64_t size = (uint64_t)publish->forward.size + (publish->has_expiry ? 5 : 0) +
                    (publish->topic_alias > 0 ? 3 : 0);
    for (uint32_t i = 0; i < publish->sub_id_count; i++)
        size += 1 + varint_size(publish->sub_ids[i]);
    return size;
}

/* Size of the body; *ret_block: of the properties in it. More than FRAME_REMAINING_MAX: too large.
 */
static uint64_t remaining_size(const struct enc_publish *publish, uint32_t *ret_block)
{
    uint64_t size = 2 + (uint64_t)publish->topic.size + publish->payload_size;
    if (publish->qos > 0)
        size += 2;
    *ret_block = 0;
    if (publish->version < MQTT_V5)
        return size;
    const uint64_t block = block_size(publish);
    if (block > FRAME_REMAINING_MAX)
        return block;
    *ret_block = (uint32_t)block;
    return size + varint_size(*ret_block) + block;
}

uint64_t enc_publish_size(const struct enc_publish *publish)
{
    uint32_t block;
    const uint64_t remaining = remaining_size(publish, &block);
    if (remaining > FRAME_REMAINING_MAX)
        return remaining + FRAME_HEAD_MAX;
    return 1 + varint_size((uint32_t)remaining) + remaining;
}

uint32_t enc_publish_id_at(const struct enc_publish *publish)
{
    ASSERT(publish->qos > 0);
    uint32_t block;
    const uint64_t remaining = remaining_size(publish, &block);
    return 1 + varint_size((uint32_t)remaining) + 2 + publish->topic.size;
}

static uint8_t *block_write(const struct enc_publish *publish, uint32_t size, uint8_t *at)
{
    at = write_varint(at, size);
    if (size == 0)
        return at;           /* [MQTT5-2.2.2-1] */
    if (publish->has_expiry) /* [MQTT5-3.3.2-6] */
        at = write_u32(write_u8(at, PROP_MESSAGE_EXPIRY), publish->expiry_s);
    if (publish->topic_alias > 0) /* [MQTT5-3.3.2-8] */
        at = write_u16(write_u8(at, PROP_TOPIC_ALIAS), publish->topic_alias);
    for (uint32_t i = 0; i < publish->sub_id_count; i++) /* [MQTT5-3.3.4-3] [MQTT5-3.3.4-4] */
        at = write_varint(write_u8(at, PROP_SUB_ID), publish->sub_ids[i]);
    return write_bytes(at, publish->forward.bytes, publish->forward.size);
}

int enc_publish_head(const struct enc_publish *publish, uint8_t *bytes, size_t room)
{
    ASSERT(publish->qos <= 2);
    ASSERT((publish->qos > 0) == (publish->packet_id > 0)); /* [MQTT3-2.3.1-4] [MQTT5-2.2.1-4] */
    ASSERT(publish->topic.size <= UINT16_MAX);
    uint32_t block;
    const uint64_t remaining = remaining_size(publish, &block);
    if (remaining > FRAME_REMAINING_MAX)
        return ERR_FULL;
    const uint64_t head = 1 + varint_size((uint32_t)remaining) + remaining - publish->payload_size;
    if (head > room)
        return ERR_FULL;

    const bool dup = publish->dup && publish->qos > 0; /* [MQTT3-3.3.1-2] [MQTT5-3.3.1-2] */
    uint8_t *at = write_u8(
        bytes, (uint8_t)(PACKET_PUBLISH << 4 | dup << 3 | publish->qos << 1 | publish->retain));
    at = write_varint(at, (uint32_t)remaining);
    at = write_binary(at, publish->topic);
    if (publish->qos > 0)
        at = write_u16(at, publish->packet_id);
    if (publish->version >= MQTT_V5)
        at = block_write(publish, block, at);
    ASSERT((uint64_t)(at - bytes) == head);
    return (int)head;
}
