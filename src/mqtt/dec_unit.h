/* For tests of decoders and encoders: packets written as text, and decoding of any of them.
 *
 * Text: pairs of hexadecimal digits are bytes, 'abc' is these characters, <abc> is a string with
 * its two-byte length in front. Blanks do not count.
 */
#pragma once

#include "base/mem.h"
#include "base/unit.h"
#include "mqtt/packets.h"

#include <string.h>

static inline uint32_t unit_nibble(char digit)
{
    static const char digits[] = "0123456789abcdef";
    const char *const at = digit ? strchr(digits, digit) : NULL;
    assert_non_null(at);
    return (uint32_t)(at - digits);
}

static inline uint32_t unit_quoted(const char *text, char end)
{
    const char *const at = strchr(text, end);
    assert_non_null(at);
    return (uint32_t)(at - text);
}

/* Parses `text` into `room`; returns the bytes. */
static inline struct slice unit_bytes(const char *text, uint8_t *room, size_t room_size)
{
    uint8_t *at = room;
    for (; *text; text++) {
        assert_true((size_t)(at - room) + strlen(text) + 2 <= room_size);
        if (*text == ' ')
            continue;
        if (*text == '\'' || *text == '<') {
            const bool prefixed = *text++ == '<';
            const uint32_t size = unit_quoted(text, prefixed ? '>' : '\'');
            if (prefixed) {
                *at++ = (uint8_t)(size >> 8);
                *at++ = (uint8_t)size;
            }
            memcpy(at, text, size);
            at += size;
            text += size;
            continue;
        }
        *at++ = (uint8_t)(unit_nibble(text[0]) << 4 | unit_nibble(text[1]));
        text++;
    }
    return slice_of(room, (size_t)(at - room));
}

/* The first `size` bytes on the heap, where a sanitizer sees each step beyond them. */
static inline struct slice unit_copy(struct slice bytes, uint32_t size)
{
    assert_true(size <= bytes.size);
    uint8_t *const copy = mem_try_alloc(size > 0 ? size : 1);
    assert_non_null(copy);
    memcpy(copy, bytes.bytes, size);
    return slice_of(copy, size);
}

static inline void unit_free(struct slice copy)
{
    mem_free((void *)(uintptr_t)copy.bytes);
}

/* Decodes a body of any type into a packet that is dropped. */
static inline int unit_decode(uint8_t packet_type, uint8_t flags, uint8_t version,
                              struct slice body, uint8_t *ret_reason)
{
    union {
        struct packet_connect connect;
        struct packet_publish publish;
        struct packet_ack ack;
        struct packet_subscribe subscribe;
        struct packet_unsubscribe unsubscribe;
        struct packet_disconnect disconnect;
        struct packet_auth auth;
    } packet;
    switch (packet_type) {
    case PACKET_CONNECT:
        return dec_connect(body, &packet.connect, ret_reason);
    case PACKET_PUBLISH:
        return dec_publish(body, flags, version, &packet.publish, ret_reason);
    case PACKET_SUBSCRIBE:
        return dec_subscribe(body, version, &packet.subscribe, ret_reason);
    case PACKET_UNSUBSCRIBE:
        return dec_unsubscribe(body, version, &packet.unsubscribe, ret_reason);
    case PACKET_PINGREQ:
        return packet_ping_check(body, ret_reason);
    case PACKET_DISCONNECT:
        return dec_disconnect(body, version, &packet.disconnect, ret_reason);
    case PACKET_AUTH:
        return dec_auth(body, &packet.auth, ret_reason);
    default:
        return dec_ack(body, packet_type, version, &packet.ack, ret_reason);
    }
}

/* One body and what is to come of it. */
struct unit_row {
    uint8_t packet_type, flags, version;
    const char *text;
    int err;
    uint8_t reason;
};

/* Decodes each row, cut to the exact size on the heap, and compares result and reason. */
static inline void unit_rows_check(const struct unit_row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct unit_row *const row = &rows[i];
        uint8_t room[1024], reason = 0;
        const struct slice bytes = unit_bytes(row->text, room, sizeof room);
        const struct slice body = unit_copy(bytes, bytes.size);
        const int err = unit_decode(row->packet_type, row->flags, row->version, body, &reason);
        unit_free(body);
        if (err != row->err || reason != row->reason)
            fail_msg("row %zu, version %u, '%s': %d 0x%02x instead of %d 0x%02x", i, row->version,
                     row->text, err, reason, row->err, row->reason);
    }
}

/* Every shorter body of each row with result 0 must fail, and have a reason. */
static inline void unit_rows_truncate(const struct unit_row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct unit_row *const row = &rows[i];
        uint8_t room[1024];
        const struct slice bytes = unit_bytes(row->text, room, sizeof room);
        for (uint32_t cut = 0; row->err == 0 && cut < bytes.size; cut++) {
            const struct slice body = unit_copy(bytes, cut);
            uint8_t reason = 0;
            const int err = unit_decode(row->packet_type, row->flags, row->version, body, &reason);
            unit_free(body);
            if ((err != ERR_MALFORMED && err != ERR_PROTOCOL) || reason < 0x80)
                fail_msg("row %zu '%s' cut to %u: %d 0x%02x", i, row->text, cut, err, reason);
        }
    }
}
