/* The floor of the benchmark's patterns: a relay that does what no MQTT server can leave out, and
 * nothing else. Servers' CPU figures are read against it.
 *
 * It accepts MQTT 3.1.1 connections, cuts what arrives into packets by their fixed headers,
 * answers CONNECT, SUBSCRIBE, PINGREQ and QoS 1 PUBLISH, and passes each PUBLISH unchanged to every
 * connection that has subscribed to anything. It has no topics, sessions, packet identifiers,
 * retransmission, limits or checks.
 *
 * One turn of its loop: wait once; read each ready socket once; gather all PUBLISH packets in one
 * batch. With --log, write the batch to a pre-written file with pwritev and fdatasync. Then send
 * the batch to all subscribers from the same memory, and the acknowledgements to the publishers.
 *
 * Thread: one.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define SCRATCH_SIZE ((size_t)64 * 1024)
#define LOG_SIZE     (256U * 1024U * 1024U)
#define EVENTS_MAX   512

struct bytes {
    uint8_t *data;
    size_t size;
    size_t capacity;
};

struct conn {
    int fd;
    bool subscribed;
    bool wants_write;
    bool dirty; /* in the list of those with something in `out` since the last flush */
    struct bytes in;
    struct bytes out;
    struct conn *next; /* in a list of the floor */
    struct conn *next_dirty;
};

struct floor {
    int epoll_fd;
    int listener_fd;
    int log_fd; /* -1: no log */
    off_t log_offset;
    uint32_t drop_every; /* for the test of the load generator: each nth PUBLISH is not passed on */
    uint32_t drop_count;
    struct conn *subscribers;
    struct conn *dirty;
    struct conn *closed; /* freed at the end of the turn */
    struct bytes batch;
    uint8_t scratch[SCRATCH_SIZE];
};

static void die(const char *what)
{
    fprintf(stderr, "tidemq-floor: could not %s: %s\n", what, strerror(errno));
    exit(1);
}

static void append(struct bytes *bytes, const void *data, size_t size)
{
    if (bytes->capacity - bytes->size < size) {
        size_t capacity = bytes->capacity > 0 ? bytes->capacity : 4096;
        while (capacity - bytes->size < size)
            capacity *= 2;
        bytes->data = realloc(bytes->data, capacity);
        if (bytes->data == NULL)
            die("get memory");
        bytes->capacity = capacity;
    }
    if (size > 0)
        memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
}

static void drop_front(struct bytes *bytes, size_t size)
{
    memmove(bytes->data, bytes->data + size, bytes->size - size);
    bytes->size -= size;
}

static void conn_close(struct floor *floor, struct conn *conn)
{
    if (conn->fd < 0)
        return;
    (void)close(conn->fd);
    conn->fd = -1;
    for (struct conn **at = &floor->subscribers; *at != NULL; at = &(*at)->next) {
        if (*at == conn) {
            *at = conn->next;
            break;
        }
    }
    conn->next = floor->closed;
    floor->closed = conn;
}

static void watch_writable(struct floor *floor, struct conn *conn, bool wanted)
{
    if (conn->wants_write == wanted)
        return;
    struct epoll_event event = {.events = wanted ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = conn};
    (void)epoll_ctl(floor->epoll_fd, EPOLL_CTL_MOD, conn->fd, &event);
    conn->wants_write = wanted;
}

static void conn_answer(struct floor *floor, struct conn *conn, const void *data, size_t size)
{
    append(&conn->out, data, size);
    if (!conn->dirty) {
        conn->dirty = true;
        conn->next_dirty = floor->dirty;
        floor->dirty = conn;
    }
}

static void conn_flush(struct floor *floor, struct conn *conn)
{
    if (conn->fd < 0 || conn->out.size == 0)
        return;
    const ssize_t n = send(conn->fd, conn->out.data, conn->out.size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN) {
        conn_close(floor, conn);
        return;
    }
    if (n > 0)
        drop_front(&conn->out, (size_t)n);
    watch_writable(floor, conn, conn->out.size > 0);
}

/* Sends the turn's batch to one subscriber, copying only what its socket does not take. */
static void conn_send_batch(struct floor *floor, struct conn *conn)
{
    const struct bytes *batch = &floor->batch;
    size_t sent = 0;
    if (conn->out.size == 0) {
        const ssize_t n = send(conn->fd, batch->data, batch->size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0)
            sent = (size_t)n;
    }
    append(&conn->out, batch->data + sent, batch->size - sent);
    watch_writable(floor, conn, conn->out.size > 0);
}

static void on_publish(struct floor *floor, struct conn *conn, const uint8_t *packet, size_t size,
                       size_t head_size)
{
    if ((packet[0] >> 1 & 3) == 1 && size >= head_size + 4) {
        const uint8_t *body = packet + head_size;
        const size_t id_offset = 2U + (size_t)(body[0] << 8 | body[1]);
        if (size >= head_size + id_offset + 2)
            conn_answer(floor, conn, (uint8_t[]){0x40, 2, body[id_offset], body[id_offset + 1]}, 4);
    }
    if (floor->drop_every > 0 && ++floor->drop_count % floor->drop_every == 0)
        return;
    append(&floor->batch, packet, size);
}

static void on_packet(struct floor *floor, struct conn *conn, const uint8_t *packet, size_t size,
                      size_t head_size)
{
    switch (packet[0] >> 4) {
    case 1:
        conn_answer(floor, conn, (uint8_t[]){0x20, 2, 0, 0}, 4);
        break;
    case 3:
        on_publish(floor, conn, packet, size, head_size);
        break;
    case 8:
        if (!conn->subscribed) {
            conn->subscribed = true;
            conn->next = floor->subscribers;
            floor->subscribers = conn;
        }
        conn_answer(
            floor, conn,
            (uint8_t[]){0x90, 3, packet[head_size], packet[head_size + 1], packet[size - 1]}, 5);
        break;
    case 12:
        conn_answer(floor, conn, (uint8_t[]){0xD0, 0}, 2);
        break;
    default: /* PUBACK, DISCONNECT */
        break;
    }
}

/* Returns the size of the packet at `data`, or 0 when it has not wholly arrived. */
static size_t packet_size(const uint8_t *data, size_t size, size_t *ret_head_size)
{
    size_t body_size = 0;
    for (size_t i = 1; i < size && i < 5; i++) {
        body_size |= (size_t)(data[i] & 0x7F) << (7 * (i - 1));
        if ((data[i] & 0x80) == 0) {
            *ret_head_size = i + 1;
            return size - i - 1 >= body_size ? i + 1 + body_size : 0;
        }
    }
    return 0;
}

static size_t handle_packets(struct floor *floor, struct conn *conn, const uint8_t *data,
                             size_t size)
{
    size_t at = 0;
    size_t head_size;
    for (;;) {
        const size_t whole = packet_size(data + at, size - at, &head_size);
        if (whole == 0)
            return at;
        on_packet(floor, conn, data + at, whole, head_size);
        at += whole;
    }
}

static void on_readable(struct floor *floor, struct conn *conn)
{
    const ssize_t n = recv(conn->fd, floor->scratch, SCRATCH_SIZE, MSG_DONTWAIT);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN)
            conn_close(floor, conn);
        return;
    }
    if (conn->in.size > 0) {
        append(&conn->in, floor->scratch, (size_t)n);
        drop_front(&conn->in, handle_packets(floor, conn, conn->in.data, conn->in.size));
        return;
    }
    const size_t used = handle_packets(floor, conn, floor->scratch, (size_t)n);
    append(&conn->in, floor->scratch + used, (size_t)n - used);
}

static void on_accept(struct floor *floor)
{
    for (;;) {
        const int fd = accept4(floor->listener_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        const int on = 1;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct conn *conn = calloc(1, sizeof *conn);
        if (conn == NULL)
            die("get memory");
        conn->fd = fd;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};
        if (epoll_ctl(floor->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
            die("watch a connection");
    }
}

/* Makes the batch durable in whole 4 KiB blocks, as a log with group commit does. */
static void write_log(struct floor *floor)
{
    static const uint8_t zeros[4096];
    const struct bytes *batch = &floor->batch;
    const size_t padding = (4096 - batch->size % 4096) % 4096;
    struct iovec parts[2] = {{.iov_base = batch->data, .iov_len = batch->size},
                             {.iov_base = (void *)(uintptr_t)zeros, .iov_len = padding}};
    if (floor->log_offset + (off_t)(batch->size + padding) > (off_t)LOG_SIZE)
        floor->log_offset = 0;
    if (pwritev(floor->log_fd, parts, 2, floor->log_offset) != (ssize_t)(batch->size + padding) ||
        fdatasync(floor->log_fd) < 0)
        die("write the log");
    floor->log_offset += (off_t)(batch->size + padding);
}

static void end_turn(struct floor *floor)
{
    if (floor->batch.size > 0) {
        if (floor->log_fd >= 0)
            write_log(floor);
        for (struct conn *conn = floor->subscribers; conn != NULL; conn = conn->next)
            conn_send_batch(floor, conn);
        floor->batch.size = 0;
    }
    while (floor->dirty != NULL) {
        struct conn *conn = floor->dirty;
        floor->dirty = conn->next_dirty;
        conn->dirty = false;
        conn_flush(floor, conn);
    }
    while (floor->closed != NULL) {
        struct conn *conn = floor->closed;
        floor->closed = conn->next;
        free(conn->in.data);
        free(conn->out.data);
        free(conn);
    }
}

static void open_log(struct floor *floor, const char *path)
{
    static const uint8_t zeros[1 << 20];
    floor->log_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (floor->log_fd < 0)
        die("open the log");
    for (off_t at = 0; at < (off_t)LOG_SIZE; at += (off_t)sizeof zeros) {
        if (pwrite(floor->log_fd, zeros, sizeof zeros, at) != (ssize_t)sizeof zeros)
            die("pre-write the log");
    }
    if (fsync(floor->log_fd) < 0)
        die("pre-write the log");
}

static void start_listening(struct floor *floor, uint16_t port)
{
    const int on = 1;
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event event = {.events = EPOLLIN};
    floor->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    floor->listener_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (setsockopt(floor->listener_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(floor->listener_fd, (const struct sockaddr *)&address, sizeof address) < 0 ||
        listen(floor->listener_fd, 1024) < 0 ||
        epoll_ctl(floor->epoll_fd, EPOLL_CTL_ADD, floor->listener_fd, &event) < 0)
        die("listen");
}

static void turn(struct floor *floor)
{
    struct epoll_event events[EVENTS_MAX];
    const int count = epoll_wait(floor->epoll_fd, events, EVENTS_MAX, -1);
    for (int i = 0; i < count; i++) {
        struct conn *conn = events[i].data.ptr;
        if (conn == NULL) {
            on_accept(floor);
            continue;
        }
        if (conn->fd >= 0 && (events[i].events & EPOLLOUT))
            conn_flush(floor, conn);
        if (conn->fd >= 0 && (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
            on_readable(floor, conn);
    }
    end_turn(floor);
}

int main(int argc, char **argv)
{
    static struct floor floor = {.log_fd = -1};
    static const struct option options[] = {
        {"port", required_argument, NULL, 'p'},
        {"log", required_argument, NULL, 'l'},
        {"drop-every", required_argument, NULL, 'd'},
        {0},
    };
    unsigned long port = 0;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'p')
            port = strtoul(optarg, NULL, 10);
        else if (option == 'l')
            open_log(&floor, optarg);
        else if (option == 'd')
            floor.drop_every = (uint32_t)strtoul(optarg, NULL, 10);
        else
            return 2;
    }
    if (port == 0 || port > 65535 || optind != argc) {
        fputs("usage: tidemq-floor --port PORT [--log FILE] [--drop-every N]\n", stderr);
        return 2;
    }
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    start_listening(&floor, (uint16_t)port);
    for (;;)
        turn(&floor);
}
