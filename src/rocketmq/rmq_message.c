#include "rocketmq/rmq_message.h"

#include "rocketmq/rmq_cursor.h"
#include "rocketmq/rmq_fields.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>

enum {
    FLAG_COMPRESSED = 0x1,
    FLAG_BORN_V6 = 0x10,
    FLAG_STORE_V6 = 0x20,
    COMPRESSION_SHIFT = 8,
    COMPRESSION_MASK = 7,
    CRC_MASK = 0x7fffffff,
    BODY_ROOM_MIN = 1024,
};

static const uint32_t magic_v1 = 0xdaa320a7, magic_v2 = 0xdaa320ab;

static int wrong(const char **ret_why, const char *why)
{
    *ret_why = why;
    return ERR_MALFORMED;
}

static struct rmq_host take_host(struct rmq_cursor *cursor, bool is_v6)
{
    struct rmq_host host = {.address_size = is_v6 ? 16 : 4};
    const struct slice address = rmq_cursor_slice(cursor, host.address_size);
    if (address.size > 0)
        memcpy(host.address, address.bytes, address.size);
    host.port = rmq_cursor_u32(cursor);
    return host;
}

/* A part of the message that keeps the message's buf. */
static struct slice take_part(struct rmq_cursor *cursor, uint32_t size, struct buf *buf)
{
    struct slice slice = rmq_cursor_slice(cursor, size);
    slice.buf = slice.size > 0 ? buf : NULL;
    return slice;
}

static void take_numbers(struct rmq_cursor *cursor, struct rmq_message *message)
{
    message->body_crc = rmq_cursor_u32(cursor);
    message->queue_id = rmq_cursor_u32(cursor);
    message->flag = (int32_t)rmq_cursor_u32(cursor);
    message->queue_offset = rmq_cursor_u64(cursor);
    message->position = rmq_cursor_u64(cursor);
    message->sys_flag = rmq_cursor_u32(cursor);
    message->born_ms = (int64_t)rmq_cursor_u64(cursor);
    message->born_host = take_host(cursor, message->sys_flag & FLAG_BORN_V6);
    message->store_ms = (int64_t)rmq_cursor_u64(cursor);
    message->store_host = take_host(cursor, message->sys_flag & FLAG_STORE_V6);
    message->reconsume_times = (int32_t)rmq_cursor_u32(cursor);
    message->prepared_offset = (int64_t)rmq_cursor_u64(cursor);
}

int rmq_message_decode(struct slice bytes, struct rmq_message *ret_message, const char **ret_why)
{
    struct rmq_message message = {0};
    struct rmq_cursor cursor = rmq_cursor_on(bytes);
    message.size = rmq_cursor_u32(&cursor);
    const uint32_t magic = rmq_cursor_u32(&cursor);
    if (cursor.is_short || message.size > bytes.size)
        return wrong(ret_why, "the message is cut");
    if (message.size < 8)
        return wrong(ret_why, "the message is shorter than its head");
    if (magic != magic_v1 && magic != magic_v2)
        return wrong(ret_why, "the message does not begin with the mark of one");
    cursor.left = message.size - 8;
    message.is_v2 = magic == magic_v2;
    take_numbers(&cursor, &message);
    message.body = take_part(&cursor, rmq_cursor_u32(&cursor), bytes.buf);
    const uint32_t topic_size = message.is_v2 ? rmq_cursor_u16(&cursor) : rmq_cursor_u8(&cursor);
    message.topic = take_part(&cursor, topic_size, bytes.buf);
    message.properties = take_part(&cursor, rmq_cursor_u16(&cursor), bytes.buf);
    if (cursor.is_short)
        return wrong(ret_why, "a part of the message is larger than the message");
    if (cursor.left > 0)
        return wrong(ret_why, "the message is larger than its parts");
    if (message.properties.size > RMQ_PROPERTIES_SIZE_MAX)
        return wrong(ret_why, "the properties are larger than allowed");
    if (message.queue_offset > INT64_MAX || message.position > INT64_MAX)
        return wrong(ret_why, "an offset of the message is negative");
    *ret_message = message;
    return 0;
}

int rmq_message_next(struct slice *rest, struct rmq_message *ret_message, const char **ret_why)
{
    if (rest->size == 0)
        return ERR_NOTFOUND;
    const int err = rmq_message_decode(*rest, ret_message, ret_why);
    if (err < 0)
        return err;
    rest->bytes += ret_message->size;
    rest->size -= ret_message->size;
    return 0;
}

/* --- bodies -------------------------------------------------------------------------------------
 */

bool rmq_message_is_sound(const struct rmq_message *message)
{
    const uLong crc = crc32(0, message->body.bytes, message->body.size);
    return (message->body.size > 0 ? crc & CRC_MASK : 0) == message->body_crc;
}

enum rmq_compression rmq_message_compression(const struct rmq_message *message)
{
    static const uint8_t kinds[] = {RMQ_ZLIB, RMQ_LZ4, RMQ_ZSTD, RMQ_ZLIB};
    const uint32_t kind = message->sys_flag >> COMPRESSION_SHIFT & COMPRESSION_MASK;
    if (!(message->sys_flag & FLAG_COMPRESSED))
        return RMQ_PLAIN;
    return kind < ARRAY_COUNT(kinds) ? (enum rmq_compression)kinds[kind] : RMQ_COMPRESSION_UNKNOWN;
}

/* Inflates into memory that is made twice as large each time it is used up. */
static int inflate_all(z_stream *stream, uint32_t size_max, struct slice *ret_body)
{
    struct buf *buf = NULL;
    uint32_t size = 0;
    for (uint32_t room = BODY_ROOM_MIN;; room = MIN(room * 2, size_max)) {
        room = MIN(room, size_max);
        struct buf *larger = buf_try_new(room);
        if (larger && size > 0)
            memcpy(buf_bytes(larger), buf_bytes(buf), size);
        (void)buf_unref(buf);
        buf = larger;
        if (!buf)
            return ERR_NOMEM;
        stream->next_out = buf_bytes(buf) + size;
        stream->avail_out = room - size;
        const int result = inflate(stream, Z_NO_FLUSH);
        size = room - stream->avail_out;
        if (result == Z_STREAM_END)
            break;
        const bool is_full = stream->avail_out == 0 && (result == Z_OK || result == Z_BUF_ERROR);
        if (!is_full || room == size_max) {
            (void)buf_unref(buf);
            return is_full ? ERR_FULL : result == Z_MEM_ERROR ? ERR_NOMEM : ERR_MALFORMED;
        }
    }
    *ret_body = (struct slice){.bytes = buf_bytes(buf), .size = size, .buf = buf};
    return 0;
}

int rmq_message_body(const struct rmq_message *message, uint32_t size_max, struct slice *ret_body)
{
    const enum rmq_compression compression = rmq_message_compression(message);
    if (compression == RMQ_PLAIN)
        return message->body.size > size_max ? ERR_FULL : slice_keep(message->body, ret_body);
    if (compression != RMQ_ZLIB)
        return ERR_INVALID;
    if (size_max == 0)
        return ERR_FULL;
    z_stream stream = {.next_in = (Bytef *)message->body.bytes, .avail_in = message->body.size};
    if (inflateInit(&stream) != Z_OK)
        return ERR_NOMEM;
    const int err = inflate_all(&stream, size_max, ret_body);
    (void)inflateEnd(&stream);
    return err;
}

/* --- places -------------------------------------------------------------------------------------
 */

/* Takes what is before the next comma off `rest`. */
static bool take_item(struct slice *rest, struct slice *ret_item)
{
    if (!rest->bytes)
        return false;
    const uint8_t *comma = rest->size > 0 ? memchr(rest->bytes, ',', rest->size) : NULL;
    const uint32_t size = comma ? (uint32_t)(comma - rest->bytes) : rest->size;
    *ret_item = slice_of(rest->bytes, size);
    *rest = comma ? slice_of(comma + 1, rest->size - size - 1) : slice_of(NULL, 0);
    return true;
}

int rmq_message_lmq_offset(const struct rmq_message *message, struct slice lmq,
                           uint64_t *ret_offset)
{
    struct slice names = rmq_properties_find(message->properties, RMQ_PROPERTY_LMQ_NAMES);
    struct slice offsets = rmq_properties_find(message->properties, RMQ_PROPERTY_LMQ_OFFSETS);
    struct slice name, text;
    int64_t offset = 0;
    while (take_item(&names, &name)) {
        const bool has_offset = take_item(&offsets, &text);
        if (!slice_equal(name, lmq))
            continue;
        if (!has_offset || rmq_fields_parse_int(text, &offset) < 0 || offset < 0)
            return ERR_MALFORMED;
        *ret_offset = (uint64_t)offset;
        return 0;
    }
    return ERR_NOTFOUND;
}

void rmq_message_id(const struct rmq_message *message, char ret_id[RMQ_MESSAGE_ID6_SIZE + 1])
{
    uint8_t bytes[RMQ_MESSAGE_ID6_SIZE / 2];
    const struct rmq_host *host = &message->store_host;
    ASSERT(host->address_size == 4 || host->address_size == 16);
    memcpy(bytes, host->address, host->address_size);
    uint8_t *end = rmq_put_number(bytes + host->address_size, host->port, 4);
    end = rmq_put_number(end, message->position, 8);
    for (const uint8_t *byte = bytes; byte < end; byte++, ret_id += 2)
        (void)snprintf(ret_id, 3, "%02X", *byte);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int rmq_message_parse_id(const char *id, struct rmq_host *ret_host, uint64_t *ret_position)
{
    uint8_t bytes[RMQ_MESSAGE_ID6_SIZE / 2];
    const size_t size = strlen(id);
    if (size != RMQ_MESSAGE_ID_SIZE && size != RMQ_MESSAGE_ID6_SIZE)
        return ERR_INVALID;
    for (size_t i = 0; i < size; i += 2) {
        const int high = hex_digit(id[i]), low = hex_digit(id[i + 1]);
        if (high < 0 || low < 0)
            return ERR_INVALID;
        bytes[i / 2] = (uint8_t)(high * 16 + low);
    }
    struct rmq_cursor cursor = rmq_cursor_on(slice_of(bytes, size / 2));
    *ret_host = take_host(&cursor, size == RMQ_MESSAGE_ID6_SIZE);
    *ret_position = rmq_cursor_u64(&cursor);
    return 0;
}
