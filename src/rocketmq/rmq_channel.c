/* Frames to be sent are in `outputs`, in order. What was offered to the stream stays at the front
 * until it is written whole, even when nobody waits for its answer any more, as stages may have
 * taken a part of it.
 *
 * Invariants: a pending that is under way is in `waiting` and in `by_opaque`; the outputs that were
 * offered are at the front of `outputs`; `stream` exists in OPEN and DRAINING only, `dial` in
 * CONNECTING only.
 */
#include "rocketmq/rmq_channel.h"

#include "base/mem.h"
#include "net/tcp.h"
#include "rocketmq/rmq_codes.h"
#include "rocketmq/rmq_dial.h"

#include <errno.h>
#include <string.h>

enum {
    IOV_MAX_COUNT = 64,
    READS_MAX = 8, /* in one turn, so that others get theirs */
    DRAIN_MS = 5000,
};

enum state { IDLE, WAITING, CONNECTING, OPEN, DRAINING };

struct rmq_channel {
    struct rmq_net net;
    struct rmq_channel_options options;
    char address[RMQ_ADDRESS_SIZE_MAX], host[RMQ_ADDRESS_SIZE_MAX];
    enum state state;
    struct rmq_dial *dial;
    struct stream *stream;
    struct rmq_inbox inbox;
    struct list outputs; /* struct rmq_output */
    struct list waiting; /* struct rmq_pending */
    struct hashmap by_opaque;
    uint64_t pending_size;
    uint64_t opened_ms, heard_ms; /* when it was connected, and when anything came last */
    uint64_t retry_at_ms;         /* not to connect before */
    uint32_t failures;            /* since a server has answered */
    bool wants_write;             /* the stream has not taken all */
    struct deferred flush;        /* sends what was submitted in this turn */
    struct timer timer;           /* WAITING, DRAINING */
    struct rmq_command command;   /* the one that was received last */
};

struct rmq_output {
    struct list node;
    struct buf *frame;
    uint32_t sent;               /* bytes */
    bool was_offered;            /* as are all before it */
    struct rmq_pending *pending; /* NULL: nobody waits for an answer */
};

static void connect_if_needed(struct rmq_channel *channel);
static void lose(struct rmq_channel *channel, int err, const char *why);

/* --- requests -----------------------------------------------------------------------------------
 */

static void output_free(struct rmq_output *output)
{
    list_remove(&output->node);
    (void)buf_unref(output->frame);
    mem_free(output);
}

/* Takes it out of all tables. */
static void detach(struct rmq_pending *pending)
{
    struct rmq_channel *channel = pending->channel;
    list_remove(&pending->node);
    hashmap_remove(&channel->by_opaque, &pending->by_opaque);
    timer_stop(loop_timers(channel->net.loop), &pending->timer);
    channel->pending_size -= buf_size(pending->frame);
    if (pending->output && pending->output->was_offered)
        pending->output->pending = NULL;
    else if (pending->output)
        output_free(pending->output);
    pending->output = NULL;
    pending->channel = NULL;
}

static void fail(struct rmq_pending *pending, int err, const char *why)
{
    const struct rmq_answer answer = {.err = err, .was_sent = pending->was_offered, .why = why};
    detach(pending);
    pending->done(pending, &answer);
}

void rmq_pending_cancel(struct rmq_pending *pending)
{
    if (pending->channel)
        detach(pending);
}

static void on_request_due(struct timer *timer)
{
    struct rmq_pending *pending = CONTAINER_OF(timer, struct rmq_pending, timer);
    struct rmq_channel *channel = pending->channel;
    const uint64_t since_ms = MAX(pending->since_ms, channel->opened_ms);
    const uint64_t waited_ms = loop_now_ms(channel->net.loop) - since_ms;
    const bool is_silent = channel->state >= OPEN && channel->heard_ms <= since_ms &&
                           waited_ms >= pending->timeout_ms / 2;
    struct errmsg why = {0};
    errmsg_wrap(&why, "%s has not answered within %u ms%s", channel->address, pending->timeout_ms,
                pending->was_offered ? "" : ", the request is not sent");
    fail(pending, -ETIMEDOUT, why.text);
    if (is_silent)
        lose(channel, ERR_CLOSED, why.text);
}

static bool opaque_matches(const struct hashnode *node, const void *key)
{
    const struct rmq_pending *pending = CONTAINER_OF(node, struct rmq_pending, by_opaque);
    return pending->opaque == *(const int32_t *)key;
}

static struct rmq_output *add_output(struct rmq_channel *channel, struct buf *frame,
                                     struct rmq_pending *pending)
{
    struct rmq_output *output = mem_new(sizeof *output);
    output->frame = frame;
    output->pending = pending;
    list_init(&output->node);
    list_push_back(&channel->outputs, &output->node);
    if (channel->state == OPEN)
        loop_defer(channel->net.loop, &channel->flush);
    return output;
}

int rmq_channel_submit(struct rmq_channel *channel, struct rmq_pending *pending)
{
    const uint32_t size = buf_size(pending->frame);
    ASSERT(!pending->channel && pending->done);
    if (size > channel->options.pending_size_max - channel->pending_size)
        return ERR_FULL;
    channel->pending_size += size;
    pending->channel = channel;
    pending->was_offered = false;
    pending->since_ms = loop_now_ms(channel->net.loop);
    list_init(&pending->node);
    list_push_back(&channel->waiting, &pending->node);
    hashmap_insert(&channel->by_opaque, &pending->by_opaque,
                   hash_u64((uint64_t)(uint32_t)pending->opaque));
    pending->timer.on_due = on_request_due;
    timer_start(loop_timers(channel->net.loop), &pending->timer, pending->timeout_ms);
    pending->output = add_output(channel, buf_ref(pending->frame), pending);
    connect_if_needed(channel);
    return 0;
}

void rmq_channel_post(struct rmq_channel *channel, struct buf *frame)
{
    if (channel->state == OPEN)
        (void)add_output(channel, frame, NULL);
    else
        (void)buf_unref(frame);
}

/* --- output -------------------------------------------------------------------------------------
 */

static int update_interest(struct rmq_channel *channel)
{
    return stream_want(channel->stream, IO_READ | (channel->wants_write ? IO_WRITE : 0u));
}

/* In DRAINING only what is partly written already goes out. */
static int gather(struct rmq_channel *channel, struct iovec *iov)
{
    int count = 0;
    list_each (it, &channel->outputs) {
        struct rmq_output *output = CONTAINER_OF(it, struct rmq_output, node);
        if (count == IOV_MAX_COUNT || (channel->state == DRAINING && !output->was_offered))
            break;
        output->was_offered = true;
        if (output->pending)
            output->pending->was_offered = true;
        iov[count++] = (struct iovec){buf_bytes(output->frame) + output->sent,
                                      buf_size(output->frame) - output->sent};
    }
    return count;
}

static void pass(struct rmq_channel *channel, size_t size)
{
    while (size > 0) {
        struct rmq_output *output = LIST_FIRST(&channel->outputs, struct rmq_output, node);
        ASSERT(output);
        const size_t part = MIN(size, (size_t)buf_size(output->frame) - output->sent);
        output->sent += (uint32_t)part;
        size -= part;
        if (output->sent < buf_size(output->frame))
            return;
        if (output->pending)
            output->pending->output = NULL;
        output_free(output);
    }
}

static void write_outputs(struct rmq_channel *channel)
{
    struct iovec iov[IOV_MAX_COUNT];
    int count;
    channel->wants_write = false;
    while (!channel->wants_write && (count = gather(channel, iov)) > 0) {
        const ssize_t n = stream_writev(channel->stream, iov, count);
        if (n < 0 && n != (ssize_t)ERR_AGAIN) {
            lose(channel, ERR_CLOSED, err_text((int)n));
            return;
        }
        channel->wants_write = n == (ssize_t)ERR_AGAIN;
        if (n > 0)
            pass(channel, (size_t)n);
    }
    const int err = update_interest(channel);
    if (err < 0)
        lose(channel, ERR_CLOSED, err_text(err));
}

static void on_flush(struct deferred *deferred)
{
    struct rmq_channel *channel = CONTAINER_OF(deferred, struct rmq_channel, flush);
    if (channel->state == OPEN && !channel->wants_write)
        write_outputs(channel);
}

/* --- the end of a connection --------------------------------------------------------------------
 */

static void hang_up(struct rmq_channel *channel)
{
    channel->dial = rmq_dial_cancel(channel->dial);
    channel->stream = stream_close(channel->stream);
    rmq_inbox_done(&channel->inbox);
    timer_stop(loop_timers(channel->net.loop), &channel->timer);
    channel->wants_write = false;
    channel->state = IDLE;
}

/* Outputs that nobody waits for, or that were begun, end with their connection. */
static void drop_outputs(struct rmq_channel *channel)
{
    list_each_safe (it, &channel->outputs) {
        struct rmq_output *output = CONTAINER_OF(it, struct rmq_output, node);
        if (output->pending && !output->was_offered)
            continue;
        if (output->pending)
            output->pending->output = NULL;
        output_free(output);
    }
}

/* Fails what was sent, or all; in the order in which it was submitted. What callbacks submit is not
 * among it. */
static void fail_waiting(struct rmq_channel *channel, bool all, int err, const char *why)
{
    struct list failed;
    list_init(&failed);
    list_each_safe (it, &channel->waiting) {
        if (!all && !CONTAINER_OF(it, struct rmq_pending, node)->was_offered)
            continue;
        list_remove(it);
        list_push_back(&failed, it);
    }
    struct rmq_pending *pending;
    while ((pending = LIST_FIRST(&failed, struct rmq_pending, node)))
        fail(pending, err, why);
}

/* Half of the pause is by chance, so that a thousand channels do not come back in step. */
static void plan_retry(struct rmq_channel *channel)
{
    const uint64_t now_ms = loop_now_ms(channel->net.loop);
    const uint32_t shift = MIN(channel->failures, 16u);
    const uint64_t pause =
        MIN((uint64_t)channel->options.retry_min_ms << shift, channel->options.retry_max_ms);
    const uint64_t chance = hash_u64(now_ms ^ (uint64_t)(uintptr_t)channel ^ channel->failures);
    channel->failures++;
    channel->retry_at_ms = now_ms + pause / 2 + chance % (pause / 2 + 1);
}

/* why: borrowed; may lie in what goes. */
static void lose(struct rmq_channel *channel, int err, const char *why)
{
    const bool was_connected = channel->state >= OPEN;
    struct errmsg text = {0};
    if (was_connected)
        errmsg_wrap(&text, "the connection to %s ended: %s", channel->address, why);
    else
        errmsg_wrap(&text, "%s", why);
    hang_up(channel);
    drop_outputs(channel);
    plan_retry(channel);
    fail_waiting(channel, !was_connected, err, text.text);
    if (channel->options.events.on_lost)
        channel->options.events.on_lost(channel->options.events.data, channel, text.text);
    connect_if_needed(channel);
}

/* --- input --------------------------------------------------------------------------------------
 */

static bool is_awaited(const struct rmq_channel *channel)
{
    list_each (it, &channel->waiting) {
        if (CONTAINER_OF(it, struct rmq_pending, node)->was_offered)
            return true;
    }
    return false;
}

/* The server is about to stop. What it has is waited for, not long; the rest goes over the next
 * connection. */
static void drain(struct rmq_channel *channel)
{
    if (channel->state != OPEN)
        return;
    channel->state = DRAINING;
    timer_start(loop_timers(channel->net.loop), &channel->timer, DRAIN_MS);
}

static void on_answer(struct rmq_channel *channel, const struct rmq_frame *frame)
{
    const int32_t opaque = channel->command.opaque;
    struct hashnode *node = hashmap_find(&channel->by_opaque, hash_u64((uint64_t)(uint32_t)opaque),
                                         opaque_matches, &opaque);
    channel->failures = 0;
    if (channel->command.code == RMQ_R_GO_AWAY)
        drain(channel);
    if (!node) /* of a request that was given up */
        return;
    struct rmq_pending *pending = CONTAINER_OF(node, struct rmq_pending, by_opaque);
    const struct rmq_answer answer = {.command = &channel->command, .body = frame->body};
    detach(pending);
    pending->done(pending, &answer);
}

/* Of what a server may ask for, nothing is for us: notices need no answer, the rest is told so. */
static void on_request(struct rmq_channel *channel)
{
    const struct rmq_command *request = &channel->command;
    struct buf *frame = NULL;
    if (request->code == RMQ_R_GO_AWAY)
        drain(channel);
    if (request->flag & RMQ_FLAG_ONE_WAY || request->code == RMQ_NOTIFY_CONSUMER_IDS_CHANGED)
        return;
    const bool is_notice =
        request->code == RMQ_R_GO_AWAY || request->code == RMQ_NOTIFY_UNSUBSCRIBE_LITE;
    const struct rmq_command answer = {
        .code = is_notice ? RMQ_R_SUCCESS : RMQ_R_REQUEST_CODE_NOT_SUPPORTED,
        .version = RMQ_VERSION,
        .opaque = request->opaque,
        .flag = RMQ_FLAG_ANSWER,
        .remark = slice_str(is_notice ? "" : "this client does not answer such requests"),
    };
    if (rmq_command_encode(&answer, RMQ_JSON, slice_of(NULL, 0), &frame) == 0)
        rmq_channel_post(channel, frame);
}

/* Takes what the inbox holds. A callback may lose the connection. */
static void take_frames(struct rmq_channel *channel)
{
    struct rmq_frame frame;
    const char *why = NULL;
    int err;
    while (channel->state >= OPEN &&
           (err = rmq_inbox_take(&channel->inbox, &frame, &why)) != ERR_AGAIN) {
        if (err == 0)
            err = rmq_command_decode(&frame, &channel->command, &why);
        if (err < 0) {
            lose(channel, ERR_CLOSED, why);
            return;
        }
        struct buf *held = buf_ref(frame.body.buf); /* as a callback may lose the inbox */
        if (channel->command.flag & RMQ_FLAG_ANSWER)
            on_answer(channel, &frame);
        else
            on_request(channel);
        rmq_command_done(&channel->command);
        (void)buf_unref(held);
    }
    if (channel->state == DRAINING && !is_awaited(channel))
        lose(channel, ERR_CLOSED, "the server is about to stop");
}

static void read_input(struct rmq_channel *channel)
{
    for (int i = 0; i < READS_MAX && channel->state >= OPEN; i++) {
        uint8_t *bytes = NULL;
        uint32_t room = 0;
        if (rmq_inbox_room(&channel->inbox, &bytes, &room) < 0) {
            lose(channel, ERR_CLOSED, "there is no memory for an answer");
            return;
        }
        const ssize_t n = stream_read(channel->stream, bytes, room);
        if (n == (ssize_t)ERR_AGAIN)
            return;
        if (n <= 0) {
            const char *fault = stream_fault(channel->stream);
            lose(channel, ERR_CLOSED,
                 n == 0  ? "the server has closed it"
                 : fault ? fault
                         : err_text((int)n));
            return;
        }
        channel->heard_ms = loop_now_ms(channel->net.loop);
        rmq_inbox_filled(&channel->inbox, (uint32_t)n);
        take_frames(channel);
        if ((uint32_t)n < room)
            return;
    }
}

static void on_ready(struct stream *stream, unsigned events)
{
    struct rmq_channel *channel = stream->owner;
    if (events & (IO_READ | IO_HANGUP))
        read_input(channel);
    if ((events & IO_WRITE) && channel->state >= OPEN && channel->wants_write)
        write_outputs(channel);
}

/* --- connecting ---------------------------------------------------------------------------------
 */

static void on_dialled(void *data, int fd, int err, const char *why)
{
    struct rmq_channel *channel = data;
    channel->dial = NULL;
    if (fd < 0) {
        lose(channel, ERR_UNAVAILABLE, why);
        return;
    }
    (void)err;
    channel->stream = tcp_new(channel->net.loop, fd, NULL);
    if (channel->options.stage)
        channel->stream = channel->options.stage(channel->options.stage_data, channel->net.loop,
                                                 channel->stream, channel->host);
    channel->stream->on_ready = on_ready;
    channel->stream->owner = channel;
    channel->state = OPEN;
    channel->opened_ms = channel->heard_ms = loop_now_ms(channel->net.loop);
    rmq_inbox_init(&channel->inbox, RMQ_FRAME_SIZE_MAX);
    if (channel->options.events.on_open)
        channel->options.events.on_open(channel->options.events.data, channel);
    write_outputs(channel);
}

static void on_due(struct timer *timer)
{
    struct rmq_channel *channel = CONTAINER_OF(timer, struct rmq_channel, timer);
    if (channel->state == DRAINING) {
        lose(channel, ERR_CLOSED, "the server is about to stop");
        return;
    }
    ASSERT(channel->state == WAITING);
    channel->state = IDLE;
    connect_if_needed(channel);
}

static void connect_if_needed(struct rmq_channel *channel)
{
    const uint64_t now_ms = loop_now_ms(channel->net.loop);
    if (channel->state != IDLE || list_empty(&channel->waiting))
        return;
    if (now_ms < channel->retry_at_ms) {
        channel->state = WAITING;
        timer_start(loop_timers(channel->net.loop), &channel->timer, channel->retry_at_ms - now_ms);
        return;
    }
    channel->state = CONNECTING;
    channel->dial = rmq_dial_start(&channel->net, channel->address,
                                   channel->options.connect_timeout_ms, on_dialled, channel);
}

/* --- life ---------------------------------------------------------------------------------------
 */

struct rmq_channel *rmq_channel_new(const struct rmq_net *net,
                                    const struct rmq_channel_options *options)
{
    struct rmq_channel *channel = mem_new(sizeof *channel);
    char port[6] = "";
    ASSERT(options->retry_min_ms > 0 && options->retry_min_ms <= options->retry_max_ms);
    channel->net = *net;
    channel->options = *options;
    memcpy(channel->address, options->address,
           MIN(strlen(options->address), sizeof channel->address - 1));
    if (rmq_dial_parse(channel->address, channel->host, port) < 0)
        channel->host[0] = '\0'; /* connecting will say so */
    list_init(&channel->outputs);
    list_init(&channel->waiting);
    hashmap_init(&channel->by_opaque);
    list_init(&channel->flush.node);
    channel->flush.run = on_flush;
    channel->timer.on_due = on_due;
    return channel;
}

struct rmq_channel *rmq_channel_free(struct rmq_channel *channel)
{
    if (!channel)
        return NULL;
    hang_up(channel);
    drop_outputs(channel);
    list_each_safe (it, &channel->waiting)
        detach(CONTAINER_OF(it, struct rmq_pending, node));
    ASSERT(list_empty(&channel->outputs));
    deferred_cancel(&channel->flush);
    hashmap_done(&channel->by_opaque);
    mem_free(channel);
    return NULL;
}

const char *rmq_channel_address(const struct rmq_channel *channel)
{
    return channel->address;
}

bool rmq_channel_is_open(const struct rmq_channel *channel)
{
    return channel->state == OPEN;
}

bool rmq_channel_is_failing(const struct rmq_channel *channel)
{
    return channel->failures > 0 && channel->state != OPEN;
}
