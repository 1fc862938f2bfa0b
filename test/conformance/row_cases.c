#include "cases.h"
#include "harness.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void rows_are_written_over_and_deleted(void **state)
{
    struct engine *engine = *state;
    for (int round = 0; round < 2; round++) {
        write_row(engine, META_PUT, slice_str("b"), slice_str("1"));
        write_row(engine, META_PUT, slice_str("a"), slice_str("2"));
        write_row(engine, META_PUT, slice_str("c"), slice_of(NULL, 0));
        write_row(engine, META_PUT, slice_str("a"), slice_str("longer than before"));
        write_row(engine, META_PUT, slice_str("b"), slice_of(NULL, 0));
        write_row(engine, META_PUT, slice_str("d"), slice_str("4"));
        write_row(engine, META_DELETE, slice_str("d"), slice_of(NULL, 0));
        write_row(engine, META_DELETE, slice_str("never was"), slice_of(NULL, 0));
        restart(engine, round == 0);
        check_rows(engine, "", "a=longer than before;b=;c=;");
    }
    restart(engine, false);
    check_rows(engine, "", "a=longer than before;b=;c=;");
}

/* The operations of one append take effect one after the other. */
static void operations_of_one_append_are_in_order(void **state)
{
    struct engine *engine = *state;
    const struct meta_op ops[] = {
        {.kind = META_PUT, .key = slice_str("a"), .value = slice_str("1")},
        {.kind = META_PUT, .key = slice_str("a"), .value = slice_str("2")},
        {.kind = META_DELETE, .key = slice_str("a")},
        {.kind = META_PUT, .key = slice_str("b"), .value = slice_str("1")},
        {.kind = META_DELETE, .key = slice_str("b")},
        {.kind = META_PUT, .key = slice_str("b"), .value = slice_str("3")},
    };
    struct ack ack = {.req = {.ops = ops, .op_count = ARRAY_COUNT(ops)}};
    assert_int_equal(submit(engine, &ack), 0);
    wait_for(engine, &ack.done);
    restart(engine, true);
    check_rows(engine, "", "b=3;");
}

struct pairs {
    uint64_t next; /* messages in the queue */
    uint64_t seen;
};

static int check_pair(void *data, struct slice key, struct slice value)
{
    struct pairs *pairs = data;
    char expected[TEXT_MAX];
    (void)snprintf(expected, sizeof expected, "row%04u", (unsigned)pairs->seen);
    assert_true(slice_equal(key, slice_str(expected)));
    assert_int_equal(value.size, 1);
    pairs->seen++;
    return 0;
}

/* Each message comes with a row: after a crash in the middle there are as many of the one as of the
 * other, at least as many as were acknowledged. */
static void a_message_and_its_rows_are_one(void **state)
{
    struct engine *engine = *state;
    enum { COUNT = 1000 };
    struct ack *acks = mem_new(COUNT * sizeof *acks);
    const uint32_t queue_id = 5;
    for (uint32_t i = 0; i < COUNT; i++) {
        char key[TEXT_MAX];
        (void)snprintf(key, sizeof key, "row%04u", i);
        const struct meta_op op = {
            .kind = META_PUT, .key = slice_str(key), .value = slice_str("v")};
        const struct message message = plain_message(1, "m");
        acks[i].req.ops = &op;
        acks[i].req.op_count = 1;
        assert_int_equal(submit_message(engine, &acks[i], &message, &queue_id, 1), 0);
        if (i == COUNT / 2)
            wait_for(engine, &acks[COUNT / 3].done);
    }
    const uint64_t acknowledged = engine->done_count;
    assert_true(acknowledged > COUNT / 3);
    restart(engine, true);
    struct pairs pairs = {0};
    uint64_t first = 0;
    store_queue_bounds(engine->store, 5, &first, &pairs.next);
    assert_int_equal(first, 0);
    assert_true(pairs.next >= acknowledged);
    assert_int_equal(meta_scan(engine->meta, slice_str("row"), check_pair, &pairs), 0);
    assert_int_equal(pairs.seen, pairs.next);
    mem_free(acks);
}

static int take_value(void *data, struct slice key, struct slice value)
{
    (void)key;
    struct slice *kept = data;
    return slice_keep(value, kept);
}

/* META_PUT_AT puts the record's position in front, with a message and without. */
static void a_row_can_hold_its_records_position(void **state)
{
    struct engine *engine = *state;
    const struct message message = plain_message(1, "pointed at");
    const struct meta_op ops[] = {
        {.kind = META_PUT_AT, .key = slice_str("a"), .value = slice_str("tail")},
        {.kind = META_PUT_AT, .key = slice_str("b")},
    };
    append_many(engine, 1, 0, "before", 0, 10);
    struct ack ack = {.req = {.ops = ops, .op_count = ARRAY_COUNT(ops)}};
    assert_int_equal(submit_message(engine, &ack, &message, NULL, 0), 0);
    wait_for(engine, &ack.done);
    for (int round = 0; round < 2; round++) {
        restart(engine, round == 0);
        struct slice a = {0}, b = {0};
        assert_int_equal(meta_scan(engine->meta, slice_str("a"), take_value, &a), 0);
        assert_int_equal(meta_scan(engine->meta, slice_str("b"), take_value, &b), 0);
        assert_int_equal(a.size, sizeof(uint64_t) + 4);
        assert_int_equal(b.size, sizeof(uint64_t));
        uint64_t position;
        memcpy(&position, a.bytes, sizeof position);
        assert_int_equal(position, ack.position);
        assert_memory_equal(a.bytes, b.bytes, sizeof position);
        assert_memory_equal(a.bytes + sizeof position, "tail", 4);
        struct pull read = {.req = {.position = position}};
        assert_int_equal(pull(engine, &read), 0);
        assert_true(slice_equal(read.req.entries[0].message.payload, slice_str("pointed at")));
        store_release(engine->store, &read.req);
        slice_done(&a);
        slice_done(&b);
    }
}

struct ordered {
    struct slice last; /* owned */
    uint32_t count;
};

static int check_order(void *data, struct slice key, struct slice value)
{
    struct ordered *ordered = data;
    const uint32_t shorter = MIN(ordered->last.size, key.size);
    const int order = shorter ? memcmp(ordered->last.bytes, key.bytes, shorter) : 0;
    assert_true(order < 0 || (order == 0 && ordered->last.size < key.size));
    assert_int_equal(value.size, sizeof(uint32_t));
    slice_done(&ordered->last);
    ordered->count++;
    return slice_keep(key, &ordered->last);
}

static uint32_t count_in_order(struct engine *engine, struct slice prefix)
{
    struct ordered ordered = {0};
    assert_int_equal(meta_scan(engine->meta, prefix, check_order, &ordered), 0);
    slice_done(&ordered.last);
    return ordered.count;
}

/* Keys of every length: bytes 0 and 255, one the beginning of another, and differences that lie far
 * behind what a key of an ordinary database may hold. */
static void scans_are_in_byte_order(void **state)
{
    struct engine *engine = *state;
    static const uint32_t sizes[] = {1,   2,   3,   479,  480,   481,         510,
                                     511, 512, 600, 4000, 65000, META_KEY_MAX};
    static const uint8_t last_bytes[] = {0, 1, 'x', 127, 128, 255};
    static uint8_t key[META_KEY_MAX];
    memset(key, 'x', sizeof key);
    uint32_t count = 0, short_count = 0;
    for (size_t i = ARRAY_COUNT(sizes); i-- > 0;) {
        for (size_t n = 0; n < ARRAY_COUNT(last_bytes); n++) {
            const uint32_t at = sizes[i] - 1;
            key[at] = last_bytes[n];
            write_row(engine, META_PUT, slice_of(key, sizes[i]), slice_of(&count, sizeof count));
            key[at] = 'x';
            count++;
            short_count += sizes[i] == 1 && last_bytes[n] != 'x';
        }
    }
    for (int round = 0; round < 3; round++) {
        restart(engine, round == 0);
        assert_int_equal(count_in_order(engine, slice_of(NULL, 0)), count);
        assert_int_equal(count_in_order(engine, slice_of(key, 1)), count - short_count);
        /* those longer than 600, and the one of that size itself */
        assert_int_equal(count_in_order(engine, slice_of(key, 600)),
                         1 + 3 * ARRAY_COUNT(last_bytes));
        assert_int_equal(count_in_order(engine, slice_of(key, META_KEY_MAX)), 1);
        key[300] = 'y';
        assert_int_equal(count_in_order(engine, slice_of(key, 600)), 0);
        key[300] = 'x';
        assert_int_equal(count_in_order(engine, slice_of("\xff", 1)), 1);
        assert_int_equal(count_in_order(engine, slice_of("\xff\xff", 2)), 0);
    }
}

static int stop_at_second(void *data, struct slice key, struct slice value)
{
    (void)key;
    (void)value;
    uint32_t *count = data;
    return ++*count == 2 ? ERR_DENIED : 0;
}

static void a_scan_can_be_stopped(void **state)
{
    struct engine *engine = *state;
    write_row(engine, META_PUT, slice_str("a"), slice_str("1"));
    write_row(engine, META_PUT, slice_str("b"), slice_str("1"));
    write_row(engine, META_PUT, slice_str("c"), slice_str("1"));
    restart(engine, false);
    uint32_t count = 0;
    assert_int_equal(meta_scan(engine->meta, slice_str(""), stop_at_second, &count), ERR_DENIED);
    assert_int_equal(count, 2);
}

enum { MODEL_ROWS = 300, MODEL_OPS = 3000 };

/* The naive model: each row's value, and whether it is there. */
struct row_model {
    uint32_t values[MODEL_ROWS];
    bool there[MODEL_ROWS];
    uint32_t at;
};

static int check_model_row(void *data, struct slice key, struct slice value)
{
    struct row_model *model = data;
    while (model->at < MODEL_ROWS && !model->there[model->at])
        model->at++;
    assert_true(model->at < MODEL_ROWS);
    char expected[TEXT_MAX];
    (void)snprintf(expected, sizeof expected, "key%03u", model->at);
    assert_true(slice_equal(key, slice_str(expected)));
    assert_int_equal(value.size, sizeof(uint32_t));
    assert_memory_equal(value.bytes, &model->values[model->at], value.size);
    model->at++;
    return 0;
}

static void check_model(struct engine *engine, struct row_model *model)
{
    model->at = 0;
    assert_int_equal(meta_scan(engine->meta, slice_str("key"), check_model_row, model), 0);
    while (model->at < MODEL_ROWS && !model->there[model->at])
        model->at++;
    assert_int_equal(model->at, MODEL_ROWS);
}

static void random_operations_over_restarts(void **state)
{
    struct engine *engine = *state;
    struct row_model *model = mem_new(sizeof *model);
    struct ack *acks = mem_new(MODEL_OPS * sizeof *acks);
    uint64_t random = 5;
    for (uint32_t i = 0; i < MODEL_OPS; i++) {
        const uint32_t row = next_random(&random) % MODEL_ROWS;
        const bool put = next_random(&random) % 3 > 0;
        char key[TEXT_MAX];
        (void)snprintf(key, sizeof key, "key%03u", row);
        const struct meta_op op = {
            .kind = put ? META_PUT : META_DELETE,
            .key = slice_str(key),
            .value = put ? slice_of(&i, sizeof i) : slice_of(NULL, 0),
        };
        model->there[row] = put;
        model->values[row] = i;
        acks[i].req.ops = &op;
        acks[i].req.op_count = 1;
        acks[i].req.level = next_random(&random) % 2 ? STORE_SYNC : STORE_LAZY;
        if (i + 1 == MODEL_OPS || next_random(&random) % 300 == 0) {
            acks[i].req.level = STORE_SYNC;
            assert_int_equal(submit(engine, &acks[i]), 0);
            wait_all(engine);
            restart(engine, next_random(&random) % 2);
            check_model(engine, model);
        } else {
            assert_int_equal(submit(engine, &acks[i]), 0);
        }
    }
    mem_free(acks);
    mem_free(model);
}

int row_cases(void)
{
    const struct CMUnitTest cases[] = {
        cmocka_unit_test_setup_teardown(rows_are_written_over_and_deleted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(operations_of_one_append_are_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_message_and_its_rows_are_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_row_can_hold_its_records_position, set_up, tear_down),
        cmocka_unit_test_setup_teardown(scans_are_in_byte_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_scan_can_be_stopped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(random_operations_over_restarts, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("rows", cases, NULL, NULL);
}
