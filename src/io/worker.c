/* One queue, first in, first out, under one lock: what runs here takes much longer than the lock.
 */
#include "io/worker.h"

#include "base/mem.h"

#include <pthread.h>
#include <signal.h>

struct worker_pool {
    pthread_mutex_t lock; /* of the next three */
    struct work *first, *last;
    bool stopping;
    pthread_cond_t changed;
    uint32_t thread_count;
    pthread_t threads[];
};

static void deliver_done(struct mail *mail)
{
    struct work *work = CONTAINER_OF(mail, struct work, mail);
    work->done(work);
}

/* Waits for the next work; NULL when the pool stops and the queue is empty. */
static struct work *take_next(struct worker_pool *pool)
{
    (void)pthread_mutex_lock(&pool->lock);
    while (!pool->first && !pool->stopping)
        (void)pthread_cond_wait(&pool->changed, &pool->lock);
    struct work *work = pool->first;
    if (work) {
        pool->first = work->next;
        if (!pool->first)
            pool->last = NULL;
    }
    (void)pthread_mutex_unlock(&pool->lock);
    return work;
}

static void *worker_main(void *data)
{
    struct worker_pool *pool = data;
    struct work *work = NULL;
    while ((work = take_next(pool))) {
        work->next = NULL;
        work->run(work);
        mailbox_post(work->home, &work->mail);
    }
    return NULL;
}

/* Signals belong to the loop thread. */
static int start_thread(struct worker_pool *pool)
{
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t *thread = &pool->threads[pool->thread_count];
    const int err = -pthread_create(thread, NULL, worker_main, pool);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err < 0)
        return err;
    (void)pthread_setname_np(*thread, "worker");
    pool->thread_count++;
    return 0;
}

int worker_pool_new(uint32_t thread_count, struct worker_pool **ret_pool, struct errmsg *reterr)
{
    ASSERT(thread_count > 0);
    struct worker_pool *pool = mem_new(sizeof *pool + thread_count * sizeof pool->threads[0]);
    int err = pthread_mutex_init(&pool->lock, NULL);
    ASSERT(err == 0);
    err = pthread_cond_init(&pool->changed, NULL);
    ASSERT(err == 0);
    while (pool->thread_count < thread_count) {
        err = start_thread(pool);
        if (err < 0) {
            errmsg_wrap(reterr, "could not start a worker thread: %s", err_text(err));
            (void)worker_pool_free(pool);
            return err;
        }
    }
    *ret_pool = pool;
    return 0;
}

struct worker_pool *worker_pool_free(struct worker_pool *pool)
{
    if (!pool)
        return NULL;
    (void)pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    (void)pthread_cond_broadcast(&pool->changed);
    (void)pthread_mutex_unlock(&pool->lock);
    for (uint32_t i = 0; i < pool->thread_count; i++)
        (void)pthread_join(pool->threads[i], NULL);
    (void)pthread_cond_destroy(&pool->changed);
    (void)pthread_mutex_destroy(&pool->lock);
    mem_free(pool);
    return NULL;
}

void worker_submit(struct worker_pool *pool, struct mailbox *home, struct work *work)
{
    ASSERT(work->run && work->done);
    work->home = home;
    work->next = NULL;
    work->mail.deliver = deliver_done;
    (void)pthread_mutex_lock(&pool->lock);
    ASSERT(!pool->stopping);
    if (pool->last)
        pool->last->next = work;
    else
        pool->first = work;
    pool->last = work;
    (void)pthread_cond_signal(&pool->changed);
    (void)pthread_mutex_unlock(&pool->lock);
}
