#include "broker/retained.h"

#include "base/mem.h"
#include "base/unit.h"
#include "mqtt/topic.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOPICS = 3000, OPS = 100000, TEXT_MAX = 64 };

/* The naive model: topics in index order, and their entries. */
struct row {
    char text[TEXT_MAX];
    struct retained *entry; /* NULL: not in the index */
};

struct model {
    struct row rows[TOPICS];
    uint32_t count;
};

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

/* Order by definition: byte for byte, the end first, then '/', then the other bytes. */
static int compare(const void *a, const void *b)
{
    const uint8_t *x = a, *y = b;
    while (*x && *x == *y)
        x++, y++;
    const int rank_x = *x == '/' ? 1 : *x ? *x + 1 : 0;
    const int rank_y = *y == '/' ? 1 : *y ? *y + 1 : 0;
    return rank_x - rank_y;
}

/* Bytes around '/' and '$', so that the order matters. */
static void random_name(char *text, uint64_t *random, bool filter)
{
    static const char *const names[] = {"", "a", "b", "a!", "a0", "$", "$x", "%", "-", "ab", "é"};
    const uint32_t levels = 1 + next_random(random) % 5;
    size_t size = 0;
    for (uint32_t i = 0; i < levels; i++) {
        if (i > 0)
            text[size++] = '/';
        const uint32_t kind = filter ? next_random(random) % 6 : 5;
        const char *name = names[next_random(random) % ARRAY_COUNT(names)];
        if (kind < 2)
            name = "+";
        else if (kind == 2 && i + 1 == levels)
            name = "#";
        memcpy(text + size, name, strlen(name));
        size += strlen(name);
    }
    if (size == 0)
        text[size++] = '/';
    memset(text + size, 0, TEXT_MAX - size);
}

static void fill(struct model *model, uint64_t *random)
{
    uint32_t count = 0;
    memset(model, 0, sizeof *model);
    for (uint32_t i = 0; i < TOPICS; i++)
        random_name(model->rows[i].text, random, false);
    qsort(model->rows, TOPICS, sizeof model->rows[0], compare);
    for (uint32_t i = 0; i < TOPICS; i++) {
        if (count == 0 || strcmp(model->rows[count - 1].text, model->rows[i].text) != 0)
            model->rows[count++] = model->rows[i];
    }
    model->count = count;
    assert_true(count > TOPICS / 2);
}

/* Walks the filter in the index, with a stop after every `visits` entries, as the model says. */
static void check_walk(struct retained_index *index, const struct model *model, const char *text,
                       uint32_t visits)
{
    const struct slice filter = slice_str(text);
    char after[TEXT_MAX];
    uint32_t after_size = 0, calls = 0;
    for (uint32_t i = 0; i <= model->count; i++) {
        const struct row *row = &model->rows[i];
        if (i < model->count &&
            (!row->entry || !row->entry->present || !topic_match(filter, slice_str(row->text))))
            continue;
        struct retained *found;
        struct slice topic;
        do {
            found = retained_next(index, filter, slice_of(after, after_size), visits, &topic);
            assert_true(++calls < 2 * TOPICS);
            assert_true(topic.size < sizeof after);
            if (topic.size > 0) {
                /* it always goes forward */
                char seen[TEXT_MAX] = {0};
                memcpy(seen, topic.bytes, topic.size);
                after[after_size] = '\0';
                assert_true(after_size == 0 || compare(after, seen) < 0);
                memcpy(after, seen, sizeof after);
            }
            after_size = topic.size;
        } while (!found && topic.size > 0);
        assert_ptr_equal(found, i < model->count ? row->entry : NULL);
        if (found)
            assert_true(slice_equal(topic, slice_str(row->text)));
    }
}

static void change(struct retained_index *index, struct row *row, uint32_t kind)
{
    const struct slice topic = slice_str(row->text);
    assert_ptr_equal(retained_find(index, topic), row->entry);
    if (kind == 0) {
        retained_remove(index, topic);
        row->entry = NULL;
        return;
    }
    struct retained *entry = retained_put(index, topic);
    assert_non_null(entry);
    if (row->entry) {
        assert_ptr_equal(entry, row->entry);
        assert_int_equal(entry->position, (uint64_t)(uintptr_t)row);
    } else {
        assert_false(entry->present);
        entry->position = (uint64_t)(uintptr_t)row;
    }
    retained_mark(index, entry, kind > 1);
    row->entry = entry;
}

static void random_ops_agree_with_a_sorted_list(void **state)
{
    (void)state;
    static struct model model;
    uint64_t random = 7;
    fill(&model, &random);
    struct retained_index *index = retained_new();
    for (uint32_t op = 0; op < OPS; op++) {
        struct row *row = &model.rows[next_random(&random) % model.count];
        /* stretches of growth and of decline, some down to nothing */
        const bool declines = op / 10000 % 2;
        change(index, row, next_random(&random) % 100 < (declines ? 85 : 15) ? 0 : 1 + op % 8);
        if (op % 100 == 0) {
            char filter[TEXT_MAX];
            random_name(filter, &random, true);
            assert_int_equal(topic_filter_check(slice_str(filter), TOPIC_NO_LIMIT), 0);
            check_walk(index, &model, filter, op % 3 ? UINT32_MAX : 1 + op / 3 % 5);
        }
        if (op % 1000 == 0) {
            retained_check(index);
            check_walk(index, &model, "#", UINT32_MAX);
        }
    }
    uint64_t count = 0;
    for (uint32_t i = 0; i < model.count; i++)
        count += model.rows[i].entry && model.rows[i].entry->present;
    assert_int_equal(retained_count(index), count);
    for (uint32_t i = 0; i < model.count; i++)
        retained_remove(index, slice_str(model.rows[i].text));
    retained_check(index);
    assert_int_equal(retained_count(index), 0);
    check_walk(index, &(struct model){0}, "#", UINT32_MAX);
    assert_null(retained_free(index));
}

static struct retained *put(struct retained_index *index, struct slice topic)
{
    struct retained *entry = retained_put(index, topic);
    assert_non_null(entry);
    retained_mark(index, entry, true);
    return entry;
}

/* In order, in reverse order, and taken out from either end: nodes split and merge at the edges. */
static void ordered_ops(void **state)
{
    (void)state;
    for (uint32_t way = 0; way < 4; way++) {
        struct retained_index *index = retained_new();
        const uint64_t empty = retained_memory(index);
        const uint32_t count = 20000;
        char topic[16];
        for (uint32_t i = 0; i < count; i++) {
            snprintf(topic, sizeof topic, "t/%06u", way & 1 ? i : count - 1 - i);
            put(index, slice_str(topic));
        }
        retained_check(index);
        assert_true(retained_memory(index) - empty < count * 100);
        for (uint32_t i = 0; i < count; i++) {
            snprintf(topic, sizeof topic, "t/%06u", way & 2 ? i : count - 1 - i);
            retained_remove(index, slice_str(topic));
            if (i % 500 == 0)
                retained_check(index);
        }
        retained_check(index);
        assert_int_equal(retained_memory(index), empty);
        retained_free(index);
    }
}

/* A filter of single-level wildcards costs visits for what matches and for what is skipped over,
 * not for what lies beneath. */
static void walks_skip_subtrees(void **state)
{
    (void)state;
    struct retained_index *index = retained_new();
    char topic[64];
    for (uint32_t device = 0; device < 100; device++) {
        for (uint32_t value = 0; value < 100; value++) {
            snprintf(topic, sizeof topic, "site/d%02u/log/%02u", device, value);
            put(index, slice_str(topic));
        }
        snprintf(topic, sizeof topic, "site/d%02u/state", device);
        put(index, slice_str(topic));
    }
    uint32_t found = 0, calls = 0;
    struct slice after = slice_of(NULL, 0);
    do {
        found += retained_next(index, slice_str("site/+/state"), after, 1, &after) != NULL;
        calls++;
    } while (after.size > 0);
    assert_int_equal(found, 100);
    assert_true(calls <= 301);
    retained_free(index);
}

/* [MQTT3-4.7.2-1] [MQTT5-4.7.2-1] */
static void dollar_topics_are_hidden_from_wildcards(void **state)
{
    (void)state;
    static const char *const topics[] = {"!", "$SYS/a", "$SYS", "$x", "%", "a", "a/$b"};
    struct retained_index *index = retained_new();
    for (size_t i = 0; i < ARRAY_COUNT(topics); i++)
        put(index, slice_str(topics[i]));
    static const struct {
        const char *filter, *found;
    } cases[] = {
        {"#", "! % a a/$b "}, {"+", "! % a "},        {"$SYS/#", "$SYS $SYS/a "},
        {"+/a", ""},          {"$SYS/+", "$SYS/a "},  {"a/+", "a/$b "},
        {"$x", "$x "},        {"+/#", "! % a a/$b "}, {"b", ""},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        char found[64] = "";
        struct slice topic = slice_of(NULL, 0);
        while (retained_next(index, slice_str(cases[i].filter), topic, 100, &topic))
            snprintf(found + strlen(found), sizeof found - strlen(found), "%.*s ", (int)topic.size,
                     (const char *)topic.bytes);
        assert_string_equal(found, cases[i].found);
    }
    retained_free(index);
}

static void longest_topics(void **state)
{
    (void)state;
    static uint8_t bytes[TOPIC_SIZE_MAX], filter[TOPIC_SIZE_MAX];
    memset(bytes, 'x', sizeof bytes);
    memset(filter, 'x', sizeof filter);
    filter[0] = '+';
    filter[1] = '/';
    struct retained_index *index = retained_new();
    const struct retained *entry = put(index, slice_of(bytes, sizeof bytes));
    struct slice topic;
    assert_ptr_equal(retained_next(index, slice_str("#"), slice_of(NULL, 0), 9, &topic), entry);
    assert_null(retained_next(index, slice_of(filter, sizeof filter), topic, 9, &topic));
    assert_int_equal(topic.size, 0);
    memset(bytes, '/', sizeof bytes);
    const struct retained *slashes = put(index, slice_of(bytes, sizeof bytes));
    for (size_t i = 0; i < sizeof filter; i++)
        filter[i] = i % 2 ? '/' : '+';
    assert_null(retained_next(index, slice_of(filter, sizeof filter), topic, 9, &topic));
    memset(filter, '/', sizeof filter);
    filter[sizeof filter - 1] = '+';
    assert_null(retained_next(index, slice_of(filter, sizeof filter), topic, 9, &topic));
    assert_ptr_equal(retained_next(index, slice_of(filter, sizeof filter - 1), topic, 9, &topic),
                     NULL);
    filter[sizeof filter - 1] = '#';
    assert_ptr_equal(retained_next(index, slice_of(filter, sizeof filter), topic, 9, &topic),
                     slashes);
    retained_check(index);
    retained_free(index);
}

/* Whichever allocation fails, the index is as it was before. */
static void failing_allocations_change_nothing(void **state)
{
    (void)state;
    uint32_t failed = 0;
    struct retained_index *index = retained_new();
    uint64_t count = 0;
    for (uint32_t i = 0; i < 20000; i++) {
        char topic[16];
        snprintf(topic, sizeof topic, "%u", i * 7919 % 20000);
        mem_fail_at(1 + i % 4);
        struct retained *entry = retained_put(index, slice_str(topic));
        mem_fail_at(0);
        failed += entry == NULL;
        if (entry) {
            retained_mark(index, entry, true);
            count++;
        }
        assert_ptr_equal(retained_find(index, slice_str(topic)), entry);
        assert_int_equal(retained_count(index), count);
        if (i % 100 == 0)
            retained_check(index);
    }
    retained_check(index);
    assert_true(failed > 5000);
    retained_free(index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_ops_agree_with_a_sorted_list),
        cmocka_unit_test(ordered_ops),
        cmocka_unit_test(walks_skip_subtrees),
        cmocka_unit_test(dollar_topics_are_hidden_from_wildcards),
        cmocka_unit_test(longest_topics),
        cmocka_unit_test(failing_allocations_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
