/* The stage of the PROXY protocol over a socket pair. */
#include "net/proxy_header.h"

#include "base/mem.h"
#include "base/unit.h"
#include "net/peer.h"
#include "net/tcp.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINE "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
#define BINARY                                                                                     \
    "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x12\xc0\0\x02\x07\xc6\x33\x64\x01\xdc\x04\x01\xbb\x02\0\x03"   \
    "a.b"

struct bench {
    struct loop *loop;
    struct metrics *metrics;
    struct stream *stream;
    int fd;
    char bytes[256];
    size_t size, read_max;
    ssize_t end; /* 1: not yet */
};

static void on_ready(struct stream *stream, unsigned events)
{
    struct bench *b = stream->owner;
    if (!(events & (IO_READ | IO_HANGUP)))
        return;
    const ssize_t n = stream_read(stream, b->bytes + b->size, b->read_max);
    if (n > 0)
        b->size += (size_t)n;
    else if (n != (ssize_t)ERR_AGAIN)
        b->end = n;
    assert_int_equal(stream_want(stream, b->end == 1 ? IO_READ : 0), 0);
}

static void connect_as(struct bench *b, enum proxy_header mode)
{
    int pair[2];
    const struct sockaddr from = {.sa_family = AF_UNIX};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    b->fd = pair[0];
    b->size = 0;
    b->end = 1;
    b->read_max = 64;
    b->stream = proxy_header_new(b->loop, tcp_new(b->loop, pair[1], peer_new(&from)), mode, NULL,
                                 b->metrics);
    b->stream->on_ready = on_ready;
    b->stream->owner = b;
    assert_int_equal(stream_want(b->stream, IO_READ), 0);
}

static void disconnect(struct bench *b)
{
    b->stream = stream_close(b->stream);
    (void)close(b->fd);
}

static int set_up(void **state)
{
    struct bench *b = mem_new(sizeof *b);
    b->metrics = metrics_new();
    assert_int_equal(loop_new(&b->loop, NULL), 0);
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    struct bench *b = *state;
    (void)metrics_free(b->metrics);
    (void)loop_free(b->loop);
    mem_free(b);
    return 0;
}

static void put(struct bench *b, const char *bytes, size_t size)
{
    assert_int_equal(send(b->fd, bytes, size, MSG_NOSIGNAL), size);
    for (int i = 0; i < 20; i++)
        assert_int_equal(loop_turn(b->loop, 0), 0);
}

static void end(struct bench *b)
{
    assert_int_equal(shutdown(b->fd, SHUT_WR), 0);
    for (int i = 0; i < 20; i++)
        assert_int_equal(loop_turn(b->loop, 0), 0);
}

static void the_header_is_taken_off(void **state)
{
    struct bench *b = *state;
    static const struct {
        const char *bytes;
        size_t size;
        const char *sni;
    } rows[] = {{LINE, sizeof LINE - 1, NULL}, {BINARY, sizeof BINARY - 1, "a.b"}};
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        for (size_t read_max = 1; read_max <= 64; read_max += 63) {
            /* With bytes behind it, and alone; and cut in two anywhere. */
            for (size_t cut = 0; cut <= rows[i].size; cut++) {
                connect_as(b, PROXY_HEADER_REQUIRED);
                b->read_max = read_max;
                if (cut > 0)
                    put(b, rows[i].bytes, cut);
                assert_int_equal(b->size, 0);
                char rest[128];
                memcpy(rest, rows[i].bytes + cut, rows[i].size - cut);
                memcpy(rest + rows[i].size - cut, "hello", 5);
                put(b, rest, rows[i].size - cut + 5);
                put(b, ", world", 7);
                assert_int_equal(b->size, 12);
                assert_memory_equal(b->bytes, "hello, world", 12);
                const struct peer *peer = stream_peer(b->stream);
                assert_string_equal(peer->text, "192.0.2.7:56324");
                if (rows[i].sni)
                    assert_string_equal(peer->sni, rows[i].sni);
                end(b);
                assert_int_equal(b->end, 0);
                disconnect(b);
            }
        }
    }
}

static void what_the_proxy_says_for_itself_changes_nothing(void **state)
{
    struct bench *b = *state;
    connect_as(b, PROXY_HEADER_REQUIRED);
    put(b, "PROXY UNKNOWN\r\nx", 16);
    assert_int_equal(b->size, 1);
    assert_string_equal(stream_peer(b->stream)->text, "unix");
    disconnect(b);
}

static void without_a_header_it_depends(void **state)
{
    struct bench *b = *state;
    connect_as(b, PROXY_HEADER_OPTIONAL);
    put(b, "\x10hello", 6);
    assert_int_equal(b->size, 6);
    assert_memory_equal(b->bytes, "\x10hello", 6);
    assert_string_equal(stream_peer(b->stream)->text, "unix");
    disconnect(b);
    connect_as(b, PROXY_HEADER_REQUIRED);
    put(b, "\x10hello", 6);
    assert_int_equal(b->size, 0);
    assert_int_equal(b->end, ERR_PROTOCOL);
    assert_int_equal(metric_get(&b->metrics->proxy_headers_refused), 1);
    disconnect(b);
}

static void wrong_headers_end_the_stream(void **state)
{
    struct bench *b = *state;
    connect_as(b, PROXY_HEADER_OPTIONAL);
    put(b, "PROXY TCP4 1.2.3.4\r\n", 20);
    assert_int_equal(b->end, ERR_MALFORMED);
    disconnect(b);
    connect_as(b, PROXY_HEADER_OPTIONAL);
    put(b, "PROXY TCP4 1.2", 14);
    assert_int_equal(b->end, 1);
    end(b);
    assert_int_equal(b->end, ERR_PROTOCOL);
    assert_int_equal(metric_get(&b->metrics->proxy_headers_refused), 2);
    disconnect(b);
}

/* A health check connects and goes: no fault of anybody. */
static void an_end_at_once_is_one(void **state)
{
    struct bench *b = *state;
    connect_as(b, PROXY_HEADER_REQUIRED);
    end(b);
    assert_int_equal(b->end, 0);
    assert_int_equal(metric_get(&b->metrics->proxy_headers_refused), 0);
    disconnect(b);
}

static void no_memory_ends_one_stream(void **state)
{
    struct bench *b = *state;
    mem_fail_at(1);
    connect_as(b, PROXY_HEADER_REQUIRED);
    mem_fail_at(0);
    assert_int_equal(loop_turn(b->loop, 0), 0);
    assert_int_equal(b->end, ERR_NOMEM);
    disconnect(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_header_is_taken_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_the_proxy_says_for_itself_changes_nothing, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(without_a_header_it_depends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wrong_headers_end_the_stream, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_end_at_once_is_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_memory_ends_one_stream, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
