#include "net/tls_peer.h"

#include "base/mem.h"

#include <string.h>

enum { SNI_MAX = 256 };

static char *sni_of(gnutls_session_t session)
{
    char name[SNI_MAX];
    size_t size = sizeof name;
    unsigned type = 0;
    if (gnutls_server_name_get(session, name, &size, &type, 0) < 0 || type != GNUTLS_NAME_DNS ||
        size == 0 || size == sizeof name || memchr(name, '\0', size) != NULL)
        return NULL;
    name[size] = '\0';
    return mem_strdup(name);
}

static int certificate_of(gnutls_session_t session, struct certificate **ret_certificate)
{
    struct slice ders[CERTIFICATE_CHAIN_MAX + 1];
    unsigned count = 0;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &count);
    if (!chain || count == 0)
        return 0;
    if (count > ARRAY_COUNT(ders))
        return ERR_FULL;
    for (unsigned i = 0; i < count; i++)
        ders[i] = slice_of(chain[i].data, chain[i].size);
    return certificate_parse(ders, count, ret_certificate);
}

int tls_peer_new(gnutls_session_t session, const struct peer *below, struct peer **ret_peer)
{
    struct certificate *certificate = NULL;
    const int err = certificate_of(session, &certificate);
    if (err < 0)
        return err;
    struct peer *peer = peer_fork(below);
    peer->tls = gnutls_protocol_get_version(session) == GNUTLS_TLS1_3 ? PEER_TLS_1_3 : PEER_TLS_1_2;
    peer->sni = sni_of(session);
    peer->certificate = certificate;
    *ret_peer = peer;
    return 0;
}
