/* Binding, accepting, and the stream stage under a conn. */
#include "net/listener.h"

#include "base/mem.h"
#include "base/unit.h"
#include "net/tcp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* --- sockets ------------------------------------------------------------------------------------
 */

struct fixture {
    struct loop *loop;
    struct listener *listener;
    int accepted_count, accepted_fd;
    char address[PEER_TEXT_MAX];
    char folder[64];
};

static void on_accept(void *data, int fd, const struct peer *peer)
{
    struct fixture *fixture = data;
    if (fixture->accepted_fd >= 0)
        (void)close(fixture->accepted_fd);
    fixture->accepted_fd = fd;
    fixture->accepted_count++;
    memcpy(fixture->address, peer->text, sizeof fixture->address);
}

static int set_up(void **state)
{
    struct fixture *fixture = mem_new(sizeof *fixture);
    fixture->accepted_fd = -1;
    (void)snprintf(fixture->folder, sizeof fixture->folder, "/tmp/listener_test.XXXXXX");
    *state = fixture;
    return !mkdtemp(fixture->folder) || loop_new(&fixture->loop, NULL) < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    (void)listener_free(fixture->listener);
    (void)loop_free(fixture->loop);
    if (fixture->accepted_fd >= 0)
        (void)close(fixture->accepted_fd);
    (void)rmdir(fixture->folder);
    mem_free(fixture);
    return 0;
}

static int try_listen(struct fixture *fixture, const char *text, struct listener **ret_listener,
                      struct errmsg *reterr)
{
    struct listener_url url;
    const struct listener_config config = {
        .loop = fixture->loop, .on_accept = on_accept, .data = fixture};
    assert_int_equal(listener_url_parse(text, &url, reterr), 0);
    return listener_new(&url, &config, ret_listener, reterr);
}

static void listen_on(struct fixture *fixture, const char *text)
{
    struct errmsg why = {0};
    if (try_listen(fixture, text, &fixture->listener, &why) < 0)
        fail_msg("%s", why.text);
}

static int connect_v4(uint16_t port)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static void accept_one(struct fixture *fixture)
{
    const int before = fixture->accepted_count;
    while (fixture->accepted_count == before)
        assert_int_equal(loop_turn(fixture->loop, -1), 0);
}

static void tcp_is_accepted(void **state)
{
    struct fixture *fixture = *state;
    listen_on(fixture, "mqtt://127.0.0.1:0");
    const uint16_t port = listener_port(fixture->listener);
    assert_true(port > 0);
    char bound[64];
    (void)snprintf(bound, sizeof bound, "mqtt://127.0.0.1:%u", port);
    assert_string_equal(listener_bound(fixture->listener), bound);
    const int client = connect_v4(port);
    accept_one(fixture);
    assert_int_equal(strncmp(fixture->address, "127.0.0.1:", 10), 0);
    assert_int_equal(fcntl(fixture->accepted_fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    (void)close(client);
}

/* '*' is both families on one port where there is IPv6, else IPv4 alone. */
static void everywhere_includes_ipv4(void **state)
{
    struct fixture *fixture = *state;
    listen_on(fixture, "mqtt://*:0");
    const int client = connect_v4(listener_port(fixture->listener));
    accept_one(fixture);
    assert_int_equal(strncmp(fixture->address, "127.0.0.1:", 10), 0);
    (void)close(client);
}

static void a_taken_port_is_told(void **state)
{
    struct fixture *fixture = *state;
    listen_on(fixture, "mqtt://127.0.0.1:0");
    struct listener *second = NULL;
    struct errmsg why = {0};
    assert_int_equal(try_listen(fixture, listener_bound(fixture->listener), &second, &why),
                     -EADDRINUSE);
    assert_non_null(strstr(why.text, "could not listen on 127.0.0.1:"));
}

static void unix_sockets_are_accepted(void **state)
{
    struct fixture *fixture = *state;
    char url[128];
    (void)snprintf(url, sizeof url, "mqtt+unix:%s/s", fixture->folder);
    const char *path = url + strlen("mqtt+unix:");
    /* What a dead process left behind is replaced … */
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, path, strlen(path) + 1);
    const int dead = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(dead, (struct sockaddr *)&address, sizeof address), 0);
    (void)close(dead);
    listen_on(fixture, url);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0660);
    const int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(client, (struct sockaddr *)&address, sizeof address), 0);
    accept_one(fixture);
    assert_string_equal(fixture->address, "unix");
    (void)close(client);
    /* … what a living one uses is not, */
    struct listener *second = NULL;
    struct errmsg why = {0};
    assert_int_equal(try_listen(fixture, url, &second, &why), -EADDRINUSE);
    /* and the file goes with the listener. */
    fixture->listener = listener_free(fixture->listener);
    assert_int_equal(stat(path, &info), -1);
}

static void other_files_are_left_alone(void **state)
{
    struct fixture *fixture = *state;
    char url[128];
    (void)snprintf(url, sizeof url, "mqtt+unix:%s/s", fixture->folder);
    const char *path = url + strlen("mqtt+unix:");
    const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
    struct listener *listener = NULL;
    struct errmsg why = {0};
    assert_int_equal(try_listen(fixture, url, &listener, &why), -EADDRINUSE);
    assert_int_equal(unlink(path), 0);
}

/* Out of descriptors the listener waits, without turning in circles, and goes on by itself. */
static void too_many_open_files_pause_accepting(void **state)
{
    struct fixture *fixture = *state;
    listen_on(fixture, "mqtt://127.0.0.1:0");
    const int client = connect_v4(listener_port(fixture->listener));
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    const struct rlimit tight = {.rlim_cur = (rlim_t)client + 1, .rlim_max = limit.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    const int turned = loop_turn(fixture->loop, -1);
    const int turned_idle = loop_turn(fixture->loop, 0); /* not ready again */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(turned, 0);
    assert_int_equal(turned_idle, 0);
    assert_int_equal(fixture->accepted_count, 0);
    accept_one(fixture);
    (void)close(client);
}

/* --- the socket stage
 * ----------------------------------------------------------------------------- */

static unsigned ready_events;

static void on_ready(struct stream *stream, unsigned events)
{
    (void)stream;
    ready_events |= events;
}

/* [MQTT3-7.1.1-1] [MQTT5-4.2.0-1] */
static void tcp_stage_reads_and_writes(void **state)
{
    struct fixture *fixture = *state;
    listen_on(fixture, "mqtt://127.0.0.1:0");
    const int client = connect_v4(listener_port(fixture->listener));
    accept_one(fixture);
    const struct sockaddr_in from = {.sin_family = AF_INET, .sin_port = htons(9)};
    const struct peer *peer = peer_new((const struct sockaddr *)&from);
    struct stream *stream = tcp_new(fixture->loop, fixture->accepted_fd, peer);
    assert_ptr_equal(stream_peer(stream), peer);
    int no_delay = 0;
    socklen_t size = sizeof no_delay;
    assert_int_equal(getsockopt(fixture->accepted_fd, IPPROTO_TCP, TCP_NODELAY, &no_delay, &size),
                     0);
    assert_int_equal(no_delay, 1);
    fixture->accepted_fd = -1;
    stream->on_ready = on_ready;
    char bytes[8];
    assert_int_equal(stream_read(stream, bytes, sizeof bytes), ERR_AGAIN);
    assert_int_equal(stream_want(stream, IO_READ), 0);
    assert_int_equal(write(client, "abc", 3), 3);
    ready_events = 0;
    while (!(ready_events & IO_READ))
        assert_int_equal(loop_turn(fixture->loop, -1), 0);
    assert_int_equal(stream_read(stream, bytes, sizeof bytes), 3);
    const struct iovec iov[] = {{.iov_base = "12", .iov_len = 2}, {.iov_base = "3", .iov_len = 1}};
    assert_int_equal(stream_writev(stream, iov, 2), 3);
    assert_int_equal(read(client, bytes, sizeof bytes), 3);
    assert_memory_equal(bytes, "123", 3);
    stream_shutdown(stream);
    assert_int_equal(read(client, bytes, sizeof bytes), 0);
    /* Without interest even a hang-up is not reported. */
    assert_int_equal(stream_want(stream, 0), 0);
    (void)close(client);
    ready_events = 0;
    assert_int_equal(loop_turn(fixture->loop, 0), 0);
    assert_int_equal(ready_events, 0);
    assert_int_equal(stream_want(stream, IO_READ), 0);
    while (!(ready_events & IO_READ))
        assert_int_equal(loop_turn(fixture->loop, -1), 0);
    assert_int_equal(stream_read(stream, bytes, sizeof bytes), 0);
    assert_null(stream_close(stream));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(tcp_is_accepted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(everywhere_includes_ipv4, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_taken_port_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unix_sockets_are_accepted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(other_files_are_left_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(too_many_open_files_pause_accepting, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tcp_stage_reads_and_writes, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
