/* The way of an append: laid out in the tail at its place in the log, handed to the log thread at
 * the end of the loop's iteration, indexed and acknowledged when the result comes back.
 *
 * Completion walks the records themselves, not the requests: a lazy append may have none. Requests
 * wait in a list in the order of their positions, so each is matched by its position.
 *
 * When the log fails, everything not yet acknowledged fails with it, the positions are given back,
 * and a timer tries a fresh segment until one works. Lazy records that were acknowledged without a
 * sync still lie in the tail: they are written again, at the same positions, into the new segment.
 */
#include "base/mem.h"
#include "store/local/engine_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { RANGES_MAX = 64, PENDING_FACTOR = 4 };

bool append_allowed(const struct local *local)
{
    return local->log_works && local->views_work && !local->closing;
}

/* Tells the owner when appends begin or cease to be taken. */
static void tell_writable(struct local *local)
{
    const bool writable = append_allowed(local);
    if (writable == local->told_writable || local->closing)
        return;
    local->told_writable = writable;
    metric_set(&local->metrics->store_writable, writable);
    if (local->watcher.on_writable)
        local->watcher.on_writable(local->watcher.data, writable, writable ? "" : local->reason);
}

/* --- submitting ---------------------------------------------------------------------------- */

static bool valid_ops(const struct store_append *req)
{
    for (uint16_t i = 0; i < req->op_count; i++) {
        const struct meta_op *op = &req->ops[i];
        if (op->key.size == 0 || op->key.size > META_KEY_MAX || op->value.size > META_VALUE_MAX)
            return false;
    }
    return true;
}

/* The segment with room for `size` bytes at the head; it may be a new one, without a file yet. */
static struct segment *segment_for(struct local *local, uint64_t size)
{
    struct segment *segment = local->segment;
    const uint64_t capacity = segment_capacity(local->config.segment_size);
    if (segment && local->head - segment->base + size <= capacity)
        return segment;
    segment =
        segment_new(local->last_number + 1, local->head, local->config.segment_size, local->epoch);
    segment->prev_number = local->last_number;
    segment->created_ms = loop_wall_ms(local->loop);
    local->last_number = segment->number;
    if (local->opening_last)
        local->opening_last->next = segment;
    else
        local->opening_first = segment;
    local->opening_last = segment;
    local->segment = segment;
    return segment;
}

static uint8_t *reserve(struct local *local, uint64_t size)
{
    struct segment *segment = segment_for(local, size);
    uint8_t *bytes = tail_reserve(&local->tail, segment, local->head, (uint32_t)size);
    if (bytes)
        local->head += size;
    return bytes;
}

/* Sees to it that what was laid out goes to the log thread in time. */
static void schedule(struct local *local, uint8_t level)
{
    if (level == STORE_SYNC) {
        local->sync_wanted = true;
        loop_defer(local->loop, &local->flush);
        return;
    }
    const struct tail_chunk *chunk = tail_chunk(&local->tail, local->tail.count - 1);
    if (chunk->used - chunk->handed >= TAIL_CHUNK_SIZE / 2)
        loop_defer(local->loop, &local->flush);
    else if (local->lazy_timer.due_ms == 0)
        timer_start(loop_timers(local->loop), &local->lazy_timer, LOCAL_LAZY_MS);
}

int append_submit(struct store *store, struct store_append *req)
{
    struct local *local = CONTAINER_OF(store, struct local, store);
    if (!append_allowed(local))
        return ERR_UNAVAILABLE;
    const uint64_t size = record_size(req);
    if (size > segment_capacity(local->config.segment_size) || !valid_ops(req))
        return ERR_INVALID;
    const uint64_t waiting = local->head - local->done_end;
    if (waiting > 0 && waiting + size > local->config.pressure_bytes * PENDING_FACTOR)
        return ERR_FULL;
    ASSERT(req->queue_count == 0 || req->queue_ids[0] != 0);
    const uint64_t position = local->head;
    uint8_t *bytes = reserve(local, size);
    if (!bytes)
        return ERR_NOMEM;
    record_write(bytes, req, position, local->epoch);
    metric_add(&local->metrics->store_appends, 1);
    metric_add(&local->metrics->store_bytes, (int64_t)size);
    if (req->done) {
        struct buf *buf = tail_chunk(&local->tail, local->tail.count - 1)->buf;
        req->stored = record_view(bytes, buf).message;
        req->seqs = NULL;
        req->engine_value = position;
        req->next = NULL;
        if (local->pending_last)
            local->pending_last->next = req;
        else
            local->pending_first = req;
        local->pending_last = req;
    }
    schedule(local, req->level);
    return 0;
}

void append_drop(struct local *local, uint32_t queue_id)
{
    if (!append_allowed(local))
        return;
    const uint64_t position = local->head;
    uint8_t *bytes = reserve(local, RECORD_DROP_SIZE);
    if (!bytes)
        return;
    record_write_drop(bytes, queue_id, position, local->epoch);
    schedule(local, STORE_LAZY);
}

/* --- handing over -------------------------------------------------------------------------- */

/* The oldest chunk with bytes the log thread has not got. */
static uint32_t first_unhanded(const struct tail *tail)
{
    uint32_t n = tail->count;
    while (n > 0) {
        const struct tail_chunk *chunk = tail_chunk(tail, n - 1);
        if (chunk->handed == chunk->used)
            break;
        n--;
    }
    return n;
}

static int hand_over(struct local *local, bool sync)
{
    struct tail *tail = &local->tail;
    uint32_t n = first_unhanded(tail);
    do {
        struct clog_range ranges[RANGES_MAX];
        uint32_t count = 0;
        for (; n + count < tail->count && count < RANGES_MAX; count++) {
            const struct tail_chunk *chunk = tail_chunk(tail, n + count);
            ranges[count] = (struct clog_range){.bytes = chunk->bytes + chunk->handed,
                                                .size = chunk->used - chunk->handed,
                                                .position = chunk->base + chunk->handed,
                                                .segment = chunk->segment};
        }
        const bool last = n + count == tail->count;
        if (count == 0 && !sync)
            return 0;
        const int err = clog_submit(local->clog, ranges, count, sync && last);
        if (err < 0)
            return err;
        for (uint32_t i = 0; i < count; i++)
            tail_chunk(tail, n + i)->handed = tail_chunk(tail, n + i)->used;
        n += count;
    } while (n < tail->count);
    return 0;
}

static void flush(struct local *local)
{
    if (!local->log_works)
        return;
    timer_stop(loop_timers(local->loop), &local->lazy_timer);
    if (hand_over(local, local->sync_wanted) < 0)
        timer_start(loop_timers(local->loop), &local->lazy_timer, LOCAL_LAZY_MS);
    else
        local->sync_wanted = false;
}

static void on_flush(struct deferred *deferred)
{
    flush(CONTAINER_OF(deferred, struct local, flush));
}

static void on_lazy_due(struct timer *timer)
{
    flush(CONTAINER_OF(timer, struct local, lazy_timer));
}

void append_flush(struct local *local)
{
    local->sync_wanted = true;
    flush(local);
}

/* --- completing ---------------------------------------------------------------------------- */

void append_publish(struct local *local, struct segment *segment, bool replaces)
{
    struct segment_set *before = local->segments;
    const uint32_t kept = before->count - (replaces ? 1 : 0);
    struct segment **items = mem_new((kept + 1) * sizeof(struct segment *));
    memcpy(items, before->items, kept * sizeof *items);
    items[kept] = segment;
    local->segments = segment_set_new(items, kept + 1);
    (void)segment_set_unref(before);
    mem_free(items);
    retention_count(local);
    metric_set(&local->metrics->store_segments, local->segments->count);
}

/* Segments in which something has been written are for readers to see. */
static void publish_until(struct local *local, uint64_t end)
{
    struct segment *segment = NULL;
    while ((segment = local->opening_first) && segment->base < end) {
        local->opening_first = segment->next;
        if (!segment->next)
            local->opening_last = NULL;
        segment->next = NULL;
        append_publish(local, segment, false);
        (void)segment_unref(segment); /* the set has its own */
    }
}

void append_apply(struct local *local, const struct record *record, bool to_index, bool to_overlay)
{
    const struct record_header *header = record->header;
    if (to_index && header->kind == RECORD_DROP) {
        qindex_drop(&local->index, record->queue_ids[0]);
    } else if (to_index && header->has_message) {
        for (uint16_t i = 0; i < header->queue_count; i++) {
            local->seqs[i] =
                qindex_add(&local->index, record->queue_ids[i], header->position, header->size);
        }
        if (header->topic_id)
            (void)qindex_add(&local->index, header->topic_id, header->position, header->size);
    }
    const bool changes = header->op_count > 0 || header->kind == RECORD_DROP;
    if (to_overlay && changes && overlay_apply(&local->overlay, record) < 0)
        local->overlay_lost = true;
}

/* Indexes and acknowledges one record; done may submit and read. */
static void complete_one(struct local *local, const uint8_t *bytes)
{
    const struct record record = record_view(bytes, NULL);
    const uint64_t position = record.header->position;
    append_apply(local, &record, true, true);
    local->done_end = position + record.header->size;
    struct store_append *req = local->pending_first;
    if (!req || req->engine_value != position)
        return;
    local->pending_first = req->next;
    if (!req->next)
        local->pending_last = NULL;
    req->next = NULL;
    req->seqs = local->seqs;
    req->done(req, 0);
}

static void complete(struct local *local, uint64_t end)
{
    publish_until(local, end);
    while (local->done_end < end) {
        const uint32_t n = tail_find(&local->tail, local->done_end);
        ASSERT(n < local->tail.count);
        const struct tail_chunk chunk = *tail_chunk(&local->tail, n);
        const uint64_t chunk_end = MIN(end, chunk.base + chunk.handed);
        while (local->done_end < chunk_end)
            complete_one(local, chunk.bytes + (local->done_end - chunk.base));
    }
    ASSERT(local->done_end == end);
}

/* --- failing and coming back --------------------------------------------------------------- */

static void drop_opening(struct local *local)
{
    struct segment *segment = local->opening_first;
    if (segment)
        local->last_number = segment->prev_number;
    while (segment) {
        struct segment *next = segment->next;
        (void)segment_unref(segment);
        segment = next;
    }
    local->opening_first = local->opening_last = NULL;
    local->segment = NULL;
}

void append_fail_all(struct local *local, int err)
{
    struct store_append *req = NULL;
    while ((req = local->pending_first)) {
        local->pending_first = req->next;
        if (!req->next)
            local->pending_last = NULL;
        req->next = NULL;
        metric_add(&local->metrics->store_append_errors, 1);
        req->done(req, err);
    }
}

/* The first attempt soon, for what passes by itself; then less and less often. */
static void retry_later(struct local *local)
{
    if (local->closing)
        return;
    timer_start(loop_timers(local->loop), &local->reopen_timer, local->reopen_delay_ms);
    local->reopen_delay_ms = MIN(local->reopen_delay_ms * 2, LOCAL_REOPEN_MS_MAX);
}

/* Nothing more goes to the log until a fresh segment works. */
static void fail(struct local *local, const struct clog_result *result)
{
    if (result->synced_end > local->done_end)
        complete(local, result->synced_end);
    local->log_works = false;
    (void)snprintf(local->reason, sizeof local->reason, "%s", result->reason);
    local->head = local->done_end;
    local->sync_wanted = false;
    timer_stop(loop_timers(local->loop), &local->lazy_timer);
    drop_opening(local);
    tail_cut(&local->tail, local->done_end);
    local->reopen_delay_ms = LOCAL_REOPEN_MS_MIN;
    retry_later(local);
    append_fail_all(local, ERR_UNAVAILABLE);
    tell_writable(local);
}

/* true when nothing in the youngest segment is durable: a fresh one takes its number and place. */
static bool replaces_last(const struct local *local)
{
    const struct segment_set *set = local->segments;
    return set->count && set->items[set->count - 1]->base == local->synced_end;
}

static void on_reopen_due(struct timer *timer)
{
    struct local *local = CONTAINER_OF(timer, struct local, reopen_timer);
    const struct segment_set *set = local->segments;
    struct segment *last = set->count ? set->items[set->count - 1] : NULL;
    const bool replaces = replaces_last(local);
    struct segment *segment =
        segment_new(replaces ? last->number : local->last_number + 1, local->synced_end,
                    local->config.segment_size, local->epoch);
    segment->prev_number = replaces ? last->prev_number : local->last_number;
    segment->created_ms = loop_wall_ms(local->loop);
    struct clog_range ranges[RANGES_MAX];
    uint32_t count = 0;
    for (uint64_t at = local->synced_end; at < local->done_end; count++) {
        const uint32_t n = tail_find(&local->tail, at);
        ASSERT(n < local->tail.count && count < RANGES_MAX);
        const struct tail_chunk *chunk = tail_chunk(&local->tail, n);
        const uint32_t skip = (uint32_t)(at - chunk->base);
        ranges[count] = (struct clog_range){.bytes = chunk->bytes + skip,
                                            .size = chunk->used - skip,
                                            .position = at,
                                            .segment = segment};
        at += chunk->used - skip;
    }
    if (clog_reopen(local->clog, segment, ranges, count) < 0) {
        (void)segment_unref(segment);
        retry_later(local);
        return;
    }
    local->reopening = true;
    local->reopen_count++;
    local->reopen_segment = segment;
}

static void on_reopened(struct local *local, const struct clog_result *result)
{
    struct segment *segment = TAKE(local->reopen_segment);
    local->reopening = false;
    if (result->err < 0) {
        (void)snprintf(local->reason, sizeof local->reason, "%s", result->reason);
        (void)segment_unref(segment);
        retry_later(local);
        return;
    }
    ASSERT(result->written_end == local->done_end);
    append_publish(local, segment, replaces_last(local));
    local->synced_end = result->synced_end;
    local->last_number = segment->number;
    local->segment = segment;
    (void)segment_unref(segment);
    local->log_works = true;
    tell_writable(local);
}

/* Tells waiting publishers once half of the pressure is gone. */
void append_check_pressure(struct local *local)
{
    if (local->pressed && local->head - local->done_end <= local->config.pressure_bytes / 2 &&
        !retention_behind(local)) {
        local->pressed = false;
        if (local->watcher.on_drained)
            local->watcher.on_drained(local->watcher.data);
    }
}

void append_on_result(void *data, const struct clog_result *result)
{
    struct local *local = data;
    latest_forget(local);
    if (local->reopening && result->reopen_count == local->reopen_count) {
        on_reopened(local, result);
    } else if (local->log_works) {
        if (result->err < 0) {
            local->synced_end = MAX(local->synced_end, result->synced_end);
            fail(local, result);
        } else {
            local->synced_end = result->synced_end;
            complete(local, result->written_end);
        }
    }
    tail_trim(&local->tail, local->synced_end);
    append_check_pressure(local);
    upkeep_on_progress(local);
}

void append_set_views(struct local *local, bool work, const char *reason)
{
    local->views_work = work;
    if (!work)
        (void)snprintf(local->reason, sizeof local->reason, "%s", reason);
    tell_writable(local);
}

void append_forget(struct local *local)
{
    drop_opening(local);
    local->reopen_segment = segment_unref(local->reopen_segment);
}

void append_init(struct local *local)
{
    list_init(&local->flush.node);
    local->flush.run = on_flush;
    local->lazy_timer.on_due = on_lazy_due;
    local->reopen_timer.on_due = on_reopen_due;
}
