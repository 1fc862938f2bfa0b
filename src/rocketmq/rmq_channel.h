/* Channel: the way to one NameSrv or Broker, over at most one connection at a time.
 *
 *   IDLE ──a frame to send──▶ WAITING (back-off) ──▶ CONNECTING ──▶ OPEN ──go away──▶ DRAINING
 *    ▲ └───────────────────────────────────────────▶ │               │                  │
 *    └──────────────────── no frame to send ◀────────┴──── lost ◀────┴──────────────────┘
 *
 * Requests are sent in the order in which they were submitted and without waiting for each other's
 * answers, which come back in any order and are matched by the request's number (opaque). All that
 * is submitted in one turn of the loop goes out together at its end.
 *
 * When a connection is lost, what was sent fails; what was not is sent over the next connection.
 * When no connection can be made, all fails. A channel that is not asked for anything stays
 * disconnected. A peer from which nothing at all has come since a request that timed out is taken
 * for dead, and so is its connection.
 *
 * Numbers must be unique among a channel's requests; the same request may be submitted again, to
 * this or another channel, once it has ended.
 *
 * Thread: the loop's.
 */
#pragma once

#include "base/hashmap.h"
#include "net/stream.h"
#include "rocketmq/rmq_command.h"
#include "rocketmq/rmq_net.h"

struct rmq_channel;
struct rmq_output;
struct rmq_pending;

struct rmq_answer {
    int err;         /* 0: the server has answered; -ETIMEDOUT; ERR_UNAVAILABLE: no connection;
                      * ERR_CLOSED: the connection was lost */
    bool was_sent;   /* with an error: the server may have got the request */
    const char *why; /* with an error: what to tell people; borrowed for the call */
    const struct rmq_command *command; /* without one */
    struct slice body;                 /* slice_keep what is wanted longer */
};

/* Runs once, later, unless cancelled. The channel must not be freed inside. */
typedef void rmq_answer_fn(struct rmq_pending *pending, const struct rmq_answer *answer);

/* A request under way. Embed it, zeroed, fill in the first block, keep it in place until done or
 * cancelled. */
struct rmq_pending {
    struct buf *frame; /* the caller's reference */
    int32_t opaque;
    uint32_t timeout_ms; /* from now to the answer */
    rmq_answer_fn *done;

    struct rmq_channel *channel; /* NULL: not under way */
    struct list node;
    struct hashnode by_opaque;
    struct timer timer;
    struct rmq_output *output; /* while it is not sent */
    uint64_t since_ms;
    bool was_offered; /* to the network */
};

/* Puts a stage, such as TLS, upon a connection that was made; it takes `below` over. */
typedef struct stream *rmq_stage_fn(void *data, struct loop *loop, struct stream *below,
                                    const char *host);

struct rmq_channel_events {
    void (*on_open)(void *data, struct rmq_channel *channel); /* connected; may submit requests */
    /* The connection is gone, or could not be made. */
    void (*on_lost)(void *data, struct rmq_channel *channel, const char *why);
    void *data;
};

struct rmq_channel_options {
    const char *address; /* "host:port" */
    uint32_t connect_timeout_ms;
    uint32_t retry_min_ms,
        retry_max_ms;          /* the pause before it connects again, and what it grows to */
    uint64_t pending_size_max; /* bytes of requests that are under way */
    rmq_stage_fn *stage;       /* NULL: none */
    void *stage_data;
    struct rmq_channel_events events; /* each may be NULL */
};

struct rmq_channel *rmq_channel_new(const struct rmq_net *net,
                                    const struct rmq_channel_options *options);
/* Cancels what is under way, and hangs up. NULL is fine; returns NULL. */
struct rmq_channel *rmq_channel_free(struct rmq_channel *channel);

/* Submits a request. Returns 0, or ERR_FULL: more than pending_size_max bytes are under way; then
 * done is not called. */
MUST_CHECK int rmq_channel_submit(struct rmq_channel *channel, struct rmq_pending *pending);
/* done will not be called. Harmless when it is not under way. */
void rmq_pending_cancel(struct rmq_pending *pending);
/* Sends a frame that has no answer, if the channel is open; takes the reference over. */
void rmq_channel_post(struct rmq_channel *channel, struct buf *frame);

const char *rmq_channel_address(const struct rmq_channel *channel);
bool rmq_channel_is_open(const struct rmq_channel *channel);
/* The last attempt to connect failed, and none has succeeded since. */
bool rmq_channel_is_failing(const struct rmq_channel *channel);
