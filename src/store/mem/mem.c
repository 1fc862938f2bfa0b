/* A record is made whole at the submit: bytes in one buf, rows of its operations ready to be put.
 * It waits in `pending`; when completed it gets its numbers, its message goes into `log` and the
 * queues, and it is acknowledged. Until something durable follows, it lies in `written` too: those
 * records a crash takes back, and their operations are put into the rows only afterwards. So
 * meta_scan sees what would survive. A record without a message is freed then. The drop of a queue
 * is such a record, too.
 *
 * Positions are those of a log that is never written: after a crash they go on where the durable
 * part ends, as on disk.
 */
#include "store/mem/mem.h"

#include "base/mem.h"
#include "store/mem/mem_index.h"
#include "store/mem/mem_rows.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
    LOG_START = 4096, /* position of the first record: never 0 */
    RECORD_OVERHEAD = 72,
    OP_OVERHEAD = 12,
    RECORD_SIZE_MAX = 256 << 20,
    PRESSURE_DEFAULT = 32 << 20,
    PENDING_FACTOR = 4,
};

/* One request under way, or the result of a read. */
struct request {
    struct list node; /* in pending, or held */
    bool is_read;
};

struct op {
    enum meta_kind kind;
    struct mem_row *row;
};

struct record {
    struct request request;
    struct list written; /* in mem.written, while not durable */
    struct store_append *req;
    struct message message;
    struct buf *buf; /* queue ids, then the message's bytes */
    const uint32_t *queue_ids;
    uint64_t position, size;
    uint32_t dropped_id; /* it is the drop of this queue, or 0 */
    int err;             /* what it is to fail with */
    uint16_t queue_count, op_count;
    uint8_t level;
    bool has_message;
    struct op ops[];
};

struct read_state {
    struct request request;
    struct store_read *req;
    uint16_t entry_count;
    struct store_entry entries[]; /* each holds a reference to its buf, once done */
};

struct mem {
    struct store store; /* first: the interface's functions get the engine from it */
    struct meta meta;
    struct store_watcher watcher;
    struct list pending; /* requests, in order */
    struct list refused; /* appends that failed, about to be told */
    struct list held;    /* results of reads not yet released */
    struct list written; /* records completed, not durable */
    uint32_t pending_count;
    uint64_t pending_bytes, pressure_bytes;
    uint64_t head, done_end, durable_end, first_position;
    struct mem_deque log; /* records with a message, by position */
    struct mem_index index;
    struct mem_rows *rows;
    uint32_t fail_countdown, failed;
    int fail_err;
    int failing;  /* what the youngest pending append will fail with; 0: it will not */
    bool telling; /* appends that have failed are being told */
    bool slow_reads, writable, pressed, closing;
    bool trim_asked;
    uint64_t trim_position;
    struct loop *loop; /* NULL: completed by mem_store_step only */
    struct deferred step;
    uint64_t seqs[STORE_QUEUES_MAX]; /* of the record being acknowledged */
};

static struct mem *mem_of(const struct store *store)
{
    return CONTAINER_OF(store, struct mem, store);
}

/* --- records ------------------------------------------------------------------------------- */

static void record_free(struct record *record)
{
    for (uint16_t i = 0; i < record->op_count; i++)
        mem_row_free(record->ops[i].row);
    (void)buf_unref(record->buf);
    mem_free(record);
}

/* Bytes the append takes in the log; 0: more than a record may have, or an operation is not valid.
 */
static uint64_t append_size(const struct store_append *req)
{
    uint64_t size = RECORD_OVERHEAD + (uint64_t)req->queue_count * sizeof(uint32_t);
    const struct message *message = req->message;
    if (message) {
        if (message->topic.size > UINT16_MAX || message->client_id.size > UINT16_MAX)
            return 0;
        size += (uint64_t)message->topic.size + message->client_id.size + message->props.size +
                message->payload.size;
    }
    for (uint16_t i = 0; i < req->op_count; i++) {
        const struct meta_op *op = &req->ops[i];
        if (op->key.size == 0 || op->key.size > META_KEY_MAX || op->value.size > META_VALUE_MAX)
            return 0;
        size += (uint64_t)OP_OVERHEAD + op->key.size + op->value.size;
    }
    return size > RECORD_SIZE_MAX ? 0 : (size + 7) / 8 * 8;
}

static void copy_slice(uint8_t **at, struct buf *buf, struct slice *slice)
{
    if (slice->size > 0)
        memcpy(*at, slice->bytes, slice->size);
    *slice = (struct slice){.bytes = *at, .size = slice->size, .buf = buf};
    *at += slice->size;
}

static int copy_message(struct record *record, const struct store_append *req)
{
    record->message = *req->message;
    struct message *message = &record->message;
    const uint32_t ids_size = (uint32_t)(req->queue_count * sizeof(uint32_t));
    struct buf *buf = buf_try_new(ids_size + message->topic.size + message->client_id.size +
                                  message->props.size + message->payload.size);
    if (!buf)
        return ERR_NOMEM;
    record->buf = buf;
    record->has_message = true;
    record->queue_ids = (const uint32_t *)(const void *)buf_bytes(buf);
    uint8_t *at = buf_bytes(buf);
    if (ids_size > 0)
        memcpy(at, req->queue_ids, ids_size);
    at += ids_size;
    copy_slice(&at, buf, &message->topic);
    copy_slice(&at, buf, &message->client_id);
    copy_slice(&at, buf, &message->props);
    copy_slice(&at, buf, &message->payload);
    message->position = record->position;
    return 0;
}

static int copy_op(struct record *record, const struct meta_op *op)
{
    _Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "positions are little endian");
    const struct slice position = slice_of(&record->position, sizeof record->position);
    const struct slice prefix = op->kind == META_PUT_AT ? position : slice_of(NULL, 0);
    struct mem_row *row = mem_row_new(op->key, prefix, op->value);
    if (!row)
        return ERR_NOMEM;
    record->ops[record->op_count++] = (struct op){.kind = op->kind, .row = row};
    return 0;
}

/* A copy of all that `req` borrows; NULL when out of memory. */
static struct record *record_new(const struct store_append *req, uint64_t position, uint64_t size)
{
    struct record *record = mem_try_zeroed(sizeof *record + req->op_count * sizeof(struct op));
    if (!record)
        return NULL;
    record->queue_count = req->queue_count;
    record->level = req->level;
    record->position = position;
    record->size = size;
    list_init(&record->written);
    int err = req->message ? copy_message(record, req) : 0;
    for (uint16_t i = 0; err == 0 && i < req->op_count; i++)
        err = copy_op(record, &req->ops[i]);
    if (err < 0) {
        record_free(record);
        return NULL;
    }
    return record;
}

/* --- submitting ---------------------------------------------------------------------------- */

static void add_pending(struct mem *mem, struct request *request)
{
    list_push_back(&mem->pending, &request->node);
    mem->pending_count++;
    if (mem->loop)
        loop_defer(mem->loop, &mem->step);
}

/* What the append now submitted will fail with, or 0. */
static int fails_with(struct mem *mem)
{
    if (mem->fail_countdown > 0 && --mem->fail_countdown == 0 && !mem->failing)
        mem->failing = mem->fail_err;
    mem->failed += mem->failing < 0;
    return mem->failing;
}

static void check_ids(const struct store_append *req)
{
    ASSERT(req->message || req->queue_count == 0);
    for (uint16_t i = 0; i < req->queue_count; i++) {
        ASSERT(req->queue_ids[i] != 0);
        ASSERT(i == 0 || req->queue_ids[i - 1] < req->queue_ids[i]);
        ASSERT(req->queue_ids[i] != req->message->topic_id);
    }
}

static int on_append(struct store *store, struct store_append *req)
{
    struct mem *mem = mem_of(store);
    check_ids(req);
    mem->failed += mem->telling;
    if (!mem->writable || mem->closing || mem->telling)
        return ERR_UNAVAILABLE;
    const uint64_t size = append_size(req);
    if (size == 0)
        return ERR_INVALID;
    if (mem->pending_bytes > 0 && mem->pending_bytes + size > mem->pressure_bytes * PENDING_FACTOR)
        return ERR_FULL;
    struct record *record = record_new(req, mem->head, size);
    if (!record)
        return ERR_NOMEM;
    record->req = req->done ? req : NULL;
    record->err = fails_with(mem);
    mem->head += size;
    mem->pending_bytes += size;
    add_pending(mem, &record->request);
    return 0;
}

/* --- reading ------------------------------------------------------------------------------- */

static uint64_t message_bytes(const struct message *message)
{
    return (uint64_t)message->topic.size + message->payload.size + message->props.size;
}

static void add_entry(struct read_state *state, const struct record *record, uint64_t seq)
{
    (void)buf_ref(record->buf);
    state->entries[state->entry_count++] = (struct store_entry){
        .seq = seq,
        .message = record->message,
        .queue_ids = record->queue_ids,
        .queue_count = record->queue_count,
    };
}

static int read_queue(struct mem *mem, struct read_state *state)
{
    const struct store_read *req = state->req;
    const struct mem_queue *queue = mem_index_find(&mem->index, req->queue_id);
    if (!queue)
        return 0;
    uint64_t seq = MAX(req->from_seq, queue->first_seq), bytes = 0;
    for (; seq < mem_queue_next_seq(queue) && state->entry_count < req->entries_max; seq++) {
        const struct record *record =
            queue->records.items[queue->records.first + (seq - queue->first_seq)];
        bytes += message_bytes(&record->message);
        if (state->entry_count > 0 && bytes > req->bytes_max)
            break;
        add_entry(state, record, seq);
    }
    return 0;
}

/* Returns 0, ERR_TRIMMED or ERR_CORRUPT. */
static int find_message(const struct mem *mem, uint64_t position, const struct record **ret_record)
{
    if (position < mem->first_position || position >= mem->done_end)
        return ERR_TRIMMED;
    uint64_t low = mem->log.first, high = mem->log.end;
    while (low < high) {
        const uint64_t middle = low + (high - low) / 2;
        if (((const struct record *)mem->log.items[middle])->position < position)
            low = middle + 1;
        else
            high = middle;
    }
    const struct record *record = low < mem->log.end ? mem->log.items[low] : NULL;
    if (!record || record->position != position)
        return ERR_CORRUPT;
    *ret_record = record;
    return 0;
}

static int read_places(struct mem *mem, struct read_state *state)
{
    const struct store_read *req = state->req;
    const struct store_place one = {.position = req->position};
    const struct store_place *places = req->place_count ? req->places : &one;
    uint64_t bytes = 0;
    for (uint16_t i = 0; i < MAX(req->place_count, 1); i++) {
        const struct record *record = NULL;
        const int err = find_message(mem, places[i].position, &record);
        if (err < 0)
            return i == 0 ? err : 0;
        bytes += message_bytes(&record->message);
        if (i > 0 && bytes > req->bytes_max)
            break;
        add_entry(state, record, 0);
    }
    return 0;
}

static void state_free(struct read_state *state)
{
    for (uint16_t i = 0; i < state->entry_count; i++)
        (void)buf_unref(state->entries[i].message.topic.buf);
    mem_free(state);
}

static int look_up(struct mem *mem, struct read_state *state)
{
    return state->req->queue_id ? read_queue(mem, state) : read_places(mem, state);
}

/* Hands the entries over, until released; nothing stays of a read without any. */
static void finish_read(struct mem *mem, struct read_state *state)
{
    struct store_read *req = TAKE(state->req);
    if (state->entry_count == 0) {
        req->engine_state = NULL;
        state_free(state);
        return;
    }
    req->entries = state->entries;
    req->entry_count = state->entry_count;
    list_push_back(&mem->held, &state->request.node);
}

static int on_read(struct store *store, struct store_read *req)
{
    struct mem *mem = mem_of(store);
    struct read_state *state =
        mem_try_alloc(sizeof *state + req->entries_max * sizeof state->entries[0]);
    if (!state)
        return ERR_NOMEM;
    *state = (struct read_state){.request.is_read = true, .req = req};
    list_init(&state->request.node);
    req->entry_count = 0;
    req->entries = NULL;
    req->lost_until = 0;
    req->engine_state = state;
    if (!mem->slow_reads && look_up(mem, state) == 0) {
        finish_read(mem, state);
        return 1;
    }
    add_pending(mem, &state->request); /* an error is told later, too */
    return 0;
}

static void on_release(struct store *store, struct store_read *req)
{
    struct mem *mem = mem_of(store);
    struct read_state *state = TAKE(req->engine_state);
    req->entries = NULL;
    req->entry_count = 0;
    if (!state)
        return;
    if (state->req) /* still pending */
        mem->pending_count--;
    list_remove(&state->request.node);
    state_free(state);
}

/* --- completing ---------------------------------------------------------------------------- */

static void apply_ops(struct mem *mem, struct record *record)
{
    for (uint16_t i = 0; i < record->op_count; i++) {
        if (record->ops[i].kind == META_DELETE)
            mem_rows_delete(mem->rows, record->ops[i].row);
        else
            mem_rows_put(mem->rows, record->ops[i].row);
    }
    record->op_count = 0;
}

/* All that is written survives a crash from now on. */
static void make_durable(struct mem *mem)
{
    while (!list_empty(&mem->written)) {
        struct record *record = LIST_FIRST(&mem->written, struct record, written);
        list_remove(&record->written);
        apply_ops(mem, record);
        if (record->dropped_id)
            mem_index_drop(&mem->index, record->dropped_id);
        mem->durable_end = record->position + record->size;
        if (!record->has_message)
            record_free(record);
    }
}

static void add_to_queues(struct mem *mem, struct record *record)
{
    if (!record->has_message)
        return;
    mem_deque_push(&mem->log, record);
    for (uint16_t i = 0; i < record->queue_count; i++)
        mem->seqs[i] = mem_index_push(&mem->index, record->queue_ids[i], record);
    if (record->message.topic_id)
        (void)mem_index_push(&mem->index, record->message.topic_id, record);
}

static void check_drained(struct mem *mem)
{
    if (!mem->pressed || mem->pending_bytes > mem->pressure_bytes / 2)
        return;
    mem->pressed = false;
    if (mem->watcher.on_drained)
        mem->watcher.on_drained(mem->watcher.data);
}

/* Tells an append that has failed. */
static void fail_append(struct mem *mem, struct record *record)
{
    struct store_append *req = record->req;
    const int err = record->err;
    mem->pending_bytes -= record->size;
    record_free(record);
    if (req)
        req->done(req, err);
}

/* It fails, and all that are pending behind it: so it was decided when they were submitted. */
static void fail_with_all_behind(struct mem *mem, struct record *record)
{
    list_each_safe (it, &mem->pending) {
        const struct request *request = CONTAINER_OF(it, struct request, node);
        if (request->is_read)
            continue;
        list_remove(it);
        list_push_back(&mem->refused, it);
        mem->pending_count--;
    }
    list_push_front(&mem->refused, &record->request.node);
    mem->telling = true;
    while (!list_empty(&mem->refused)) {
        struct request *request = LIST_FIRST(&mem->refused, struct request, node);
        list_remove(&request->node);
        fail_append(mem, CONTAINER_OF(request, struct record, request));
    }
    mem->telling = false;
    mem->failing = 0;
}

static void complete_append(struct mem *mem, struct record *record)
{
    if (record->err < 0) {
        fail_with_all_behind(mem, record);
        return;
    }
    struct store_append *req = record->req;
    mem->pending_bytes -= record->size;
    add_to_queues(mem, record);
    mem->done_end = record->position + record->size;
    list_push_back(&mem->written, &record->written);
    const struct message stored = record->message;
    struct buf *buf = req && record->buf ? buf_ref(record->buf) : NULL;
    if (record->level == STORE_SYNC)
        make_durable(mem);
    if (!req)
        return;
    req->stored = stored;
    req->seqs = mem->seqs;
    req->done(req, 0); /* may have the record freed */
    (void)buf_unref(buf);
}

static void complete_read(struct mem *mem, struct read_state *state)
{
    struct store_read *req = state->req;
    const int err = mem->closing ? -ECANCELED : look_up(mem, state);
    finish_read(mem, state);
    req->done(req, err);
}

uint32_t mem_store_step(struct store *store, uint32_t n)
{
    struct mem *mem = mem_of(store);
    uint32_t completed = 0;
    for (; completed < n && !list_empty(&mem->pending); completed++) {
        struct request *request = LIST_FIRST(&mem->pending, struct request, node);
        list_remove(&request->node);
        mem->pending_count--;
        if (request->is_read)
            complete_read(mem, CONTAINER_OF(request, struct read_state, request));
        else
            complete_append(mem, CONTAINER_OF(request, struct record, request));
        check_drained(mem);
    }
    return completed;
}

static void on_step(struct deferred *deferred)
{
    struct mem *mem = CONTAINER_OF(deferred, struct mem, step);
    (void)mem_store_step(&mem->store, mem->pending_count);
}

/* --- trimming ------------------------------------------------------------------------------ */

static void pop_from_queues(struct mem *mem, const struct record *record,
                            void (*pop)(struct mem_index *, uint32_t, const void *))
{
    for (uint16_t i = 0; i < record->queue_count; i++)
        pop(&mem->index, record->queue_ids[i], record);
    if (record->message.topic_id)
        pop(&mem->index, record->message.topic_id, record);
}

static void trim(struct mem *mem)
{
    make_durable(mem);
    while (mem->log.first < mem->log.end) {
        struct record *record = mem->log.items[mem->log.first];
        if (record->position >= mem->trim_position)
            break;
        mem->log.first++;
        pop_from_queues(mem, record, mem_index_pop_front);
        record_free(record);
    }
    mem->first_position = MAX(mem->first_position, mem->trim_position);
}

static void on_trim_go(struct store *store)
{
    struct mem *mem = mem_of(store);
    ASSERT(mem->trim_asked);
    mem->trim_asked = false;
    trim(mem);
}

void mem_store_trim(struct store *store, uint64_t position)
{
    struct mem *mem = mem_of(store);
    if (mem->trim_asked)
        return;
    mem->trim_asked = true;
    mem->trim_position = MIN(position, mem->done_end);
    if (mem->watcher.on_trim)
        mem->watcher.on_trim(mem->watcher.data, mem->trim_position);
    else
        on_trim_go(store);
}

/* --- the rest of the interface ------------------------------------------------------------- */

static void on_watch(struct store *store, const struct store_watcher *watcher)
{
    mem_of(store)->watcher = *watcher;
}

static void on_queue_bounds(struct store *store, uint32_t queue_id, uint64_t *ret_first,
                            uint64_t *ret_next)
{
    const struct mem_queue *queue = mem_index_find(&mem_of(store)->index, queue_id);
    *ret_first = queue ? queue->first_seq : 0;
    *ret_next = queue ? mem_queue_next_seq(queue) : 0;
}

static void on_queue_drop(struct store *store, uint32_t queue_id)
{
    struct mem *mem = mem_of(store);
    mem_index_hide(&mem->index, queue_id);
    if (!mem->writable || mem->closing || mem->telling)
        return; /* it comes back with the next start, unused */
    struct record *record = mem_new(sizeof *record);
    *record = (struct record){.level = STORE_LAZY,
                              .position = mem->head,
                              .size = RECORD_OVERHEAD,
                              .dropped_id = queue_id};
    list_init(&record->written);
    mem->head += record->size;
    mem->pending_bytes += record->size;
    add_pending(mem, &record->request);
}

static bool on_pressure(struct store *store)
{
    struct mem *mem = mem_of(store);
    const bool high = mem->pending_bytes > mem->pressure_bytes;
    mem->pressed |= high;
    return high;
}

static void on_stats(struct store *store, struct store_stats *ret_stats)
{
    const struct mem *mem = mem_of(store);
    *ret_stats = (struct store_stats){
        .log_bytes = mem->done_end - mem->first_position,
        .disk_bytes = mem_rows_bytes(mem->rows),
        .head_position = mem->done_end,
        .first_position = mem->first_position,
        .applied_position = mem->durable_end,
        .writable = mem->writable,
    };
    if (!mem->writable)
        (void)snprintf(ret_stats->reason, sizeof ret_stats->reason, "switched off");
}

static int on_scan(struct meta *meta, struct slice prefix, meta_scan_fn *each, void *data)
{
    return mem_rows_scan(CONTAINER_OF(meta, struct mem, meta)->rows, prefix, each, data);
}

/* --- opening and closing ------------------------------------------------------------------- */

static void forget_request(struct request *request)
{
    list_remove(&request->node);
    if (request->is_read)
        state_free(CONTAINER_OF(request, struct read_state, request));
    else
        record_free(CONTAINER_OF(request, struct record, request));
}

static void forget_requests(struct list *requests)
{
    list_each_safe (it, requests)
        forget_request(CONTAINER_OF(it, struct request, node));
}

/* Nothing is written but not durable. */
static void mem_done(struct mem *mem)
{
    ASSERT(list_empty(&mem->written));
    if (mem->loop)
        deferred_cancel(&mem->step);
    forget_requests(&mem->pending);
    forget_requests(&mem->held);
    for (uint64_t i = mem->log.first; i < mem->log.end; i++)
        record_free(mem->log.items[i]);
    mem_free(mem->log.items);
    mem_index_done(&mem->index);
    mem->rows = mem_rows_free(mem->rows);
    mem_free(mem);
}

static struct store *on_close(struct store *store)
{
    struct mem *mem = mem_of(store);
    mem->closing = true;
    while (mem->pending_count > 0)
        (void)mem_store_step(store, mem->pending_count);
    make_durable(mem);
    mem_done(mem);
    return NULL;
}

static const struct store_ops mem_store_ops = {
    .abi = STORE_ABI,
    .name = "mem",
    .watch = on_watch,
    .append = on_append,
    .read = on_read,
    .release = on_release,
    .queue_bounds = on_queue_bounds,
    .queue_drop = on_queue_drop,
    .trim_go = on_trim_go,
    .pressure = on_pressure,
    .stats = on_stats,
    .close = on_close,
};

static const struct meta_ops mem_meta_ops = {.name = "mem", .scan = on_scan};

static struct mem *mem_store_new(void)
{
    struct mem *mem = mem_new(sizeof *mem);
    mem->store.ops = &mem_store_ops;
    mem->meta.ops = &mem_meta_ops;
    list_init(&mem->pending);
    list_init(&mem->refused);
    list_init(&mem->held);
    list_init(&mem->written);
    list_init(&mem->step.node);
    mem->step.run = on_step;
    mem->pressure_bytes = PRESSURE_DEFAULT;
    mem->writable = true;
    mem->head = mem->done_end = mem->durable_end = mem->first_position = LOG_START;
    mem_index_init(&mem->index);
    mem->rows = mem_rows_new();
    return mem;
}

int mem_store_open(struct store **ret_store, struct meta **ret_meta)
{
    struct mem *mem = mem_store_new();
    *ret_store = &mem->store;
    *ret_meta = &mem->meta;
    return 0;
}

/* Takes back what was written and is not durable, the youngest first. */
static void lose_written(struct mem *mem)
{
    while (!list_empty(&mem->written)) {
        struct record *record = CONTAINER_OF(mem->written.prev, struct record, written);
        list_remove(&record->written);
        if (record->has_message) {
            ASSERT(mem->log.items[mem->log.end - 1] == record);
            mem->log.end--;
            pop_from_queues(mem, record, mem_index_pop_back);
        }
        record_free(record);
    }
    mem->done_end = mem->durable_end;
}

void mem_store_crash(struct store **store, struct meta **meta, bool sync_lazy)
{
    struct mem *old = mem_of(*store), *fresh = mem_store_new();
    if (sync_lazy)
        make_durable(old);
    else
        lose_written(old);
    mem_index_done(&fresh->index);
    fresh->index = old->index;
    mem_index_init(&old->index);
    mem_index_unhide(&fresh->index);
    (void)mem_rows_free(fresh->rows);
    fresh->rows = TAKE(old->rows);
    fresh->log = old->log;
    old->log = (struct mem_deque){0};
    fresh->pressure_bytes = old->pressure_bytes;
    fresh->first_position = old->first_position;
    fresh->head = fresh->done_end = fresh->durable_end = old->durable_end;
    mem_done(old);
    *store = &fresh->store;
    *meta = &fresh->meta;
}

/* --- scripting ----------------------------------------------------------------------------- */

void mem_store_attach(struct store *store, struct loop *loop)
{
    struct mem *mem = mem_of(store);
    ASSERT(!mem->loop);
    mem->loop = loop;
    if (mem->pending_count > 0)
        loop_defer(loop, &mem->step);
}

uint32_t mem_store_pending(const struct store *store)
{
    return mem_of(store)->pending_count;
}

void mem_store_fail_append(struct store *store, uint32_t n, int err)
{
    ASSERT(err < 0 || n == 0);
    mem_of(store)->fail_countdown = n;
    mem_of(store)->fail_err = err;
}

uint32_t mem_store_failed(const struct store *store)
{
    return mem_of(store)->failed;
}

bool mem_store_failing(const struct store *store)
{
    return mem_of(store)->failing < 0;
}

void mem_store_slow_reads(struct store *store, bool slow)
{
    mem_of(store)->slow_reads = slow;
}

void mem_store_set_writable(struct store *store, bool writable)
{
    struct mem *mem = mem_of(store);
    if (mem->writable == writable)
        return;
    mem->writable = writable;
    if (mem->watcher.on_writable)
        mem->watcher.on_writable(mem->watcher.data, writable, writable ? "" : "switched off");
}

void mem_store_set_pressure(struct store *store, uint64_t bytes)
{
    mem_of(store)->pressure_bytes = bytes;
}
