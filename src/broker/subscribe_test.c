/* Subscriptions over the model engine, and messages addressed to one client. */
#include "store/mem/mem.h"

#include "broker/testbed.h"

static struct client a, b, c;

/* --- subscriptions -----------------------------------------------------------------------------
 */

/* [MQTT5-3.8.3-3] */
static void no_local(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", durable);
    client_connect(bed, &b, "b", transient);
    client_subscribe(bed, &a, "t", (struct wants){.qos = 1, .no_local = true});
    for (uint8_t qos = 0; qos < 2; qos++) {
        client_publish(&a, "t", "own", (struct options){.qos = qos});
        client_publish(&b, "t", "other", (struct options){.qos = qos});
        bed_run(bed);
        if (qos)
            client_expect(&a, PACKET_PUBACK);
        client_expect_message(&a, "other", qos);
        client_expect_nothing(&a);
    }
    bed_close(bed);
}

/* [MQTT3-3.3.5-1] [MQTT5-3.3.4-2] [MQTT5-3.3.4-3] [MQTT5-3.3.4-4]: once, with the highest QoS and
 * all identifiers; when it is sent again, too. */
static void overlapping_subscriptions_give_one_message(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", transient);
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "t/#", (struct wants){.qos = 0, .id = 1});
    client_subscribe(bed, &b, "t/+", (struct wants){.qos = 2, .id = 2});
    client_subscribe(bed, &b, "t/x", (struct wants){.qos = 1, .id = 3});
    client_publish(&a, "t/x", "m", (struct options){.qos = 2});
    client_publish(&a, "t/x", "n", (struct options){.qos = 0});
    bed_run(bed);
    const struct event *event = client_expect_message(&b, "n", 0);
    assert_int_equal(event->id_count, 3);
    for (int i = 0; i < 2; i++) {
        event = client_expect_message(&b, "m", 2);
        assert_int_equal(event->id_count, 3);
        assert_int_equal(event->ids[0] + event->ids[1] + event->ids[2], 6);
        client_expect_nothing(&b);
        client_lose(&b);
        client_connect(bed, &b, "b", durable);
    }
    bed_close(bed);
}

/* A match result with more filters than are cached, and sessions that look into it each. */
static void many_filters_match(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    static struct client subscribers[30];
    char id[8], filter[60];
    for (int i = 0; i < 30; i++) {
        (void)snprintf(id, sizeof id, "s%d", i);
        client_connect(bed, &subscribers[i], id, transient);
        for (int k = 0; k < 12; k++) {
            /* filters of 9 levels, "+" where the bits of a number are set */
            const int bits = i * 12 + k;
            size_t used = (size_t)snprintf(filter, sizeof filter, "t");
            for (int bit = 0; bit < 9; bit++)
                used += (size_t)snprintf(filter + used, sizeof filter - used, "/%s",
                                         bits >> bit & 1 ? "+" : "x");
            client_subscribe(bed, &subscribers[i], filter, (struct wants){.qos = 1});
        }
    }
    client_connect(bed, &a, "a", transient);
    for (uint8_t qos = 0; qos < 2; qos++) {
        client_publish(&a, "t/x/x/x/x/x/x/x/x/x", "m", (struct options){.qos = qos});
        bed_run(bed);
        for (int i = 0; i < 30; i++) {
            client_expect_message(&subscribers[i], "m", qos);
            client_expect_nothing(&subscribers[i]);
        }
    }
    bed_close(bed);
}

/* [MQTT3-3.10.4-2] [MQTT5-3.10.4-2] [MQTT3-3.10.4-3] [MQTT5-3.10.4-3]: no new messages, but what
 * was begun is finished, after a restart too. */
static void unsubscribing_finishes_what_was_begun(void **state)
{
    (void)state;
    for (int restart = 0; restart < 3; restart++) {
        struct bed *bed = bed_open();
        client_connect(bed, &a, "a", transient);
        client_connect(bed, &b, "b", durable);
        client_subscribe(bed, &b, "t", (struct wants){.qos = 2});
        client_publish(&a, "t", "1", (struct options){.qos = 1});
        client_publish(&a, "t", "2", (struct options){.qos = 2, .packet_id = 2});
        bed_run(bed);
        const uint16_t pid1 = client_expect_message(&b, "1", 1)->packet_id;
        const uint16_t pid2 = client_expect_message(&b, "2", 2)->packet_id;
        assert_int_equal(client_unsubscribe(bed, &b, "t"), 0);
        assert_int_equal(client_unsubscribe(bed, &b, "t"), REASON_NO_SUBSCRIPTION);
        client_publish(&a, "t", "3", (struct options){.qos = 1});
        bed_run(bed);
        client_expect_nothing(&b);
        if (restart == 0)
            client_lose(&b);
        else if (restart == 1)
            bed_restart(bed);
        else
            bed_crash(bed, false);
        client_connect(bed, &b, "b", durable);
        client_subscribe_begin(bed, &b, "t", (struct wants){.qos = 2}); /* a new one */
        bed_run(bed);
        assert_int_equal(client_expect_message(&b, "1", 1)->packet_id, pid1);
        assert_int_equal(client_expect_message(&b, "2", 2)->packet_id, pid2);
        client_expect(&b, PACKET_SUBACK);
        client_ack(bed, &b, PACKET_PUBREC, pid2);
        client_expect(&b, PACKET_PUBREL);
        bed_crash(bed, false);
        client_connect(bed, &b, "b", durable);
        client_expect_message(&b, "1", 1);
        client_expect(&b, PACKET_PUBREL);
        client_expect_nothing(&b);
        bed_close(bed);
    }
}

/* What overlapping subscriptions had left to the one that goes is delivered all the same. */
static void unsubscribing_drains_for_the_others(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", transient);
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "t/+", (struct wants){.qos = 1});
    client_subscribe(bed, &b, "t/#", (struct wants){.qos = 1});
    b.full = true;
    client_publish(&a, "t/x", "1", (struct options){.qos = 1});
    client_publish(&a, "t/x", "2", (struct options){.qos = 1, .packet_id = 2});
    bed_run(bed);
    assert_int_equal(client_unsubscribe(bed, &b, "t/+"), 0);
    client_publish(&a, "t/x", "3", (struct options){.qos = 1, .packet_id = 3});
    client_publish(&a, "t/x", "0", (struct options){.qos = 0});
    bed_run(bed);
    client_expect_nothing(&b);
    b.full = false;
    link_writable(&b.link);
    bed_run(bed);
    int seen = 0;
    for (int i = 0; i < 3; i++)
        seen |= 1 << payload_number(client_expect(&b, PACKET_PUBLISH));
    assert_int_equal(seen, 14);
    client_expect_nothing(&b);
    client_unsubscribe(bed, &b, "t/#");
    assert_int_equal(metric_get(&bed->metrics->subscriptions), 0);
    client_publish(&a, "t/x", "0", (struct options){.qos = 0});
    client_expect_nothing(&b);
    bed_close(bed);
}

/* [MQTT5-3.8.4-4] Nothing is lost when a subscription is replaced, not even by one of QoS 0. */
static void lowering_the_qos_loses_nothing(void **state)
{
    (void)state;
    for (int crash = 0; crash < 2; crash++) {
        struct bed *bed = bed_open();
        client_connect(bed, &a, "a", transient);
        client_connect(bed, &b, "b", (struct how){.expiry_s = 100, .receive_max = 1});
        client_subscribe(bed, &b, "t", (struct wants){.qos = 1});
        static const char *const texts[] = {"0", "1", "2", "3"};
        for (int i = 0; i < 4; i++)
            client_publish(&a, "t", texts[i],
                           (struct options){.qos = 1, .packet_id = (uint16_t)(i + 1)});
        bed_run(bed);
        uint16_t pid = client_expect_message(&b, "0", 1)->packet_id;
        client_subscribe(bed, &b, "t", (struct wants){.qos = 0});
        if (crash) {
            bed_crash(bed, false);
            client_connect(bed, &b, "b", (struct how){.expiry_s = 100, .receive_max = 1});
            pid = client_expect_message(&b, "0", 1)->packet_id;
        }
        client_ack(bed, &b, PACKET_PUBACK, pid);
        for (int i = 1; i < 4; i++)
            client_expect_message(&b, texts[i], 0);
        client_connect(bed, &c, "c", transient);
        client_publish(&c, "t", "4", (struct options){.qos = 1});
        bed_run(bed);
        client_expect_message(&b, "4", 0);
        client_expect_nothing(&b);
        assert_int_equal(metric_get(&bed->metrics->queues), 0);
        bed_close(bed);
    }
}

/* The rows of a SUBSCRIBE fail: the client is told by a closed connection, but matching has begun.
 * What is acknowledged to publishers from then on outlives a kill all the same. */
static void rows_of_a_failed_subscribe_are_written_again(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &b, "b", durable);
    assert_int_equal(client_subscribe(bed, &b, "t/other", (struct wants){.qos = 1}), 1);
    bed_pass(bed, 300);
    mem_store_fail_append(bed->store, 1, -5);
    client_subscribe_begin(bed, &b, "t", (struct wants){.qos = 1});
    bed_run(bed);
    assert_false(b.open);
    bed_pass(bed, 300);
    client_connect(bed, &a, "a", transient);
    client_publish(&a, "t", "m", (struct options){.qos = 1});
    bed_run(bed);
    assert_int_equal(client_expect(&a, PACKET_PUBACK)->reason, 0);
    bed_crash(bed, false);
    client_connect(bed, &b, "b", durable);
    client_expect_message(&b, "m", 1);
    bed_close(bed);
}

/* A QoS 0 subscription does not bind a filter to a queue that is gone. */
static void queues_come_and_go(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", durable);
    client_connect(bed, &b, "b", durable);
    client_connect(bed, &c, "c", durable);
    client_subscribe(bed, &b, "t", (struct wants){.qos = 1});
    client_subscribe(bed, &a, "t", (struct wants){.qos = 0});
    client_unsubscribe(bed, &b, "t");
    client_subscribe(bed, &c, "t", (struct wants){.qos = 1});
    client_disconnect(&c);
    client_publish(&b, "t", "x", (struct options){.qos = 1});
    bed_run(bed);
    bed_crash(bed, false);
    client_connect(bed, &c, "c", durable);
    client_expect_message(&c, "x", 1);
    bed_close(bed);
}

static void subscriptions_are_refused(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    static const char *const denied[] = {"secret/#"};
    bed->config.topics_auto_create = false;
    bed->config.deny_subscribe = denied;
    bed->config.deny_subscribe_count = 1;
    bed->config.topic_levels_max = 5;
    bed->config.filters_per_client_max = 2;
    broker_configure(bed->broker, &bed->config);
    client_connect(bed, &a, "a", transient);
    assert_int_equal(client_subscribe(bed, &a, "missing/x", (struct wants){.qos = 1}),
                     REASON_FILTER_INVALID);
    assert_int_equal(client_subscribe(bed, &a, "secret/#", (struct wants){.qos = 1}),
                     REASON_NOT_AUTHORIZED);
    assert_int_equal(client_subscribe(bed, &a, "+/a/b/c/d/e", (struct wants){.qos = 1}),
                     REASON_FILTER_INVALID);
    assert_int_equal(client_subscribe(bed, &a, "$SYS/#", (struct wants){.qos = 1}), 1);
    assert_int_equal(client_subscribe(bed, &a, "+/x", (struct wants){.qos = 2}), 2);
    assert_int_equal(client_subscribe(bed, &a, "+/y", (struct wants){.qos = 2}),
                     REASON_QUOTA_EXCEEDED);
    assert_int_equal(client_subscribe(bed, &a, "+/x", (struct wants){.qos = 0}), 0);
    client_publish(&a, "missing", "x", (struct options){.qos = 1});
    assert_int_equal(client_expect(&a, PACKET_PUBACK)->reason, REASON_TOPIC_INVALID);
    client_publish(&a, "missing", "x", (struct options){.qos = 2});
    assert_int_equal(client_expect(&a, PACKET_PUBREC)->reason, REASON_TOPIC_INVALID);
    client_publish(&a, "$SYS/x", "x", (struct options){.qos = 1});
    assert_int_equal(client_expect(&a, PACKET_PUBACK)->reason, REASON_TOPIC_INVALID);
    client_expect_nothing(&a);
    bed_close(bed);
}

/* One packet with more filters than go into one record. */
static void huge_subscribe(void **state)
{
    (void)state;
    enum { FILTERS = 40000 };
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", durable);
    uint8_t *bytes = mem_try_alloc(FILTERS * 16);
    assert_non_null(bytes);
    size_t size = 0;
    char filter[16];
    for (int i = 0; i < FILTERS; i++) {
        (void)snprintf(filter, sizeof filter, "t/%d", i);
        put_text(bytes, &size, filter);
        bytes[size++] = 1;
    }
    const struct packet_subscribe packet = {
        .packet_id = 7, .version = MQTT_V5, .count = FILTERS, .entries = slice_of(bytes, size)};
    link_subscribe(&a.link, &packet);
    bed_run(bed);
    const struct event *event = client_expect(&a, PACKET_SUBACK);
    assert_int_equal(event->id_count, FILTERS);
    client_expect_nothing(&a);
    bed_crash(bed, false);
    client_connect(bed, &a, "a", durable);
    client_publish(&a, "t/39999", "x", (struct options){.qos = 1});
    bed_run(bed);
    client_expect(&a, PACKET_PUBACK);
    client_expect_message(&a, "x", 1);
    mem_free(bytes);
    client_connect(bed, &a, "a", (struct how){.clean = true});
    assert_int_equal(metric_get(&bed->metrics->subscriptions), 0);
    bed_close(bed);
}

/* --- point to point ----------------------------------------------------------------------------
 */

static void point_to_point(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", transient);
    client_connect(bed, &b, "b", durable);
    for (uint8_t qos = 0; qos < 3; qos++) {
        client_publish(&a, "t/p2p/b", "x", (struct options){.qos = qos, .packet_id = 1});
        bed_run(bed);
        const struct event *event = client_expect_message(&b, "x", qos);
        if (qos == 1)
            client_ack(bed, &b, PACKET_PUBACK, event->packet_id);
        if (qos == 2) {
            client_ack(bed, &b, PACKET_PUBREC, event->packet_id);
            client_expect(&b, PACKET_PUBREL);
            client_ack(bed, &b, PACKET_PUBCOMP, event->packet_id);
        }
    }
    client_expect_nothing(&b);
    client_disconnect(&b);
    client_publish(&a, "t/p2p/b", "later", (struct options){.qos = 1, .packet_id = 9});
    client_publish(&a, "t/p2p/unknown", "x", (struct options){.qos = 1, .packet_id = 10});
    bed_run(bed);
    client_connect(bed, &b, "b", durable);
    client_expect_message(&b, "later", 1);
    client_expect_nothing(&b);
    bed_close(bed);
}

/* The first message to a client that is away, and a filter that has the client's name. */
static void point_to_point_survives_a_crash(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", transient);
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "b", (struct wants){.qos = 1});
    client_disconnect(&b);
    client_publish(&a, "t/p2p/b", "p2p", (struct options){.qos = 2});
    client_publish(&a, "b", "topic", (struct options){.qos = 1, .packet_id = 2});
    bed_run(bed);
    bed_crash(bed, false);
    client_connect(bed, &b, "b", durable);
    int seen = 0;
    for (int i = 0; i < 2; i++)
        seen |= strcmp(client_expect(&b, PACKET_PUBLISH)->payload, "p2p") ? 1 : 2;
    assert_int_equal(seen, 3);
    client_expect_nothing(&b);
    bed_close(bed);
}

/* A client that is still waiting for CONNACK is addressed. */
static void point_to_point_while_connecting(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", transient);
    client_connect_begin(bed, &b, "b", (struct how){.expiry_s = 10, .will = "w"});
    assert_false(b.answered);
    client_publish(&a, "t/p2p/b", "1", (struct options){.qos = 1});
    client_publish(&a, "t/p2p/b", "2", (struct options){.qos = 1, .packet_id = 2});
    bed_run(bed);
    client_expect_message(&b, "1", 1);
    client_expect_message(&b, "2", 1);
    client_expect_nothing(&b);
    bed_close(bed);
}

const char *__asan_default_options(void);

/* A crash leaves the memory of requests under way behind. */
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_a_failed_subscribe_are_written_again),
        cmocka_unit_test(no_local),
        cmocka_unit_test(overlapping_subscriptions_give_one_message),
        cmocka_unit_test(many_filters_match),
        cmocka_unit_test(unsubscribing_finishes_what_was_begun),
        cmocka_unit_test(unsubscribing_drains_for_the_others),
        cmocka_unit_test(lowering_the_qos_loses_nothing),
        cmocka_unit_test(queues_come_and_go),
        cmocka_unit_test(subscriptions_are_refused),
        cmocka_unit_test(huge_subscribe),
        cmocka_unit_test(point_to_point),
        cmocka_unit_test(point_to_point_survives_a_crash),
        cmocka_unit_test(point_to_point_while_connecting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
