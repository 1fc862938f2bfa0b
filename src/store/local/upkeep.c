/* What goes on behind the appends: checkpoints of the rows (checkpoint.c), sealing of the index,
 * merging of index files, retention (retention.c), and the filling of the pool.
 *
 * One job at a time runs on a worker, its input frozen by the loop; the loop takes the result. Rows
 * and index may cover only what is durable, so both are frozen right after a sync, when nothing
 * lazy is left unsynced; a sync is asked for when one is needed.
 *
 * Retention, in an order that any crash may interrupt: ask the owner to re-append what must live
 * (on_trim) and wait for store_trim_go; seal and checkpoint beyond the segments; commit to LMDB
 * where queues begin from now on, with the position below which all is given up; forget the
 * segments in memory; free their files. What is left undone, the next start finishes.
 */
#include "base/mem.h"
#include "io/file.h"
#include "store/local/engine_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SEAL_SPAN      (UINT64_C(1) << 30)
#define SEAL_SPAN_STOP (UINT64_C(16) << 30)
#define SPARSE_SPAN    (UINT64_C(64) << 20)
#define SPARSE_BYTES   (UINT64_C(256) << 10) /* of log for an entry, or more */

enum {
    TICK_MS_MIN = 5,
    TICK_MS_MAX = 1000,
    FILL_PAUSE_MS = 10 * 1000, /* after a failure to fill the pool */
    SEAL_STOP_FACTOR = 8,
    SEAL_AT_END = 64 * 1024, /* entries worth a file when the engine closes */
    MERGE_COUNT = 8,
    RELEASE_CHUNKS = 4, /* of an index in memory that has been sealed, freed in one turn */
    ROLL_PARTS = 8,
};

static bool log_synced(const struct local *local)
{
#ifdef MUTATION_CHECKPOINT_BEFORE_SEGMENT
    (void)local;
    return true;
#else
    return local->synced_end == local->done_end;
#endif
}

static void submit(struct local *local, struct work *work, work_fn *run, work_fn *done)
{
    work->run = run;
    work->done = done;
    local->work_count++;
    worker_submit(local->workers, local->mailbox, work);
}

void upkeep_start_job(struct local *local, work_fn *run, work_fn *done)
{
    ASSERT(!local->job.busy);
    local->job.busy = true;
    local->job.err = 0;
    local->job.why = (struct errmsg){0};
    submit(local, &local->job.work, run, done);
}

struct local *upkeep_end_job(struct work *work)
{
    struct local *local = CONTAINER_OF(work, struct local, job.work);
    local->job.busy = false;
    local->work_count--;
    return local;
}

/* Sealing keeps failing, and memory has its limits. */
static bool seal_behind(const struct local *local)
{
    const struct qgen *active = &local->index.active;
    return local->index.frozen.number &&
           (active->entry_count >= local->config.seal_entries * SEAL_STOP_FACTOR ||
            local->done_end - active->base >= SEAL_SPAN_STOP);
}

/* Without its views the log must not go on growing. */
void upkeep_judge_views(struct local *local)
{
    char why[sizeof local->reason] = "";
    if (local->overlay_lost)
        (void)snprintf(why, sizeof why, "out of memory for metadata; restart the server");
    else if (local->checkpoint.failed)
        (void)snprintf(why, sizeof why, "%.120s", local->checkpoint.why.text);
    else if (seal_behind(local))
        (void)snprintf(why, sizeof why, "could not seal the index: %s", err_text(local->seal_err));
    append_set_views(local, why[0] == '\0', why);
}

/* --- sealing and merging ------------------------------------------------------------------- */

/* Puts `file` in the place of the `replaced` files from index `at` on. */
static void set_files(struct local *local, uint32_t at, uint32_t replaced, struct sealed_file *file)
{
    struct sealed_set *before = local->files;
    const uint32_t count = before->count - replaced + (file ? 1 : 0);
    struct sealed_file **items = mem_new((count + 1) * sizeof(struct sealed_file *));
    uint32_t n = 0;
    for (uint32_t i = 0; i < at; i++)
        items[n++] = before->items[i];
    if (file)
        items[n++] = file;
    for (uint32_t i = at + replaced; i < before->count; i++)
        items[n++] = before->items[i];
    ASSERT(n == count);
    local->files = sealed_set_new(items, count);
    (void)sealed_set_unref(before);
    mem_free(items);
    retention_count(local);
    metric_set(&local->metrics->store_index_files, count);
}

static void run_seal(struct work *work)
{
    struct local *local = CONTAINER_OF(work, struct local, job.work);
    local->job.err = sealed_write(local->index_fd, &local->index.frozen, &local->job.file);
}

static void on_release_due(struct timer *timer)
{
    struct local *local = CONTAINER_OF(timer, struct local, release_timer);
    if (qindex_release(&local->index, RELEASE_CHUNKS))
        timer_start(loop_timers(local->loop), timer, 0);
}

static void on_seal_done(struct work *work)
{
    struct local *local = upkeep_end_job(work);
    if (local->job.err < 0) {
        local->seal_retry_ms = loop_now_ms(local->loop) + TICK_MS_MAX;
        local->seal_err = local->job.err;
        log_write(local->log, LOG_ERROR, "store", "could not seal the index: %s",
                  err_text(local->job.err));
        return;
    }
    struct sealed_file *file = TAKE(local->job.file);
    set_files(local, local->files->count, 0, file);
    local->sealed_end = file->end;
    (void)sealed_unref(file);
    qindex_thaw(&local->index);
    timer_start(loop_timers(local->loop), &local->release_timer, 0);
    metric_add(&local->metrics->store_seals, 1);
    upkeep_on_progress(local);
}

bool upkeep_seal_full(const struct local *local, uint64_t end)
{
    const struct qgen *active = &local->index.active;
    return end > active->base &&
           (active->entry_count >= local->config.seal_entries || end - active->base >= SEAL_SPAN);
}

/* There is much to be read by the next start, and sealing it costs next to nothing: sessions and
 * subscriptions that came and went, and no messages. */
static bool is_sparse(const struct local *local)
{
    const struct qgen *active = &local->index.active;
    const uint64_t span = local->done_end - active->base;
    return span >= SPARSE_SPAN && active->entry_count <= span / SPARSE_BYTES;
}

static bool seal_due(const struct local *local)
{
    if (loop_now_ms(local->loop) < local->seal_retry_ms)
        return false;
    if (local->index.frozen.number)
        return true; /* once more, after a failure */
    if (local->done_end == local->index.active.base)
        return false;
    return upkeep_seal_full(local, local->done_end) || is_sparse(local) ||
           (local->trim == TRIM_READY && local->sealed_end < local->trim_position);
}

static uint32_t tier_of(const struct sealed_file *file)
{
    return (uint32_t)(63 - __builtin_clzll(file->entry_count | 4096)) / 3;
}

/* Finds files next to each other, much alike in size, that are better one. */
static bool find_merge(const struct local *local, uint32_t *ret_at)
{
    const struct sealed_set *set = local->files;
    for (uint32_t at = 0; at + MERGE_COUNT <= set->count; at++) {
        const uint32_t tier = tier_of(set->items[at]);
        uint64_t entries = 0;
        uint32_t n = 0;
        for (; n < MERGE_COUNT && tier_of(set->items[at + n]) == tier; n++)
            entries += set->items[at + n]->entry_count;
        const uint64_t span = set->items[at + MERGE_COUNT - 1]->end - set->items[at]->start;
        if (n == MERGE_COUNT && entries <= UINT32_MAX / 64 && span <= SEALED_SPAN_MAX &&
            set->items[at]->start >= local->merge_failed_below) {
            *ret_at = at;
            return true;
        }
    }
    return false;
}

static void run_merge(struct work *work)
{
    struct local *local = CONTAINER_OF(work, struct local, job.work);
    struct job *job = &local->job;
    struct sealed_file *const *files = job->files->items + job->at;
    job->err = sealed_merge(local->index_fd, files, MERGE_COUNT, &job->file);
    for (uint32_t i = 0; i < MERGE_COUNT && job->err == 0; i++) {
        char name[SEALED_NAME_SIZE];
        sealed_name(files[i]->start, files[i]->end, name);
        (void)!file_unlinkat(local->index_fd, name); /* the next start tries again */
    }
}

static void on_merge_done(struct work *work)
{
    struct local *local = upkeep_end_job(work);
    struct job *job = &local->job;
    struct sealed_set *files = TAKE(job->files);
    if (job->err < 0) {
        local->merge_failed_below = files->items[job->at]->start + 1;
        log_write(local->log, LOG_WARN, "store", "could not merge index files: %s",
                  err_text(job->err));
    } else {
        struct sealed_file *file = TAKE(job->file);
        set_files(local, job->at, MERGE_COUNT, file);
        (void)sealed_unref(file);
    }
    (void)sealed_set_unref(files);
    upkeep_on_progress(local);
}

static void start_merge(struct local *local, uint32_t at)
{
    local->job.at = at;
    local->job.files = sealed_set_ref(local->files);
    upkeep_start_job(local, run_merge, on_merge_done);
}

/* --- the pool ------------------------------------------------------------------------------ */

static void run_fill(struct work *work)
{
    struct local *local = CONTAINER_OF(work, struct local, fill_work);
    local->fill_result = pool_fill(local->pool);
}

static void on_fill_done(struct work *work);

/* Whether the file that replaces the one being written may be prepared further: a little faster
 * than that fills up, and not all at once. So a burst of messages does not pay for messages that
 * have not come, and syncs wait behind little. More than one file short: no pause. */
static bool fill_may_go_on(const struct local *local, uint32_t count)
{
    const struct segment *segment = local->segment;
    if (!segment || count == 0 || count + 1 < local->config.pool_segments)
        return true;
    const uint64_t step = MIN((uint64_t)POOL_FILL_SIZE, local->config.segment_size);
    const uint64_t used = local->head - segment->base;
    return pool_filled(local->pool) + step <= used + used / 4;
}

static void fill_pool(struct local *local)
{
    if (local->filling || local->closing)
        return;
    const uint32_t count = pool_count(local->pool);
    metric_set(&local->metrics->store_segments_pool, count);
    const uint64_t size = local->config.segment_size;
    const uint64_t room = local->config.retention_bytes;
    const bool fits = local->log_size + (count + 1) * size <= room;
    const bool needed = count == 0 && local->trim == TRIM_IDLE; /* else old ones come free soon */
    if (count >= local->config.pool_segments || (!fits && !needed) ||
        loop_now_ms(local->loop) < local->fill_retry_ms || !fill_may_go_on(local, count))
        return;
    local->filling = true;
    submit(local, &local->fill_work, run_fill, on_fill_done);
}

static void on_fill_done(struct work *work)
{
    struct local *local = CONTAINER_OF(work, struct local, fill_work);
    local->work_count--;
    local->filling = false;
    if (local->fill_result < 0) {
        local->fill_retry_ms = loop_now_ms(local->loop) + FILL_PAUSE_MS;
        log_write(local->log, LOG_WARN, "store", "could not prepare a log segment: %s",
                  err_text(local->fill_result));
    } else {
        fill_pool(local);
    }
}

/* --- deciding ------------------------------------------------------------------------------ */

void upkeep_on_progress(struct local *local)
{
    if (local->closing)
        return;
    fill_pool(local);
    if (local->segments->count != local->segments_judged)
        retention_check(local);
    if (local->job.busy)
        return;
    upkeep_judge_views(local);
    const bool checkpoint = checkpoint_due(local);
    const bool seal = seal_due(local);
    uint32_t at = 0;
    if ((checkpoint && !checkpoint_frozen(local)) || (seal && !local->index.frozen.number)) {
        if (!log_synced(local)) {
            append_flush(local);
            return;
        }
    }
    if (checkpoint) {
        checkpoint_step(local);
    } else if (seal) {
        if (!local->index.frozen.number)
            qindex_freeze(&local->index, local->done_end);
        upkeep_start_job(local, run_seal, on_seal_done);
    } else if (retention_continue(local)) {
        return;
    } else if (find_merge(local, &at)) {
        start_merge(local, at);
    }
}

/* --- the clock ----------------------------------------------------------------------------- */

/* Old messages in a segment that never fills up must go too: it is left for a new one in time. */
static void roll_segment(struct local *local)
{
    const struct segment *segment = local->segment;
    if (!segment || local->opening_first || local->head == segment->base)
        return;
    const uint64_t now_ms = loop_wall_ms(local->loop);
    if (now_ms > segment->created_ms &&
        now_ms - segment->created_ms > local->config.retention_ms / ROLL_PARTS)
        local->segment = NULL;
}

static uint64_t tick_ms(const struct local *local)
{
    const uint64_t shortest = MIN(local->config.checkpoint_ms / 2, local->config.retention_ms / 4);
    return MAX(MIN(shortest, (uint64_t)TICK_MS_MAX), (uint64_t)TICK_MS_MIN);
}

static void on_tick(struct timer *timer)
{
    struct local *local = CONTAINER_OF(timer, struct local, tick);
    timer_start(loop_timers(local->loop), timer, tick_ms(local));
    roll_segment(local);
    retention_check(local);
    append_check_pressure(local);
    upkeep_on_progress(local);
}

void upkeep_start(struct local *local)
{
    local->tick.on_due = on_tick;
    local->release_timer.on_due = on_release_due;
    /* What was found in the log at the start is not read a second time by the next one. */
    local->checkpoint.due_ms = loop_now_ms(local->loop);
    if (overlay_empty(&local->overlay))
        local->checkpoint.due_ms += local->config.checkpoint_ms;
    timer_start(loop_timers(local->loop), &local->tick, tick_ms(local));
    fill_pool(local);
}

void upkeep_stop(struct local *local)
{
    timer_stop(loop_timers(local->loop), &local->tick);
    timer_stop(loop_timers(local->loop), &local->checkpoint.pause);
    timer_stop(loop_timers(local->loop), &local->release_timer);
}

void upkeep_finish(struct local *local)
{
    if (!log_synced(local) || local->overlay_lost)
        return;
    struct errmsg why = {0};
    if (checkpoint_finish(local, &why) < 0)
        log_write(local->log, LOG_ERROR, "store", "could not write the last checkpoint: %s",
                  why.text);
    if (local->index.frozen.number || local->index.active.entry_count < SEAL_AT_END)
        return;
    qindex_freeze(&local->index, local->done_end);
    struct sealed_file *file = NULL;
    if (sealed_write(local->index_fd, &local->index.frozen, &file) == 0)
        (void)sealed_unref(file);
}
