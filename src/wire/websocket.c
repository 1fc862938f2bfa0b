/* Frames of clients are masked with four bytes of their choice. Unmasking is the only thing that is
 * done to each byte, so it is done many at a time, and moves them to their place in the same go.
 */
#include "wire/websocket.h"

#include "base/utf8.h"

#include <string.h>

enum { FIN = 0x80, RESERVED = 0x70, OPCODE = 0x0f, MASKED = 0x80, SIZE = 0x7f, SIZE_16 = 126 };
enum { CONTROL_BIT = 8, BLOCK_SIZE = 16 };

typedef uint8_t block __attribute__((vector_size(BLOCK_SIZE)));

void websocket_unmask(uint8_t *to, const uint8_t *from, size_t size, const uint8_t mask[4])
{
    block pattern;
    for (unsigned i = 0; i < BLOCK_SIZE; i++)
        pattern[i] = mask[i % 4];
    size_t i = 0;
    for (; size - i >= 2 * BLOCK_SIZE; i += 2 * BLOCK_SIZE) {
        /* Both are read before one is written: `to` may overlap `from`. */
        block first, second;
        memcpy(&first, from + i, BLOCK_SIZE);
        memcpy(&second, from + i + BLOCK_SIZE, BLOCK_SIZE);
        first ^= pattern;
        second ^= pattern;
        memcpy(to + i, &first, BLOCK_SIZE);
        memcpy(to + i + BLOCK_SIZE, &second, BLOCK_SIZE);
    }
    uint64_t pattern_8, word;
    memcpy(&pattern_8, &pattern, sizeof pattern_8);
    for (; size - i >= sizeof word; i += sizeof word) {
        memcpy(&word, from + i, sizeof word);
        word ^= pattern_8;
        memcpy(to + i, &word, sizeof word);
    }
    for (; i < size; i++)
        to[i] = from[i] ^ mask[i % 4];
}

/* --- reading ---------------------------------------------------------------------------------- */

static int fail(struct websocket_decoder *decoder, uint16_t code, const char *fault)
{
    decoder->code = code;
    decoder->fault = fault;
    return ERR_PROTOCOL;
}

void websocket_init(struct websocket_decoder *decoder, uint64_t frame_max)
{
    *decoder = (struct websocket_decoder){.frame_max = frame_max};
}

/* Bytes that the head takes in all, as far as those that are there tell. */
static uint32_t head_size_of(const uint8_t *head, uint32_t size)
{
    if (size < 2)
        return 2;
    const uint32_t code = head[1] & SIZE;
    return 2u + 4u + (code < SIZE_16 ? 0u : code == SIZE_16 ? 2u : 8u);
}

static uint64_t read_be(const uint8_t *bytes, uint32_t size)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < size; i++)
        value = value << 8 | bytes[i];
    return value;
}

/* What the first two bytes tell already, before the peer sends more of it. */
static int check_first(struct websocket_decoder *decoder, const uint8_t *head)
{
    const uint8_t opcode = head[0] & OPCODE;
    if (head[0] & RESERVED)
        return fail(decoder, WEBSOCKET_PROTOCOL_ERROR, "a reserved bit is set");
    if (!(head[1] & MASKED))
        return fail(decoder, WEBSOCKET_PROTOCOL_ERROR, "a frame of the client is not masked");
    if (opcode & CONTROL_BIT) {
        if (opcode > WEBSOCKET_PONG)
            return fail(decoder, WEBSOCKET_PROTOCOL_ERROR, "a reserved opcode");
        if (!(head[0] & FIN))
            return fail(decoder, WEBSOCKET_PROTOCOL_ERROR, "a control frame is fragmented");
        if ((head[1] & SIZE) > WEBSOCKET_CONTROL_MAX)
            return fail(decoder, WEBSOCKET_PROTOCOL_ERROR,
                        "a control frame has more than 125 bytes");
        return 0;
    }
    if (opcode > WEBSOCKET_BINARY)
        return fail(decoder, WEBSOCKET_PROTOCOL_ERROR, "a reserved opcode");
    if (opcode == WEBSOCKET_TEXT)
        return fail(decoder, WEBSOCKET_UNSUPPORTED, "a text frame; MQTT goes into binary ones");
    if (opcode == WEBSOCKET_CONTINUATION && !decoder->in_message)
        return fail(decoder, WEBSOCKET_PROTOCOL_ERROR, "a continuation of nothing");
    if (opcode == WEBSOCKET_BINARY && decoder->in_message)
        return fail(decoder, WEBSOCKET_PROTOCOL_ERROR, "a new message inside of a fragmented one");
    return 0;
}

/* Takes over a whole head. */
static int begin_frame(struct websocket_decoder *decoder, const uint8_t *head, uint32_t size)
{
    const uint32_t size_bytes = size - 6;
    uint64_t left = head[1] & SIZE;
    if (size_bytes > 0) {
        left = read_be(head + 2, size_bytes);
        if (size_bytes == 2 ? left < SIZE_16 : left <= UINT16_MAX)
            return fail(decoder, WEBSOCKET_PROTOCOL_ERROR,
                        "a length is not written in the shortest way");
        if (left > INT64_MAX)
            return fail(decoder, WEBSOCKET_PROTOCOL_ERROR, "the highest bit of a length is set");
    }
    if (left > decoder->frame_max)
        return fail(decoder, WEBSOCKET_TOO_BIG, "a frame exceeds websocket.max_frame_size");
    decoder->opcode = head[0] & OPCODE;
    if (!(decoder->opcode & CONTROL_BIT))
        decoder->in_message = !(head[0] & FIN);
    memcpy(decoder->mask, head + size - 4, 4);
    decoder->left = left;
    decoder->control_size = 0;
    decoder->in_payload = true;
    return 0;
}

/* Collects the head, which may come in pieces. Returns bytes used, or the error. */
static int take_head(struct websocket_decoder *decoder, const uint8_t *from, uint32_t size)
{
    uint32_t used = 0;
    for (;;) {
        const uint32_t have = decoder->head_size;
        const uint32_t whole = head_size_of(decoder->head, have);
        if (have < whole) {
            const uint32_t part = MIN(whole - have, size - used);
            memcpy(decoder->head + have, from + used, part);
            decoder->head_size = (uint8_t)(have + part);
            used += part;
            if (part < whole - have)
                return (int)used;
        }
        int err = whole == 2 ? check_first(decoder, decoder->head) : 0;
        if (err == 0 && whole > 2) {
            decoder->head_size = 0;
            err = begin_frame(decoder, decoder->head, whole);
        }
        if (err < 0 || whole > 2)
            return err < 0 ? err : (int)used;
    }
}

static void turn_mask(uint8_t mask[4], uint32_t count)
{
    const uint8_t old[4] = {mask[0], mask[1], mask[2], mask[3]};
    for (uint32_t i = 0; i < 4; i++)
        mask[i] = old[(i + count) % 4];
}

/* Unmasks what there is of the payload. Returns its size. */
static uint32_t take_payload(struct websocket_decoder *decoder, uint8_t *to, const uint8_t *from,
                             uint32_t size)
{
    const uint32_t part = (uint32_t)MIN(size, decoder->left);
    websocket_unmask(to, from, part, decoder->mask);
    turn_mask(decoder->mask, part);
    decoder->left -= part;
    return part;
}

int websocket_decode(struct websocket_decoder *decoder, uint8_t *to, const uint8_t *from,
                     uint32_t size, struct websocket_step *ret_step)
{
    *ret_step = (struct websocket_step){0};
    /* An empty frame has its end right behind its head. */
    while (ret_step->used < size || (decoder->in_payload && decoder->left == 0)) {
        const uint8_t *at = from + ret_step->used;
        const uint32_t rest = size - ret_step->used;
        if (!decoder->in_payload) {
            const int used = take_head(decoder, at, rest);
            if (used < 0)
                return used;
            ret_step->used += (uint32_t)used;
            continue;
        }
        if (!(decoder->opcode & CONTROL_BIT)) {
            const uint32_t part = take_payload(decoder, to + ret_step->made, at, rest);
            ret_step->used += part;
            ret_step->made += part;
            decoder->in_payload = decoder->left > 0;
            continue;
        }
        uint8_t *control = decoder->control + decoder->control_size;
        const uint32_t part = take_payload(decoder, control, at, rest);
        ret_step->used += part;
        decoder->control_size = (uint8_t)(decoder->control_size + part);
        if (decoder->left > 0)
            return 0;
        decoder->in_payload = false;
        ret_step->control = decoder->opcode;
        ret_step->payload = slice_of(decoder->control, decoder->control_size);
        return 0;
    }
    return 0;
}

/* Those of RFC 6455, section 7.4, that an endpoint may send, and those registered since. */
static bool is_sendable(uint16_t code)
{
    if (code >= 3000)
        return code <= 4999;
    return code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006;
}

static bool is_utf8(const uint8_t *bytes, uint32_t size)
{
    for (uint32_t i = 0; i < size;) {
        const uint32_t length = utf8_sequence(bytes + i, size - i);
        if (length == 0)
            return false;
        i += length;
    }
    return true;
}

int websocket_close_parse(struct slice payload, uint16_t *ret_code)
{
    uint16_t code = WEBSOCKET_NO_CODE;
    if (payload.size == 1)
        return ERR_PROTOCOL;
    if (payload.size >= 2) {
        code = (uint16_t)read_be(payload.bytes, 2);
        if (!is_sendable(code))
            return ERR_PROTOCOL;
        if (!is_utf8(payload.bytes + 2, payload.size - 2))
            return ERR_MALFORMED;
    }
    *ret_code = code;
    return 0;
}

/* --- writing ---------------------------------------------------------------------------------- */

uint32_t websocket_head_write(uint8_t ret_head[WEBSOCKET_SENT_HEAD_MAX],
                              enum websocket_opcode opcode, uint64_t payload_size)
{
    ret_head[0] = (uint8_t)(FIN | opcode);
    const uint32_t size_bytes = payload_size < SIZE_16 ? 0 : payload_size <= UINT16_MAX ? 2 : 8;
    ret_head[1] = (uint8_t)(size_bytes == 0   ? payload_size
                            : size_bytes == 2 ? SIZE_16
                                              : SIZE_16 + 1);
    for (uint32_t i = 0; i < size_bytes; i++)
        ret_head[2 + i] = (uint8_t)(payload_size >> 8 * (size_bytes - 1 - i));
    return 2 + size_bytes;
}

uint32_t websocket_close_write(uint8_t ret_frame[WEBSOCKET_CLOSE_MAX], uint16_t code,
                               const char *reason)
{
    if (code == WEBSOCKET_NO_CODE)
        return websocket_head_write(ret_frame, WEBSOCKET_CLOSE, 0);
    const uint32_t reason_size = (uint32_t)MIN(strlen(reason), WEBSOCKET_CONTROL_MAX - 2);
    const uint32_t size = websocket_head_write(ret_frame, WEBSOCKET_CLOSE, 2 + reason_size);
    ret_frame[size] = (uint8_t)(code >> 8);
    ret_frame[size + 1] = (uint8_t)code;
    memcpy(ret_frame + size + 2, reason, reason_size);
    return size + 2 + reason_size;
}
