#include "io/loop.h"

#include "base/mem.h"
#include "base/unit.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ENDS = 600 }; /* more than one batch of events */

/* One end of a socket pair that records what happens to it. */
struct end {
    struct io_watch watch;
    struct loop *loop;
    int other_fd;
    unsigned events;
    int call_count;
    struct end *victim; /* stopped by this one's event */
    bool free_victim;
    struct end **victim_place;
};

static void on_event(struct io_watch *watch, unsigned events)
{
    struct end *end = CONTAINER_OF(watch, struct end, watch);
    end->events = events;
    end->call_count++;
    if (!end->victim)
        return;
    io_watch_stop(end->loop, &end->victim->watch);
    if (end->free_victim) {
        (void)close(end->victim->watch.fd);
        (void)close(end->victim->other_fd);
        mem_free(end->victim);
        *end->victim_place = NULL;
    }
    end->victim = NULL;
}

static struct end *end_new(struct loop *loop, unsigned events)
{
    int fds[2];
    struct end *end = mem_new(sizeof *end);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    end->loop = loop;
    end->watch.fd = fds[0];
    end->watch.on_event = on_event;
    end->other_fd = fds[1];
    assert_int_equal(io_watch_start(loop, &end->watch, events), 0);
    return end;
}

static void end_free(struct end *end)
{
    io_watch_stop(end->loop, &end->watch);
    (void)close(end->watch.fd);
    if (end->other_fd >= 0)
        (void)close(end->other_fd);
    mem_free(end);
}

static struct loop *test_loop(void)
{
    struct loop *loop = NULL;
    assert_int_equal(loop_new(&loop, NULL), 0);
    return loop;
}

static void events_follow_what_is_asked_for(void **state)
{
    (void)state;
    struct loop *loop = test_loop();
    struct end *end = end_new(loop, IO_READ);
    assert_int_equal(loop_turn(loop, 0), 0);
    assert_int_equal(end->call_count, 0);
    assert_int_equal(write(end->other_fd, "x", 1), 1);
    for (int turn = 1; turn <= 2; turn++) { /* level-triggered */
        assert_int_equal(loop_turn(loop, -1), 0);
        assert_int_equal(end->call_count, turn);
        assert_int_equal(end->events, IO_READ);
    }
    assert_int_equal(io_watch_change(loop, &end->watch, IO_WRITE), 0);
    assert_int_equal(io_watch_change(loop, &end->watch, IO_WRITE), 0);
    assert_int_equal(loop_turn(loop, -1), 0);
    assert_int_equal(end->events, IO_WRITE);
    assert_int_equal(io_watch_change(loop, &end->watch, IO_READ | IO_WRITE), 0);
    assert_int_equal(loop_turn(loop, -1), 0);
    assert_int_equal(end->events, IO_READ | IO_WRITE);
    assert_int_equal(io_watch_change(loop, &end->watch, 0), 0);
    assert_int_equal(loop_turn(loop, 0), 0);
    assert_int_equal(end->call_count, 4);
    end_free(end);
    assert_null(loop_free(loop));
}

static void hangup_is_reported_unasked(void **state)
{
    (void)state;
    struct loop *loop = test_loop();
    struct end *end = end_new(loop, 0);
    (void)close(end->other_fd);
    end->other_fd = -1;
    assert_int_equal(loop_turn(loop, -1), 0);
    assert_int_equal(end->events, IO_HANGUP);
    assert_int_equal(io_watch_change(loop, &end->watch, IO_READ), 0);
    assert_int_equal(loop_turn(loop, -1), 0);
    assert_int_equal(end->events, IO_READ | IO_HANGUP);
    end_free(end);
    (void)loop_free(loop);
}

static void watching_a_bad_descriptor_fails(void **state)
{
    (void)state;
    struct loop *loop = test_loop();
    struct end *end = end_new(loop, IO_READ);
    assert_int_equal(io_watch_start(loop, &end->watch, IO_READ), -EEXIST);
    struct io_watch unknown = {.fd = end->other_fd, .on_event = on_event};
    assert_int_equal(io_watch_change(loop, &unknown, IO_READ), -ENOENT);
    assert_int_equal(unknown.events, 0);
    end_free(end);
    (void)loop_free(loop);
}

/* Two ready watches, each of which frees the other: only the first of them may run. */
static void stopped_watch_gets_no_event_of_the_same_batch(void **state)
{
    (void)state;
    struct loop *loop = test_loop();
    struct end *ends[2] = {end_new(loop, IO_WRITE), end_new(loop, IO_WRITE)};
    for (int i = 0; i < 2; i++) {
        ends[i]->victim = ends[1 - i];
        ends[i]->free_victim = true;
        ends[i]->victim_place = &ends[1 - i];
    }
    assert_int_equal(loop_turn(loop, -1), 0);
    assert_int_equal((ends[0] != NULL) + (ends[1] != NULL), 1);
    struct end *left = ends[0] ? ends[0] : ends[1];
    assert_int_equal(left->call_count, 1);
    assert_int_equal(loop_turn(loop, -1), 0);
    assert_int_equal(left->call_count, 2);
    end_free(left);
    (void)loop_free(loop);
}

static void on_event_silence_other(struct io_watch *watch, unsigned events)
{
    struct end *end = CONTAINER_OF(watch, struct end, watch);
    (void)events;
    end->call_count++;
    assert_int_equal(io_watch_change(end->loop, &end->victim->watch, IO_READ), 0);
}

/* A watch that no longer asks for writing is not told of it, though the batch says so. */
static void change_within_a_batch_counts(void **state)
{
    (void)state;
    struct loop *loop = test_loop();
    struct end *ends[2] = {end_new(loop, IO_WRITE), end_new(loop, IO_WRITE)};
    for (int i = 0; i < 2; i++) {
        ends[i]->victim = ends[1 - i];
        ends[i]->watch.on_event = on_event_silence_other;
    }
    assert_int_equal(loop_turn(loop, -1), 0);
    assert_int_equal(ends[0]->call_count + ends[1]->call_count, 1);
    end_free(ends[0]);
    end_free(ends[1]);
    (void)loop_free(loop);
}

static void more_descriptors_than_a_batch(void **state)
{
    (void)state;
    struct loop *loop = test_loop();
    struct end **ends = mem_new(ENDS * sizeof(struct end *));
    for (int i = 0; i < ENDS; i++)
        ends[i] = end_new(loop, IO_WRITE);
    for (int turn = 0; turn < 4; turn++)
        assert_int_equal(loop_turn(loop, -1), 0);
    for (int i = 0; i < ENDS; i++) {
        assert_true(ends[i]->call_count > 0);
        end_free(ends[i]);
    }
    mem_free(ends);
    (void)loop_free(loop);
}

/* --- order within an iteration ------------------------------------------------------------- */
struct step {
    struct deferred deferred;
    struct timer timer;
    struct io_watch watch;
    struct loop *loop;
    struct step *next; /* deferred by this one's run */
    char name;
    char *trail;
};

static void leave_mark(struct step *step, char mark)
{
    const size_t size = strlen(step->trail);
    assert_true(size < 30);
    step->trail[size] = mark;
}

static void on_step_deferred(struct deferred *deferred)
{
    struct step *step = CONTAINER_OF(deferred, struct step, deferred);
    leave_mark(step, step->name);
    if (step->next)
        loop_defer(step->loop, &step->next->deferred);
    step->next = NULL;
}

static void on_step_timer(struct timer *timer)
{
    struct step *step = CONTAINER_OF(timer, struct step, timer);
    leave_mark(step, 't');
    loop_defer(step->loop, &step->deferred);
}

static void on_step_event(struct io_watch *watch, unsigned events)
{
    struct step *step = CONTAINER_OF(watch, struct step, watch);
    (void)events;
    leave_mark(step, 'e');
    loop_defer(step->loop, &step->deferred);
    loop_defer(step->loop, &step->deferred);
    io_watch_stop(step->loop, watch);
}

static void step_init(struct step *step, struct loop *loop, char name, char *trail)
{
    *step = (struct step){.deferred.run = on_step_deferred,
                          .timer.on_due = on_step_timer,
                          .loop = loop,
                          .name = name,
                          .trail = trail};
    list_init(&step->deferred.node);
}

static void events_then_timers_then_deferred(void **state)
{
    (void)state;
    char trail[32] = {0};
    int fds[2];
    struct step a, b, c;
    struct loop *loop = test_loop();
    step_init(&a, loop, 'a', trail);
    step_init(&b, loop, 'b', trail);
    step_init(&c, loop, 'c', trail);
    assert_int_equal(pipe(fds), 0);
    a.watch = (struct io_watch){.fd = fds[1], .on_event = on_step_event};
    assert_int_equal(io_watch_start(loop, &a.watch, IO_WRITE), 0);
    timer_start(loop_timers(loop), &b.timer, 0);
    a.next = &c; /* asked for while deferred calls run: still in this iteration */
    assert_int_equal(loop_turn(loop, -1), 0);
    assert_string_equal(trail, "etabc");
    (void)close(fds[0]);
    (void)close(fds[1]);
    (void)loop_free(loop);
}

static void deferred_call_does_not_wait_for_an_event(void **state)
{
    (void)state;
    char trail[32] = {0};
    struct step a, b;
    struct loop *loop = test_loop();
    step_init(&a, loop, 'a', trail);
    step_init(&b, loop, 'b', trail);
    loop_defer(loop, &a.deferred);
    loop_defer(loop, &b.deferred);
    deferred_cancel(&b.deferred);
    deferred_cancel(&b.deferred);
    assert_int_equal(loop_turn(loop, -1), 0);
    assert_string_equal(trail, "a");
    assert_int_equal(loop_turn(loop, 0), 0);
    assert_string_equal(trail, "a");
    (void)loop_free(loop);
}

/* --- time and stopping --------------------------------------------------------------------- */
static void on_due_stop(struct timer *timer)
{
    loop_stop(CONTAINER_OF(timer, struct step, timer)->loop);
}

static void run_waits_for_the_timer(void **state)
{
    (void)state;
    char trail[32] = {0};
    struct step a;
    struct loop *loop = test_loop();
    step_init(&a, loop, 'a', trail);
    a.timer.on_due = on_due_stop;
    const uint64_t before_ms = loop_now_ms(loop);
    timer_start(loop_timers(loop), &a.timer, 30);
    assert_int_equal(loop_run(loop), 0);
    assert_true(loop_now_ms(loop) - before_ms >= 30);
    assert_true(loop_wall_ms(loop) > 1600000000000u);
    assert_int_equal(timer_set_now_ms(loop_timers(loop)), loop_now_ms(loop));
    (void)loop_free(loop);
}

static void turn_waits_no_longer_than_asked(void **state)
{
    (void)state;
    char trail[32] = {0};
    struct step a;
    struct loop *loop = test_loop();
    step_init(&a, loop, 'a', trail);
    timer_start(loop_timers(loop), &a.timer, 3600 * 1000);
    assert_int_equal(loop_turn(loop, 1), 0);
    assert_string_equal(trail, "");
    timer_stop(loop_timers(loop), &a.timer);
    assert_int_equal(loop_turn(loop, 1), 0);
    (void)loop_free(loop);
}

static void *stop_from_thread(void *data)
{
    loop_stop(data);
    return NULL;
}

static void stop_from_another_thread_wakes(void **state)
{
    (void)state;
    struct loop *loop = test_loop();
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, stop_from_thread, loop), 0);
    assert_int_equal(loop_run(loop), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    (void)loop_free(loop);
}

static struct loop *signalled_loop;

static void on_signal(int number)
{
    (void)number;
    loop_stop(signalled_loop);
}

static void stop_from_a_signal_ends_the_run(void **state)
{
    (void)state;
    signalled_loop = test_loop();
    const struct sigaction action = {.sa_handler = on_signal};
    struct sigaction before;
    assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
    assert_int_equal(raise(SIGUSR1), 0);
    assert_int_equal(loop_run(signalled_loop), 0);
    loop_stop(signalled_loop);
    assert_int_equal(loop_run(signalled_loop), 0); /* stopped before it ran: not lost */
    assert_int_equal(sigaction(SIGUSR1, &before, NULL), 0);
    (void)loop_free(signalled_loop);
    assert_null(loop_free(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_follow_what_is_asked_for),
        cmocka_unit_test(hangup_is_reported_unasked),
        cmocka_unit_test(watching_a_bad_descriptor_fails),
        cmocka_unit_test(stopped_watch_gets_no_event_of_the_same_batch),
        cmocka_unit_test(change_within_a_batch_counts),
        cmocka_unit_test(more_descriptors_than_a_batch),
        cmocka_unit_test(events_then_timers_then_deferred),
        cmocka_unit_test(deferred_call_does_not_wait_for_an_event),
        cmocka_unit_test(run_waits_for_the_timer),
        cmocka_unit_test(turn_waits_no_longer_than_asked),
        cmocka_unit_test(stop_from_another_thread_wakes),
        cmocka_unit_test(stop_from_a_signal_ends_the_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
