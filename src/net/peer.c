#include "net/peer.h"

#include "base/mem.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static void set_in6(struct peer *peer, const struct sockaddr_in6 *in6)
{
    if (!IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
        peer->address.in6 = *in6;
        return;
    }
    struct sockaddr_in *in = &peer->address.in;
    in->sin_family = AF_INET;
    in->sin_port = in6->sin6_port;
    memcpy(&in->sin_addr, &in6->sin6_addr.s6_addr[12], sizeof in->sin_addr);
}

static void write_text(struct peer *peer)
{
    const union peer_address *address = &peer->address;
    char text[INET6_ADDRSTRLEN] = "?";
    if (address->any.sa_family == AF_INET) {
        (void)inet_ntop(AF_INET, &address->in.sin_addr, text, sizeof text);
        (void)snprintf(peer->text, sizeof peer->text, "%s:%u", text, ntohs(address->in.sin_port));
    } else if (address->any.sa_family == AF_INET6) {
        (void)inet_ntop(AF_INET6, &address->in6.sin6_addr, text, sizeof text);
        (void)snprintf(peer->text, sizeof peer->text, "[%s]:%u", text,
                       ntohs(address->in6.sin6_port));
    } else {
        (void)snprintf(peer->text, sizeof peer->text, "unix");
    }
}

struct peer *peer_new(const struct sockaddr *address)
{
    struct peer *peer = mem_new(sizeof *peer);
    atomic_init(&peer->count, 1);
    peer->address.any.sa_family = AF_UNIX;
    if (address->sa_family == AF_INET)
        memcpy(&peer->address.in, address, sizeof peer->address.in);
    else if (address->sa_family == AF_INET6)
        set_in6(peer, (const struct sockaddr_in6 *)(const void *)address);
    write_text(peer);
    return peer;
}

struct peer *peer_fork(const struct peer *peer)
{
    return peer_new(&peer->address.any);
}

const struct peer *peer_ref(const struct peer *peer)
{
    struct peer *counted = (struct peer *)peer;
    (void)atomic_fetch_add_explicit(&counted->count, 1, memory_order_relaxed);
    return peer;
}

const struct peer *peer_unref(const struct peer *peer)
{
    struct peer *counted = (struct peer *)peer;
    if (!counted || atomic_fetch_sub_explicit(&counted->count, 1, memory_order_acq_rel) > 1)
        return NULL;
    mem_free(counted->sni);
    (void)certificate_free(counted->certificate);
    mem_free(counted);
    return NULL;
}
