/* What a listener's URL has instead of the configuration's keys. */
#include "net/tls_options.h"

#include "net/listener_url.h"

#include "base/unit.h"

#include <stdio.h>
#include <string.h>

static const char *const default_files[] = {"default.pem"}, *const default_keys[] = {"default.key"},
                         *const default_ocsp[] = {"default.ocsp"};

static const struct tls_options defaults = {
    .certificates = {default_files, 1},
    .private_keys = {default_keys, 1},
    .ocsp_responses = {default_ocsp, 1},
    .client_ca = "default-ca.pem",
    .crl = "default.crl",
    .client_certificate = TLS_CLIENT_OPTIONAL,
    .version_min = TLS_VERSION_1_3,
    .priorities = "SECURE128",
};

static struct tls_override *override_of(const char *query)
{
    char text[512];
    struct listener_url url;
    struct tls_override *override = NULL;
    struct errmsg why = {0};
    (void)snprintf(text, sizeof text, "mqtts://x?%s", query);
    assert_int_equal(listener_url_parse(text, &url, &why), 0);
    assert_int_equal(tls_override_new(url.query, &override, &why), 0);
    return override;
}

static void without_options_the_defaults_hold(void **state)
{
    (void)state;
    struct tls_override *override = override_of("");
    const struct tls_options options = tls_override_apply(override, &defaults);
    assert_memory_equal(&options, &defaults, sizeof options);
    assert_null(tls_override_free(override));
}

/* The default key is not that of another certificate. */
static void a_certificate_brings_what_belongs_to_it(void **state)
{
    (void)state;
    struct tls_override *override = override_of("certificate=a.pem&certificate=b%2epem");
    struct tls_options options = tls_override_apply(override, &defaults);
    assert_int_equal(options.certificates.count, 2);
    assert_string_equal(options.certificates.items[0], "a.pem");
    assert_string_equal(options.certificates.items[1], "b.pem");
    assert_int_equal(options.private_keys.count, 0);
    assert_int_equal(options.ocsp_responses.count, 0);
    assert_string_equal(options.client_ca, "default-ca.pem");
    assert_null(tls_override_free(override));
    override = override_of("client_ca=ca.pem");
    options = tls_override_apply(override, &defaults);
    assert_string_equal(options.client_ca, "ca.pem");
    assert_null(options.crl);
    assert_int_equal(options.client_certificate, TLS_CLIENT_OPTIONAL);
    assert_string_equal(options.certificates.items[0], "default.pem");
    assert_null(tls_override_free(override));
}

static void every_option_is_taken(void **state)
{
    (void)state;
    struct tls_override *override =
        override_of("certificate=a&private_key=b&ocsp_response=c&client_ca=d&crl=e&"
                    "client_certificate=none&min_version=1.2&priorities=NORMAL");
    const struct tls_options options = tls_override_apply(override, &defaults);
    assert_string_equal(options.certificates.items[0], "a");
    assert_string_equal(options.private_keys.items[0], "b");
    assert_string_equal(options.ocsp_responses.items[0], "c");
    assert_string_equal(options.client_ca, "d");
    assert_string_equal(options.crl, "e");
    assert_string_equal(options.priorities, "NORMAL");
    assert_int_equal(options.client_certificate, TLS_CLIENT_NONE);
    assert_int_equal(options.version_min, TLS_VERSION_1_2);
    assert_null(tls_override_free(override));
}

static void what_makes_no_sense_is_told(void **state)
{
    (void)state;
    static const struct {
        const char *query, *told;
    } rows[] = {
        {"client_ca=a&client_ca=b", "'client_ca' is there twice"},
        {"crl=a&crl=b", "'crl' is there twice"},
        {"priorities=a&priorities=b", "'priorities' is there twice"},
        {"private_key=a", "need a 'certificate' beside them"},
        {"ocsp_response=a", "need a 'certificate' beside them"},
    };
    struct tls_override *override = NULL;
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct errmsg why = {0};
        assert_int_equal(tls_override_new(rows[i].query, &override, &why), ERR_INVALID);
        if (!strstr(why.text, rows[i].told))
            fail_msg("'%s' does not say '%s'", why.text, rows[i].told);
    }
    char many[(TLS_FILES_MAX + 1) * 14 + 1] = "";
    for (int i = 0; i <= TLS_FILES_MAX; i++)
        (void)snprintf(many + strlen(many), sizeof many - strlen(many), "certificate=a&");
    struct errmsg why = {0};
    assert_int_equal(tls_override_new(many, &override, &why), ERR_INVALID);
    assert_non_null(strstr(why.text, "'certificate' is there more than 64 times"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_options_the_defaults_hold),
        cmocka_unit_test(a_certificate_brings_what_belongs_to_it),
        cmocka_unit_test(every_option_is_taken),
        cmocka_unit_test(what_makes_no_sense_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
