/* Wills and retained messages over the model engine. */
#include "store/mem/mem.h"

#include "broker/testbed.h"

static struct client a, b, c;

/* --- wills -------------------------------------------------------------------------------------
 */

static void expect_will(struct bed *bed, struct how how, bool lose, uint64_t wait_ms, bool comes)
{
    client_connect(bed, &a, "dying", how);
    if (lose)
        client_lose(&a);
    else
        client_disconnect(&a);
    bed_pass(bed, wait_ms);
    if (comes)
        client_expect_message(&b, "bye", how.will_qos);
    client_expect_nothing(&b);
}

/* [MQTT3-3.1.2-8] [MQTT5-3.1.2-8] [MQTT5-3.1.2-10] [MQTT5-3.1.3-9] [MQTT5-3.14.4-3] */
static void wills_come_when_due(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &b, "b", transient);
    client_subscribe(bed, &b, "will", (struct wants){.qos = 2});
    struct how how = {.clean = true, .will = "will", .will_payload = "bye"};
    for (how.will_qos = 0; how.will_qos <= 2; how.will_qos++) {
        expect_will(bed, how, true, 0 + 1, true);
        expect_will(bed, how, false, 1000, false);
        if (how.will_qos == 2)
            continue;
    }
    how.will_qos = 1;
    how.will_delay_s = 10;
    expect_will(bed, how, true, 10, true); /* the session ends, and that is when the will is due */
    how.expiry_s = 60;
    expect_will(bed, how, true, 9000, false);
    bed_pass(bed, 1500);
    client_expect_message(&b, "bye", 1);
    how.clean = false;
    expect_will(bed, how, true, 9000, false);
    client_connect(bed, &a, "dying", how); /* back in time */
    bed_pass(bed, 5000);
    client_expect_nothing(&b);
    how.expiry_s = 5; /* ends before the delay does */
    client_connect(bed, &a, "dying", how);
    client_lose(&a);
    bed_pass(bed, 5500);
    client_expect_message(&b, "bye", 1);
    bed_pass(bed, 30000);
    client_expect_nothing(&b);
    bed_close(bed);
}

static void wills_survive_the_server(void **state)
{
    (void)state;
    for (int delay_s = 0; delay_s <= 30; delay_s += 30) {
        struct bed *bed = bed_open();
        const struct how how = {.clean = true,
                                .expiry_s = delay_s ? 100 : 0,
                                .will = "will",
                                .will_payload = "bye",
                                .will_qos = 1,
                                .will_delay_s = (uint32_t)delay_s};
        client_connect(bed, &a, "dying", how);
        bed_crash(bed, false);
        client_connect(bed, &b, "b", transient);
        client_subscribe(bed, &b, "will", (struct wants){.qos = 1});
        bed_pass(bed, delay_s ? 29000 : 9000);
        client_expect_nothing(&b);
        bed_pass(bed, 2000);
        client_expect_message(&b, "bye", 1);
        bed_pass(bed, 500);
        bed_crash(bed, false);
        client_connect(bed, &b, "b", transient);
        client_subscribe(bed, &b, "will", (struct wants){.qos = 1});
        bed_pass(bed, 200000);
        client_expect_nothing(&b);
        bed_close(bed);
    }
}

/* A session without expiry that a crash left behind for its will is not resumed. */
static void ended_session_is_not_resumed(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", (struct how){.will = "will", .will_payload = "bye"});
    bed_crash(bed, false);
    client_connect(bed, &b, "b", transient);
    client_subscribe(bed, &b, "will", (struct wants){.qos = 0});
    client_connect(bed, &a, "a", (struct how){.expiry_s = 10});
    assert_false(a.present);
    client_expect_message(&b, "bye", 0);
    bed_close(bed);
}

/* --- retained messages -------------------------------------------------------------------------
 */

/* [MQTT3-3.3.1-6] [MQTT5-3.3.1-9] [MQTT5-3.3.1-10] [MQTT5-3.3.1-11] [MQTT5-3.3.1-12]
 * [MQTT5-3.3.1-13] [MQTT3-3.3.1-10] [MQTT5-3.3.1-6] */
static void retained_handlings(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", transient);
    client_connect(bed, &b, "b", durable);
    client_publish(&a, "r/1", "one", (struct options){.qos = 1, .retain = true});
    client_publish(&a, "r/2", "two", (struct options){.qos = 0, .retain = true});
    bed_run(bed);
    assert_int_equal(client_subscribe(bed, &b, "r/#", (struct wants){.qos = 2, .id = 9}), 2);
    const struct event *event = client_expect_message(&b, "one", 1);
    assert_true(event->retain);
    assert_int_equal(event->ids[0], 9);
    client_ack(bed, &b, PACKET_PUBACK, event->packet_id);
    assert_true(client_expect_message(&b, "two", 0)->retain);
    client_subscribe(bed, &b, "r/#", (struct wants){.qos = 0});
    client_expect_message(&b, "one", 0);
    client_expect_message(&b, "two", 0);
    client_subscribe(bed, &b, "r/#", (struct wants){.qos = 1, .handling = 1});
    client_expect_nothing(&b);
    client_subscribe(bed, &b, "r/+", (struct wants){.qos = 1, .handling = 2});
    client_expect_nothing(&b);
    client_subscribe(bed, &b, "r/1", (struct wants){.qos = 0, .handling = 1});
    client_expect_message(&b, "one", 0);
    client_publish(&a, "r/1", "", (struct options){.qos = 1, .retain = true});
    bed_run(bed);
    assert_false(client_expect_message(&b, "", 1)->retain);
    client_subscribe(bed, &b, "r/1", (struct wants){.qos = 0});
    client_expect_nothing(&b);
    assert_int_equal(metric_get(&bed->metrics->retained), 1);
    bed_close(bed);
}

/* [MQTT5-3.3.1-12] [MQTT5-3.3.1-13] [MQTT3-3.3.1-9] */
static void retain_as_published(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", transient);
    client_connect(bed, &b, "b", transient);
    client_connect(bed, &c, "c", transient);
    client_subscribe(bed, &b, "t", (struct wants){.qos = 1, .as_published = true});
    client_subscribe(bed, &c, "t", (struct wants){.qos = 1});
    for (uint8_t qos = 0; qos < 2; qos++) {
        client_publish(&a, "t", "x", (struct options){.qos = qos, .retain = true});
        client_publish(&a, "t", "y", (struct options){.qos = qos, .packet_id = 2});
        bed_run(bed);
        assert_true(client_expect_message(&b, "x", qos)->retain);
        assert_false(client_expect_message(&b, "y", qos)->retain);
        assert_false(client_expect_message(&c, "x", qos)->retain);
        assert_false(client_expect_message(&c, "y", qos)->retain);
    }
    bed_close(bed);
}

/* A message published with RETAIN just before SUBSCRIBE is what the subscriber gets, once. */
static void retained_under_way_is_seen_once(void **state)
{
    (void)state;
    for (uint8_t qos = 0; qos <= 2; qos++) {
        for (uint8_t sub_qos = 0; sub_qos <= 2; sub_qos++) {
            for (int has_queue = 0; has_queue < 2; has_queue++) {
                struct bed *bed = bed_open();
                client_connect(bed, &a, "a", transient);
                client_connect(bed, &b, "b", transient);
                client_connect(bed, &c, "c", transient);
                if (has_queue)
                    client_subscribe(bed, &c, "t", (struct wants){.qos = 2});
                client_publish(&a, "t", "x", (struct options){.qos = qos, .retain = true});
                assert_int_equal(client_subscribe(bed, &b, "t", (struct wants){.qos = sub_qos}),
                                 sub_qos);
                bed_pass(bed, 200);
                client_expect_message(&b, "x", MIN(qos, sub_qos));
                client_expect_nothing(&b);
                bed_close(bed);
            }
        }
    }
}

/* More than the client's window: the rest comes as it acknowledges, also after a new connection. */
static void retained_respect_the_window(void **state)
{
    (void)state;
    for (int slow_reads = 0; slow_reads < 2; slow_reads++) {
        struct bed *bed = bed_open();
        mem_store_slow_reads(bed->store, slow_reads);
        client_connect(bed, &a, "a", transient);
        char topic[16];
        for (int i = 0; i < 100; i++) {
            (void)snprintf(topic, sizeof topic, "r/%02d", i);
            client_publish(&a, topic, topic, (struct options){.qos = 1, .retain = true});
            bed_run(bed);
        }
        const struct how how = {.expiry_s = 100, .receive_max = 7};
        client_connect(bed, &b, "b", how);
        client_subscribe(bed, &b, "r/+", (struct wants){.qos = 1});
        bool seen[100] = {false};
        for (int i = 0; i < 100; i++) {
            if (i == 50) { /* 50 acknowledged, up to 7 in flight */
                client_lose(&b);
                client_connect(bed, &b, "b", how);
            }
            const struct event *event = client_expect(&b, PACKET_PUBLISH);
            const int number = (int)strtol(event->payload + 2, NULL, 10);
            assert_false(seen[number]);
            seen[number] = true;
            client_ack(bed, &b, PACKET_PUBACK, event->packet_id);
        }
        client_expect_nothing(&b);
        bed_close(bed);
    }
}

static void retained_survive_a_crash_and_a_trim(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", transient);
    char topic[16];
    for (int i = 0; i < 200; i++) {
        (void)snprintf(topic, sizeof topic, "%c/%02d", 'a' + i % 3, i);
        client_publish(&a, topic, topic, (struct options){.qos = 1, .retain = true});
    }
    bed_run(bed);
    client_publish(&a, "a/00", "", (struct options){.qos = 1, .retain = true});
    bed_run(bed);
    mem_store_trim(bed->store, UINT64_MAX);
    bed_pass(bed, 1000);
    for (int crash = 0; crash < 2; crash++) {
        client_connect(bed, &b, "b", transient);
        client_subscribe(bed, &b, "#", (struct wants){.qos = 0});
        bed_run(bed);
        for (int i = 0; i < 199; i++) {
            const struct event *event = client_expect(&b, PACKET_PUBLISH);
            assert_string_equal(event->topic, event->payload);
        }
        client_expect_nothing(&b);
        bed_crash(bed, false);
    }
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
        cmocka_unit_test(wills_come_when_due),
        cmocka_unit_test(wills_survive_the_server),
        cmocka_unit_test(ended_session_is_not_resumed),
        cmocka_unit_test(retained_handlings),
        cmocka_unit_test(retain_as_published),
        cmocka_unit_test(retained_under_way_is_seen_once),
        cmocka_unit_test(retained_respect_the_window),
        cmocka_unit_test(retained_survive_a_crash_and_a_trim),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
