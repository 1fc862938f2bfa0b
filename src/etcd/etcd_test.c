/* The client against real members of etcd (Debian: etcd-server). */
#include "etcd/etcd_fixture.h"

/* --- transactions ----------------------------------------------------------------------------- */

static void rows_are_written_and_read(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 1);
    uint8_t all[1000], end[4];
    for (size_t i = 0; i < sizeof all; i++)
        all[i] = (uint8_t)i;
    const struct slice key = slice_of("k\0\xff/1", 5);
    const struct etcd_op write = {.kind = ETCD_PUT, .key = key, .value = slice_of(all, sizeof all)};
    assert_int_equal(run_op(&bench, &write), 0);
    assert_int_equal(put(&bench, "k2", "", 0), 0);
    const uint64_t last = bench.revision;
    struct etcd_op read = {
        .kind = ETCD_READ, .key = slice_str("k"), .end = etcd_prefix_end(slice_str("k"), end)};
    assert_int_equal(run_op(&bench, &read), 0);
    assert_int_equal(bench.row_count, 2);
    assert_true(slice_equal(bench.rows[0].key, key));
    assert_true(slice_equal(bench.rows[0].value, write.value));
    assert_int_equal(bench.rows[1].value.size, 0);
    assert_int_equal(bench.rows[1].changed, last);
    read.limit = 1;
    assert_int_equal(run_op(&bench, &read), 0);
    assert_true(bench.more && bench.row_count == 1);
    read.kind = ETCD_DELETE;
    assert_int_equal(run_op(&bench, &read), 0);
    assert_int_equal(bench.deleted, 2);
    /* As it was. */
    read = (struct etcd_op){.kind = ETCD_READ, .key = slice_str("k2"), .revision = last};
    assert_int_equal(run_op(&bench, &read), 0);
    assert_int_equal(bench.row_count, 1);
    bench_close(&bench);
}

static void branches_follow_comparisons(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 1);
    const struct etcd_op write = {.kind = ETCD_PUT, .key = slice_str("a"), .value = slice_str("1")};
    const struct etcd_op read = {.kind = ETCD_READ, .key = slice_str("a")};
    struct etcd_compare compare = {.kind = ETCD_ABSENT, .key = slice_str("a")};
    const struct etcd_txn txn = {.compares = &compare,
                                 .compare_count = 1,
                                 .then = &write,
                                 .then_count = 1,
                                 .otherwise = &read,
                                 .otherwise_count = 1};
    assert_int_equal(run(&bench, &txn), 0);
    assert_true(bench.held);
    const uint64_t written = bench.revision;
    assert_int_equal(run(&bench, &txn), 0);
    assert_false(bench.held);
    assert_int_equal(bench.row_count, 1);
    assert_int_equal(bench.rows[0].created, written);
    static const struct {
        enum etcd_compare_kind kind;
        int64_t revision; /* from the one it was written at */
        const char *value;
        bool holds;
    } rows[] = {
        {ETCD_PRESENT, 0, "", true},     {ETCD_CHANGED_AT, 0, "", true},
        {ETCD_CHANGED_AT, 1, "", false}, {ETCD_VALUE_IS, 0, "1", true},
        {ETCD_VALUE_IS, 0, "2", false},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        compare.kind = rows[i].kind;
        compare.revision = written + (uint64_t)rows[i].revision;
        compare.value = slice_str(rows[i].value);
        const struct etcd_txn ask = {.compares = &compare, .compare_count = 1};
        assert_int_equal(run(&bench, &ask), 0);
        assert_int_equal(bench.held, rows[i].holds);
    }
    bench_close(&bench);
}

static void what_etcd_refuses_is_told(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 1);
    const struct etcd_op twice[] = {
        {.kind = ETCD_PUT, .key = slice_str("a"), .value = slice_str("1")},
        {.kind = ETCD_PUT, .key = slice_str("a"), .value = slice_str("2")}};
    assert_int_equal(run(&bench, &(struct etcd_txn){.then = twice, .then_count = 2}), ERR_INVALID);
    assert_non_null(strstr(bench.why, "duplicate key"));
    assert_false(bench.unsure);
    struct etcd_op many[ETCD_OPS_MAX + 1] = {0};
    struct etcd_call *call = NULL;
    const struct etcd_txn large = {.then = many, .then_count = ARRAY_COUNT(many)};
    assert_int_equal(etcd_submit(bench.etcd, &large, on_answer, &bench, &call), ERR_FULL);
    assert_int_equal(etcd_submit(bench.etcd, &(struct etcd_txn){0}, on_answer, &bench, &call), 0);
    const int before = bench.answers;
    etcd_cancel(call);
    assert_int_equal(get(&bench, "a"), 0);
    assert_int_equal(bench.answers, before + 1);
    assert_int_equal(bench.row_count, 0);
    bench_close(&bench);
}

static void nobody_answers(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 1);
    member_kill(&bench.members, 0);
    assert_int_equal(put(&bench, "a", "1", 0), ERR_UNAVAILABLE);
    assert_false(bench.unsure); /* nobody can have had it */
    assert_true(bench.why[0] != '\0');
    const char *bad[] = {"127.0.0.1:2379"};
    struct etcd_config config = {.loop = bench.loop, .log = bench.log, .urls = bad, .url_count = 1};
    struct etcd *none = NULL;
    struct errmsg why = {0};
    assert_int_equal(etcd_new(&config, &none, &why), ERR_INVALID);
    assert_non_null(strstr(why.text, "127.0.0.1:2379"));
    config.url_count = 0;
    assert_int_equal(etcd_new(&config, &none, NULL), ERR_INVALID);
    bench_close(&bench);
}

/* The member is there, but does not come to answer. */
static void a_write_without_an_answer_is_unsure(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 1);
    assert_int_equal(kill(bench.members.pids[0], SIGSTOP), 0);
    assert_int_equal(put(&bench, "a", "1", 0), ERR_UNAVAILABLE);
    assert_true(bench.unsure);
    assert_int_equal(kill(bench.members.pids[0], SIGCONT), 0);
    bench_close(&bench);
}

static void other_members_take_over(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 3);
    assert_int_equal(put(&bench, "a", "1", 0), 0);
    for (uint32_t i = 0; i < 3; i++) { /* two of three have to be there */
        member_kill(&bench.members, i);
        while (put(&bench, "a", "2", 0) < 0)
            assert_int_equal(loop_turn(bench.loop, 20), 0);
        assert_int_equal(get(&bench, "a"), 0);
        assert_int_equal(bench.row_count, 1);
        member_start(&bench.members, i);
        wait_for_etcd(&bench);
    }
    bench_close(&bench);
}

static void ends_of_prefixes(void **state)
{
    (void)state;
    uint8_t room[4];
    assert_true(slice_equal(etcd_prefix_end(slice_str("ab"), room), slice_str("ac")));
    assert_true(slice_equal(etcd_prefix_end(slice_of("a\xff", 2), room), slice_str("b")));
    assert_true(slice_equal(etcd_prefix_end(slice_of("\xff\xff", 2), room), slice_of("", 1)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_written_and_read),
        cmocka_unit_test(branches_follow_comparisons),
        cmocka_unit_test(what_etcd_refuses_is_told),
        cmocka_unit_test(nobody_answers),
        cmocka_unit_test(a_write_without_an_answer_is_unsure),
        cmocka_unit_test(other_members_take_over),
        cmocka_unit_test(ends_of_prefixes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
