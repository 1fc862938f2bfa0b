#include "store/local/local_fixture.h"

#include <errno.h>

static int set_up(void **state)
{
    *state = fixture_new();
    return 0;
}

static int tear_down(void **state)
{
    fixture_free(*state);
    return 0;
}

static void appended_messages_are_read_back(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    fixture_append_many(fixture, 5, "m", 0, 100);
    fixture_check_queue(fixture, 5, "m", 0, 100);
    fixture_check_queue(fixture, 1, "m", 0, 100);
    struct fixture_read read = {.req = {.queue_id = 5, .from_seq = 42, .entries_max = 1}};
    assert_int_equal(fixture_read(fixture, &read), 0);
    const struct store_entry *entry = &read.req.entries[0];
    assert_int_equal(entry->queue_count, 1);
    assert_int_equal(entry->queue_ids[0], 5);
    assert_int_equal(entry->message.publisher, 7);
    assert_int_equal(entry->message.time_ms, 1234567);
    assert_int_equal(entry->message.topic_id, 1);
    assert_int_equal(entry->message.qos, 1);
    assert_true(slice_equal(entry->message.client_id, slice_str("client")));
    const uint64_t position = entry->message.position;
    store_release(fixture->store, &read.req);
    read = (struct fixture_read){.req = {.position = position}};
    assert_int_equal(fixture_read(fixture, &read), 0);
    assert_int_equal(read.req.entry_count, 1);
    assert_true(slice_equal(read.req.entries[0].message.payload, slice_str("m42")));
    store_release(fixture->store, &read.req);
}

static void everything_acknowledged_survives_a_crash(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    fixture_append_many(fixture, 5, "m", 0, 50);
    fixture_crash(fixture);
    fixture_open(fixture);
    fixture_check_queue(fixture, 5, "m", 0, 50);
    fixture_append_many(fixture, 5, "m", 50, 80);
    fixture_check_queue(fixture, 5, "m", 0, 80);
    fixture_crash(fixture);
    fixture_open(fixture);
    fixture_check_queue(fixture, 5, "m", 0, 80);
    fixture_check_queue(fixture, 1, "m", 0, 80);
    fixture_close(fixture);
    fixture_open(fixture);
    fixture_check_queue(fixture, 5, "m", 0, 80);
}

static void the_log_goes_on_over_many_segments(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    static struct fixture_append appends[64];
    static char payload[100000];
    memset(payload, 'x', sizeof payload);
    const uint32_t queue_id = 9;
    const struct message message = {
        .topic = slice_str("t"), .payload = slice_of(payload, sizeof payload), .topic_id = 2};
    for (size_t i = 0; i < ARRAY_COUNT(appends); i++)
        assert_int_equal(fixture_submit(fixture, &appends[i], &message, &queue_id, 1), 0);
    fixture_wait(fixture, &appends[ARRAY_COUNT(appends) - 1].done);
    for (size_t i = 0; i < ARRAY_COUNT(appends); i++) {
        assert_true(appends[i].done);
        assert_int_equal(appends[i].err, 0);
        assert_int_equal(appends[i].seqs[0], i);
    }
    assert_true(fixture_stats(fixture).segment_count >= 6);
    fixture_crash(fixture);
    fixture_open(fixture);
    uint64_t first = 0, next = 0;
    store_queue_bounds(fixture->store, 9, &first, &next);
    assert_int_equal(next, ARRAY_COUNT(appends));
    for (uint64_t seq = 0; seq < next;) {
        struct fixture_read read = {.req = {.queue_id = 9, .from_seq = seq}};
        assert_int_equal(fixture_read(fixture, &read), 0);
        assert_true(read.req.entry_count > 1 || seq + 1 == next);
        for (uint16_t i = 0; i < read.req.entry_count; i++) {
            const struct slice bytes = read.req.entries[i].message.payload;
            assert_int_equal(bytes.size, sizeof payload);
            assert_memory_equal(bytes.bytes, payload, sizeof payload);
        }
        seq += read.req.entry_count;
        store_release(fixture->store, &read.req);
    }
}

static void rows_survive_crash_and_close(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    assert_int_equal(fixture_put_row(fixture, META_PUT, "b", "1"), 0);
    assert_int_equal(fixture_put_row(fixture, META_PUT, "a", "2"), 0);
    assert_int_equal(fixture_put_row(fixture, META_PUT, "c", "3"), 0);
    assert_int_equal(fixture_put_row(fixture, META_PUT, "a", "longer than before"), 0);
    assert_int_equal(fixture_put_row(fixture, META_DELETE, "b", ""), 0);
    fixture_crash(fixture);
    fixture_open(fixture);
    fixture_check_rows(fixture, "", "a=longer than before;c=3;");
    assert_int_equal(fixture_put_row(fixture, META_DELETE, "a", ""), 0);
    assert_int_equal(fixture_put_row(fixture, META_PUT, "cc", "4"), 0);
    fixture_close(fixture);
    fixture_open(fixture);
    fixture_check_rows(fixture, "c", "c=3;cc=4;");
}

static void a_second_process_is_kept_out(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    struct store *first = fixture->store;
    assert_int_equal(fixture_try_open(fixture), -EWOULDBLOCK);
    fixture->store = first;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(appended_messages_are_read_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(everything_acknowledged_survives_a_crash, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_log_goes_on_over_many_segments, set_up, tear_down),
        cmocka_unit_test_setup_teardown(rows_survive_crash_and_close, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_second_process_is_kept_out, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
