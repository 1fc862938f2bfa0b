/* Listener URLs, binding, accepting, and the stream stage under a conn. */
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

static void urls_are_parsed(void **state)
{
    (void)state;
    static const struct {
        const char *url, *host, *path;
        uint16_t port;
    } rows[] = {
        {"mqtt://127.0.0.1:1", "127.0.0.1", "", 1},
        {"mqtt://[::1]:1883", "::1", "", 1883},
        {"mqtt://[::]", "::", "", 1883},
        {"mqtt://*:65535", "*", "", 65535},
        {"mqtt://broker.example", "broker.example", "", 1883},
        {"mqtt://localhost:0", "localhost", "", 0},
        {"mqtt+unix:/run/x.sock", "", "/run/x.sock", 0},
        {"mqtt+unix:///run/x.sock", "", "/run/x.sock", 0},
        {"mqtt+unix:x.sock", "", "x.sock", 0},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct listener_url url;
        struct errmsg why = {0};
        if (listener_url_parse(rows[i].url, &url, &why) < 0)
            fail_msg("%s", why.text);
        assert_int_equal(url.kind, *rows[i].path ? LISTENER_UNIX : LISTENER_TCP);
        assert_string_equal(url.host, rows[i].host);
        assert_string_equal(url.path, rows[i].path);
        assert_int_equal(url.port, rows[i].port);
    }
}

static void bad_urls_are_explained(void **state)
{
    (void)state;
    static const struct {
        const char *url, *told;
    } rows[] = {
        {"", "a listener is 'mqtt://HOST:PORT'"},
        {"127.0.0.1:1883", "a listener is"},
        {"mqtts://x:1", "a listener is"},
        {"mqtt://", "the host is missing"},
        {"mqtt://:1883", "the host is missing"},
        {"mqtt://x:", "port '' is not a number"},
        {"mqtt://x:65536", "port '65536' is not a number from 0 to 65535"},
        {"mqtt://x:99999999999999999999", "is not a number from 0 to 65535"},
        {"mqtt://x:12a", "port '12a'"},
        {"mqtt://x:-1", "port '-1'"},
        {"mqtt://::1:1883", "must stand in [brackets]"},
        {"mqtt://[::1", "the ']'"},
        {"mqtt://[::1]1883", "':PORT' is expected behind ']'"},
        {"mqtt://[localhost]:1", "'localhost' is not an IPv6 address"},
        {"mqtt://x:1/path", "only HOST:PORT may follow"},
        {"mqtt://user@x:1", "only HOST:PORT may follow"},
        {"mqtt+unix:", "must have 1 to 107 bytes"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct listener_url url;
        struct errmsg why = {0};
        assert_int_equal(listener_url_parse(rows[i].url, &url, &why), ERR_INVALID);
        if (!strstr(why.text, rows[i].told))
            fail_msg("'%s' does not say '%s'", why.text, rows[i].told);
    }
    char text[400] = "mqtt+unix:/";
    memset(text + strlen(text), 'x', 107);
    struct listener_url url;
    struct errmsg why = {0};
    assert_int_equal(listener_url_parse(text, &url, &why), ERR_INVALID);
    assert_non_null(strstr(why.text, "must have 1 to 107 bytes"));
}

static void loopback_is_recognized(void **state)
{
    (void)state;
    static const struct {
        const char *url;
        bool local;
    } rows[] = {
        {"mqtt://127.0.0.1:1", true},    {"mqtt://127.9.9.9:1", true},
        {"mqtt://[::1]:1", true},        {"mqtt://localhost:1", true},
        {"mqtt+unix:/x", true},          {"mqtt://[::ffff:127.0.0.1]:1", true},
        {"mqtt://0.0.0.0:1", false},     {"mqtt://[::]:1", false},
        {"mqtt://*:1", false},           {"mqtt://192.0.2.1:1", false},
        {"mqtt://[2001:db8::1]", false},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct listener_url url;
        assert_int_equal(listener_url_parse(rows[i].url, &url, NULL), 0);
        if (listener_url_is_local(&url) != rows[i].local)
            fail_msg("%s", rows[i].url);
    }
}

static void addresses_are_written(void **state)
{
    (void)state;
    char text[LISTENER_ADDRESS_MAX];
    struct sockaddr_storage address = {0};
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&address;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(9);
    assert_int_equal(inet_pton(AF_INET6, "2001:db8::1", &in6->sin6_addr), 1);
    listener_address_text(&address, text, sizeof text);
    assert_string_equal(text, "[2001:db8::1]:9");
    assert_int_equal(inet_pton(AF_INET6, "::ffff:192.0.2.7", &in6->sin6_addr), 1);
    listener_address_text(&address, text, sizeof text);
    assert_string_equal(text, "192.0.2.7:9");
    address = (struct sockaddr_storage){.ss_family = AF_UNIX};
    listener_address_text(&address, text, sizeof text);
    assert_string_equal(text, "unix");
}

/* --- sockets ------------------------------------------------------------------------------------
 */

struct fixture {
    struct loop *loop;
    struct listener *listener;
    int accepted_count, accepted_fd;
    char address[LISTENER_ADDRESS_MAX];
    char folder[64];
};

static void on_accept(void *data, int fd, const char *address)
{
    struct fixture *fixture = data;
    if (fixture->accepted_fd >= 0)
        (void)close(fixture->accepted_fd);
    fixture->accepted_fd = fd;
    fixture->accepted_count++;
    memcpy(fixture->address, address, strlen(address) + 1);
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
    struct stream *stream = tcp_new(fixture->loop, fixture->accepted_fd);
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
        cmocka_unit_test(urls_are_parsed),
        cmocka_unit_test(bad_urls_are_explained),
        cmocka_unit_test(loopback_is_recognized),
        cmocka_unit_test(addresses_are_written),
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
