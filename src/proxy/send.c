/* What the core says to the client: encoders into the output buffer. Nothing is written here. */
#include "proxy/proxy_priv.h"

#include <string.h>

/* Small packets beyond their props. */
enum { PACKET_ROOM = 64 };

/* QoS 0 may fill this many times the output limit that applies to the others. */
enum { QOS0_ROOM = 32 };

/* So long QoS 0 may have that room while messages of the others wait. */
enum { QOS0_FIRST_MS = 1000 };

/* Room for a packet of at most `size` bytes, or bytes == NULL: the conn fails. */
static struct enc_room reserve(struct conn *conn, uint32_t size)
{
    struct enc_room room = {
        .bytes = outbuf_reserve(&conn->out, &conn->proxy->pool, size),
        .size = size,
        .packet_max = conn->packet_max,
        .version = conn->link.version,
    };
    if (!room.bytes)
        conn_fail_later(conn, REASON_QUOTA_EXCEEDED);
    return room;
}

static void commit(struct conn *conn, int size)
{
    ASSERT(size > 0);
    outbuf_commit(&conn->out, (uint32_t)size);
    conn->answers += (uint64_t)size;
    conn->proxy->counts.packets_sent++;
    conn_schedule(conn);
}

/* Adds the reason string where the client wants to know. [MQTT5-3.1.2-29] */
static void set_reason_string(const struct conn *conn, struct props *props, const char *text)
{
    if (text && conn->problem_info && conn->link.version >= MQTT_V5)
        props_set_slice(props, PROP_REASON_STRING, slice_str(text));
}

static bool is_open(const struct conn *conn)
{
    return conn->state == CONN_OPEN;
}

/* --- CONNACK ------------------------------------------------------------------------------------
 */

/* false: it could not be sent, for want of memory or because it exceeds the client's Maximum Packet
 * Size. */
static bool put_connack(struct conn *conn, bool session_present, uint8_t reason,
                        const struct props *props)
{
    const struct enc_room room = reserve(conn, PACKET_ROOM + props_size(props, UINT64_MAX));
    if (!room.bytes)
        return false;
    const int size = enc_connack(&room, session_present, reason, props);
    if (size > 0)
        commit(conn, size);
    return size > 0;
}

static void log_refusal(const struct conn *conn, uint8_t reason, const char *text)
{
    log_write(conn->proxy->deps.log, LOG_INFO, "conn", "refused CONNECT from %s: %s%s%s",
              conn->link.address, reason_text(reason), text ? ": " : "", text ? text : "");
}

void send_refusal(struct conn *conn, uint8_t reason, const char *reason_string)
{
    struct props props = {0};
    set_reason_string(conn, &props, reason_string);
    metric_add(&conn->proxy->deps.metrics->connects_refused, 1); /* the core counts its own */
    log_refusal(conn, reason, reason_string);
    (void)put_connack(conn, false, reason, &props);
    conn_close(conn);
}

/* Everything the server can do, as far as it differs from what clients assume. There is no Response
 * Information and no authentication method to tell: [MQTT5-3.1.2-28] [MQTT5-4.12.0-6] */
static void set_capabilities(const struct conn *conn, const struct connack *connack,
                             struct props *props)
{
    const struct proxy_config *config = &conn->proxy->config;
    if (connack->session_expiry_s != conn->session_expiry_asked_s)
        props_set_u32(props, PROP_SESSION_EXPIRY, connack->session_expiry_s);
    if (connack->receive_max < UINT16_MAX)
        props_set_u32(props, PROP_RECEIVE_MAX, connack->receive_max);
    if (config->packet_max < FRAME_PACKET_MAX)
        props_set_u32(props, PROP_MAX_PACKET, config->packet_max);
    if (conn->alias_in.max > 0)
        props_set_u32(props, PROP_TOPIC_ALIAS_MAX, conn->alias_in.max);
    if (connack->assigned_id.size > 0) /* [MQTT5-3.1.3-7] */
        props_set_slice(props, PROP_ASSIGNED_CLIENT_ID, connack->assigned_id);
    if (connack->keep_alive_s != conn->keep_alive_asked_s)
        props_set_u32(props, PROP_SERVER_KEEP_ALIVE, connack->keep_alive_s);
}

/* The first packet to the client, and the only one of its kind: before it, the state keeps
 * everything else back. [MQTT3-3.2.0-1] [MQTT3-3.1.4-4] [MQTT5-3.2.0-1] [MQTT5-3.2.0-2]
 * [MQTT5-3.1.4-5] */
static void on_connack(struct link *link, const struct connack *connack)
{
    struct conn *conn = CONTAINER_OF(link, struct conn, link);
    if (conn->state != CONN_CONNECTING)
        return;
    struct props props = {0};
    set_reason_string(conn, &props, connack->reason_string);
    if (connack->reason != REASON_SUCCESS) { /* [MQTT3-3.2.2-5] [MQTT5-3.2.2-7] */
        conn->linked = false;
        log_refusal(conn, connack->reason, connack->reason_string);
        (void)put_connack(conn, false, connack->reason, &props);
        conn_close(conn);
        return;
    }
    if (link->version >= MQTT_V5)
        set_capabilities(conn, connack, &props);
    conn->keep_alive_s = connack->keep_alive_s;
    if (put_connack(conn, connack->session_present, REASON_SUCCESS, &props))
        conn_open(conn);
    else
        conn_fail_later(conn, REASON_PACKET_TOO_LARGE); /* without a word: [MQTT5-3.14.0-1] */
}

/* --- PUBLISH ------------------------------------------------------------------------------------
 */

/* Fills in the head; with MQTT 5 the topic is replaced by its alias, or gets the next free one. */
static void describe(const struct conn *conn, const struct delivery *delivery,
                     struct enc_publish *publish)
{
    const struct message *message = delivery->message;
    *publish = (struct enc_publish){
        .version = conn->link.version,
        .qos = delivery->qos,
        .dup = delivery->dup,
        .retain = delivery->retain,
        .packet_id = delivery->packet_id,
        .topic = message->topic,
        .payload_size = message->payload.size,
    };
    if (conn->link.version < MQTT_V5)
        return;
    publish->forward = message->props;
    publish->has_expiry = delivery->expiry_s != MESSAGE_NO_EXPIRY;
    publish->expiry_s = delivery->expiry_s;
    publish->sub_id_count = delivery->subscription_id_count;
    publish->sub_ids = delivery->subscription_ids;
    const struct alias_table *aliases = &conn->alias_out;
    if (aliases->max == 0)
        return;                                                 /* [MQTT5-3.1.2-27] */
    publish->topic_alias = alias_find(aliases, message->topic); /* [MQTT5-3.1.2-26] */
    if (publish->topic_alias > 0)
        publish->topic = slice_of(NULL, 0);
    else if (aliases->count < aliases->max) /* [MQTT5-3.3.2-11] */
        publish->topic_alias = (uint16_t)(aliases->count + 1);
}

/* Remembers the alias that the packet now introduces. */
static void introduce_alias(struct conn *conn, const struct enc_publish *publish)
{
    if (publish->topic_alias <= conn->alias_out.count)
        return;
    const int err =
        alias_set(&conn->alias_out, &conn->proxy->budget, publish->topic_alias, publish->topic);
    if (err == 0)
        conn->alias_out.count = publish->topic_alias;
    /* Not remembered, it is introduced again by the next one, which is allowed. */
}

static int wait_for_room(struct conn *conn, uint8_t qos)
{
    conn->core_waits = true;
    if (qos > 0 && conn->waiting_ms == 0)
        conn->waiting_ms = timer_set_now_ms(conn->proxy->timers);
    return ERR_AGAIN;
}

/* References the payload when it is worth it and does not pin a buffer much larger than itself. */
static int put_payload(struct conn *conn, struct slice payload)
{
    if (payload.buf && payload.size >= CONN_PAYLOAD_KEPT_MIN &&
        payload.size >= buf_size(payload.buf) / 8) {
        struct slice kept;
        const int err = slice_keep(payload, &kept);
        return err < 0 ? err : outbuf_add_kept_take(&conn->out, &conn->proxy->pool, kept);
    }
    return outbuf_add(&conn->out, &conn->proxy->pool, payload.bytes, payload.size);
}

/* Encodes it for this conn alone. false: out of memory, and the conn fails. */
static bool put_publish(struct conn *conn, const struct enc_publish *publish, struct slice payload,
                        uint64_t size)
{
    struct proxy *proxy = conn->proxy;
    const uint32_t room = (uint32_t)enc_publish_room(publish);
    uint8_t *head = outbuf_reserve(&conn->out, &proxy->pool, room);
    if (!head) {
        conn_fail_later(conn, REASON_QUOTA_EXCEEDED);
        return false;
    }
    const int head_size = enc_publish_head(publish, head, room);
    ASSERT(head_size > 0);
    outbuf_commit(&conn->out, (uint32_t)head_size);
    introduce_alias(conn, publish);
    if (put_payload(conn, payload) < 0)
        conn->broken = true;
    proxy->burst += size;
    return true;
}

/* QoS 0 cannot wait in a queue: it gets more room before it is dropped, but not for long in front
 * of messages that do wait, or a slow reader would never see those. */
static bool qos0_may_have_more(const struct conn *conn)
{
    const struct proxy *proxy = conn->proxy;
    const bool in_the_way =
        conn->waiting_ms > 0 && timer_set_now_ms(proxy->timers) - conn->waiting_ms >= QOS0_FIRST_MS;
    return !in_the_way && !budget_is_tight(&proxy->budget);
}

/* Its message is 0 when something in the packet is for this conn only. */
static struct share_key share_key_of(const struct conn *conn, const struct delivery *delivery)
{
    const bool is_own =
        delivery->dup || delivery->subscription_id_count > 0 || conn->alias_out.max > 0;
    const uint64_t name = delivery->qos > 0 ? delivery->message->position : delivery->fanout;
    return (struct share_key){
        .message = is_own ? 0 : name,
        .expiry_s = delivery->expiry_s,
        .version = conn->link.version,
        .qos = delivery->qos,
        .retain = delivery->retain,
    };
}

/* Encoded by itself, and offered to others. false: out of memory, and the conn fails. */
static bool put_alone(struct conn *conn, const struct share_key *key,
                      const struct enc_publish *publish, const struct delivery *delivery,
                      uint64_t size)
{
    if (!put_publish(conn, publish, delivery->message->payload, size))
        return false;
    share_offer(&conn->proxy->share, key, publish, delivery->message->payload);
    return true;
}

static void put_shared(struct conn *conn, const struct share_run *run, uint16_t packet_id)
{
    struct proxy *proxy = conn->proxy;
    if (share_put(&proxy->share, run, packet_id, &conn->out) < 0)
        conn->broken = true;
    if (packet_id > 0)
        proxy->burst += run->size;
}

static int on_deliver(struct link *link, const struct delivery *delivery)
{
    struct conn *conn = CONTAINER_OF(link, struct conn, link);
    struct proxy *proxy = conn->proxy;
    if (!is_open(conn))
        return ERR_AGAIN; /* it is closing: the core hears of that next */
    const struct share_key key = share_key_of(conn, delivery);
    const struct share_run *shared = share_find(&proxy->share, &key);
    struct enc_publish publish;
    if (!shared)
        describe(conn, delivery, &publish);
    const uint64_t size = shared ? shared->size : enc_publish_size(&publish);
    if (size > (conn->packet_max > 0 ? conn->packet_max : FRAME_PACKET_MAX))
        return ERR_FULL; /* [MQTT5-3.1.2-24] */
    const bool more = delivery->qos == 0 && qos0_may_have_more(conn);
    const uint64_t output_max = proxy_output_max(proxy) * (more ? QOS0_ROOM : 1);
    if (conn->out.size > 0 && conn->out.size + size > output_max)
        return wait_for_room(conn, delivery->qos);
    if (!budget_has(&proxy->budget, BUDGET_OUTPUT, size)) {
        proxy_starve(proxy);
        return wait_for_room(conn, delivery->qos);
    }
    if (shared)
        put_shared(conn, shared, delivery->packet_id);
    else if (!put_alone(conn, &key, &publish, delivery, size))
        return ERR_AGAIN;
    proxy->counts.packets_sent++;
    proxy->counts.publish_sent++;
    proxy->counts.publish_bytes_sent += delivery->message->payload.size;
    conn_schedule(conn);
    return 0;
}
/* --- acknowledgements
 * ----------------------------------------------------------------------------- */

static void on_send_ack(struct link *link, uint8_t packet_type, uint16_t packet_id, uint8_t reason,
                        const char *reason_string)
{
    struct conn *conn = CONTAINER_OF(link, struct conn, link);
    if (!is_open(conn))
        return;
    const bool v5 = link->version >= MQTT_V5;
    const bool answers_publish = packet_type == PACKET_PUBACK || packet_type == PACKET_PUBREC;
    if (!v5 && answers_publish && reason >= REASON_UNSPECIFIED) {
        conn_fail_later(conn, reason); /* 3.x cannot say no: [MQTT3-3.3.5-2] */
        return;
    }
    struct props props = {0};
    set_reason_string(conn, &props, reason_string);
    const bool plain = !v5 || (reason == REASON_SUCCESS && props.has == 0);
    const struct enc_room room =
        reserve(conn, plain ? 4 : PACKET_ROOM + props_size(&props, UINT64_MAX));
    if (!room.bytes)
        return;
    if (plain) {
        enc_ack_plain(room.bytes, packet_type, packet_id);
        commit(conn, 4);
        return;
    }
    const int size = enc_ack(&room, packet_type, packet_id, reason, &props);
    if (size > 0)
        commit(conn, size);
    else
        conn_fail_later(conn, REASON_PACKET_TOO_LARGE);
}

static void on_suback(struct link *link, uint16_t packet_id, const uint8_t *codes, size_t count,
                      const char *reason_string)
{
    struct conn *conn = CONTAINER_OF(link, struct conn, link);
    if (!is_open(conn))
        return;
    struct props props = {0};
    set_reason_string(conn, &props, reason_string);
    const struct enc_room room =
        reserve(conn, PACKET_ROOM + props_size(&props, UINT64_MAX) + (uint32_t)count);
    if (!room.bytes)
        return;
    const int size = enc_suback(&room, packet_id, codes, (uint32_t)count, &props);
    if (size > 0)
        commit(conn, size);
    else
        conn_fail_later(conn, REASON_PACKET_TOO_LARGE);
}

static void on_unsuback(struct link *link, uint16_t packet_id, const uint8_t *codes, size_t count)
{
    struct conn *conn = CONTAINER_OF(link, struct conn, link);
    if (!is_open(conn))
        return;
    const struct enc_room room = reserve(conn, PACKET_ROOM + (uint32_t)count);
    if (!room.bytes)
        return;
    const int size = enc_unsuback(&room, packet_id, codes, (uint32_t)count, NULL);
    if (size > 0)
        commit(conn, size);
    else
        conn_fail_later(conn, REASON_PACKET_TOO_LARGE);
}

/* --- DISCONNECT, PINGRESP
 * --------------------------------------------------------------------------- */

void send_disconnect(struct conn *conn, uint8_t reason, const char *reason_string)
{
    struct props props = {0};
    set_reason_string(conn, &props, reason_string);
    struct enc_room room = {
        .size = PACKET_ROOM + props_size(&props, UINT64_MAX),
        .packet_max = conn->packet_max,
        .version = conn->link.version,
    };
    room.bytes = outbuf_reserve(&conn->out, &conn->proxy->pool, room.size);
    if (!room.bytes)
        return;
    const int size = enc_disconnect(&room, reason, &props);
    if (size > 0)
        commit(conn, size);
}

static void on_close(struct link *link, uint8_t reason, const char *reason_string)
{
    struct conn *conn = CONTAINER_OF(link, struct conn, link);
    conn->linked = false;
    if (conn->state >= CONN_CLOSING)
        return;
    if (conn->welcomed && link->version >= MQTT_V5 && reason != 0)
        send_disconnect(conn, reason, reason_string);
    conn_close(conn);
}

void send_pingresp(struct conn *conn)
{
    const struct enc_room room = reserve(conn, PACKET_ROOM);
    if (!room.bytes)
        return;
    const int size = enc_pingresp(&room);
    commit(conn, size);
}

const struct link_ops send_link_ops = {
    .connack = on_connack,
    .publish = on_deliver,
    .ack = on_send_ack,
    .suback = on_suback,
    .unsuback = on_unsuback,
    .close = on_close,
};
