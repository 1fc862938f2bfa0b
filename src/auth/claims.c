#include "auth/claims.h"

#include "auth/template.h"

#include <string.h>

#define VALUE_MAX 65536u
#define TIME_MAX  (UINT64_MAX / 2)

bool claims_time(const json_t *value, uint64_t *ret_ms)
{
    if (!json_is_number(value))
        return false;
    const double seconds = json_number_value(value);
    if (!(seconds >= 0))
        return false;
    *ret_ms = seconds >= (double)TIME_MAX / 1000 ? TIME_MAX : (uint64_t)(seconds * 1000);
    return true;
}

/* --- times --------------------------------------------------------------------------------------
 */

static const char *check_times(const json_t *claims, const struct claims_rules *rules,
                               uint64_t now_ms, uint64_t *ret_expire_at_ms)
{
    const json_t *exp = json_object_get(claims, "exp");
    const json_t *nbf = json_object_get(claims, "nbf");
    const json_t *iat = json_object_get(claims, "iat");
    uint64_t at_ms = 0;
    *ret_expire_at_ms = 0;
    if (exp && !claims_time(exp, &at_ms))
        return "its exp is not a time";
    if (exp && now_ms >= at_ms + rules->leeway_ms)
        return "it has expired";
    if (exp)
        *ret_expire_at_ms = at_ms + rules->leeway_ms;
    if (nbf && !claims_time(nbf, &at_ms))
        return "its nbf is not a time";
    if (nbf && now_ms + rules->leeway_ms < at_ms)
        return "it is not valid yet";
    if (iat && !claims_time(iat, &at_ms))
        return "its iat is not a time";
    if (iat && now_ms + rules->leeway_ms < at_ms)
        return "it was issued in the future";
    return NULL;
}

/* --- names --------------------------------------------------------------------------------------
 */

static bool is_text(const json_t *value, const char *wanted)
{
    return json_is_string(value) && strcmp(json_string_value(value), wanted) == 0;
}

static bool has_audience(const json_t *aud, const char *wanted)
{
    for (size_t i = 0; i < json_array_size(aud); i++) {
        if (is_text(json_array_get(aud, i), wanted))
            return true;
    }
    return is_text(aud, wanted);
}

int claims_check_rule(const char *rule, struct errmsg *reterr)
{
    const char *equals = strchr(rule, '=');
    if (!equals || equals == rule || equals[1] == '\0') {
        errmsg_wrap(reterr, "rules name=value, such as client_id=${ClientId}");
        return ERR_INVALID;
    }
    return template_check(equals + 1, reterr);
}

/* Whether the claim is the text that the rule makes of what the client gave. */
static bool is_as_expected(const json_t *claims, const char *rule,
                           const struct auth_credentials *credentials)
{
    char name[256];
    const size_t size = strcspn(rule, "=");
    struct strbuf wanted;
    if (size >= sizeof name)
        return false;
    memcpy(name, rule, size);
    name[size] = '\0';
    const json_t *value = json_object_get(claims, name);
    strbuf_init(&wanted, VALUE_MAX);
    template_fill(rule + size + 1, credentials, TEMPLATE_PLAIN, &wanted);
    /* an empty value, of a client that gave none, vouches for nothing */
    const bool same = json_is_string(value) && strbuf_err(&wanted) == 0 && wanted.size > 0 &&
                      json_string_length(value) == wanted.size &&
                      memcmp(json_string_value(value), wanted.text, wanted.size) == 0;
    strbuf_done(&wanted);
    return same;
}

static const char *check_names(const json_t *claims, const struct claims_rules *rules,
                               const struct auth_credentials *credentials)
{
    if (rules->issuer && !is_text(json_object_get(claims, "iss"), rules->issuer))
        return "it is of another issuer";
    if (rules->audience && !has_audience(json_object_get(claims, "aud"), rules->audience))
        return "it is for another audience";
    for (uint32_t i = 0; i < rules->expected_count; i++) {
        if (!is_as_expected(claims, rules->expected[i], credentials))
            return "a claim of auth.jwt.claims is different";
    }
    return NULL;
}

static struct slice verified_name(const json_t *claims, const struct claims_rules *rules,
                                  const struct auth_credentials *credentials)
{
    const json_t *sub = json_object_get(claims, "sub");
    if (json_is_string(sub))
        return slice_of(json_string_value(sub), json_string_length(sub));
    for (uint32_t i = 0; i < rules->expected_count; i++) {
        const char *value = strchr(rules->expected[i], '=') + 1;
        if (strcmp(value, "${Username}") == 0)
            return credentials->username;
    }
    return slice_of(NULL, 0);
}

/* --- all of it ----------------------------------------------------------------------------------
 */

int claims_acl(const json_t *acl, struct slice *ret_acl)
{
    if (!json_is_array(acl))
        return ERR_INVALID;
    const size_t size = json_dumpb(acl, NULL, 0, JSON_COMPACT);
    if (size == 0)
        return ERR_NOMEM;
    if (size > CLAIMS_ACL_MAX)
        return ERR_FULL;
    struct buf *buf = buf_try_new((uint32_t)size);
    if (!buf)
        return ERR_NOMEM;
    (void)json_dumpb(acl, (char *)buf_bytes(buf), size, JSON_COMPACT);
    *ret_acl = (struct slice){.bytes = buf_bytes(buf), .size = (uint32_t)size, .buf = buf};
    return 0;
}

void claims_done(struct claims_result *result)
{
    slice_done(&result->acl);
    slice_done(&result->username);
}

int claims_check(const json_t *claims, const struct claims_rules *rules,
                 const struct auth_credentials *credentials, uint64_t now_ms,
                 struct claims_result *ret_result)
{
    const json_t *acl = json_object_get(claims, "acl");
    int err = 0;
    *ret_result = (struct claims_result){0};
    ret_result->wrong = check_times(claims, rules, now_ms, &ret_result->expire_at_ms);
    if (!ret_result->wrong)
        ret_result->wrong = check_names(claims, rules, credentials);
    if (!ret_result->wrong && acl)
        err = claims_acl(acl, &ret_result->acl);
    if (err == ERR_INVALID || err == ERR_FULL) {
        ret_result->wrong = "its acl is not a list of rules";
        err = 0;
    }
    const struct slice name = verified_name(claims, rules, credentials);
    if (err == 0 && !ret_result->wrong && name.size > UINT16_MAX)
        ret_result->wrong = "its sub is too long";
    if (err == 0 && !ret_result->wrong)
        err = slice_keep(name, &ret_result->username);
    return err;
}
