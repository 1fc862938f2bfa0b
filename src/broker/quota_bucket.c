#include "broker/quota_bucket.h"

#define PARTS 1000 /* of a token; a rate per second is so many parts per millisecond */

/* A bucket is full long before; bounds the product below. */
#define ELAPSED_MAX_MS 1000000000u

void quota_bucket_fill(struct quota_bucket *bucket, uint32_t rate, uint64_t now_ms)
{
    const int64_t full = (int64_t)rate * PARTS;
    if (bucket->filled_ms == 0) {
        bucket->level = full;
    } else {
        const uint64_t elapsed_ms = MIN(now_ms - bucket->filled_ms, (uint64_t)ELAPSED_MAX_MS);
        bucket->level = MIN(full, bucket->level + (int64_t)(elapsed_ms * rate));
    }
    bucket->filled_ms = now_ms;
}

int64_t quota_bucket_tokens(const struct quota_bucket *bucket)
{
    const int64_t level = bucket->level;
    return level >= 0 ? level / PARTS : (level - (PARTS - 1)) / PARTS;
}

void quota_bucket_take(struct quota_bucket *bucket, int64_t tokens)
{
    bucket->level -= tokens * PARTS;
}
