/* The core over the model engine: publishing, delivering, sessions, wills, retained, restarts. */
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

/* --- sessions ----------------------------------------------------------------------------------
 */

static void offline_messages_wait(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", transient);
    client_connect(bed, &b, "b", durable);
    assert_false(b.present);
    client_subscribe(bed, &b, "t/#", (struct wants){.qos = 2});
    client_disconnect(&b);
    char text[8];
    for (int i = 0; i < 200; i++) {
        (void)snprintf(text, sizeof text, "%d", i);
        client_publish(&a, "t/x", text, (struct options){.qos = (uint8_t)(1 + i % 2)});
        if (i % 2) {
            bed_run(bed);
            link_ack(&a.link, PACKET_PUBREL, 1, 0);
        }
        bed_run(bed);
    }
    client_publish(&a, "t/x", "zero", (struct options){.qos = 0});
    client_connect(bed, &b, "b", durable);
    assert_true(b.present); /* [MQTT3-3.2.2-2] [MQTT5-3.2.2-3] */
    for (int i = 0, next1 = 0, next2 = 1; i < 200; i++) {
        const struct event *event = client_expect(&b, PACKET_PUBLISH);
        int *next = event->qos == 1 ? &next1 : &next2; /* [MQTT3-4.6.0-6] ordered for each QoS */
        assert_int_equal(atoi(event->payload), *next);
        assert_false(event->dup);
        *next += 2;
    }
    bed_close(bed);
}

/* [MQTT3-4.4.0-1] [MQTT5-4.4.0-1] [MQTT3-3.3.1-1] [MQTT5-3.3.1-1]: the same identifiers, with DUP,
 * in the order sent; PUBREL for what had its PUBREC. After an orderly restart too. */
static void unacknowledged_is_sent_again(void **state)
{
    (void)state;
    for (int restart = 0; restart < 3; restart++) {
        struct bed *bed = bed_open();
        client_connect(bed, &a, "a", transient);
        client_connect(bed, &b, "b", durable);
        client_subscribe(bed, &b, "t", (struct wants){.qos = 2});
        static const uint8_t qos[] = {1, 2, 2, 1, 2};
        static const char *const texts[] = {"0", "1", "2", "3", "4"};
        uint16_t pids[5];
        for (int i = 0; i < 5; i++) {
            client_publish(&a, "t", texts[i],
                           (struct options){.qos = qos[i], .packet_id = (uint16_t)(i + 1)});
            bed_run(bed);
            pids[i] = client_expect_message(&b, texts[i], qos[i])->packet_id;
        }
        client_ack(bed, &b, PACKET_PUBACK, pids[0]);
        client_ack(bed, &b, PACKET_PUBREC, pids[2]);
        client_expect(&b, PACKET_PUBREL);
        client_ack(bed, &b, PACKET_PUBREC, pids[4]);
        client_expect(&b, PACKET_PUBREL);
        client_ack(bed, &b, PACKET_PUBCOMP, pids[4]);
        if (restart == 0)
            client_lose(&b);
        else if (restart == 1)
            bed_restart(bed);
        else
            bed_pass(bed, 500), bed_crash(bed, true); /* its progress had been written */
        client_connect(bed, &b, "b", durable);
        assert_true(b.present);
        const struct event *event = client_expect_message(&b, "1", 2);
        assert_true(event->dup);
        assert_int_equal(event->packet_id, pids[1]);
        event = client_expect(&b, PACKET_PUBREL);
        assert_int_equal(event->packet_id, pids[2]);
        event = client_expect_message(&b, "3", 1);
        assert_true(event->dup);
        assert_int_equal(event->packet_id, pids[3]);
        client_expect_nothing(&b);
        bed_close(bed);
    }
}

/* [MQTT3-3.1.4-2] [MQTT5-3.1.4-3] */
static void same_client_id_takes_over(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "same", durable);
    client_subscribe(bed, &a, "t", (struct wants){.qos = 1});
    client_connect(bed, &b, "same", durable);
    assert_int_equal(a.closed, REASON_SESSION_TAKEN_OVER);
    assert_null(a.link.session);
    assert_true(b.present);
    link_lost(&a.link, 0); /* harmless */
    client_publish(&b, "t", "x", (struct options){.qos = 1});
    bed_run(bed);
    client_expect(&b, PACKET_PUBACK);
    client_expect_message(&b, "x", 1);
    /* [MQTT3-3.1.2-6] [MQTT5-3.1.2-4]: a clean start ends what was there */
    client_connect(bed, &c, "same", (struct how){.clean = true, .expiry_s = 10});
    assert_false(c.present);
    client_publish(&c, "t", "y", (struct options){.qos = 1});
    bed_run(bed);
    assert_int_equal(client_expect(&c, PACKET_PUBACK)->reason, REASON_NO_MATCHING_SUBSCRIBERS);
    client_expect_nothing(&c);
    bed_close(bed);
}

static void same_client_id_is_refused_when_configured(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    bed->config.duplicate_client_id = DUPLICATE_REJECT;
    broker_configure(bed->broker, &bed->config);
    client_connect(bed, &a, "same", transient);
    client_connect_begin(bed, &b, "same", transient);
    assert_int_equal(b.connack, REASON_CLIENT_ID_INVALID);
    assert_true(a.open);
    bed_close(bed);
}

/* A SUBACK or PUBCOMP that was owed to an earlier connection does not reach a later one, even at
 * the same address; nothing comes before CONNACK. */
static void late_answers_stay_with_their_connection(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", durable);
    client_publish(&a, "t", "x", (struct options){.qos = 2, .packet_id = 3});
    bed_run(bed);
    link_ack(&a.link, PACKET_PUBREL, 3, 0);
    client_subscribe_begin(bed, &a, "t", (struct wants){.qos = 1});
    client_lose(&a);
    client_connect(bed, &a, "a", (struct how){.expiry_s = 60, .will = "w"}); /* waits for the log */
    client_expect_nothing(&a);
    client_ack(bed, &a, PACKET_PUBREL, 3);
    assert_int_equal(client_expect(&a, PACKET_PUBCOMP)->reason, REASON_PACKET_ID_NOT_FOUND);
    bed_close(bed);
}

/* Asked again while the release is on its way: one answer, to the connection that asked last. */
static void pubrel_is_answered_where_it_came_from(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", durable);
    client_publish(&a, "t", "x", (struct options){.qos = 2, .packet_id = 3});
    bed_run(bed);
    link_ack(&a.link, PACKET_PUBREL, 3, 0);
    client_lose(&a);
    client_connect_begin(bed, &b, "a", durable);
    assert_true(b.answered);
    client_publish(&b, "t", "x", (struct options){.qos = 2, .packet_id = 3, .dup = true});
    link_ack(&b.link, PACKET_PUBREL, 3, 0);
    client_expect_nothing(&b);
    bed_run(bed);
    assert_int_equal(client_expect(&b, PACKET_PUBCOMP)->reason, 0);
    client_expect_nothing(&b);
    bed_close(bed);
}

/* [MQTT3-3.1.2-4] [MQTT5-3.1.2-23] and the expiry of 3.x sessions */
static void sessions_expire(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    bed->config.session_expiry_max_s = 100;
    broker_configure(bed->broker, &bed->config);
    client_connect(bed, &a, "a", durable);
    assert_int_equal(a.expiry_s, 100);
    client_lose(&a);
    bed_pass(bed, 99000);
    client_connect(bed, &a, "a", (struct how){.expiry_s = 10});
    assert_true(a.present);
    client_lose(&a);
    bed_pass(bed, 10500);
    assert_int_equal(metric_get(&bed->metrics->sessions), 0);
    client_connect(bed, &a, "a", (struct how){.version = 4, .clean = false});
    assert_false(a.present);
    client_lose(&a);
    bed_pass(bed, 50000);
    bed_restart(bed);
    client_connect(bed, &a, "a", (struct how){.version = 4, .clean = false});
    assert_true(a.present);
    client_lose(&a);
    bed_pass(bed, 100500);
    client_connect(bed, &a, "a", (struct how){.version = 4, .clean = false});
    assert_false(a.present);
    bed_close(bed);
}

/* [MQTT5-3.14.2-2] An expiry of zero cannot be raised at the end; others can be changed. */
static void disconnect_changes_the_expiry(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", transient);
    assert_int_equal(link_disconnect(&a.link, 0, true, 10), REASON_PROTOCOL_ERROR);
    client_connect(bed, &a, "a", durable);
    assert_int_equal(link_disconnect(&a.link, 0, true, 0), 0);
    client_connect(bed, &a, "a", durable);
    assert_false(a.present);
    assert_int_equal(link_disconnect(&a.link, 0, true, 5), 0);
    bed_pass(bed, 4000);
    client_connect(bed, &a, "a", durable);
    assert_true(a.present);
    bed_close(bed);
}

/* [MQTT3-3.1.3-8] [MQTT5-3.1.3-6] [MQTT5-3.1.3-7] */
static void client_ids_are_assigned(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "", transient);
    assert_int_not_equal(strlen(a.id), 0);
    client_connect_begin(bed, &b, "", (struct how){.version = 4, .clean = false});
    assert_int_equal(b.connack, REASON_CLIENT_ID_INVALID);
    client_connect(bed, &b, "", (struct how){.version = 4, .clean = true});
    assert_string_not_equal(a.id, b.id);
    bed_close(bed);
}

/* [MQTT5-4.9.0-1] [MQTT5-3.3.4-9] Neither new messages nor those sent again exceed what the client
 * takes. */
static void receive_maximum_holds(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", transient);
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "t", (struct wants){.qos = 2});
    static const char *const texts[] = {"0", "1", "2", "3", "4", "5"};
    for (int i = 0; i < 6; i++) {
        client_publish(
            &a, "t", texts[i],
            (struct options){.qos = (uint8_t)(1 + i % 2), .packet_id = (uint16_t)(i + 1)});
        bed_run(bed);
        client_expect_message(&b, texts[i], (uint8_t)(1 + i % 2));
    }
    client_lose(&b);
    client_connect(bed, &b, "b", (struct how){.expiry_s = 3600, .receive_max = 2});
    uint16_t pids[6];
    for (int i = 0; i < 6; i++) {
        pids[i] = client_expect_message(&b, texts[i], (uint8_t)(1 + i % 2))->packet_id;
        if (i == 0)
            continue;
        client_expect_nothing(&b);
        if (i == 2) { /* the oldest of the two is the QoS 2 one */
            client_ack(bed, &b, PACKET_PUBREC, pids[1]);
            client_expect(&b, PACKET_PUBREL);
            client_expect_nothing(&b);
            client_ack(bed, &b, PACKET_PUBCOMP, pids[1]);
        } else if (i == 1) {
            client_ack(bed, &b, PACKET_PUBACK, pids[0]);
        } else if (i == 3) {
            client_ack(bed, &b, PACKET_PUBACK, pids[2]);
        } else if (i == 4) {
            client_ack(bed, &b, PACKET_PUBACK, pids[4]);
        }
    }
    client_publish(&a, "t", "6", (struct options){.qos = 1, .packet_id = 77});
    bed_run(bed);
    client_expect_nothing(&b);
    link_ack(&b.link, PACKET_PUBREC, pids[3], 0x80);
    bed_run(bed);
    client_expect_message(&b, "6", 1);
    bed_close(bed);
}

/* [MQTT5-3.3.4-7] A client with too many unacknowledged QoS 2 messages is closed, but what an
 * earlier connection left open does not count. */
static void receive_maximum_of_the_server(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    bed->config.receive_max = 3;
    broker_configure(bed->broker, &bed->config);
    client_connect(bed, &a, "a", durable);
    for (uint16_t pid = 1; pid <= 3; pid++)
        client_publish(&a, "t", "x", (struct options){.qos = 2, .packet_id = pid});
    bed_run(bed);
    client_lose(&a);
    client_connect(bed, &a, "a", durable);
    for (uint16_t pid = 4; pid <= 6; pid++)
        client_publish(&a, "t", "x", (struct options){.qos = 2, .packet_id = pid});
    bed_run(bed);
    assert_true(a.open);
    client_ack(bed, &a, PACKET_PUBREL, 1);
    client_publish(&a, "t", "x", (struct options){.qos = 2, .packet_id = 7});
    bed_run(bed);
    assert_true(a.open);
    client_publish(&a, "t", "x", (struct options){.qos = 2, .packet_id = 8});
    assert_int_equal(a.closed, REASON_RECEIVE_MAXIMUM);
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
            assert_int_equal(atoi(event->payload), i);
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
            const int number = atoi(event->payload + 2);
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
        seen |= 1 << atoi(client_expect(&b, PACKET_PUBLISH)->payload);
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
        assert_int_equal(metric_get(&bed->metrics->queues), crash ? 0 : 0);
        bed_close(bed);
    }
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
        cmocka_unit_test(offline_messages_wait),
        cmocka_unit_test(unacknowledged_is_sent_again),
        cmocka_unit_test(same_client_id_takes_over),
        cmocka_unit_test(same_client_id_is_refused_when_configured),
        cmocka_unit_test(late_answers_stay_with_their_connection),
        cmocka_unit_test(pubrel_is_answered_where_it_came_from),
        cmocka_unit_test(sessions_expire),
        cmocka_unit_test(disconnect_changes_the_expiry),
        cmocka_unit_test(client_ids_are_assigned),
        cmocka_unit_test(receive_maximum_holds),
        cmocka_unit_test(receive_maximum_of_the_server),
        cmocka_unit_test(slow_link_lags_and_catches_up),
        cmocka_unit_test(too_large_is_dropped),
        cmocka_unit_test(messages_expire),
        cmocka_unit_test(wills_come_when_due),
        cmocka_unit_test(wills_survive_the_server),
        cmocka_unit_test(ended_session_is_not_resumed),
        cmocka_unit_test(retained_handlings),
        cmocka_unit_test(retain_as_published),
        cmocka_unit_test(retained_under_way_is_seen_once),
        cmocka_unit_test(retained_respect_the_window),
        cmocka_unit_test(retained_survive_a_crash_and_a_trim),
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
        cmocka_unit_test(refusals_while_nothing_can_be_written),
        cmocka_unit_test(every_append_fails_once),
        cmocka_unit_test(draining_closes_links),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
