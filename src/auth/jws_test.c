/* Signed tokens: every algorithm against tokens of another implementation, and every way in which
 * one is not good. */
#include "auth/jws.h"
#include "auth/jws_fixture.h"
#include "base/mem.h"
#include "base/unit.h"

#include <stdio.h>
#include <string.h>

enum { TEXT_MAX = 8192 };

static struct jws_keys *secret_keys(void)
{
    struct jws_keys *keys = NULL;
    assert_int_equal(jws_keys_secret(slice_str(TEST_SECRET), JWS_ALL, &keys, NULL), 0);
    return keys;
}

static struct jws_keys *pem_keys(const char *pem)
{
    struct jws_keys *keys = NULL;
    struct errmsg why = {0};
    if (jws_keys_pem(slice_str(pem), JWS_ALL, &keys, &why) < 0)
        fail_msg("%s", why.text);
    return keys;
}

#define SET(...) "{\"keys\": [" __VA_ARGS__ "]}"
#define ALL_KEYS                                                                                   \
    SET(TEST_JWK_RSA "," TEST_JWK_P256 "," TEST_JWK_P384 "," TEST_JWK_P521 "," TEST_JWK_ED25519)

static struct jws_keys *set_keys(const char *set)
{
    struct jws_keys *keys = NULL;
    struct errmsg why = {0};
    if (jws_keys_set(slice_str(set), JWS_ALL, &keys, &why) < 0)
        fail_msg("%s", why.text);
    return keys;
}

static enum jws_verdict verdict_of(const char *token, const struct jws_keys *keys)
{
    json_t *claims = NULL;
    const enum jws_verdict verdict = jws_verify(slice_str(token), keys, &claims);
    assert_int_equal(claims != NULL, verdict == JWS_GOOD);
    if (claims)
        assert_string_equal(json_string_value(json_object_get(claims, "sub")), "sensor-1");
    json_decref(claims);
    return verdict;
}

/* pem: NULL: the secret. */
static const struct {
    const char *name, *token, *pem;
} tokens[] = {
    {"HS256", TEST_TOKEN_HS256, NULL},
    {"HS384", TEST_TOKEN_HS384, NULL},
    {"HS512", TEST_TOKEN_HS512, NULL},
    {"RS256", TEST_TOKEN_RS256, TEST_PEM_RSA},
    {"RS384", TEST_TOKEN_RS384, TEST_PEM_RSA},
    {"RS512", TEST_TOKEN_RS512, TEST_PEM_RSA},
    {"PS256", TEST_TOKEN_PS256, TEST_PEM_RSA},
    {"PS384", TEST_TOKEN_PS384, TEST_PEM_RSA},
    {"PS512", TEST_TOKEN_PS512, TEST_PEM_RSA},
    {"ES256", TEST_TOKEN_ES256, TEST_PEM_P256},
    {"ES384", TEST_TOKEN_ES384, TEST_PEM_P384},
    {"ES512", TEST_TOKEN_ES512, TEST_PEM_P521},
    {"EdDSA", TEST_TOKEN_EDDSA, TEST_PEM_ED25519},
};

static void every_algorithm_verifies(void **state)
{
    (void)state;
    struct jws_keys *all = set_keys(ALL_KEYS);
    assert_int_equal(all->count, 5);
    for (size_t i = 0; i < ARRAY_COUNT(tokens); i++) {
        struct jws_keys *own = tokens[i].pem ? pem_keys(tokens[i].pem) : secret_keys();
        assert_true(jws_looks_like_one(slice_str(tokens[i].token)));
        assert_int_equal(verdict_of(tokens[i].token, own), JWS_GOOD);
        assert_int_equal(verdict_of(tokens[i].token, all),
                         tokens[i].pem ? JWS_GOOD : JWS_ALGORITHM);
        (void)jws_keys_unref(own);
    }
    (void)jws_keys_unref(all);
}

/* One character of a signature, or of what is signed, is different. */
static void changed_tokens_do_not(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(tokens); i++) {
        struct jws_keys *keys = tokens[i].pem ? pem_keys(tokens[i].pem) : secret_keys();
        char text[TEXT_MAX];
        (void)snprintf(text, sizeof text, "%s", tokens[i].token);
        char *signature = strrchr(text, '.') + 5;
        *signature = *signature == 'A' ? 'B' : 'A';
        assert_int_equal(verdict_of(text, keys), JWS_SIGNATURE);
        (void)snprintf(text, sizeof text, "%s", tokens[i].token);
        char *body = strchr(text, '.') + 14; /* in the name of the subject */
        *body = *body == 'A' ? 'B' : 'A';
        const enum jws_verdict verdict = verdict_of(text, keys);
        assert_true(verdict == JWS_SIGNATURE || verdict == JWS_MALFORMED);
        (void)jws_keys_unref(keys);
    }
}

/* The key decides about the algorithm; the token does not. */
static void keys_are_for_their_algorithms_only(void **state)
{
    (void)state;
    struct jws_keys *secret = secret_keys();
    static const char *const pems[] = {TEST_PEM_RSA, TEST_PEM_P256, TEST_PEM_P384, TEST_PEM_P521,
                                       TEST_PEM_ED25519};
    for (size_t i = 0; i < ARRAY_COUNT(tokens); i++) {
        if (tokens[i].pem)
            assert_int_equal(verdict_of(tokens[i].token, secret), JWS_ALGORITHM);
        for (size_t k = 0; k < ARRAY_COUNT(pems); k++) {
            struct jws_keys *keys = pem_keys(pems[k]);
            const bool own = tokens[i].pem && strcmp(tokens[i].pem, pems[k]) == 0;
            assert_int_equal(verdict_of(tokens[i].token, keys), own ? JWS_GOOD : JWS_ALGORITHM);
            (void)jws_keys_unref(keys);
        }
    }
    (void)jws_keys_unref(secret);
    struct jws_keys *narrow = NULL;
    assert_int_equal(
        jws_keys_pem(slice_str(TEST_PEM_RSA), jws_algorithm_bit("RS512"), &narrow, NULL), 0);
    assert_int_equal(verdict_of(TEST_TOKEN_RS512, narrow), JWS_GOOD);
    assert_int_equal(verdict_of(TEST_TOKEN_RS256, narrow), JWS_ALGORITHM);
    assert_int_equal(verdict_of(TEST_TOKEN_PS512, narrow), JWS_ALGORITHM);
    (void)jws_keys_unref(narrow);
    assert_int_equal(jws_algorithm_bit("none"), 0);
    assert_int_equal(jws_algorithm_bit("hs256"), 0);
}

static void public_keys_are_no_secrets(void **state)
{
    (void)state;
    static const char *const forged[] = {TEST_TOKEN_CONFUSED, TEST_TOKEN_CONFUSED_DER,
                                         TEST_TOKEN_EMPTY_SECRET};
    struct jws_keys *rsa = pem_keys(TEST_PEM_RSA);
    struct jws_keys *set = set_keys(SET(TEST_JWK_RSA));
    struct jws_keys *secret = secret_keys();
    for (size_t i = 0; i < ARRAY_COUNT(forged); i++) {
        assert_int_equal(verdict_of(forged[i], rsa), JWS_ALGORITHM);
        assert_int_equal(verdict_of(forged[i], set), JWS_ALGORITHM);
        assert_int_equal(verdict_of(forged[i], secret), JWS_SIGNATURE);
    }
    struct jws_keys *unused = NULL;
    struct errmsg why = {0};
    assert_int_equal(jws_keys_secret(slice_str(TEST_PEM_RSA), JWS_ALL, &unused, &why), ERR_INVALID);
    assert_non_null(strstr(why.text, "a public key is no secret"));
    (void)jws_keys_unref(rsa);
    (void)jws_keys_unref(set);
    (void)jws_keys_unref(secret);
}

static void bad_tokens_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        const char *token;
        enum jws_verdict wanted;
    } rows[] = {
        {"", JWS_NO_TOKEN},
        {"password", JWS_NO_TOKEN},
        {"a.b", JWS_NO_TOKEN},
        {"a.b.c", JWS_NO_TOKEN},
        {"..", JWS_NO_TOKEN},
        {TEST_TOKEN_HS256 ".", JWS_NO_TOKEN},
        {"." TEST_TOKEN_HS256, JWS_NO_TOKEN},
        {TEST_TOKEN_ALG_NUMBER, JWS_NO_TOKEN},
        {"e30.e30.", JWS_NO_TOKEN},                    /* {} */
        {"W10.e30.", JWS_NO_TOKEN},                    /* [] */
        {"eyJhbGciOiJIUzI1NiJ9=.e30.", JWS_NO_TOKEN},  /* padded */
        {"eyJhbGciOiJIUzI1NiJ9.e30.*", JWS_MALFORMED}, /* from here on the header is good */
        {"eyJhbGciOiJIUzI1NiJ9.e30.AAAA====", JWS_MALFORMED},
        {"eyJhbGciOiJIUzI1NiJ9.*.AAAA", JWS_MALFORMED},
        {"eyJhbGciOiJIUzI1NiJ9..AAAA", JWS_MALFORMED},
        {TEST_TOKEN_LIST_BODY, JWS_MALFORMED},
        {TEST_TOKEN_TWICE, JWS_MALFORMED},
        {TEST_TOKEN_KID_NUMBER, JWS_MALFORMED},
        {TEST_TOKEN_CRIT, JWS_MALFORMED},
        {TEST_TOKEN_NONE, JWS_ALGORITHM},
        {TEST_TOKEN_SHORT_MAC, JWS_SIGNATURE},
        {TEST_TOKEN_NO_MAC, JWS_SIGNATURE},
    };
    struct jws_keys *keys = secret_keys();
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        assert_int_equal(verdict_of(rows[i].token, keys), rows[i].wanted);
        assert_int_equal(jws_looks_like_one(slice_str(rows[i].token)),
                         rows[i].wanted != JWS_NO_TOKEN);
    }
    (void)jws_keys_unref(keys);
}

static void tokens_are_cut_off_everywhere(void **state)
{
    (void)state;
    static const char *const whole[] = {TEST_TOKEN_HS256, TEST_TOKEN_RS256, TEST_TOKEN_ES256,
                                        TEST_TOKEN_EDDSA};
    struct jws_keys *keys[] = {secret_keys(), set_keys(ALL_KEYS)};
    for (size_t i = 0; i < ARRAY_COUNT(whole); i++) {
        for (size_t size = 0; size < strlen(whole[i]); size++) {
            json_t *claims = NULL;
            char *copy = mem_try_copy(whole[i], size);
            for (size_t k = 0; k < 2; k++)
                assert_int_not_equal(jws_verify(slice_of(copy, size), keys[k], &claims), JWS_GOOD);
            mem_free(copy);
        }
    }
    (void)jws_keys_unref(keys[0]);
    (void)jws_keys_unref(keys[1]);
}

static void keys_are_found_by_name(void **state)
{
    (void)state;
    struct jws_keys *keys = set_keys(ALL_KEYS);
    assert_int_equal(verdict_of(TEST_TOKEN_KID, keys), JWS_GOOD);
    assert_int_equal(verdict_of(TEST_TOKEN_OTHER_KID, keys), JWS_UNKNOWN_KEY);
    assert_int_equal(verdict_of(TEST_TOKEN_OWN_JWK, keys), JWS_SIGNATURE);
    (void)jws_keys_unref(keys);
    keys = pem_keys(TEST_PEM_P256); /* has no name: is for all */
    assert_int_equal(verdict_of(TEST_TOKEN_OTHER_KID, keys), JWS_GOOD);
    (void)jws_keys_unref(keys);
}

static void sets_leave_out_what_is_of_no_use(void **state)
{
    (void)state;
    static const char secret[] = "{\"kty\": \"oct\", \"k\": \"" TEST_SECRET "\", \"kid\": \"x\"}";
    static const char *const useless[] = {
        secret,
        "{\"kty\": \"RSA\"}",
        "{\"kty\": \"RSA\", \"n\": \"AQAB\", \"e\": \"AQAB\"}",
        "{\"kty\": \"EC\", \"crv\": \"P-256\", \"x\": \"AAAA\", \"y\": \"AAAA\"}",
        /* y is longer than the curve's numbers */
        "{\"kty\": \"EC\", \"crv\": \"P-521\", \"x\": "
        "\"Aei3tVakxnG5JuaUS1M7-4QAEzsngtq8tWK0lnarPvqc8GvfAck0YSpcHnXMKGzMIJcnxaW0fLSMskqO880_"
        "XwKF\", "
        "\"y\": "
        "\"AKxQFnV7D0hsk6zyfUi_mW5gCohOsfZrDyQYz35ZJnFlmVrd-JV87B8m0CoV7D0hsk6zyfUi_"
        "mW5gCohOsfZrDyQYz35ZJnFlmVrd-JV87B8m0Co9M7ckBgmgX63hXhHHDwx7LakjeSL8\"}",
        "{\"kty\": \"new\"}",
        "{}",
        "[]",
        "1",
        "{\"kty\": \"RSA\", \"x5u\": \"https://127.0.0.1:1/\"}",
    };
    char text[TEXT_MAX];
    for (size_t i = 0; i < ARRAY_COUNT(useless); i++) {
        struct jws_keys *keys = NULL;
        struct errmsg why = {0};
        (void)snprintf(text, sizeof text, SET("%s"), useless[i]);
        assert_int_equal(jws_keys_set(slice_str(text), JWS_ALL, &keys, &why), ERR_INVALID);
        assert_non_null(strstr(why.text, "no key of the set is of use"));
        (void)snprintf(text, sizeof text, SET("%s, %s"), useless[i], TEST_JWK_P256);
        keys = set_keys(text);
        assert_int_equal(keys->count, 1);
        (void)jws_keys_unref(keys);
    }
    static const char *const no_sets[] = {"",   "nothing",        "[]",
                                          "{}", "{\"keys\": {}}", "{\"keys\": [], \"keys\": []}"};
    for (size_t i = 0; i < ARRAY_COUNT(no_sets); i++) {
        struct jws_keys *keys = NULL;
        struct errmsg why = {0};
        assert_int_equal(jws_keys_set(slice_str(no_sets[i]), JWS_ALL, &keys, &why), ERR_INVALID);
        assert_non_null(strstr(why.text, "not a set of keys"));
    }
}

static void members_of_keys_narrow_them(void **state)
{
    (void)state;
    json_t *jwk = json_loads(TEST_JWK_P256, 0, NULL);
    static const struct {
        const char *name, *value;
        bool usable;
    } rows[] = {
        {"use", "sig", true},    {"use", "enc", false},   {"alg", "ES256", true},
        {"alg", "ES384", false}, {"alg", "HS256", false},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct jws_keys *keys = NULL;
        json_t *one = json_copy(jwk);
        (void)json_object_set_new(one, rows[i].name, json_string(rows[i].value));
        json_t *set = json_pack("{s:[o]}", "keys", one);
        char text[TEXT_MAX];
        const size_t size = json_dumpb(set, text, sizeof text, 0);
        assert_int_equal(jws_keys_set(slice_of(text, size), JWS_ALL, &keys, NULL),
                         rows[i].usable ? 0 : ERR_INVALID);
        if (keys)
            assert_int_equal(verdict_of(TEST_TOKEN_ES256, keys), JWS_GOOD);
        (void)jws_keys_unref(keys);
        json_decref(set);
    }
    json_decref(jwk);
}

static void bad_keys_are_refused(void **state)
{
    (void)state;
    struct jws_keys *keys = NULL;
    struct errmsg why = {0};
    assert_int_equal(jws_keys_secret(slice_str("short"), JWS_ALL, &keys, &why), ERR_INVALID);
    assert_null(strstr(why.text, "short\""));
    assert_non_null(strstr(why.text, "at least 32"));
    assert_int_equal(
        jws_keys_secret(slice_str(TEST_SECRET), jws_algorithm_bit("RS256"), &keys, NULL),
        ERR_INVALID);
    static const char *const pems[] = {"", "nothing", "-----BEGIN PUBLIC KEY-----\nAAAA\n",
                                       TEST_PEM_RSA_SMALL};
    for (size_t i = 0; i < ARRAY_COUNT(pems); i++)
        assert_int_equal(jws_keys_pem(slice_str(pems[i]), JWS_ALL, &keys, NULL), ERR_INVALID);
    assert_int_equal(jws_keys_pem(slice_str(TEST_PEM_RSA), jws_algorithm_bit("ES256"), &keys, NULL),
                     ERR_INVALID);
}

static void without_memory(void **state)
{
    (void)state;
    int failures = 0;
    for (uint64_t n = 1; n < 20; n++) {
        struct jws_keys *keys = NULL;
        mem_fail_at(n);
        const int err = jws_keys_set(slice_str(ALL_KEYS), JWS_ALL, &keys, NULL);
        mem_fail_at(0);
        failures += err == ERR_NOMEM;
        assert_true(err == 0 || err == ERR_NOMEM);
        (void)jws_keys_unref(keys);
    }
    assert_int_equal(failures, 10); /* a key and its name, five times */
    struct jws_keys *keys = secret_keys();
    for (uint64_t n = 1; n <= 3; n++) {
        mem_fail_at(n);
        assert_int_not_equal(verdict_of(TEST_TOKEN_HS256, keys), JWS_GOOD);
    }
    mem_fail_at(0);
    (void)jws_keys_unref(keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_algorithm_verifies),
        cmocka_unit_test(changed_tokens_do_not),
        cmocka_unit_test(keys_are_for_their_algorithms_only),
        cmocka_unit_test(public_keys_are_no_secrets),
        cmocka_unit_test(bad_tokens_are_told_apart),
        cmocka_unit_test(tokens_are_cut_off_everywhere),
        cmocka_unit_test(keys_are_found_by_name),
        cmocka_unit_test(sets_leave_out_what_is_of_no_use),
        cmocka_unit_test(members_of_keys_narrow_them),
        cmocka_unit_test(bad_keys_are_refused),
        cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
