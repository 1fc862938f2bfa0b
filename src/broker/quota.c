#include "broker/quota.h"

#include "broker/quota_bucket.h"
#include "broker/quota_local.h"

void quota_init(struct quota *quota, struct quota_service *service)
{
    quota->owned = service == NULL;
    quota->service = service ? service : quota_local_new();
}

void quota_configure(struct quota *quota, const struct broker_config *config)
{
    const uint32_t rates[QUOTA_KIND_COUNT] = {
        [QUOTA_MESSAGES] = config->tps,
        [QUOTA_CONNECTS] = config->connect_rate,
        [QUOTA_WILLS] = config->will_connect_rate,
        [QUOTA_SUBSCRIBES] = config->subscribe_rate,
        [QUOTA_UNSUBSCRIBES] = config->unsubscribe_rate,
    };
    for (size_t kind = 0; kind < QUOTA_KIND_COUNT; kind++) {
        struct quota_rate *rate = &quota->rates[kind];
        if (rate->per_s == rates[kind])
            continue;
        rate->per_s = rates[kind];
        rate->lease.until_ms = 0; /* the new rate counts from now on */
    }
    quota->client_ps = config->client_tps;
    quota->messages = config->tps > 0 || config->client_tps > 0;
}

void quota_done(struct quota *quota)
{
    if (quota->owned)
        quota->service = quota->service->ops->free(quota->service);
}

static int64_t spare_of(const struct quota_rate *rate)
{
    return rate->lease.depth / 4;
}

bool quota_has(struct quota *quota, enum quota_kind kind, uint32_t cost, bool spare,
               uint64_t now_ms)
{
    struct quota_rate *rate = &quota->rates[kind];
    if (rate->per_s == 0)
        return true;
    if (now_ms >= rate->lease.until_ms) {
        const struct quota_claim claim = {
            .kind = kind, .rate = rate->per_s, .left = rate->lease.tokens, .now_ms = now_ms};
        quota->service->ops->lease(quota->service, &claim, &rate->lease);
    }
    return quota_affords(rate->lease.tokens, rate->lease.depth, spare ? spare_of(rate) : 0, cost);
}

void quota_spend(struct quota *quota, enum quota_kind kind, uint32_t cost, uint64_t now_ms)
{
    struct quota_rate *rate = &quota->rates[kind];
    if (rate->per_s == 0)
        return;
    const uint64_t second = now_ms / 1000;
    if (second != rate->second) {
        rate->used_before = second == rate->second + 1 ? rate->used : 0;
        rate->used = 0;
        rate->second = second;
    }
    rate->used += cost;
    rate->lease.tokens -= cost;
}

bool quota_take(struct quota *quota, enum quota_kind kind, uint64_t now_ms)
{
    if (!quota_has(quota, kind, 1, false, now_ms))
        return false;
    quota_spend(quota, kind, 1, now_ms);
    return true;
}

uint64_t quota_used(const struct quota *quota, enum quota_kind kind, uint64_t now_ms)
{
    const struct quota_rate *rate = &quota->rates[kind];
    const uint64_t second = now_ms / 1000;
    if (second == rate->second)
        return rate->used_before;
    return second == rate->second + 1 ? rate->used : 0;
}
