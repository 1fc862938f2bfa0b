/* Pace: MQTT 3.x clients that are over a rate of the core's.
 *
 * Their version has no answer to a PUBLISH but yes and the end of the connection, and none to an
 * UNSUBSCRIBE but yes. So such a client is not read from until the rate allows its next packet: TCP
 * tells it, and it loses nothing. Conns that wait take turns. One whose packet has waited for too
 * long is closed, so that what waits stays bounded. Nor is what it sends behind that packet read,
 * its acknowledgements and pings included; its keep alive is not held against it meanwhile.
 */
#include "proxy/proxy_priv.h"

enum {
    PACE_MS = 10,        /* conns that wait are tried again so often, */
    PACE_EACH = 1024,    /* so many of them at once, */
    PACE_MAX_MS = 10000, /* and each for so long */
};

static void watch(struct proxy *proxy)
{
    if (proxy->pace.due_ms == 0)
        timer_start(proxy->timers, &proxy->pace, PACE_MS);
}

/* Those whose packet is still too early come back to the end of the row, in the same order. */
static void on_due(struct timer *timer)
{
    struct proxy *proxy = CONTAINER_OF(timer, struct proxy, pace);
    const uint64_t now_ms = timer_set_now_ms(proxy->timers);
    uint32_t count = PACE_EACH;
    while (!list_empty(&proxy->paced) && count-- > 0) {
        struct conn *conn = LIST_FIRST(&proxy->paced, struct conn, held_node);
        conn_release(conn, HOLD_RATE);
        if (conn->state != CONN_OPEN || now_ms - conn->paced_ms < PACE_MAX_MS)
            continue;
        metric_add(&proxy->deps.metrics->limit_reads_closed, 1);
        conn_fail(conn, REASON_RATE_TOO_HIGH, "it had to wait for too long");
    }
    if (!list_empty(&proxy->paced))
        watch(proxy);
}

void pace_init(struct proxy *proxy)
{
    list_init(&proxy->paced);
    proxy->pace.on_due = on_due;
}

bool pace_holds(struct conn *conn, const struct frame_head *head)
{
    const uint8_t qos = head->flags >> 1 & 3;
    if (!link_must_wait(&conn->link, head->type, qos, conn->paced_ms == 0)) {
        conn->paced_ms = 0;
        return false;
    }
    if (conn->paced_ms == 0)
        conn->paced_ms = timer_set_now_ms(conn->proxy->timers);
    conn_hold(conn, HOLD_RATE);
    list_push_back(&conn->proxy->paced, &conn->held_node);
    watch(conn->proxy);
    return true;
}
