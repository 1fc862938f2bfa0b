/* QUIC: MQTT over UDP, as in RFC 9000, ALPN "mqtt".
 *
 * One `struct quic` for the process holds what all listeners share: secrets and limits. Each
 * listener is an endpoint: its UDP sockets, and the connections that came through them. A
 * connection carries one bidirectional stream with MQTT in it, which is handed out as a struct
 * stream when the handshake is complete; further streams are refused.
 *
 * What a client sends ahead of the end of its handshake (0-RTT) may be a replay: it is kept, may be
 * no more than a CONNECT, and nobody sees it before the handshake proves that the client is there.
 *
 * The files: quic_endpoint (datagrams to connections), quic_socket (UDP), quic_answer (what is
 * answered without a connection), quic_conn (a connection's life), quic_handshake (TLS),
 * quic_stream (the stage), quic_fifo (bytes), quic_secrets (what survives a restart).
 *
 * Thread: the home loop's.
 */
#pragma once

#include "base/log.h"
#include "base/metrics.h"
#include "net/peer.h"
#include "net/stream.h"
#include "net/tls_source.h"

struct quic;
struct quic_endpoint;

struct quic_config {
    struct loop *loop;       /* borrowed until quic_free, as are log and metrics */
    struct log *log;         /* may be NULL */
    struct metrics *metrics; /* may be NULL */
    const char *dir;         /* where the file with the secrets is or gets made; for the call */
    uint32_t handshake_timeout_ms;
    uint64_t idle_timeout_ms; /* without a packet; longer than any keep alive may be */
};

/* Reads the secrets, making them where there are none. Blocking. Returns 0; ERR_CORRUPT: the file
 * is not of its form; ERR_NOMEM; -errno. */
MUST_CHECK int quic_new(const struct quic_config *config, struct quic **ret_quic,
                        struct errmsg *reterr);
/* Ends all endpoints and connections; the streams handed out must be closed before. NULL is fine;
 * returns NULL. */
struct quic *quic_free(struct quic *quic);

/* A client has finished its handshake. Takes the stream over and returns true, or refuses it. peer:
 * borrowed for the call. */
typedef bool quic_accept_fn(void *data, struct stream *stream, const struct peer *peer);

struct quic_endpoint_config {
    struct tls_source *source; /* borrowed until quic_endpoint_close */
    bool retry_always; /* every client has to prove its address first, not only when many come */
    quic_accept_fn *on_accept;
    void *data;
};

/* An endpoint without sockets. */
struct quic_endpoint *quic_endpoint_new(struct quic *quic,
                                        const struct quic_endpoint_config *config);
/* Adds a bound, non-blocking UDP socket, which it takes over, also when it fails. Returns 0 or
 * -errno. */
MUST_CHECK int quic_endpoint_add(struct quic_endpoint *endpoint, int fd);
/* Takes no more connections; those that are open stay, and the last one frees the endpoint. NULL is
 * fine; returns NULL. */
struct quic_endpoint *quic_endpoint_close(struct quic_endpoint *endpoint);
