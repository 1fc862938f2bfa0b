/* The header may come in pieces, and more than it in one: what follows it is kept until it is read,
 * then the stage only passes on. */
#include "net/proxy_header.h"

#include "base/mem.h"
#include "net/peer.h"
#include "wire/proxy_protocol.h"

#include <string.h>

enum { ROOM = PROXY_PROTOCOL_SIZE_MAX + 256, SNI_MAX = 255 };

struct proxy_stage {
    struct stream stream;
    struct stream *below;
    struct loop *loop;
    const struct peer *peer; /* of the header; NULL without one */
    struct log *log;
    struct metrics *metrics;
    struct deferred report;
    uint8_t *bytes; /* the header so far, then what came behind it; NULL when that is used up */
    uint32_t begin, end;
    unsigned wanted;
    int failure; /* what reading says instead, 0 = none */
    enum proxy_header mode;
    bool done;   /* the header has been taken */
    bool closed; /* the end came with the bytes that are kept */
};

static bool has_news(const struct proxy_stage *stage)
{
    return stage->failure < 0 || stage->closed || (stage->done && stage->bytes);
}

static void on_report(struct deferred *report)
{
    struct proxy_stage *stage = CONTAINER_OF(report, struct proxy_stage, report);
    if ((stage->wanted & IO_READ) && has_news(stage))
        stage->stream.on_ready(&stage->stream, IO_READ);
}

static int update_interest(struct proxy_stage *stage)
{
    unsigned events = stage->wanted;
    if (!stage->done)
        events |= IO_READ;
    if (has_news(stage) && (stage->wanted & IO_READ))
        loop_defer(stage->loop, &stage->report);
    if (stage->failure < 0 || stage->closed)
        events &= ~IO_READ;
    return stream_want(stage->below, events);
}

static void clear_bytes(struct proxy_stage *stage)
{
    mem_free(stage->bytes);
    stage->bytes = NULL;
    stage->begin = stage->end = 0;
}

static void fail(struct proxy_stage *stage, int err, const char *why)
{
    const struct peer *peer = stream_peer(stage->below);
    if (stage->metrics)
        metric_add(&stage->metrics->proxy_headers_refused, 1);
    log_write(stage->log, LOG_INFO, "proxy_protocol", "closed the connection from %s: %s",
              peer ? peer->text : "?", why);
    clear_bytes(stage);
    stage->failure = err;
}

/* A new peer of what the header says; NULL when it says nothing. */
static struct peer *peer_of(const struct proxy_protocol *header)
{
    union peer_address address = {.any.sa_family = AF_UNIX};
    switch (header->source) {
    case PROXY_SOURCE_NONE:
        return NULL;
    case PROXY_SOURCE_UNIX:
        break;
    case PROXY_SOURCE_IPV4:
        address.in.sin_family = AF_INET;
        address.in.sin_port = htons(header->port);
        memcpy(&address.in.sin_addr, header->address, sizeof address.in.sin_addr);
        break;
    case PROXY_SOURCE_IPV6:
        address.in6.sin6_family = AF_INET6;
        address.in6.sin6_port = htons(header->port);
        memcpy(&address.in6.sin6_addr, header->address, sizeof address.in6.sin6_addr);
        break;
    }
    struct peer *peer = peer_new(&address.any);
    const struct slice name = header->authority;
    if (name.size > 0 && name.size <= SNI_MAX && !memchr(name.bytes, '\0', name.size))
        peer->sni = mem_try_copy(name.bytes, name.size);
    return peer;
}

/* Looks at what has come so far. */
static void judge(struct proxy_stage *stage)
{
    struct proxy_protocol header = {0};
    const int err = proxy_protocol_parse(stage->bytes, stage->end, &header);
    if (err == ERR_AGAIN && !stage->closed)
        return;
    if (err == ERR_NOTFOUND && stage->mode == PROXY_HEADER_OPTIONAL) {
        stage->done = true;
    } else if (err == ERR_NOTFOUND) {
        fail(stage, ERR_PROTOCOL, "it did not begin with a header of the PROXY protocol");
    } else if (err == ERR_AGAIN) { /* and nothing more comes */
        fail(stage, ERR_PROTOCOL, "it ended within the header of the PROXY protocol");
    } else if (err < 0) {
        fail(stage, ERR_MALFORMED, "its header of the PROXY protocol is malformed");
    } else {
        stage->done = true;
        stage->peer = peer_of(&header);
        stage->begin = header.size;
    }
    if (stage->done && stage->begin == stage->end)
        clear_bytes(stage);
}

static void take_header(struct proxy_stage *stage)
{
    const ssize_t n =
        stream_read(stage->below, stage->bytes + stage->end, (size_t)(ROOM - stage->end));
    if (n == (ssize_t)ERR_AGAIN)
        return;
    if (n < 0) {
        stage->failure = (int)n;
        return;
    }
    stage->end += (uint32_t)n;
    stage->closed = n == 0;
    if (n == 0 && stage->end == 0)
        clear_bytes(stage); /* somebody has looked whether the port is open */
    else
        judge(stage);
}

static void on_ready(struct stream *below, unsigned events)
{
    struct proxy_stage *stage = below->owner;
    if (!stage->done && stage->failure == 0 && !stage->closed) {
        take_header(stage);
        (void)update_interest(stage);
        return;
    }
    const unsigned passed = events & (stage->wanted | IO_HANGUP);
    if (passed)
        stage->stream.on_ready(&stage->stream, passed);
}

/* --- the stage's operations ------------------------------------------------------------------ */

static ssize_t proxy_header_read(struct stream *stream, void *bytes, size_t size)
{
    struct proxy_stage *stage = CONTAINER_OF(stream, struct proxy_stage, stream);
    if (stage->failure < 0)
        return stage->failure;
    if (!stage->done)
        return stage->closed ? 0 : (ssize_t)ERR_AGAIN;
    if (!stage->bytes)
        return stage->closed ? 0 : stream_read(stage->below, bytes, size);
    const uint32_t part = (uint32_t)MIN(size, (size_t)(stage->end - stage->begin));
    memcpy(bytes, stage->bytes + stage->begin, part);
    stage->begin += part;
    if (stage->begin == stage->end)
        clear_bytes(stage);
    return part;
}

static ssize_t proxy_header_writev(struct stream *stream, const struct iovec *iov, int iov_count)
{
    return stream_writev(CONTAINER_OF(stream, struct proxy_stage, stream)->below, iov, iov_count);
}

static int proxy_header_want(struct stream *stream, unsigned events)
{
    struct proxy_stage *stage = CONTAINER_OF(stream, struct proxy_stage, stream);
    stage->wanted = events;
    return update_interest(stage);
}

static void proxy_header_shutdown(struct stream *stream)
{
    stream_shutdown(CONTAINER_OF(stream, struct proxy_stage, stream)->below);
}

static void proxy_header_close(struct stream *stream)
{
    struct proxy_stage *stage = CONTAINER_OF(stream, struct proxy_stage, stream);
    deferred_cancel(&stage->report);
    (void)stream_close(stage->below);
    (void)peer_unref(stage->peer);
    clear_bytes(stage);
    mem_free(stage);
}

static uint64_t proxy_header_unsent(const struct stream *stream)
{
    return stream_unsent(CONTAINER_OF(stream, struct proxy_stage, stream)->below);
}

static const struct peer *proxy_header_peer(const struct stream *stream)
{
    const struct proxy_stage *stage = CONTAINER_OF(stream, struct proxy_stage, stream);
    return stage->peer ? stage->peer : stream_peer(stage->below);
}

static const struct stream_ops proxy_header_ops = {
    .name = "proxy_protocol",
    .read = proxy_header_read,
    .writev = proxy_header_writev,
    .want = proxy_header_want,
    .shutdown = proxy_header_shutdown,
    .close = proxy_header_close,
    .unsent = proxy_header_unsent,
    .peer = proxy_header_peer,
};

struct stream *proxy_header_new(struct loop *loop, struct stream *below, enum proxy_header mode,
                                struct log *log, struct metrics *metrics)
{
    ASSERT(mode != PROXY_HEADER_NONE);
    struct proxy_stage *stage = mem_new(sizeof *stage);
    stage->stream.ops = &proxy_header_ops;
    stage->loop = loop;
    stage->below = below;
    stage->mode = mode;
    stage->log = log;
    stage->metrics = metrics;
    list_init(&stage->report.node);
    stage->report.run = on_report;
    below->on_ready = on_ready;
    below->owner = stage;
    stage->bytes = mem_try_alloc(ROOM);
    if (!stage->bytes)
        stage->failure = ERR_NOMEM;
    return &stage->stream;
}
