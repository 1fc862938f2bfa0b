#include "broker/quota_local.h"

#include "base/mem.h"
#include "broker/quota_bucket.h"

struct quota_local {
    struct quota_service service; /* first */
    struct quota_bucket buckets[QUOTA_KIND_COUNT];
};

/* All that is in the bucket: nobody else wants it. */
static void local_lease(struct quota_service *service, const struct quota_claim *claim,
                        struct quota_lease *ret_lease)
{
    struct quota_local *local = CONTAINER_OF(service, struct quota_local, service);
    struct quota_bucket *bucket = &local->buckets[claim->kind];
    quota_bucket_take(bucket, -claim->left);
    quota_bucket_fill(bucket, claim->rate, claim->now_ms);
    const int64_t tokens = quota_bucket_tokens(bucket);
    quota_bucket_take(bucket, tokens);
    *ret_lease = (struct quota_lease){
        .tokens = tokens,
        .depth = claim->rate,
        .until_ms = claim->now_ms + QUOTA_LOCAL_LEASE_MS,
    };
}

static struct quota_service *local_free(struct quota_service *service)
{
    mem_free(CONTAINER_OF(service, struct quota_local, service));
    return NULL;
}

static const struct quota_service_ops local_ops = {.lease = local_lease, .free = local_free};

struct quota_service *quota_local_new(void)
{
    struct quota_local *local = mem_new(sizeof *local);
    local->service.ops = &local_ops;
    return &local->service;
}
