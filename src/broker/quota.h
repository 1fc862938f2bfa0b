/* Quota: the rates that one broker keeps to, over the leases of a quota service.
 *
 * A rate of 0 is no limit and costs its caller one look. Asking and spending are apart, because a
 * delivery is counted only when the connection has taken it. Messages count by their weight: see
 * quota_weight and docs/limits.md. Private to broker/. Thread: loop.
 */
#pragma once

#include "broker/broker.h"
#include "broker/quota_service.h"

struct quota_rate {
    uint32_t per_s; /* 0: no limit */
    struct quota_lease lease;
    uint64_t second;            /* of the clock, that `used` is for */
    uint64_t used, used_before; /* tokens: in that second, and in the one before it */
};

struct quota {
    struct quota_service *service;
    bool owned;         /* the service ends with us */
    bool messages;      /* limits.tps or limits.client_tps is on */
    uint32_t client_ps; /* limits.client_tps; 0: no limit */
    struct quota_rate rates[QUOTA_KIND_COUNT];
};

/* What a message costs, in and out alike: the packets of its exchange, and half as many again when
 * the session outlives its connection and keeps the progress on disk. */
static inline uint32_t quota_weight(uint8_t qos, bool durable)
{
    static const uint8_t weights[3][2] = {{1, 1}, {2, 3}, {4, 6}};
    return weights[qos][durable];
}

/* service: borrowed until quota_done; NULL: one of its own, for a server that is alone. */
void quota_init(struct quota *quota, struct quota_service *service);
void quota_configure(struct quota *quota, const struct broker_config *config);
void quota_done(struct quota *quota);

/* Whether so much may be spent now; always when there is no limit. spare: a quarter must be left,
 * which is kept for what is worth more. */
bool quota_has(struct quota *quota, enum quota_kind kind, uint32_t cost, bool spare,
               uint64_t now_ms);
/* Spends it, also when there is not so much. */
void quota_spend(struct quota *quota, enum quota_kind kind, uint32_t cost, uint64_t now_ms);
/* Both for one. */
bool quota_take(struct quota *quota, enum quota_kind kind, uint64_t now_ms);

/* What was spent in the last whole second. */
uint64_t quota_used(const struct quota *quota, enum quota_kind kind, uint64_t now_ms);
