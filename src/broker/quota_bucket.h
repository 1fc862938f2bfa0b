/* Token bucket: a rate, of which a second's worth can be saved up.
 *
 * It fills by `rate` tokens a second up to `rate` tokens; what is taken may leave it in debt, which
 * is paid off first. Counted in thousandths, so that nothing is lost between two looks at it. The
 * clock is the caller's. Thread: owner.
 */
#pragma once

#include "base/base.h"

struct quota_bucket {
    int64_t level;      /* thousandths of a token; below 0: debt */
    uint64_t filled_ms; /* when that was right; 0: never used, so it is full */
};

/* Adds what has come since it was last filled. rate: tokens a second, at least 1. */
void quota_bucket_fill(struct quota_bucket *bucket, uint32_t rate, uint64_t now_ms);

/* Whole tokens in it; with debt a negative number, rounded away from 0. */
int64_t quota_bucket_tokens(const struct quota_bucket *bucket);

/* Takes tokens, or with a negative number gives them back, whatever is there. */
void quota_bucket_take(struct quota_bucket *bucket, int64_t tokens);

/* Whether `cost` may be taken of `tokens` when so many are saved up at most (`depth`). A cost above
 * the depth may be taken when all is there. spare: tokens that must be left. */
static inline bool quota_affords(int64_t tokens, int64_t depth, int64_t spare, uint32_t cost)
{
    return tokens >= MIN(MIN((int64_t)cost, depth) + spare, depth);
}
