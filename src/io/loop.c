/* The order within an iteration matters: events run before timers, so that a packet which has
 * arrived restarts its keep alive before that is judged, even after the thread was held up;
 * deferred calls run last and see everything the iteration produced.
 *
 * A stopped watch may be freed at once: its events still waiting in the batch are cleared.
 */
#include "io/loop.h"

#include "base/mem.h"
#include "io/turns.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum {
    BATCH_MAX = 256,
    TIMERS_MAX = 64, /* in one turn: each may end a session and all that belongs to it */
};

struct loop {
    int epoll_fd;
    struct io_watch wake; /* an eventfd that loop_stop writes to */
    _Atomic bool stopping;
    struct timer_set *timers;
    struct list deferred;
    uint64_t now_ms, wall_ms;
    struct turns turns;
    int batch_index, batch_count; /* equal outside of dispatch */
    struct epoll_event batch[BATCH_MAX];
};

static uint64_t clock_ms(clockid_t clock)
{
    struct timespec now;
    (void)clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void take_time(struct loop *loop)
{
    loop->now_ms = clock_ms(CLOCK_MONOTONIC);
    loop->wall_ms = clock_ms(CLOCK_REALTIME);
}

static void on_wake(struct io_watch *watch, unsigned events)
{
    (void)events;
    uint64_t count = 0;
    (void)!read(watch->fd, &count, sizeof count);
}

static uint32_t to_epoll(unsigned events)
{
    return (events & IO_READ ? (uint32_t)EPOLLIN : 0) |
           (events & IO_WRITE ? (uint32_t)EPOLLOUT : 0);
}

static unsigned from_epoll(uint32_t events)
{
    return (events & EPOLLIN ? IO_READ : 0) | (events & EPOLLOUT ? IO_WRITE : 0) |
           (events & (EPOLLERR | EPOLLHUP) ? IO_HANGUP : 0);
}

static int control(struct loop *loop, int op, struct io_watch *watch, unsigned events)
{
    struct epoll_event event = {.events = to_epoll(events), .data.ptr = watch};
    return epoll_ctl(loop->epoll_fd, op, watch->fd, &event) < 0 ? -errno : 0;
}

struct loop *loop_free(struct loop *loop)
{
    if (!loop)
        return NULL;
    if (loop->wake.fd >= 0)
        (void)close(loop->wake.fd);
    if (loop->epoll_fd >= 0)
        (void)close(loop->epoll_fd);
    (void)timer_set_free(loop->timers);
    mem_free(loop);
    return NULL;
}

int loop_new(struct loop **ret_loop, struct errmsg *reterr)
{
    struct loop *loop = mem_new(sizeof *loop);
    list_init(&loop->deferred);
    loop->wake.on_event = on_wake;
    take_time(loop);
    loop->timers = timer_set_new(loop->now_ms);
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int err = loop->epoll_fd < 0 || loop->wake.fd < 0 ? -errno : 0;
    if (err == 0)
        err = io_watch_start(loop, &loop->wake, IO_READ);
    if (err < 0) {
        errmsg_wrap(reterr, "could not create an event loop: %s", err_text(err));
        (void)loop_free(loop);
        return err;
    }
    *ret_loop = loop;
    return 0;
}

void loop_measure(struct loop *loop, struct metrics *metrics)
{
    turns_init(&loop->turns, metrics);
}

uint64_t loop_now_ms(const struct loop *loop)
{
    return loop->now_ms;
}

uint64_t loop_wall_ms(const struct loop *loop)
{
    return loop->wall_ms;
}

struct timer_set *loop_timers(struct loop *loop)
{
    return loop->timers;
}

int io_watch_start(struct loop *loop, struct io_watch *watch, unsigned events)
{
    ASSERT(watch->fd >= 0 && watch->on_event);
    const int err = control(loop, EPOLL_CTL_ADD, watch, events);
    if (err == 0)
        watch->events = events;
    return err;
}

int io_watch_change(struct loop *loop, struct io_watch *watch, unsigned events)
{
    if (watch->events == events)
        return 0;
    const int err = control(loop, EPOLL_CTL_MOD, watch, events);
    if (err == 0)
        watch->events = events;
    return err;
}

void io_watch_stop(struct loop *loop, struct io_watch *watch)
{
    (void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    watch->events = 0;
    for (int i = loop->batch_index; i < loop->batch_count; i++) {
        if (loop->batch[i].data.ptr == watch)
            loop->batch[i].data.ptr = NULL;
    }
}

void loop_defer(struct loop *loop, struct deferred *deferred)
{
    if (list_empty(&deferred->node))
        list_push_back(&loop->deferred, &deferred->node);
}

/* epoll_wait's timeout: the sooner of the caller's and the next timer's; none with calls waiting.
 */
static int wait_time(const struct loop *loop, int timeout_ms)
{
    if (!list_empty(&loop->deferred))
        return 0;
    int64_t wait_ms = timer_set_wait_ms(loop->timers);
    if (wait_ms >= 0) { /* counted from the last iteration; some of it has passed */
        const uint64_t passed_ms = clock_ms(CLOCK_MONOTONIC) - loop->now_ms;
        wait_ms = (uint64_t)wait_ms > passed_ms ? wait_ms - (int64_t)passed_ms : 0;
        wait_ms = MIN(wait_ms, (int64_t)INT_MAX);
    }
    if (timeout_ms < 0)
        return (int)wait_ms;
    return wait_ms < 0 ? timeout_ms : MIN(timeout_ms, (int)wait_ms);
}

static void dispatch(struct loop *loop)
{
    while (loop->batch_index < loop->batch_count) {
        const struct epoll_event *event = &loop->batch[loop->batch_index++];
        struct io_watch *watch = event->data.ptr;
        if (!watch)
            continue;
        const unsigned events = from_epoll(event->events) & (watch->events | IO_HANGUP);
        if (events)
            watch->on_event(watch, events);
    }
    loop->batch_index = loop->batch_count = 0;
}

static void run_deferred(struct loop *loop)
{
    struct deferred *deferred = NULL;
    while ((deferred = LIST_FIRST(&loop->deferred, struct deferred, node))) {
        list_remove(&deferred->node);
        deferred->run(deferred);
    }
}

int loop_turn(struct loop *loop, int timeout_ms)
{
    ASSERT(loop->batch_count == 0); /* not from within a callback */
    const int count =
        epoll_wait(loop->epoll_fd, loop->batch, BATCH_MAX, wait_time(loop, timeout_ms));
    if (count < 0 && errno != EINTR)
        return -errno;
    turns_begin(&loop->turns);
    take_time(loop);
    timer_set_clock(loop->timers, loop->now_ms);
    loop->batch_index = 0;
    loop->batch_count = MAX(count, 0);
    dispatch(loop);
    timer_set_run(loop->timers, TIMERS_MAX);
    run_deferred(loop);
    turns_end(&loop->turns);
    return 0;
}

int loop_run(struct loop *loop)
{
    int err = 0;
    while (err == 0 && !atomic_load(&loop->stopping))
        err = loop_turn(loop, -1);
    atomic_store(&loop->stopping, false);
    return err;
}

void loop_stop(struct loop *loop)
{
    const int errno_kept = errno; /* we may be in a signal handler */
    const uint64_t one = 1;
    atomic_store(&loop->stopping, true);
    (void)!write(loop->wake.fd, &one, sizeof one);
    errno = errno_kept;
}
