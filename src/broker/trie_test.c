#include "broker/trie.h"

#include "base/mem.h"
#include "base/unit.h"
#include "mqtt/topic.h"

#include <stdio.h>
#include <string.h>

enum { FILTERS = 3000, OPS = 100000, TEXT_MAX = 120 };

struct row {
    char text[TEXT_MAX];
    bool in;
};

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

/* A level from a small alphabet, so that filters and topics meet; some are empty, some longer than
 * what a node holds inline. */
static size_t put_level(char *text, uint64_t *random)
{
    static const char *const levels[] = {"",     "a", "b", "c",  "$",
                                         "$SYS", "d", "ä", "xx", "level-12"};
    const uint32_t pick = next_random(random) % 12;
    if (pick < ARRAY_COUNT(levels)) {
        memcpy(text, levels[pick], strlen(levels[pick]));
        return strlen(levels[pick]);
    }
    memset(text, 'l', 13 + pick % 3);
    return 13 + pick % 3;
}

static void random_topic(char *text, uint64_t *random, bool filter)
{
    const uint32_t levels = 1 + next_random(random) % 5;
    size_t size = 0;
    for (uint32_t i = 0; i < levels; i++) {
        if (i > 0)
            text[size++] = '/';
        const uint32_t kind = filter ? next_random(random) % 8 : 7;
        if (kind < 2)
            text[size++] = '+';
        else if (kind == 2 && i + 1 == levels)
            text[size++] = '#';
        else
            size += put_level(text + size, random);
    }
    if (size == 0)
        text[size++] = '/';
    text[size] = '\0';
}

static void check_match(struct trie *trie, struct row *rows, const char *topic)
{
    static bool seen[FILTERS];
    memset(seen, 0, sizeof seen);
    const struct trie_matches matches = trie_match(trie, slice_str(topic));
    for (uint32_t i = 0; i < matches.count; i++) {
        const struct row *row = matches.values[i];
        assert_true(row >= rows && row < rows + FILTERS);
        assert_false(seen[row - rows]);
        seen[row - rows] = true;
    }
    for (uint32_t i = 0; i < FILTERS; i++) {
        const bool expected = rows[i].in && topic_match(slice_str(rows[i].text), slice_str(topic));
        if (seen[i] != expected)
            fail_msg("filter '%s', topic '%s': %d", rows[i].text, topic, seen[i]);
    }
}

/* The row with this text, so that equal texts are one filter. */
static struct row *row_of(struct row *rows, const char *text)
{
    for (uint32_t i = 0; i < FILTERS && rows[i].text[0]; i++) {
        if (strcmp(rows[i].text, text) == 0)
            return &rows[i];
    }
    return NULL;
}

static void fill_rows(struct row *rows, uint64_t *random)
{
    for (uint32_t i = 0; i < FILTERS;) {
        char text[TEXT_MAX];
        random_topic(text, random, true);
        assert_int_equal(topic_filter_check(slice_str(text), TOPIC_NO_LIMIT), 0);
        if (!row_of(rows, text))
            memcpy(rows[i++].text, text, sizeof text);
    }
}

/* Random inserts, removes and matches give what comparing every filter gives. */
static void random_ops(uint32_t cache_entries, uint64_t seed)
{
    static struct row rows[FILTERS];
    memset(rows, 0, sizeof rows);
    fill_rows(rows, &seed);
    struct trie *trie = trie_new(cache_entries);
    uint64_t count = 0;
    for (uint32_t op = 0; op < OPS; op++) {
        struct row *row = &rows[next_random(&seed) % FILTERS];
        const struct slice filter = slice_str(row->text);
        const uint32_t kind = next_random(&seed) % 100;
        assert_ptr_equal(trie_find(trie, filter), row->in ? row : NULL);
        /* long stretches of growth, then of decline */
        if (kind < (op / 10000 % 2 ? 30 : 65)) {
            assert_int_equal(trie_insert(trie, filter, row), row->in ? ERR_EXISTS : 0);
            count += row->in ? 0 : 1;
            row->in = true;
        } else if (kind < 95) {
            assert_ptr_equal(trie_remove(trie, filter), row->in ? row : NULL);
            count -= row->in ? 1 : 0;
            row->in = false;
        } else {
            char topic[TEXT_MAX];
            random_topic(topic, &seed, false);
            check_match(trie, rows, topic);
            check_match(trie, rows, topic);
        }
        assert_int_equal(trie_count(trie), count);
        if (op % 1000 == 0)
            trie_check(trie);
    }
    for (uint32_t i = 0; i < FILTERS; i++)
        assert_ptr_equal(trie_remove(trie, slice_str(rows[i].text)), rows[i].in ? &rows[i] : NULL);
    trie_check(trie);
    assert_int_equal(trie_count(trie), 0);
    assert_null(trie_free(trie));
}

static void random_ops_agree_with_topic_match(void **state)
{
    (void)state;
    random_ops(1024, 1);
    random_ops(16, 2);
    random_ops(0, 3);
}

struct case_row {
    const char *filter, *topic;
    bool matches;
};

/* [MQTT3-4.7.1-2] [MQTT3-4.7.1-3] [MQTT3-4.7.2-1] [MQTT5-4.7.1-1] [MQTT5-4.7.1-2]
 * [MQTT5-4.7.2-1]: the specifications' own examples. */
static void wildcards_match_as_specified(void **state)
{
    (void)state;
    static const struct case_row cases[] = {
        {"sport/tennis/player1/#", "sport/tennis/player1", true},
        {"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
        {"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
        {"sport/#", "sport", true},
        {"sport/tennis/+", "sport/tennis/player1", true},
        {"sport/tennis/+", "sport/tennis/player1/ranking", false},
        {"sport/+", "sport", false},
        {"sport/+", "sport/", true},
        {"+/+", "/finance", true},
        {"/+", "/finance", true},
        {"+", "/finance", false},
        {"#", "$SYS/x", false},
        {"+/monitor/Clients", "$SYS/monitor/Clients", false},
        {"$SYS/#", "$SYS/x", true},
        {"$SYS/#", "$SYS", true},
        {"$SYS/monitor/+", "$SYS/monitor/Clients", true},
        {"a/+", "a/$b", true},
        {"#", "a/$b", true},
        {"a//b", "a//b", true},
        {"a//b", "a/b", false},
        {"/", "/", true},
        {"ACCOUNTS", "Accounts", false},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct trie *trie = trie_new(16);
        assert_int_equal(trie_insert(trie, slice_str(cases[i].filter), trie), 0);
        const struct trie_matches matches = trie_match(trie, slice_str(cases[i].topic));
        if (matches.count != cases[i].matches)
            fail_msg("'%s' and '%s'", cases[i].filter, cases[i].topic);
        trie_free(trie);
    }
}

/* The longest topic there is, as one level and as one of only empty levels. */
static void longest_topics(void **state)
{
    (void)state;
    static uint8_t bytes[TOPIC_SIZE_MAX];
    int one, slashes, wildcards;
    struct trie *trie = trie_new(16);
    memset(bytes, 'x', sizeof bytes);
    assert_int_equal(trie_insert(trie, slice_of(bytes, sizeof bytes), &one), 0);
    memset(bytes, '/', sizeof bytes);
    assert_int_equal(trie_insert(trie, slice_of(bytes, sizeof bytes), &slashes), 0);
    for (size_t i = 0; i < sizeof bytes; i += 2)
        bytes[i] = '+';
    assert_int_equal(trie_insert(trie, slice_of(bytes, sizeof bytes), &wildcards), 0);
    trie_check(trie);

    memset(bytes, '/', sizeof bytes);
    struct trie_matches matches = trie_match(trie, slice_of(bytes, sizeof bytes));
    assert_int_equal(matches.count, 1);
    assert_ptr_equal(matches.values[0], &slashes);
    matches = trie_match(trie, slice_of(bytes, sizeof bytes / 2));
    assert_int_equal(matches.count, 1);
    assert_ptr_equal(matches.values[0], &wildcards);
    memset(bytes, 'x', sizeof bytes);
    matches = trie_match(trie, slice_of(bytes, sizeof bytes));
    assert_int_equal(matches.count, 1);
    assert_ptr_equal(trie_remove(trie, slice_of(bytes, sizeof bytes)), &one);
    assert_int_equal(trie_match(trie, slice_of(bytes, sizeof bytes)).count, 0);
    trie_check(trie);
    trie_free(trie);
}

/* A result can be read until MATCH_RESULT_LIFE more have been given, however small the cache. */
static void results_outlive_further_matches(void **state)
{
    (void)state;
    static const uint32_t cache_sizes[] = {0, 4, 64};
    for (size_t size = 0; size < ARRAY_COUNT(cache_sizes); size++) {
        struct trie *trie = trie_new(cache_sizes[size]);
        char topics[512][8];
        for (uint32_t i = 0; i < 512; i++) {
            snprintf(topics[i], sizeof topics[i], "t/%u", i);
            assert_int_equal(trie_insert(trie, slice_str(topics[i]), topics[i]), 0);
        }
        struct trie_matches results[512];
        for (uint32_t i = 0; i < 512; i++) {
            results[i] = trie_match(trie, slice_str(topics[i]));
            for (uint32_t back = 0; back <= MIN(i, (uint32_t)MATCH_RESULT_LIFE); back++) {
                assert_int_equal(results[i - back].count, 1);
                assert_ptr_equal(results[i - back].values[0], topics[i - back]);
            }
        }
        trie_check(trie);
        trie_free(trie);
    }
}

/* A change under one first-level topic leaves what is remembered of another; a wildcard in front
 * changes all but the '$' topics. The same array coming back says that it was remembered. */
static void changes_flush_what_they_concern(void **state)
{
    (void)state;
    int value;
    struct trie *trie = trie_new(64);
    assert_int_equal(trie_insert(trie, slice_str("a/#"), &value), 0);
    assert_int_equal(trie_insert(trie, slice_str("$SYS/#"), &value), 0);
    const struct trie_matches a = trie_match(trie, slice_str("a/b"));
    const struct trie_matches sys = trie_match(trie, slice_str("$SYS/b"));
    assert_int_equal(trie_insert(trie, slice_str("b/c"), &value), 0);
    assert_ptr_equal(trie_match(trie, slice_str("a/b")).values, a.values);

    assert_int_equal(trie_insert(trie, slice_str("+/b"), &value), 0);
    assert_int_equal(trie_match(trie, slice_str("a/b")).count, 2);
    assert_ptr_equal(trie_match(trie, slice_str("$SYS/b")).values, sys.values);
    assert_ptr_equal(trie_remove(trie, slice_str("+/b")), &value);
    assert_int_equal(trie_match(trie, slice_str("a/b")).count, 1);
    assert_ptr_equal(trie_remove(trie, slice_str("a/#")), &value);
    assert_int_equal(trie_match(trie, slice_str("a/b")).count, 0);
    trie_free(trie);
}

/* Large topics and results do not make the cache larger than its bytes allow. */
static void cache_bytes_are_bounded(void **state)
{
    (void)state;
    int value;
    struct trie *trie = trie_new(1024);
    assert_int_equal(trie_insert(trie, slice_str("#"), &value), 0);
    const uint64_t before = trie_memory(trie);
    static char topic[1100];
    memset(topic, 'x', sizeof topic);
    for (uint32_t i = 0; i < 5000; i++) {
        snprintf(topic, 16, "%u", i);
        topic[strlen(topic)] = 'x';
        assert_int_equal(trie_match(trie, slice_of(topic, 200 + i % 900)).count, 1);
    }
    trie_check(trie);
    assert_true(trie_memory(trie) < before + 1024 * 512 + 64 * 1024);
    trie_free(trie);
}

/* Whichever allocation fails, the trie is as it was before. */
static void failing_allocations_change_nothing(void **state)
{
    (void)state;
    uint32_t failed = 0;
    for (uint64_t n = 1; n < 8; n++) {
        struct trie *trie = trie_new(0);
        char filter[64];
        uint32_t inserted = 0;
        for (uint32_t i = 0; i < 2000; i++) {
            snprintf(filter, sizeof filter, "a/%u/a level that is not inline/%u", i % 50, i);
            mem_fail_at(n);
            const int err = trie_insert(trie, slice_str(filter), trie);
            mem_fail_at(0);
            assert_true(err == 0 || err == ERR_NOMEM);
            assert_ptr_equal(trie_find(trie, slice_str(filter)), err ? NULL : trie);
            inserted += err == 0;
            failed += err < 0;
            assert_int_equal(trie_count(trie), inserted);
            if (i % 100 == 0)
                trie_check(trie);
        }
        trie_check(trie);
        trie_free(trie);
    }
    assert_true(failed > 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_ops_agree_with_topic_match),
        cmocka_unit_test(wildcards_match_as_specified),
        cmocka_unit_test(longest_topics),
        cmocka_unit_test(results_outlive_further_matches),
        cmocka_unit_test(changes_flush_what_they_concern),
        cmocka_unit_test(cache_bytes_are_bounded),
        cmocka_unit_test(failing_allocations_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
