#include "io/worker.h"

#include "base/mem.h"
#include "base/unit.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

enum { JOBS = 2000, THREADS = 4 };

struct shop {
    struct loop *loop;
    struct mailbox *mailbox;
    struct worker_pool *pool;
    _Atomic int run_count;
    pthread_t loop_thread;
    pthread_barrier_t meeting;
    int done_count, expected;
    int order[JOBS]; /* which job ran as the nth */
};

struct job {
    struct work work;
    struct shop *shop;
    int number;
    bool resubmit;
};

static void run_job(struct work *work)
{
    struct job *job = CONTAINER_OF(work, struct job, work);
    assert_false(pthread_equal(pthread_self(), job->shop->loop_thread));
    const int nth = atomic_fetch_add(&job->shop->run_count, 1);
    if (nth < JOBS)
        job->shop->order[nth] = job->number;
}

static void run_meeting(struct work *work)
{
    struct job *job = CONTAINER_OF(work, struct job, work);
    (void)pthread_barrier_wait(&job->shop->meeting);
    run_job(work);
}

static void job_done(struct work *work)
{
    struct job *job = CONTAINER_OF(work, struct job, work);
    struct shop *shop = job->shop;
    assert_true(pthread_equal(pthread_self(), shop->loop_thread));
    shop->done_count++;
    if (job->resubmit) {
        job->resubmit = false;
        worker_submit(shop->pool, shop->mailbox, work);
        return;
    }
    mem_free(job);
    if (shop->done_count == shop->expected)
        loop_stop(shop->loop);
}

static struct job *job_new(struct shop *shop, work_fn *run, int number)
{
    struct job *job = mem_new(sizeof *job);
    *job = (struct job){.work.run = run, .work.done = job_done, .shop = shop, .number = number};
    return job;
}

static struct shop *shop_new(uint32_t thread_count, int expected)
{
    struct shop *shop = mem_new(sizeof *shop);
    shop->expected = expected;
    shop->loop_thread = pthread_self();
    assert_int_equal(loop_new(&shop->loop, NULL), 0);
    assert_int_equal(mailbox_new(shop->loop, &shop->mailbox, NULL), 0);
    assert_int_equal(worker_pool_new(thread_count, &shop->pool, NULL), 0);
    return shop;
}

static void shop_free(struct shop *shop)
{
    assert_null(worker_pool_free(shop->pool));
    (void)mailbox_free(shop->mailbox);
    (void)loop_free(shop->loop);
    mem_free(shop);
}

static void every_job_runs_off_the_loop_and_ends_on_it(void **state)
{
    (void)state;
    struct shop *shop = shop_new(THREADS, JOBS);
    for (int i = 0; i < JOBS; i++)
        worker_submit(shop->pool, shop->mailbox, &job_new(shop, run_job, i)->work);
    assert_int_equal(loop_run(shop->loop), 0);
    assert_int_equal(shop->run_count, JOBS);
    assert_int_equal(shop->done_count, JOBS);
    shop_free(shop);
}

static void one_thread_works_in_order(void **state)
{
    (void)state;
    struct shop *shop = shop_new(1, JOBS);
    for (int i = 0; i < JOBS; i++)
        worker_submit(shop->pool, shop->mailbox, &job_new(shop, run_job, i)->work);
    assert_int_equal(loop_run(shop->loop), 0);
    for (int i = 0; i < JOBS; i++)
        assert_int_equal(shop->order[i], i);
    shop_free(shop);
}

/* The barrier opens only when as many jobs run at the same time as there are threads. */
static void threads_work_side_by_side(void **state)
{
    (void)state;
    struct shop *shop = shop_new(THREADS, THREADS);
    assert_int_equal(pthread_barrier_init(&shop->meeting, NULL, THREADS), 0);
    for (int i = 0; i < THREADS; i++)
        worker_submit(shop->pool, shop->mailbox, &job_new(shop, run_meeting, i)->work);
    assert_int_equal(loop_run(shop->loop), 0);
    assert_int_equal(shop->done_count, THREADS);
    assert_int_equal(pthread_barrier_destroy(&shop->meeting), 0);
    shop_free(shop);
}

static void done_may_submit_again(void **state)
{
    (void)state;
    struct shop *shop = shop_new(2, 2);
    struct job *job = job_new(shop, run_job, 0);
    job->resubmit = true;
    worker_submit(shop->pool, shop->mailbox, &job->work);
    assert_int_equal(loop_run(shop->loop), 0);
    assert_int_equal(shop->run_count, 2);
    shop_free(shop);
}

static void free_waits_for_what_was_submitted(void **state)
{
    (void)state;
    struct shop *shop = shop_new(2, JOBS);
    for (int i = 0; i < JOBS; i++)
        worker_submit(shop->pool, shop->mailbox, &job_new(shop, run_job, i)->work);
    shop->pool = worker_pool_free(shop->pool);
    assert_int_equal(shop->run_count, JOBS);
    assert_int_equal(shop->done_count, 0);
    assert_int_equal(loop_run(shop->loop), 0);
    assert_int_equal(shop->done_count, JOBS);
    shop_free(shop);
}

static void run_look_at_signals(struct work *work)
{
    struct job *job = CONTAINER_OF(work, struct job, work);
    sigset_t blocked;
    assert_int_equal(pthread_sigmask(SIG_BLOCK, NULL, &blocked), 0);
    job->number = sigismember(&blocked, SIGTERM) == 1 && sigismember(&blocked, SIGHUP) == 1;
    run_job(work);
}

static void workers_leave_signals_to_the_loop(void **state)
{
    (void)state;
    struct shop *shop = shop_new(1, 1);
    sigset_t blocked;
    worker_submit(shop->pool, shop->mailbox, &job_new(shop, run_look_at_signals, 0)->work);
    assert_int_equal(loop_run(shop->loop), 0);
    assert_int_equal(shop->order[0], 1);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, NULL, &blocked), 0);
    assert_int_equal(sigismember(&blocked, SIGTERM), 0);
    shop_free(shop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_job_runs_off_the_loop_and_ends_on_it),
        cmocka_unit_test(one_thread_works_in_order),
        cmocka_unit_test(threads_work_side_by_side),
        cmocka_unit_test(done_may_submit_again),
        cmocka_unit_test(free_waits_for_what_was_submitted),
        cmocka_unit_test(workers_leave_signals_to_the_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
