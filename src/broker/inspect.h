/* What administrators see and do: topics, clients, numbers. The admin API is a thin layer over
 * this.
 *
 * Lists are read page by page in a stable order, so that a million clients do not hold up the loop.
 * Slices in results lie in the core's memory: valid until control returns to the loop.
 * Thread: loop.
 */
#pragma once

#include "broker/broker.h"

struct topic_info {
    struct slice name;
    struct slice remark;
    uint64_t created_ms; /* wall clock */
    uint32_t id;
    uint64_t messages; /* entries in the topic's index */
    uint64_t retained;
    uint64_t subscriptions; /* whose filter begins with this name */
};

typedef void topic_each_fn(void *data, const struct topic_info *info);
typedef void inspect_done_fn(void *data, int err, const char *detail);

/* Topics in name order, after `after` (empty: from the start), at most `limit`. Returns how many.
 */
size_t inspect_topics(struct broker *broker, struct slice after, size_t limit, topic_each_fn *each,
                      void *data);
uint64_t inspect_topic_count(const struct broker *broker);
/* Returns 0 or ERR_NOTFOUND. */
MUST_CHECK int inspect_topic(struct broker *broker, struct slice name, struct topic_info *ret_info);
/* Asynchronous: done(0) once durable; done may run inside the call only when it fails.
 * ERR_EXISTS, ERR_INVALID (detail says what a name may be), ERR_FULL (topics_max), ERR_UNAVAILABLE.
 */
void inspect_topic_create(struct broker *broker, struct slice name, struct slice remark,
                          inspect_done_fn *done, void *data);
void inspect_topic_modify(struct broker *broker, struct slice name, struct slice remark,
                          inspect_done_fn *done, void *data);
/* ERR_NOTFOUND; ERR_DENIED while clients subscribe and !force (detail: how many). Removes the
 * topic's messages, retained messages and queues; with force also the subscriptions' backlog for
 * it. */
void inspect_topic_delete(struct broker *broker, struct slice name, bool force,
                          inspect_done_fn *done, void *data);

struct subscription_info {
    struct slice filter; /* as subscribed, "$share/…" included */
    uint8_t qos;
    uint64_t lag; /* messages waiting behind the cursor */
    uint32_t inflight;
};

struct client_info {
    struct slice client_id;
    struct slice username;
    const char *address; /* "" when offline */
    uint8_t version;     /* 3, 4, 5 */
    bool online, clean_start;
    uint16_t keep_alive_s;
    uint32_t expiry_s;
    uint64_t created_ms, connected_ms, disconnected_ms;
    uint32_t inflight; /* to the client, unacknowledged */
    uint64_t trimmed;  /* messages lost to retention before the client read them */
    uint32_t subscription_count;
    bool has_will;
};

typedef void client_each_fn(void *data, const struct client_info *info);
typedef void subscription_each_fn(void *data, const struct subscription_info *info);

enum client_filter { CLIENT_ANY, CLIENT_ONLINE, CLIENT_OFFLINE };

/* Clients in byte order of client ID, after `after`, at most `limit`. Returns how many. */
size_t inspect_clients(struct broker *broker, struct slice after, size_t limit,
                       enum client_filter filter, client_each_fn *each, void *data);
/* One client; each: called for its subscriptions, may be NULL. Returns 0 or ERR_NOTFOUND. */
MUST_CHECK int inspect_client(struct broker *broker, struct slice client_id,
                              struct client_info *ret_info, subscription_each_fn *each, void *data);
/* Closes the client's connection (0x98), its will is published; deletes the session too when asked.
 * ERR_NOTFOUND. */
void inspect_client_kick(struct broker *broker, struct slice client_id, bool delete_session,
                         inspect_done_fn *done, void *data);

/* One of the limits.* of clients. limit: 0 = none. used: of it; for a rate, in the last whole
 * second; -1: each client has its own. refused: how often it was in the way since the start. */
struct limit_info {
    const char *name;
    uint64_t limit;
    int64_t used, refused;
};

typedef void limit_each_fn(void *data, const struct limit_info *info);

/* All that the core keeps; limits.max_connections is the proxy's. */
void inspect_limits(const struct broker *broker, limit_each_fn *each, void *data);

/* Engine figures. */
void inspect_store(struct broker *broker, struct store_stats *ret_stats);
uint64_t inspect_uptime_ms(const struct broker *broker);
