#include "proxy/proxy_priv.h"

/* Resolves the alias, or sets it. Returns 0 with *ret_topic, or the reason to close with; what is
 * returned lies in the packet or in the alias table. */
static uint8_t resolve_alias(struct conn *conn, const struct packet_publish *packet,
                             struct slice *ret_topic)
{
    const uint32_t alias = packet->props.topic_alias;
    if (alias == 0 ||
        alias > conn->alias_in.max) /* [MQTT5-3.3.2-8] [MQTT5-3.3.2-9] [MQTT5-3.2.2-17] */
        return REASON_TOPIC_ALIAS_INVALID;
    if (packet->topic.size == 0) { /* [MQTT5-3.3.2-12] */
        *ret_topic = alias_get(&conn->alias_in, (uint16_t)alias);
        return ret_topic->size == 0 ? REASON_PROTOCOL_ERROR : 0;
    }
    *ret_topic = packet->topic;
    if (slice_equal(alias_get(&conn->alias_in, (uint16_t)alias), packet->topic))
        return 0;
    const int err =
        alias_set(&conn->alias_in, &conn->proxy->budget, (uint16_t)alias, packet->topic);
    return err < 0 ? REASON_QUOTA_EXCEEDED : 0;
}

void on_publish(struct conn *conn, struct slice body, uint8_t flags)
{
    struct packet_publish packet;
    uint8_t reason = 0;
    if (dec_publish(body, flags, conn->link.version, &packet, &reason) < 0) {
        conn_fail(conn, reason, NULL);
        return;
    }
    conn->proxy->counts.publish_received++;
    conn->proxy->counts.publish_bytes_received += packet.payload.size;
    struct slice topic = packet.topic;
    if (PROPS_HAS(&packet.props, PROP_TOPIC_ALIAS)) {
        reason = resolve_alias(conn, &packet, &topic);
        if (reason != 0) {
            conn_fail(conn, reason, "topic alias");
            return;
        }
    }
    link_publish(&conn->link, &packet, topic);
    /* A v5 client that sends more than Receive Maximum is closed by the core; a 3.x client does not
     * know of it and is not read from for a while. */
    if (packet.qos > 0 && conn->link.version < MQTT_V5 && conn->state == CONN_OPEN &&
        link_publish_pending(&conn->link) >= conn->proxy->config.receive_max)
        conn_hold(conn, HOLD_RECEIVE);
}
