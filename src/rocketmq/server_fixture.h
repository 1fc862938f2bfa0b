/* A server of the remoting protocol for unit tests, on the loop of what is tested: it reads
 * requests and leaves to the test what is answered, in which order, and when to hang up. */
#pragma once

#include "base/mem.h"
#include "base/unit.h"
#include "rocketmq/rmq_codes.h"
#include "rocketmq/rmq_command.h"
#include "rocketmq/rmq_net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SERVER_LINKS_MAX = 32, SERVER_NOTES_MAX = 512 };

struct server;

/* A connection that was accepted; fd -1: closed. */
struct server_link {
    struct io_watch watch;
    struct server *server;
    struct rmq_inbox inbox;
};

/* A request that came. */
struct server_note {
    struct server_link *link;
    int32_t code, opaque;
    uint32_t flag;
    char body[64]; /* its beginning, with a NUL */
};

typedef void server_request_fn(struct server_link *link, const struct rmq_command *command,
                               struct slice body);

struct server {
    struct loop *loop;
    struct io_watch listener;
    char address[32];
    struct server_link links[SERVER_LINKS_MAX];
    int accepts;
    struct server_note notes[SERVER_NOTES_MAX];
    int requests;
    server_request_fn *on_request; /* NULL: only noted */
    void *data;
    enum rmq_format format;
};

static inline void server_hang_up(struct server_link *link)
{
    if (link->watch.fd < 0)
        return;
    io_watch_stop(link->server->loop, &link->watch);
    (void)close(link->watch.fd);
    link->watch.fd = -1;
    rmq_inbox_done(&link->inbox);
}

static inline void server_take(struct server_link *link, const struct rmq_frame *frame)
{
    struct server *server = link->server;
    struct rmq_command command;
    const char *why = NULL;
    assert_int_equal(rmq_command_decode(frame, &command, &why), 0);
    assert_true(server->requests < SERVER_NOTES_MAX);
    struct server_note *note = &server->notes[server->requests++];
    *note = (struct server_note){
        .link = link, .code = command.code, .opaque = command.opaque, .flag = command.flag};
    memcpy(note->body, frame->body.bytes, MIN(frame->body.size, sizeof note->body - 1));
    if (server->on_request)
        server->on_request(link, &command, frame->body);
    rmq_command_done(&command);
}

static inline void server_on_readable(struct io_watch *watch, unsigned events)
{
    struct server_link *link = CONTAINER_OF(watch, struct server_link, watch);
    uint8_t *bytes = NULL;
    uint32_t room = 0;
    struct rmq_frame frame;
    const char *why = NULL;
    (void)events;
    assert_int_equal(rmq_inbox_room(&link->inbox, &bytes, &room), 0);
    const ssize_t n = recv(watch->fd, bytes, room, MSG_DONTWAIT);
    if (n <= 0) {
        server_hang_up(link);
        return;
    }
    rmq_inbox_filled(&link->inbox, (uint32_t)n);
    while (watch->fd >= 0 && rmq_inbox_take(&link->inbox, &frame, &why) == 0)
        server_take(link, &frame);
}

static inline void server_on_connection(struct io_watch *watch, unsigned events)
{
    struct server *server = CONTAINER_OF(watch, struct server, listener);
    (void)events;
    const int fd = accept4(watch->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(fd >= 0 && server->accepts < SERVER_LINKS_MAX);
    struct server_link *link = &server->links[server->accepts++];
    link->server = server;
    link->watch.fd = fd;
    link->watch.on_event = server_on_readable;
    rmq_inbox_init(&link->inbox, RMQ_FRAME_SIZE_MAX);
    assert_int_equal(io_watch_start(server->loop, &link->watch, IO_READ), 0);
}

/* On a free port, or one that an earlier server had. */
static inline void server_open(struct server *server, struct loop *loop, uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    *server = (struct server){.loop = loop, .listener.fd = -1, .format = RMQ_JSON};
    for (int i = 0; i < SERVER_LINKS_MAX; i++)
        server->links[i].watch.fd = -1;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    (void)snprintf(server->address, sizeof server->address, "127.0.0.1:%u",
                   ntohs(address.sin_port));
    server->listener.fd = fd;
    server->listener.on_event = server_on_connection;
    assert_int_equal(io_watch_start(loop, &server->listener, IO_READ), 0);
}

static inline uint16_t server_port(const struct server *server)
{
    unsigned port = 0;
    for (const char *digit = strrchr(server->address, ':') + 1; *digit; digit++)
        port = port * 10 + (unsigned)(*digit - '0');
    return (uint16_t)port;
}

static inline void server_close(struct server *server)
{
    for (int i = 0; i < server->accepts; i++)
        server_hang_up(&server->links[i]);
    if (server->listener.fd >= 0) {
        io_watch_stop(server->loop, &server->listener);
        (void)close(server->listener.fd);
        server->listener.fd = -1;
    }
}

static inline void server_send(struct server_link *link, const void *bytes, size_t size)
{
    assert_true(link->watch.fd >= 0);
    assert_int_equal(send(link->watch.fd, bytes, size, MSG_NOSIGNAL), size);
}

static inline void server_send_command(struct server_link *link, const struct rmq_command *command,
                                       struct slice body)
{
    struct buf *frame = NULL;
    assert_int_equal(rmq_command_encode(command, link->server->format, body, &frame), 0);
    server_send(link, buf_bytes(frame), buf_size(frame));
    (void)buf_unref(frame);
}

/* fields: may be NULL. */
static inline void server_answer(struct server_link *link, int32_t opaque, int32_t code,
                                 const struct rmq_fields *fields, const char *body)
{
    struct rmq_command command = {.code = code, .opaque = opaque, .flag = RMQ_FLAG_ANSWER};
    if (fields)
        command.fields = *fields;
    if (code != 0)
        command.remark = slice_str("because");
    server_send_command(link, &command, slice_str(body));
}
