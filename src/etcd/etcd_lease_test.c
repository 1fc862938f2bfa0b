/* Leases, on a real member of etcd. */
#include "etcd/etcd_fixture.h"

struct owner {
    int helds, losts;
    uint64_t id;
};

static void on_held(void *data, uint64_t id)
{
    struct owner *owner = data;
    owner->helds++;
    owner->id = id;
}

static void on_lost(void *data)
{
    ((struct owner *)data)->losts++;
}

static struct etcd_lease *take(struct bench *bench, struct owner *owner, uint32_t ttl_s)
{
    const struct etcd_lease_owner mine = {.on_held = on_held, .on_lost = on_lost, .data = owner};
    struct etcd_lease *lease = etcd_lease_new(bench->etcd, ttl_s, &mine);
    assert_int_equal(owner->helds, 0); /* never inside the call */
    while (owner->helds == 0)
        assert_int_equal(loop_turn(bench->loop, -1), 0);
    return lease;
}

static void what_is_put_under_it_lives_with_it(void **state)
{
    (void)state;
    struct bench bench;
    struct owner owner = {0};
    bench_open(&bench, 1);
    struct etcd_lease *lease = take(&bench, &owner, 2);
    assert_int_equal(put(&bench, "a", "1", owner.id), 0);
    const uint64_t begin_ms = loop_now_ms(bench.loop);
    while (loop_now_ms(bench.loop) - begin_ms < 3000) /* longer than it lives by itself */
        assert_int_equal(loop_turn(bench.loop, 100), 0);
    assert_int_equal(get(&bench, "a"), 0);
    assert_int_equal(bench.row_count, 1);
    assert_true(bench.rows[0].lease == owner.id);
    assert_int_equal(owner.losts, 0);
    lease = etcd_lease_free(lease);
    do {
        assert_int_equal(get(&bench, "a"), 0);
    } while (bench.row_count > 0);
    assert_null(etcd_lease_free(NULL));
    bench_close(&bench);
}

static void it_is_lost_before_etcd_ends_it(void **state)
{
    (void)state;
    struct bench bench;
    struct owner owner = {0};
    bench_open(&bench, 1);
    struct etcd_lease *lease = take(&bench, &owner, 2);
    const uint64_t first = owner.id;
    assert_int_equal(put(&bench, "a", "1", first), 0);
    assert_int_equal(kill(bench.members.pids[0], SIGSTOP), 0);
    while (owner.losts == 0)
        assert_int_equal(loop_turn(bench.loop, -1), 0);
    assert_int_equal(kill(bench.members.pids[0], SIGCONT), 0);
    while (owner.helds < 2)
        assert_int_equal(loop_turn(bench.loop, -1), 0);
    assert_true(owner.id != first);
    assert_int_equal(owner.losts, 1);
    lease = etcd_lease_free(lease);
    bench_close(&bench);
}

/* Somebody else ended it: the next keep-alive tells, and another is taken. */
static void a_revoked_lease_is_lost(void **state)
{
    (void)state;
    struct bench bench;
    struct owner owner = {0};
    char body[64];
    bench_open(&bench, 1);
    struct etcd_lease *lease = take(&bench, &owner, 2);
    const uint64_t first = owner.id;
    (void)snprintf(body, sizeof body, "{\"ID\":\"%llu\"}", (unsigned long long)first);
    gateway(&bench, "/v3/lease/revoke", body);
    while (owner.helds < 2)
        assert_int_equal(loop_turn(bench.loop, -1), 0);
    assert_int_equal(owner.losts, 1);
    assert_true(owner.id != first);
    lease = etcd_lease_free(lease);
    bench_close(&bench);
}

/* It is asked for again until there is somebody to give it. */
static void a_member_that_comes_back_gives_another(void **state)
{
    (void)state;
    struct bench bench;
    struct owner owner = {0};
    bench_open(&bench, 1);
    struct etcd_lease *lease = take(&bench, &owner, 1);
    member_kill(&bench.members, 0);
    while (owner.losts == 0)
        assert_int_equal(loop_turn(bench.loop, -1), 0);
    member_start(&bench.members, 0);
    while (owner.helds < 2)
        assert_int_equal(loop_turn(bench.loop, -1), 0);
    assert_int_equal(put(&bench, "a", "1", owner.id), 0);
    lease = etcd_lease_free(lease);
    bench_close(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_put_under_it_lives_with_it),
        cmocka_unit_test(it_is_lost_before_etcd_ends_it),
        cmocka_unit_test(a_revoked_lease_is_lost),
        cmocka_unit_test(a_member_that_comes_back_gives_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
