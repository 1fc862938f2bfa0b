/* Transactions and rows: what is written is what is read, and cut rows are refused. */
#include "broker/rows.h"

#include "base/mem.h"
#include "base/unit.h"

#include <string.h>

static void numbers_round_trip(void **state)
{
    (void)state;
    struct txn txn = {.parts = NULL};
    txn_begin(&txn, META_PUT);
    txn_u8(&txn, 'K');
    txn_be32(&txn, 0x01020304);
    txn_be64(&txn, 0x0102030405060708);
    txn_value(&txn);
    txn_u8(&txn, 1);
    txn_u16(&txn, 0x1234);
    txn_u32(&txn, 0x12345678);
    txn_u64(&txn, UINT64_MAX - 1);
    txn_sized(&txn, slice_str("text"));
    txn_sized(&txn, slice_of("", 0));
    txn_bytes(&txn, slice_str("rest"));
    const struct meta_op *op = txn_ops(&txn);
    assert_int_equal(op->kind, META_PUT);
    assert_memory_equal(op->key.bytes, "K\1\2\3\4\1\2\3\4\5\6\7\10", 13);
    struct row_reader reader = {.rest = op->key};
    assert_int_equal(row_u8(&reader), 'K');
    assert_int_equal(row_be32(&reader), 0x01020304);
    assert_true(row_be64(&reader) == 0x0102030405060708);
    assert_int_equal(reader.rest.size, 0);
    reader = (struct row_reader){.rest = op->value};
    assert_int_equal(row_u8(&reader), 1);
    assert_int_equal(row_u16(&reader), 0x1234);
    assert_int_equal(row_u32(&reader), 0x12345678);
    assert_true(row_u64(&reader) == UINT64_MAX - 1);
    assert_true(slice_equal(row_sized(&reader), slice_str("text")));
    assert_int_equal(row_sized(&reader).size, 0);
    assert_true(slice_equal(row_take(&reader, 4), slice_str("rest")));
    assert_false(reader.bad);
    (void)row_u8(&reader);
    assert_true(reader.bad);
    txn_done(&txn);
}

/* A deletion has no value; operations survive the growth of the transaction. */
static void many_operations(void **state)
{
    (void)state;
    struct txn txn = {.parts = NULL};
    for (uint32_t i = 0; i < 2000; i++) {
        txn_begin(&txn, i % 2 ? META_DELETE : META_PUT);
        txn_be32(&txn, i);
        if (i % 2 == 0) {
            txn_value(&txn);
            txn_u32(&txn, i * 3);
        }
    }
    assert_int_equal(txn.count, 2000);
    assert_true(txn_is_large(&txn));
    const struct meta_op *ops = txn_ops(&txn);
    for (uint32_t i = 0; i < 2000; i++) {
        struct row_reader key = {.rest = ops[i].key}, value = {.rest = ops[i].value};
        assert_int_equal(row_be32(&key), i);
        assert_int_equal(ops[i].value.size, i % 2 ? 0 : 4);
        if (i % 2 == 0)
            assert_int_equal(row_u32(&value), i * 3);
    }
    txn_clear(&txn);
    assert_int_equal(txn.count, 0);
    assert_false(txn_is_large(&txn));
    txn_done(&txn);
}

static void subscription_round_trip(void **state)
{
    (void)state;
    struct txn txn = {.parts = NULL};
    struct session session = {.number = 77};
    struct filter filter = {.text = slice_str("a/+/#"), .queue_id = 9};
    struct group group = {.name = slice_str("g")};
    struct sub sub = {.session = &session,
                      .filter = &filter,
                      .group = &group,
                      .qos = 2,
                      .flags = SUB_NO_LOCAL,
                      .id = 5,
                      .begin_position = 1000,
                      .end_position = UINT64_MAX,
                      .hole_begin = 3,
                      .hole_end = 4,
                      .retained_from = 8};
    row_put_sub(&txn, &sub);
    const struct meta_op op = txn_ops(&txn)[0];
    struct row_sub row;
    assert_int_equal(row_get_sub(op.key, op.value, &row), 0);
    assert_int_equal(row.number, 77);
    assert_true(slice_equal(row.filter, slice_str("$share/g/a/+/#")));
    assert_int_equal(row.queue_id, 9);
    assert_int_equal(row.qos, 2);
    assert_int_equal(row.flags, SUB_NO_LOCAL);
    assert_int_equal(row.id, 5);
    assert_int_equal(row.begin_position, 1000);
    assert_true(row.end_position == UINT64_MAX);
    assert_int_equal(row.hole_begin, 3);
    assert_int_equal(row.hole_end, 4);
    assert_int_equal(row.retained_from, 8);
    assert_false(row.is_private);
    for (uint32_t size = 0; size < op.value.size; size++)
        assert_int_equal(row_get_sub(op.key, slice_of(op.value.bytes, size), &row), ERR_CORRUPT);
    for (uint32_t size = 0; size <= 9; size++)
        assert_int_equal(row_get_sub(slice_of(op.key.bytes, size), op.value, &row), ERR_CORRUPT);
    txn_done(&txn);
}

/* One that reads no queue names none: the queue may be gone when the row is read. */
static void subscription_at_qos0_names_no_queue(void **state)
{
    (void)state;
    struct txn txn = {.parts = NULL};
    struct session session = {.number = 1};
    struct filter filter = {.text = slice_str("t"), .queue_id = 9};
    const struct sub sub = {.session = &session, .filter = &filter};
    row_put_sub(&txn, &sub);
    struct row_sub row;
    assert_int_equal(row_get_sub(txn_ops(&txn)[0].key, txn_ops(&txn)[0].value, &row), 0);
    assert_int_equal(row.queue_id, 0);
    txn_done(&txn);
}

/* A point-to-point queue's row cannot be taken for that of any filter. */
static void private_row_is_no_filters(void **state)
{
    (void)state;
    struct txn txn = {.parts = NULL};
    struct session session = {.number = 1};
    struct filter filter = {.text = slice_str("name"), .queue_id = 9, .is_private = true};
    const struct sub sub = {.session = &session, .filter = &filter, .qos = 2, .cursor.queue_id = 9};
    row_put_sub(&txn, &sub);
    filter.is_private = false;
    row_put_sub(&txn, &sub);
    const struct meta_op *ops = txn_ops(&txn);
    assert_false(slice_equal(ops[0].key, ops[1].key));
    struct row_sub row;
    assert_int_equal(row_get_sub(ops[0].key, ops[0].value, &row), 0);
    assert_true(row.is_private);
    txn_done(&txn);
}

static void cursor_round_trip(void **state)
{
    (void)state;
    struct txn txn = {.parts = NULL};
    struct cursor cursor = {.owner = 3, .queue_id = 4, .next_seq = 100};
    list_init(&cursor.open);
    struct inflight open[3] = {{.seq = 7}, {.seq = 3}, {.seq = 90}};
    for (int i = 0; i < 3; i++) {
        open[i].position = 1000 + open[i].seq;
        open[i].packet_id = (uint16_t)(i + 1);
        open[i].qos = (uint8_t)(1 + i % 2);
        open[i].state = INFLIGHT_SENT;
        open[i].retain = i == 2;
        open[i].sub_id = 50;
        list_init(&open[i].cursor_node);
        inflight_open(&cursor, &open[i]);
    }
    assert_int_equal(cursor.open_count, 3);
    assert_true(cursor_is_open(&cursor, 7));
    assert_false(cursor_is_open(&cursor, 8));
    row_put_cursor(&txn, &cursor);
    const struct meta_op op = txn_ops(&txn)[0];
    struct row_reader reader = {.rest = op.value};
    assert_int_equal(row_u64(&reader), 100);
    struct row_open row;
    static const uint64_t seqs[] = {3, 7, 90};
    for (int i = 0; i < 3; i++) {
        assert_true(row_open_next(&reader, &row));
        assert_int_equal(row.seq, seqs[i]);
        assert_int_equal(row.position, 1000 + seqs[i]);
        assert_int_equal(row.qos, i == 0 ? 2 : 1);
        assert_int_equal(row.retain, i == 2);
        assert_int_equal(row.state, INFLIGHT_SENT);
        assert_int_equal(row.sub_id, 50);
    }
    assert_false(row_open_next(&reader, &row));
    assert_false(reader.bad);
    reader = (struct row_reader){.rest = slice_of(op.value.bytes + 8, 20)};
    assert_false(row_open_next(&reader, &row));
    assert_true(reader.bad);
    for (int i = 0; i < 3; i++)
        inflight_close(&open[i]);
    assert_int_equal(cursor.open_count, 0);
    txn_done(&txn);
}

/* A group's delivery and an ordinary one of the same message have rows of their own. */
static void outbound_rows_differ_by_owner(void **state)
{
    (void)state;
    struct txn txn = {.parts = NULL};
    struct inflight inflight = {.number = 1, .owner = 1, .queue_id = 5, .seq = 6, .packet_id = 7};
    row_put_outbound(&txn, &inflight);
    inflight.owner = 2;
    row_put_outbound(&txn, &inflight);
    row_delete_outbound(&txn, &inflight);
    const struct meta_op *ops = txn_ops(&txn);
    assert_false(slice_equal(ops[0].key, ops[1].key));
    assert_true(slice_equal(ops[1].key, ops[2].key));
    assert_int_equal(ops[2].kind, META_DELETE);
    txn_done(&txn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_round_trip),
        cmocka_unit_test(many_operations),
        cmocka_unit_test(subscription_round_trip),
        cmocka_unit_test(subscription_at_qos0_names_no_queue),
        cmocka_unit_test(private_row_is_no_filters),
        cmocka_unit_test(cursor_round_trip),
        cmocka_unit_test(outbound_rows_differ_by_owner),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
