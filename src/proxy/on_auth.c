#include "proxy/proxy_priv.h"

/* No authentication method exists, so no CONNECT can have named one, and AUTH is never allowed.
 * [MQTT5-4.12.0-7] [MQTT5-4.12.1-2] */
void on_auth(struct conn *conn, struct slice body)
{
    struct packet_auth packet;
    uint8_t reason = REASON_PROTOCOL_ERROR;
    (void)!dec_auth(body, &packet, &reason);
    conn_fail(conn, reason, "AUTH without an authentication method in CONNECT");
}
