/* The TLS stage between a user on the test's loop and a client of GnuTLS at the other end of a
 * socket pair. For unit tests only: one test executable includes it once. */
#pragma once

#include "net/tls.h"

#include "net/peer.h"
#include "net/tcp.h"
#include "net/tls_fixture.h"

#include <sys/socket.h>

enum { ROUNDS_MAX = 20000 };

struct bench {
    struct pki pki;
    struct pki_pair ca, server, client;
    char *server_pem, *ca_pem, *crl_pem;
    const char *certificate;
    struct tls_options options;
    struct metrics *metrics;
    struct loop *loop;
    struct tls_source *source;
    struct stream *stream;
    uint8_t bytes[2 * 1024 * 1024]; /* what the user has read */
    size_t size, read_max;
    ssize_t end; /* what reading said last: 0 or an error, 1 before that */
    bool reads;

    int fd; /* the client's end */
    gnutls_certificate_credentials_t credentials;
    gnutls_session_t session;
    bool shaken;
};

static inline void on_ready(struct stream *stream, unsigned events)
{
    struct bench *b = stream->owner;
    if (!(events & (IO_READ | IO_HANGUP)) || !b->reads)
        return;
    assert_true(b->size + b->read_max <= sizeof b->bytes);
    const ssize_t n = stream_read(stream, b->bytes + b->size, b->read_max);
    if (n > 0)
        b->size += (size_t)n;
    else if (n != (ssize_t)ERR_AGAIN)
        b->end = n;
    assert_int_equal(stream_want(stream, b->end == 1 ? IO_READ : 0), 0);
}

/* --- both ends ------------------------------------------------------------------------------ */

static inline int set_up(void **state)
{
    struct bench *b = mem_new(sizeof *b);
    pki_open(&b->pki);
    b->ca = pki_issue(&b->pki, NULL, &(struct pki_wish){.name = "Test CA", .is_ca = true});
    b->server = pki_issue(&b->pki, &b->ca, &(struct pki_wish){.name = "s", .dns = "a.example"});
    b->client = pki_issue(&b->pki, &b->ca, &(struct pki_wish){.name = "device-1"});
    pki_write_crt(&b->pki, "server.pem", &b->server, false);
    pki_write_key(&b->pki, "server.pem", &b->server, true);
    pki_write_crt(&b->pki, "ca.pem", &b->ca, false);
    pki_write_crl(&b->pki, "crl.pem", &b->ca, NULL, 10);
    b->server_pem = pki_path(&b->pki, "server.pem");
    b->ca_pem = pki_path(&b->pki, "ca.pem");
    b->crl_pem = pki_path(&b->pki, "crl.pem");
    b->certificate = b->server_pem;
    b->options = (struct tls_options){.certificates = {&b->certificate, 1}};
    b->metrics = metrics_new();
    assert_int_equal(loop_new(&b->loop, NULL), 0);
    pki_check(gnutls_certificate_allocate_credentials(&b->credentials));
    b->fd = -1;
    *state = b;
    return 0;
}

static inline void open_source(struct bench *b)
{
    struct errmsg why = {0};
    if (tls_source_new("", &b->options, &b->source, &why) < 0)
        fail_msg("%s", why.text);
}

/* A new connection; no handshake yet. */
static inline void connect_raw(struct bench *b)
{
    int pair[2];
    const struct sockaddr from = {.sa_family = AF_UNIX};
    const struct tls_reports reports = {.metrics = b->metrics};
    if (!b->source)
        open_source(b);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    b->fd = pair[0];
    b->size = 0;
    b->read_max = 64 * 1024;
    b->end = 1;
    b->reads = true;
    b->shaken = false;
    struct stream *below = tcp_new(b->loop, pair[1], peer_new(&from));
    b->stream = tls_new(b->loop, below, b->source, "mqtt", &reports);
    b->stream->on_ready = on_ready;
    b->stream->owner = b;
    assert_int_equal(stream_want(b->stream, IO_READ), 0);
}

static inline void open_session(struct bench *b, const char *versions)
{
    char priorities[128];
    pki_check(gnutls_init(&b->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_FORCE_CLIENT_CERT));
    (void)snprintf(priorities, sizeof priorities, "NORMAL:-VERS-ALL:%s", versions);
    pki_check(gnutls_priority_set_direct(b->session, priorities, NULL));
    pki_check(gnutls_credentials_set(b->session, GNUTLS_CRD_CERTIFICATE, b->credentials));
    pki_check(gnutls_server_name_set(b->session, GNUTLS_NAME_DNS, "a.example", 9));
    gnutls_transport_set_int(b->session, b->fd);
}

static inline void close_client(struct bench *b)
{
    if (b->session)
        gnutls_deinit(b->session);
    b->session = NULL;
    if (b->fd >= 0)
        (void)close(b->fd);
    b->fd = -1;
}

static inline void disconnect(struct bench *b)
{
    b->stream = stream_close(b->stream);
    close_client(b);
}

static inline int tear_down(void **state)
{
    struct bench *b = *state;
    disconnect(b);
    (void)tls_source_unref(b->source);
    (void)loop_free(b->loop);
    (void)metrics_free(b->metrics);
    gnutls_certificate_free_credentials(b->credentials);
    pki_pair_done(&b->ca);
    pki_pair_done(&b->server);
    pki_pair_done(&b->client);
    mem_free(b->server_pem);
    mem_free(b->ca_pem);
    mem_free(b->crl_pem);
    pki_close(&b->pki);
    mem_free(b);
    return 0;
}

/* Turns the loop, and gives the client its turn, until `condition` holds. */
#define TURN_UNTIL(b, client, condition)                                                           \
    do {                                                                                           \
        int rounds_ = 0;                                                                           \
        while (!(condition)) {                                                                     \
            assert_true(rounds_++ < ROUNDS_MAX);                                                   \
            assert_int_equal(loop_turn((b)->loop, 0), 0);                                          \
            client;                                                                                \
        }                                                                                          \
    } while (0)

/* One step of the client's handshake; its code. */
static inline int shake(struct bench *b)
{
    if (b->shaken)
        return 0;
    const int code = gnutls_handshake(b->session);
    b->shaken = code == 0;
    return code;
}

static inline void shake_well(struct bench *b)
{
    const int code = shake(b);
    if (code != GNUTLS_E_AGAIN)
        pki_check(code);
}

/* Both sides are done. */
static inline void finish(struct bench *b)
{
    const int64_t before = metric_get(&b->metrics->tls_handshakes);
    TURN_UNTIL(b, shake_well(b),
               b->shaken && metric_get(&b->metrics->tls_handshakes) == before + 1);
}

static inline void connect_with(struct bench *b, const char *versions)
{
    connect_raw(b);
    open_session(b, versions);
    finish(b);
}

static inline void send_all(struct bench *b, const uint8_t *bytes, size_t size)
{
    size_t sent = 0;
    while (sent < size) {
        const ssize_t n = gnutls_record_send(b->session, bytes + sent, size - sent);
        assert_true(n > 0 || n == GNUTLS_E_AGAIN);
        sent += n > 0 ? (size_t)n : 0;
        assert_int_equal(loop_turn(b->loop, 0), 0);
    }
}

/* What the client has got, one record at most; 0 also when there is nothing. */
static inline size_t receive(struct bench *b, uint8_t *bytes, size_t size)
{
    const ssize_t n = gnutls_record_recv(b->session, bytes, size);
    assert_true(n >= 0 || n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED);
    return n > 0 ? (size_t)n : 0;
}

static inline void fill(uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(i * 31 + i / 251);
}

static inline int64_t failed(const struct bench *b)
{
    return metric_get(&b->metrics->tls_handshakes_failed);
}

#define V1_2 "+VERS-TLS1.2"
#define V1_3 "+VERS-TLS1.3"
