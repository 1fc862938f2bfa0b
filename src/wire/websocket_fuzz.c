/* Fuzz target: frames, decoded in place in pieces, against a model that sees all of them at once.
 *
 * Input: one byte of how large the pieces are, then what a client sends. Both must give the same
 * bytes, the same control frames and the same verdict.
 */
#include "wire/websocket.h"

#include "base/mem.h"

#include <string.h>

enum { FRAME_MAX = 100000, INPUT_MAX = 1 << 18 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* What came out: payloads of messages, and control frames as opcode, size, payload. */
struct outcome {
    uint8_t *bytes;
    size_t size;
    uint8_t *controls;
    size_t controls_size;
    uint16_t code; /* 0: no fault */
};

static void outcome_init(struct outcome *outcome, size_t room)
{
    *outcome = (struct outcome){.bytes = mem_try_alloc(room), .controls = mem_try_alloc(room)};
    ASSERT(outcome->bytes != NULL);
    ASSERT(outcome->controls != NULL);
}

static void outcome_done(struct outcome *outcome)
{
    mem_free(outcome->bytes);
    mem_free(outcome->controls);
}

static void add_control(struct outcome *outcome, uint8_t opcode, const uint8_t *payload,
                        size_t size)
{
    outcome->controls[outcome->controls_size++] = opcode;
    outcome->controls[outcome->controls_size++] = (uint8_t)size;
    memcpy(outcome->controls + outcome->controls_size, payload, size);
    outcome->controls_size += size;
    uint16_t code = 0;
    const int err = websocket_close_parse(slice_of(payload, size), &code);
    ASSERT((err == 0) == (code != 0));
}

/* --- the model -------------------------------------------------------------------------------- */

/* The verdict on the first two bytes: 0, or the code. */
static uint16_t model_judge(uint8_t first, uint8_t second, bool in_message)
{
    const uint8_t opcode = first & 15;
    const bool fin = first & 128, control = opcode >= 8;
    if ((first & 0x70) || !(second & 128) || (opcode > 2 && opcode < 8) || opcode > 10)
        return WEBSOCKET_PROTOCOL_ERROR;
    if (control)
        return !fin || (second & 127) > 125 ? WEBSOCKET_PROTOCOL_ERROR : 0;
    if (opcode == WEBSOCKET_TEXT)
        return WEBSOCKET_UNSUPPORTED;
    return (opcode == WEBSOCKET_CONTINUATION) != in_message ? WEBSOCKET_PROTOCOL_ERROR : 0;
}

/* Reads the length at `at`; false: there are not enough bytes. */
static bool model_length(const uint8_t *bytes, size_t size, size_t *at, uint64_t *ret_length,
                         uint16_t *ret_code)
{
    const uint8_t code = bytes[*at + 1] & 127;
    const size_t extra = code < 126 ? 0 : code == 126 ? 2 : 8;
    if (size - *at < 2 + extra + 4)
        return false;
    uint64_t length = extra ? 0 : code;
    for (size_t i = 0; i < extra; i++)
        length = length * 256 + bytes[*at + 2 + i];
    const uint64_t least = extra == 0 ? 0 : extra == 2 ? 126 : 65536;
    *ret_code = length < least || length >> 63 ? WEBSOCKET_PROTOCOL_ERROR
                : length > FRAME_MAX           ? WEBSOCKET_TOO_BIG
                                               : 0;
    *ret_length = length;
    *at += 2 + extra;
    return true;
}

static void model(const uint8_t *bytes, size_t size, struct outcome *outcome)
{
    bool in_message = false;
    size_t at = 0;
    while (size - at >= 2) {
        const uint8_t first = bytes[at], opcode = first & 15;
        uint64_t length = 0;
        outcome->code = model_judge(first, bytes[at + 1], in_message);
        if (outcome->code || !model_length(bytes, size, &at, &length, &outcome->code) ||
            outcome->code)
            return;
        const uint8_t *mask = bytes + at;
        at += 4;
        const size_t part = MIN(length, size - at);
        uint8_t control[WEBSOCKET_CONTROL_MAX];
        uint8_t *to = opcode >= 8 ? control : outcome->bytes + outcome->size;
        for (size_t i = 0; i < part; i++)
            to[i] = bytes[at + i] ^ mask[i & 3];
        at += part;
        if (opcode < 8) {
            outcome->size += part;
            in_message = !(first & 128);
        } else if (part == length) {
            add_control(outcome, opcode, control, part);
        }
    }
}

/* --- the decoder ------------------------------------------------------------------------------ */

static bool decode(struct websocket_decoder *decoder, const uint8_t *piece, uint32_t size,
                   struct outcome *outcome)
{
    uint8_t *bytes = mem_try_alloc(size);
    ASSERT(bytes != NULL);
    memcpy(bytes, piece, size);
    uint32_t used = 0, made = 0;
    int err = 0;
    while (err == 0 && used < size) {
        struct websocket_step step;
        err = websocket_decode(decoder, bytes + made, bytes + used, size - used, &step);
        ASSERT(step.used > 0 || err < 0);
        used += step.used;
        made += step.made;
        ASSERT(made <= used);
        ASSERT(used <= size);
        if (step.control)
            add_control(outcome, step.control, step.payload.bytes, step.payload.size);
    }
    memcpy(outcome->bytes + outcome->size, bytes, made);
    outcome->size += made;
    mem_free(bytes);
    if (err < 0) {
        ASSERT(err == ERR_PROTOCOL);
        ASSERT(decoder->fault != NULL);
        outcome->code = decoder->code;
    }
    return err == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size < 2 || size > INPUT_MAX)
        return 0;
    const size_t piece = bytes[0] == 0 ? size : bytes[0];
    struct outcome wanted, got;
    outcome_init(&wanted, size);
    outcome_init(&got, size);
    model(bytes + 1, size - 1, &wanted);
    struct websocket_decoder decoder;
    websocket_init(&decoder, FRAME_MAX);
    for (size_t at = 1; at < size; at += piece) {
        if (!decode(&decoder, bytes + at, (uint32_t)MIN(piece, size - at), &got))
            break;
    }
    ASSERT(got.code == wanted.code);
    ASSERT(got.size == wanted.size);
    ASSERT(memcmp(got.bytes, wanted.bytes, got.size) == 0);
    ASSERT(got.controls_size == wanted.controls_size);
    ASSERT(memcmp(got.controls, wanted.controls, got.controls_size) == 0);
    outcome_done(&wanted);
    outcome_done(&got);
    return 0;
}
