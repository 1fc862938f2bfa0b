/* GnuTLS as a client over the stage below.
 *
 * What the stage below has is read in one go, once for each read of the user's, and GnuTLS takes it
 * from there record by record. Writing gathers small pieces into records of full size; a record
 * that did not go out whole stays with GnuTLS, and counts as not taken until it is out.
 */
#include "net/tls_client.h"

#include "base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <string.h>

enum { RECORD_MAX = 16 * 1024, INPUT_SIZE = 32 * 1024, SESSION_SIZE = 12 * 1024 };

enum tls_client_state { HANDSHAKE, OPEN, ENDED };

struct tls_client {
    gnutls_certificate_credentials_t credentials;
    char *server_name; /* NULL: what was dialled */
};

struct tls_link {
    struct stream stream;
    struct stream *below;
    struct loop *loop;
    gnutls_session_t session;
    enum tls_client_state state;
    int end;           /* what reading says, with ENDED */
    const char *fault; /* constant; NULL: none */
    int below_error;
    bool below_ended;
    bool may_read;  /* the stage below, once more in this read */
    bool is_stuck;  /* GnuTLS has a record that is not out */
    bool has_begun; /* the handshake */
    unsigned wanted;
    struct deferred report;
    char *name;            /* what the certificate must be for */
    uint32_t begin, count; /* of input that GnuTLS has not taken */
    uint8_t input[INPUT_SIZE];
};

/* --- between GnuTLS and the stage below ---------------------------------------------------------
 */

static int told(struct tls_link *link, ssize_t n)
{
    if (n != (ssize_t)ERR_AGAIN)
        link->below_error = (int)n;
    gnutls_transport_set_errno(link->session, n == (ssize_t)ERR_AGAIN ? EAGAIN : EIO);
    return -1;
}

static ssize_t pull(gnutls_transport_ptr_t data, void *bytes, size_t size)
{
    struct tls_link *link = data;
    if (link->count == 0 && link->below_ended)
        return 0;
    if (link->count == 0 && !link->may_read)
        return told(link, ERR_AGAIN);
    if (link->count == 0) {
        const ssize_t n = stream_read(link->below, link->input, sizeof link->input);
        link->may_read = false;
        if (n < 0)
            return told(link, n);
        link->below_ended = n == 0;
        link->begin = 0;
        link->count = (uint32_t)n;
    }
    const uint32_t part = (uint32_t)MIN(size, (size_t)link->count);
    memcpy(bytes, link->input + link->begin, part);
    link->begin += part;
    link->count -= part;
    return (ssize_t)part;
}

static ssize_t push(gnutls_transport_ptr_t data, const giovec_t *iov, int iov_count)
{
    struct tls_link *link = data;
    const ssize_t n = stream_writev(link->below, (const struct iovec *)iov, iov_count);
    return n < 0 ? told(link, n) : n;
}

/* --- interest and readiness ---------------------------------------------------------------------
 */

static void end(struct tls_link *link, int result, const char *fault)
{
    link->state = ENDED;
    link->end = result;
    link->fault = fault;
}

/* Bytes that are here although the stage below has nothing to report. */
static bool holds_bytes(const struct tls_link *link)
{
    return link->state == OPEN &&
           (link->count > 0 || gnutls_record_check_pending(link->session) > 0);
}

static int update_interest(struct tls_link *link)
{
    unsigned events = link->wanted;
    if (link->state == HANDSHAKE)
        events =
            !link->has_begun || gnutls_record_get_direction(link->session) ? IO_WRITE : IO_READ;
    else if (link->state == ENDED)
        events = 0;
    const int err = stream_want(link->below, events);
    if (err < 0)
        end(link, err, NULL);
    if ((link->wanted & IO_READ) && (link->state == ENDED || holds_bytes(link)))
        loop_defer(link->loop, &link->report);
    return err;
}

static void on_report(struct deferred *report)
{
    struct tls_link *link = CONTAINER_OF(report, struct tls_link, report);
    if ((link->wanted & IO_READ) && (link->state == ENDED || holds_bytes(link)))
        link->stream.on_ready(&link->stream, IO_READ);
}

/* --- the handshake ------------------------------------------------------------------------------
 */

static const char *reason_for(unsigned status)
{
    static const struct {
        unsigned bit;
        const char *text;
    } reasons[] = {
        {GNUTLS_CERT_REVOKED, "the server's certificate is revoked"},
        {GNUTLS_CERT_EXPIRED, "the server's certificate has expired"},
        {GNUTLS_CERT_NOT_ACTIVATED, "the server's certificate is not valid yet"},
        {GNUTLS_CERT_SIGNER_NOT_FOUND,
         "the server's certificate is from no CA that is trusted; name "
         "the file with its CA"},
        {GNUTLS_CERT_UNEXPECTED_OWNER,
         "the server's certificate is for another name; use that name, or say which one is meant"},
        {GNUTLS_CERT_PURPOSE_MISMATCH, "the server's certificate is not for servers"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(reasons); i++) {
        if (status & reasons[i].bit)
            return reasons[i].text;
    }
    return "the server's certificate cannot be verified";
}

static const char *explain(const struct tls_link *link, int code)
{
    if (code == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR)
        return reason_for(gnutls_session_get_verify_cert_status(link->session));
    if (code == GNUTLS_E_FATAL_ALERT_RECEIVED) {
        const char *alert = gnutls_alert_get_name(gnutls_alert_get(link->session));
        return alert ? alert : "the server refused the handshake";
    }
    if (code == GNUTLS_E_PREMATURE_TERMINATION)
        return "the server closed the connection during the handshake; does it speak TLS?";
    if (code == GNUTLS_E_UNEXPECTED_PACKET || code == GNUTLS_E_UNEXPECTED_PACKET_LENGTH ||
        code == GNUTLS_E_UNSUPPORTED_VERSION_PACKET)
        return "the server does not speak TLS, or only a version that is not allowed";
    return gnutls_strerror(code);
}

static void fail(struct tls_link *link, int code)
{
    if (link->below_error != 0) {
        end(link, link->below_error, NULL);
        return;
    }
    const char *fault = explain(link, code);
    (void)gnutls_alert_send_appropriate(link->session, code);
    end(link, ERR_PROTOCOL, fault);
}

static void shake_hands(struct tls_link *link)
{
    int code;
    link->has_begun = true;
    link->may_read = true;
    do {
        code = gnutls_handshake(link->session);
    } while (code == GNUTLS_E_INTERRUPTED || code == GNUTLS_E_WARNING_ALERT_RECEIVED);
    if (code == 0)
        link->state = OPEN;
    else if (gnutls_error_is_fatal(code))
        fail(link, code);
    (void)update_interest(link);
}

/* --- reading and writing ------------------------------------------------------------------------
 */

static ssize_t link_read(struct stream *stream, void *bytes, size_t size)
{
    struct tls_link *link = CONTAINER_OF(stream, struct tls_link, stream);
    size_t total = 0;
    link->may_read = true;
    while (link->state == OPEN && total < size) {
        const ssize_t n = gnutls_record_recv(link->session, (uint8_t *)bytes + total, size - total);
        if (n > 0)
            total += (size_t)n;
        else if (n == GNUTLS_E_AGAIN)
            break;
        else if (n == 0 || (n == GNUTLS_E_PREMATURE_TERMINATION && link->below_error == 0))
            end(link, 0, NULL);
        else if (n != GNUTLS_E_INTERRUPTED && gnutls_error_is_fatal((int)n))
            fail(link, (int)n);
    }
    if (total > 0) {
        if ((link->wanted & IO_READ) && (link->state == ENDED || holds_bytes(link)))
            loop_defer(link->loop, &link->report);
        return (ssize_t)total;
    }
    return link->state == ENDED ? link->end : (ssize_t)ERR_AGAIN;
}

/* What goes into one record: the bytes from `offset` on, as many as fit. */
static size_t gather(const struct iovec *iov, int iov_count, size_t offset, uint8_t *room)
{
    size_t size = 0;
    for (int i = 0; i < iov_count && size < RECORD_MAX; i++) {
        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        const size_t part = MIN(iov[i].iov_len - offset, RECORD_MAX - size);
        memcpy(room + size, (const uint8_t *)iov[i].iov_base + offset, part);
        size += part;
        offset = 0;
    }
    return size;
}

static ssize_t link_writev(struct stream *stream, const struct iovec *iov, int iov_count)
{
    struct tls_link *link = CONTAINER_OF(stream, struct tls_link, stream);
    uint8_t room[RECORD_MAX];
    size_t taken = 0, size = 0;
    if (link->state == ENDED)
        return link->end < 0 ? link->end : -EPIPE;
    if (link->state == HANDSHAKE)
        return ERR_AGAIN;
    while (link->is_stuck || (size = gather(iov, iov_count, taken, room)) > 0) {
        const ssize_t n = gnutls_record_send(link->session, link->is_stuck ? NULL : room,
                                             link->is_stuck ? 0 : size);
        if (n == GNUTLS_E_INTERRUPTED)
            continue;
        link->is_stuck = n == GNUTLS_E_AGAIN;
        if (link->is_stuck)
            break;
        if (n < 0) {
            end(link, link->below_error != 0 ? link->below_error : -EPIPE, NULL);
            return link->end;
        }
        taken += (size_t)n;
    }
    return taken > 0 ? (ssize_t)taken : (ssize_t)ERR_AGAIN;
}

static void on_ready(struct stream *below, unsigned events)
{
    struct tls_link *link = below->owner;
    if (link->state == HANDSHAKE) {
        shake_hands(link);
        return;
    }
    const unsigned passed = events & (link->wanted | IO_HANGUP);
    if (link->state == OPEN && passed)
        link->stream.on_ready(&link->stream, passed);
}

static int link_want(struct stream *stream, unsigned events)
{
    struct tls_link *link = CONTAINER_OF(stream, struct tls_link, stream);
    link->wanted = events;
    return update_interest(link);
}

static void link_shutdown(struct stream *stream)
{
    struct tls_link *link = CONTAINER_OF(stream, struct tls_link, stream);
    if (link->state == OPEN)
        (void)gnutls_bye(link->session, GNUTLS_SHUT_WR);
    stream_shutdown(link->below);
}

static void link_close(struct stream *stream)
{
    struct tls_link *link = CONTAINER_OF(stream, struct tls_link, stream);
    deferred_cancel(&link->report);
    if (link->state == OPEN)
        (void)gnutls_bye(link->session, GNUTLS_SHUT_WR);
    if (link->session)
        gnutls_deinit(link->session);
    mem_note(-SESSION_SIZE);
    (void)stream_close(link->below);
    mem_free(link->name);
    mem_free(link);
}

static uint64_t link_unsent(const struct stream *stream)
{
    return stream_unsent(CONTAINER_OF(stream, struct tls_link, stream)->below);
}

static const char *link_fault(const struct stream *stream)
{
    return CONTAINER_OF(stream, struct tls_link, stream)->fault;
}

static const struct stream_ops link_ops = {
    .name = "tls client",
    .read = link_read,
    .writev = link_writev,
    .want = link_want,
    .shutdown = link_shutdown,
    .close = link_close,
    .unsent = link_unsent,
    .fault = link_fault,
};

/* --- life ---------------------------------------------------------------------------------------
 */

static bool is_numeric(const char *host)
{
    uint8_t address[16];
    return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
}

static int open_session(struct tls_link *link, const struct tls_client *client)
{
    int code = gnutls_init(&link->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
    if (code >= 0)
        code = gnutls_set_default_priority(link->session);
    if (code >= 0)
        code = gnutls_credentials_set(link->session, GNUTLS_CRD_CERTIFICATE, client->credentials);
    if (code >= 0 && !is_numeric(link->name))
        code =
            gnutls_server_name_set(link->session, GNUTLS_NAME_DNS, link->name, strlen(link->name));
    if (code < 0)
        return ERR_NOMEM;
    gnutls_session_set_verify_cert(link->session, link->name, 0);
    gnutls_transport_set_ptr(link->session, link);
    gnutls_transport_set_pull_function(link->session, pull);
    gnutls_transport_set_vec_push_function(link->session, push);
    return 0;
}

struct stream *tls_client_stage(void *data, struct loop *loop, struct stream *below,
                                const char *host)
{
    const struct tls_client *client = data;
    struct tls_link *link = mem_new(sizeof *link);
    mem_note(SESSION_SIZE);
    link->stream.ops = &link_ops;
    link->loop = loop;
    link->below = below;
    link->name = mem_strdup(client->server_name ? client->server_name : host);
    list_init(&link->report.node);
    link->report.run = on_report;
    below->on_ready = on_ready;
    below->owner = link;
    const int err = open_session(link, client);
    if (err < 0)
        end(link, err, NULL);
    return &link->stream;
}

static bool is_given(const char *text)
{
    return text && *text;
}

static int load(struct tls_client *client, const struct tls_client_options *options,
                struct errmsg *reterr)
{
    const char *path = is_given(options->ca_file) ? options->ca_file : "the system's CAs";
    int code = is_given(options->ca_file)
                   ? gnutls_certificate_set_x509_trust_file(client->credentials, options->ca_file,
                                                            GNUTLS_X509_FMT_PEM)
                   : gnutls_certificate_set_x509_system_trust(client->credentials);
    if (code == 0 && is_given(options->ca_file))
        code = GNUTLS_E_NO_CERTIFICATE_FOUND;
    if (code >= 0 && is_given(options->certificate)) {
        path = options->certificate;
        code = is_given(options->private_key)
                   ? gnutls_certificate_set_x509_key_file(client->credentials, options->certificate,
                                                          options->private_key, GNUTLS_X509_FMT_PEM)
                   : GNUTLS_E_CERTIFICATE_KEY_MISMATCH;
    }
    if (code < 0) {
        errmsg_wrap(reterr, "could not use '%s' for TLS: %s", path, gnutls_strerror(code));
        return code == GNUTLS_E_MEMORY_ERROR ? ERR_NOMEM : ERR_INVALID;
    }
    return 0;
}

int tls_client_new(const struct tls_client_options *options, struct tls_client **ret_client,
                   struct errmsg *reterr)
{
    struct tls_client *client = mem_new(sizeof *client);
    int err = ERR_NOMEM;
    if (gnutls_certificate_allocate_credentials(&client->credentials) >= 0)
        err = load(client, options, reterr);
    if (is_given(options->server_name))
        client->server_name = mem_strdup(options->server_name);
    if (err < 0)
        (void)tls_client_free(client);
    else
        *ret_client = client;
    return err;
}

struct tls_client *tls_client_free(struct tls_client *client)
{
    if (!client)
        return NULL;
    if (client->credentials)
        gnutls_certificate_free_credentials(client->credentials);
    mem_free(client->server_name);
    mem_free(client);
    return NULL;
}
