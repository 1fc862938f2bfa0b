/* What the model says of PUBLISH and PUBREL: who may get a message, with what, and how often.
 *
 * On the wire, per session: a packet ID belongs to one delivery until its last acknowledgement; a
 * PUBLISH is repeated only on a later connection, with DUP and its packet ID, in the order of the
 * first time and before anything new, and never once PUBREL was sent; Receive Maximum holds.
 * To the client: a QoS 2 message comes once; one of QoS 1 again only with DUP, or when it was
 * published again, or after a kill that took back its acknowledgement; first receptions keep the
 * order of publishing for each publisher, topic and QoS.
 */
#include "sim.h"

#include "mqtt/frame.h"
#include "mqtt/reason.h"

#include <string.h>

struct out *judge_find(struct model_client *client, uint16_t packet_id)
{
    for (int i = 0; i < OUTS; i++) {
        if (client->outs[i].used && client->outs[i].packet_id == packet_id)
            return &client->outs[i];
    }
    return NULL;
}

/* --- who may get it --------------------------------------------------------------------------- */

static bool sub_may(const struct model_sub *sub, const struct model_message *message)
{
    const uint32_t until = message->done_tick ? message->done_tick : UINT32_MAX;
    for (uint8_t i = 0; i < sub->span_count; i++) {
        if (sub->spans[i].begin <= until && message->first_tick <= sub->spans[i].end)
            return true;
    }
    return false;
}

/* How often it may come because of new subscriptions. */
static uint32_t walks(const struct model_client *client, int topic)
{
    uint32_t count = 0;
    for (int k = 0; k < SHARED; k++) {
        if (model_matches(k, topic))
            count += client->subs[k].walks;
    }
    return count;
}

/* A will whose write has failed is published by the one that succeeds; at QoS 0 it was at once. */
static uint32_t published_tick(const struct model_message *message)
{
    return message->doubtful && message->qos > 0 ? UINT32_MAX : message->last_tick;
}

static bool is_replaced_before(const struct model_message *message, uint32_t tick)
{
    for (uint32_t i = 0; i < model.message_count; i++) {
        const struct model_message *other = &model.messages[i];
        if (other->retain && other->topic == message->topic && other->done_tick &&
            other->done_tick < tick && other->first_tick > published_tick(message))
            return true;
    }
    return false;
}

/* As a retained message: it was the topic's when SUBSCRIBE came, or became it later. */
static bool walk_may(const struct model_client *client, const struct model_message *message)
{
    if (!message->retain || message->empty)
        return false;
    for (int k = 0; k < SHARED; k++) {
        const struct model_sub *sub = &client->subs[k];
        if (!model_matches(k, message->topic) || sub->walks == 0)
            continue;
        if (!is_replaced_before(message, sub->walk_tick) ||
            (sub->walk_before && !is_replaced_before(message, sub->walk_before)))
            return true;
    }
    return false;
}

static bool rap_may(const struct model_client *client, const struct model_message *message)
{
    for (int k = 0; k < SHARED; k++) {
        if (client->subs[k].rap_ever && model_matches(k, message->topic))
            return true;
    }
    return false;
}

static bool may_get(int index, const struct model_message *message, const struct packet *packet)
{
    const struct model_client *client = &model.clients[index];
    if (client->wild)
        return true;
    if (packet->way > 0)
        return client->subs[SHARED + packet->way - 1].span_count > 0 &&
               model_matches(SHARED + packet->way - 1, message->topic);
    if (packet->retain && walk_may(client, message))
        return true;
    /* It was in flight at a kill: it comes again, whatever has replaced it. */
    const uint32_t sent_tick = message->to[index][0].walk1_tick;
    if (packet->retain && packet->dup && sent_tick && client->kill_tick > sent_tick)
        return true;
    if (packet->retain && !(message->retain && rap_may(client, message)))
        return false;
    if (model_target(message->topic) == index)
        return true;
    for (int k = 0; k < SHARED; k++) {
        if (model_matches(k, message->topic) && sub_may(&client->subs[k], message))
            return true;
    }
    return false;
}

/* --- what it comes with ---------------------------------------------------------------------- */

/* All of its subscriptions have been as they are since before the message was sent. */
static bool is_steady(const struct model_client *client, const struct model_message *message)
{
    if (client->wild || client->asked.filter >= 0 || client->changed_tick >= message->first_tick)
        return false;
    for (int k = 0; k < SHARED; k++) {
        const struct model_sub *sub = &client->subs[k];
        const bool on = sub->span_count > 0 && sub->spans[sub->span_count - 1].end == UINT32_MAX;
        if (on && !sub->sure && model_matches(k, message->topic))
            return false;
    }
    return true;
}

static void check_options(int index, const struct model_message *message,
                          const struct packet *packet)
{
    const struct model_client *client = &model.clients[index];
    uint8_t qos = model_target(message->topic) == index ? 2 : 0;
    bool rap = false;
    uint32_t ids[SHARED], count = 0;
    if (packet->way > 0 || !is_steady(client, message))
        return;
    for (int k = 0; k < SHARED; k++) {
        const struct model_sub *sub = &client->subs[k];
        if (!sub->sure || !model_matches(k, message->topic) ||
            (sub->now.no_local && message->publisher == index))
            continue;
        qos = MAX(qos, sub->now.qos);
        rap |= sub->now.as_published;
        if (sub->now.id)
            ids[count++] = sub->now.id;
    }
    if (packet->retain && !(rap && message->retain))
        return; /* for a new subscription */
    CHECK(packet->qos == MIN(message->qos, qos), "c%d: message %u at QoS %u, not %u", index,
          packet->number, packet->qos, MIN(message->qos, qos));
    if (packet->retain && walks(client, message->topic) > 0)
        return;
    CHECK(packet->retain == (rap && message->retain), "c%d: message %u has another RETAIN", index,
          packet->number);
    CHECK(packet->id_count == count, "c%d: message %u has %u identifiers, not %u", index,
          packet->number, packet->id_count, count);
    for (uint32_t i = 0; i < count; i++) { /* [MQTT5-3.3.4-3] [MQTT5-3.3.4-4] */
        bool found = false;
        for (uint32_t k = 0; k < count; k++)
            found |= packet->ids[k] == ids[i];
        CHECK(found, "c%d: message %u lacks identifier %u", index, packet->number, ids[i]);
    }
}

/* [MQTT5-3.3.2-5] [MQTT5-3.3.2-6] */
static void check_expiry(int index, const struct model_message *message,
                         const struct packet *packet)
{
    if (message->expiry_s == 0) {
        CHECK(packet->expiry_s == UINT32_MAX, "c%d: message %u has an expiry", index,
              packet->number);
        return;
    }
    const uint64_t waited_ms = model.now_ms - message->last_ms;
    CHECK(packet->dup || message->will || waited_ms < message->expiry_s * 1000ull,
          "c%d: message %u had expired", index, packet->number);
    if (message->submits > 1 || message->will)
        return;
    const uint64_t waited_s = waited_ms / 1000;
    const uint64_t left_s = waited_s < message->expiry_s ? message->expiry_s - waited_s : 1;
    CHECK(packet->expiry_s == left_s, "c%d: message %u has %u s left, not %u", index,
          packet->number, packet->expiry_s, (uint32_t)left_s);
}

/* --- deliveries on the wire ----------------------------------------------------------------- */

static void check_resent_first(int index, const struct model_client *client, uint8_t qos)
{
    for (int i = 0; i < OUTS; i++) {
        const struct out *out = &client->outs[i];
        const bool waits = out->used && out->state == OUT_SENT && out->qos == qos &&
                           out->connection != client->connection && out->way == 0 &&
                           !out->restarted && !model.messages[out->number].trimmed;
        CHECK(!waits, "c%d: a new message before %u was sent again", index, out->number);
    }
}

static struct out *out_same(struct model_client *client, const struct packet *packet)
{
    for (int i = 0; i < OUTS; i++) {
        struct out *out = &client->outs[i];
        if (out->used && out->number == packet->number && out->way == packet->way &&
            out->walk == packet->retain)
            return out;
    }
    return NULL;
}

static void out_new(int index, const struct packet *packet)
{
    struct model_client *client = &model.clients[index];
    const struct model_message *message = &model.messages[packet->number];
    const bool killed = client->kill_tick > message->first_tick ||
                        (packet->qos == 2 && client->start_tick > message->first_tick);
    /* After a start the row of a QoS 2 delivery does not say whether it was on its way. */
    const bool sent = message->to[index][packet->way].sent > 0;
    CHECK(!packet->dup || killed || (sent && (packet->way > 0 || model.failed_tick > 0)),
          "c%d: message %u has DUP and was not sent before", index, packet->number);
    const struct out *same = out_same(client, packet);
    CHECK(!same || same->qos == 1 || packet->retain || client->wild || message->trimmed,
          "c%d: message %u has packet ID %u and %u", index, packet->number,
          same ? same->packet_id : 0, packet->packet_id);
    if (!packet->dup)
        check_resent_first(index, client, packet->qos);
    for (int i = 0; i < OUTS; i++) {
        struct out *out = &client->outs[i];
        if (out->used)
            continue;
        *out = (struct out){.used = true,
                            .walk = packet->retain,
                            .qos = packet->qos,
                            .way = packet->way,
                            .packet_id = packet->packet_id,
                            .number = packet->number,
                            .connection = client->connection,
                            .order = ++client->next_order};
        client->awaited++;
        return;
    }
    sim_failed("c%d: too much is in flight", index);
}

static void out_again(int index, struct out *out, const struct packet *packet)
{
    struct model_client *client = &model.clients[index];
    CHECK(out->connection != client->connection, "c%d: message %u twice on one connection", index,
          packet->number); /* [MQTT5-4.4.0-1] */
    CHECK(packet->dup, "c%d: message %u again without DUP", index, packet->number);
    const bool taken_back = out->stale || model.failed_tick > 0; /* PUBREC, before PUBREL */
    CHECK(out->state == OUT_SENT || (taken_back && out->state == OUT_RECEIVED),
          "c%d: message %u again after PUBREC or PUBREL", index, packet->number);
    uint32_t *resent = &client->resent_order[packet->qos];
    CHECK(out->order > *resent || out->restarted || out->walk,
          "c%d: message %u is sent again out of order", index, packet->number);
    CHECK(out->qos == packet->qos, "c%d: message %u again at another QoS", index, packet->number);
    *resent = MAX(*resent, out->order);
    out->connection = client->connection;
    client->awaited++;
}

static void check_group(int index, struct model_message *message, const struct packet *packet)
{
    if (packet->way == 0 || packet->qos < 2)
        return;
    uint8_t *holder = &message->holder[packet->way - 1];
    CHECK(*holder == 0 || *holder == index + 1 || message->will,
          "c%d: QoS 2 message %u of a group was sent to c%d", index, packet->number, *holder - 1);
    *holder = (uint8_t)(index + 1); /* [MQTT5-4.8.2-5] */
}

void judge_publish(int index, const struct packet *packet)
{
    struct model_client *client = &model.clients[index];
    CHECK(client->online, "c%d: PUBLISH without a connection", index);
    CHECK(packet->number < model.message_count, "c%d: an unknown message", index);
    struct model_message *message = &model.messages[packet->number];
    if (message->will && message->submits == 0)
        model_will_early(message->publisher);
    CHECK(message->submits > 0, "c%d: the will %u came, and was not due", index, packet->number);
    CHECK(packet->topic == message->topic, "message %u has another topic", packet->number);
    CHECK(packet->qos <= message->qos, "message %u has another QoS", packet->number);
    struct out *out = packet->qos > 0 ? judge_find(client, packet->packet_id) : NULL;
    const bool repeats =
        out && out->number == packet->number && out->way == packet->way &&
        (packet->dup || !(message->trimmed || (out->restarted && model.failed_tick)));
    CHECK(repeats || may_get(index, message, packet), "c%d: message %u on %s%s was not asked for",
          index, packet->number, sim_topics[packet->topic], packet->retain ? ", retained," : "");
    check_expiry(index, message, packet);
    if (!repeats)
        check_options(index, message, packet);
    struct receipt *receipt = &message->to[index][packet->way];
    if (packet->qos == 0) {
        const bool killed = client->kill_tick > receipt->sent0_tick;
        receipt->sent0_tick = model.tick;
        receipt->sent++;
        receipt->sent0 = (uint16_t)(killed ? 1 : receipt->sent0 + 1);
        CHECK(receipt->sent0 <= message->submits + walks(client, message->topic) || client->wild,
              "c%d: QoS 0 message %u came twice", index, packet->number);
        return;
    }
    check_group(index, message, packet);
    if (repeats) {
        out_again(index, out, packet);
    } else {
        const bool lost = out && ((out->stale && out->qos == 2) || out->way > 0 ||
                                  model.messages[out->number].trimmed || client->wild ||
                                  (out->restarted && model.failed_tick > 0));
        CHECK(!out || lost, "c%d: packet ID %u of message %u is that of %u", index,
              packet->packet_id, packet->number, out ? out->number : 0);
        if (out)
            out->used = false;
        out_new(index, packet);
    }
    receipt->sent++;
    if (packet->retain && packet->qos == 1)
        receipt->walk1_tick = model.tick;
    CHECK(client->awaited <= client->how.receive_max, "c%d: more than its Receive Maximum", index);
}

void judge_pubrel(int index, const struct packet *packet)
{
    struct model_client *client = &model.clients[index];
    const struct out *known = judge_find(client, packet->packet_id);
    struct out *out = judge_find(client, packet->packet_id);
    if (!known) {
        const bool before = client->completed[packet->packet_id / 8] & 1 << packet->packet_id % 8;
        CHECK((before && (client->kill_tick || model.failed_tick)) || client->wild ||
                  (client->start_tick && model.trim_tick),
              /* the message went before it was sent */ "c%d: PUBREL %u for nothing", index,
              packet->packet_id);
        return;
    }
    CHECK(out->qos == 2 &&
              (out->state >= OUT_RECEIVED || client->wild || model.messages[out->number].trimmed),
          "c%d: PUBREL %u before PUBREC", index, packet->packet_id);
    out->state = OUT_RELEASED;
}

/* --- what the client receives ----------------------------------------------------------------- */

static struct received *received_find(struct model_client *client, uint16_t packet_id)
{
    for (int i = 0; i < OUTS; i++) {
        if (client->received[i].packet_id == packet_id)
            return &client->received[i];
    }
    return NULL;
}

void judge_released(int index, uint16_t packet_id)
{
    struct received *received = received_find(&model.clients[index], packet_id);
    if (received)
        received->packet_id = 0;
}

static void check_twice(int index, const struct packet *packet)
{
    const struct model_client *client = &model.clients[index];
    const struct model_message *message = &model.messages[packet->number];
    const struct receipt *receipt = &message->to[index][packet->way];
    const bool killed = client->kill_tick > receipt->last_tick;
    if (receipt->got == receipt->walked || client->wild || packet->way > 0 || packet->retain ||
        (message->submits > 1 && message->qos == 1))
        return;
    CHECK(!receipt->settled, "c%d: message %u came again, its acknowledgement was durable", index,
          packet->number);
    CHECK(packet->qos == 0 || packet->dup || killed, "c%d: message %u came again without DUP",
          index, packet->number);
}

/* [MQTT3-4.6.0-6] [MQTT5-4.6.0-6] */
static void check_order(int index, const struct packet *packet)
{
    struct model_client *client = &model.clients[index];
    const struct model_message *message = &model.messages[packet->number];
    const struct receipt *receipt = &message->to[index][packet->way];
    if (receipt->got > receipt->walked || packet->way > 0 || packet->retain || message->will ||
        client->wild)
        return;
    uint32_t *last = &client->last[message->publisher][message->topic][message->qos][packet->qos];
    CHECK(*last <= packet->number + 1 || message->submits > 1, "c%d: message %u came after %u",
          index, packet->number, *last - 1);
    *last = MAX(*last, packet->number + 1);
}

bool judge_reception(int index, const struct packet *packet)
{
    struct model_client *client = &model.clients[index];
    struct model_message *message = &model.messages[packet->number];
    struct receipt *receipt = &message->to[index][packet->way];
    struct received *received = packet->qos == 2 ? received_find(client, packet->packet_id) : NULL;
    if (received) {
        CHECK(received->number == packet->number, "c%d: packet ID %u is in use", index,
              packet->packet_id);
        CHECK(packet->dup, "c%d: message %u without DUP", index, packet->number);
        return false;
    }
    check_twice(index, packet);
    check_order(index, packet);
    receipt->got++;
    receipt->walked += packet->retain;
    *(packet->retain ? &receipt->sent0_tick : &receipt->last_tick) = model.tick;
    if (packet->qos < 2)
        return true;
    /* [MQTT3-4.3.3-2] [MQTT5-4.3.3-10] */
    const bool walk = packet->retain && packet->way == 0;
    const uint32_t most = walk ? walks(client, message->topic) + rap_may(client, message) : 1;
    uint16_t *count = walk ? &receipt->walked2 : &receipt->got2;
    CHECK(++*count <= most || client->wild, "c%d: QoS 2 message %u came %u times", index,
          packet->number, *count);
    received = received_find(client, 0);
    ASSERT(received);
    *received = (struct received){.packet_id = packet->packet_id, .number = packet->number};
    return true;
}

/* --- the end -----------------------------------------------------------------------------------
 */

static bool is_expired(const struct model_message *message)
{
    return message->expiry_s && model.now_ms >= message->first_ms + message->expiry_s * 1000ull;
}

static void finish_message(uint32_t number)
{
    const struct model_message *message = &model.messages[number];
    if (!message->promised || message->qos == 0 || is_expired(message))
        return;
    for (int i = 0; i < CLIENTS; i++)
        CHECK(!message->must[i] || message->to[i][0].got > 0 || model.clients[i].wild ||
                  !model.clients[i].online,
              "message %u never reached c%d", number, i);
    for (int group = 0; group < GROUPS; group++) {
        bool got = false, member = false;
        for (int i = 0; i < CLIENTS; i++) {
            got |= message->to[i][1 + group].got > 0;
            member |= model.clients[i].online && model.clients[i].subs[SHARED + group].sure;
        }
        CHECK(!message->must_group[group] || got || !member, "message %u never reached group %d",
              number, group);
    }
}

/* The topic's retained message, if it is surely that; or NULL. */
static const struct model_message *retained_of(int topic)
{
    const struct model_message *value = NULL;
    for (uint32_t i = 0; i < model.message_count; i++) {
        const struct model_message *message = &model.messages[i];
        if (message->topic != topic || !message->retain || message->submits == 0)
            continue;
        if (!value || published_tick(message) > published_tick(value))
            value = message;
    }
    const bool sure = value && value->done_tick && value->submits == 1 && !value->empty;
    return sure && !is_expired(value) ? value : NULL;
}

/* [MQTT3-3.3.1-6] [MQTT5-3.3.1-9] */
static void finish_walks(int index)
{
    const struct model_client *client = &model.clients[index];
    for (int topic = 0; topic < TOPICS; topic++) {
        const struct model_message *value = retained_of(topic);
        for (int k = 0; k < SHARED && value; k++) {
            const struct model_sub *sub = &client->subs[k];
            const bool own = sub->now.no_local && value->publisher == index;
            if (!sub->sure || !sub->walk_sure || !model_matches(k, topic) || own ||
                value->done_tick >= sub->walk_tick || value->trim_tick > sub->walk_tick)
                continue;
            const struct receipt *receipt = &value->to[index][0];
            if (value->trimmed && receipt->sent > 0)
                continue; /* it was on its way */
            CHECK(MAX(receipt->last_tick, receipt->sent0_tick) >= sub->walk_tick,
                  "c%d: retained message %u never came for %s", index,
                  (uint32_t)(value - model.messages), sim_filters[k]);
        }
    }
}

void judge_finish(void)
{
    for (uint32_t i = 0; i < model.message_count; i++)
        finish_message(i);
    for (int i = 0; i < CLIENTS; i++) {
        if (model.clients[i].online && !model.clients[i].wild)
            finish_walks(i);
    }
}
