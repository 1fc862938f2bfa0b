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

static struct local *engine_of(struct fixture *fixture)
{
    return CONTAINER_OF(fixture->store, struct local, store);
}

/* Opens again, so that nothing lies in the tail any more. */
static void cool_down(struct fixture *fixture)
{
    fixture_close(fixture);
    fixture_open(fixture);
}

static void a_large_message_is_got_from_disk(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    static char payload[200000];
    memset(payload, 'p', sizeof payload);
    const struct message message = {
        .topic = slice_str("t"), .payload = slice_of(payload, sizeof payload), .topic_id = 1};
    struct fixture_append append = {0};
    assert_int_equal(fixture_submit(fixture, &append, &message, NULL, 0), 0);
    fixture_wait(fixture, &append.done);
    cool_down(fixture);
    struct fixture_read read = {.req = {.position = append.position}};
    assert_int_equal(fixture_read(fixture, &read), 0);
    assert_int_equal(read.req.entry_count, 1);
    assert_true(slice_equal(read.req.entries[0].message.payload, message.payload));
    store_release(fixture->store, &read.req);
}

static void positions_that_hold_no_message_are_refused(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    uint64_t position = 0;
    assert_int_equal(fixture_append(fixture, "t", "m", 1, 5, &position), 0);
    assert_int_equal(fixture_put_row(fixture, META_PUT, "k", "v"), 0);
    const uint64_t head = fixture_stats(fixture).head_position;
    for (int round = 0; round < 2; round++) {
        struct fixture_read read = {.req = {.position = head}};
        assert_int_equal(fixture_read(fixture, &read), ERR_TRIMMED);
        read = (struct fixture_read){.req = {.position = 8}};
        assert_int_equal(fixture_read(fixture, &read), ERR_TRIMMED);
        read = (struct fixture_read){.req = {.position = position + 8}};
        assert_int_equal(fixture_read(fixture, &read), ERR_CORRUPT);
        read = (struct fixture_read){.req = {.position = position + 3}};
        assert_int_equal(fixture_read(fixture, &read), ERR_CORRUPT);
        read = (struct fixture_read){.req = {.position = head - 88}}; /* the row's record */
        assert_int_equal(fixture_read(fixture, &read), ERR_CORRUPT);
        cool_down(fixture);
    }
}

static void bytes_wanted_bound_what_is_read(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    fixture_append_many(fixture, 5, "message-", 0, 10); /* 3 + 9 bytes each */
    for (int round = 0; round < 2; round++) {
        struct fixture_read read = {.req = {.queue_id = 5, .bytes_max = 12 * 4}};
        assert_int_equal(fixture_read(fixture, &read), 0);
        assert_int_equal(read.req.entry_count, 4);
        store_release(fixture->store, &read.req);
        read = (struct fixture_read){.req = {.queue_id = 5, .bytes_max = 1}};
        assert_int_equal(fixture_read(fixture, &read), 0);
        assert_int_equal(read.req.entry_count, 1);
        store_release(fixture->store, &read.req);
        cool_down(fixture);
    }
}

/* Damage ends a read of several places before it, and fails only the read that begins with it. */
static void several_places_up_to_a_damaged_one(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    struct store_place places[10];
    for (size_t i = 0; i < ARRAY_COUNT(places); i++) {
        places[i].size = 3;
        assert_int_equal(fixture_append(fixture, "t", "m", 1, 5, &places[i].position), 0);
    }
    cool_down(fixture);
    const int fd = engine_of(fixture)->segments->items[0]->fd;
    const off_t offset =
        (off_t)segment_offset(engine_of(fixture)->segments->items[0], places[6].position) + 8;
    uint8_t byte = 0;
    assert_int_equal(pread(fd, &byte, 1, offset), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
    struct fixture_read read = {.req = {.places = places, .place_count = ARRAY_COUNT(places)}};
    assert_int_equal(fixture_read(fixture, &read), 0);
    assert_int_equal(read.req.entry_count, 6);
    store_release(fixture->store, &read.req);
    read = (struct fixture_read){.req = {.places = &places[6], .place_count = 4}};
    assert_int_equal(fixture_read(fixture, &read), ERR_CORRUPT);
    read = (struct fixture_read){.req = {.places = &places[7], .place_count = 3}};
    assert_int_equal(fixture_read(fixture, &read), 0);
    assert_int_equal(read.req.entry_count, 3);
    store_release(fixture->store, &read.req);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
}

/* A disk that fails, or a lack of memory, for all of them does not cost the first. */
static void several_places_fail_as_the_first_alone_does(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    struct store_place places[10];
    for (size_t i = 0; i < ARRAY_COUNT(places); i++) {
        places[i].size = 3;
        assert_int_equal(fixture_append(fixture, "t", "m", 1, 5, &places[i].position), 0);
    }
    cool_down(fixture);
    for (uint64_t nth = 1; nth <= 2; nth++) {
        struct fixture_read read = {.req = {.places = places, .place_count = ARRAY_COUNT(places)}};
        file_fail_at(FILE_OP_READ, nth, EIO, nth == 2);
        assert_int_equal(fixture_read(fixture, &read), 0);
        file_fail_at(FILE_OP_READ, 0, 0, false);
        assert_int_equal(read.req.entry_count, nth == 1 ? 1 : ARRAY_COUNT(places));
        store_release(fixture->store, &read.req);
    }
    struct fixture_read read = {.req = {.places = places, .place_count = ARRAY_COUNT(places)}};
    file_fail_at(FILE_OP_READ, 1, EIO, true);
    assert_int_equal(fixture_read(fixture, &read), -EIO);
    file_fail_at(FILE_OP_READ, 0, 0, false);
}

/* Some in memory, some on disk only: the tail has been written. */
static void several_places_in_the_tail_and_not(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    struct store_place places[10];
    for (size_t i = 0; i < ARRAY_COUNT(places); i++) {
        const size_t at = (i * 3) % ARRAY_COUNT(places);
        places[at].size = 3;
        assert_int_equal(fixture_append(fixture, "t", "m", 1, 5, &places[at].position), 0);
        if (i == ARRAY_COUNT(places) / 2)
            cool_down(fixture);
    }
    struct fixture_read read = {.req = {.places = places, .place_count = ARRAY_COUNT(places)}};
    assert_int_equal(fixture_read(fixture, &read), 0);
    assert_int_equal(read.req.entry_count, ARRAY_COUNT(places));
    for (size_t i = 0; i < ARRAY_COUNT(places); i++)
        assert_int_equal(read.req.entries[i].message.position, places[i].position);
    store_release(fixture->store, &read.req);
}

/* A segment may be freed while a worker reads it: the read begins again at the first entry kept. */
static void a_read_overtaken_by_a_trim_begins_again(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    fixture_append_many(fixture, 5, "m", 0, 10);
    cool_down(fixture);
    struct local *local = engine_of(fixture);
    struct fixture_read read = {
        .req = {.queue_id = 5, .entries_max = 64, .bytes_max = 1000, .done = fixture_on_read}};
    const int fd = local->segments->items[0]->fd;
    uint8_t first[64], zeros[64] = {0};
    assert_int_equal(pread(fd, first, sizeof first, 4096), sizeof first);
    assert_int_equal(pwrite(fd, zeros, sizeof zeros, 4096), sizeof zeros);
    assert_int_equal(store_read(fixture->store, &read.req), 0);
    qindex_find(&local->index, 5)->first_seq = 4; /* as retention does when it has freed them */
    fixture_wait(fixture, &read.done);
    assert_int_equal(read.err, 0);
    assert_int_equal(read.req.entry_count, 6);
    assert_int_equal(read.req.entries[0].seq, 4);
    assert_true(slice_equal(read.req.entries[0].message.payload, slice_str("m4")));
    store_release(fixture->store, &read.req);
    assert_int_equal(pwrite(fd, first, sizeof first, 4096), sizeof first);
}

static void a_cancelled_read_is_not_heard_of(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    fixture_append_many(fixture, 5, "m", 0, 10);
    cool_down(fixture);
    struct fixture_read read = {
        .req = {.queue_id = 5, .entries_max = 64, .bytes_max = 1000, .done = fixture_on_read}};
    assert_int_equal(store_read(fixture->store, &read.req), 0);
    store_release(fixture->store, &read.req);
    fixture_until(fixture, engine_of(fixture)->work_count == 0);
    assert_false(read.done);
}

static void a_read_pending_at_the_end_is_cancelled(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    fixture_append_many(fixture, 5, "m", 0, 10);
    cool_down(fixture);
    struct fixture_read read = {
        .req = {.queue_id = 5, .entries_max = 64, .bytes_max = 1000, .done = fixture_on_read}};
    assert_int_equal(store_read(fixture->store, &read.req), 0);
    fixture_close(fixture);
    assert_true(read.done);
    assert_int_equal(read.err, -ECANCELED);
}

static void an_append_pending_at_the_end_is_written(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    struct fixture_append append = {0};
    const uint32_t queue_id = 5;
    const struct message message = {
        .topic = slice_str("t"), .payload = slice_str("m0"), .topic_id = 1};
    assert_int_equal(fixture_submit(fixture, &append, &message, &queue_id, 1), 0);
    fixture_close(fixture);
    assert_true(append.done);
    assert_int_equal(append.err, 0);
    fixture_open(fixture);
    fixture_check_queue(fixture, 5, "m", 0, 1);
}

/* An entry that leads to a record of another queue is damage, not an answer. */
static void an_entry_that_leads_astray_is_noticed(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    fixture_append_many(fixture, 5, "m", 0, 2);
    cool_down(fixture);
    struct local *local = engine_of(fixture);
    uint64_t first = 0, next = 0;
    const uint64_t end = local->done_end;
    store_queue_bounds(fixture->store, 5, &first, &next);
    (void)qindex_add(&local->index, 6, end - (end - 4096) / 2, (uint32_t)(end - 4096) / 2);
    struct fixture_read read = {.req = {.queue_id = 6}};
    assert_int_equal(fixture_read(fixture, &read), ERR_CORRUPT);
}

static void no_memory_is_said_at_once(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    fixture_append_many(fixture, 5, "m", 0, 2);
    for (int round = 0; round < 2; round++) {
        struct fixture_read read = {
            .req = {.queue_id = 5, .entries_max = 64, .bytes_max = 1000, .done = fixture_on_read}};
        mem_fail_at(1);
        assert_int_equal(store_read(fixture->store, &read.req), ERR_NOMEM);
        mem_fail_at(0);
        store_release(fixture->store, &read.req);
        read.req.queue_id = 0;
        read.req.position = 4096;
        mem_fail_at(1);
        assert_int_equal(store_read(fixture->store, &read.req), ERR_NOMEM);
        mem_fail_at(0);
        cool_down(fixture);
    }
    fixture_check_queue(fixture, 5, "m", 0, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_large_message_is_got_from_disk, set_up, tear_down),
        cmocka_unit_test_setup_teardown(positions_that_hold_no_message_are_refused, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(bytes_wanted_bound_what_is_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(several_places_up_to_a_damaged_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(several_places_fail_as_the_first_alone_does, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(several_places_in_the_tail_and_not, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_read_overtaken_by_a_trim_begins_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_cancelled_read_is_not_heard_of, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_read_pending_at_the_end_is_cancelled, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_append_pending_at_the_end_is_written, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_entry_that_leads_astray_is_noticed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_memory_is_said_at_once, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
