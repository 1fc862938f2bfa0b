/* Stream: a byte stream as a stack of stages.
 *
 * A stage reads from and writes to the stage below it; the lowest one owns a descriptor. What uses
 * the top (a conn) knows neither how many stages there are nor what they do, so that TLS, WebSocket
 * and QUIC are stages of their own later.
 *
 * Readiness travels upwards through on_ready, interest downwards through stream_want. Readiness is
 * level-triggered: it is reported again in the next iteration while it lasts. A stage that holds
 * decoded bytes reports IO_READ although its descriptor is silent.
 *
 * Thread: owner loop.
 */
#pragma once

#include "io/loop.h"

#include <sys/types.h>
#include <sys/uio.h>

struct peer;
struct stream;

typedef void stream_ready_fn(struct stream *stream, unsigned events);

struct stream_ops {
    const char *name;
    /* Reads at most `size` bytes. Returns how many; 0 at the end; ERR_AGAIN; ERR_PROTOCOL: the
     * other end broke the rules of the stage; or -errno. */
    ssize_t (*read)(struct stream *stream, void *bytes, size_t size);
    /* Writes from `iov`, which stays as it is. Returns how many bytes were taken, ERR_AGAIN,
     * -errno. What was not taken must be offered again before anything else. */
    ssize_t (*writev)(struct stream *stream, const struct iovec *iov, int iov_count);
    /* Asks for IO_READ and IO_WRITE readiness. Returns 0 or -errno. */
    int (*want)(struct stream *stream, unsigned events);
    /* Tells the peer that nothing more follows; reading goes on. */
    void (*shutdown)(struct stream *stream);
    /* Closes and frees this stage and those below. */
    void (*close)(struct stream *stream);
    /* Bytes taken that the kernel has not taken yet. NULL: there never are any. */
    uint64_t (*unsent)(const struct stream *stream);
    /* What is known of the other end; borrowed as long as the stage is open. NULL: nothing is. */
    const struct peer *(*peer)(const struct stream *stream);
    /* What the other end did wrong, when reading gave ERR_PROTOCOL: constant text. NULL: nothing is
     * known. */
    const char *(*fault)(const struct stream *stream);
    /* true: the other end answers a shutdown, so that should come before close, and what follows be
     * read to its end. NULL: false. */
    bool (*lingers)(const struct stream *stream);
    /* MQTT ends the connection, for this reason code: for transports that tell the client. NULL:
     * this one does not. */
    void (*explain)(struct stream *stream, uint8_t reason);
};

struct stream {
    const struct stream_ops *ops;
    stream_ready_fn *on_ready; /* set by the stage or user above before it asks for events */
    void *owner;               /* that stage or user */
};

MUST_CHECK static inline ssize_t stream_read(struct stream *stream, void *bytes, size_t size)
{
    return stream->ops->read(stream, bytes, size);
}

MUST_CHECK static inline ssize_t stream_writev(struct stream *stream, const struct iovec *iov,
                                               int iov_count)
{
    return stream->ops->writev(stream, iov, iov_count);
}

MUST_CHECK static inline int stream_want(struct stream *stream, unsigned events)
{
    return stream->ops->want(stream, events);
}

static inline void stream_shutdown(struct stream *stream)
{
    stream->ops->shutdown(stream);
}

static inline uint64_t stream_unsent(const struct stream *stream)
{
    return stream->ops->unsent ? stream->ops->unsent(stream) : 0;
}

static inline void stream_explain(struct stream *stream, uint8_t reason)
{
    if (stream->ops->explain)
        stream->ops->explain(stream, reason);
}

/* What the transport knows of the other end (net/peer.h), borrowed as long as the stream is open.
 * It is whole and stays as it is from the first byte read on; before that it may say less, or be
 * NULL. NULL for ever: nothing is known. */
static inline const struct peer *stream_peer(const struct stream *stream)
{
    return stream->ops->peer ? stream->ops->peer(stream) : NULL;
}

static inline const char *stream_fault(const struct stream *stream)
{
    return stream->ops->fault ? stream->ops->fault(stream) : NULL;
}

static inline bool stream_lingers(const struct stream *stream)
{
    return stream->ops->lingers && stream->ops->lingers(stream);
}

/* NULL is fine; returns NULL. No on_ready follows, not even for events already fetched. */
static inline struct stream *stream_close(struct stream *stream)
{
    if (stream != NULL)
        stream->ops->close(stream);
    return NULL;
}
