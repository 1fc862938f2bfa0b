#include "base/crc32c.h"

#include "base/unit.h"

#include <string.h>

typedef uint32_t crc_fn(uint32_t crc, const void *bytes, size_t size);

static crc_fn *const forms[] = {crc32c, crc32c_software};

/* RFC 3720, appendix B.4, and the check value of the usual "123456789". */
static void known_values(void **state)
{
    (void)state;
    uint8_t bytes[32];
    for (size_t i = 0; i < ARRAY_COUNT(forms); i++) {
        assert_int_equal(forms[i](0, "", 0), 0);
        assert_int_equal(forms[i](0, "123456789", 9), 0xe3069283);
        memset(bytes, 0, sizeof bytes);
        assert_int_equal(forms[i](0, bytes, sizeof bytes), 0x8a9136aa);
        memset(bytes, 0xff, sizeof bytes);
        assert_int_equal(forms[i](0, bytes, sizeof bytes), 0x62a8ab43);
        for (uint8_t byte = 0; byte < 32; byte++)
            bytes[byte] = byte;
        assert_int_equal(forms[i](0, bytes, sizeof bytes), 0x46dd794e);
    }
}

/* Bit by bit, straight from the definition. */
static uint32_t crc_naive(const uint8_t *bytes, size_t size)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
    }
    return ~crc;
}

static void every_length_and_alignment_and_split(void **state)
{
    (void)state;
    uint8_t bytes[96];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 37 + 11);
    for (size_t start = 0; start < 9; start++) {
        for (size_t size = 0; size <= sizeof bytes - start; size++) {
            const uint32_t expected = crc_naive(bytes + start, size);
            for (size_t i = 0; i < ARRAY_COUNT(forms); i++) {
                const size_t split = size / 3;
                const uint32_t head = forms[i](0, bytes + start, split);
                assert_int_equal(forms[i](0, bytes + start, size), expected);
                assert_int_equal(forms[i](head, bytes + start + split, size - split), expected);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_values),
        cmocka_unit_test(every_length_and_alignment_and_split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
