/* The lowest stage of a stream: a connected, non-blocking stream socket, TCP or Unix. */
#pragma once

#include "net/peer.h"
#include "net/stream.h"

/* Takes over `fd` (accepted, non-blocking) and the reference to `peer`, which may be NULL; returns
 * the stage. Sets TCP_NODELAY where it applies. Nothing is watched before stream_want. Thread: the
 * loop's. */
struct stream *tcp_new(struct loop *loop, int fd, const struct peer *peer);
