#include "net/quic_socket.h"

#include <errno.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>

enum {
    SOCKET_BUFFER = 4 * 1024 * 1024, /* as far as net.core.rmem_max and wmem_max allow */
    CONTROL_SIZE = 128,
};

union control {
    struct cmsghdr align;
    uint8_t bytes[CONTROL_SIZE];
};

socklen_t quic_address_size(const union peer_address *address)
{
    return address->any.sa_family == AF_INET6 ? sizeof address->in6 : sizeof address->in;
}

static int set(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof value) < 0 ? -errno : 0;
}

int quic_socket_init(struct quic_socket *sock)
{
    const int fd = sock->watch.fd;
    socklen_t size = sizeof sock->bound;
    if (getsockname(fd, &sock->bound.any, &size) < 0)
        return -errno;
    const bool v6 = sock->bound.any.sa_family == AF_INET6;
    (void)set(fd, SOL_SOCKET, SO_RCVBUF, SOCKET_BUFFER);
    (void)set(fd, SOL_SOCKET, SO_SNDBUF, SOCKET_BUFFER);
    /* Never fragmented: QUIC finds out what size the path takes. */
    (void)set(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
    if (!v6)
        return set(fd, IPPROTO_IP, IP_PKTINFO, 1);
    (void)set(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
    return set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
}

/* --- receiving ------------------------------------------------------------------------------ */

static void find_local(struct msghdr *message, const struct quic_socket *sock,
                       union peer_address *ret_local)
{
    *ret_local = sock->bound;
    for (struct cmsghdr *it = CMSG_FIRSTHDR(message); it; it = CMSG_NXTHDR(message, it)) {
        if (it->cmsg_level == IPPROTO_IP && it->cmsg_type == IP_PKTINFO &&
            ret_local->any.sa_family == AF_INET) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(it), sizeof info);
            ret_local->in.sin_addr = info.ipi_addr;
        } else if (it->cmsg_level == IPPROTO_IPV6 && it->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(it), sizeof info);
            ret_local->in6.sin6_addr = info.ipi6_addr;
            if (IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr))
                ret_local->in6.sin6_scope_id = info.ipi6_ifindex;
        }
    }
}

int quic_socket_receive(struct quic_socket *sock, struct quic_inbox *inbox)
{
    struct mmsghdr messages[QUIC_INBOX_COUNT];
    struct iovec iov[QUIC_INBOX_COUNT];
    union control controls[QUIC_INBOX_COUNT];
    for (int i = 0; i < QUIC_INBOX_COUNT; i++) {
        iov[i] = (struct iovec){inbox->rooms[i], QUIC_DATAGRAM_MAX};
        messages[i].msg_hdr = (struct msghdr){.msg_name = &inbox->datagrams[i].path.remote,
                                              .msg_namelen = sizeof(union peer_address),
                                              .msg_iov = &iov[i],
                                              .msg_iovlen = 1,
                                              .msg_control = controls[i].bytes,
                                              .msg_controllen = CONTROL_SIZE};
    }
    const int got = recvmmsg(sock->watch.fd, messages, QUIC_INBOX_COUNT, MSG_DONTWAIT, NULL);
    if (got < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : -errno;
    int count = 0;
    for (int i = 0; i < got; i++) {
        struct msghdr *message = &messages[i].msg_hdr;
        struct quic_datagram *to = &inbox->datagrams[count];
        if ((message->msg_flags & MSG_TRUNC) || messages[i].msg_len == 0)
            continue;
        to->path.remote = inbox->datagrams[i].path.remote;
        to->path.socket = sock;
        find_local(message, sock, &to->path.local);
        to->bytes = inbox->rooms[i];
        to->size = messages[i].msg_len;
        count++;
    }
    return count;
}

/* --- sending -------------------------------------------------------------------------------- */

static void add_control(struct msghdr *message, int level, int type, const void *bytes, size_t size)
{
    struct cmsghdr *added =
        (struct cmsghdr *)((uint8_t *)message->msg_control + message->msg_controllen);
    added->cmsg_level = level;
    added->cmsg_type = type;
    added->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(added), bytes, size);
    message->msg_controllen += CMSG_SPACE(size);
}

static void add_local(struct msghdr *message, const union peer_address *local)
{
    if (local->any.sa_family == AF_INET6) {
        const struct in6_pktinfo info = {.ipi6_addr = local->in6.sin6_addr,
                                         .ipi6_ifindex = local->in6.sin6_scope_id};
        add_control(message, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info);
    } else {
        const struct in_pktinfo info = {.ipi_spec_dst = local->in.sin_addr};
        add_control(message, IPPROTO_IP, IP_PKTINFO, &info, sizeof info);
    }
}

/* packet_size: where the kernel is to cut. */
static int send_bytes(const struct quic_path *path, const uint8_t *bytes, size_t size,
                      size_t packet_size)
{
    union control control = {0};
    struct iovec iov = {(uint8_t *)bytes, size};
    struct msghdr message = {.msg_name = (void *)&path->remote,
                             .msg_namelen = quic_address_size(&path->remote),
                             .msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes};
    add_local(&message, &path->local);
    if (packet_size < size) {
        const uint16_t cut = (uint16_t)packet_size;
        add_control(&message, IPPROTO_UDP, UDP_SEGMENT, &cut, sizeof cut);
    }
    ssize_t n;
    do {
        n = sendmsg(path->socket->watch.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n >= 0)
        return 0;
    return errno == EAGAIN || errno == EWOULDBLOCK ? ERR_AGAIN : -errno;
}

void quic_socket_send(const struct quic_path *path, const uint8_t *bytes, size_t size)
{
    (void)!send_bytes(path, bytes, size, size);
}

uint8_t *quic_batch_room(struct quic_batch *batch)
{
    ASSERT(batch->size + QUIC_PACKET_MAX <= QUIC_BATCH_SIZE);
    return batch->bytes + batch->size;
}

int quic_batch_flush(struct quic_batch *batch)
{
    while (batch->begin < batch->size) {
        const size_t rest = batch->size - batch->begin;
        const size_t part = batch->apart ? MIN(rest, batch->packet_size) : rest;
        const int err =
            send_bytes(&batch->path, batch->bytes + batch->begin, part, batch->packet_size);
        if (err == ERR_AGAIN)
            return err;
        if ((err == -EIO || err == -EINVAL) && part > batch->packet_size)
            batch->apart = true;
        else
            batch->begin += part;
    }
    batch->begin = batch->size = 0;
    batch->count = 0;
    return 0;
}

static bool goes_along(const struct quic_batch *batch, const struct quic_path *path, size_t size)
{
    return batch->count > 0 && batch->path.socket == path->socket && size <= batch->packet_size &&
           memcmp(&batch->path.remote, &path->remote, quic_address_size(&path->remote)) == 0 &&
           memcmp(&batch->path.local, &path->local, quic_address_size(&path->local)) == 0;
}

int quic_batch_add(struct quic_batch *batch, const struct quic_path *path, size_t size)
{
    if (!goes_along(batch, path, size)) {
        const uint8_t *packet = batch->bytes + batch->size;
        const int err = quic_batch_flush(batch);
        if (err < 0)
            return err; /* the packet is lost */
        memmove(batch->bytes, packet, size);
        batch->path = *path;
        batch->packet_size = size;
    }
    batch->size += size;
    batch->count++;
    const bool is_last = size < batch->packet_size || batch->count == QUIC_BATCH_COUNT ||
                         batch->size + QUIC_PACKET_MAX > QUIC_BATCH_SIZE;
    return is_last ? quic_batch_flush(batch) : 0;
}
