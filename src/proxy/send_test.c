/* What goes to the client: PUBLISH, acknowledgements, limits, slow readers. */
#include "proxy/testbed.h"

static struct message message_of(const char *topic, const void *payload, size_t size)
{
    return (struct message){.topic = slice_str(topic),
                            .payload = slice_of(payload, size),
                            .expiry_s = MESSAGE_NO_EXPIRY};
}

static int deliver(const struct message *message, uint8_t qos, uint16_t packet_id)
{
    const struct delivery delivery = {
        .message = message, .expiry_s = MESSAGE_NO_EXPIRY, .packet_id = packet_id, .qos = qos};
    return core.link->ops->publish(core.link, &delivery);
}

static void publish_is_encoded_per_version(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    struct message message = message_of("t", "hi", 2);
    message.props = slice_of((const uint8_t[]){0x01, 1}, 2);
    const struct delivery delivery = {
        .message = &message,
        .expiry_s = 5,
        .packet_id = 7,
        .qos = 1,
        .retain = true,
        .dup = true,
        .subscription_id_count = 1,
        .subscription_ids = &(const uint32_t){3},
    };
    bench_connect(&bench, MQTT_V311);
    const int first = bench.fd;
    assert_int_equal(core.link->ops->publish(core.link, &delivery), 0);
    EXPECT(&bench, 0x3b, 7, 0, 1, 't', 0, 7, 'h', 'i');
    (void)close(first);
    bench_connect(&bench, MQTT_V5);
    assert_int_equal(core.link->ops->publish(core.link, &delivery), 0);
    uint8_t got[32];
    assert_int_equal(bench_receive(&bench, got, sizeof got), 19);
    assert_int_equal(got[0], 0x3b);
    assert_int_equal(got[7], 9); /* expiry 5, subscription ID 2, payload format 2 */
    assert_memory_equal(got + 17, "hi", 2);
    assert_int_equal(metric_get(&bench.metrics->publish_sent), 2);
    assert_int_equal(metric_get(&bench.metrics->publish_bytes_sent), 4);
    assert_int_equal(metric_get(&bench.metrics->connections_peak), 2);
    bench_close(&bench);
}

/* The same message to many is encoded once, but not what is for one of them only. */
static void what_is_for_one_only_is_not_shared(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    bench_connect(&bench, MQTT_V5);
    struct message message = message_of("t", "hi", 2);
    message.position = 4096;
    for (uint8_t packet_id = 1; packet_id <= 20; packet_id++) {
        assert_int_equal(deliver(&message, 1, packet_id), 0);
        EXPECT(&bench, 0x32, 8, 0, 1, 't', 0, packet_id, 0, 'h', 'i');
    }
    struct delivery own = {.message = &message,
                           .expiry_s = MESSAGE_NO_EXPIRY,
                           .packet_id = 21,
                           .qos = 1,
                           .subscription_id_count = 1,
                           .subscription_ids = &(const uint32_t){3}};
    assert_int_equal(core.link->ops->publish(core.link, &own), 0);
    EXPECT(&bench, 0x32, 10, 0, 1, 't', 0, 21, 2, 0x0b, 3, 'h', 'i');
    own.subscription_id_count = 0;
    own.dup = true;
    assert_int_equal(core.link->ops->publish(core.link, &own), 0);
    EXPECT(&bench, 0x3a, 8, 0, 1, 't', 0, 21, 0, 'h', 'i');
    own.dup = false;
    own.retain = true;
    assert_int_equal(core.link->ops->publish(core.link, &own), 0);
    EXPECT(&bench, 0x33, 8, 0, 1, 't', 0, 21, 0, 'h', 'i');
    const struct message next = {.topic = slice_str("u"),
                                 .payload = slice_str("yo"),
                                 .expiry_s = MESSAGE_NO_EXPIRY,
                                 .position = 8192};
    assert_int_equal(deliver(&next, 1, 22), 0);
    EXPECT(&bench, 0x32, 8, 0, 1, 'u', 0, 22, 0, 'y', 'o');
    bench_close(&bench);
}

/* [MQTT5-3.1.2-24] [MQTT5-3.1.2-25] */
static void the_clients_maximum_packet_size_counts(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    (void)bench_client(&bench);
    SEND(&bench, 0x10, 19, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, 5, 0x27, 0, 0, 0, 30, 0, 1, 'c');
    uint8_t got[64];
    assert_int_equal(bench_receive(&bench, got, sizeof got), 16);
    const struct message fits = message_of("t", "01234567890123456789abcd", 24);
    const struct message exceeds = message_of("t", "01234567890123456789abcde", 25);
    assert_int_equal(deliver(&exceeds, 0, 0), ERR_FULL);
    EXPECT_NOTHING(&bench);
    assert_int_equal(deliver(&fits, 0, 0), 0);
    assert_int_equal(bench_receive(&bench, got, sizeof got), 30);
    /* A reason string is left out rather than the packet. */
    core.link->ops->ack(core.link, PACKET_PUBACK, 1, REASON_TOPIC_INVALID,
                        "a reason that takes more than thirty bytes");
    EXPECT(&bench, 0x40, 3, 0, 1, REASON_TOPIC_INVALID);
    bench_close(&bench);
}

/* Not even CONNACK fits: nothing may be sent instead. [MQTT5-3.14.0-1] */
static void a_client_too_small_for_connack(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    (void)bench_client(&bench);
    SEND(&bench, 0x10, 19, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, 5, 0x27, 0, 0, 0, 7, 0, 1, 'c');
    EXPECT_END(&bench);
    assert_int_equal(core.losts, 1);
    bench_close(&bench);
}

/* The first topics get aliases, as many as the client allows. [MQTT5-3.1.2-26] [MQTT5-3.1.2-27]
 * [MQTT5-3.3.2-11] */
static void aliases_out(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    (void)bench_client(&bench);
    SEND(&bench, 0x10, 17, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, 3, 0x22, 0, 2, 0, 1, 'c');
    uint8_t got[64];
    assert_int_equal(bench_receive(&bench, got, sizeof got), 16);
    const struct message a = message_of("a/a", "x", 1), b = message_of("b/b", "x", 1),
                         c = message_of("c/c", "x", 1);
    assert_int_equal(deliver(&a, 0, 0), 0);
    EXPECT(&bench, 0x30, 10, 0, 3, 'a', '/', 'a', 3, 0x23, 0, 1, 'x');
    assert_int_equal(deliver(&a, 0, 0), 0);
    EXPECT(&bench, 0x30, 7, 0, 0, 3, 0x23, 0, 1, 'x');
    assert_int_equal(deliver(&b, 0, 0), 0);
    EXPECT(&bench, 0x30, 10, 0, 3, 'b', '/', 'b', 3, 0x23, 0, 2, 'x');
    assert_int_equal(deliver(&c, 0, 0), 0);
    EXPECT(&bench, 0x30, 7, 0, 3, 'c', '/', 'c', 0, 'x');
    assert_int_equal(deliver(&b, 0, 0), 0);
    EXPECT(&bench, 0x30, 7, 0, 0, 3, 0x23, 0, 2, 'x');
    bench_close(&bench);
}

/* [MQTT5-3.1.2-29]: Request Problem Information 0. */
static void reason_strings_can_be_declined(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    (void)bench_client(&bench);
    SEND(&bench, 0x10, 16, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, 2, 0x17, 0, 0, 1, 'c');
    uint8_t got[64];
    assert_int_equal(bench_receive(&bench, got, sizeof got), 16);
    core.link->ops->ack(core.link, PACKET_PUBREC, 1, REASON_QUOTA_EXCEEDED, "why");
    EXPECT(&bench, 0x50, 3, 0, 1, REASON_QUOTA_EXCEEDED);
    bench_close(&bench);
}

static void acks_are_encoded(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    bench_connect(&bench, MQTT_V5);
    const struct link_ops *ops = core.link->ops;
    ops->ack(core.link, PACKET_PUBACK, 0x102, 0, NULL);
    EXPECT(&bench, 0x40, 2, 1, 2);
    ops->ack(core.link, PACKET_PUBREL, 3, 0, NULL);
    EXPECT(&bench, 0x62, 2, 0, 3);
    ops->ack(core.link, PACKET_PUBCOMP, 3, REASON_PACKET_ID_NOT_FOUND, NULL);
    EXPECT(&bench, 0x70, 3, 0, 3, 0x92);
    ops->ack(core.link, PACKET_PUBREC, 3, REASON_NOT_AUTHORIZED, "no");
    EXPECT(&bench, 0x50, 9, 0, 3, 0x87, 5, 0x1f, 0, 2, 'n', 'o');
    ops->suback(core.link, 9, (const uint8_t[]){1, 0x87}, 2, NULL);
    EXPECT(&bench, 0x90, 5, 0, 9, 0, 1, 0x87);
    ops->unsuback(core.link, 9, (const uint8_t[]){0, 0x11}, 2);
    EXPECT(&bench, 0xb0, 5, 0, 9, 0, 0, 0x11);
    ops->close(core.link, REASON_SESSION_TAKEN_OVER, NULL);
    EXPECT(&bench, 0xe0, 1, 0x8e);
    EXPECT_END(&bench);
    assert_int_equal(core.losts, 0);
    bench_close(&bench);
}

/* SUBACK knows one failure and UNSUBACK no codes. [MQTT3-3.9.3-2] */
static void acks_are_encoded_for_311(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    bench_connect(&bench, MQTT_V311);
    const struct link_ops *ops = core.link->ops;
    ops->ack(core.link, PACKET_PUBACK, 1, REASON_NO_MATCHING_SUBSCRIBERS, "nobody");
    EXPECT(&bench, 0x40, 2, 0, 1);
    ops->suback(core.link, 9, (const uint8_t[]){1, 0x87}, 2, "no");
    EXPECT(&bench, 0x90, 4, 0, 9, 1, 0x80);
    ops->unsuback(core.link, 9, (const uint8_t[]){0x11}, 1);
    EXPECT(&bench, 0xb0, 2, 0, 9);
    ops->close(core.link, REASON_SESSION_TAKEN_OVER, NULL);
    EXPECT_END(&bench);
    bench_close(&bench);
}

/* A large payload is lent, not copied, and comes out whole behind its head. */
static void large_payloads_are_referenced(void **state)
{
    (void)state;
    enum { SIZE = 20000 };
    struct bench bench;
    bench_open(&bench, NULL);
    bench_connect(&bench, MQTT_V311);
    struct buf *buf = buf_try_new(SIZE);
    assert_non_null(buf);
    for (uint32_t i = 0; i < SIZE; i++)
        buf_bytes(buf)[i] = (uint8_t)(i * 7 >> 3);
    struct message message = message_of("t", buf_bytes(buf), SIZE);
    message.payload.buf = buf;
    assert_int_equal(deliver(&message, 0, 0), 0);
    assert_int_equal(deliver(&message, 0, 0), 0);
    buf_bytes(buf)[SIZE - 1] ^= 0xff; /* seen by the client: there is no copy */
    uint8_t *copy = (uint8_t *)mem_try_copy(buf_bytes(buf), SIZE);
    (void)buf_unref(buf); /* the output holds it now */
    bench_turn(&bench);
    uint8_t *got = mem_new(2 * (SIZE + 7) + 1);
    assert_int_equal(bench_receive(&bench, got, 2 * (SIZE + 7) + 1), 2 * (SIZE + 7));
    assert_memory_equal(got + 7, copy, SIZE);
    assert_memory_equal(got + 7 + SIZE + 7, copy, SIZE);
    assert_null(bench.conn->out.first);
    mem_free(got);
    mem_free(copy);
    bench_close(&bench);
}

/* Output is bounded; the core is told once there is room again; nothing is lost in between. */
static void a_slow_reader_holds_back_the_core(void **state)
{
    (void)state;
    enum { SIZE = 1000, PACKET = SIZE + 8 };
    struct bench bench;
    bench_open(&bench, NULL);
    bench_connect(&bench, MQTT_V311);
    uint8_t payload[SIZE];
    uint32_t sent = 0, got = 0;
    int err = 0;
    for (; sent < 10000; sent++) {
        memset(payload, (int)(sent & 0xff), sizeof payload);
        const struct message message = message_of("t", payload, sizeof payload);
        err = deliver(&message, 1, 1);
        if (err != 0)
            break;
        if (sent % 50 == 0)
            bench_turn(&bench);
    }
    assert_int_equal(err, ERR_AGAIN);
    assert_true(bench.conn->out.size <= bench.proxy->config.output_max);
    assert_true(bench.conn->write_stuck);
    assert_int_equal(core.writables, 0);
    uint8_t packet[PACKET];
    size_t have = 0;
    for (;;) {
        const ssize_t n = read(bench.fd, packet + have, sizeof packet - have);
        if (n <= 0) {
            const uint64_t before = bench.conn->out.size;
            bench_turn(&bench);
            if (before == 0 && bench.conn->out.size == 0)
                break;
            continue;
        }
        have += (size_t)n;
        if (have == sizeof packet) {
            assert_int_equal(packet[PACKET - 1], got & 0xff);
            got++;
            have = 0;
        }
    }
    assert_int_equal(got, sent);
    assert_int_equal(core.writables, 1);
    assert_false(bench.conn->write_stuck);
    bench_close(&bench);
}

/* With no memory left for output, who has read nothing for five seconds gives way to others; not
 * sooner, and not when there is memory. */
static void a_client_that_is_stuck_gives_way(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    bench_connect(&bench, MQTT_V311);
    static const uint8_t payload[1000];
    const struct message message = message_of("t", payload, sizeof payload);
    while (deliver(&message, 1, 1) == 0)
        bench_turn(&bench);
    assert_true(bench.conn->write_stuck);
    for (int i = 0; i < 10; i++)
        bench_advance(&bench, 1000);
    assert_int_equal(core.losts, 0);
    struct budget *budget = &bench.proxy->budget;
    budget_charge(budget, budget->max);
    proxy_starve(bench.proxy);
    bench_advance(&bench, 100);
    assert_int_equal(core.losts, 1);
    budget_give(budget, bench.proxy->config.memory_max);
    bench_close(&bench);
}

/* Nor does one that was sent nothing for long, when something for it waits to be written. */
static void a_client_that_was_idle_does_not_give_way(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    bench_connect(&bench, MQTT_V311);
    for (int i = 0; i < 10; i++)
        bench_advance(&bench, 1000);
    const struct message message = message_of("t", "x", 1);
    assert_int_equal(deliver(&message, 0, 0), 0);
    assert_true(bench.conn->out.size > 0);
    struct budget *budget = &bench.proxy->budget;
    budget_charge(budget, budget->max);
    proxy_starve(bench.proxy);
    bench_advance(&bench, 100);
    assert_int_equal(core.losts, 0);
    EXPECT(&bench, 0x30, 4, 0, 1, 't', 'x');
    budget_give(budget, bench.proxy->config.memory_max);
    bench_close(&bench);
}

/* One that reads, if slowly, does not. */
static void a_slow_client_does_not_give_way(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    bench_connect(&bench, MQTT_V311);
    static uint8_t payload[1000], got[100000];
    const struct message message = message_of("t", payload, sizeof payload);
    while (deliver(&message, 1, 1) == 0)
        bench_turn(&bench);
    struct budget *budget = &bench.proxy->budget;
    budget_charge(budget, budget->max);
    for (int i = 0; i < 10 && bench.conn->out.size > 0; i++) {
        assert_true(read(bench.fd, got, sizeof got) > 0);
        proxy_starve(bench.proxy);
        bench_advance(&bench, 1000);
        assert_int_equal(core.losts, 0);
    }
    budget_give(budget, bench.proxy->config.memory_max);
    bench_close(&bench);
}

/* Who sends without ever reading is not read from any more: its answers stay bounded. */
static void a_client_that_never_reads_is_not_read(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    bench_connect(&bench, MQTT_V5);
    uint8_t pings[8192];
    for (size_t i = 0; i < sizeof pings; i += 2)
        memcpy(pings + i, (uint8_t[]){0xc0, 0}, 2);
    uint64_t sent = 0;
    for (;;) {
        const ssize_t n = write(bench.fd, pings, sizeof pings);
        if (n < 0)
            break;
        sent += (uint64_t)n;
        bench_turn(&bench);
    }
    assert_true(sent > bench.proxy->config.output_max);
    assert_true(bench.conn->holds & HOLD_OUTPUT);
    assert_true(bench.conn->out.size <= 2 * bench.proxy->config.output_max + INPUT_SCRATCH_SIZE);
    /* It reads at last, and gets an answer to each. */
    uint64_t got = 0;
    while (got < (sent & ~1ull)) {
        uint8_t bytes[8192];
        const ssize_t n = read(bench.fd, bytes, sizeof bytes);
        if (n > 0)
            got += (uint64_t)n;
        else
            bench_turn(&bench);
    }
    assert_int_equal(bench.conn->holds, 0);
    bench_close(&bench);
}

/* A session may be told of its end while output is stuck: the bytes before the end still arrive. */
static void close_comes_behind_the_output(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    bench_connect(&bench, MQTT_V5);
    uint8_t payload[2000] = {0};
    const struct message message = message_of("t", payload, sizeof payload);
    uint32_t sent = 0;
    while (deliver(&message, 1, 1) == 0) {
        sent++;
        bench_turn(&bench);
    }
    core.link->ops->close(core.link, REASON_SESSION_TAKEN_OVER, NULL);
    assert_int_equal(deliver(&message, 0, 0), ERR_AGAIN);
    uint64_t got = 0;
    uint8_t bytes[4096], last[3] = {0};
    for (;;) {
        const ssize_t n = bench_receive(&bench, bytes, sizeof bytes);
        if (n == 0)
            break;
        assert_true(n > 2);
        memcpy(last, bytes + n - 3, 3);
        got += (uint64_t)n;
    }
    assert_int_equal(got, sent * (2000 + 9) + 3);
    assert_memory_equal(last, ((uint8_t[]){0xe0, 1, 0x8e}), 3);
    bench_close(&bench);
}

/* QoS 0, which no queue keeps, may fill more; a client that is slow to read is still listened to.
 */
static void qos0_gets_more_room(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    bench_connect(&bench, MQTT_V311);
    uint8_t payload[3000] = {0};
    const struct message message = message_of("t", payload, sizeof payload);
    while (deliver(&message, 1, 1) == 0)
        continue;
    assert_true(bench.conn->out.size <= bench.proxy->config.output_max);
    while (deliver(&message, 0, 0) == 0)
        continue;
    assert_true(bench.conn->out.size > 8 * bench.proxy->config.output_max);
    assert_true(bench.conn->out.size <= 32 * bench.proxy->config.output_max);
    bench_turn(&bench);
    SEND(&bench, 0x40, 2, 0, 1, 0x40, 2, 0, 2);
    SEND(&bench, 0x40, 2, 0, 3);
    assert_int_equal(core.acks_in, 3);
    bench_close(&bench);
}

/* A reader so slow that QoS 0 always fills that room would never get what waits behind it. */
static void qos0_gives_way_to_what_waits(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    bench_connect(&bench, MQTT_V311);
    uint8_t payload[3000] = {0};
    const struct message message = message_of("t", payload, sizeof payload);
    while (deliver(&message, 0, 0) == 0)
        continue;
    assert_int_equal(deliver(&message, 1, 1), ERR_AGAIN);
    core.writables = 0;
    uint8_t *got = mem_new(1 << 20);
    for (int second = 0; second < 60 && core.writables == 0; second++) {
        bench_advance(&bench, 1000);
        (void)!read(bench.fd, got, 1 << 20);
        bench_turn(&bench);
        while (core.writables == 0 && deliver(&message, 0, 0) == 0)
            continue; /* as many as go */
    }
    assert_true(core.writables > 0);
    assert_int_equal(deliver(&message, 1, 1), 0);
    mem_free(got);
    bench_close(&bench);
}

/* [MQTT5-4.3.2-1]: packets go out in the order in which the core gave them, in one write. */
static void one_write_per_iteration(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    bench_connect(&bench, MQTT_V311);
    const struct message message = message_of("t", "x", 1);
    for (uint16_t i = 1; i <= 3; i++)
        assert_int_equal(deliver(&message, 1, i), 0);
    uint8_t byte;
    assert_int_equal(read(bench.fd, &byte, 1), -1); /* nothing before the end of the iteration */
    EXPECT(&bench, 0x32, 6, 0, 1, 't', 0, 1, 'x', 0x32, 6, 0, 1, 't', 0, 2, 'x', 0x32, 6, 0, 1, 't',
           0, 3, 'x');
    bench_close(&bench);
}

/* With the budget used up by one, another waits without output of its own, and is asked again. */
static void deliveries_keep_to_the_budget(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    bench_connect(&bench, MQTT_V311);
    uint8_t payload[3000] = {0};
    const struct message message = message_of("t", payload, sizeof payload);
    const uint64_t free_bytes = bench.proxy->budget.max - bench.proxy->budget.used - 100;
    assert_true(budget_take(&bench.proxy->budget, BUDGET_SMALL, free_bytes));
    assert_int_equal(deliver(&message, 0, 0), ERR_AGAIN);
    bench_turn(&bench);
    assert_int_equal(core.writables, 0);
    core.link->ops->ack(core.link, PACKET_PUBACK, 1, 0, NULL); /* answers are always given */
    EXPECT(&bench, 0x40, 2, 0, 1);
    core.writables = 0;
    assert_int_equal(deliver(&message, 0, 0), ERR_AGAIN);
    budget_give(&bench.proxy->budget, free_bytes);
    bench_advance(&bench, 20);
    assert_int_equal(core.writables, 1);
    assert_int_equal(deliver(&message, 0, 0), 0);
    bench_close(&bench);
}

/* Above half of the budget each client may only have a sixteenth of the usual waiting. */
static void output_shrinks_when_memory_is_short(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    bench_connect(&bench, MQTT_V311);
    const uint64_t half = bench.proxy->budget.max / 2 + 1;
    assert_true(budget_take(&bench.proxy->budget, BUDGET_SMALL, half));
    uint8_t payload[3000] = {0};
    const struct message message = message_of("t", payload, sizeof payload);
    uint32_t sent = 0;
    while (deliver(&message, 1, 1) == 0)
        sent++;
    assert_int_equal(sent, 256 * 1024 / 16 / 3008);
    budget_give(&bench.proxy->budget, half);
    bench_close(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(publish_is_encoded_per_version),
        cmocka_unit_test(what_is_for_one_only_is_not_shared),
        cmocka_unit_test(the_clients_maximum_packet_size_counts),
        cmocka_unit_test(a_client_too_small_for_connack),
        cmocka_unit_test(aliases_out),
        cmocka_unit_test(reason_strings_can_be_declined),
        cmocka_unit_test(acks_are_encoded),
        cmocka_unit_test(acks_are_encoded_for_311),
        cmocka_unit_test(large_payloads_are_referenced),
        cmocka_unit_test(a_slow_reader_holds_back_the_core),
        cmocka_unit_test(a_client_that_is_stuck_gives_way),
        cmocka_unit_test(a_client_that_was_idle_does_not_give_way),
        cmocka_unit_test(a_slow_client_does_not_give_way),
        cmocka_unit_test(a_client_that_never_reads_is_not_read),
        cmocka_unit_test(close_comes_behind_the_output),
        cmocka_unit_test(qos0_gets_more_room),
        cmocka_unit_test(qos0_gives_way_to_what_waits),
        cmocka_unit_test(one_write_per_iteration),
        cmocka_unit_test(deliveries_keep_to_the_budget),
        cmocka_unit_test(output_shrinks_when_memory_is_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
