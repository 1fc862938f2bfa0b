/* Binding and accepting.
 *
 * Accepting takes at most a batch per readiness, so that a flood of connections does not hold up
 * those that are open. Out of descriptors: all sockets of the listener are left alone for a while
 * (the kernel queues up to the backlog), logged once until accepting works again.
 */
#include "net/listener.h"

#include "base/mem.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { ACCEPT_BATCH = 64, PAUSE_MS = 200 };

struct listener_socket {
    struct io_watch watch;
    struct listener *listener;
};

struct listener {
    struct listener_config config;
    struct listener_url url; /* with the real port */
    struct timer resume;
    bool starved; /* out of descriptors, and logged */
    dev_t path_dev;
    ino_t path_ino;                 /* of the Unix socket's file we made */
    int socket_count, handed_count; /* kept here, and UDP sockets handed on */
    struct listener_socket sockets[LISTENER_ADDRESSES_MAX];
    char bound[LISTENER_HOST_MAX + LISTENER_PATH_MAX + 32];
};

/* --- addresses ------------------------------------------------------------------------------ */

static struct listener_address everywhere(int family, uint16_t port)
{
    struct listener_address to = {.both_families = family == AF_INET6};
    if (family == AF_INET6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&to.address;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(port);
        to.size = sizeof *in6;
    } else {
        struct sockaddr_in *in = (struct sockaddr_in *)&to.address;
        in->sin_family = AF_INET;
        in->sin_port = htons(port);
        to.size = sizeof *in;
    }
    return to;
}

/* --- accepting ------------------------------------------------------------------------------ */

static void want_all(struct listener *listener, unsigned events)
{
    for (int i = 0; i < listener->socket_count; i++) {
        const int err = io_watch_change(listener->config.loop, &listener->sockets[i].watch, events);
        ASSERT(err == 0);
    }
}

static void on_resume(struct timer *timer)
{
    want_all(CONTAINER_OF(timer, struct listener, resume), IO_READ);
}

static void starve(struct listener *listener, int err)
{
    if (!listener->starved)
        log_write(listener->config.log, LOG_ERROR, "listener",
                  "could not accept connections on %s, retrying: %s", listener->bound,
                  err_text(err));
    listener->starved = true;
    want_all(listener, 0);
    timer_start(loop_timers(listener->config.loop), &listener->resume, PAUSE_MS);
}

static void on_incoming(struct io_watch *watch, unsigned events)
{
    (void)events;
    struct listener_socket *source = CONTAINER_OF(watch, struct listener_socket, watch);
    struct listener *listener = source->listener;
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        struct sockaddr_storage address = {0};
        socklen_t size = sizeof address;
        const int fd =
            accept4(watch->fd, (struct sockaddr *)&address, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            const int err = errno;
            if (err == EMFILE || err == ENFILE || err == ENOBUFS || err == ENOMEM)
                starve(listener, -err);
            if (err == EINTR || err == ECONNABORTED)
                continue;
            return;
        }
        listener->starved = false;
        const struct peer *peer = peer_new((const struct sockaddr *)&address);
        listener->config.on_accept(listener->config.data, fd, peer);
        (void)peer_unref(peer);
    }
}

/* --- binding -------------------------------------------------------------------------------- */

/* Starts listening on a bound socket and takes it over when that works. */
static int add_socket(struct listener *listener, int fd)
{
    const int backlog = listener->config.backlog > 0 ? listener->config.backlog : SOMAXCONN;
    if (listen(fd, backlog) < 0)
        return -errno;
    struct listener_socket *added = &listener->sockets[listener->socket_count];
    added->listener = listener;
    added->watch.fd = fd;
    added->watch.on_event = on_incoming;
    const int err = io_watch_start(listener->config.loop, &added->watch, IO_READ);
    if (err == 0)
        listener->socket_count++;
    return err;
}

static int bind_network(struct listener *listener, struct listener_address *to)
{
    const bool is_udp = listener->url.kind == LISTENER_UDP;
    const int type = is_udp ? SOCK_DGRAM : SOCK_STREAM;
    const int fd = socket(to->address.ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    const int v6_only = !to->both_families;
    if (!is_udp)
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (to->address.ss_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6_only, sizeof v6_only);
    struct sockaddr_in6 bound = {0};
    socklen_t size = sizeof bound;
    int err = bind(fd, (struct sockaddr *)&to->address, to->size) < 0 ? -errno : 0;
    if (err == 0 && getsockname(fd, (struct sockaddr *)&bound, &size) < 0)
        err = -errno;
    if (err == 0 && is_udp) {
        err = listener->config.on_socket(listener->config.data, fd);
        if (err < 0)
            return err;
        listener->handed_count++;
    } else if (err == 0) {
        err = add_socket(listener, fd);
    }
    if (err < 0) {
        (void)close(fd);
        return err;
    }
    /* Port first in both families: with port 0 the other addresses get the same one. */
    listener->url.port = ntohs(bound.sin6_port);
    return 0;
}

static int open_network(struct listener *listener, struct errmsg *reterr)
{
    struct listener_url *url = &listener->url;
    struct listener_address list[LISTENER_ADDRESSES_MAX] = {0};
    int count = 1;
    const bool all = strcmp(url->host, "*") == 0;
    if (all)
        list[0] = everywhere(AF_INET6, url->port);
    else
        count = listener_url_resolve(url, list);
    if (count <= 0) {
        errmsg_wrap(reterr, "could not find an address of '%s': %s", url->host,
                    count == 0 ? "it has none" : gai_strerror(count));
        return ERR_NOTFOUND;
    }
    for (int i = 0; i < count; i++) {
        ((struct sockaddr_in *)&list[i].address)->sin_port = htons(url->port);
        int err = bind_network(listener, &list[i]);
        if (all && (err == -EAFNOSUPPORT || err == -EADDRNOTAVAIL)) {
            list[i] = everywhere(AF_INET, url->port);
            err = bind_network(listener, &list[i]);
        }
        /* A name may stand for an IPv6 address on a machine that has none. */
        if (err == -EADDRNOTAVAIL &&
            (i + 1 < count || listener->socket_count + listener->handed_count > 0))
            continue;
        if (err < 0) {
            const struct peer *there = peer_new((const struct sockaddr *)&list[i].address);
            errmsg_wrap(reterr, "could not listen on %s: %s", there->text, err_text(err));
            (void)peer_unref(there);
            return err;
        }
    }
    const bool v6 = strchr(url->host, ':') != NULL;
    (void)snprintf(listener->bound, sizeof listener->bound, v6 ? "%s://[%s]:%u%s" : "%s://%s:%u%s",
                   url->scheme, url->host, url->port, url->path);
    return 0;
}

/* Removes a Unix socket's file that is ours and that nobody answers on. */
static int remove_stale(const struct sockaddr_un *address)
{
    struct stat info;
    if (lstat(address->sun_path, &info) < 0)
        return -errno;
    if (!S_ISSOCK(info.st_mode) || info.st_uid != geteuid())
        return -EADDRINUSE;
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    const int err = connect(fd, (const struct sockaddr *)address, sizeof *address) < 0 ? errno : 0;
    (void)close(fd);
    if (err != ECONNREFUSED)
        return -EADDRINUSE;
    return unlink(address->sun_path) < 0 ? -errno : 0;
}

static int bind_unix(struct listener *listener, int fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, listener->url.path, sizeof address.sun_path);
    /* The file is made with the mode of the socket: never open to others, not even for a moment. */
    if (fchmod(fd, 0660) < 0)
        return -errno;
    int err = bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
    if (err == -EADDRINUSE) {
        err = remove_stale(&address);
        if (err == 0)
            err = bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
    }
    struct stat info = {0};
    if (err == 0 && (chmod(address.sun_path, 0660) < 0 || lstat(address.sun_path, &info) < 0))
        err = -errno;
    if (err == 0) {
        listener->path_dev = info.st_dev;
        listener->path_ino = info.st_ino;
    }
    return err;
}

static int open_unix(struct listener *listener, struct errmsg *reterr)
{
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int err = fd < 0 ? -errno : bind_unix(listener, fd);
    if (err == 0)
        err = add_socket(listener, fd);
    if (err < 0) {
        errmsg_wrap(reterr, "could not listen on the socket '%s': %s", listener->url.path,
                    err_text(err));
        if (fd >= 0)
            (void)close(fd);
        return err;
    }
    (void)snprintf(listener->bound, sizeof listener->bound, "mqtt+unix:%s", listener->url.path);
    return 0;
}

int listener_new(const struct listener_url *url, const struct listener_config *config,
                 struct listener **ret_listener, struct errmsg *reterr)
{
    ASSERT(url->kind == LISTENER_UDP ? config->on_socket != NULL : config->on_accept != NULL);
    struct listener *listener = mem_new(sizeof *listener);
    listener->config = *config;
    listener->url = *url;
    listener->resume.on_due = on_resume;
    const int err =
        url->kind == LISTENER_UNIX ? open_unix(listener, reterr) : open_network(listener, reterr);
    if (err < 0) {
        (void)listener_free(listener);
        return err;
    }
    *ret_listener = listener;
    return 0;
}

struct listener *listener_free(struct listener *listener)
{
    if (!listener)
        return NULL;
    timer_stop(loop_timers(listener->config.loop), &listener->resume);
    for (int i = 0; i < listener->socket_count; i++) {
        io_watch_stop(listener->config.loop, &listener->sockets[i].watch);
        (void)close(listener->sockets[i].watch.fd);
    }
    struct stat info;
    if (listener->path_ino != 0 && lstat(listener->url.path, &info) == 0 &&
        info.st_dev == listener->path_dev && info.st_ino == listener->path_ino)
        (void)unlink(listener->url.path);
    mem_free(listener);
    return NULL;
}

const char *listener_bound(const struct listener *listener)
{
    return listener->bound;
}

uint16_t listener_port(const struct listener *listener)
{
    return listener->url.port;
}
