/* What the client can be asked for about messages: send, read, find, offsets, POP.
 *
 * All texts and slices are borrowed for the call. Each function returns 0, and then calls back
 * once, later, unless cancelled; or an error, and never calls back: ERR_FULL: too much is under
 * way; ERR_INVALID: a name, a size or a property is not allowed; ERR_NOMEM. ret_call may be NULL.
 *
 * How the results read is in rmq_results.h.
 *
 * Spec: [RMQ SendMessageRequestHeaderV2.java] [RMQ PullMessageRequestHeader.java]
 * [RMQ PopMessageRequestHeader.java]. Thread: the loop's.
 */
#pragma once

#include "rocketmq/rmq_client.h"

/* Where messages are: a queue of a topic, or an LMQ beside it, on one group of Brokers. */
struct rmq_place {
    const char *topic;  /* whose route is used */
    const char *lmq;    /* with its prefix; NULL: the topic itself */
    const char *broker; /* name of the group; NULL: any, which suits topics on one group only */
    int32_t queue_id;   /* of an LMQ: 0 */
};

struct rmq_send {
    struct rmq_place place;  /* lmq is not used: LMQs are in the properties; queue_id -1: any */
    struct slice properties; /* by rmq_properties_add */
    struct slice body;       /* not empty: a Broker refuses such */
    int32_t flag;            /* the sender's own */
    uint32_t patience_ms;    /* how long to try again what was not done */
};

/* Sends one message. Outcomes: RMQ_DONE: durable as the Broker is configured; RMQ_STORED: not so
 * durable; RMQ_UNKNOWN: it may be stored; all others: it is not. */
MUST_CHECK int rmq_send(struct rmq_client *client, const struct rmq_send *send, rmq_result_fn *done,
                        void *data, struct rmq_call **ret_call);

struct rmq_pull {
    struct rmq_place place;
    const char *group;
    uint64_t offset;
    uint32_t count_max;  /* Brokers give 32 at most by default */
    uint32_t suspend_ms; /* how long a Broker may wait for a message; 0: it answers at once */
};

/* Reads from an offset on. Outcomes: RMQ_DONE, RMQ_NOTHING, RMQ_MOVED. */
MUST_CHECK int rmq_pull(struct rmq_client *client, const struct rmq_pull *pull, rmq_result_fn *done,
                        void *data, struct rmq_call **ret_call);

enum rmq_edge { RMQ_FIRST_OFFSET, RMQ_NEXT_OFFSET };
/* The first offset there is, or the one that the next message gets. */
MUST_CHECK int rmq_edge(struct rmq_client *client, const struct rmq_place *place,
                        enum rmq_edge edge, rmq_result_fn *done, void *data,
                        struct rmq_call **ret_call);
/* The offset of the first message that was stored at or after a time, since 1970. */
MUST_CHECK int rmq_search(struct rmq_client *client, const struct rmq_place *place, int64_t time_ms,
                          rmq_result_fn *done, void *data, struct rmq_call **ret_call);

/* What a group has read: RMQ_NOTHING: nothing was ever noted. */
MUST_CHECK int rmq_progress(struct rmq_client *client, const struct rmq_place *place,
                            const char *group, rmq_result_fn *done, void *data,
                            struct rmq_call **ret_call);

/* What a group has read of a place: all below the offset. */
struct rmq_commit {
    const struct rmq_place *place;
    const char *group;
    uint64_t offset;
};
MUST_CHECK int rmq_commit(struct rmq_client *client, const struct rmq_commit *commit,
                          rmq_result_fn *done, void *data, struct rmq_call **ret_call);

struct rmq_query {
    const char *topic, *broker;
    const char *key;
    bool is_unique_key;       /* else one of KEYS */
    int64_t begin_ms, end_ms; /* stored between, since 1970 */
    uint32_t count_max;
};
MUST_CHECK int rmq_query(struct rmq_client *client, const struct rmq_query *query,
                         rmq_result_fn *done, void *data, struct rmq_call **ret_call);
/* The message of an ID that a Broker gave; it names the Broker's address. */
MUST_CHECK int rmq_view(struct rmq_client *client, const char *id, rmq_result_fn *done, void *data,
                        struct rmq_call **ret_call);

struct rmq_pop {
    struct rmq_place place; /* queue_id -1: any */
    const char *group;
    uint32_t count_max;
    uint32_t invisible_ms; /* what is not acknowledged by then comes again */
    uint32_t poll_ms;      /* how long a Broker may wait for a message */
    bool from_end;         /* a group that is new begins with the next message, not the first */
};
MUST_CHECK int rmq_pop(struct rmq_client *client, const struct rmq_pop *pop, rmq_result_fn *done,
                       void *data, struct rmq_call **ret_call);

/* A message that was popped. */
struct rmq_receipt {
    struct rmq_place place; /* queue_id: of the message */
    const char *group;
    struct slice handle; /* its property POP_CK */
    uint64_t offset;     /* in its queue or LMQ */
};
MUST_CHECK int rmq_ack(struct rmq_client *client, const struct rmq_receipt *receipt,
                       rmq_result_fn *done, void *data, struct rmq_call **ret_call);
/* Has it come again so much later from now; the answer has a new receipt handle. */
MUST_CHECK int rmq_hide(struct rmq_client *client, const struct rmq_receipt *receipt,
                        uint32_t invisible_ms, rmq_result_fn *done, void *data,
                        struct rmq_call **ret_call);
