/* Simulation: the core on the model engine against a small model of what MQTT promises.
 *
 * Clients connect, subscribe, publish, acknowledge or fail to, lose connections and come back; the
 * engine completes as slowly as chance wants, appends fail, the server is killed and recovers. Each
 * published message has a number. What is checked, at every packet and at the end:
 *  - nothing is sent that the client did not subscribe to, and nothing before CONNACK (testbed.h);
 *  - an acknowledged message reaches each session that was subscribed before it was published and
 *    still is, and one member of each group;
 *  - a QoS 2 message is received once in a session; one of QoS 1 again only with DUP, when it was
 *    published again, or after the server was killed;
 *  - first receptions keep the order of publishing for each publisher, topic and QoS
 *    [MQTT3-4.6.0-6] [MQTT5-4.6.0-6];
 *  - a session that was acknowledged to exist is there on return.
 * A failing run prints its seed; TIDEMQ_SIM_SEED and TIDEMQ_SIM_STEPS replay it.
 */
#include "store/mem/mem.h"

#include "broker/testbed.h"

#include "mqtt/topic.h"

enum {
    CLIENTS = 5,
    FILTERS = 10,
    TOPICS = 7,
    WAYS = 3, /* on which a message comes: ordinary, or for one of two groups */
    MESSAGES_MAX = 20000,
    OPEN_MAX = 8, /* publishes of one client without their last answer */
    SEEDS = 60,
    STEPS = 2500,
};

static const char *const filters[FILTERS] = {
    "a", "a/+", "a/#", "+/x", "#", "b/x", "b/#", "a/x", "$share/g/a/#", "$share/h/+/x",
};

static const char *const topics[TOPICS] = {
    "a", "a/x", "a/y", "b/x", "b/y/z", "a/p2p/c1", "b/p2p/c3",
};

struct model_message {
    uint8_t topic, qos, publisher;
    bool acknowledged;
    bool must[CLIENTS];          /* the session was subscribed when it was published */
    uint8_t must_group;          /* bit 0: group g, bit 1: group h */
    uint16_t submitted;          /* times it was sent to the server */
    uint16_t got[CLIENTS][WAYS]; /* receptions that were no repetitions, in this session */
    bool was_got[WAYS];          /* in any session */
    bool got2[CLIENTS][WAYS];    /* as QoS 2, in this session */
};

struct model_sub {
    bool possible;    /* may be there: SUBSCRIBE was sent, or it is being drained */
    bool established; /* SUBACK came, no other SUBSCRIBE or UNSUBSCRIBE since */
    uint32_t since;   /* number of the first message after that */
    uint8_t qos;
};

enum open_state { OPEN_FREE, OPEN_PUBLISHED, OPEN_RELEASED };

struct open_publish {
    enum open_state state;
    uint32_t number;
};

struct model_client {
    struct client wire;
    bool clean_kind; /* always connects with a clean start and without expiry */
    bool synced;     /* something was acknowledged in this session, so that it is durable */
    uint32_t since;  /* number of the first message after that */
    struct model_sub subs[FILTERS];
    struct open_publish open[OPEN_MAX];   /* its packet ID is the index + 1 */
    int64_t received[65536];              /* QoS 2: number + 1 of what waits for PUBREL */
    uint32_t last[CLIENTS][TOPICS][3][3]; /* number + 1 of the last first reception */
    uint32_t changed; /* number of the first message after its subscriptions changed last */
    uint16_t asked_id;
    int asked_filter; /* of the SUBSCRIBE or UNSUBSCRIBE under way, or -1 */
    bool asked_off;
    uint8_t asked_qos;
};

static struct sim {
    struct bed *bed;
    uint64_t random;
    uint64_t seed;
    uint32_t step;
    uint32_t next_number;
    uint32_t killed_at; /* next_number when the server was killed last */
    struct model_message messages[MESSAGES_MAX];
    struct model_client clients[CLIENTS];
    uint32_t group_since[2]; /* a durable member since this message; UINT32_MAX: none */
} sim;

static uint32_t draw(uint32_t below)
{
    sim.random ^= sim.random << 13;
    sim.random ^= sim.random >> 7;
    sim.random ^= sim.random << 17;
    return (uint32_t)((sim.random >> 16) % below);
}

#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            (void)fprintf(stderr, "TIDEMQ_SIM_SEED=%llu, step %u: ", (unsigned long long)sim.seed, \
                          sim.step);                                                               \
            (void)fprintf(stderr, __VA_ARGS__);                                                    \
            (void)fprintf(stderr, "\n");                                                           \
            fail();                                                                                \
        }                                                                                          \
    } while (0)

static const char *filter_body(int filter)
{
    return filter >= 8 ? filters[filter] + strlen("$share/g/") : filters[filter];
}

static bool matches(int filter, int topic)
{
    return topic_match(slice_str(filter_body(filter)), slice_str(topics[topic]));
}

static int p2p_target(int topic)
{
    const char *p2p = strstr(topics[topic], "/p2p/c");
    return p2p ? p2p[strlen("/p2p/c")] - '0' : -1;
}

/* --- the client's protocol ---------------------------------------------------------------------
 */

static void sim_group_review(void)
{
    for (int group = 0; group < 2; group++) {
        bool has = false;
        for (int i = 0; i < CLIENTS; i++)
            has |= sim.clients[i].subs[8 + group].established && !sim.clients[i].clean_kind &&
                   sim.clients[i].subs[8 + group].qos > 0;
        if (!has)
            sim.group_since[group] = UINT32_MAX;
        else if (sim.group_since[group] == UINT32_MAX)
            sim.group_since[group] = sim.next_number;
    }
}

static void session_begins(struct model_client *client)
{
    const int index = (int)(client - sim.clients);
    client->synced = false;
    memset(client->subs, 0, sizeof client->subs);
    memset(client->received, 0, sizeof client->received);
    memset(client->last, 0, sizeof client->last);
    memset(client->open, 0, sizeof client->open);
    for (uint32_t i = 0; i < sim.next_number; i++) {
        sim.messages[i].must[index] = false;
        memset(sim.messages[i].got[index], 0, sizeof sim.messages[i].got[index]);
        memset(sim.messages[i].got2[index], 0, sizeof sim.messages[i].got2[index]);
    }
    sim_group_review();
    /* What was in flight to it may be lost to its groups. [MQTT5-4.8.2-5] */
    for (uint32_t i = 0; i < sim.next_number; i++)
        sim.messages[i].must_group = 0;
}

static void session_synced(struct model_client *client)
{
    if (!client->synced)
        client->since = sim.next_number;
    client->synced = true;
}

static void wire_lose(struct model_client *client)
{
    if (client->wire.link.session || client->wire.open)
        link_lost(&client->wire.link, 0);
    client->wire.open = false;
    client->wire.read = client->wire.count;
    client->asked_filter = -1;
    if (client->clean_kind)
        session_begins(client);
}

static void send_publish(struct model_client *client, int slot, bool dup)
{
    struct model_message *message = &sim.messages[client->open[slot].number];
    char text[16];
    (void)snprintf(text, sizeof text, "%u", client->open[slot].number);
    message->submitted++;
    client_publish(
        &client->wire, topics[message->topic], text,
        (struct options){
            .qos = message->qos, .packet_id = (uint16_t)(slot + 1), .dup = dup, .retain = false});
}

static void on_connack(struct model_client *client, bool clean)
{
    struct client *wire = &client->wire;
    CHECK(!clean || !wire->present, "%s: a clean start found a session", wire->id);
    CHECK(clean || wire->present || !client->synced, "%s: its session is gone", wire->id);
    if (!wire->present)
        session_begins(client);
    /* [MQTT3-4.4.0-1] [MQTT5-4.4.0-1] */
    for (int slot = 0; slot < OPEN_MAX && wire->open; slot++) {
        if (client->open[slot].state == OPEN_PUBLISHED)
            send_publish(client, slot, true);
        else if (client->open[slot].state == OPEN_RELEASED)
            link_ack(&wire->link, PACKET_PUBREL, (uint16_t)(slot + 1), 0);
    }
}

static void wire_connect(struct model_client *client)
{
    const char id[] = {'c', (char)('0' + (client - sim.clients)), '\0'};
    const bool clean = client->clean_kind || draw(40) == 0;
    const struct how how = {.clean = clean,
                            .expiry_s = client->clean_kind ? 0 : 3600 * 24,
                            .receive_max = (uint16_t)(draw(3) ? 1 + draw(20) : 0)};
    if (clean)
        session_begins(client);
    client_connect_begin(sim.bed, &client->wire, id, how);
    client->asked_filter = -1;
    /* The answer may wait for the log; the client does. */
    for (int i = 0; i < 100000 && !client->wire.answered; i++) {
        assert_int_equal(loop_turn(sim.bed->loop, 0), 0);
        (void)mem_store_step(sim.bed->store, 1);
    }
    CHECK(client->wire.answered, "%s: no CONNACK", id);
    if (client->wire.open)
        on_connack(client, clean);
}

/* A message that is no repetition of a QoS 2 one under way. */
static void on_first(struct model_client *client, const struct event *event, uint32_t number)
{
    const int index = (int)(client - sim.clients);
    struct model_message *message = &sim.messages[number];
    const int way = event->id_count && event->ids[0] > 8 ? (int)event->ids[0] - 8 : 0;
    const bool again = message->got[index][way] > 0;
    if (event->qos == 2) {
        CHECK(!message->got2[index][way], "%s: QoS 2 message %u came twice", client->wire.id,
              number);
        message->got2[index][way] = true;
    }
    /* A group may give a message back and forth between members. */
    if (again && event->qos > 0 && way == 0)
        CHECK(event->dup || message->got[index][way] < message->submitted || number < sim.killed_at,
              "%s: message %u came again at QoS %u without DUP", client->wire.id, number,
              event->qos);
    if (!again || !event->dup)
        message->got[index][way]++;
    message->was_got[way] = true;
    /* What waits for a subscription that goes may be overtaken by what comes through others. */
    if (again || event->dup || way > 0 || number < client->changed)
        return;
    uint32_t *last = &client->last[message->publisher][message->topic][message->qos][event->qos];
    CHECK(*last <= number + 1 || number < sim.killed_at || message->submitted > 1,
          "%s: message %u came after %u", client->wire.id, number, *last - 1);
    *last = MAX(*last, number + 1);
}

static void on_publish(struct model_client *client, const struct event *event)
{
    const uint32_t number = (uint32_t)payload_number(event);
    CHECK(number < sim.next_number, "%s: unknown message %s", client->wire.id, event->payload);
    const struct model_message *message = &sim.messages[number];
    CHECK(strcmp(event->topic, topics[message->topic]) == 0, "message %u has another topic",
          number);
    CHECK(event->qos <= message->qos, "message %u has another QoS", number);
    bool wanted = p2p_target(message->topic) == client - sim.clients;
    for (int i = 0; i < FILTERS; i++)
        wanted |= client->subs[i].possible && matches(i, message->topic);
    CHECK(wanted, "%s: message %u on %s was not subscribed to", client->wire.id, number,
          event->topic);
    int64_t *received = &client->received[event->packet_id];
    if (event->qos == 2 && *received) {
        CHECK(*received == number + 1, "%s: packet ID %u is in use", client->wire.id,
              event->packet_id);
        CHECK(event->dup, "%s: message %u without DUP", client->wire.id, number);
    } else {
        on_first(client, event, number);
    }
    const bool answers = draw(25) > 0;
    if (event->qos == 2)
        *received = number + 1;
    if (event->qos > 0 && !answers)
        wire_lose(client);
    else if (event->qos > 0)
        link_ack(&client->wire.link, event->qos == 1 ? PACKET_PUBACK : PACKET_PUBREC,
                 event->packet_id, 0);
}

static void on_answer(struct model_client *client, const struct event *event)
{
    struct open_publish *open = &client->open[event->packet_id - 1];
    const bool good = event->reason < 0x80;
    if (event->type == PACKET_PUBCOMP) {
        CHECK(open->state == OPEN_RELEASED, "%s: PUBCOMP for nothing", client->wire.id);
        open->state = OPEN_FREE;
        return;
    }
    if (event->type == PACKET_PUBREC && open->state == OPEN_RELEASED)
        return; /* of a repetition; PUBREL is on its way */
    CHECK(open->state == OPEN_PUBLISHED, "%s: an answer for nothing", client->wire.id);
    struct model_message *message = &sim.messages[open->number];
    message->acknowledged |= good;
    if (good)
        session_synced(client);
    if (event->type == PACKET_PUBACK || !good) {
        open->state = OPEN_FREE;
        return;
    }
    open->state = OPEN_RELEASED;
    if (draw(25) == 0)
        wire_lose(client);
    else
        link_ack(&client->wire.link, PACKET_PUBREL, event->packet_id, 0);
}

static void on_asked(struct model_client *client, const struct event *event)
{
    if (client->asked_filter < 0 || event->packet_id != client->asked_id)
        return;
    struct model_sub *sub = &client->subs[client->asked_filter];
    client->asked_filter = -1;
    if (event->reason >= 0x80 || event->reason == REASON_NO_SUBSCRIPTION)
        return; /* nothing was written */
    session_synced(client);
    if (event->type == PACKET_SUBACK) {
        CHECK(event->reason == client->asked_qos, "granted another QoS");
        sub->established = true;
        sub->since = sim.next_number;
        sub->qos = client->asked_qos;
    }
    sim_group_review();
}

static void on_event(struct model_client *client, const struct event *event)
{
    if (event->type == PACKET_PUBLISH) {
        on_publish(client, event);
    } else if (event->type == PACKET_PUBREL) {
        client->received[event->packet_id] = 0;
        if (draw(25) == 0)
            wire_lose(client);
        else
            link_ack(&client->wire.link, PACKET_PUBCOMP, event->packet_id, 0);
    } else if (event->type == PACKET_SUBACK || event->type == PACKET_UNSUBACK) {
        on_asked(client, event);
    } else {
        on_answer(client, event);
    }
}

static void read_events(struct model_client *client, uint32_t count)
{
    struct event *event;
    while (client->wire.open && count-- > 0 && (event = client_next(&client->wire)))
        on_event(client, event);
}

/* --- steps -------------------------------------------------------------------------------------
 */

static void step_publish(struct model_client *client)
{
    int slot = 0;
    while (slot < OPEN_MAX && client->open[slot].state != OPEN_FREE)
        slot++;
    if (!client->wire.open || slot == OPEN_MAX || sim.next_number == MESSAGES_MAX)
        return;
    const uint32_t number = sim.next_number++;
    struct model_message *message = &sim.messages[number];
    *message = (struct model_message){.topic = (uint8_t)draw(TOPICS),
                                      .qos = (uint8_t)draw(3),
                                      .publisher = (uint8_t)(client - sim.clients)};
    for (int i = 0; i < CLIENTS && message->qos > 0; i++) {
        struct model_client *other = &sim.clients[i];
        for (int k = 0; k < 8; k++)
            message->must[i] |=
                other->subs[k].established && other->subs[k].qos > 0 && matches(k, message->topic);
        message->must[i] |= p2p_target(message->topic) == i && other->synced && !other->clean_kind;
    }
    for (int group = 0; group < 2 && message->qos > 0; group++) {
        if (sim.group_since[group] != UINT32_MAX && matches(8 + group, message->topic))
            message->must_group |= (uint8_t)(1 << group);
    }
    client->open[slot] = (struct open_publish){.state = OPEN_PUBLISHED, .number = number};
    send_publish(client, slot, false);
    if (message->qos == 0)
        client->open[slot].state = OPEN_FREE;
}

/* What a changed subscription still owes is not looked at. */
static void forget_musts(struct model_client *client, int filter)
{
    const int index = (int)(client - sim.clients);
    for (uint32_t i = 0; i < sim.next_number; i++) {
        struct model_message *message = &sim.messages[i];
        if (!matches(filter, message->topic) || p2p_target(message->topic) == index)
            continue;
        bool other = false;
        for (int k = 0; k < 8; k++)
            other |= k != filter && client->subs[k].established && client->subs[k].qos > 0 &&
                     client->subs[k].since <= i && matches(k, message->topic);
        message->must[index] &= other;
        if (filter >= 8)
            message->must_group &= (uint8_t) ~(1 << (filter - 8));
    }
}

static void step_ask(struct model_client *client, bool off)
{
    if (!client->wire.open || client->asked_filter >= 0)
        return;
    const int filter = (int)draw(FILTERS);
    struct model_sub *sub = &client->subs[filter];
    /* A member at QoS 0 may lose what it is sent, and with it the group. */
    const uint8_t qos = (uint8_t)(filter < 8 ? draw(3) : 1 + draw(2));
    if (off || sub->qos != qos)
        forget_musts(client, filter);
    sub->established = false;
    sim_group_review();
    client->changed = sim.next_number;
    client->asked_filter = filter;
    client->asked_qos = qos;
    client->asked_off = off;
    if (off) {
        client_unsubscribe_begin(sim.bed, &client->wire, filters[filter]);
    } else {
        sub->possible = true;
        client_subscribe_begin(
            sim.bed, &client->wire, filters[filter],
            (struct wants){.qos = qos, .id = (uint8_t)(1 + filter), .handling = 2});
    }
    client->asked_id = sim.bed->packet_id;
}

static void step_kill(void)
{
    for (int i = 0; i < CLIENTS; i++) {
        struct model_client *client = &sim.clients[i];
        client->wire.read = client->wire.count;
        client->asked_filter = -1;
        if (client->clean_kind)
            session_begins(client);
    }
    bed_crash(sim.bed, draw(2));
    sim.killed_at = sim.next_number;
}

static void step_server(uint32_t completions)
{
    assert_int_equal(loop_turn(sim.bed->loop, 0), 0);
    (void)mem_store_step(sim.bed->store, completions);
}

static void step_time(uint64_t ms)
{
    sim.bed->now_ms += ms;
    timer_set_advance(sim.bed->timers, sim.bed->now_ms);
}

static void step_any(void)
{
    struct model_client *client = &sim.clients[draw(CLIENTS)];
    const uint32_t kind = draw(1000);
    if (kind < 250) {
        step_publish(client);
    } else if (kind < 500) {
        read_events(client, 1 + draw(10));
    } else if (kind < 700) {
        step_server(draw(6));
    } else if (kind < 760) {
        step_ask(client, draw(3) == 0);
    } else if (kind < 860) {
        if (!client->wire.open)
            wire_connect(client);
    } else if (kind < 880) {
        if (client->wire.open)
            wire_lose(client);
    } else if (kind < 890) {
        if (draw(3) == 0)
            wire_connect(client); /* takes over */
    } else if (kind < 930) {
        step_time(draw(200));
    } else if (kind < 960) {
        client->wire.full = !client->wire.full;
        if (!client->wire.full && client->wire.open)
            link_writable(&client->wire.link);
    } else if (kind < 970) {
        mem_store_slow_reads(sim.bed->store, draw(2));
    } else if (kind < 975) {
        if (sim.seed % 2) /* a failed write and a kill right after it may lose more */
            mem_store_fail_append(sim.bed->store, 1 + draw(10), -5);
    } else if (kind < 985) {
        if (sim.seed % 2 == 0)
            step_kill();
    }
}

/* All clients come back and answer everything; then what was promised must have come. */
static void settle(void)
{
    mem_store_fail_append(sim.bed->store, 0, 0);
    for (int round = 0; round < 400; round++) {
        bool busy = false;
        for (int i = 0; i < CLIENTS; i++) {
            struct model_client *client = &sim.clients[i];
            if (!client->wire.open && !client->clean_kind)
                wire_connect(client);
            if (client->wire.full && client->wire.open) {
                client->wire.full = false;
                link_writable(&client->wire.link);
            }
            read_events(client, UINT32_MAX);
        }
        bed_run(sim.bed);
        for (int i = 0; i < CLIENTS; i++)
            busy |= sim.clients[i].wire.read < sim.clients[i].wire.count ||
                    (!sim.clients[i].wire.open && !sim.clients[i].clean_kind);
        if (!busy && round > 3)
            return;
    }
    CHECK(false, "it never becomes quiet");
}

static void check_promises(void)
{
    for (uint32_t number = 0; number < sim.next_number; number++) {
        const struct model_message *message = &sim.messages[number];
        if (!message->acknowledged)
            continue;
        for (int i = 0; i < CLIENTS; i++)
            CHECK(!message->must[i] || message->got[i][0], "message %u never reached c%d", number,
                  i);
        for (int group = 0; group < 2; group++)
            CHECK(!(message->must_group & 1 << group) || message->was_got[1 + group],
                  "message %u never reached group %d", number, group);
    }
}

static void sim_run(uint64_t seed, uint32_t steps)
{
    memset(&sim, 0, sizeof sim);
    sim.seed = seed;
    sim.random = seed * 0x9E3779B97F4A7C15u + 1;
    sim.group_since[0] = sim.group_since[1] = UINT32_MAX;
    sim.bed = bed_open();
    for (int i = 0; i < CLIENTS; i++) {
        sim.clients[i].clean_kind = i == 4;
        sim.clients[i].asked_filter = -1;
    }
    for (sim.step = 0; sim.step < steps; sim.step++)
        step_any();
    settle();
    check_promises();
    bed_close(sim.bed);
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static void the_core_keeps_its_promises(void **state)
{
    (void)state;
    const uint32_t steps = (uint32_t)from_environment("TIDEMQ_SIM_STEPS", STEPS);
    const uint64_t seed = from_environment("TIDEMQ_SIM_SEED", 0);
    const uint64_t count = seed ? 1 : from_environment("TIDEMQ_SIM_SEEDS", SEEDS);
    for (uint64_t i = 1; i <= count; i++)
        sim_run(seed ? seed : i, steps);
}

const char *__asan_default_options(void);

/* A killed server leaves the memory of requests under way behind. */
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

int main(void)
{
    hash_set_seed(1);
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_core_keeps_its_promises)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
