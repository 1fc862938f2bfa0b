/* Delivery: one message to one session.
 *
 * A message that matches several subscriptions of a session is delivered once: through the
 * oldest subscription among those whose queues the record names and which had begun before it; with
 * the highest QoS and the subscription identifiers of all of them. The others skip it when they
 * come to it. One that is added later never becomes the oldest, and one that ends is drained before
 * the others go on, so the order of a topic's messages is kept. [MQTT3-3.3.5-1] [MQTT5-3.3.4-2]
 * [MQTT3-4.6.0-6] [MQTT5-4.6.0-6]
 */
#include "broker/core_priv.h"

#include "base/mem.h"
#include "mqtt/topic.h"

/* What a session gets a message with, over all its subscriptions. */
struct gather {
    const struct sub *owner; /* through which it is delivered, or NULL */
    bool wanted;             /* not only by No Local ones of its publisher */
    uint8_t qos;
    bool retain_as_published;
    uint8_t id_count;
    uint32_t ids[LINK_SUBSCRIPTION_IDS_MAX];
};

/* Leaves `ids` as it is: clearing it costs more than all else. */
static void gather_begin(struct gather *ret)
{
    ret->owner = NULL;
    ret->wanted = ret->retain_as_published = false;
    ret->qos = ret->id_count = 0;
}

bool message_gone(struct broker *broker, const struct message *message)
{
    if (message->topic_id && !topic_by_id(broker, message->topic_id))
        return true;
    if (message->expiry_s == MESSAGE_NO_EXPIRY)
        return false;
    /* [MQTT5-3.3.2-5] */
    if (core_wall_ms(broker) < message->time_ms + (uint64_t)message->expiry_s * 1000)
        return false;
    metric_add(&broker->deps.metrics->messages_expired, 1);
    return true;
}

bool session_ready(const struct session *session)
{
    return session->link && !session->kick && !session->opening && !session->blocked &&
           !session->resend && inflight_window(session) > 0;
}

/* Index of queue_id in the ascending array, or -1. */
static int queue_place(const uint32_t *queue_ids, uint16_t count, uint32_t queue_id)
{
    int low = 0, high = (int)count - 1;
    while (low <= high) {
        const int mid = (low + high) / 2;
        if (queue_ids[mid] == queue_id)
            return mid;
        if (queue_ids[mid] < queue_id)
            low = mid + 1;
        else
            high = mid - 1;
    }
    return -1;
}

/* [MQTT5-3.8.3-3] */
static bool sub_is_local(const struct sub *sub, const struct message *message)
{
    return (sub->flags & SUB_NO_LOCAL) && message->publisher != 0 &&
           slice_equal(message->client_id, sub->session->client_id);
}

/* true when the subscription was there when the message came. */
static bool sub_covers(const struct sub *sub, const struct message *message)
{
    const uint64_t position = message->position;
    if (position == 0) /* QoS 0, straight from memory */
        return sub->end_position == UINT64_MAX;
    return position >= sub->begin_position && position < sub->end_position &&
           (position < sub->hole_begin || position >= sub->hole_end);
}

/* Where the subscription begins, for this message: behind a time in which it was not there, that
 * is when it returned. */
static uint64_t sub_age(const struct sub *sub, const struct message *message)
{
    const bool returned = sub->hole_end && message->position >= sub->hole_end;
    return returned ? sub->hole_end : sub->begin_position;
}

static bool sub_goes_first(const struct sub *sub, const struct sub *other,
                           const struct message *message)
{
    if (!sub_reads_queue(sub) || !sub_reads_queue(other))
        return sub_reads_queue(sub);
    const uint64_t age = sub_age(sub, message), other_age = sub_age(other, message);
    return age < other_age || (age == other_age && sub->filter->queue_id < other->filter->queue_id);
}

static void gather_add(struct gather *gather, const struct sub *sub, const struct message *message)
{
    if (sub->denied || !sub_covers(sub, message))
        return;
    if (!gather->owner || sub_goes_first(sub, gather->owner, message))
        gather->owner = sub;
    if (sub_is_local(sub, message))
        return; /* it may be the owner all the same, because that option can change */
    gather->wanted = true;
    gather->qos = MAX(gather->qos, sub->qos);
    if (sub->flags & SUB_RETAIN_AS_PUBLISHED)
        gather->retain_as_published = true;
    if (sub->id && gather->id_count < LINK_SUBSCRIPTION_IDS_MAX)
        gather->ids[gather->id_count++] = sub->id; /* [MQTT5-3.3.4-3] [MQTT5-3.3.4-4] */
}

/* entry->queue_ids decides which queue readers take part; QoS 0 subscriptions always do. */
static void gather_matching(struct session *session, const struct store_entry *entry,
                            struct gather *gather)
{
    struct broker *broker = session->broker;
    const struct trie_matches matches =
        broker->matches ? *broker->matches : trie_match(broker->trie, entry->message.topic);
    for (uint32_t i = 0; i < matches.count; i++) {
        const struct filter *filter = matches.values[i];
        const struct sub *sub = sub_find(session, filter, NULL);
        if (!sub)
            continue;
        if (sub_reads_queue(sub) && entry->message.qos > 0 &&
            queue_place(entry->queue_ids, entry->queue_count, filter->queue_id) < 0)
            continue;
        gather_add(gather, sub, &entry->message);
    }
    if (session->p2p &&
        queue_place(entry->queue_ids, entry->queue_count, session->p2p->filter->queue_id) >= 0)
        gather_add(gather, session->p2p, &entry->message);
}

/* For a subscription that matches, alone or with others of its session. */
static void gather_for(const struct sub *sub, const struct store_entry *entry, struct gather *ret)
{
    gather_begin(ret);
    if (sub->group || sub->session->sub_count == 1)
        gather_add(ret, sub, &entry->message);
    else
        gather_matching(sub->session, entry, ret);
}

static uint32_t expiry_left_s(const struct broker *broker, const struct message *message)
{
    if (message->expiry_s == MESSAGE_NO_EXPIRY)
        return MESSAGE_NO_EXPIRY;
    const uint64_t waited_s = (core_wall_ms(broker) - message->time_ms) / 1000;
    return waited_s < message->expiry_s ? message->expiry_s - (uint32_t)waited_s : 1;
}

/* What the conn said of a PUBLISH; `too large` is as good as sent. [MQTT5-3.1.2-25] */
static enum deliver_result sent(struct session *session, int err)
{
    struct metrics *metrics = session->broker->deps.metrics;
    if (err == ERR_AGAIN) {
        session->blocked = true;
        return DELIVER_BLOCKED;
    }
    if (err == ERR_FULL) {
        metric_add(&metrics->messages_too_large, 1);
        return DELIVER_SKIPPED;
    }
    return DELIVER_DONE;
}

/* Sends a new in-flight entry, or first makes its row durable. */
static enum deliver_result deliver_new(struct inflight *inflight, struct delivery *delivery)
{
    struct session *session = inflight->session;
#ifdef MUTATION_KILL_OUTBOUND_UNWRITTEN
    if (false) {
#else
    if (inflight_needs_row(inflight)) {
#endif
        inflight->state = INFLIGHT_STORING;
        inflight_write(inflight);
        return DELIVER_DONE;
    }
    delivery->packet_id = inflight->packet_id;
    const enum deliver_result result = sent(session, session_send(session, delivery, true));
    if (result == DELIVER_DONE)
        inflight_was_sent(inflight);
    else
        inflight_undo(inflight);
    return result;
}

/* DUP stays 0 and the packet ID is new, whatever the publisher's were; RETAIN is the publisher's
 * only for Retain As Published.
 * Spec: [MQTT3-3.3.1-3] [MQTT3-3.3.1-9] [MQTT3-4.3.2-1] [MQTT3-4.3.3-1] [MQTT5-3.3.1-3]
 * [MQTT5-3.3.1-12] [MQTT5-3.3.1-13] [MQTT5-4.3.2-2] [MQTT5-4.3.3-2] */
enum deliver_result deliver_entry(struct sub *sub, struct cursor *cursor,
                                  const struct store_entry *entry)
{
    struct session *session = sub->session;
    const struct message *message = &entry->message;
    if (!session_ready(session))
        return DELIVER_BLOCKED;
    if (cursor_is_open(cursor, entry->seq) || message_gone(session->broker, message))
        return DELIVER_SKIPPED;
    if (sub->denied) {
        metric_add(&session->broker->deps.metrics->denied_deliveries, 1);
        return DELIVER_SKIPPED;
    }
    struct gather gather;
    gather_for(sub, entry, &gather);
    if (gather.owner != sub || !gather.wanted)
        return DELIVER_SKIPPED;
    struct delivery delivery = {
        .message = message,
        .expiry_s = expiry_left_s(session->broker, message),
        .qos = MIN(message->qos, gather.qos), /* [MQTT3-3.8.4-6] [MQTT5-3.8.4-8] [MQTT5-4.8.2-3] */
        .retain = gather.retain_as_published && (message->flags & MESSAGE_RETAIN),
        .subscription_id_count = gather.id_count,
        .subscription_ids = gather.ids,
    };
    if (delivery.qos == 0) /* a member of a group, or a subscription that was lowered */
        return sent(session, session_send(session, &delivery, true));
    struct inflight *inflight = inflight_new(session, cursor, entry);
    inflight->qos = delivery.qos;
    inflight->retain = delivery.retain;
    inflight->sub_id = gather.id_count ? gather.ids[0] : 0;
    inflight->group = sub->group;
    inflight->alone = sub->group != NULL;
    return deliver_new(inflight, &delivery);
}

/* It was published after the SUBSCRIBE, and the subscription gets it as any other message. */
static bool retained_is_live(const struct sub *sub, const struct store_entry *entry)
{
    const struct message *message = &entry->message;
    if (message->qos == 0 || (message->flags & MESSAGE_COPY) ||
        message->position < sub->retained_from)
        return false;
    return !sub_reads_queue(sub) ||
           queue_place(entry->queue_ids, entry->queue_count, sub->filter->queue_id) >= 0;
}

enum deliver_result deliver_retained(struct sub *sub, const struct store_entry *entry)
{
    struct session *session = sub->session;
    const struct message *message = &entry->message;
    if (sub->denied || message_gone(session->broker, message) || sub_is_local(sub, message) ||
        retained_is_live(sub, entry))
        return DELIVER_SKIPPED;
    struct delivery delivery = {
        .message = message,
        .expiry_s = expiry_left_s(session->broker, message),
        .qos = MIN(message->qos, sub->qos),
        .retain = true, /* [MQTT3-3.3.1-8] */
        .subscription_id_count = sub->id ? 1 : 0,
        .subscription_ids = &sub->id,
    };
    if (!session->link || session->blocked || session->resend)
        return DELIVER_BLOCKED;
    if (delivery.qos == 0)
        return sent(session, session_send(session, &delivery, true));
    const struct store_entry direct = {.seq = message->position, .message = *message};
    /* Open already: in flight for an overlapping subscription. */
    if (!session_ready(session) || cursor_is_open(&session->direct, direct.seq))
        return DELIVER_BLOCKED;
    struct inflight *inflight = inflight_new(session, &session->direct, &direct);
    inflight->qos = delivery.qos;
    inflight->retain = inflight->alone = true;
    inflight->sub_id = sub->id;
    cursor_touch(session->broker, &session->direct);
    return deliver_new(inflight, &delivery);
}

/* The identifiers it was or would have been sent with first. [MQTT5-3.3.4-3] [MQTT5-3.3.4-4] */
static void again_ids(const struct inflight *inflight, const struct store_entry *entry,
                      struct gather *ret)
{
    gather_begin(ret);
    if (inflight->sub_id == 0)
        return;
    if (!inflight->alone && inflight->session->sub_count > 1)
        gather_matching(inflight->session, entry, ret);
    if (ret->id_count == 0)
        ret->ids[ret->id_count++] = inflight->sub_id;
}

/* What was sent once is sent again even if it has expired since; what waited for its row until it
 * had expired is not sent at all. [MQTT5-3.3.2-5]
 * Spec: [MQTT5-4.3.3-7] [MQTT5-4.3.3-13] */
enum deliver_result deliver_again(struct inflight *inflight, const struct store_entry *entry)
{
    struct session *session = inflight->session;
    struct delivery delivery = {
        .message = &entry->message,
        .expiry_s = expiry_left_s(session->broker, &entry->message),
        .packet_id = inflight->packet_id, /* [MQTT3-4.4.0-1] [MQTT5-4.4.0-1] */
        .qos = inflight->qos,
        .retain = inflight->retain,
        .dup = inflight->sent_before, /* [MQTT3-3.3.1-1] [MQTT5-3.3.1-1] */
    };
    if (session->blocked)
        return DELIVER_BLOCKED;
    if (!inflight->sent_before && message_gone(session->broker, &entry->message))
        return DELIVER_SKIPPED;
    if (!rights_may_receive(session, inflight->group, entry->message.topic)) {
        metric_add(&session->broker->deps.metrics->denied_deliveries, 1);
        return DELIVER_SKIPPED;
    }
    struct gather gather;
    again_ids(inflight, entry, &gather);
    delivery.subscription_id_count = gather.id_count;
    delivery.subscription_ids = gather.ids;
    const enum deliver_result result = sent(session, session_send(session, &delivery, true));
    if (result == DELIVER_DONE) {
        inflight->unsent = false;
        inflight_was_sent(inflight);
    }
    return result;
}

/* To a connected subscription that does not read the queue, or a message that is in none. */
static bool deliver_live_qos0(struct sub *sub, const struct store_entry *entry)
{
    struct session *session = sub->session;
    if (session->opening || message_gone(session->broker, &entry->message))
        return false;
    if (sub->denied) {
        metric_add(&session->broker->deps.metrics->denied_deliveries, 1);
        return false;
    }
    struct gather gather;
    gather_for(sub, entry, &gather);
    if (gather.owner != sub || !gather.wanted)
        return false;
    struct delivery delivery = {
        .message = &entry->message,
        .expiry_s = expiry_left_s(session->broker, &entry->message),
        .fanout = session->broker->fanout,
        .retain = gather.retain_as_published && (entry->message.flags & MESSAGE_RETAIN),
        .subscription_id_count = gather.id_count,
        .subscription_ids = gather.ids,
    };
    const int err = session_send(session, &delivery, false);
    if (sent(session, err) == DELIVER_BLOCKED)
        metric_add(&session->broker->deps.metrics->publish_qos0_dropped, 1);
    return true;
}

/* The entry is the next one of the queue: sent now, or the subscription lags from here. */
static void deliver_live(struct sub *sub, const struct store_entry *entry)
{
    struct cursor *cursor = &sub->cursor;
    if (sub->lagging || entry->seq < cursor->next_seq)
        return;
    if (entry->seq > cursor->next_seq || session_drains(sub->session) ||
        deliver_entry(sub, cursor, entry) == DELIVER_BLOCKED) {
        sub_mark_lagging(sub);
        session_pump(sub->session);
        return;
    }
    cursor_advance(sub->session->broker, cursor, entry->seq + 1);
}

static void deliver_to_filter(struct filter *filter, const struct store_entry *entry, bool in_queue)
{
    list_each (it, &filter->live) {
        struct sub *sub = CONTAINER_OF(it, struct sub, live_node);
        if (!sub_reads_queue(sub))
            (void)deliver_live_qos0(sub, entry);
        else if (in_queue)
            deliver_live(sub, entry);
    }
    if (!in_queue)
        return;
    list_each (it, &filter->groups) {
        group_event(CONTAINER_OF(it, struct group, filter_node), entry);
    }
}

static void deliver_p2p(struct broker *broker, struct store_entry *entry, const uint64_t *seqs)
{
    struct slice first, client_id;
    if (!topic_p2p_parse(entry->message.topic, &first, &client_id))
        return;
    struct session *session = session_find(broker, client_id);
    if (!session || !session->p2p)
        return;
    session->p2p->unwritten = false;
    if (!session->link)
        return;
    const int place =
        queue_place(entry->queue_ids, entry->queue_count, session->p2p->filter->queue_id);
    if (place < 0)
        return;
    entry->seq = seqs[place];
    deliver_live(session->p2p, entry);
}

/* Only through filters that match. Spec: [MQTT3-3.3.2-3] [MQTT5-3.3.2-3] */
void deliver_event(struct broker *broker, const struct message *message, const uint32_t *queue_ids,
                   const uint64_t *seqs, uint16_t queue_count)
{
    const struct trie_matches matches = trie_match(broker->trie, message->topic);
    struct store_entry entry = {
        .message = *message, .queue_ids = queue_ids, .queue_count = queue_count};
    broker->matches = &matches;
    broker->fanout++;
    for (uint32_t i = 0; i < matches.count; i++) {
        struct filter *filter = matches.values[i];
        const int place =
            filter->queue_id ? queue_place(queue_ids, queue_count, filter->queue_id) : -1;
        entry.seq = place >= 0 ? seqs[place] : 0;
        deliver_to_filter(filter, &entry, place >= 0);
    }
    deliver_p2p(broker, &entry, seqs);
    broker->matches = NULL;
}

/* Spec: [MQTT3-4.3.1-1] [MQTT5-4.3.1-1] */
uint32_t deliver_qos0(struct broker *broker, const struct message *message)
{
    const struct store_entry entry = {.message = *message};
    const struct trie_matches matches = trie_match(broker->trie, message->topic);
    uint32_t count = 0;
    broker->matches = &matches;
    broker->fanout++;
    for (uint32_t i = 0; i < matches.count; i++) {
        struct filter *filter = matches.values[i];
        list_each (it, &filter->live) {
            count += deliver_live_qos0(CONTAINER_OF(it, struct sub, live_node), &entry);
        }
        list_each (it, &filter->groups) {
            group_event_qos0(CONTAINER_OF(it, struct group, filter_node), message);
            count++;
        }
    }
    broker->matches = NULL;
    struct slice first, client_id;
    if (!topic_p2p_parse(message->topic, &first, &client_id))
        return count;
    struct session *session = session_find(broker, client_id);
    if (!session || !session->link || session->opening)
        return count;
    struct gather gather;
    gather_begin(&gather);
    gather_matching(session, &entry, &gather);
    if (gather.wanted)
        return count; /* through a subscription of its own already */
    const struct delivery delivery = {.message = message,
                                      .expiry_s = expiry_left_s(broker, message)};
    const int err = session_send(session, &delivery, false);
    if (sent(session, err) == DELIVER_BLOCKED)
        metric_add(&broker->deps.metrics->publish_qos0_dropped, 1);
    return count + 1;
}
