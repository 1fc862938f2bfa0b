#include "proxy/proxy_priv.h"

void on_ack(struct conn *conn, uint8_t packet_type, struct slice body)
{
    struct packet_ack packet;
    uint8_t reason = 0;
    if (dec_ack(body, packet_type, conn->link.version, &packet, &reason) < 0) {
        conn_fail(conn, reason, NULL);
        return;
    }
    link_ack(&conn->link, packet_type, packet.packet_id, packet.reason);
}
