/* What TideMQ promises (docs/durability.md, docs/mqtt-support.md), as a program.
 *
 * Time has two measures: the clock in ms, and ticks, which count what clients ask for. An
 * acknowledgement proves that all that was submitted up to the tick of its request is durable,
 * because the log is written in order. A kill takes back what is not proved: the model then holds
 * both outcomes possible until something decides. So most facts come in two strengths: what may be,
 * which limits what the server may send, and what surely is, which says what it must.
 *
 * - A session lasts as long as its connection and its expiry after it. After a kill it is there if
 *   it was acknowledged, and counts as away from the last time that is known to the log.
 * - A subscription takes part from its SUBSCRIBE on; it surely does from SUBACK on.
 * - A message reaches each session that surely subscribed to it before it was sent and still does,
 *   once it is acknowledged; and one member of each group.
 * - A will is published once its client has lost its connection and its delay has passed, or its
 *   session ends, and not if the client disconnects normally or resumes the session before.
 */
#include "sim.h"

#include "mqtt/frame.h"
#include "mqtt/reason.h"
#include "mqtt/topic.h"

#include <string.h>

const char *const sim_filters[FILTERS] = {
    "a", "a/+", "a/#", "+/x", "#", "b/x", "b/#", "a/x", "$share/g/a/#", "$share/h/+/x",
};

const char *const sim_topics[TOPICS] = {
    "a", "a/x", "a/y", "b/x", "b/y/z", "a/p2p/c1", "b/p2p/c3",
};

struct model model;

void model_begin(void)
{
    memset(&model, 0, offsetof(struct model, messages));
    memset(model.clients, 0, sizeof model.clients);
    model.tick = 1;
    for (int i = 0; i < CLIENTS; i++) {
        model.clients[i].will = -1;
        model.clients[i].asked.filter = -1;
    }
}

bool model_matches(int filter, int topic)
{
    const char *text = sim_filters[filter];
    if (filter >= SHARED)
        text += strlen("$share/g/");
    return topic_match(slice_str(text), slice_str(sim_topics[topic]));
}

int model_target(int topic)
{
    const char *p2p = strstr(sim_topics[topic], "/p2p/c");
    return p2p ? p2p[strlen("/p2p/c")] - '0' : -1;
}

uint32_t model_message(struct model_message message)
{
    ASSERT(model.message_count < MESSAGES_MAX);
    model.messages[model.message_count] = message;
    return model.message_count++;
}

/* --- sessions ------------------------------------------------------------------------------------
 */

static bool is_durable(const struct model_client *client)
{
    return client->expiry_s > 0;
}

/* What is in flight to a member that goes may be lost to its group. [MQTT5-4.8.2-5] */
static void forget_group(int filter)
{
    for (uint32_t i = 0; i < model.message_count; i++)
        model.messages[i].must_group[filter - SHARED] = false;
}

static void forget_groups(const struct model_client *client)
{
    for (int i = SHARED; i < FILTERS; i++) {
        if (client->subs[i].span_count > 0)
            forget_group(i);
    }
}

static void will_fire(int index, bool surely);

static void session_end(int index)
{
    struct model_client *client = &model.clients[index];
    if (client->state == SESSION_NONE)
        return;
    if (client->will_state == WILL_WAITING)
        will_fire(index, client->due_hi_ms != NEVER);
    client->state = SESSION_NONE;
    if (client->expiry_s + client->row_expiry_s > 0 || client->will_state != WILL_NONE ||
        client->how.will >= 0) {
        client->ended_tick = ++model.tick;
        client->ended_expiry_s = MAX(client->expiry_s, client->row_expiry_s);
    }
    forget_groups(client);
    memset(client->subs, 0, sizeof client->subs);
    memset(client->outs, 0, sizeof client->outs);
    memset(client->slots, 0, sizeof client->slots);
    memset(client->received, 0, sizeof client->received);
    memset(client->completed, 0, sizeof client->completed);
    memset(client->last, 0, sizeof client->last);
    client->kill_tick = client->start_tick = 0;
    for (uint32_t i = 0; i < model.message_count; i++) {
        model.messages[i].must[index] = false;
        memset(model.messages[i].to[index], 0, sizeof model.messages[i].to[index]);
    }
}

static void session_begin(int index)
{
    struct model_client *client = &model.clients[index];
    session_end(index);
    client->wild = false;
    client->begun_tick = client->changed_tick = client->connect_tick;
}

/* The answer to what was asked last was not seen: both may be. */
static void ask_unknown(struct model_client *client)
{
    if (client->asked.filter < 0)
        return;
    struct model_sub *sub = &client->subs[client->asked.filter];
    if (client->asked.off && sub->span_count > 0)
        sub->spans[sub->span_count - 1].end = UINT32_MAX;
    sub->sure = sub->walk_sure = false;
    client->asked.filter = -1;
    client->changed_tick = model.tick;
}

static void leaves(struct model_client *client)
{
    client->online = client->opening = false;
    client->connection++;
    client->awaited = 0;
    memset(client->resent_order, 0, sizeof client->resent_order);
    client->left_tick = model.tick;
    ask_unknown(client);
    for (int i = 0; i < OUTS; i++) { /* another member may get it */
        if (client->outs[i].way > 0 && client->outs[i].qos == 1)
            client->outs[i].used = false;
    }
}

static void will_waits(int index, uint64_t delay_ms)
{
    struct model_client *client = &model.clients[index];
    client->will_state = WILL_WAITING;
    client->will_tick = model.tick;
    client->due_lo_ms = client->due_hi_ms = model.now_ms + delay_ms;
    model_clock(model.now_ms);
}

/* The connection is gone; the session's clock runs. */
static void session_away(int index, bool with_will)
{
    struct model_client *client = &model.clients[index];
    leaves(client);
    client->end_lo_ms = client->end_hi_ms = model.now_ms + (uint64_t)client->expiry_s * 1000;
    if (client->will_state == WILL_ARMED && with_will) {
        will_waits(index, (uint64_t)client->will_delay_s * 1000);
    } else if (client->will_state == WILL_ARMED) {
        client->will_state = WILL_NONE;
        client->will_tick = model.tick;
    }
    model_clock(model.now_ms);
}

void model_clock(uint64_t now_ms)
{
    model.now_ms = now_ms;
    for (int i = 0; i < CLIENTS; i++) {
        struct model_client *client = &model.clients[i];
        if (client->will_state == WILL_WAITING && now_ms >= client->due_lo_ms)
            will_fire(i, now_ms >= client->due_hi_ms);
        else if (client->will_state == WILL_FIRED && now_ms >= client->due_hi_ms)
            will_fire(i, true);
        if (client->online || client->opening || client->state == SESSION_NONE)
            continue;
        if (now_ms >= client->end_hi_ms) {
            session_end(i);
        } else if (now_ms >= client->end_lo_ms) {
            forget_groups(client);
            client->state = SESSION_MAYBE;
        }
    }
}

void model_connect(int index, const struct connect *how)
{
    struct model_client *client = &model.clients[index];
    model.tick++;
    sim_trace("    c%d -> CONNECT v%u%s expiry %u s will %d after %u s", index, how->version,
              how->clean ? " clean" : "", how->expiry_s, (int)how->will, how->will_delay_s);
    if (client->online || client->opening)
        model_lost(index, true);
    /* One that ends with its connection is kept after a kill, but for its will only. */
    client->removes = how->clean && client->state == SESSION_SURE && client->expiry_s > 0;
    if (how->clean || client->expiry_s + client->row_expiry_s == 0)
        session_end(index);
    else if (client->expiry_s == 0 && client->will_state == WILL_WAITING)
        will_fire(index, false);
    if (client->state != SESSION_SURE && client->will_state == WILL_WAITING)
        will_fire(index, false); /* of one that is back after a kill */
    client->connect_tick = model.tick;
    client->how = *how;
    client->opening = true;
    client->connection++;
}

/* Its expiry changes, so the row may say the one from before. */
static void row_says(struct model_client *client, uint32_t expiry_s)
{
    const bool doubtful = client->left_tick == UINT32_MAX; /* that was not written, perhaps */
    client->row_expiry_s = doubtful ? MAX(client->row_expiry_s, expiry_s) : expiry_s;
    client->row_least_s = doubtful ? MIN(client->row_least_s, expiry_s) : expiry_s;
}

/* The server has taken the session over and let it go again. */
static void refused(struct model_client *client)
{
    const uint64_t old_ms = model.now_ms + (uint64_t)client->expiry_s * 1000;
    const uint64_t new_ms = model.now_ms + (uint64_t)client->how.expiry_s * 1000;
    client->expiry_s = MAX(client->expiry_s, client->how.expiry_s);
    client->wild = true;
    client->state = SESSION_MAYBE;
    client->end_lo_ms = MIN(old_ms, new_ms);
    client->end_hi_ms = MAX(old_ms, new_ms);
    client->left_tick = client->begun_tick = UINT32_MAX;
    client->will_state = WILL_NONE;
    client->will_tick = UINT32_MAX;
}

void model_connack(int index, const struct packet *packet)
{
    struct model_client *client = &model.clients[index];
    const uint32_t said =
        model.failed_tick > client->connect_tick ? UINT32_MAX : client->connect_tick;
    CHECK(client->opening, "c%d: CONNACK for nothing", index);
    client->opening = false;
    if (packet->reason) {
        CHECK(model.failed_tick > 0 && packet->reason == REASON_SERVER_UNAVAILABLE,
              "c%d: CONNACK 0x%02x", index, packet->reason);
        refused(client);
        return;
    }
    /* [MQTT3-3.2.2-1] [MQTT3-3.2.2-2] [MQTT5-3.2.2-2] [MQTT5-3.2.2-3] */
    CHECK(!packet->present || client->state != SESSION_NONE,
          "c%d: a session that had ended is back", index);
    CHECK(packet->present || client->state != SESSION_SURE, "c%d: its session is gone", index);
    if (!packet->present)
        session_begin(index);
    client->state = SESSION_SURE;
    if (packet->present || client->removes)
        client->ended_tick = 0; /* CONNACK waits for that */
    if (client->begun_tick == UINT32_MAX)
        client->begun_tick = client->connect_tick; /* its row is written again */
    client->online = true;
    if (packet->present)
        row_says(client, client->expiry_s);
    else
        client->row_expiry_s = client->row_least_s = client->how.expiry_s;
    client->expiry_s = client->how.expiry_s;
    client->row_end_ms = packet->present && said == UINT32_MAX ? client->end_lo_ms : 0;
    client->end_lo_ms = client->end_hi_ms = NEVER;
    client->left_tick = said;
    /* [MQTT5-3.1.3-9]; one that is replaced by none may be there again after a kill, but for one
     * that was surely gone before: this connection changes nothing about that. */
    if (client->how.will >= 0 || client->will_state != WILL_NONE || client->will_tick == UINT32_MAX)
        client->will_tick = said;
    if (client->removes)
        client->will_tick = 0;
    if (client->how.will >= 0)
        client->will = client->how.will;
    client->will_state = client->how.will >= 0 ? WILL_ARMED : WILL_NONE;
    client->will_delay_s = client->how.will_delay_s;
    if (!packet->present)
        client->begun_tick = said;
    /* Its row is in the log before CONNACK, but for a session that goes on while nothing can be
     * written. */
    if (said != UINT32_MAX && (client->how.will >= 0 || packet->present))
        model.proved = MAX(model.proved, client->connect_tick);
}

void model_lost(int index, bool taken_over)
{
    struct model_client *client = &model.clients[index];
    model.tick++;
    sim_trace("    c%d %s", index, taken_over ? "is taken over" : "loses its connection");
    if (client->online || client->opening)
        session_away(index, true);
}

void model_disconnected(int index, bool with_will, bool has_expiry, uint32_t expiry_s)
{
    struct model_client *client = &model.clients[index];
    model.tick++;
    sim_trace("    c%d -> DISCONNECT%s", index, with_will ? " with will" : "");
    if (has_expiry) {
        row_says(client, client->expiry_s);
        client->expiry_s = expiry_s;
    }
    session_away(index, with_will);
}

void model_will_early(int index)
{
    struct model_client *client = &model.clients[index];
    if (client->will_state == WILL_ARMED && model.failed_tick > 0)
        will_waits(index, 0);
}

/* --- publishing ------------------------------------------------------------------------------- */

static bool sub_wants(const struct model_client *client, int filter,
                      const struct model_message *message)
{
    const struct model_sub *sub = &client->subs[filter];
    const bool own = message->publisher == client - model.clients;
    return sub->sure && model_matches(filter, message->topic) && !(sub->now.no_local && own);
}

/* Who surely gets it. Called when it is handed to the server. */
static void set_musts(struct model_message *message)
{
    for (int i = 0; i < CLIENTS; i++) {
        const struct model_client *client = &model.clients[i];
        if (client->state != SESSION_SURE || (!client->online && !is_durable(client)))
            continue;
        bool must = model_target(message->topic) == i && (message->qos > 0 || client->online);
        for (int k = 0; k < SHARED; k++)
            must |= sub_wants(client, k, message) &&
                    (message->qos > 0 ? client->subs[k].now.qos > 0 : client->online);
        message->must[i] = must;
        for (int k = SHARED; k < FILTERS; k++) {
            if (sub_wants(client, k, message) && client->subs[k].now.qos > 0 &&
                is_durable(client) && message->qos > 0)
                message->must_group[k - SHARED] = true;
        }
    }
}

static bool is_subscribed(uint8_t topic, bool surely)
{
    for (int i = 0; i < CLIENTS; i++) {
        const struct model_client *client = &model.clients[i];
        if (model_target(topic) == i && !surely && client->connection > 0)
            return true; /* one that ended may be kept for its will */
        if (client->state == SESSION_NONE || (surely && client->state == SESSION_MAYBE))
            continue;
        if (model_target(topic) == i)
            return true;
        if (client->wild && surely)
            continue;
        if (client->wild)
            return true;
        for (int k = 0; k < FILTERS; k++) {
            const struct model_sub *sub = &client->subs[k];
            if ((surely ? sub->sure : sub->span_count > 0) && model_matches(k, topic))
                return true;
        }
    }
    return false;
}

static void submit(struct model_message *message)
{
    if (message->submits++ == 0) {
        message->first_tick = model.tick;
        message->first_ms = model.now_ms;
        set_musts(message);
        message->match_sure = is_subscribed(message->topic, true);
        message->match_may = is_subscribed(message->topic, false);
    }
    message->last_tick = model.tick;
    message->last_ms = model.now_ms;
}

void model_submit(int index, uint32_t number, uint64_t head)
{
    struct model_message *message = &model.messages[number];
    model.tick++;
    sim_trace("    c%d -> message %u on %s QoS %u%s%s", index, number, sim_topics[message->topic],
              message->qos, message->retain ? " RETAIN" : "", message->empty ? ", empty" : "");
    if (message->submits == 0)
        message->head = head;
    if (message->qos == 1)
        message->done_tick = 0; /* it may be stored a second time */
    submit(message);
}

void model_qos0_sent(uint32_t number)
{
    const struct model_message *message = &model.messages[number];
    for (int i = 0; i < CLIENTS; i++)
        CHECK(!message->must[i] || world_is_full(i) || message->to[i][0].sent > 0,
              "QoS 0 message %u was not sent to c%d", number, i);
}

/* Its time has come; not surely: it may be published from now on. */
static void will_fire(int index, bool surely)
{
    struct model_client *client = &model.clients[index];
    struct model_message *message = &model.messages[client->will];
    if (client->will_state != WILL_FIRED) {
        sim_trace("    the will %d QoS %u of c%d is due%s", (int)client->will, message->qos, index,
                  surely ? "" : ", perhaps");
        model.tick++;
        client->will_tick = model.tick;
        submit(message);
    }
    client->will_state = WILL_FIRED;
    if (!surely)
        return;
    message->promised = message->qos > 0;
    client->will_state = WILL_NONE;
}

/* 0x10 says that nobody subscribes. */
static void check_reason(const struct packet *packet, const struct model_message *message)
{
    if (packet->reason >= 0x80) {
        CHECK(packet->reason == REASON_QUOTA_EXCEEDED && model.failed_tick >= message->first_tick,
              "message %u was refused with 0x%02x", packet->number, packet->reason);
        return;
    }
    if (message->submits > 1)
        return;
    CHECK(packet->reason == 0 || !message->match_sure, "message %u matched nothing, it says",
          packet->number);
    CHECK(packet->reason == REASON_NO_MATCHING_SUBSCRIBERS || message->match_may,
          "message %u matched something, it says", packet->number);
}

static void on_first_answer(int index, struct slot *slot, const struct packet *packet)
{
    struct model_message *message = &model.messages[slot->number];
    check_reason(packet, message);
    CHECK((packet->type == PACKET_PUBACK) == (message->qos == 1), "c%d: answered at another QoS",
          index);
    if (packet->reason >= 0x80) {
        message->refused = true;
        slot->state = SLOT_FREE;
        return;
    }
    message->promised = true;
    if (message->done_tick == 0)
        message->done_tick = model.tick;
    if (message->first_tick > model.proved) {
        model.proved = message->first_tick;
        model.proved_ms = message->first_ms;
    }
    slot->state = packet->type == PACKET_PUBACK ? SLOT_FREE : SLOT_RELEASED;
}

/* --- subscriptions ---------------------------------------------------------------------------- */

/* What a changed subscription owes is not looked at when others do not owe it too. */
static void forget_musts(int index, int filter, bool own_only)
{
    const struct model_client *client = &model.clients[index];
    if (filter >= SHARED) {
        forget_group(filter);
        return;
    }
    for (uint32_t i = 0; i < model.message_count; i++) {
        struct model_message *message = &model.messages[i];
        if (!message->must[index] || !model_matches(filter, message->topic) ||
            model_target(message->topic) == index || (own_only && message->publisher != index))
            continue;
        bool other = false;
        for (int k = 0; k < SHARED; k++) {
            const struct model_sub *sub = &client->subs[k];
            other |= k != filter && sub_wants(client, k, message) && sub->stored_tick > 0 &&
                     sub->stored_tick < message->first_tick;
        }
        message->must[index] = other;
    }
}

static void span_open(struct model_sub *sub)
{
    if (sub->span_count > 0 && sub->spans[sub->span_count - 1].end == UINT32_MAX)
        return;
    if (sub->span_count == SPANS) {
        sub->spans[0].end = sub->spans[1].end;
        memmove(&sub->spans[1], &sub->spans[2], (SPANS - 2) * sizeof sub->spans[0]);
        sub->span_count--;
    }
    sub->spans[sub->span_count++] = (struct span){.begin = model.tick, .end = UINT32_MAX};
}

void model_asked(int index, const struct ask *ask)
{
    struct model_client *client = &model.clients[index];
    struct model_sub *sub = &client->subs[ask->filter];
    const bool was_sure = sub->sure;
    const bool was_on = sub->span_count > 0 && sub->spans[sub->span_count - 1].end == UINT32_MAX;
    model.tick++;
    sim_trace("    c%d -> %s %s QoS %u handling %u", index, ask->off ? "UNSUBSCRIBE" : "SUBSCRIBE",
              sim_filters[ask->filter], ask->qos, ask->handling);
    client->asked = *ask;
    client->changed_tick = model.tick;
    sub->sure = false;
    if (ask->off) {
        if (was_on)
            sub->spans[sub->span_count - 1].end = model.tick;
        forget_musts(index, ask->filter, false);
        sub->walk_sure = false;
        return;
    }
    if (!was_on || ask->qos == 0)
        forget_musts(index, ask->filter, false);
    else if (ask->no_local)
        forget_musts(index, ask->filter, true);
    span_open(sub);
    if (ask->qos == 0)
        sub->stored_tick = 0;
    else if (!was_on || sub->stored_tick == 0)
        sub->stored_tick = model.tick;
    sub->now = *ask;
    sub->qos_most = MAX(sub->qos_most, ask->qos);
    sub->rap_ever |= ask->as_published;
    sub->walk_sure &= !ask->no_local && !sub->nl_before;
    sub->nl_before = ask->no_local;
    if (ask->handling == 0 || (ask->handling == 1 && !was_sure)) {
        sub->walks++;
        sub->walk_before = sub->walk_tick;
        sub->walk_tick = model.tick;
        sub->walk_sure = ask->handling == 0 || !was_on;
    }
}

static void on_asked(int index, const struct packet *packet)
{
    struct model_client *client = &model.clients[index];
    CHECK(client->asked.filter >= 0 && client->asked.packet_id == packet->packet_id,
          "c%d: SUBACK or UNSUBACK for nothing", index);
    struct model_sub *sub = &client->subs[client->asked.filter];
    CHECK(client->asked.off == (packet->type == PACKET_UNSUBACK), "c%d: the wrong answer", index);
    if (client->asked.off) {
        CHECK(packet->reason == 0 || packet->reason == REASON_NO_SUBSCRIPTION,
              "c%d: UNSUBACK 0x%02x", index, packet->reason);
    } else if (packet->reason >= 0x80) {
        CHECK(model.failed_tick > 0, "c%d: SUBACK 0x%02x", index, packet->reason);
        ask_unknown(client);
        return;
    } else {
        CHECK(packet->reason == client->asked.qos, "c%d: granted another QoS", index);
        sub->sure = true;
    }
    client->asked.filter = -1;
}

void model_answer(int index, const struct packet *packet)
{
    struct model_client *client = &model.clients[index];
    CHECK(client->online, "c%d: packet type %u without a connection", index, packet->type);
    if (packet->type == PACKET_SUBACK || packet->type == PACKET_UNSUBACK) {
        on_asked(index, packet);
        return;
    }
    CHECK(packet->packet_id >= 1 && packet->packet_id <= SLOTS, "c%d: an answer for nothing",
          index);
    struct slot *slot = &client->slots[packet->packet_id - 1];
    if (packet->type == PACKET_PUBCOMP) {
        CHECK(slot->state == SLOT_RELEASED && slot->releases > 0, "c%d: PUBCOMP for nothing",
              index);
        CHECK(packet->reason == 0 || slot->releases > 1, "c%d: PUBCOMP 0x%02x", index,
              packet->reason);
        *slot = (struct slot){.state = SLOT_FREE};
    } else if (slot->state == SLOT_PUBLISHED) {
        on_first_answer(index, slot, packet);
    } else {
        CHECK(packet->type == PACKET_PUBREC && slot->state == SLOT_RELEASED,
              "c%d: an answer for nothing", index);
    }
}

void model_sends_ack(int index, uint8_t type, uint16_t packet_id)
{
    struct model_client *client = &model.clients[index];
    model.tick++;
    sim_trace("    c%d -> type %u id %u", index, type, packet_id);
    if (type == PACKET_PUBREL) {
        client->slots[packet_id - 1].releases++;
        return;
    }
    struct out *out = judge_find(client, packet_id);
    if (!out)
        return; /* a repeated acknowledgement */
    struct receipt *receipt = &model.messages[out->number].to[index][out->way];
    if (type == PACKET_PUBREC) {
        out->state = MAX(out->state, OUT_RECEIVED);
        return;
    }
    if (type == PACKET_PUBACK && !out->walk)
        receipt->acked_ms = model.now_ms;
    if (type == PACKET_PUBCOMP)
        client->completed[packet_id / 8] |= (uint8_t)(1 << packet_id % 8);
    if (out->connection == client->connection)
        client->awaited--;
    out->used = false;
}

/* --- faults --------------------------------------------------------------------------------------
 */

static void doubt(uint32_t *tick)
{
    if (*tick > model.call_tick)
        *tick = UINT32_MAX;
}

/* What was submitted in this call may not be in the log, whatever is proved later. */
void model_write_failed(void)
{
    sim_trace("    a write fails");
    model.failed_tick = ++model.tick;
    model.failed_ms = model.now_ms;
    for (int i = 0; i < CLIENTS; i++) {
        struct model_client *client = &model.clients[i];
        doubt(&client->begun_tick);
        doubt(&client->left_tick);
        doubt(&client->will_tick);
        doubt(&client->ended_tick);
    }
    for (uint32_t i = 0; i < model.message_count; i++) {
        struct model_message *message = &model.messages[i];
        message->doubtful |= message->will && message->last_tick > model.call_tick;
    }
}

static bool is_known(uint32_t tick, bool orderly)
{
    return tick <= model.proved || (orderly && tick != UINT32_MAX);
}

static uint64_t delay_most_ms(const struct model_client *client)
{
    return MAX((uint64_t)client->will_delay_s * 1000, GRACE_MS);
}

/* The session after a kill. Its row says that it left at a time before, or that it was there. */
static void session_killed(int index, bool orderly, uint64_t away_ms)
{
    struct model_client *client = &model.clients[index];
    const bool known = is_known(client->left_tick, orderly);
    const uint64_t row_lo_ms = model.now_ms + (uint64_t)client->row_least_s * 1000;
    const uint64_t row_hi_ms = model.now_ms + (uint64_t)client->row_expiry_s * 1000;
    const uint64_t now_ms = model.now_ms - away_ms + (uint64_t)client->expiry_s * 1000;
    /* The end of the one before, and a new one, may not be in the log. */
    const bool is_new = client->state != SESSION_NONE && client->expiry_s > 0 &&
                        is_known(client->begun_tick, orderly);
    if (!is_new && !is_known(client->ended_tick, orderly)) {
        if (client->online)
            leaves(client);
        client->state = SESSION_MAYBE;
        client->wild = true;
        client->kill_tick = client->start_tick = model.tick;
        client->expiry_s = MAX(client->expiry_s, client->row_expiry_s);
        client->expiry_s = client->row_expiry_s = MAX(client->ended_expiry_s, client->expiry_s);
        client->row_least_s = 0;
        client->end_lo_ms = model.now_ms;
        client->end_hi_ms = model.now_ms + MAX(GRACE_MS, 1000ull * client->expiry_s);
        return;
    }
    if (client->state == SESSION_NONE)
        return;
    if (!is_known(client->begun_tick, orderly))
        client->state = SESSION_MAYBE;
    const bool was_online = client->online;
    if (was_online) {
        leaves(client);
        client->end_lo_ms = known ? now_ms : MIN(now_ms, row_lo_ms);
        client->end_hi_ms = known ? now_ms : MAX(now_ms, row_hi_ms);
        if (!orderly) /* it began as an orderly end, and says when it was */
            client->end_hi_ms += away_ms;
    } else if (!known) {
        client->end_lo_ms = MIN(client->end_lo_ms, MIN(now_ms, row_lo_ms));
        client->end_hi_ms = MAX(client->end_hi_ms, MAX(now_ms, row_hi_ms));
        client->left_tick = model.tick;
    }
    /* Neither its return nor that it left again: the row says when it left the time before. */
    if ((was_online || !known) && !orderly && client->row_end_ms > 0)
        client->end_lo_ms = MIN(client->end_lo_ms, client->row_end_ms);
    client->start_tick = model.tick;
    /* A will that waits keeps it. */
    if (client->will_state == WILL_WAITING)
        client->end_hi_ms = MAX(client->end_hi_ms, client->due_hi_ms == NEVER
                                                       ? client->due_lo_ms + delay_most_ms(client)
                                                       : client->due_hi_ms);
    for (int i = 0; i < OUTS; i++)
        client->outs[i].restarted = true;
    if (orderly)
        return;
    client->kill_tick = model.tick;
    for (int i = 0; i < OUTS; i++) {
        struct out *out = &client->outs[i];
        out->stale = true;
        if (out->qos == 1)
            out->used = false;
    }
}

/* An acknowledgement of a subscriber lasts once something acknowledged later was submitted behind
 * the record with its progress. */
static void settle_receipts(bool orderly)
{
    for (uint32_t i = 0; i < model.message_count; i++) {
        for (int k = 0; k < CLIENTS; k++) {
            struct receipt *receipt = &model.messages[i].to[k][0];
            const bool failed = model.failed_tick > 0 && receipt->acked_ms <= model.failed_ms;
            if (receipt->acked_ms && !failed &&
                (orderly || receipt->acked_ms + PROGRESS_MS < model.proved_ms))
                receipt->settled = true;
            receipt->acked_ms = 0;
        }
    }
}

static void will_killed(int index, bool orderly, uint64_t away_ms)
{
    struct model_client *client = &model.clients[index];
    const bool known = is_known(client->will_tick, orderly);
    const uint64_t wanted_ms = (uint64_t)client->will_delay_s * 1000;
    const uint64_t delay_ms = MAX(wanted_ms > away_ms ? wanted_ms - away_ms : 0, GRACE_MS);
    if (client->will_state == WILL_ARMED || client->will_state == WILL_WAITING) {
        if (client->will_state == WILL_ARMED)
            client->due_lo_ms = client->due_hi_ms = model.now_ms + delay_ms;
        client->due_lo_ms = MAX(client->due_lo_ms, model.now_ms + GRACE_MS);
        if (client->due_hi_ms != NEVER)
            client->due_hi_ms = model.now_ms + delay_ms;
        client->will_state = WILL_WAITING;
    } else if (!known && client->will >= 0) {
        /* Taken back, or published: neither is in the log yet, so it may come. */
        const bool published = model.messages[client->will].submits > 0;
        model.messages[client->will].promised = false;
        client->will_state = WILL_WAITING;
        client->due_lo_ms = model.now_ms + GRACE_MS;
        client->due_hi_ms =
            published && client->due_hi_ms != NEVER ? model.now_ms + delay_ms : NEVER;
    }
}

void model_killed(bool orderly, uint64_t down_ms)
{
    model.tick++;
    sim_trace("    the server is %s", orderly ? "restarted" : "killed");
    settle_receipts(orderly);
    if (orderly)
        model.proved = model.tick;
    for (uint32_t i = 0; i < model.message_count; i++) {
        struct model_message *message = &model.messages[i];
        if (!message->doubtful)
            continue;
        if (!orderly && model.now_ms - message->last_ms < RETRY_MS)
            message->promised = false;
        if (message->qos > 0)
            message->last_tick = model.tick;
        message->doubtful = false;
    }
    for (int i = 0; i < CLIENTS; i++) {
        will_killed(i, orderly, down_ms);
        session_killed(i, orderly, down_ms);
    }
    model_clock(model.now_ms);
}

void model_trimmed(uint64_t position)
{
    model.tick++;
    sim_trace("    retention");
    model.trim_tick = model.tick;
    for (uint32_t i = 0; i < model.message_count; i++) {
        struct model_message *message = &model.messages[i];
        if (message->submits == 0 || message->head >= position)
            continue;
        message->trimmed = true;
        message->trim_tick = model.tick;
        memset(message->must, 0, sizeof message->must);
        memset(message->must_group, 0, sizeof message->must_group);
    }
}
