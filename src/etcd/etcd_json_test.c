#include "etcd/etcd_json.h"

#include "base/mem.h"
#include "base/unit.h"

#include <stdio.h>
#include <string.h>

static int read_txn(const char *text, struct etcd_answer *ret_answer)
{
    const char *why = NULL;
    const int err = etcd_txn_read(slice_str(text), ret_answer, &why);
    assert_true(err == 0 || why != NULL);
    return err;
}

static void requests_are_written(void **state)
{
    (void)state;
    const struct etcd_compare compare = {
        .kind = ETCD_CHANGED_AT, .key = slice_str("a"), .revision = 7};
    const struct etcd_op put = {
        .kind = ETCD_PUT, .key = slice_str("ab"), .value = slice_of("\0\xff\x10", 3), .lease = 5};
    const struct etcd_op read = {
        .kind = ETCD_READ, .key = slice_str("a"), .end = slice_str("b"), .limit = 9};
    const struct etcd_txn txn = {.compares = &compare,
                                 .compare_count = 1,
                                 .then = &put,
                                 .then_count = 1,
                                 .otherwise = &read,
                                 .otherwise_count = 1};
    struct strbuf out;
    strbuf_init(&out, 10000);
    etcd_txn_write(&out, &txn);
    assert_string_equal(
        out.text,
        "{\"compare\":[{\"key\":\"YQ==\",\"target\":\"MOD\",\"result\":\"EQUAL\","
        "\"mod_revision\":\"7\"}],\"success\":[{\"request_put\":{\"key\":\"YWI=\","
        "\"value\":\"AP8Q\",\"lease\":\"5\"}}],\"failure\":[{\"request_range\":{\"key\":\"YQ==\","
        "\"range_end\":\"Yg==\",\"limit\":\"9\",\"revision\":\"0\"}}]}");
    strbuf_done(&out);
    strbuf_init(&out, 10000);
    etcd_watch_write(&out, slice_str("a"), slice_str("b"), 12);
    assert_string_equal(out.text, "{\"create_request\":{\"key\":\"YQ==\",\"range_end\":\"Yg==\","
                                  "\"start_revision\":\"12\"}}");
    strbuf_done(&out);
}

/* Long ones are encoded in pieces. */
static void long_values_are_written_whole(void **state)
{
    (void)state;
    uint8_t bytes[4000];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 7);
    for (uint32_t size = 760; size < sizeof bytes; size += 7) {
        struct strbuf out, answer;
        struct etcd_answer read;
        const struct etcd_op put = {
            .kind = ETCD_PUT, .key = slice_str("k"), .value = slice_of(bytes, size)};
        strbuf_init(&out, 100000);
        strbuf_init(&answer, 100000);
        etcd_txn_write(&out, &(struct etcd_txn){.then = &put, .then_count = 1});
        const char *value = strstr(out.text, "\"value\":\"");
        assert_non_null(value);
        value += strlen("\"value\":\"");
        strbuf_addf(
            &answer,
            "{\"header\":{\"revision\":\"1\"},\"responses\":[{\"response_range\":{\"kvs\":[{"
            "\"key\":\"aw==\",\"value\":\"%.*s\"}]}}]}",
            (int)strcspn(value, "\""), value);
        assert_int_equal(read_txn(answer.text, &read), 0);
        assert_true(slice_equal(read.results[0].rows[0].value, put.value));
        etcd_answer_done(&read);
        strbuf_done(&out);
        strbuf_done(&answer);
    }
}

static void answers_are_read(void **state)
{
    (void)state;
    struct etcd_answer answer;
    assert_int_equal(
        read_txn("{\"header\":{\"revision\":\"18446744073709551615\"},\"succeeded\":true,"
                 "\"responses\":[{\"response_put\":{}},{\"response_delete_range\":{\"deleted\":"
                 "\"3\"}},{\"response_range\":{\"more\":true,\"kvs\":[{\"key\":\"YQ==\","
                 "\"create_revision\":\"4\",\"mod_revision\":5,\"value\":\"Yg==\",\"lease\":"
                 "\"6\"},{\"key\":\"\"}]}}]}",
                 &answer),
        0);
    assert_true(answer.held);
    assert_true(answer.revision == UINT64_MAX);
    assert_int_equal(answer.result_count, 3);
    assert_int_equal(answer.results[1].deleted, 3);
    const struct etcd_result *range = &answer.results[2];
    assert_true(range->more);
    assert_int_equal(range->row_count, 2);
    assert_true(slice_equal(range->rows[0].key, slice_str("a")));
    assert_int_equal(range->rows[0].created, 4);
    assert_int_equal(range->rows[0].changed, 5);
    assert_int_equal(range->rows[0].lease, 6);
    assert_int_equal(range->rows[1].key.size, 0);
    etcd_answer_done(&answer);
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "",
        "[]",
        "null",
        "<html>",
        "{}",
        "{\"header\":{}}",
        "{\"header\":{\"revision\":\"\"}}",
        "{\"header\":{\"revision\":\"-1\"}}",
        "{\"header\":{\"revision\":\"1x\"}}",
        "{\"header\":{\"revision\":[]}}",
        "{\"header\":{\"revision\":\"1\"},\"responses\":[{\"response_range\":{\"kvs\":[{\"key\":"
        "\"?\"}]}}]}",
        "{\"header\":{\"revision\":\"1\"},\"responses\":[{\"response_range\":{\"kvs\":[{\"key\":"
        "1}]}}]}",
        "{\"header\":{\"revision\":\"1\"},\"responses\":[{\"response_range\":{\"kvs\":[{\"lease\":"
        "\"x\"}]}}]}",
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct etcd_answer answer;
        assert_int_equal(read_txn(rows[i], &answer), ERR_MALFORMED);
        etcd_answer_done(&answer);
    }
}

static void changes_are_read(void **state)
{
    (void)state;
    struct etcd_changes changes;
    const char *why = NULL;
    assert_int_equal(etcd_changes_read(
                         slice_str("{\"result\":{\"header\":{\"revision\":\"9\"},\"events\":["
                                   "{\"kv\":{\"key\":\"YQ==\",\"mod_revision\":\"8\"}},"
                                   "{\"type\":\"DELETE\",\"kv\":{\"key\":\"Yg==\",\"mod_revision\":"
                                   "\"9\"}}]}}"),
                         &changes, &why),
                     0);
    assert_int_equal(changes.count, 2);
    assert_false(changes.all[0].deleted);
    assert_true(changes.all[1].deleted);
    etcd_changes_done(&changes);
    static const struct {
        const char *text;
        int err;
        bool over;
        uint64_t compacted;
    } rows[] = {
        {"{\"result\":{\"created\":true}}", 0, false, 0},
        {"{\"result\":{\"canceled\":true,\"compact_revision\":\"7\"}}", 0, true, 7},
        {"{\"error\":{\"message\":\"no leader\"}}", 0, true, 0},
        {"{\"result\":{\"events\":[{}]}}", ERR_MALFORMED, false, 0},
        {"{\"result\":{\"events\":[{\"kv\":{\"key\":\"YQ==\"}}]}}", ERR_MALFORMED, false, 0},
        {"{\"result\":{\"compact_revision\":\"x\"}}", ERR_MALFORMED, false, 0},
        {"nonsense", ERR_MALFORMED, false, 0},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        assert_int_equal(etcd_changes_read(slice_str(rows[i].text), &changes, &why), rows[i].err);
        assert_int_equal(changes.over, rows[i].over);
        assert_int_equal(changes.compacted, rows[i].compacted);
        etcd_changes_done(&changes);
    }
}

static void leases_and_errors_are_read(void **state)
{
    (void)state;
    uint64_t id = 0;
    uint32_t ttl_s = 0;
    const char *why = NULL;
    char text[32];
    assert_int_equal(etcd_lease_read(slice_str("{\"ID\":\"7\",\"TTL\":\"10\"}"), &id, &ttl_s, &why),
                     0);
    assert_true(id == 7 && ttl_s == 10);
    assert_int_equal(etcd_lease_read(slice_str("{\"result\":{\"ID\":\"8\"}}"), &id, &ttl_s, &why),
                     0);
    assert_true(id == 8 && ttl_s == 0); /* it has ended */
    assert_int_equal(etcd_lease_read(slice_str("{}"), &id, &ttl_s, &why), ERR_MALFORMED);
    assert_int_equal(
        etcd_lease_read(slice_str("{\"ID\":\"7\",\"TTL\":\"4294967296\"}"), &id, &ttl_s, &why),
        ERR_MALFORMED);
    etcd_error_read(slice_str("{\"error\":\"old\",\"message\":\"etcdserver: request timed out, "
                              "possibly due to\"}"),
                    text, sizeof text);
    assert_string_equal(text, "etcdserver: request timed out, ");
    etcd_error_read(slice_str("{\"error\":\"old\"}"), text, sizeof text);
    assert_string_equal(text, "old");
    etcd_error_read(slice_str("not found"), text, sizeof text);
    assert_string_equal(text, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_written), cmocka_unit_test(long_values_are_written_whole),
        cmocka_unit_test(answers_are_read),     cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(changes_are_read),     cmocka_unit_test(leases_and_errors_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
