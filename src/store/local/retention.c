/* Retention: which segments are to go, and the steps of freeing them (see upkeep.c for the order).
 */
#include "base/mem.h"
#include "io/file.h"
#include "store/local/engine_priv.h"

#include <stdio.h>

enum {
    SLACK_PARTS = 32,
    BEHIND_MS_MAX = 30 * 1000, /* a trim that takes longer does not get on: publishers may */
    HEAD_SEGMENTS = 3,         /* left free for what arrives while old ones are being given up */
    QUEUES_PER_TURN = 4096,
};

void retention_count(struct local *local)
{
    uint64_t size = 0;
    for (uint32_t i = 0; i < local->segments->count; i++)
        size += local->segments->items[i]->size;
    for (uint32_t i = 0; i < local->files->count; i++)
        size += local->files->items[i]->size;
    local->log_size = size;
}

bool retention_behind(const struct local *local)
{
    /* For what has been taken in already, copies, and index files being written. */
    const uint64_t reserve = 2 * local->config.segment_size;
    const uint64_t now_ms = loop_now_ms(local->loop);
    return local->trim != TRIM_IDLE && append_allowed(local) &&
           now_ms - local->trim_since_ms < BEHIND_MS_MAX &&
           local->log_size + reserve >= local->config.retention_bytes;
}

/* Everything below this position is too old or too much. Once it is too much, some more than needed
 * goes: each trim has a price for every queue. */
static uint64_t wanted_position(const struct local *local)
{
    const struct segment_set *set = local->segments;
    const uint64_t spare = local->config.pool_segments + (uint64_t)HEAD_SEGMENTS;
    uint64_t size = local->log_size +
                    MIN(spare * local->config.segment_size, local->config.retention_bytes / 2);
    const uint64_t now_ms = loop_wall_ms(local->loop);
    uint64_t bytes_max = local->config.retention_bytes;
    if (size > bytes_max)
        bytes_max -= bytes_max / SLACK_PARTS;
    uint64_t position = local->first_position;
    for (uint32_t i = 0; i + 1 < set->count; i++) {
        const struct segment *next = set->items[i + 1];
        const bool too_old = next->created_ms + local->config.retention_ms < now_ms;
        if (!too_old && size <= bytes_max)
            break;
        size -= set->items[i]->size;
        position = MAX(position, next->base);
    }
    return position;
}

void retention_check(struct local *local)
{
    local->segments_judged = local->segments->count;
    if (local->trim != TRIM_IDLE)
        return;
    const uint64_t position = wanted_position(local);
    if (position <= local->first_position)
        return;
    local->trim_position = position;
    local->trim_since_ms = loop_now_ms(local->loop);
    local->trim = TRIM_ASKED;
    if (local->watcher.on_trim)
        local->watcher.on_trim(local->watcher.data, position);
    else
        local->trim = TRIM_READY;
}

void retention_go(struct local *local)
{
    ASSERT(local->trim == TRIM_ASKED);
    local->trim = TRIM_READY;
    upkeep_on_progress(local);
}

/* --- where queues begin -------------------------------------------------------------------- */

/* On the worker: the queues of one index file. */
struct gather {
    struct job *job;
    const struct sealed_file *file;
    uint64_t position;
    struct sealed_cursor cursor;
    int err;
};

static int add_base(struct job *job, uint32_t queue_id, uint64_t first_seq)
{
    if (job->base_count == job->base_room) {
        const uint64_t room = MAX((uint64_t)1024, job->base_room * 2);
        void *grown = mem_try_realloc(job->bases, room * sizeof *job->bases);
        if (!grown)
            return ERR_NOMEM;
        job->bases = grown;
        job->base_room = room;
    }
    job->bases[job->base_count++] =
        (struct metadb_base){.queue_id = queue_id, .first_seq = first_seq};
    return 0;
}

static void gather_queue(void *data, const struct sealed_queue *queue)
{
    struct gather *gather = data;
    uint32_t n = queue->count;
    if (gather->err == 0 && gather->file->end > gather->position)
        gather->err = sealed_search(gather->file, queue, gather->position, &gather->cursor, &n);
    if (gather->err == 0)
        gather->err = add_base(gather->job, queue->queue_id, queue->first_seq + n);
}

/* Later files say more about a queue than earlier ones: their bases come later. */
static int gather_bases(struct local *local, uint64_t position)
{
    struct job *job = &local->job;
    job->base_count = 0;
    for (uint32_t i = 0; i < job->files->count; i++) {
        const struct sealed_file *file = job->files->items[i];
        if (file->start >= position)
            break;
        struct gather gather = {.job = job, .file = file, .position = position};
        const int err = sealed_each(file, gather_queue, &gather);
        if (err < 0 || gather.err < 0)
            return err < 0 ? err : gather.err;
    }
    return 0;
}

/* --- freeing ------------------------------------------------------------------------------- */

/* Segments wholly below the position are the first `count` of the set. */
static uint32_t segments_below(const struct segment_set *set, uint64_t position)
{
    uint32_t count = 0;
    while (count + 1 < set->count && set->items[count + 1]->base <= position)
        count++;
    return count;
}

static uint32_t files_below(const struct sealed_set *set, uint64_t position)
{
    uint32_t count = 0;
    while (count < set->count && set->items[count]->end <= position)
        count++;
    return count;
}

static int free_files(struct local *local)
{
    struct job *job = &local->job;
    int err = 0;
    const uint32_t segments = segments_below(job->segments, job->position);
    for (uint32_t i = 0; i < segments && err == 0; i++) {
        char name[SEGMENT_NAME_SIZE];
        segment_name(job->segments->items[i]->number, name);
        err = pool_recycle(local->pool, name);
    }
    const uint32_t files = files_below(job->files, job->position);
    for (uint32_t i = 0; i < files && err == 0; i++) {
        char name[SEALED_NAME_SIZE];
        sealed_name(job->files->items[i]->start, job->files->items[i]->end, name);
        err = file_unlinkat(local->index_fd, name);
    }
#ifndef MUTATION_NO_DIR_FSYNC
    if (err == 0)
        err = file_fsync(local->log_fd);
    if (err == 0)
        err = file_fsync(local->index_fd);
#endif
    return err;
}

static void run_free(struct work *work)
{
    struct local *local = CONTAINER_OF(work, struct local, job.work);
    local->job.err = free_files(local);
}

static void end_trim(struct local *local)
{
    struct job *job = &local->job;
    job->segments = segment_set_unref(job->segments);
    job->files = sealed_set_unref(job->files);
    mem_free(job->bases);
    job->bases = NULL;
    job->base_room = job->base_count = 0;
}

static void on_free_done(struct work *work)
{
    struct local *local = upkeep_end_job(work);
    if (local->job.err < 0)
        log_write(local->log, LOG_WARN, "store",
                  "could not free all files of old segments (the next start will): %s",
                  err_text(local->job.err));
    end_trim(local);
    local->trim = TRIM_IDLE;
    retention_check(local);
    append_check_pressure(local);
    upkeep_on_progress(local);
}

/* --- committing ---------------------------------------------------------------------------- */

static void run_commit(struct work *work)
{
    struct local *local = CONTAINER_OF(work, struct local, job.work);
    struct job *job = &local->job;
#ifdef MUTATION_SEGMENT_BEFORE_CHECKPOINT
    (void)!free_files(local);
#endif
    job->err = gather_bases(local, job->position);
    if (job->err < 0)
        return;
    uint64_t forget = job->position; /* no index file kept says anything of older drops */
    for (uint32_t i = 0; i < job->files->count; i++) {
        if (job->files->items[i]->end > job->position)
            forget = MIN(forget, job->files->items[i]->start);
    }
    job->err =
        metadb_trim(local->db, job->bases, job->base_count, job->position, forget, &job->why);
}

static void forget_files(struct local *local)
{
    const struct job *job = &local->job;
    local->first_position = job->position;
    struct segment_set *segments = local->segments;
    const uint32_t gone = segments_below(segments, job->position);
    local->segments = segment_set_new(segments->items + gone, segments->count - gone);
    (void)segment_set_unref(segments);
    struct sealed_set *files = local->files;
    const uint32_t files_gone = files_below(files, job->position);
    local->files = sealed_set_new(files->items + files_gone, files->count - files_gone);
    (void)sealed_set_unref(files);
    retention_count(local);
    metric_set(&local->metrics->store_segments, local->segments->count);
    metric_set(&local->metrics->store_index_files, local->files->count);
}

/* Moves where some more queues begin. They may be a million, so the loop does it in slices; the
 * files stay until the last, because a queue not yet reached is still read from them. */
static void forget_some(struct local *local)
{
    struct job *job = &local->job;
    const uint64_t end = MIN(job->base_count, job->base_done + QUEUES_PER_TURN);
    for (; job->base_done < end; job->base_done++) {
        const struct metadb_base *base = &job->bases[job->base_done];
        struct queue *queue = qindex_find(&local->index, base->queue_id);
        if (queue)
            queue->first_seq = MAX(queue->first_seq, base->first_seq);
    }
    if (job->base_done < job->base_count) {
        timer_start(loop_timers(local->loop), &local->forget_timer, 0);
        return;
    }
    forget_files(local);
    local->job.busy = false;
    upkeep_start_job(local, run_free, on_free_done);
}

static void on_forget_due(struct timer *timer)
{
    forget_some(CONTAINER_OF(timer, struct local, forget_timer));
}

static void on_commit_done(struct work *work)
{
    struct local *local = upkeep_end_job(work);
    struct job *job = &local->job;
    if (job->err < 0) {
        log_write(local->log, LOG_ERROR, "store", "could not give up old segments: %s",
                  job->why.text[0] ? job->why.text : err_text(job->err));
        end_trim(local);
        return; /* the next tick tries again */
    }
    if (local->closing) {
        end_trim(local); /* the next start frees the files */
        return;
    }
    job->busy = true; /* the bases are in it until all queues have theirs */
    job->base_done = 0;
    local->forget_timer.on_due = on_forget_due;
    forget_some(local);
}

void retention_stop(struct local *local)
{
    timer_stop(loop_timers(local->loop), &local->forget_timer);
    end_trim(local);
}

bool retention_continue(struct local *local)
{
    if (local->trim != TRIM_READY)
        return false;
#ifndef MUTATION_SEGMENT_BEFORE_CHECKPOINT
    if (local->sealed_end < local->trim_position || local->applied_end < local->trim_position)
        return false;
#endif
    struct job *job = &local->job;
    job->position = local->trim_position;
    job->segments = segment_set_ref(local->segments);
    job->files = sealed_set_ref(local->files);
    upkeep_start_job(local, run_commit, on_commit_done);
    return true;
}
