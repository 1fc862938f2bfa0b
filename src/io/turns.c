/* Reading a thread's processor time is a system call, so it is read at the beginning of a turn when
 * the last reading is older than TURN_LONG_US, and at the end of a long one: a thousand times a
 * second at most, and right to TURN_LONG_US.
 */
#include "io/turns.h"

#include <time.h>

#define TURN_LONG_US  UINT64_C(1000)
#define TURN_STALL_US UINT64_C(10000)
#define WINDOW_US     UINT64_C(10000000)

static uint64_t clock_us(clockid_t clock)
{
    struct timespec now;
    (void)clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void read_cpu(struct turns *turns, uint64_t now_us)
{
    turns->cpu_us = clock_us(CLOCK_THREAD_CPUTIME_ID);
    turns->cpu_at_us = now_us;
}

void turns_init(struct turns *turns, struct metrics *metrics)
{
    *turns = (struct turns){.metrics = metrics};
    turns->window_begin_us = clock_us(CLOCK_MONOTONIC);
}

void turns_begin(struct turns *turns)
{
    if (!turns->metrics)
        return;
    turns->begin_us = clock_us(CLOCK_MONOTONIC);
    if (turns->begin_us - turns->cpu_at_us >= TURN_LONG_US)
        read_cpu(turns, turns->begin_us);
}

/* The gauge shows the longest turn of the last whole window, or of this one when it is longer. */
static void note_longest(struct turns *turns, uint64_t now_us, uint64_t took_us)
{
    if (now_us - turns->window_begin_us >= WINDOW_US) {
        metric_set(&turns->metrics->loop_turn_longest, (int64_t)turns->longest_us);
        turns->window_begin_us = now_us;
        turns->longest_us = 0;
    }
    if (took_us <= turns->longest_us)
        return;
    turns->longest_us = took_us;
    if ((int64_t)took_us > metric_get(&turns->metrics->loop_turn_longest))
        metric_set(&turns->metrics->loop_turn_longest, (int64_t)took_us);
}

void turns_end(struct turns *turns)
{
    if (!turns->metrics)
        return;
    const uint64_t now_us = clock_us(CLOCK_MONOTONIC);
    const uint64_t took_us = now_us - turns->begin_us;
    metric_add(&turns->metrics->loop_turns, 1);
    note_longest(turns, now_us, took_us);
    if (took_us < TURN_LONG_US)
        return;
    metric_add(&turns->metrics->loop_turns_long, 1);
    const uint64_t before_us = turns->cpu_us;
    read_cpu(turns, now_us);
    const uint64_t spent_us = turns->cpu_us - before_us;
    if (spent_us >= TURN_STALL_US)
        metric_add(&turns->metrics->loop_stalls, 1);
    if ((int64_t)spent_us > metric_get(&turns->metrics->loop_cpu_longest))
        metric_set(&turns->metrics->loop_cpu_longest, (int64_t)spent_us);
}
