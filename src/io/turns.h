/* How long the turns of a loop take: what holds a turn up holds up every client of the loop.
 *
 * A turn is what the loop does between two waits. Short ones are only counted. For a turn of a
 * millisecond and more the processor time of the thread tells whether it had that much to do, or
 * was kept waiting by other processes: tidemq_loop_stalls counts the former only.
 * Thread: the loop's; the metrics are anybody's to read.
 */
#pragma once

#include "base/metrics.h"

struct turns {
    struct metrics *metrics;    /* NULL: nobody wants to know */
    uint64_t begin_us;          /* wall clock of the turn, monotonic */
    uint64_t cpu_us, cpu_at_us; /* processor time of the thread, and when it was read */
    uint64_t window_begin_us;
    uint64_t longest_us; /* in the window */
};

/* From now on its turns go into `metrics`. Several loops may share them: counters add up. */
void turns_init(struct turns *turns, struct metrics *metrics);
void turns_begin(struct turns *turns);
void turns_end(struct turns *turns);
