/* What the files of proxy/ share. Private to proxy/. */
#pragma once

#include "proxy/conn.h"

#include "net/front.h"
#include "net/listener.h"
#include "proxy/share.h"

/* Counted here and added to the metrics once per iteration: an atomic per packet would show. */
struct proxy_counts {
    int64_t packets_received, packets_sent, publish_received, publish_sent, bytes_received,
        bytes_sent;
    int64_t publish_bytes_received, publish_bytes_sent; /* payloads */
};

struct proxy_listener {
    struct list node;
    struct proxy *proxy;
    char *url;
    struct stack *stack;
    struct listener *listener;  /* NULL while it is being opened */
    struct quic_endpoint *quic; /* NULL: it is none of QUIC */
};

struct proxy {
    struct proxy_config config;
    struct proxy_deps deps;
    struct timer_set *timers;
    struct front **fronts; /* front_count of them */
    uint32_t front_count;
    struct quic *quic;     /* NULL until the first listener of QUIC */
    struct list listeners; /* struct proxy_listener */
    struct list conns;
    struct list held;      /* those with HOLD_STORE */
    struct list newcomers; /* those that have sent no CONNECT, the oldest first */
    struct list paced;     /* those with HOLD_RATE, the next first */
    struct timer pace;     /* until they are tried again */
    uint32_t conn_count;
    bool paused, draining;
    void (*drained)(void *data);
    void *drained_data;
    struct budget budget;
    int64_t memory_reported; /* part of the metric memory_used */
    struct timer starved;    /* until deliveries refused for want of memory are tried again */
    struct timer revoking;   /* looks through the conns for revoked certificates, */
    uint32_t tls_round;      /* once more each time that certificates were read */
    struct out_pool pool;
    struct timer trimming; /* of the pool */
    struct share share;
    uint64_t burst; /* bytes of PUBLISH appended since a burst was last written */
    struct proxy_counts counts;
    struct deferred counting; /* adds them to the metrics, behind the conns of an iteration */
    uint8_t scratch[INPUT_SCRATCH_SIZE];
};

/* Makes a conn of a connected stream, which it takes over. */
struct conn *proxy_adopt(struct proxy *proxy, struct stream *stream, const char *address);
/* Bytes that may wait for one client now: less when the budget is half used up, so that many slow
 * readers do not take it all. */
uint64_t proxy_output_max(const struct proxy *proxy);
/* A conn without output has refused a delivery for want of memory: asks the core again soon. */
void proxy_starve(struct proxy *proxy);
/* proxy_tls.c: some more of the conns. */
void proxy_on_revoking(struct timer *timer);
/* A conn is gone; ends a drain with the last one. */
void proxy_conn_gone(struct proxy *proxy);
