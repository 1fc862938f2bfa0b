/* The inside of the client. Private to rocketmq/. Thread: the loop's. */
#pragma once

#include "rocketmq/rmq_client.h"
#include "rocketmq/rmq_route.h"

#define RMQ_NAMESRVS_MAX 16u
#define RMQ_CHANNELS_MAX 1024u
#define RMQ_TOPICS_MAX   65536u

/* A channel that somebody uses. */
struct rmq_line {
    struct list node;
    struct rmq_client *client;
    struct rmq_channel *channel;
    bool is_broker; /* gets heartbeats */
};

struct rmq_client {
    struct rmq_net net;
    struct rmq_client_options options; /* texts are the client's own */
    char *namesrvs[RMQ_NAMESRVS_MAX];
    uint32_t namesrv_count, namesrv; /* namesrv: index of the one in use */
    struct list lines;               /* struct rmq_line */
    uint32_t line_count;
    struct list calls;     /* struct rmq_call */
    struct list fanouts;   /* struct rmq_fanout */
    struct hashmap topics; /* struct rmq_topic */
    struct timer heartbeat;
    uint32_t opaque; /* of the last request */
    uint32_t turn;   /* for spreading messages over Brokers */
    struct rmq_counters counters;
};

/* The channel to an address, made when there is none. Returns 0 or ERR_FULL. */
MUST_CHECK int rmq_client_channel(struct rmq_client *client, const char *address, bool is_broker,
                                  struct rmq_channel **ret_channel);

/* --- topics: rmq_topics.c ------------------------------------------------------------------------
 */

/* What is known of one topic. */
struct rmq_topic {
    struct hashnode node;
    struct rmq_client *client;
    struct rmq_route *route; /* NULL: none is known */
    struct rmq_call *fetch;  /* while its route is asked for */
    struct list waiters;     /* struct rmq_call, in state WAITING_FOR_ROUTE */
    uint64_t fetched_ms, used_ms;
    char name[];
};

/* The entry of a topic, made when there is none. Returns 0; ERR_FULL; ERR_INVALID: an empty or very
 * long name. */
MUST_CHECK int rmq_topics_get(struct rmq_client *client, const char *name,
                              struct rmq_topic **ret_topic);
/* Asks for its route, unless that is under way, or one is known that came a moment ago. Returns 0,
 * or the error of rmq_call_start. */
MUST_CHECK int rmq_topic_refresh(struct rmq_topic *topic);
void rmq_topics_refresh(struct rmq_client *client);                   /* every 30 s */
void rmq_topics_lost(struct rmq_client *client, const char *address); /* a connection */
void rmq_topics_free(struct rmq_client *client);

/* --- calls: rmq_call.c ---------------------------------------------------------------------------
 */

enum rmq_call_kind { RMQ_TO_NAMESRV, RMQ_TO_TOPIC, RMQ_TO_ADDRESS };

struct rmq_call_spec {
    enum rmq_call_kind kind;
    const char *topic;   /* RMQ_TO_TOPIC: whose route is used */
    const char *broker;  /* RMQ_TO_TOPIC: name of a group; NULL: any that takes messages */
    const char *address; /* RMQ_TO_ADDRESS */
    int32_t code;
    struct rmq_fields *fields; /* gets those of the signature added; NULL: none */
    struct slice body;
    uint32_t timeout_ms;  /* of one attempt; 0: the client's */
    uint32_t patience_ms; /* for trying again; 0: not at all */
    bool is_repeatable;   /* twice is the same as once */
};

/* Starts a call; all of the spec is borrowed for the call. Returns 0, or an error without calling
 * back: ERR_FULL: too much is under way; ERR_INVALID: a name is not allowed; ERR_NOMEM. */
MUST_CHECK int rmq_call_start(struct rmq_client *client, const struct rmq_call_spec *spec,
                              rmq_result_fn *done, void *data, struct rmq_call **ret_call);
/* The route that a call waited for is there, or not: then why says why. */
void rmq_call_routed(struct rmq_call *call, const struct rmq_result *failure);
struct rmq_call *rmq_call_of_waiter(struct list *node);
void rmq_calls_free(struct rmq_client *client); /* no callback runs */
