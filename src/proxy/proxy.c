#include "proxy/proxy_priv.h"

#include "base/mem.h"
#include "net/quic.h"
#include "net/stack.h"

#include <string.h>
#include <unistd.h>

enum {
    POOL_CHUNKS_MAX = 4096,      /* 16 MiB of chunks kept for reuse, */
    POOL_PART = 32,              /* but not more than this part of memory_max; */
    POOL_KEPT = 64,              /* those beyond so many go when they were not needed */
    POOL_TRIM_MS = 10000,        /* for so long; */
    POOL_GIVE_BACK = 512 * 1024, /* so many bytes at once also go back to the system, */
    POOL_GIVE_PART = 8, /* when they are this part of all memory: the allocator walks all */
};

void proxy_config_default(struct proxy_config *config)
{
    *config = (struct proxy_config){
        .connections_max = 1000000,
        .connect_timeout_ms = 10000,
        .packet_max = 1024 * 1024,
        .output_max = 256 * 1024,
        .memory_max = 256u * 1024 * 1024,
        .receive_max = 1024,
        .topic_alias_max = 16,
        .topic_alias_out_max = 16,
        .loop_count = 1,
        .websocket = {.frame_max = 16u * 1024 * 1024},
    };
}

/* --- memory --------------------------------------------------------------------------------- */

enum {
    STARVED_MS = 20,
    STUCK_MS = 5000, /* a client that has read nothing for so long gives way to others, */
    STARVED_ROOM = 1024 * 1024, /* until they can have so much */
};

uint64_t proxy_output_max(const struct proxy *proxy)
{
    const uint64_t max = proxy->config.output_max;
    return budget_is_tight(&proxy->budget) ? max / 16 : max;
}

/* Nothing of its output has moved for long, in the sockets' threads neither. What was not offered
 * to the stream yet does not count: the client had no chance to read it. */
static bool is_stuck(struct conn *conn, uint64_t now_ms)
{
    const uint64_t refused = conn->write_stuck ? conn->out.size : 0;
    const uint64_t waiting = refused + stream_unsent(conn->stream);
    if (waiting < conn->waiting)
        conn->moved_ms = now_ms;
    conn->waiting = waiting;
    return waiting > 0 && now_ms - conn->moved_ms >= STUCK_MS;
}

/* Conns with output are asked when it has gone out; the others would wait for ever. */
static void on_starved(struct timer *timer)
{
    struct proxy *proxy = CONTAINER_OF(timer, struct proxy, starved);
    const uint64_t now_ms = timer_set_now_ms(proxy->timers);
    list_each (it, &proxy->conns) {
        struct conn *conn = CONTAINER_OF(it, struct conn, node);
        conn_release(conn, HOLD_MEMORY);
        if (is_stuck(conn, now_ms) && !budget_has(&proxy->budget, BUDGET_OUTPUT, STARVED_ROOM))
            conn_evict(conn);
        else if (conn->core_waits && conn->out.size == 0)
            conn_schedule(conn);
    }
}

void proxy_starve(struct proxy *proxy)
{
    if (proxy->starved.due_ms == 0)
        timer_start(proxy->timers, &proxy->starved, STARVED_MS);
}

/* Bytes in use, with the news of what the rest of the process uses. */
static uint64_t proxy_memory_used(struct proxy *proxy)
{
    struct budget *budget = &proxy->budget;
    if (!proxy->deps.memory_used)
        return budget->used;
    const uint64_t all = proxy->deps.memory_used();
    budget->others = all > budget->used ? all - budget->used : 0;
    return all;
}

/* So that what a burst took comes back to the others, and to the system. */
static void on_trim(struct timer *timer)
{
    struct proxy *proxy = CONTAINER_OF(timer, struct proxy, trimming);
    const uint64_t freed = out_pool_trim(&proxy->pool, POOL_KEPT);
    if (freed >= POOL_GIVE_BACK && freed >= mem_used() / POOL_GIVE_PART)
        mem_give_back();
    if (freed > 0)
        loop_defer(proxy->deps.loop, &proxy->counting);
    if (proxy->pool.count > POOL_KEPT)
        timer_start(proxy->timers, timer, POOL_TRIM_MS);
}

static void flush_counts(struct deferred *counting)
{
    struct proxy *proxy = CONTAINER_OF(counting, struct proxy, counting);
    struct proxy_counts *counts = &proxy->counts;
    struct metrics *metrics = proxy->deps.metrics;
    metric_add(&metrics->packets_received, counts->packets_received);
    metric_add(&metrics->packets_sent, counts->packets_sent);
    metric_add(&metrics->publish_received, counts->publish_received);
    metric_add(&metrics->publish_sent, counts->publish_sent);
    metric_add(&metrics->publish_bytes_received, counts->publish_bytes_received);
    metric_add(&metrics->publish_bytes_sent, counts->publish_bytes_sent);
    metric_add(&metrics->bytes_received, counts->bytes_received);
    metric_add(&metrics->bytes_sent, counts->bytes_sent);
    *counts = (struct proxy_counts){0};
    proxy->burst = 0;
    if (proxy->pool.count > POOL_KEPT && proxy->trimming.due_ms == 0)
        timer_start(proxy->timers, &proxy->trimming, POOL_TRIM_MS);
    const uint64_t used = proxy_memory_used(proxy);
    metric_add(&metrics->memory_used, (int64_t)used - proxy->memory_reported);
    proxy->memory_reported = (int64_t)used;
    if (proxy->memory_reported > metric_get(&metrics->memory_peak))
        metric_set(&metrics->memory_peak, proxy->memory_reported);
}

/* --- beginning --------------------------------------------------------------------------- */

static int start_fronts(struct proxy *proxy, struct errmsg *reterr)
{
    const uint32_t count = MAX(proxy->config.loop_count, 1u) - 1;
    proxy->fronts = mem_new(count * sizeof(struct front *));
    while (proxy->front_count < count) {
        const int err = front_new(proxy->deps.loop, &proxy->budget, "sockets",
                                  &proxy->fronts[proxy->front_count], reterr);
        if (err < 0)
            return err;
        proxy->front_count++;
    }
    return 0;
}

int proxy_new(const struct proxy_config *config, const struct proxy_deps *deps,
              struct proxy **ret_proxy, struct errmsg *reterr)
{
    struct proxy *proxy = mem_try_alloc(sizeof *proxy);
    if (!proxy) {
        errmsg_wrap(reterr, "could not start the proxy: %s", err_text(ERR_NOMEM));
        return ERR_NOMEM;
    }
    memset(proxy, 0, sizeof *proxy);
    proxy->config = *config;
    proxy->deps = *deps;
    proxy->timers = loop_timers(deps->loop);
    list_init(&proxy->listeners);
    list_init(&proxy->conns);
    list_init(&proxy->held);
    list_init(&proxy->newcomers);
    pace_init(proxy);
    proxy->budget = (struct budget){.max = config->memory_max};
    proxy->starved.on_due = on_starved;
    proxy->trimming.on_due = on_trim;
    proxy->counting.run = flush_counts;
    list_init(&proxy->counting.node);
    const uint64_t pooled = config->memory_max / POOL_PART / OUTBUF_CHUNK_SIZE;
    out_pool_init(&proxy->pool, &proxy->budget, (uint32_t)MIN(pooled, (uint64_t)POOL_CHUNKS_MAX));
    share_init(&proxy->share, &proxy->pool);
    const int err = start_fronts(proxy, reterr);
    if (err < 0) {
        (void)proxy_free(proxy);
        return err;
    }
    *ret_proxy = proxy;
    return 0;
}

void proxy_configure(struct proxy *proxy, const struct proxy_config *config)
{
    proxy->config = *config;
    proxy->budget.max = config->memory_max;
    list_each (it, &proxy->listeners) {
        const struct proxy_listener *listener = CONTAINER_OF(it, struct proxy_listener, node);
        stack_configure(listener->stack, &config->websocket);
    }
}

struct conn *proxy_adopt(struct proxy *proxy, struct stream *stream, const char *address)
{
    struct conn *conn = conn_new(proxy, stream, address);
    conn->tls_round = proxy->tls_round;
    list_push_back(&proxy->conns, &conn->node);
    proxy->conn_count++;
    metric_add(&proxy->deps.metrics->connections_opened, 1);
    metric_add(&proxy->deps.metrics->connections, 1);
    if (proxy->conn_count > (uint64_t)metric_get(&proxy->deps.metrics->connections_peak))
        metric_set(&proxy->deps.metrics->connections_peak, proxy->conn_count);
    return conn;
}

/* --- listeners ------------------------------------------------------------------------------- */

/* The stream of an accepted socket: on the front with the fewest, or on this loop. */
static struct stream *open_stream(struct proxy *proxy, struct stack *stack, int fd,
                                  const struct peer *peer)
{
    struct front *chosen = NULL;
    for (uint32_t i = 0; i < proxy->front_count; i++) {
        struct front *front = proxy->fronts[i];
        if (!chosen || front_relays(front) < front_relays(chosen))
            chosen = front;
    }
    return chosen ? relay_new(chosen, stack, fd, peer_ref(peer))
                  : stack_open(stack, proxy->deps.loop, fd, peer_ref(peer));
}

/* Makes room for one more: of those that have not said who they are, the one that has had the most
 * time for it goes. Returns false when there is none. */
static bool displace(struct proxy *proxy)
{
    struct conn *oldest = LIST_FIRST(&proxy->newcomers, struct conn, held_node);
    if (!oldest)
        return false;
    log_write(proxy->deps.log, LOG_INFO, "conn",
              "closed the connection from %s for a new one: it has sent no CONNECT yet",
              oldest->link.address);
    conn_lost(oldest);
    return true;
}

static bool has_memory(struct proxy *proxy)
{
    (void)proxy_memory_used(proxy);
    return budget_has(&proxy->budget, BUDGET_SMALL, 0);
}

/* Makes sure of room for one more connection; false: it is logged and counted as refused. */
static bool admit(struct proxy *proxy, const struct peer *peer)
{
    const char *full = NULL;
    if (proxy->conn_count >= proxy->config.connections_max && !displace(proxy))
        full = "limits.max_connections";
    else if (!has_memory(proxy) && !displace(proxy))
        full = "memory.limit";
    if (!full)
        return true;
    metric_add(&proxy->deps.metrics->connections_refused, 1);
    log_write(proxy->deps.log, LOG_WARN, "conn", "refused the connection from %s: %s is reached",
              peer->text, full);
    return false;
}

static void on_accept(void *data, int fd, const struct peer *peer)
{
    const struct proxy_listener *listener = data;
    struct proxy *proxy = listener->proxy;
    if (!admit(proxy, peer)) {
        (void)close(fd);
        return;
    }
    struct stream *stream = open_stream(proxy, listener->stack, fd, peer);
    struct conn *conn = proxy_adopt(proxy, stream, peer->text);
    conn->stack = stack_ref(listener->stack);
}

/* A client of QUIC has finished its handshake. */
static bool on_stream(void *data, struct stream *stream, const struct peer *peer)
{
    const struct proxy_listener *listener = data;
    struct proxy *proxy = listener->proxy;
    if (!admit(proxy, peer))
        return false;
    struct conn *conn = proxy_adopt(proxy, stream, peer->text);
    conn->stack = stack_ref(listener->stack);
    return true;
}

static int on_socket(void *data, int fd)
{
    const struct proxy_listener *listener = data;
    return quic_endpoint_add(listener->quic, fd);
}

static void listener_close(struct proxy_listener *it)
{
    list_remove(&it->node);
    (void)quic_endpoint_close(it->quic);
    (void)listener_free(it->listener);
    (void)stack_unref(it->stack);
    mem_free(it->url);
    mem_free(it);
}

/* The keep alive is MQTT's to watch over; QUIC's own idle time-out only has to be longer than any,
 * so that a client that is gone is given up some day. */
static uint64_t idle_timeout_ms(const struct proxy_config *config)
{
    const uint64_t keep_alive_s =
        config->keep_alive_max_s > 0 ? config->keep_alive_max_s : UINT16_MAX;
    return keep_alive_s * 2000;
}

static int open_quic(struct proxy *proxy, struct proxy_listener *listener,
                     const struct listener_url *url, struct errmsg *reterr)
{
    const struct quic_config config = {
        .loop = proxy->deps.loop,
        .log = proxy->deps.log,
        .metrics = proxy->deps.metrics,
        .dir = proxy->config.data_dir,
        .handshake_timeout_ms = proxy->config.connect_timeout_ms,
        .idle_timeout_ms = idle_timeout_ms(&proxy->config),
    };
    const struct quic_endpoint_config endpoint = {
        .source = stack_tls(listener->stack),
        .retry_always = url->retry_always,
        .on_accept = on_stream,
        .data = listener,
    };
    const int err = proxy->quic ? 0 : quic_new(&config, &proxy->quic, reterr);
    if (err == 0)
        listener->quic = quic_endpoint_new(proxy->quic, &endpoint);
    return err;
}

int proxy_listen(struct proxy *proxy, const char *url, struct errmsg *reterr)
{
    struct listener_url parsed;
    int err = listener_url_parse(url, &parsed, reterr);
    if (err < 0)
        return err;
    struct proxy_listener *added = mem_new(sizeof *added);
    const struct listener_config config = {
        .loop = proxy->deps.loop,
        .log = proxy->deps.log,
        .backlog = proxy->config.backlog,
        .on_accept = on_accept,
        .on_socket = on_socket,
        .data = added,
    };
    list_push_back(&proxy->listeners, &added->node);
    added->proxy = proxy;
    added->url = mem_strdup(url);
    const struct stack_config stack = {
        .tls = &proxy->config.tls,
        .websocket = &proxy->config.websocket,
        .log = proxy->deps.log,
        .metrics = proxy->deps.metrics,
    };
    err = stack_new(&parsed, &stack, &added->stack, reterr);
    if (err < 0)
        errmsg_wrap(reterr, "could not listen on %s", url);
    if (err == 0 && parsed.kind == LISTENER_UDP)
        err = open_quic(proxy, added, &parsed, reterr);
    if (err == 0)
        err = listener_new(&parsed, &config, &added->listener, reterr);
    if (err < 0)
        listener_close(added);
    return err;
}

static void close_listeners(struct proxy *proxy)
{
    list_each_safe (it, &proxy->listeners)
        listener_close(CONTAINER_OF(it, struct proxy_listener, node));
}

int proxy_unlisten(struct proxy *proxy, const char *url)
{
    list_each (it, &proxy->listeners) {
        struct proxy_listener *listener = CONTAINER_OF(it, struct proxy_listener, node);
        if (strcmp(listener->url, url) == 0) {
            listener_close(listener);
            return 0;
        }
    }
    return ERR_NOTFOUND;
}

void proxy_listeners(const struct proxy *proxy, proxy_listener_fn *each, void *data)
{
    list_each (it, &proxy->listeners) {
        const struct proxy_listener *listener = CONTAINER_OF(it, struct proxy_listener, node);
        each(data, listener->url, listener_bound(listener->listener));
    }
}

uint16_t proxy_port(const struct proxy *proxy)
{
    const struct proxy_listener *first = LIST_FIRST(&proxy->listeners, struct proxy_listener, node);
    return first ? listener_port(first->listener) : 0;
}

/* --- all conns -------------------------------------------------------------------------------- */

void proxy_pause(struct proxy *proxy, bool paused)
{
    proxy->paused = paused;
    if (paused)
        return;
    list_each_safe (it, &proxy->held)
        conn_release(CONTAINER_OF(it, struct conn, held_node), HOLD_STORE);
}

uint32_t proxy_connections(const struct proxy *proxy)
{
    return proxy->conn_count;
}

/* --- the end --------------------------------------------------------------------------------- */

static void end_drain(struct proxy *proxy)
{
    void (*drained)(void *data) = TAKE(proxy->drained);
    if (drained)
        drained(proxy->drained_data);
}

void proxy_conn_gone(struct proxy *proxy)
{
    ASSERT(proxy->conn_count > 0);
    proxy->conn_count--;
    metric_add(&proxy->deps.metrics->connections, -1);
    if (proxy->draining && proxy->conn_count == 0)
        end_drain(proxy);
}

void proxy_drain(struct proxy *proxy, void (*done)(void *data), void *data)
{
    ASSERT(!proxy->draining);
    proxy->draining = true;
    proxy->drained = done;
    proxy->drained_data = data;
    close_listeners(proxy);
    list_each (it, &proxy->conns)
        conn_fail(CONTAINER_OF(it, struct conn, node), REASON_SHUTTING_DOWN, NULL);
    if (proxy->conn_count == 0)
        end_drain(proxy);
}

struct proxy *proxy_free(struct proxy *proxy)
{
    if (!proxy)
        return NULL;
    close_listeners(proxy);
    proxy->drained = NULL;
    timer_stop(proxy->timers, &proxy->starved);
    timer_stop(proxy->timers, &proxy->revoking);
    timer_stop(proxy->timers, &proxy->pace);
    list_each_safe (it, &proxy->conns)
        (void)conn_free(CONTAINER_OF(it, struct conn, node));
    (void)quic_free(proxy->quic);
    while (proxy->front_count > 0)
        (void)front_free(proxy->fronts[--proxy->front_count]);
    mem_free(proxy->fronts);
    deferred_cancel(&proxy->counting);
    flush_counts(&proxy->counting);
    timer_stop(proxy->timers, &proxy->trimming);
    share_done(&proxy->share);
    out_pool_done(&proxy->pool);
    mem_free(proxy);
    return NULL;
}
