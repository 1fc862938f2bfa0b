/* The client of a RocketMQ cluster: it knows the NameSrvs, learns from them where topics are, keeps
 * a channel to each Broker that is used, and sees requests through.
 *
 *     rmq_send(client, &send, on_sent, data, &call);      rmq_requests.h, rmq_admin.h
 *     static void on_sent(void *data, const struct rmq_result *result) { … }
 *
 * What a request came to is its outcome (rmq_codes.h). As long as its patience lasts, a request is
 * tried again when that can do no harm: it was not done for sure (busy, about to stop, not sent,
 * elsewhere), or doing it twice is the same as doing it once. A message whose fate is unknown is
 * never sent again here; that is for who knows how to recognise the copy.
 *
 * Routes are refreshed every 30 s, when a connection is lost, and when a Broker says that a topic
 * is elsewhere. Brokers get a heartbeat every 30 s. Secret keys and signatures are in no text.
 *
 * Thread: the loop's.
 */
#pragma once

#include "rocketmq/rmq_channel.h"
#include "rocketmq/rmq_codes.h"

struct rmq_client;
struct rmq_call;

struct rmq_client_options {
    const char *namesrvs;                /* "host:port" separated by ',' or ';' */
    const char *access_key, *secret_key; /* NULL or "": requests are not signed */
    const char *client_id;               /* of this process, unique in the cluster */
    const char *producer_group;          /* in whose name messages are sent */
    uint32_t connect_timeout_ms;         /* 0: 3,000 */
    uint32_t request_timeout_ms;         /* of one attempt; 0: 3,000 */
    uint32_t heartbeat_ms;               /* also of refreshing routes; 0: 30,000 */
    uint64_t pending_size_max;           /* bytes under way on each channel; 0: 64 MiB */
    rmq_stage_fn *stage;                 /* such as TLS; NULL: none */
    void *stage_data;
    /* A connection was lost or could not be made; for a log. NULL: nobody wants to know. */
    void (*on_lost)(void *data, const char *address, const char *why);
    void *data;
};

struct rmq_result {
    enum rmq_outcome outcome;
    int32_t code;        /* the server's; -1 without an answer */
    const char *why;     /* what could not be done, why, and what to do next; NULL with RMQ_DONE */
    const char *broker;  /* name of the Broker asked; "" for others */
    const char *address; /* of who was asked last; "" when nobody was */
    const struct rmq_command *command; /* the answer; NULL without one */
    struct slice body;                 /* its body; slice_keep what is wanted longer */
};

/* result: borrowed for the call. The client must not be freed inside. */
typedef void rmq_result_fn(void *data, const struct rmq_result *result);

/* options: copied. Returns 0, or ERR_INVALID with what is wrong with the addresses in reterr. */
MUST_CHECK int rmq_client_new(const struct rmq_net *net, const struct rmq_client_options *options,
                              struct rmq_client **ret_client, struct errmsg *reterr);
/* Cancels what is under way. NULL is fine; returns NULL. */
struct rmq_client *rmq_client_free(struct rmq_client *client);

/* Its callback will not run. */
void rmq_call_cancel(struct rmq_call *call);

struct rmq_counters {
    uint64_t calls, retries, busy, lost, route_fetches, heartbeats;
};
const struct rmq_counters *rmq_client_counters(const struct rmq_client *client);
