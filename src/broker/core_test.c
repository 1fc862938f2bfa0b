/* The core over the model engine: publishing and delivering at each QoS, back-pressure, failed
 * writes. */
#include "store/mem/mem.h"

#include "broker/testbed.h"

static struct client a, b, c;

/* --- QoS 0, 1, 2 -------------------------------------------------------------------------------
 */

static void qos0_reaches_who_is_there(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", transient);
    client_connect(bed, &b, "b", transient);
    assert_int_equal(client_subscribe(bed, &b, "t/+", (struct wants){.qos = 0}), 0);
    client_publish(&a, "t/1", "x", (struct options){.qos = 0});
    const struct event *event = client_expect_message(&b, "x", 0);
    assert_string_equal(event->topic, "t/1");
    assert_int_equal(event->packet_id, 0);
    client_publish(&a, "t/1/2", "y", (struct options){.qos = 0});
    bed_run(bed);
    client_expect_nothing(&b);
    client_expect_nothing(&a);
    bed_close(bed);
}

/* [MQTT3-4.3.2-2] [MQTT5-4.3.2-4] PUBACK, and delivery, only when the message is durable. */
static void qos1_is_durable_before_puback(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", transient);
    client_connect(bed, &b, "b", transient);
    assert_int_equal(client_subscribe(bed, &b, "t", (struct wants){.qos = 1}), 1);
    client_publish(&a, "t", "x", (struct options){.qos = 1, .packet_id = 7});
    assert_int_equal(loop_turn(bed->loop, 0), 0);
    client_expect_nothing(&a);
    client_expect_nothing(&b);
    bed_run(bed);
    const struct event *event = client_expect(&a, PACKET_PUBACK);
    assert_int_equal(event->packet_id, 7);
    assert_int_equal(event->reason, 0);
    event = client_expect_message(&b, "x", 1);
    assert_int_equal(event->packet_id, 1);
    assert_false(event->dup);
    client_ack(bed, &b, PACKET_PUBACK, 1);
    client_expect_nothing(&b);
    client_publish(&a, "nobody", "x", (struct options){.qos = 1, .packet_id = 8});
    bed_run(bed);
    assert_int_equal(client_expect(&a, PACKET_PUBACK)->reason, REASON_NO_MATCHING_SUBSCRIBERS);
    bed_close(bed);
}

/* [MQTT3-4.3.3-2] [MQTT5-4.3.3-10] A repeated packet ID is the same message until PUBREL. */
static void qos2_in_is_taken_once(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", durable);
    client_connect(bed, &b, "b", transient);
    client_subscribe(bed, &b, "t", (struct wants){.qos = 0});
    client_publish(&a, "t", "x", (struct options){.qos = 2, .packet_id = 5});
    client_publish(&a, "t", "x", (struct options){.qos = 2, .packet_id = 5, .dup = true});
    client_expect_nothing(&a);
    bed_run(bed);
    assert_int_equal(client_expect(&a, PACKET_PUBREC)->packet_id, 5);
    client_expect_nothing(&a);
    client_publish(&a, "t", "x", (struct options){.qos = 2, .packet_id = 5, .dup = true});
    assert_int_equal(client_expect(&a, PACKET_PUBREC)->packet_id, 5);
    client_expect_message(&b, "x", 0);
    client_expect_nothing(&b);
    link_ack(&a.link, PACKET_PUBREL, 5, 0);
    client_expect_nothing(&a); /* the release is not durable yet */
    bed_run(bed);
    assert_int_equal(client_expect(&a, PACKET_PUBCOMP)->packet_id, 5);
    /* [MQTT5-4.3.3-12] after PUBCOMP the identifier stands for a new message */
    client_publish(&a, "t", "y", (struct options){.qos = 2, .packet_id = 5});
    bed_run(bed);
    client_expect(&a, PACKET_PUBREC);
    client_expect_message(&b, "y", 0);
    client_ack(bed, &a, PACKET_PUBREL, 999);
    assert_int_equal(client_expect(&a, PACKET_PUBCOMP)->reason, REASON_PACKET_ID_NOT_FOUND);
    bed_close(bed);
}

/* [MQTT3-4.3.3-1] [MQTT5-4.3.3-1] to [MQTT5-4.3.3-7] */
static void qos2_out_goes_through_all_steps(void **state)
{
    (void)state;
    for (int is_durable = 0; is_durable < 2; is_durable++) {
        struct bed *bed = bed_open();
        client_connect(bed, &a, "a", transient);
        client_connect(bed, &b, "b", is_durable ? durable : transient);
        assert_int_equal(client_subscribe(bed, &b, "t", (struct wants){.qos = 2}), 2);
        client_publish(&a, "t", "x", (struct options){.qos = 2});
        bed_run(bed);
        const struct event *event = client_expect_message(&b, "x", 2);
        const uint16_t pid = event->packet_id;
        assert_false(event->dup);
        client_ack(bed, &b, PACKET_PUBCOMP, pid); /* too early: ignored */
        client_expect_nothing(&b);
        client_ack(bed, &b, PACKET_PUBREC, pid);
        assert_int_equal(client_expect(&b, PACKET_PUBREL)->packet_id, pid);
        client_ack(bed, &b, PACKET_PUBREC, pid);
        assert_int_equal(client_expect(&b, PACKET_PUBREL)->packet_id, pid);
        client_ack(bed, &b, PACKET_PUBCOMP, pid);
        client_expect_nothing(&b);
        client_ack(bed, &b, PACKET_PUBREC, pid);
        assert_int_equal(client_expect(&b, PACKET_PUBREL)->reason, REASON_PACKET_ID_NOT_FOUND);
        assert_int_equal(metric_get(&bed->metrics->inflight), 0);
        bed_close(bed);
    }
}

/* [MQTT3-4.3.3-1] [MQTT5-4.3.3-4] A refusing PUBREC ends the delivery. */
static void qos2_out_ends_when_refused(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", durable);
    client_subscribe(bed, &a, "t", (struct wants){.qos = 2});
    client_publish(&a, "t", "x", (struct options){.qos = 1});
    client_publish(&a, "t", "y", (struct options){.qos = 2});
    bed_run(bed);
    client_expect(&a, PACKET_PUBACK);
    client_expect_message(&a, "x", 1);
    client_expect(&a, PACKET_PUBREC);
    const uint16_t pid = client_expect_message(&a, "y", 2)->packet_id;
    link_ack(&a.link, PACKET_PUBREC, pid, REASON_QUOTA_EXCEEDED);
    bed_run(bed);
    client_expect_nothing(&a);
    assert_int_equal(metric_get(&bed->metrics->inflight), 1);
    bed_close(bed);
}

/* --- back-pressure -----------------------------------------------------------------------------
 */

static void slow_link_lags_and_catches_up(void **state)
{
    (void)state;
    for (int slow_reads = 0; slow_reads < 2; slow_reads++) {
        struct bed *bed = bed_open();
        mem_store_slow_reads(bed->store, slow_reads);
        client_connect(bed, &a, "a", transient);
        client_connect(bed, &b, "b", durable);
        client_subscribe(bed, &b, "t", (struct wants){.qos = 1});
        b.full = true;
        char text[8];
        for (int i = 0; i < 300; i++) {
            (void)snprintf(text, sizeof text, "%d", i);
            client_publish(&a, "t", text, (struct options){.qos = 1});
            bed_run(bed);
            if (i == 150) {
                b.full = false;
                link_writable(&b.link);
            }
        }
        bed_run(bed);
        for (int i = 0; i < 300; i++) {
            const struct event *event = client_expect(&b, PACKET_PUBLISH);
            assert_int_equal(payload_number(event), i);
            client_ack(bed, &b, PACKET_PUBACK, event->packet_id);
        }
        client_expect_nothing(&b);
        bed_close(bed);
    }
}

/* [MQTT5-3.1.2-25] What is too large for the client counts as sent. */
static void too_large_is_dropped(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", durable);
    client_subscribe(bed, &a, "t", (struct wants){.qos = 2});
    a.picky = true;
    client_publish(&a, "t", "x", (struct options){.qos = 1});
    client_publish(&a, "t", "y", (struct options){.qos = 2, .packet_id = 2});
    bed_run(bed);
    client_expect(&a, PACKET_PUBACK);
    client_expect(&a, PACKET_PUBREC);
    client_expect_nothing(&a);
    assert_int_equal(metric_get(&bed->metrics->inflight), 0);
    assert_int_equal(metric_get(&bed->metrics->messages_too_large), 2);
    a.picky = false;
    client_publish(&a, "t", "z", (struct options){.qos = 1});
    bed_run(bed);
    client_expect(&a, PACKET_PUBACK);
    client_expect_message(&a, "z", 1);
    bed_close(bed);
}

/* --- message expiry ----------------------------------------------------------------------------
 */

/* [MQTT5-3.3.2-5] [MQTT5-3.3.2-6] */
static void messages_expire(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", transient);
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "t", (struct wants){.qos = 1});
    client_disconnect(&b);
    client_publish(&a, "t", "old", (struct options){.qos = 1, .expiry_s = 5});
    client_publish(&a, "t", "new", (struct options){.qos = 1, .expiry_s = 60, .packet_id = 2});
    bed_pass(bed, 10000);
    client_connect(bed, &b, "b", durable);
    const struct event *event = client_expect_message(&b, "new", 1);
    assert_in_range(event->expiry_s, 49, 51);
    client_expect_nothing(&b);
    bed_close(bed);
}

/* --- the store fails ---------------------------------------------------------------------------
 */

static void refusals_while_nothing_can_be_written(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", durable);
    client_subscribe(bed, &a, "t", (struct wants){.qos = 2});
    client_publish(&a, "t", "x", (struct options){.qos = 2, .packet_id = 3});
    bed_run(bed);
    client_expect(&a, PACKET_PUBREC);
    const uint16_t pid = client_expect_message(&a, "x", 2)->packet_id;
    mem_store_set_writable(bed->store, false);
    client_publish(&a, "t", "y", (struct options){.qos = 1, .packet_id = 4});
    assert_int_equal(client_expect(&a, PACKET_PUBACK)->reason, REASON_QUOTA_EXCEEDED);
    client_publish(&a, "t", "q0", (struct options){.qos = 0});
    client_expect_message(&a, "q0", 0);
    link_ack(&a.link, PACKET_PUBREC, pid, 0); /* PUBREL cannot leave */
    bed_run(bed);
    assert_int_equal(a.closed, REASON_QUOTA_EXCEEDED);
    mem_store_set_writable(bed->store, true);
    client_connect(bed, &a, "a", durable);
    assert_true(client_expect_message(&a, "x", 2)->dup);
    client_ack(bed, &a, PACKET_PUBREC, pid);
    client_expect(&a, PACKET_PUBREL);
    client_ack(bed, &a, PACKET_PUBREL, 3);
    client_expect(&a, PACKET_PUBCOMP);
    bed_close(bed);
}

/* The row of an automatically created topic fails, and the message with it. */
static void a_new_topic_comes_with_its_first_message(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "+/x", (struct wants){.qos = 1});
    client_connect(bed, &a, "a", transient);
    mem_store_fail_append(bed->store, 1, -5);
    client_publish(&a, "new/x", "m", (struct options){.qos = 1});
    bed_run(bed);
    assert_int_equal(client_expect(&a, PACKET_PUBACK)->reason, REASON_QUOTA_EXCEEDED);
    client_publish(&a, "new/x", "m", (struct options){.qos = 1});
    bed_run(bed);
    assert_int_equal(client_expect(&a, PACKET_PUBACK)->reason, 0);
    bed_crash(bed, false);
    client_connect(bed, &b, "b", durable);
    client_expect_message(&b, "m", 1);
    bed_close(bed);
}

/* Each append of a whole conversation fails in turn; the clients try again, and nothing that was
 * acknowledged is missing in the end. */
static void every_append_fails_once(void **state)
{
    (void)state;
    for (uint32_t n = 1; n < 25; n++) {
        struct bed *bed = bed_open();
        mem_store_fail_append(bed->store, n, -5);
        bool acknowledged = false, received = false;
        for (int tries = 0; tries < 8 && !received; tries++) {
            if (!b.open || tries == 0) {
                client_connect_begin(bed, &b, "b", durable);
                bed_run(bed);
            }
            if (b.open)
                client_subscribe_begin(bed, &b, "t", (struct wants){.qos = 2});
            bed_run(bed);
            client_connect_begin(bed, &a, "a", durable);
            bed_run(bed);
            if (a.open && b.open && !acknowledged)
                client_publish(&a, "t", "x", (struct options){.qos = 1});
            bed_run(bed);
            for (struct event *event; (event = client_next(&a));)
                acknowledged |= event->type == PACKET_PUBACK && event->reason == 0;
            bed_pass(bed, 300);
            if (!b.open) {
                client_connect_begin(bed, &b, "b", durable);
                bed_run(bed);
            }
            for (struct event *event; (event = client_next(&b));)
                received |= event->type == PACKET_PUBLISH;
        }
        assert_true(acknowledged);
        assert_true(received);
        bed_close(bed);
    }
}

/* --- the server ends ---------------------------------------------------------------------------
 */

static void draining_closes_links(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", durable);
    client_connect(bed, &b, "b", transient);
    bool idle = false;
    broker_drain(bed->broker, bed_idle, &idle);
    assert_int_equal(a.closed, REASON_SHUTTING_DOWN);
    assert_int_equal(b.closed, REASON_SHUTTING_DOWN);
    client_connect_begin(bed, &c, "c", transient);
    assert_int_equal(c.connack, REASON_SERVER_UNAVAILABLE);
    bed_run(bed);
    assert_true(idle);
    bed->store = store_close(bed->store);
    bed_stop(bed);
    bed->metrics = metrics_free(bed->metrics);
    mem_free(bed);
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
        cmocka_unit_test(qos0_reaches_who_is_there),
        cmocka_unit_test(qos1_is_durable_before_puback),
        cmocka_unit_test(qos2_in_is_taken_once),
        cmocka_unit_test(qos2_out_goes_through_all_steps),
        cmocka_unit_test(qos2_out_ends_when_refused),
        cmocka_unit_test(slow_link_lags_and_catches_up),
        cmocka_unit_test(too_large_is_dropped),
        cmocka_unit_test(messages_expire),
        cmocka_unit_test(refusals_while_nothing_can_be_written),
        cmocka_unit_test(a_new_topic_comes_with_its_first_message),
        cmocka_unit_test(every_append_fails_once),
        cmocka_unit_test(draining_closes_links),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
