/* Claims and templates. */
#include "auth/claims.h"
#include "auth/template.h"
#include "base/mem.h"
#include "base/unit.h"

#include <string.h>

enum { NOW_S = 1000000 };

static struct auth_credentials credentials(void)
{
    return (struct auth_credentials){
        .client_id = slice_str("id 1"),
        .username = slice_str("user"),
        .password = slice_str("p%&"),
        .has_username = true,
        .has_password = true,
        .address = "127.0.0.1:5",
    };
}

static const struct claims_rules none = {.leeway_ms = 5000};

static const struct {
    const char *claims, *wrong; /* NULL: nothing */
    uint64_t expire_at_s;
} times[] = {
    {"{}", NULL, 0},
    {"{\"exp\": 1000001}", NULL, 1000006},
    {"{\"exp\": 999996}", NULL, 1000001}, /* within the leeway */
    {"{\"exp\": 999995}", "it has expired", 0},
    {"{\"exp\": 0}", "it has expired", 0},
    {"{\"exp\": 1000001.5}", NULL, 1000006}, /* whole seconds compared */
    {"{\"exp\": \"1000001\"}", "its exp is not a time", 0},
    {"{\"exp\": null}", "its exp is not a time", 0},
    {"{\"exp\": -1}", "its exp is not a time", 0},
    {"{\"exp\": 1e300}", NULL, UINT64_MAX / 2 / 1000 + 5},
    {"{\"nbf\": 1000005}", NULL, 0},
    {"{\"nbf\": 1000006}", "it is not valid yet", 0},
    {"{\"nbf\": 1e300}", "it is not valid yet", 0},
    {"{\"nbf\": []}", "its nbf is not a time", 0},
    {"{\"iat\": 1000005}", NULL, 0},
    {"{\"iat\": 1000006}", "it was issued in the future", 0},
    {"{\"iat\": {}}", "its iat is not a time", 0},
};

static void times_count(void **state)
{
    (void)state;
    const struct auth_credentials given = credentials();
    for (size_t i = 0; i < ARRAY_COUNT(times); i++) {
        struct claims_result result;
        json_t *claims = json_loads(times[i].claims, 0, NULL);
        assert_non_null(claims);
        assert_int_equal(claims_check(claims, &none, &given, NOW_S * 1000ull, &result), 0);
        if (times[i].wrong)
            assert_string_equal(result.wrong, times[i].wrong);
        else
            assert_null(result.wrong);
        if (!times[i].wrong)
            assert_int_equal(result.expire_at_ms / 1000, times[i].expire_at_s);
        claims_done(&result);
        json_decref(claims);
    }
}

static const struct {
    const char *claims, *wrong;
} names[] = {
    {"{\"iss\": \"us\", \"aud\": \"broker\", \"client_id\": \"id 1\"}", NULL},
    {"{\"iss\": \"us\", \"aud\": [\"x\", \"broker\"], \"client_id\": \"id 1\"}", NULL},
    {"{\"aud\": \"broker\", \"client_id\": \"id 1\"}", "it is of another issuer"},
    {"{\"iss\": \"US\", \"aud\": \"broker\", \"client_id\": \"id 1\"}", "it is of another issuer"},
    {"{\"iss\": [\"us\"], \"aud\": \"broker\", \"client_id\": \"id 1\"}",
     "it is of another issuer"},
    {"{\"iss\": \"us\", \"client_id\": \"id 1\"}", "it is for another audience"},
    {"{\"iss\": \"us\", \"aud\": [], \"client_id\": \"id 1\"}", "it is for another audience"},
    {"{\"iss\": \"us\", \"aud\": [1, \"brokers\"], \"client_id\": \"id 1\"}",
     "it is for another audience"},
    {"{\"iss\": \"us\", \"aud\": \"broker\"}", "a claim of auth.jwt.claims is different"},
    {"{\"iss\": \"us\", \"aud\": \"broker\", \"client_id\": \"id\"}",
     "a claim of auth.jwt.claims is different"},
    {"{\"iss\": \"us\", \"aud\": \"broker\", \"client_id\": 1}",
     "a claim of auth.jwt.claims is different"},
};

static void names_count(void **state)
{
    (void)state;
    char *rule = (char *)"client_id=${ClientId}";
    const struct claims_rules rules = {
        .issuer = "us", .audience = "broker", .expected = &rule, .expected_count = 1};
    const struct auth_credentials given = credentials();
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        struct claims_result result;
        json_t *claims = json_loads(names[i].claims, 0, NULL);
        assert_non_null(claims);
        assert_int_equal(claims_check(claims, &rules, &given, 0, &result), 0);
        if (names[i].wrong)
            assert_string_equal(result.wrong, names[i].wrong);
        else
            assert_null(result.wrong);
        claims_done(&result);
        json_decref(claims);
    }
}

/* The name that counts is one that somebody vouches for. */
static void names_are_vouched_for(void **state)
{
    (void)state;
    static const struct {
        const char *claims, *rule, *name;
    } rows[] = {
        {"{\"sub\": \"s\"}", NULL, "s"},
        {"{}", NULL, ""},
        {"{\"sub\": 1}", NULL, ""},
        {"{\"u\": \"user\"}", "u=${Username}", "user"},
        {"{\"u\": \"user\", \"sub\": \"s\"}", "u=${Username}", "s"},
        {"{\"u\": \"x-user\"}", "u=x-${Username}", ""},
    };
    const struct auth_credentials given = credentials();
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        char *rule = (char *)rows[i].rule;
        const struct claims_rules rules = {.expected = &rule, .expected_count = rule != NULL};
        struct claims_result result;
        json_t *claims = json_loads(rows[i].claims, 0, NULL);
        assert_int_equal(claims_check(claims, &rules, &given, 0, &result), 0);
        assert_null(result.wrong);
        assert_true(slice_equal(result.username, slice_str(rows[i].name)));
        claims_done(&result);
        json_decref(claims);
    }
    /* An empty value of the client's vouches for nothing. */
    char *rule = (char *)"u=${Username}";
    const struct claims_rules rules = {.expected = &rule, .expected_count = 1};
    const struct auth_credentials nameless = {.client_id = slice_str("c")};
    struct claims_result result;
    json_t *claims = json_loads("{\"u\": \"\"}", 0, NULL);
    assert_int_equal(claims_check(claims, &rules, &nameless, 0, &result), 0);
    assert_non_null(result.wrong);
    json_decref(claims);
}

static void rules_of_a_client_are_kept_as_text(void **state)
{
    (void)state;
    const struct auth_credentials given = credentials();
    struct claims_result result;
    json_t *claims = json_loads("{\"acl\": [{\"effect\": \"allow\",  \"topic\": \"a\"}]}", 0, NULL);
    assert_int_equal(claims_check(claims, &none, &given, 0, &result), 0);
    assert_true(slice_equal(result.acl, slice_str("[{\"effect\":\"allow\",\"topic\":\"a\"}]")));
    assert_non_null(result.acl.buf);
    claims_done(&result);
    int failures = 0;
    for (uint64_t n = 1; n < 3; n++) {
        mem_fail_at(n);
        const int err = claims_check(claims, &none, &given, 0, &result);
        mem_fail_at(0);
        failures += err == ERR_NOMEM;
        claims_done(&result);
    }
    assert_int_equal(failures, 1);
    json_decref(claims);
    static const char *const bad[] = {"{\"acl\": {}}", "{\"acl\": \"all\"}", "{\"acl\": null}"};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        claims = json_loads(bad[i], 0, NULL);
        assert_int_equal(claims_check(claims, &none, &given, 0, &result), 0);
        assert_string_equal(result.wrong, "its acl is not a list of rules");
        claims_done(&result);
        json_decref(claims);
    }
    json_t *huge = json_array();
    for (int i = 0; i < 20000; i++)
        (void)json_array_append_new(huge, json_integer(1000));
    struct slice acl;
    assert_int_equal(claims_acl(huge, &acl), ERR_FULL);
    json_decref(huge);
}

static void rules_are_checked(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "x", "=x", "x=", "x=${Nothing}", "x=${ClientId"};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        assert_int_equal(claims_check_rule(bad[i], NULL), ERR_INVALID);
    assert_int_equal(claims_check_rule("client_id=${ClientId}", NULL), 0);
    assert_int_equal(claims_check_rule("tenant=acme=1", NULL), 0);
}

static void templates_are_filled(void **state)
{
    (void)state;
    static const struct {
        const char *text, *plain, *url;
    } rows[] = {
        {"", "", ""},
        {"fixed $ {x} $", "fixed $ {x} $", "fixed $ {x} $"},
        {"${ClientId}", "id 1", "id%201"},
        {"a/${Username}/${Password}?", "a/user/p%&?", "a/user/p%25%26?"},
        {"${Address}", "127.0.0.1:5", "127.0.0.1%3A5"},
    };
    const struct auth_credentials given = credentials();
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        for (int form = 0; form < 2; form++) {
            struct strbuf out;
            strbuf_init(&out, 100);
            template_fill(rows[i].text, &given, (enum template_form)form, &out);
            assert_int_equal(strbuf_err(&out), 0);
            assert_string_equal(out.text ? out.text : "", form ? rows[i].url : rows[i].plain);
            strbuf_done(&out);
        }
        assert_int_equal(template_check(rows[i].text, NULL), 0);
    }
    struct errmsg why = {0};
    assert_int_equal(template_check("${clientid}", &why), ERR_INVALID);
    assert_non_null(strstr(why.text, "'${clientid}'"));
    assert_true(template_has("x${Password}", "${Password}"));
    const struct auth_credentials empty = {0};
    struct strbuf out;
    strbuf_init(&out, 100);
    template_fill("<${ClientId}${Username}${Password}${Address}>", &empty, TEMPLATE_URL, &out);
    assert_string_equal(out.text, "<>");
    strbuf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_count),
        cmocka_unit_test(names_count),
        cmocka_unit_test(names_are_vouched_for),
        cmocka_unit_test(rules_of_a_client_are_kept_as_text),
        cmocka_unit_test(rules_are_checked),
        cmocka_unit_test(templates_are_filled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
