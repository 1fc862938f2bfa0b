/* Clients over a rate are not read from for a while. */
#include "proxy/testbed.h"

#define PUBLISH_1(id) 0x32, 5, 0, 1, 't', 0, id
#define PUBLISH_0     0x30, 3, 0, 1, 't'

static void open_paced(struct bench *bench, bool rates)
{
    struct proxy_config config;
    proxy_config_default(&config);
    config.rates = rates;
    bench_open(bench, &config);
    bench_connect(bench, MQTT_V311);
    core.acks = true;
}

/* Nothing is lost or overtaken, and what is behind the packet waits with it. */
static void packets_wait_and_go_on(void **state)
{
    (void)state;
    struct bench bench;
    open_paced(&bench, true);
    core.waits = true;
    SEND(&bench, PUBLISH_0, PUBLISH_1(1), PUBLISH_0, 0xc0, 0);
    SEND(&bench, PUBLISH_1(2));
    assert_int_equal(core.publishes, 1);
    bench_advance(&bench, 500);
    assert_int_equal(core.publishes, 1);
    assert_int_equal(core.waits_first, 1);
    EXPECT_NOTHING(&bench);
    core.waits = false;
    bench_advance(&bench, 10);
    EXPECT(&bench, 0x40, 2, 0, 1, 0xd0, 0, 0x40, 2, 0, 2);
    assert_int_equal(core.publishes, 4);
    core.waits = true;
    SEND(&bench, PUBLISH_1(3));
    assert_int_equal(core.waits_first, 2);
    bench_close(&bench); /* while it waits */
}

/* Each wait is counted from its own begin, and the keep alive does not end it. */
static void waiting_has_an_end(void **state)
{
    (void)state;
    struct bench bench;
    open_paced(&bench, true);
    core.waits = true;
    SEND(&bench, PUBLISH_1(1));
    for (int i = 0; i < 9; i++)
        bench_advance(&bench, 1000);
    core.waits = false;
    bench_advance(&bench, 10);
    EXPECT(&bench, 0x40, 2, 0, 1);
    core.waits = true;
    SEND(&bench, PUBLISH_1(2));
    for (int i = 0; i < 9; i++)
        bench_advance(&bench, 1000);
    EXPECT_NOTHING(&bench);
    assert_int_equal(core.losts, 0);
    bench_advance(&bench, 1000);
    EXPECT_END(&bench);
    assert_int_equal(core.losts, 1);
    assert_int_equal(core.lost_reason, REASON_RATE_TOO_HIGH);
    assert_int_equal(core.publishes, 1);
    assert_int_equal(metric_get(&bench.metrics->limit_reads_closed), 1);
    bench_close(&bench);
}

/* Conns that wait go on in the order in which they came. */
static void turns_are_taken(void **state)
{
    (void)state;
    struct bench bench;
    open_paced(&bench, true);
    const int first = bench.fd;
    struct link *const first_link = core.link;
    core.waits = true;
    SEND(&bench, PUBLISH_1(1));
    bench_connect(&bench, MQTT_V311);
    SEND(&bench, 0x32, 5, 0, 1, 'u', 0, 1);
    bench_advance(&bench, 100);
    core.waits = false;
    bench_advance(&bench, 10);
    assert_int_equal(core.publishes, 2);
    assert_string_equal(core.topic, "u"); /* was the last */
    struct link *const second_link = core.link;
    core.link = first_link; /* the one that is going to be lost */
    (void)close(first);
    bench_turn(&bench);
    assert_int_equal(core.losts, 1);
    core.link = second_link;
    bench_close(&bench);
}

/* The client goes while its packet waits. */
static void waiting_client_goes(void **state)
{
    (void)state;
    struct bench bench;
    open_paced(&bench, true);
    core.waits = true;
    SEND(&bench, PUBLISH_1(1));
    core.link->ops->close(core.link, REASON_SESSION_TAKEN_OVER, NULL);
    bench_advance(&bench, 20);
    EXPECT_END(&bench);
    bench_advance(&bench, 20000);
    assert_int_equal(core.publishes, 0);
    assert_int_equal(metric_get(&bench.metrics->limit_reads_closed), 0);
    bench_close(&bench);
}

static void off_asks_nobody(void **state)
{
    (void)state;
    struct bench bench;
    open_paced(&bench, false);
    core.waits = true;
    SEND(&bench, PUBLISH_1(1));
    EXPECT(&bench, 0x40, 2, 0, 1);
    assert_int_equal(core.waits_first, 0);
    bench_close(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packets_wait_and_go_on), cmocka_unit_test(waiting_has_an_end),
        cmocka_unit_test(turns_are_taken),        cmocka_unit_test(waiting_client_goes),
        cmocka_unit_test(off_asks_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
