/* Answers of a server that is asked about a client: good, wrong, and cut off anywhere. */
#include "auth/http_answer.h"
#include "base/mem.h"
#include "base/unit.h"

#include <string.h>

enum { NOW_MS = 1000000000 };

static const char whole[] = "{\"result\": \"allow\", \"is_superuser\": true, \"client_attrs\": "
                            "{\"a\": \"b\"}, \"expire_at\": 1000001, \"acl\": [{\"effect\": "
                            "\"allow\", \"action\": [\"publish\"], \"topic\": \"a/#\"}]}";

static void a_whole_answer(void **state)
{
    (void)state;
    struct http_verdict verdict;
    http_answer_parse(200, slice_str(whole), NOW_MS, &verdict);
    assert_int_equal(verdict.result, AUTH_ALLOWED);
    assert_null(verdict.wrong);
    assert_true(verdict.is_superuser);
    assert_int_equal(verdict.expire_at_ms, 1000001000);
    assert_true(slice_equal(
        verdict.acl,
        slice_str("[{\"effect\":\"allow\",\"action\":[\"publish\"],\"topic\":\"a/#\"}]")));
    slice_done(&verdict.acl);
}

static const struct {
    uint32_t status;
    const char *body;
    enum auth_result result;
    const char *wrong; /* NULL: nothing */
} rows[] = {
    {200, "{\"result\": \"allow\"}", AUTH_ALLOWED, NULL},
    {200, "{\"result\": \"deny\"}", AUTH_BAD_CREDENTIALS, NULL},
    {200, "{\"result\": \"ignore\"}", AUTH_IGNORED, NULL},
    {204, "", AUTH_ALLOWED, NULL},
    {204, "nonsense", AUTH_ALLOWED, NULL},
    {200, "{\"result\": \"allow\", \"more\": 1}", AUTH_ALLOWED, NULL},
    {200, "{\"result\": \"allow\", \"expire_at\": 1000000}", AUTH_BAD_CREDENTIALS, NULL},
    {200, "{\"result\": \"allow\", \"expire_at\": 0}", AUTH_BAD_CREDENTIALS, NULL},
    {200, "{\"result\": \"ignore\", \"expire_at\": 1}", AUTH_IGNORED, NULL},
    {200, "", AUTH_IGNORED, "it is not a JSON object"},
    {200, "allow", AUTH_IGNORED, "it is not a JSON object"},
    {200, "[\"allow\"]", AUTH_IGNORED, "it is not a JSON object"},
    {200, "\"allow\"", AUTH_IGNORED, "it is not a JSON object"},
    {200, "{\"result\": \"deny\", \"result\": \"allow\"}", AUTH_IGNORED, "it is not a JSON object"},
    {200, "{\"result\": \"allow\"} x", AUTH_IGNORED, "it is not a JSON object"},
    {200, "{}", AUTH_IGNORED, "its result is not allow, deny or ignore"},
    {200, "{\"result\": true}", AUTH_IGNORED, "its result is not allow, deny or ignore"},
    {200, "{\"result\": \"ALLOW\"}", AUTH_IGNORED, "its result is not allow, deny or ignore"},
    {200, "{\"result\": \"allow\", \"is_superuser\": \"yes\"}", AUTH_IGNORED,
     "its is_superuser is neither true nor false"},
    {200, "{\"result\": \"allow\", \"is_superuser\": 1}", AUTH_IGNORED,
     "its is_superuser is neither true nor false"},
    {200, "{\"result\": \"allow\", \"client_attrs\": []}", AUTH_IGNORED,
     "its client_attrs are not an object"},
    {200, "{\"result\": \"allow\", \"expire_at\": \"never\"}", AUTH_IGNORED,
     "its expire_at is not a time"},
    {200, "{\"result\": \"allow\", \"expire_at\": -1}", AUTH_IGNORED,
     "its expire_at is not a time"},
    {200, "{\"result\": \"allow\", \"acl\": {}}", AUTH_IGNORED, "its acl is not a list of rules"},
    {200, "{\"result\": 1, \"acl\": []}", AUTH_IGNORED, "its result is not allow, deny or ignore"},
    {201, "{\"result\": \"allow\"}", AUTH_IGNORED, "its status is not 200 or 204"},
    {302, "{\"result\": \"allow\"}", AUTH_IGNORED, "its status is not 200 or 204"},
    {401, "{\"result\": \"deny\"}", AUTH_IGNORED, "its status is not 200 or 204"},
    {500, "", AUTH_IGNORED, "its status is not 200 or 204"},
    {0, "", AUTH_IGNORED, "its status is not 200 or 204"},
};

static void each_answer_counts_as_it_should(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct http_verdict verdict;
        http_answer_parse(rows[i].status, slice_str(rows[i].body), NOW_MS, &verdict);
        assert_int_equal(verdict.result, rows[i].result);
        if (rows[i].wrong)
            assert_string_equal(verdict.wrong, rows[i].wrong);
        else
            assert_null(verdict.wrong);
        assert_int_equal(verdict.acl.size, 0);
        assert_false(verdict.is_superuser);
    }
}

static void answers_cut_off_are_ignored(void **state)
{
    (void)state;
    for (size_t size = 0; size < sizeof whole - 1; size++) {
        struct http_verdict verdict;
        char *copy = mem_try_copy(whole, size);
        http_answer_parse(200, slice_of(copy, size), NOW_MS, &verdict);
        assert_int_equal(verdict.result, AUTH_IGNORED);
        assert_non_null(verdict.wrong);
        mem_free(copy);
    }
}

static void without_memory_nothing_is_allowed(void **state)
{
    (void)state;
    struct http_verdict verdict;
    mem_fail_at(1);
    http_answer_parse(200, slice_str(whole), NOW_MS, &verdict);
    mem_fail_at(0);
    assert_int_equal(verdict.result, AUTH_IGNORED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_answer),
        cmocka_unit_test(each_answer_counts_as_it_should),
        cmocka_unit_test(answers_cut_off_are_ignored),
        cmocka_unit_test(without_memory_nothing_is_allowed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
