/* Properties of MQTT 5.0 packets: one table (props.def), one struct, no allocation.
 *
 * A decoded property block keeps numbers as values and everything else as slices of the block. A
 * field whose bit in `has` is clear is zero. Properties that may occur many times (user properties,
 * subscription identifiers) stay in the block and are iterated.
 *
 * Cost: one pass over the block. Thread: any.
 */
#pragma once

#include "base/base.h"
#include "base/buf.h"
#include "mqtt/frame.h"

#include <string.h>

/* Bits of the `packets` column of props.def and reason.def. */
#define PACKETS_WILL                            1u /* the Will properties inside CONNECT */
#define PACKETS_BIT(packet_type)                (1u << (packet_type))

#define X(name, id, type, field, text, packets) name = id,
enum prop {
#include "mqtt/props.def"
};
#undef X

#define PROPS_BIT(prop)    (1ull << (prop))
#define PROPS_HAS(p, prop) (((p)->has & PROPS_BIT(prop)) != 0)
#define PROPS_PACKET_WILL  0u /* stands for the Will properties where a packet type is asked */

struct props {
    uint64_t has; /* bit PROP_x: the property is present */

    uint32_t payload_format; /* 0 or 1 */
    uint32_t message_expiry_s;
    uint32_t session_expiry_s; /* UINT32_MAX = never */
    uint32_t will_delay_s;
    uint32_t server_keep_alive_s;
    uint32_t receive_max;     /* never 0 when present */
    uint32_t max_packet_size; /* bytes; never 0 when present */
    uint32_t topic_alias_max;
    uint32_t topic_alias;      /* never 0 when present */
    uint32_t sub_id;           /* the first one, 1..268435455; others: props_sub_id_next */
    uint32_t request_problem;  /* 0 or 1; absent means 1 */
    uint32_t request_response; /* 0 or 1 */
    uint32_t max_qos;          /* these five: 0 or 1, absent means yes */
    uint32_t retain_available;
    uint32_t wildcard_available;
    uint32_t sub_id_available;
    uint32_t shared_available;

    struct slice content_type;
    struct slice response_topic;
    struct slice correlation_data;
    struct slice reason_string;
    struct slice auth_method;
    struct slice auth_data;
    struct slice assigned_client_id;
    struct slice response_info;
    struct slice server_reference;

    struct slice raw; /* the whole received block without its length */
    uint32_t user_count;
    uint32_t sub_id_count;
    uint32_t forward_size; /* bytes of the properties a subscriber must get, and their extent */
    uint32_t forward_begin, forward_end;
};

/* Makes *props empty. The size is hidden from the compiler, which would clear so large a struct
 * with `rep stos`: 26 ns instead of 10 for each packet decoded. */
static inline void props_clear(struct props *props)
{
    size_t size = sizeof *props;
    __asm__("" : "+r"(size));
    memset(props, 0, size);
}

struct prop_pair {
    struct slice name, value;
};

/* Decodes the property length and the block at the start of `bytes`.
 *
 * bytes        `size` bytes of the packet from the length on; slices in *ret borrow them.
 * packet_type  enum packet_type, or PROPS_PACKET_WILL.
 * ret          undefined after a failure; ret_reason: set only then, to the v5 reason code.
 *
 * Returns the bytes read (length included, > 0); ERR_MALFORMED: cut short, an unknown identifier or
 * one not for this packet, bad UTF-8; ERR_PROTOCOL: a property twice, or a value out of range.
 * Spec: [MQTT5-1.5.4-1] [MQTT5-1.5.4-2] [MQTT5-1.5.5-1] [MQTT5-2.2.2-1] [MQTT5-3.3.2-8]
 * [MQTT5-3.3.2-13] [MQTT5-3.3.2-14] [MQTT5-3.3.2-19]
 */
MUST_CHECK int props_decode(const uint8_t *bytes, size_t size, uint8_t packet_type,
                            struct props *ret, uint8_t *ret_reason);

/* Walks the user properties in the order received: start with *pos = 0; false at the end.
 * Spec: [MQTT5-3.1.3-10] [MQTT5-3.3.2-18] */
bool props_user_next(const struct props *props, uint32_t *pos, struct prop_pair *ret_pair);

/* Walks the subscription identifiers of a received block, likewise. */
bool props_sub_id_next(const struct props *props, uint32_t *pos, uint32_t *ret_id);

/* Returns the encoded properties of a PUBLISH or Will that every subscriber must get unaltered and
 * in order: payload format, content type, response topic, correlation data, user properties.
 *
 * ret_forward borrows the received block when these lie together there; otherwise they are copied
 * into `room` (props->forward_size bytes are enough) and it borrows that.
 *
 * Returns 0 or ERR_FULL: a copy is needed and room_size is too small.
 * Spec: [MQTT5-3.3.2-4] [MQTT5-3.3.2-15] [MQTT5-3.3.2-16] [MQTT5-3.3.2-17] [MQTT5-3.3.2-18]
 * [MQTT5-3.3.2-20]
 */
MUST_CHECK int props_forward(const struct props *props, uint8_t *room, size_t room_size,
                             struct slice *ret_forward);

/* Sets one property for an encoder. The slice is borrowed until then. */
void props_set_u32(struct props *props, enum prop prop, uint32_t value);
void props_set_slice(struct props *props, enum prop prop, struct slice value);

/* Returns the bytes that the properties in the mask `which` take when encoded, without the length
 * of the block. Spec: [MQTT5-2.2.2-1] */
uint32_t props_size(const struct props *props, uint64_t which);

/* Encodes those, without the length of the block, into props_size() bytes; returns their end. User
 * properties are those of the received block. */
uint8_t *props_write(const struct props *props, uint64_t which, uint8_t *bytes);

/* Returns the specification's name of a property ("unknown property" for others); static. */
const char *props_text(uint8_t prop);
