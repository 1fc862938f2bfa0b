/* Listener: the sockets behind one configured URL, and the connections accepted from them; of UDP
 * it only binds the sockets and hands them on.
 */
#pragma once

#include "base/log.h"
#include "io/loop.h"
#include "net/listener_url.h"
#include "net/peer.h"

struct listener;

/* One accepted connection. fd: non-blocking, the callee's to close. peer: borrowed for the call. */
typedef void listener_accept_fn(void *data, int fd, const struct peer *peer);

/* A bound, non-blocking UDP socket, the callee's to close, also when it fails. Returns 0 or -errno.
 */
typedef int listener_socket_fn(void *data, int fd);

struct listener_config {
    struct loop *loop;
    struct log *log; /* borrowed until listener_free */
    int backlog;     /* 0 = the system's maximum */
    listener_accept_fn *on_accept;
    listener_socket_fn *on_socket; /* for URLs of UDP, in place of on_accept */
    void *data;
};

/* Binds, listens and accepts from the next iteration on. A Unix socket gets mode 0660; a file left
 * behind by a dead process is removed first when it is ours and nobody answers on it.
 * Returns 0, or -errno with the reason in reterr. Thread: the loop's. */
MUST_CHECK int listener_new(const struct listener_url *url, const struct listener_config *config,
                            struct listener **ret_listener, struct errmsg *reterr);
/* Stops accepting and closes; removes the Unix socket's file. NULL is fine; returns NULL. */
struct listener *listener_free(struct listener *listener);
/* What was bound, as a URL with the real port; lives as long as the listener. */
const char *listener_bound(const struct listener *listener);
/* The port bound, 0 for a Unix socket. */
uint16_t listener_port(const struct listener *listener);
