/* Rates over leases, of a server that is alone and of a service that the test plays. */
#include "broker/quota.h"

#include "base/unit.h"

static void begin(struct quota *quota, struct quota_service *service, uint32_t rate)
{
    struct broker_config config;
    broker_config_default(&config);
    config.connect_rate = rate;
    *quota = (struct quota){0};
    quota_init(quota, service);
    quota_configure(quota, &config);
}

static void set_rate(struct quota *quota, uint32_t rate)
{
    const struct broker_config config = {.connect_rate = rate};
    quota_configure(quota, &config);
}

static int take_all(struct quota *quota, uint64_t now_ms)
{
    int count = 0;
    while (quota_take(quota, QUOTA_CONNECTS, now_ms) && count < 100000)
        count++;
    return count;
}

static void off_is_no_limit(void **state)
{
    (void)state;
    struct quota quota;
    begin(&quota, NULL, 0);
    assert_false(quota.messages);
    assert_int_equal(take_all(&quota, 1000), 100000);
    assert_int_equal(quota_used(&quota, QUOTA_CONNECTS, 2000), 0);
    quota_done(&quota);
}

/* A second's worth at once, then the rate; the kinds do not know of each other. */
static void rate_is_kept(void **state)
{
    (void)state;
    struct quota quota;
    begin(&quota, NULL, 200);
    assert_int_equal(take_all(&quota, 1000), 200);
    int count = 0;
    for (uint64_t now_ms = 1000; now_ms < 11000; now_ms += 7)
        count += take_all(&quota, now_ms);
    assert_in_range(count, 1990, 2000);
    assert_true(quota_take(&quota, QUOTA_SUBSCRIBES, 11000));
    quota_done(&quota);
}

static void spare_is_left(void **state)
{
    (void)state;
    struct quota quota;
    begin(&quota, NULL, 100);
    int count = 0;
    while (quota_has(&quota, QUOTA_CONNECTS, 1, true, 1000)) {
        quota_spend(&quota, QUOTA_CONNECTS, 1, 1000);
        count++;
    }
    assert_int_equal(count, 75);
    assert_int_equal(take_all(&quota, 1000), 25);
    quota_done(&quota);
}

static void use_is_of_the_second_before(void **state)
{
    (void)state;
    struct quota quota;
    begin(&quota, NULL, 100);
    quota_spend(&quota, QUOTA_CONNECTS, 3, 5000);
    quota_spend(&quota, QUOTA_CONNECTS, 4, 5999);
    assert_int_equal(quota_used(&quota, QUOTA_CONNECTS, 5999), 0);
    assert_int_equal(quota_used(&quota, QUOTA_CONNECTS, 6000), 7);
    quota_spend(&quota, QUOTA_CONNECTS, 1, 6500);
    assert_int_equal(quota_used(&quota, QUOTA_CONNECTS, 6999), 7);
    assert_int_equal(quota_used(&quota, QUOTA_CONNECTS, 7000), 1);
    assert_int_equal(quota_used(&quota, QUOTA_CONNECTS, 8000), 0);
    quota_spend(&quota, QUOTA_CONNECTS, 1, 9000);
    assert_int_equal(quota_used(&quota, QUOTA_CONNECTS, 9999), 0);
    quota_done(&quota);
}

static void new_rate_counts_at_once(void **state)
{
    (void)state;
    struct quota quota;
    begin(&quota, NULL, 1000);
    assert_true(quota_take(&quota, QUOTA_CONNECTS, 1000));
    set_rate(&quota, 5);
    assert_int_equal(take_all(&quota, 1001), 5);
    set_rate(&quota, 0);
    assert_int_equal(take_all(&quota, 1001), 100000);
    quota_done(&quota);
}

/* --- a service of several servers ---------------------------------------------------------------
 */

struct shared {
    struct quota_service service; /* first */
    struct quota_claim claim;     /* the last one */
    int64_t grant;
    int claims, frees;
};

static void shared_lease(struct quota_service *service, const struct quota_claim *claim,
                         struct quota_lease *ret_lease)
{
    struct shared *shared = CONTAINER_OF(service, struct shared, service);
    shared->claim = *claim;
    shared->claims++;
    *ret_lease =
        (struct quota_lease){.tokens = shared->grant, .depth = 8, .until_ms = claim->now_ms + 500};
}

static struct quota_service *shared_free(struct quota_service *service)
{
    CONTAINER_OF(service, struct shared, service)->frees++;
    return NULL;
}

/* No more than what was leased is spent, the service is not asked for each, and gets back what is
 * left. */
static void leases_of_a_service(void **state)
{
    (void)state;
    static const struct quota_service_ops ops = {.lease = shared_lease, .free = shared_free};
    struct shared shared = {.service = {.ops = &ops}, .grant = 5};
    struct quota quota;
    begin(&quota, &shared.service, 1000);
    assert_int_equal(take_all(&quota, 1000), 5);
    assert_int_equal(take_all(&quota, 1499), 0);
    assert_int_equal(shared.claims, 1);
    assert_int_equal(shared.claim.kind, QUOTA_CONNECTS);
    assert_int_equal(shared.claim.rate, 1000);
    shared.grant = 3;
    assert_true(quota_take(&quota, QUOTA_CONNECTS, 1500));
    assert_int_equal(shared.claim.left, 0);
    quota_spend(&quota, QUOTA_CONNECTS, 4, 1600);
    assert_false(quota_has(&quota, QUOTA_CONNECTS, 1, false, 1700));
    assert_true(quota_has(&quota, QUOTA_CONNECTS, 1, false, 2000));
    assert_int_equal(shared.claim.left, -2);
    assert_int_equal(shared.claims, 3);
    quota_done(&quota);
    assert_int_equal(shared.frees, 0); /* it is borrowed */
}

static void weights(void **state)
{
    (void)state;
    static const uint32_t rows[3][2] = {{1, 1}, {2, 3}, {4, 6}}; /* as in docs/limits.md */
    for (uint8_t qos = 0; qos < 3; qos++) {
        assert_int_equal(quota_weight(qos, false), rows[qos][0]);
        assert_int_equal(quota_weight(qos, true), rows[qos][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(off_is_no_limit),
        cmocka_unit_test(rate_is_kept),
        cmocka_unit_test(spare_is_left),
        cmocka_unit_test(use_is_of_the_second_before),
        cmocka_unit_test(new_rate_counts_at_once),
        cmocka_unit_test(leases_of_a_service),
        cmocka_unit_test(weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
