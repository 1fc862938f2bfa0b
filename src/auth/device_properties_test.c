/* Properties of devices: what may be added, and what encoded bytes are sound. */
#include "auth/device_properties.h"
#include "base/unit.h"

#include <string.h>

static void pairs_come_back_in_order(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {{"a", "1"}, {"a", ""}, {"\xc3\xa9", "x y"}};
    struct device_properties made = {0};
    for (size_t i = 0; i < ARRAY_COUNT(pairs); i++)
        assert_int_equal(
            device_properties_add(&made, slice_str(pairs[i][0]), slice_str(pairs[i][1])), 0);
    const struct slice encoded = slice_of(made.bytes, made.size);
    struct slice key, value;
    uint32_t pos = 0;
    for (size_t i = 0; i < ARRAY_COUNT(pairs); i++) {
        assert_true(device_properties_next(encoded, &pos, &key, &value));
        assert_true(slice_equal(key, slice_str(pairs[i][0])));
        assert_true(slice_equal(value, slice_str(pairs[i][1])));
    }
    assert_false(device_properties_next(encoded, &pos, &key, &value));
    assert_true(device_properties_are_sound(encoded));
    for (uint32_t size = 1; size < encoded.size; size++) {
        bool whole = size == 7 || size == 13; /* the first, and the second behind it */
        assert_int_equal(device_properties_are_sound(slice_of(made.bytes, size)), whole);
    }
    assert_true(device_properties_are_sound(slice_of("", 0)));
}

static void what_is_refused(void **state)
{
    (void)state;
    static char text[DEVICE_PROPERTIES_SIZE_MAX];
    struct device_properties made = {0};
    const struct slice good = slice_str("k");
    memset(text, 'x', sizeof text);
    assert_int_equal(device_properties_add(&made, slice_of("", 0), good), ERR_INVALID);
    assert_int_equal(device_properties_add(&made, slice_str("\xff"), good), ERR_INVALID);
    assert_int_equal(device_properties_add(&made, good, slice_str("\xff")), ERR_INVALID);
    assert_int_equal(device_properties_add(&made, good, slice_of("a\0b", 3)), ERR_INVALID);
    assert_int_equal(device_properties_add(&made, good, slice_of(text, sizeof text)), ERR_FULL);
    assert_int_equal(device_properties_add(&made, good, slice_of(text, sizeof text - 5)), ERR_FULL);
    assert_int_equal(made.size, 0);
    assert_int_equal(device_properties_add(&made, good, slice_of(text, sizeof text - 6)), 0);
    assert_int_equal(made.size, sizeof made.bytes);
    assert_int_equal(device_properties_add(&made, good, slice_of("", 0)), ERR_FULL);
    made = (struct device_properties){0};
    for (uint32_t i = 0; i < DEVICE_PROPERTIES_MAX; i++)
        assert_int_equal(device_properties_add(&made, good, good), 0);
    assert_int_equal(device_properties_add(&made, good, good), ERR_FULL);
    static const struct {
        const char *bytes;
        size_t size;
    } rows[] = {
        {"\x27\0\1k\0\1v", 7}, {"\x26\0\0\0\1v", 6},    {"\x26\0\1\xff\0\1v", 7},
        {"\x26\0\1k\0\2v", 7}, {"\x26\0\1k\0\1v\0", 8}, {"\x26\xff\xffk\0\1v", 7},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++)
        assert_false(device_properties_are_sound(slice_of(rows[i].bytes, rows[i].size)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_come_back_in_order),
        cmocka_unit_test(what_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
