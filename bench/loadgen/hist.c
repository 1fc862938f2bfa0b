#include "hist.h"
#include <math.h>
#include <string.h>

void hist_clear(struct hist *hist)
{
    memset(hist, 0, sizeof *hist);
}

static uint32_t bucket_of(uint64_t value)
{
    if (value < 64)
        return (uint32_t)value;
    const uint32_t shift = 57U - (uint32_t)__builtin_clzll(value);
    return 64U * (shift + 1) + (uint32_t)((value >> shift) & 63U);
}

static uint64_t bucket_end(uint32_t bucket)
{
    if (bucket < 64)
        return bucket;
    const uint32_t shift = bucket / 64 - 1;
    return (((uint64_t)(bucket % 64) + 65) << shift) - 1;
}

void hist_add(struct hist *hist, uint64_t value_ns)
{
    hist->buckets[bucket_of(value_ns)]++;
    hist->count++;
    if (value_ns > hist->max)
        hist->max = value_ns;
}

uint64_t hist_quantile(const struct hist *hist, double fraction)
{
    const uint64_t wanted = (uint64_t)ceil(fraction * (double)hist->count);
    uint64_t seen = 0;
    for (uint32_t i = 0; i < HIST_BUCKETS && hist->count > 0; i++) {
        seen += hist->buckets[i];
        if (seen >= wanted && seen > 0)
            return bucket_end(i) < hist->max ? bucket_end(i) : hist->max;
    }
    return hist->max;
}
