/* Watches, on real members of etcd. */
#include "etcd/etcd_fixture.h"

struct seen {
    struct etcd_watch *watch;
    char text[1024]; /* "key=value " or "key- " for each change */
    uint64_t revision;
    int gaps, calls;
    bool frees; /* the watch, when it is told something */
};

static void on_changes(void *data, const struct etcd_change *changes, uint32_t count,
                       uint64_t revision)
{
    struct seen *seen = data;
    assert_true(revision > seen->revision);
    seen->revision = revision;
    seen->calls++;
    for (uint32_t i = 0; i < count; i++) {
        const struct etcd_row *row = &changes[i].row;
        const size_t size = strlen(seen->text);
        (void)snprintf(seen->text + size, sizeof seen->text - size, "%.*s%s%.*s ",
                       (int)row->key.size, row->key.bytes, changes[i].deleted ? "-" : "=",
                       (int)row->value.size,
                       row->value.size > 0 ? (const char *)row->value.bytes : "");
    }
    if (seen->frees)
        seen->watch = etcd_watch_free(seen->watch);
}

static void on_gap(void *data)
{
    struct seen *seen = data;
    seen->gaps++;
    if (seen->frees)
        seen->watch = etcd_watch_free(seen->watch);
}

static void watch_open(struct bench *bench, struct seen *seen, uint64_t from)
{
    static const struct etcd_watcher none;
    struct etcd_watcher watcher = none;
    watcher.on_changes = on_changes;
    watcher.on_gap = on_gap;
    watcher.data = seen;
    seen->watch = etcd_watch_new(bench->etcd, slice_str("w/"), slice_str("w0"), from, &watcher);
}

static void wait_for_text(struct bench *bench, const struct seen *seen, const char *text)
{
    while (strlen(seen->text) < strlen(text))
        assert_int_equal(loop_turn(bench->loop, -1), 0);
    assert_string_equal(seen->text, text);
}

static void changes_come_in_order(void **state)
{
    (void)state;
    struct bench bench;
    struct seen seen = {0};
    bench_open(&bench, 1);
    assert_int_equal(put(&bench, "w/a", "0", 0), 0);
    watch_open(&bench, &seen, bench.revision + 1);
    const struct etcd_op both[] = {
        {.kind = ETCD_PUT, .key = slice_str("w/a"), .value = slice_str("1")},
        {.kind = ETCD_PUT, .key = slice_str("w/b"), .value = slice_str("2")}};
    assert_int_equal(run(&bench, &(struct etcd_txn){.then = both, .then_count = 2}), 0);
    assert_int_equal(put(&bench, "x", "not watched", 0), 0);
    const struct etcd_op remove = {.kind = ETCD_DELETE, .key = slice_str("w/a")};
    assert_int_equal(run_op(&bench, &remove), 0);
    const uint64_t last = bench.revision;
    wait_for_text(&bench, &seen, "w/a=1 w/b=2 w/a- ");
    assert_int_equal(seen.revision, last);
    seen.watch = etcd_watch_free(seen.watch);
    assert_null(etcd_watch_free(NULL));
    bench_close(&bench);
}

/* Killed and started again; and stopped, so that only the owner can know. */
static void broken_connections_lose_nothing(void **state)
{
    (void)state;
    struct bench bench;
    struct seen seen = {0};
    bench_open(&bench, 1);
    watch_open(&bench, &seen, 1);
    assert_int_equal(put(&bench, "w/a", "1", 0), 0);
    wait_for_text(&bench, &seen, "w/a=1 ");
    member_kill(&bench.members, 0);
    member_start(&bench.members, 0);
    wait_for_etcd(&bench);
    assert_int_equal(put(&bench, "w/a", "2", 0), 0);
    wait_for_text(&bench, &seen, "w/a=1 w/a=2 ");
    etcd_watch_renew(seen.watch);
    assert_int_equal(put(&bench, "w/a", "3", 0), 0);
    wait_for_text(&bench, &seen, "w/a=1 w/a=2 w/a=3 ");
    seen.watch = etcd_watch_free(seen.watch);
    bench_close(&bench);
}

static void compact(struct bench *bench, uint64_t revision)
{
    char body[64];
    (void)snprintf(body, sizeof body, "{\"revision\":\"%llu\"}", (unsigned long long)revision);
    gateway(bench, "/v3/kv/compaction", body);
}

static void what_is_compacted_is_a_gap(void **state)
{
    (void)state;
    for (int frees = 0; frees < 2; frees++) {
        struct bench bench;
        struct seen seen = {.frees = frees == 1};
        bench_open(&bench, 1);
        assert_int_equal(put(&bench, "w/a", "1", 0), 0);
        assert_int_equal(put(&bench, "w/a", "2", 0), 0);
        compact(&bench, bench.revision);
        watch_open(&bench, &seen, 1);
        while (seen.gaps == 0)
            assert_int_equal(loop_turn(bench.loop, -1), 0);
        assert_int_equal(put(&bench, "w/a", "3", 0), 0);
        assert_string_equal(seen.text, "");
        if (!frees)
            etcd_watch_renew(seen.watch); /* of no use any more */
        seen.watch = etcd_watch_free(seen.watch);
        bench_close(&bench);
    }
}

static void a_watch_may_be_freed_by_what_it_tells(void **state)
{
    (void)state;
    struct bench bench;
    struct seen seen = {.frees = true};
    bench_open(&bench, 1);
    watch_open(&bench, &seen, 1);
    assert_int_equal(put(&bench, "w/a", "1", 0), 0);
    wait_for_text(&bench, &seen, "w/a=1 ");
    assert_int_equal(put(&bench, "w/a", "2", 0), 0);
    assert_int_equal(seen.calls, 1);
    bench_close(&bench);
}

/* Large changes come in many parts of a stream. */
static void large_changes_come_whole(void **state)
{
    (void)state;
    enum { SIZE = 1000000 };
    struct bench bench;
    struct seen seen = {0};
    bench_open(&bench, 1);
    watch_open(&bench, &seen, 1);
    uint8_t *value = mem_new(SIZE);
    memset(value, 'v', SIZE);
    for (int i = 0; i < 3; i++) {
        const struct etcd_op write = {
            .kind = ETCD_PUT, .key = slice_str("w/a"), .value = slice_of(value, SIZE)};
        assert_int_equal(run_op(&bench, &write), 0);
    }
    mem_free(value);
    while (seen.revision < bench.revision)
        assert_int_equal(loop_turn(bench.loop, -1), 0);
    seen.watch = etcd_watch_free(seen.watch);
    bench_close(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes_come_in_order),
        cmocka_unit_test(broken_connections_lose_nothing),
        cmocka_unit_test(what_is_compacted_is_a_gap),
        cmocka_unit_test(a_watch_may_be_freed_by_what_it_tells),
        cmocka_unit_test(large_changes_come_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
