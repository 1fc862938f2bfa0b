#include "base/utf8.h"

#include <string.h>

/* true for eight bytes that are all in 01..7f: no high bit set, and none borrowed from a zero. */
static bool plain_word(const uint8_t *bytes)
{
    uint64_t word = 0;
    memcpy(&word, bytes, sizeof word);
    return ((word | (word - 0x0101010101010101u)) & 0x8080808080808080u) == 0;
}

static bool is_tail(uint8_t byte)
{
    return (byte & 0xc0) == 0x80;
}

uint32_t utf8_sequence(const uint8_t *bytes, size_t size)
{
    if (size == 0)
        return 0;
    const uint8_t lead = bytes[0];
    if (lead < 0x80)
        return 1;
    if (lead < 0xc2 || lead > 0xf4) /* a tail, an overlong two-byte form, or beyond U+10FFFF */
        return 0;
    const uint32_t length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (size < length)
        return 0;
    for (uint32_t i = 1; i < length; i++) {
        if (!is_tail(bytes[i]))
            return 0;
    }
    const uint8_t second = bytes[1];
    if ((lead == 0xe0 && second < 0xa0) || (lead == 0xf0 && second < 0x90))
        return 0; /* overlong */
    if ((lead == 0xed && second >= 0xa0) || (lead == 0xf4 && second >= 0x90))
        return 0; /* surrogate; beyond U+10FFFF */
    return length;
}

bool utf8_check(const uint8_t *bytes, size_t size)
{
    while (size > 0) {
        if (size >= 8 && plain_word(bytes)) {
            bytes += 8;
            size -= 8;
            continue;
        }
        const uint32_t length = bytes[0] ? utf8_sequence(bytes, size) : 0;
        if (length == 0)
            return false;
        bytes += length;
        size -= length;
    }
    return true;
}
