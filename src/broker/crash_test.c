/* kill -9 after each single append of a conversation, with and without what was written lazily. */
#include "store/mem/mem.h"

#include "broker/testbed.h"

static struct client a, b, c;

/* What the clients know; they resend as MQTT asks. */
static struct world {
    struct bed *bed;
    uint32_t budget; /* appends and reads the engine may complete before the kill */
    bool killed;     /* once is enough */
    bool lazy_survives;
    bool at_once;         /* killed before the clients see what the last append had them sent */
    uint8_t pub_state[3]; /* of each publish: 0 to be sent, 1 waits, 2 released, 3 done */
    bool acknowledged[3];
    uint16_t got[3];          /* receptions by b that were no repetitions of a QoS 2 one */
    uint16_t awaiting[65536]; /* of b: number + 1 of the QoS 2 message that waits for PUBREL */
    bool subscribed;
    bool a_greeted, b_greeted; /* did what a client does first on a connection */
} world;

enum { OPEN_NO, OPEN_SENT, OPEN_RELEASED, OPEN_DONE };

static const uint8_t publish_qos[3] = {1, 2, 2};

static void connect_all(void)
{
    const struct how how = {.expiry_s = 3600};
    world.a_greeted = world.b_greeted = false;
    client_connect_begin(world.bed, &a, "a", how);
    client_connect_begin(world.bed, &b, "b", how);
}

static void kill_server(void)
{
    world.killed = true;
    bed_crash(world.bed, world.lazy_survives);
    connect_all();
}

static void publish(int i, bool dup)
{
    client_publish(
        &a, "t/x",
        i == 0   ? "0"
        : i == 1 ? "1"
                 : "2",
        (struct options){.qos = publish_qos[i], .packet_id = (uint16_t)(i + 1), .dup = dup});
    world.pub_state[i] = OPEN_SENT;
}

static void publisher_reads(void)
{
    for (struct event *event; a.open && (event = client_next(&a));) {
        const int i = event->packet_id - 1;
        assert_true(event->reason < 0x80 || event->reason == REASON_PACKET_ID_NOT_FOUND);
        if (event->type == PACKET_PUBCOMP || event->type == PACKET_PUBACK) {
            world.acknowledged[i] = true;
            world.pub_state[i] = OPEN_DONE;
        } else if (event->type == PACKET_PUBREC && world.pub_state[i] != OPEN_DONE) {
            world.acknowledged[i] = true;
            world.pub_state[i] = OPEN_RELEASED;
            link_ack(&a.link, PACKET_PUBREL, event->packet_id, 0);
        }
    }
}

static void subscriber_reads(void)
{
    for (struct event *event; b.open && (event = client_next(&b));) {
        const uint16_t pid = event->packet_id;
        if (event->type == PACKET_SUBACK) {
            world.subscribed = true;
        } else if (event->type == PACKET_PUBREL) {
            world.awaiting[pid] = 0;
            link_ack(&b.link, PACKET_PUBCOMP, pid, 0);
        } else {
            const int i = payload_number(event);
            if (event->qos == 2 && world.awaiting[pid])
                assert_int_equal(world.awaiting[pid], i + 1);
            else
                world.got[i]++;
            if (event->qos == 2)
                world.awaiting[pid] = (uint16_t)(i + 1);
            link_ack(&b.link, event->qos == 2 ? PACKET_PUBREC : PACKET_PUBACK, pid, 0);
        }
    }
}

/* One turn of everybody; the server is killed when the budget is used up. */
static void turn(void)
{
    assert_int_equal(loop_turn(world.bed->loop, 0), 0);
    if (!world.killed && world.budget == 0 && mem_store_pending(world.bed->store)) {
        kill_server();
        return;
    }
    if (mem_store_step(world.bed->store, 1) && !world.killed && --world.budget == 0 &&
        world.at_once) {
        kill_server();
        return;
    }
    timer_set_advance(world.bed->timers, world.bed->now_ms += 7);
    if (b.open && !world.b_greeted && !world.subscribed)
        client_subscribe_begin(world.bed, &b, "t/#", (struct wants){.qos = 2});
    world.b_greeted |= b.open;
    subscriber_reads();
    if (a.open && !world.a_greeted) {
        world.a_greeted = true;
        for (int i = 0; i < 3; i++) {
            if (world.pub_state[i] == OPEN_SENT)
                publish(i, true);
            else if (world.pub_state[i] == OPEN_RELEASED)
                link_ack(&a.link, PACKET_PUBREL, (uint16_t)(i + 1), 0);
        }
    }
    for (int i = 0; i < 3 && a.open && world.subscribed; i++) {
        if (world.pub_state[i] == OPEN_NO)
            publish(i, false);
    }
    publisher_reads();
}

/* Returns false when the conversation ended before the kill came. */
static bool converse(uint32_t budget, bool lazy_survives, bool at_once)
{
    memset(&world, 0, sizeof world);
    world.bed = bed_open();
    world.budget = budget;
    world.lazy_survives = lazy_survives;
    world.at_once = at_once;
    connect_all();
    for (int turns = 0; turns < 600; turns++) {
        turn();
        if (turns % 100 == 99 && world.killed) { /* the state is good for another start, too */
            bed_crash(world.bed, lazy_survives);
            connect_all();
        }
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(world.pub_state[i], OPEN_DONE);
        assert_true(world.acknowledged[i]);
        assert_true(world.got[i] >= 1); /* what was acknowledged came */
        if (publish_qos[i] == 2)
            assert_int_equal(world.got[i], 1); /* [MQTT3-4.3.3-2] [MQTT5-4.3.3-10] once */
    }
    const bool killed = world.killed;
    bed_close(world.bed);
    return killed;
}

static void killed_after_each_append(void **state)
{
    (void)state;
    for (int way = 0; way < 4; way++) {
        uint32_t budget = 0;
        while (converse(budget, way & 1, way & 2))
            budget++;
        assert_in_range(budget, 15, 200);
    }
}

/* SUBACK, CONNACK after a clean start: what they say is durable. [MQTT3-3.8.4-4] [MQTT5-3.8.4-5] */
static void answers_are_durable(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", durable);
    client_subscribe(bed, &a, "t", (struct wants){.qos = 1, .id = 3});
    client_subscribe(bed, &a, "u", (struct wants){.qos = 1});
    assert_int_equal(client_unsubscribe(bed, &a, "u"), 0);
    bed_crash(bed, false);
    client_connect(bed, &c, "c", transient);
    client_publish(&c, "t", "x", (struct options){.qos = 1});
    client_publish(&c, "u", "y", (struct options){.qos = 1, .packet_id = 2});
    bed_run(bed);
    client_connect(bed, &a, "a", durable);
    assert_true(a.present);
    assert_int_equal(client_expect_message(&a, "x", 1)->ids[0], 3);
    client_expect_nothing(&a);
    client_connect(bed, &a, "a", (struct how){.clean = true, .expiry_s = 100});
    bed_crash(bed, false);
    client_connect(bed, &c, "c", transient);
    client_publish(&c, "t", "x", (struct options){.qos = 1});
    bed_run(bed);
    client_connect(bed, &a, "a", durable);
    client_expect_nothing(&a);
    bed_close(bed);
}

/* [MQTT5-4.3.3-12] PUBCOMP frees the packet ID for good: what comes with it next is a new message,
 * even after a kill. */
static void released_ids_stay_released(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "t", (struct wants){.qos = 1});
    client_connect(bed, &a, "a", durable);
    client_publish(&a, "t", "first", (struct options){.qos = 2, .packet_id = 5});
    bed_run(bed);
    client_expect(&a, PACKET_PUBREC);
    client_ack(bed, &a, PACKET_PUBREL, 5);
    client_expect(&a, PACKET_PUBCOMP);
    client_ack(bed, &b, PACKET_PUBACK, client_expect_message(&b, "first", 1)->packet_id);
    bed_crash(bed, false);
    client_connect(bed, &a, "a", durable);
    assert_true(a.present);
    client_publish(&a, "t", "second", (struct options){.qos = 2, .packet_id = 5});
    bed_run(bed);
    client_expect(&a, PACKET_PUBREC);
    client_connect(bed, &b, "b", durable);
    bool came = false;
    for (struct event *event; (event = client_next(&b));)
        came |= strcmp(event->payload, "second") == 0;
    assert_true(came);
    bed_close(bed);
}

/* PUBREL leaves only when that is durable: after it no PUBLISH comes again. [MQTT3-4.3.3-1] */
static void a_released_message_is_not_sent_again(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "t", (struct wants){.qos = 2});
    client_connect(bed, &a, "a", transient);
    client_publish(&a, "t", "x", (struct options){.qos = 2});
    bed_run(bed);
    const uint16_t pid = client_expect_message(&b, "x", 2)->packet_id;
    client_ack(bed, &b, PACKET_PUBREC, pid);
    client_expect(&b, PACKET_PUBREL);
    bed_crash(bed, false);
    client_connect(bed, &b, "b", durable);
    assert_int_equal(client_expect(&b, PACKET_PUBREL)->packet_id, pid);
    client_expect_nothing(&b);
    bed_close(bed);
}

static int count_row(void *data, struct slice key, struct slice value)
{
    (void)key;
    (void)value;
    (*(uint32_t *)data)++;
    return 0;
}

/* Rows that belong to nobody are swept, and do no harm. */
static void orphaned_rows_are_swept(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    static const char *const keys[] = {
        "F\0\0\0\0\0\0\0\x63t", "C\0\0\0\0\0\0\0\x63\0\0\0\x05", "I\0\0\0\0\0\0\0\x63\x01\0",
        "O\0\0\0\0\0\0\0\x63\0\0\0\0\0\0\0\x63\0\0\0\x05\0\0\0\0\0\0\0\0", "G$share/g/t"};
    static const uint8_t sizes[] = {10, 13, 11, 29, 11};
    uint8_t value[64] = {5, [4] = 1};
    value[12] = 7; /* a packet ID in the row of a delivery */
    struct meta_op ops[5];
    for (int i = 0; i < 5; i++)
        ops[i] = (struct meta_op){.kind = META_PUT,
                                  .key = slice_of(keys[i], sizes[i]),
                                  .value = slice_of(value, sizeof value)};
    struct store_append append = {.ops = ops, .op_count = 5, .level = STORE_LAZY};
    assert_int_equal(store_append(bed->store, &append), 0);
    bed_run(bed);
    bed_crash(bed, true);
    bed_run(bed);
    bed_crash(bed, true);
    uint32_t count = 0;
    for (int i = 0; i < 5; i++)
        assert_int_equal(meta_scan(bed->meta, slice_of(keys[i], sizes[i]), count_row, &count), 0);
    assert_int_equal(count, 0);
    bed_close(bed);
}

/* Sessions come back in the order of their names, what belongs to them in that of their numbers. */
static void many_sessions_get_back_what_is_theirs(void **state)
{
    enum { SESSIONS = 700, STEP = 37 };
    (void)state;
    struct bed *bed = bed_open();
    char id[16], filter[32];
    for (uint32_t i = 0; i < SESSIONS; i++) {
        (void)snprintf(id, sizeof id, "c%u", i * STEP % SESSIONS);
        (void)snprintf(filter, sizeof filter, "t/%s", id);
        client_connect(bed, &a, id, durable);
        assert_int_equal(client_subscribe(bed, &a, filter, (struct wants){.qos = 1}), 1);
        client_disconnect(&a);
        bed_run(bed);
    }
    bed_crash(bed, true);
    assert_int_equal(bed->broker->session_count, SESSIONS);
    uint64_t number = 0;
    for (uint32_t i = 0; i < SESSIONS; i++) {
        (void)snprintf(id, sizeof id, "c%u", i * STEP % SESSIONS);
        (void)snprintf(filter, sizeof filter, "t/%s", id);
        const struct session *session = session_find(bed->broker, slice_str(id));
        assert_non_null(session);
        assert_true(session->number > number);
        number = session->number;
        assert_int_equal(session->sub_count, 1);
        const struct sub *sub = LIST_FIRST(&session->subs, struct sub, session_node);
        assert_true(slice_equal(sub->filter->text, slice_str(filter)));
        assert_ptr_equal(filter_by_queue(bed->broker, sub->cursor.queue_id), sub->filter);
        assert_ptr_equal(session_by_number(bed->broker, number), session);
    }
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
        cmocka_unit_test(killed_after_each_append),
        cmocka_unit_test(answers_are_durable),
        cmocka_unit_test(released_ids_stay_released),
        cmocka_unit_test(a_released_message_is_not_sent_again),
        cmocka_unit_test(orphaned_rows_are_swept),
        cmocka_unit_test(many_sessions_get_back_what_is_theirs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
