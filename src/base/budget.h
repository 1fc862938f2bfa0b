/* Budget: how many bytes something may take, such as all conns beyond their fixed size.
 *
 * What a peer can refrain from (large packets) or the core can hold back (deliveries) is asked for
 * and refused when the budget is used up. Answers that must be given are charged all the same; they
 * are bounded per conn. The rest of the process counts too, but an eighth is for the conns whatever
 * the rest has taken, so that what is stored can still be fetched. Thread: loop.
 */
#pragma once

#include "base/base.h"

struct budget {
    uint64_t used, max;
    uint64_t others; /* bytes that the rest of the process uses */
};

/* Up to how many eighths of the budget a use may go: what can wait longest gives way first. */
enum budget_use {
    BUDGET_LARGE = 4,  /* packets that are gathered in memory of their own */
    BUDGET_OUTPUT = 6, /* deliveries */
    BUDGET_SMALL = 8,
};

static inline bool budget_has(const struct budget *budget, enum budget_use use, uint64_t size)
{
    const uint64_t most = budget->max / 8 * use + budget->max % 8 * (use == BUDGET_SMALL);
    const uint64_t used = budget->used + budget->others;
    return (size <= most && used <= most - size) || budget->used + size <= budget->max / 8;
}

/* Takes `size` bytes; false: they would exceed the budget, nothing is taken. */
MUST_CHECK static inline bool budget_take(struct budget *budget, enum budget_use use, uint64_t size)
{
    if (!budget_has(budget, use, size))
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

/* More than half is used by conns, or there is little left: everyone gets less. */
static inline bool budget_is_tight(const struct budget *budget)
{
    return budget->used > budget->max / 2 || !budget_has(budget, BUDGET_OUTPUT, 0);
}
