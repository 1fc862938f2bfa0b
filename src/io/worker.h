/* Worker pool: blocking work off the loops (cold reads, sealing, checkpoints, password hashing). */
#pragma once

#include "io/mailbox.h"

struct worker_pool;
struct work;
typedef void work_fn(struct work *work);

/* Embed it. `run` on a worker thread, then `done` on the loop of the mailbox. */
struct work {
    struct mail mail;
    struct work *next;
    struct mailbox *home; /* set by worker_submit */
    work_fn *run;
    work_fn *done;
};

MUST_CHECK int worker_pool_new(uint32_t thread_count, struct worker_pool **ret_pool,
                               struct errmsg *reterr);
/* Waits for what was submitted, then joins the threads; `done` callbacks are still posted. */
struct worker_pool *worker_pool_free(struct worker_pool *pool);
void worker_submit(struct worker_pool *pool, struct mailbox *home, struct work *work);
