/* The life of a conn; see conn.h for the states. */
#include "proxy/proxy_priv.h"

#include "base/mem.h"
#include "net/peer.h"
#include "net/stack.h"

#include <string.h>

enum {
    CLOSE_MS = 1000,  /* for the last output to go out, and again for the client to close */
    FLUSH_ROUNDS = 4, /* asking the core for more in between */
    FLUSH_BYTES_MAX = 1024 * 1024,
};

static void die(struct conn *conn)
{
    list_remove(&conn->held_node);
    timer_stop(conn->proxy->timers, &conn->timer);
    conn->state = CONN_DEAD;
    conn_schedule(conn);
}

/* The core and the authenticator forget the conn. */
static void detach(struct conn *conn, uint8_t reason)
{
    if (conn->auth_call)
        auth_cancel(TAKE(conn->auth_call));
    if (conn->linked) {
        conn->linked = false;
        link_lost(&conn->link, reason);
    }
}

void conn_schedule(struct conn *conn)
{
    if (!conn->working)
        loop_defer(conn->proxy->deps.loop, &conn->work);
}

bool conn_is_readable(const struct conn *conn)
{
    return (conn->state == CONN_OPEN && conn->holds == 0) || conn->state == CONN_NEW;
}

void conn_hold(struct conn *conn, enum conn_hold hold)
{
    conn->holds |= (uint8_t)hold;
    if (hold == HOLD_STORE && list_empty(&conn->held_node))
        list_push_back(&conn->proxy->held, &conn->held_node);
}

void conn_release(struct conn *conn, enum conn_hold hold)
{
    if ((conn->holds & hold) == 0)
        return;
    conn->holds &= (uint8_t)~hold;
    if (hold == HOLD_STORE || hold == HOLD_RATE)
        list_remove(&conn->held_node);
    conn_schedule(conn);
}

/* --- closing ---------------------------------------------------------------------------------- */

/* Tells what a stage of the stream found wrong, where it has not done so itself. */
static void log_fault(struct conn *conn)
{
    const char *fault = stream_fault(conn->stream);
    if (!fault)
        return;
    conn_take_address(conn);
    metric_add(&conn->proxy->deps.metrics->protocol_errors, 1);
    log_write(conn->proxy->deps.log, LOG_INFO, "conn", "closed the connection from %s: %s",
              conn->link.address, fault);
}

void conn_lost(struct conn *conn)
{
    if (conn->state == CONN_DEAD)
        return;
    log_fault(conn);
    detach(conn, REASON_UNSPECIFIED);
    die(conn);
}

void conn_evict(struct conn *conn)
{
    log_write(conn->proxy->deps.log, LOG_WARN, "conn",
              "closed the connection from %s: memory.limit is near, and it reads nothing",
              conn->link.address);
    conn_lost(conn);
    outbuf_clear(&conn->out, &conn->proxy->pool);
}

/* Nothing is sent or decoded from here on: [MQTT5-3.14.4-1] [MQTT5-3.14.4-2] [MQTT3-3.1.4-5]
 * [MQTT5-3.1.4-6] */
void conn_close(struct conn *conn)
{
    ASSERT(!conn->linked);
    if (conn->state >= CONN_CLOSING)
        return;
    conn->state = CONN_CLOSING;
    timer_start(conn->proxy->timers, &conn->timer, CLOSE_MS);
    conn_schedule(conn);
}

static bool is_clients_fault(uint8_t reason)
{
    return reason != REASON_SHUTTING_DOWN && reason != REASON_KEEP_ALIVE_TIMEOUT &&
           reason != REASON_MAXIMUM_CONNECT_TIME && reason != REASON_NOT_AUTHORIZED;
}

/* [MQTT3-4.8.0-1] [MQTT3-4.8.0-2] [MQTT5-4.13.1-1] [MQTT5-4.13.2-1]; DISCONNECT
 * only behind a CONNACK that said yes: [MQTT5-3.14.0-1] */
void conn_fail(struct conn *conn, uint8_t reason, const char *detail)
{
    if (conn->state >= CONN_CLOSING)
        return;
    struct proxy *proxy = conn->proxy;
    if (is_clients_fault(reason)) {
        metric_add(&proxy->deps.metrics->protocol_errors, 1);
        log_write(proxy->deps.log, LOG_INFO, "conn", "closed the connection from %s: %s%s%s",
                  conn->link.address, reason_text(reason), detail ? ": " : "",
                  detail ? detail : "");
    }
    detach(conn, reason);
    stream_explain(conn->stream, reason);
    if (conn->welcomed && conn->link.version >= MQTT_V5)
        send_disconnect(conn, reason, detail);
    conn_close(conn);
}

void conn_fail_later(struct conn *conn, uint8_t reason)
{
    if (conn->state >= CONN_FAILING)
        return;
    conn->state = CONN_FAILING;
    conn->fail_reason = reason;
    conn_schedule(conn);
}

/* All output is out: ends our side, and waits for the client to end its own, so that the last
 * packet is not destroyed by a reset. */
static void finish_closing(struct conn *conn)
{
    if (conn->close_at_once) {
        die(conn);
        return;
    }
    stream_shutdown(conn->stream);
    conn->state = CONN_LINGERING;
    timer_start(conn->proxy->timers, &conn->timer, CLOSE_MS);
}

/* Reads away what comes while closing. */
static void discard(struct conn *conn)
{
    const ssize_t n = stream_read(conn->stream, conn->proxy->scratch, INPUT_SCRATCH_SIZE);
    if (n > 0 || n == (ssize_t)ERR_AGAIN)
        return;
    if (n == 0 && conn->state == CONN_CLOSING)
        conn->close_at_once = true; /* it may still read */
    else
        die(conn);
}

/* --- timers ------------------------------------------------------------------------------------
 */

/* One and a half times the keep alive: [MQTT3-3.1.2-24] [MQTT5-3.1.2-22] */
static uint64_t patience_ms(const struct conn *conn)
{
    return (uint64_t)conn->keep_alive_s * 1500;
}

/* The timer is not restarted by each packet, but by itself, for what is left. */
static void check_keep_alive(struct conn *conn)
{
    const uint64_t limit = patience_ms(conn);
    const uint64_t silent = timer_set_now_ms(conn->proxy->timers) - conn->heard_ms;
    if (silent < limit) {
        timer_start(conn->proxy->timers, &conn->timer, limit - silent);
    } else if (conn->holds & (HOLD_STORE | HOLD_RECEIVE | HOLD_MEMORY | HOLD_RATE)) {
        timer_start(conn->proxy->timers, &conn->timer, limit); /* it is us who do not listen */
    } else {
        metric_add(&conn->proxy->deps.metrics->keep_alive_timeouts, 1);
        conn_fail(conn, REASON_KEEP_ALIVE_TIMEOUT, NULL);
    }
}

static void on_due(struct timer *timer)
{
    struct conn *conn = CONTAINER_OF(timer, struct conn, timer);
    if (conn->state == CONN_OPEN) {
        check_keep_alive(conn);
    } else if (conn->state == CONN_NEW) {
        log_write(conn->proxy->deps.log, LOG_INFO, "conn",
                  "closed the connection from %s: it sent no CONNECT in time", conn->link.address);
        die(conn);
    } else if (conn->state >= CONN_CLOSING) {
        die(conn);
    }
}

void conn_open(struct conn *conn)
{
    conn->state = CONN_OPEN;
    conn->welcomed = true;
    conn->heard_ms = timer_set_now_ms(conn->proxy->timers);
    if (conn->keep_alive_s > 0)
        timer_start(conn->proxy->timers, &conn->timer, patience_ms(conn));
    else
        timer_stop(conn->proxy->timers, &conn->timer);
    conn_schedule(conn);
}

/* --- work ---------------------------------------------------------------------------------------
 */

static void flush(struct conn *conn)
{
    struct proxy *proxy = conn->proxy;
    const uint64_t low = proxy_output_max(proxy) / 2;
    if (!conn->write_stuck && stream_unsent(conn->stream) == 0)
        conn->moved_ms = timer_set_now_ms(proxy->timers);
    for (int round = 0; round < FLUSH_ROUNDS && conn->state != CONN_DEAD; round++) {
        const ssize_t n = outbuf_write(&conn->out, &proxy->pool, conn->stream, FLUSH_BYTES_MAX);
        if (n < 0) {
            conn_lost(conn);
            return;
        }
        proxy->counts.bytes_sent += n;
        if (n > 0)
            conn->moved_ms = timer_set_now_ms(proxy->timers);
        if (n > 0 && (conn->holds & HOLD_OUTPUT))
            conn->heard_ms = timer_set_now_ms(proxy->timers); /* reading is a sign of life */
        if (conn->out.size > low)
            break;
        conn->answers = 0;
        if (!conn->core_waits || conn->state != CONN_OPEN)
            break;
        conn->core_waits = false;
        conn->waiting_ms = 0;
        link_writable(&conn->link);
    }
    conn->write_stuck = conn->out.size > 0;
}

static void review_holds(struct conn *conn)
{
    const struct proxy_config *config = &conn->proxy->config;
    if ((conn->holds & HOLD_OUTPUT) && conn->answers == 0)
        conn->holds &= (uint8_t)~HOLD_OUTPUT;
    if ((conn->holds & HOLD_RECEIVE) && conn->state == CONN_OPEN &&
        link_publish_pending(&conn->link) < config->receive_max)
        conn->holds &= (uint8_t)~HOLD_RECEIVE;
}

static void update_interest(struct conn *conn)
{
    const bool closing = conn->state >= CONN_CLOSING && !conn->close_at_once;
    if (conn_is_readable(conn))
        conn->read_unwanted = false;
    const bool reads = closing || (conn->state < CONN_CLOSING && !conn->read_unwanted);
    const unsigned events = (reads ? IO_READ : 0) | (conn->write_stuck ? IO_WRITE : 0);
    if (stream_want(conn->stream, events) < 0)
        conn_lost(conn);
}

/* The conns that a burst was for stand before the one that was held back, and have written it. */
static void end_burst(struct conn *conn)
{
    if (conn->holds & HOLD_BURST) {
        conn->holds &= (uint8_t)~HOLD_BURST;
        conn->proxy->burst = 0;
    }
}

static void conn_work(struct deferred *work)
{
    struct conn *conn = CONTAINER_OF(work, struct conn, work);
    conn->working = true;
    end_burst(conn);
    for (;;) {
        if (conn->broken)
            conn_lost(conn);
        if (conn->state == CONN_FAILING)
            conn_fail(conn, conn->fail_reason, NULL);
        flush(conn);
        review_holds(conn);
        if (!conn->input.held || !conn_is_readable(conn))
            break;
        input_resume(conn);
    }
    if (conn->state >= CONN_CLOSING)
        input_clear(conn);
    if (conn->state == CONN_CLOSING && conn->out.size == 0)
        finish_closing(conn);
    if (conn->state != CONN_DEAD)
        update_interest(conn);
    conn->working = false;
    loop_defer(conn->proxy->deps.loop, &conn->proxy->counting);
    if (conn->state == CONN_DEAD)
        (void)conn_free(conn);
    else if (conn->holds & HOLD_BURST)
        conn_schedule(conn);
}

static void on_ready(struct stream *stream, unsigned events)
{
    struct conn *conn = stream->owner;
    if (events & (IO_READ | IO_HANGUP)) {
        if (conn->state == CONN_CLOSING || conn->state == CONN_LINGERING)
            discard(conn);
        else if (conn_is_readable(conn) && !conn->input.held)
            input_read(conn);
        else
            conn->read_unwanted = true;
    }
    conn_schedule(conn);
}

/* --- birth and death -----------------------------------------------------------------------------
 */

static void set_address(struct conn *conn, const char *text)
{
    char *address = conn->link.address;
    const size_t size = MIN(strlen(text), sizeof conn->link.address - 1);
    memcpy(address, text, size);
    address[size] = '\0';
}

void conn_take_address(struct conn *conn)
{
    const struct peer *peer = stream_peer(conn->stream);
    if (peer)
        set_address(conn, peer->text);
}

struct conn *conn_new(struct proxy *proxy, struct stream *stream, const char *address)
{
    struct conn *conn = mem_new(sizeof *conn);
    conn->proxy = proxy;
    conn->stream = stream;
    conn->link.ops = &send_link_ops;
    set_address(conn, address);
    list_init(&conn->node);
    list_init(&conn->held_node);
    list_init(&conn->link.node);
    list_init(&conn->work.node);
    conn->work.run = conn_work;
    conn->timer.on_due = on_due;
    stream->on_ready = on_ready;
    stream->owner = conn;
    conn->heard_ms = timer_set_now_ms(proxy->timers);
    timer_start(proxy->timers, &conn->timer, proxy->config.connect_timeout_ms);
    list_push_back(&proxy->newcomers, &conn->held_node);
    if (stream_want(stream, IO_READ) < 0)
        die(conn);
    return conn;
}

struct conn *conn_free(struct conn *conn)
{
    struct proxy *proxy = conn->proxy;
    detach(conn, REASON_SHUTTING_DOWN);
    timer_stop(proxy->timers, &conn->timer);
    deferred_cancel(&conn->work);
    list_remove(&conn->node);
    list_remove(&conn->held_node);
    (void)stream_close(conn->stream);
    input_clear(conn);
    outbuf_clear(&conn->out, &proxy->pool);
    alias_done(&conn->alias_in, &proxy->budget); /* [MQTT5-3.3.2-7] */
    alias_done(&conn->alias_out, &proxy->budget);
    on_connect_done(conn);
    (void)stack_unref(conn->stack);
    mem_free(conn);
    proxy_conn_gone(proxy);
    return NULL;
}
