/* Shared subscriptions over the model engine. */
#include "store/mem/mem.h"

#include "broker/testbed.h"

static struct client a, b, c, d;

static const char *const numbers[] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};

static void publish_numbers(struct bed *bed, int from, int to, uint8_t qos)
{
    for (int i = from; i < to; i++) {
        client_publish(&a, "t/x", numbers[i],
                       (struct options){.qos = qos, .packet_id = (uint16_t)(i + 1)});
        bed_run(bed);
    }
}

/* The numbers a client was sent, as bits; each is acknowledged at QoS 1. */
static unsigned take_numbers(struct bed *bed, struct client *client)
{
    unsigned bits = 0;
    for (struct event *event; (event = client_next(client));) {
        if (event->type != PACKET_PUBLISH)
            continue;
        const unsigned bit = 1u << payload_number(event);
        assert_false(bits & bit);
        bits |= bit;
        if (event->qos == 1)
            client_ack(bed, client, PACKET_PUBACK, event->packet_id);
    }
    return bits;
}

/* [MQTT5-4.8.2-3] Each message goes to one member, at the QoS it was granted at most. */
static void members_take_turns(void **state)
{
    (void)state;
    for (uint8_t qos = 0; qos < 3; qos++) {
        struct bed *bed = bed_open();
        client_connect(bed, &a, "a", transient);
        client_connect(bed, &b, "b", durable);
        client_connect(bed, &c, "c", (struct how){.version = 4, .clean = true});
        client_connect(bed, &d, "d", transient);
        assert_int_equal(client_subscribe(bed, &b, "$share/g/t/#", (struct wants){.qos = 1}), 1);
        assert_int_equal(client_subscribe(bed, &c, "$share/g/t/#", (struct wants){.qos = 0}), 0);
        assert_int_equal(client_subscribe(bed, &d, "$share/other/t/#", (struct wants){.qos = 1}),
                         1);
        publish_numbers(bed, 0, 10, qos);
        const unsigned of_b = take_numbers(bed, &b), of_c = take_numbers(bed, &c);
        assert_int_equal(of_b & of_c, 0);
        assert_int_equal(of_b | of_c, 1023);
        assert_int_not_equal(of_b, 0);
        assert_int_not_equal(of_c, 0);
        assert_int_equal(take_numbers(bed, &d), 1023);
        bed_close(bed);
    }
}

/* [MQTT5-4.8.2-6] What a member that left had not acknowledged goes to another. */
static void others_take_what_was_not_acknowledged(void **state)
{
    (void)state;
    for (int slow_reads = 0; slow_reads < 2; slow_reads++) {
        struct bed *bed = bed_open();
        mem_store_slow_reads(bed->store, slow_reads);
        client_connect(bed, &a, "a", transient);
        client_connect(bed, &b, "b", durable);
        client_connect(bed, &c, "c", durable);
        client_subscribe(bed, &b, "$share/g/t/#", (struct wants){.qos = 1});
        client_subscribe(bed, &c, "$share/g/t/#", (struct wants){.qos = 1});
        publish_numbers(bed, 0, 6, 1);
        client_lose(&b);
        bed_run(bed);
        assert_int_equal(take_numbers(bed, &c), 63);
        client_lose(&c);
        publish_numbers(bed, 6, 10, 1);
        client_connect(bed, &b, "b", durable);
        client_connect(bed, &c, "c", durable);
        const unsigned of_b = take_numbers(bed, &b);
        assert_int_equal(of_b | take_numbers(bed, &c), 1023 - 63);
        bed_close(bed);
    }
}

/* [MQTT5-4.8.2-4] [MQTT5-4.8.2-5] QoS 2 messages stay with the member they were sent to. */
static void qos2_stays_with_its_member(void **state)
{
    (void)state;
    for (int crash = 0; crash < 2; crash++) {
        struct bed *bed = bed_open();
        client_connect(bed, &a, "a", transient);
        client_connect(bed, &b, "b", durable);
        client_subscribe(bed, &b, "$share/g/t/#", (struct wants){.qos = 2});
        publish_numbers(bed, 0, 2, 2);
        client_connect(bed, &c, "c", durable);
        client_subscribe(bed, &c, "$share/g/t/#", (struct wants){.qos = 2});
        const uint16_t pid = client_expect_message(&b, "0", 2)->packet_id;
        client_ack(bed, &b, PACKET_PUBREC, pid);
        if (crash)
            bed_crash(bed, false);
        else
            client_lose(&b);
        if (crash)
            client_connect(bed, &c, "c", durable);
        bed_pass(bed, 500);
        client_expect_nothing(&c);
        client_connect(bed, &b, "b", durable);
        client_expect(&b, PACKET_PUBREL);
        client_expect_message(&b, "1", 2);
        client_expect_nothing(&b);
        client_lose(&b);
        client_connect(bed, &b, "b", (struct how){.clean = true}); /* its session ends */
        bed_pass(bed, 500);
        client_expect_nothing(&c);
        bed_close(bed);
    }
}

/* Everything but the clock: no progress is written. */
static void run_without_clock(struct bed *bed)
{
    for (int i = 0; i < 20; i++) {
        assert_int_equal(loop_turn(bed->loop, 0), 0);
        (void)mem_store_step(bed->store, UINT32_MAX);
    }
}

/* [MQTT5-4.8.2-5] Nor does what went to one whose session ended with the server. */
static void qos2_sent_to_a_passing_member_goes_to_nobody_else(void **state)
{
    (void)state;
    enum { SENT, RECEIVED, ENDED, STAGES };
    for (int run = 0; run < 2 * STAGES; run++) {
        const int stage = run % STAGES;
        struct bed *bed = bed_open();
        client_connect(bed, &b, "b", durable);
        client_subscribe(bed, &b, "$share/g/t/#", (struct wants){.qos = 2});
        client_lose(&b);
        /* With a will it is there again after the crash, until that is published. */
        client_connect(bed, &c, "c", (struct how){.will = run < STAGES ? NULL : "w"});
        client_subscribe(bed, &c, "$share/g/t/#", (struct wants){.qos = 2});
        client_connect(bed, &a, "a", transient);
        client_publish(&a, "t/x", "0", (struct options){.qos = 2});
        run_without_clock(bed);
        const uint16_t pid = client_expect_message(&c, "0", 2)->packet_id;
        if (stage >= RECEIVED)
            link_ack(&c.link, PACKET_PUBREC, pid, 0);
        run_without_clock(bed);
        if (stage == ENDED)
            link_ack(&c.link, PACKET_PUBCOMP, pid, 0);
        run_without_clock(bed);
        bed_crash(bed, false);
        bed_crash(bed, false); /* it is not forgotten by the first start */
        client_connect(bed, &b, "b", durable);
        client_expect_nothing(&b);
        bed_pass(bed, 20000);
        bed_crash(bed, false); /* nor when progress has been written */
        client_connect(bed, &b, "b", durable);
        client_expect_nothing(&b);
        client_connect(bed, &a, "a", transient);
        client_publish(&a, "t/x", "1", (struct options){.qos = 2});
        bed_run(bed);
        client_expect_message(&b, "1", 2);
        bed_close(bed);
    }
}

/* What a row could not be written for was sent to nobody, so another member gets it. */
static void qos2_that_was_never_sent_goes_to_another_member(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "$share/g/t/#", (struct wants){.qos = 2});
    client_lose(&b);
    client_connect(bed, &c, "c", transient);
    client_subscribe(bed, &c, "$share/g/t/#", (struct wants){.qos = 2});
    client_connect(bed, &a, "a", transient);
    mem_store_fail_append(bed->store, 2, -5);
    client_publish(&a, "t/x", "0", (struct options){.qos = 2});
    bed_run(bed);
    client_expect(&a, PACKET_PUBREC);
    client_expect_nothing(&c);
    assert_int_equal(c.closed, REASON_QUOTA_EXCEEDED);
    client_connect(bed, &b, "b", durable);
    client_expect_message(&b, "0", 2);
    client_expect_nothing(&b);
    bed_close(bed);
}

/* A session that ends while PUBREL waits for the log, ahead of the group's progress. */
static void qos2_being_released_goes_to_nobody_else(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "$share/g/t/#", (struct wants){.qos = 2});
    client_connect(bed, &c, "c", durable);
    client_subscribe(bed, &c, "$share/g/t/#", (struct wants){.qos = 2});
    client_lose(&c);
    client_connect(bed, &a, "a", transient);
    client_publish(&a, "t/x", "0", (struct options){.qos = 2});
    run_without_clock(bed);
    const uint16_t pid = client_expect_message(&b, "0", 2)->packet_id;
    bed_crash(bed, false);
    client_connect_begin(bed, &b, "b", durable);
    run_without_clock(bed);
    link_ack(&b.link, PACKET_PUBREC, pid, 0);
    client_connect_begin(bed, &b, "b", transient);
    run_without_clock(bed);
    client_connect(bed, &c, "c", durable);
    client_expect_nothing(&c);
    bed_pass(bed, 500);
    bed_crash(bed, false);
    client_connect(bed, &c, "c", durable);
    client_expect_nothing(&c);
    bed_close(bed);
}

/* Its packet ID is free, though the group's progress has not come to it again after the crash. */
static void qos2_ended_ahead_of_the_group_is_over_at_an_orderly_stop(void **state)
{
    (void)state;
    static const struct how narrow = {.expiry_s = 3600, .receive_max = 1};
    struct bed *bed = bed_open();
    client_connect(bed, &b, "b", narrow);
    client_subscribe(bed, &b, "$share/g/t/#", (struct wants){.qos = 2});
    client_connect(bed, &a, "a", transient);
    client_publish(&a, "t/x", "0", (struct options){.qos = 2});
    run_without_clock(bed);
    const uint16_t pid = client_expect_message(&b, "0", 2)->packet_id;
    bed_crash(bed, false);
    client_connect(bed, &b, "b", narrow);
    client_expect_message(&b, "0", 2);
    client_ack(bed, &b, PACKET_PUBREC, pid);
    client_expect(&b, PACKET_PUBREL);
    link_ack(&b.link, PACKET_PUBCOMP, pid, 0);
    bed_restart(bed);
    client_connect(bed, &b, "b", narrow);
    client_expect_nothing(&b);
    client_connect(bed, &a, "a", transient);
    client_publish(&a, "t/x", "1", (struct options){.qos = 2});
    bed_run(bed);
    client_expect_message(&b, "1", 2);
    bed_close(bed);
}

/* Messages to a group whose members are all away wait, over a crash too. */
static void groups_are_durable(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", transient);
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "$share/g/t/#", (struct wants){.qos = 1});
    publish_numbers(bed, 0, 3, 1); /* in flight, not acknowledged */
    client_lose(&b);
    publish_numbers(bed, 3, 6, 1);
    bed_crash(bed, false);
    client_connect(bed, &a, "a", transient);
    publish_numbers(bed, 6, 10, 1);
    client_connect(bed, &b, "b", durable);
    assert_int_equal(take_numbers(bed, &b), 1023);
    bed_close(bed);
}

/* What the last session to leave had in flight is not lost to who joins the group before. */
static void an_expired_member_leaves_its_messages(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", transient);
    client_connect(bed, &b, "b", (struct how){.expiry_s = 5});
    client_connect(bed, &c, "c", (struct how){.expiry_s = 50});
    client_subscribe(bed, &b, "$share/g/t/#", (struct wants){.qos = 1});
    client_subscribe(bed, &c, "$share/g/t/#", (struct wants){.qos = 1});
    client_lose(&c);
    publish_numbers(bed, 0, 5, 1);
    client_lose(&b);
    bed_pass(bed, 6000);
    client_connect(bed, &c, "c", (struct how){.expiry_s = 50});
    bed_run(bed);
    assert_int_equal(take_numbers(bed, &c), 31);
    bed_close(bed);
}

/* A session may subscribe to a filter and be a member of a group of the same filter: two messages,
 * each exactly once over a crash. */
static void member_and_subscriber_at_once(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", transient);
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "$share/g/t/#", (struct wants){.qos = 2, .id = 1});
    client_subscribe(bed, &b, "t/#", (struct wants){.qos = 2, .id = 2});
    publish_numbers(bed, 0, 1, 2);
    const struct event first = *client_expect_message(&b, "0", 2);
    const struct event second = *client_expect_message(&b, "0", 2);
    assert_int_equal(first.ids[0] + second.ids[0], 3);
    client_ack(bed, &b, PACKET_PUBREC, first.packet_id);
    client_expect(&b, PACKET_PUBREL);
    bed_pass(bed, 500);
    bed_crash(bed, false);
    client_connect(bed, &b, "b", durable);
    bool released = false, repeated = false;
    for (int i = 0; i < 2; i++) {
        const struct event *event = client_next(&b);
        assert_non_null(event);
        released |= event->type == PACKET_PUBREL && event->packet_id == first.packet_id;
        repeated |= event->type == PACKET_PUBLISH && event->packet_id == second.packet_id &&
                    event->dup && event->ids[0] == second.ids[0];
    }
    assert_true(released);
    assert_true(repeated);
    client_expect_nothing(&b);
    bed_close(bed);
}

/* A group ends with its last member, and a new one begins with new messages. */
static void groups_end_and_begin(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", transient);
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "$share/g/t/#", (struct wants){.qos = 1});
    assert_int_equal(metric_get(&bed->metrics->shared_groups), 1);
    b.full = true;
    publish_numbers(bed, 0, 3, 1);
    assert_int_equal(client_unsubscribe(bed, &b, "$share/g/t/#"), 0);
    assert_int_equal(metric_get(&bed->metrics->shared_groups), 0);
    b.full = false;
    link_writable(&b.link);
    client_subscribe(bed, &b, "$share/g/t/#", (struct wants){.qos = 1});
    publish_numbers(bed, 3, 5, 1);
    assert_int_equal(take_numbers(bed, &b), 24);
    bed_crash(bed, false);
    client_connect(bed, &b, "b", (struct how){.clean = true});
    bed_pass(bed, 300);
    assert_int_equal(metric_get(&bed->metrics->shared_groups), 0);
    assert_int_equal(metric_get(&bed->metrics->queues), 0);
    bed_close(bed);
}

/* Retained messages do not go to shared subscriptions. [MQTT5-4.8.2-1] */
static void no_retained_messages(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", transient);
    client_connect(bed, &b, "b", transient);
    client_publish(&a, "t/x", "kept", (struct options){.qos = 1, .retain = true});
    bed_run(bed);
    client_subscribe(bed, &b, "$share/g/t/#", (struct wants){.qos = 1});
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
        cmocka_unit_test(members_take_turns),
        cmocka_unit_test(others_take_what_was_not_acknowledged),
        cmocka_unit_test(qos2_stays_with_its_member),
        cmocka_unit_test(qos2_sent_to_a_passing_member_goes_to_nobody_else),
        cmocka_unit_test(qos2_that_was_never_sent_goes_to_another_member),
        cmocka_unit_test(qos2_being_released_goes_to_nobody_else),
        cmocka_unit_test(qos2_ended_ahead_of_the_group_is_over_at_an_orderly_stop),
        cmocka_unit_test(groups_are_durable),
        cmocka_unit_test(an_expired_member_leaves_its_messages),
        cmocka_unit_test(member_and_subscriber_at_once),
        cmocka_unit_test(groups_end_and_begin),
        cmocka_unit_test(no_retained_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
