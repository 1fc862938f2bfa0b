/* Job: a check that runs on a worker thread. Embed it in front of what the check needs.
 *
 * A job holds copies of all it looks at, never what the loop may change, and a reference to its
 * authenticator. A job that was cancelled before a worker came to it does nothing.
 * Private to auth/.
 */
#pragma once

#include "auth/auth.h"

#include <stdatomic.h>

struct auth_job {
    struct auth_call call;
    struct work work;
    struct authenticator *authenticator;
    atomic_bool cancelled;
    /* On a worker. */
    void (*run)(struct auth_job *job);
    /* On the loop, unless cancelled: fills in the answer. */
    void (*answer)(struct auth_job *job, struct auth_answer *ret_answer);
    /* On the loop: frees the memory that the job is in. */
    void (*free)(struct auth_job *job);
};

/* run, answer and free are set by the caller. Returns AUTH_PENDING, or AUTH_BUSY, with the job
 * freed, when authenticator->jobs_max are on their way already. */
enum auth_result auth_job_submit(struct auth_job *job, struct authenticator *authenticator,
                                 const struct auth_deps *deps, auth_done_fn *done, void *data,
                                 struct auth_call **ret_call);
