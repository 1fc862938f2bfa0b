#include "base/unit.h"

#include "app/value.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

static void counts(void **state)
{
    (void)state;
    uint64_t number = 7;
    assert_int_equal(value_count("0", &number), 0);
    assert_int_equal(number, 0);
    assert_int_equal(value_count("18446744073709551615", &number), 0);
    assert_true(number == UINT64_MAX);
    static const char *const wrong[] = {
        "", "-1", "+1", " 1", "1 ", "0x10", "1k", "1.0", "1e3", "18446744073709551616", "a"};
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        number = 7;
        assert_int_equal(value_count(wrong[i], &number), ERR_INVALID);
        assert_int_equal(number, 7);
    }
}

static void sizes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } rows[] = {
        {"0", 0},
        {"17", 17},
        {"17B", 17},
        {"1K", 1024},
        {"64MiB", UINT64_C(64) << 20},
        {"64 MiB", UINT64_C(64) << 20},
        {"1G", UINT64_C(1) << 30},
        {"1gib", UINT64_C(1) << 30},
        {"2T", UINT64_C(2) << 40},
        {"1KB", 1000},
        {"3MB", 3000000},
        {"16777215TiB", UINT64_C(16777215) << 40},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        uint64_t bytes = 7;
        assert_int_equal(value_size(rows[i].text, &bytes), 0);
        assert_true(bytes == rows[i].bytes);
    }
    static const char *const wrong[] = {"",     "M",           "-1M",   "1.5G", "1 M B",
                                        "1XiB", "16777216TiB", "1MiBs", "1  M"};
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        uint64_t bytes = 7;
        assert_int_equal(value_size(wrong[i], &bytes), ERR_INVALID);
        assert_int_equal(bytes, 7);
    }
}

static void durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t ms;
    } rows[] = {
        {"0", 0},
        {"0s", 0},
        {"100ms", 100},
        {"30s", 30000},
        {"5m", 300000},
        {"2h", 7200000},
        {"3d", 259200000},
        {"1w", 604800000},
        {"1h30m", 5400000},
        {"1m1ms", 60001},
        {"1d2h3m4s5ms", 93784005},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        uint64_t ms = 7;
        assert_int_equal(value_duration(rows[i].text, &ms), 0);
        assert_true(ms == rows[i].ms);
    }
    static const char *const wrong[] = {
        "",      "30",   "s",    "1 s",           "1.5h",
        "30m1h", "1s1s", "1min", "1sec",          "-1s",
        "1h ",   "1H",   "00",   "213503982335d", "213503982334d25000d"};
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        uint64_t ms = 7;
        assert_int_equal(value_duration(wrong[i], &ms), ERR_INVALID);
        assert_int_equal(ms, 7);
    }
}

static void switches(void **state)
{
    (void)state;
    bool on = false;
    assert_int_equal(value_bool("yes", &on), 0);
    assert_true(on);
    assert_int_equal(value_bool("OFF", &on), 0);
    assert_false(on);
    assert_int_equal(value_bool("1", &on), ERR_INVALID);
    assert_int_equal(value_bool("", &on), ERR_INVALID);
}

static int join(void *data, const char *item)
{
    char *joined = data;
    const size_t size = strlen(joined);
    (void)snprintf(joined + size, 100 - size, "<%s>", item);
    return 0;
}

static void lists(void **state)
{
    (void)state;
    static const struct {
        const char *text, *joined;
    } rows[] = {
        {"a", "<a>"},
        {"[]", ""},
        {"[ ]", ""},
        {"[a]", "<a>"},
        {"[a,b]", "<a><b>"},
        {"[ a , 'b c' , \"d,e\" ]", "<a><b c><d,e>"},
        {"[mqtt://[::1]:1,mqtt://127.0.0.1:2]", "<mqtt://[::1]:1><mqtt://127.0.0.1:2>"},
        {"a,b", "<a,b>"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        char joined[100] = "";
        assert_int_equal(value_list(rows[i].text, join, joined), 0);
        assert_string_equal(joined, rows[i].joined);
    }
    static const char *const wrong[] = {"",       "[",    "[a",   "[a,]", "[,]",
                                        "[a,,b]", "['a]", "[a]]", "[[a]"};
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        char joined[100] = "";
        assert_int_equal(value_list(wrong[i], join, joined), ERR_INVALID);
    }
    char joined[100] = "";
    mem_fail_at(1);
    assert_int_equal(value_list("[a]", join, joined), ERR_NOMEM);
}

static void written_back(void **state)
{
    (void)state;
    char text[64];
    struct strbuf out;
    strbuf_init_array(&out, text, sizeof(text));
    value_add_size(&out, 0);
    strbuf_add(&out, " ");
    value_add_size(&out, UINT64_C(3) << 30);
    strbuf_add(&out, " ");
    value_add_size(&out, 1025);
    strbuf_add(&out, " ");
    value_add_duration(&out, 0);
    strbuf_add(&out, " ");
    value_add_duration(&out, 90000);
    strbuf_add(&out, " ");
    value_add_duration(&out, UINT64_C(7) * 86400000);
    assert_string_equal(text, "0 3GiB 1025B 0 90s 7d");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts),   cmocka_unit_test(sizes), cmocka_unit_test(durations),
        cmocka_unit_test(switches), cmocka_unit_test(lists), cmocka_unit_test(written_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
