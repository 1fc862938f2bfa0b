/* Counters and gauges with their OpenMetrics names: one table (metrics.def), one struct.
 * Each value is an atomic that any thread may add to with relaxed order.
 *
 * metrics.def lines: X(field, KIND, "tidemq_name", "help"), KIND: COUNTER or GAUGE.
 */
#pragma once

#include "base/base.h"

#include <stdatomic.h>

struct metrics {
#define X(field, kind, name, help) _Atomic int64_t field;
#include "base/metrics.def"
#undef X
};

static inline void metric_add(_Atomic int64_t *metric, int64_t n)
{
    (void)atomic_fetch_add_explicit(metric, n, memory_order_relaxed);
}

static inline int64_t metric_get(const _Atomic int64_t *metric)
{
    return atomic_load_explicit(metric, memory_order_relaxed);
}

static inline void metric_set(_Atomic int64_t *metric, int64_t n)
{
    atomic_store_explicit(metric, n, memory_order_relaxed);
}

struct metrics *metrics_new(void); /* all zero; owned by app */
struct metrics *metrics_free(struct metrics *metrics);

/* Calls `each` for every metric in table order. */
typedef void metrics_each_fn(void *data, const char *name, const char *help, bool counter,
                             int64_t value);
void metrics_each(const struct metrics *metrics, metrics_each_fn *each, void *data);
