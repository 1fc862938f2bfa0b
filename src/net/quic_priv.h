/* What the files of QUIC share. Private to net/.
 *
 * A connection's states:
 *
 *   HANDSHAKE ──complete, accepted──▶ OPEN ──stream closed──▶ FINISHING (what was written goes out)
 *       └──────────────┬───────────────┴──────────────┬───────────┘
 *                      ▼                              ▼
 *                   CLOSING (says so to late packets, or nothing) ──time──▶ GONE
 *
 * From CLOSING on there is nothing of ngtcp2 and GnuTLS any more. A connection is freed when it is
 * GONE and its stream is closed.
 */
#pragma once

#include "base/hashmap.h"
#include "base/list.h"
#include "net/listener_url.h"
#include "net/quic.h"
#include "net/quic_fifo.h"
#include "net/quic_secrets.h"
#include "net/quic_socket.h"

#include <gnutls/crypto.h>
#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>

enum {
    QUIC_CID_SIZE = 16,           /* of those that the server chooses */
    QUIC_WINDOW = 64 * 1024,      /* bytes of a stream that a client may send ahead, at first, */
    QUIC_WINDOW_MAX = 512 * 1024, /* and when it is fast */
    QUIC_OUT_MAX = 256 * 1024,    /* bytes to a client that are not acknowledged */
    QUIC_STREAMS = 4,           /* of each kind that a client may open; they are refused, but one */
    QUIC_HANDSHAKES_MAX = 4096, /* of one endpoint at a time */
    QUIC_RETRY_FROM = 64,       /* handshakes; from there on clients prove their address first */
};

#define QUIC_RETRY_LIFE_NS (10 * NGTCP2_SECONDS)
#define QUIC_TOKEN_LIFE_NS (7 * 24 * 3600 * NGTCP2_SECONDS)

/* MQTT's reason codes are the application's error codes of RFC 9000. */
#define QUIC_ERROR_STREAM   0x82u /* protocol error: a second stream, more than CONNECT too early */
#define QUIC_ERROR_REFUSED  0x97u /* quota exceeded */
#define QUIC_ERROR_STOPPING 0x8bu /* server shutting down */

struct quic {
    struct quic_config config;
    struct quic_secrets secrets;
    gnutls_priority_t priority;
    gnutls_anti_replay_t anti_replay;
    ngtcp2_mem mem;
    struct list endpoints;
};

struct quic_endpoint {
    struct list node; /* quic->endpoints */
    struct quic *quic;
    struct quic_endpoint_config config;
    struct tls_source *source; /* a reference */
    struct hashmap cids;       /* struct quic_cid */
    struct list conns;
    struct list waiting; /* those with something to send, while the batch waits for its socket */
    uint32_t handshake_count;
    bool closed;
    bool blocked; /* the batch's socket takes nothing at present */
    uint32_t socket_count;
    struct quic_socket sockets[LISTENER_ADDRESSES_MAX];
    struct quic_inbox inbox;
    struct quic_batch batch;
};

/* A connection ID and whose it is. */
struct quic_cid {
    struct hashnode node;
    struct list of; /* conn->cids */
    struct quic_conn *conn;
    ngtcp2_cid id;
};

/* What may be sent before the client has proved its address: see quic_proof.c. */
struct quic_proof {
    struct quic_path path;   /* where ngtcp2 sends to */
    struct quic_path proved; /* the latest that the client was heard to receive at */
    uint64_t left;           /* bytes that may be sent to `path`, while the proof lacks */
    ngtcp2_tstamp due;       /* of the next challenges */
    unsigned challenges;     /* sent to `path` */
    bool lacks;
    bool challenged; /* the packet that was just written has a challenge */
};

enum quic_state { QUIC_HANDSHAKE, QUIC_OPEN, QUIC_FINISHING, QUIC_CLOSING, QUIC_GONE };

struct quic_conn {
    struct stream stream;
    struct quic_endpoint *endpoint;
    ngtcp2_conn *ngtcp2;
    gnutls_session_t tls;
    ngtcp2_crypto_conn_ref ref; /* what the session points to */
    struct tls_credentials *credentials;
    const struct peer *peer;
    struct list node;    /* endpoint->conns */
    struct list waiting; /* endpoint->waiting */
    struct list cids;
    struct timer timer;    /* ngtcp2's; then until GONE */
    struct timer patience; /* with OPEN: until the second ticket; with FINISHING: until it ends */
    struct deferred flush, report;
    struct quic_fifo in, out;
    struct quic_proof proof;
    uint64_t sent;     /* position in `out` of what comes next */
    uint64_t early;    /* bytes of the stream that came before the handshake was complete */
    int64_t stream_id; /* -1: none yet */
    uint64_t fail_code;
    uint8_t *farewell; /* with CLOSING: what is said to late packets; NULL: nothing */
    uint32_t farewell_size, late_count;
    int end; /* what reading says behind the last byte */
    unsigned wanted;
    unsigned verify_status;
    uint8_t state;     /* enum quic_state */
    bool held;         /* somebody has the stream */
    bool complete;     /* the handshake is, and the conn is to be offered */
    bool wants_retry;  /* ngtcp2 will not go on with a client that has not proved its address */
    bool input_ended;  /* nothing follows what is in `in` */
    bool output_ended; /* the client reads no more */
    bool fin_due;      /* nothing follows what is in `out`; to be told, */
    bool fin_sent;     /* and told */
};

/* --- quic.c ------------------------------------------------------------------------------------
 */

/* Ends it and its connections, whose streams must be closed. */
void quic_endpoint_end(struct quic_endpoint *endpoint);

/* --- quic_endpoint.c ---------------------------------------------------------------------------
 */

/* What one datagram brings. Its bytes are borrowed for the call. */
void quic_endpoint_take(struct quic_endpoint *endpoint, const struct quic_datagram *datagram);
/* Has packets with this ID come to conn; ERR_EXISTS: they go elsewhere. */
MUST_CHECK int quic_endpoint_claim(struct quic_endpoint *endpoint, struct quic_conn *conn,
                                   const ngtcp2_cid *id);
void quic_endpoint_disclaim(struct quic_endpoint *endpoint, struct quic_conn *conn,
                            const ngtcp2_cid *id);
/* The batch waits for its socket: conns wait with it. */
void quic_endpoint_block(struct quic_endpoint *endpoint);
/* A conn is gone. May free the endpoint. */
void quic_endpoint_leave(struct quic_endpoint *endpoint, struct quic_conn *conn);

/* --- quic_answer.c ------------------------------------------------------------------------------
 */

/* Answers to datagrams of no connection. None is longer than what it answers. */
void quic_answer_version(const struct quic_datagram *datagram, const ngtcp2_version_cid *asked);
void quic_answer_reset(struct quic_endpoint *endpoint, const struct quic_datagram *datagram,
                       const uint8_t *id);
void quic_answer_retry(struct quic_endpoint *endpoint, const struct quic_datagram *datagram,
                       const ngtcp2_pkt_hd *header);
void quic_answer_close(const struct quic_datagram *datagram, const ngtcp2_pkt_hd *header,
                       uint64_t error);
/* What a client's token proves. odcid: of a Retry, the ID that the client chose first. */
enum quic_token { QUIC_TOKEN_NONE, QUIC_TOKEN_RETRY, QUIC_TOKEN_REGULAR, QUIC_TOKEN_BAD };
enum quic_token quic_answer_check_token(const struct quic *quic,
                                        const struct quic_datagram *datagram,
                                        const ngtcp2_pkt_hd *header, ngtcp2_cid *ret_odcid);
/* A token for later connections of a client. Returns its size, 0 when there is none. */
size_t quic_answer_new_token(const struct quic *quic, const ngtcp2_addr *remote,
                             uint8_t ret_token[NGTCP2_CRYPTO_MAX_REGULAR_TOKENLEN]);
/* The token with which a client is told that the connection with this ID is gone. */
MUST_CHECK int quic_answer_reset_token(const struct quic *quic, const ngtcp2_cid *id,
                                       uint8_t ret_token[NGTCP2_STATELESS_RESET_TOKENLEN]);

/* --- quic_conn.c ------------------------------------------------------------------------------
 */

/* Nanoseconds, monotonic. */
ngtcp2_tstamp quic_conn_now(void);
struct quic_path quic_path_from(const ngtcp2_path *path);
/* Begins a connection with its first datagram, which it handles. odcid: with a Retry before, else
 * NULL. */
void quic_conn_begin(struct quic_endpoint *endpoint, const struct quic_datagram *datagram,
                     const ngtcp2_pkt_hd *header, enum quic_token token, const ngtcp2_cid *odcid);
void quic_conn_receive(struct quic_conn *conn, const struct quic_datagram *datagram);
/* Asks for what there is to be sent at the end of the iteration. */
void quic_conn_schedule(struct quic_conn *conn);
/* Sends what there is. */
void quic_conn_flush(struct quic_conn *conn);
/* Tells the client and ends. */
void quic_conn_close(struct quic_conn *conn, const ngtcp2_connection_close_error *error);
/* The user has closed the stream. */
void quic_conn_let_go(struct quic_conn *conn);
/* Ends it now; the stream must be closed. */
void quic_conn_free(struct quic_conn *conn);

/* --- quic_proof.c ------------------------------------------------------------------------------
 */

/* Where the connection begins; ngtcp2 sees to that address's proof, in the handshake. */
void quic_proof_begin(struct quic_conn *conn, const struct quic_path *path);
/* ngtcp2 has read a datagram. */
void quic_proof_received(struct quic_conn *conn, const struct quic_datagram *datagram);
/* The client has shown that it receives there. */
void quic_proof_given(struct quic_conn *conn, const struct quic_path *path);
/* How many bytes the next packet may have; 0: none may be sent now. */
size_t quic_proof_room(struct quic_conn *conn, ngtcp2_tstamp now);
/* The packet that was written after quic_proof_room(). */
void quic_proof_sent(struct quic_conn *conn, const struct quic_path *path, size_t size,
                     ngtcp2_tstamp now);
/* When to ask for room again, though nothing arrives; UINT64_MAX: never. */
ngtcp2_tstamp quic_proof_due(const struct quic_conn *conn, ngtcp2_tstamp now);
/* ngtcp2's get_path_challenge_data. */
int quic_proof_challenge(ngtcp2_conn *ngtcp2, uint8_t *bytes, void *data);

/* --- quic_handshake.c --------------------------------------------------------------------------
 */

/* Makes conn->tls. Returns 0 or ERR_NOMEM. */
MUST_CHECK int quic_handshake_open(struct quic_conn *conn);
/* Sends one more session ticket. Returns 0 or ERR_NOMEM. */
MUST_CHECK int quic_handshake_send_ticket(struct quic_conn *conn);
void quic_handshake_close(struct quic_conn *conn);
/* Fills in what ngtcp2 calls about TLS, and handshake_completed. */
void quic_handshake_callbacks(ngtcp2_callbacks *callbacks);
/* Logs and counts a handshake that failed. why: NULL: by its TLS. */
void quic_handshake_note_failure(const struct quic_conn *conn, const char *why);

/* --- quic_stream.c -----------------------------------------------------------------------------
 */

/* Fills in what ngtcp2 calls about streams. */
void quic_stream_callbacks(ngtcp2_callbacks *callbacks);
void quic_stream_init(struct quic_conn *conn);
/* true when what came early is no more than a CONNECT. */
bool quic_stream_is_timely(const struct quic_conn *conn);
/* Something changed that the user may want to hear of. */
void quic_stream_report(struct quic_conn *conn);
