#include "store/local/local_fixture.h"

enum { ROWS = 400, STEPS = 1200 };

static int set_up(void **state)
{
    struct fixture *fixture = fixture_new();
    fixture->config.checkpoint_ms = 60 * 1000;
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    fixture_free(*state);
    return 0;
}

static const struct local *engine(const struct fixture *fixture)
{
    return CONTAINER_OF(fixture->store, const struct local, store);
}

/* Rows of the last checkpoint, changed, removed and joined by others in the log since. */
static void the_log_comes_over_the_checkpoint(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    assert_int_equal(fixture_put_row(fixture, META_PUT, "b", "1"), 0);
    assert_int_equal(fixture_put_row(fixture, META_PUT, "bb", "1"), 0);
    assert_int_equal(fixture_put_row(fixture, META_PUT, "c", "1"), 0);
    assert_int_equal(fixture_put_row(fixture, META_PUT, "e", "1"), 0);
    fixture_close(fixture);
    fixture_open(fixture);
    assert_true(overlay_empty(&engine(fixture)->overlay));
    assert_int_equal(meta_count(fixture->meta, 'b'), 2);
    assert_int_equal(fixture_put_row(fixture, META_PUT, "a", "2"), 0);
    assert_int_equal(fixture_put_row(fixture, META_PUT, "bb", "22"), 0);
    assert_int_equal(fixture_put_row(fixture, META_DELETE, "c", ""), 0);
    assert_int_equal(fixture_put_row(fixture, META_DELETE, "cc", ""), 0);
    assert_int_equal(fixture_put_row(fixture, META_PUT, "d", "2"), 0);
    assert_int_equal(fixture_put_row(fixture, META_PUT, "f", "2"), 0);
    for (uint32_t turn = 0; turn < 3; turn++) {
        fixture_crash(fixture);
        fixture_open(fixture);
        assert_int_equal(engine(fixture)->overlay.rows.count, 6); /* LMDB has none of it yet */
        fixture_check_rows(fixture, "", "a=2;b=1;bb=22;d=2;e=1;f=2;");
        fixture_check_rows(fixture, "b", "b=1;bb=22;");
        fixture_check_rows(fixture, "c", "");
        fixture_check_rows(fixture, "d", "d=2;");
        fixture_check_rows(fixture, "g", "");
        assert_int_equal(meta_count(fixture->meta, 'a'), 1);
        assert_int_equal(meta_count(fixture->meta, 'c'), 1);
        assert_int_equal(meta_count(fixture->meta, 'z'), 0);
    }
    fixture_close(fixture);
    fixture_open(fixture);
    assert_true(overlay_empty(&engine(fixture)->overlay));
    fixture_check_rows(fixture, "", "a=2;b=1;bb=22;d=2;e=1;f=2;");
}

static int stop_at_second(void *data, struct slice key, struct slice value)
{
    (void)key;
    (void)value;
    return ++*(int *)data == 2 ? ERR_DENIED : 0;
}

/* Whichever of the two has the row at which the reader stops. */
static void a_reader_may_stop(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    assert_int_equal(fixture_put_row(fixture, META_PUT, "p2", "db"), 0);
    assert_int_equal(fixture_put_row(fixture, META_PUT, "q1", "db"), 0);
    fixture_close(fixture);
    fixture_open(fixture);
    assert_int_equal(fixture_put_row(fixture, META_PUT, "p1", "log"), 0);
    assert_int_equal(fixture_put_row(fixture, META_PUT, "p3", "log"), 0);
    assert_int_equal(fixture_put_row(fixture, META_PUT, "q2", "log"), 0);
    assert_int_equal(fixture_put_row(fixture, META_PUT, "q3", "log"), 0);
    fixture_crash(fixture);
    fixture_open(fixture);
    const char *const prefixes[] = {"p", "q", ""};
    for (size_t i = 0; i < ARRAY_COUNT(prefixes); i++) {
        int count = 0;
        assert_int_equal(meta_scan(fixture->meta, slice_str(prefixes[i]), stop_at_second, &count),
                         ERR_DENIED);
        assert_int_equal(count, 2);
    }
}

/* Soon after the start the rows go to LMDB, although no interval is over. */
static void the_next_checkpoint_is_due_at_once(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    assert_int_equal(fixture_put_row(fixture, META_PUT, "a", "1"), 0);
    fixture_crash(fixture);
    fixture_open(fixture);
    const struct store_stats before = fixture_stats(fixture);
    assert_true(before.applied_position < before.head_position);
    fixture_wait_metric(fixture, &fixture->metrics->store_checkpoints, 1);
    const struct store_stats after = fixture_stats(fixture);
    assert_int_equal(after.applied_position, before.head_position);
    fixture_crash(fixture);
    fixture_open(fixture);
    assert_true(overlay_empty(&engine(fixture)->overlay));
    fixture_check_rows(fixture, "", "a=1;");
}

/* --- a model ------------------------------------------------------------------------------- */

struct model {
    uint32_t values[ROWS]; /* 0: not there */
    uint32_t next;         /* the row to be seen next, or one behind it */
};

static void row_key(uint32_t n, char key[600])
{
    /* Some are longer than LMDB's keys may be, and share their first bytes. */
    if (n % 5 == 0)
        (void)snprintf(key, 600, "k%0500u", n / 50 * 50);
    (void)snprintf(n % 5 == 0 ? key + 501 : key, 90, n % 5 == 0 ? "%03u" : "k%03u", n);
}

static int see(void *data, struct slice key, struct slice value)
{
    struct model *model = data;
    char text[16];
    (void)snprintf(text, sizeof text, "%.*s", (int)value.size, (const char *)value.bytes);
    const uint32_t n = (uint32_t)strtoul(text, NULL, 10) % ROWS;
    char expected[600];
    row_key(n, expected);
    assert_true(slice_equal(key, slice_str(expected)));
    assert_int_equal(strtoul(text, NULL, 10), model->values[n]);
    model->next++;
    return 0;
}

struct ordered {
    uint8_t before[600];
    uint32_t size;
};

static int ascends(void *data, struct slice key, struct slice value)
{
    struct ordered *ordered = data;
    (void)value;
    const struct slice before = slice_of(ordered->before, ordered->size);
    const uint32_t size = MIN(before.size, key.size);
    const int order = size ? memcmp(before.bytes, key.bytes, size) : 0;
    assert_true(order < 0 || (order == 0 && before.size < key.size));
    memcpy(ordered->before, key.bytes, key.size);
    ordered->size = key.size;
    return 0;
}

static void check(struct fixture *fixture, struct model *model)
{
    uint32_t there = 0;
    struct ordered ordered = {.size = 0};
    for (uint32_t n = 0; n < ROWS; n++)
        there += model->values[n] != 0;
    model->next = 0;
    assert_int_equal(meta_scan(fixture->meta, slice_str("k"), see, model), 0);
    assert_int_equal(model->next, there);
    assert_int_equal(meta_scan(fixture->meta, slice_str(""), ascends, &ordered), 0);
    assert_true(meta_count(fixture->meta, 'k') >= there);
}

static void change_one(struct fixture *fixture, struct model *model, uint32_t step,
                       uint64_t *random)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    const uint32_t n = (uint32_t)(*random >> 33) % ROWS;
    const bool put = (*random >> 20) % 3 > 0;
    char key[600], value[16];
    row_key(n, key);
    model->values[n] = put ? (step + 1) * ROWS + n : 0;
    (void)snprintf(value, sizeof value, "%u", model->values[n]);
    const struct meta_op op = {.kind = put ? META_PUT : META_DELETE,
                               .key = slice_str(key),
                               .value = slice_str(put ? value : "")};
    struct fixture_append append = {.req.ops = &op, .req.op_count = 1};
    assert_int_equal(fixture_submit(fixture, &append, NULL, NULL, 0), 0);
    fixture_wait(fixture, &append.done);
}

/* Random changes, crashes, closes and checkpoints: a start always sees all rows, in order. */
static void agrees_with_a_model(void **state)
{
    struct fixture *fixture = *state;
    struct model *model = mem_new(sizeof *model);
    uint64_t random = 11;
    fixture_open(fixture);
    for (uint32_t step = 0; step < STEPS; step++) {
        change_one(fixture, model, step, &random);
        if (step % 100 != 99)
            continue;
        if (step % 300 == 299)
            fixture_close(fixture);
        else
            fixture_crash(fixture);
        fixture_open(fixture);
        check(fixture, model);
    }
    mem_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_log_comes_over_the_checkpoint, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_reader_may_stop, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_next_checkpoint_is_due_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(agrees_with_a_model, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
