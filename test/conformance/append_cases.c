#include "cases.h"
#include "harness.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

static void check_same_message(const struct message *found, const struct message *expected)
{
    assert_true(slice_equal(found->topic, expected->topic));
    assert_true(slice_equal(found->payload, expected->payload));
    assert_true(slice_equal(found->props, expected->props));
    assert_true(slice_equal(found->client_id, expected->client_id));
    assert_int_equal(found->publisher, expected->publisher);
    assert_int_equal(found->time_ms, expected->time_ms);
    assert_int_equal(found->origin, expected->origin);
    assert_int_equal(found->expiry_s, expected->expiry_s);
    assert_int_equal(found->topic_id, expected->topic_id);
    assert_int_equal(found->qos, expected->qos);
    assert_int_equal(found->flags, expected->flags);
}

/* Every field, in done and in what is read, by number and by position, before and after a restart.
 */
static void a_message_comes_back_whole(void **state)
{
    struct engine *engine = *state;
    const uint32_t queue_ids[] = {5, 17, 4000000000};
    const struct message message = {
        .topic = slice_str("first/second//"),
        .payload = slice_of("pay\0load", 8),
        .props = slice_of("\x01\x01", 2),
        .client_id = slice_str("a client"),
        .publisher = UINT64_C(0x1234567890),
        .time_ms = UINT64_C(1700000000123),
        .origin = 8888,
        .expiry_s = 17,
        .topic_id = 9,
        .qos = 2,
        .flags = MESSAGE_RETAIN | MESSAGE_COPY,
    };
    struct ack ack = {0};
    assert_int_equal(submit_message(engine, &ack, &message, queue_ids, 3), 0);
    wait_for(engine, &ack.done);
    assert_int_equal(ack.err, 0);
    for (int round = 0; round < 2; round++) {
        struct pull by_number = {.req = {.queue_id = 17}};
        struct pull by_topic = {.req = {.queue_id = 9}};
        struct pull by_position = {.req = {.position = ack.position}};
        struct pull *const pulls[] = {&by_number, &by_topic, &by_position};
        for (size_t i = 0; i < ARRAY_COUNT(pulls); i++) {
            assert_int_equal(pull(engine, pulls[i]), 0);
            assert_int_equal(pulls[i]->req.entry_count, 1);
            const struct store_entry *entry = &pulls[i]->req.entries[0];
            check_same_message(&entry->message, &message);
            assert_int_equal(entry->message.position, ack.position);
            assert_int_equal(entry->seq, 0);
            assert_int_equal(entry->queue_count, 3);
            assert_memory_equal(entry->queue_ids, queue_ids, sizeof queue_ids);
            assert_non_null(entry->message.payload.buf);
            store_release(engine->store, &pulls[i]->req);
        }
        restart(engine, round == 0);
    }
}

/* What done is given is the engine's, and can be kept. */
static void keep_stored(struct ack *ack)
{
    assert_int_equal(slice_keep(ack->req.stored.payload, &ack->kept), 0);
    assert_true(slice_equal(ack->req.stored.topic, slice_str("first/second")));
    assert_int_equal(ack->req.stored.publisher, 7);
    assert_non_null(ack->req.stored.payload.buf);
}

static void the_submit_copies_and_done_shows_the_copy(void **state)
{
    struct engine *engine = *state;
    char bytes[] = "first/second,borrowed for the submit,client,props,key,value";
    uint32_t queue_id = 5;
    struct message message = plain_message(1, "");
    message.topic = slice_of(bytes, 12);
    message.payload = slice_of(bytes + 13, 23);
    message.client_id = slice_of(bytes + 37, 6);
    message.props = slice_of(bytes + 44, 5);
    const struct meta_op op = {
        .kind = META_PUT, .key = slice_of(bytes + 50, 3), .value = slice_of(bytes + 54, 5)};
    struct ack ack = {.req = {.ops = &op, .op_count = 1}, .then = keep_stored};
    assert_int_equal(submit_message(engine, &ack, &message, &queue_id, 1), 0);
    memset(bytes, 'x', sizeof bytes);
    message = (struct message){0};
    queue_id = 6;
    wait_for(engine, &ack.done);
    append_many(engine, 1, 7, "later", 0, 100);
    assert_true(slice_equal(ack.kept, slice_str("borrowed for the submit")));
    slice_done(&ack.kept);
    check_bounds(engine, 5, 0, 1);
    check_bounds(engine, 6, 0, 0);
    struct pull read = {.req = {.queue_id = 5}};
    assert_int_equal(pull(engine, &read), 0);
    const struct message *found = &read.req.entries[0].message;
    assert_true(slice_equal(found->topic, slice_str("first/second")));
    assert_true(slice_equal(found->client_id, slice_str("client")));
    assert_true(slice_equal(found->props, slice_str("props")));
    store_release(engine->store, &read.req);
    restart(engine, false);
    check_rows(engine, "", "key=value;");
}

static void dones_run_in_the_order_of_submission(void **state)
{
    struct engine *engine = *state;
    enum { COUNT = 600 };
    struct ack *acks = mem_new(COUNT * sizeof *acks);
    const uint32_t queue_id = 5;
    for (uint32_t i = 0; i < COUNT; i++) {
        const struct message message = plain_message(1, "m");
        acks[i].req.level = i % 7 == 0 ? STORE_LAZY : STORE_SYNC;
        assert_int_equal(submit_message(engine, &acks[i], &message, &queue_id, 1), 0);
        if (i % 50 == 0)
            assert_int_equal(loop_turn(engine->loop, 0), 0);
    }
    wait_all(engine);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(acks[i].err, 0);
        assert_int_equal(acks[i].order, i);
        assert_int_equal(acks[i].seqs[0], i);
        assert_true(i == 0 || acks[i].position > acks[i - 1].position);
    }
    mem_free(acks);
}

enum { CHAIN_LENGTH = 100 };

static void append_next(struct ack *ack)
{
    if (ack->engine->append_count == CHAIN_LENGTH)
        return;
    const uint32_t queue_id = 5;
    const struct message message = plain_message(1, "m");
    assert_int_equal(submit_message(ack->engine, ack + 1, &message, &queue_id, 1), 0);
}

static void a_done_may_append(void **state)
{
    struct engine *engine = *state;
    struct ack *acks = mem_new(CHAIN_LENGTH * sizeof *acks);
    for (uint32_t i = 0; i < CHAIN_LENGTH; i++)
        acks[i].then = append_next;
    const uint32_t queue_id = 5;
    const struct message message = plain_message(1, "m");
    assert_int_equal(submit_message(engine, &acks[0], &message, &queue_id, 1), 0);
    wait_for(engine, &acks[CHAIN_LENGTH - 1].done);
    for (uint32_t i = 0; i < CHAIN_LENGTH; i++)
        assert_int_equal(acks[i].seqs[0], i);
    mem_free(acks);
}

enum { QUEUES = 20, TOPICS = 3, RANDOM_APPENDS = 3000 };

struct counts {
    uint64_t queues[QUEUES + 1], topics[TOPICS + 1];
};

/* Random sets of queues; every number is the next one of its queue. */
static void numbers_have_no_gaps(void **state)
{
    struct engine *engine = *state;
    struct counts counts = {0};
    uint64_t random = 11;
    struct ack *acks = mem_new(RANDOM_APPENDS * sizeof *acks);
    uint64_t(*expected)[SEQS_KEPT] = mem_new(RANDOM_APPENDS * sizeof *expected);
    for (uint32_t i = 0; i < RANDOM_APPENDS; i++) {
        uint32_t queue_ids[QUEUES];
        uint16_t queue_count = 0;
        for (uint32_t id = 1; id <= QUEUES; id++) {
            if (queue_count < SEQS_KEPT && next_random(&random) % 8 == 0)
                queue_ids[queue_count++] = 100 + id;
        }
        for (uint16_t n = 0; n < queue_count; n++)
            expected[i][n] = counts.queues[queue_ids[n] - 100]++;
        const uint32_t topic_id = 1 + next_random(&random) % TOPICS;
        counts.topics[topic_id]++;
        const struct message message = plain_message(topic_id, "m");
        assert_int_equal(submit_message(engine, &acks[i], &message, queue_ids, queue_count), 0);
        if (next_random(&random) % 100 == 0)
            assert_int_equal(loop_turn(engine->loop, 0), 0);
    }
    wait_all(engine);
    for (uint32_t i = 0; i < RANDOM_APPENDS; i++)
        assert_memory_equal(acks[i].seqs, expected[i], acks[i].req.queue_count * sizeof(uint64_t));
    for (int round = 0; round < 3; round++) {
        for (uint32_t id = 1; id <= QUEUES; id++)
            check_bounds(engine, 100 + id, 0, counts.queues[id]);
        for (uint32_t id = 1; id <= TOPICS; id++)
            check_bounds(engine, id, 0, counts.topics[id]);
        restart(engine, round == 0);
    }
    mem_free(expected);
    mem_free(acks);
}

static void what_is_too_large_is_refused(void **state)
{
    struct engine *engine = *state;
    static uint8_t bytes[META_VALUE_MAX + 1];
    memset(bytes, 'k', sizeof bytes);
    const struct meta_op ops[] = {
        {.kind = META_PUT, .key = slice_of(bytes, META_KEY_MAX + 1), .value = slice_str("v")},
        {.kind = META_PUT, .key = slice_str("k"), .value = slice_of(bytes, META_VALUE_MAX + 1)},
        {.kind = META_PUT, .key = slice_of(bytes, 0), .value = slice_str("v")},
    };
    const uint32_t queue_id = 5;
    const struct message message = plain_message(1, "m");
    struct ack ack = {.req = {.op_count = 1}};
    for (size_t i = 0; i < ARRAY_COUNT(ops); i++) {
        ack.req.ops = &ops[i];
        assert_int_equal(submit_message(engine, &ack, &message, &queue_id, 1), ERR_INVALID);
    }
    append_many(engine, 1, 6, "m", 0, 1);
    assert_false(ack.done);
    check_bounds(engine, 5, 0, 0);
    restart(engine, false);
    check_rows(engine, "", "");
}

/* Records as large as may be, and with as many queues. */
static void large_records(void **state)
{
    struct engine *engine = *state;
    enum { COUNT = 8 };
    const uint32_t size = (uint32_t)MIN(engine_kind.record_max, UINT64_C(4) << 20);
    uint8_t *payload = mem_new(size);
    uint32_t *queue_ids = mem_new(STORE_QUEUES_MAX * sizeof *queue_ids);
    for (uint32_t i = 0; i < STORE_QUEUES_MAX; i++)
        queue_ids[i] = 1000 + i;
    struct message message = plain_message(1, "");
    for (uint32_t i = 0; i < COUNT; i++) {
        struct ack ack = {0};
        memset(payload, (int)i, size);
        message.payload = slice_of(payload, size - i);
        assert_int_equal(submit_message(engine, &ack, &message, queue_ids, (uint16_t)(i + 1)), 0);
        wait_for(engine, &ack.done);
        assert_int_equal(ack.err, 0);
    }
    message.payload = slice_str("small");
    struct ack wide = {0};
    assert_int_equal(submit_message(engine, &wide, &message, queue_ids, STORE_QUEUES_MAX), 0);
    wait_for(engine, &wide.done);
    assert_int_equal(wide.seqs[0], COUNT);
    for (int round = 0; round < 2; round++) {
        for (uint64_t i = 0; i < COUNT; i++) {
            struct pull read = {.req = {.queue_id = 1000, .from_seq = i, .entries_max = 1}};
            assert_int_equal(pull(engine, &read), 0);
            assert_int_equal(read.req.entry_count, 1);
            const struct slice found = read.req.entries[0].message.payload;
            assert_int_equal(found.size, size - i);
            memset(payload, (int)i, size);
            assert_memory_equal(found.bytes, payload, found.size);
            store_release(engine->store, &read.req);
        }
        check_bounds(engine, queue_ids[STORE_QUEUES_MAX - 1], 0, 1);
        check_bounds(engine, queue_ids[1], 0, COUNT);
        restart(engine, round == 0);
    }
    mem_free(queue_ids);
    mem_free(payload);
}

/* A lazy append is written in a moment, without any other to carry it. */
static void a_lazy_append_needs_no_other(void **state)
{
    struct engine *engine = *state;
    const uint32_t queue_id = 5;
    const struct message message = plain_message(1, "m0");
    struct ack ack = {.req = {.level = STORE_LAZY}};
    assert_int_equal(submit_message(engine, &ack, &message, &queue_id, 1), 0);
    wait_for(engine, &ack.done);
    assert_int_equal(ack.err, 0);
    assert_int_equal(ack.seqs[0], 0);
    check_queue(engine, 5, "m", 0, 1);
}

/* Without a done the struct may go at once; a durable append carries it along. */
static void a_lazy_append_without_done_is_carried_along(void **state)
{
    struct engine *engine = *state;
    const uint32_t queue_id = 5;
    for (uint32_t i = 0; i < 10; i++) {
        char payload[TEXT_MAX];
        (void)snprintf(payload, sizeof payload, "m%u", i);
        const struct message message = plain_message(1, payload);
        struct store_append req = {
            .message = &message, .queue_ids = &queue_id, .queue_count = 1, .level = STORE_LAZY};
        assert_int_equal(store_append(engine->store, &req), 0);
        memset(&req, 0xff, sizeof req);
    }
    append_many(engine, 1, 5, "m", 10, 11);
    check_queue(engine, 5, "m", 0, 11);
    restart(engine, true);
    check_queue(engine, 5, "m", 0, 11);
}

/* While failures are told nothing is taken: it would come behind what is not there. */
static void append_in_vain(struct ack *ack)
{
    const uint32_t queue_id = 5;
    const struct message message = plain_message(1, "m1");
    struct ack more = {0};
    assert_int_equal(submit_message(ack->engine, &more, &message, &queue_id, 1), ERR_UNAVAILABLE);
}

static void a_failure_takes_along_all_that_are_under_way(void **state)
{
    struct engine *engine = *state;
    const uint32_t queue_id = 5;
    const struct message message = plain_message(1, "m1");
    struct ack acks[4] = {0};
    append_many(engine, 1, 5, "m", 0, 1);
    engine_kind.fail_append(engine);
    for (size_t i = 0; i < ARRAY_COUNT(acks); i++) {
        acks[i].req.level = i == 1 ? STORE_LAZY : STORE_SYNC;
        acks[i].then = append_in_vain;
        assert_int_equal(submit_message(engine, &acks[i], &message, &queue_id, 1), 0);
    }
    wait_all(engine);
    for (size_t i = 0; i < ARRAY_COUNT(acks); i++) {
        assert_true(acks[i].err < 0);
        assert_int_equal(acks[i].order, i + 1);
    }
    check_queue(engine, 5, "m", 0, 1);
    struct ack again = {0};
    int err;
    while ((err = submit_message(engine, &again, &message, &queue_id, 1)) == ERR_UNAVAILABLE)
        assert_int_equal(loop_turn(engine->loop, 10), 0);
    assert_int_equal(err, 0);
    wait_for(engine, &again.done);
    assert_int_equal(again.err, 0);
    check_queue(engine, 5, "m", 0, 2);
    restart(engine, true);
    check_queue(engine, 5, "m", 0, 2);
}

int append_cases(void)
{
    const struct CMUnitTest cases[] = {
        cmocka_unit_test_setup_teardown(a_message_comes_back_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_submit_copies_and_done_shows_the_copy, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(dones_run_in_the_order_of_submission, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_done_may_append, set_up, tear_down),
        cmocka_unit_test_setup_teardown(numbers_have_no_gaps, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_too_large_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(large_records, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_failure_takes_along_all_that_are_under_way, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_lazy_append_needs_no_other, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_lazy_append_without_done_is_carried_along, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests_name("appends", cases, NULL, NULL);
}
