/* Rows that a failed write has lost: what memory says of them comes true before anything relies on
 * it, whatever the kill after that finds. */
#include "store/mem/mem.h"

#include "broker/testbed.h"

static struct client a, b, c;

/* The clock stands: no progress is written. */
static void run_without_clock(struct bed *bed)
{
    for (int i = 0; i < 20; i++) {
        assert_int_equal(loop_turn(bed->loop, 0), 0);
        (void)mem_store_step(bed->store, UINT32_MAX);
    }
}

/* It would take all that it is acknowledged with it at a crash. */
static void a_session_that_was_never_written_is_not_resumed_unwritten(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &b, "b", durable); /* numbers are reserved now */
    bed_run(bed);
    mem_store_fail_append(bed->store, 1, -5);
    client_connect(bed, &a, "a", durable);
    assert_int_equal(a.closed, REASON_QUOTA_EXCEEDED);
    mem_store_fail_append(bed->store, 1, -5);
    client_connect_begin(bed, &a, "a", durable);
    bed_run(bed);
    assert_int_equal(a.connack, REASON_SERVER_UNAVAILABLE);
    client_connect(bed, &a, "a", durable);
    bed_crash(bed, false);
    client_connect(bed, &a, "a", durable);
    assert_true(a.present); /* [MQTT5-3.2.2-3] */
    bed_close(bed);
}

/* A row that was left would bring the older subscription back without its queue, and it would be
 * the one to deliver what both match. */
static void what_an_unsubscribe_that_failed_shared_comes_by_the_other(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "t/#", (struct wants){.qos = 1});
    client_subscribe(bed, &b, "t/x", (struct wants){.qos = 1});
    mem_store_fail_append(bed->store, 1, -5);
    client_unsubscribe_begin(bed, &b, "t/#");
    bed_run(bed);
    assert_int_equal(b.closed, REASON_QUOTA_EXCEEDED);
    bed_pass(bed, 1000); /* the queue is dropped */
    client_connect(bed, &a, "a", durable);
    bed_crash(bed, false);
    client_connect(bed, &b, "b", durable);
    client_connect(bed, &a, "a", durable);
    client_publish(&a, "t/x", "x", (struct options){.qos = 1});
    client_publish(&a, "t/x", "y", (struct options){.qos = 1, .packet_id = 2});
    client_publish(&a, "t/z", "z", (struct options){.qos = 1, .packet_id = 3});
    bed_run(bed);
    client_expect_message(&b, "x", 1);
    client_expect_message(&b, "y", 1);
    client_expect_nothing(&b);
    bed_close(bed);
}

/* The row of a subscription that has ended must not name a queue that is dropped: who subscribes
 * to its filter after a restart would get nothing. */
static void an_unsubscribe_whose_write_fails_is_done_again(void **state)
{
    (void)state;
    for (int drained = 0; drained < 2; drained++) {
        struct bed *bed = bed_open();
        client_connect(bed, &a, "a", durable);
        client_subscribe(bed, &a, "t/#", (struct wants){.qos = 1});
        if (drained) { /* then its row goes later */
            client_subscribe(bed, &a, "t/x", (struct wants){.qos = 1});
            a.full = true;
            client_publish(&a, "t/x", "old", (struct options){.qos = 1});
            bed_run(bed);
            client_expect(&a, PACKET_PUBACK);
            assert_int_equal(client_unsubscribe(bed, &a, "t/#"), 0);
        }
        mem_store_fail_append(bed->store, 1, -5);
        if (drained) {
            a.full = false;
            link_writable(&a.link);
        } else {
            client_unsubscribe_begin(bed, &a, "t/#");
        }
        bed_pass(bed, 3000);
        assert_true(mem_store_failed(bed->store) > 0);
        bed_crash(bed, true);
        client_connect(bed, &b, "b", durable);
        client_subscribe(bed, &b, "t/#", (struct wants){.qos = 1});
        for (uint16_t pid = 1; pid <= 2; pid++) {
            client_publish(&b, "t/y", "new", (struct options){.qos = 1, .packet_id = pid});
            bed_run(bed);
            client_expect(&b, PACKET_PUBACK);
            client_expect_message(&b, "new", 1);
        }
        client_connect(bed, &a, "a", durable);
        assert_true(a.present);
        if (drained)
            client_expect_message(&a, "old", 1);
        client_expect_nothing(&a); /* it has unsubscribed */
        bed_close(bed);
    }
}

/* [MQTT3-4.3.1-1] [MQTT5-4.3.1-1] */
static void retained_messages_come_once_though_the_end_of_their_walk_is_not_written(void **state)
{
    (void)state;
    for (uint8_t qos = 0; qos < 3; qos++) {
        struct bed *bed = bed_open();
        client_connect(bed, &a, "a", transient);
        client_publish(&a, "t", "x", (struct options){.qos = 1, .retain = true});
        bed_run(bed);
        client_connect(bed, &b, "b", durable);
        client_subscribe_begin(bed, &b, "t", (struct wants){.qos = qos});
        (void)mem_store_step(bed->store, UINT32_MAX);
        mem_store_fail_append(bed->store, 1, -5); /* the row without the walk */
        bed_pass(bed, 3000);
        client_expect(&b, PACKET_SUBACK);
        const struct event *event = client_expect_message(&b, "x", MIN(qos, 1));
        if (qos > 0)
            client_ack(bed, &b, PACKET_PUBACK, event->packet_id);
        assert_int_equal(mem_store_failed(bed->store), 1);
        bed_pass(bed, 3000);
        bed_crash(bed, true);
        client_connect(bed, &b, "b", durable);
        client_expect_nothing(&b);
        bed_close(bed);
    }
}

/* What it has in flight is the session's own from then on. */
static void a_delivery_outlives_the_subscription_it_was_for(void **state)
{
    (void)state;
    for (int lazy = 0; lazy < 2; lazy++) {
        struct bed *bed = bed_open();
        client_connect(bed, &b, "b", durable);
        client_subscribe(bed, &b, "t/#", (struct wants){.qos = 1});
        client_subscribe(bed, &b, "t/x", (struct wants){.qos = 2});
        client_connect(bed, &a, "a", durable);
        client_publish(&a, "t/x", "x", (struct options){.qos = 2});
        client_subscribe_begin(bed, &b, "t/#", (struct wants){.qos = 0});
        mem_store_fail_append(bed->store, 1, -5); /* the row of the delivery */
        assert_int_equal(mem_store_step(bed->store, 2), 2);
        bed_run(bed); /* the subscription stops reading before that has failed */
        client_expect(&b, PACKET_SUBACK);
        assert_int_equal(b.closed, REASON_QUOTA_EXCEEDED);
        bed_pass(bed, 1000);
        client_publish(&a, "u", "y", (struct options){.qos = 1, .packet_id = 2});
        bed_run(bed);
        bed_crash(bed, lazy);
        client_connect(bed, &b, "b", durable);
        client_expect_message(&b, "x", 2);
        client_expect_nothing(&b);
        bed_close(bed);
    }
}

/* [MQTT5-4.3.3-10] */
static void a_walk_whose_end_was_not_written_is_not_made_again(void **state)
{
    (void)state;
    enum { RESTART, KILL_WITH_PROGRESS, KILL, TIMES };
    for (int how = 0; how < TIMES; how++) {
        struct bed *bed = bed_open();
        client_connect(bed, &a, "a", durable);
        client_publish(&a, "t", "x", (struct options){.qos = 2, .retain = true});
        bed_run(bed);
        client_connect(bed, &b, "b", durable);
        /* The row of the delivery, and with it the end of the walk. */
        mem_store_fail_append(bed->store, 2, -5);
        assert_int_equal(client_subscribe(bed, &b, "t", (struct wants){.qos = 2}), 2);
        assert_int_equal(b.closed, REASON_QUOTA_EXCEEDED);
        client_expect_nothing(&b);
        if (how == RESTART)
            bed_restart(bed);
        client_connect(bed, &b, "b", durable);
        const uint16_t pid = client_expect_message(&b, "x", 2)->packet_id;
        if (how != RESTART)
            bed_crash(bed, how == KILL_WITH_PROGRESS);
        if (how != RESTART) {
            client_connect(bed, &b, "b", durable);
            assert_int_equal(client_expect_message(&b, "x", 2)->packet_id, pid);
        }
        client_ack(bed, &b, PACKET_PUBREC, pid);
        client_expect(&b, PACKET_PUBREL);
        client_ack(bed, &b, PACKET_PUBCOMP, pid);
        client_expect_nothing(&b);
        bed_close(bed);
    }
}

/* The end of the first delivery is not written, nor the row of the second one. */
static void a_retained_message_on_its_way_twice_comes_twice(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", durable);
    client_publish(&a, "t", "x", (struct options){.qos = 2, .retain = true});
    bed_run(bed);
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "t", (struct wants){.qos = 2});
    const uint16_t pid = client_expect_message(&b, "x", 2)->packet_id;
    client_ack(bed, &b, PACKET_PUBREC, pid);
    client_expect(&b, PACKET_PUBREL);
    bed_pass(bed, 1000);
    link_ack(&b.link, PACKET_PUBCOMP, pid, 0);
    mem_store_fail_append(bed->store, 2, -5);
    client_subscribe_begin(bed, &b, "t", (struct wants){.qos = 2});
    run_without_clock(bed);
    client_expect(&b, PACKET_SUBACK);
    assert_int_equal(b.closed, REASON_QUOTA_EXCEEDED);
    client_connect_begin(bed, &c, "c", (struct how){.will = "w"}); /* waits for the log */
    run_without_clock(bed);
    assert_true(c.open);
    bed_crash(bed, false);
    client_connect(bed, &b, "b", durable);
    assert_int_not_equal(client_expect_message(&b, "x", 2)->packet_id, pid);
    assert_int_equal(client_expect(&b, PACKET_PUBREL)->packet_id, pid);
    client_expect_nothing(&b);
    bed_close(bed);
}

/* Its row stayed, and the packet ID was another message's. [MQTT3-4.4.0-1] [MQTT5-4.4.0-1] */
static void a_finished_delivery_whose_end_was_not_written_is_over(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "t", (struct wants){.qos = 2});
    client_connect(bed, &a, "a", durable);
    client_publish(&a, "t", "x", (struct options){.qos = 2});
    bed_run(bed);
    const uint16_t pid = client_expect_message(&b, "x", 2)->packet_id;
    client_ack(bed, &b, PACKET_PUBREC, pid);
    client_expect(&b, PACKET_PUBREL);
    bed_pass(bed, 1000);
    mem_store_fail_append(bed->store, 1, -5);
    client_ack(bed, &b, PACKET_PUBCOMP, pid);
    bed_pass(bed, 1000);
    bed_restart(bed);
    client_connect(bed, &b, "b", durable);
    client_expect_nothing(&b);
    bed_close(bed);
}

/* After a start identifiers begin anew, so that of a finished delivery may be taken again before
 * its row is gone. */
static void an_unsent_delivery_gives_way_to_a_row_with_its_packet_id(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "t", (struct wants){.qos = 2});
    client_connect(bed, &a, "a", durable);
    client_publish(&a, "t", "x", (struct options){.qos = 2});
    bed_run(bed);
    const uint16_t pid = client_expect_message(&b, "x", 2)->packet_id;
    client_ack(bed, &b, PACKET_PUBREC, pid);
    client_expect(&b, PACKET_PUBREL);
    bed_crash(bed, true);
    client_connect(bed, &b, "b", durable);
    client_expect(&b, PACKET_PUBREL);
    client_connect(bed, &a, "a", durable);
    link_ack(&b.link, PACKET_PUBCOMP, pid, 0);
    client_publish(&a, "t", "y", (struct options){.qos = 2, .packet_id = 2});
    mem_store_fail_append(bed->store, 1, -5); /* the row of y */
    run_without_clock(bed);                   /* nothing is deleted meanwhile */
    assert_int_equal(b.closed, REASON_QUOTA_EXCEEDED);
    client_connect_begin(bed, &c, "c", (struct how){.will = "w"}); /* waits for the log */
    run_without_clock(bed);
    assert_true(c.open);
    bed_crash(bed, false);
    client_connect(bed, &b, "b", durable);
    assert_int_equal(client_expect(&b, PACKET_PUBREL)->packet_id, pid);
    client_expect_message(&b, "y", 2);
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
        cmocka_unit_test(a_session_that_was_never_written_is_not_resumed_unwritten),
        cmocka_unit_test(an_unsubscribe_whose_write_fails_is_done_again),
        cmocka_unit_test(retained_messages_come_once_though_the_end_of_their_walk_is_not_written),
        cmocka_unit_test(what_an_unsubscribe_that_failed_shared_comes_by_the_other),
        cmocka_unit_test(a_delivery_outlives_the_subscription_it_was_for),
        cmocka_unit_test(a_walk_whose_end_was_not_written_is_not_made_again),
        cmocka_unit_test(a_retained_message_on_its_way_twice_comes_twice),
        cmocka_unit_test(a_finished_delivery_whose_end_was_not_written_is_over),
        cmocka_unit_test(an_unsent_delivery_gives_way_to_a_row_with_its_packet_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
