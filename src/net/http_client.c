#include "net/http_client.h"

#include "base/mem.h"
#include "base/strbuf.h"

#include <curl/curl.h>
#include <errno.h>
#include <string.h>

#define IDLE_MAX 32L /* connections kept for the next request */

/* Seconds: of silence until a connection is probed, and between probes. */
#define PROBE_AFTER 10L
#define PROBE_EACH  2L

struct http_client {
    struct loop *loop;
    CURLM *multi;
    struct timer timer;
    struct list sockets, calls;
};

/* A socket of curl's. */
struct http_socket {
    struct list node;
    struct io_watch watch;
    struct http_client *client;
};

struct http_call {
    struct list node;
    struct http_client *client;
    http_done_fn *done;
    http_part_fn *on_part;
    void *data;
    CURL *easy;
    struct curl_slist *headers;
    struct strbuf body;
};

/* --- what curl asks for -------------------------------------------------------------------------
 */

static void finish_calls(struct http_client *client);

static void act(struct http_client *client, curl_socket_t fd, int events)
{
    int running;
    (void)curl_multi_socket_action(client->multi, fd, events, &running);
    finish_calls(client);
}

static void on_event(struct io_watch *watch, unsigned events)
{
    const struct http_socket *it = CONTAINER_OF(watch, struct http_socket, watch);
    const unsigned flags = ((events & IO_READ) ? CURL_CSELECT_IN : 0u) |
                           ((events & IO_WRITE) ? CURL_CSELECT_OUT : 0u) |
                           ((events & IO_HANGUP) ? CURL_CSELECT_ERR : 0u);
    act(it->client, watch->fd, (int)flags);
}

static void socket_free(struct http_socket *it)
{
    io_watch_stop(it->client->loop, &it->watch);
    list_remove(&it->node);
    mem_free(it);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *data, void *socket_data)
{
    struct http_client *client = data;
    struct http_socket *it = socket_data;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (it)
            socket_free(it);
        return 0;
    }
    const unsigned events =
        (what & CURL_POLL_IN ? IO_READ : 0) | (what & CURL_POLL_OUT ? IO_WRITE : 0);
    if (it)
        return io_watch_change(client->loop, &it->watch, events) < 0 ? -1 : 0;
    it = mem_new(sizeof *it);
    it->client = client;
    it->watch.fd = fd;
    it->watch.on_event = on_event;
    list_init(&it->node);
    if (io_watch_start(client->loop, &it->watch, events) < 0) {
        mem_free(it);
        return -1;
    }
    list_push_back(&client->sockets, &it->node);
    (void)curl_multi_assign(client->multi, fd, it);
    return 0;
}

static void on_due(struct timer *timer)
{
    act(CONTAINER_OF(timer, struct http_client, timer), CURL_SOCKET_TIMEOUT, 0);
}

static int on_timeout(CURLM *multi, long timeout_ms, void *data)
{
    struct http_client *client = data;
    (void)multi;
    if (timeout_ms < 0)
        timer_stop(loop_timers(client->loop), &client->timer);
    else
        timer_start(loop_timers(client->loop), &client->timer, (uint64_t)timeout_ms);
    return 0;
}

static size_t on_bytes(char *bytes, size_t one, size_t count, void *data)
{
    struct http_call *call = data;
    long status = 0;
    if (call->on_part)
        (void)curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status == 200) {
        call->on_part(call->data, slice_of(bytes, one * count));
        return one * count;
    }
    strbuf_add_bytes(&call->body, bytes, one * count);
    return strbuf_err(&call->body) == 0 ? one * count : 0;
}

/* --- calls --------------------------------------------------------------------------------------
 */

static void call_free(struct http_call *call)
{
    (void)curl_multi_remove_handle(call->client->multi, call->easy);
    curl_easy_cleanup(call->easy);
    curl_slist_free_all(call->headers);
    strbuf_done(&call->body);
    list_remove(&call->node);
    mem_free(call);
}

void http_call_cancel(struct http_call *call)
{
    call_free(call);
}

/* Whether the request can have reached a server that understood it. */
static bool was_sent(const struct http_call *call)
{
    curl_off_t ready_us = 0;
    (void)curl_easy_getinfo(call->easy, CURLINFO_PRETRANSFER_TIME_T, &ready_us);
    return ready_us > 0;
}

static void finish(struct http_call *call, CURLcode code)
{
    struct http_answer answer = {.body = slice_of(call->body.text, call->body.size)};
    if (code == CURLE_OK) {
        long status = 0;
        (void)curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
        answer.status = (uint32_t)status;
    } else {
        answer.body = slice_of(NULL, 0);
        answer.err = ERR_UNAVAILABLE;
        answer.why = curl_easy_strerror(code);
        answer.was_sent = was_sent(call);
        if (code == CURLE_OPERATION_TIMEDOUT)
            answer.err = -ETIMEDOUT;
        if (strbuf_err(&call->body) < 0) {
            answer.err = strbuf_err(&call->body);
            answer.why = "the answer is too large";
        }
    }
    call->done(call->data, &answer);
    call_free(call);
}

static void finish_calls(struct http_client *client)
{
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(client->multi, &left))) {
        if (message->msg != CURLMSG_DONE)
            continue;
        char *data = NULL;
        (void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &data);
        finish((struct http_call *)data, message->data.result);
    }
}

static bool add_headers(struct http_call *call, const struct http_request *request)
{
    /* without this one curl would wait for a 100 Continue before it sends a large body */
    struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
    for (uint32_t i = 0; i < request->header_count && headers; i++) {
        struct curl_slist *more = curl_slist_append(headers, request->headers[i]);
        if (!more)
            curl_slist_free_all(headers);
        headers = more;
    }
    call->headers = headers;
    return headers && curl_easy_setopt(call->easy, CURLOPT_HTTPHEADER, headers) == CURLE_OK;
}

static bool probe_peer(CURL *easy)
{
    return curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, PROBE_AFTER) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, PROBE_EACH) == CURLE_OK;
}

static bool set_up(struct http_call *call, const struct http_request *request)
{
    CURL *easy = call->easy;
    const long connect_ms = (long)request->connect_timeout_ms;
    bool ok = curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK;
    ok = ok && curl_easy_setopt(easy, CURLOPT_URL, request->url) == CURLE_OK;
    ok = ok && curl_easy_setopt(easy, CURLOPT_PRIVATE, call) == CURLE_OK;
    ok = ok && curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) == CURLE_OK;
    ok = ok && curl_easy_setopt(easy, CURLOPT_PROXY, "") == CURLE_OK;
    ok = ok && curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_bytes) == CURLE_OK;
    ok = ok && curl_easy_setopt(easy, CURLOPT_WRITEDATA, call) == CURLE_OK;
    ok = ok && curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, connect_ms) == CURLE_OK;
    if (request->read_timeout_ms > 0)
        ok = ok && curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS,
                                    connect_ms + (long)request->read_timeout_ms) == CURLE_OK;
    if (request->on_part)
        ok = ok && probe_peer(easy);
    if (request->ca_file && *request->ca_file)
        ok = ok && curl_easy_setopt(easy, CURLOPT_CAINFO, request->ca_file) == CURLE_OK;
    if (request->is_post) {
        ok = ok &&
             curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)request->body.size) == CURLE_OK;
        ok = ok && curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS,
                                    request->body.size > 0 ? (const char *)request->body.bytes
                                                           : "") == CURLE_OK;
    }
    return ok && add_headers(call, request);
}

int http_client_start(struct http_client *client, const struct http_request *request,
                      http_done_fn *done, void *data, struct http_call **ret_call)
{
    if (!http_url_is_sound(request->url))
        return ERR_INVALID;
    CURL *easy = curl_easy_init();
    if (!easy)
        return ERR_NOMEM;
    struct http_call *call = mem_new(sizeof *call);
    *call = (struct http_call){
        .client = client, .done = done, .on_part = request->on_part, .data = data, .easy = easy};
    strbuf_init(&call->body, request->answer_max);
    list_init(&call->node);
    list_push_back(&client->calls, &call->node);
    if (!set_up(call, request) || curl_multi_add_handle(client->multi, easy) != CURLM_OK) {
        call_free(call);
        return ERR_NOMEM;
    }
    *ret_call = call;
    return 0;
}

bool http_url_is_sound(const char *url)
{
    CURLU *parts = curl_url();
    char *scheme = NULL, *host = NULL;
    const bool sound = parts && curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
                       curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                       curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
                       (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0);
    curl_free(scheme);
    curl_free(host);
    curl_url_cleanup(parts);
    return sound;
}

/* --- life ----------------------------------------------------------------------------------------
 */

int http_client_new(struct loop *loop, struct http_client **ret_client, struct errmsg *reterr)
{
    CURLM *multi = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? curl_multi_init() : NULL;
    if (!multi) {
        errmsg_wrap(reterr, "could not start libcurl");
        return ERR_NOMEM;
    }
    struct http_client *client = mem_new(sizeof *client);
    client->loop = loop;
    client->multi = multi;
    client->timer.on_due = on_due;
    list_init(&client->sockets);
    list_init(&client->calls);
    (void)curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    (void)curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, client);
    (void)curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timeout);
    (void)curl_multi_setopt(multi, CURLMOPT_TIMERDATA, client);
    (void)curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, IDLE_MAX);
    *ret_client = client;
    return 0;
}

struct http_client *http_client_free(struct http_client *client)
{
    if (!client)
        return NULL;
    list_each_safe (it, &client->calls)
        call_free(CONTAINER_OF(it, struct http_call, node));
    (void)curl_multi_cleanup(client->multi);
    list_each_safe (it, &client->sockets)
        socket_free(CONTAINER_OF(it, struct http_socket, node));
    timer_stop(loop_timers(client->loop), &client->timer);
    curl_global_cleanup();
    mem_free(client);
    return NULL;
}
