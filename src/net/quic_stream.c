/* The stage: the first bidirectional stream that a client opens.
 *
 * What arrives waits in `in` until the user reads it; only then is the client allowed to send as
 * much again, so that who reads slowly holds its client up and nobody else. What is written waits
 * in `out` until the client has acknowledged it.
 */
#include "net/quic_priv.h"

#include <errno.h>

enum {
    CONNECT = 0x10,   /* the first byte of MQTT's first packet */
    LENGTH_BYTES = 4, /* at most, of its Remaining Length */
};

static struct quic_conn *conn_of(const struct stream *stream)
{
    return CONTAINER_OF(stream, struct quic_conn, stream);
}

/* --- readiness ---------------------------------------------------------------------------------
 */

static unsigned ready_events(const struct quic_conn *conn)
{
    const bool readable = quic_fifo_size(&conn->in) > 0 || conn->input_ended;
    const bool writable = quic_fifo_size(&conn->out) < QUIC_OUT_MAX || conn->output_ended;
    return ((readable ? IO_READ : 0) | (writable ? IO_WRITE : 0)) & conn->wanted;
}

void quic_stream_report(struct quic_conn *conn)
{
    if (conn->held && ready_events(conn) != 0)
        loop_defer(conn->endpoint->quic->config.loop, &conn->report);
}

static void on_report(struct deferred *report)
{
    struct quic_conn *conn = CONTAINER_OF(report, struct quic_conn, report);
    const unsigned events = ready_events(conn);
    if (events != 0)
        conn->stream.on_ready(&conn->stream, events);
}

/* --- operations of the stage -------------------------------------------------------------------
 */

/* The client may send as much again. */
static void widen(struct quic_conn *conn, size_t size)
{
    if (!conn->ngtcp2)
        return;
    (void)ngtcp2_conn_extend_max_stream_offset(conn->ngtcp2, conn->stream_id, size);
    ngtcp2_conn_extend_max_offset(conn->ngtcp2, size);
    quic_conn_schedule(conn);
}

static ssize_t stage_read(struct stream *stream, void *bytes, size_t size)
{
    struct quic_conn *conn = conn_of(stream);
    const size_t got = quic_fifo_pop(&conn->in, bytes, size);
    if (got > 0) {
        widen(conn, got);
        return (ssize_t)got;
    }
    return conn->input_ended ? conn->end : (ssize_t)ERR_AGAIN;
}

static ssize_t stage_writev(struct stream *stream, const struct iovec *iov, int iov_count)
{
    struct quic_conn *conn = conn_of(stream);
    size_t taken = 0;
    if (!conn->ngtcp2 || conn->output_ended || conn->fin_due)
        return -EPIPE;
    for (int i = 0; i < iov_count; i++) {
        const uint64_t room = QUIC_OUT_MAX - MIN(quic_fifo_size(&conn->out), QUIC_OUT_MAX);
        const size_t part = (size_t)MIN(room, (uint64_t)iov[i].iov_len);
        if (quic_fifo_push(&conn->out, iov[i].iov_base, part) < 0)
            return taken > 0 ? (ssize_t)taken : (ssize_t)ERR_NOMEM;
        taken += part;
        if (part < iov[i].iov_len)
            break;
    }
    quic_conn_schedule(conn);
    return taken > 0 ? (ssize_t)taken : (ssize_t)ERR_AGAIN;
}

static int stage_want(struct stream *stream, unsigned events)
{
    struct quic_conn *conn = conn_of(stream);
    conn->wanted = events;
    quic_stream_report(conn);
    return 0;
}

static void stage_shutdown(struct stream *stream)
{
    struct quic_conn *conn = conn_of(stream);
    conn->fin_due = true;
    quic_conn_schedule(conn);
}

static void stage_explain(struct stream *stream, uint8_t reason)
{
    conn_of(stream)->fail_code = reason;
}

static void stage_close(struct stream *stream)
{
    quic_conn_let_go(conn_of(stream));
}

static uint64_t stage_unsent(const struct stream *stream)
{
    const struct quic_conn *conn = conn_of(stream);
    return conn->ngtcp2 ? conn->out.end - conn->sent : 0;
}

static const struct peer *stage_peer(const struct stream *stream)
{
    return conn_of(stream)->peer;
}

static const struct stream_ops quic_ops = {
    .name = "quic",
    .read = stage_read,
    .writev = stage_writev,
    .want = stage_want,
    .shutdown = stage_shutdown,
    .close = stage_close,
    .unsent = stage_unsent,
    .peer = stage_peer,
    .explain = stage_explain,
};

void quic_stream_init(struct quic_conn *conn)
{
    conn->stream.ops = &quic_ops;
    list_init(&conn->report.node);
    conn->report.run = on_report;
}

/* --- what came early ---------------------------------------------------------------------------
 */

/* Bytes of the packet at the front of `in`, as far as its length is there; else more than any. */
static uint64_t first_packet_size(const struct quic_fifo *in)
{
    struct iovec piece;
    uint64_t length = 0;
    if (quic_fifo_look(in, in->begin, &piece, 1) == 0)
        return 0;
    const uint8_t *bytes = piece.iov_base;
    if (bytes[0] != CONNECT)
        return 0;
    for (unsigned i = 0; i < LENGTH_BYTES && i + 1 < piece.iov_len; i++) {
        length |= (uint64_t)(bytes[i + 1] & 0x7f) << (7 * i);
        if ((bytes[i + 1] & 0x80) == 0)
            return 2 + i + length;
    }
    return UINT64_MAX;
}

bool quic_stream_is_timely(const struct quic_conn *conn)
{
    return conn->early <= first_packet_size(&conn->in);
}

/* --- callbacks of ngtcp2 -----------------------------------------------------------------------
 */

static int on_open(ngtcp2_conn *ngtcp2, int64_t id, void *data)
{
    struct quic_conn *conn = data;
    if (conn->stream_id < 0 && ngtcp2_is_bidi_stream(id)) {
        conn->stream_id = id;
        return 0;
    }
    const int code = ngtcp2_is_bidi_stream(id)
                         ? ngtcp2_conn_shutdown_stream(ngtcp2, id, QUIC_ERROR_STREAM)
                         : ngtcp2_conn_shutdown_stream_read(ngtcp2, id, QUIC_ERROR_STREAM);
    return code == 0 ? 0 : NGTCP2_ERR_CALLBACK_FAILURE;
}

/* NOLINTNEXTLINE(readability-function-size): ngtcp2 gives the parameters */
static int on_data(ngtcp2_conn *ngtcp2, uint32_t flags, int64_t id, uint64_t offset,
                   const uint8_t *bytes, size_t size, void *data, void *stream_data)
{
    (void)offset;
    (void)stream_data;
    struct quic_conn *conn = data;
    if (id != conn->stream_id || (!conn->held && conn->state >= QUIC_OPEN)) {
        ngtcp2_conn_extend_max_offset(ngtcp2, size); /* nobody reads it */
        return 0;
    }
    if (quic_fifo_push(&conn->in, bytes, size) < 0)
        return NGTCP2_ERR_CALLBACK_FAILURE;
    if (flags & NGTCP2_STREAM_DATA_FLAG_EARLY)
        conn->early += size;
    if (flags & NGTCP2_STREAM_DATA_FLAG_FIN)
        conn->input_ended = true;
    quic_stream_report(conn);
    return 0;
}

static int on_acked(ngtcp2_conn *ngtcp2, int64_t id, uint64_t offset, uint64_t size, void *data,
                    void *stream_data)
{
    (void)ngtcp2;
    (void)stream_data;
    struct quic_conn *conn = data;
    if (id == conn->stream_id) {
        quic_fifo_release(&conn->out, offset + size);
        quic_stream_report(conn);
    }
    return 0;
}

/* The client gives its side up, or will not hear ours: MQTT needs both. */
static void break_off(struct quic_conn *conn, int64_t id)
{
    if (id != conn->stream_id)
        return;
    conn->end = -ECONNRESET;
    conn->input_ended = true;
    conn->output_ended = true;
    quic_stream_report(conn);
}

static int on_reset(ngtcp2_conn *ngtcp2, int64_t id, uint64_t size, uint64_t code, void *data,
                    void *stream_data)
{
    (void)ngtcp2;
    (void)size;
    (void)code;
    (void)stream_data;
    break_off(data, id);
    return 0;
}

static int on_stop_sending(ngtcp2_conn *ngtcp2, int64_t id, uint64_t code, void *data,
                           void *stream_data)
{
    (void)ngtcp2;
    (void)code;
    (void)stream_data;
    break_off(data, id);
    return 0;
}

/* Streams of one direction are not among them: of those a client can open no more than the first
 * few. */
static int on_close(ngtcp2_conn *ngtcp2, uint32_t flags, int64_t id, uint64_t code, void *data,
                    void *stream_data)
{
    (void)flags;
    (void)code;
    (void)stream_data;
    struct quic_conn *conn = data;
    if (id == conn->stream_id)
        conn->output_ended = true;
    else
        ngtcp2_conn_extend_max_streams_bidi(ngtcp2, 1);
    return 0;
}

void quic_stream_callbacks(ngtcp2_callbacks *callbacks)
{
    callbacks->stream_open = on_open;
    callbacks->recv_stream_data = on_data;
    callbacks->acked_stream_data_offset = on_acked;
    callbacks->stream_reset = on_reset;
    callbacks->stream_stop_sending = on_stop_sending;
    callbacks->stream_close = on_close;
}
