/* Certificates that TLS has verified, as an authenticator sees them. */
#include "auth/x509_auth.h"
#include "base/unit.h"
#include "net/peer.h"

static const struct {
    const char *common_name, *client_id;
    bool binds;
    enum auth_result wanted;
} rows[] = {
    {"device1", "any", false, AUTH_ALLOWED},
    {"device1", "device1", true, AUTH_ALLOWED},
    {"device1", "device2", true, AUTH_BAD_CREDENTIALS},
    {"device1", "device", true, AUTH_BAD_CREDENTIALS},
    {"device1", "", true, AUTH_BAD_CREDENTIALS},
    {"", "any", false, AUTH_BAD_CREDENTIALS},
    {NULL, "any", false, AUTH_BAD_CREDENTIALS},
};

static enum auth_result check(struct authenticator *authenticator, const struct peer *peer,
                              const char *client_id, struct auth_answer *ret_answer)
{
    struct auth_call *call = NULL;
    const struct auth_credentials credentials = {
        .client_id = slice_str(client_id),
        .username = slice_str("claimed"),
        .has_username = true,
        .peer = peer,
    };
    *ret_answer = (struct auth_answer){0};
    return authenticator->ops->check(authenticator, &credentials, NULL, NULL, ret_answer, &call);
}

static void the_common_name_is_the_user(void **state)
{
    (void)state;
    const struct auth_deps deps = {0};
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct certificate certificate = {.subject.common_name = (char *)rows[i].common_name,
                                          .not_after_s = 2000000000};
        const struct peer peer = {.certificate = &certificate};
        const struct x509_config config = {.by_name = true, .binds_client_id = rows[i].binds};
        struct authenticator *authenticator = x509_auth_new(&config, &deps);
        struct auth_answer answer;
        assert_int_equal(check(authenticator, &peer, rows[i].client_id, &answer), rows[i].wanted);
        if (rows[i].wanted == AUTH_ALLOWED) {
            assert_true(slice_equal(answer.username, slice_str(rows[i].common_name)));
            assert_int_equal(answer.expire_at_ms, 2000000000000);
        }
        (void)authenticator_unref(authenticator);
    }
}

static void without_a_certificate_it_says_nothing(void **state)
{
    (void)state;
    const struct auth_deps deps = {0};
    const struct x509_config config = {.by_name = true};
    struct authenticator *authenticator = x509_auth_new(&config, &deps);
    const struct peer peer = {0};
    struct auth_answer answer;
    assert_int_equal(check(authenticator, NULL, "c", &answer), AUTH_IGNORED);
    assert_int_equal(check(authenticator, &peer, "c", &answer), AUTH_IGNORED);
    (void)authenticator_unref(authenticator);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_common_name_is_the_user),
        cmocka_unit_test(without_a_certificate_it_says_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
