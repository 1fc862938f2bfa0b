#include "etcd/etcd_priv.h"

#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { TIMEOUT_MS = 2000, WHY_MAX = 256, HTTP_OK = 200, HTTP_TOO_MANY = 429, HTTP_ERROR = 500 };

struct etcd_call {
    struct list node;
    struct etcd *etcd;
    struct strbuf body;
    struct http_call *http;
    etcd_done_fn *done;
    void *data;
    uint32_t member;
    uint32_t tries_left;
    bool writes;
    struct timer again;
};

/* --- members ---------------------------------------------------------------------------------- */

int etcd_post(struct etcd *etcd, const struct etcd_post *post, struct http_call **ret_call)
{
    static const char *const headers[] = {"Content-Type: application/json"};
    struct strbuf url;
    strbuf_init(&url, UINT32_MAX);
    strbuf_add(&url, etcd->urls[etcd->member]);
    strbuf_add(&url, post->path);
    const struct http_request request = {
        .url = url.text,
        .body = slice_of(post->body->text, post->body->size),
        .is_post = true,
        .headers = headers,
        .header_count = ARRAY_COUNT(headers),
        .connect_timeout_ms = etcd->timeout_ms,
        .read_timeout_ms = post->timeout_ms,
        .answer_max = ETCD_ANSWER_MAX,
        .on_part = post->on_part,
        .ca_file = etcd->ca_file,
    };
    int err = strbuf_err(post->body);
    if (err == 0)
        err = strbuf_err(&url);
    if (err == 0)
        err = http_client_start(etcd->http, &request, post->done, post->data, ret_call);
    strbuf_done(&url);
    return err;
}

void etcd_leave_member(struct etcd *etcd, uint32_t member, const char *why)
{
    if (member != etcd->member)
        return;
    etcd->member = (member + 1) % etcd->url_count;
    log_write(etcd->log, LOG_WARN, "etcd", "%s: %s; going on with %s", etcd->urls[member], why,
              etcd->urls[etcd->member]);
}

/* --- calls ------------------------------------------------------------------------------------ */

static void call_free(struct etcd_call *call)
{
    if (call->http)
        http_call_cancel(call->http);
    timer_stop(loop_timers(call->etcd->loop), &call->again);
    list_remove(&call->node);
    strbuf_done(&call->body);
    mem_free(call);
}

static void fail(struct etcd_call *call, int err, bool unsure, const char *why)
{
    const struct etcd_answer answer = {.err = err, .why = why, .unsure = unsure && call->writes};
    call->done(call->data, &answer);
    call_free(call);
}

static void on_done(void *data, const struct http_answer *answer);

static int send_call(struct etcd_call *call)
{
    struct etcd *etcd = call->etcd;
    call->member = etcd->member;
    call->tries_left--;
    const struct etcd_post post = {
        .path = "/v3/kv/txn",
        .body = &call->body,
        .timeout_ms = etcd->timeout_ms,
        .done = on_done,
        .data = call,
    };
    return etcd_post(etcd, &post, &call->http);
}

static void on_again(struct timer *timer)
{
    struct etcd_call *call = CONTAINER_OF(timer, struct etcd_call, again);
    const int err = send_call(call);
    if (err < 0)
        fail(call, err, false, err_text(err));
}

/* The first round over the members goes without waiting. */
static void try_next(struct etcd_call *call, const char *why, bool was_sent)
{
    struct etcd *etcd = call->etcd;
    etcd_leave_member(etcd, call->member, why);
    if (call->tries_left == 0 || (call->writes && was_sent)) {
        fail(call, ERR_UNAVAILABLE, was_sent, why);
        return;
    }
    const bool at_once = call->tries_left >= etcd->url_count;
    timer_start(loop_timers(etcd->loop), &call->again, at_once ? 0 : ETCD_AGAIN_MS);
}

static void take_answer(struct etcd_call *call, struct slice body)
{
    struct etcd_answer answer;
    const char *why = NULL;
    const int err = etcd_txn_read(body, &answer, &why);
    if (err < 0) {
        etcd_answer_done(&answer);
        answer = (struct etcd_answer){.err = err, .why = why, .unsure = call->writes};
    }
    call->done(call->data, &answer);
    etcd_answer_done(&answer);
    call_free(call);
}

static void on_done(void *data, const struct http_answer *answer)
{
    struct etcd_call *call = data;
    char why[WHY_MAX];
    call->http = NULL;
    if (answer->err < 0) {
        try_next(call, answer->why, answer->was_sent);
        return;
    }
    if (answer->status == HTTP_OK) {
        take_answer(call, answer->body);
        return;
    }
    etcd_error_read(answer->body, why, sizeof why);
    if (why[0] == '\0')
        (void)snprintf(why, sizeof why, "HTTP status %u: is there etcd at this address?",
                       answer->status);
    if (answer->status >= HTTP_ERROR)
        try_next(call, why, true);
    else
        fail(call, answer->status == HTTP_TOO_MANY ? ERR_FULL : ERR_INVALID, false, why);
}

static bool has_writes(const struct etcd_op *ops, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (ops[i].kind != ETCD_READ)
            return true;
    }
    return false;
}

int etcd_submit(struct etcd *etcd, const struct etcd_txn *txn, etcd_done_fn *done, void *data,
                struct etcd_call **ret_call)
{
    if (txn->compare_count > ETCD_OPS_MAX || txn->then_count > ETCD_OPS_MAX ||
        txn->otherwise_count > ETCD_OPS_MAX)
        return ERR_FULL;
    struct etcd_call *call = mem_new(sizeof *call);
    call->etcd = etcd;
    call->done = done;
    call->data = data;
    call->tries_left = 2 * etcd->url_count;
    call->writes =
        has_writes(txn->then, txn->then_count) || has_writes(txn->otherwise, txn->otherwise_count);
    call->again.on_due = on_again;
    list_init(&call->node);
    strbuf_init(&call->body, UINT32_MAX);
    etcd_txn_write(&call->body, txn);
    const int err = send_call(call);
    if (err < 0) {
        call_free(call);
        return err;
    }
    list_push_back(&etcd->calls, &call->node);
    *ret_call = call;
    return 0;
}

void etcd_cancel(struct etcd_call *call)
{
    call_free(call);
}

struct slice etcd_prefix_end(struct slice prefix, uint8_t *room)
{
    uint32_t size = prefix.size;
    while (size > 0 && prefix.bytes[size - 1] == 0xff)
        size--;
    if (size == 0)
        return slice_of("", 1); /* one NUL: all keys from `key` on, in etcd's own words */
    memcpy(room, prefix.bytes, size);
    room[size - 1]++;
    return slice_of(room, size);
}

/* --- life ------------------------------------------------------------------------------------- */

static int copy_urls(struct etcd *etcd, const struct etcd_config *config, struct errmsg *reterr)
{
    etcd->urls = mem_new((config->url_count + 1) * sizeof *etcd->urls);
    for (uint32_t i = 0; i < config->url_count; i++) {
        if (!http_url_is_sound(config->urls[i])) {
            errmsg_wrap(reterr, "'%s' is no address of etcd: write http://host:port",
                        config->urls[i]);
            return ERR_INVALID;
        }
        etcd->urls[etcd->url_count++] = mem_strdup(config->urls[i]);
    }
    if (etcd->url_count > 0)
        return 0;
    errmsg_wrap(reterr, "no address of etcd is given");
    return ERR_INVALID;
}

int etcd_new(const struct etcd_config *config, struct etcd **ret_etcd, struct errmsg *reterr)
{
    struct etcd *etcd = mem_new(sizeof *etcd);
    etcd->loop = config->loop;
    etcd->log = config->log;
    etcd->timeout_ms = config->timeout_ms > 0 ? config->timeout_ms : TIMEOUT_MS;
    etcd->ca_file = config->ca_file ? mem_strdup(config->ca_file) : NULL;
    list_init(&etcd->calls);
    int err = copy_urls(etcd, config, reterr);
    if (err == 0)
        err = http_client_new(config->loop, &etcd->http, reterr);
    if (err < 0) {
        (void)etcd_free(etcd);
        return err;
    }
    *ret_etcd = etcd;
    return 0;
}

struct etcd *etcd_free(struct etcd *etcd)
{
    if (!etcd)
        return NULL;
    list_each_safe (it, &etcd->calls)
        call_free(CONTAINER_OF(it, struct etcd_call, node));
    etcd->http = http_client_free(etcd->http);
    for (uint32_t i = 0; i < etcd->url_count; i++)
        mem_free(etcd->urls[i]);
    mem_free(etcd->urls);
    mem_free(etcd->ca_file);
    mem_free(etcd);
    return NULL;
}
