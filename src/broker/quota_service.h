/* Quota service: who may spend how much of what all servers of an instance may spend together.
 *
 * A server does not ask for each message: it takes a lease of some tokens, spends them, and gives
 * back what is left when it takes the next one. quota_local.h is the service of a server that is
 * alone. One that several servers share answers from what it holds for this server, which it
 * renews in the background, so that a lease is never waited for.
 *
 * Thread: loop.
 */
#pragma once

#include "base/base.h"

/* What is limited for all clients together, each by a rate per second. */
enum quota_kind {
    QUOTA_MESSAGES,     /* limits.tps, in the weights of quota_weight */
    QUOTA_CONNECTS,     /* limits.connect_rate */
    QUOTA_WILLS,        /* limits.will_connect_rate */
    QUOTA_SUBSCRIBES,   /* limits.subscribe_rate */
    QUOTA_UNSUBSCRIBES, /* limits.unsubscribe_rate */
    QUOTA_KIND_COUNT,
};

struct quota_claim {
    enum quota_kind kind;
    uint32_t rate;   /* tokens a second that all may spend, at least 1 */
    int64_t left;    /* of the last lease, given back; below 0: spent beyond it */
    uint64_t now_ms; /* monotonic */
};

struct quota_lease {
    int64_t tokens;    /* to spend; none or debt: below 1 */
    int64_t depth;     /* most that a lease of this kind holds, at least 1 */
    uint64_t until_ms; /* the next one may be taken from then on */
};

struct quota_service {
    const struct quota_service_ops *ops;
};

struct quota_service_ops {
    void (*lease)(struct quota_service *service, const struct quota_claim *claim,
                  struct quota_lease *ret_lease);
    struct quota_service *(*free)(struct quota_service *service); /* returns NULL */
};
