/* Reading: at once from the tail in memory where possible, else through a worker.
 *
 * The loop finds out where the entries lie when the index in memory knows; a worker asks the sealed
 * files otherwise. The worker reads records that lie close together with one call, and checks each:
 * a record that is not what the index promised is damage, unless its segment was freed meanwhile;
 * then the read begins again at the first entry kept.
 *
 * Messages at several places, which may lie anywhere, are read in the order in which they lie in
 * the log, and handed over in the order asked for. How large their records are is guessed.
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
    GET_EXTRA = 512,       /* of a record beyond its message, mostly not more */
    GET_GAP_MAX = 4 * 1024,
    OVERHEAD = 96, /* of a record beyond its message, at least; planning only */
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

/* Whether a record can lie there. Returns 0, ERR_TRIMMED or ERR_CORRUPT. */
static int check_place(const struct read_state *state, uint64_t position)
{
    if (is_lost(state, position))
        return ERR_TRIMMED;
    const struct segment *segment = segment_set_find(state->segments, position);
    const bool there = segment && position - segment->base < segment_capacity(segment->size);
    return there && position % RECORD_ALIGN == 0 ? 0 : ERR_CORRUPT;
}

/* Bytes to read at first for the record at a place. */
static uint64_t guess_size(const struct qplace *place)
{
    return place->size ? (uint64_t)place->size + GET_EXTRA : GET_SIZE;
}

/* Reads the record at a position, at first so many bytes of it. */
static int read_message(struct read_state *state, uint64_t position, uint64_t size)
{
    const struct segment *segment = segment_set_find(state->segments, position);
    size = MIN(state->limit - position, size);
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

/* Part of a segment's file that messages lie in, and where its bytes go. */
struct get_run {
    const struct segment *segment;
    uint64_t start, end; /* log positions */
    uint64_t at;         /* in the buffer */
};

/* Runs and, for each place, the one it lies in. */
struct get_plan {
    struct get_run runs[STORE_READ_MAX];
    uint8_t run_of[STORE_READ_MAX];
    uint32_t run_count;
    uint64_t size; /* of all runs */
};

/* Numbers of the places, as they lie in the log. */
static void sort_places(const struct read_state *state, uint8_t *order)
{
    for (uint32_t i = 0; i < state->place_count; i++) {
        uint32_t at = i;
        for (; at > 0 && state->places[order[at - 1]].position > state->places[i].position; at--)
            order[at] = order[at - 1];
        order[at] = (uint8_t)i;
    }
}

/* Up to where the place's record reaches, as far as its segment is written. */
static uint64_t get_end(const struct read_state *state, const struct segment *segment,
                        const struct qplace *place)
{
    const uint64_t file_end = segment->base + segment_capacity(segment->size);
    const uint64_t end = MIN(place->position + guess_size(place), MIN(state->limit, file_end));
    return end - end % RECORD_ALIGN;
}

static void plan_runs(const struct read_state *state, struct get_plan *plan)
{
    uint8_t order[STORE_READ_MAX];
    sort_places(state, order);
    plan->run_count = 0;
    struct get_run *run = NULL;
    for (uint32_t i = 0; i < state->place_count; i++) {
        const struct qplace *place = &state->places[order[i]];
        const struct segment *segment = segment_set_find(state->segments, place->position);
        const uint64_t end = get_end(state, segment, place);
        if (!run || segment != run->segment || place->position > run->end + GET_GAP_MAX ||
            end > run->start + RUN_MAX) {
            run = &plan->runs[plan->run_count++];
            *run = (struct get_run){.segment = segment, .start = place->position};
        }
        run->end = MAX(run->end, end);
        plan->run_of[order[i]] = (uint8_t)(plan->run_count - 1);
    }
    plan->size = 0;
    for (uint32_t i = 0; i < plan->run_count; i++) {
        plan->runs[i].at = plan->size;
        plan->size += plan->runs[i].end - plan->runs[i].start;
    }
}

/* All that has to come from the disk is asked for before the first of it is waited for. */
static int read_runs(const struct get_plan *plan, struct buf *buf)
{
    for (uint32_t i = 0; plan->run_count > 1 && i < plan->run_count; i++) {
        const struct get_run *run = &plan->runs[i];
        file_advise_needed(run->segment->fd, segment_offset(run->segment, run->start),
                           run->end - run->start);
    }
    for (uint32_t i = 0; i < plan->run_count; i++) {
        const struct get_run *run = &plan->runs[i];
        const int err =
            file_pread_all(run->segment->fd, buf_bytes(buf) + run->at, run->end - run->start,
                           segment_offset(run->segment, run->start));
        if (err < 0)
            return err == -ENODATA ? ERR_CORRUPT : err;
    }
    return 0;
}

/* Adds the message of a place from what was read, or reads it once more when that is too little.
 * Returns 1: go on; 0: enough; or an error. */
static int take_message(struct read_state *state, const struct get_run *run, struct buf *buf,
                        uint64_t position, uint64_t *bytes)
{
    struct record record;
    const int err = record_parse(buf_bytes(buf) + run->at + (position - run->start),
                                 run->end - position, position, run->segment->epoch, buf, &record);
    if (err == ERR_AGAIN) {
        const uint32_t count = state->entry_count;
        const int again = read_message(state, position, GET_SIZE);
        if (again < 0)
            return again;
        *bytes += message_bytes(&state->entries[count].message);
        return *bytes <= state->bytes_max;
    }
    if (err < 0 || !record.header->has_message)
        return ERR_CORRUPT;
    if (!wants(state, &record, bytes))
        return 0;
    add_entry(state, &record, 0);
    return 1;
}

static int read_several(struct read_state *state)
{
    struct get_plan plan;
    plan_runs(state, &plan);
    struct buf *buf = buf_try_new((uint32_t)plan.size);
    if (!buf)
        return ERR_NOMEM;
    hold_buf(state, buf);
    const int err = read_runs(&plan, buf);
    if (err < 0)
        return err;
    int more = 1;
    uint64_t bytes = 0;
    for (uint32_t i = 0; more == 1 && i < state->place_count; i++)
        more =
            take_message(state, &plan.runs[plan.run_of[i]], buf, state->places[i].position, &bytes);
    return state->entry_count > 0 ? 0 : more;
}

/* When not one of several could be read, it may be due to another than the first. */
static int read_messages(struct read_state *state)
{
    for (uint32_t i = 0; i < state->place_count; i++) {
        const int err = check_place(state, state->places[i].position);
        if (err < 0 && i == 0)
            return err;
        if (err < 0)
            state->place_count = i;
    }
    if (state->place_count > 1 && read_several(state) == 0)
        return 0;
    return read_message(state, state->places[0].position, guess_size(&state->places[0]));
}

static void run_read(struct work *work)
{
    struct read_state *state = CONTAINER_OF(work, struct read_state, work);
    if (state->err < 0)
        return;
    if (state->queue_id == 0) {
        state->err = read_messages(state);
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

/* true when what lies at a position in the tail is a message. */
static bool tail_has_message(const struct local *local, uint64_t position)
{
    uint32_t n = 0;
    const uint8_t *at = position % RECORD_ALIGN == 0 ? tail_record(local, position, &n) : NULL;
    return at && record_plausible(at, position, local->epoch, tail_chunk(&local->tail, n)->used) &&
           record_view(at, NULL).header->has_message;
}

/* The places asked for up to the first that is not there, and not many more than the bytes wanted
 * allow. ret_places: room for STORE_READ_MAX. Returns how many; 0: not even the first is there. */
static uint32_t places_there(const struct local *local, const struct store_read *req,
                             struct qplace *ret_places)
{
    const struct store_place one = {.position = req->position};
    const struct store_place *places = req->place_count ? req->places : &one;
    const uint32_t count = MAX(req->place_count, 1);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        ret_places[i] = (struct qplace){.position = places[i].position, .size = places[i].size};
        bytes += places[i].size ? places[i].size : (uint64_t)GET_SIZE;
        if (places[i].position < local->first_position || places[i].position >= local->done_end ||
            (i > 0 && bytes > req->bytes_max))
            return i;
    }
    return count;
}

/* From memory when all are there; else all from the disk, the tail's too, which is written. */
static int read_by_place(struct local *local, struct store_read *req)
{
    struct qplace places[STORE_READ_MAX];
    const uint32_t count = places_there(local, req, places);
    uint32_t in_tail = 0;
    while (in_tail < count && tail_has_message(local, places[in_tail].position))
        in_tail++;
    if (count > 0 && in_tail == count)
        return serve_tail(local, req, places, count_tail(local, req, places, count), 0);
    /* One buf for all together, and one for each place that it has too little of. */
    struct read_state *state = state_new(local, MAX(count, 1u) + 1, true);
    if (!state)
        return ERR_NOMEM;
    memcpy(state->places, places, MAX(count, 1u) * sizeof *places);
    state->place_count = count;
    state->err = count > 0 ? 0 : ERR_TRIMMED;
    return submit(local, req, state);
}

static int start(struct local *local, struct store_read *req)
{
    req->entry_count = 0;
    req->entries = NULL;
    req->lost_until = 0;
    req->engine_state = NULL;
    return req->queue_id ? read_queue(local, req) : read_by_place(local, req);
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
