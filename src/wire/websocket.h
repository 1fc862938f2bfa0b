/* WebSocket frames as a server reads and writes them (RFC 6455, section 5): the rules, and nothing
 * else. No memory is kept beyond the decoder, no extension is known.
 *
 * The decoder is fed with bytes cut anywhere. It takes the payload of binary messages out of them
 * in place: what it wrote lies before what it has not read. A message has no meaning here beyond
 * its bytes, so fragments and frames leave no trace. [MQTT3-6.0.0-2] [MQTT5-6.0.0-2]
 *
 * Thread: owner.
 */
#pragma once

#include "base/buf.h"

#define WEBSOCKET_HEAD_MAX      14u  /* of a client's frame, mask included */
#define WEBSOCKET_SENT_HEAD_MAX 10u  /* of a server's */
#define WEBSOCKET_CONTROL_MAX   125u /* payload of a control frame */
#define WEBSOCKET_CLOSE_MAX     (2u + WEBSOCKET_CONTROL_MAX) /* a whole control frame, sent */

enum websocket_opcode {
    WEBSOCKET_CONTINUATION = 0,
    WEBSOCKET_TEXT = 1,
    WEBSOCKET_BINARY = 2,
    WEBSOCKET_CLOSE = 8,
    WEBSOCKET_PING = 9,
    WEBSOCKET_PONG = 10,
};

/* Codes of close frames that are of use here. */
enum websocket_code {
    WEBSOCKET_NORMAL = 1000,
    WEBSOCKET_PROTOCOL_ERROR = 1002,
    WEBSOCKET_UNSUPPORTED = 1003,
    WEBSOCKET_NO_CODE = 1005, /* never sent: a close frame without one */
    WEBSOCKET_INVALID_PAYLOAD = 1007,
    WEBSOCKET_TOO_BIG = 1009,
};

struct websocket_decoder {
    uint64_t frame_max; /* most bytes of payload in one frame; set by websocket_init */
    /* What rule was broken, after an error. */
    const char *fault; /* constant text */
    uint16_t code;     /* enum websocket_code */

    /* The decoder's. */
    bool in_payload; /* false: the head of a frame is next */
    bool in_message; /* a message has begun whose last frame has not */
    uint8_t opcode;
    uint8_t mask[4]; /* turned, so that the next byte goes with mask[0] */
    uint8_t head[WEBSOCKET_HEAD_MAX];
    uint8_t head_size;
    uint8_t control_size;
    uint8_t control[WEBSOCKET_CONTROL_MAX];
    uint64_t left; /* bytes of payload to come */
};

/* What one step of decoding came to. */
struct websocket_step {
    uint32_t used;        /* bytes of the input that are done with */
    uint32_t made;        /* bytes of messages that were written */
    uint8_t control;      /* a control frame that ended the step (its opcode), or 0 */
    struct slice payload; /* of that frame; borrowed until the next step */
};

void websocket_init(struct websocket_decoder *decoder, uint64_t frame_max);

/* Decodes until the input is used up or a control frame is whole. `to` may be `from`, or lie before
 * it, also overlapping; it has room for `size` bytes.
 * Returns 0, or ERR_PROTOCOL with fault and code in the decoder, which cannot go on; then ret_step
 * tells what was decoded before.
 * Spec: [MQTT3-6.0.0-1] [MQTT5-6.0.0-1] */
MUST_CHECK int websocket_decode(struct websocket_decoder *decoder, uint8_t *to, const uint8_t *from,
                                uint32_t size, struct websocket_step *ret_step);

/* Checks the payload of a close frame. ret_code: the code in it, WEBSOCKET_NO_CODE when it is
 * empty. Returns 0; ERR_PROTOCOL: half a code, or one that must not be sent; ERR_MALFORMED: the
 * reason behind it is not UTF-8. */
MUST_CHECK int websocket_close_parse(struct slice payload, uint16_t *ret_code);

/* XORs `size` bytes with the mask, whose first byte goes with the first of them. `to` may be `from`
 * or lie before it. */
void websocket_unmask(uint8_t *to, const uint8_t *from, size_t size, const uint8_t mask[4]);

/* Writes the head of a whole, unmasked frame; returns its size. */
uint32_t websocket_head_write(uint8_t ret_head[WEBSOCKET_SENT_HEAD_MAX],
                              enum websocket_opcode opcode, uint64_t payload_size);
/* Writes a whole close frame; returns its size. code: WEBSOCKET_NO_CODE = an empty one. reason: cut
 * to what fits; "" = none. */
uint32_t websocket_close_write(uint8_t ret_frame[WEBSOCKET_CLOSE_MAX], uint16_t code,
                               const char *reason);
