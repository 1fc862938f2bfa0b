#include "auth/http_answer.h"

#include "auth/claims.h"

#include <string.h>

static bool is_absent_or(const json_t *value, bool right)
{
    return !value || right;
}

static const char *parse_result(const json_t *answer, enum auth_result *ret_result)
{
    static const struct {
        const char *word;
        enum auth_result result;
    } rows[] = {
        {"allow", AUTH_ALLOWED},
        {"deny", AUTH_BAD_CREDENTIALS},
        {"ignore", AUTH_IGNORED},
    };
    const char *word = json_string_value(json_object_get(answer, "result"));
    for (size_t i = 0; word && i < ARRAY_COUNT(rows); i++) {
        if (strcmp(word, rows[i].word) == 0) {
            *ret_result = rows[i].result;
            return NULL;
        }
    }
    return "its result is not allow, deny or ignore";
}

/* Returns NULL, or what is wrong. */
static const char *parse_object(const json_t *answer, struct http_verdict *verdict)
{
    const json_t *superuser = json_object_get(answer, "is_superuser");
    const json_t *attributes = json_object_get(answer, "client_attrs");
    const json_t *expiry = json_object_get(answer, "expire_at");
    const json_t *acl = json_object_get(answer, "acl");
    if (!is_absent_or(superuser, json_is_boolean(superuser)))
        return "its is_superuser is neither true nor false";
    if (!is_absent_or(attributes, json_is_object(attributes)))
        return "its client_attrs are not an object";
    if (expiry && !claims_time(expiry, &verdict->expire_at_ms))
        return "its expire_at is not a time";
    if (acl && claims_acl(acl, &verdict->acl) < 0)
        return "its acl is not a list of rules";
    verdict->is_superuser = json_is_true(superuser);
    return parse_result(answer, &verdict->result);
}

void http_answer_parse(uint32_t status, struct slice body, uint64_t now_ms,
                       struct http_verdict *ret_verdict)
{
    struct http_verdict verdict = {.result = AUTH_IGNORED};
    json_t *answer = NULL;
    bool expires = false;
    if (status == 204) {
        verdict.result = AUTH_ALLOWED;
    } else if (status != 200) {
        verdict.wrong = "its status is not 200 or 204";
    } else {
        if (body.size > 0)
            answer = json_loadb((const char *)body.bytes, body.size, JSON_REJECT_DUPLICATES, NULL);
        verdict.wrong =
            json_is_object(answer) ? parse_object(answer, &verdict) : "it is not a JSON object";
        expires = json_object_get(answer, "expire_at") != NULL;
        json_decref(answer);
    }
    if (verdict.wrong) {
        slice_done(&verdict.acl);
        verdict = (struct http_verdict){.result = AUTH_IGNORED, .wrong = verdict.wrong};
    } else if (verdict.result == AUTH_ALLOWED && expires && verdict.expire_at_ms <= now_ms) {
        verdict.result = AUTH_BAD_CREDENTIALS;
    }
    *ret_verdict = verdict;
}
