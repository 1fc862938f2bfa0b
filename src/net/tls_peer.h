/* What a finished TLS handshake tells of the other end; for TLS over TCP and for QUIC. */
#pragma once

#include "net/peer.h"

#include <gnutls/gnutls.h>

/* A new peer with the address of `below`, and the version, the server's name asked for and the
 * client's certificate of the session. Returns 0; ERR_MALFORMED, ERR_FULL: of certificate_parse;
 * ERR_NOMEM. Thread: any. */
MUST_CHECK int tls_peer_new(gnutls_session_t session, const struct peer *below,
                            struct peer **ret_peer);
