/* Reading: at once from the tail in memory where possible, else through a worker.
 *
 * The loop finds out where the entries lie when the index in memory knows; a worker asks the sealed
 * files otherwise. The worker reads records that lie close together with one call, and checks each:
 * a record that is not what the index promised is damage, unless its segment was freed meanwhile;
 * then the read begins again at the first entry kept.
 */
#include "base/mem.h"
#include "io/file.h"
#include "store/local/engine_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum {
    GAP_MAX = 64 * 1024,   /* bytes read for nothing rather than reading twice */
    RUN_MAX = 1024 * 1024, /* bytes read at once, unless one record is larger */
    GET_SIZE = 16 * 1024,  /* read at first for a record of unknown size */
    OVERHEAD = 96,         /* of a record beyond its message, at least; planning only */
};

/* A read under way, then what its entries lie in. */
struct read_state {
    struct work work;
    struct local *local;
    struct store_read *req; /* NULL: cancelled */
    struct segment_set *segments;
    struct sealed_set *files;
    uint64_t from_seq, limit; /* limit: end of what is written */
    uint64_t memory_first;    /* first number of the queue that the index has in memory */
    uint64_t lost_until;
    uint32_t queue_id, bytes_max, hint;
    int err;
    bool pending;
    uint16_t entries_max;
    uint32_t place_count, entry_count, buf_count;
    struct qplace *places;
    struct buf **bufs;
    struct store_entry *entries;
};

/* One allocation: the state, then room for `entries_max` entries, bufs and, for a worker, places.
 */
static struct read_state *state_new(struct local *local, uint32_t entries_max, bool places)
{
    const size_t each =
        sizeof(struct store_entry) + sizeof(struct buf *) + (places ? sizeof(struct qplace) : 0);
    struct read_state *state = mem_try_alloc(sizeof *state + entries_max * each);
    if (!state)
        return NULL;
    *state = (struct read_state){.local = local, .entries_max = (uint16_t)entries_max};
    state->entries = (struct store_entry *)(state + 1);
    state->bufs = (struct buf **)(state->entries + entries_max);
    if (places)
        state->places = (struct qplace *)(state->bufs + entries_max);
    return state;
}

static void state_free(struct read_state *state)
{
    for (uint32_t i = 0; i < state->buf_count; i++)
        (void)buf_unref(state->bufs[i]);
    (void)segment_set_unref(state->segments);
    (void)sealed_set_unref(state->files);
    mem_free(state);
}

/* Adds a buf the entries lie in; takes the reference. */
static void hold_buf(struct read_state *state, struct buf *buf)
{
    ASSERT(state->buf_count < state->entries_max);
    state->bufs[state->buf_count++] = buf;
}

static uint32_t message_bytes(const struct message *message)
{
    return message->topic.size + message->payload.size + message->props.size;
}

/* n: which of the places it is. */
static void add_entry(struct read_state *state, const struct record *record, uint32_t n)
{
    ASSERT(state->entry_count < state->entries_max);
    state->entries[state->entry_count] = (struct store_entry){
        .seq = state->queue_id ? state->from_seq + n : 0,
        .message = record->message,
        .queue_ids = record->queue_ids,
        .queue_count = record->header->queue_count,
    };
    state->entry_count++;
}

static void hand_results(struct store_read *req, struct read_state *state)
{
    req->entry_count = (uint16_t)state->entry_count;
    req->entries = state->entries;
    req->lost_until = state->lost_until;
    req->engine_state = state;
}

/* --- from the tail ------------------------------------------------------------------------- */

/* The record at a place in the tail, NULL when it is not there. */
static const uint8_t *tail_record(const struct local *local, uint64_t position, uint32_t *ret_chunk)
{
    const uint32_t n = tail_find(&local->tail, position);
    if (n == local->tail.count)
        return NULL;
    *ret_chunk = n;
    const struct tail_chunk *chunk = tail_chunk(&local->tail, n);
    return chunk->bytes + (position - chunk->base);
}

/* How many of the places lie in the tail and within the bytes wanted; at least 1 if the first does.
 */
static uint32_t count_tail(const struct local *local, const struct store_read *req,
                           const struct qplace *places, uint32_t count)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t n = 0;
        const uint8_t *at = tail_record(local, places[i].position, &n);
        if (!at)
            return i;
        const struct record record = record_view(at, NULL);
        bytes += message_bytes(&record.message);
        if (i > 0 && bytes > req->bytes_max)
            return i;
    }
    return count;
}

static int serve_tail(struct local *local, struct store_read *req, const struct qplace *places,
                      uint32_t count, uint64_t from_seq)
{
    struct read_state *state = state_new(local, count, false);
    if (!state)
        return ERR_NOMEM;
    state->queue_id = req->queue_id;
    state->from_seq = from_seq;
    uint32_t held = UINT32_MAX;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t n = 0;
        const uint8_t *at = tail_record(local, places[i].position, &n);
        struct buf *buf = tail_chunk(&local->tail, n)->buf;
        if (n != held)
            hold_buf(state, buf_ref(buf));
        held = n;
        const struct record record = record_view(at, buf);
        add_entry(state, &record, i);
    }
    metric_add(&local->metrics->store_reads_cache, count);
    hand_results(req, state);
    return 1;
}

/* --- from disk, on a worker ---------------------------------------------------------------- */

/* true when `store repair` gave up what was at the position. */
static bool is_lost(const struct read_state *state, uint64_t position)
{
    uint32_t count = 0;
    const struct metadb_lost *lost = metadb_lost(state->local->db, &count);
    for (uint32_t i = 0; i < count; i++) {
        if (position >= lost[i].start && position < lost[i].end)
            return true;
    }
    return false;
}

/* How many places from the first on are worth one read: near to each other, in one segment. */
static uint32_t run_length(const struct read_state *state, uint32_t first, struct segment *segment)
{
    const struct qplace *places = state->places;
    const uint64_t start = places[first].position;
    uint64_t end = start + places[first].size;
    uint32_t count = 1;
    for (uint32_t i = first + 1; i < state->place_count; i++, count++) {
        const uint64_t position = places[i].position;
        if (position < end || position - end > GAP_MAX ||
            position + places[i].size - start > RUN_MAX ||
            segment_set_find(state->segments, position) != segment || is_lost(state, position))
            break;
        end = position + places[i].size;
    }
    return count;
}

/* false when the entry would go beyond the bytes wanted. */
static bool wants(const struct read_state *state, const struct record *record, uint64_t *bytes)
{
    *bytes += message_bytes(&record->message);
    return state->entry_count == 0 || *bytes <= state->bytes_max;
}

/* Reads a run. Returns 1: go on; 0: enough; ERR_CORRUPT; ERR_NOMEM; -errno. */
static int read_run(struct read_state *state, uint32_t first, uint32_t count,
                    const struct segment *segment, uint64_t *bytes)
{
    const struct qplace *last = &state->places[first + count - 1];
    const uint64_t start = state->places[first].position;
    const uint64_t size = last->position + last->size - start;
    if (size > segment_capacity(SEGMENT_SIZE_MAX))
        return ERR_CORRUPT;
    struct buf *buf = buf_try_new((uint32_t)size);
    if (!buf)
        return ERR_NOMEM;
    hold_buf(state, buf);
    const int err =
        file_pread_all(segment->fd, buf_bytes(buf), size, segment_offset(segment, start));
    if (err < 0)
        return err == -ENODATA ? ERR_CORRUPT : err;
    for (uint32_t i = first; i < first + count; i++) {
        const struct qplace *place = &state->places[i];
        struct record record;
        const int bad = record_parse(buf_bytes(buf) + (place->position - start), place->size,
                                     place->position, segment->epoch, buf, &record);
        if (bad < 0 || !record_in_queue(&record, state->queue_id))
            return ERR_CORRUPT;
        if (!wants(state, &record, bytes))
            return 0;
        add_entry(state, &record, i);
    }
    return 1;
}

/* Passes over the places that were given up. Those behind the last entry are for the next read. */
static uint32_t skip_lost(struct read_state *state, uint32_t at)
{
    while (at < state->place_count && is_lost(state, state->places[at].position))
        at++;
    if (state->entry_count == 0 && at > 0 && at == state->place_count)
        state->lost_until = state->from_seq + at;
    return at;
}

static int read_places(struct read_state *state)
{
    uint64_t bytes = 0;
    uint32_t at = 0;
    int more = 1;
    while ((at = skip_lost(state, at)) < state->place_count && more == 1) {
        struct segment *segment = segment_set_find(state->segments, state->places[at].position);
        if (!segment)
            return ERR_CORRUPT;
        const uint32_t count = run_length(state, at, segment);
        more = read_run(state, at, count, segment, &bytes);
        at += count;
    }
    return more < 0 ? more : 0;
}

/* The entries' places, not many more of them than the bytes wanted allow. */
static void limit_places(struct read_state *state)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < state->place_count; i++) {
        const uint32_t size = state->places[i].size;
        bytes += size > OVERHEAD ? size - OVERHEAD : 0;
        if (i > 0 && bytes > (uint64_t)state->bytes_max + (uint64_t)i * OVERHEAD) {
            state->place_count = i;
            return;
        }
    }
}

/* Numbers that no file has were left out when records were lost: goes on behind them, or tells how
 * far they reach. */
static int find_behind(struct read_state *state)
{
    uint64_t seq = 0;
    const int found = sealed_set_next(state->files, state->queue_id, state->from_seq, &seq);
    if (found == 0 && state->from_seq < state->memory_first)
        state->lost_until = state->memory_first;
    if (found <= 0)
        return found < 0 || state->lost_until ? found : ERR_CORRUPT;
    if (seq == state->from_seq)
        return ERR_CORRUPT; /* it was not there a moment ago */
    state->from_seq = seq;
    return sealed_set_read(state->files, state->queue_id, seq, &state->hint, state->places,
                           state->entries_max);
}

static int find_places(struct read_state *state)
{
    if (state->place_count == 0) {
        int count = sealed_set_read(state->files, state->queue_id, state->from_seq, &state->hint,
                                    state->places, state->entries_max);
        if (count == 0)
            count = find_behind(state);
        if (count < 0)
            return count;
        state->place_count = (uint32_t)count;
    }
    limit_places(state);
    return 0;
}

/* Reads the one record at places[0].position. */
static int read_message(struct read_state *state)
{
    const uint64_t position = state->places[0].position;
    const struct segment *segment = segment_set_find(state->segments, position);
    if (is_lost(state, position))
        return ERR_TRIMMED;
    if (!segment || position % RECORD_ALIGN != 0)
        return ERR_CORRUPT;
    uint64_t size = MIN(state->limit - position, (uint64_t)GET_SIZE);
    for (int round = 0; round < 2; round++) {
        struct buf *buf = buf_try_new((uint32_t)size);
        if (!buf)
            return ERR_NOMEM;
        const uint64_t offset = segment_offset(segment, position);
        const uint64_t in_file = segment->size > offset ? segment->size - offset : 0;
        int err = file_pread_all(segment->fd, buf_bytes(buf), MIN(size, in_file), offset);
        struct record record;
        if (err == 0) {
            err = record_parse(buf_bytes(buf), MIN(size, in_file), position, segment->epoch, buf,
                               &record);
        }
        if (err == 0 && record.header->has_message) {
            hold_buf(state, buf);
            add_entry(state, &record, 0);
            return 0;
        }
        uint32_t needed = 0;
        memcpy(&needed, buf_bytes(buf), sizeof needed);
        (void)buf_unref(buf);
        if (err != ERR_AGAIN || needed <= size || needed > in_file)
            return err == 0 || err == ERR_AGAIN || err == -ENODATA ? ERR_CORRUPT : err;
        size = needed;
    }
    return ERR_CORRUPT;
}

static void run_read(struct work *work)
{
    struct read_state *state = CONTAINER_OF(work, struct read_state, work);
    if (state->err < 0)
        return;
    if (state->queue_id == 0) {
        state->err = read_message(state);
    } else {
        state->err = find_places(state);
        if (state->err == 0)
            state->err = read_places(state);
    }
    if (state->err == ERR_CORRUPT && state->entry_count > 0)
        state->err = 0; /* what came before the damage is sound; the next read will tell */
}

/* --- submitting and ending ----------------------------------------------------------------- */

static void on_read_done(struct work *work);

static int submit(struct local *local, struct store_read *req, struct read_state *state)
{
    if (local->closing) {
        state_free(state);
        return ERR_CLOSED;
    }
    state->req = req;
    state->pending = true;
    state->queue_id = req->queue_id;
    state->bytes_max = req->bytes_max;
    state->limit = local->done_end;
    state->segments = segment_set_ref(local->segments);
    state->files = sealed_set_ref(local->files);
    state->work.run = run_read;
    state->work.done = on_read_done;
    req->engine_state = state;
    local->work_count++;
    worker_submit(local->workers, local->mailbox, &state->work);
    return 0;
}

static int read_queue(struct local *local, struct store_read *req)
{
    const struct queue *queue = qindex_find(&local->index, req->queue_id);
    if (!queue)
        return 1;
    const uint64_t from_seq = MAX(req->from_seq, queue->first_seq);
    if (from_seq >= queue->next_seq)
        return 1;
    struct qplace places[STORE_READ_MAX];
    uint32_t count = 0;
    if (from_seq >= qindex_memory_first(&local->index, queue)) {
        count = qindex_read(&local->index, queue, from_seq, places, req->entries_max);
        ASSERT(count > 0);
        const uint32_t near = count_tail(local, req, places, count);
        if (near > 0)
            return serve_tail(local, req, places, near, from_seq);
    }
    struct read_state *state = state_new(local, req->entries_max, true);
    if (!state)
        return ERR_NOMEM;
    memcpy(state->places, places, count * sizeof *places);
    state->place_count = count;
    state->from_seq = from_seq;
    state->hint = queue->file_hint;
    state->memory_first = qindex_memory_first(&local->index, queue);
    return submit(local, req, state);
}

static int read_one(struct local *local, struct store_read *req)
{
    const uint64_t position = req->position;
    const bool there = position >= local->first_position && position < local->done_end;
    uint32_t n = 0;
    const uint8_t *at =
        there && position % RECORD_ALIGN == 0 ? tail_record(local, position, &n) : NULL;
    const struct qplace place = {.position = position};
    if (at && record_plausible(at, position, local->epoch, tail_chunk(&local->tail, n)->used) &&
        record_view(at, NULL).header->has_message)
        return serve_tail(local, req, &place, 1, 0);
    struct read_state *state = state_new(local, 1, true);
    if (!state)
        return ERR_NOMEM;
    state->places[0] = place;
    state->err = there ? 0 : ERR_TRIMMED;
    return submit(local, req, state);
}

static int start(struct local *local, struct store_read *req)
{
    req->entry_count = 0;
    req->entries = NULL;
    req->lost_until = 0;
    req->engine_state = NULL;
    return req->queue_id ? read_queue(local, req) : read_one(local, req);
}

int read_submit(struct store *store, struct store_read *req)
{
    return start(CONTAINER_OF(store, struct local, store), req);
}

/* Damage, or only a segment freed while the worker read? The place read tells. */
static bool trimmed_meanwhile(const struct local *local, const struct read_state *state)
{
    if (state->queue_id == 0)
        return state->places[0].position < local->first_position;
    const struct queue *queue = qindex_find(&local->index, state->queue_id);
    return !queue || state->from_seq < queue->first_seq;
}

/* Begins a read again; its submit was long ago, so a result at once is handed over here. */
static void restart(struct local *local, struct store_read *req)
{
    const int result = start(local, req);
    if (result != 0)
        req->done(req, result < 0 ? result : 0);
}

/* The record that could not be read is the one behind those that could. */
static void tell_damage(const struct local *local, const struct read_state *state)
{
    char name[SEGMENT_NAME_SIZE];
    if (state->place_count == 0 && state->queue_id != 0) {
        log_write(local->log, LOG_ERROR, "store",
                  "the index files of queue %" PRIu32 " are damaged: run \"tidemq store check\"",
                  state->queue_id);
        return;
    }
    const uint64_t position = state->places[0].position;
    const struct segment *segment = segment_set_find(state->segments, position);
    if (!segment)
        return;
    segment_name(segment->number, name);
    log_write(local->log, LOG_ERROR, "store",
              "segment '%s', from offset %" PRIu64 " on: a record is damaged: run \"tidemq store "
              "check\"",
              name, segment_offset(segment, position));
}

static void on_read_done(struct work *work)
{
    struct read_state *state = CONTAINER_OF(work, struct read_state, work);
    struct local *local = state->local;
    struct store_read *req = state->req;
    local->work_count--;
    state->pending = false;
    if (!req) {
        state_free(state);
        return;
    }
    int err = local->closing ? -ECANCELED : state->err;
    struct queue *queue = qindex_find(&local->index, state->queue_id);
    if (queue && err == 0)
        queue->file_hint = state->hint;
    if (err == 0) {
        metric_add(&local->metrics->store_reads_disk, state->entry_count);
        hand_results(req, state);
        req->done(req, 0);
        return;
    }
    const bool again = err == ERR_CORRUPT && trimmed_meanwhile(local, state);
    if (err == ERR_CORRUPT && !again)
        tell_damage(local, state);
    state_free(state);
    req->engine_state = NULL;
    if (again)
        restart(local, req);
    else
        req->done(req, err);
}

void read_release(struct store *store, struct store_read *req)
{
    (void)store;
    struct read_state *state = req->engine_state;
    if (!state)
        return;
    req->engine_state = NULL;
    req->entry_count = 0;
    req->entries = NULL;
    if (state->pending)
        state->req = NULL;
    else
        state_free(state);
}
