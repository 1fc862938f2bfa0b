#include "base/utf8.h"
#include "mqtt/dec.h"
#include "mqtt/topic.h"

#include <string.h>

/* Connect flags; the Will QoS is in bits 3 and 4. */
#define FLAG_RESERVED    0x01u
#define FLAG_CLEAN       0x02u
#define FLAG_WILL        0x04u
#define FLAG_WILL_RETAIN 0x20u
#define FLAG_PASSWORD    0x40u
#define FLAG_USERNAME    0x80u

static bool name_is(struct slice name, const char *text)
{
    const size_t size = strlen(text);
    return name.size == size && memcmp(name.bytes, text, size) == 0;
}

/* Reads protocol name and level. On failure too, *ret_version is the version to answer in. */
static int version_read(struct reader *in, uint8_t *ret_version, uint8_t *ret_reason)
{
    struct slice name;
    uint8_t level;
    *ret_version = 0;
    if (!read_binary(in, &name))
        return dec_malformed(ret_reason);
    const bool mqtt = name_is(name, "MQTT");
    if (!mqtt && !name_is(name, "MQIsdp")) /* [MQTT3-3.1.2-1] [MQTT5-3.1.2-1] */
        return dec_protocol(REASON_UNSUPPORTED_VERSION, ret_reason);
    if (!read_u8(in, &level))
        return dec_malformed(ret_reason);
    if (mqtt ? level == MQTT_V311 || level == MQTT_V5 : level == MQTT_V31) {
        *ret_version = level;
        return 0;
    }
    /* A later version most likely understands what 5.0 says; the bridge bit means a 3.x client.
     * [MQTT3-3.1.2-2] [MQTT5-3.1.2-2] */
    *ret_version = mqtt && level > MQTT_V5 && level < 0x80 ? MQTT_V5 : MQTT_V311;
    return dec_protocol(REASON_UNSUPPORTED_VERSION, ret_reason);
}

static int flags_decode(uint8_t flags, struct packet_connect *ret, uint8_t *ret_reason)
{
    const bool strict =
        ret->version > MQTT_V31; /* 3.1 disregards what the Will flag switches off */
    ret->clean_start = (flags & FLAG_CLEAN) != 0;
    ret->has_will = (flags & FLAG_WILL) != 0;
    ret->will_retain = ret->has_will && (flags & FLAG_WILL_RETAIN) != 0;
    ret->will_qos = ret->has_will ? flags >> 3 & 3 : 0;
    ret->has_username = (flags & FLAG_USERNAME) != 0;
    ret->has_password = (flags & FLAG_PASSWORD) != 0;
    if (strict && (flags & FLAG_RESERVED)) /* [MQTT3-3.1.2-3] [MQTT5-3.1.2-3] */
        return dec_malformed(ret_reason);
    if (ret->will_qos == 3) /* [MQTT3-3.1.2-14] [MQTT5-3.1.2-12] */
        return dec_malformed(ret_reason);
    /* [MQTT3-3.1.2-11] [MQTT3-3.1.2-13] [MQTT3-3.1.2-15] [MQTT5-3.1.2-11] [MQTT5-3.1.2-13] */
    if (strict && !ret->has_will && (flags & (FLAG_WILL_RETAIN | 3u << 3)))
        return dec_malformed(ret_reason);
    if (ret->version < MQTT_V5 && ret->has_password && !ret->has_username)
        return dec_malformed(ret_reason); /* [MQTT3-3.1.2-22] */
    return 0;
}

/* [MQTT3-3.1.2-9] [MQTT3-3.1.3-10] [MQTT5-3.1.2-9] [MQTT5-3.1.3-11] */
static int will_read(struct reader *in, struct packet_connect *ret, uint8_t *ret_reason)
{
    const int err = dec_props(in, ret->version, PROPS_PACKET_WILL, &ret->will_props, ret_reason);
    if (err < 0)
        return err;
    if (!read_binary(in, &ret->will_topic) || !read_binary(in, &ret->will_payload))
        return dec_malformed(ret_reason);
    switch (topic_name_check(ret->will_topic, TOPIC_NO_LIMIT)) {
    case 0:
        return 0;
    case ERR_MALFORMED:
        return dec_malformed(ret_reason);
    default:
        return dec_protocol(REASON_TOPIC_INVALID, ret_reason);
    }
}

/* User name and password, as announced by the flags. [MQTT3-3.1.2-18] [MQTT3-3.1.2-19]
 * [MQTT3-3.1.2-20] [MQTT3-3.1.2-21] [MQTT3-3.1.3-11] [MQTT5-3.1.2-16] [MQTT5-3.1.2-17]
 * [MQTT5-3.1.2-18] [MQTT5-3.1.2-19] [MQTT5-3.1.3-12] */
static int credentials_read(struct reader *in, struct packet_connect *ret, uint8_t *ret_reason)
{
    if (ret->version == MQTT_V31) { /* there the length of the packet has precedence */
        ret->has_username = ret->has_username && read_left(in) > 0;
        ret->has_password = ret->has_password && ret->has_username;
    }
    if (ret->has_username &&
        (!read_binary(in, &ret->username) || !utf8_check(ret->username.bytes, ret->username.size)))
        return dec_malformed(ret_reason);
    if (ret->version == MQTT_V31)
        ret->has_password = ret->has_password && read_left(in) > 0;
    if (ret->has_password && !read_binary(in, &ret->password))
        return dec_malformed(ret_reason);
    return 0;
}

/* The payload, in this order: [MQTT3-3.1.3-1] [MQTT5-3.1.3-1] */
static int payload_read(struct reader *in, struct packet_connect *ret, uint8_t *ret_reason)
{
    /* Of any length and any characters. [MQTT3-3.1.3-3] [MQTT3-3.1.3-4] [MQTT3-3.1.3-5]
     * [MQTT5-3.1.3-3] [MQTT5-3.1.3-4] [MQTT5-3.1.3-5] */
    if (!read_binary(in, &ret->client_id) || !utf8_check(ret->client_id.bytes, ret->client_id.size))
        return dec_malformed(ret_reason);
    int err = ret->has_will ? will_read(in, ret, ret_reason) : 0;
    if (err < 0)
        return err;
    err = credentials_read(in, ret, ret_reason);
    if (err < 0)
        return err;
    return read_left(in) > 0 ? dec_malformed(ret_reason) : 0;
}

/* 3.1 has no clients without a name; 3.1.1 only clean ones. [MQTT3-3.1.3-7] [MQTT3-3.1.3-8] */
static bool client_id_missing(const struct packet_connect *packet)
{
    if (packet->client_id.size > 0)
        return false;
    return packet->version == MQTT_V31 || (packet->version == MQTT_V311 && !packet->clean_start);
}

int dec_connect(struct slice body, struct packet_connect *ret, uint8_t *ret_reason)
{
    struct reader in = reader_of(body);
    *ret = (struct packet_connect){0};
    int err = version_read(&in, &ret->version, ret_reason);
    if (err < 0)
        return err;
    uint8_t flags;
    if (!read_u8(&in, &flags))
        return dec_malformed(ret_reason);
    err = flags_decode(flags, ret, ret_reason);
    if (err < 0)
        return err;
    if (!read_u16(&in, &ret->keep_alive_s))
        return dec_malformed(ret_reason);
    err = dec_props(&in, ret->version, PACKET_CONNECT, &ret->props, ret_reason);
    if (err < 0)
        return err;
    err = payload_read(&in, ret, ret_reason);
    if (err < 0)
        return err;
    if (client_id_missing(ret))
        return dec_protocol(REASON_CLIENT_ID_INVALID, ret_reason);
    return 0;
}
