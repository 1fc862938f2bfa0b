/* What may be sent to an address that the client has not proved.
 *
 * ngtcp2 keeps to three times what came from there, but spends it on whatever is next: when a
 * client's answer to PATH_CHALLENGE is lost and nothing is left, nothing can be asked again, and a
 * client that only receives waits until its keep alive. Up to 0.12 it also stops its timer for
 * retransmissions with the last byte and does not start it again with the proof, so that packets
 * that went to the old address hold its window for ever. So the account is kept here as well:
 * ngtcp2 is never asked for a packet with nothing left, and the rest is kept for its challenges.
 */
#include "net/quic_priv.h"

#include <string.h>

enum {
    CHALLENGE_SIZE = 50,     /* bytes, at most, of a packet with nothing but a PATH_CHALLENGE */
    CHALLENGE_RESERVE = 5,   /* so many can always be sent */
    CHALLENGES = 2,          /* that ngtcp2 sends at a time, */
    CHALLENGE_RETRY_MS = 20, /* and when it sent something else instead */
};

static bool is_same(const struct quic_path *one, const struct quic_path *other)
{
    const socklen_t size = quic_address_size(&one->remote);
    return one->socket == other->socket && memcmp(&one->remote, &other->remote, size) == 0 &&
           memcmp(&one->local, &other->local, size) == 0;
}

/* ngtcp2 goes to a new path when it has read a packet from there, and back when nobody answers. */
static void follow(struct quic_conn *conn)
{
    struct quic_proof *proof = &conn->proof;
    const struct quic_path path = quic_path_from(ngtcp2_conn_get_path(conn->ngtcp2));
    if (is_same(&path, &proof->path))
        return;
    proof->path = path;
    proof->lacks = !is_same(&path, &proof->proved);
    proof->left = 0;
    proof->challenges = 0;
    proof->due = 0;
}

/* As long as ngtcp2 waits for an answer (ngtcp2_pv). */
static ngtcp2_tstamp next_challenge(const struct quic_conn *conn, ngtcp2_tstamp now)
{
    ngtcp2_conn_stat stat;
    ngtcp2_conn_get_conn_stat(conn->ngtcp2, &stat);
    const ngtcp2_duration wait = MAX(ngtcp2_conn_get_pto(conn->ngtcp2), 3 * stat.initial_rtt);
    const unsigned rounds = MIN(conn->proof.challenges / CHALLENGES, 16U);
    return now + (wait << (rounds - 1)) + NGTCP2_MILLISECONDS;
}

void quic_proof_begin(struct quic_conn *conn, const struct quic_path *path)
{
    conn->proof.path = conn->proof.proved = *path;
}

void quic_proof_received(struct quic_conn *conn, const struct quic_datagram *datagram)
{
    follow(conn);
    if (conn->proof.lacks && is_same(&datagram->path, &conn->proof.path))
        conn->proof.left += 3 * datagram->size;
}

void quic_proof_given(struct quic_conn *conn, const struct quic_path *path)
{
    conn->proof.proved = *path;
    if (is_same(path, &conn->proof.path))
        conn->proof.lacks = false;
}

size_t quic_proof_room(struct quic_conn *conn, ngtcp2_tstamp now)
{
    struct quic_proof *proof = &conn->proof;
    const size_t reserve = CHALLENGE_RESERVE * CHALLENGE_SIZE;
    follow(conn);
    proof->challenged = false;
    if (!proof->lacks)
        return QUIC_PACKET_MAX;
    const bool is_due = now >= proof->due;
    if (proof->left >= reserve + CHALLENGE_SIZE)
        return (size_t)MIN(proof->left - (is_due ? 0 : reserve), (uint64_t)QUIC_PACKET_MAX);
    return is_due && proof->left >= CHALLENGE_SIZE ? CHALLENGE_SIZE : 0;
}

void quic_proof_sent(struct quic_conn *conn, const struct quic_path *path, size_t size,
                     ngtcp2_tstamp now)
{
    struct quic_proof *proof = &conn->proof;
    if (!proof->lacks || !is_same(path, &proof->path))
        return;
    proof->left -= MIN(proof->left, (uint64_t)size);
    if (proof->challenged && proof->challenges % CHALLENGES == 0)
        proof->due = next_challenge(conn, now);
    else if (!proof->challenged && now >= proof->due)
        proof->due = now + CHALLENGE_RETRY_MS * NGTCP2_MILLISECONDS;
}

ngtcp2_tstamp quic_proof_due(const struct quic_conn *conn, ngtcp2_tstamp now)
{
    const struct quic_proof *proof = &conn->proof;
    const bool waits = proof->lacks && proof->left >= CHALLENGE_SIZE && proof->due > now;
    return waits ? proof->due : UINT64_MAX;
}

int quic_proof_challenge(ngtcp2_conn *ngtcp2, uint8_t *bytes, void *data)
{
    struct quic_conn *conn = data;
    conn->proof.challenges++;
    conn->proof.challenged = true;
    return ngtcp2_crypto_get_path_challenge_data_cb(ngtcp2, bytes, data);
}
