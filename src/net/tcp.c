/* The socket stage: one read or sendmsg per call. [MQTT3-7.1.1-1] [MQTT5-4.2.0-1]
 *
 * An interest that did not change costs no system call. SO_KEEPALIVE stays off: MQTT has its own
 * keep alive.
 */
#include "net/tcp.h"

#include "base/mem.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

struct tcp {
    struct stream stream;
    struct io_watch watch;
    struct loop *loop;
    const struct peer *peer;
    bool watched;
};

static ssize_t result(ssize_t n)
{
    if (n >= 0)
        return n;
    return errno == EAGAIN || errno == EWOULDBLOCK ? (ssize_t)ERR_AGAIN : -(ssize_t)errno;
}

static ssize_t tcp_read(struct stream *stream, void *bytes, size_t size)
{
    const struct tcp *tcp = CONTAINER_OF(stream, struct tcp, stream);
    ssize_t n;
    do {
        n = recv(tcp->watch.fd, bytes, size, 0);
    } while (n < 0 && errno == EINTR);
    return result(n);
}

static ssize_t tcp_writev(struct stream *stream, const struct iovec *iov, int iov_count)
{
    const struct tcp *tcp = CONTAINER_OF(stream, struct tcp, stream);
    const struct msghdr message = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)iov_count};
    ssize_t n;
    do {
        n = sendmsg(tcp->watch.fd, &message, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return result(n);
}

/* Without any interest the descriptor leaves epoll altogether: a hang-up, which cannot be masked,
 * would be reported again and again to a user who does not want to read at present. */
static int tcp_want(struct stream *stream, unsigned events)
{
    struct tcp *tcp = CONTAINER_OF(stream, struct tcp, stream);
    if (tcp->watched && events == 0) {
        io_watch_stop(tcp->loop, &tcp->watch);
        tcp->watched = false;
    } else if (tcp->watched) {
        return io_watch_change(tcp->loop, &tcp->watch, events);
    } else if (events != 0) {
        const int err = io_watch_start(tcp->loop, &tcp->watch, events);
        tcp->watched = err == 0;
        return err;
    }
    return 0;
}

static void tcp_shutdown(struct stream *stream)
{
    const struct tcp *tcp = CONTAINER_OF(stream, struct tcp, stream);
    (void)shutdown(tcp->watch.fd, SHUT_WR);
}

static void tcp_close(struct stream *stream)
{
    struct tcp *tcp = CONTAINER_OF(stream, struct tcp, stream);
    if (tcp->watched)
        io_watch_stop(tcp->loop, &tcp->watch);
    (void)close(tcp->watch.fd);
    (void)peer_unref(tcp->peer);
    mem_free(tcp);
}

static const struct peer *tcp_peer(const struct stream *stream)
{
    return CONTAINER_OF(stream, struct tcp, stream)->peer;
}

static const struct stream_ops tcp_ops = {
    .name = "tcp",
    .read = tcp_read,
    .writev = tcp_writev,
    .want = tcp_want,
    .shutdown = tcp_shutdown,
    .close = tcp_close,
    .peer = tcp_peer,
};

static void on_event(struct io_watch *watch, unsigned events)
{
    struct tcp *tcp = CONTAINER_OF(watch, struct tcp, watch);
    tcp->stream.on_ready(&tcp->stream, events);
}

struct stream *tcp_new(struct loop *loop, int fd, const struct peer *peer)
{
    ASSERT(fd >= 0);
    struct tcp *tcp = mem_new(sizeof *tcp);
    tcp->stream.ops = &tcp_ops;
    tcp->watch.fd = fd;
    tcp->watch.on_event = on_event;
    tcp->loop = loop;
    tcp->peer = peer;
    /* Fails on a Unix socket, where there is nothing to delay. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    return &tcp->stream;
}
