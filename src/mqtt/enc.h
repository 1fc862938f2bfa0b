/* What the encoders of small packets share: one packet as its parts. Thread: any. */
#pragma once

#include "mqtt/encode.h"

struct enc_parts {
    const uint8_t *fixed; /* variable header in front of the properties */
    uint32_t fixed_size;
    bool code_optional;  /* its last byte is a reason code, left out when it is success and nothing
                            follows */
    const uint8_t *tail; /* payload behind them, or NULL */
    uint32_t tail_size;
    const struct props *props; /* NULL = none */
    uint64_t props_never;      /* bits of those that this packet must not carry */
    bool props_written;        /* the property length is there even when it is 0 */
};

/* Writes one packet; leaves out user properties, then the reason string too, when the packet would
 * exceed to->packet_max with them. Returns its size or ERR_FULL. Spec: [MQTT5-3.1.2-24] */
MUST_CHECK int enc_packet(const struct enc_room *to, uint8_t first_byte,
                          const struct enc_parts *parts);
