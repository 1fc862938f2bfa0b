/* Version negotiation, Retry, stateless reset, refusal; and the tokens. Their times are of the wall
 * clock, because tokens outlive the server's process. */
#include "net/quic_priv.h"

#include <string.h>
#include <time.h>

enum {
    RESET_MIN = 41,    /* bytes of a datagram that is answered with a reset, */
    RESET_RANDOM = 26, /* whose unpredictable bytes are so many at most */
    SHORT_HEADER = 1,  /* bytes before the connection ID */
};

static ngtcp2_tstamp wall_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (ngtcp2_tstamp)now.tv_sec * NGTCP2_SECONDS + (ngtcp2_tstamp)now.tv_nsec;
}

static const struct sockaddr *remote_of(const struct quic_datagram *datagram)
{
    return &datagram->path.remote.any;
}

static socklen_t remote_size_of(const struct quic_datagram *datagram)
{
    return quic_address_size(&datagram->path.remote);
}

/* Sends what was written, unless that failed or is longer than what it answers. */
static void answer(const struct quic_datagram *datagram, const uint8_t *bytes, ngtcp2_ssize size)
{
    if (size > 0 && (size_t)size <= datagram->size)
        quic_socket_send(&datagram->path, bytes, (size_t)size);
}

void quic_answer_version(const struct quic_datagram *datagram, const ngtcp2_version_cid *asked)
{
    /* A reserved version among them keeps clients from relying on what comes there. */
    const uint32_t versions[] = {0x1a2a3a4a, NGTCP2_PROTO_VER_V1};
    uint8_t bytes[QUIC_PACKET_MAX];
    uint8_t random = 0;
    (void)gnutls_rnd(GNUTLS_RND_NONCE, &random, sizeof random);
    answer(datagram, bytes,
           ngtcp2_pkt_write_version_negotiation(bytes, sizeof bytes, random, asked->scid,
                                                asked->scidlen, asked->dcid, asked->dcidlen,
                                                versions, ARRAY_COUNT(versions)));
}

int quic_answer_reset_token(const struct quic *quic, const ngtcp2_cid *id,
                            uint8_t ret_token[NGTCP2_STATELESS_RESET_TOKENLEN])
{
    const uint8_t *secret = quic->secrets.reset;
    return ngtcp2_crypto_generate_stateless_reset_token(ret_token, secret,
                                                        sizeof quic->secrets.reset, id) == 0
               ? 0
               : ERR_NOMEM;
}

/* Shorter than what it answers, so that two servers do not answer each other for ever. */
void quic_answer_reset(struct quic_endpoint *endpoint, const struct quic_datagram *datagram,
                       const uint8_t *id)
{
    uint8_t bytes[RESET_RANDOM + NGTCP2_STATELESS_RESET_TOKENLEN];
    uint8_t token[NGTCP2_STATELESS_RESET_TOKENLEN], random[RESET_RANDOM];
    ngtcp2_cid cid;
    if (datagram->size < RESET_MIN)
        return;
    const size_t room = datagram->size - 1 - sizeof token;
    ngtcp2_cid_init(&cid, id, QUIC_CID_SIZE);
    if (quic_answer_reset_token(endpoint->quic, &cid, token) < 0 ||
        gnutls_rnd(GNUTLS_RND_NONCE, random, sizeof random) < 0)
        return;
    if (endpoint->quic->config.metrics)
        metric_add(&endpoint->quic->config.metrics->quic_resets, 1);
    answer(datagram, bytes,
           ngtcp2_pkt_write_stateless_reset(bytes, sizeof bytes, token, random,
                                            MIN(room, sizeof random)));
}

void quic_answer_retry(struct quic_endpoint *endpoint, const struct quic_datagram *datagram,
                       const ngtcp2_pkt_hd *header)
{
    const struct quic *quic = endpoint->quic;
    uint8_t bytes[QUIC_PACKET_MAX], token[NGTCP2_CRYPTO_MAX_RETRY_TOKENLEN];
    ngtcp2_cid scid = {.datalen = QUIC_CID_SIZE};
    if (gnutls_rnd(GNUTLS_RND_NONCE, scid.data, scid.datalen) < 0)
        return;
    const ngtcp2_ssize size = ngtcp2_crypto_generate_retry_token(
        token, quic->secrets.token, sizeof quic->secrets.token, header->version,
        remote_of(datagram), remote_size_of(datagram), &scid, &header->dcid, wall_ns());
    if (size < 0)
        return;
    if (quic->config.metrics)
        metric_add(&quic->config.metrics->quic_retries, 1);
    answer(datagram, bytes,
           ngtcp2_crypto_write_retry(bytes, sizeof bytes, header->version, &header->scid, &scid,
                                     &header->dcid, token, (size_t)size));
}

void quic_answer_close(const struct quic_datagram *datagram, const ngtcp2_pkt_hd *header,
                       uint64_t error)
{
    uint8_t bytes[QUIC_PACKET_MAX];
    answer(datagram, bytes,
           ngtcp2_crypto_write_connection_close(bytes, sizeof bytes, header->version, &header->scid,
                                                &header->dcid, error, NULL, 0));
}

/* A token that is not of a Retry and cannot be read is as good as none: it may be of another server
 * or too old. */
enum quic_token quic_answer_check_token(const struct quic *quic,
                                        const struct quic_datagram *datagram,
                                        const ngtcp2_pkt_hd *header, ngtcp2_cid *ret_odcid)
{
    const uint8_t *secret = quic->secrets.token;
    const size_t secret_size = sizeof quic->secrets.token;
    const ngtcp2_vec token = header->token;
    if (token.len == 0)
        return QUIC_TOKEN_NONE;
    if (token.base[0] == NGTCP2_CRYPTO_TOKEN_MAGIC_RETRY)
        return ngtcp2_crypto_verify_retry_token(ret_odcid, token.base, token.len, secret,
                                                secret_size, header->version, remote_of(datagram),
                                                remote_size_of(datagram), &header->dcid,
                                                QUIC_RETRY_LIFE_NS, wall_ns()) == 0
                   ? QUIC_TOKEN_RETRY
                   : QUIC_TOKEN_BAD;
    if (token.base[0] == NGTCP2_CRYPTO_TOKEN_MAGIC_REGULAR &&
        ngtcp2_crypto_verify_regular_token(token.base, token.len, secret, secret_size,
                                           remote_of(datagram), remote_size_of(datagram),
                                           QUIC_TOKEN_LIFE_NS, wall_ns()) == 0)
        return QUIC_TOKEN_REGULAR;
    return QUIC_TOKEN_NONE;
}

size_t quic_answer_new_token(const struct quic *quic, const ngtcp2_addr *remote,
                             uint8_t ret_token[NGTCP2_CRYPTO_MAX_REGULAR_TOKENLEN])
{
    const ngtcp2_ssize size = ngtcp2_crypto_generate_regular_token(
        ret_token, quic->secrets.token, sizeof quic->secrets.token, remote->addr, remote->addrlen,
        wall_ns());
    return size > 0 ? (size_t)size : 0;
}
