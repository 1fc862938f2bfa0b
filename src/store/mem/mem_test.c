/* What tests ask of the model engine beyond the contract, which test/conformance checks. */
#include "store/mem/mem.h"

#include "base/mem.h"
#include "base/unit.h"

#include <errno.h>
#include <string.h>

struct fixture {
    struct store *store;
    struct meta *meta;
};

struct ack {
    struct store_append req;
    bool done;
    int err;
};

struct pull {
    struct store_read req;
    bool done;
    int err;
};

static int set_up(void **state)
{
    struct fixture *fixture = mem_new(sizeof *fixture);
    assert_int_equal(mem_store_open(&fixture->store, &fixture->meta), 0);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    assert_null(store_close(fixture->store));
    mem_free(fixture);
    return 0;
}

static void on_append(struct store_append *req, int err)
{
    struct ack *ack = CONTAINER_OF(req, struct ack, req);
    assert_false(ack->done);
    ack->done = true;
    ack->err = err;
}

static void on_read(struct store_read *req, int err)
{
    struct pull *pull = CONTAINER_OF(req, struct pull, req);
    assert_false(pull->done);
    pull->done = true;
    pull->err = err;
}

/* Submits a message to queue 5 with a row named like its payload. */
static int submit(struct fixture *fixture, struct ack *ack, const char *payload, uint8_t level)
{
    static const uint32_t queue_id = 5;
    const struct message message = {
        .topic = slice_str("t"), .payload = slice_str(payload), .topic_id = 1};
    const struct meta_op op = {
        .kind = META_PUT, .key = slice_str(payload), .value = slice_str("v")};
    *ack = (struct ack){.req = {.message = &message,
                                .queue_ids = &queue_id,
                                .queue_count = 1,
                                .ops = &op,
                                .op_count = 1,
                                .level = level,
                                .done = on_append}};
    return store_append(fixture->store, &ack->req);
}

static int add_key(void *data, struct slice key, struct slice value)
{
    (void)value;
    char *text = data;
    const size_t size = strlen(text);
    memcpy(text + size, key.bytes, key.size);
    text[size + key.size] = '\0';
    return 0;
}

/* The payloads in queue 5 and the rows, one letter each, are both `expected`. */
static void check(struct fixture *fixture, const char *expected)
{
    char payloads[64] = "", keys[64] = "";
    struct pull read = {.req = {.queue_id = 5, .entries_max = 64, .bytes_max = 1000}};
    assert_int_equal(store_read(fixture->store, &read.req), 1);
    for (uint16_t i = 0; i < read.req.entry_count; i++)
        (void)add_key(payloads, read.req.entries[i].message.payload, slice_str(""));
    store_release(fixture->store, &read.req);
    assert_int_equal(meta_scan(fixture->meta, slice_str(""), add_key, keys), 0);
    assert_string_equal(payloads, expected);
    assert_string_equal(keys, expected);
}

static void requests_complete_in_order_when_told(void **state)
{
    struct fixture *fixture = *state;
    struct ack acks[3];
    mem_store_slow_reads(fixture->store, true);
    assert_int_equal(submit(fixture, &acks[0], "a", STORE_SYNC), 0);
    assert_int_equal(submit(fixture, &acks[1], "b", STORE_SYNC), 0);
    struct pull read = {.req = {.queue_id = 5, .entries_max = 9, .bytes_max = 99, .done = on_read}};
    assert_int_equal(store_read(fixture->store, &read.req), 0);
    assert_int_equal(submit(fixture, &acks[2], "c", STORE_SYNC), 0);
    assert_int_equal(mem_store_pending(fixture->store), 4);
    assert_int_equal(mem_store_step(fixture->store, 1), 1);
    assert_true(acks[0].done);
    assert_false(acks[1].done);
    assert_int_equal(mem_store_step(fixture->store, 2), 2);
    assert_true(read.done);
    assert_int_equal(read.req.entry_count, 2);
    store_release(fixture->store, &read.req);
    assert_false(acks[2].done);
    assert_int_equal(mem_store_step(fixture->store, 9), 1);
    assert_true(acks[2].done);
    mem_store_slow_reads(fixture->store, false);
    check(fixture, "abc");
}

static void the_nth_append_fails_with_those_behind_it(void **state)
{
    struct fixture *fixture = *state;
    struct ack acks[4];
    mem_store_fail_append(fixture->store, 2, -EIO);
    static const char *const names[] = {"a", "b", "c"};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++)
        assert_int_equal(submit(fixture, &acks[i], names[i], STORE_SYNC), 0);
    assert_int_equal(mem_store_failed(fixture->store), 2);
    assert_int_equal(mem_store_step(fixture->store, 1), 1);
    assert_true(acks[0].done);
    assert_int_equal(acks[0].err, 0);
    assert_false(acks[1].done);
    assert_int_equal(mem_store_step(fixture->store, 1), 1);
    assert_int_equal(acks[1].err, -EIO);
    assert_int_equal(acks[2].err, -EIO);
    assert_int_equal(mem_store_pending(fixture->store), 0);
    assert_int_equal(submit(fixture, &acks[3], "d", STORE_SYNC), 0);
    assert_int_equal(mem_store_step(fixture->store, 9), 1);
    check(fixture, "ad");
    mem_store_crash(&fixture->store, &fixture->meta, true);
    check(fixture, "ad");
}

/* Acknowledged as durable stays, also what is lazy before it; the rest depends on sync_lazy. */
static void a_crash_loses_what_it_may(void **state)
{
    for (int sync_lazy = 0; sync_lazy < 2; sync_lazy++) {
        struct fixture *fixture = *state;
        struct ack acks[5];
        assert_int_equal(submit(fixture, &acks[0], "a", STORE_LAZY), 0);
        assert_int_equal(submit(fixture, &acks[1], "b", STORE_SYNC), 0);
        assert_int_equal(submit(fixture, &acks[2], "c", STORE_LAZY), 0);
        assert_int_equal(submit(fixture, &acks[3], "d", STORE_LAZY), 0);
        assert_int_equal(submit(fixture, &acks[4], "e", STORE_SYNC), 0);
        assert_int_equal(mem_store_step(fixture->store, 3), 3);
        struct pull held = {.req = {.queue_id = 5, .entries_max = 9, .bytes_max = 99}};
        assert_int_equal(store_read(fixture->store, &held.req), 1);
        assert_int_equal(held.req.entry_count, 3);
        mem_store_crash(&fixture->store, &fixture->meta, sync_lazy);
        assert_int_equal(mem_store_pending(fixture->store), 0);
        check(fixture, sync_lazy ? "abc" : "ab");
        assert_false(acks[3].done);
        assert_false(acks[4].done);

        assert_int_equal(submit(fixture, &acks[0], "f", STORE_SYNC), 0);
        assert_int_equal(mem_store_step(fixture->store, 1), 1);
        assert_int_equal(acks[0].err, 0);
        check(fixture, sync_lazy ? "abcf" : "abf");
        (void)store_close(fixture->store);
        assert_int_equal(mem_store_open(&fixture->store, &fixture->meta), 0);
    }
}

/* The drop of a queue is in the log as well: a crash may bring the queue back, with all it had. */
static void a_crash_may_bring_a_dropped_queue_back(void **state)
{
    for (int sync_lazy = 0; sync_lazy < 2; sync_lazy++) {
        struct fixture *fixture = *state;
        struct ack acks[3];
        uint64_t first, next;
        assert_int_equal(submit(fixture, &acks[0], "a", STORE_SYNC), 0);
        assert_int_equal(submit(fixture, &acks[1], "b", STORE_SYNC), 0);
        assert_int_equal(mem_store_step(fixture->store, 1), 1);
        store_queue_drop(fixture->store, 5); /* b is under way */
        store_queue_bounds(fixture->store, 5, &first, &next);
        assert_int_equal(next, 0);
        assert_int_equal(mem_store_step(fixture->store, 9), 2);
        store_queue_bounds(fixture->store, 5, &first, &next);
        assert_int_equal(next, 0);
        mem_store_crash(&fixture->store, &fixture->meta, sync_lazy);
        store_queue_bounds(fixture->store, 5, &first, &next);
        assert_int_equal(first, 0);
        assert_int_equal(next, sync_lazy ? 0 : 2);
        if (!sync_lazy)
            check(fixture, "ab");
        assert_int_equal(submit(fixture, &acks[2], "c", STORE_SYNC), 0);
        assert_int_equal(mem_store_step(fixture->store, 9), 1);
        if (!sync_lazy)
            check(fixture, "abc");
        store_queue_bounds(fixture->store, 5, &first, &next);
        assert_int_equal(next, sync_lazy ? 0 : 3);
        (void)store_close(fixture->store);
        assert_int_equal(mem_store_open(&fixture->store, &fixture->meta), 0);
    }
}

struct told {
    uint32_t count;
    bool writable;
};

static void on_writable(void *data, bool writable, const char *reason)
{
    struct told *told = data;
    told->count++;
    told->writable = writable;
    assert_int_equal(reason[0] == '\0', writable);
}

static void appends_are_refused_while_not_writable(void **state)
{
    struct fixture *fixture = *state;
    struct told told = {0};
    const struct store_watcher watcher = {.on_writable = on_writable, .data = &told};
    fixture->store->ops->watch(fixture->store, &watcher);
    struct ack acks[2];
    assert_int_equal(submit(fixture, &acks[0], "a", STORE_SYNC), 0);
    mem_store_set_writable(fixture->store, false);
    mem_store_set_writable(fixture->store, false);
    assert_int_equal(told.count, 1);
    assert_false(told.writable);
    assert_int_equal(submit(fixture, &acks[1], "b", STORE_SYNC), ERR_UNAVAILABLE);
    assert_int_equal(mem_store_step(fixture->store, 9), 1);
    check(fixture, "a");
    mem_store_set_writable(fixture->store, true);
    assert_int_equal(told.count, 2);
    assert_true(told.writable);
    assert_int_equal(submit(fixture, &acks[1], "b", STORE_SYNC), 0);
    assert_int_equal(mem_store_step(fixture->store, 9), 1);
    check(fixture, "ab");
}

/* Nobody watches: a trim happens at once, and rows are not touched. */
static void a_trim_frees_messages(void **state)
{
    struct fixture *fixture = *state;
    struct ack acks[3];
    static const char *const names[] = {"a", "b", "c"};
    uint64_t positions[3];
    for (size_t i = 0; i < ARRAY_COUNT(acks); i++) {
        assert_int_equal(submit(fixture, &acks[i], names[i], STORE_LAZY), 0);
        assert_int_equal(mem_store_step(fixture->store, 1), 1);
        positions[i] = acks[i].req.stored.position;
    }
    mem_store_trim(fixture->store, positions[2]);
    uint64_t first, next;
    store_queue_bounds(fixture->store, 5, &first, &next);
    assert_int_equal(first, 2);
    assert_int_equal(next, 3);
    struct pull get = {
        .req = {.position = positions[1], .entries_max = 1, .bytes_max = 9, .done = on_read}};
    assert_int_equal(store_read(fixture->store, &get.req), 0);
    assert_int_equal(mem_store_step(fixture->store, 1), 1);
    assert_int_equal(get.err, ERR_TRIMMED);
    mem_store_crash(&fixture->store, &fixture->meta, false);
    store_queue_bounds(fixture->store, 5, &first, &next);
    assert_int_equal(first, 2);
    char keys[8] = "";
    assert_int_equal(meta_scan(fixture->meta, slice_str(""), add_key, keys), 0);
    assert_string_equal(keys, "abc");
}

/* Whichever allocation of a submit fails, nothing is appended and nothing leaks. */
static void failing_allocations_refuse_the_append(void **state)
{
    struct fixture *fixture = *state;
    struct ack ack;
    for (uint64_t n = 1; n <= 3; n++) {
        mem_fail_at(n);
        assert_int_equal(submit(fixture, &ack, "a", STORE_SYNC), ERR_NOMEM);
        mem_fail_at(0);
    }
    struct pull read = {.req = {.queue_id = 5, .entries_max = 1, .bytes_max = 9}};
    mem_fail_at(1);
    assert_int_equal(store_read(fixture->store, &read.req), ERR_NOMEM);
    mem_fail_at(0);
    assert_int_equal(mem_store_pending(fixture->store), 0);
    check(fixture, "");
    assert_int_equal(submit(fixture, &ack, "a", STORE_SYNC), 0);
    assert_int_equal(mem_store_step(fixture->store, 1), 1);
    check(fixture, "a");
}

static void a_loop_completes_requests(void **state)
{
    struct fixture *fixture = *state;
    struct loop *loop = NULL;
    assert_int_equal(loop_new(&loop, NULL), 0);
    struct ack acks[2];
    assert_int_equal(submit(fixture, &acks[0], "a", STORE_SYNC), 0);
    mem_store_attach(fixture->store, loop);
    assert_false(acks[0].done);
    assert_int_equal(loop_turn(loop, 0), 0);
    assert_true(acks[0].done);
    assert_int_equal(submit(fixture, &acks[1], "b", STORE_SYNC), 0);
    assert_false(acks[1].done);
    assert_int_equal(loop_turn(loop, 0), 0);
    assert_true(acks[1].done);
    check(fixture, "ab");
    fixture->store = store_close(fixture->store);
    (void)loop_free(loop);
    assert_int_equal(mem_store_open(&fixture->store, &fixture->meta), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(requests_complete_in_order_when_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_nth_append_fails_with_those_behind_it, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_crash_loses_what_it_may, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_crash_may_bring_a_dropped_queue_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(appends_are_refused_while_not_writable, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_trim_frees_messages, set_up, tear_down),
        cmocka_unit_test_setup_teardown(failing_allocations_refuse_the_append, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_loop_completes_requests, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
