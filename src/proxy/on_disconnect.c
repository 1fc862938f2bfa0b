#include "proxy/proxy_priv.h"

/* The will is dropped, or kept with reason 0x04: the core decides by the reason. What is buffered
 * still goes out, then the connection is closed without lingering, as the client sends nothing
 * more. [MQTT3-3.14.4-2] [MQTT3-3.14.4-3] [MQTT5-3.14.4-3] */
void on_disconnect(struct conn *conn, struct slice body)
{
    struct packet_disconnect packet;
    uint8_t reason = 0;
    if (dec_disconnect(body, conn->link.version, &packet, &reason) < 0) {
        conn_fail(conn, reason, NULL);
        return;
    }
    conn->linked = false;
    reason =
        link_disconnect(&conn->link, packet.reason, PROPS_HAS(&packet.props, PROP_SESSION_EXPIRY),
                        packet.props.session_expiry_s);
    if (reason != 0) {
        conn_fail(conn, reason, NULL);
        return;
    }
    conn->close_at_once = !stream_lingers(conn->stream);
    conn_close(conn);
}
