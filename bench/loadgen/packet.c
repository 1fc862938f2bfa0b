#include "packet.h"
#include <string.h>

static void add_u8(struct bytes *out, unsigned value)
{
    const uint8_t byte = (uint8_t)value;
    bytes_append(out, &byte, 1);
}

static void add_u16(struct bytes *out, unsigned value)
{
    bytes_append(out, (uint8_t[]){(uint8_t)(value >> 8), (uint8_t)value}, 2);
}

static void add_u32(struct bytes *out, uint32_t value)
{
    add_u16(out, value >> 16);
    add_u16(out, value & 0xFFFFU);
}

static void add_string(struct bytes *out, const char *text)
{
    const size_t size = strlen(text);
    add_u16(out, (unsigned)size);
    bytes_append(out, text, size);
}

static void add_head(struct bytes *out, unsigned first, size_t body_size)
{
    add_u8(out, first);
    do {
        const unsigned low = (unsigned)(body_size & 0x7F);
        body_size >>= 7;
        add_u8(out, low | (body_size > 0 ? 0x80U : 0U));
    } while (body_size > 0);
}

static uint16_t get_u16(const uint8_t *data)
{
    return (uint16_t)(data[0] << 8 | data[1]);
}

static int get_varint(const uint8_t *data, size_t size, size_t *ret_used, size_t *ret_value)
{
    size_t value = 0;
    for (size_t i = 0; i < 4; i++) {
        if (i >= size)
            return 0;
        value |= (size_t)(data[i] & 0x7F) << (7 * i);
        if ((data[i] & 0x80) == 0) {
            *ret_used = i + 1;
            *ret_value = value;
            return 1;
        }
    }
    return -1;
}

void packet_add_connect(struct bytes *out, const struct packet_login *login)
{
    const bool expires = login->version == 5 && login->session_expiry_s > 0;
    size_t size = 10 + 2 + strlen(login->client_id);
    size += login->version == 5 ? (expires ? 6U : 1U) : 0U;
    size += login->username != NULL ? 2 + strlen(login->username) : 0;
    size += login->password != NULL ? 2 + strlen(login->password) : 0;

    add_head(out, PACKET_CONNECT << 4, size);
    add_string(out, "MQTT");
    add_u8(out, login->version);
    add_u8(out, (login->username != NULL ? 0x80U : 0U) | (login->password != NULL ? 0x40U : 0U) |
                    (login->clean ? 0x02U : 0U));
    add_u16(out, login->keep_alive_s);
    if (expires) {
        add_u8(out, 5);
        add_u8(out, 0x11);
        add_u32(out, login->session_expiry_s);
    } else if (login->version == 5) {
        add_u8(out, 0);
    }
    add_string(out, login->client_id);
    if (login->username != NULL)
        add_string(out, login->username);
    if (login->password != NULL)
        add_string(out, login->password);
}

void packet_add_filter(struct bytes *filters, const char *filter, uint32_t qos)
{
    add_string(filters, filter);
    add_u8(filters, qos);
}

void packet_add_subscribe(struct bytes *out, uint32_t version, const struct bytes *filters)
{
    add_head(out, PACKET_SUBSCRIBE << 4 | 2, 2U + (version == 5) + bytes_size(filters));
    add_u16(out, 1);
    if (version == 5)
        add_u8(out, 0);
    bytes_append(out, filters->data + filters->start, bytes_size(filters));
}

void packet_add_disconnect(struct bytes *out)
{
    add_head(out, PACKET_DISCONNECT << 4, 0);
}

void packet_add_ack(struct bytes *out, enum packet_type type, uint16_t id)
{
    const unsigned first = (unsigned)type << 4 | (type == PACKET_PUBREL ? 2U : 0U);
    bytes_append(out, (uint8_t[]){(uint8_t)first, 2, (uint8_t)(id >> 8), (uint8_t)id}, 4);
}

/* Appends the topic with room for a number in place of each '*'. */
static void add_topic(struct packet_template *template, const char *topic, size_t size)
{
    struct bytes *out = &template->bytes;
    add_u16(out, (unsigned)size);
    for (const char *at = topic; *at != '\0'; at++) {
        if (*at != '*') {
            add_u8(out, (unsigned char)*at);
            continue;
        }
        template->number_offsets[template->number_count++] = out->end;
        memset(bytes_reserve(out, PACKET_NUMBER_DIGITS), '0', PACKET_NUMBER_DIGITS);
        out->end += PACKET_NUMBER_DIGITS;
    }
}

void packet_make_template(struct packet_template *ret_template,
                          const struct packet_message *message)
{
    struct bytes *out = &ret_template->bytes;
    const bool has_properties = message->version == 5;
    const size_t id_size = message->qos > 0 ? 2 : 0;
    size_t topic_size = 0;
    for (const char *at = message->topic; *at != '\0'; at++)
        topic_size += *at == '*' ? PACKET_NUMBER_DIGITS : 1;
    add_head(out, PACKET_PUBLISH << 4 | message->qos << 1 | message->retain,
             2 + topic_size + id_size + has_properties + message->payload_size);
    add_topic(ret_template, message->topic, topic_size);
    ret_template->id_offset = message->qos > 0 ? out->end : 0;
    if (message->qos > 0)
        add_u16(out, 0);
    if (has_properties)
        add_u8(out, 0);
    ret_template->stamp_offset = out->end;
    memset(bytes_reserve(out, message->payload_size), 'x', message->payload_size);
    out->end += message->payload_size;
}

void packet_set_number(const struct packet_template *template, uint8_t *copy, uint32_t number)
{
    uint8_t digits[PACKET_NUMBER_DIGITS];
    for (size_t i = PACKET_NUMBER_DIGITS; i-- > 0; number /= 10)
        digits[i] = (uint8_t)('0' + number % 10);
    for (uint32_t i = 0; i < template->number_count; i++)
        memcpy(copy + template->number_offsets[i], digits, sizeof digits);
}

int packet_parse_head(const uint8_t *data, size_t size, size_t *ret_head_size,
                      size_t *ret_body_size)
{
    if (size < 2)
        return 0;
    size_t used;
    const int found = get_varint(data + 1, size - 1, &used, ret_body_size);
    if (found > 0)
        *ret_head_size = 1 + used;
    return found;
}

/* Steps over the properties at `*at`. */
static bool skip_properties(const uint8_t *body, size_t size, size_t *at)
{
    size_t used;
    size_t props_size;
    if (get_varint(body + *at, size - *at, &used, &props_size) <= 0)
        return false;
    if (size - *at - used < props_size)
        return false;
    *at += used + props_size;
    return true;
}

bool packet_parse_publish(uint32_t version, uint8_t first, const uint8_t *body, size_t size,
                          struct packet_publish *ret_publish)
{
    const uint8_t qos = (first >> 1) & 3;
    if (qos == 3 || size < 2)
        return false;
    size_t at = 2U + get_u16(body);
    if (size < at + (qos > 0 ? 2U : 0U))
        return false;
    const uint16_t id = qos > 0 ? get_u16(body + at) : 0;
    at += qos > 0 ? 2U : 0U;
    if (version == 5 && !skip_properties(body, size, &at))
        return false;
    *ret_publish = (struct packet_publish){
        .qos = qos, .id = id, .payload = body + at, .payload_size = size - at};
    return true;
}

/* Returns the size of the value of a CONNACK property; 0 when unknown or cut off. */
static size_t connack_property_size(uint8_t id, const uint8_t *value, size_t size)
{
    size_t needed = 0;
    switch (id) {
    case 0x24: /* maximum QoS */
    case 0x25: /* retain available */
    case 0x28: /* wildcards available */
    case 0x29: /* subscription identifiers available */
    case 0x2A: /* shared subscriptions available */
        needed = 1;
        break;
    case 0x13: /* server keep alive */
    case 0x21: /* receive maximum */
    case 0x22: /* topic alias maximum */
        needed = 2;
        break;
    case 0x11: /* session expiry */
    case 0x27: /* maximum packet size */
        needed = 4;
        break;
    case 0x12: /* assigned client identifier */
    case 0x15: /* authentication method */
    case 0x16: /* authentication data */
    case 0x1A: /* response information */
    case 0x1C: /* server reference */
    case 0x1F: /* reason string */
        needed = size >= 2 ? 2U + get_u16(value) : 0;
        break;
    case 0x26: /* user property */
        needed = size >= 2 ? 2U + get_u16(value) : 0;
        needed = needed > 0 && size >= needed + 2 ? needed + 2 + get_u16(value + needed) : 0;
        break;
    default:
        break;
    }
    return needed <= size ? needed : 0;
}

bool packet_parse_connack(uint32_t version, const uint8_t *body, size_t size,
                          struct packet_connack *ret_connack)
{
    if (size < 2)
        return false;
    struct packet_connack connack = {
        .session_present = (body[0] & 1) != 0, .code = body[1], .receive_max = UINT16_MAX};
    size_t used;
    size_t props_size;
    if (version == 5 && get_varint(body + 2, size - 2, &used, &props_size) > 0) {
        size_t at = 2 + used;
        if (size - at < props_size)
            return false;
        const size_t end = at + props_size;
        while (at < end) {
            const size_t value_size = connack_property_size(body[at], body + at + 1, end - at - 1);
            if (value_size == 0)
                return false;
            if (body[at] == 0x21)
                connack.receive_max = get_u16(body + at + 1);
            at += 1 + value_size;
        }
    }
    *ret_connack = connack;
    return true;
}

bool packet_parse_ack(const uint8_t *body, size_t size, uint16_t *ret_id, uint8_t *ret_code)
{
    if (size < 2)
        return false;
    *ret_id = get_u16(body);
    *ret_code = size > 2 ? body[2] : 0;
    return true;
}

bool packet_parse_suback(uint32_t version, const uint8_t *body, size_t size,
                         const uint8_t **ret_codes, size_t *ret_count)
{
    size_t at = 2;
    if (size < 3 || (version == 5 && !skip_properties(body, size, &at)) || at >= size)
        return false;
    *ret_codes = body + at;
    *ret_count = size - at;
    return true;
}
