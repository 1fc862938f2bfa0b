/* The upgrade request: what is accepted, and what each refusal says. */
#include "wire/http_upgrade.h"

#include "base/mem.h"
#include "base/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The example of RFC 6455, section 1.3. */
#define HOST     "Host: example.com\r\n"
#define UPGRADE  "Upgrade: websocket\r\n"
#define CONN     "Connection: Upgrade\r\n"
#define VERSION  "Sec-WebSocket-Version: 13\r\n"
#define KEY      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define PROTOCOL "Sec-WebSocket-Protocol: mqtt\r\n"
#define LINE     "GET /mqtt HTTP/1.1\r\n"
#define END      "\r\n"
#define ALL      HOST UPGRADE CONN VERSION KEY PROTOCOL

static const char *const pages[] = {"https://a.example", "http://localhost:8080"};
static const struct http_upgrade_rules everybody = {.path = "/mqtt"};
static const struct http_upgrade_rules listed = {
    .path = "/mqtt", .origins = pages, .origin_count = 2};

/* The request lies in memory of its own, so that a sanitizer sees its end. */
static int ask(const struct http_upgrade_rules *rules, const char *text, size_t size,
               uint32_t *ret_used, struct http_upgrade_answer *ret_answer)
{
    uint8_t *bytes = mem_try_alloc(size > 0 ? size : 1);
    assert_non_null(bytes);
    memcpy(bytes, text, size);
    const int err = http_upgrade_read(rules, bytes, (uint32_t)size, ret_used, ret_answer);
    mem_free(bytes);
    return err;
}

static void expect_accepted(const struct http_upgrade_rules *rules, const char *text)
{
    struct http_upgrade_answer answer;
    uint32_t used = 0;
    if (ask(rules, text, strlen(text), &used, &answer) < 0)
        fail_msg("refused: %s\n%s", answer.fault, text);
    assert_int_equal(used, strlen(text));
    assert_int_equal(answer.status, 101);
    assert_null(answer.fault);
}

static void expect_refused(const struct http_upgrade_rules *rules, const char *text,
                           uint16_t status)
{
    struct http_upgrade_answer answer;
    uint32_t used = 0;
    assert_int_equal(ask(rules, text, strlen(text), &used, &answer), ERR_PROTOCOL);
    if (answer.status != status)
        fail_msg("%u for\n%s", answer.status, text);
    char begin[32];
    (void)snprintf(begin, sizeof begin, "HTTP/1.1 %u ", status);
    assert_memory_equal(answer.text, begin, strlen(begin));
    assert_non_null(answer.fault);
    assert_non_null(strstr(answer.text, "close\r\n"));
    /* The length that is told is that of the body. */
    const char *length = strstr(answer.text, "Content-Length: ");
    const char *body = strstr(answer.text, "\r\n\r\n");
    assert_non_null(length);
    assert_non_null(body);
    assert_int_equal(strtol(length + 16, NULL, 10), strlen(body + 4));
    assert_int_equal(answer.size, strlen(answer.text));
}

/* [MQTT3-6.0.0-4] [MQTT5-6.0.0-4] */
static void the_answer_proves_and_selects(void **state)
{
    (void)state;
    struct http_upgrade_answer answer;
    uint32_t used = 0;
    static const char request[] = LINE ALL END "\x82";
    assert_int_equal(ask(&everybody, request, sizeof request - 1, &used, &answer), 0);
    assert_int_equal(used, sizeof request - 2);
    static const char wanted[] = "HTTP/1.1 101 Switching Protocols\r\n" UPGRADE CONN
                                 "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
                                 "Sec-WebSocket-Protocol: mqtt\r\n\r\n";
    assert_int_equal(answer.size, sizeof wanted - 1);
    assert_memory_equal(answer.text, wanted, sizeof wanted - 1);
}

static void any_cut_waits_for_the_rest(void **state)
{
    (void)state;
    static const char request[] = LINE ALL END;
    for (size_t size = 0; size < sizeof request - 1; size++) {
        struct http_upgrade_answer answer;
        uint32_t used = 0;
        assert_int_equal(ask(&everybody, request, size, &used, &answer), ERR_AGAIN);
    }
}

static void forms_that_are_allowed(void **state)
{
    (void)state;
    static const char *const rows[] = {
        LINE ALL END,
        "GET /mqtt?user=x HTTP/1.1\r\n" ALL END,
        "GET http://example.com/mqtt HTTP/1.1\r\n" ALL END,
        "GET WSS://example.com:8889/mqtt?q=/ HTTP/1.1\r\n" ALL END,
        LINE "host:\texample.com \r\nUPGRADE: foo, WebSocket\r\n"
             "connection: keep-alive , upgrade\r\n" VERSION KEY PROTOCOL END,
        LINE ALL "Content-Length: 0\r\n" END,
        LINE ALL "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n" END,
        LINE ALL "Cookie: a=\xc3\xa4\r\nEmpty:\r\n" END,
        LINE ALL "Origin: https://a.example\r\n" END,
        LINE HOST UPGRADE CONN "Connection: keep-alive\r\n" VERSION KEY PROTOCOL END,
        LINE HOST UPGRADE CONN VERSION KEY "Sec-WebSocket-Protocol: chat\r\n" PROTOCOL END,
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        expect_accepted(&everybody, rows[i]);
        expect_accepted(&listed, rows[i]);
    }
}

static void the_subprotocol_is_the_best_offered(void **state)
{
    (void)state;
    static const struct {
        const char *offered, *selected;
    } rows[] = {
        {"mqtt", "mqtt"},
        {"mqttv3.1", "mqttv3.1"},
        {"mqttv3.1, mqtt", "mqtt"},
        {"chat,mqttv3.1 ,superchat", "mqttv3.1"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        char request[1024], wanted[64];
        struct http_upgrade_answer answer;
        uint32_t used = 0;
        (void)snprintf(request, sizeof request,
                       LINE HOST UPGRADE CONN VERSION KEY "Sec-WebSocket-Protocol: %s\r\n" END,
                       rows[i].offered);
        assert_int_equal(ask(&everybody, request, strlen(request), &used, &answer), 0);
        (void)snprintf(wanted, sizeof wanted, "Sec-WebSocket-Protocol: %s\r\n", rows[i].selected);
        assert_non_null(strstr(answer.text, wanted));
    }
}

static void each_fault_has_its_status(void **state)
{
    (void)state;
    static const struct {
        uint16_t status;
        const char *request;
    } rows[] = {
        {400, "GET\r\n\r\n"},
        {400, "GET /mqtt\r\n" ALL END},
        {400, "GET  /mqtt HTTP/1.1\r\n" ALL END},
        {400, "GET /mqtt HTTP/1.1 \r\n" ALL END},
        {400, "GET /mq\x01tt HTTP/1.1\r\n" ALL END},
        {400, "GET /mqtt HTTP/11\r\n" ALL END},
        {400, "GET /mqtt FTTP/1.1\r\n" ALL END},
        {400, LINE ALL "No colon\r\n" END},
        {400, LINE ALL "Blank : x\r\n" END},
        {400, LINE ALL " folded\r\n" END},
        {400, LINE ALL ": nameless\r\n" END},
        {400, LINE ALL "Bad: \x01\r\n" END},
        {400, LINE ALL "Bare: line\nend\r\n" END},
        {400, LINE ALL "Bare: line\rend\r\n" END},
        {400, LINE UPGRADE CONN VERSION KEY PROTOCOL END}, /* no host */
        {400, LINE ALL HOST END},
        {400, LINE ALL "Content-Length: 5\r\n" END "hello"},
        {400, LINE ALL "Transfer-Encoding: chunked\r\n" END},
        {400, LINE HOST UPGRADE VERSION KEY PROTOCOL END}, /* no Connection */
        {400, LINE HOST UPGRADE "Connection: keep-alive\r\n" VERSION KEY PROTOCOL END},
        {400, LINE HOST UPGRADE CONN VERSION PROTOCOL END}, /* no key */
        {400, LINE ALL KEY END},
        {400, LINE HOST UPGRADE CONN VERSION PROTOCOL "Sec-WebSocket-Key: short==\r\n" END},
        {400, LINE HOST UPGRADE CONN VERSION PROTOCOL
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=A\r\n" END},
        {400, LINE HOST UPGRADE CONN VERSION PROTOCOL
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ*==\r\n" END},
        {400, LINE HOST UPGRADE CONN VERSION KEY END}, /* no subprotocol: [MQTT5-6.0.0-3] */
        {400, LINE HOST UPGRADE CONN VERSION KEY "Sec-WebSocket-Protocol: chat, MQTT\r\n" END},
        {404, "GET / HTTP/1.1\r\n" ALL END},
        {404, "GET /mqtt/ HTTP/1.1\r\n" ALL END},
        {404, "GET /MQTT HTTP/1.1\r\n" ALL END},
        {404, "GET http://example.com HTTP/1.1\r\n" ALL END},
        {404, "GET mqtt HTTP/1.1\r\n" ALL END},
        {404, "POST /other HTTP/1.1\r\n" ALL END},
        {405, "POST /mqtt HTTP/1.1\r\n" ALL END},
        {405, "get /mqtt HTTP/1.1\r\n" ALL END},
        {405, "HEAD /mqtt HTTP/1.1\r\n" ALL END},
        {426, LINE HOST END}, /* a browser looks what is here */
        {426, LINE HOST "Upgrade: h2c\r\n" CONN VERSION KEY PROTOCOL END},
        {426, LINE HOST UPGRADE CONN KEY PROTOCOL END}, /* no version */
        {426, LINE HOST UPGRADE CONN KEY PROTOCOL "Sec-WebSocket-Version: 8\r\n" END},
        {426, LINE HOST UPGRADE CONN KEY PROTOCOL "Sec-WebSocket-Version: 13, 8\r\n" END},
        {426, LINE ALL VERSION END},
        {505, "GET /mqtt HTTP/1.0\r\n" ALL END},
        {505, "GET /mqtt HTTP/2.0\r\n" ALL END},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++)
        expect_refused(&everybody, rows[i].request, rows[i].status);
}

static void headers_that_a_status_needs(void **state)
{
    (void)state;
    struct http_upgrade_answer answer;
    uint32_t used = 0;
    static const char version_8[] =
        LINE HOST UPGRADE CONN KEY PROTOCOL "Sec-WebSocket-Version: 8\r\n" END;
    assert_int_equal(ask(&everybody, version_8, sizeof version_8 - 1, &used, &answer),
                     ERR_PROTOCOL);
    assert_non_null(strstr(answer.text, "\r\nSec-WebSocket-Version: 13\r\n"));
    assert_non_null(strstr(answer.text, "\r\nUpgrade: websocket\r\n"));
    static const char post[] = "POST /mqtt HTTP/1.1\r\n" ALL END;
    assert_int_equal(ask(&everybody, post, sizeof post - 1, &used, &answer), ERR_PROTOCOL);
    assert_non_null(strstr(answer.text, "\r\nAllow: GET\r\n"));
    static const char other[] = "GET /<script> HTTP/1.1\r\n" ALL END;
    assert_int_equal(ask(&everybody, other, sizeof other - 1, &used, &answer), ERR_PROTOCOL);
    assert_non_null(strstr(answer.text, "is served at /mqtt.\n"));
    assert_null(strstr(answer.text, "script"));
}

static void origins_are_those_of_the_list(void **state)
{
    (void)state;
    expect_accepted(&listed, LINE ALL "Origin: http://localhost:8080\r\n" END);
    expect_accepted(&listed, LINE ALL "Origin: HTTPS://A.example\r\n" END);
    expect_accepted(&everybody, LINE ALL "Origin: https://b.example\r\n" END);
    static const char *const rows[] = {
        LINE ALL "Origin: https://b.example\r\n" END,
        LINE ALL "Origin: https://a.example.evil\r\n" END,
        LINE ALL "Origin: http://a.example\r\n" END,
        LINE ALL "Origin: http://localhost\r\n" END,
        LINE ALL "Origin: null\r\n" END,
        LINE ALL "Origin:\r\n" END,
        LINE ALL "Origin: https://a.example\r\nOrigin: https://b.example\r\n" END,
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++)
        expect_refused(&listed, rows[i], 403);
}

static void what_is_no_http_is_known_at_once(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
    } rows[] = {
        {"\x10\x0e\0\x04MQTT", 8},    /* MQTT without WebSocket */
        {"\x10", 1},                  /* its first byte */
        {"\x16\x03\x01\x02\0", 5},    /* TLS */
        {"\r\n\r\n\0\r\nQUIT\n", 12}, /* PROXY protocol */
        {" GET /mqtt", 10},
        {"\0", 1},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct http_upgrade_answer answer;
        uint32_t used = 0;
        assert_int_equal(ask(&everybody, rows[i].bytes, rows[i].size, &used, &answer),
                         ERR_PROTOCOL);
        assert_int_equal(answer.status, 400);
    }
}

static void a_request_has_a_largest_size(void **state)
{
    (void)state;
    static char request[HTTP_UPGRADE_REQUEST_MAX + 2];
    const char filler[] = "X-Filler: ";
    memset(request, 'x', sizeof request);
    memcpy(request, LINE ALL, strlen(LINE ALL));
    memcpy(request + strlen(LINE ALL), filler, strlen(filler));
    const size_t last = HTTP_UPGRADE_REQUEST_MAX - 4;
    memcpy(request + last, "\r\n\r\n", 5);
    expect_accepted(&everybody, request); /* the largest one */
    memset(request + last, 'x', 5);
    memcpy(request + last + 1, "\r\n\r\n", 5);
    expect_refused(&everybody, request, 431);
    char many[4096] = LINE ALL;
    for (int i = 0; i < 95; i++)
        (void)snprintf(many + strlen(many), sizeof many - strlen(many), "X-%d: x\r\n", i);
    (void)snprintf(many + strlen(many), sizeof many - strlen(many), "\r\n");
    expect_refused(&everybody, many, 431);
}

static void paths_that_can_be_served(void **state)
{
    (void)state;
    static const char *const good[] = {"/", "/mqtt", "/a/b-c_d.e~f/%20", "/:@!$&'()*+,;="};
    static const char *const bad[] = {"",     "mqtt",      "/a b",  "/a?b",
                                      "/a#b", "/\xc3\xa4", "/a\"b", "/a\nb"};
    for (size_t i = 0; i < ARRAY_COUNT(good); i++)
        assert_true(http_upgrade_path_check(good[i]));
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        assert_false(http_upgrade_path_check(bad[i]));
    char path[HTTP_UPGRADE_PATH_MAX + 2] = "/";
    memset(path + 1, 'x', HTTP_UPGRADE_PATH_MAX - 1);
    assert_true(http_upgrade_path_check(path));
    path[HTTP_UPGRADE_PATH_MAX] = 'x';
    assert_false(http_upgrade_path_check(path));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_answer_proves_and_selects),
        cmocka_unit_test(any_cut_waits_for_the_rest),
        cmocka_unit_test(forms_that_are_allowed),
        cmocka_unit_test(the_subprotocol_is_the_best_offered),
        cmocka_unit_test(each_fault_has_its_status),
        cmocka_unit_test(headers_that_a_status_needs),
        cmocka_unit_test(origins_are_those_of_the_list),
        cmocka_unit_test(what_is_no_http_is_known_at_once),
        cmocka_unit_test(a_request_has_a_largest_size),
        cmocka_unit_test(paths_that_can_be_served),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
