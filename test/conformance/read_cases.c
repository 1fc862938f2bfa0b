#include "cases.h"
#include "harness.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

static void an_unknown_queue_is_empty(void **state)
{
    struct engine *engine = *state;
    check_bounds(engine, 5, 0, 0);
    struct pull read = {.req = {.queue_id = 5}};
    assert_int_equal(pull(engine, &read), 0);
    assert_int_equal(read.req.entry_count, 0);
    store_release(engine->store, &read.req);
}

static void beyond_the_end_is_nothing(void **state)
{
    struct engine *engine = *state;
    append_many(engine, 1, 5, "m", 0, 3);
    static const uint64_t starts[] = {3, 4, UINT64_MAX};
    for (size_t i = 0; i < ARRAY_COUNT(starts); i++) {
        struct pull read = {.req = {.queue_id = 5, .from_seq = starts[i]}};
        assert_int_equal(pull(engine, &read), 0);
        assert_int_equal(read.req.entry_count, 0);
        store_release(engine->store, &read.req);
    }
}

/* entries_max and bytes_max end a read; the first entry comes whatever its size. */
static void reads_are_bounded(void **state)
{
    struct engine *engine = *state;
    append_many(engine, 1, 5, "m", 0, 200);
    for (int round = 0; round < 2; round++) {
        for (uint16_t max = 1; max <= STORE_READ_MAX; max += 7) {
            struct pull read = {.req = {.queue_id = 5, .from_seq = 90, .entries_max = max}};
            assert_int_equal(pull(engine, &read), 0);
            assert_in_range(read.req.entry_count, 1, max);
            assert_int_equal(read.req.entries[0].seq, 90);
            store_release(engine->store, &read.req);
        }
        const uint32_t each = sizeof "first/second" - 1 + sizeof "m90" - 1;
        for (uint32_t bytes = 1; bytes < 10 * each; bytes += each / 2) {
            struct pull read = {.req = {.queue_id = 5, .from_seq = 90, .bytes_max = bytes}};
            assert_int_equal(pull(engine, &read), 0);
            assert_in_range(read.req.entry_count, 1, MAX(bytes / each, 1u));
            store_release(engine->store, &read.req);
        }
        restart(engine, false);
    }
}

/* [contract] Reads see what was acknowledged at once, within the done already. */
static void read_own_entry(struct ack *ack)
{
    struct store_read read = {.queue_id = 5,
                              .from_seq = ack->seqs[0],
                              .entries_max = STORE_READ_MAX,
                              .bytes_max = 1 << 20};
    uint64_t first, next;
    store_queue_bounds(ack->engine->store, 5, &first, &next);
    assert_true(next > ack->seqs[0]);
    assert_int_equal(store_read(ack->engine->store, &read), 1);
    assert_true(read.entry_count >= 1);
    assert_int_equal(read.entries[0].seq, ack->seqs[0]);
    assert_int_equal(read.entries[0].message.position, ack->position);
    store_release(ack->engine->store, &read);
    store_release(ack->engine->store, &read); /* harmless */
}

static void acknowledged_is_readable(void **state)
{
    struct engine *engine = *state;
    struct ack acks[50] = {0};
    const uint32_t queue_id = 5;
    for (size_t i = 0; i < ARRAY_COUNT(acks); i++) {
        const struct message message = plain_message(1, "m");
        acks[i].then = read_own_entry;
        acks[i].req.level = i % 3 == 0 ? STORE_LAZY : STORE_SYNC;
        assert_int_equal(submit_message(engine, &acks[i], &message, &queue_id, 1), 0);
    }
    wait_all(engine);
}

/* Entries stay as they are until released, whatever is appended and read meanwhile. */
static void results_stay_until_released(void **state)
{
    struct engine *engine = *state;
    append_many(engine, 1, 5, "m", 0, 100);
    for (int round = 0; round < 2; round++) {
        struct pull reads[20] = {0};
        for (size_t i = 0; i < ARRAY_COUNT(reads); i++) {
            reads[i].req.queue_id = 5;
            reads[i].req.from_seq = i * 5;
            reads[i].req.entries_max = 5;
            assert_int_equal(pull(engine, &reads[i]), 0);
        }
        append_many(engine, 1, 6, "other", (uint64_t)round * 3000, (uint64_t)round * 3000 + 3000);
        for (size_t i = 0; i < ARRAY_COUNT(reads); i++) {
            for (uint16_t n = 0; n < reads[i].req.entry_count; n++) {
                char expected[TEXT_MAX];
                (void)snprintf(expected, sizeof expected, "m%zu", i * 5 + n);
                const struct message *found = &reads[i].req.entries[n].message;
                assert_true(slice_equal(found->payload, slice_str(expected)));
            }
            store_release(engine->store, &reads[i].req);
        }
        engine_kind.make_reads_slow(engine);
    }
}

static void must_not_run(struct store_read *req, int err)
{
    (void)req;
    fail_msg("done of a cancelled read: %d", err);
}

/* A read released before its done is cancelled; the others go on. */
static void a_pending_read_can_be_cancelled(void **state)
{
    struct engine *engine = *state;
    append_many(engine, 1, 5, "m", 0, 100);
    engine_kind.make_reads_slow(engine);
    struct store_read cancelled[10];
    for (size_t i = 0; i < ARRAY_COUNT(cancelled); i++) {
        cancelled[i] = (struct store_read){.queue_id = 5,
                                           .from_seq = i * 10,
                                           .entries_max = 10,
                                           .bytes_max = 1 << 20,
                                           .done = must_not_run};
        assert_int_equal(store_read(engine->store, &cancelled[i]), 0);
    }
    for (size_t i = 0; i < ARRAY_COUNT(cancelled); i++) {
        store_release(engine->store, &cancelled[i]);
        memset(&cancelled[i], 0xff, sizeof cancelled[i]);
    }
    check_queue(engine, 5, "m", 0, 100);
}

static void gets_find_each_message(void **state)
{
    struct engine *engine = *state;
    enum { COUNT = 200 };
    struct ack *acks = mem_new(COUNT * sizeof *acks);
    for (uint32_t i = 0; i < COUNT; i++) {
        char payload[TEXT_MAX];
        (void)snprintf(payload, sizeof payload, "m%u", i);
        const struct message message = plain_message(1, payload);
        assert_int_equal(submit_message(engine, &acks[i], &message, NULL, 0), 0);
    }
    wait_all(engine);
    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < COUNT; i++) {
            char expected[TEXT_MAX];
            (void)snprintf(expected, sizeof expected, "m%u", i);
            struct pull read = {.req = {.position = acks[i].position}};
            assert_int_equal(pull(engine, &read), 0);
            assert_int_equal(read.req.entry_count, 1);
            assert_true(slice_equal(read.req.entries[0].message.payload, slice_str(expected)));
            assert_int_equal(read.req.entries[0].message.position, acks[i].position);
            store_release(engine->store, &read.req);
        }
        engine_kind.make_reads_slow(engine);
    }
    mem_free(acks);
}

/* What the message numbered i has; some are much larger than others. */
static uint32_t payload_of(uint32_t i, char ret_payload[])
{
    const uint32_t size = i % 10 == 0 ? 30000 : 20;
    memset(ret_payload, 'a' + (int)(i % 26), size);
    return size;
}

/* Several at once, in the order asked for whatever the log's is; the sizes are guesses. */
static void several_places_in_any_order(void **state)
{
    struct engine *engine = *state;
    enum { COUNT = 200 };
    static char payload[30000];
    struct ack *acks = mem_new(COUNT * sizeof *acks);
    for (uint32_t i = 0; i < COUNT; i++) {
        struct message message = plain_message(1, "");
        message.payload = slice_of(payload, payload_of(i, payload));
        assert_int_equal(submit_message(engine, &acks[i], &message, NULL, 0), 0);
    }
    wait_all(engine);
    for (int round = 0; round < 2; round++) {
        for (uint32_t first = 0; first < COUNT; first += 7) {
            struct store_place places[STORE_READ_MAX];
            for (uint32_t i = 0; i < STORE_READ_MAX; i++)
                places[i] = (struct store_place){
                    .position = acks[(first + i * 37) % COUNT].position, .size = i % 3 * 20};
            struct pull read = {.req = {.places = places, .place_count = STORE_READ_MAX}};
            assert_int_equal(pull(engine, &read), 0);
            assert_in_range(read.req.entry_count, 1, STORE_READ_MAX);
            for (uint32_t i = 0; i < read.req.entry_count; i++) {
                const struct message *found = &read.req.entries[i].message;
                const uint32_t size = payload_of((first + i * 37) % COUNT, payload);
                assert_int_equal(found->position, places[i].position);
                assert_true(slice_equal(found->payload, slice_of(payload, size)));
            }
            store_release(engine->store, &read.req);
        }
        engine_kind.make_reads_slow(engine);
    }
    mem_free(acks);
}

/* Reads three places; the entries must be the first `count` of them. */
static int pull_three(struct engine *engine, const struct store_place places[3], uint32_t bytes_max,
                      uint16_t count)
{
    struct pull read = {.req = {.places = places, .place_count = 3, .bytes_max = bytes_max}};
    const int err = pull(engine, &read);
    assert_int_equal(read.req.entry_count, count);
    for (uint16_t i = 0; i < count; i++)
        assert_int_equal(read.req.entries[i].message.position, places[i].position);
    store_release(engine->store, &read.req);
    return err;
}

/* Only when the first is not there a read of several fails. */
static void several_places_end_before_one_that_is_not_there(void **state)
{
    struct engine *engine = *state;
    struct ack acks[3] = {0};
    for (size_t i = 0; i < ARRAY_COUNT(acks); i++) {
        const struct message message = plain_message(1, "payload");
        assert_int_equal(submit_message(engine, &acks[i], &message, NULL, 0), 0);
    }
    wait_all(engine);
    const uint64_t here[] = {acks[2].position, acks[0].position, acks[1].position};
    struct store_stats stats;
    engine->store->ops->stats(engine->store, &stats);
    for (int round = 0; round < 2; round++) {
        for (uint16_t bad = 0; bad <= 3; bad++) {
            struct store_place places[3];
            for (uint16_t i = 0; i < 3; i++)
                places[i] = (struct store_place){
                    .position = i == bad ? stats.head_position : here[i], .size = 19};
            assert_int_equal(pull_three(engine, places, 1000, bad), bad ? 0 : ERR_TRIMMED);
            if (bad > 0 && bad < 3) {
                places[bad].position = here[bad] + 8;
                assert_int_equal(pull_three(engine, places, 1000, bad), 0);
            }
            if (bad == 3) { /* all are there; for two of them is room */
                assert_int_equal(pull_three(engine, places, 40, 2), 0);
                assert_int_equal(pull_three(engine, places, 1, 1), 0);
            }
        }
        engine_kind.make_reads_slow(engine);
    }
}

/* Entries that lie far apart, among those of many queues, in memory and from where they are kept.
 */
static void many_queues(void **state)
{
    struct engine *engine = *state;
    enum { QUEUES = 1000, ROUNDS = 5 };
    struct ack *acks = mem_new(QUEUES * sizeof *acks);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        memset(acks, 0, QUEUES * sizeof *acks);
        for (uint32_t n = 0; n < QUEUES; n++) {
            char payload[TEXT_MAX];
            (void)snprintf(payload, sizeof payload, "q%u.%u", n, i);
            const uint32_t queue_id = 100 + n;
            const struct message message = plain_message(1 + n % 3, payload);
            assert_int_equal(submit_message(engine, &acks[n], &message, &queue_id, 1), 0);
        }
        wait_all(engine);
    }
    mem_free(acks);
    for (int round = 0; round < 2; round++) {
        for (uint32_t n = 0; n < QUEUES; n += round ? 7 : 1) {
            char prefix[TEXT_MAX];
            (void)snprintf(prefix, sizeof prefix, "q%u.", n);
            check_queue(engine, 100 + n, prefix, 0, ROUNDS);
        }
        engine_kind.make_reads_slow(engine);
    }
}

int read_cases(void)
{
    const struct CMUnitTest cases[] = {
        cmocka_unit_test_setup_teardown(an_unknown_queue_is_empty, set_up, tear_down),
        cmocka_unit_test_setup_teardown(beyond_the_end_is_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(reads_are_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(acknowledged_is_readable, set_up, tear_down),
        cmocka_unit_test_setup_teardown(results_stay_until_released, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_pending_read_can_be_cancelled, set_up, tear_down),
        cmocka_unit_test_setup_teardown(gets_find_each_message, set_up, tear_down),
        cmocka_unit_test_setup_teardown(several_places_in_any_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(several_places_end_before_one_that_is_not_there, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(many_queues, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("reads", cases, NULL, NULL);
}
