#include "store/local/local_fixture.h"

/* So many rows make a checkpoint due by their size, one of them less does not. */
enum { ROWS = 671, VALUE_SIZE = 100000 };

static int set_up(void **state)
{
    struct fixture *fixture = fixture_new();
    fixture->config.checkpoint_ms = 60 * 1000;
    fixture_open(fixture);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    fixture_free(*state);
    return 0;
}

/* Row n as of `turn`: large, so that a checkpoint of all of them takes several steps. */
static void put(struct fixture *fixture, uint32_t n, uint32_t turn)
{
    static char value[VALUE_SIZE];
    char key[16];
    memset(value, (int)(n + turn), sizeof value);
    (void)snprintf(key, sizeof key, "row%03u", n);
    const struct meta_op op = {
        .kind = META_PUT, .key = slice_str(key), .value = slice_of(value, sizeof value)};
    struct fixture_append append = {.req.ops = &op, .req.op_count = 1};
    assert_int_equal(fixture_submit(fixture, &append, NULL, NULL, 0), 0);
    fixture_wait(fixture, &append.done);
    assert_int_equal(append.err, 0);
}

struct seen {
    uint32_t turns[ROWS]; /* 0: not there */
    uint32_t count;
};

static int note(void *data, struct slice key, struct slice value)
{
    struct seen *seen = data;
    const uint32_t n = (uint32_t)(key.bytes[3] - '0') * 100 + (uint32_t)(key.bytes[4] - '0') * 10 +
                       (uint32_t)(key.bytes[5] - '0');
    assert_true(n < ROWS);
    assert_int_equal(value.size, VALUE_SIZE);
    assert_int_equal(value.bytes[0], value.bytes[VALUE_SIZE - 1]);
    seen->turns[n] = (uint8_t)(value.bytes[0] - n);
    seen->count++;
    return 0;
}

static struct seen rows_seen(struct meta *meta)
{
    struct seen seen = {.count = 0};
    assert_int_equal(meta_scan(meta, slice_str("row"), note, &seen), 0);
    return seen;
}

/* What checkpoints have written so far, whatever the log has since. */
static struct seen rows_in_db(const struct fixture *fixture)
{
    return rows_seen(metadb_meta(CONTAINER_OF(fixture->store, struct local, store)->db));
}

static void begin_large_checkpoint(struct fixture *fixture)
{
    for (uint32_t n = 0; n < ROWS; n++)
        put(fixture, n, 1);
    fixture_wait_metric(fixture, &fixture->metrics->store_checkpoint_steps, 1);
}

/* A crash in the middle of a checkpoint: rows that were written ahead and have changed again, or
 * are gone again, and rows that were not reached, are all as the log has them. */
static void a_crash_between_steps_loses_nothing(void **state)
{
    struct fixture *fixture = *state;
    begin_large_checkpoint(fixture);
    const struct store_stats stats = fixture_stats(fixture);
    assert_true(stats.applied_position < stats.head_position);
    const struct seen ahead = rows_in_db(fixture);
    assert_true(ahead.count > 0);
    assert_true(ahead.count < ROWS);
    put(fixture, 0, 2);
    assert_int_equal(fixture_put_row(fixture, META_DELETE, "row001", ""), 0);
    put(fixture, ROWS - 1, 2);
    fixture_crash(fixture);
    fixture_open(fixture);
    const struct seen seen = rows_seen(fixture->meta);
    assert_int_equal(seen.count, ROWS - 1);
    for (uint32_t n = 0; n < ROWS; n++)
        assert_int_equal(seen.turns[n], n == 1 ? 0 : n == 0 || n == ROWS - 1 ? 2 : 1);
}

static void a_close_between_steps_writes_the_rest(void **state)
{
    struct fixture *fixture = *state;
    begin_large_checkpoint(fixture);
    put(fixture, 5, 2);
    fixture_close(fixture);
    fixture_open(fixture);
    const struct seen seen = rows_in_db(fixture);
    assert_int_equal(seen.count, ROWS);
    assert_int_equal(seen.turns[5], 2);
    const struct store_stats stats = fixture_stats(fixture);
    assert_int_equal(stats.applied_position, stats.head_position);
}

/* What changes while a checkpoint is under way goes with the next. */
static void a_change_meanwhile_goes_with_the_next(void **state)
{
    struct fixture *fixture = *state;
    begin_large_checkpoint(fixture);
    for (uint32_t n = 0; n < ROWS; n += 100)
        put(fixture, n, 2);
    fixture_wait_metric(fixture, &fixture->metrics->store_checkpoints, 1);
    const struct seen seen = rows_in_db(fixture);
    assert_int_equal(seen.count, ROWS);
    for (uint32_t n = 0; n < ROWS; n++)
        assert_int_equal(seen.turns[n], 1);
    assert_true(metric_get(&fixture->metrics->store_checkpoint_steps) > 10);
    fixture_crash(fixture);
    fixture_open(fixture);
    const struct seen after = rows_seen(fixture->meta);
    for (uint32_t n = 0; n < ROWS; n++)
        assert_int_equal(after.turns[n], n % 100 ? 1 : 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_crash_between_steps_loses_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_close_between_steps_writes_the_rest, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_change_meanwhile_goes_with_the_next, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
