#include "base/metrics.h"

#include "base/mem.h"

enum metric_kind { GAUGE, COUNTER };

struct metrics *metrics_new(void)
{
    return mem_new(sizeof(struct metrics));
}

struct metrics *metrics_free(struct metrics *metrics)
{
    mem_free(metrics);
    return NULL;
}

void metrics_each(const struct metrics *metrics, metrics_each_fn *each, void *data)
{
#define X(field, kind, name, help)                                                                 \
    each(data, name, help, (kind) == COUNTER, metric_get(&metrics->field));
#include "base/metrics.def"
#undef X
}
