/* Limits as clients meet them, with a clock of the test's. */
#include "store/mem/mem.h"

#include "broker/testbed.h"

static struct client a, b, c;

static const struct how transient_3 = {.version = MQTT_V311, .clean = true};

static int64_t metric(const struct bed *bed, size_t offset)
{
    return metric_get((const _Atomic int64_t *)(const void *)((const char *)bed->metrics + offset));
}

#define METRIC(bed, field) metric(bed, offsetof(struct metrics, field))

/* Counts the messages that have arrived and acknowledges them; nothing else must come. */
static uint32_t take_messages(struct bed *bed, struct client *client)
{
    uint32_t count = 0;
    for (const struct event *event; (event = client_next(client)); count++) {
        assert_int_equal(event->type, PACKET_PUBLISH);
        const uint16_t packet_id = event->packet_id;
        if (event->qos == 1)
            client_ack(bed, client, PACKET_PUBACK, packet_id);
    }
    return count;
}

/* Publishes `count` messages; returns how many were acknowledged with success. */
static uint32_t publish_many(struct bed *bed, struct client *client, uint8_t qos, uint16_t count)
{
    static uint16_t id = 0; /* none comes twice */
    uint32_t granted = 0;
    for (uint16_t i = 0; i < count; i++) {
        id = (uint16_t)(id % 60000 + 1);
        client_publish(client, "t", "m", (struct options){.qos = qos, .packet_id = id});
        while (qos > 0 && client->read == client->count)
            bed_run(bed);
        if (qos == 0)
            continue;
        const uint8_t reason =
            client_expect(client, qos == 1 ? PACKET_PUBACK : PACKET_PUBREC)->reason;
        assert_true(reason == REASON_NO_MATCHING_SUBSCRIBERS || reason == REASON_QUOTA_EXCEEDED);
        granted += reason != REASON_QUOTA_EXCEEDED;
    }
    return granted;
}

static void v5_publishers_are_told(void **state)
{
    (void)state;
    static const struct {
        struct how how;
        uint8_t qos;
        uint32_t granted; /* of 60 tokens */
    } rows[] = {{{.clean = true}, 1, 30},
                {{.expiry_s = 100}, 1, 20},
                {{.clean = true}, 2, 15},
                {{.expiry_s = 100}, 2, 10}};
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        for (int each = 0; each < 2; each++) {
            struct bed *bed = bed_open();
            *(each ? &bed->config.client_tps : &bed->config.tps) = 60;
            broker_configure(bed->broker, &bed->config);
            client_connect(bed, &a, "a", rows[i].how);
            /* The clock goes on a little while the store works. */
            assert_in_range(publish_many(bed, &a, rows[i].qos, 40), rows[i].granted,
                            rows[i].granted + 12);
            assert_true((each ? METRIC(bed, limit_client_tps) : METRIC(bed, limit_tps)) > 0);
            assert_int_equal(each ? METRIC(bed, limit_tps) : METRIC(bed, limit_client_tps), 0);
            bed_pass(bed, 1000);
            assert_true(publish_many(bed, &a, rows[i].qos, 1) == 1);
            bed_close(bed);
        }
    }
}

/* A refused QoS 2 packet ID is free again. */
static void refused_ids_are_free(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    bed->config.client_tps = 4;
    broker_configure(bed->broker, &bed->config);
    client_connect(bed, &a, "a", transient);
    client_publish(&a, "t", "m", (struct options){.qos = 2, .packet_id = 6});
    bed_run(bed);
    assert_int_equal(client_expect(&a, PACKET_PUBREC)->reason, REASON_NO_MATCHING_SUBSCRIBERS);
    client_publish(&a, "t", "m", (struct options){.qos = 2, .packet_id = 7});
    assert_int_equal(client_expect(&a, PACKET_PUBREC)->reason, REASON_QUOTA_EXCEEDED);
    bed_pass(bed, 1000);
    client_publish(&a, "t", "m", (struct options){.qos = 2, .packet_id = 7});
    bed_run(bed);
    assert_int_equal(client_expect(&a, PACKET_PUBREC)->reason, REASON_NO_MATCHING_SUBSCRIBERS);
    /* A repetition is not a message. */
    client_publish(&a, "t", "m", (struct options){.qos = 2, .packet_id = 7, .dup = true});
    assert_int_equal(client_expect(&a, PACKET_PUBREC)->reason, REASON_SUCCESS);
    bed_close(bed);
}

/* Dropped without a word, in both versions, and before any of QoS 1. */
static void qos0_is_dropped_first(void **state)
{
    (void)state;
    for (uint8_t version = MQTT_V311; version <= MQTT_V5; version++) {
        struct bed *bed = bed_open();
        bed->config.tps = 100;
        broker_configure(bed->broker, &bed->config);
        client_connect(bed, &a, "a", (struct how){.version = version, .clean = true});
        publish_many(bed, &a, 0, 200);
        assert_in_range(METRIC(bed, limit_qos0_dropped), 120, 125);
        assert_int_equal(METRIC(bed, publish_qos0_dropped), METRIC(bed, limit_qos0_dropped));
        client_expect_nothing(&a);
        assert_true(a.open);
        client_connect(bed, &b, "b", transient);
        assert_true(publish_many(bed, &b, 1, 12) == 12);
        bed_close(bed);
    }
}

/* Deliveries count: QoS 0 is dropped, what is stored comes later and all of it, in order. */
static void deliveries_count(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", transient);
    client_connect(bed, &b, "b", transient);
    client_connect(bed, &c, "c", transient_3);
    client_subscribe(bed, &b, "t", (struct wants){.qos = 1});
    client_subscribe(bed, &c, "t", (struct wants){.qos = 0});
    bed->config.client_tps = 20;
    broker_configure(bed->broker, &bed->config);
    for (uint16_t i = 0; i < 30; i++) {
        char payload[8];
        (void)snprintf(payload, sizeof payload, "%u", i);
        if (i % 10 == 0)
            bed_pass(bed, 1000); /* for the publisher */
        client_publish(&a, "t", payload, (struct options){.qos = 1, .packet_id = 1});
        bed_run(bed);
        assert_int_equal(client_expect(&a, PACKET_PUBACK)->reason, 0);
    }
    assert_int_equal(take_messages(bed, &c) + METRIC(bed, limit_qos0_dropped), 30);
    bed_pass(bed, 10000);
    int next = 0;
    for (const struct event *event; (event = client_next(&b)); next++)
        assert_int_equal(payload_number(event), next);
    assert_int_equal(next, 30);
    bed_close(bed);
}

/* The server's limit holds back deliveries of what is stored, with one look at each client in
 * turn, and all comes in the time that the rate says. */
static void deliveries_wait_for_the_server(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", transient);
    client_connect(bed, &b, "b", durable);
    client_connect(bed, &c, "c", (struct how){.version = MQTT_V311});
    client_subscribe(bed, &b, "t", (struct wants){.qos = 1});
    client_subscribe(bed, &c, "t", (struct wants){.qos = 1});
    client_disconnect(&b);
    client_disconnect(&c);
    for (uint16_t i = 0; i < 100; i++) {
        client_publish(&a, "t", "m", (struct options){.qos = 1});
        bed_run(bed);
    }
    bed->config.tps = 60; /* 20 messages at QoS 1 to a session that lasts */
    broker_configure(bed->broker, &bed->config);
    client_connect(bed, &b, "b", durable);
    client_connect(bed, &c, "c", (struct how){.version = MQTT_V311});
    uint32_t count_b = 0, count_c = 0;
    for (int second = 0; second < 4; second++) {
        bed_pass(bed, 1000);
        count_b += take_messages(bed, &b);
        count_c += take_messages(bed, &c);
    }
    assert_in_range(count_b + count_c, 80, 110);
    assert_true(count_b > 20);
    assert_true(count_c > 20);
    assert_true(METRIC(bed, limit_deliveries_delayed) > 0);
    for (int second = 0; second < 10; second++) {
        bed_pass(bed, 1000);
        count_b += take_messages(bed, &b);
        count_c += take_messages(bed, &c);
    }
    assert_int_equal(count_b, 100);
    assert_int_equal(count_c, 100);
    bed_close(bed);
}

/* Publishers get their part of what there is while a backlog is delivered. */
static void publishers_are_not_starved(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", transient);
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "t/old", (struct wants){.qos = 1});
    client_disconnect(&b);
    for (uint16_t i = 0; i < 500; i++) {
        client_publish(&a, "t/old", "m", (struct options){.qos = 1});
        bed_run(bed);
    }
    a.read = a.count;
    bed->config.tps = 100;
    broker_configure(bed->broker, &bed->config);
    client_connect(bed, &b, "b", durable);
    uint32_t granted = 0, delivered = 0;
    for (int turn = 0; turn < 200; turn++) { /* 2 s and what they take */
        bed->now_ms += 10;
        timer_set_advance(bed->timers, bed->now_ms);
        granted += publish_many(bed, &a, 1, 1);
        delivered += take_messages(bed, &b);
    }
    assert_true(granted > 20);
    assert_true(delivered > 20);
    assert_true(METRIC(bed, limit_tps) > 0);
    bed_close(bed);
}

/* A client that waits may go, come back, and end; another member of its group takes over. */
static void waiting_clients_may_go(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", transient);
    client_connect(bed, &b, "b", durable);
    client_connect(bed, &c, "c", durable);
    client_subscribe(bed, &b, "t", (struct wants){.qos = 2});
    client_subscribe(bed, &b, "$share/g/t", (struct wants){.qos = 1});
    client_subscribe(bed, &c, "$share/g/t", (struct wants){.qos = 1});
    bed->config.client_tps = 6;
    broker_configure(bed->broker, &bed->config);
    for (uint16_t i = 0; i < 6; i++) {
        bed_pass(bed, 1000);
        client_publish(&a, "t", "m", (struct options){.qos = 2, .packet_id = (uint16_t)(i + 1)});
        bed_run(bed);
    }
    client_lose(&b);
    client_connect(bed, &b, "b", durable);
    assert_true(b.present);
    bed_pass(bed, 200);
    client_connect(bed, &b, "b", (struct how){.clean = true});
    bed_pass(bed, 100);
    b.read = b.count;
    const uint32_t took = take_messages(bed, &c);
    bed_pass(bed, 20000);
    assert_true(took + take_messages(bed, &c) >= 3);
    bed_close(bed);
}

/* The deep end of MQTT 3: the core takes what the conn lets through, and says when it must wait. */
static void v3_publishers_must_wait(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    bed->config.client_tps = 10;
    bed->config.unsubscribe_rate = 1;
    broker_configure(bed->broker, &bed->config);
    client_connect(bed, &a, "a", transient_3);
    client_connect(bed, &b, "b", transient);
    int taken = 0;
    while (!link_must_wait(&a.link, PACKET_PUBLISH, 1, true)) {
        client_publish(&a, "t", "m", (struct options){.qos = 1});
        taken++;
    }
    assert_int_equal(taken, 5);
    assert_int_equal(METRIC(bed, limit_client_tps), 1);
    assert_int_equal(METRIC(bed, limit_reads_held), 1);
    assert_true(link_must_wait(&a.link, PACKET_PUBLISH, 2, false));
    assert_int_equal(METRIC(bed, limit_reads_held), 1);
    assert_false(link_must_wait(&a.link, PACKET_PUBLISH, 0, true)); /* it is dropped */
    assert_false(link_must_wait(&a.link, PACKET_PUBLISH, 3, true)); /* malformed: so be it */
    assert_false(link_must_wait(&a.link, PACKET_SUBSCRIBE, 1, true));
    assert_false(link_must_wait(&b.link, PACKET_PUBLISH, 1, true));
    bed_run(bed);
    a.read = a.count;
    assert_false(link_must_wait(&a.link, PACKET_UNSUBSCRIBE, 1, true));
    client_unsubscribe(bed, &a, "t");
    assert_true(link_must_wait(&a.link, PACKET_UNSUBSCRIBE, 1, true));
    assert_int_equal(METRIC(bed, limit_unsubscribe_rate), 1);
    assert_int_equal(client_unsubscribe(bed, &b, "t"), REASON_IMPLEMENTATION);
    assert_int_equal(METRIC(bed, limit_unsubscribe_rate), 2);
    bed_pass(bed, 1000);
    assert_false(link_must_wait(&a.link, PACKET_PUBLISH, 1, true));
    assert_false(link_must_wait(&a.link, PACKET_UNSUBSCRIBE, 1, true));
    bed_close(bed);
}

static uint8_t connect_reason(struct bed *bed, struct client *client, const char *id,
                              struct how how)
{
    client_connect_begin(bed, client, id, how);
    bed_run(bed);
    assert_true(client->answered);
    return client->connack;
}

static void clients_online(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    bed->config.clients_max = 2;
    broker_configure(bed->broker, &bed->config);
    client_connect(bed, &a, "a", durable);
    client_connect(bed, &b, "b", transient);
    assert_int_equal(connect_reason(bed, &c, "c", transient), REASON_QUOTA_EXCEEDED);
    assert_int_equal(METRIC(bed, limit_clients), 1);
    static struct client again;
    client_connect(bed, &again, "a", durable); /* in place of itself */
    assert_true(again.present);
    client_disconnect(&b);
    client_connect(bed, &c, "c", transient);
    client_lose(&again); /* the session stays, and counts no more */
    client_connect(bed, &b, "b", transient);
    bed_close(bed);
}

static void connects_per_second(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    bed->config.connect_rate = 5;
    bed->config.will_connect_rate = 1;
    broker_configure(bed->broker, &bed->config);
    const struct how will = {.clean = true, .will = "t"};
    client_connect(bed, &a, "a", will);
    assert_int_equal(connect_reason(bed, &b, "b", will), REASON_CONNECTION_RATE);
    assert_int_equal(METRIC(bed, limit_will_connect_rate), 1);
    for (int i = 0; i < 4; i++)
        client_connect(bed, &b, "b", transient); /* the refused one has not counted */
    assert_int_equal(connect_reason(bed, &c, "c", transient_3), REASON_CONNECTION_RATE);
    assert_int_equal(METRIC(bed, limit_connect_rate), 1);
    assert_true(b.open);
    bed_pass(bed, 1000);
    client_connect(bed, &c, "c", transient_3);
    client_connect(bed, &a, "a", will);
    bed_close(bed);
}

static void subscribes_per_second(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    bed->config.subscribe_rate = 2;
    bed->config.unsubscribe_rate = 1;
    broker_configure(bed->broker, &bed->config);
    client_connect(bed, &a, "a", durable);
    assert_int_equal(client_subscribe(bed, &a, "t", (struct wants){.qos = 1}), 1);
    assert_int_equal(client_subscribe(bed, &a, "u", (struct wants){.qos = 1}), 1);
    assert_int_equal(client_subscribe(bed, &a, "v", (struct wants){.qos = 1}),
                     REASON_QUOTA_EXCEEDED);
    assert_int_equal(METRIC(bed, limit_subscribe_rate), 1);
    assert_int_equal(client_unsubscribe(bed, &a, "t"), 0);
    assert_int_equal(client_unsubscribe(bed, &a, "u"), REASON_IMPLEMENTATION);
    bed_pass(bed, 1000);
    assert_int_equal(client_unsubscribe(bed, &a, "u"), 0); /* it was still there */
    assert_int_equal(client_subscribe(bed, &a, "v", (struct wants){.qos = 1}), 1);
    bed_close(bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(v5_publishers_are_told),
        cmocka_unit_test(refused_ids_are_free),
        cmocka_unit_test(qos0_is_dropped_first),
        cmocka_unit_test(deliveries_count),
        cmocka_unit_test(deliveries_wait_for_the_server),
        cmocka_unit_test(publishers_are_not_starved),
        cmocka_unit_test(waiting_clients_may_go),
        cmocka_unit_test(v3_publishers_must_wait),
        cmocka_unit_test(clients_online),
        cmocka_unit_test(connects_per_second),
        cmocka_unit_test(subscribes_per_second),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
