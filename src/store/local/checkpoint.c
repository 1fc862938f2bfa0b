/* Checkpoints: the rows changed since the last one are frozen, sorted and written to LMDB by a
 * worker, while new changes gather in an overlay of their own.
 *
 * They are written in steps, each a synced transaction of a few MiB, with pauses between them: one
 * of hundreds of MiB would keep the disk busy while publishers wait for the log's sync. Only the
 * last moves the position up to which the rows are complete. A crash before it leaves rows that are
 * newer than that position says; the log is replayed from there and brings all of them to where it
 * ends, as every operation sets or deletes a whole row.
 *
 * What could not be written stays frozen and is tried again; appends are refused meanwhile.
 */
#include "store/local/engine_priv.h"

#include "base/mem.h"

#include <time.h>

#define STEP_BYTES (UINT64_C(2) << 20) /* of rows in one transaction */

enum {
    RETRY_MS = 1000,
    PAUSE_FACTOR = 2,    /* a pause after each step, so many times as long as the step took */
    PAUSE_SHARE = 4,     /* of the interval between checkpoints, at most, for all pauses */
    ROW_ROOM_IN_DB = 32, /* what a row takes beside key and value, roughly */
};

static uint64_t clock_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Where the step that begins with the next row ends. */
static uint64_t step_end(const struct checkpoint *checkpoint)
{
    uint64_t bytes = 0, at = checkpoint->at;
    while (at < checkpoint->count && bytes < STEP_BYTES) {
        const struct overlay_row *row = checkpoint->rows[at++];
        bytes += row->key_size + row->value_size + (uint64_t)ROW_ROOM_IN_DB;
    }
    return at;
}

static void forget_order(struct checkpoint *checkpoint)
{
    mem_free(checkpoint->rows);
    checkpoint->rows = NULL;
    checkpoint->at = checkpoint->count = 0;
}

/* Writes the next rows. Returns 0; *ret_done: these were the last. */
static int write_step(struct local *local, bool *ret_done, struct errmsg *reterr)
{
    struct checkpoint *checkpoint = &local->checkpoint;
    if (!checkpoint->rows) {
        checkpoint->rows = overlay_sorted(&checkpoint->frozen);
        if (!checkpoint->rows) {
            errmsg_wrap(reterr, "%s", err_text(ERR_NOMEM));
            return ERR_NOMEM;
        }
    }
    struct overlay_row **rows = checkpoint->rows + checkpoint->at;
    const uint64_t end = step_end(checkpoint), count = end - checkpoint->at;
    const bool done = end == checkpoint->count;
    const int err = done ? metadb_commit(local->db, rows, count, checkpoint->end, reterr)
                         : metadb_prepare(local->db, rows, count, reterr);
    if (err < 0)
        return err;
    checkpoint->at = end;
    if (done) {
        forget_order(checkpoint);
        overlay_clear(&checkpoint->frozen);
    }
    *ret_done = done;
    return 0;
}

static void run_step(struct work *work)
{
    struct local *local = CONTAINER_OF(work, struct local, job.work);
    struct checkpoint *checkpoint = &local->checkpoint;
    const uint64_t began_ms = clock_ms();
    checkpoint->done = false;
    local->job.err = write_step(local, &checkpoint->done, &local->job.why);
    checkpoint->step_ms = clock_ms() - began_ms;
}

static void step_failed(struct local *local)
{
    struct checkpoint *checkpoint = &local->checkpoint;
    checkpoint->due_ms = loop_now_ms(local->loop) + RETRY_MS;
    checkpoint->failed = true;
    errmsg_wrap(&local->job.why, "could not write a checkpoint");
    checkpoint->why = local->job.why;
    upkeep_judge_views(local);
}

/* Leaves the disk to the log for a while; not when retention waits, which must not fall behind. */
static void pause_step(struct local *local)
{
    struct checkpoint *checkpoint = &local->checkpoint;
    uint64_t pause_ms = MIN(checkpoint->step_ms * PAUSE_FACTOR, checkpoint->pauses_ms);
    if (local->trim == TRIM_READY)
        pause_ms = 0;
    checkpoint->pauses_ms -= pause_ms;
    checkpoint->due_ms = loop_now_ms(local->loop) + pause_ms;
    if (pause_ms > 0 && !local->closing)
        timer_start(loop_timers(local->loop), &checkpoint->pause, pause_ms);
}

static void on_step_done(struct work *work)
{
    struct local *local = upkeep_end_job(work);
    struct checkpoint *checkpoint = &local->checkpoint;
    if (local->job.err < 0) {
        step_failed(local);
        return;
    }
    checkpoint->failed = false;
    metric_add(&local->metrics->store_checkpoint_steps, 1);
    if (checkpoint->done) {
        checkpoint->due_ms = loop_now_ms(local->loop) + local->config.checkpoint_ms;
        local->applied_end = checkpoint->end;
        metric_add(&local->metrics->store_checkpoints, 1);
    } else {
        pause_step(local);
    }
    upkeep_judge_views(local);
    upkeep_on_progress(local);
}

static void on_pause_over(struct timer *timer)
{
    upkeep_on_progress(CONTAINER_OF(timer, struct local, checkpoint.pause));
}

void checkpoint_init(struct local *local)
{
    overlay_init(&local->checkpoint.frozen);
    local->checkpoint.pause.on_due = on_pause_over;
}

void checkpoint_done(struct local *local)
{
    forget_order(&local->checkpoint);
    overlay_clear(&local->checkpoint.frozen);
}

bool checkpoint_frozen(const struct local *local)
{
    return local->checkpoint.end > local->applied_end;
}

static void freeze(struct local *local)
{
    struct checkpoint *checkpoint = &local->checkpoint;
    checkpoint->frozen = local->overlay;
    checkpoint->rows = TAKE(local->latest);
    checkpoint->count = checkpoint->frozen.rows.count;
    checkpoint->end = local->done_end;
    checkpoint->pauses_ms = local->config.checkpoint_ms / PAUSE_SHARE;
    overlay_init(&local->overlay);
}

void checkpoint_step(struct local *local)
{
    if (!checkpoint_frozen(local))
        freeze(local);
    upkeep_start_job(local, run_step, on_step_done);
}

bool checkpoint_due(const struct local *local)
{
    if (local->overlay_lost)
        return false;
    const bool in_time = loop_now_ms(local->loop) >= local->checkpoint.due_ms;
    if (checkpoint_frozen(local))
        return in_time || (local->trim == TRIM_READY && !local->checkpoint.failed);
    if (local->trim == TRIM_READY && local->applied_end < local->trim_position)
        return true;
    if (overlay_empty(&local->overlay))
        return false;
    return in_time || local->overlay.bytes > local->config.overlay_bytes;
}

int checkpoint_finish(struct local *local, struct errmsg *reterr)
{
    struct checkpoint *checkpoint = &local->checkpoint;
    while (local->applied_end < local->done_end) {
        if (!checkpoint_frozen(local))
            freeze(local);
        bool done = false;
        const int err = write_step(local, &done, reterr);
        if (err < 0)
            return err;
        if (done)
            local->applied_end = checkpoint->end;
    }
    return 0;
}
