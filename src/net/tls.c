/* GnuTLS over the stage below.
 *
 * Reading takes what the socket has in one go and lets GnuTLS have it record by record, so that a
 * record does not cost two system calls. What is left when the user's room is used up is kept
 * (`ahead`), which happens only to users with less room than a record has.
 *
 * Writing gathers small pieces into records of full size. A record that the socket did not take
 * whole stays with GnuTLS, and its bytes count as not taken yet: they are offered again, and count
 * when the record is out.
 *
 * A handshake is the one thing here that takes long, some tenths of a millisecond at least. When
 * many clients come at once, those that find the turn of the loop already long wait for the next
 * ones, so that the links that are there are served in between.
 *
 * Each stage has a state of GnuTLS's own that the budget of memory would not see, so it is counted
 * by what it was measured to take.
 */
#include "net/tls.h"

#include "base/mem.h"
#include "net/peer.h"
#include "net/tls_peer.h"

#include <errno.h>
#include <string.h>
#include <time.h>

enum {
    READ_MAX = 64 * 1024,
    RECORD_MAX = 16 * 1024,
    DRAIN_MAX = 256 * 1024, /* read away from a client that was refused */
    SESSION_SIZE = 12 * 1024,
    TURN_MS = 5,     /* a handshake is not gone on with so late in a turn of the loop, */
    TURNS_MAX = 200, /* unless it has waited for so many turns */
};

enum tls_state { TLS_HANDSHAKE, TLS_OPEN, TLS_REFUSED, TLS_ENDED };

struct tls {
    struct stream stream;
    struct stream *below;
    struct loop *loop;
    struct tls_credentials *credentials;
    gnutls_session_t session;
    const struct peer *peer; /* from the handshake on */
    struct tls_reports reports;
    struct deferred report;
    const uint8_t *raw; /* lent to GnuTLS while it reads */
    size_t raw_size;
    uint8_t *ahead; /* owned; what it has not taken yet, NULL when nothing */
    uint32_t ahead_begin, ahead_end;
    uint32_t drained;       /* bytes, with REFUSED */
    int below_error;        /* what the stage below failed with, 0 while it did not */
    int end;                /* what reading says, with ENDED */
    unsigned wanted;        /* by the user */
    unsigned verify_status; /* why a certificate was refused: gnutls_certificate_status_t */
    uint8_t state;          /* enum tls_state */
    uint8_t turns_waited;
    bool below_ended;
    bool heard;        /* anything has come */
    bool stuck;        /* GnuTLS has a record that is not out */
    bool shutdown_due; /* close_notify is not out */
};

/* --- between GnuTLS and the stage below ---------------------------------------------------------
 */

static int told(struct tls *tls, ssize_t n)
{
    if (n != (ssize_t)ERR_AGAIN)
        tls->below_error = (int)n;
    gnutls_transport_set_errno(tls->session, n == (ssize_t)ERR_AGAIN ? EAGAIN : EIO);
    return -1;
}

/* During the handshake nothing is read ahead: there are few records then. */
static ssize_t pull(gnutls_transport_ptr_t data, void *bytes, size_t size)
{
    struct tls *tls = data;
    if (tls->raw_size > 0) {
        const size_t part = MIN(size, tls->raw_size);
        memcpy(bytes, tls->raw, part);
        tls->raw += part;
        tls->raw_size -= part;
        return (ssize_t)part;
    }
    if (tls->below_ended)
        return 0;
    if (tls->state != TLS_HANDSHAKE)
        return told(tls, ERR_AGAIN);
    const ssize_t n = stream_read(tls->below, bytes, size);
    if (n < 0)
        return told(tls, n);
    tls->heard = true;
    tls->below_ended = n == 0;
    return n;
}

static ssize_t push(gnutls_transport_ptr_t data, const giovec_t *iov, int iov_count)
{
    struct tls *tls = data;
    const ssize_t n = stream_writev(tls->below, (const struct iovec *)iov, iov_count);
    return n < 0 ? told(tls, n) : n;
}

/* --- interest and readiness ---------------------------------------------------------------- */

static void end(struct tls *tls, int result)
{
    tls->state = TLS_ENDED;
    tls->end = result;
    mem_free(tls->ahead);
    tls->ahead = NULL;
}

/* Bytes that are here although the stage below has nothing to report. */
static bool holds_bytes(const struct tls *tls)
{
    return tls->state == TLS_OPEN && (tls->ahead || gnutls_record_check_pending(tls->session) > 0);
}

static unsigned wanted_below(const struct tls *tls)
{
    switch ((enum tls_state)tls->state) {
    case TLS_HANDSHAKE:
        return gnutls_record_get_direction(tls->session) ? IO_WRITE : IO_READ;
    case TLS_OPEN:
        return (tls->wanted & IO_READ) |
               ((tls->wanted & IO_WRITE) || tls->shutdown_due ? IO_WRITE : 0);
    case TLS_REFUSED:
        return IO_READ;
    case TLS_ENDED:
        break;
    }
    return 0;
}

static int update_interest(struct tls *tls)
{
    const int err = stream_want(tls->below, wanted_below(tls));
    if (err < 0)
        end(tls, err);
    if ((tls->wanted & IO_READ) && (tls->state == TLS_ENDED || holds_bytes(tls)))
        loop_defer(tls->loop, &tls->report);
    return err;
}

static void on_report(struct deferred *report)
{
    struct tls *tls = CONTAINER_OF(report, struct tls, report);
    if ((tls->wanted & IO_READ) && (tls->state == TLS_ENDED || holds_bytes(tls)))
        tls->stream.on_ready(&tls->stream, IO_READ);
}

/* --- refusing ------------------------------------------------------------------------------- */

static gnutls_alert_description_t alert_for(unsigned status)
{
    if (status & GNUTLS_CERT_REVOKED)
        return GNUTLS_A_CERTIFICATE_REVOKED;
    if (status & GNUTLS_CERT_EXPIRED)
        return GNUTLS_A_CERTIFICATE_EXPIRED;
    if (status & (GNUTLS_CERT_SIGNER_NOT_FOUND | GNUTLS_CERT_SIGNER_NOT_CA))
        return GNUTLS_A_UNKNOWN_CA;
    if (status & GNUTLS_CERT_REVOCATION_DATA_SUPERSEDED)
        return GNUTLS_A_CERTIFICATE_UNKNOWN;
    return GNUTLS_A_BAD_CERTIFICATE;
}

static void send_alert(struct tls *tls, int code)
{
    if (tls->verify_status != 0)
        (void)gnutls_alert_send(tls->session, GNUTLS_AL_FATAL, alert_for(tls->verify_status));
    else
        (void)gnutls_alert_send_appropriate(tls->session, code);
}

static const char *reason_for(unsigned status)
{
    static const struct {
        unsigned bit;
        const char *text;
    } reasons[] = {
        {GNUTLS_CERT_REVOKED, "its certificate is revoked"},
        {GNUTLS_CERT_EXPIRED, "its certificate has expired"},
        {GNUTLS_CERT_NOT_ACTIVATED, "its certificate is not valid yet"},
        {GNUTLS_CERT_SIGNER_NOT_FOUND, "its certificate is from no CA that the listener trusts"},
        {GNUTLS_CERT_SIGNER_NOT_CA, "its certificate is signed by one that is not a CA"},
        {GNUTLS_CERT_PURPOSE_MISMATCH, "its certificate is not for clients"},
        {GNUTLS_CERT_REVOCATION_DATA_SUPERSEDED, "the revocation list of its CA is out of date"},
        {GNUTLS_CERT_INSECURE_ALGORITHM, "its certificate uses an insecure algorithm"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(reasons); i++) {
        if (status & reasons[i].bit)
            return reasons[i].text;
    }
    return "its certificate cannot be verified";
}

static const char *explain(const struct tls *tls, int code)
{
    if (tls->verify_status != 0)
        return reason_for(tls->verify_status);
    if (tls->below_error != 0)
        return err_text(tls->below_error);
    if (code == GNUTLS_E_CERTIFICATE_REQUIRED)
        return "it showed no certificate";
    if (code == GNUTLS_E_PREMATURE_TERMINATION)
        return "it closed the connection during the handshake";
    if (code == GNUTLS_E_UNEXPECTED_PACKET || code == GNUTLS_E_UNEXPECTED_PACKET_LENGTH ||
        code == GNUTLS_E_UNSUPPORTED_VERSION_PACKET)
        return "it does not speak TLS, or only a version that is not allowed";
    return gnutls_strerror(code);
}

/* A connection that only looks whether somebody listens is nothing to write home about. */
static void note_refusal(const struct tls *tls, int code)
{
    const struct peer *peer = stream_peer(tls->below);
    const bool ended_by_alert = code == GNUTLS_E_FATAL_ALERT_RECEIVED;
    const char *alert =
        ended_by_alert ? gnutls_alert_get_name(gnutls_alert_get(tls->session)) : NULL;
    const enum log_level level = tls->heard && !(tls->below_ended && tls->below_error == 0 &&
                                                 code == GNUTLS_E_PREMATURE_TERMINATION)
                                     ? LOG_INFO
                                     : LOG_DEBUG;
    if (tls->reports.metrics)
        metric_add(&tls->reports.metrics->tls_handshakes_failed, 1);
    log_write(tls->reports.log, level, "tls", "closed the connection from %s: %s%s",
              peer ? peer->text : "?",
              ended_by_alert ? "it refused the server's offer with the alert: " : "",
              ended_by_alert ? (alert ? alert : "unknown") : explain(tls, code));
}

static void refuse(struct tls *tls, int code)
{
    note_refusal(tls, code);
    if (tls->below_ended || tls->below_error != 0) {
        end(tls, tls->below_error);
        return;
    }
    send_alert(tls, code);
    stream_shutdown(tls->below);
    tls->state = TLS_REFUSED;
}

/* Until the client has closed, too. */
static void drain(struct tls *tls)
{
    uint8_t bytes[4096];
    const ssize_t n = stream_read(tls->below, bytes, sizeof bytes);
    if (n == (ssize_t)ERR_AGAIN)
        return;
    tls->drained += n > 0 ? (uint32_t)n : 0;
    if (n <= 0 || tls->drained > DRAIN_MAX)
        end(tls, n < 0 ? (int)n : 0);
}

/* --- the handshake -------------------------------------------------------------------------- */

/* Called by GnuTLS in a handshake in which the client shows a certificate. */
static int on_certificate(gnutls_session_t session)
{
    struct tls *tls = gnutls_session_get_ptr(session);
    return tls_credentials_verify(tls->credentials, session, &tls->verify_status);
}

static void finish_handshake(struct tls *tls)
{
    struct metrics *metrics = tls->reports.metrics;
    const bool resumed = gnutls_session_is_resumed(tls->session) != 0;
    const struct peer *below = stream_peer(tls->below);
    struct peer *peer = NULL;
    int code = resumed ? on_certificate(tls->session) : 0;
    if (code == 0 && below && tls_peer_new(tls->session, below, &peer) < 0)
        code = GNUTLS_E_CERTIFICATE_ERROR;
    if (code < 0) {
        refuse(tls, code);
        return;
    }
    tls->peer = peer;
    tls->state = TLS_OPEN;
    if (metrics) {
        metric_add(&metrics->tls_handshakes, 1);
        metric_add(&metrics->tls_handshakes_resumed, resumed);
    }
}

/* Whether others should have their turn first. What is put off is reported again by the stage
 * below. */
static bool is_late(struct tls *tls)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    const uint64_t now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    if (now_ms - loop_now_ms(tls->loop) < TURN_MS || tls->turns_waited == TURNS_MAX) {
        tls->turns_waited = 0;
        return false;
    }
    tls->turns_waited++;
    return true;
}

static void shake_hands(struct tls *tls)
{
    int code;
    if (is_late(tls))
        return;
    do {
        code = gnutls_handshake(tls->session);
    } while (code == GNUTLS_E_INTERRUPTED || code == GNUTLS_E_WARNING_ALERT_RECEIVED);
    if (code == 0)
        finish_handshake(tls);
    else if (gnutls_error_is_fatal(code))
        refuse(tls, code);
}

/* --- reading -------------------------------------------------------------------------------- */

static void fail_record(struct tls *tls, int code)
{
    const struct peer *peer = stream_peer(&tls->stream);
    const bool again = code == GNUTLS_E_REHANDSHAKE;
    log_write(tls->reports.log, LOG_INFO, "tls", "closed the connection from %s: %s",
              peer ? peer->text : "?",
              again ? "it asked for a renegotiation" : gnutls_strerror(code));
    if (again)
        (void)gnutls_alert_send(tls->session, GNUTLS_AL_FATAL, GNUTLS_A_NO_RENEGOTIATION);
    else
        (void)gnutls_alert_send_appropriate(tls->session, code);
    end(tls, ERR_PROTOCOL);
}

/* Lets GnuTLS decrypt until there is no more, or no more room. An end without close_notify is one,
 * too: MQTT knows where its packets end. */
static size_t decrypt(struct tls *tls, uint8_t *bytes, size_t size)
{
    size_t total = 0;
    while (total < size) {
        const ssize_t n = gnutls_record_recv(tls->session, bytes + total, size - total);
        if (n > 0) {
            total += (size_t)n;
            continue;
        }
        if (n == GNUTLS_E_WARNING_ALERT_RECEIVED || n == GNUTLS_E_INTERRUPTED)
            continue;
        if (n == 0 || n == GNUTLS_E_PREMATURE_TERMINATION)
            end(tls, tls->below_error);
        else if (n == GNUTLS_E_FATAL_ALERT_RECEIVED)
            end(tls, -ECONNRESET);
        else if (n != GNUTLS_E_AGAIN)
            fail_record(tls, (int)n);
        break;
    }
    return total;
}

/* Sets aside what GnuTLS has not taken: from `scratch`, or the rest of what was set aside before.
 */
static int keep_rest(struct tls *tls)
{
    const size_t size = tls->raw_size;
    if (tls->ahead && size > 0) {
        tls->ahead_begin = tls->ahead_end - (uint32_t)size;
    } else if (tls->ahead) {
        mem_free(tls->ahead);
        tls->ahead = NULL;
    } else if (size > 0) {
        tls->ahead = (uint8_t *)mem_try_copy(tls->raw, size);
        if (!tls->ahead)
            return ERR_NOMEM;
        tls->ahead_begin = 0;
        tls->ahead_end = (uint32_t)size;
    }
    tls->raw = NULL;
    tls->raw_size = 0;
    return 0;
}

static void read_below(struct tls *tls, uint8_t *scratch, size_t size)
{
    const ssize_t n = stream_read(tls->below, scratch, size);
    if (n > 0) {
        tls->raw = scratch;
        tls->raw_size = (size_t)n;
    } else if (n == 0) {
        tls->below_ended = true;
    } else if (n != (ssize_t)ERR_AGAIN) {
        tls->below_error = (int)n;
        tls->below_ended = true;
    }
}

static ssize_t tls_read(struct stream *stream, void *bytes, size_t size)
{
    struct tls *tls = CONTAINER_OF(stream, struct tls, stream);
    uint8_t scratch[READ_MAX];
    if (tls->state == TLS_ENDED)
        return tls->end;
    if (tls->state != TLS_OPEN)
        return ERR_AGAIN;
    if (tls->ahead) {
        tls->raw = tls->ahead + tls->ahead_begin;
        tls->raw_size = tls->ahead_end - tls->ahead_begin;
    } else if (gnutls_record_check_pending(tls->session) == 0) {
        read_below(tls, scratch, MIN(size, sizeof scratch));
    }
    const size_t total = decrypt(tls, bytes, size);
    if (tls->state == TLS_OPEN && keep_rest(tls) < 0)
        end(tls, ERR_NOMEM);
    tls->raw_size = 0;
    if (total > 0)
        return (ssize_t)total;
    return tls->state == TLS_ENDED ? tls->end : (ssize_t)ERR_AGAIN;
}

/* --- writing -------------------------------------------------------------------------------- */

/* Goes along pieces to be written. */
struct walk {
    const struct iovec *iov;
    int count;
    size_t offset; /* in the first */
};

static void pass(struct walk *walk, size_t size)
{
    while (walk->count > 0 && walk->offset + size >= walk->iov->iov_len) {
        size -= walk->iov->iov_len - walk->offset;
        walk->offset = 0;
        walk->iov++;
        walk->count--;
    }
    ASSERT(walk->count > 0 || size == 0);
    walk->offset += size;
}

/* What goes into one record: as it lies when it is enough, else gathered into `room`. */
static struct slice gather(struct walk walk, uint8_t room[RECORD_MAX])
{
    const uint8_t *first = (const uint8_t *)walk.iov->iov_base + walk.offset;
    const size_t first_size = walk.iov->iov_len - walk.offset;
    if (walk.count == 1 || first_size >= RECORD_MAX)
        return slice_of(first, MIN(first_size, (size_t)RECORD_MAX));
    size_t size = 0;
    while (walk.count > 0 && size < RECORD_MAX) {
        const size_t part = MIN(walk.iov->iov_len - walk.offset, RECORD_MAX - size);
        memcpy(room + size, (const uint8_t *)walk.iov->iov_base + walk.offset, part);
        size += part;
        pass(&walk, part);
    }
    return slice_of(room, size);
}

static ssize_t send_failed(struct tls *tls)
{
    end(tls, tls->below_error != 0 ? tls->below_error : -EPIPE);
    return tls->end;
}

static ssize_t tls_writev(struct stream *stream, const struct iovec *iov, int iov_count)
{
    struct tls *tls = CONTAINER_OF(stream, struct tls, stream);
    uint8_t room[RECORD_MAX];
    struct walk walk = {iov, iov_count, 0};
    size_t taken = 0;
    if (tls->state == TLS_ENDED)
        return tls->end < 0 ? tls->end : -EPIPE;
    if (tls->state != TLS_OPEN)
        return ERR_AGAIN;
    pass(&walk, 0);
    while (walk.count > 0) {
        const struct slice part = tls->stuck ? slice_of(NULL, 0) : gather(walk, room);
        const ssize_t n = gnutls_record_send(tls->session, part.bytes, part.size);
        if (n == GNUTLS_E_INTERRUPTED)
            continue;
        tls->stuck = n == GNUTLS_E_AGAIN;
        if (tls->stuck)
            break;
        if (n < 0)
            return send_failed(tls);
        taken += (size_t)n;
        pass(&walk, (size_t)n);
    }
    return taken > 0 ? (ssize_t)taken : (ssize_t)ERR_AGAIN;
}

/* --- the other operations -------------------------------------------------------------------- */

static void on_ready(struct stream *below, unsigned events)
{
    struct tls *tls = below->owner;
    const bool was_open = tls->state == TLS_OPEN;
    if (tls->state == TLS_HANDSHAKE)
        shake_hands(tls);
    else if (tls->state == TLS_REFUSED)
        drain(tls);
    else if (tls->shutdown_due && (events & IO_WRITE))
        stream_shutdown(&tls->stream);
    if (!was_open || tls->state != TLS_OPEN) {
        (void)update_interest(tls);
        return;
    }
    const unsigned passed = events & (tls->wanted | IO_HANGUP);
    if (passed)
        tls->stream.on_ready(&tls->stream, passed);
}

static int tls_want(struct stream *stream, unsigned events)
{
    struct tls *tls = CONTAINER_OF(stream, struct tls, stream);
    tls->wanted = events;
    return update_interest(tls);
}

static void tls_shutdown(struct stream *stream)
{
    struct tls *tls = CONTAINER_OF(stream, struct tls, stream);
    const bool was_due = tls->shutdown_due;
    tls->shutdown_due =
        tls->state == TLS_OPEN && gnutls_bye(tls->session, GNUTLS_SHUT_WR) == GNUTLS_E_AGAIN;
    if (!tls->shutdown_due)
        stream_shutdown(tls->below);
    if (tls->shutdown_due != was_due)
        (void)update_interest(tls);
}

static void tls_close(struct stream *stream)
{
    struct tls *tls = CONTAINER_OF(stream, struct tls, stream);
    deferred_cancel(&tls->report);
    if (tls->session)
        gnutls_deinit(tls->session);
    mem_note(-SESSION_SIZE);
    (void)stream_close(tls->below);
    (void)tls_credentials_unref(tls->credentials);
    (void)peer_unref(tls->peer);
    mem_free(tls->ahead);
    mem_free(tls);
}

static uint64_t tls_unsent(const struct stream *stream)
{
    return stream_unsent(CONTAINER_OF(stream, struct tls, stream)->below);
}

static const struct peer *tls_peer(const struct stream *stream)
{
    const struct tls *tls = CONTAINER_OF(stream, struct tls, stream);
    return tls->peer ? tls->peer : stream_peer(tls->below);
}

static const struct stream_ops tls_ops = {
    .name = "tls",
    .read = tls_read,
    .writev = tls_writev,
    .want = tls_want,
    .shutdown = tls_shutdown,
    .close = tls_close,
    .unsent = tls_unsent,
    .peer = tls_peer,
};

static int open_session(struct tls *tls, const struct tls_source *source, const char *alpn)
{
    int code = gnutls_init(&tls->session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
    if (code >= 0)
        code = gnutls_priority_set(tls->session, tls_credentials_priority(tls->credentials));
    if (code >= 0)
        code = tls_credentials_apply(tls->credentials, tls->session);
    if (code >= 0)
        code = gnutls_session_ticket_enable_server(tls->session, tls_source_ticket_key(source));
    if (code >= 0 && alpn) {
        const gnutls_datum_t name = {(unsigned char *)alpn, (unsigned)strlen(alpn)};
        code = gnutls_alpn_set_protocols(tls->session, &name, 1, 0);
    }
    if (code < 0)
        return ERR_NOMEM;
    gnutls_session_set_ptr(tls->session, tls);
    gnutls_session_set_verify_function(tls->session, on_certificate);
    gnutls_transport_set_ptr(tls->session, tls);
    gnutls_transport_set_pull_function(tls->session, pull);
    gnutls_transport_set_vec_push_function(tls->session, push);
    return 0;
}

struct stream *tls_new(struct loop *loop, struct stream *below, struct tls_source *source,
                       const char *alpn, const struct tls_reports *reports)
{
    struct tls *tls = mem_new(sizeof *tls);
    mem_note(SESSION_SIZE);
    tls->stream.ops = &tls_ops;
    tls->loop = loop;
    tls->below = below;
    tls->reports = *reports;
    tls->credentials = tls_source_get(source);
    list_init(&tls->report.node);
    tls->report.run = on_report;
    below->on_ready = on_ready;
    below->owner = tls;
    const int err = open_session(tls, source, alpn);
    if (err < 0)
        end(tls, err);
    return &tls->stream;
}
