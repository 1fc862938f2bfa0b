/* What the client runs on: a loop, the pool on which names are resolved, and the mailbox through
 * which the pool answers. Borrowed. Thread: the loop's. */
#pragma once

#include "io/loop.h"
#include "io/worker.h"

struct rmq_net {
    struct loop *loop;
    struct worker_pool *workers; /* NULL: only numeric addresses */
    struct mailbox *mailbox;     /* of the loop */
};
