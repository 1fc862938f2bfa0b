/* The world of a history: the core on the model engine, a clock, and clients that are structs.
 *
 * What the core sends goes to the model at once, and waits in a queue until its client reads it. A
 * message's number travels in its correlation data, so that an empty one has it, too.
 */
#include "store/mem/mem.h"

#include "broker/testbed.h"

#include "sim.h"

#include <errno.h>

enum { QUEUE_MAX = 4096, PROPS_SIZE = 32 };

struct wire {
    struct link link; /* first */
    int index;
    bool current; /* not replaced by a newer connection */
    bool full;    /* takes no PUBLISH: ERR_AGAIN */
    bool answered, open, refused;
    uint32_t count, read;
    struct packet packets[QUEUE_MAX];
};

static struct world {
    struct bed *bed;
    struct wire wires[CLIENTS][2]; /* the second is what a take-over leaves behind */
    uint8_t turn[CLIENTS];
    uint32_t failed; /* writes of the store so far */
} world;

static struct wire *wire_of(int index)
{
    return &world.wires[index][world.turn[index]];
}

/* --- what the core sends ------------------------------------------------------------------------
 */

static struct packet *wire_put(struct wire *wire, uint8_t type)
{
    if (wire->read == wire->count)
        wire->read = wire->count = 0;
    ASSERT(wire->count < QUEUE_MAX);
    struct packet *packet = &wire->packets[wire->count++];
    *packet = (struct packet){.type = type};
    return packet;
}

static void digest(const struct wire *wire, const struct packet *packet)
{
    const uint64_t parts[] = {(uint64_t)wire->index, packet->type, packet->packet_id,
                              packet->number,        packet->qos,  packet->dup,
                              packet->reason,        sim_step};
    for (size_t i = 0; i < ARRAY_COUNT(parts); i++)
        sim_digest = (sim_digest ^ parts[i]) * 0x100000001B3u;
    sim_trace("    c%d <- type %u id %u message %u QoS %u%s%s reason 0x%02x", wire->index,
              packet->type, packet->packet_id, packet->number, packet->qos,
              packet->dup ? " DUP" : "", packet->retain ? " RETAIN" : "", packet->reason);
}

static struct wire *wire_from(struct link *link)
{
    return CONTAINER_OF(link, struct wire, link);
}

/* Returns true when a write has failed since the last time. */
static bool writes_notice(void)
{
    const uint32_t failed = mem_store_failed(world.bed->store);
    const bool more = failed != world.failed;
    if (more)
        model_write_failed();
    world.failed = failed;
    return more;
}

static void on_connack(struct link *link, const struct connack *connack)
{
    struct wire *wire = wire_from(link);
    const struct packet packet = {
        .type = PACKET_CONNACK, .reason = connack->reason, .present = connack->session_present};
    CHECK(!wire->answered, "c%d: two CONNACKs", wire->index);
    (void)writes_notice();
    wire->answered = true;
    wire->open = connack->reason == 0;
    sim_trace("    c%d <- CONNACK 0x%02x%s", wire->index, packet.reason,
              packet.present ? ", present" : "");
    model_connack(wire->index, &packet);
}

static uint8_t topic_index(struct slice topic)
{
    for (uint8_t i = 0; i < TOPICS; i++) {
        if (slice_equal(topic, slice_str(sim_topics[i])))
            return i;
    }
    sim_failed("an unknown topic");
}

/* Its properties are the correlation data and nothing else. */
static uint32_t message_number(const struct message *message)
{
    uint32_t number;
    CHECK(message->props.size == 3 + sizeof number && message->props.bytes[0] == 0x09,
          "the properties of a message have changed");
    memcpy(&number, message->props.bytes + 3, sizeof number);
    return number;
}

static void check_payload(const struct message *message, uint32_t number)
{
    char text[16] = "";
    if (number < model.message_count && !model.messages[number].empty)
        (void)snprintf(text, sizeof text, "%u", number);
    CHECK(slice_equal(message->payload, slice_str(text)), "message %u has another payload", number);
}

static int on_publish(struct link *link, const struct delivery *delivery)
{
    struct wire *wire = wire_from(link);
    CHECK(wire->open, "c%d: PUBLISH before CONNACK", wire->index); /* [MQTT3-3.2.0-1] */
    if (wire->full)
        return ERR_AGAIN;
    struct packet *packet = wire_put(wire, PACKET_PUBLISH);
    packet->qos = delivery->qos;
    packet->dup = delivery->dup;
    packet->retain = delivery->retain;
    packet->packet_id = delivery->packet_id;
    packet->expiry_s = delivery->expiry_s;
    packet->id_count = delivery->subscription_id_count;
    CHECK(packet->id_count <= ARRAY_COUNT(packet->ids), "too many identifiers");
    for (uint32_t i = 0; i < packet->id_count; i++)
        packet->ids[i] = delivery->subscription_ids[i];
    if (packet->id_count > 0 && packet->ids[0] > SHARED)
        packet->way = (uint8_t)(packet->ids[0] - SHARED);
    packet->topic = topic_index(delivery->message->topic);
    packet->number = message_number(delivery->message);
    check_payload(delivery->message, packet->number);
    digest(wire, packet);
    (void)writes_notice();
    judge_publish(wire->index, packet);
    return 0;
}

static void on_ack(struct link *link, uint8_t packet_type, uint16_t packet_id, uint8_t reason,
                   const char *reason_string)
{
    struct wire *wire = wire_from(link);
    (void)reason_string;
    CHECK(wire->open, "c%d: packet type %u on a closed connection", wire->index, packet_type);
    struct packet *packet = wire_put(wire, packet_type);
    packet->packet_id = packet_id;
    packet->reason = reason;
    digest(wire, packet);
    (void)writes_notice();
    if (packet_type == PACKET_PUBREL) {
        judge_pubrel(wire->index, packet);
        return;
    }
    /* Those versions cannot say no: the conn closes. */
    if (link->version < MQTT_V5 && reason >= 0x80 && packet_type != PACKET_PUBCOMP) {
        wire->refused = true;
        wire->count--;
        return;
    }
    model_answer(wire->index, packet);
}

static void on_suback(struct link *link, uint16_t packet_id, const uint8_t *codes, size_t count,
                      const char *reason_string)
{
    struct wire *wire = wire_from(link);
    (void)reason_string;
    CHECK(wire->open && count == 1, "c%d: a wrong SUBACK", wire->index);
    struct packet *packet = wire_put(wire, PACKET_SUBACK);
    packet->packet_id = packet_id;
    packet->reason = codes[0];
    digest(wire, packet);
    (void)writes_notice();
    model_answer(wire->index, packet);
}

static void on_unsuback(struct link *link, uint16_t packet_id, const uint8_t *codes, size_t count)
{
    struct wire *wire = wire_from(link);
    CHECK(wire->open && count == 1, "c%d: a wrong UNSUBACK", wire->index);
    struct packet *packet = wire_put(wire, PACKET_UNSUBACK);
    packet->packet_id = packet_id;
    packet->reason = codes[0];
    digest(wire, packet);
    (void)writes_notice();
    model_answer(wire->index, packet);
}

static void on_close(struct link *link, uint8_t reason, const char *reason_string)
{
    struct wire *wire = wire_from(link);
    (void)reason_string;
    sim_trace("    c%d <- closed 0x%02x", wire->index, reason);
    wire->open = false;
    const bool failed = writes_notice();
    if (!wire->current) {
        CHECK(reason == REASON_SESSION_TAKEN_OVER, "c%d: closed with 0x%02x", wire->index, reason);
        return;
    }
    CHECK(reason == REASON_SHUTTING_DOWN || model.failed_tick > 0, "c%d: closed with 0x%02x",
          wire->index, reason);
    if (!wire->answered) /* the conn says no */
        on_connack(&wire->link, &(struct connack){.reason = REASON_SERVER_UNAVAILABLE});
    else if (reason != REASON_SHUTTING_DOWN)
        model_lost(wire->index, false);
    if (failed)
        model_write_failed(); /* what the end of the connection would have written as well */
}

static const struct link_ops wire_ops = {
    .connack = on_connack,
    .publish = on_publish,
    .ack = on_ack,
    .suback = on_suback,
    .unsuback = on_unsuback,
    .close = on_close,
};

/* Called after everything the core is made to do: connections that a refusal has closed. */
static void world_notice(void)
{
    (void)writes_notice();
    for (int i = 0; i < CLIENTS; i++) {
        struct wire *wire = wire_of(i);
        if (wire->refused && wire->open)
            world_lose(i);
        wire->refused = false;
    }
    model.call_tick = model.tick;
}

/* --- what clients do
 * ------------------------------------------------------------------------------
 */

bool world_connected(int index)
{
    return wire_of(index)->open;
}

/* A block of properties as it is sent: the number, and what `extra` says. */
static void props_make(struct props *props, uint8_t *bytes, uint8_t packet_type, uint32_t number,
                       uint8_t extra, uint32_t value)
{
    uint8_t size = 1, reason;
    if (value > 0) {
        bytes[size++] = extra;
        for (int shift = 24; shift >= 0; shift -= 8)
            bytes[size++] = (uint8_t)(value >> shift);
    }
    bytes[size++] = 0x09;
    bytes[size++] = 0;
    bytes[size++] = sizeof number;
    memcpy(bytes + size, &number, sizeof number);
    bytes[0] = (uint8_t)(size + sizeof number - 1);
    const int got = props_decode(bytes, size + sizeof number, packet_type, props, &reason);
    ASSERT(got == (int)(size + sizeof number));
}

void world_connect(int index, const struct connect *how)
{
    const char id[] = {'c', (char)('0' + index), '\0'};
    const bool takes_over = wire_of(index)->open;
    wire_of(index)->current = false;
    if (takes_over)
        world.turn[index] ^= 1;
    struct wire *wire = wire_of(index);
    wire->link = (struct link){.ops = &wire_ops, .version = how->version};
    wire->link.receive_max = how->receive_max;
    wire->index = index;
    wire->current = true;
    wire->full = wire->answered = wire->open = wire->refused = false;
    wire->count = wire->read = 0;
    struct packet_connect packet = {.version = how->version,
                                    .clean_start = how->clean,
                                    .client_id = slice_str(id),
                                    .has_will = how->will >= 0};
    packet.props.session_expiry_s = how->expiry_s;
    uint8_t props[PROPS_SIZE];
    char text[16];
    if (how->will >= 0) {
        const struct model_message *will = &model.messages[how->will];
        (void)snprintf(text, sizeof text, "%u", (uint32_t)how->will);
        packet.will_qos = will->qos;
        packet.will_retain = will->retain;
        packet.will_topic = slice_str(sim_topics[will->topic]);
        packet.will_payload = slice_str(text);
        props_make(&packet.will_props, props, PROPS_PACKET_WILL, (uint32_t)how->will, 0x18,
                   how->will_delay_s);
    }
    const struct link_connect req = {.packet = &packet, .keep_alive_s = 60};
    model_connect(index, how);
    link_connect(world.bed->broker, &wire->link, &req);
    /* The answer may wait for the log; the client does. */
    for (int i = 0; i < 100000 && !wire->answered; i++)
        (void)world_turn(1);
    CHECK(wire->answered, "c%d: no CONNACK", index);
    world_notice();
}

void world_lose(int index)
{
    struct wire *wire = wire_of(index);
    wire->open = false;
    model_lost(index, false);
    link_lost(&wire->link, 0);
    world_notice();
}

void world_disconnect(int index, bool with_will, bool has_expiry, uint32_t expiry_s)
{
    struct wire *wire = wire_of(index);
    wire->open = false;
    model_disconnected(index, with_will, has_expiry, expiry_s);
    const uint8_t reason =
        link_disconnect(&wire->link, with_will ? REASON_DISCONNECT_WITH_WILL : REASON_SUCCESS,
                        has_expiry, expiry_s);
    CHECK(reason == 0, "c%d: its DISCONNECT was refused", index);
    world_notice();
}

void world_publish(int index, uint32_t number, bool dup)
{
    struct wire *wire = wire_of(index);
    const struct model_message *message = &model.messages[number];
    char text[16] = "";
    uint8_t props[PROPS_SIZE];
    if (!message->empty)
        (void)snprintf(text, sizeof text, "%u", number);
    struct packet_publish packet = {.dup = dup,
                                    .retain = message->retain,
                                    .qos = message->qos,
                                    .topic = slice_str(sim_topics[message->topic]),
                                    .payload = slice_str(text)};
    for (uint16_t slot = 0; slot < SLOTS && message->qos > 0; slot++) {
        const struct slot *held = &model.clients[index].slots[slot];
        if (held->state != SLOT_FREE && held->number == number)
            packet.packet_id = slot + 1;
    }
    props_make(&packet.props, props, PACKET_PUBLISH, number, 0x02, message->expiry_s);
    model_submit(index, number, core_head(world.bed->broker));
    link_publish(&wire->link, &packet, packet.topic);
    if (message->qos == 0)
        model_qos0_sent(number);
    world_notice();
}

void world_ask(int index, struct ask ask)
{
    struct wire *wire = wire_of(index);
    const bool is_v5 = wire->link.version == MQTT_V5;
    uint8_t bytes[TEXT_MAX], reason;
    size_t size = 0;
    ask.packet_id = world.bed->packet_id = (uint16_t)(world.bed->packet_id % 60000 + 1);
    bytes[size++] = (uint8_t)(ask.packet_id >> 8);
    bytes[size++] = (uint8_t)ask.packet_id;
    if (is_v5)
        bytes[size++] = ask.id && !ask.off ? 2 : 0;
    if (is_v5 && ask.id && !ask.off) {
        bytes[size++] = 0x0B;
        bytes[size++] = (uint8_t)ask.id;
    }
    put_text(bytes, &size, sim_filters[ask.filter]);
    if (!ask.off)
        bytes[size++] =
            (uint8_t)(ask.qos | ask.no_local << 2 | ask.as_published << 3 | ask.handling << 4);
    const struct slice body = slice_of(bytes, size);
    model_asked(index, &ask);
    if (ask.off) {
        struct packet_unsubscribe packet;
        const int err = dec_unsubscribe(body, wire->link.version, &packet, &reason);
        ASSERT(err == 0);
        link_unsubscribe(&wire->link, &packet);
    } else {
        struct packet_subscribe packet;
        const int err = dec_subscribe(body, wire->link.version, &packet, &reason);
        ASSERT(err == 0);
        link_subscribe(&wire->link, &packet);
    }
    world_notice();
}

void world_ack(int index, uint8_t type, uint16_t packet_id)
{
    model_sends_ack(index, type, packet_id);
    link_ack(&wire_of(index)->link, type, packet_id, 0);
    world_notice();
}

struct packet *world_next(int index)
{
    struct wire *wire = wire_of(index);
    return wire->open && wire->read < wire->count ? &wire->packets[wire->read++] : NULL;
}

bool world_unread(int index)
{
    const struct wire *wire = wire_of(index);
    return wire->open && wire->read < wire->count;
}

bool world_is_full(int index)
{
    return wire_of(index)->full;
}

void world_fill(int index, bool full)
{
    struct wire *wire = wire_of(index);
    const bool was_full = wire->full;
    wire->full = full;
    if (was_full && !full && wire->open)
        link_writable(&wire->link);
    world_notice();
}

/* --- the server and its engine ------------------------------------------------------------------
 */

static void world_clock(uint64_t ms)
{
    world.bed->now_ms += ms;
    model_clock(world.bed->now_ms);
    timer_set_advance(world.bed->timers, world.bed->now_ms);
    world_notice();
}

bool world_turn(uint32_t completions)
{
    const int err = loop_turn(world.bed->loop, 0);
    ASSERT(err == 0);
    const uint32_t steps = mem_store_step(world.bed->store, completions);
    world_notice();
    return steps > 0;
}

void world_pass(uint64_t ms)
{
    world_clock(ms);
}

void world_settle(void)
{
    for (int quiet = 0, turns = 0; quiet < 3; turns++) {
        CHECK(turns < 100000, "it goes round in circles");
        const bool stepped = world_turn(UINT32_MAX);
        const int64_t wait_ms = timer_set_wait_ms(world.bed->timers);
        const bool due = wait_ms >= 0 && wait_ms <= 1;
        if (due)
            world_clock(1);
        quiet = stepped || due ? 0 : quiet + 1;
    }
}

static void wires_cut(void)
{
    for (int i = 0; i < CLIENTS; i++)
        world.wires[i][0].open = world.wires[i][1].open = false;
}

void world_kill(bool lazy_survives, uint64_t down_ms)
{
    wires_cut();
    world.bed->now_ms += down_ms;
    bed_kill(world.bed, lazy_survives);
    world.failed = mem_store_failed(world.bed->store);
    model.now_ms = world.bed->now_ms;
    model_killed(false, 0);
    world_clock(0);
}

void world_restart(uint64_t down_ms)
{
    bool idle = false;
    const uint32_t failed = mem_store_failed(world.bed->store);
    const bool late = mem_store_failing(world.bed->store); /* to be told while it ends */
    broker_drain(world.bed->broker, bed_idle, &idle);
    for (int i = 0; i < 100000 && !idle; i++)
        (void)world_turn(UINT32_MAX);
    CHECK(idle, "the server does not end");
    wires_cut();
    world.bed->now_ms += down_ms;
    bed_stop(world.bed);
    mem_store_crash(&world.bed->store, &world.bed->meta, true);
    const bool orderly = !late && world.failed == failed; /* or as good as killed */
    world.failed = mem_store_failed(world.bed->store);
    bed_start(world.bed);
    model.now_ms = world.bed->now_ms;
    model_killed(orderly, down_ms);
    world_clock(0);
}

void world_fail_append(uint32_t n)
{
    mem_store_fail_append(world.bed->store, n, n ? -EIO : 0);
}

void world_slow_reads(bool slow)
{
    mem_store_slow_reads(world.bed->store, slow);
}

void world_trim(uint32_t percent)
{
    struct store_stats stats;
    world.bed->store->ops->stats(world.bed->store, &stats);
    const uint64_t position =
        stats.first_position + (stats.head_position - stats.first_position) * percent / 100;
    model_trimmed(position);
    mem_store_trim(world.bed->store, position);
    world_notice();
}

void world_open(void)
{
    memset(&world.turn, 0, sizeof world.turn);
    for (int i = 0; i < CLIENTS; i++)
        world.wires[i][0].open = world.wires[i][1].open = false;
    world.bed = bed_open();
    world.bed->config.max_inflight = 24;
    broker_configure(world.bed->broker, &world.bed->config);
    world.failed = 0;
    model_begin();
    model.now_ms = world.bed->now_ms;
}

void world_close(void)
{
    bed_close(world.bed);
}
