#include "proxy/proxy_priv.h"

void on_subscribe(struct conn *conn, struct slice body)
{
    struct packet_subscribe packet;
    uint8_t reason = 0;
    if (dec_subscribe(body, conn->link.version, &packet, &reason) < 0) {
        conn_fail(conn, reason, NULL);
        return;
    }
    link_subscribe(&conn->link, &packet);
}

void on_unsubscribe(struct conn *conn, struct slice body)
{
    struct packet_unsubscribe packet;
    uint8_t reason = 0;
    if (dec_unsubscribe(body, conn->link.version, &packet, &reason) < 0) {
        conn_fail(conn, reason, NULL);
        return;
    }
    link_unsubscribe(&conn->link, &packet);
}
