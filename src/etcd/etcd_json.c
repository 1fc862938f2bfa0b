#include "etcd/etcd_json.h"

#include "base/mem.h"

#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BASE64 sodium_base64_VARIANT_ORIGINAL

/* --- writing ---------------------------------------------------------------------------------- */

/* In pieces of whole groups of three bytes, so that nothing is padded but the end. */
static void add_base64(struct strbuf *out, struct slice bytes)
{
    char text[(size_t)4 * 256 + 1];
    for (uint32_t offset = 0; offset < bytes.size;) {
        const uint32_t part = MIN(bytes.size - offset, 3u * 256);
        (void)sodium_bin2base64(text, sizeof text, bytes.bytes + offset, part, BASE64);
        strbuf_add(out, text);
        offset += part;
    }
}

static void add_bytes(struct strbuf *out, const char *name, struct slice bytes)
{
    strbuf_addf(out, "\"%s\":\"", name);
    add_base64(out, bytes);
    strbuf_add(out, "\"");
}

static void add_range(struct strbuf *out, const struct etcd_op *op)
{
    add_bytes(out, "key", op->key);
    if (op->end.size > 0) {
        strbuf_add(out, ",");
        add_bytes(out, "range_end", op->end);
    }
}

static void add_compare(struct strbuf *out, const struct etcd_compare *compare)
{
    strbuf_add(out, "{");
    add_bytes(out, "key", compare->key);
    switch (compare->kind) {
    case ETCD_ABSENT:
        strbuf_add(out, ",\"target\":\"CREATE\",\"result\":\"EQUAL\",\"create_revision\":\"0\"");
        break;
    case ETCD_PRESENT:
        strbuf_add(out, ",\"target\":\"CREATE\",\"result\":\"GREATER\",\"create_revision\":\"0\"");
        break;
    case ETCD_CHANGED_AT:
        strbuf_addf(out, ",\"target\":\"MOD\",\"result\":\"EQUAL\",\"mod_revision\":\"%llu\"",
                    (unsigned long long)compare->revision);
        break;
    case ETCD_VALUE_IS:
        strbuf_add(out, ",\"target\":\"VALUE\",\"result\":\"EQUAL\",");
        add_bytes(out, "value", compare->value);
        break;
    }
    strbuf_add(out, "}");
}

static void add_op(struct strbuf *out, const struct etcd_op *op)
{
    switch (op->kind) {
    case ETCD_PUT:
        strbuf_add(out, "{\"request_put\":{");
        add_bytes(out, "key", op->key);
        strbuf_add(out, ",");
        add_bytes(out, "value", op->value);
        if (op->lease != 0)
            strbuf_addf(out, ",\"lease\":\"%llu\"", (unsigned long long)op->lease);
        break;
    case ETCD_DELETE:
        strbuf_add(out, "{\"request_delete_range\":{");
        add_range(out, op);
        break;
    case ETCD_READ:
        strbuf_add(out, "{\"request_range\":{");
        add_range(out, op);
        strbuf_addf(out, ",\"limit\":\"%u\",\"revision\":\"%llu\"", op->limit,
                    (unsigned long long)op->revision);
        break;
    }
    strbuf_add(out, "}}");
}

static void add_branch(struct strbuf *out, const char *name, const struct etcd_op *ops,
                       uint32_t count)
{
    strbuf_addf(out, ",\"%s\":[", name);
    for (uint32_t i = 0; i < count; i++) {
        strbuf_add(out, i > 0 ? "," : "");
        add_op(out, &ops[i]);
    }
    strbuf_add(out, "]");
}

void etcd_txn_write(struct strbuf *out, const struct etcd_txn *txn)
{
    strbuf_add(out, "{\"compare\":[");
    for (uint32_t i = 0; i < txn->compare_count; i++) {
        strbuf_add(out, i > 0 ? "," : "");
        add_compare(out, &txn->compares[i]);
    }
    strbuf_add(out, "]");
    add_branch(out, "success", txn->then, txn->then_count);
    add_branch(out, "failure", txn->otherwise, txn->otherwise_count);
    strbuf_add(out, "}");
}

void etcd_watch_write(struct strbuf *out, struct slice key, struct slice end,
                      uint64_t from_revision)
{
    const struct etcd_op range = {.key = key, .end = end};
    strbuf_add(out, "{\"create_request\":{");
    add_range(out, &range);
    strbuf_addf(out, ",\"start_revision\":\"%llu\"}}", (unsigned long long)from_revision);
}

/* --- reading ---------------------------------------------------------------------------------- */

/* A number as text, or as one. What is left out is 0: proto3 says so. */
static int read_number(const json_t *object, const char *name, uint64_t *ret_value)
{
    const json_t *value = json_object_get(object, name);
    *ret_value = 0;
    if (!value)
        return 0;
    if (json_is_integer(value)) {
        *ret_value = (uint64_t)json_integer_value(value);
        return 0;
    }
    const char *text = json_string_value(value);
    char *end = NULL;
    if (!text || *text < '0' || *text > '9')
        return ERR_MALFORMED;
    *ret_value = strtoull(text, &end, 10);
    return *end == '\0' ? 0 : ERR_MALFORMED;
}

/* Owned by its buf. */
static int read_bytes(const json_t *object, const char *name, struct slice *ret_bytes)
{
    const json_t *value = json_object_get(object, name);
    *ret_bytes = slice_of(NULL, 0);
    if (!value)
        return 0;
    if (!json_is_string(value))
        return ERR_MALFORMED;
    const size_t text_size = json_string_length(value), room = text_size / 4 * 3 + 3;
    size_t size = 0;
    const char *end = NULL;
    if (room > UINT32_MAX)
        return ERR_MALFORMED;
    struct buf *buf = buf_try_new((uint32_t)room);
    if (!buf)
        return ERR_NOMEM;
    if (sodium_base642bin(buf_bytes(buf), room, json_string_value(value), text_size, NULL, &size,
                          &end, BASE64) < 0 ||
        *end != '\0') {
        (void)buf_unref(buf);
        return ERR_MALFORMED;
    }
    *ret_bytes = (struct slice){.bytes = buf_bytes(buf), .size = (uint32_t)size, .buf = buf};
    return 0;
}

static int read_row(const json_t *object, struct etcd_row *ret_row)
{
    int err = read_bytes(object, "key", &ret_row->key);
    if (err == 0)
        err = read_bytes(object, "value", &ret_row->value);
    if (err == 0)
        err = read_number(object, "create_revision", &ret_row->created);
    if (err == 0)
        err = read_number(object, "mod_revision", &ret_row->changed);
    return err == 0 ? read_number(object, "lease", &ret_row->lease) : err;
}

static void row_done(struct etcd_row *row)
{
    slice_done(&row->key);
    slice_done(&row->value);
}

static int read_rows(const json_t *range, struct etcd_result *ret_result)
{
    const json_t *rows = json_object_get(range, "kvs");
    const size_t count = json_array_size(rows);
    ret_result->more = json_is_true(json_object_get(range, "more"));
    ret_result->rows = mem_try_alloc((count + 1) * sizeof *ret_result->rows);
    if (!ret_result->rows)
        return ERR_NOMEM;
    memset(ret_result->rows, 0, (count + 1) * sizeof *ret_result->rows);
    ret_result->row_count = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        const int err = read_row(json_array_get(rows, i), &ret_result->rows[i]);
        if (err < 0)
            return err;
    }
    return 0;
}

static int read_result(const json_t *response, struct etcd_result *ret_result)
{
    const json_t *range = json_object_get(response, "response_range");
    const json_t *deleted = json_object_get(response, "response_delete_range");
    if (range)
        return read_rows(range, ret_result);
    return read_number(deleted, "deleted", &ret_result->deleted);
}

static int read_results(const json_t *responses, struct etcd_answer *ret_answer)
{
    const size_t count = json_array_size(responses);
    ret_answer->results = mem_new((count + 1) * sizeof *ret_answer->results);
    ret_answer->result_count = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        const int err = read_result(json_array_get(responses, i), &ret_answer->results[i]);
        if (err < 0)
            return err;
    }
    return 0;
}

static json_t *parse(struct slice body, const char **ret_why)
{
    json_t *root = json_loadb((const char *)body.bytes, body.size, 0, NULL);
    if (json_is_object(root))
        return root;
    *ret_why = "the answer is not a JSON object: is there etcd at this address?";
    json_decref(root);
    return NULL;
}

static int explained(int err, const char **ret_why)
{
    if (err < 0)
        *ret_why = err == ERR_NOMEM ? "out of memory"
                                    : "the answer has a number or a text that etcd does not send";
    return err;
}

int etcd_txn_read(struct slice body, struct etcd_answer *ret_answer, const char **ret_why)
{
    *ret_answer = (struct etcd_answer){0};
    json_t *root = parse(body, ret_why);
    if (!root)
        return ERR_MALFORMED;
    ret_answer->held = json_is_true(json_object_get(root, "succeeded"));
    int err = read_number(json_object_get(root, "header"), "revision", &ret_answer->revision);
    if (err == 0 && ret_answer->revision == 0)
        err = ERR_MALFORMED;
    if (err == 0)
        err = read_results(json_object_get(root, "responses"), ret_answer);
    json_decref(root);
    return explained(err, ret_why);
}

void etcd_answer_done(struct etcd_answer *answer)
{
    for (uint32_t i = 0; i < answer->result_count; i++) {
        for (uint32_t k = 0; k < answer->results[i].row_count; k++)
            row_done(&answer->results[i].rows[k]);
        mem_free(answer->results[i].rows);
    }
    mem_free(answer->results);
    answer->results = NULL;
    answer->result_count = 0;
}

static int read_changes(const json_t *events, struct etcd_changes *ret_changes)
{
    const size_t count = json_array_size(events);
    ret_changes->all = mem_new((count + 1) * sizeof *ret_changes->all);
    ret_changes->count = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        const json_t *event = json_array_get(events, i);
        const char *type = json_string_value(json_object_get(event, "type"));
        struct etcd_change *change = &ret_changes->all[i];
        change->deleted = type && strcmp(type, "DELETE") == 0;
        const int err = read_row(json_object_get(event, "kv"), &change->row);
        if (err < 0)
            return err;
        if (change->row.key.size == 0 || change->row.changed == 0)
            return ERR_MALFORMED;
    }
    return 0;
}

int etcd_changes_read(struct slice body, struct etcd_changes *ret_changes, const char **ret_why)
{
    *ret_changes = (struct etcd_changes){0};
    json_t *root = parse(body, ret_why);
    if (!root)
        return ERR_MALFORMED;
    const json_t *result = json_object_get(root, "result");
    if (!result) { /* an error of the gateway: the stream ends with it */
        ret_changes->over = true;
        json_decref(root);
        return 0;
    }
    ret_changes->over = json_is_true(json_object_get(result, "canceled"));
    int err = read_number(result, "compact_revision", &ret_changes->compacted);
    if (err == 0)
        err = read_changes(json_object_get(result, "events"), ret_changes);
    json_decref(root);
    return explained(err, ret_why);
}

void etcd_changes_done(struct etcd_changes *changes)
{
    for (uint32_t i = 0; i < changes->count; i++)
        row_done(&changes->all[i].row);
    mem_free(changes->all);
    *changes = (struct etcd_changes){0};
}

int etcd_lease_read(struct slice body, uint64_t *ret_id, uint32_t *ret_ttl_s, const char **ret_why)
{
    json_t *root = parse(body, ret_why);
    if (!root)
        return ERR_MALFORMED;
    const json_t *result = json_object_get(root, "result"); /* around that of a keep-alive */
    const json_t *lease = result ? result : root;
    uint64_t ttl_s = 0;
    int err = read_number(lease, "ID", ret_id);
    if (err == 0)
        err = read_number(lease, "TTL", &ttl_s);
    if (err == 0 && (*ret_id == 0 || ttl_s > UINT32_MAX))
        err = ERR_MALFORMED;
    *ret_ttl_s = (uint32_t)ttl_s;
    json_decref(root);
    return explained(err, ret_why);
}

void etcd_error_read(struct slice body, char *ret_text, size_t room)
{
    json_t *root = json_loadb((const char *)body.bytes, body.size, 0, NULL);
    const char *text = json_string_value(json_object_get(root, "message"));
    if (!text)
        text = json_string_value(json_object_get(root, "error"));
    (void)snprintf(ret_text, room, "%s", text ? text : "");
    json_decref(root);
}
