/* The HTTP client against a server on the same loop that sends exactly what the test says. */
#include "base/mem.h"
#include "base/unit.h"
#include "net/http_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TEXT_MAX = 4096, ANSWER_MAX = 1000 };

/* One connection at a time is enough: the client keeps it. */
struct site {
    struct loop *loop;
    struct http_client *client;
    struct io_watch listener, peer;
    char url[64];
    const char *script; /* the answer; NULL: none; "": closes */
    char request[TEXT_MAX];
    size_t request_size;
    int accepts;

    int answers, err;
    bool was_sent;
    uint32_t status;
    char body[TEXT_MAX], why[TEXT_MAX], parts[TEXT_MAX];
};

static void hang_up(struct site *site)
{
    if (site->peer.fd >= 0) {
        io_watch_stop(site->loop, &site->peer);
        (void)close(site->peer.fd);
        site->peer.fd = -1;
    }
}

static void on_readable(struct io_watch *watch, unsigned events)
{
    struct site *site = CONTAINER_OF(watch, struct site, peer);
    (void)events;
    const ssize_t n = recv(watch->fd, site->request + site->request_size,
                           sizeof site->request - 1 - site->request_size, MSG_DONTWAIT);
    if (n <= 0) {
        hang_up(site);
        return;
    }
    site->request_size += (size_t)n;
    site->request[site->request_size] = '\0';
    if (!site->script)
        return;
    if (*site->script == '\0')
        hang_up(site);
    else
        assert_true(send(watch->fd, site->script, strlen(site->script), MSG_NOSIGNAL) > 0);
}

static void on_connection(struct io_watch *watch, unsigned events)
{
    struct site *site = CONTAINER_OF(watch, struct site, listener);
    (void)events;
    hang_up(site);
    site->peer.fd = accept(watch->fd, NULL, NULL);
    assert_true(site->peer.fd >= 0);
    site->accepts++;
    site->peer.on_event = on_readable;
    assert_int_equal(io_watch_start(site->loop, &site->peer, IO_READ), 0);
}

static void open_site(struct site *site)
{
    *site = (struct site){.peer.fd = -1};
    assert_int_equal(loop_new(&site->loop, NULL), 0);
    assert_int_equal(http_client_new(site->loop, &site->client, NULL), 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    site->listener.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(site->listener.fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(site->listener.fd, 8), 0);
    assert_int_equal(getsockname(site->listener.fd, (struct sockaddr *)&address, &size), 0);
    (void)snprintf(site->url, sizeof site->url, "http://127.0.0.1:%u/ask?a=secret",
                   ntohs(address.sin_port));
    site->listener.on_event = on_connection;
    assert_int_equal(io_watch_start(site->loop, &site->listener, IO_READ), 0);
}

static void close_site(struct site *site)
{
    (void)http_client_free(site->client);
    hang_up(site);
    if (site->listener.fd >= 0) {
        io_watch_stop(site->loop, &site->listener);
        (void)close(site->listener.fd);
    }
    (void)loop_free(site->loop);
}

static void on_done(void *data, const struct http_answer *answer)
{
    struct site *site = data;
    site->answers++;
    site->err = answer->err;
    site->status = answer->status;
    site->was_sent = answer->was_sent;
    (void)snprintf(site->why, sizeof site->why, "%s", answer->why ? answer->why : "");
    (void)snprintf(site->body, sizeof site->body, "%.*s", (int)answer->body.size,
                   answer->body.size > 0 ? (const char *)answer->body.bytes : "");
}

static struct http_call *start(struct site *site, const char *body)
{
    static const char *const headers[] = {"Content-Type: text/plain", "X-Name: value"};
    const struct http_request request = {
        .url = site->url,
        .is_post = body != NULL,
        .body = body ? slice_str(body) : slice_of(NULL, 0),
        .headers = headers,
        .header_count = 2,
        .connect_timeout_ms = 60000,
        .read_timeout_ms = 60000,
        .answer_max = ANSWER_MAX,
    };
    struct http_call *call = NULL;
    const int before = site->answers;
    site->request_size = 0;
    assert_int_equal(http_client_start(site->client, &request, on_done, site, &call), 0);
    assert_int_equal(site->answers, before); /* never inside the call */
    return call;
}

static void wait_for_answer(struct site *site)
{
    const int before = site->answers;
    while (site->answers == before)
        assert_int_equal(loop_turn(site->loop, -1), 0);
}

static void answers_come_back(void **state)
{
    (void)state;
    struct site site;
    open_site(&site);
    site.script = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    (void)start(&site, NULL);
    wait_for_answer(&site);
    assert_int_equal(site.err, 0);
    assert_int_equal(site.status, 200);
    assert_string_equal(site.body, "hi");
    assert_non_null(strstr(site.request, "GET /ask?a=secret HTTP/1.1\r\n"));
    assert_non_null(strstr(site.request, "\r\nX-Name: value\r\n"));
    (void)start(&site, "payload");
    wait_for_answer(&site);
    assert_non_null(strstr(site.request, "POST /ask?a=secret HTTP/1.1\r\n"));
    assert_non_null(strstr(site.request, "\r\n\r\npayload"));
    assert_int_equal(site.accepts, 1); /* the connection was kept */
    (void)start(&site, "");
    wait_for_answer(&site);
    assert_non_null(strstr(site.request, "\r\nContent-Length: 0\r\n"));
    close_site(&site);
}

static void bad_answers_are_told(void **state)
{
    (void)state;
    static const struct {
        const char *script;
        int err;
        uint32_t status;
    } rows[] = {
        {"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", 0, 500},
        {"HTTP/1.1 302 Go\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", 0, 302},
        {"HTTP/1.1 204 None\r\n\r\n", 0, 204},
        {"", ERR_UNAVAILABLE, 0},
        {"nonsense\r\n\r\n", ERR_UNAVAILABLE, 0},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", ERR_UNAVAILABLE, 0},
    };
    struct site site;
    open_site(&site);
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        site.script = rows[i].script;
        (void)start(&site, "x");
        wait_for_answer(&site);
        assert_int_equal(site.err, rows[i].err);
        assert_int_equal(site.status, rows[i].status);
        assert_null(strstr(site.why, "secret"));
        assert_int_equal(site.was_sent, rows[i].err < 0);
        hang_up(&site);
    }
    close_site(&site);
}

static void large_answers_are_cut_off(void **state)
{
    (void)state;
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n";
    char script[2048];
    struct site site;
    open_site(&site);
    memset(script, 'x', sizeof script);
    memcpy(script, head, sizeof head - 1);
    script[sizeof head - 1 + ANSWER_MAX + 1] = '\0';
    site.script = script;
    (void)start(&site, NULL);
    wait_for_answer(&site);
    assert_int_equal(site.err, ERR_FULL);
    assert_string_equal(site.body, "");
    close_site(&site);
}

static void slow_servers_are_given_up(void **state)
{
    (void)state;
    struct site site;
    open_site(&site);
    const struct http_request request = {
        .url = site.url, .connect_timeout_ms = 1, .read_timeout_ms = 50, .answer_max = ANSWER_MAX};
    struct http_call *call = NULL;
    assert_int_equal(http_client_start(site.client, &request, on_done, &site, &call), 0);
    wait_for_answer(&site);
    assert_int_equal(site.err, -ETIMEDOUT);
    close_site(&site);
}

static void nobody_listens(void **state)
{
    (void)state;
    struct site site;
    open_site(&site);
    io_watch_stop(site.loop, &site.listener);
    (void)close(site.listener.fd);
    site.listener.fd = -1;
    (void)start(&site, NULL);
    wait_for_answer(&site);
    assert_int_equal(site.err, ERR_UNAVAILABLE);
    assert_true(site.why[0] != '\0');
    assert_false(site.was_sent);
    close_site(&site);
}

static void on_part(void *data, struct slice bytes)
{
    struct site *site = data;
    const size_t size = strlen(site->parts);
    (void)snprintf(site->parts + size, sizeof site->parts - size, "%.*s", (int)bytes.size,
                   (const char *)bytes.bytes);
}

/* An endless answer comes as it is sent; one that is not good comes at the end, as ever. */
static void streams_come_in_parts(void **state)
{
    (void)state;
    struct site site;
    open_site(&site);
    struct http_request request = {
        .url = site.url, .connect_timeout_ms = 60000, .answer_max = 4, .on_part = on_part};
    struct http_call *call = NULL;
    site.script = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nparts \r\n";
    assert_int_equal(http_client_start(site.client, &request, on_done, &site, &call), 0);
    while (strcmp(site.parts, "parts ") != 0)
        assert_int_equal(loop_turn(site.loop, -1), 0);
    assert_int_equal(site.answers, 0);
    static const char rest[] = "5\r\nof it\r\n0\r\n\r\n";
    assert_true(send(site.peer.fd, rest, strlen(rest), MSG_NOSIGNAL) > 0);
    wait_for_answer(&site);
    assert_string_equal(site.parts, "parts of it");
    assert_int_equal(site.status, 200);
    assert_string_equal(site.body, "");
    site.script = "HTTP/1.1 503 No\r\nContent-Length: 3\r\n\r\nwhy";
    assert_int_equal(http_client_start(site.client, &request, on_done, &site, &call), 0);
    wait_for_answer(&site);
    assert_string_equal(site.body, "why");
    assert_string_equal(site.parts, "parts of it");
    close_site(&site);
}

static void calls_are_cancelled(void **state)
{
    (void)state;
    struct site site;
    open_site(&site);
    http_call_cancel(start(&site, NULL));
    struct http_call *call = start(&site, "x");
    while (site.request_size == 0)
        assert_int_equal(loop_turn(site.loop, -1), 0);
    http_call_cancel(call);
    (void)start(&site, "y"); /* cancelled with the client */
    close_site(&site);
    assert_int_equal(site.answers, 0);
}

static void urls_are_checked(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",        "file:///etc/passwd", "ftp://host/", "http://",
        "nothing", "gopher://x",         "https://[",   "http://a b/"};
    assert_true(http_url_is_sound("https://host:8443/path?x=${Password}"));
    assert_true(http_url_is_sound("http://[::1]/"));
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        assert_false(http_url_is_sound(bad[i]));
    struct site site;
    open_site(&site);
    const struct http_request request = {.url = "file:///etc/passwd"};
    struct http_call *call = NULL;
    assert_int_equal(http_client_start(site.client, &request, on_done, &site, &call), ERR_INVALID);
    close_site(&site);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_come_back),
        cmocka_unit_test(bad_answers_are_told),
        cmocka_unit_test(large_answers_are_cut_off),
        cmocka_unit_test(slow_servers_are_given_up),
        cmocka_unit_test(nobody_listens),
        cmocka_unit_test(streams_come_in_parts),
        cmocka_unit_test(calls_are_cancelled),
        cmocka_unit_test(urls_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
