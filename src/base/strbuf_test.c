#include "base/strbuf.h"

#include "base/mem.h"
#include "base/unit.h"

#include <string.h>

static void expect_json(const void *bytes, size_t size, const char *expected)
{
    struct strbuf strbuf;
    strbuf_init(&strbuf, 1000);
    strbuf_add_json(&strbuf, bytes, size);
    assert_int_equal(strbuf_err(&strbuf), 0);
    assert_string_equal(strbuf.text, expected);
    strbuf_done(&strbuf);
}

static void additions_join(void **state)
{
    (void)state;
    struct strbuf strbuf;
    char *text = NULL;
    size_t size = 0;
    strbuf_init(&strbuf, 100000);
    for (int i = 0; i < 1000; i++) {
        strbuf_add(&strbuf, "ab");
        strbuf_addf(&strbuf, "%03d", i);
        strbuf_add_bytes(&strbuf, ";\n", 1);
    }
    assert_int_equal(strbuf_take(&strbuf, &text, &size), 0);
    assert_int_equal(size, 6000);
    assert_int_equal(strlen(text), 6000);
    assert_memory_equal(text + 5994, "ab999;", 7);
    mem_free(text);
    strbuf_add(&strbuf, "again");
    assert_string_equal(strbuf.text, "again");
    strbuf_done(&strbuf);
}

static void nothing_added_is_an_empty_text(void **state)
{
    (void)state;
    struct strbuf strbuf;
    char *text = NULL;
    size_t size = 1;
    strbuf_init(&strbuf, 0);
    assert_int_equal(strbuf_take(&strbuf, &text, &size), 0);
    assert_string_equal(text, "");
    assert_int_equal(size, 0);
    mem_free(text);
    strbuf_done(&strbuf);
}

/* At the maximum: exactly full is fine, one byte more is cut and sticks. */
static void maximum_is_exact(void **state)
{
    (void)state;
    for (int form = 0; form < 2; form++) {
        for (size_t size_max = 0; size_max <= 600; size_max += 100) {
            char filler[1000] = {0};
            struct strbuf strbuf;
            char *text = NULL;
            size_t size = 0;
            memset(filler, 'f', size_max);
            strbuf_init(&strbuf, size_max);
            strbuf_add(&strbuf, filler);
            assert_int_equal(strbuf_err(&strbuf), 0);
            if (form == 0)
                strbuf_add(&strbuf, "x");
            else
                strbuf_addf(&strbuf, "%c", 'x');
            assert_int_equal(strbuf_err(&strbuf), ERR_FULL);
            strbuf_add_json(&strbuf, "later", 5);
            strbuf_addf(&strbuf, "later");
            assert_string_equal(strbuf.text, filler);
            assert_int_equal(strbuf_take(&strbuf, &text, &size), ERR_FULL);
            assert_null(text);
            strbuf_done(&strbuf);
        }
    }
}

static void array_is_cut_not_grown(void **state)
{
    (void)state;
    char array[8];
    struct strbuf strbuf;
    strbuf_init_array(&strbuf, array, sizeof array);
    assert_string_equal(array, "");
    strbuf_add(&strbuf, "1234");
    strbuf_addf(&strbuf, "%d", 56789);
    assert_string_equal(array, "1234567");
    assert_int_equal(strbuf_err(&strbuf), ERR_FULL);
    strbuf_done(&strbuf);
    strbuf_init_array(&strbuf, array, 1);
    strbuf_add(&strbuf, "x");
    assert_string_equal(array, "");
    assert_int_equal(strbuf_err(&strbuf), ERR_FULL);
}

static void each_failing_allocation_is_told(void **state)
{
    (void)state;
    bool failed = true;
    for (uint64_t n = 1; failed; n++) {
        struct strbuf strbuf;
        char *text = NULL;
        size_t size = 0;
        strbuf_init(&strbuf, 10000);
        mem_fail_at(n);
        for (int i = 0; i < 100; i++) {
            strbuf_add(&strbuf, "0123456789");
            strbuf_addf(&strbuf, "%s", "0123456789");
        }
        mem_fail_at(0);
        const int err = strbuf_take(&strbuf, &text, &size);
        failed = err < 0;
        assert_int_equal(err, n <= 4 ? ERR_NOMEM : 0); /* 256, 512, 1024, 2048 bytes */
        assert_int_equal(size, failed ? 0 : 2000);
        mem_free(text);
        strbuf_done(&strbuf);
    }
}

static void json_escapes_what_it_must(void **state)
{
    (void)state;
    expect_json("", 0, "\"\"");
    expect_json("plain / text", 12, "\"plain / text\"");
    expect_json("a\"b\\c", 5, "\"a\\\"b\\\\c\"");
    expect_json("\0\n\t\x1b\x7f", 5, "\"\\u0000\\n\\u0009\\u001b\\u007f\"");
    expect_json("gr\xc3\xbc\xc3\x9f \xf0\x9f\x8c\x8a", 11,
                "\"gr\xc3\xbc\xc3\x9f \xf0\x9f\x8c\x8a\"");
    expect_json("\xff|\xc3", 3, "\"\\ufffd|\\ufffd\"");
    expect_json("\xed\xa0\x80", 3, "\"\\ufffd\\ufffd\\ufffd\"");
}

static void json_of_every_byte_stays_in_its_quotes(void **state)
{
    (void)state;
    for (int byte = 0; byte < 256; byte++) {
        const uint8_t bytes[] = {'<', (uint8_t)byte, '>'};
        struct strbuf strbuf;
        strbuf_init(&strbuf, 100);
        strbuf_add_json(&strbuf, bytes, sizeof bytes);
        assert_int_equal(strbuf_err(&strbuf), 0);
        for (size_t i = 0; i < strbuf.size; i++)
            assert_in_range((uint8_t)strbuf.text[i], 0x20, 0x7e);
        assert_memory_equal(strbuf.text, "\"<", 2);
        assert_string_equal(strbuf.text + strbuf.size - 2, ">\"");
        strbuf_done(&strbuf);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(additions_join),
        cmocka_unit_test(nothing_added_is_an_empty_text),
        cmocka_unit_test(maximum_is_exact),
        cmocka_unit_test(array_is_cut_not_grown),
        cmocka_unit_test(each_failing_allocation_is_told),
        cmocka_unit_test(json_escapes_what_it_must),
        cmocka_unit_test(json_of_every_byte_stays_in_its_quotes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
