#include "auth/http_auth.h"

#include "auth/http_answer.h"
#include "auth/template.h"
#include "base/list.h"
#include "base/mem.h"
#include "io/loop.h"
#include "mqtt/props.h"
#include "net/http_client.h"

#include <string.h>
#include <strings.h>

enum {
    ANSWER_MAX = 128 * 1024,
    URL_MAX = 64 * 1024,
    HEADER_MAX = 16 * 1024,
    BODY_MAX = 1024 * 1024,
    HEADERS_MAX = 64, /* with those of user properties */
};

struct texts {
    char **items;
    uint32_t count;
};

struct http_auth {
    struct authenticator base;
    struct auth_deps deps;
    struct http_client *http;
    char *url, *ca_file;
    bool is_get, user_properties;
    struct texts headers, body;
    uint32_t concurrency, connect_timeout_ms, read_timeout_ms;
    uint32_t active;
    struct list waiting; /* struct ask, the longest first */
};

struct ask {
    struct auth_call call;
    struct list node;      /* while it waits */
    struct timer patience; /* likewise */
    struct http_auth *owner;
    const struct auth_credentials *credentials;
    struct http_call *transfer; /* NULL while it waits */
};

static const char name_bytes[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                                 "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/* --- making a request ---------------------------------------------------------------------------
 */

struct request {
    struct strbuf url, body, headers[HEADERS_MAX];
    uint32_t header_count;
};

static void request_done(struct request *request)
{
    if (request->body.text)
        explicit_bzero(request->body.text, request->body.size);
    strbuf_done(&request->url);
    strbuf_done(&request->body);
    for (uint32_t i = 0; i < request->header_count; i++)
        strbuf_done(&request->headers[i]);
}

static bool has_controls(const struct strbuf *text)
{
    for (size_t i = 0; i < text->size; i++) {
        if ((unsigned char)text->text[i] < 0x20 || text->text[i] == 0x7f)
            return true;
    }
    return false;
}

static struct strbuf *add_header(struct request *request)
{
    struct strbuf *header = &request->headers[request->header_count++];
    strbuf_init(header, HEADER_MAX);
    return header;
}

/* What HTTP itself, or we, need to say must not come from a client. */
static bool is_reserved(const struct http_auth *auth, const struct strbuf *header)
{
    static const char *const names[] = {
        "Host:",
        "Content-Length:",
        "Content-Type:",
        "Transfer-Encoding:",
        "Connection:",
        "Keep-Alive:",
        "TE:",
        "Trailer:",
        "Upgrade:",
        "Expect:",
        "Via:",
        "Forwarded:",
        "Authorization:",
        "Cookie:",
        "User-Agent:",
        "Accept:",
        "Proxy-Connection:",
        "Content-Encoding:",
        "Proxy-Authorization:",
    };
    const size_t size = strcspn(header->text, ":") + 1;
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        if (strncasecmp(header->text, names[i], size) == 0 && names[i][size] == '\0')
            return true;
    }
    for (uint32_t i = 0; i < auth->headers.count; i++) {
        if (strncasecmp(header->text, auth->headers.items[i], size) == 0)
            return true;
    }
    return false;
}

/* Those user properties of CONNECT that can be headers. */
static void add_user_properties(const struct http_auth *auth, const struct props *props,
                                struct request *request)
{
    struct prop_pair pair;
    for (uint32_t pos = 0;
         request->header_count < HEADERS_MAX && props_user_next(props, &pos, &pair);) {
        struct strbuf *header = add_header(request);
        strbuf_add_bytes(header, pair.name.bytes, pair.name.size);
        strbuf_add(header, ": ");
        const bool is_name = strbuf_err(header) == 0 && pair.name.size > 0 &&
                             strspn(header->text, name_bytes) == pair.name.size;
        strbuf_add_bytes(header, pair.value.bytes, pair.value.size);
        if (!is_name || strbuf_err(header) < 0 || has_controls(header) ||
            is_reserved(auth, header)) {
            strbuf_done(header);
            request->header_count--;
        }
    }
}

/* {"name": "filled", …} */
static void add_json(const struct http_auth *auth, const struct auth_credentials *credentials,
                     struct strbuf *out)
{
    strbuf_add(out, "{");
    for (uint32_t i = 0; i < auth->body.count; i++) {
        const char *item = auth->body.items[i];
        const size_t size = strcspn(item, "=");
        struct strbuf value;
        strbuf_init(&value, BODY_MAX);
        template_fill(item + size + 1, credentials, TEMPLATE_PLAIN, &value);
        strbuf_add(out, i > 0 ? "," : "");
        strbuf_add_json(out, item, size);
        strbuf_add(out, ":");
        strbuf_add_json(out, value.text, value.size);
        if (strbuf_err(&value) < 0)
            out->err = strbuf_err(&value);
        if (value.text)
            explicit_bzero(value.text, value.size);
        strbuf_done(&value);
    }
    strbuf_add(out, "}");
}

/* ?name=filled&… */
static void add_query(const struct http_auth *auth, const struct auth_credentials *credentials,
                      struct strbuf *out)
{
    const char *separator = strchr(auth->url, '?') ? "&" : "?";
    for (uint32_t i = 0; i < auth->body.count; i++, separator = "&") {
        const char *item = auth->body.items[i];
        const size_t size = strcspn(item, "=");
        strbuf_add(out, separator);
        strbuf_add_bytes(out, item, size + 1);
        template_fill(item + size + 1, credentials, TEMPLATE_URL, out);
    }
}

/* Returns 0, or < 0: what the client gave cannot be asked about. */
static int request_make(const struct http_auth *auth, const struct auth_credentials *credentials,
                        struct request *request)
{
    strbuf_init(&request->url, URL_MAX);
    strbuf_init(&request->body, BODY_MAX);
    template_fill(auth->url, credentials, TEMPLATE_URL, &request->url);
    if (auth->is_get) {
        add_query(auth, credentials, &request->url);
    } else {
        add_json(auth, credentials, &request->body);
        strbuf_add(add_header(request), "Content-Type: application/json");
    }
    for (uint32_t i = 0; i < auth->headers.count; i++) {
        struct strbuf *header = add_header(request);
        template_fill(auth->headers.items[i], credentials, TEMPLATE_PLAIN, header);
        if (strbuf_err(header) < 0 || has_controls(header))
            return ERR_INVALID;
    }
    if (auth->user_properties && credentials->props)
        add_user_properties(auth, credentials->props, request);
    const int err = strbuf_err(&request->url);
    return err < 0 ? err : strbuf_err(&request->body);
}

/* --- asking -------------------------------------------------------------------------------------
 */

static http_done_fn on_answer;

/* Returns 0, or < 0: it cannot be asked. */
static int send_request(struct ask *ask)
{
    struct http_auth *auth = ask->owner;
    struct request made = {0};
    const char *headers[HEADERS_MAX];
    int err = request_make(auth, ask->credentials, &made);
    if (err == 0) {
        for (uint32_t i = 0; i < made.header_count; i++)
            headers[i] = made.headers[i].text;
        const struct http_request request = {
            .url = made.url.text,
            .is_post = !auth->is_get,
            .body = slice_of(made.body.text, made.body.size),
            .headers = headers,
            .header_count = made.header_count,
            .connect_timeout_ms = auth->connect_timeout_ms,
            .read_timeout_ms = auth->read_timeout_ms,
            .answer_max = ANSWER_MAX,
            .ca_file = auth->ca_file,
        };
        err = http_client_start(auth->http, &request, on_answer, ask, &ask->transfer);
    }
    request_done(&made);
    if (err == 0)
        auth->active++;
    return err;
}

static void ask_free(struct ask *ask)
{
    list_remove(&ask->node);
    timer_stop(loop_timers(ask->owner->deps.loop), &ask->patience);
    mem_free(ask);
}

/* Answers, which ends the question; the authenticator may be gone afterwards. */
static void finish(struct ask *ask, const struct auth_answer *answer)
{
    const struct auth_call call = ask->call;
    ask_free(ask);
    call.done(call.data, answer);
}

/* Lets those that wait go on. */
static void pump(struct http_auth *auth)
{
    const struct auth_answer ignored = {.result = AUTH_IGNORED};
    (void)authenticator_ref(&auth->base);
    while (auth->active < auth->concurrency && !list_empty(&auth->waiting)) {
        struct ask *ask = LIST_FIRST(&auth->waiting, struct ask, node);
        list_remove(&ask->node);
        timer_stop(loop_timers(auth->deps.loop), &ask->patience);
        if (send_request(ask) < 0)
            finish(ask, &ignored);
    }
    (void)authenticator_unref(&auth->base);
}

static void tell_failure(const struct http_auth *auth, const char *why)
{
    if (auth->deps.metrics)
        metric_add(&auth->deps.metrics->auth_http_failures, 1);
    log_write(auth->deps.log, LOG_WARN, "auth", "the answer of auth.http.url does not count: %s",
              why);
}

static void on_answer(void *data, const struct http_answer *given)
{
    struct ask *ask = data;
    struct http_auth *auth = ask->owner;
    struct http_verdict verdict = {.result = AUTH_IGNORED, .wrong = given->why};
    ask->transfer = NULL;
    auth->active--;
    if (given->err == 0)
        http_answer_parse(given->status, given->body, loop_wall_ms(auth->deps.loop), &verdict);
    if (verdict.wrong)
        tell_failure(auth, verdict.wrong);
    const struct auth_answer answer = {
        .result = verdict.result,
        .is_superuser = verdict.is_superuser,
        .expire_at_ms = verdict.expire_at_ms,
        .acl = verdict.acl,
        .username = ask->credentials->username,
    };
    (void)authenticator_ref(&auth->base);
    finish(ask, &answer);
    slice_done(&verdict.acl);
    pump(auth);
    (void)authenticator_unref(&auth->base);
}

static void on_impatient(struct timer *timer)
{
    const struct auth_answer busy = {.result = AUTH_BUSY};
    finish(CONTAINER_OF(timer, struct ask, patience), &busy);
}

static void ask_cancel(struct auth_call *call)
{
    struct ask *ask = CONTAINER_OF(call, struct ask, call);
    struct http_auth *auth = ask->owner;
    (void)authenticator_ref(&auth->base);
    if (ask->transfer) {
        http_call_cancel(ask->transfer);
        auth->active--;
    }
    ask_free(ask);
    pump(auth);
    (void)authenticator_unref(&auth->base);
}

static enum auth_result http_auth_check(struct authenticator *authenticator,
                                        const struct auth_credentials *credentials,
                                        auth_done_fn *done, void *data,
                                        struct auth_answer *ret_answer, struct auth_call **ret_call)
{
    struct http_auth *auth = CONTAINER_OF(authenticator, struct http_auth, base);
    (void)ret_answer;
    struct ask *ask = mem_new(sizeof *ask);
    ask->call = (struct auth_call){.done = done, .data = data, .cancel = ask_cancel};
    ask->owner = auth;
    ask->credentials = credentials;
    ask->patience.on_due = on_impatient;
    list_init(&ask->node);
    if (auth->active >= auth->concurrency) {
        list_push_back(&auth->waiting, &ask->node);
        timer_start(loop_timers(auth->deps.loop), &ask->patience,
                    (uint64_t)auth->connect_timeout_ms + auth->read_timeout_ms);
    } else if (send_request(ask) < 0) {
        ask_free(ask);
        return AUTH_IGNORED;
    }
    *ret_call = &ask->call;
    return AUTH_PENDING;
}

/* --- life ----------------------------------------------------------------------------------------
 */

static struct texts copy_texts(const char *const *items, uint32_t count)
{
    struct texts texts = {.items = mem_new((count + 1) * sizeof(char *)), .count = count};
    for (uint32_t i = 0; i < count; i++)
        texts.items[i] = mem_strdup(items[i]);
    return texts;
}

static void texts_done(struct texts *texts)
{
    while (texts->count > 0)
        mem_free(texts->items[--texts->count]);
    mem_free(texts->items);
}

static void http_auth_free(struct authenticator *authenticator)
{
    struct http_auth *auth = CONTAINER_OF(authenticator, struct http_auth, base);
    ASSERT(auth->active == 0);
    ASSERT(list_empty(&auth->waiting));
    texts_done(&auth->headers);
    texts_done(&auth->body);
    mem_free(auth->url);
    mem_free(auth->ca_file);
    mem_free(auth);
}

static const struct authenticator_ops http_auth_ops = {
    .name = "http",
    .check = http_auth_check,
    .free = http_auth_free,
};

struct authenticator *http_auth_new(const struct http_auth_config *config,
                                    const struct auth_deps *deps, struct http_client *http)
{
    struct http_auth *auth = mem_new(sizeof *auth);
    auth->base = (struct authenticator){.ops = &http_auth_ops, .refs = 1};
    auth->deps = *deps;
    auth->http = http;
    auth->url = mem_strdup(config->url);
    auth->ca_file = mem_strdup(config->ca_file ? config->ca_file : "");
    auth->is_get = config->is_get;
    auth->user_properties = config->user_properties;
    auth->headers = copy_texts(config->headers, config->header_count);
    auth->body = copy_texts(config->body, config->body_count);
    auth->concurrency = config->concurrency;
    auth->connect_timeout_ms = config->connect_timeout_ms;
    auth->read_timeout_ms = config->read_timeout_ms;
    list_init(&auth->waiting);
    return &auth->base;
}

/* --- configuration ------------------------------------------------------------------------------
 */

static int check_header(const char *text, struct errmsg *reterr)
{
    const size_t size = strspn(text, name_bytes);
    if (size == 0 || text[size] != ':') {
        errmsg_wrap(reterr, "headers such as X-Client: ${ClientId}");
        return ERR_INVALID;
    }
    return template_check(text, reterr);
}

static int check_item(const char *text, struct errmsg *reterr)
{
    const char *equals = strchr(text, '=');
    if (!equals || equals == text) {
        errmsg_wrap(reterr, "name=value, such as username=${Username}");
        return ERR_INVALID;
    }
    return template_check(equals + 1, reterr);
}

/* Clients must not choose the server. */
static int check_url(const char *url, struct errmsg *reterr)
{
    const char *host = strstr(url, "://");
    const char *variable = strstr(url, "${");
    host = host ? host + 3 : url;
    if (variable && variable < host + strcspn(host, "/?#")) {
        errmsg_wrap(reterr, "a URL with variables behind its host only");
        return ERR_INVALID;
    }
    if (!http_url_is_sound(url)) {
        errmsg_wrap(reterr, "a URL http://... or https://..., or empty for none");
        return ERR_INVALID;
    }
    return template_check(url, reterr);
}

int http_auth_check_config(const struct http_auth_config *config, const char **ret_key,
                           const char **ret_item, struct errmsg *reterr)
{
    int err = 0;
    *ret_key = "auth.http.url";
    if (config->url && *config->url)
        err = check_url(config->url, reterr);
    if (err == 0 && config->header_count > HEADERS_MAX / 2) {
        *ret_key = "auth.http.headers";
        errmsg_wrap(reterr, "at most %d headers", HEADERS_MAX / 2);
        return ERR_INVALID;
    }
    for (uint32_t i = 0; i < config->header_count && err == 0; i++) {
        *ret_key = "auth.http.headers";
        *ret_item = config->headers[i];
        err = check_header(config->headers[i], reterr);
    }
    for (uint32_t i = 0; i < config->body_count && err == 0; i++) {
        *ret_key = "auth.http.body";
        *ret_item = config->body[i];
        err = check_item(config->body[i], reterr);
    }
    return err;
}
