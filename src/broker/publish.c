/* Publishing: the one way in for messages of clients, wills and the server itself.
 *
 * topic admitted -> filters matched -> one record with the queues it belongs to (and, atomically,
 * the packet ID of QoS 2, the retained pointer, the target's queue for point-to-point) -> when it
 * is durable: answer, then delivery. QoS 0 is delivered at once and appended behind.
 */
#include "broker/publish.h"

#include "auth/devices.h"
#include "base/mem.h"
#include "broker/rows.h"
#include "mqtt/topic.h"

#include <stdlib.h>
#include <string.h>

/* One message on its way into the store. */
struct publish {
    struct store_append append;
    struct list node; /* session->publishing, while somebody waits for the answer */
    struct broker *broker;
    struct session *session; /* whose packet_id it is, or NULL */
    struct link *link;       /* who gets the answer, or NULL when gone */
    struct publish *next_free;
    uint32_t *queue_ids;       /* own copy: of the append's, for the delivery */
    struct retained *retained; /* the entry that will point here, or NULL */
    struct will_job *will;     /* whose will it is, or NULL */
    struct slice topic;        /* with retained: owned */
    uint16_t queue_room;
    uint16_t packet_id;
    uint8_t qos;
    bool matched;
    bool again; /* a will that was delivered before */
};

static struct publish *publish_new(struct broker *broker, uint16_t queue_count)
{
    struct publish *publish = broker->free_publishes;
    if (publish)
        broker->free_publishes = publish->next_free;
    else
        publish = mem_new(sizeof *publish);
    if (queue_count > publish->queue_room) {
        mem_free(publish->queue_ids);
        publish->queue_ids = mem_new(queue_count * sizeof *publish->queue_ids);
        publish->queue_room = queue_count;
    }
    publish->broker = broker;
    list_init(&publish->node);
    return publish;
}

static void publish_release(struct publish *publish)
{
    struct broker *broker = publish->broker;
    list_remove(&publish->node);
    core_free(&publish->topic);
    publish->retained = NULL;
    publish->will = NULL;
    publish->again = false;
    publish->next_free = broker->free_publishes;
    broker->free_publishes = publish;
}

void publish_free_all(struct broker *broker)
{
    while (broker->free_publishes) {
        struct publish *publish = broker->free_publishes;
        broker->free_publishes = publish->next_free;
        mem_free(publish->queue_ids);
        mem_free(publish);
    }
}

void publish_detach(struct session *session)
{
    list_each_safe (it, &session->publishing) {
        struct publish *publish = CONTAINER_OF(it, struct publish, node);
        publish->link = NULL;
        if (publish->qos == 2)
            continue; /* the next connection may ask for it with DUP */
        publish->session = NULL;
        list_remove(it);
        publish_answered(session);
        session->storing--;
    }
}

void publish_forget(struct session *session)
{
    list_each_safe (it, &session->publishing) {
        struct publish *publish = CONTAINER_OF(it, struct publish, node);
        publish->link = NULL;
        publish->session = NULL;
        list_remove(it);
    }
}

/* --- answers ------------------------------------------------------------------------------------
 */

/* Spec: [MQTT3-3.3.4-1] [MQTT5-3.3.4-1] */
static void answer(struct link *link, uint8_t qos, uint16_t packet_id, uint8_t reason,
                   const char *text)
{
    if (link && qos > 0)
        link->ops->ack(link, qos == 1 ? PACKET_PUBACK : PACKET_PUBREC, packet_id, reason, text);
}

/* The packet ID is not kept: its next PUBLISH is a new message. Spec: [MQTT5-4.3.3-9] */
static int refuse(struct broker *broker, const struct publish_request *request, int err)
{
    uint8_t reason = REASON_QUOTA_EXCEEDED;
    const char *text = NULL;
    char missing[TOPIC_TEXT_SIZE];
    if (err == ERR_NOTFOUND) {
        reason = REASON_TOPIC_INVALID;
        text = topic_missing_text(topic_first(request->topic), missing);
    } else if (err == ERR_INVALID) {
        reason = REASON_TOPIC_INVALID;
        text = "clients may not publish to this first-level topic";
    } else if (err == ERR_DENIED) {
        reason = REASON_TOPIC_INVALID;
        text = "the topic name has more levels than limits.topic_levels allows";
    } else if (err == ERR_UNAVAILABLE) {
        text = "storage takes no writes at present";
    } else if (err == ERR_AGAIN) {
        text = "storage is busy";
    } else if (err == ERR_FULL) {
        text = "a limit of the server is reached";
    } else if (err == ERR_NOMEM) {
        text = "memory.limit is reached";
    }
    struct metrics *metrics = broker->deps.metrics;
    if (request->qos == 0 && err == ERR_NOTFOUND)
        metric_add(&metrics->publish_no_topic, 1);
    else if (request->qos == 0)
        metric_add(&metrics->publish_qos0_dropped, 1);
    else
        metric_add(&metrics->publish_refused, 1);
    txn_clear(&broker->txn);
    answer(request->link, request->qos, request->packet_id, reason, text);
    return err;
}

/* Counted and logged where it was denied. */
static int refuse_denied(struct broker *broker, const struct publish_request *request)
{
    txn_clear(&broker->txn);
    answer(request->link, request->qos, request->packet_id, REASON_NOT_AUTHORIZED,
           "this client may not publish to this topic");
    return ERR_DENIED;
}

/* --- routing -------------------------------------------------------------------------------------
 */

static int id_order(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* The point-to-point target's own queue, made when its session has none yet. 0: no such session. */
static uint32_t p2p_queue(struct broker *broker, struct slice topic)
{
    struct slice first, client_id;
    if (!topic_p2p_parse(topic, &first, &client_id))
        return 0;
    struct session *session = session_find(broker, client_id);
    if (!session)
        return 0;
    if (!session->p2p) {
        const uint32_t queue_id = core_new_queue_id(broker);
        if (queue_id == 0)
            return 0;
        struct filter *filter = filter_new_private(broker, session->client_id, queue_id);
        session->p2p = sub_new(session, filter, NULL);
        session->p2p->unwritten = true;
        sub_set_qos(session->p2p, 2);
        if (session->link)
            sub_attach(session->p2p);
    }
    if (session->durable && session->p2p->unwritten) {
        row_put_sub(&broker->txn, session->p2p);
        row_put_cursor(&broker->txn, &session->p2p->cursor);
    }
    return session->p2p->filter->queue_id;
}

/* Fills broker->queue_ids, ascending. Returns their count or ERR_FULL.
 * Spec: [MQTT3-4.5.0-1] [MQTT5-4.5.0-1] */
static int route(struct broker *broker, struct slice topic, bool *ret_matched)
{
    const uint32_t p2p = p2p_queue(broker, topic);
    const struct trie_matches matches = trie_match(broker->trie, topic);
    uint32_t count = 0;
    *ret_matched = matches.count > 0 || p2p;
    if (matches.count >= FILTER_MATCH_MAX)
        return ERR_FULL;
    for (uint32_t i = 0; i < matches.count; i++) {
        const struct filter *filter = matches.values[i];
        if (filter->queue_id)
            broker->queue_ids[count++] = filter->queue_id;
    }
    if (p2p)
        broker->queue_ids[count++] = p2p;
    if (count > 1)
        qsort(broker->queue_ids, count, sizeof *broker->queue_ids, id_order);
    return (int)count;
}

/* --- storing -------------------------------------------------------------------------------------
 */

static void publish_failed(struct publish *publish)
{
    struct session *session = publish->session;
    metric_add(&publish->broker->deps.metrics->publish_refused, 1);
    if (session) {
        session->storing--;
        publish_answered(session);
        if (publish->qos == 2)
            pidmap_remove(&session->inbound, publish->packet_id);
    }
    answer(publish->link, publish->qos, publish->packet_id, REASON_QUOTA_EXCEEDED,
           "storage takes no writes at present");
}

/* The message is durable and ours. A QoS 1 packet ID is forgotten here, whatever DUP of its next
 * PUBLISH will say. Spec: [MQTT3-4.3.2-2] [MQTT5-4.3.2-4] [MQTT5-4.3.2-5] [MQTT5-4.3.3-8] */
static void publish_answer(struct publish *publish)
{
    struct session *session = publish->session;
    if (session)
        session->storing--;
    if (session && publish->qos == 1)
        publish_answered(session);
    else if (session && publish->qos == 2)
        pidmap_set(&session->inbound, publish->packet_id, INBOUND_RECEIVED);
    answer(publish->link, publish->qos, publish->packet_id,
           publish->matched ? REASON_SUCCESS : REASON_NO_MATCHING_SUBSCRIBERS, NULL);
}

static void publish_done(struct store_append *append, int err)
{
    struct publish *publish = CONTAINER_OF(append, struct publish, append);
    struct broker *broker = publish->broker;
    if (publish->retained)
        retained_stored(broker, publish->topic, publish->retained,
                        err < 0 ? NULL : &append->stored);
    if (publish->retained && err == 0 && !publish->again)
        wills_replaced(broker, publish->topic);
    if (publish->will)
        will_stored(broker, publish->will, err);
    if (err < 0) {
        publish_failed(publish);
    } else {
        publish_answer(publish);
        if (publish->qos > 0)
            deliver_event(broker, &append->stored, publish->queue_ids, append->seqs,
                          append->queue_count);
    }
    publish_release(publish);
    core_ended(broker);
}

static void publish_wait(struct publish *publish, const struct publish_request *request)
{
    struct session *session = request->session;
    publish->link = request->link;
    publish->session = session;
    publish->packet_id = request->packet_id;
    publish->qos = request->qos;
    if (!session || request->qos == 0) {
        publish->session = NULL;
        return;
    }
    session->publish_pending++;
    session->storing++;
    list_push_back(&session->publishing, &publish->node);
    if (request->qos == 2)
        pidmap_put(&session->inbound, request->packet_id, publish);
}

/* Submits with a done: QoS 1, 2, or a retained QoS 0. */
static int publish_append(struct broker *broker, const struct publish_request *request,
                          const struct message *message, uint16_t queue_count, bool matched)
{
    if (request->qos == 2 && request->session && request->session->durable)
        row_put_inbound(&broker->txn, request->session->number, request->packet_id);
    struct publish *publish = publish_new(broker, queue_count);
    if (request->retain) { /* [MQTT3-3.3.1-12] [MQTT5-3.3.1-8] */
        publish->retained = retained_storing(broker, message, &publish->topic);
        if (!publish->retained) {
            publish_release(publish);
            return ERR_NOMEM;
        }
    }
    for (uint16_t i = 0; i < queue_count; i++)
        publish->queue_ids[i] = broker->queue_ids[i];
    publish->matched = matched;
    publish->append = (struct store_append){
        .message = message,
        .queue_ids = publish->queue_ids,
        .queue_count = queue_count,
        .ops = txn_ops(&broker->txn),
        .op_count = (uint16_t)broker->txn.count,
        .level = STORE_SYNC,
        .done = publish_done,
    };
    (void)lost_retry(broker);
    const int err = store_append(broker->deps.store, &publish->append);
    if (err < 0) {
        if (publish->retained) {
            broker->retained_submitted--;
            broker->retained_finished--;
            retained_stored(broker, publish->topic, publish->retained, NULL);
        }
        publish_release(publish);
        return err == ERR_FULL ? ERR_AGAIN : err; /* ERR_FULL is for limits, which stay */
    }
    txn_clear(&broker->txn);
    broker->pending++;
    publish_wait(publish, request);
    publish->will = request->will;
    if (publish->will) {
        publish->again = publish->will->delivered;
        publish->will->storing = true;
    }
    return 0;
}

/* Without an answer: appended behind for query and trace, when configured. */
static void append_qos0(struct broker *broker, const struct message *message)
{
    if (!broker->config.qos0_log)
        return;
    struct store_append append = {.message = message, .level = STORE_LAZY};
    if (store_append(broker->deps.store, &append) < 0)
        metric_add(&broker->deps.metrics->store_append_errors, 1);
}

/* Whether something of it would stay in memory: a retained message for one more topic, or one more
 * packet identifier with the client. */
static bool publish_stays(const struct broker *broker, const struct publish_request *request)
{
    const struct session *session = request->session;
    return (request->retain && request->payload.size > 0 &&
            !retained_find(broker->retained, request->topic)) ||
           (request->qos == 2 && session && session->inbound.count >= FULL_WINDOW);
}

static int submit(struct broker *broker, const struct publish_request *request)
{
    struct topic *topic;
    const struct slice first = topic_first(request->topic);
    if (!rights_publish(broker, request->access, request))
        return refuse_denied(broker, request);
    if (topic_is_system(first))
        return refuse(broker, request, ERR_INVALID);
    if (topic_levels(request->topic) > broker->config.topic_levels_max)
        return refuse(broker, request, ERR_DENIED);
    const int admitted = topic_admit(broker, first, &topic);
    if (admitted < 0)
        return refuse(broker, request, admitted);
    const bool large = request->payload.size > broker->config.payload_max;
    if (large)
        metric_add(&broker->deps.metrics->limit_payload, 1);
    if (large || (request->retain && broker->retained_bytes > broker->config.retained_bytes_max))
        return refuse(broker, request, ERR_FULL);
    if (core_is_full(broker) && publish_stays(broker, request))
        return refuse(broker, request, ERR_NOMEM);
    const struct message message = {
        .topic = request->topic,
        .payload = request->payload,
        .props = request->props,
        .client_id = request->client_id,
        .publisher = request->publisher,
        .time_ms = core_wall_ms(broker),
        .expiry_s = request->expiry_s,
        .topic_id = topic->id,
        .qos = request->qos,
        .flags = request->retain ? MESSAGE_RETAIN : 0,
    };
    if (request->qos == 0) {
        if (!request->will || !request->will->delivered)
            (void)deliver_qos0(broker, &message);
        if (!request->retain && broker->txn.count == 0) {
            append_qos0(broker, &message);
            return 0;
        }
    }
    bool matched = true;
    const int routed = request->qos > 0 ? route(broker, request->topic, &matched) : 0;
    if (routed < 0)
        return refuse(broker, request, routed);
    const int err = publish_append(broker, request, &message, (uint16_t)routed, matched);
    if (request->will)
        request->will->delivered = request->qos == 0;
    return err < 0 ? refuse(broker, request, err) : 0;
}

int publish_submit(struct broker *broker, const struct publish_request *request)
{
    const struct devices *devices = broker->deps.devices;
    const struct slice added =
        devices ? devices_properties(devices, request->client_id) : slice_of("", 0);
    if (added.size == 0)
        return submit(broker, request);
    struct publish_request whole = *request;
    uint8_t *bytes = mem_try_alloc((size_t)request->props.size + added.size);
    if (!bytes)
        return refuse(broker, request, ERR_NOMEM);
    if (request->props.size > 0)
        memcpy(bytes, request->props.bytes, request->props.size);
    memcpy(bytes + request->props.size, added.bytes, added.size);
    whole.props = slice_of(bytes, (size_t)request->props.size + added.size);
    const int err = submit(broker, &whole);
    mem_free(bytes);
    return err;
}

/* --- PUBLISH packets
 * ------------------------------------------------------------------------------ */

/* true when the packet repeats one whose identifier is still held; it is answered if it can be.
 * Spec: [MQTT3-4.3.3-2] [MQTT5-4.3.3-10] */
static bool publish_repeated(struct session *session, struct link *link, uint16_t packet_id)
{
    void *held = pidmap_find(&session->inbound, packet_id);
    if (!held)
        return false;
    if (held == INBOUND_RECEIVED) {
        answer(link, 2, packet_id, REASON_SUCCESS, NULL);
    } else if (!inbound_is_releasing(held)) {
        struct publish *pending = held;
        pending->link = link; /* answered when it is durable */
    }
    return true;
}

void link_publish(struct link *link, const struct packet_publish *packet, struct slice topic)
{
    struct session *session = link->session;
    if (!session || session->opening)
        return;
    struct broker *broker = session->broker;
    if (packet->qos == 2 && publish_repeated(session, link, packet->packet_id))
        return;
    if (broker->quota.messages && !throttle_publish(link, packet->qos, packet->packet_id))
        return;
    /* 3.x has no such limit, so there the conn slows down and this is a flood. [MQTT5-3.3.4-7] */
    const uint32_t open = link->version < MQTT_V5 ? session->storing : session->publish_pending;
    if (packet->qos > 0 && open >= broker->config.receive_max) {
        session_kick(session, REASON_RECEIVE_MAXIMUM, "more unacknowledged messages than allowed");
        return;
    }
    uint8_t room[256];
    uint8_t *large = NULL;
    if (packet->props.forward_size > sizeof room)
        large = mem_try_alloc(packet->props.forward_size);
    struct publish_request request = {
        .topic = topic,
        .payload = packet->payload,
        .session = session,
        .link = link,
        .client_id = session->client_id,
        .publisher = session->number,
        .access = session->access,
        .expiry_s = PROPS_HAS(&packet->props, PROP_MESSAGE_EXPIRY) ? packet->props.message_expiry_s
                                                                   : MESSAGE_NO_EXPIRY,
        .packet_id = packet->packet_id,
        .qos = packet->qos,
        .retain = packet->retain,
    };
    if (props_forward(&packet->props, large ? large : room,
                      large ? packet->props.forward_size : sizeof room, &request.props) < 0)
        (void)refuse(broker, &request, ERR_NOMEM);
    else
        (void)publish_submit(broker, &request);
    mem_free(large);
}

uint32_t link_publish_pending(const struct link *link)
{
    return link->session ? link->session->storing : 0;
}
