/* The proxy as a whole: listeners, limits on connections, clients who must log in. */
#include "proxy/testbed.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

/* --- listeners
 * ------------------------------------------------------------------------------------ */

static int connect_to(uint16_t port)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static void count_listener(void *data, const char *url, const char *bound)
{
    assert_string_equal(url, "mqtt://127.0.0.1:0");
    assert_null(strstr(bound, ":0"));
    ++*(int *)data;
}

static void connections_are_limited(void **state)
{
    (void)state;
    struct bench bench;
    struct proxy_config config;
    proxy_config_default(&config);
    config.connections_max = 1;
    bench_open(&bench, &config);
    struct errmsg why = {0};
    if (proxy_listen(bench.proxy, "mqtt://127.0.0.1:0", &why) < 0)
        fail_msg("%s", why.text);
    int count = 0;
    proxy_listeners(bench.proxy, count_listener, &count);
    assert_int_equal(count, 1);
    const int first = connect_to(proxy_port(bench.proxy));
    const uint8_t connect_packet[] = {CONNECT_311};
    assert_int_equal(write(first, connect_packet, sizeof connect_packet), sizeof connect_packet);
    while (core.connects == 0)
        assert_int_equal(loop_turn(bench.loop, -1), 0);
    assert_int_equal(strncmp(core.link->address, "127.0.0.1:", 10), 0);
    const int second = connect_to(proxy_port(bench.proxy));
    while (metric_get(&bench.metrics->connections_refused) == 0)
        assert_int_equal(loop_turn(bench.loop, -1), 0);
    uint8_t byte;
    assert_int_equal(read(second, &byte, 1), 0);
    assert_int_equal(proxy_connections(bench.proxy), 1);
    assert_int_equal(proxy_unlisten(bench.proxy, "mqtt://127.0.0.1:0"), 0);
    assert_int_equal(proxy_unlisten(bench.proxy, "mqtt://127.0.0.1:0"), ERR_NOTFOUND);
    assert_int_equal(proxy_port(bench.proxy), 0);
    (void)close(first);
    (void)close(second);
    bench_close(&bench);
}

static void bad_urls_are_refused(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    struct errmsg why = {0};
    assert_int_equal(proxy_listen(bench.proxy, "http://x", &why), ERR_INVALID);
    assert_non_null(strstr(why.text, "http://x"));
    bench_close(&bench);
}

/* --- logging in
 * ------------------------------------------------------------------------------------ */

/* A bench whose authenticator is a password file with the user "u", password "p". */
struct guarded {
    struct bench bench;
    char path[64];
    struct worker_pool *workers;
    struct mailbox *mailbox;
};

static void guarded_open(struct guarded *guarded, uint32_t waiting_max)
{
    bench_open(&guarded->bench, NULL);
    (void)snprintf(guarded->path, sizeof guarded->path, "/tmp/proxy_test.XXXXXX");
    const int fd = mkstemp(guarded->path);
    /* SHA-crypt of "p", slow enough to be met under way */
    static const char line[] =
        "u:$5$rounds=200000$saltsalt$aRJN7S.8MLSh0J2E7CMvM7enNykrA9Z8UaQYRYYMiW8\n";
    assert_int_equal(write(fd, line, sizeof line - 1), sizeof line - 1);
    (void)close(fd);
    assert_int_equal(worker_pool_new(1, &guarded->workers, NULL), 0);
    assert_int_equal(mailbox_new(guarded->bench.loop, &guarded->mailbox, NULL), 0);
    const struct auth_config config = {.password_file = guarded->path, .waiting_max = waiting_max};
    const struct auth_deps deps = {.workers = guarded->workers, .mailbox = guarded->mailbox};
    (void)auth_free(guarded->bench.auth);
    struct errmsg why = {0};
    if (auth_new(&config, &deps, &guarded->bench.auth, &why) < 0)
        fail_msg("%s", why.text);
    guarded->bench.proxy->deps.auth = guarded->bench.auth;
}

static void guarded_close(struct guarded *guarded)
{
    guarded->bench.proxy = proxy_free(guarded->bench.proxy);
    (void)auth_free(guarded->bench.auth);
    (void)worker_pool_free(guarded->workers);
    (void)mailbox_free(guarded->mailbox);
    (void)unlink(guarded->path);
    (void)timer_set_free(guarded->bench.clock);
    (void)metrics_free(guarded->bench.metrics);
    (void)loop_free(guarded->bench.loop);
    (void)close(guarded->bench.fd);
}

#define CONNECT_USER(password)                                                                     \
    0x10, 19, 0, 4, 'M', 'Q', 'T', 'T', 4, 0xc2, 0, 60, 0, 1, 'c', 0, 1, 'u', 0, 1, password

static void wait_for_state(struct guarded *guarded, enum conn_state wanted)
{
    while (guarded->bench.conn->state != wanted)
        assert_int_equal(loop_turn(guarded->bench.loop, -1), 0);
}

/* What follows CONNECT waits for the answer; the core gets the user name. */
static void the_right_password_connects(void **state)
{
    (void)state;
    struct guarded guarded;
    guarded_open(&guarded, 0);
    struct bench *bench = &guarded.bench;
    (void)bench_client(bench);
    const uint8_t bytes[] = {CONNECT_USER('p'), 0x30, 3, 0, 1, 't', 0xc0, 0};
    assert_int_equal(write(bench->fd, bytes, sizeof bytes), sizeof bytes);
    assert_int_equal(loop_turn(bench->loop, -1), 0);
    assert_int_equal(core.publishes, 0);
    wait_for_state(&guarded, CONN_OPEN);
    EXPECT(bench, 0x20, 2, 0, 0, 0xd0, 0);
    assert_int_equal(core.publishes, 1);
    assert_true(slice_equal(core.link->username, slice_str("u")));
    guarded_close(&guarded);
}

static void the_wrong_password_does_not(void **state)
{
    (void)state;
    struct guarded guarded;
    guarded_open(&guarded, 0);
    struct bench *bench = &guarded.bench;
    (void)bench_client(bench);
    SEND(bench, CONNECT_USER('x'));
    while (bench->conn->state == CONN_AUTH)
        assert_int_equal(loop_turn(bench->loop, -1), 0);
    EXPECT(bench, 0x20, 2, 0, 4);
    EXPECT_END(bench);
    assert_int_equal(core.connects, 0);
    const int first = bench->fd;
    (void)bench_client(bench);
    SEND(bench, CONNECT_311); /* no credentials at all */
    EXPECT(bench, 0x20, 2, 0, 5);
    EXPECT_END(bench);
    (void)close(first);
    guarded_close(&guarded);
}

/* A client that leaves, or a proxy that ends, while its password is checked. */
static void leaving_while_checked(void **state)
{
    (void)state;
    struct guarded guarded;
    guarded_open(&guarded, 1);
    struct bench *bench = &guarded.bench;
    const int first = bench_client(bench);
    const struct conn *conn = bench->conn;
    const uint8_t bytes[] = {CONNECT_USER('p')};
    assert_int_equal(write(first, bytes, sizeof bytes), sizeof bytes);
    while (conn->state == CONN_NEW)
        assert_int_equal(loop_turn(bench->loop, -1), 0);
    assert_int_equal(conn->state, CONN_AUTH);
    (void)bench_client(bench); /* one question may wait, not two */
    assert_int_equal(write(bench->fd, bytes, sizeof bytes), sizeof bytes);
    assert_int_equal(loop_turn(bench->loop, 0), 0);
    uint8_t answer[4];
    assert_int_equal(read(bench->fd, answer, sizeof answer), 4);
    assert_int_equal(answer[3], 3); /* server unavailable */
    (void)close(first);
    guarded_close(&guarded); /* the check is still under way, or its answer is */
    assert_int_equal(core.connects, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connections_are_limited),
        cmocka_unit_test(bad_urls_are_refused),
        cmocka_unit_test(the_right_password_connects),
        cmocka_unit_test(the_wrong_password_does_not),
        cmocka_unit_test(leaving_while_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
