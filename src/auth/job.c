#include "auth/job.h"

static void job_run(struct work *work)
{
    struct auth_job *job = CONTAINER_OF(work, struct auth_job, work);
    if (!atomic_load_explicit(&job->cancelled, memory_order_relaxed))
        job->run(job);
}

static void job_done(struct work *work)
{
    struct auth_job *job = CONTAINER_OF(work, struct auth_job, work);
    struct authenticator *authenticator = job->authenticator;
    if (job->call.done) {
        struct auth_answer answer = {0};
        job->answer(job, &answer);
        job->call.done(job->call.data, &answer);
    }
    job->free(job);
    (void)authenticator_unref(authenticator);
}

static void job_cancel(struct auth_call *call)
{
    struct auth_job *job = CONTAINER_OF(call, struct auth_job, call);
    atomic_store_explicit(&job->cancelled, true, memory_order_relaxed);
}

enum auth_result auth_job_submit(struct auth_job *job, struct authenticator *authenticator,
                                 const struct auth_deps *deps, auth_done_fn *done, void *data,
                                 struct auth_call **ret_call)
{
    if (authenticator->refs > authenticator->jobs_max) {
        job->free(job);
        return AUTH_BUSY;
    }
    job->call = (struct auth_call){.done = done, .data = data, .cancel = job_cancel};
    job->work.run = job_run;
    job->work.done = job_done;
    job->authenticator = authenticator_ref(authenticator);
    atomic_init(&job->cancelled, false);
    *ret_call = &job->call;
    worker_submit(deps->workers, deps->mailbox, &job->work);
    return AUTH_PENDING;
}
