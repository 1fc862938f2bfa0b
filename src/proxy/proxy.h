/* The proxy: listeners and the conns accepted from them, on one loop, in front of one broker core.
 * The sockets may be read and written by loops of their own (net/front.h).
 *
 * It speaks MQTT to clients and link.h to the core. Whatever it keeps for conns is bounded: each
 * has a limit of its own, and all together a budget (memory_max).
 *
 * Thread: the loop's.
 */
#pragma once

#include "auth/auth.h"
#include "base/log.h"
#include "base/metrics.h"
#include "io/loop.h"
#include "net/tls_options.h"
#include "net/ws.h"

struct broker;
struct proxy;
struct rulebook;

struct proxy_config {
    uint32_t connections_max;
    uint32_t connect_timeout_ms;  /* from accept to CONNECT */
    uint32_t packet_max;          /* bytes of a whole packet from a client */
    uint32_t output_max;          /* bytes waiting for one client before the core must hold back */
    uint64_t memory_max;          /* bytes in use in the whole process; see budget.h */
    uint16_t keep_alive_max_s;    /* 0 = clients choose */
    uint16_t receive_max;         /* 3.x clients are not read from while that many publishes pend */
    uint16_t topic_alias_max;     /* that clients may set; 0 = none */
    uint16_t topic_alias_out_max; /* that the server sets, where clients allow it */
    int backlog;                  /* of listeners; 0 = the system's maximum */
    struct tls_options tls;       /* of listeners whose URL says nothing else; borrowed */
    struct ws_options websocket;  /* of listeners for WebSocket; borrowed */
    bool rates;                   /* the core limits rates: link_must_wait is to be asked */
    const char *data_dir;         /* where QUIC's secrets are; borrowed; NULL: no QUIC */
    uint32_t loop_count;          /* 1: this loop serves the sockets too; n: n - 1 others do */
};

void proxy_config_default(struct proxy_config *config);

/* All borrowed until proxy_free. */
struct proxy_deps {
    struct loop *loop;
    struct broker *broker;
    struct auth *auth;
    struct rulebook *rulebook; /* NULL: everybody may do everything */
    struct log *log;
    struct metrics *metrics;
    /* true when the store has more to write than it should: then the proxy pauses itself, until
     * proxy_pause(proxy, false). Asked after each read with something to be stored in it. May be
     * NULL. */
    bool (*pressed)(void *pressed_data);
    void *pressed_data;
    /* Bytes in use in the whole process, which count against memory_max. NULL: only those of conns
     * do. */
    uint64_t (*memory_used)(void);
};

MUST_CHECK int proxy_new(const struct proxy_config *config, const struct proxy_deps *deps,
                         struct proxy **ret_proxy, struct errmsg *reterr);
/* Takes new values: for limits from the next packet on, for what CONNACK announced from the next
 * connection on. */
void proxy_configure(struct proxy *proxy, const struct proxy_config *config);

/* Listens on one more URL (net/listener.h). Returns 0, or an error with the reason in reterr. */
MUST_CHECK int proxy_listen(struct proxy *proxy, const char *url, struct errmsg *reterr);
/* Stops listening on the URL with these very characters; open conns stay. ERR_NOTFOUND. */
MUST_CHECK int proxy_unlisten(struct proxy *proxy, const char *url);

/* url: as configured; bound: with the real port. */
typedef void proxy_listener_fn(void *data, const char *url, const char *bound);
void proxy_listeners(const struct proxy *proxy, proxy_listener_fn *each, void *data);
/* The port of the first listener, 0 when it has none. For tests that listen on port 0. */
uint16_t proxy_port(const struct proxy *proxy);

/* The store cannot take more at present (the proxy finds out by itself, see proxy_deps.pressed):
 * conns are not read beyond their next PUBLISH until proxy_pause(proxy, false). Acknowledgements
 * and pings before that are still handled. */
void proxy_pause(struct proxy *proxy, bool paused);

uint32_t proxy_connections(const struct proxy *proxy);

/* Stops listening and closes every conn, telling MQTT 5 clients 0x8B. `done` runs when the last one
 * is gone, at most a few seconds later; inside the call when there is none. To be called after
 * broker_drain, which closes the links in its own order. */
void proxy_drain(struct proxy *proxy, void (*done)(void *data), void *data);
/* Closes what is still open without a word, then frees. NULL is fine; returns NULL. The core is
 * told of links that are lost, so it must still be there. */
struct proxy *proxy_free(struct proxy *proxy);
