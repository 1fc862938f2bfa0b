/* Listener URLs. */
#include "net/listener_url.h"

#include "base/unit.h"

#include <string.h>

static void urls_are_parsed(void **state)
{
    (void)state;
    static const struct {
        const char *url, *scheme, *host, *path;
        uint16_t port;
    } rows[] = {
        {"mqtt://127.0.0.1:1", "mqtt", "127.0.0.1", "", 1},
        {"mqtt://[::1]:1883", "mqtt", "::1", "", 1883},
        {"mqtt://[::]", "mqtt", "::", "", 1883},
        {"mqtt://*:65535", "mqtt", "*", "", 65535},
        {"mqtt://broker.example", "mqtt", "broker.example", "", 1883},
        {"mqtt://localhost:0", "mqtt", "localhost", "", 0},
        {"mqtt+unix:/run/x.sock", "mqtt+unix", "", "/run/x.sock", 0},
        {"mqtt+unix:///run/x.sock", "mqtt+unix", "", "/run/x.sock", 0},
        {"mqtt+unix:x.sock", "mqtt+unix", "", "x.sock", 0},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct listener_url url;
        struct errmsg why = {0};
        if (listener_url_parse(rows[i].url, &url, &why) < 0)
            fail_msg("%s", why.text);
        assert_string_equal(url.scheme, rows[i].scheme);
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
        {"http://x:1", "a listener is"},
        {"mqtt:x:1", "a listener is"},
        {"mqtts://x:1", "'mqtts://x:1': TLS is not part of this version"},
        {"ws://x:1/mqtt", "WebSocket is not part of this version"},
        {"wss://x", "WebSocket is not part of this version"},
        {"ws://x:1/mqtt?a=b", "only HOST:PORT may follow 'ws://'"},
        {"quic://x:1", "QUIC is not part of this version"},
        {"quic://x:1/mqtt", "only HOST:PORT may follow 'quic://'"},
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls_are_parsed),
        cmocka_unit_test(bad_urls_are_explained),
        cmocka_unit_test(loopback_is_recognized),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
