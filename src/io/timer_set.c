/* Timers: a heap of four children per node, ordered by due time.
 *
 * The due time lies beside the pointer, so that sifting touches only the heap's own memory; each
 * timer knows its place, so that stopping costs O(log n) too. A restart to a later time, the common
 * case of keep alive, moves a timer down a level or two.
 *
 * Invariant: no entry is due before its parent; heap[timer->place].timer == timer while it runs.
 */
#include "base/mem.h"
#include "io/loop.h"

enum { CHILDREN = 4, ROOM_MIN = 64 };

struct entry {
    uint64_t due_ms;
    struct timer *timer;
};

struct timer_set {
    struct entry *heap;
    size_t count, room;
    uint64_t now_ms;
    bool advancing;
};

struct timer_set *timer_set_new(uint64_t now_ms)
{
    struct timer_set *set = mem_new(sizeof *set);
    set->now_ms = now_ms;
    return set;
}

struct timer_set *timer_set_free(struct timer_set *set)
{
    if (!set)
        return NULL;
    for (size_t i = 0; i < set->count; i++)
        set->heap[i].timer->due_ms = 0;
    mem_free(set->heap);
    mem_free(set);
    return NULL;
}

uint64_t timer_set_now_ms(const struct timer_set *set)
{
    return set->now_ms;
}

void timer_set_clock(struct timer_set *set, uint64_t now_ms)
{
    set->now_ms = MAX(set->now_ms, now_ms);
}

static void put(struct timer_set *set, size_t place, struct entry entry)
{
    set->heap[place] = entry;
    entry.timer->place = place;
}

static void sift_up(struct timer_set *set, size_t place, struct entry entry)
{
    while (place > 0) {
        const size_t parent = (place - 1) / CHILDREN;
        if (set->heap[parent].due_ms <= entry.due_ms)
            break;
        put(set, place, set->heap[parent]);
        place = parent;
    }
    put(set, place, entry);
}

static void sift_down(struct timer_set *set, size_t place, struct entry entry)
{
    for (;;) {
        const size_t first = place * CHILDREN + 1;
        if (first >= set->count)
            break;
        const size_t end = MIN(first + CHILDREN, set->count);
        size_t least = first;
        for (size_t child = first + 1; child < end; child++) {
            if (set->heap[child].due_ms < set->heap[least].due_ms)
                least = child;
        }
        if (set->heap[least].due_ms >= entry.due_ms)
            break;
        put(set, place, set->heap[least]);
        place = least;
    }
    put(set, place, entry);
}

static void settle(struct timer_set *set, size_t place, struct entry entry)
{
    if (place > 0 && set->heap[(place - 1) / CHILDREN].due_ms > entry.due_ms)
        sift_up(set, place, entry);
    else
        sift_down(set, place, entry);
}

void timer_start(struct timer_set *set, struct timer *timer, uint64_t delay_ms)
{
    /* A timer that restarts itself without delay must not keep timer_set_advance from returning. */
    const uint64_t delay_min_ms = set->advancing || set->now_ms == 0;
    const uint64_t delay_max_ms = UINT64_MAX - set->now_ms;
    const uint64_t due_ms = set->now_ms + MIN(MAX(delay_ms, delay_min_ms), delay_max_ms);
    const struct entry entry = {.due_ms = due_ms, .timer = timer};
    if (timer->due_ms != 0) {
        ASSERT(timer->place < set->count && set->heap[timer->place].timer == timer);
        timer->due_ms = due_ms;
        settle(set, timer->place, entry);
        return;
    }
    if (set->count == set->room) {
        set->room = MAX(set->room * 2, (size_t)ROOM_MIN);
        set->heap = mem_grow(set->heap, set->room * sizeof *set->heap);
    }
    timer->due_ms = due_ms;
    sift_up(set, set->count++, entry);
}

void timer_stop(struct timer_set *set, struct timer *timer)
{
    if (timer->due_ms == 0)
        return;
    ASSERT(timer->place < set->count && set->heap[timer->place].timer == timer);
    timer->due_ms = 0;
    const struct entry last = set->heap[--set->count];
    if (last.timer != timer)
        settle(set, timer->place, last);
}

void timer_set_run(struct timer_set *set, uint32_t count_max)
{
    ASSERT(!set->advancing);
    set->advancing = true;
    for (; count_max > 0 && set->count > 0 && set->heap[0].due_ms <= set->now_ms; count_max--) {
        struct timer *timer = set->heap[0].timer;
        timer_stop(set, timer);
        timer->on_due(timer);
    }
    set->advancing = false;
}

void timer_set_advance(struct timer_set *set, uint64_t now_ms)
{
    timer_set_clock(set, now_ms);
    while (timer_set_wait_ms(set) == 0)
        timer_set_run(set, UINT32_MAX);
}

int64_t timer_set_wait_ms(const struct timer_set *set)
{
    if (set->count == 0)
        return -1;
    const uint64_t due_ms = set->heap[0].due_ms;
    return due_ms <= set->now_ms ? 0 : (int64_t)MIN(due_ms - set->now_ms, (uint64_t)INT64_MAX);
}
