/* Kills, failed writes and retention where they meet: what the simulation (test/sim) has found, and
 * the limits that docs/durability.md once named. */
#include "store/mem/mem.h"

#include "broker/testbed.h"

static struct client a, b, c;

/* Answers everything until nothing more comes; QoS 2 messages that are not repetitions count. */
static void answer_all(struct bed *bed, struct client *client, uint16_t *pids, uint16_t *counts)
{
    for (struct event *event; bed_run(bed), (event = client_next(client));) {
        const uint16_t pid = event->packet_id;
        if (event->type == PACKET_PUBREL) {
            pids[pid] = 0;
            link_ack(&client->link, PACKET_PUBCOMP, pid, 0);
        } else if (event->type == PACKET_PUBLISH) {
            if (!pids[pid])
                counts[payload_number(event)]++;
            pids[pid] = 1;
            link_ack(&client->link, PACKET_PUBREC, pid, 0);
        }
    }
}

/* --- wills ---------------------------------------------------------------------------------------
 */

static void a_will_whose_write_fails_is_tried_again(void **state)
{
    (void)state;
    for (int clean = 0; clean < 2; clean++) {
        struct bed *bed = bed_open();
        client_connect(bed, &b, "b", durable);
        assert_int_equal(client_subscribe(bed, &b, "t", (struct wants){.qos = 1}), 1);
        client_connect(bed, &a, "a",
                       (struct how){.expiry_s = clean ? 0 : 3600, .will = "t", .will_qos = 1});
        mem_store_fail_append(bed->store, 1, -5);
        client_lose(&a);
        bed_run(bed);
        client_expect_nothing(&b);
        bed_pass(bed, 2000);
        client_ack(bed, &b, PACKET_PUBACK, client_expect_message(&b, "will", 1)->packet_id);
        bed_pass(bed, 5000);
        client_expect_nothing(&b);
        bed_crash(bed, true); /* and it is not in the session's row any more */
        bed_pass(bed, 20000);
        client_connect(bed, &b, "b", durable);
        client_expect_nothing(&b);
        bed_close(bed);
    }
}

/* Subscribers had the will when its client was gone, and the other message after it. */
static void a_will_tried_again_replaces_nothing_newer(void **state)
{
    (void)state;
    enum { WHEN_IT_HAS_FAILED, BEFORE_THE_RETRY, TIMES };
    for (int order = 0; order < 2 * TIMES; order++) {
        struct bed *bed = bed_open();
        const int when = order % TIMES;
        const bool empty = order >= TIMES;
        client_connect(bed, &b, "b", transient);
        client_subscribe(bed, &b, "t", (struct wants){.qos = 1});
        client_connect(bed, &a, "a", (struct how){.will = "t", .will_retain = true});
        mem_store_fail_append(bed->store, 1, -5);
        client_lose(&a);
        bed_run(bed);
        client_publish(&b, "t", empty ? "" : "new", (struct options){.qos = 1, .retain = true});
        if (when == BEFORE_THE_RETRY) /* which a CONNECT brings about */
            client_connect_begin(bed, &c, "c", transient);
        bed_pass(bed, 3000);
        client_expect_message(&b, "will", 0);
        client_expect(&b, PACKET_PUBACK);
        client_expect_message(&b, empty ? "" : "new", 1);
        client_expect_nothing(&b);
        client_connect(bed, &c, "c", transient);
        client_subscribe(bed, &c, "t", (struct wants){.qos = 0});
        if (!empty)
            assert_true(client_expect_message(&c, "new", 0)->retain);
        client_expect_nothing(&c);
        bed_close(bed);
    }
}

/* The one that subscribers had last is retained, though all are written again: at QoS 0 when its
 * client was gone, at QoS 1 when that write succeeded. A publish that is refused replaces nothing.
 */
static void a_will_tried_again_replaces_what_is_older(void **state)
{
    (void)state;
    for (uint8_t qos = 0; qos < 2; qos++) {
        struct bed *bed = bed_open();
        client_connect(bed, &c, "c", transient);
        client_subscribe(bed, &c, "t", (struct wants){.qos = 1, .handling = 2});
        client_publish(&c, "t", "old", (struct options){.retain = true});
        client_expect_message(&c, "old", 0);
        client_connect(bed, &a, "a",
                       (struct how){.will = "t", .will_payload = "one", .will_retain = true});
        client_connect(
            bed, &b, "b",
            (struct how){.will = "t", .will_payload = "two", .will_qos = qos, .will_retain = true});
        mem_store_set_writable(bed->store, false);
        client_lose(qos == 0 ? &a : &b);
        client_lose(qos == 0 ? &b : &a);
        client_publish(&c, "t", "refused", (struct options){.qos = 1, .retain = true});
        bed_pass(bed, 3000);
        mem_store_set_writable(bed->store, true);
        bed_pass(bed, 3000);
        client_expect_message(&c, "one", 0);
        if (qos == 0)
            client_expect_message(&c, "two", 0);
        assert_int_equal(client_expect(&c, PACKET_PUBACK)->reason, REASON_QUOTA_EXCEEDED);
        if (qos == 1)
            client_expect_message(&c, "two", 1);
        client_expect_nothing(&c);
        client_subscribe(bed, &c, "t", (struct wants){.qos = 0});
        client_expect_message(&c, "two", 0);
        client_expect_nothing(&c);
        bed_close(bed);
    }
}

/* It is the last word when what came after it is not written either. */
static void a_will_tried_again_is_retained_when_nothing_else_is(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &b, "b", transient);
    client_subscribe(bed, &b, "t", (struct wants){.qos = 0});
    client_connect(bed, &a, "a", (struct how){.will = "t", .will_retain = true});
    mem_store_fail_append(bed->store, 1, -5);
    client_lose(&a);
    client_expect_message(&b, "will", 0);
    mem_store_fail_append(bed->store, 1, -5);
    client_publish(&b, "t", "new", (struct options){.qos = 1, .retain = true});
    bed_run(bed);
    assert_int_equal(client_expect(&b, PACKET_PUBACK)->reason, REASON_QUOTA_EXCEEDED);
    mem_store_fail_append(bed->store, 1, -5);
    client_publish(&b, "t", "new", (struct options){.qos = 1, .retain = true});
    client_connect_begin(bed, &c, "c", transient); /* tries it again */
    bed_pass(bed, 3000);
    assert_int_equal(client_expect(&b, PACKET_PUBACK)->reason, REASON_QUOTA_EXCEEDED);
    client_subscribe(bed, &b, "t", (struct wants){.qos = 0});
    assert_true(client_expect_message(&b, "will", 0)->retain);
    client_expect_nothing(&b);
    bed_close(bed);
}

/* At QoS 1 subscribers get it when it is written, and that is when it is published. */
static void a_qos1_will_tried_again_is_the_newest(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &b, "b", transient);
    client_connect(bed, &c, "c", transient);
    client_subscribe(bed, &c, "t", (struct wants){.qos = 1});
    client_connect(bed, &a, "a", (struct how){.will = "t", .will_qos = 1, .will_retain = true});
    mem_store_fail_append(bed->store, 1, -5);
    client_lose(&a);
    bed_run(bed);
    client_publish(&b, "t", "new", (struct options){.qos = 1, .retain = true});
    bed_pass(bed, 3000);
    client_expect_message(&c, "new", 1);
    client_expect_message(&c, "will", 1);
    client_expect_nothing(&c);
    client_subscribe(bed, &c, "t", (struct wants){.qos = 0});
    assert_true(client_expect_message(&c, "will", 0)->retain);
    client_expect_nothing(&c);
    bed_close(bed);
}

/* Nobody has had it at QoS 0: its first-level topic could not be made. */
static void a_will_to_a_new_topic_is_delivered_when_that_can_be_made(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &b, "b", transient);
    client_subscribe(bed, &b, "#", (struct wants){.qos = 0});
    client_connect(bed, &a, "a", (struct how){.will = "new/x"});
    mem_store_set_writable(bed->store, false);
    client_lose(&a);
    bed_pass(bed, 3000);
    client_expect_nothing(&b);
    mem_store_set_writable(bed->store, true);
    bed_pass(bed, 3000);
    client_expect_message(&b, "will", 0);
    client_expect_nothing(&b);
    bed_close(bed);
}

/* A client that is refused was never there. */
static void a_refused_client_leaves_no_will_and_no_session(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "t", (struct wants){.qos = 1});
    mem_store_fail_append(bed->store, 1, -5);
    client_connect_begin(bed, &a, "a", (struct how){.expiry_s = 3600, .will = "t", .will_qos = 1});
    bed_pass(bed, 3000);
    assert_int_equal(a.connack, REASON_SERVER_UNAVAILABLE);
    client_expect_nothing(&b);
    client_connect(bed, &a, "a", durable);
    assert_false(a.present); /* [MQTT5-3.2.2-2] */
    bed_close(bed);
}

/* Everything but the clock: nothing is tried again by itself. */
static void run_without_clock(struct bed *bed)
{
    for (int i = 0; i < 20; i++) {
        assert_int_equal(loop_turn(bed->loop, 0), 0);
        (void)mem_store_step(bed->store, UINT32_MAX);
    }
}

/* One that was taken back does not come any more once its client has been answered again, though
 * the write that took it back fails. [MQTT3-3.1.2-10] [MQTT5-3.1.2-10] */
static void a_will_taken_back_is_gone_when_its_client_returns(void **state)
{
    (void)state;
    enum { AT_ONCE, WHEN_IT_HAS_FAILED, LASTING, WAYS };
    for (int way = 0; way < WAYS; way++) {
        const uint32_t expiry_s = way == LASTING ? 3600 : 0;
        struct bed *bed = bed_open();
        client_connect(bed, &b, "b", durable);
        assert_int_equal(client_subscribe(bed, &b, "t", (struct wants){.qos = 1}), 1);
        client_connect(bed, &a, "a",
                       (struct how){.expiry_s = expiry_s, .will = "t", .will_qos = 1});
        mem_store_fail_append(bed->store, 1, -5);
        client_disconnect(&a);
        if (way == LASTING)
            bed_pass(bed, 3000); /* nobody returns: it is written again */
        if (way == AT_ONCE) {    /* what it would wait for fails */
            client_connect_begin(bed, &a, "a", transient);
            run_without_clock(bed);
            assert_int_equal(a.connack, REASON_SERVER_UNAVAILABLE);
        } else if (way == WHEN_IT_HAS_FAILED) {
            run_without_clock(bed);
        }
        if (way != LASTING) {
            client_connect_begin(bed, &a, "a", transient);
            assert_false(a.open);
            run_without_clock(bed);
            assert_true(a.open);
        }
        bed_crash(bed, way == LASTING);
        client_connect(bed, &b, "b", durable);
        bed_pass(bed, 20000);
        client_expect_nothing(&b);
        bed_close(bed);
    }
}

/* --- sessions ------------------------------------------------------------------------------------
 */

static const struct how short_lived = {.expiry_s = 10};

static void a_second_kill_does_not_start_the_expiry_anew(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", short_lived);
    assert_int_equal(client_subscribe(bed, &a, "t", (struct wants){.qos = 1}), 1);
    bed_crash(bed, false);
    bed_pass(bed, 6000);
    bed_crash(bed, false);
    bed_pass(bed, 6000);
    client_connect(bed, &a, "a", short_lived);
    assert_false(a.present); /* [MQTT5-3.1.2-23] */
    bed_close(bed);
}

/* CONNACK of a session that was away waits until the log says that it is not any more. */
static void a_resumed_session_does_not_expire_at_a_kill(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", short_lived);
    assert_int_equal(client_subscribe(bed, &a, "t", (struct wants){.qos = 1}), 1);
    client_lose(&a);
    client_connect(bed, &b, "b", durable);
    assert_int_equal(client_subscribe(bed, &b, "t", (struct wants){.qos = 1}), 1);
    bed_pass(bed, 8000);
    client_connect(bed, &a, "a", short_lived);
    assert_true(a.present);
    bed->now_ms += 5000;
    bed_crash(bed, false);
    bed_run(bed);
    client_connect(bed, &a, "a", short_lived);
    assert_true(a.present);
    bed_close(bed);
}

static void a_removal_whose_write_fails_is_done_again(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", durable);
    assert_int_equal(client_subscribe(bed, &a, "t", (struct wants){.qos = 1}), 1);
    mem_store_fail_append(bed->store, 1, -5);
    assert_int_equal(link_disconnect(&a.link, 0, true, 0), 0);
    bed_pass(bed, 3000);
    bed_restart(bed);
    client_connect(bed, &a, "a", durable);
    assert_false(a.present);
    bed_close(bed);
}

/* It is not back, whoever was refused meanwhile. [MQTT3-3.1.2-6] [MQTT5-3.1.2-4] */
static void a_clean_start_whose_write_fails_is_done_again(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", durable);
    assert_int_equal(client_subscribe(bed, &a, "t", (struct wants){.qos = 1}), 1);
    client_lose(&a);
    mem_store_fail_append(bed->store, 1, -5);
    client_connect_begin(bed, &a, "a", transient);
    bed_run(bed);
    assert_int_equal(a.connack, REASON_SERVER_UNAVAILABLE);
    client_connect(bed, &a, "a", transient);
    client_connect(bed, &b, "b", (struct how){.expiry_s = 60, .will = "w"}); /* waits for the log */
    bed_crash(bed, false);
    client_connect(bed, &a, "a", durable);
    assert_false(a.present);
    bed_close(bed);
}

/* --- retained messages --------------------------------------------------------------------------
 */

/* [MQTT5-4.3.3-10] A walk goes on behind what it had sent, wherever the kill comes. */
static void retained_messages_come_once_whenever_the_server_is_killed(void **state)
{
    (void)state;
    for (int rounds = 0; rounds < 12; rounds++) {
        static uint16_t pids[65536], counts[8];
        static const char *const topics[] = {"t/0", "t/1", "t/2", "t/3", "t/4", "t/5"};
        static const char *const texts[] = {"0", "1", "2", "3", "4", "5"};
        memset(pids, 0, sizeof pids);
        memset(counts, 0, sizeof counts);
        struct bed *bed = bed_open();
        client_connect(bed, &a, "a", durable);
        for (uint16_t i = 0; i < ARRAY_COUNT(topics); i++)
            client_publish(
                &a, topics[i], texts[i],
                (struct options){.qos = 2, .retain = true, .packet_id = (uint16_t)(i + 1)});
        bed_run(bed);
        client_connect(bed, &b, "b", (struct how){.expiry_s = 3600, .receive_max = 2});
        client_subscribe_begin(bed, &b, "#", (struct wants){.qos = 2});
        for (int i = 0; i < rounds; i++) {
            bed_run(bed);
            struct event *event = client_next(&b);
            if (event && event->type == PACKET_PUBREL) {
                pids[event->packet_id] = 0;
                link_ack(&b.link, PACKET_PUBCOMP, event->packet_id, 0);
            } else if (event && event->type == PACKET_PUBLISH) {
                if (!pids[event->packet_id])
                    counts[payload_number(event)]++;
                pids[event->packet_id] = 1;
                link_ack(&b.link, PACKET_PUBREC, event->packet_id, 0);
            }
        }
        bed_run(bed);
        bed_crash(bed, false);
        client_connect(bed, &b, "b", (struct how){.expiry_s = 3600, .receive_max = 2});
        answer_all(bed, &b, pids, counts);
        for (int i = 0; i < 6; i++)
            assert_int_equal(counts[i], 1);
        bed_close(bed);
    }
}

static void a_retained_message_in_flight_outlives_the_end_of_its_walk(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", durable);
    client_publish(&a, "t", "x", (struct options){.qos = 1, .retain = true});
    bed_run(bed);
    client_connect(bed, &b, "b", durable);
    assert_int_equal(client_subscribe(bed, &b, "t", (struct wants){.qos = 1}), 1);
    client_publish(&a, "u", "y", (struct options){.qos = 1, .packet_id = 2});
    for (int i = 0; i < 20; i++) { /* without the clock: no progress is written meanwhile */
        assert_int_equal(loop_turn(bed->loop, 0), 0);
        (void)mem_store_step(bed->store, UINT32_MAX);
    }
    client_expect_message(&b, "x", 1);
    bed_crash(bed, false);
    client_connect(bed, &b, "b", durable);
    client_expect_message(&b, "x", 1);
    bed_close(bed);
}

/* The row of the first time is removed when that of the second is there already. */
static void a_retained_message_sent_a_second_time_keeps_its_row(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", durable);
    client_publish(&a, "t", "x", (struct options){.qos = 2, .retain = true});
    bed_run(bed);
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "t", (struct wants){.qos = 2});
    const uint16_t first = client_expect_message(&b, "x", 2)->packet_id;
    client_ack(bed, &b, PACKET_PUBREC, first);
    client_expect(&b, PACKET_PUBREL);
    link_ack(&b.link, PACKET_PUBCOMP, first, 0);
    client_subscribe_begin(bed, &b, "t", (struct wants){.qos = 2});
    for (int i = 0; i < 20; i++) {
        assert_int_equal(loop_turn(bed->loop, 0), 0);
        (void)mem_store_step(bed->store, UINT32_MAX);
    }
    client_expect(&b, PACKET_SUBACK);
    const uint16_t second = client_expect_message(&b, "x", 2)->packet_id;
    bed_pass(bed, 1000);
    bed_crash(bed, true);
    client_connect(bed, &b, "b", durable);
    const struct event *event = client_expect_message(&b, "x", 2);
    assert_int_equal(event->packet_id, second);
    assert_true(event->dup);
    bed_close(bed);
}

/* --- delivery ------------------------------------------------------------------------------------
 */

/* [MQTT3-4.6.0-6] [MQTT5-4.6.0-6] The younger subscription has the older queue, and after the
 * restart it is read first. */
static void order_holds_when_an_overlapping_subscription_comes(void **state)
{
    (void)state;
    static const struct how narrow = {.expiry_s = 3600, .receive_max = 1};
    static const char *const texts[] = {"1", "2", "3", "4"};
    struct bed *bed = bed_open();
    client_connect(bed, &c, "c", durable);
    client_subscribe(bed, &c, "t/#", (struct wants){.qos = 1});
    client_connect(bed, &b, "b", narrow);
    client_subscribe(bed, &b, "t/x", (struct wants){.qos = 1});
    client_connect(bed, &a, "a", durable);
    for (uint16_t i = 0; i < 4; i++) {
        if (i == 3)
            client_subscribe_begin(bed, &b, "t/#", (struct wants){.qos = 1, .handling = 2});
        bed_run(bed);
        client_publish(&a, "t/x", texts[i],
                       (struct options){.qos = 1, .packet_id = (uint16_t)(i + 1)});
        bed_run(bed);
    }
    bed_restart(bed);
    client_connect(bed, &b, "b", narrow);
    for (int next = 1; next <= 4; next++) {
        const struct event *event = client_expect_message(&b, texts[next - 1], 1);
        client_ack(bed, &b, PACKET_PUBACK, event->packet_id);
    }
    client_expect_nothing(&b);
    bed_close(bed);
}

/* [MQTT5-3.3.4-3] [MQTT5-3.3.4-4] It was sent through a subscription that has stopped reading its
 * queue since. */
static void what_is_sent_again_has_all_its_identifiers(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "t", (struct wants){.qos = 1, .id = 1});
    client_subscribe(bed, &b, "t/#", (struct wants){.qos = 1, .id = 2});
    client_connect(bed, &a, "a", transient);
    client_publish(&a, "t", "x", (struct options){.qos = 1});
    bed_run(bed);
    assert_int_equal(client_expect_message(&b, "x", 1)->id_count, 2);
    client_subscribe(bed, &b, "t", (struct wants){.qos = 0, .id = 1});
    client_publish(&a, "r", "y", (struct options){.qos = 1, .packet_id = 2, .retain = true});
    bed_run(bed);
    client_subscribe(bed, &b, "r", (struct wants){.qos = 1, .handling = 2, .id = 3});
    client_subscribe(bed, &b, "+", (struct wants){.qos = 1, .id = 4});
    assert_int_equal(client_expect_message(&b, "y", 1)->id_count, 1); /* for the last of them */
    for (int crash = 0; crash < 2; crash++) {
        if (crash)
            bed_crash(bed, true);
        else
            client_lose(&b);
        client_connect(bed, &b, "b", durable);
        assert_int_equal(client_expect_message(&b, "x", 1)->id_count, 2);
        assert_int_equal(client_expect_message(&b, "y", 1)->id_count, 1);
        client_expect_nothing(&b);
    }
    bed_close(bed);
}

/* [MQTT3-3.3.5-1] [MQTT5-3.3.4-2] */
static void a_change_of_no_local_does_not_repeat_a_message(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &b, "b", (struct how){.expiry_s = 3600, .receive_max = 1});
    client_subscribe(bed, &b, "+/x", (struct wants){.qos = 2});
    client_subscribe(bed, &b, "t/x", (struct wants){.qos = 2});
    client_publish(&b, "t/x", "0", (struct options){.qos = 1, .packet_id = 1});
    client_publish(&b, "t/x", "1", (struct options){.qos = 1, .packet_id = 2});
    bed_run(bed);
    client_subscribe_begin(bed, &b, "+/x",
                           (struct wants){.qos = 2, .no_local = true, .handling = 2});
    uint32_t counts[2] = {0};
    for (struct event *event; bed_run(bed), (event = client_next(&b));) {
        if (event->type != PACKET_PUBLISH)
            continue;
        counts[payload_number(event)]++;
        link_ack(&b.link, PACKET_PUBACK, event->packet_id, 0);
    }
    assert_int_equal(counts[0], 1);
    assert_int_equal(counts[1], 1);
    bed_close(bed);
}

static void qos0_to_a_client_comes_once_when_it_subscribes_too(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "t/#", (struct wants){.qos = 1});
    client_connect(bed, &a, "a", transient);
    client_publish(&a, "t/p2p/b", "x", (struct options){.qos = 0});
    bed_run(bed);
    client_expect_message(&b, "x", 0);
    client_expect_nothing(&b);
    bed_close(bed);
}

/* [MQTT5-3.3.2-5] */
static void what_expires_before_its_row_is_written_is_not_sent(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "t", (struct wants){.qos = 2});
    client_connect(bed, &c, "c", durable);
    client_subscribe(bed, &c, "t", (struct wants){.qos = 0});
    client_connect(bed, &a, "a", durable);
    client_publish(&a, "t", "x", (struct options){.qos = 2, .expiry_s = 1});
    for (int i = 0; i < 10; i++) { /* it is stored, and the row of its delivery on its way */
        assert_int_equal(loop_turn(bed->loop, 0), 0);
        if (i == 0)
            (void)mem_store_step(bed->store, 1);
    }
    bed->now_ms += 1500;
    timer_set_advance(bed->timers, bed->now_ms);
    bed_run(bed);
    client_expect_nothing(&b);
    client_expect_message(&c, "x", 0);
    client_publish(&a, "t", "y", (struct options){.qos = 1, .packet_id = 2, .expiry_s = 1});
    bed->now_ms += 1500; /* and while it is being stored */
    timer_set_advance(bed->timers, bed->now_ms);
    bed_run(bed);
    client_expect_nothing(&c);
    bed_close(bed);
}

/* [MQTT3-4.6.0-6] [MQTT5-4.6.0-6] */
static void nothing_comes_before_a_delivery_whose_row_was_refused(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "t", (struct wants){.qos = 2});
    client_connect(bed, &a, "a", durable);
    client_publish(&a, "t", "x", (struct options){.qos = 2});
    client_publish(&a, "t", "y", (struct options){.qos = 2, .packet_id = 2});
    mem_store_set_writable(bed->store, false);
    assert_int_equal(mem_store_step(bed->store, 1), 1);
    mem_store_set_writable(bed->store, true);
    assert_int_equal(mem_store_step(bed->store, 1), 1);
    bed_run(bed);
    client_expect_nothing(&b);
    assert_int_equal(b.closed, REASON_QUOTA_EXCEEDED);
    bed_crash(bed, false);
    client_connect(bed, &b, "b", durable);
    client_expect_message(&b, "x", 2);
    client_expect_message(&b, "y", 2);
    bed_close(bed);
}

/* Its row is in the log, so a crash would have it sent as if it had been before. */
static void what_expired_unsent_never_comes_behind_what_is_newer(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "t", (struct wants){.qos = 2});
    client_connect(bed, &a, "a", durable);
    b.full = true;
    client_publish(&a, "t", "x", (struct options){.qos = 2, .expiry_s = 1});
    client_publish(&a, "t", "y", (struct options){.qos = 2, .packet_id = 2});
    bed_run(bed); /* the rows of both are written */
    bed_pass(bed, 1500);
    b.full = false;
    link_writable(&b.link);
    assert_int_equal(loop_turn(bed->loop, 0), 0);
    client_expect_nothing(&b); /* not before the row of x is gone */
    assert_int_equal(mem_store_step(bed->store, 1), 1);
    assert_int_equal(loop_turn(bed->loop, 0), 0);
    client_expect_message(&b, "y", 2);
    bed_crash(bed, false);
    client_connect(bed, &b, "b", durable);
    assert_true(client_expect_message(&b, "y", 2)->dup);
    client_expect_nothing(&b);
    bed_close(bed);
}

static void what_expired_unsent_waits_until_its_row_can_be_removed(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "t", (struct wants){.qos = 2});
    client_connect(bed, &a, "a", durable);
    b.full = true;
    client_publish(&a, "t", "x", (struct options){.qos = 2, .expiry_s = 1});
    client_publish(&a, "t", "y", (struct options){.qos = 2, .packet_id = 2});
    bed_run(bed);
    bed_pass(bed, 1500);
    b.full = false;
    mem_store_fail_append(bed->store, 1, -5);
    link_writable(&b.link);
    bed_run(bed);
    client_expect_nothing(&b);
    assert_int_equal(b.closed, REASON_QUOTA_EXCEEDED);
    client_connect(bed, &b, "b", durable);
    client_expect_message(&b, "y", 2);
    client_expect_nothing(&b);
    bed_close(bed);
}

/* --- retention -----------------------------------------------------------------------------------
 */

static void trim_all(struct bed *bed)
{
    mem_store_trim(bed->store, core_head(bed->broker));
    bed_run(bed);
}

static void a_group_goes_on_when_retention_has_taken_its_queue(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "$share/g/t", (struct wants){.qos = 1});
    client_lose(&b);
    client_connect(bed, &a, "a", transient);
    client_publish(&a, "t", "lost", (struct options){.qos = 1});
    bed_run(bed);
    trim_all(bed);
    client_connect(bed, &b, "b", durable); /* went round in circles */
    client_publish(&a, "t", "found", (struct options){.qos = 1, .packet_id = 2});
    bed_run(bed);
    client_expect_message(&b, "found", 1);
    bed_close(bed);
}

/* The client may hold the packet ID: it is freed with PUBREL, not in silence. */
static void a_delivery_whose_message_is_gone_is_released(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "t", (struct wants){.qos = 2});
    client_connect(bed, &a, "a", transient);
    client_publish(&a, "t", "x", (struct options){.qos = 2});
    bed_run(bed);
    const uint16_t pid = client_expect_message(&b, "x", 2)->packet_id;
    bed_crash(bed, false);
    trim_all(bed);
    client_connect(bed, &b, "b", durable);
    assert_int_equal(client_expect(&b, PACKET_PUBREL)->packet_id, pid);
    client_ack(bed, &b, PACKET_PUBCOMP, pid);
    client_expect_nothing(&b);
    bed_close(bed);
}

/* --- groups --------------------------------------------------------------------------------------
 */

/* [MQTT5-4.8.2-5] */
static void what_an_ended_member_was_sent_goes_to_nobody_else(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "$share/g/t", (struct wants){.qos = 2});
    client_connect(bed, &c, "c", durable);
    client_subscribe(bed, &c, "$share/g/t", (struct wants){.qos = 2});
    client_lose(&c);
    client_connect(bed, &a, "a", transient);
    client_publish(&a, "t", "x", (struct options){.qos = 2});
    run_without_clock(bed); /* the group's progress is not written */
    client_expect_message(&b, "x", 2);
    bed_crash(bed, false);
    client_connect_begin(bed, &b, "b", (struct how){.clean = true});
    run_without_clock(bed);
    assert_true(b.answered);
    bed_crash(bed, false);
    client_connect(bed, &c, "c", durable);
    assert_true(c.present);
    client_expect_nothing(&c);
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
        cmocka_unit_test(a_will_whose_write_fails_is_tried_again),
        cmocka_unit_test(a_will_tried_again_replaces_nothing_newer),
        cmocka_unit_test(a_will_tried_again_replaces_what_is_older),
        cmocka_unit_test(a_will_tried_again_is_retained_when_nothing_else_is),
        cmocka_unit_test(a_qos1_will_tried_again_is_the_newest),
        cmocka_unit_test(a_will_to_a_new_topic_is_delivered_when_that_can_be_made),
        cmocka_unit_test(a_refused_client_leaves_no_will_and_no_session),
        cmocka_unit_test(a_will_taken_back_is_gone_when_its_client_returns),
        cmocka_unit_test(a_second_kill_does_not_start_the_expiry_anew),
        cmocka_unit_test(a_resumed_session_does_not_expire_at_a_kill),
        cmocka_unit_test(a_removal_whose_write_fails_is_done_again),
        cmocka_unit_test(a_clean_start_whose_write_fails_is_done_again),
        cmocka_unit_test(retained_messages_come_once_whenever_the_server_is_killed),
        cmocka_unit_test(a_retained_message_in_flight_outlives_the_end_of_its_walk),
        cmocka_unit_test(a_retained_message_sent_a_second_time_keeps_its_row),
        cmocka_unit_test(order_holds_when_an_overlapping_subscription_comes),
        cmocka_unit_test(what_is_sent_again_has_all_its_identifiers),
        cmocka_unit_test(a_change_of_no_local_does_not_repeat_a_message),
        cmocka_unit_test(qos0_to_a_client_comes_once_when_it_subscribes_too),
        cmocka_unit_test(what_expires_before_its_row_is_written_is_not_sent),
        cmocka_unit_test(nothing_comes_before_a_delivery_whose_row_was_refused),
        cmocka_unit_test(what_expired_unsent_never_comes_behind_what_is_newer),
        cmocka_unit_test(what_expired_unsent_waits_until_its_row_can_be_removed),
        cmocka_unit_test(a_group_goes_on_when_retention_has_taken_its_queue),
        cmocka_unit_test(a_delivery_whose_message_is_gone_is_released),
        cmocka_unit_test(what_an_ended_member_was_sent_goes_to_nobody_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
