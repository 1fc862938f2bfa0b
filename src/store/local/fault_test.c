/* Failing I/O, operation by operation: what was acknowledged is there after a crash, what comes
 * back is in order and at most once, and the engine recovers by itself when the fault has passed.
 * The order of syncs and acknowledgements is tested here too, by making syncs fail.
 */
#include "store/local/local_fixture.h"

#include <errno.h>

enum { MESSAGES = 30, GROUP = 3, PAYLOAD_SIZE = 60000 };

static int set_up(void **state)
{
    *state = fixture_new();
    return 0;
}

static int tear_down(void **state)
{
    for (int op = 0; op < FILE_OP_COUNT; op++)
        file_fail_at((enum file_op)op, 0, 0, false);
    fixture_free(*state);
    return 0;
}

struct ledger {
    struct fixture *fixture;
    bool acknowledged[MESSAGES];
    bool writable;
    uint32_t failures;
};

static void on_writable(void *data, bool writable, const char *reason)
{
    struct ledger *ledger = data;
    ledger->writable = writable;
    if (!writable)
        assert_true(reason[0] != '\0');
}

static void watch(struct ledger *ledger)
{
    const struct store_watcher watcher = {.on_writable = on_writable, .data = ledger};
    ledger->writable = true;
    ledger->fixture->store->ops->watch(ledger->fixture->store, &watcher);
}

/* Appends messages 0 to MESSAGES in groups. Goes on after failures unless `stop`. */
static void publish(struct ledger *ledger, bool stop)
{
    static uint8_t payload[PAYLOAD_SIZE];
    struct fixture *fixture = ledger->fixture;
    const uint32_t queue_id = 5;
    for (uint32_t from = 0; from < MESSAGES; from += GROUP) {
        struct fixture_append appends[GROUP] = {0};
        for (uint32_t i = 0; i < GROUP; i++) {
            const struct message message = {.topic = slice_str("t"),
                                            .payload = slice_of(payload, sizeof payload),
                                            .topic_id = 1};
            payload[0] = (uint8_t)(from + i);
            const int err = fixture_submit(fixture, &appends[i], &message, &queue_id, 1);
            assert_true(err == 0 || err == ERR_UNAVAILABLE);
            if (err < 0)
                appends[i] = (struct fixture_append){.done = true, .err = err};
        }
        bool failed = false;
        for (uint32_t i = 0; i < GROUP; i++) {
            fixture_wait(fixture, &appends[i].done);
            assert_true(appends[i].err == 0 || appends[i].err == ERR_UNAVAILABLE);
            assert_false(failed && appends[i].err == 0); /* none after a failed one */
            ledger->acknowledged[from + i] = appends[i].err == 0;
            failed |= appends[i].err < 0;
        }
        ledger->failures += failed;
        if (failed && stop)
            return;
        if (failed)
            fixture_wait(fixture, &ledger->writable);
    }
}

/* Every acknowledged message is in the queue, in order; none is there twice. */
static void check_ledger(const struct ledger *ledger)
{
    struct fixture *fixture = ledger->fixture;
    uint64_t first = 0, next = 0;
    bool found[MESSAGES] = {0};
    int last = -1;
    store_queue_bounds(fixture->store, 5, &first, &next);
    for (uint64_t seq = first; seq < next;) {
        struct fixture_read read = {.req = {.queue_id = 5, .from_seq = seq}};
        assert_int_equal(fixture_read(fixture, &read), 0);
        assert_true(read.req.entry_count > 0);
        for (uint16_t i = 0; i < read.req.entry_count; i++, seq++) {
            const struct slice payload = read.req.entries[i].message.payload;
            assert_int_equal(payload.size, PAYLOAD_SIZE);
            assert_true((int)payload.bytes[0] > last && payload.bytes[0] < MESSAGES);
            last = payload.bytes[0];
            found[last] = true;
        }
        store_release(fixture->store, &read.req);
    }
    for (uint32_t i = 0; i < MESSAGES; i++)
        assert_true(found[i] || !ledger->acknowledged[i]);
}

static const struct local_config *base_config(void)
{
    static struct local_config config;
    local_config_default(&config);
    config.segment_size = 1024 * 1024;
    config.pool_segments = 0;
    return &config;
}

static void fresh(struct fixture *fixture)
{
    fixture_close(fixture);
    fixture_remove_dir(AT_FDCWD, fixture->dir);
    fixture_new_dir(fixture->dir);
    fixture->config = *base_config();
    fixture_open(fixture);
}

/* Fails operation n of a kind, for each n until none is left to fail. */
static void fail_each(struct fixture *fixture, enum file_op op, int err, bool sticky)
{
    for (uint64_t n = 1;; n++) {
        assert_true(n < 500);
        fresh(fixture);
        struct ledger ledger = {.fixture = fixture};
        watch(&ledger);
        file_fail_at(op, 0, 0, false);
        file_fail_at(op, n, err, sticky);
        publish(&ledger, sticky);
        const bool reached = file_op_count(op) >= n;
        file_fail_at(op, 0, 0, false);
        if (!sticky)
            check_ledger(&ledger);
        fixture_crash(fixture);
        fixture_open(fixture);
        check_ledger(&ledger);
        if (!reached) {
            assert_true(n > 3);
            assert_int_equal(ledger.failures, 0);
            return;
        }
    }
}

static void any_write_may_fail(void **state)
{
    fail_each(*state, FILE_OP_WRITE, EIO, false);
    fail_each(*state, FILE_OP_WRITE, ENOSPC, true);
}

static void any_sync_may_fail(void **state)
{
    fail_each(*state, FILE_OP_SYNC, EIO, false);
    fail_each(*state, FILE_OP_SYNC, EIO, true);
}

/* Renames and opens are few: a segment's own. */
static void a_segment_may_fail_to_open(void **state)
{
    struct fixture *fixture = *state;
    static const enum file_op ops[] = {FILE_OP_OPEN, FILE_OP_RENAME};
    for (size_t i = 0; i < ARRAY_COUNT(ops); i++) {
        for (uint64_t n = 1; n <= 3; n++) {
            fresh(fixture);
            struct ledger ledger = {.fixture = fixture};
            watch(&ledger);
            file_fail_at(ops[i], 0, 0, false);
            file_fail_at(ops[i], n, EIO, false);
            publish(&ledger, false);
            file_fail_at(ops[i], 0, 0, false);
            check_ledger(&ledger);
            fixture_crash(fixture);
            fixture_open(fixture);
            check_ledger(&ledger);
        }
    }
}

/* Opening after a crash fails at any operation, and the next opening finds all. */
static void recovery_may_fail(void **state)
{
    struct fixture *fixture = *state;
    static const enum file_op ops[] = {FILE_OP_OPEN, FILE_OP_READ, FILE_OP_WRITE, FILE_OP_SYNC};
    fresh(fixture);
    struct ledger ledger = {.fixture = fixture};
    watch(&ledger);
    publish(&ledger, false);
    for (size_t i = 0; i < ARRAY_COUNT(ops); i++) {
        for (uint64_t n = 1;; n++) {
            assert_true(n < 200);
            fixture_crash(fixture);
            file_fail_at(ops[i], 0, 0, false);
            file_fail_at(ops[i], n, EIO, false);
            const int err = fixture_try_open(fixture);
            file_fail_at(ops[i], 0, 0, false);
            if (err == 0)
                break;
            assert_true(fixture->why.text[0] != '\0');
            fixture->store = NULL;
            fixture_open(fixture);
            check_ledger(&ledger);
        }
    }
}

/* --- what must be durable before what ------------------------------------------------------ */

static void no_acknowledgement_without_a_sync(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    assert_int_equal(fixture_append(fixture, "t", "kept", 1, 5, NULL), 0);
    file_fail_at(FILE_OP_SYNC, 1, EIO, true);
    assert_int_equal(fixture_append(fixture, "t", "lost", 1, 5, NULL), ERR_UNAVAILABLE);
    file_fail_at(FILE_OP_SYNC, 0, 0, false);
    uint64_t first = 0, next = 0;
    store_queue_bounds(fixture->store, 5, &first, &next);
    assert_int_equal(next - first, 1);
}

static void a_new_segment_is_durable_by_name(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    file_fail_at(FILE_OP_SYNC, 0, 0, false);
    assert_int_equal(fixture_append(fixture, "t", "m", 1, 5, NULL), 0);
    assert_int_equal(file_op_count(FILE_OP_SYNC), 3); /* its header, its name, the record */
    assert_int_equal(fixture_append(fixture, "t", "m", 1, 5, NULL), 0);
    assert_int_equal(file_op_count(FILE_OP_SYNC), 4);
}

static void a_checkpoint_waits_for_the_log(void **state)
{
    struct fixture *fixture = *state;
    fixture->config.checkpoint_ms = 10;
    fixture_open(fixture);
    file_fail_at(FILE_OP_SYNC, 3, EIO, true); /* the segment opens; nothing in it gets durable */
    const struct meta_op op = {.kind = META_PUT, .key = slice_str("k"), .value = slice_str("v")};
    struct store_append append = {.ops = &op, .op_count = 1, .level = STORE_LAZY};
    assert_int_equal(store_append(fixture->store, &append), 0);
    for (int i = 0; i < 60; i++)
        assert_int_equal(loop_turn(fixture->loop, 5), 0);
    assert_int_equal(metric_get(&fixture->metrics->store_checkpoints), 0);
    assert_true(metric_get(&fixture->metrics->store_sync_errors) > 0);
    file_fail_at(FILE_OP_SYNC, 0, 0, false);
    fixture_wait_metric(fixture, &fixture->metrics->store_checkpoints, 1);
    fixture_crash(fixture);
    fixture_open(fixture);
    fixture_check_rows(fixture, "", "k=v;");
}

/* Lazy messages were acknowledged without a sync: they outlive a segment whose sync fails. */
static void lazy_messages_move_to_the_next_segment(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    struct ledger ledger = {.fixture = fixture};
    watch(&ledger);
    assert_int_equal(fixture_append(fixture, "t", "m0", 1, 5, NULL), 0);
    const uint32_t queue_id = 5;
    const struct message lazy = {
        .topic = slice_str("t"), .payload = slice_str("m1"), .topic_id = 1};
    struct fixture_append append = {.req.level = STORE_LAZY};
    assert_int_equal(fixture_submit(fixture, &append, &lazy, &queue_id, 1), 0);
    fixture_wait(fixture, &append.done);
    assert_int_equal(append.err, 0);
    file_fail_at(FILE_OP_SYNC, 1, EIO, false);
    assert_int_equal(fixture_append(fixture, "t", "m2", 1, 5, NULL), ERR_UNAVAILABLE);
    assert_false(ledger.writable);
    fixture_check_queue(fixture, 5, "m", 0, 2);
    fixture_wait(fixture, &ledger.writable);
    assert_int_equal(fixture_append(fixture, "t", "m2", 1, 5, NULL), 0);
    fixture_check_queue(fixture, 5, "m", 0, 3);
    assert_int_equal(fixture_stats(fixture).segment_count, 2);
    fixture_crash(fixture);
    fixture_open(fixture);
    fixture_check_queue(fixture, 5, "m", 0, 3);
}

/* A segment is freed only when index and rows go beyond it, and sealing needs a sync. */
static void no_segment_is_freed_before_its_checkpoint(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    struct ledger ledger = {.fixture = fixture};
    watch(&ledger);
    publish(&ledger, false);
    fixture_close(fixture);
    fixture->config.retention_bytes = 1024 * 1024;
    fixture->config.checkpoint_ms = 10;
    file_fail_at(FILE_OP_SYNC, 0, 0, false);
    fixture_open(fixture);
    const uint64_t syncs = file_op_count(FILE_OP_SYNC);
    file_fail_at(FILE_OP_SYNC, 1, EIO, true);
    fixture_until(fixture, file_op_count(FILE_OP_SYNC) > syncs);
    for (int i = 0; i < 20; i++)
        assert_int_equal(loop_turn(fixture->loop, 5), 0);
    assert_int_equal(fixture_stats(fixture).first_position, 4096);
    fixture_crash(fixture);
    file_fail_at(FILE_OP_SYNC, 0, 0, false);
    fixture->config.retention_bytes = 1024 * 1024 * 1024;
    fixture_open(fixture);
    check_ledger(&ledger);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(any_write_may_fail, set_up, tear_down),
        cmocka_unit_test_setup_teardown(any_sync_may_fail, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_segment_may_fail_to_open, set_up, tear_down),
        cmocka_unit_test_setup_teardown(recovery_may_fail, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_acknowledgement_without_a_sync, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_new_segment_is_durable_by_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_checkpoint_waits_for_the_log, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lazy_messages_move_to_the_next_segment, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_segment_is_freed_before_its_checkpoint, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
