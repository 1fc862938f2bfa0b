/* Sessions over the model engine: resumption, take-over, expiry, Receive Maximum. */
#include "store/mem/mem.h"

#include "broker/testbed.h"

static struct client a, b, c;

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
        assert_int_equal(payload_number(event), *next);
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

/* Asked again while the release is on its way: one answer. A connection that comes meanwhile is
 * answered itself, behind it in the log. */
static void pubrel_is_answered_where_it_came_from(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", durable);
    client_publish(&a, "t", "x", (struct options){.qos = 2, .packet_id = 3});
    bed_run(bed);
    client_expect(&a, PACKET_PUBREC);
    link_ack(&a.link, PACKET_PUBREL, 3, 0);
    link_ack(&a.link, PACKET_PUBREL, 3, 0);
    client_expect_nothing(&a);
    bed_run(bed);
    assert_int_equal(client_expect(&a, PACKET_PUBCOMP)->reason, 0);
    client_expect_nothing(&a);
    client_publish(&a, "t", "y", (struct options){.qos = 2, .packet_id = 3});
    bed_run(bed);
    link_ack(&a.link, PACKET_PUBREL, 3, 0);
    client_lose(&a);
    client_connect(bed, &b, "a", durable);
    client_expect_nothing(&b);
    client_ack(bed, &b, PACKET_PUBREL, 3);
    assert_int_equal(client_expect(&b, PACKET_PUBCOMP)->reason, REASON_PACKET_ID_NOT_FOUND);
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

const char *__asan_default_options(void);

/* A crash leaves the memory of requests under way behind. */
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

/* The client may hold the packet ID of a message that retention has removed since: it is told to
 * let go of it, or it would take the next message with that ID for a repetition. */
static void removed_message_releases_its_packet_id(void **state)
{
    (void)state;
    for (int restart = 0; restart < 3; restart++) {
        struct bed *bed = bed_open();
        client_connect(bed, &a, "a", transient);
        client_connect(bed, &b, "b", durable);
        client_subscribe(bed, &b, "t", (struct wants){.qos = 2});
        client_publish(&a, "t", "removed", (struct options){.qos = 2});
        bed_run(bed);
        const uint16_t pid = client_expect_message(&b, "removed", 2)->packet_id;
        client_lose(&b);
        bed_run(bed);
        mem_store_trim(bed->store, UINT64_MAX);
        bed_pass(bed, 1000);
        if (restart == 1)
            bed_restart(bed);
        else if (restart == 2)
            bed_crash(bed, true);
        client_connect(bed, &b, "b", durable);
        assert_true(b.present);
        assert_int_equal(client_expect(&b, PACKET_PUBREL)->packet_id, pid);
        client_ack(bed, &b, PACKET_PUBCOMP, pid);
        client_expect_nothing(&b);
        client_connect(bed, &a, "a", transient);
        client_publish(&a, "t", "next", (struct options){.qos = 2});
        bed_run(bed);
        client_expect_message(&b, "next", 2);
        client_expect_nothing(&b);
        bed_close(bed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(offline_messages_wait),
        cmocka_unit_test(unacknowledged_is_sent_again),
        cmocka_unit_test(removed_message_releases_its_packet_id),
        cmocka_unit_test(same_client_id_takes_over),
        cmocka_unit_test(same_client_id_is_refused_when_configured),
        cmocka_unit_test(late_answers_stay_with_their_connection),
        cmocka_unit_test(pubrel_is_answered_where_it_came_from),
        cmocka_unit_test(sessions_expire),
        cmocka_unit_test(disconnect_changes_the_expiry),
        cmocka_unit_test(client_ids_are_assigned),
        cmocka_unit_test(receive_maximum_holds),
        cmocka_unit_test(receive_maximum_of_the_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
