/* MQTT control packet framing: the fixed header in front of every packet.
 *
 * Pure functions over bytes: no I/O, no allocation, any thread. A connection parses the head first,
 * waits for the whole frame, then hands the body to the decoder of that packet type (packets.h).
 */
#pragma once

#include "base/base.h"

/* Largest value four length bytes can hold, and the largest whole packet that follows from it. */
#define FRAME_REMAINING_MAX 268435455u
#define FRAME_PACKET_MAX    (FRAME_REMAINING_MAX + 5u)
#define FRAME_HEAD_MAX      5u

enum packet_type {
    PACKET_CONNECT = 1,
    PACKET_CONNACK = 2,
    PACKET_PUBLISH = 3,
    PACKET_PUBACK = 4,
    PACKET_PUBREC = 5,
    PACKET_PUBREL = 6,
    PACKET_PUBCOMP = 7,
    PACKET_SUBSCRIBE = 8,
    PACKET_SUBACK = 9,
    PACKET_UNSUBSCRIBE = 10,
    PACKET_UNSUBACK = 11,
    PACKET_PINGREQ = 12,
    PACKET_PINGRESP = 13,
    PACKET_DISCONNECT = 14,
    PACKET_AUTH = 15,
};

/* Protocol levels as CONNECT states them; `version` means one of these everywhere. */
enum mqtt_version { MQTT_V31 = 3, MQTT_V311 = 4, MQTT_V5 = 5 };

struct frame_head {
    uint8_t type;            /* enum packet_type */
    uint8_t flags;           /* low four bits of the first byte */
    uint8_t head_size;       /* bytes the fixed header takes, 2..5 */
    uint32_t remaining_size; /* bytes after the fixed header */
};

/* Parses the fixed header at the start of `bytes`.
 *
 * bytes      `size` bytes received; borrowed for the call.
 * size_max   largest whole packet accepted, header included, in bytes.
 * version    protocol level of the connection; 0 before its CONNECT was decoded.
 * ret_head   set only when 0 is returned.
 *
 * Returns 0; ERR_AGAIN: more bytes needed; ERR_PROTOCOL: the first packet is not a CONNECT;
 * ERR_MALFORMED: reserved type or flags (3.1 allows DUP on its acknowledged packets), a fifth
 * length byte or an overlong length; ERR_FULL: larger than size_max. A failure is seen with the
 * first byte that shows it. Thread: any. Spec: [MQTT3-2.2.2-1] [MQTT3-2.2.2-2] [MQTT3-3.1.0-1]
 * [MQTT3-3.6.1-1] [MQTT3-3.8.1-1] [MQTT3-3.10.1-1] [MQTT3-3.14.1-1] [MQTT5-1.5.5-1] [MQTT5-2.1.3-1]
 * [MQTT5-3.1.0-1] [MQTT5-3.6.1-1] [MQTT5-3.8.1-1] [MQTT5-3.10.1-1] [MQTT5-3.14.1-1]
 * [MQTT5-3.15.1-1]
 */
MUST_CHECK int frame_parse(const uint8_t *bytes, size_t size, uint32_t size_max, uint8_t version,
                           struct frame_head *ret_head);
