#include "proxy/proxy_priv.h"

/* [MQTT3-3.12.4-1] [MQTT5-3.12.4-1] */
void on_pingreq(struct conn *conn, struct slice body)
{
    uint8_t reason = 0;
    if (packet_ping_check(body, &reason) < 0)
        conn_fail(conn, reason, NULL);
    else
        send_pingresp(conn);
}
