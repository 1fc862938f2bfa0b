/* The stage on the home loop. Nothing here makes a system call. */
#include "net/front_priv.h"

#include "base/mem.h"

#include <string.h>

/* Bytes given to the front and not written yet: enough to keep a fast peer busy between two turns
 * of the home loop. Less when the budget is half used up, so that slow peers do not take it all. */
enum { WINDOW = 256 * 1024, WINDOW_LEAN = 64 * 1024 };

static bool is_lean(const struct front *front)
{
    return budget_is_tight(front->budget);
}

static void charge(struct front *front, uint64_t size)
{
    budget_charge(front->budget, size);
    if (is_lean(front))
        atomic_store_explicit(&front->lean, true, memory_order_relaxed);
}

static void give(struct front *front, uint64_t size)
{
    budget_give(front->budget, size);
    if (!is_lean(front))
        atomic_store_explicit(&front->lean, false, memory_order_relaxed);
}

static uint64_t window_of(const struct relay *relay)
{
    return is_lean(relay->front) ? WINDOW_LEAN : WINDOW;
}

static uint64_t window_left(const struct relay *relay)
{
    const uint64_t window = window_of(relay);
    return relay->unwritten < window ? window - relay->unwritten : 0;
}

static unsigned ready(const struct relay *relay)
{
    const bool readable = relay->kept || relay->end <= 0;
    const bool writable =
        relay->end < 0 || (list_empty(&relay->node) && relay->unwritten <= window_of(relay) / 2);
    return (readable ? IO_READ : 0) | (writable ? IO_WRITE : 0);
}

static void on_report(struct deferred *report)
{
    struct relay *relay = CONTAINER_OF(report, struct relay, report);
    const unsigned events = ready(relay) & relay->wanted;
    if (events)
        relay->stream.on_ready(&relay->stream, events);
}

static void review(struct relay *relay)
{
    if (ready(relay) & relay->wanted)
        loop_defer(relay->front->home, &relay->report);
}

/* --- the stage's operations ----------------------------------------------------------------- */

static void clear_kept(struct relay *relay)
{
    if (relay->kept)
        give(relay->front, relay->kept_end);
    mem_free(relay->kept);
    relay->kept = NULL;
    relay->kept_begin = relay->kept_end = 0;
}

static size_t take_kept(struct relay *relay, uint8_t *bytes, size_t size)
{
    const uint32_t part = (uint32_t)MIN(size, relay->kept_end - relay->kept_begin);
    memcpy(bytes, relay->kept + relay->kept_begin, part);
    relay->kept_begin += part;
    if (relay->kept_begin < relay->kept_end)
        return part;
    /* What is kept was charged as a whole. */
    clear_kept(relay);
    if (relay->held) {
        relay->held = false;
        lane_put(&relay->front->out, relay, RELAY_GO, 0);
    }
    return part;
}

static ssize_t relay_read(struct stream *stream, void *bytes, size_t size)
{
    struct relay *relay = CONTAINER_OF(stream, struct relay, stream);
    if (relay->kept)
        return (ssize_t)take_kept(relay, bytes, size);
    if (relay->view_size > 0) {
        const uint32_t part = (uint32_t)MIN(size, relay->view_size);
        memcpy(bytes, relay->view, part);
        relay->view += part;
        relay->view_size -= part;
        return part;
    }
    return relay->end <= 0 ? relay->end : (ssize_t)ERR_AGAIN;
}

/* Copies as much as fits into one entry. Returns the bytes taken, 0: the lane is full. */
static uint32_t send_some(struct relay *relay, const struct iovec *iov, int iov_count,
                          uint64_t skip, uint64_t size_max)
{
    struct lane *lane = &relay->front->out;
    uint32_t room = 0, size = 0;
    uint8_t *to = lane_reserve(lane, 1, &room);
    if (!to)
        return 0;
    room = (uint32_t)MIN(room, size_max);
    for (int i = 0; i < iov_count && size < room; i++) {
        const uint64_t passed = MIN(skip, iov[i].iov_len);
        const uint32_t part = (uint32_t)MIN(iov[i].iov_len - passed, room - size);
        skip -= passed;
        memcpy(to + size, (const uint8_t *)iov[i].iov_base + passed, part);
        size += part;
    }
    lane_commit(lane, relay, size);
    return size;
}

static ssize_t relay_writev(struct stream *stream, const struct iovec *iov, int iov_count)
{
    struct relay *relay = CONTAINER_OF(stream, struct relay, stream);
    struct front *front = relay->front;
    if (relay->end < 0)
        return relay->end;
    uint64_t offered = 0, taken = 0;
    for (int i = 0; i < iov_count; i++)
        offered += iov[i].iov_len;
    offered = MIN(offered, window_left(relay));
    while (taken < offered) {
        const uint32_t part = send_some(relay, iov, iov_count, taken, offered - taken);
        if (part == 0) {
            if (list_empty(&relay->node))
                list_push_back(&front->stuck, &relay->node);
            break;
        }
        taken += part;
    }
    relay->unwritten += taken;
    charge(front, taken);
    return taken > 0 ? (ssize_t)taken : (ssize_t)ERR_AGAIN;
}

static int relay_want(struct stream *stream, unsigned events)
{
    struct relay *relay = CONTAINER_OF(stream, struct relay, stream);
    relay->wanted = events;
    review(relay);
    return 0;
}

static void relay_shutdown(struct stream *stream)
{
    struct relay *relay = CONTAINER_OF(stream, struct relay, stream);
    lane_put(&relay->front->out, relay, RELAY_SHUTDOWN, 0);
}

/* Its front part, and entries under way, still point to it: freed with RELAY_CLOSED. */
static void relay_close(struct stream *stream)
{
    struct relay *relay = CONTAINER_OF(stream, struct relay, stream);
    ASSERT(!relay->closed);
    relay->closed = true;
    deferred_cancel(&relay->report);
    list_remove(&relay->node);
    clear_kept(relay);
    give(relay->front, relay->unwritten);
    relay->unwritten = 0;
    lane_put(&relay->front->out, relay, RELAY_CLOSE, 0);
}

static uint64_t relay_unsent(const struct stream *stream)
{
    return CONTAINER_OF(stream, struct relay, stream)->unwritten;
}

static const struct peer *relay_peer(const struct stream *stream)
{
    const struct relay *relay = CONTAINER_OF(stream, struct relay, stream);
    return relay->heard ? relay->socket.told : relay->accepted;
}

static const char *relay_fault(const struct stream *stream)
{
    const struct relay *relay = CONTAINER_OF(stream, struct relay, stream);
    return relay->end < 0 ? relay->socket.fault : NULL;
}

static bool relay_lingers(const struct stream *stream)
{
    return CONTAINER_OF(stream, struct relay, stream)->lingers;
}

static const struct stream_ops relay_ops = {
    .name = "relay",
    .read = relay_read,
    .writev = relay_writev,
    .want = relay_want,
    .shutdown = relay_shutdown,
    .close = relay_close,
    .unsent = relay_unsent,
    .peer = relay_peer,
    .fault = relay_fault,
    .lingers = relay_lingers,
};

struct stream *relay_new(struct front *front, struct stack *stack, int fd, const struct peer *peer)
{
    ASSERT(fd >= 0);
    struct relay *relay = mem_new(sizeof *relay);
    relay->stream.ops = &relay_ops;
    relay->front = front;
    relay->accepted = peer;
    relay->lingers = stack_lingers(stack);
    relay->socket.stack = stack_ref(stack);
    relay->end = 1;
    relay->report.run = on_report;
    list_init(&relay->report.node);
    list_init(&relay->node);
    front->relay_count++;
    lane_put(&front->out, relay, RELAY_ADOPT, fd);
    return &relay->stream;
}

/* --- from the front ------------------------------------------------------------------------- */

/* Sets aside what the user did not read, behind what was set aside before, and stops the front. */
static void keep(struct relay *relay, const uint8_t *bytes, uint32_t size)
{
    const uint32_t before = relay->kept_end - relay->kept_begin;
    uint8_t *kept = mem_try_alloc((size_t)before + size);
    if (!kept) {
        relay->end = ERR_NOMEM;
        return;
    }
    if (relay->kept)
        memcpy(kept, relay->kept + relay->kept_begin, before);
    memcpy(kept + before, bytes, size);
    clear_kept(relay);
    relay->kept = kept;
    relay->kept_end = before + size;
    charge(relay->front, relay->kept_end);
    if (!relay->held) {
        relay->held = true;
        lane_put(&relay->front->out, relay, RELAY_HOLD, 0);
    }
}

static void on_bytes(struct relay *relay, const uint8_t *bytes, uint32_t size)
{
    relay->view = bytes;
    relay->view_size = size;
    uint32_t before = 0;
    /* A user reads once each time, and stops when it does not want more. */
    while (!relay->closed && !relay->kept && (relay->wanted & IO_READ) && relay->view_size > 0 &&
           relay->view_size != before) {
        before = relay->view_size;
        relay->stream.on_ready(&relay->stream, IO_READ);
    }
    const uint8_t *rest = relay->view;
    const uint32_t rest_size = relay->view_size;
    relay->view = NULL;
    relay->view_size = 0;
    if (rest_size == 0 || relay->closed)
        return;
    keep(relay, rest, rest_size);
    review(relay);
}

void relay_on_entry(void *data, const struct lane_entry *entry, const uint8_t *bytes)
{
    struct front *front = data;
    struct relay *relay = entry->about;
    if (entry->kind == RELAY_CLOSED) {
        ASSERT(relay->closed);
        front->relay_count--;
        (void)peer_unref(relay->accepted);
        (void)peer_unref(relay->socket.told);
        mem_free(relay);
        return;
    }
    if (relay->closed)
        return;
    if (entry->kind == LANE_BYTES) {
        relay->heard = true;
        on_bytes(relay, bytes, (uint32_t)entry->value);
    } else if (entry->kind == RELAY_WRITTEN) {
        ASSERT(relay->unwritten >= (uint32_t)entry->value);
        relay->unwritten -= (uint32_t)entry->value;
        give(front, (uint32_t)entry->value);
        if (relay->wanted & IO_WRITE)
            review(relay);
    } else {
        ASSERT(entry->kind == RELAY_END);
        relay->end = entry->value;
        review(relay);
    }
}

void relay_on_room(void *data)
{
    struct front *front = data;
    list_each_safe (it, &front->stuck) {
        struct relay *relay = CONTAINER_OF(it, struct relay, node);
        list_remove(&relay->node);
        review(relay);
    }
}
