/* The front's part of a relay: the socket, and what waits for it. Thread: front. */
#include "net/front_priv.h"

#include "base/mem.h"

#include <errno.h>
#include <string.h>

static struct relay *relay_of(struct relay_socket *socket)
{
    return CONTAINER_OF(socket, struct relay, socket);
}

static void clear_pending(struct relay_socket *socket)
{
    mem_free(socket->pending);
    socket->pending = NULL;
    socket->pending_begin = socket->pending_end = socket->pending_room = 0;
}

/* Nothing is read or written any more; the user closes when it hears of it. */
static void fail(struct relay_socket *socket, int err)
{
    clear_pending(socket);
    socket->ended = true;
    socket->fault = stream_fault(socket->below);
    if (!socket->broken)
        lane_put(&socket->front->in, relay_of(socket), RELAY_END, err);
    socket->broken = true;
}

static void update_interest(struct relay_socket *socket)
{
    const bool reads = !socket->ended && !socket->held && list_empty(&socket->node);
    const unsigned events = (reads ? IO_READ : 0) | (socket->pending ? IO_WRITE : 0);
    const int err = stream_want(socket->below, events);
    if (err < 0)
        fail(socket, err);
}

/* --- writing -------------------------------------------------------------------------------- */

static void note_written(struct relay_socket *socket, size_t size)
{
    struct front *front = socket->front;
    socket->written += (uint32_t)size;
    if (list_empty(&socket->written_node))
        list_push_back(&front->written, &socket->written_node);
    loop_defer(front->loop, &front->reporting);
}

void relay_socket_report(struct deferred *reporting)
{
    struct front *front = CONTAINER_OF(reporting, struct front, reporting);
    list_each_safe (it, &front->written) {
        struct relay_socket *socket = CONTAINER_OF(it, struct relay_socket, written_node);
        list_remove(&socket->written_node);
        lane_put(&front->in, relay_of(socket), RELAY_WRITTEN, (int32_t)socket->written);
        socket->written = 0;
    }
}

/* Returns how many of the bytes went out; 0 also when the socket failed. */
static size_t write_some(struct relay_socket *socket, const uint8_t *bytes, size_t size)
{
    const struct iovec iov = {.iov_base = (uint8_t *)bytes, .iov_len = size};
    const ssize_t n = stream_writev(socket->below, &iov, 1);
    if (n > 0) {
        note_written(socket, (size_t)n);
        return (size_t)n;
    }
    if (n != (ssize_t)ERR_AGAIN)
        fail(socket, n < 0 ? (int)n : -EPIPE);
    return 0;
}

static void end_writing(struct relay_socket *socket)
{
    if (socket->shutdown_due && !socket->pending && !socket->broken)
        stream_shutdown(socket->below);
}

static void flush(struct relay_socket *socket)
{
    if (!socket->pending)
        return;
    const uint32_t size = socket->pending_end - socket->pending_begin;
    socket->pending_begin +=
        (uint32_t)write_some(socket, socket->pending + socket->pending_begin, size);
    if (socket->pending && socket->pending_begin == socket->pending_end)
        clear_pending(socket);
    end_writing(socket);
}

/* Sets aside what the socket did not take, behind what waits already. The window bounds it. */
static void set_aside(struct relay_socket *socket, const uint8_t *bytes, uint32_t size)
{
    const uint32_t before = socket->pending_end - socket->pending_begin;
    if (!socket->pending || socket->pending_room - socket->pending_end < size) {
        const uint32_t room = MAX((before + size) * 2, 4096u);
        uint8_t *pending = mem_try_alloc(room);
        if (!pending) {
            fail(socket, ERR_NOMEM);
            return;
        }
        if (socket->pending)
            memcpy(pending, socket->pending + socket->pending_begin, before);
        clear_pending(socket);
        socket->pending = pending;
        socket->pending_end = before;
        socket->pending_room = room;
    }
    memcpy(socket->pending + socket->pending_end, bytes, size);
    socket->pending_end += size;
}

static void on_bytes(struct relay_socket *socket, const uint8_t *bytes, uint32_t size)
{
    if (socket->broken)
        return;
    const size_t taken = socket->pending ? 0 : write_some(socket, bytes, size);
    if (taken == size || socket->broken)
        return;
    set_aside(socket, bytes + taken, size - (uint32_t)taken);
    update_interest(socket);
}

/* --- reading -------------------------------------------------------------------------------- */

/* Home sees it with the first bytes, because they cross in a mailbox after this. */
static void note_peer(struct relay_socket *socket)
{
    if (socket->told)
        return;
    const struct peer *peer = stream_peer(socket->below);
    socket->told = peer ? peer_ref(peer) : NULL;
}

static void read_once(struct relay_socket *socket)
{
    struct front *front = socket->front;
    const bool lean = atomic_load_explicit(&front->lean, memory_order_relaxed);
    const uint32_t size = lean ? RELAY_READ_LEAN : RELAY_READ_MAX;
    uint32_t room = 0;
    uint8_t *to = lane_reserve(&front->in, size, &room);
    if (!to) {
        list_push_back(&front->starved, &socket->node);
        return;
    }
    const ssize_t n = stream_read(socket->below, to, size);
    if (n > 0) {
        note_peer(socket);
        lane_commit(&front->in, relay_of(socket), (uint32_t)n);
    } else if (n == 0) {
        socket->ended = true;
        lane_put(&front->in, relay_of(socket), RELAY_END, 0);
    } else if (n != (ssize_t)ERR_AGAIN) {
        fail(socket, (int)n);
    }
}

static void on_ready(struct stream *below, unsigned events)
{
    struct relay_socket *socket = below->owner;
    if (events & (IO_WRITE | IO_HANGUP))
        flush(socket);
    if (!socket->ended && !socket->held && list_empty(&socket->node) &&
        (events & (IO_READ | IO_HANGUP)))
        read_once(socket);
    update_interest(socket);
}

void relay_socket_on_room(void *data)
{
    struct front *front = data;
    list_each_safe (it, &front->starved) {
        struct relay_socket *socket = CONTAINER_OF(it, struct relay_socket, node);
        list_remove(&socket->node);
        update_interest(socket);
    }
}

/* --- from home ------------------------------------------------------------------------------ */

static void adopt(struct front *front, struct relay *relay, int fd)
{
    struct relay_socket *socket = &relay->socket;
    socket->front = front;
    list_init(&socket->node);
    list_init(&socket->written_node);
    /* The relay keeps its reference as long as the socket is open. */
    const struct peer *peer = relay->accepted ? peer_ref(relay->accepted) : NULL;
    socket->below = stack_open(socket->stack, front->loop, fd, peer);
    socket->stack = stack_unref(socket->stack);
    socket->below->on_ready = on_ready;
    socket->below->owner = socket;
    update_interest(socket);
}

static void close_socket(struct relay_socket *socket)
{
    list_remove(&socket->node);
    list_remove(&socket->written_node);
    clear_pending(socket);
    socket->below = stream_close(socket->below);
    lane_put(&socket->front->in, relay_of(socket), RELAY_CLOSED, 0);
}

void relay_socket_on_entry(void *data, const struct lane_entry *entry, const uint8_t *bytes)
{
    struct relay *relay = entry->about;
    struct relay_socket *socket = &relay->socket;
    switch (entry->kind) {
    case LANE_BYTES:
        on_bytes(socket, bytes, (uint32_t)entry->value);
        return;
    case RELAY_ADOPT:
        adopt(data, relay, entry->value);
        return;
    case RELAY_HOLD:
    case RELAY_GO:
        socket->held = entry->kind == RELAY_HOLD;
        update_interest(socket);
        return;
    case RELAY_SHUTDOWN:
        socket->shutdown_due = true;
        end_writing(socket);
        return;
    default:
        ASSERT(entry->kind == RELAY_CLOSE);
        close_socket(socket);
    }
}
