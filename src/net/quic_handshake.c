/* TLS 1.3 inside QUIC.
 *
 * Early data is accepted without a register of what was seen before: nothing that comes early is
 * shown to anybody before the client has answered in this handshake, which a replay cannot do. What
 * remains of GnuTLS's protection is the ticket's age, which some clients (Go's) know to the second
 * only. It counts from the handshake, so a second ticket follows when another second has passed:
 * with that one such a client never seems to be older than its ticket.
 *
 * GnuTLS's state is not seen by the budget of memory, so it is counted by an estimate.
 */
#include "net/quic_priv.h"

#include "base/mem.h"
#include "net/tls_peer.h"

#include <ngtcp2/ngtcp2_crypto_gnutls.h>
#include <string.h>

enum { SESSION_SIZE = 16 * 1024 };

static ngtcp2_conn *ngtcp2_of(ngtcp2_crypto_conn_ref *ref)
{
    return ((struct quic_conn *)ref->user_data)->ngtcp2;
}

static struct quic_conn *conn_of(gnutls_session_t session)
{
    return ((ngtcp2_crypto_conn_ref *)gnutls_session_get_ptr(session))->user_data;
}

/* --- for GnuTLS --------------------------------------------------------------------------------
 */

/* Called in a handshake in which the client shows a certificate. */
static int on_certificate(gnutls_session_t session)
{
    struct quic_conn *conn = conn_of(session);
    return tls_credentials_verify(conn->credentials, session, &conn->verify_status);
}

/* GnuTLS lets a client by that names no protocol at all. */
static int on_client_hello(gnutls_session_t session, unsigned type, unsigned when,
                           unsigned incoming, const gnutls_datum_t *message)
{
    gnutls_datum_t chosen;
    (void)type;
    (void)when;
    (void)incoming;
    (void)message;
    return gnutls_alpn_get_selected_protocol(session, &chosen) < 0
               ? GNUTLS_E_NO_APPLICATION_PROTOCOL
               : 0;
}

static int set_up(struct quic_conn *conn, gnutls_session_t session)
{
    struct quic *quic = conn->endpoint->quic;
    gnutls_datum_t name = {(unsigned char *)"mqtt", 4};
    const gnutls_datum_t key = {quic->secrets.ticket, sizeof quic->secrets.ticket};
    int code = gnutls_priority_set(session, quic->priority);
    if (code >= 0)
        code = tls_credentials_apply(conn->credentials, session);
    if (code >= 0)
        code = gnutls_session_ticket_enable_server(session, &key);
    if (code >= 0)
        code = gnutls_alpn_set_protocols(session, &name, 1, GNUTLS_ALPN_MANDATORY);
    if (code >= 0)
        gnutls_anti_replay_enable(session, quic->anti_replay);
    if (code >= 0)
        code = gnutls_record_set_max_early_data_size(session, UINT32_MAX);
    if (code < 0 || ngtcp2_crypto_gnutls_configure_server_session(session) != 0)
        return ERR_NOMEM;
    gnutls_handshake_set_hook_function(session, GNUTLS_HANDSHAKE_CLIENT_HELLO, GNUTLS_HOOK_POST,
                                       on_client_hello);
    gnutls_session_set_verify_function(session, on_certificate);
    gnutls_session_set_ptr(session, &conn->ref);
    return 0;
}

int quic_handshake_open(struct quic_conn *conn)
{
    conn->ref = (ngtcp2_crypto_conn_ref){.get_conn = ngtcp2_of, .user_data = conn};
    conn->credentials = tls_source_get(conn->endpoint->source);
    mem_note(SESSION_SIZE);
    if (gnutls_init(&conn->tls, GNUTLS_SERVER | GNUTLS_ENABLE_EARLY_DATA |
                                    GNUTLS_NO_AUTO_SEND_TICKET | GNUTLS_NO_END_OF_EARLY_DATA) < 0)
        return ERR_NOMEM;
    ngtcp2_conn_set_tls_native_handle(conn->ngtcp2, conn->tls);
    return set_up(conn, conn->tls);
}

void quic_handshake_close(struct quic_conn *conn)
{
    if (!conn->credentials)
        return;
    if (conn->tls)
        gnutls_deinit(conn->tls);
    conn->tls = NULL;
    conn->credentials = tls_credentials_unref(conn->credentials);
    mem_note(-SESSION_SIZE);
}

void quic_handshake_note_failure(const struct quic_conn *conn, const char *why)
{
    const struct quic_config *config = &conn->endpoint->quic->config;
    if (config->metrics)
        metric_add(&config->metrics->tls_handshakes_failed, 1);
    if (!why && conn->verify_status != 0)
        why = "its certificate is not valid";
    if (!why)
        why = gnutls_alert_get_name(ngtcp2_conn_get_tls_alert(conn->ngtcp2));
    log_write(config->log, LOG_INFO, "quic", "closed the connection from %s: %s", conn->peer->text,
              why ? why : "its handshake failed");
}

/* --- for ngtcp2 --------------------------------------------------------------------------------
 */

static int note_completion(struct quic_conn *conn)
{
    struct metrics *metrics = conn->endpoint->quic->config.metrics;
    struct peer *peer = NULL;
    const bool resumed = gnutls_session_is_resumed(conn->tls) != 0;
    int code = resumed ? on_certificate(conn->tls) : 0;
    if (code == 0 && tls_peer_new(conn->tls, conn->peer, &peer) < 0)
        code = GNUTLS_E_CERTIFICATE_ERROR;
    if (code < 0) {
        ngtcp2_conn_set_tls_alert(conn->ngtcp2, GNUTLS_A_BAD_CERTIFICATE);
        return NGTCP2_ERR_CRYPTO;
    }
    (void)peer_unref(conn->peer);
    conn->peer = peer;
    conn->complete = true;
    if (metrics) {
        metric_add(&metrics->tls_handshakes, 1);
        metric_add(&metrics->tls_handshakes_resumed, resumed);
    }
    return 0;
}

int quic_handshake_send_ticket(struct quic_conn *conn)
{
    return gnutls_session_ticket_send(conn->tls, 1, 0) < 0 ? ERR_NOMEM : 0;
}

/* With it come a ticket, for 0-RTT later, and a token, for a later start without Retry. */
static int on_completed(ngtcp2_conn *ngtcp2, void *data)
{
    struct quic_conn *conn = data;
    uint8_t token[NGTCP2_CRYPTO_MAX_REGULAR_TOKENLEN];
    const int code = note_completion(conn);
    if (code < 0)
        return code;
    const size_t size =
        quic_answer_new_token(conn->endpoint->quic, &ngtcp2_conn_get_path(ngtcp2)->remote, token);
    if (quic_handshake_send_ticket(conn) < 0 ||
        (size > 0 && ngtcp2_conn_submit_new_token(ngtcp2, token, size) != 0))
        return NGTCP2_ERR_CALLBACK_FAILURE;
    return 0;
}

void quic_handshake_callbacks(ngtcp2_callbacks *callbacks)
{
    callbacks->recv_client_initial = ngtcp2_crypto_recv_client_initial_cb;
    callbacks->recv_crypto_data = ngtcp2_crypto_recv_crypto_data_cb;
    callbacks->handshake_completed = on_completed;
    callbacks->encrypt = ngtcp2_crypto_encrypt_cb;
    callbacks->decrypt = ngtcp2_crypto_decrypt_cb;
    callbacks->hp_mask = ngtcp2_crypto_hp_mask_cb;
    callbacks->update_key = ngtcp2_crypto_update_key_cb;
    callbacks->delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb;
    callbacks->delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb;
    callbacks->version_negotiation = ngtcp2_crypto_version_negotiation_cb;
}
