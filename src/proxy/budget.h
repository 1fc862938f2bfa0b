/* Budget: how many bytes all conns together may take beyond their fixed size. Thread: loop. */
#pragma once

#include "base/metrics.h"

struct budget {
    uint64_t used, max;
    struct metrics *metrics; /* memory_used; NULL = not counted there */
};

/* Takes `size` bytes; false: they would exceed the budget, nothing is taken. */
static inline bool budget_take(struct budget *budget, uint64_t size)
{
    if (size > budget->max || budget->used > budget->max - size)
        return false;
    budget->used += size;
    if (budget->metrics)
        metric_add(&budget->metrics->memory_used, (int64_t)size);
    return true;
}

static inline void budget_give(struct budget *budget, uint64_t size)
{
    ASSERT(budget->used >= size);
    budget->used -= size;
    if (budget->metrics)
        metric_add(&budget->metrics->memory_used, -(int64_t)size);
}
