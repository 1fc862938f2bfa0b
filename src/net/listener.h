/* Listener: the sockets behind one configured URL, and the connections accepted from them.
 *
 * URLs: mqtt://HOST[:PORT] with an IPv4 address, an [IPv6 address], a name or '*' (all addresses of
 * both families) for HOST, and 1883 as the usual PORT; mqtt+unix:PATH for a Unix socket. A name
 * that has several addresses is listened to on each. Port 0 lets the system choose.
 */
#pragma once

#include "base/buf.h"
#include "base/log.h"
#include "io/loop.h"

#include <sys/socket.h>

#define LISTENER_HOST_MAX    255
#define LISTENER_PATH_MAX    107
#define LISTENER_ADDRESS_MAX 64

enum listener_kind { LISTENER_TCP, LISTENER_UNIX };

struct listener_url {
    enum listener_kind kind;
    uint16_t port;
    char host[LISTENER_HOST_MAX + 1]; /* without brackets; "*" = everywhere */
    char path[LISTENER_PATH_MAX + 1];
};

/* Parses one URL. Returns 0, or ERR_INVALID and in reterr what is wrong with it. Thread: any. */
MUST_CHECK int listener_url_parse(const char *text, struct listener_url *ret_url,
                                  struct errmsg *reterr);
/* true when only this machine reaches it: a Unix socket, or all of its addresses are loopback ones.
 * Resolves a name, which may block; a name without addresses counts as reachable. Thread: any. */
bool listener_url_is_local(const struct listener_url *url);

struct listener;

/* One accepted connection. fd: non-blocking, the callee's to close. address: the peer as text, for
 * the call. */
typedef void listener_accept_fn(void *data, int fd, const char *address);

struct listener_config {
    struct loop *loop;
    struct log *log; /* borrowed until listener_free */
    int backlog;     /* 0 = the system's maximum */
    listener_accept_fn *on_accept;
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

/* Writes "1.2.3.4:5", "[::1]:5" or "unix". */
void listener_address_text(const struct sockaddr_storage *address, char *ret_text, size_t size);
