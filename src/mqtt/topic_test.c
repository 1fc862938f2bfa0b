/* Topic names and filters: grammar, limits, matching, shared and point-to-point forms. */
#include "mqtt/topic.h"

#include "base/mem.h"
#include "base/unit.h"

#include <string.h>

static struct slice bytes_of(const char *text)
{
    return slice_of(text, text ? strlen(text) : 0);
}

struct check_row {
    const char *text;
    int name, filter; /* results */
};

/* Wildcards, where they stand and what stands around them.
 * [MQTT3-4.7.1-1] [MQTT3-4.7.1-2] [MQTT3-4.7.1-3] [MQTT3-4.7.3-1] [MQTT5-4.7.0-1] [MQTT5-4.7.1-1]
 * [MQTT5-4.7.1-2] [MQTT5-4.7.3-1] */
static void check_grammar(void **state)
{
    (void)state;
    static const struct check_row rows[] = {
        {"", ERR_INVALID, ERR_INVALID},
        {"/", 0, 0},
        {"//", 0, 0},
        {"a", 0, 0},
        {"a/b c/d", 0, 0},
        {"/finance", 0, 0},
        {"$SYS/broker", 0, 0},
        {"1234567/wohnen/k\xc3\xbc"
         "che",
         0, 0},
        {"#", ERR_INVALID, 0},
        {"+", ERR_INVALID, 0},
        {"a/#", ERR_INVALID, 0},
        {"/#", ERR_INVALID, 0},
        {"+/a/#", ERR_INVALID, 0},
        {"a/+/b", ERR_INVALID, 0},
        {"+/+", ERR_INVALID, 0},
        {"/+", ERR_INVALID, 0},
        {"a/+", ERR_INVALID, 0},
        {"a#", ERR_INVALID, ERR_INVALID},
        {"a/b#", ERR_INVALID, ERR_INVALID},
        {"#a", ERR_INVALID, ERR_INVALID},
        {"#/a", ERR_INVALID, ERR_INVALID},
        {"a/#/b", ERR_INVALID, ERR_INVALID},
        {"a/#/", ERR_INVALID, ERR_INVALID},
        {"##", ERR_INVALID, ERR_INVALID},
        {"#+", ERR_INVALID, ERR_INVALID},
        {"+#", ERR_INVALID, ERR_INVALID},
        {"a+", ERR_INVALID, ERR_INVALID},
        {"+a", ERR_INVALID, ERR_INVALID},
        {"a/b+/c", ERR_INVALID, ERR_INVALID},
        {"a/+b/c", ERR_INVALID, ERR_INVALID},
        {"++", ERR_INVALID, ERR_INVALID},
        {"\xff", ERR_MALFORMED, ERR_MALFORMED},
        {"abcdefgh/\xed\xa0\x80", ERR_MALFORMED, ERR_MALFORMED},
        {"a/\xc3", ERR_MALFORMED, ERR_MALFORMED},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        const struct slice topic = bytes_of(rows[i].text);
        if (topic_name_check(topic, TOPIC_NO_LIMIT) != rows[i].name ||
            topic_filter_check(topic, TOPIC_NO_LIMIT) != rows[i].filter)
            fail_msg("'%s': %d, %d", rows[i].text, topic_name_check(topic, TOPIC_NO_LIMIT),
                     topic_filter_check(topic, TOPIC_NO_LIMIT));
    }
}

/* A byte that is not allowed is found at every place of every size, in both halves of the scan.
 * [MQTT3-4.7.3-2] [MQTT5-4.7.3-2] U+0000 among them. */
static void check_every_place(void **state)
{
    (void)state;
    static const struct {
        uint8_t byte;
        int name, filter;
    } rows[] = {
        {0, ERR_MALFORMED, ERR_MALFORMED},
        {0x80, ERR_MALFORMED, ERR_MALFORMED},
        {0xff, ERR_MALFORMED, ERR_MALFORMED},
        {'+', ERR_INVALID, ERR_INVALID},
        {'#', ERR_INVALID, ERR_INVALID},
        {'"', 0, 0},
        {'$', 0, 0},
        {'*', 0, 0},
        {',', 0, 0},
        {1, 0, 0},
        {0x7f, 0, 0},
    };
    for (uint32_t size = 2; size <= 35; size++) {
        for (uint32_t place = 0; place < size; place++) {
            uint8_t *const bytes = mem_try_alloc(size);
            assert_non_null(bytes);
            for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
                memset(bytes, 'a', size);
                bytes[place] = rows[i].byte;
                assert_int_equal(topic_name_check(slice_of(bytes, size), TOPIC_NO_LIMIT),
                                 rows[i].name);
                assert_int_equal(topic_filter_check(slice_of(bytes, size), TOPIC_NO_LIMIT),
                                 rows[i].filter);
            }
            mem_free(bytes);
        }
    }
}

/* [MQTT3-4.7.3-3] [MQTT5-4.7.3-3] 65,535 bytes are allowed, one more is not; and so with levels. */
static void check_limits(void **state)
{
    (void)state;
    uint8_t *const bytes = mem_try_alloc(TOPIC_SIZE_MAX + 1);
    assert_non_null(bytes);
    memset(bytes, '/', TOPIC_SIZE_MAX + 1);
    const struct slice largest = slice_of(bytes, TOPIC_SIZE_MAX);
    assert_int_equal(topic_levels(largest), 65536);
    assert_int_equal(topic_name_check(largest, TOPIC_NO_LIMIT), 0);
    assert_int_equal(topic_name_check(largest, 65536), 0);
    assert_int_equal(topic_name_check(largest, 65535), ERR_FULL);
    assert_int_equal(topic_filter_check(largest, TOPIC_NO_LIMIT), 0);
    assert_int_equal(topic_filter_check(largest, 65536), 0);
    assert_int_equal(topic_filter_check(largest, 65535), ERR_FULL);
    const struct slice beyond = slice_of(bytes, TOPIC_SIZE_MAX + 1);
    assert_int_equal(topic_name_check(beyond, TOPIC_NO_LIMIT), ERR_MALFORMED);
    assert_int_equal(topic_filter_check(beyond, TOPIC_NO_LIMIT), ERR_MALFORMED);
    mem_free(bytes);
    assert_int_equal(topic_name_check(bytes_of("a"), 1), 0);
    assert_int_equal(topic_name_check(bytes_of("a/b"), 1), ERR_FULL);
}

/* [MQTT3-4.7.2-1] [MQTT5-4.7.2-1] and [MQTT3-4.7.3-4] [MQTT5-4.7.3-4]: bytes are compared as they
 * are. */
static void match_rows(void **state)
{
    (void)state;
    static const struct {
        const char *filter, *name;
        bool match;
    } rows[] = {
        {"a", "a", true},
        {"a", "A", false},
        {"a", "b", false},
        {"a", "ab", false},
        {"ab", "a", false},
        {"a/b", "a/b", true},
        {"a/b", "a/b/", false},
        {"a/b/", "a/b", false},
        {"ACCOUNTS", "Accounts", false},
        {"k\xc3\xa5", "ka\xcc\x8a", false},
        {"#", "a", true},
        {"#", "/", true},
        {"#", "a/b/c", true},
        {"sport/#", "sport", true},
        {"sport/#", "sport/", true},
        {"sport/#", "sport/a/b", true},
        {"sport/#", "sports", false},
        {"sport/tennis/#", "sport", false},
        {"+", "a", true},
        {"+", "/", false},
        {"+", "a/b", false},
        {"+/+", "/finance", true},
        {"/+", "/finance", true},
        {"+", "/finance", false},
        {"+/+", "/", true},
        {"sport/+", "sport", false},
        {"sport/+", "sport/", true},
        {"sport/+/player", "sport/a/player", true},
        {"sport/+/player", "sport//player", true},
        {"sport/+/player", "sport/a/b/player", false},
        {"+/#", "a", true},
        {"+/tennis/#", "x/tennis", true},
        {"+/tennis/#", "x/tennis/a", true},
        {"+/tennis/#", "x/golf", false},
        {"a/+/c", "a/b/", false},
        {"a/+", "a/b/c", false},
        {"a//b", "a/b", false},
        {"#", "$SYS/a", false},
        {"+/a", "$SYS/a", false},
        {"+/#", "$SYS/a", false},
        {"$SYS/#", "$SYS/a", true},
        {"$SYS/#", "$SYS", true},
        {"$SYS/+", "$SYS/a", true},
        {"$SYS/a", "$SYS/a", true},
        {"$SYS/a", "$SYS/b", false},
        {"a/+/c", "a/$b/c", true},
        {"a/#", "a/$b", true},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        if (topic_match(bytes_of(rows[i].filter), bytes_of(rows[i].name)) != rows[i].match)
            fail_msg("'%s' and '%s'", rows[i].filter, rows[i].name);
    }
}

static void levels_in_turn(void **state)
{
    (void)state;
    static const struct {
        const char *topic;
        const char *levels[4];
    } rows[] = {
        {"a", {"a"}},      {"a/b", {"a", "b"}}, {"/", {"", ""}}, {"a//b", {"a", "", "b"}},
        {"/a", {"", "a"}},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        const struct slice topic = bytes_of(rows[i].topic);
        struct slice level;
        uint32_t pos = 0, count = 0;
        for (; topic_next_level(topic, &pos, &level); count++)
            assert_true(slice_equal(level, bytes_of(rows[i].levels[count])));
        assert_int_equal(count, topic_levels(topic));
        assert_true(count == 4 || rows[i].levels[count] == NULL);
        assert_true(slice_equal(topic_first(topic), bytes_of(rows[i].levels[0])));
    }
    assert_true(topic_has_wildcard(bytes_of("a/+")));
    assert_true(topic_has_wildcard(bytes_of("#")));
    assert_false(topic_has_wildcard(bytes_of("a/b")));
}

/* [MQTT5-4.8.2-1] [MQTT5-4.8.2-2] */
static void share_forms(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int err;
        const char *group, *filter;
    } rows[] = {
        {"$share/g/a", 0, "g", "a"},
        {"$share/g/a/+/#", 0, "g", "a/+/#"},
        {"$share/g//a", 0, "g", "/a"},
        {"$share/g/$SYS/a", 0, "g", "$SYS/a"},
        {"$share/g/#", 0, "g", "#"},
        {"$share", ERR_NOTFOUND, NULL, NULL},
        {"$sharex/g/a", ERR_NOTFOUND, NULL, NULL},
        {"$shar/g/a", ERR_NOTFOUND, NULL, NULL},
        {"share/g/a", ERR_NOTFOUND, NULL, NULL},
        {"$share/", ERR_INVALID, NULL, NULL},
        {"$share//a", ERR_INVALID, NULL, NULL},
        {"$share/g", ERR_INVALID, NULL, NULL},
        {"$share/g/", ERR_INVALID, NULL, NULL},
        {"$share/+/a", ERR_INVALID, NULL, NULL},
        {"$share/#", ERR_INVALID, NULL, NULL},
        {"$share/g+/a", ERR_INVALID, NULL, NULL},
        {"$share/#g/a", ERR_INVALID, NULL, NULL},
        {"$share/g/a#", ERR_INVALID, NULL, NULL},
        {"$share/g/#/a", ERR_INVALID, NULL, NULL},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct topic_share share = {0};
        const int err = topic_share_parse(bytes_of(rows[i].text), &share);
        if (err != rows[i].err)
            fail_msg("'%s': %d", rows[i].text, err);
        if (err == 0) {
            assert_true(slice_equal(share.group, bytes_of(rows[i].group)));
            assert_true(slice_equal(share.filter, bytes_of(rows[i].filter)));
        }
    }
}

static void p2p_forms(void **state)
{
    (void)state;
    static const struct {
        const char *name, *first, *client_id;
    } rows[] = {
        {"t/p2p/c", "t", "c"},     {"t/p2p/c/d/", "t", "c/d/"}, {"/p2p/c", "", "c"},
        {"t/p2p/p2p", "t", "p2p"}, {"t/p2p//", "t", "/"},       {"t/p2p/", NULL, NULL},
        {"t/p2p", NULL, NULL},     {"t", NULL, NULL},           {"t/a/p2p/c", NULL, NULL},
        {"p2p/c", NULL, NULL},     {"t/P2P/c", NULL, NULL},     {"t/p2px/c", NULL, NULL},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct slice first, client_id;
        const bool found = topic_p2p_parse(bytes_of(rows[i].name), &first, &client_id);
        if (found != (rows[i].first != NULL))
            fail_msg("'%s'", rows[i].name);
        if (found) {
            assert_true(slice_equal(first, bytes_of(rows[i].first)));
            assert_true(slice_equal(client_id, bytes_of(rows[i].client_id)));
        }
    }
}

static void covers_knows_wider_filters(void **state)
{
    (void)state;
    static const struct {
        const char *filter, *other;
        bool covers;
    } rows[] = {
        {"a/b", "a/b", true},      {"a/b", "a/c", false},      {"a/b", "a/b/c", false},
        {"a/b/c", "a/b", false},   {"a/#", "a", true},         {"a/#", "a/#", true},
        {"a/#", "a/+/b", true},    {"a/#", "a/b/#", true},     {"a/#", "b", false},
        {"a/#", "#", false},       {"a/#", "+/b", false},      {"a/+", "a/b", true},
        {"a/+", "a/+", true},      {"a/+", "a/#", false},      {"a/+", "a", false},
        {"a/+", "a/b/c", false},   {"a/+/c", "a/b/c", true},   {"a/+/c", "a/+/c", true},
        {"a/b/c", "a/+/c", false}, {"#", "a/b", true},         {"#", "#", true},
        {"#", "+/a", true},        {"+", "#", false},          {"#", "$SYS/#", false},
        {"+/#", "$SYS/a", false},  {"$SYS/#", "$SYS/a", true}, {"a//b", "a//b", true},
        {"a/+/b", "a//b", true},   {"+/+", "/", true},         {"a/", "a", false},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        if (topic_covers(slice_str(rows[i].filter), slice_str(rows[i].other)) != rows[i].covers)
            fail_msg("%s and %s", rows[i].filter, rows[i].other);
    }
}

/* Names over a small alphabet, compared one by one. */
static bool share_a_name(struct slice filter, struct slice other)
{
    static const char letters[] = "ab/$";
    char name[6];
    for (uint32_t n = 0; n < 4096; n++) {
        for (size_t size = 1; size <= sizeof name; size++) {
            for (size_t i = 0; i < size; i++)
                name[i] = letters[(n >> (2 * i)) & 3];
            const struct slice text = slice_of(name, size);
            if (topic_match(filter, text) && topic_match(other, text))
                return true;
        }
    }
    return false;
}

static void overlaps_when_there_is_a_name(void **state)
{
    (void)state;
    static const char *const filters[] = {
        "a",   "a/b", "b/a", "+",  "+/b", "a/+", "+/+",  "#",    "a/#",  "+/#",  "a/b/#",
        "b/#", "/",   "/+",  "a/", "+/",  "$a",  "$a/#", "$a/+", "a/$b", "+/$b", "a/+/b",
    };
    for (size_t i = 0; i < ARRAY_COUNT(filters); i++) {
        for (size_t k = 0; k < ARRAY_COUNT(filters); k++) {
            const struct slice one = slice_str(filters[i]), other = slice_str(filters[k]);
            if (topic_overlaps(one, other) != share_a_name(one, other))
                fail_msg("%s and %s", filters[i], filters[k]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overlaps_when_there_is_a_name),
        cmocka_unit_test(check_grammar),
        cmocka_unit_test(check_every_place),
        cmocka_unit_test(check_limits),
        cmocka_unit_test(match_rows),
        cmocka_unit_test(levels_in_turn),
        cmocka_unit_test(share_forms),
        cmocka_unit_test(p2p_forms),
        cmocka_unit_test(covers_knows_wider_filters),
    };
    return cmocka_run_group_tests_name("mqtt/topic", tests, NULL, NULL);
}
