/* The broker core: sessions, subscriptions, routing and delivery over one store.
 *
 * It knows neither sockets nor engines: it calls struct link_ops and struct store_ops. One core
 * lives on one loop thread and needs no locks. Time comes from the timer set it is given, so that
 * tests run it with a clock of their own.
 */
#pragma once

#include "base/log.h"
#include "base/metrics.h"
#include "io/loop.h"
#include "store/store.h"

struct broker;
struct rulebook;
struct quota_service;

enum duplicate_client_id { DUPLICATE_TAKEOVER, DUPLICATE_REJECT };

struct broker_config {
    bool topics_auto_create;
    bool topics_strict_names;          /* limits.profile tdmq: 3-100 of letters, digits, '-', '_' */
    uint32_t topics_max;               /* first-level topics */
    const char *const *deny_subscribe; /* filters answered 0x87; borrowed until broker_configure */
    size_t deny_subscribe_count;
    enum duplicate_client_id duplicate_client_id;
    uint32_t session_expiry_max_s; /* cap; what a 3.x session with clean session 0 gets */
    uint32_t sessions_max;
    uint32_t
        retry_interval_s; /* resend unacknowledged to 3.x clients on a live connection; 0 = never */
    uint32_t filters_per_client_max;
    uint32_t subscriptions_max;
    uint32_t payload_max; /* bytes */
    uint32_t clients_max; /* online; 0 = no limit */
    /* Each per second; 0 = no limit. */
    uint32_t tps, client_tps; /* messages in and out, weighted, of all clients and of each */
    uint32_t connect_rate, will_connect_rate, subscribe_rate, unsubscribe_rate;
    uint16_t receive_max; /* unacknowledged QoS 1 and 2 from one client */
    uint16_t
        max_inflight; /* unacknowledged QoS 1 and 2 to one client, with the client's own limit */
    uint32_t topic_levels_max;
    uint32_t restart_grace_s; /* wills of clients connected at a crash wait at least this long */
    uint32_t sys_interval_s;  /* $SYS topics; 0 = off */
    bool qos0_log;            /* append QoS 0 messages for query and trace */
    uint64_t retained_bytes_max;
    /* With more bytes in use (mem_used) nothing is begun that stays: no session, subscription,
     * topic, retained message, and only few messages without an answer for each client. */
    uint64_t memory_max;
};

void broker_config_default(struct broker_config *config);

/* Recovers all state from `meta` (blocking) and starts. store, meta, timers, log, metrics: borrowed
 * until broker_free. wall_ms: returns wall-clock milliseconds, called with clock_data. */
struct broker_deps {
    struct store *store;
    struct meta *meta;
    struct loop *loop;        /* for deferred calls only */
    struct timer_set *timers; /* the loop's, or one with a test's clock */
    struct log *log;
    struct metrics *metrics;
    struct rulebook *rulebook; /* watched until broker_free; NULL: everybody may do everything */
    const struct devices *devices;       /* whose properties are added; NULL: there are none */
    struct quota_service *quota_service; /* NULL: one for this server alone */
    uint64_t (*wall_ms)(void *clock_data);
    void *clock_data;
    /* The store has caught up after store_pressure; may be NULL. */
    void (*on_drained)(void *drained_data);
    void *drained_data;
};

MUST_CHECK int broker_new(const struct broker_config *config, const struct broker_deps *deps,
                          struct broker **ret_broker, struct errmsg *reterr);
/* Takes the new values where they can change while running. */
void broker_configure(struct broker *broker, const struct broker_config *config);
/* What needs somebody's attention, as the topic $SYS/broker/alarms says it: a text (JSON), copied.
 * It is sent to its subscribers now, and to new subscriptions, whatever sys.interval is. Thread:
 * loop. */
void broker_alarms(struct broker *broker, const char *text);
/* Begins an orderly end: closes every link with 0x8B (wills of v5 clients with a delay stay
 * pending), writes all progress. `idle` is called once nothing is pending; then broker_free may be
 * called. */
void broker_drain(struct broker *broker, void (*idle)(void *data), void *data);
/* Frees everything; the store must have been closed (its requests ended) before. Returns NULL. */
struct broker *broker_free(struct broker *broker);
