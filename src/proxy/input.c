/* Receiving: one large read into a buffer that all conns of the loop share, then every packet in
 * it.
 *
 * What is left of an incomplete packet is copied aside into memory of the conn's own, so an idle
 * conn has none. A packet larger than half the shared buffer is gathered there directly, in memory
 * that grows as its bytes arrive: announcing a large packet costs nothing but a close.
 */
#include "proxy/proxy_priv.h"

#include "base/mem.h"

#include <string.h>

enum { ROOM_MIN = 128 };

/* One read from a conn while memory is short: what is left of it must be kept aside. */
enum { SHORT_READ = 2048 };

/* A packet that is too large for the memory there is waits this long for others to give some back.
 */
enum { STARVED_MAX_MS = 5000 };

/* Bytes of output that one iteration may gather for all conns before they are written: enough for
 * large writes, and not so much that it has left the processor's cache by then. With very many
 * conns a write of several messages for each is worth more than the cache. */
enum { BURST_MAX = 16 * 1024 * 1024, BURST_EACH = 4 * 1024 };

static uint64_t burst_max(const struct proxy *proxy)
{
    const uint64_t max = MAX((uint64_t)BURST_MAX, (uint64_t)proxy->conn_count * BURST_EACH);
    return MIN(max, MAX((uint64_t)BURST_MAX, proxy->budget.max / 8));
}

void input_clear(struct conn *conn)
{
    struct input *in = &conn->input;
    if (in->bytes) {
        budget_give(&conn->proxy->budget, in->room);
        mem_free(in->bytes);
    }
    *in = (struct input){0};
}

/* Makes room for at least `size` bytes. */
static int ensure_room(struct conn *conn, uint32_t size)
{
    struct input *in = &conn->input;
    if (size <= in->room)
        return 0;
    struct budget *budget = &conn->proxy->budget;
    const uint32_t room = MAX(size, ROOM_MIN), more = room - in->room;
    if (!budget_take(budget, room > INPUT_SCRATCH_SIZE ? BUDGET_LARGE : BUDGET_SMALL, more))
        return ERR_NOMEM;
    uint8_t *bytes = mem_try_realloc(in->bytes, room);
    if (!bytes) {
        budget_give(budget, more);
        return ERR_NOMEM;
    }
    in->bytes = bytes;
    in->room = room;
    return 0;
}

/* Sets aside what was not decoded; `bytes` may lie in the input already, and has room there then.
 */
static void keep(struct conn *conn, const uint8_t *bytes, uint32_t size)
{
    struct input *in = &conn->input;
    if (size == 0 || conn->state >= CONN_FAILING) {
        input_clear(conn);
        return;
    }
    if (ensure_room(conn, size) < 0) {
        input_clear(conn);
        conn_fail(conn, REASON_QUOTA_EXCEEDED, "memory.limit is reached");
        return;
    }
    memmove(in->bytes, bytes, size);
    in->size = size;
}

static uint32_t packet_max(const struct conn *conn)
{
    const uint32_t max = MAX(conn->proxy->config.packet_max, 16u);
    return conn->state == CONN_NEW ? MIN(max, CONNECT_PACKET_MAX) : max;
}

static void fail_frame(struct conn *conn, int err)
{
    if (err == ERR_FULL) /* [MQTT5-3.2.2-15] */
        conn_fail(conn, REASON_PACKET_TOO_LARGE, "limits.max_packet_size is exceeded");
    else if (err == ERR_PROTOCOL)
        conn_fail(conn, REASON_PROTOCOL_ERROR, "the first packet was not CONNECT");
    else
        conn_fail(conn, REASON_MALFORMED, NULL);
}

static void dispatch(struct conn *conn, const struct frame_head *head, struct slice body)
{
    switch (head->type) {
    case PACKET_CONNECT:
        on_connect(conn, body);
        return;
    case PACKET_PUBLISH:
        on_publish(conn, body, head->flags);
        return;
    case PACKET_PUBACK:
    case PACKET_PUBREC:
    case PACKET_PUBREL:
    case PACKET_PUBCOMP:
        on_ack(conn, head->type, body);
        return;
    case PACKET_SUBSCRIBE:
        on_subscribe(conn, body);
        return;
    case PACKET_UNSUBSCRIBE:
        on_unsubscribe(conn, body);
        return;
    case PACKET_PINGREQ:
        on_pingreq(conn, body);
        return;
    case PACKET_DISCONNECT:
        on_disconnect(conn, body);
        return;
    case PACKET_AUTH:
        on_auth(conn, body);
        return;
    default: /* CONNACK, SUBACK, UNSUBACK, PINGRESP: only servers send them */
        conn_fail(conn, REASON_PROTOCOL_ERROR, "a packet that only servers send");
    }
}

/* Whether the core makes a record of it that the client asks for as often as it likes. */
static bool is_stored(uint8_t packet_type)
{
    return packet_type == PACKET_PUBLISH || packet_type == PACKET_SUBSCRIBE ||
           packet_type == PACKET_UNSUBSCRIBE;
}

/* Decodes packets while the conn takes them. Returns the bytes used; sets input.wanted and .held.
 * ret_stored: becomes true with a packet that was for the store. */
static uint32_t decode_packets(struct conn *conn, const uint8_t *bytes, uint32_t size,
                               bool *ret_stored)
{
    struct proxy *proxy = conn->proxy;
    uint32_t used = 0;
    conn->input.wanted = 0;
    conn->input.held = false;
    while (conn_is_readable(conn)) {
        struct frame_head head;
        const uint8_t version = conn->state == CONN_NEW ? 0 : conn->link.version;
        const int err = frame_parse(bytes + used, size - used, packet_max(conn), version, &head);
        if (err == ERR_AGAIN)
            return used;
        if (err < 0) {
            fail_frame(conn, err);
            return size;
        }
        const uint32_t total = head.head_size + head.remaining_size;
        if (size - used < total) {
            conn->input.wanted = total;
            return used;
        }
        const bool stored = is_stored(head.type);
        if (stored && proxy->paused) {
            conn_hold(conn, HOLD_STORE);
            break;
        }
        if (stored && proxy->config.rates && pace_holds(conn, &head))
            break;
        *ret_stored |= stored;
        proxy->counts.packets_received++;
        dispatch(conn, &head, slice_of(bytes + used + head.head_size, head.remaining_size));
        used += total;
        if (conn->answers > proxy_output_max(proxy))
            conn_hold(conn, HOLD_OUTPUT);
        if (proxy->burst > burst_max(proxy))
            conn_hold(conn, HOLD_BURST);
    }
    conn->input.held = used < size;
    return used;
}

/* The same, and then looks whether the store can keep up with what came. */
static uint32_t decode(struct conn *conn, const uint8_t *bytes, uint32_t size)
{
    struct proxy *proxy = conn->proxy;
    const struct proxy_deps *deps = &proxy->deps;
    bool stored = false;
    const uint32_t used = decode_packets(conn, bytes, size, &stored);
    if (stored && deps->pressed && deps->pressed(deps->pressed_data))
        proxy_pause(proxy, true);
    return used;
}

/* Makes room for the next bytes of a large packet: twice as much each time, never more than it
 * takes.
 */
static int grow(struct conn *conn)
{
    struct input *in = &conn->input;
    if (in->size < in->room)
        return 0;
    const uint64_t twice = MAX((uint64_t)in->room * 2, INPUT_SCRATCH_SIZE);
    return ensure_room(conn, (uint32_t)MIN(twice, in->wanted));
}

/* Sorts out what stream_read returned. true: bytes came. */
static bool received(struct conn *conn, ssize_t n)
{
    if (n == (ssize_t)ERR_AGAIN)
        return false;
    if (n <= 0) {
        conn_lost(conn);
        return false;
    }
    if (conn->state == CONN_NEW)
        conn_take_address(conn);
    conn->heard_ms = timer_set_now_ms(conn->proxy->timers);
    conn->proxy->counts.bytes_received += n;
    return true;
}

/* There is no memory for the rest of a large packet: its client is not read from for a while, then
 * it is refused. Nobody waits who has not been let in. */
static void starve(struct conn *conn)
{
    const uint64_t now_ms = timer_set_now_ms(conn->proxy->timers);
    if (conn->starved_ms == 0)
        conn->starved_ms = now_ms;
    if (conn->state != CONN_OPEN || now_ms - conn->starved_ms >= STARVED_MAX_MS) {
        conn_fail(conn, REASON_QUOTA_EXCEEDED, "memory.limit is reached");
        return;
    }
    conn_hold(conn, HOLD_MEMORY);
    proxy_starve(conn->proxy);
}

static void read_large(struct conn *conn)
{
    struct input *in = &conn->input;
    if (grow(conn) < 0) {
        starve(conn);
        return;
    }
    conn->starved_ms = 0;
    const uint32_t room = MIN(in->room, in->wanted) - in->size;
    const ssize_t n = stream_read(conn->stream, in->bytes + in->size, room);
    if (!received(conn, n))
        return;
    in->size += (uint32_t)n;
    if (in->size == in->wanted)
        input_resume(conn);
}

void input_read(struct conn *conn)
{
    struct input *in = &conn->input;
    ASSERT(!in->held);
    if (in->wanted > INPUT_SCRATCH_SIZE / 2) {
        read_large(conn);
        return;
    }
    uint8_t *scratch = conn->proxy->scratch;
    const uint32_t before = in->size;
    ASSERT(before < INPUT_SCRATCH_SIZE);
    uint32_t most = INPUT_SCRATCH_SIZE - before;
    if (budget_is_tight(&conn->proxy->budget))
        most = MIN(most, (uint32_t)SHORT_READ);
    const ssize_t n = stream_read(conn->stream, scratch + before, most);
    if (!received(conn, n))
        return;
    if (before > 0)
        memcpy(scratch, in->bytes, before);
    const uint32_t size = before + (uint32_t)n;
    const uint32_t used = decode(conn, scratch, size);
    keep(conn, scratch + used, size - used);
}

void input_resume(struct conn *conn)
{
    struct input *in = &conn->input;
    const uint32_t size = in->size;
    const uint32_t used = decode(conn, in->bytes, size);
    keep(conn, in->bytes + used, size - used);
}
