/* Which datagram is whose.
 *
 * A datagram that is not well-formed, and one that nobody knows what to do with, is dropped without
 * a word: that is what RFC 9000 asks for, and answers are only given where none is longer than what
 * it answers.
 *
 * The last conn frees an endpoint that is closed, but no datagram does: conns end by a timer, or
 * when the user closes the stream.
 */
#include "net/quic_priv.h"

#include "base/mem.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { BATCHES_MAX = 4 }; /* per readiness, so that others get their turn */

/* --- connection IDs -------------------------------------------------------------------------- */

static bool is_id(const struct hashnode *node, const void *key)
{
    return ngtcp2_cid_eq(&CONTAINER_OF(node, struct quic_cid, node)->id, key) != 0;
}

static struct quic_cid *find(const struct quic_endpoint *endpoint, const ngtcp2_cid *id)
{
    struct hashnode *node =
        hashmap_find(&endpoint->cids, hash_bytes(id->data, id->datalen), is_id, id);
    return node ? CONTAINER_OF(node, struct quic_cid, node) : NULL;
}

int quic_endpoint_claim(struct quic_endpoint *endpoint, struct quic_conn *conn,
                        const ngtcp2_cid *id)
{
    if (find(endpoint, id))
        return ERR_EXISTS;
    struct quic_cid *cid = mem_new(sizeof *cid);
    cid->id = *id;
    cid->conn = conn;
    list_init(&cid->of);
    list_push_back(&conn->cids, &cid->of);
    hashmap_insert(&endpoint->cids, &cid->node, hash_bytes(id->data, id->datalen));
    return 0;
}

void quic_endpoint_disclaim(struct quic_endpoint *endpoint, struct quic_conn *conn,
                            const ngtcp2_cid *id)
{
    struct quic_cid *cid = find(endpoint, id);
    if (!cid || cid->conn != conn)
        return;
    hashmap_remove(&endpoint->cids, &cid->node);
    list_remove(&cid->of);
    mem_free(cid);
}

/* --- one datagram ---------------------------------------------------------------------------- */

/* The first datagram of what may become a connection. */
static void take_stranger(struct quic_endpoint *endpoint, const struct quic_datagram *datagram)
{
    ngtcp2_pkt_hd header;
    ngtcp2_cid odcid;
    const int code = ngtcp2_accept(&header, datagram->bytes, datagram->size);
    if (code == NGTCP2_ERR_RETRY)
        quic_answer_retry(endpoint, datagram, &header);
    if (code != 0)
        return;
    if (endpoint->closed) {
        quic_answer_close(datagram, &header, NGTCP2_CONNECTION_REFUSED);
        return;
    }
    const enum quic_token token =
        quic_answer_check_token(endpoint->quic, datagram, &header, &odcid);
    const bool is_many = endpoint->handshake_count >= QUIC_RETRY_FROM;
    if (token == QUIC_TOKEN_BAD)
        quic_answer_close(datagram, &header, NGTCP2_INVALID_TOKEN);
    else if (token == QUIC_TOKEN_NONE && (endpoint->config.retry_always || is_many))
        quic_answer_retry(endpoint, datagram, &header);
    else if (endpoint->handshake_count < QUIC_HANDSHAKES_MAX)
        quic_conn_begin(endpoint, datagram, &header, token,
                        token == QUIC_TOKEN_RETRY ? &odcid : NULL);
}

void quic_endpoint_take(struct quic_endpoint *endpoint, const struct quic_datagram *datagram)
{
    ngtcp2_version_cid to;
    ngtcp2_cid id;
    const int code =
        ngtcp2_pkt_decode_version_cid(&to, datagram->bytes, datagram->size, QUIC_CID_SIZE);
    if (code == NGTCP2_ERR_VERSION_NEGOTIATION) {
        quic_answer_version(datagram, &to);
        return;
    }
    if (code != 0 || to.dcidlen > NGTCP2_MAX_CIDLEN || to.scidlen > NGTCP2_MAX_CIDLEN)
        return;
    ngtcp2_cid_init(&id, to.dcid, to.dcidlen);
    struct quic_cid *cid = find(endpoint, &id);
    if (cid)
        quic_conn_receive(cid->conn, datagram);
    else if (to.version == 0) /* a short header */
        quic_answer_reset(endpoint, datagram, to.dcid);
    else
        take_stranger(endpoint, datagram);
}

/* --- sockets -------------------------------------------------------------------------------- */

static void watch_all(struct quic_endpoint *endpoint, unsigned events)
{
    for (uint32_t i = 0; i < endpoint->socket_count; i++) {
        const int err =
            io_watch_change(endpoint->quic->config.loop, &endpoint->sockets[i].watch, events);
        ASSERT(err == 0);
    }
}

void quic_endpoint_block(struct quic_endpoint *endpoint)
{
    if (!endpoint->blocked)
        watch_all(endpoint, IO_READ | IO_WRITE);
    endpoint->blocked = true;
}

static void unblock(struct quic_endpoint *endpoint)
{
    if (quic_batch_flush(&endpoint->batch) < 0)
        return;
    endpoint->blocked = false;
    watch_all(endpoint, IO_READ);
    list_each_safe (it, &endpoint->waiting) {
        struct quic_conn *conn = CONTAINER_OF(it, struct quic_conn, waiting);
        list_remove(&conn->waiting);
        quic_conn_schedule(conn);
    }
}

static void on_event(struct io_watch *watch, unsigned events)
{
    struct quic_socket *sock = CONTAINER_OF(watch, struct quic_socket, watch);
    struct quic_endpoint *endpoint = sock->owner;
    if (endpoint->blocked && (events & IO_WRITE))
        unblock(endpoint);
    for (int round = 0; round < BATCHES_MAX; round++) {
        const int count = quic_socket_receive(sock, &endpoint->inbox);
        for (int i = 0; i < count; i++)
            quic_endpoint_take(endpoint, &endpoint->inbox.datagrams[i]);
        if (count < QUIC_INBOX_COUNT)
            break;
    }
}

int quic_endpoint_add(struct quic_endpoint *endpoint, int fd)
{
    ASSERT(endpoint->socket_count < LISTENER_ADDRESSES_MAX);
    struct quic_socket *added = &endpoint->sockets[endpoint->socket_count];
    *added = (struct quic_socket){.watch = {.fd = fd, .on_event = on_event}, .owner = endpoint};
    int err = quic_socket_init(added);
    if (err == 0)
        err = io_watch_start(endpoint->quic->config.loop, &added->watch, IO_READ);
    if (err < 0)
        (void)close(fd);
    else
        endpoint->socket_count++;
    return err;
}
