/* Peer: what the transport knows of the other end of a connection.
 *
 * Made at accept with the socket's address; a stage that learns more (the PROXY protocol's header,
 * a TLS handshake) makes a new one of what it knows and the one below. Unchanged once it can be
 * seen through stream_peer, and counted, so that whoever needs it beyond the stream may keep it.
 *
 * Thread: any (atomic count).
 */
#pragma once

#include "base/base.h"
#include "net/certificate.h"

#include <netinet/in.h>
#include <stdatomic.h>
#include <sys/socket.h>

#define PEER_TEXT_MAX 64

/* any.sa_family says which: AF_INET, AF_INET6, or AF_UNIX, which has nothing else. */
union peer_address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

enum peer_tls { PEER_TLS_NONE, PEER_TLS_1_2, PEER_TLS_1_3 };

struct peer {
    _Atomic uint32_t count;
    union peer_address address; /* IPv4 within IPv6 is written as IPv4 */
    char text[PEER_TEXT_MAX];   /* the same as "1.2.3.4:5", "[::1]:5" or "unix" */
    enum peer_tls tls;
    char *sni;                       /* the server's name that the client asked for, or NULL */
    struct certificate *certificate; /* the client's, verified; NULL without one */
};

/* One reference, without TLS. address: an IPv4 or IPv6 one; of anything else only the family
 * AF_UNIX is kept. */
struct peer *peer_new(const struct sockaddr *address);
/* A new one with the address of `peer`, for a stage to add to. */
struct peer *peer_fork(const struct peer *peer);
const struct peer *peer_ref(const struct peer *peer);   /* returns peer */
const struct peer *peer_unref(const struct peer *peer); /* NULL is fine; returns NULL */
