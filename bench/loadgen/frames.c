#include "frames.h"
#include <string.h>

enum { BINARY = 0x82, OPCODE = 0x0f, MASKED = 0x80, SIZE_16 = 126, SIZE_64 = 127 };

static const char request[] =
    "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: mqtt\r\n\r\n";

static const uint8_t mask[8] = {0x5a, 0xc3, 0x17, 0xe9, 0x5a, 0xc3, 0x17, 0xe9};

void frames_add_request(struct bytes *out)
{
    bytes_append(out, request, sizeof request - 1);
}

size_t frames_find_answer(const uint8_t *data, size_t size)
{
    static const char accepted[] = "HTTP/1.1 101 ";
    const uint8_t *end = memmem(data, size, "\r\n\r\n", 4);
    if (end == NULL)
        return 0;
    if (memcmp(data, accepted, sizeof accepted - 1) != 0)
        return SIZE_MAX;
    return (size_t)(end - data) + 4;
}

void frames_wrap(struct bytes *wire, struct bytes *packets)
{
    const size_t size = bytes_size(packets);
    const uint32_t size_bytes = size < SIZE_16 ? 0 : size <= UINT16_MAX ? 2 : 8;
    uint8_t *to = bytes_reserve(wire, 2 + size_bytes + 4 + size);
    const uint8_t *from = packets->data + packets->start;
    *to++ = BINARY;
    *to++ = (uint8_t)(MASKED | (size_bytes == 0 ? size : size_bytes == 2 ? SIZE_16 : SIZE_64));
    for (uint32_t i = 0; i < size_bytes; i++)
        *to++ = (uint8_t)((uint64_t)size >> 8 * (size_bytes - 1 - i));
    memcpy(to, mask, 4);
    to += 4;
    uint64_t wide, word;
    memcpy(&wide, mask, sizeof wide);
    size_t at = 0;
    for (; size - at >= sizeof word; at += sizeof word) {
        memcpy(&word, from + at, sizeof word);
        word ^= wide;
        memcpy(to + at, &word, sizeof word);
    }
    for (; at < size; at++)
        to[at] = from[at] ^ mask[at % 4];
    wire->end += 2 + size_bytes + 4 + size;
    bytes_consume(packets, size);
}

/* Takes one byte of a head; begins the payload with its last. */
static void take_head(struct frames *frames, uint8_t byte)
{
    frames->head[frames->head_size++] = byte;
    if (frames->head_size < 2)
        return;
    const uint8_t code = frames->head[1];
    const uint32_t size_bytes = code < SIZE_16 ? 0 : code == SIZE_16 ? 2 : 8;
    if (frames->head_size < 2 + size_bytes)
        return;
    frames->left = size_bytes == 0 ? code : 0;
    for (uint32_t i = 0; i < size_bytes; i++)
        frames->left = frames->left << 8 | frames->head[2 + i];
    frames->is_binary = (frames->head[0] & OPCODE) == (BINARY & OPCODE);
    frames->in_payload = frames->left > 0;
    frames->head_size = 0;
}

size_t frames_unwrap(struct frames *frames, uint8_t *data, size_t size)
{
    size_t made = 0;
    for (size_t at = 0; at < size;) {
        if (!frames->in_payload) {
            take_head(frames, data[at++]);
            continue;
        }
        const size_t part = frames->left < size - at ? (size_t)frames->left : size - at;
        if (frames->is_binary) {
            memmove(data + made, data + at, part);
            made += part;
        }
        at += part;
        frames->left -= part;
        frames->in_payload = frames->left > 0;
    }
    return made;
}
