/* Draws one history.
 *
 * Each step draws from numbers that depend on the seed and the step only, so that steps can be left
 * out without changing what the others want; one that cannot do what it wants does nothing.
 */
#include "sim.h"

#include "mqtt/frame.h"
#include "mqtt/reason.h"

static struct history {
    uint64_t random;
    bool kills, failures, trims, restarts; /* what this history has in it */
    uint32_t lossy;                        /* a connection breaks once in so many packets */
} history;

static uint64_t mix(uint64_t value)
{
    value += 0x9E3779B97F4A7C15u;
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9u;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EBu;
    return value ^ (value >> 31);
}

static uint32_t draw(uint32_t below)
{
    history.random = mix(history.random);
    return (uint32_t)(history.random >> 32) % below;
}

static bool one_in(uint32_t count)
{
    return draw(count) == 0;
}

/* --- connections --------------------------------------------------------------------------------
 */

/* c0 and c2 keep their sessions for days, c5 for as long as it is connected; the others vary. */
static uint32_t draw_expiry(int index, uint8_t version)
{
    static const uint32_t some[] = {0, 4, 40, 86400};
    if (version < 5)
        return index == 5 ? 0 : 7 * 86400;
    return index == 0 ? 86400 : index == 5 ? 0 : some[draw(4)];
}

static int64_t draw_will(int index)
{
    if (!one_in(3) || model.message_count == MESSAGES_MAX)
        return -1;
    return model_message((struct model_message){.topic = (uint8_t)draw(TOPICS),
                                                .qos = (uint8_t)draw(3),
                                                .publisher = (uint8_t)index,
                                                .retain = one_in(3),
                                                .will = true});
}

static void resend(int index)
{
    for (int slot = 0; slot < SLOTS && world_connected(index); slot++) {
        const struct slot held = model.clients[index].slots[slot];
        if (held.state == SLOT_PUBLISHED) /* [MQTT3-4.4.0-1] [MQTT5-4.4.0-1] */
            world_publish(index, held.number, true);
        else if (held.state == SLOT_RELEASED)
            world_ack(index, PACKET_PUBREL, (uint16_t)(slot + 1));
    }
}

static void connect_as(int index, struct connect how)
{
    world_connect(index, &how);
    /* A client that has no session any more does not take the one of the server. */
    if (world_connected(index) && model.clients[index].wild) {
        world_lose(index);
        how.clean = true;
        how.will = -1;
        how.expiry_s = how.version == 4 ? 0 : how.expiry_s;
        world_connect(index, &how);
    }
    if (world_connected(index))
        resend(index);
}

static void step_connect(int index)
{
    struct connect how = {.version = index == 2 || index == 5 ? 4 : 5, .will = -1};
    if (index == 3 && one_in(2))
        how.version = 4;
    how.expiry_s = draw_expiry(index, how.version);
    how.clean = how.version == 4 ? how.expiry_s == 0 : index == 5 ? one_in(2) : one_in(12);
    if (index == 2 && one_in(12)) {
        how.clean = true;
        how.expiry_s = 0;
    }
    how.receive_max = how.version == 4 || one_in(3) ? 65535 : (uint16_t)(1 + draw(6));
    how.will = draw_will(index);
    how.will_delay_s = how.version == 5 && how.will >= 0 && one_in(2) ? 1 + draw(12) : 0;
    connect_as(index, how);
}

static void step_disconnect(int index)
{
    const struct model_client *client = &model.clients[index];
    const bool is_v5 = client->how.version == 5;
    if (one_in(2)) {
        world_lose(index);
        return;
    }
    const bool has_expiry = is_v5 && client->expiry_s > 0 && one_in(3);
    world_disconnect(index, is_v5 && one_in(3), has_expiry, has_expiry ? draw_expiry(1, 5) : 0);
}

/* --- packets -------------------------------------------------------------------------------------
 */

static void step_publish(int index)
{
    struct model_client *client = &model.clients[index];
    int slot = 0;
    while (slot < SLOTS && client->slots[slot].state != SLOT_FREE)
        slot++;
    if (slot == SLOTS || model.message_count == MESSAGES_MAX)
        return;
    const bool is_v5 = client->how.version == 5;
    struct model_message message = {.topic = (uint8_t)draw(TOPICS),
                                    .qos = (uint8_t)draw(3),
                                    .publisher = (uint8_t)index,
                                    .retain = one_in(4)};
    message.empty = message.retain && one_in(4);
    if (is_v5 && one_in(6))
        message.expiry_s = one_in(2) ? 1 + draw(4) : 100000;
    const uint32_t number = model_message(message);
    if (message.qos > 0)
        client->slots[slot] = (struct slot){.state = SLOT_PUBLISHED, .number = number};
    world_publish(index, number, false);
}

static void step_ask(int index)
{
    const struct model_client *client = &model.clients[index];
    const bool is_v5 = client->how.version == 5;
    if (client->asked.filter >= 0)
        return;
    struct ask ask = {.filter = (int)draw(is_v5 ? FILTERS : SHARED), .off = one_in(3)};
    const bool shared = ask.filter >= SHARED;
    /* A member at QoS 0 may lose what it is sent, and with it the group. */
    ask.qos = (uint8_t)(shared ? 1 + draw(2) : draw(3));
    ask.handling = (uint8_t)(is_v5 && !shared ? draw(3) : 0);
    ask.no_local = is_v5 && !shared && one_in(5);
    ask.as_published = is_v5 && !shared && one_in(4);
    /* The identifier tells on which way a message came. */
    ask.id = shared ? (uint32_t)ask.filter + 1 : is_v5 && !one_in(3) ? (uint32_t)ask.filter + 1 : 0;
    world_ask(index, ask);
}

/* Acknowledges, or loses the connection instead. */
static void reply(int index, uint8_t type, uint16_t packet_id)
{
    if (history.lossy && one_in(history.lossy))
        world_lose(index);
    else
        world_ack(index, type, packet_id);
}

static void on_packet(int index, struct packet packet)
{
    switch (packet.type) {
    case PACKET_PUBLISH:
        (void)judge_reception(index, &packet);
        if (packet.qos > 0)
            reply(index, packet.qos == 1 ? PACKET_PUBACK : PACKET_PUBREC, packet.packet_id);
        break;
    case PACKET_PUBREL:
        judge_released(index, packet.packet_id);
        reply(index, PACKET_PUBCOMP, packet.packet_id);
        break;
    case PACKET_PUBREC:
        if (packet.reason < 0x80)
            reply(index, PACKET_PUBREL, packet.packet_id);
        break;
    default:
        break;
    }
}

static void read_packets(int index, uint32_t count)
{
    const struct packet *packet;
    while (count-- > 0 && (packet = world_next(index)))
        on_packet(index, *packet);
}

/* --- steps ---------------------------------------------------------------------------------------
 */

static uint64_t draw_pass(void)
{
    const uint32_t kind = draw(20);
    return kind < 14 ? draw(200) : kind < 19 ? 1000 + draw(4000) : 10000 + draw(40000);
}

static void step_fault(uint32_t kind)
{
    if (kind < 8) {
        if (history.failures)
            world_fail_append(1 + draw(6));
    } else if (kind < 14) {
        if (history.kills)
            world_kill(one_in(2), one_in(2) ? 0 : draw_pass());
    } else if (kind < 17) {
        if (history.restarts)
            world_restart(one_in(2) ? 0 : draw_pass());
    } else if (history.trims) {
        world_trim(20 + draw(81));
    }
}

static void step_any(void)
{
    const int index = (int)draw(CLIENTS);
    const bool online = world_connected(index);
    const uint32_t kind = draw(1000);
    if (kind < 240 && online)
        step_publish(index);
    else if (kind < 460)
        read_packets(index, 1 + draw(10));
    else if (kind < 640)
        (void)world_turn(draw(6));
    else if (kind < 720 && online)
        step_ask(index);
    else if (kind < 850 && (!online || one_in(25)))
        step_connect(index); /* or takes over */
    else if (kind < 880 && online)
        step_disconnect(index);
    else if (kind < 930)
        world_pass(draw_pass());
    else if (kind < 965)
        world_fill(index, !world_is_full(index));
    else if (kind < 975)
        world_slow_reads(one_in(2));
    else if (kind >= 980)
        step_fault(kind - 980);
}

/* All whose sessions last come back and answer everything; then what was promised must have come.
 */
static void settle(void)
{
    history.lossy = 0;
    world_fail_append(0);
    world_slow_reads(false);
    for (int round = 0; round < 400; round++) {
        bool busy = false;
        for (int i = 0; i < CLIENTS; i++) {
            const struct model_client *client = &model.clients[i];
            if (!world_connected(i) && client->state != SESSION_NONE && client->expiry_s > 0)
                connect_as(i, (struct connect){.version = client->how.version,
                                               .expiry_s = 86400,
                                               .receive_max = 65535,
                                               .will = -1});
            world_fill(i, false);
            read_packets(i, UINT32_MAX);
        }
        world_settle();
        if (round == 1)
            world_pass(RETRY_MS);
        for (int i = 0; i < CLIENTS; i++)
            busy |=
                world_unread(i) || (!world_connected(i) && model.clients[i].state == SESSION_SURE);
        if (!busy && round > 3)
            return;
    }
    sim_failed("it never becomes quiet");
}

void history_run(uint64_t seed, uint32_t steps, const bool *without)
{
    const uint64_t start = mix(seed);
    history = (struct history){.random = start};
    history.kills = !one_in(4);
    history.failures = one_in(3);
    history.trims = one_in(4);
    history.restarts = one_in(2);
    history.lossy = one_in(3) ? 0 : 10 + draw(40);
    world_open();
    for (sim_step = 0; sim_step < steps; sim_step++) {
        if (without && without[sim_step])
            continue;
        history.random = mix(start ^ sim_step * 0x9E3779B97F4A7C15u);
        if (sim_tracing)
            sim_trace("step %u, %llu ms", sim_step, (unsigned long long)model.now_ms);
        step_any();
    }
    settle();
    judge_finish();
    world_close();
}
