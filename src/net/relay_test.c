/* A relay with a real front thread, between a user on the test's loop and a socket that the test
 * holds the other end of. */
#include "net/front.h"

#include "base/mem.h"
#include "base/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TURN_MS = 5000 };

struct user {
    struct loop *loop;
    struct budget budget;
    struct front *front;
    struct stream *stream;
    const struct peer *peer;
    int fd; /* the peer's end; blocking */
    uint8_t bytes[4 * 1024 * 1024];
    size_t size;
    size_t read_max;
    ssize_t end; /* what reading said last: 0 or an error, 1 before that */
    unsigned events;
    bool reads;
};

static void on_ready(struct stream *stream, unsigned events)
{
    struct user *user = stream->owner;
    user->events |= events;
    if (!(events & IO_READ) || !user->reads)
        return;
    assert_true(user->size + user->read_max <= sizeof user->bytes);
    const ssize_t n = stream_read(stream, user->bytes + user->size, user->read_max);
    if (n > 0)
        user->size += (size_t)n;
    else if (n != (ssize_t)ERR_AGAIN)
        user->end = n;
    assert_int_equal(stream_want(stream, user->end == 1 ? IO_READ : 0), 0);
}

static int set_up_with(void **state, const char *url_text)
{
    struct user *user = mem_new(sizeof *user);
    struct errmsg err;
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(fcntl(pair[0], F_SETFL, O_NONBLOCK), 0);
    user->fd = pair[1];
    user->budget.max = 64u * 1024 * 1024;
    user->read_max = 1000;
    user->end = 1;
    user->reads = true;
    assert_int_equal(loop_new(&user->loop, &err), 0);
    assert_int_equal(front_new(user->loop, &user->budget, "front", &user->front, &err), 0);
    struct listener_url url;
    struct stack *stack = NULL;
    const struct ws_options websocket = {.frame_max = 1000};
    const struct stack_config config = {.websocket = &websocket};
    const struct sockaddr from = {.sa_family = AF_UNIX};
    assert_int_equal(listener_url_parse(url_text, &url, &err), 0);
    assert_int_equal(stack_new(&url, &config, &stack, &err), 0);
    user->peer = peer_new(&from);
    user->stream = relay_new(user->front, stack, pair[0], peer_ref(user->peer));
    assert_null(stack_unref(stack));
    user->stream->on_ready = on_ready;
    user->stream->owner = user;
    assert_int_equal(front_relays(user->front), 1);
    *state = user;
    return 0;
}

static int set_up(void **state)
{
    return set_up_with(state, "mqtt+unix:x");
}

static int set_up_websocket(void **state)
{
    return set_up_with(state, "ws://x");
}

static int tear_down(void **state)
{
    struct user *user = *state;
    user->stream = stream_close(user->stream);
    (void)front_free(user->front);
    user->peer = peer_unref(user->peer);
    assert_int_equal(user->budget.used, 0);
    (void)loop_free(user->loop);
    if (user->fd >= 0)
        (void)close(user->fd);
    mem_free(user);
    return 0;
}

#define TURN_UNTIL(user, condition)                                                                \
    while (!(condition))                                                                           \
    assert_int_equal(loop_turn((user)->loop, TURN_MS), 0)

static void send_all(int fd, const void *bytes, size_t size)
{
    assert_int_equal(send(fd, bytes, size, 0), size);
}

static void fill(uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(i * 31 + i / 251);
}

static void bytes_come_whole_and_then_the_end(void **state)
{
    struct user *user = *state;
    static uint8_t sent[100000];
    fill(sent, sizeof sent);
    assert_int_equal(stream_want(user->stream, IO_READ), 0);
    send_all(user->fd, sent, sizeof sent);
    TURN_UNTIL(user, user->size == sizeof sent);
    assert_memory_equal(user->bytes, sent, sizeof sent);
    assert_int_equal(shutdown(user->fd, SHUT_WR), 0);
    TURN_UNTIL(user, user->end == 0);
    assert_int_equal(user->budget.used, 0);
}

/* The address is known at once, and still is when the front has told what it knows. */
static void the_peer_is_known(void **state)
{
    struct user *user = *state;
    assert_ptr_equal(stream_peer(user->stream), user->peer);
    assert_int_equal(stream_want(user->stream, IO_READ), 0);
    send_all(user->fd, "a", 1);
    TURN_UNTIL(user, user->size == 1);
    assert_ptr_equal(stream_peer(user->stream), user->peer);
}

/* A user that does not read: the front stops, the peer blocks, and nothing is lost. */
static void an_idle_user_stops_the_peer(void **state)
{
    struct user *user = *state;
    static uint8_t sent[3 * 1024 * 1024];
    fill(sent, sizeof sent);
    assert_int_equal(fcntl(user->fd, F_SETFL, O_NONBLOCK), 0);
    user->reads = false;
    assert_int_equal(stream_want(user->stream, 0), 0);
    size_t given = 0;
    for (;;) { /* until the socket is full, and stays so: the front has said that it holds */
        const ssize_t n = send(user->fd, sent + given, sizeof sent - given, 0);
        if (n > 0) {
            given += (size_t)n;
            continue;
        }
        assert_int_equal(errno, EAGAIN);
        const uint64_t before = user->budget.used;
        assert_int_equal(loop_turn(user->loop, 100), 0);
        struct pollfd poll_fd = {.fd = user->fd, .events = POLLOUT};
        if (user->budget.used == before && poll(&poll_fd, 1, 100) == 0)
            break;
    }
    assert_true(given < sizeof sent); /* it was stopped */
    assert_true(user->budget.used > 0);
    user->reads = true;
    user->read_max = 50000;
    assert_int_equal(stream_want(user->stream, IO_READ), 0);
    while (user->size < sizeof sent) {
        const ssize_t n = send(user->fd, sent + given, sizeof sent - given, 0);
        given += n > 0 ? (size_t)n : 0;
        assert_int_equal(loop_turn(user->loop, user->size < given ? TURN_MS : 0), 0);
    }
    assert_memory_equal(user->bytes, sent, sizeof sent);
    assert_int_equal(user->budget.used, 0);
}

/* Reads what the peer gets, without the loop waiting for it. */
static size_t receive(int fd, uint8_t *bytes, size_t size)
{
    const ssize_t n = recv(fd, bytes, size, MSG_DONTWAIT);
    assert_true(n >= 0 || errno == EAGAIN);
    return n > 0 ? (size_t)n : 0;
}

/* A peer that does not read: writing stops at a window, which is charged, and goes on after. */
static void a_slow_peer_stops_the_user(void **state)
{
    struct user *user = *state;
    static uint8_t sent[4 * 1024 * 1024], got[4 * 1024 * 1024];
    fill(sent, sizeof sent);
    size_t given = 0, received = 0;
    for (;;) {
        const struct iovec iov[2] = {{sent + given, 1},
                                     {sent + given + 1, sizeof sent - given - 1}};
        const ssize_t n = stream_writev(user->stream, iov, 2);
        if (n == (ssize_t)ERR_AGAIN)
            break;
        assert_true(n > 0);
        given += (size_t)n;
    }
    assert_true(given < sizeof sent);
    assert_int_equal(user->budget.used, given);
    assert_int_equal(stream_want(user->stream, IO_WRITE), 0);
    while (received < sizeof sent) {
        received += receive(user->fd, got + received, sizeof got - received);
        user->events = 0;
        assert_int_equal(loop_turn(user->loop, 1), 0);
        if (!(user->events & IO_WRITE) || given == sizeof sent)
            continue;
        const struct iovec iov = {sent + given, sizeof sent - given};
        const ssize_t n = stream_writev(user->stream, &iov, 1);
        assert_true(n > 0);
        given += (size_t)n;
        assert_int_equal(stream_want(user->stream, given < sizeof sent ? IO_WRITE : 0), 0);
    }
    assert_memory_equal(got, sent, sizeof sent);
    TURN_UNTIL(user, user->budget.used == 0);
}

/* While the budget is short one stream gets a sixteenth of the window. */
static void a_short_budget_makes_the_window_small(void **state)
{
    struct user *user = *state;
    static uint8_t sent[1024 * 1024];
    const uint64_t others = user->budget.max / 2 + 1;
    budget_charge(&user->budget, others);
    const struct iovec iov = {sent, sizeof sent};
    assert_int_equal(stream_writev(user->stream, &iov, 1), 64 * 1024);
    budget_give(&user->budget, others);
}

static void shutdown_comes_behind_the_bytes(void **state)
{
    struct user *user = *state;
    static uint8_t sent[200000], got[200001];
    fill(sent, sizeof sent);
    const struct iovec iov = {sent, sizeof sent};
    assert_int_equal(stream_writev(user->stream, &iov, 1), sizeof sent);
    stream_shutdown(user->stream);
    size_t received = 0;
    for (;;) {
        assert_int_equal(loop_turn(user->loop, 1), 0);
        const ssize_t n = recv(user->fd, got + received, sizeof got - received, MSG_DONTWAIT);
        if (n == 0)
            break;
        received += n > 0 ? (size_t)n : 0;
    }
    assert_int_equal(received, sizeof sent);
    assert_memory_equal(got, sent, sizeof sent);
}

/* The peer is gone: an error, or an end and then an error for the writer. */
static void a_lost_peer_is_told(void **state)
{
    struct user *user = *state;
    assert_int_equal(stream_want(user->stream, IO_READ), 0);
    assert_int_equal(close(user->fd), 0);
    user->fd = -1;
    TURN_UNTIL(user, user->end <= 0);
    const struct iovec iov = {"x", 1};
    ssize_t n = 0;
    assert_int_equal(stream_want(user->stream, IO_WRITE), 0);
    while ((n = stream_writev(user->stream, &iov, 1)) >= 0 || n == (ssize_t)ERR_AGAIN)
        assert_int_equal(loop_turn(user->loop, 10), 0);
    assert_int_equal(n, -EPIPE);
}

/* Closing while bytes are on the way in both directions. */
static void closing_needs_no_order(void **state)
{
    struct user *user = *state;
    static uint8_t sent[50000];
    send_all(user->fd, sent, sizeof sent);
    const struct iovec iov = {sent, sizeof sent};
    assert_int_equal(stream_writev(user->stream, &iov, 1), sizeof sent);
    user->stream = stream_close(user->stream);
    assert_int_equal(user->budget.used, 0);
    TURN_UNTIL(user, front_relays(user->front) == 0);
}

/* No memory to set bytes aside: the stream fails, the front goes on. */
static void without_memory_one_stream_fails(void **state)
{
    struct user *user = *state;
    user->reads = false;
    send_all(user->fd, "abc", 3);
    mem_fail_at(1);
    while (user->events == 0) {
        assert_int_equal(loop_turn(user->loop, TURN_MS), 0);
        assert_int_equal(stream_want(user->stream, IO_READ), 0);
    }
    mem_fail_at(0);
    uint8_t byte = 0;
    assert_int_equal(stream_read(user->stream, &byte, 1), ERR_NOMEM);
}

/* What broke the rules of a stage on the front is known at home. */
static void a_fault_of_the_peer_is_told(void **state)
{
    struct user *user = *state;
    assert_true(stream_lingers(user->stream));
    assert_null(stream_fault(user->stream));
    assert_int_equal(stream_want(user->stream, IO_READ), 0);
    send_all(user->fd, "\x10", 1);
    assert_int_equal(shutdown(user->fd, SHUT_WR), 0);
    TURN_UNTIL(user, user->end != 1);
    assert_int_equal(user->end, ERR_PROTOCOL);
    assert_string_equal(stream_fault(user->stream),
                        "this is not HTTP; MQTT over WebSocket is served here");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bytes_come_whole_and_then_the_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_peer_is_known, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_idle_user_stops_the_peer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_slow_peer_stops_the_user, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_short_budget_makes_the_window_small, set_up, tear_down),
        cmocka_unit_test_setup_teardown(shutdown_comes_behind_the_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_lost_peer_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_fault_of_the_peer_is_told, set_up_websocket, tear_down),
        cmocka_unit_test_setup_teardown(closing_needs_no_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_memory_one_stream_fails, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("net/relay", tests, NULL, NULL);
}
