/* Encoders of the packets a server sends. Each writes one whole packet (or the head of a PUBLISH)
 * into the caller's room and returns its size in bytes, or ERR_FULL: the room is too small, or the
 * packet would exceed the client's Maximum Packet Size even without the parts that may be left out
 * (reason string and user properties). Nothing is kept. Thread: any.
 */
#pragma once

#include "mqtt/frame.h"
#include "mqtt/props.h"
#include "mqtt/reason.h"

/* Where to encode, and for whom. */
struct enc_room {
    uint8_t *bytes;
    uint32_t size;
    uint32_t packet_max; /* the client's Maximum Packet Size; 0 = none */
    uint8_t version;     /* enum mqtt_version */
};

/* Bytes that any packet without props fits in; SUBACK and UNSUBACK take their codes on top. */
#define ENC_SMALL 16u

/* CONNACK. reason: the v5 code, mapped for 3.x; props: NULL = none, ignored in 3.x. Session Present
 * is sent only with success, and not to 3.1. ERR_INVALID when 3.x has no return code for the
 * reason: close without an answer. For a CONNECT that dec_connect refused take the version it left.
 * Spec: [MQTT3-3.2.2-4] [MQTT3-3.2.2-6] [MQTT5-3.2.2-6] [MQTT5-3.2.2-19] [MQTT5-3.2.2-20] */
MUST_CHECK int enc_connack(const struct enc_room *to, bool session_present, uint8_t reason,
                           const struct props *props);

/* PUBACK, PUBREC, PUBREL, PUBCOMP; props NULL = none; reason and props are left out for 3.x. */
MUST_CHECK int enc_ack(const struct enc_room *to, uint8_t packet_type, uint16_t packet_id,
                       uint8_t reason, const struct props *props);

/* The same with success and no properties, in all versions: exactly four bytes. */
static inline void enc_ack_plain(uint8_t bytes[4], uint8_t packet_type, uint16_t packet_id)
{
    bytes[0] = (uint8_t)(packet_type << 4 | (packet_type == PACKET_PUBREL ? 2 : 0));
    bytes[1] = 2;
    bytes[2] = (uint8_t)(packet_id >> 8);
    bytes[3] = (uint8_t)packet_id;
}

/* SUBACK with `count` codes (granted QoS, or a v5 reason code: 0x80 for 3.x). */
MUST_CHECK int enc_suback(const struct enc_room *to, uint16_t packet_id, const uint8_t *codes,
                          uint32_t count, const struct props *props);

/* UNSUBACK; the codes are left out for 3.x. */
MUST_CHECK int enc_unsuback(const struct enc_room *to, uint16_t packet_id, const uint8_t *codes,
                            uint32_t count, const struct props *props);

/* DISCONNECT and AUTH, v5 only: ERR_INVALID for 3.x. */
MUST_CHECK int enc_disconnect(const struct enc_room *to, uint8_t reason, const struct props *props);
MUST_CHECK int enc_auth(const struct enc_room *to, uint8_t reason, const struct props *props);

/* PINGRESP, all versions. */
MUST_CHECK int enc_pingresp(const struct enc_room *to);

/* What goes in front of a payload. */
struct enc_publish {
    uint8_t version; /* in 3.x everything from topic_alias on is ignored, but payload_size */
    uint8_t qos;
    bool dup, retain;
    uint16_t packet_id; /* at QoS 1 and 2, not 0 */
    struct slice topic; /* empty when the alias alone names it */
    uint32_t payload_size;
    uint16_t topic_alias; /* 0 = none */
    bool has_expiry;
    uint32_t expiry_s;     /* what is left of the Message Expiry Interval */
    uint32_t sub_id_count; /* subscription identifiers of all matching subscriptions */
    const uint32_t *sub_ids;
    struct slice forward; /* from props_forward; sent as it is */
};

/* Returns the size in bytes of the whole packet, payload included (more than FRAME_PACKET_MAX when
 * MQTT cannot carry it), to compare with the client's Maximum Packet Size. Spec: [MQTT5-3.1.2-24]
 */
uint64_t enc_publish_size(const struct enc_publish *publish);

/* Writes fixed header, topic, packet ID and properties; the payload is to follow. Returns their
 * size or ERR_FULL: no room, or MQTT cannot carry it. */
MUST_CHECK int enc_publish_head(const struct enc_publish *publish, uint8_t *bytes, size_t room);

/* Where in the packet the packet ID is; qos > 0. */
uint32_t enc_publish_id_at(const struct enc_publish *publish);

/* Room that enc_publish_head needs at most. */
static inline size_t enc_publish_room(const struct enc_publish *publish)
{
    return 32u + publish->topic.size + publish->forward.size + 5u * (size_t)publish->sub_id_count;
}
