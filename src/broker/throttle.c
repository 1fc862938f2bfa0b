/* Throttle: the limits of messages and of connects, where clients meet them.
 *
 * What may be said to the client is said; what lies in the store waits there: its session is
 * *blocked*, as by a full connection, until there are tokens again, and sessions that wait take
 * turns. QoS 0 that comes from memory is left out, and leaves a quarter of the tokens to the
 * others.
 */
#include "broker/core_priv.h"

#include "broker/quota_bucket.h"
#include "broker/quota_local.h"

/* Sessions that wait are asked so often, so many of them at once. Only with every other lease, so
 * that publishers get what the others bring. */
enum { WAKE_MS = 2 * QUOTA_LOCAL_LEASE_MS, WAKE_EACH = 1024 };

static void wake_due(struct timer *timer);

void throttle_init(struct broker *broker)
{
    list_init(&broker->throttled);
    broker->throttle_timer.on_due = wake_due;
    quota_init(&broker->quota, broker->deps.quota_service);
    quota_configure(&broker->quota, &broker->config);
}

void throttle_done(struct broker *broker)
{
    timer_stop(broker->deps.timers, &broker->throttle_timer);
    quota_done(&broker->quota);
}

static void watch(struct broker *broker)
{
    if (broker->throttle_timer.due_ms == 0)
        timer_start(broker->deps.timers, &broker->throttle_timer, WAKE_MS);
}

static void wake_due(struct timer *timer)
{
    struct broker *broker = CONTAINER_OF(timer, struct broker, throttle_timer);
    const bool any = quota_has(&broker->quota, QUOTA_MESSAGES, 1, false, core_now_ms(broker));
    uint32_t count = any ? WAKE_EACH : 0;
    list_each_safe (it, &broker->throttled) {
        struct session *session = CONTAINER_OF(it, struct session, throttle_node);
        if (count-- == 0)
            break;
        if (!session->blocked) { /* it was asked before, and had nothing to send */
            list_remove(it);
            continue;
        }
        session->blocked = false;
        session_pump(session);
    }
    if (!list_empty(&broker->throttled))
        watch(broker);
}

/* The limit that is in the way of a message, in either direction. */
enum limit { LIMIT_NONE, LIMIT_SERVER, LIMIT_CLIENT };

static void count_refusal(const struct broker *broker, enum limit limit)
{
    struct metrics *metrics = broker->deps.metrics;
    metric_add(limit == LIMIT_CLIENT ? &metrics->limit_client_tps : &metrics->limit_tps, 1);
}

/* One that has been sent nothing since keeps its place before those that have, as long as it waits
 * for what all want. */
static void wait_for_tokens(struct session *session, enum limit limit)
{
    struct broker *broker = session->broker;
    if (list_empty(&session->throttle_node)) {
        count_refusal(broker, limit);
        metric_add(&broker->deps.metrics->limit_deliveries_delayed, 1);
    }
    if (limit == LIMIT_CLIENT)
        list_remove(&session->throttle_node);
    if (list_empty(&session->throttle_node))
        list_push_back(&broker->throttled, &session->throttle_node);
    watch(broker);
}

static enum limit limit_reached(struct session *session, uint8_t qos)
{
    struct broker *broker = session->broker;
    struct quota *quota = &broker->quota;
    const uint64_t now_ms = core_now_ms(broker);
    const uint32_t cost = quota_weight(qos, session->durable);
    const bool spare = qos == 0;
    if (quota->client_ps > 0) {
        const int64_t depth = quota->client_ps;
        quota_bucket_fill(&session->bucket, quota->client_ps, now_ms);
        if (!quota_affords(quota_bucket_tokens(&session->bucket), depth, spare ? depth / 4 : 0,
                           cost))
            return LIMIT_CLIENT;
    }
    return quota_has(quota, QUOTA_MESSAGES, cost, spare, now_ms) ? LIMIT_NONE : LIMIT_SERVER;
}

static void spend(struct session *session, uint8_t qos)
{
    struct broker *broker = session->broker;
    const uint32_t cost = quota_weight(qos, session->durable);
    if (broker->quota.client_ps > 0)
        quota_bucket_take(&session->bucket, cost);
    quota_spend(&broker->quota, QUOTA_MESSAGES, cost, core_now_ms(broker));
}

static void count_dropped(const struct broker *broker)
{
    metric_add(&broker->deps.metrics->limit_qos0_dropped, 1);
    metric_add(&broker->deps.metrics->publish_qos0_dropped, 1);
}

/* Spec: [MQTT5-3.4.2-1] [MQTT5-3.5.2-1] */
bool throttle_publish(struct link *link, uint8_t qos, uint16_t packet_id)
{
    struct session *session = link->session;
    struct broker *broker = session->broker;
    const enum limit limit = limit_reached(session, qos);
    /* MQTT 3 has no answer that would not end the connection: there the conn has waited. */
    if (limit == LIMIT_NONE || (qos > 0 && link->version < MQTT_V5)) {
        spend(session, qos);
        return true;
    }
    count_refusal(broker, limit);
    if (qos == 0) {
        count_dropped(broker);
        return false;
    }
    metric_add(&broker->deps.metrics->publish_refused, 1);
    link->ops->ack(link, qos == 1 ? PACKET_PUBACK : PACKET_PUBREC, packet_id, REASON_QUOTA_EXCEEDED,
                   limit == LIMIT_CLIENT ? "limits.client_tps is reached"
                                         : "limits.tps is reached");
    return false;
}

int throttle_send(struct session *session, const struct delivery *delivery, bool stored)
{
    struct broker *broker = session->broker;
    const enum limit limit = limit_reached(session, delivery->qos);
    if (limit == LIMIT_NONE) {
        list_remove(&session->throttle_node);
        const int err = session->link->ops->publish(session->link, delivery);
        if (err == 0)
            spend(session, delivery->qos);
        return err;
    }
    if (stored) {
        wait_for_tokens(session, limit);
        return ERR_AGAIN;
    }
    count_refusal(broker, limit);
    count_dropped(broker);
    return 0;
}

/* Spec: [MQTT3-3.2.2-5] [MQTT5-3.2.2-7] */
uint8_t throttle_connect(struct broker *broker, bool has_will, const char **ret_text)
{
    struct quota *quota = &broker->quota;
    struct metrics *metrics = broker->deps.metrics;
    const uint64_t now_ms = core_now_ms(broker);
    if (!quota_has(quota, QUOTA_CONNECTS, 1, false, now_ms)) {
        metric_add(&metrics->limit_connect_rate, 1);
        *ret_text = "limits.connect_rate is reached";
        return REASON_CONNECTION_RATE;
    }
    if (has_will && !quota_take(quota, QUOTA_WILLS, now_ms)) {
        metric_add(&metrics->limit_will_connect_rate, 1);
        *ret_text = "limits.will_connect_rate is reached";
        return REASON_CONNECTION_RATE;
    }
    quota_spend(quota, QUOTA_CONNECTS, 1, now_ms);
    return 0;
}

bool throttle_subscribe(struct broker *broker)
{
    if (quota_take(&broker->quota, QUOTA_SUBSCRIBES, core_now_ms(broker)))
        return true;
    metric_add(&broker->deps.metrics->limit_subscribe_rate, 1);
    return false;
}

bool throttle_unsubscribe(struct link *link)
{
    struct broker *broker = link->broker;
    const uint64_t now_ms = core_now_ms(broker);
    if (link->version >= MQTT_V5 &&
        !quota_has(&broker->quota, QUOTA_UNSUBSCRIBES, 1, false, now_ms)) {
        metric_add(&broker->deps.metrics->limit_unsubscribe_rate, 1);
        return false;
    }
    quota_spend(&broker->quota, QUOTA_UNSUBSCRIBES, 1, now_ms);
    return true;
}

bool link_must_wait(struct link *link, uint8_t packet_type, uint8_t qos, bool first)
{
    struct session *session = link->session;
    if (!session || link->version >= MQTT_V5)
        return false;
    struct broker *broker = session->broker;
    struct metrics *metrics = broker->deps.metrics;
    if (packet_type == PACKET_UNSUBSCRIBE) {
        if (quota_has(&broker->quota, QUOTA_UNSUBSCRIBES, 1, false, core_now_ms(broker)))
            return false;
        metric_add(&metrics->limit_unsubscribe_rate, first);
    } else {
        if (packet_type != PACKET_PUBLISH || qos == 0 || qos > 2 || !broker->quota.messages)
            return false;
        const enum limit limit = limit_reached(session, qos);
        if (limit == LIMIT_NONE)
            return false;
        if (first)
            count_refusal(broker, limit);
    }
    metric_add(&metrics->limit_reads_held, first);
    return true;
}
