#include "io/loop.h"

#include "base/mem.h"
#include "base/unit.h"

enum { TIMERS = 500, MANY = 1000000 };

struct bell {
    struct timer timer;
    struct play *play;
    uint64_t expected_ms; /* the model: 0 = not running */
    uint32_t rung;
    uint64_t again_ms; /* restart from the callback; 0 = do not */
};

struct play {
    struct timer_set *set;
    struct bell bells[TIMERS];
    uint64_t rung_last_ms;
    uint32_t rung_count;
    uint64_t random;
};

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static void on_ring(struct timer *timer)
{
    struct bell *bell = CONTAINER_OF(timer, struct bell, timer);
    struct play *play = bell->play;
    assert_int_equal(timer->due_ms, 0);
    assert_true(bell->expected_ms != 0);
    assert_true(bell->expected_ms <= timer_set_now_ms(play->set));
    assert_true(bell->expected_ms >= play->rung_last_ms);
    play->rung_last_ms = bell->expected_ms;
    play->rung_count++;
    bell->rung++;
    bell->expected_ms = 0;
    if (bell->again_ms > 0) {
        timer_start(play->set, timer, bell->again_ms);
        bell->expected_ms = timer_set_now_ms(play->set) + bell->again_ms;
    }
}

static struct play *play_new(uint64_t now_ms, uint64_t random)
{
    struct play *play = mem_new(sizeof *play);
    play->set = timer_set_new(now_ms);
    play->random = random;
    for (int i = 0; i < TIMERS; i++) {
        play->bells[i].play = play;
        play->bells[i].timer.on_due = on_ring;
    }
    return play;
}

static void play_free(struct play *play)
{
    assert_null(timer_set_free(play->set));
    mem_free(play);
}

static void start(struct play *play, struct bell *bell, uint64_t delay_ms)
{
    timer_start(play->set, &bell->timer, delay_ms);
    bell->expected_ms = timer_set_now_ms(play->set) + delay_ms;
}

static void stop(struct play *play, struct bell *bell)
{
    timer_stop(play->set, &bell->timer);
    bell->expected_ms = 0;
}

/* What the model says of the next due time. */
static int64_t model_wait_ms(const struct play *play)
{
    int64_t least = -1;
    for (int i = 0; i < TIMERS; i++) {
        const uint64_t due_ms = play->bells[i].expected_ms;
        const uint64_t now_ms = timer_set_now_ms(play->set);
        if (due_ms == 0)
            continue;
        const int64_t wait_ms = due_ms > now_ms ? (int64_t)(due_ms - now_ms) : 0;
        if (least < 0 || wait_ms < least)
            least = wait_ms;
    }
    return least;
}

static void advance(struct play *play, uint64_t by_ms)
{
    play->rung_last_ms = 0;
    timer_set_advance(play->set, timer_set_now_ms(play->set) + by_ms);
    for (int i = 0; i < TIMERS; i++) {
        const uint64_t due_ms = play->bells[i].expected_ms;
        assert_true(due_ms == 0 || due_ms > timer_set_now_ms(play->set));
        assert_int_equal(play->bells[i].timer.due_ms, due_ms);
    }
}

/* Random starts, restarts, stops and steps of the clock; whatever rings is due, in order, and
 * nothing due stays behind. */
static void agrees_with_a_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct play *play = play_new(5000, seed);
        for (int step = 0; step < 20000; step++) {
            struct bell *bell = &play->bells[next_random(&play->random) % TIMERS];
            const uint32_t choice = next_random(&play->random) % 10;
            bell->again_ms = choice == 0 ? 1 + next_random(&play->random) % 50 : 0;
            if (choice < 6)
                start(play, bell, 1 + next_random(&play->random) % 1000);
            else if (choice < 9)
                stop(play, bell);
            else
                advance(play, next_random(&play->random) % 60);
            if (step % 64 == 0)
                assert_int_equal(timer_set_wait_ms(play->set), model_wait_ms(play));
        }
        assert_true(play->rung_count > 1000);
        play_free(play);
    }
}

static void clock_at_boundaries(void **state)
{
    (void)state;
    struct play *play = play_new(100, 0);
    struct bell *bell = &play->bells[0];
    assert_int_equal(timer_set_wait_ms(play->set), -1);
    start(play, bell, 10);
    assert_int_equal(timer_set_wait_ms(play->set), 10);
    timer_set_advance(play->set, 109);
    assert_int_equal(bell->rung, 0);
    timer_set_advance(play->set, 50); /* the clock does not go back */
    assert_int_equal(timer_set_now_ms(play->set), 109);
    timer_set_advance(play->set, 110);
    assert_int_equal(bell->rung, 1);
    assert_int_equal(timer_set_wait_ms(play->set), -1);
    stop(play, bell);
    stop(play, bell);
    start(play, bell, 0);
    assert_int_equal(timer_set_wait_ms(play->set), 0);
    timer_set_clock(play->set, 200);
    assert_int_equal(bell->rung, 1);
    timer_set_advance(play->set, 200);
    assert_int_equal(bell->rung, 2);
    play_free(play);
}

static void endless_delay_does_not_wrap(void **state)
{
    (void)state;
    struct play *play = play_new(100, 0);
    timer_start(play->set, &play->bells[0].timer, UINT64_MAX);
    assert_true(play->bells[0].timer.due_ms == UINT64_MAX);
    timer_set_advance(play->set, UINT64_MAX / 2);
    assert_int_equal(play->bells[0].rung, 0);
    play_free(play);
}

static void clock_at_zero_still_runs(void **state)
{
    (void)state;
    struct play *play = play_new(0, 0);
    timer_start(play->set, &play->bells[0].timer, 0);
    play->bells[0].expected_ms = play->bells[0].timer.due_ms;
    assert_int_equal(play->bells[0].timer.due_ms, 1);
    timer_set_advance(play->set, 1);
    assert_int_equal(play->bells[0].rung, 1);
    play_free(play);
}

static void on_ring_at_once_again(struct timer *timer)
{
    struct bell *bell = CONTAINER_OF(timer, struct bell, timer);
    bell->rung++;
    timer_start(bell->play->set, timer, 0);
}

static void restart_without_delay_lets_advance_return(void **state)
{
    (void)state;
    struct play *play = play_new(100, 0);
    struct bell *bell = &play->bells[0];
    bell->timer.on_due = on_ring_at_once_again;
    timer_start(play->set, &bell->timer, 5);
    timer_set_advance(play->set, 150);
    assert_int_equal(bell->rung, 1);
    timer_set_advance(play->set, 151);
    assert_int_equal(bell->rung, 2);
    play_free(play);
}

static void on_ring_stop_neighbour(struct timer *timer)
{
    struct bell *bell = CONTAINER_OF(timer, struct bell, timer);
    bell->rung++;
    timer_stop(bell->play->set, &bell[1].timer);
}

static void due_timer_stopped_by_another_stays_silent(void **state)
{
    (void)state;
    struct play *play = play_new(100, 0);
    play->bells[0].timer.on_due = on_ring_stop_neighbour;
    timer_start(play->set, &play->bells[0].timer, 5);
    timer_start(play->set, &play->bells[1].timer, 6);
    timer_set_advance(play->set, 200);
    assert_int_equal(play->bells[0].rung, 1);
    assert_int_equal(play->bells[1].rung, 0);
    play_free(play);
}

static void freed_set_leaves_timers_stopped(void **state)
{
    (void)state;
    struct play *play = play_new(100, 0);
    struct timer_set *again = timer_set_new(100);
    timer_start(play->set, &play->bells[0].timer, 5);
    (void)timer_set_free(play->set);
    assert_int_equal(play->bells[0].timer.due_ms, 0);
    timer_start(again, &play->bells[0].timer, 5);
    assert_null(timer_set_free(again));
    assert_null(timer_set_free(NULL));
    mem_free(play);
}

struct tick {
    struct timer timer;
    uint64_t *rung_count;
};

static void on_tick(struct timer *timer)
{
    ++*CONTAINER_OF(timer, struct tick, timer)->rung_count;
}

/* A million sessions with keep alive: start, restart, stop every other, ring the rest. */
static void a_million_timers(void **state)
{
    (void)state;
    struct timer_set *set = timer_set_new(1000);
    struct tick *ticks = mem_new(MANY * sizeof *ticks);
    uint64_t rung_count = 0, random = 1;
    for (int i = 0; i < MANY; i++) {
        ticks[i] = (struct tick){.timer.on_due = on_tick, .rung_count = &rung_count};
        timer_start(set, &ticks[i].timer, next_random(&random) % 100000);
    }
    for (int i = 0; i < MANY; i++)
        timer_start(set, &ticks[i].timer, next_random(&random) % 100000);
    for (int i = 0; i < MANY; i += 2)
        timer_stop(set, &ticks[i].timer);
    timer_set_advance(set, 200000);
    assert_int_equal(rung_count, MANY / 2);
    assert_int_equal(timer_set_wait_ms(set), -1);
    (void)timer_set_free(set);
    mem_free(ticks);
}

struct crowd_timer {
    struct timer timer;
    uint32_t *ran;
    uint32_t number;
};

/* Hundred by hundred, in the order in which they are due. */
static void on_crowd_due(struct timer *timer)
{
    struct crowd_timer *crowd = CONTAINER_OF(timer, struct crowd_timer, timer);
    assert_int_equal(crowd->number / 100, (*crowd->ran)++ / 100);
}

static void a_crowd_of_due_timers_is_run_in_parts(void **state)
{
    (void)state;
    enum { COUNT = 1000, PART = 64 };
    struct timer_set *set = timer_set_new(1000);
    struct crowd_timer *timers = mem_new(COUNT * sizeof *timers);
    uint32_t ran = 0;
    for (uint32_t i = 0; i < COUNT; i++) {
        timers[i] = (struct crowd_timer){.timer.on_due = on_crowd_due, .ran = &ran, .number = i};
        timer_start(set, &timers[i].timer, i / 100);
    }
    timer_set_clock(set, 1009);
    for (uint32_t part = 1; part * PART < COUNT; part++) {
        timer_set_run(set, PART);
        assert_int_equal(ran, part * PART);
        assert_int_equal(timer_set_wait_ms(set), 0);
    }
    timer_set_run(set, PART);
    assert_int_equal(ran, COUNT);
    assert_int_equal(timer_set_wait_ms(set), -1);
    mem_free(timers);
    (void)timer_set_free(set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_a_model),
        cmocka_unit_test(clock_at_boundaries),
        cmocka_unit_test(endless_delay_does_not_wrap),
        cmocka_unit_test(clock_at_zero_still_runs),
        cmocka_unit_test(restart_without_delay_lets_advance_return),
        cmocka_unit_test(due_timer_stopped_by_another_stays_silent),
        cmocka_unit_test(freed_set_leaves_timers_stopped),
        cmocka_unit_test(a_million_timers),
        cmocka_unit_test(a_crowd_of_due_timers_is_run_in_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
