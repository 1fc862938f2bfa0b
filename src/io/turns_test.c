#include "io/turns.h"

#include "base/unit.h"
#include "io/loop.h"

#include <poll.h>
#include <time.h>

static int set_up(void **state)
{
    *state = metrics_new();
    return 0;
}

static int tear_down(void **state)
{
    (void)metrics_free(*state);
    return 0;
}

static uint64_t thread_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void compute(uint64_t us)
{
    const uint64_t end_us = thread_us() + us;
    while (thread_us() < end_us)
        ;
}

/* What the thread is when the processor is given to others: time goes by, and it does nothing. */
static void be_held_up(int ms)
{
    assert_int_equal(poll(NULL, 0, ms), 0);
}

static void a_turn_that_computes_is_a_stall(void **state)
{
    struct metrics *metrics = *state;
    struct turns turns;
    turns_init(&turns, metrics);
    turns_begin(&turns);
    compute(12000);
    turns_end(&turns);
    assert_int_equal(metric_get(&metrics->loop_turns), 1);
    assert_int_equal(metric_get(&metrics->loop_turns_long), 1);
    assert_int_equal(metric_get(&metrics->loop_stalls), 1);
    assert_true(metric_get(&metrics->loop_cpu_longest) >= 12000);
    assert_true(metric_get(&metrics->loop_turn_longest) >= 12000);
}

static void a_turn_that_is_held_up_is_long_but_no_stall(void **state)
{
    struct metrics *metrics = *state;
    struct turns turns;
    turns_init(&turns, metrics);
    turns_begin(&turns);
    be_held_up(15);
    turns_end(&turns);
    assert_int_equal(metric_get(&metrics->loop_turns_long), 1);
    assert_int_equal(metric_get(&metrics->loop_stalls), 0);
    assert_true(metric_get(&metrics->loop_turn_longest) >= 15000);
    assert_true(metric_get(&metrics->loop_cpu_longest) < 10000);
}

/* Short turns together do not count as a long one. */
static void short_turns_add_up_to_nothing(void **state)
{
    struct metrics *metrics = *state;
    struct turns turns;
    turns_init(&turns, metrics);
    for (int i = 0; i < 100; i++) {
        turns_begin(&turns);
        compute(200);
        turns_end(&turns);
    }
    assert_int_equal(metric_get(&metrics->loop_turns), 100);
    assert_int_equal(metric_get(&metrics->loop_stalls), 0);
}

static void on_due(struct timer *timer)
{
    (void)timer;
    compute(12000);
}

static void a_loop_measures_its_turns(void **state)
{
    struct metrics *metrics = *state;
    struct loop *loop = NULL;
    struct errmsg why = {0};
    assert_int_equal(loop_new(&loop, &why), 0);
    assert_int_equal(loop_turn(loop, 0), 0);
    assert_int_equal(metric_get(&metrics->loop_turns), 0);
    loop_measure(loop, metrics);
    struct timer timer = {.on_due = on_due};
    timer_start(loop_timers(loop), &timer, 0);
    assert_int_equal(loop_turn(loop, 1000), 0);
    assert_int_equal(metric_get(&metrics->loop_turns), 1);
    assert_int_equal(metric_get(&metrics->loop_stalls), 1);
    (void)loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_turn_that_computes_is_a_stall, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_turn_that_is_held_up_is_long_but_no_stall, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(short_turns_add_up_to_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_loop_measures_its_turns, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
