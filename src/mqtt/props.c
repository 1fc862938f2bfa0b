#include "mqtt/props.h"

#include "base/utf8.h"
#include "mqtt/read.h"
#include "mqtt/reason.h"
#include "mqtt/topic.h"
#include "mqtt/write.h"

#define ON(packet) PACKETS_BIT(PACKET_##packet)
#define ON_WILL    PACKETS_WILL
#define ON_ACKS    (ON(PUBACK) | ON(PUBREC))
#define ON_RELS    (ON(PUBREL) | ON(PUBCOMP))

enum prop_type {
    TYPE_FLAG = 1,
    TYPE_U16,
    TYPE_COUNT2,
    TYPE_U32,
    TYPE_COUNT4,
    TYPE_VARINT,
    TYPE_STRING,
    TYPE_BINARY,
    TYPE_PAIR,
};

static const struct prop_row {
    const char *text; /* NULL: there is no such property */
    uint16_t packets; /* PACKETS_BIT and PACKETS_WILL */
    uint16_t offset;  /* of the field in struct props */
    uint8_t type;     /* enum prop_type */
} rows[] = {
#define X(name, id, type, field, text, packets)                                                    \
    [id] = {text, packets, offsetof(struct props, field), TYPE_##type},
#include "mqtt/props.def"
#undef X
};

/* What a subscriber gets unaltered. [MQTT5-3.3.2-4] [MQTT5-3.3.2-15] [MQTT5-3.3.2-16]
 * [MQTT5-3.3.2-17] [MQTT5-3.3.2-20] */
#define FORWARDED                                                                                  \
    (PROPS_BIT(PROP_PAYLOAD_FORMAT) | PROPS_BIT(PROP_CONTENT_TYPE) |                               \
     PROPS_BIT(PROP_RESPONSE_TOPIC) | PROPS_BIT(PROP_CORRELATION_DATA) | PROPS_BIT(PROP_USER))

static uint32_t *field_u32(struct props *props, uint8_t id)
{
    return (uint32_t *)(void *)((char *)props + rows[id].offset);
}

static uint32_t value_u32(const struct props *props, uint8_t id)
{
    return *(const uint32_t *)(const void *)((const char *)props + rows[id].offset);
}

static struct slice *field_slice(struct props *props, uint8_t id)
{
    return (struct slice *)(void *)((char *)props + rows[id].offset);
}

static struct slice value_slice(const struct props *props, uint8_t id)
{
    return *(const struct slice *)(const void *)((const char *)props + rows[id].offset);
}

/* Reads a value that is a number, of any width. */
static bool number_read(struct reader *in, uint8_t type, uint32_t *ret_value)
{
    uint8_t byte;
    uint16_t word;
    switch (type) {
    case TYPE_FLAG:
        if (!read_u8(in, &byte))
            return false;
        *ret_value = byte;
        return true;
    case TYPE_U16:
    case TYPE_COUNT2:
        if (!read_u16(in, &word))
            return false;
        *ret_value = word;
        return true;
    case TYPE_VARINT:
        return read_varint(in, ret_value);
    default:
        return read_u32(in, ret_value);
    }
}

/* Reads one number into its field, unless the property was there before. */
static int number_decode(struct reader *in, uint8_t id, struct props *props, uint8_t *ret_reason)
{
    uint32_t value;
    if (!number_read(in, rows[id].type, &value))
        return ERR_MALFORMED;
    *ret_reason = REASON_PROTOCOL_ERROR;
    if (rows[id].type == TYPE_FLAG && value > 1)
        return ERR_PROTOCOL;
    if ((rows[id].type == TYPE_COUNT2 || rows[id].type == TYPE_COUNT4) && value == 0)
        return ERR_PROTOCOL;
    if (id == PROP_TOPIC_ALIAS && value == 0) {
        *ret_reason = REASON_TOPIC_ALIAS_INVALID; /* [MQTT5-3.3.2-8] */
        return ERR_PROTOCOL;
    }
    if (id == PROP_SUB_ID) {
        if (value == 0)
            return ERR_PROTOCOL;
        if (props->sub_id_count++ > 0)
            return 0; /* the field keeps the first */
    }
    *field_u32(props, id) = value;
    return 0;
}

/* Reads one string, binary or pair; bytes that belong to pairs stay where they are. */
static int bytes_decode(struct reader *in, uint8_t id, struct props *props, uint8_t *ret_reason)
{
    struct slice value;
    if (!read_binary(in, &value))
        return ERR_MALFORMED;
    /* [MQTT5-1.5.4-1] [MQTT5-1.5.4-2]; names among them [MQTT5-3.3.2-13] [MQTT5-3.3.2-19] */
    if (rows[id].type != TYPE_BINARY && !utf8_check(value.bytes, value.size))
        return ERR_MALFORMED;
    if (rows[id].type == TYPE_PAIR) {
        if (!read_binary(in, &value) || !utf8_check(value.bytes, value.size))
            return ERR_MALFORMED; /* [MQTT5-1.5.7-1] */
        props->user_count++;
        return 0;
    }
    if (id == PROP_RESPONSE_TOPIC && topic_name_check(value, TOPIC_NO_LIMIT) < 0) {
        *ret_reason = REASON_PROTOCOL_ERROR; /* [MQTT5-3.3.2-14] */
        return ERR_PROTOCOL;
    }
    *field_slice(props, id) = value;
    return 0;
}

static bool repeatable(uint8_t id, uint8_t packet_type)
{
    return id == PROP_USER || (id == PROP_SUB_ID && packet_type == PACKET_PUBLISH);
}

/* Decodes the block that `in` covers exactly into zeroed *ret. */
static int block_decode(struct reader *in, uint8_t packet_type, struct props *ret,
                        uint8_t *ret_reason)
{
    const uint8_t *const start = in->at;
    while (in->at < in->end) {
        const uint8_t *const at = in->at;
        const uint8_t id = *in->at++;
        *ret_reason = REASON_MALFORMED;
        if (id >= ARRAY_COUNT(rows) || (rows[id].packets & PACKETS_BIT(packet_type)) == 0)
            return ERR_MALFORMED;
        if (PROPS_HAS(ret, id) && !repeatable(id, packet_type)) {
            *ret_reason = REASON_PROTOCOL_ERROR;
            return ERR_PROTOCOL;
        }
        const int err = rows[id].type >= TYPE_STRING ? bytes_decode(in, id, ret, ret_reason)
                                                     : number_decode(in, id, ret, ret_reason);
        if (err < 0)
            return err;
        ret->has |= PROPS_BIT(id);
        if (PROPS_BIT(id) & FORWARDED) {
            if (ret->forward_size == 0)
                ret->forward_begin = (uint32_t)(at - start);
            ret->forward_end = (uint32_t)(in->at - start);
            ret->forward_size += (uint32_t)(in->at - at);
        }
    }
    if (PROPS_HAS(ret, PROP_AUTH_DATA) && !PROPS_HAS(ret, PROP_AUTH_METHOD)) {
        *ret_reason = REASON_PROTOCOL_ERROR;
        return ERR_PROTOCOL;
    }
    return 0;
}

int props_decode(const uint8_t *bytes, size_t size, uint8_t packet_type, struct props *ret,
                 uint8_t *ret_reason)
{
    ASSERT(packet_type <= PACKET_AUTH);
    props_clear(ret);
    if (size > 0 && bytes[0] == 0)
        return 1; /* [MQTT5-2.2.2-1] */

    struct reader in = {.at = bytes, .end = bytes + size};
    uint32_t block_size;
    if (!read_varint(&in, &block_size) || read_left(&in) < block_size) {
        *ret_reason = REASON_MALFORMED;
        return ERR_MALFORMED;
    }
    in.end = in.at + block_size;
    ret->raw = slice_of(in.at, block_size);
    uint8_t reason = 0;
    const int err = block_decode(&in, packet_type, ret, &reason);
    if (err < 0) {
        *ret_reason = reason;
        return err;
    }
    return (int)(in.end - bytes);
}

/* Steps over the property at in->at of a block that was decoded before; returns its identifier. */
static uint8_t prop_skip(struct reader *in)
{
    const uint8_t id = *in->at++;
    ASSERT(id < ARRAY_COUNT(rows) && rows[id].text);
    uint32_t value;
    struct slice slice;
    bool whole;
    if (rows[id].type >= TYPE_STRING) {
        whole = read_binary(in, &slice);
        if (rows[id].type == TYPE_PAIR)
            whole = whole && read_binary(in, &slice);
    } else {
        whole = number_read(in, rows[id].type, &value);
    }
    ASSERT(whole);
    return id;
}

/* Reader at the next property `wanted` at or behind *pos of the received block, and *pos behind
 * that property; false when there is none. */
static bool prop_find(const struct props *props, uint8_t wanted, uint32_t *pos,
                      struct reader *ret_in)
{
    ASSERT(*pos <= props->raw.size);
    struct reader in = reader_of(props->raw);
    in.at += *pos;
    while (in.at < in.end) {
        const uint8_t *const at = in.at;
        if (prop_skip(&in) != wanted)
            continue;
        *pos = (uint32_t)(in.at - props->raw.bytes);
        *ret_in = (struct reader){.at = at + 1, .end = in.at};
        return true;
    }
    return false;
}

bool props_user_next(const struct props *props, uint32_t *pos, struct prop_pair *ret_pair)
{
    struct reader in;
    if (props->user_count == 0 || !prop_find(props, PROP_USER, pos, &in))
        return false;
    return read_binary(&in, &ret_pair->name) && read_binary(&in, &ret_pair->value);
}

bool props_sub_id_next(const struct props *props, uint32_t *pos, uint32_t *ret_id)
{
    struct reader in;
    if (props->sub_id_count == 0 || !prop_find(props, PROP_SUB_ID, pos, &in))
        return false;
    return read_varint(&in, ret_id);
}

int props_forward(const struct props *props, uint8_t *room, size_t room_size,
                  struct slice *ret_forward)
{
    const uint32_t size = props->forward_size;
    if (props->forward_end - props->forward_begin == size) {
        *ret_forward = slice_of(size > 0 ? props->raw.bytes + props->forward_begin : NULL, size);
        return 0;
    }
    if (room_size < size)
        return ERR_FULL;

    struct reader in = reader_of(props->raw);
    uint8_t *out = room;
    while (in.at < in.end) {
        const uint8_t *const at = in.at;
        if (PROPS_BIT(prop_skip(&in)) & FORWARDED)
            out = write_bytes(out, at, (size_t)(in.at - at));
    }
    ASSERT(out == room + size);
    *ret_forward = slice_of(room, size);
    return 0;
}

void props_set_u32(struct props *props, enum prop prop, uint32_t value)
{
    ASSERT(rows[prop].type < TYPE_STRING);
    ASSERT(rows[prop].type != TYPE_FLAG || value <= 1);
    props->has |= PROPS_BIT(prop);
    *field_u32(props, (uint8_t)prop) = value;
}

void props_set_slice(struct props *props, enum prop prop, struct slice value)
{
    ASSERT(rows[prop].type == TYPE_STRING || rows[prop].type == TYPE_BINARY);
    ASSERT(value.size <= UINT16_MAX);
    props->has |= PROPS_BIT(prop);
    *field_slice(props, (uint8_t)prop) = value;
}

static uint32_t user_size(const struct props *props)
{
    struct prop_pair pair;
    uint32_t size = 0;
    for (uint32_t pos = 0; props_user_next(props, &pos, &pair);)
        size += 5 + pair.name.size + pair.value.size;
    return size;
}

static uint32_t prop_size(const struct props *props, uint8_t id)
{
    switch (rows[id].type) {
    case TYPE_FLAG:
        return 2;
    case TYPE_U16:
    case TYPE_COUNT2:
        return 3;
    case TYPE_U32:
    case TYPE_COUNT4:
        return 5;
    case TYPE_VARINT:
        return 1 + varint_size(value_u32(props, id));
    case TYPE_PAIR:
        return user_size(props);
    default:
        return 3 + value_slice(props, id).size;
    }
}

uint32_t props_size(const struct props *props, uint64_t which)
{
    uint32_t size = 0;
    for (uint64_t left = props->has & which; left != 0; left &= left - 1)
        size += prop_size(props, (uint8_t)__builtin_ctzll(left));
    return size;
}

static uint8_t *users_write(const struct props *props, uint8_t *at)
{
    struct prop_pair pair;
    for (uint32_t pos = 0; props_user_next(props, &pos, &pair);) {
        at = write_u8(at, PROP_USER);
        at = write_binary(at, pair.name);
        at = write_binary(at, pair.value);
    }
    return at;
}

static uint8_t *prop_write(const struct props *props, uint8_t id, uint8_t *at)
{
    if (rows[id].type == TYPE_PAIR)
        return users_write(props, at);
    at = write_u8(at, id);
    switch (rows[id].type) {
    case TYPE_FLAG:
        return write_u8(at, (uint8_t)value_u32(props, id));
    case TYPE_U16:
    case TYPE_COUNT2:
        return write_u16(at, value_u32(props, id));
    case TYPE_U32:
    case TYPE_COUNT4:
        return write_u32(at, value_u32(props, id));
    case TYPE_VARINT:
        return write_varint(at, value_u32(props, id));
    default:
        return write_binary(at, value_slice(props, id));
    }
}

uint8_t *props_write(const struct props *props, uint64_t which, uint8_t *bytes)
{
    for (uint64_t left = props->has & which; left != 0; left &= left - 1)
        bytes = prop_write(props, (uint8_t)__builtin_ctzll(left), bytes);
    return bytes;
}

const char *props_text(uint8_t prop)
{
    return prop < ARRAY_COUNT(rows) && rows[prop].text ? rows[prop].text : "unknown property";
}
