/* A histogram of durations with a relative error below 1.6 %, from 1 ns to centuries.
 *
 * Values below 64 have a bucket each; above, each power of two is cut into 64 equal buckets.
 */
#pragma once
#include <stdint.h>

#define HIST_BUCKETS (64 * 59)

struct hist {
    uint64_t count;
    uint64_t max;
    uint64_t buckets[HIST_BUCKETS];
};

void hist_clear(struct hist *hist);

/* Adds one duration, in nanoseconds. */
void hist_add(struct hist *hist, uint64_t value_ns);

/* Returns the value in nanoseconds below or at which `fraction` (0 to 1) of all values lie,
 * as the upper end of its bucket, at most the largest value seen; 0 when there are none. */
uint64_t hist_quantile(const struct hist *hist, double fraction);
