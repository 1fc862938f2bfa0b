/* The stage reads into its user's memory and unmasks there; nothing is copied but requests and
 * control frames that come in pieces. Writing adds a head of a few bytes to what the user offers.
 *
 * Ending: whoever ends, a close frame goes out, then the stage below is shut down, and what still
 * comes is thrown away until the other end has closed too, or for PARTING_MS. Closing earlier would
 * make the kernel send a reset, which can destroy the close frame before the peer has read it. Only
 * then does the user hear of the end.
 */
#include "net/ws.h"

#include "base/mem.h"
#include "wire/http_upgrade.h"
#include "wire/websocket.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum {
    PARTING_MS = 1000,
    DISCARD_SIZE = 16 * 1024, /* bytes thrown away at a time */
    IOV_MAX_TAKEN = 64,       /* of what the user offers */
    QUEUE_PONGS_MAX = 1024,   /* bytes of unsent pongs; beyond them only the latest is kept */
};

struct ws_service {
    _Atomic uint32_t count;
    char *path;
    pthread_mutex_t lock; /* guards what follows */
    char **origins;
    uint32_t origin_count;
    uint64_t frame_max;
};

enum ws_state {
    WS_OPENING, /* the request is expected */
    WS_OPEN,
    WS_PARTING, /* the last of us is queued or out; what comes is thrown away */
    WS_ENDED,
};

/* Whole frames of our own, or the HTTP answer: they go out between two frames of the user. */
struct queue {
    uint8_t *bytes; /* NULL when empty */
    uint32_t begin, end, room;
    uint32_t offered;   /* up to where it was offered to the stage below, and must stay */
    uint32_t last_pong; /* where the latest pong begins */
};

struct ws {
    struct stream stream;
    struct stream *below;
    struct loop *loop;
    struct ws_service *service;
    uint8_t state;     /* enum ws_state */
    bool shutdown_due; /* of the stage below, when the queue is empty */
    unsigned wanted;
    int end;           /* what reading says in WS_ENDED */
    const char *fault; /* of the peer; constant text, or NULL */
    struct deferred report;
    struct timer parting;
    uint8_t *request; /* a part of it, in WS_OPENING */
    uint32_t request_size;
    struct websocket_decoder decoder;
    /* The user's frame that is being written. */
    uint8_t head[WEBSOCKET_SENT_HEAD_MAX];
    uint8_t head_begin, head_end; /* what of it has not gone out */
    uint64_t payload_left;
    struct queue queue;
};

/* --- the service ------------------------------------------------------------------------------ */

struct ws_service *ws_service_new(const char *path, const struct ws_options *options)
{
    struct ws_service *service = mem_new(sizeof *service);
    atomic_init(&service->count, 1);
    (void)pthread_mutex_init(&service->lock, NULL);
    service->path = mem_strdup(path);
    ws_service_configure(service, options);
    return service;
}

static void free_origins(char **origins, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        mem_free(origins[i]);
    mem_free(origins);
}

void ws_service_configure(struct ws_service *service, const struct ws_options *options)
{
    char **origins = mem_grow(NULL, (options->origin_count + 1) * sizeof *origins);
    for (uint32_t i = 0; i < options->origin_count; i++)
        origins[i] = mem_strdup(options->origins[i]);
    (void)pthread_mutex_lock(&service->lock);
    char **before = service->origins;
    const uint32_t count_before = service->origin_count;
    service->origins = origins;
    service->origin_count = options->origin_count;
    service->frame_max = options->frame_max;
    (void)pthread_mutex_unlock(&service->lock);
    free_origins(before, count_before);
}

static uint64_t frame_max_of(struct ws_service *service)
{
    (void)pthread_mutex_lock(&service->lock);
    const uint64_t max = service->frame_max;
    (void)pthread_mutex_unlock(&service->lock);
    return max;
}

/* As http_upgrade_read, by the rules of the service as they are now. */
static int read_request(struct ws_service *service, const uint8_t *bytes, uint32_t size,
                        uint32_t *ret_used, struct http_upgrade_answer *ret_answer)
{
    (void)pthread_mutex_lock(&service->lock);
    const struct http_upgrade_rules rules = {
        .path = service->path,
        .origins = (const char *const *)service->origins,
        .origin_count = service->origin_count,
    };
    const int err = http_upgrade_read(&rules, bytes, size, ret_used, ret_answer);
    (void)pthread_mutex_unlock(&service->lock);
    return err;
}

struct ws_service *ws_service_ref(struct ws_service *service)
{
    (void)atomic_fetch_add_explicit(&service->count, 1, memory_order_relaxed);
    return service;
}

struct ws_service *ws_service_unref(struct ws_service *service)
{
    if (!service || atomic_fetch_sub_explicit(&service->count, 1, memory_order_acq_rel) > 1)
        return NULL;
    free_origins(service->origins, service->origin_count);
    (void)pthread_mutex_destroy(&service->lock);
    mem_free(service->path);
    mem_free(service);
    return NULL;
}

/* --- readiness -------------------------------------------------------------------------------- */

static struct ws *ws_of(const struct stream *stream)
{
    return CONTAINER_OF(stream, struct ws, stream);
}

static void on_report(struct deferred *report)
{
    struct ws *ws = CONTAINER_OF(report, struct ws, report);
    const unsigned events = ws->wanted & (IO_READ | IO_WRITE);
    if (ws->state == WS_ENDED && events)
        ws->stream.on_ready(&ws->stream, events);
}

static void finish(struct ws *ws, int result)
{
    ws->state = WS_ENDED;
    ws->end = result;
    timer_stop(loop_timers(ws->loop), &ws->parting);
    loop_defer(ws->loop, &ws->report);
}

/* --- the queue -------------------------------------------------------------------------------- */

static bool is_in_frame(const struct ws *ws)
{
    return ws->head_begin < ws->head_end || ws->payload_left > 0;
}

static uint32_t queue_size(const struct queue *queue)
{
    return queue->end - queue->begin;
}

static void queue_clear(struct queue *queue)
{
    mem_free(queue->bytes);
    *queue = (struct queue){0};
}

static int queue_add(struct queue *queue, const void *bytes, uint32_t size)
{
    if (queue->room - queue->end < size && queue->begin >= size) {
        memmove(queue->bytes, queue->bytes + queue->begin, queue_size(queue));
        queue->end -= queue->begin;
        queue->offered -= queue->begin;
        queue->last_pong -= MIN(queue->last_pong, queue->begin);
        queue->begin = 0;
    }
    if (queue->room - queue->end < size) {
        const uint32_t room = (queue->end + size) * 2;
        uint8_t *grown = mem_try_realloc(queue->bytes, room);
        if (!grown)
            return ERR_NOMEM;
        queue->bytes = grown;
        queue->room = room;
    }
    memcpy(queue->bytes + queue->end, bytes, size);
    queue->end += size;
    return 0;
}

/* With many unsent, the latest takes the place of the one before it, which section 5.5.3 allows. */
static int queue_pong(struct queue *queue, struct slice payload)
{
    uint8_t pong[WEBSOCKET_SENT_HEAD_MAX + WEBSOCKET_CONTROL_MAX];
    const uint32_t head_size = websocket_head_write(pong, WEBSOCKET_PONG, payload.size);
    memcpy(pong + head_size, payload.bytes, payload.size);
    if (queue_size(queue) > QUEUE_PONGS_MAX && queue->last_pong >= queue->offered)
        queue->end = queue->last_pong;
    const uint32_t begin = queue->end;
    const int err = queue_add(queue, pong, head_size + payload.size);
    if (err == 0)
        queue->last_pong = begin;
    return err;
}

static void queue_consume(struct queue *queue, uint32_t size)
{
    queue->begin += size;
    if (queue->begin == queue->end)
        queue_clear(queue);
}

static void shut_down_below(struct ws *ws)
{
    if (!ws->shutdown_due || ws->queue.bytes || is_in_frame(ws))
        return;
    ws->shutdown_due = false;
    stream_shutdown(ws->below);
}

/* Writes what is queued, where no frame is half out. Returns 0, or the error of the stage below. */
static int flush(struct ws *ws)
{
    struct queue *queue = &ws->queue;
    while (queue->bytes && !is_in_frame(ws)) {
        const uint32_t part = MIN(queue_size(queue), (uint32_t)QUEUE_PONGS_MAX);
        const struct iovec iov = {queue->bytes + queue->begin, part};
        queue->offered = MAX(queue->offered, queue->begin + part);
        const ssize_t n = stream_writev(ws->below, &iov, 1);
        if (n == (ssize_t)ERR_AGAIN)
            break;
        if (n < 0)
            return (int)n;
        queue_consume(queue, (uint32_t)n);
    }
    shut_down_below(ws);
    return 0;
}

static int update_interest(struct ws *ws)
{
    unsigned events = ws->wanted;
    if (ws->state == WS_PARTING)
        events |= IO_READ;
    if (ws->queue.bytes && !is_in_frame(ws))
        events |= IO_WRITE;
    if (ws->state == WS_ENDED)
        events = 0;
    const int err = stream_want(ws->below, events);
    if (err < 0 && ws->state != WS_ENDED)
        finish(ws, err);
    return err;
}

/* --- parting ---------------------------------------------------------------------------------- */

static void on_parting_due(struct timer *timer)
{
    struct ws *ws = CONTAINER_OF(timer, struct ws, parting);
    finish(ws, ws->end);
    (void)update_interest(ws);
}

/* The last bytes are queued. result: what the user will read. */
static void part(struct ws *ws, int result)
{
    ws->state = WS_PARTING;
    ws->end = result;
    ws->shutdown_due = true;
    mem_free(ws->request);
    ws->request = NULL;
    timer_start(loop_timers(ws->loop), &ws->parting, PARTING_MS);
    const int err = flush(ws);
    if (err < 0)
        finish(ws, err);
}

static void part_with_code(struct ws *ws, uint16_t code, const char *reason, int result)
{
    uint8_t frame[WEBSOCKET_CLOSE_MAX];
    const uint32_t size = websocket_close_write(frame, code, reason);
    (void)!queue_add(&ws->queue, frame, size); /* without memory it ends without a word */
    part(ws, result);
}

static void refuse(struct ws *ws, uint16_t code, const char *fault)
{
    ws->fault = fault;
    part_with_code(ws, code, fault, ERR_PROTOCOL);
}

/* --- reading ---------------------------------------------------------------------------------- */

/* Section 5.5.1: the answer repeats the code. */
static void on_close(struct ws *ws, struct slice payload)
{
    uint16_t code = 0;
    const int err = websocket_close_parse(payload, &code);
    if (err == ERR_MALFORMED)
        refuse(ws, WEBSOCKET_INVALID_PAYLOAD, "the reason of a close frame is not UTF-8");
    else if (err < 0)
        refuse(ws, WEBSOCKET_PROTOCOL_ERROR, "a close frame has a code that must not be sent");
    else
        part_with_code(ws, code, "", 0);
}

static void on_control(struct ws *ws, const struct websocket_step *step)
{
    if (step->control == WEBSOCKET_CLOSE)
        on_close(ws, step->payload);
    else if (step->control == WEBSOCKET_PING && queue_pong(&ws->queue, step->payload) < 0)
        finish(ws, ERR_NOMEM);
    /* A pong that nobody asked for is no fault. */
}

/* Takes the frames out of `size` bytes at `from`. Returns how many bytes of messages are at `to`.
 */
static uint32_t take_frames(struct ws *ws, uint8_t *to, const uint8_t *from, uint32_t size)
{
    uint32_t used = 0, made = 0;
    while (used < size && ws->state == WS_OPEN) {
        struct websocket_step step;
        const int err = websocket_decode(&ws->decoder, to + made, from + used, size - used, &step);
        used += step.used;
        made += step.made;
        if (err < 0)
            refuse(ws, ws->decoder.code, ws->decoder.fault);
        else if (step.control)
            on_control(ws, &step);
    }
    return made;
}

/* Sets aside what there is of the request. */
static int keep_request(struct ws *ws, const uint8_t *bytes, uint32_t size)
{
    uint8_t *grown = mem_try_realloc(ws->request, ws->request_size + size);
    if (!grown)
        return ERR_NOMEM;
    memcpy(grown + ws->request_size, bytes, size);
    ws->request = grown;
    ws->request_size += size;
    return 0;
}

static void answer(struct ws *ws, int verdict, const struct http_upgrade_answer *answer)
{
    const int err = queue_add(&ws->queue, answer->text, answer->size);
    if (err < 0) {
        finish(ws, err);
    } else if (verdict < 0) {
        ws->fault = answer->fault;
        part(ws, ERR_PROTOCOL);
    } else {
        ws->state = WS_OPEN;
        mem_free(ws->request);
        ws->request = NULL;
    }
}

/* Returns how many of the bytes belong to the request. */
static uint32_t take_request(struct ws *ws, const uint8_t *bytes, uint32_t size)
{
    struct http_upgrade_answer text;
    const uint32_t before = ws->request_size;
    /* Beyond the largest request nothing needs to be kept to know that it is too large. */
    const uint32_t kept = MIN(size, HTTP_UPGRADE_REQUEST_MAX - before);
    uint32_t used = 0;
    int err = before > 0 ? keep_request(ws, bytes, kept) : 0;
    if (err < 0) {
        finish(ws, err);
        return size;
    }
    const uint8_t *request = before > 0 ? ws->request : bytes;
    err = read_request(ws->service, request, before + kept, &used, &text);
    if (err == ERR_AGAIN) {
        err = before > 0 ? 0 : keep_request(ws, bytes, kept);
        if (err < 0)
            finish(ws, err);
        return size;
    }
    answer(ws, err, &text);
    return err < 0 ? size : used - before;
}

static ssize_t ws_read(struct stream *stream, void *bytes, size_t size)
{
    struct ws *ws = ws_of(stream);
    if (ws->state == WS_ENDED)
        return ws->end;
    if (ws->state == WS_PARTING || size == 0)
        return (ssize_t)ERR_AGAIN;
    const ssize_t n = stream_read(ws->below, bytes, MIN(size, (size_t)INT32_MAX));
    if (n <= 0) {
        if (n != (ssize_t)ERR_AGAIN)
            finish(ws, (int)n);
        return n;
    }
    uint32_t used = 0, made = 0;
    if (ws->state == WS_OPENING)
        used = take_request(ws, bytes, (uint32_t)n);
    if (ws->state == WS_OPEN)
        made = take_frames(ws, bytes, (uint8_t *)bytes + used, (uint32_t)n - used);
    const int err = flush(ws);
    if (err < 0 && ws->state != WS_ENDED)
        finish(ws, err);
    (void)update_interest(ws);
    if (made > 0)
        return made;
    return ws->state == WS_ENDED ? ws->end : (ssize_t)ERR_AGAIN;
}

/* In WS_PARTING: reads away what still comes. */
static void discard(struct ws *ws)
{
    uint8_t bytes[DISCARD_SIZE];
    const ssize_t n = stream_read(ws->below, bytes, sizeof bytes);
    if (n <= 0 && n != (ssize_t)ERR_AGAIN)
        finish(ws, ws->end);
}

static void on_below(struct stream *below, unsigned events)
{
    struct ws *ws = below->owner;
    if (events & (IO_WRITE | IO_HANGUP)) {
        const int err = flush(ws);
        if (err < 0 && ws->state != WS_ENDED)
            finish(ws, err);
    }
    if (ws->state == WS_PARTING && (events & (IO_READ | IO_HANGUP)))
        discard(ws);
    if (update_interest(ws) < 0)
        return;
    unsigned up = events & (ws->wanted | IO_HANGUP);
    if (ws->state == WS_PARTING)
        up &= IO_WRITE;
    if (ws->state != WS_ENDED && up)
        ws->stream.on_ready(&ws->stream, up); /* which may close the stream */
}

/* --- writing ---------------------------------------------------------------------------------- */

static uint64_t size_of(const struct iovec *iov, int iov_count)
{
    uint64_t size = 0;
    for (int i = 0; i < iov_count; i++)
        size += iov[i].iov_len;
    return size;
}

static void begin_frame(struct ws *ws, uint64_t payload_size)
{
    ws->head_begin = 0;
    ws->head_end = (uint8_t)websocket_head_write(ws->head, WEBSOCKET_BINARY, payload_size);
    ws->payload_left = payload_size;
}

/* Writes what is left of the frame; the user's bytes from `skip` on are its payload. Returns how
 * many of them were taken, or an error. */
static ssize_t write_frame(struct ws *ws, const struct iovec *iov, int iov_count, uint64_t skip)
{
    struct iovec parts[IOV_MAX_TAKEN + 1];
    int count = 0;
    uint64_t offered = 0;
    const uint32_t head_left = (uint32_t)(ws->head_end - ws->head_begin);
    if (head_left > 0)
        parts[count++] = (struct iovec){ws->head + ws->head_begin, head_left};
    for (int i = 0; i < iov_count && count <= IOV_MAX_TAKEN; i++) {
        const uint64_t passed = MIN(skip, iov[i].iov_len);
        const uint64_t size = MIN(iov[i].iov_len - passed, ws->payload_left - offered);
        skip -= passed;
        if (size > 0)
            parts[count++] = (struct iovec){(uint8_t *)iov[i].iov_base + passed, size};
        offered += size;
    }
    const ssize_t n = stream_writev(ws->below, parts, count);
    if (n < 0)
        return n;
    const uint32_t head_part = (uint32_t)MIN((uint64_t)n, head_left);
    ws->head_begin = (uint8_t)(ws->head_begin + head_part);
    ws->payload_left -= (uint64_t)n - head_part;
    return n - (ssize_t)head_part;
}

/* One frame for all that is offered, behind the rest of the one before it and what is queued. What
 * the stage below was offered it is offered again until it takes it, byte for byte: TLS needs that.
 * So the size of a frame is settled when it begins, and nothing overtakes it. */
static ssize_t ws_writev(struct stream *stream, const struct iovec *iov, int iov_count)
{
    struct ws *ws = ws_of(stream);
    const uint64_t offered = size_of(iov, iov_count);
    uint64_t taken = 0;
    ssize_t n = 0;
    if (ws->state == WS_OPENING)
        return (ssize_t)ERR_AGAIN;
    if (ws->state == WS_ENDED)
        return (ssize_t)offered;
    while (taken < offered && n >= 0) {
        if (!is_in_frame(ws)) {
            n = flush(ws);
            if (ws->state != WS_OPEN)
                return (ssize_t)offered; /* nobody will read it, and reading tells why */
            if (n < 0 || ws->queue.bytes)
                break;
            begin_frame(ws, offered - taken);
        }
        n = write_frame(ws, iov, iov_count, taken);
        taken += n > 0 ? (uint64_t)n : 0;
        if (is_in_frame(ws))
            break;
    }
    if (n >= 0 && ws->queue.bytes) {
        n = flush(ws);
        (void)update_interest(ws);
    }
    if (n < 0 && n != (ssize_t)ERR_AGAIN)
        return n;
    return taken > 0 ? (ssize_t)taken : (ssize_t)ERR_AGAIN;
}

/* --- the stage -------------------------------------------------------------------------------- */

static int ws_want(struct stream *stream, unsigned events)
{
    struct ws *ws = ws_of(stream);
    ws->wanted = events;
    if (ws->state == WS_ENDED && events)
        loop_defer(ws->loop, &ws->report);
    return update_interest(ws);
}

static void ws_shutdown(struct stream *stream)
{
    struct ws *ws = ws_of(stream);
    if (ws->state == WS_OPENING)
        part(ws, 0);
    else if (ws->state == WS_OPEN)
        part_with_code(ws, WEBSOCKET_NORMAL, "", 0);
    (void)update_interest(ws);
}

/* A user in a hurry: what can be said without waiting is said. */
static void ws_close(struct stream *stream)
{
    struct ws *ws = ws_of(stream);
    if (ws->state == WS_OPEN)
        part_with_code(ws, WEBSOCKET_NORMAL, "", 0);
    timer_stop(loop_timers(ws->loop), &ws->parting);
    deferred_cancel(&ws->report);
    (void)stream_close(ws->below);
    (void)ws_service_unref(ws->service);
    queue_clear(&ws->queue);
    mem_free(ws->request);
    mem_free(ws);
}

static uint64_t ws_unsent(const struct stream *stream)
{
    const struct ws *ws = ws_of(stream);
    return stream_unsent(ws->below) + queue_size(&ws->queue);
}

static const struct peer *ws_peer(const struct stream *stream)
{
    return stream_peer(ws_of(stream)->below);
}

static const char *ws_fault(const struct stream *stream)
{
    const struct ws *ws = ws_of(stream);
    return ws->fault ? ws->fault : stream_fault(ws->below);
}

static bool ws_lingers(const struct stream *stream)
{
    return ws_of(stream)->state != WS_OPENING;
}

static const struct stream_ops ws_ops = {
    .name = "ws",
    .read = ws_read,
    .writev = ws_writev,
    .want = ws_want,
    .shutdown = ws_shutdown,
    .close = ws_close,
    .unsent = ws_unsent,
    .peer = ws_peer,
    .fault = ws_fault,
    .lingers = ws_lingers,
};

struct stream *ws_new(struct loop *loop, struct stream *below, struct ws_service *service)
{
    struct ws *ws = mem_new(sizeof *ws);
    ws->stream.ops = &ws_ops;
    ws->below = below;
    ws->loop = loop;
    ws->service = ws_service_ref(service);
    list_init(&ws->report.node);
    ws->report.run = on_report;
    ws->parting.on_due = on_parting_due;
    websocket_init(&ws->decoder, frame_max_of(service));
    below->on_ready = on_below;
    below->owner = ws;
    return &ws->stream;
}
