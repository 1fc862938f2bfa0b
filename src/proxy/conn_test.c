/* The life of a conn: CONNECT, errors, keep alive, holding back, closing. */
#include "proxy/testbed.h"

/* [MQTT3-3.2.0-1] [MQTT3-3.1.4-4] [MQTT5-3.2.0-1] */
static void connect_is_answered(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    core.session_present = true;
    (void)bench_client(&bench);
    SEND(&bench, CONNECT_311);
    EXPECT(&bench, 0x20, 2, 1, 0);
    assert_int_equal(core.connects, 1);
    assert_int_equal(core.keep_alive_s, 60);
    bench_close(&bench);
    assert_int_equal(core.losts, 1);
}

/* [MQTT5-3.1.4-5] [MQTT5-3.2.0-2] [MQTT5-3.1.2-28] [MQTT5-4.12.0-6] [MQTT5-3.2.2-22]: Receive
 * Maximum, Topic Alias Maximum and Maximum Packet Size are always told; no session expiry as none
 * was asked for. [MQTT5-3.2.2-21] [MQTT5-3.1.3-7] */
static void connack5_tells_capabilities(void **state)
{
    (void)state;
    struct bench bench;
    struct proxy_config config;
    proxy_config_default(&config);
    config.keep_alive_max_s = 30;
    bench_open(&bench, &config);
    core.assigned_id = "ab";
    (void)bench_client(&bench);
    SEND(&bench, CONNECT_5);
    EXPECT(&bench, 0x20, 22, 0, 0, 19, 0x12, 0, 2, 'a', 'b', 0x13, 0, 30, 0x21, 4, 0, 0x22, 0, 16,
           0x27, 0, 0x10, 0, 0);
    bench_close(&bench);
}

/* Nothing behind the refused CONNECT is looked at. [MQTT3-3.1.4-5] [MQTT5-3.1.4-6] [MQTT5-3.14.0-1]
 */
static void refusals_of_the_core_are_translated(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    core.connack_reason = REASON_NOT_AUTHORIZED;
    const int fd = bench_client(&bench);
    SEND(&bench, CONNECT_311, 0x30, 3, 0, 1, 't');
    assert_int_equal(core.publishes, 0);
    EXPECT(&bench, 0x20, 2, 0, 5);
    EXPECT_END(&bench);
    (void)close(fd);
    bench_turn(&bench);
    (void)bench_client(&bench);
    SEND(&bench, CONNECT_5);
    EXPECT(&bench, 0x20, 8, 0, 0x87, 5, 0x1f, 0, 2, 'n', 'o');
    EXPECT_END(&bench);
    assert_int_equal(metric_get(&bench.metrics->connects_refused), 0); /* counted by the core */
    assert_int_equal(core.losts, 0);
    bench_close(&bench);
}

/* What each of these first bytes is answered with before the connection is closed. */
static void bad_first_packets(void **state)
{
    (void)state;
    static const struct {
        uint8_t sent[24], size, answer[8], answer_size;
    } rows[] = {
        {{0xc0, 0}, 2, {0}, 0},                      /* PINGREQ first: [MQTT3-3.1.0-1] */
        {{0x10, 0xff, 0xff, 0xff, 0x7f}, 5, {0}, 0}, /* 256 MiB of CONNECT */
        {{0x10, 0x80, 0x80, 0x80, 0x80, 1}, 6, {0}, 0},
        {{0x10, 13, 0, 4, 'H', 'T', 'T', 'P', 4, 2, 0, 60, 0, 1, 'c'}, 15, {0}, 0},
        {{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 9, 2, 0, 60, 0, 1, 'c'},
         15,
         {0x20, 3, 0, 0x84, 0},
         5},
        {{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 3, 0, 60, 0, 1, 'c'}, 15, {0}, 0}, /* reserved */
        {{0x10, 12, 0, 4, 'M', 'Q', 'T', 'T', 4, 0, 0, 60, 0, 0}, 14, {0x20, 2, 0, 2}, 4},
        {{'G', 'E', 'T', ' ', '/', '\r', '\n'}, 7, {0}, 0},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct bench bench;
        bench_open(&bench, NULL);
        (void)bench_client(&bench);
        bench_send(&bench, rows[i].sent, rows[i].size);
        uint8_t got[16];
        if (rows[i].answer_size > 0) {
            assert_int_equal(bench_receive(&bench, got, sizeof got), rows[i].answer_size);
            assert_memory_equal(got, rows[i].answer, rows[i].answer_size);
        }
        EXPECT_END(&bench);
        assert_int_equal(core.connects, 0);
        assert_int_equal(metric_get(&bench.metrics->protocol_errors), 1);
        assert_int_equal(bench.proxy->budget.used, 0);
        bench_close(&bench);
    }
}

/* However the bytes are cut, the core is told the same. */
static void packets_may_come_in_pieces(void **state)
{
    (void)state;
    static const uint8_t stream[] = {CONNECT_5, 0x32, 8, 0, 1, 't', 0, 7,   0,
                                     'h',       'i',                           /* PUBLISH QoS 1 */
                                     0x82,      7,    0, 9, 0, 0,   1, 'f', 1, /* SUBSCRIBE */
                                     0x40,      2,    0, 3,                    /* PUBACK */
                                     0xa2,      6,    0, 9, 0, 0,   1, 'f',    /* UNSUBSCRIBE */
                                     0xc0,      0};
    for (size_t piece = 1; piece <= sizeof stream; piece++) {
        struct bench bench;
        bench_open(&bench, NULL);
        core.acks = true;
        (void)bench_client(&bench);
        for (size_t i = 0; i < sizeof stream; i += piece)
            bench_send(&bench, stream + i, MIN(piece, sizeof stream - i));
        uint8_t got[64];
        const ssize_t n = bench_receive(&bench, got, sizeof got);
        assert_true(n > 2);
        assert_int_equal(got[n - 2], 0xd0); /* PINGRESP */
        assert_int_equal(core.publishes, 1);
        assert_int_equal(core.payload_size, 2);
        assert_string_equal(core.topic, "t");
        assert_int_equal(core.subscribes, 1);
        assert_int_equal(core.unsubscribes, 1);
        assert_int_equal(core.ack_id, 3);
        assert_null(bench.conn->input.bytes); /* idle again: nothing is held */
        assert_null(bench.conn->out.first);
        assert_int_equal(metric_get(&bench.metrics->packets_received), 6);
        bench_close(&bench);
    }
}

static void large_packets_grow_with_their_bytes(void **state)
{
    (void)state;
    enum { PAYLOAD = 1000000 };
    struct bench bench;
    bench_open(&bench, NULL);
    bench_connect(&bench, MQTT_V311);
    uint8_t *packet = mem_new(PAYLOAD + 7);
    const uint32_t remaining = PAYLOAD + 3;
    packet[0] = 0x30;
    packet[1] = (uint8_t)(remaining | 0x80);
    packet[2] = (uint8_t)(remaining >> 7 | 0x80);
    packet[3] = (uint8_t)(remaining >> 14);
    memcpy(packet + 4, (uint8_t[]){0, 1, 't'}, 3);
    bench_send(&bench, packet, 100);
    assert_true(bench.proxy->budget.used < 16384); /* not a million for an announcement */
    bench_send_all(&bench, packet + 100, PAYLOAD + 7 - 100);
    assert_int_equal(core.publishes, 1);
    assert_int_equal(core.payload_size, PAYLOAD);
    assert_null(bench.conn->input.bytes);
    mem_free(packet);
    bench_close(&bench);
}

/* [MQTT5-3.2.2-15] */
static void too_large_packets_close(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    bench_connect(&bench, MQTT_V5);
    SEND(&bench, 0x30, 0xff, 0xff, 0x7f);
    uint8_t got[128];
    assert_true(bench_receive(&bench, got, sizeof got) > 3);
    assert_int_equal(got[0], 0xe0);
    assert_int_equal(got[2], REASON_PACKET_TOO_LARGE);
    EXPECT_END(&bench);
    assert_int_equal(core.losts, 1);
    assert_int_equal(core.lost_reason, REASON_PACKET_TOO_LARGE);
    bench_close(&bench);
}

/* A conn that gathers more than the budget has is not read from at first, and goes on when there is
 * room again. */
static void budget_slows_the_one_who_exceeds_it(void **state)
{
    (void)state;
    struct bench bench;
    struct proxy_config config;
    proxy_config_default(&config);
    config.memory_max = 500000;
    bench_open(&bench, &config);
    bench_connect(&bench, MQTT_V5);
    struct budget *budget = &bench.proxy->budget;
    const uint64_t others = 200000;
    assert_true(budget_take(budget, BUDGET_SMALL, others));
    uint8_t *bytes = mem_new(150000);
    memcpy(bytes, (uint8_t[]){0x30, 0xec, 0x93, 0x09, 0, 1, 't', 0}, 8); /* 149,996 and the head */
    size_t sent = 0;
    ssize_t n;
    while ((n = send(bench.fd, bytes + sent, 150000 - sent, MSG_NOSIGNAL)) > 0) {
        sent += (size_t)n;
        bench_turn(&bench);
    }
    bench_turn(&bench);
    assert_int_equal(core.publishes, 0);
    assert_int_equal(core.losts, 0);
    assert_true(budget->used < config.memory_max);
    bench_advance(&bench, 4000);
    assert_int_equal(core.losts, 0);
    budget_give(budget, others);
    bench_advance(&bench, 20);
    bench_send_all(&bench, bytes + sent, 150000 - sent);
    for (int turn = 0; turn < 100 && core.publishes == 0; turn++)
        bench_turn(&bench);
    assert_int_equal(core.publishes, 1);
    assert_int_equal(core.payload_size, 149996 - 4);
    mem_free(bytes);
    bench_close(&bench);
}

/* The next bytes of one that has waited long close it; others go on. */
static void budget_closes_the_one_who_exceeds_it(void **state)
{
    (void)state;
    struct bench bench;
    struct proxy_config config;
    proxy_config_default(&config);
    config.memory_max = 100000;
    bench_open(&bench, &config);
    bench_connect(&bench, MQTT_V5);
    uint8_t *bytes = mem_new(200000);
    memcpy(bytes, (uint8_t[]){0x30, 0x80, 0x80, 0x20}, 4);
    bench_send_all(&bench, bytes, 100000);
    for (int i = 0; i < 6; i++)
        bench_advance(&bench, 1000);
    uint8_t got[128];
    assert_true(bench_receive(&bench, got, sizeof got) > 3);
    assert_int_equal(got[0], 0xe0);
    assert_int_equal(got[2], REASON_QUOTA_EXCEEDED);
    mem_free(bytes);
    bench_close(&bench);
}

static void protocol_errors5(void **state)
{
    (void)state;
    static const struct {
        uint8_t sent[24], size, reason;
    } rows[] = {
        {{CONNECT_5}, 16, REASON_PROTOCOL_ERROR},             /* [MQTT5-3.1.0-2] */
        {{0x20, 2, 0, 0}, 4, REASON_PROTOCOL_ERROR},          /* CONNACK from a client */
        {{0xd0, 0}, 2, REASON_PROTOCOL_ERROR},                /* PINGRESP from a client */
        {{0x36, 6, 0, 1, 't', 0, 1, 0}, 8, REASON_MALFORMED}, /* QoS 3: [MQTT5-3.3.1-4] */
        {{0xf0, 6, 0x18, 4, 0x15, 0, 1, 'x'},
         8,
         REASON_PROTOCOL_ERROR}, /* [MQTT5-4.12.0-7] [MQTT5-4.12.1-2] */
        {{0x80, 7, 0, 9, 0, 0, 1, 'f', 1}, 9, REASON_MALFORMED}, /* flags: [MQTT5-3.8.1-1] */
        {{0xc0, 1, 0}, 3, REASON_MALFORMED},
        {{0x30, 8, 0, 1, 't', 3, 0x23, 0, 17, 'x'}, 10, REASON_TOPIC_ALIAS_INVALID},
        {{0x30, 7, 0, 0, 3, 0x23, 0, 2, 'x'}, 9, REASON_PROTOCOL_ERROR}, /* alias never set */
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct bench bench;
        bench_open(&bench, NULL);
        bench_connect(&bench, MQTT_V5);
        bench_send(&bench, rows[i].sent, rows[i].size);
        uint8_t got[128];
        assert_true(bench_receive(&bench, got, sizeof got) > 2);
        assert_int_equal(got[0], 0xe0);
        assert_int_equal(got[2], rows[i].reason);
        EXPECT_END(&bench);
        assert_int_equal(core.losts, 1);
        assert_int_equal(core.publishes, 0);
        bench_close(&bench);
    }
}

/* A 3.x client is closed without a word. [MQTT3-4.8.0-1] [MQTT3-4.8.0-2] */
static void protocol_errors3_just_close(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    bench_connect(&bench, MQTT_V311);
    SEND(&bench, 0x36, 5, 0, 1, 't', 0, 1);
    EXPECT_END(&bench);
    assert_int_equal(core.losts, 1);
    bench_close(&bench);
}

/* [MQTT5-4.12.0-1] [MQTT5-4.12.0-4] */
static void authentication_methods_are_refused(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    (void)bench_client(&bench);
    SEND(&bench, 0x10, 18, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, 4, 0x15, 0, 1, 'x', 0, 1, 'c');
    uint8_t got[128];
    assert_true(bench_receive(&bench, got, sizeof got) > 4);
    assert_int_equal(got[0], 0x20);
    assert_int_equal(got[3], REASON_BAD_AUTH_METHOD);
    EXPECT_END(&bench);
    assert_int_equal(core.connects, 0);
    assert_int_equal(metric_get(&bench.metrics->connects_refused), 1);
    bench_close(&bench);
}

/* [MQTT3-3.1.2-24] [MQTT5-3.1.2-22] */
static void keep_alive_is_one_and_a_half(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    bench_connect(&bench, MQTT_V5);
    bench_advance(&bench, 89000);
    SEND(&bench, 0xc0, 0);
    EXPECT(&bench, 0xd0, 0);
    bench_advance(&bench, 89999);
    EXPECT_NOTHING(&bench);
    bench_advance(&bench, 1);
    EXPECT(&bench, 0xe0, 1, REASON_KEEP_ALIVE_TIMEOUT);
    EXPECT_END(&bench);
    assert_int_equal(core.lost_reason, REASON_KEEP_ALIVE_TIMEOUT);
    assert_int_equal(metric_get(&bench.metrics->keep_alive_timeouts), 1);
    bench_close(&bench);
}

/* While the server does not read, the client cannot be blamed for its silence. */
static void keep_alive_waits_while_paused(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    bench_connect(&bench, MQTT_V311);
    proxy_pause(bench.proxy, true);
    SEND(&bench, 0xc0, 0, 0x30, 3, 0, 1, 't', 0xc0, 0);
    EXPECT(&bench, 0xd0, 0); /* what lies before the PUBLISH is served */
    assert_int_equal(core.publishes, 0);
    bench_advance(&bench, 200000);
    EXPECT_NOTHING(&bench);
    proxy_pause(bench.proxy, false);
    EXPECT(&bench, 0xd0, 0);
    assert_int_equal(core.publishes, 1);
    bench_close(&bench);
}

static bool is_pressed(void *data)
{
    return *(bool *)data;
}

/* What the store says is asked after each read; what came before the answer is still taken. */
static void a_store_under_pressure_holds_publishers(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    bool pressed = true;
    bench.proxy->deps.pressed = is_pressed;
    bench.proxy->deps.pressed_data = &pressed;
    bench_connect(&bench, MQTT_V311);
    SEND(&bench, 0x30, 3, 0, 1, 't', 0x30, 3, 0, 1, 't');
    assert_int_equal(core.publishes, 2);
    SEND(&bench, 0x30, 3, 0, 1, 't', 0x30, 3, 0, 1, 't');
    assert_int_equal(core.publishes, 2);
    pressed = false;
    proxy_pause(bench.proxy, false);
    bench_turn(&bench);
    assert_int_equal(core.publishes, 4);
    bench_close(&bench);
}

/* After a burst the rest of a read waits for the others' output, and no longer. */
static void a_burst_is_written_before_more_is_read(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    bench_connect(&bench, MQTT_V311);
    bench.proxy->burst = 1u << 30;
    const uint8_t bytes[] = {0x30, 3, 0, 1, 't', 0x30, 3, 0, 1, 't', 0xc0, 0};
    assert_int_equal(send(bench.fd, bytes, sizeof bytes, MSG_NOSIGNAL), sizeof bytes);
    assert_int_equal(loop_turn(bench.loop, -1), 0);
    EXPECT(&bench, 0xd0, 0);
    assert_int_equal(core.publishes, 2);
    assert_int_equal(bench.conn->holds, 0);
    assert_int_equal(bench.proxy->burst, 0);
    bench_close(&bench);
}

static void connect_must_come_in_time(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    (void)bench_client(&bench);
    SEND(&bench, 0x10, 13, 0);
    bench_advance(&bench, 9999);
    EXPECT_NOTHING(&bench);
    bench_advance(&bench, 1);
    EXPECT_END(&bench);
    assert_int_equal(proxy_connections(bench.proxy), 0);
    bench_close(&bench);
}

/* [MQTT5-3.14.2-2] is the core's; the conn passes on and obeys. */
static void disconnect_is_passed_on(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    bench_connect(&bench, MQTT_V5);
    const int first = bench.fd;
    SEND(&bench, 0xe0, 7, 4, 5, 0x11, 0, 0, 0, 9);
    EXPECT_END(&bench);
    assert_int_equal(core.disconnects, 1);
    assert_int_equal(core.disconnect_reason, REASON_DISCONNECT_WITH_WILL);
    assert_true(core.has_expiry);
    assert_int_equal(core.expiry_s, 9);
    assert_int_equal(core.losts, 0);
    assert_int_equal(proxy_connections(bench.proxy), 0);
    (void)close(first);

    bench_connect(&bench, MQTT_V5);
    core.disconnect_answer = REASON_PROTOCOL_ERROR;
    SEND(&bench, 0xe0, 7, 0, 5, 0x11, 0, 0, 0, 9);
    EXPECT(&bench, 0xe0, 1, REASON_PROTOCOL_ERROR);
    EXPECT_END(&bench);
    assert_int_equal(core.losts, 0);
    bench_close(&bench);
}

static void a_lost_connection_is_reported_once(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    bench_connect(&bench, MQTT_V311);
    (void)close(bench.fd);
    bench.fd = -1;
    bench_turn(&bench);
    assert_int_equal(core.losts, 1);
    assert_int_equal(proxy_connections(bench.proxy), 0);
    bench_close(&bench);
    assert_int_equal(core.losts, 1);
}

/* [MQTT5-3.14.4-1] [MQTT5-3.14.4-2] The core closes from inside a publish: what follows in the same
 * read is not looked at. */
static void the_core_may_close_inside_a_call(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    bench_connect(&bench, MQTT_V5);
    core.close_reason = REASON_RECEIVE_MAXIMUM;
    SEND(&bench, 0x32, 6, 0, 1, 't', 0, 1, 0, 0x32, 6, 0, 1, 't', 0, 2, 0);
    EXPECT(&bench, 0xe0, 1, REASON_RECEIVE_MAXIMUM);
    EXPECT_END(&bench);
    assert_int_equal(core.publishes, 1);
    assert_int_equal(core.losts, 0);
    bench_advance(&bench, 1000); /* nobody closed the other end */
    assert_int_equal(proxy_connections(bench.proxy), 0);
    bench_close(&bench);
}

/* 3.x cannot say no to a PUBLISH. */
static void refused_publish_closes_3x(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    bench_connect(&bench, MQTT_V311);
    core.acks = true;
    core.ack_reason = REASON_TOPIC_INVALID;
    SEND(&bench, 0x32, 5, 0, 1, 't', 0, 1);
    EXPECT_END(&bench);
    assert_int_equal(core.losts, 1);
    bench_close(&bench);
}

/* A 3.x client with Receive Maximum publishes unanswered is not read from until one is answered. */
static void pending_publishes_hold_3x(void **state)
{
    (void)state;
    struct bench bench;
    struct proxy_config config;
    proxy_config_default(&config);
    config.receive_max = 2;
    bench_open(&bench, &config);
    bench_connect(&bench, MQTT_V311);
    SEND(&bench, 0x32, 5, 0, 1, 't', 0, 1, 0x32, 5, 0, 1, 't', 0, 2, 0x32, 5, 0, 1, 't', 0, 3);
    assert_int_equal(core.publishes, 2);
    SEND(&bench, 0x32, 5, 0, 1, 't', 0, 4);
    assert_int_equal(core.publishes, 2);
    core.pending = 1;
    core.link->ops->ack(core.link, PACKET_PUBACK, 1, 0, NULL);
    EXPECT(&bench, 0x40, 2, 0, 1);
    assert_int_equal(core.publishes, 3);
    core.pending = 0;
    core.link->ops->ack(core.link, PACKET_PUBACK, 2, 0, NULL);
    bench_turn(&bench);
    assert_int_equal(core.publishes, 4);
    bench_close(&bench);
}

/* [MQTT5-3.3.2-8] [MQTT5-3.3.2-12] [MQTT5-3.2.2-17] [MQTT5-3.3.2-7]: the next connection knows
 * none. */
static void aliases_in(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    bench_connect(&bench, MQTT_V5);
    SEND(&bench, 0x30, 9, 0, 2, 'a', 'b', 3, 0x23, 0, 16, 'x');
    assert_string_equal(core.topic, "ab");
    SEND(&bench, 0x30, 7, 0, 0, 3, 0x23, 0, 16, 'x');
    assert_int_equal(core.publishes, 2);
    assert_string_equal(core.topic, "ab");
    SEND(&bench, 0x30, 8, 0, 1, 'c', 3, 0x23, 0, 16, 'x', 0x30, 7, 0, 0, 3, 0x23, 0, 16, 'x');
    assert_int_equal(core.publishes, 4);
    assert_string_equal(core.topic, "c");
    (void)close(bench.fd);
    bench_turn(&bench);
    bench_connect(&bench, MQTT_V5);
    SEND(&bench, 0x30, 7, 0, 0, 3, 0x23, 0, 16, 'x');
    assert_int_equal(bench.conn->state, CONN_LINGERING);
    assert_int_equal(core.publishes, 4);
    bench_close(&bench);
}

static void set_true(void *data)
{
    *(bool *)data = true;
}

static void drain_says_goodbye(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    bench_connect(&bench, MQTT_V5);
    bool done = false;
    proxy_drain(bench.proxy, set_true, &done);
    EXPECT(&bench, 0xe0, 1, REASON_SHUTTING_DOWN);
    EXPECT_END(&bench);
    assert_false(done);
    (void)close(bench.fd);
    bench.fd = -1;
    bench_turn(&bench);
    assert_true(done);
    bench_close(&bench);
}

/* Whichever allocation fails, the conn is closed or serves; nothing leaks (bench_close, ASan). */
static void failing_allocations(void **state)
{
    (void)state;
    static const uint8_t stream[] = {CONNECT_5, 0x30, 9,    0,  2,   'a', 'b',
                                     3,         0x23, 0,    1,  'x', /* alias */
                                     0xc0,      0,    0x30, 20, 0,   2,   'a'};
    for (uint64_t n = 1; n < 12; n++) {
        struct bench bench;
        bench_open(&bench, NULL);
        (void)bench_client(&bench);
        mem_fail_at(n);
        bench_send(&bench, stream, sizeof stream);
        mem_fail_at(0);
        bench_advance(&bench, 2000);
        assert_true(bench.proxy->conn_count == 0 || core.publishes == 1);
        bench_close(&bench);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connect_is_answered),
        cmocka_unit_test(connack5_tells_capabilities),
        cmocka_unit_test(refusals_of_the_core_are_translated),
        cmocka_unit_test(bad_first_packets),
        cmocka_unit_test(packets_may_come_in_pieces),
        cmocka_unit_test(large_packets_grow_with_their_bytes),
        cmocka_unit_test(too_large_packets_close),
        cmocka_unit_test(budget_slows_the_one_who_exceeds_it),
        cmocka_unit_test(budget_closes_the_one_who_exceeds_it),
        cmocka_unit_test(protocol_errors5),
        cmocka_unit_test(protocol_errors3_just_close),
        cmocka_unit_test(authentication_methods_are_refused),
        cmocka_unit_test(keep_alive_is_one_and_a_half),
        cmocka_unit_test(keep_alive_waits_while_paused),
        cmocka_unit_test(a_store_under_pressure_holds_publishers),
        cmocka_unit_test(a_burst_is_written_before_more_is_read),
        cmocka_unit_test(connect_must_come_in_time),
        cmocka_unit_test(disconnect_is_passed_on),
        cmocka_unit_test(a_lost_connection_is_reported_once),
        cmocka_unit_test(the_core_may_close_inside_a_call),
        cmocka_unit_test(refused_publish_closes_3x),
        cmocka_unit_test(pending_publishes_hold_3x),
        cmocka_unit_test(aliases_in),
        cmocka_unit_test(drain_says_goodbye),
        cmocka_unit_test(failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
