/* What the core does when memory or the disk has come to its end, over the model engine. */
#include "store/mem/mem.h"

#include "broker/testbed.h"

static struct client a, b, c;

static void set_full(struct bed *bed, bool full)
{
    bed->config.memory_max = full ? 0 : UINT64_MAX;
    broker_configure(bed->broker, &bed->config);
}

/* Nothing is begun that stays; what is there is served. */
static void nothing_is_added_when_memory_is_full(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", durable);
    client_connect(bed, &b, "b", durable);
    assert_int_equal(client_subscribe(bed, &b, "t", (struct wants){.qos = 1}), 1);
    client_publish(&a, "t/kept", "old", (struct options){.qos = 1, .retain = true});
    bed_run(bed);
    assert_int_equal(client_expect(&a, PACKET_PUBACK)->reason, REASON_NO_MATCHING_SUBSCRIBERS);
    set_full(bed, true);
    client_connect_begin(bed, &c, "c", durable);
    assert_int_equal(c.connack, REASON_QUOTA_EXCEEDED);
    assert_int_equal(client_subscribe(bed, &b, "t/new", (struct wants){.qos = 1}),
                     REASON_QUOTA_EXCEEDED);
    assert_int_equal(client_subscribe(bed, &b, "t", (struct wants){.qos = 1}), 1);
    client_publish(&a, "t/more", "x", (struct options){.qos = 1, .retain = true});
    assert_int_equal(client_expect(&a, PACKET_PUBACK)->reason, REASON_QUOTA_EXCEEDED);
    client_publish(&a, "other", "x", (struct options){.qos = 1});
    assert_int_equal(client_expect(&a, PACKET_PUBACK)->reason, REASON_QUOTA_EXCEEDED);
    client_publish(&a, "t/kept", "new", (struct options){.qos = 1, .retain = true});
    client_publish(&a, "t", "through", (struct options){.qos = 1});
    bed_run(bed);
    client_expect(&a, PACKET_PUBACK);
    assert_int_equal(client_expect(&a, PACKET_PUBACK)->reason, 0);
    client_expect_message(&b, "through", 1);
    client_disconnect(&b);
    client_connect_begin(bed, &b, "b", (struct how){.expiry_s = 60, .will = "t"});
    assert_int_equal(b.connack, REASON_QUOTA_EXCEEDED);
    client_connect(bed, &b, "b", durable);
    assert_true(b.present);
    set_full(bed, false);
    client_connect(bed, &c, "c", durable);
    assert_int_equal(client_subscribe(bed, &c, "t/#", (struct wants){.qos = 1}), 1);
    client_expect_message(&c, "new", 1);
    bed_close(bed);
}

/* Each client may keep few messages open, in both directions, and gets the others as it answers. */
static void windows_shrink_when_memory_is_full(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", durable);
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "t", (struct wants){.qos = 1});
    set_full(bed, true);
    for (uint16_t id = 1; id <= 2 * FULL_WINDOW; id++) {
        client_publish(&a, "t", "m", (struct options){.qos = 2, .packet_id = id});
        bed_run(bed);
        const uint8_t reason = client_expect(&a, PACKET_PUBREC)->reason;
        assert_int_equal(reason, id <= FULL_WINDOW ? 0 : REASON_QUOTA_EXCEEDED);
    }
    for (uint16_t id = 1; id <= FULL_WINDOW; id++)
        client_ack(bed, &a, PACKET_PUBREL, id);
    for (uint16_t id = 1; id <= FULL_WINDOW; id++) {
        client_publish(&a, "t", "n", (struct options){.qos = 2, .packet_id = id});
        bed_run(bed);
    }
    uint32_t got = 0;
    for (const struct event *event; (event = client_next(&b)); got++) {
        assert_true(got < FULL_WINDOW);
        assert_int_equal(event->type, PACKET_PUBLISH);
    }
    assert_int_equal(got, FULL_WINDOW);
    for (uint32_t i = 0; i < FULL_WINDOW; i++) {
        client_ack(bed, &b, PACKET_PUBACK, b.events[b.read - FULL_WINDOW + i].packet_id);
    }
    for (uint32_t i = 0; i < FULL_WINDOW; i++)
        client_expect_message(&b, "n", 1);
    bed_close(bed);
}

/* The nth allocation fails while a client does all that has sizes of its own choice: it gets an
 * answer or loses its connection, and the same works afterwards. */
static void failing_allocations(void **state)
{
    (void)state;
    const struct how how = {.expiry_s = 60, .will = "t/will", .will_payload = "gone"};
    uint32_t refused = 0;
    for (uint64_t n = 1; n < 40; n++) {
        struct bed *bed = bed_open();
        client_connect(bed, &a, "a", how);
        client_subscribe(bed, &a, "t/first", (struct wants){.qos = 1});
        client_publish(&a, "t/first", "m", (struct options){.qos = 1, .retain = true});
        bed_run(bed);
        mem_fail_at(n);
        client_connect_begin(bed, &b, "another", how);
        bed_run(bed);
        if (b.open)
            client_subscribe_begin(bed, &b, "t/+", (struct wants){.qos = 2});
        bed_run(bed);
        if (b.open)
            client_publish(&b, "t/second", "m", (struct options){.qos = 1, .retain = true});
        bed_run(bed);
        mem_fail_at(0);
        bed_run(bed);
        refused += b.connack != 0 || b.closed != 0;
        if (b.open)
            client_lose(&b);
        client_connect(bed, &b, "another", (struct how){.clean = true, .expiry_s = 60});
        assert_int_equal(client_subscribe(bed, &b, "t/+", (struct wants){.qos = 2}), 2);
        bed_close(bed);
    }
    assert_true(refused >= 3);
}

/* A session that is there is served while nothing can be written; what would have to be written is
 * refused, and the connection stays. What the store lost is written when it can be. */
static void a_full_disk_does_not_stop_readers(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", durable);
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "t", (struct wants){.qos = 1});
    client_disconnect(&b);
    client_publish(&a, "t", "waiting", (struct options){.qos = 1});
    bed_pass(bed, 300);
    client_expect(&a, PACKET_PUBACK);
    mem_store_set_writable(bed->store, false);
    client_connect(bed, &b, "b", (struct how){.expiry_s = 7200});
    assert_true(b.present);
    client_expect_message(&b, "waiting", 1);
    assert_int_equal(client_subscribe(bed, &b, "t/2", (struct wants){.qos = 1}),
                     REASON_QUOTA_EXCEEDED);
    client_unsubscribe_begin(bed, &b, "t");
    assert_int_equal(client_expect(&b, PACKET_UNSUBACK)->reason, REASON_IMPLEMENTATION);
    assert_true(b.open);
    client_connect_begin(bed, &c, "c", durable);
    assert_int_equal(c.connack, REASON_SERVER_UNAVAILABLE);
    bed->broker->number_limit = bed->broker->next_number; /* the reserved ones are used up */
    client_connect(bed, &c, "d", transient);
    assert_true(session_find(bed->broker, slice_str("d"))->number > UINT32_MAX);
    assert_int_equal(client_subscribe(bed, &c, "t", (struct wants){.qos = 0}), 0);
    client_publish(&a, "t", "q0", (struct options){.qos = 0});
    client_expect_message(&c, "q0", 0);
    client_expect_message(&b, "q0", 0);
    mem_store_set_writable(bed->store, true);
    bed_pass(bed, 1300);
    assert_int_equal(client_subscribe(bed, &b, "t/2", (struct wants){.qos = 1}), 1);
    bed_crash(bed, false);
    client_connect(bed, &b, "b", durable);
    assert_true(b.present);
    bed_close(bed);
}

/* The same, when the row was taken and then lost. */
static void a_lost_row_of_a_known_session_is_written_again(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "t", (struct wants){.qos = 1});
    client_disconnect(&b);
    bed_pass(bed, 300);
    mem_store_fail_append(bed->store, 1, -5);
    client_connect(bed, &b, "b", (struct how){.expiry_s = 7200});
    assert_true(b.open);
    bed_pass(bed, 1300);
    client_connect(bed, &a, "a", durable);
    client_publish(&a, "t", "m", (struct options){.qos = 1}); /* with the sync */
    bed_run(bed);
    bed_crash(bed, false);
    assert_int_equal(session_find(bed->broker, slice_str("b"))->expiry_s, 7200);
    bed_close(bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_added_when_memory_is_full),
        cmocka_unit_test(windows_shrink_when_memory_is_full),
        cmocka_unit_test(failing_allocations),
        cmocka_unit_test(a_full_disk_does_not_stop_readers),
        cmocka_unit_test(a_lost_row_of_a_known_session_is_written_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
