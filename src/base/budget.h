/* Budget: how many bytes something may take, such as all conns beyond their fixed size.
 *
 * What a peer can refrain from (large packets) or the core can hold back (deliveries) is asked for
 * and refused when the budget is used up. Answers that must be given are charged all the same; they
 * are bounded per conn. Thread: loop.
 */
#pragma once

#include "base/base.h"

struct budget {
    uint64_t used, max;
};

static inline bool budget_has(const struct budget *budget, uint64_t size)
{
    return size <= budget->max && budget->used <= budget->max - size;
}

/* Takes `size` bytes; false: they would exceed the budget, nothing is taken. */
MUST_CHECK static inline bool budget_take(struct budget *budget, uint64_t size)
{
    if (!budget_has(budget, size))
        return false;
    budget->used += size;
    return true;
}

/* Takes them in any case. */
static inline void budget_charge(struct budget *budget, uint64_t size)
{
    budget->used += size;
}

static inline void budget_give(struct budget *budget, uint64_t size)
{
    ASSERT(budget->used >= size);
    budget->used -= size;
}
