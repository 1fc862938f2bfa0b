/* How retained messages are read for new subscriptions: several at a time, and in turn. */
#include "store/mem/mem.h"

#include "broker/testbed.h"

static struct client a, b, c, d;

/* Sets r/000 and so on; each message says its topic. */
static void set_many(struct bed *bed, int count)
{
    client_connect(bed, &a, "a", transient);
    for (int i = 0; i < count; i++) {
        char topic[16];
        (void)snprintf(topic, sizeof topic, "r/%03d", i);
        client_publish(&a, topic, topic, (struct options){.qos = 1, .retain = true});
        bed_run(bed);
    }
}

static void expect_many(struct client *client, int from, int to)
{
    for (int i = from; i < to; i++) {
        char topic[16];
        (void)snprintf(topic, sizeof topic, "r/%03d", i);
        client_expect_message(client, topic, 0);
    }
}

/* Subscribes to all, and stops when the first read is under way. */
static void subscribe_until_read(struct bed *bed, struct client *client)
{
    client_subscribe_begin(bed, client, "r/#", (struct wants){.qos = 0});
    for (int i = 0; i < 5; i++)
        assert_int_equal(loop_turn(bed->loop, 0), 0);
    client_expect(client, PACKET_SUBACK);
    client_expect_nothing(client);
    assert_true(mem_store_pending(bed->store) > 0);
}

static void one_deleted_while_it_is_read_does_not_come(void **state)
{
    (void)state;
    static const char *const topics[] = {"r/000", "r/005", "r/009"};
    struct bed *bed = bed_open();
    set_many(bed, 10);
    mem_store_slow_reads(bed->store, true);
    client_connect(bed, &b, "b", transient);
    subscribe_until_read(bed, &b);
    for (size_t i = 0; i < ARRAY_COUNT(topics); i++)
        retained_drop(bed->broker, slice_str(topics[i]));
    bed_run(bed);
    expect_many(&b, 1, 5);
    expect_many(&b, 6, 9);
    client_expect_nothing(&b);
    bed_close(bed);
}

/* What was read first is not what is retained any more. */
static void one_replaced_while_it_is_read_comes_as_it_is_now(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    set_many(bed, 10);
    client_publish(&a, "other", "new", (struct options){.qos = 1, .retain = true});
    bed_run(bed);
    mem_store_slow_reads(bed->store, true);
    client_connect(bed, &b, "b", transient);
    subscribe_until_read(bed, &b);
    struct retained_index *index = bed->broker->retained;
    retained_find(index, slice_str("r/004"))->position =
        retained_find(index, slice_str("other"))->position;
    bed_run(bed);
    expect_many(&b, 0, 4);
    client_expect_message(&b, "new", 0);
    expect_many(&b, 5, 10);
    client_expect_nothing(&b);
    bed_close(bed);
}

static void one_that_is_gone_from_the_log_is_passed_over(void **state)
{
    (void)state;
    for (int slow = 0; slow < 2; slow++) {
        struct bed *bed = bed_open();
        set_many(bed, 10);
        mem_store_slow_reads(bed->store, slow);
        struct retained_index *index = bed->broker->retained;
        retained_find(index, slice_str("r/000"))->position = 1;
        retained_find(index, slice_str("r/006"))->position = 1;
        client_connect(bed, &b, "b", transient);
        assert_int_equal(client_subscribe(bed, &b, "r/#", (struct wants){.qos = 0}), 0);
        expect_many(&b, 1, 6);
        expect_many(&b, 7, 10);
        client_expect_nothing(&b);
        bed_close(bed);
    }
}

/* Those that cannot be read for want of memory come when there is some. */
static void without_memory_a_walk_waits(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    set_many(bed, 3);
    for (uint64_t nth = 1; nth < 40; nth++) {
        client_connect(bed, &b, "b", transient);
        client_subscribe_begin(bed, &b, "r/#", (struct wants){.qos = 0});
        mem_fail_at(nth);
        assert_int_equal(loop_turn(bed->loop, 0), 0);
        mem_fail_at(0);
        bed_run(bed);
        const struct event *event = client_next(&b);
        assert_int_equal(event->type, PACKET_SUBACK);
        if (event->reason == 0)
            expect_many(&b, 0, 3);
        client_expect_nothing(&b);
        client_lose(&b);
        bed_run(bed);
    }
    bed_close(bed);
}

static void each_walk_gets_its_turn(void **state)
{
    (void)state;
    enum { COUNT = 600, MS_MAX = 256 };
    struct client *const walkers[] = {&b, &c, &d};
    static const char *const names[] = {"b", "c", "d"};
    for (int slow = 0; slow < 2; slow++) {
        struct bed *bed = bed_open();
        set_many(bed, COUNT);
        mem_store_slow_reads(bed->store, slow);
        for (size_t i = 0; i < ARRAY_COUNT(walkers); i++)
            client_connect(bed, walkers[i], names[i], transient);
        for (size_t i = 0; i < ARRAY_COUNT(walkers); i++)
            client_subscribe_begin(bed, walkers[i], "r/#", (struct wants){.qos = 0});
        uint32_t most = 0;
        while (most <= COUNT) { /* each has a SUBACK, too */
            const uint32_t before = b.count + c.count + d.count;
            timer_set_advance(bed->timers, ++bed->now_ms);
            for (int i = 0; i < 20; i++) {
                assert_int_equal(loop_turn(bed->loop, 0), 0);
                (void)mem_store_step(bed->store, UINT32_MAX);
            }
            const uint32_t sent = b.count + c.count + d.count - before;
            assert_in_range(sent, 1, MS_MAX + ARRAY_COUNT(walkers));
            most = MAX(b.count, MAX(c.count, d.count));
        }
        assert_true(MIN(b.count, MIN(c.count, d.count)) > COUNT / 2);
        bed_run(bed);
        for (size_t i = 0; i < ARRAY_COUNT(walkers); i++) {
            client_expect(walkers[i], PACKET_SUBACK);
            expect_many(walkers[i], 0, COUNT);
            client_expect_nothing(walkers[i]);
        }
        bed_close(bed);
    }
}

/* A full window is asked for nothing: each message is read once. */
static void a_full_window_reads_nothing(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    set_many(bed, 20);
    client_connect(bed, &b, "b", (struct how){.expiry_s = 100, .receive_max = 4});
    assert_int_equal(client_subscribe(bed, &b, "r/#", (struct wants){.qos = 1}), 1);
    for (int i = 0; i < 4; i++)
        (void)client_expect(&b, PACKET_PUBLISH);
    mem_store_slow_reads(bed->store, true);
    for (int i = 0; i < 5; i++) {
        session_pump(session_find(bed->broker, slice_str("b")));
        assert_int_equal(loop_turn(bed->loop, 0), 0);
        assert_int_equal(mem_store_pending(bed->store), 0);
    }
    client_ack(bed, &b, PACKET_PUBACK, b.events[b.read - 1].packet_id);
    client_expect_message(&b, "r/004", 1);
    bed_close(bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_deleted_while_it_is_read_does_not_come),
        cmocka_unit_test(one_replaced_while_it_is_read_comes_as_it_is_now),
        cmocka_unit_test(one_that_is_gone_from_the_log_is_passed_over),
        cmocka_unit_test(without_memory_a_walk_waits),
        cmocka_unit_test(each_walk_gets_its_turn),
        cmocka_unit_test(a_full_window_reads_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
