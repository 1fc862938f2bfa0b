#include "base/utf8.h"

#include "base/unit.h"

#include <string.h>

struct row {
    const char *bytes;
    size_t size;
    bool valid;
};

#define ROW(text, valid)                                                                           \
    {                                                                                              \
        text, sizeof(text) - 1, valid                                                              \
    }

static const struct row rows[] = {
    ROW("", true),
    ROW("a", true),
    ROW("sensors/kitchen/temperature", true),
    ROW("\x01\x7f", true), /* control characters are allowed; only U+0000 is not */
    ROW("\xc2\x80", true),
    ROW("\xdf\xbf", true),
    ROW("\xe0\xa0\x80", true),
    ROW("\xed\x9f\xbf", true), /* U+D7FF */
    ROW("\xee\x80\x80", true), /* U+E000 */
    ROW("\xef\xbb\xbf", true), /* U+FEFF is kept as it is [MQTT3-1.5.3-3] [MQTT5-1.5.4-3] */
    ROW("\xef\xbf\xbf", true),
    ROW("\xf0\x90\x80\x80", true),
    ROW("\xf4\x8f\xbf\xbf", true), /* U+10FFFF */
    ROW("\0", false),
    ROW("1234567\0", false),
    ROW("12345678\0", false),
    ROW("\x80", false),
    ROW("\xbf", false),
    ROW("\xc0\x80", false), /* overlong forms */
    ROW("\xc1\xbf", false),
    ROW("\xe0\x9f\xbf", false),
    ROW("\xf0\x8f\xbf\xbf", false),
    ROW("\xed\xa0\x80", false), /* surrogates */
    ROW("\xed\xbf\xbf", false),
    ROW("\xf4\x90\x80\x80", false), /* beyond U+10FFFF */
    ROW("\xf5\x80\x80\x80", false),
    ROW("\xff", false),
    ROW("\xc2", false), /* cut short */
    ROW("\xe1\x80", false),
    ROW("\xf1\x80\x80", false),
    ROW("\xc2\x41", false), /* a tail that is none */
    ROW("\xe1\x41\x80", false),
    ROW("\xe1\x80\x41", false),
    ROW("\xf1\x80\x80\x41", false),
    ROW("\xe1\x80\xc0", false),
};

/* [MQTT3-1.5.3-1] [MQTT3-1.5.3-2] [MQTT5-1.5.4-1] [MQTT5-1.5.4-2] Each row alone, and behind and
 * before plain text of every length up to two words, which shifts it through the fast path. */
static void rows_at_every_place(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        for (size_t before = 0; before <= 16; before++) {
            for (size_t after = 0; after <= 16; after++) {
                uint8_t bytes[64];
                memset(bytes, 'x', sizeof bytes);
                if (rows[i].size > 0)
                    memcpy(bytes + before, rows[i].bytes, rows[i].size);
                assert_int_equal(utf8_check(bytes, before + rows[i].size + after), rows[i].valid);
            }
        }
    }
}

/* Encodes as RFC 3629 says, without asking whether it may. */
static size_t encode(uint32_t point, uint8_t *bytes)
{
    if (point < 0x80) {
        bytes[0] = (uint8_t)point;
        return 1;
    }
    const size_t size = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    static const uint8_t leads[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = size - 1; i > 0; i--, point >>= 6)
        bytes[i] = (uint8_t)(0x80 | (point & 0x3f));
    bytes[0] = (uint8_t)(leads[size] | point);
    return size;
}

static void every_code_point(void **state)
{
    (void)state;
    for (uint32_t point = 0; point < 0x110800; point++) {
        uint8_t bytes[4];
        const size_t size = encode(point, bytes);
        const bool surrogate = point >= 0xd800 && point <= 0xdfff;
        const bool valid = !surrogate && point <= 0x10ffff;
        if (utf8_check(bytes, size) != (valid && point != 0) ||
            utf8_sequence(bytes, size) != (valid ? size : 0))
            fail_msg("U+%04X is judged wrongly", point);
    }
}

/* All three-byte inputs: accepted ones must re-encode to themselves, so no overlong form passes. */
static void every_three_bytes(void **state)
{
    (void)state;
    for (uint32_t value = 0; value < 0x1000000; value += 1 + (value & 0x3)) {
        const uint8_t bytes[] = {(uint8_t)(value >> 16), (uint8_t)(value >> 8), (uint8_t)value};
        if (utf8_sequence(bytes, 3) != 3)
            continue;
        const uint32_t point =
            (bytes[0] & 0x0fu) << 12 | (bytes[1] & 0x3fu) << 6 | (bytes[2] & 0x3fu);
        uint8_t again[4];
        if (encode(point, again) != 3 || memcmp(again, bytes, 3) != 0)
            fail_msg("%06x is accepted", value);
    }
    assert_int_equal(utf8_sequence((const uint8_t *)"", 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_at_every_place),
        cmocka_unit_test(every_code_point),
        cmocka_unit_test(every_three_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
