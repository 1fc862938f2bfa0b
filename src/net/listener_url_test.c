/* Listener URLs. */
#include "net/listener_url.h"

#include "base/unit.h"

#include <stdio.h>
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
        {"ws://x", "ws", "x", "/mqtt", 8888},
        {"ws://[::1]:1/", "ws", "::1", "/", 1},
        {"ws://*:80/a/b", "ws", "*", "/a/b", 80},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct listener_url url;
        struct errmsg why = {0};
        if (listener_url_parse(rows[i].url, &url, &why) < 0)
            fail_msg("%s", why.text);
        assert_string_equal(url.scheme, rows[i].scheme);
        assert_int_equal(url.kind, *rows[i].host ? LISTENER_TCP : LISTENER_UNIX);
        assert_int_equal(url.websocket, strcmp(url.scheme, "ws") == 0);
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
        {"", "it begins with none of the words"},
        {"127.0.0.1:1883", "it begins with none"},
        {"http://x:1", "it begins with none"},
        {"mqtt:x:1", "it begins with none"},
        {"mqtts://x:1/y", "only HOST:PORT may follow 'mqtts://'"},
        {"ws://x:1/a b", "the path has a character"},
        {"wss://x/a\"b", "the path has a character"},
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
        {"mqtts://x:1?", NULL},
        {"mqtts://x:1?certificate=a", NULL},
        {"mqtts://x:1?colour=red", "there is no option 'colour'"},
        {"mqtts://x:1?=red", "there is no option ''"},
        {"mqtts://x:1?&crl=a", "there is no option ''"},
        {"mqtts://x:1?crl", "the option 'crl' has no value"},
        {"mqtts://x:1?crl=&min_version=1.2", "the option 'crl' has no value"},
        {"mqtts://x:1?crl=a%2", "the value of 'crl'"},
        {"mqtts://x:1?crl=a%zz", "the value of 'crl'"},
        {"mqtts://x:1?crl=a%00b", "the value of 'crl'"},
        {"mqtts://x:1?min_version=1.1", "'min_version' is one of 1.2|1.3"},
        {"mqtts://x:1?min_version=1", "'min_version' is one of 1.2|1.3"},
        {"mqtts://x:1?client_certificate=required|optional", "is one of none|optional|required"},
        {"mqtt://x:1?crl=a", "'crl' is for listeners with TLS, which 'mqtt' is not"},
        {"mqtt+unix:/x?crl=a", "'crl' is for listeners with TLS, which 'mqtt+unix' is not"},
        {"mqtt+unix:/x?proxy_protocol=true", NULL},
        {"mqtt://x?proxy_protocol=required", NULL},
        {"mqtts://x?proxy_protocol=false", NULL},
        {"quic://x?retry=always", NULL},
        {"quic://x?certificate=a.pem&retry=auto", NULL},
        {"mqtts://x?retry=always", "'retry' is for listeners of QUIC, which 'mqtts' is not"},
        {"quic://x?retry=no", "'retry' is one of auto|always"},
        {"quic://x?proxy_protocol=true", "'proxy_protocol' is for TCP, on which 'quic' is not"},
        {"mqtt://x?proxy_protocol=yes", "'proxy_protocol' is one of false|true|required"},
        {"mqtt+unix:", "must have 1 to 107 bytes"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct listener_url url;
        struct errmsg why = {0};
        const int err = listener_url_parse(rows[i].url, &url, &why);
        assert_int_equal(err, rows[i].told ? ERR_INVALID : 0);
        if (rows[i].told && !strstr(why.text, rows[i].told))
            fail_msg("'%s' does not say '%s'", why.text, rows[i].told);
    }
    char text[400] = "mqtt+unix:/";
    memset(text + strlen(text), 'x', 107);
    struct listener_url url;
    struct errmsg why = {0};
    assert_int_equal(listener_url_parse(text, &url, &why), ERR_INVALID);
    assert_non_null(strstr(why.text, "must have 1 to 107 bytes"));
}

static void options_are_taken_one_by_one(void **state)
{
    (void)state;
    struct listener_url url;
    struct listener_option option;
    struct errmsg why = {0};
    assert_int_equal(listener_url_parse("mqtts://x:1?certificate=/etc/a%26b%3F.pem&client_ca=c=d&"
                                        "certificate=e%c3%A9&",
                                        &url, &why),
                     0);
    assert_string_equal(url.host, "x");
    const char *rest = url.query;
    assert_true(listener_option_next(&rest, &option));
    assert_string_equal(option.name, "certificate");
    assert_string_equal(option.value, "/etc/a&b?.pem");
    assert_true(listener_option_next(&rest, &option));
    assert_string_equal(option.name, "client_ca");
    assert_string_equal(option.value, "c=d");
    assert_true(listener_option_next(&rest, &option));
    assert_string_equal(option.name, "certificate");
    assert_string_equal(option.value, "e\xc3\xa9");
    assert_false(listener_option_next(&rest, &option));
    assert_true(listener_option_find(&url, "certificate", &option));
    assert_string_equal(option.value, "e\xc3\xa9");
    assert_false(listener_option_find(&url, "crl", &option));
}

/* What is longer than there is room for is refused, and nothing behind the room is written. */
static void long_parts_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *before;
        size_t fits;
        const char *after;
    } rows[] = {
        {"mqtts://", LISTENER_HOST_MAX, ":1"},
        {"mqtts://x:1?crl=", LISTENER_VALUE_MAX, ""},
        {"mqtt+unix:", LISTENER_PATH_MAX, ""},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        for (size_t more = 0; more < 2; more++) {
            char text[LISTENER_QUERY_MAX], filler[LISTENER_QUERY_MAX] = {0};
            struct listener_url url;
            struct errmsg why = {0};
            memset(filler, 'y', rows[i].fits + more);
            (void)snprintf(text, sizeof text, "%s%s%s", rows[i].before, filler, rows[i].after);
            assert_int_equal(listener_url_parse(text, &url, &why), more ? ERR_INVALID : 0);
        }
    }
    char text[LISTENER_QUERY_MAX + 64] = "mqtts://x?crl=a";
    while (strlen(text) <= LISTENER_QUERY_MAX)
        memcpy(text + strlen(text), "&crl=a", 7);
    struct listener_url url;
    struct errmsg why = {0};
    assert_int_equal(listener_url_parse(text, &url, &why), 0);
    memcpy(text + strlen(text), "&crl=a&crl=a", 13);
    assert_int_equal(listener_url_parse(text, &url, &why), ERR_INVALID);
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
        cmocka_unit_test(options_are_taken_one_by_one),
        cmocka_unit_test(long_parts_are_refused),
        cmocka_unit_test(loopback_is_recognized),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
