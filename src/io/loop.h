/* Event loop: epoll, timers and deferred calls for one thread.
 *
 * One iteration: wait for events and due timers; run their callbacks; run the deferred calls
 * (once, in order of registration, also those asked for meanwhile), which is where output gathered
 * during the iteration is written. Thread: owner loop, except mailbox_post (io/mailbox.h) and
 * loop_stop.
 */
#pragma once

#include "base/base.h"
#include "base/list.h"

struct loop;
struct metrics;

MUST_CHECK int loop_new(struct loop **ret_loop, struct errmsg *reterr);
struct loop *loop_free(struct loop *loop);

/* Notes in `metrics` from now on how long its turns take (io/turns.h). */
void loop_measure(struct loop *loop, struct metrics *metrics);

/* Runs until loop_stop. Returns 0, or -errno when epoll_wait fails for good. */
MUST_CHECK int loop_run(struct loop *loop);
/* Runs one iteration, waiting at most timeout_ms (-1: as long as it takes). For tests. */
MUST_CHECK int loop_turn(struct loop *loop, int timeout_ms);
void loop_stop(struct loop *loop); /* Thread: any; async-signal-safe */

/* Milliseconds, monotonic and wall clock, taken once per iteration. */
uint64_t loop_now_ms(const struct loop *loop);
uint64_t loop_wall_ms(const struct loop *loop);

/* --- readiness of descriptors ------------------------------------------------------------- */
#define IO_READ   1u
#define IO_WRITE  2u
#define IO_HANGUP 4u /* reported only: error or hang-up */

struct io_watch;
typedef void io_watch_fn(struct io_watch *watch, unsigned events);

/* Embed it; fd and on_event set by the owner before io_watch_start. Level-triggered. */
struct io_watch {
    int fd;
    unsigned events; /* IO_READ | IO_WRITE currently asked for */
    io_watch_fn *on_event;
};

MUST_CHECK int io_watch_start(struct loop *loop, struct io_watch *watch, unsigned events);
MUST_CHECK int io_watch_change(struct loop *loop, struct io_watch *watch, unsigned events);
/* Events already fetched for it in this iteration are not delivered any more; may be freed at once.
 */
void io_watch_stop(struct loop *loop, struct io_watch *watch);

/* --- timers: a heap; start and stop cost O(log n) ------------------------------------------- */
struct timer;
typedef void timer_fn(struct timer *timer);

struct timer {
    uint64_t due_ms;  /* monotonic; 0 = not running */
    uint64_t place;   /* the timer set's own */
    timer_fn *on_due; /* set by the owner */
};

struct timer_set;
struct timer_set *loop_timers(struct loop *loop);

/* A timer set of its own, for tests with a fake clock; the loop has one inside. */
struct timer_set *timer_set_new(uint64_t now_ms);
struct timer_set *timer_set_free(struct timer_set *set);
uint64_t timer_set_now_ms(const struct timer_set *set);
/* Sets the clock, which never goes back, without running anything. */
void timer_set_clock(struct timer_set *set, uint64_t now_ms);
/* Sets the clock and runs every timer due at or before now_ms, in due order. A timer started
 * without delay by one of them is due a millisecond later. */
void timer_set_advance(struct timer_set *set, uint64_t now_ms);
/* Runs the due timers at the set's clock, at most count_max of them, in due order: a million that
 * are due at once must not hold up everything else. The others stay due. */
void timer_set_run(struct timer_set *set, uint32_t count_max);
/* Milliseconds until the next timer, -1 when there is none. */
int64_t timer_set_wait_ms(const struct timer_set *set);

/* (Re)starts: due delay_ms after the set's now. Aborts when out of memory. Stopping a stopped timer
 * is harmless. */
void timer_start(struct timer_set *set, struct timer *timer, uint64_t delay_ms);
void timer_stop(struct timer_set *set, struct timer *timer);

/* --- deferred calls -------------------------------------------------------------------------- */
struct deferred;
typedef void deferred_fn(struct deferred *deferred);

struct deferred {
    struct list node; /* list_init'ed by the owner before first use */
    deferred_fn *run;
};

/* Asks for one call at the end of this iteration; asking again before it ran is harmless. */
void loop_defer(struct loop *loop, struct deferred *deferred);
static inline void deferred_cancel(struct deferred *deferred)
{
    list_remove(&deferred->node);
}
