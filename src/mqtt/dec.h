/* What the decoders share: how they fail, and the parts that several packets have. Thread: any. */
#pragma once

#include "mqtt/packets.h"
#include "mqtt/read.h"

static inline int dec_malformed(uint8_t *ret_reason)
{
    *ret_reason = REASON_MALFORMED;
    return ERR_MALFORMED;
}

static inline int dec_protocol(uint8_t reason, uint8_t *ret_reason)
{
    *ret_reason = reason;
    return ERR_PROTOCOL;
}

/* Reads the properties: none in 3.x, where *ret becomes empty. */
static inline int dec_props(struct reader *in, uint8_t version, uint8_t packet_type,
                            struct props *ret, uint8_t *ret_reason)
{
    if (version < MQTT_V5) {
        props_clear(ret);
        return 0;
    }
    const int size = props_decode(in->at, read_left(in), packet_type, ret, ret_reason);
    if (size < 0)
        return size;
    in->at += size;
    return 0;
}

/* Reads a packet identifier, which is never 0. [MQTT3-2.3.1-1] [MQTT5-2.2.1-3] */
static inline int dec_packet_id(struct reader *in, uint16_t *ret_id, uint8_t *ret_reason)
{
    if (!read_u16(in, ret_id))
        return dec_malformed(ret_reason);
    return *ret_id == 0 ? dec_protocol(REASON_PROTOCOL_ERROR, ret_reason) : 0;
}

/* Reads what ends an acknowledgement, a DISCONNECT and an AUTH: nothing (success), a reason code,
 * or a reason code and properties. In 3.x only nothing. [MQTT5-3.4.2-1] [MQTT5-3.5.2-1]
 * [MQTT5-3.6.2-1] [MQTT5-3.7.2-1] [MQTT5-3.14.2-1] [MQTT5-3.15.2-1] */
static inline int dec_outcome(struct reader *in, uint8_t version, uint8_t packet_type,
                              uint8_t *ret_code, struct props *ret_props, uint8_t *ret_reason)
{
    *ret_code = REASON_SUCCESS;
    props_clear(ret_props);
    if (read_left(in) == 0)
        return 0;
    if (version < MQTT_V5 || !read_u8(in, ret_code))
        return dec_malformed(ret_reason);
    if (!reason_allowed(*ret_code, packet_type))
        return dec_protocol(REASON_PROTOCOL_ERROR, ret_reason);
    if (read_left(in) == 0)
        return 0;
    const int err = dec_props(in, version, packet_type, ret_props, ret_reason);
    if (err < 0)
        return err;
    return read_left(in) > 0 ? dec_malformed(ret_reason) : 0;
}
