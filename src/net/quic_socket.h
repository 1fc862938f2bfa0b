/* UDP for QUIC: datagrams in and out, many with one system call, with the address at either end,
 * because a socket that is bound to all addresses must answer from the one it was asked at.
 *
 * Thread: owner loop.
 */
#pragma once

#include "io/loop.h"
#include "net/peer.h"

#define QUIC_DATAGRAM_MAX 1500 /* bytes that are received; longer ones are dropped */
#define QUIC_PACKET_MAX   1472 /* bytes that are sent as one datagram */
#define QUIC_INBOX_COUNT  32
#define QUIC_BATCH_SIZE   65000 /* within what the kernel takes as one datagram to cut up */
#define QUIC_BATCH_COUNT  64    /* of the kernel, too */

struct quic_socket {
    struct io_watch watch;
    void *owner;
    union peer_address bound;
};

/* Where a datagram comes from and goes to. */
struct quic_path {
    struct quic_socket *socket;
    union peer_address local, remote;
};

struct quic_datagram {
    struct quic_path path;
    const uint8_t *bytes;
    size_t size;
};

struct quic_inbox {
    uint8_t rooms[QUIC_INBOX_COUNT][QUIC_DATAGRAM_MAX];
    struct quic_datagram datagrams[QUIC_INBOX_COUNT];
};

/* Packets for one path, one behind the other: all of the same size but the last, which may be
 * smaller. */
struct quic_batch {
    struct quic_path path;
    size_t begin, size; /* bytes: sent, and in all */
    size_t packet_size;
    uint32_t count;
    bool apart; /* the kernel cannot cut one large datagram up */
    uint8_t bytes[QUIC_BATCH_SIZE];
};

socklen_t quic_address_size(const union peer_address *address);

/* Sets a bound socket up; watch.fd must be set. Returns 0 or -errno. */
MUST_CHECK int quic_socket_init(struct quic_socket *socket);
/* Takes what is there. Returns how many datagrams, 0 when there is none, or -errno. */
MUST_CHECK int quic_socket_receive(struct quic_socket *socket, struct quic_inbox *inbox);

/* Where the next packet can be written, QUIC_PACKET_MAX bytes. */
uint8_t *quic_batch_room(struct quic_batch *batch);
/* Adds the packet of `size` bytes that was written there; may send what was there before. Returns
 * 0, or ERR_AGAIN: the socket takes nothing at present. */
MUST_CHECK int quic_batch_add(struct quic_batch *batch, const struct quic_path *path, size_t size);
/* Sends. Returns 0, also when it failed for good, because what is lost on the way is QUIC's to send
 * again; or ERR_AGAIN: the socket takes nothing at present, and what is left stays. */
MUST_CHECK int quic_batch_flush(struct quic_batch *batch);
/* Sends a single one, or loses it. */
void quic_socket_send(const struct quic_path *path, const uint8_t *bytes, size_t size);
